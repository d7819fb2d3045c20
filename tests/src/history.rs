//! Runs a workload on a recorded disk and notes what may be found after a crash at each moment of it.
//!
//! To every commit and every record of the journal belongs a state, the model as it was then: after a crash the
//! volume must show that of the last durable one or of the one under way, nothing between. Only bytes written in place since then
//! may be new ([`Comparison::overlays`]). An operation that commits on its own account (a write under a vector)
//! counts as two states, before and after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use vexfs_core::commit::Sealed;
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::error::Result;
use vexfs_core::format::FileKind;
use vexfs_core::operations::Allocate;
use vexfs_core::volume::Volume;

use crate::check::check_crashed;
use crate::crash::Oracle;
use crate::image::Image;
use crate::model::{Comparison, Model, Name, Op, Outcome, Overlay, Pair, compare};
use crate::sim::{SimDevice, Trace};
use crate::states::{Limits, Origin, each_crash_state};
use crate::verified::Verified;

/// A state of the volume: so many records of the journal on a generation. Later states are higher numbers.
fn state(generation: u64, records: u64) -> u64 {
    generation << 20 | records
}

/// The state after the next commit.
fn committed(state: u64) -> u64 {
    ((state >> 20) + 1) << 20
}

/// A workload being recorded.
pub struct Recorder {
    /// The volume and its model.
    pub pair: Pair<SimDevice>,
    history: History,
    /// The state told to be durable, and the one begun: higher while a commit is on its way.
    durable: u64,
    begun: u64,
}

/// What may be found after a crash.
pub struct History {
    block_size: u64,
    /// Models by state: what a volume found in it may show.
    states: BTreeMap<u64, Vec<Model>>,
    moments: Vec<Moment>,
    overlays: Vec<InPlace>,
    /// What was verified in the crash states judged so far.
    verified: Arc<Verified>,
}

/// From this event of the trace on, the states told to be durable and begun.
#[derive(Clone, Copy)]
struct Moment {
    events: usize,
    durable: u64,
    begun: u64,
}

/// Bytes put in place at this event, while these states were the durable ones.
struct InPlace {
    events: usize,
    durable: std::ops::RangeInclusive<u64>,
    inode: u64,
    offset: u64,
    bytes: Arc<[u8]>,
    /// What the file showed there before, as far as it went.
    old: Arc<[u8]>,
}

impl Recorder {
    /// A fresh volume; the recording begins when it is mounted.
    pub fn new(size: u64, block_size: u32) -> Result<Self> {
        let device = SimDevice::new(size);
        let pair = Pair::format(device, block_size)?;
        pair.device.record();
        let generation = state(pair.volume.superblock().generation.get(), 0);
        let history = History {
            block_size: block_size.into(),
            states: BTreeMap::from([(generation, vec![pair.model.clone()])]),
            moments: vec![Moment { events: 0, durable: generation, begun: generation }],
            overlays: Vec::new(),
            verified: Arc::default(),
        };
        Ok(Self { pair, history, durable: generation, begun: generation })
    }

    /// Begins the recording anew: what is there now is durable.
    pub fn begin(&mut self) {
        self.pair.device.record();
        self.history.states = BTreeMap::from([(self.durable, vec![named(&self.pair.model)])]);
        self.history.moments = vec![Moment { events: 0, durable: self.durable, begun: self.begun }];
        self.history.overlays = Vec::new();
    }

    /// Does `op` and notes what it means for a crash; where the volume is full until a commit, commits first.
    pub fn op(&mut self, op: &Op) -> std::result::Result<Outcome, String> {
        match self.once(op)? {
            Outcome::NoSpace { pending } if pending > 0 => {
                self.once(&Op::Commit)?;
                self.once(op)
            }
            outcome => Ok(outcome),
        }
    }

    fn once(&mut self, op: &Op) -> std::result::Result<Outcome, String> {
        let events = self.pair.device.events();
        let durable = self.durable;
        let under_way = self.begun > self.durable;
        let before = named(&self.pair.model);
        let commits = matches!(op, Op::Commit | Op::Sync | Op::Remount);
        if commits && !under_way {
            // A sync may turn into a commit.
            for begun in [durable + 1, committed(durable)] {
                self.history.states.insert(begun, vec![before.clone()]);
            }
            self.history.moments.push(Moment { events, durable, begun: committed(durable) });
        }
        let overlays = self.history.overlays_of(&self.pair.model, op);
        let before_op = self.pair.model.clone();
        let outcome = self.pair.run(op)?;
        let after = self.state().max(self.begun);
        if !commits && !under_way && after > durable {
            for generation in [durable + 1, committed(durable), after] {
                let now = named(&self.pair.model);
                self.history.states.insert(generation, vec![before.clone(), begun(&before, &now), now]);
            }
            self.history.moments.push(Moment { events, durable, begun: after });
        }
        for (inode, offset, bytes) in overlays {
            let durable = durable..=after;
            let file = &before_op.node(inode).bytes;
            let mut old = vec![0; (file.size().saturating_sub(offset) as usize).min(bytes.len())];
            file.read(offset, &mut old);
            let (bytes, old) = (bytes.into(), old.into());
            self.history.overlays.push(InPlace { events, durable, inode, offset, bytes, old });
        }
        if !under_way {
            (self.durable, self.begun) = (after, after);
        }
        self.note();
        Ok(outcome)
    }

    /// Begins a commit: what comes before [`Self::write`] and [`Self::publish`] is not part of it.
    pub fn seal(&mut self) -> Result<Option<Sealed>> {
        let model = named(&self.pair.model);
        let sealed = self.pair.volume.seal(self.pair.now())?;
        if let Some(sealed) = &sealed {
            self.begun = state(sealed.generation(), 0);
            self.history.states.insert(self.begun, vec![model]);
            self.note();
        }
        Ok(sealed)
    }

    /// Writes a commit; it is durable afterwards.
    pub fn write(&mut self, sealed: &Sealed) -> Result<()> {
        sealed.write(&self.pair.device)?;
        self.durable = self.begun;
        self.note();
        Ok(())
    }

    /// Ends a commit.
    pub fn publish(&mut self, sealed: Sealed) -> Result<()> {
        self.pair.volume.publish(sealed)
    }

    fn note(&mut self) {
        let (durable, begun) = (self.durable, self.begun);
        self.history.moments.push(Moment { events: self.pair.device.events(), durable, begun });
    }

    fn state(&self) -> u64 {
        let volume = &self.pair.volume;
        state(volume.superblock().generation.get(), volume.journal_records())
    }

    /// Ends the recording.
    pub fn finish(self) -> (Trace, History) {
        let trace = self.pair.device.take_trace();
        let trace = trace.unwrap_or_else(|| Trace { base: self.pair.device.image(), events: Vec::new() });
        (trace, self.history)
    }
}

/// The model without what a crash ends: files that are only held open.
fn named(model: &Model) -> Model {
    let mut model = model.clone();
    model.forget_orphans();
    model
}

/// The model without what it says of freshness, which is of bytes that nothing guards.
fn undated(model: &Model) -> Model {
    let mut model = model.clone();
    for inode in model.nodes.keys().copied().collect::<Vec<_>>() {
        model.change(inode).vectors.values_mut().for_each(|vector| vector.fresh = None);
    }
    model
}

/// As `before`, but with the times of `after`: an operation that commits may have told only that it began.
fn begun(before: &Model, after: &Model) -> Model {
    let mut begun = before.clone();
    for (inode, after) in &after.nodes {
        if before.nodes.get(inode).is_some_and(|node| !Arc::ptr_eq(node, after)) {
            let node = begun.change(*inode);
            (node.modified, node.changed) = (after.modified, after.changed);
        }
    }
    begun
}

impl History {
    fn moment(&self, events: usize) -> Moment {
        let after = self.moments.partition_point(|moment| moment.events <= events);
        self.moments[after.saturating_sub(1)]
    }

    /// Bytes that `op` may put in place: those of a write, and zeros where a hole begins or ends in a block.
    fn overlays_of(&self, model: &Model, op: &Op) -> Vec<(u64, u64, Vec<u8>)> {
        let block = self.block_size;
        match op {
            Op::Write { inode, offset, fill } => vec![(*inode, *offset, fill.bytes())],
            Op::Truncate { inode, size } if model.node(*inode).kind == FileKind::Regular => {
                vec![(*inode, *size, vec![0; (size.next_multiple_of(block) - size) as usize])]
            }
            Op::Allocate { inode, what: Allocate::PunchHole | Allocate::ZeroRange { .. }, offset, len } => {
                let end = offset + len;
                let first = offset.next_multiple_of(block).min(end);
                let last = (end - end % block).max(*offset);
                [(*offset, first), (last, end)]
                    .into_iter()
                    .map(|(from, to)| (*inode, from, vec![0; (to - from) as usize]))
                    .collect()
            }
            _ => Vec::new(),
        }
    }

    /// How to compare a volume of `generation` after a crash at `events` with one of its models.
    fn comparison(&self, generation: u64, events: usize) -> Comparison {
        let mut how =
            Comparison { versions_may_differ: self.states[&generation].len() > 1, ..Comparison::exact() };
        let told = self.moment(events).durable;
        for overlay in &self.overlays {
            if overlay.events <= events && overlay.durable.contains(&generation) {
                let list = how.overlays.entry(overlay.inode).or_default();
                list.push(Overlay { offset: overlay.offset, bytes: Arc::clone(&overlay.bytes) });
            }
            // A record that nobody was told of may be there without the bytes put in place before it.
            if overlay.events <= events && told < generation && *overlay.durable.end() >= told {
                let list = how.overlays.entry(overlay.inode).or_default();
                list.push(Overlay { offset: overlay.offset, bytes: Arc::clone(&overlay.old) });
            }
        }
        how
    }

    /// Compares a volume mounted after a crash at `events`; gives the model that fits.
    fn fitting<D: BlockDevice>(
        &self,
        volume: &Volume<Direct<D>>,
        generation: u64,
        events: usize,
    ) -> std::result::Result<(&Model, Comparison), String> {
        let how = self.comparison(generation, events);
        let mut why = String::new();
        for model in &self.states[&generation] {
            match compare(volume, model, &how) {
                Ok(()) => return Ok((model, how)),
                Err(difference) => why = difference,
            }
        }
        Err(format!("state {generation:#x}: {why}"))
    }

    fn mounted(&self, image: &Image, events: usize) -> std::result::Result<Found<'_>, String> {
        let moment = self.moment(events);
        let device = SimDevice::from_known(image.clone(), &self.verified);
        check_crashed(&device).map_err(|why| format!("check: {why}"))?;
        device.record();
        let volume = Volume::mount(Direct(device.clone()), Pair::<SimDevice>::OPTIONS)
            .map_err(|error| format!("mount: {error}"))?;
        let generation = state(volume.recovered().base, volume.recovered().records);
        if generation < moment.durable || generation > moment.begun {
            let Moment { durable, begun, .. } = moment;
            return Err(format!(
                "state {generation:#x} found, {durable:#x} was durable, {begun:#x} under way"
            ));
        }
        let (model, how) = self.fitting(&volume, generation, events)?;
        Ok(Found { device, volume, model, how })
    }
}

impl History {
    /// Judges what a disk left whose flush did nothing: either the damage is found, or all metadata and every vector is as
    /// in some state that there was. Bytes of files, which no checksum guards, may be any. True if damage was found.
    pub fn judge_distrusted(&self, image: &Image) -> std::result::Result<bool, String> {
        let device = SimDevice::from_known(image.clone(), &self.verified);
        let checked = check_crashed(&device);
        let volume = match Volume::mount(Direct(device), Pair::<SimDevice>::OPTIONS) {
            Ok(volume) => volume,
            Err(_) if checked.is_err() => return Ok(true),
            Err(error) => return Err(format!("the check finds nothing, but mount says {error}")),
        };
        let how = Comparison { versions_may_differ: true, any_bytes: true, ..Comparison::exact() };
        let found = state(volume.recovered().base, volume.recovered().records);
        let models = self.states.get(&found).into_iter().flatten();
        // What is damaged must not bring the volume down either.
        let fits = models.map(|model| compare(&volume, &undated(model), &how)).collect::<Vec<_>>();
        match (checked, fits.iter().any(std::result::Result::is_ok)) {
            (Err(_), _) => Ok(true),
            (Ok(_), true) => Ok(false),
            (Ok(_), false) => Err(format!("the check finds nothing, but state {found:#x} differs: {fits:?}")),
        }
    }
}

/// What was found after a crash.
struct Found<'a> {
    device: SimDevice,
    volume: Volume<Direct<SimDevice>>,
    model: &'a Model,
    how: Comparison,
}

impl Oracle for History {
    fn window(&self, events: usize) -> u64 {
        let Moment { durable, begun, .. } = self.moment(events);
        durable << 32 | begun
    }

    fn judge(&self, image: &Image, origin: &Origin, sample: u64) -> std::result::Result<(), String> {
        let found = self.mounted(image, origin.events)?;
        if !sample.is_multiple_of(8) {
            return Ok(());
        }
        let Found { device, volume, model, how } = found;
        let mut pair = Pair::adopt(device.clone(), volume, model.clone(), &how)
            .map_err(|error| format!("after the crash: {error}"))?;
        let name = Name::from("made after the crash");
        let create = Op::Create { directory: 1, name, kind: FileKind::Regular, permissions: 0o644, owner: 0 };
        let mut committed = false;
        for op in [Op::Tidy, Op::Commit, create, Op::Tidy, Op::Remount] {
            let recovering = matches!(op, Op::Tidy);
            committed |= matches!(op, Op::Commit);
            pair.run(&op).map_err(|why| format!("after the crash: {why}"))?;
            if recovering {
                let report = check_committed(&mut pair)?;
                // A matrix that a recode replaced just now waits for the commit.
                if report > 0 && committed {
                    return Err(format!("after the crash and tidy: {report} orphans are left"));
                }
            }
        }
        pair.compare().map_err(|why| format!("after the crash, tidy and a remount: {why}"))?;
        if sample.is_multiple_of(64) {
            let trace = device.take_trace().ok_or("no recording")?;
            // The recovery may have come to the end of a recode.
            let models = [model.clone(), model.recoded_as(&pair.model)];
            self.crash_again(&trace, &models, &how, sample)?;
        }
        Ok(())
    }
}

/// Commits and checks; gives the orphans left.
fn check_committed(pair: &mut Pair<SimDevice>) -> std::result::Result<u64, String> {
    pair.run(&Op::Commit).map_err(|why| format!("after the crash: {why}"))?;
    check_crashed(&pair.device).map_err(|why| format!("check after the crash: {why}"))
}

impl History {
    /// Crashes during the recovery itself: the same must be found again, but for the file made afterwards.
    fn crash_again(
        &self,
        trace: &Trace,
        models: &[Model],
        how: &Comparison,
        seed: u64,
    ) -> std::result::Result<(), String> {
        const FEW: Limits = Limits { prefixes: 2, subsets: 6, torn: 2, superblock: 2 };
        let how = Comparison { versions_may_differ: true, ..how.clone() };
        let mut verdict = Ok(());
        each_crash_state(trace, &FEW, seed, |image, origin| {
            let again = || {
                let device = SimDevice::from_known(image.clone(), &self.verified);
                check_crashed(&device)?;
                let volume = Volume::mount(Direct(device), Pair::<SimDevice>::OPTIONS)
                    .map_err(|error| format!("mount: {error}"))?;
                let made = volume.lookup(vexfs_core::format::ROOT, b"made after the crash").is_ok();
                // The comparison knows no such file; the listing of the root would differ.
                let fits = models.iter().map(|model| compare(&volume, model, &how));
                if made { Ok(()) } else { fits.reduce(std::result::Result::or).unwrap_or(Ok(())) }
            };
            verdict = again().map_err(|why| format!("crash again in the recovery, {origin:?}: {why}"));
            verdict.is_ok()
        });
        verdict
    }
}
