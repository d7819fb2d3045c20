//! The real volume and the model side by side: every operation goes to both, and their answers must agree.

use std::collections::BTreeSet;

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::error::{Error, Result};
use vexfs_core::format::{COLLECTIONS, Codec, Element, FileKind, Metric, ROOT, collection_directory};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{
    Attributes, Caller, Changes, NewCollection, NewInode, NewVector, Removed, SetMode,
};
use vexfs_core::volume::{Implicit, MountOptions, Volume};

use super::{Comparison, Learned, Model, Op, Overlay, VectorFill, compare, quantize};

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

    fn perform(&mut self, op: &Op, now: Time) -> Result<Learned> {
        let volume = &mut self.volume;
        let open = &self.open;
        let is_open = |inode: Ino| open.contains(&inode.0);
        let group = |_| false;
        let caller = Caller { uid: 0, gid: 0, in_group: &group };
        let mut learned = Learned::default();
        match op {
            Op::Create { directory, name, kind, permissions, owner } => {
                let new = NewInode {
                    kind: *kind,
                    permissions: *permissions,
                    umask: 0,
                    uid: *owner,
                    gid: *owner,
                    device: 0,
                };
                learned.inode = volume.create(Ino(*directory), &name.0, &new, now)?.inode.0;
            }
            Op::CreateUnnamed { directory } => {
                let new = NewInode {
                    kind: FileKind::Regular,
                    permissions: 0o600,
                    umask: 0,
                    uid: 0,
                    gid: 0,
                    device: 0,
                };
                learned.inode = volume.create_unnamed(Ino(*directory), &new, now)?.inode.0;
            }
            Op::Symlink { directory, name, target } => {
                learned.inode = volume.symlink(Ino(*directory), &name.0, &target.0, 0, 0, now)?.inode.0;
            }
            Op::Link { inode, directory, name } => {
                volume.link(Ino(*inode), Ino(*directory), &name.0, now)?;
            }
            Op::Unlink { directory, name } => {
                let removed = volume.unlink(Ino(*directory), &name.0, &is_open, now)?;
                release(volume, Some(removed), &is_open, now)?;
            }
            Op::RemoveDirectory { directory, name } => {
                let removed = volume.remove_directory(Ino(*directory), &name.0, &|_| false, now)?;
                release(volume, Some(removed), &is_open, now)?;
            }
            Op::Rename { from, to, flags } => {
                let (from, to) = ((Ino(from.0), &*from.1.0), (Ino(to.0), &*to.1.0));
                let removed = volume.rename(from, to, *flags, &is_open, now)?;
                release(volume, removed, &is_open, now)?;
            }
            Op::Open { .. } => {}
            Op::Close { inode } => {
                volume.bind_content(Ino(*inode), now)?;
                volume.release(Ino(*inode), now)?;
            }
            Op::Write { inode, offset, fill } => {
                volume.write(Ino(*inode), *offset, &fill.bytes(), now)?;
            }
            Op::Truncate { inode, size } => {
                let changes = Changes { size: Some(*size), ..Changes::default() };
                volume.set_attributes(Ino(*inode), &changes, now)?;
            }
            Op::Allocate { inode, what, offset, len } => {
                volume.allocate(Ino(*inode), *what, *offset, *len, now)?;
            }
            Op::Permissions { inode, permissions } => {
                let changes = Changes { permissions: Some(*permissions), ..Changes::default() };
                volume.set_attributes(Ino(*inode), &changes, now)?;
            }
            Op::Owner { inode, uid, gid } => {
                let changes = Changes { uid: Some(*uid), gid: Some(*gid), ..Changes::default() };
                volume.set_attributes(Ino(*inode), &changes, now)?;
            }
            Op::Modified { inode, seconds } => {
                let modified = Some(Time { seconds: *seconds, nanoseconds: 5 });
                volume.set_attributes(Ino(*inode), &Changes { modified, ..Changes::default() }, now)?;
            }
            Op::SetAttribute { inode, name, fill, mode } => {
                volume.set_attribute(Ino(*inode), &name.0, &fill.bytes(), *mode, &caller, now)?;
            }
            Op::RemoveAttribute { inode, name } => {
                volume.remove_attribute(Ino(*inode), &name.0, &caller, now)?;
            }
            Op::SetVector { inode, vector, fill, mode } => {
                let bytes = fill.bytes(vector.element);
                volume.set_attribute(Ino(*inode), &vector.attribute(), &bytes, *mode, &caller, now)?;
                volume.await_content(Ino(*inode), &vector.attribute())?;
                let id = volume.collection_by_name(vector.collection.as_bytes())?.id;
                volume.vectors_of(Ino(*inode), &mut |found| {
                    if found.collection == id && found.n == vector.n {
                        learned.collection = id.0;
                        (learned.row, learned.vector_id) = (found.row, found.vector_id);
                        learned.version = found.version;
                    }
                })?;
            }
            Op::SetVectors { collection, vectors, keep } => {
                learned.batch = set_vectors(volume, collection, vectors, *keep, now)?;
            }
            Op::RemoveVector { inode, vector } => {
                volume.remove_attribute(Ino(*inode), &vector.attribute(), &caller, now)?;
            }
            Op::SetMetadata { inode, vector, fill, mode } => {
                let text = fill.metadata();
                volume.set_attribute(Ino(*inode), &vector.metadata(), &text, *mode, &caller, now)?;
            }
            Op::RemoveMetadata { inode, vector } => {
                volume.remove_attribute(Ino(*inode), &vector.metadata(), &caller, now)?;
            }
            Op::CreateCollection { name, element, codec, dimensions } => {
                learned.collection = create_collection(volume, name, (*element, *codec), *dimensions, now)?;
            }
            Op::History { name, count } => {
                let inode = collection_directory(volume.collection_by_name(name.as_bytes())?.id);
                let (name, value) = (b"user.vexfs.history", count.to_string());
                volume.set_attribute(inode, name, value.as_bytes(), SetMode::Any, &caller, now)?;
            }
            Op::RemoveCollection { name } => {
                volume.remove_directory(COLLECTIONS, name.as_bytes(), &|_| false, now)?;
            }
            Op::RenameCollection { from, to } => {
                let (from, to) = ((COLLECTIONS, from.as_bytes()), (COLLECTIONS, to.as_bytes()));
                volume.rename(from, to, vexfs_core::operations::RenameFlags::empty(), &is_open, now)?;
            }
            Op::Compact { name } => {
                let id = volume.collection_by_name(name.as_bytes())?.id;
                // A copy, and the move of what was copied.
                volume.compact_step(id, now)?;
                volume.compact_step(id, now)?;
            }
            Op::Recode { name, codec } => {
                let id = volume.collection_by_name(name.as_bytes())?.id;
                match codec {
                    Some(Codec::Pq(quantizer)) => {
                        volume.recode_with(id, *quantizer, &quantize::entries(*quantizer), now)?;
                    }
                    Some(codec) => volume.recode(id, *codec, now)?,
                    None => volume.stop_recode(id, now)?,
                }
            }
            Op::RecodeStep { name } => {
                let id = volume.collection_by_name(name.as_bytes())?.id;
                volume.recode_step(id, now)?;
            }
            Op::Tidy => {
                // Every step is bounded, so this many cannot be needed on a volume of a few MiB.
                for _ in 0..100_000 {
                    if !volume.tidy(now)? {
                        // Nobody has an old matrix open here.
                        for matrix in volume.retired().to_vec() {
                            while !volume.free_retired(matrix, now)? {}
                        }
                        return Ok(learned);
                    }
                }
                return Err(Error::Invalid("tidy does not come to an end"));
            }
            Op::Commit => volume.commit(now)?,
            Op::Sync => volume.sync(now)?,
            Op::Recover => {
                volume.sync(now)?;
                self.volume = Volume::mount(Direct(self.device.clone()), Self::OPTIONS)?;
            }
            Op::Remount => {
                volume.commit(now)?;
                self.volume = Volume::mount(Direct(self.device.clone()), Self::OPTIONS)?;
            }
        }
        Ok(learned)
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

/// What a host does after a name went away: frees the file, unless it has other names or is open.
fn release<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    removed: Option<Removed>,
    is_open: &dyn Fn(Ino) -> bool,
    now: Time,
) -> Result<()> {
    match removed {
        Some(Removed { inode, links: 0, .. }) if !is_open(inode) => volume.release(inode, now),
        _ => Ok(()),
    }
}

fn create_collection<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    name: &str,
    (element, codec): (Element, Codec),
    dimensions: u32,
    now: Time,
) -> Result<u32> {
    let new = NewCollection {
        dimensions,
        element,
        codec,
        metric: if element == Element::Bit { Metric::Hamming } else { Metric::Cosine },
        model: b"",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    Ok(volume.create_collection(name.as_bytes(), &new, now)?.0)
}

/// Sets a batch, and gives row, id and version of each of its vectors as they are then.
fn set_vectors<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    name: &str,
    vectors: &[(u64, u32, VectorFill)],
    keep: bool,
    now: Time,
) -> Result<Vec<(u64, u64, u64)>> {
    let known = volume.collection_by_name(name.as_bytes())?;
    let values: Vec<Vec<u8>> = vectors.iter().map(|(.., fill)| fill.bytes(known.element)).collect();
    let new = vectors.iter().zip(&values);
    let new = new.map(|((inode, n, _), value)| NewVector { inode: Ino(*inode), n: *n, value, keep });
    let caller = Caller { uid: 0, gid: 0, in_group: &|_| false };
    let set = volume.set_vectors(known.id, &new.collect::<Vec<_>>(), &caller, now);
    set.map_err(|refused| refused.error)?;
    let mut learned = vec![(0, 0, 0); vectors.len()];
    for ((inode, n, _), learned) in vectors.iter().zip(&mut learned) {
        volume.vectors_of(Ino(*inode), &mut |found| {
            if found.collection == known.id && found.n == *n {
                *learned = (found.row, found.vector_id, found.version);
            }
        })?;
    }
    Ok(learned)
}
