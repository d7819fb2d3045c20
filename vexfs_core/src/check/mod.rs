//! Checking a volume that nobody uses, and repairing what can be repaired without losing anything.
//!
//! Every node, record and block reference is visited once. What is found is told to the caller as it is found.
//! A repair mends counts, the free-space map and what waits on the orphan list; everything else is reported and left.
//! A salvage goes on until nothing is found: records that contradict others go, what lost its name gets one.

mod attach;
mod circle;
mod collections;
mod cure;
mod finding;
mod free_rows;
mod history;
mod inodes;
mod matrices;
mod names;
mod open;
mod repair;
mod salvage;
mod walk;

pub use finding::Finding;

use cure::Cure;
use open::Trouble;

use alloc::vec::Vec;

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::memory;
use crate::numbers::Time;
use crate::volume::{MountOptions, Volume};

/// Looks of a repair that loses nothing, at most.
const ROUNDS_MAX: usize = 8;
/// Cures that one look notes; the next finds the rest.
const CURES_MAX: usize = 1 << 16;

/// What a check does beyond looking at all metadata.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Write repairs that lose nothing.
    pub repair: bool,
    /// Write all repairs: what cannot be read, or contradicts what can, is given up.
    pub salvage: bool,
    /// Read every vector and check its CRC-32.
    pub vectors: bool,
    /// The time that repaired inodes and the commit carry.
    pub now: Time,
}

/// What a check saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Inodes of files.
    pub inodes: u64,
    /// Of these, directories.
    pub directories: u64,
    /// Of these, regular files.
    pub files: u64,
    /// Collections.
    pub collections: u64,
    /// Vectors.
    pub vectors: u64,
    /// Blocks that something refers to.
    pub blocks_used: u64,
    /// Inodes that wait to be freed; no error.
    pub orphans: u64,
    /// Findings that are errors.
    pub errors: u64,
    /// Of these, repaired.
    pub repaired: u64,
}

impl CheckReport {
    /// Errors that are still there.
    pub fn unrepaired(&self) -> u64 {
        self.errors - self.repaired
    }
}

/// Checks the volume on `host`; calls `found` for each finding and `progress` with (blocks of the tree seen, all).
///
/// # Errors
/// What keeps a check from being made at all: no superblock, unknown features, a failing device; a repair, features that are
/// unknown to who writes.
pub fn check<H: BlockDevice + Data>(
    host: H,
    options: CheckOptions,
    found: &mut dyn FnMut(&Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport> {
    let read_only = !options.repair && !options.salvage;
    let mount = MountOptions { read_only, ..MountOptions::default() };
    let (mut volume, trouble) = open::open(&host, mount, options)?;
    if !read_only && volume.unknown_to_write() != 0 {
        return Err(Error::IncompatibleToWrite(volume.unknown_to_write()));
    }
    if options.salvage {
        return salvage::run(&mut volume, trouble, options, found, progress);
    }
    let seen = look(&volume, trouble, true, options, found, progress)?;
    if !options.repair || !seen.can_be_repaired(trouble) {
        return Ok(seen.report);
    }
    let mend = |volume: &mut Volume<&H>, look: &Look| {
        match repair::apply(volume, &look.repairs, look.whole, options.now) {
            // One block was met in two places, as after a damaged journal: what is left is for a salvage.
            Err(Error::ReadOnly) => Ok(0),
            other => other,
        }
    };
    mend(&mut volume, &seen)?;
    let mut left = seen.report.errors;
    // Where something is damaged that stays so, what waited and was finished may have changed what was right.
    for _ in 0..ROUNDS_MAX {
        if left == 0 {
            break;
        }
        let again = look(&volume, Trouble::default(), false, options, &mut |_| {}, &mut |_, _| {})?;
        left = again.report.errors;
        if again.shared || mend(&mut volume, &again)? == 0 {
            break;
        }
    }
    Ok(CheckReport { repaired: seen.report.errors.saturating_sub(left), ..seen.report })
}

/// What one look at everything saw, and what can be done about it.
pub(crate) struct Look {
    report: CheckReport,
    /// Findings that can be repaired without losing anything.
    repairs: Vec<Finding>,
    cures: Vec<Cure>,
    /// False if a part of the tree could not be read: then nothing may be taken for missing.
    whole: bool,
    /// Two things refer to one block.
    shared: bool,
}

impl Look {
    // Any commit would empty a journal that cannot be replayed. Nothing can be allocated without a map, nor be freed or moved
    // where two things have one block: that would give away what the other one still needs.
    fn can_be_repaired(&self, trouble: Trouble) -> bool {
        trouble.journal.is_none() && (trouble.map.is_none() || self.whole) && !self.shared
    }
}

/// Looks at everything; at what is only found at mount, the first time.
fn look<H: BlockDevice + Data>(
    volume: &Volume<H>,
    trouble: Trouble,
    first: bool,
    options: CheckOptions,
    found: &mut dyn FnMut(&Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Look> {
    let mut state = State::new(volume, options, found, progress)?;
    for (slot, damaged) in volume.damaged_slots().iter().enumerate() {
        if *damaged && first {
            state.report(Finding::Superblock { slot: slot as u32 })?;
        }
    }
    if let Some((newest, older)) = trouble.root {
        state.report(Finding::Root { newest, older })?;
    }
    if let Some(error) = trouble.map {
        state.report(Finding::SpaceMap { error })?;
    }
    if let Some(error) = trouble.journal {
        state.report(Finding::Journal { error })?;
    }
    if volume.recovered().records > 0 && first {
        state.report(Finding::Replayed { records: volume.recovered().records })?;
    }
    walk::tree(volume, &mut state)?;
    walk::space(volume, &mut state)?;
    walk::counters(volume, &mut state)?;
    let State { report, repairs, cures, whole, shared, .. } = state;
    Ok(Look { report, repairs, cures, whole, shared })
}

/// What a check knows so far.
pub(crate) struct State<'a> {
    options: CheckOptions,
    report: CheckReport,
    found: &'a mut dyn FnMut(&Finding),
    progress: &'a mut dyn FnMut(u64, u64),
    /// Per block of the data area: something refers to it.
    used: Vec<u8>,
    /// Per block of the data area: it is a node's, and no extent can have it.
    nodes: Vec<u8>,
    data_start: u64,
    block_size: u32,
    /// Findings that can be repaired.
    repairs: Vec<Finding>,
    cures: Vec<Cure>,
    /// False once a part of the tree could not be read: then nothing may be taken for missing.
    whole: bool,
    /// Two things refer to one block.
    shared: bool,
    tree_blocks: u64,
    known: circle::Known,
    highest_inode: u64,
    highest_vector: u64,
    highest_collection: u32,
}

impl<'a> State<'a> {
    fn new<H: BlockDevice + Data>(
        volume: &Volume<H>,
        options: CheckOptions,
        found: &'a mut dyn FnMut(&Finding),
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Result<Self> {
        let layout = volume.layout();
        let bytes = usize::try_from(layout.data_blocks.div_ceil(8)).map_err(|_| Error::NoMemory)?;
        Ok(Self {
            options,
            report: CheckReport::default(),
            found,
            progress,
            used: memory::zeroed(bytes)?,
            nodes: memory::zeroed(bytes)?,
            data_start: layout.data_start,
            block_size: layout.block_size,
            repairs: Vec::new(),
            cures: Vec::new(),
            whole: true,
            shared: false,
            tree_blocks: 0,
            known: circle::Known::default(),
            highest_inode: 0,
            highest_vector: 0,
            highest_collection: 0,
        })
    }

    /// Tells a finding, and notes it if it can be repaired.
    pub(crate) fn report(&mut self, finding: Finding) -> Result<()> {
        (self.found)(&finding);
        if finding.is_error() {
            self.report.errors += 1;
        }
        // To give up a journal is a loss, which is for a salvage.
        let given_up =
            self.options.salvage && matches!(finding, Finding::Journal { .. } | Finding::Root { .. });
        if finding.is_repairable() || given_up {
            memory::push(&mut self.repairs, finding)?;
        }
        Ok(())
    }

    /// Tells a finding that nothing mends without loss, and notes what a salvage does about it.
    fn contradiction(&mut self, finding: Finding, cure: Cure) -> Result<()> {
        self.report(finding)?;
        self.cure(cure)
    }

    fn cure(&mut self, cure: Cure) -> Result<()> {
        if self.options.salvage && self.cures.len() < CURES_MAX {
            memory::push(&mut self.cures, cure)?;
        }
        Ok(())
    }

    /// Takes damage for a finding, and passes on what is none.
    pub(crate) fn absorb<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ Error::Corrupt(_)) => {
                self.whole = false;
                self.report(Finding::Damage { error })?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Notes that a node is in this block, which lies in the data area; false if another one is.
    fn reserve_node(&mut self, block: u64) -> bool {
        let bit = block - self.data_start;
        let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
        let free = self.nodes[byte] & mask == 0;
        self.nodes[byte] |= mask;
        free
    }

    /// Notes that an extent (or a node) refers to the blocks, which lie in the data area; each but once. False, and none is
    /// noted, if another thing has one of them, which is reported.
    fn claim(&mut self, start: u64, count: u64, is_node: bool) -> Result<bool> {
        let first = start - self.data_start;
        for bit in first..first + count {
            let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
            if self.used[byte] & mask != 0 || (!is_node && self.nodes[byte] & mask != 0) {
                for claimed in first..bit {
                    self.used[(claimed / 8) as usize] &= !(1 << (claimed % 8));
                }
                self.shared = true;
                self.report(Finding::BlockTwice { block: bit + self.data_start })?;
                return Ok(false);
            }
            self.used[byte] |= mask;
        }
        self.report.blocks_used += count;
        Ok(true)
    }
}
