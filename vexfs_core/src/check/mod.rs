//! Checking a volume that nobody uses, and repairing what can be repaired without losing anything.
//!
//! Every node, record and block reference is visited once. What is found is told to the caller as it is found.
//! Repaired are counts, the free-space map and what waits on the orphan list; everything else is reported and left.

mod collections;
mod finding;
mod inodes;
mod repair;
mod walk;

pub use finding::Finding;

use alloc::vec::Vec;

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::memory;
use crate::numbers::Time;
use crate::volume::{MountOptions, Volume};

/// What a check does beyond looking at all metadata.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckOptions {
    /// Write repairs.
    pub repair: bool,
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
/// What keeps a check from being made at all: no superblock, unknown features, a failing device.
pub fn check<H: BlockDevice + Data>(
    host: H,
    options: CheckOptions,
    found: &mut dyn FnMut(&Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport> {
    let mount = MountOptions { read_only: !options.repair, ..MountOptions::default() };
    let (mut volume, space_error) = Volume::open_damaged(&host, mount)?;
    let mut journal_error = None;
    if space_error.is_none() {
        match volume.recover() {
            Ok(()) => {}
            Err(error @ (Error::Corrupt(_) | Error::NoSpace { .. })) => {
                // What is half replayed is of no use; the last commit is whole.
                (volume, _) = Volume::open_damaged(&host, mount)?;
                journal_error = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    let mut state = State::new(&volume, options, found, progress)?;
    for (slot, damaged) in volume.damaged_slots().iter().enumerate() {
        if *damaged {
            state.report(Finding::Superblock { slot: slot as u32 })?;
        }
    }
    if let Some(error) = space_error {
        state.report(Finding::SpaceMap { error })?;
    }
    if let Some(error) = journal_error {
        state.report(Finding::Journal { error })?;
    }
    if volume.recovered().records > 0 {
        state.report(Finding::Replayed { records: volume.recovered().records })?;
    }
    walk::tree(&volume, &mut state)?;
    walk::space(&volume, &mut state)?;
    walk::counters(&volume, &mut state)?;
    let (report, repairs, whole) = state.finish();
    if !options.repair {
        return Ok(report);
    }
    let repaired = repair::apply(&mut volume, &repairs, whole, options.now)?;
    Ok(CheckReport { repaired, ..report })
}

/// What a check knows so far.
pub(crate) struct State<'a> {
    options: CheckOptions,
    report: CheckReport,
    found: &'a mut dyn FnMut(&Finding),
    progress: &'a mut dyn FnMut(u64, u64),
    /// Per block of the data area: something refers to it.
    used: Vec<u8>,
    data_start: u64,
    /// Findings that can be repaired.
    repairs: Vec<Finding>,
    /// False once a part of the tree could not be read: then nothing may be taken for missing.
    whole: bool,
    tree_blocks: u64,
    highest_inode: u64,
    highest_vector: u64,
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
            data_start: layout.data_start,
            repairs: Vec::new(),
            whole: true,
            tree_blocks: 0,
            highest_inode: 0,
            highest_vector: 0,
        })
    }

    /// Tells a finding, and notes it if it can be repaired.
    pub(crate) fn report(&mut self, finding: Finding) -> Result<()> {
        (self.found)(&finding);
        if finding.is_error() {
            self.report.errors += 1;
        }
        if finding.is_repairable() {
            memory::push(&mut self.repairs, finding)?;
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

    /// Notes that something refers to the blocks; each but once.
    pub(crate) fn claim(&mut self, start: u64, count: u64) -> Result<()> {
        let first = start - self.data_start;
        for bit in first..first + count {
            let (byte, mask) = ((bit / 8) as usize, 1u8 << (bit % 8));
            if self.used[byte] & mask != 0 {
                return self.report(Finding::BlockTwice { block: bit + self.data_start });
            }
            self.used[byte] |= mask;
            self.report.blocks_used += 1;
        }
        Ok(())
    }

    fn finish(self) -> (CheckReport, Vec<Finding>, bool) {
        (self.report, self.repairs, self.whole)
    }
}
