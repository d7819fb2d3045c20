//! The real volume and the model side by side: every operation goes to both, and their answers must agree.

use std::collections::BTreeSet;

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::error::{Error, Result};
use vexfs_core::format::ROOT;
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::Attributes;
use vexfs_core::volume::{Implicit, MountOptions, Volume};

use super::{Comparison, Learned, Model, Op, Overlay, compare};

/// A volume under test, and what it should be.
pub struct Pair<D> {
    /// The disk.
    pub device: D,
    /// The real one.
    pub volume: Volume<Direct<D>>,
    /// What it should show.
    pub model: Model,
    /// Files held open.
    pub open: BTreeSet<u64>,
    /// Told `true` before the model looks at what the volume made of an operation, and `false` afterwards: a disk that is to fail in
    /// operations need not fail then.
    pub looks: fn(&D, bool),
    clock: i64,
}

/// How an operation ended, when volume and model agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused with this errno, as it had to be.
    Refused(i32),
    /// It needs a commit of its own while another is on its way, and nothing changed but content versions.
    Busy,
    /// The disk failed, and nothing changed but bytes written in place.
    Failed,
    /// The volume turned read-only after such a failure.
    ReadOnly,
    /// There was no memory, and nothing changed.
    NoMemory,
    /// The volume is full, and nothing changed.
    NoSpace {
        /// Blocks that the next commit frees.
        pending: u64,
    },
}

fn time(clock: i64) -> Time {
    Time { seconds: 1_700_000_000 + clock, nanoseconds: (clock as u32).wrapping_mul(7919) % 1_000_000_000 }
}

impl<D: BlockDevice + Clone> Pair<D> {
    /// Options of all mounts here.
    pub const OPTIONS: MountOptions =
        MountOptions { read_only: false, implicit: Implicit::Any, list_control: false, daemon: false };

    /// Formats the disk and mounts it.
    pub fn format(device: D, block_size: u32) -> Result<Self> {
        crate::sim::format(&device, block_size)?;
        let volume = Volume::mount(Direct(device.clone()), Self::OPTIONS)?;
        let root = volume.attributes(ROOT)?;
        let mut model = Model::new(root.uid, root.gid, root.permissions, root.modified);
        model.change(ROOT.0).changed = root.changed;
        model.change(ROOT.0).version = root.version;
        Ok(Self { device, volume, model, open: BTreeSet::new(), looks: |_, _| {}, clock: 1 })
    }

    /// A volume found after a crash, and the model that fits it but for bytes written in place, which it now learns.
    pub fn adopt(device: D, volume: Volume<Direct<D>>, model: Model, how: &Comparison) -> Result<Self> {
        let mut pair =
            Self { device, volume, model, open: BTreeSet::new(), looks: |_, _| {}, clock: 100_000 };
        for (inode, overlays) in &how.overlays {
            let Some(size) = pair.model.nodes.get(inode).and_then(|node| node.size()) else { continue };
            pair.model.change(*inode).vectors.values_mut().for_each(|vector| vector.fresh = None);
            for Overlay { offset, bytes } in overlays {
                let mut found = vec![0; size.saturating_sub(*offset).min(bytes.len() as u64) as usize];
                pair.volume.read(Ino(*inode), *offset, &mut found)?;
                pair.model.change(*inode).bytes.write(*offset, &found);
            }
        }
        let all: Vec<u64> = pair.model.nodes.keys().copied().collect();
        for inode in all {
            let version = pair.volume.attributes(Ino(inode))?.version;
            let node = pair.model.change(inode);
            if node.version != version {
                node.vectors.values_mut().for_each(|vector| vector.fresh = None);
            }
            node.version = version;
        }
        Ok(pair)
    }

    /// The time of the next operation.
    pub fn now(&self) -> Time {
        time(self.clock)
    }

    /// Does `op` on both sides; the error tells how they disagree.
    pub fn run(&mut self, op: &Op) -> std::result::Result<Outcome, String> {
        self.clock += 1;
        let now = self.now();
        let real = self.perform(op, now);
        self.volume.events();
        (self.looks)(&self.device, true);
        let outcome = self.agree(op, real, now);
        if matches!(op, Op::Tidy | Op::RecodeStep { .. }) {
            self.learn_codecs();
        }
        (self.looks)(&self.device, false);
        outcome
    }

    fn agree(&mut self, op: &Op, real: Result<Learned>, now: Time) -> std::result::Result<Outcome, String> {
        let mut model = self.model.clone();
        match real {
            Ok(learned) => {
                let touched = model
                    .apply(op, &self.open, &learned, now)
                    .map_err(|expected| format!("{op:?}: the volume did it, expected \"{expected}\""))?;
                let before = std::mem::replace(&mut self.model, model);
                match op {
                    Op::Open { inode } => drop(self.open.insert(*inode)),
                    Op::Close { inode } => drop(self.open.remove(inode)),
                    Op::CreateUnnamed { .. } => drop(self.open.insert(learned.inode)),
                    Op::Compact { name } => self.learn_rows(name)?,
                    Op::Recover | Op::Remount => {
                        self.open.clear();
                        self.model.forget_orphans();
                    }
                    _ => {}
                }
                for inode in touched {
                    self.learn(op, &before, inode, now).map_err(|why| format!("{op:?}: {why}"))?;
                }
                Ok(Outcome::Done)
            }
            Err(Error::NoSpace { pending }) => {
                if let Op::Allocate { inode, offset, len, .. } = op {
                    self.half_allocated(*inode, *offset..offset + len)?;
                }
                Ok(Outcome::NoSpace { pending })
            }
            Err(Error::Busy) => {
                if let Op::Write { inode, offset, .. } = op {
                    self.half_allocated(*inode, *offset..*offset)?;
                }
                Ok(Outcome::Busy)
            }
            Err(Error::NoMemory) => {
                match op {
                    Op::Write { inode, offset, fill } => self.half_written(*inode, *offset, &fill.bytes())?,
                    Op::Allocate { inode, offset, len, .. } => {
                        self.half_allocated(*inode, *offset..offset + len)?;
                    }
                    _ => {}
                }
                Ok(Outcome::NoMemory)
            }
            Err(Error::Device { .. }) => Ok(Outcome::Failed),
            Err(Error::ReadOnly) if self.volume.is_read_only() => Ok(Outcome::ReadOnly),
            Err(error) => {
                let learned = Learned { inode: u64::MAX, collection: u32::MAX, ..Learned::default() };
                match model.apply(op, &self.open, &learned, now) {
                    Err(expected) if expected.errno() == error.errno() || op.has_several_faults() => {
                        Ok(Outcome::Refused(error.errno()))
                    }
                    Err(expected) => {
                        Err(format!("{op:?}: refused with \"{error}\", expected \"{expected}\""))
                    }
                    Ok(_) => Err(format!("{op:?}: refused with \"{error}\", should have been done")),
                }
            }
        }
    }

    /// Does `op`; where the volume is full until the next commit, commits and tries once more.
    pub fn run_patiently(&mut self, op: &Op) -> std::result::Result<Outcome, String> {
        match self.run(op)? {
            Outcome::NoSpace { pending } if pending > 0 => {
                self.run(&Op::Commit)?;
                self.run(op)
            }
            outcome => Ok(outcome),
        }
    }

    /// Compares all that can be seen.
    pub fn compare(&self) -> std::result::Result<(), String> {
        compare(&self.volume, &self.model, &Comparison::exact())
    }

    /// fallocate(2) takes several transactions: where it fails, bytes of its range may be zero already, and the
    /// file counts as changed.
    fn half_allocated(&mut self, inode: u64, range: std::ops::Range<u64>) -> std::result::Result<(), String> {
        let real = self.volume.attributes(Ino(inode)).map_err(|error| error.to_string())?;
        let node = self.model.change(inode);
        (node.modified, node.changed, node.version) = (real.modified, real.changed, real.version);
        node.vectors.values_mut().for_each(|vector| vector.fresh = None);
        let ranges: Vec<(u64, usize)> = node.bytes.ranges().collect();
        for (offset, len) in ranges {
            let (mut old, mut new) = (vec![0; len], vec![0; len]);
            let node = self.model.change(inode);
            node.bytes.read(offset, &mut old);
            self.volume.read(Ino(inode), offset, &mut new).map_err(|error| error.to_string())?;
            for (at, (old, new)) in (offset..).zip(old.iter().zip(&new)) {
                if old != new && (*new != 0 || !range.contains(&at)) {
                    return Err(format!(
                        "a failed fallocate of {range:?} changed byte {at} of inode {inode}"
                    ));
                }
            }
            node.bytes.write(offset, &new);
        }
        Ok(())
    }

    /// A write that had no memory to end may have changed bytes in place; a vector that was made from the old ones is stale then.
    fn half_written(&mut self, inode: u64, offset: u64, bytes: &[u8]) -> std::result::Result<(), String> {
        let Some(node) = self.model.nodes.get(&inode).filter(|node| node.size().is_some()) else {
            return Ok(());
        };
        let (bound, version) = (node.vectors.values().any(|vector| vector.fresh == Some(true)), node.version);
        let mut old = vec![0; bytes.len()];
        node.bytes.read(offset, &mut old);
        let mut new = old.clone();
        let shown = self.volume.read(Ino(inode), offset, &mut new).map_err(|error| error.to_string())?;
        let kept = new[..shown] == old[..shown];
        // Blocks that were new are not in the file.
        if (0..shown).any(|at| new[at] != old[at] && new[at] != bytes[at]) {
            return Err(format!(
                "a write of inode {inode} that failed left other bytes than the old and the new ones"
            ));
        }
        let node = self.model.change(inode);
        node.bytes.write(offset, &new[..shown]);
        let real = self.volume.attributes(Ino(inode)).map_err(|error| error.to_string())?;
        if bound && !kept && real.version == version {
            return Err(format!("bytes of inode {inode} changed under a vector that looks fresh"));
        }
        if real.version != version {
            let node = self.model.change(inode);
            (node.modified, node.changed, node.version) = (real.modified, real.changed, real.version);
            node.vectors.values_mut().for_each(|vector| vector.fresh = None);
        }
        Ok(())
    }

    /// Takes over times and content version of an inode after `op`, and judges them.
    fn learn(&mut self, op: &Op, before: &Model, inode: u64, now: Time) -> std::result::Result<(), String> {
        if !self.model.nodes.contains_key(&inode) {
            return Ok(());
        }
        let real = self.volume.attributes(Ino(inode)).map_err(|error| format!("stat of {inode}: {error}"))?;
        let old = before.nodes.get(&inode).map(|node| (node.modified, node.changed, node.version));
        self.judge(op, old, &real, now)?;
        let node = self.model.change(inode);
        (node.modified, node.changed, node.version) = (real.modified, real.changed, real.version);
        Ok(())
    }

    fn judge(
        &self,
        op: &Op,
        old: Option<(Time, Time, u64)>,
        real: &Attributes,
        now: Time,
    ) -> std::result::Result<(), String> {
        let inode = real.inode;
        let content = match op {
            Op::Write { fill, .. } => fill.len > 0,
            Op::Truncate { .. } => true,
            _ => false,
        };
        let Some((modified, changed, version)) = old.filter(|_| !content) else {
            if real.modified != now || real.changed != now {
                return Err(format!("times of {inode} are not those of the call: {real:?}, now {now:?}"));
            }
            if let Some((_, _, version)) = old.filter(|(_, _, version)| real.version == *version) {
                return Err(format!("content version of {inode} still {version} after a change"));
            }
            return Ok(());
        };
        let set = matches!(op, Op::Modified { .. }).then(|| self.model.node(inode.0).modified);
        if set.is_some_and(|set| set != real.modified) {
            return Err(format!("mtime of {inode} is {:?}, not as set", real.modified));
        }
        if set.is_none() && real.modified != modified && real.modified != now {
            return Err(format!("mtime of {inode} became {:?}, now {now:?}", real.modified));
        }
        if real.changed != changed && real.changed != now {
            return Err(format!("ctime of {inode} became {:?}, now {now:?}", real.changed));
        }
        if matches!(
            op,
            Op::SetVector { .. }
                | Op::SetVectors { .. }
                | Op::RemoveVector { .. }
                | Op::SetMetadata { .. }
                | Op::SetAttribute { .. }
        ) && real.version != version
        {
            return Err(format!("setting an attribute changed the content version of {inode}"));
        }
        Ok(())
    }
}
