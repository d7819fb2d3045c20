//! Repairs that lose nothing: the map, counts, what waits on the orphan list.

use zerocopy::little_endian::{U32, U64};

use super::finding::{Counted, Finding};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::COLLECTION_INODES;
use crate::numbers::{CollectionId, Ino, Run, Time};
use crate::operations::{load_collection, load_inode, records};
use crate::transaction::Budget;
use crate::volume::Volume;

/// What setting one count right needs; it may take from the reserve.
const COUNT: Budget = Budget { frees: true, ..Budget::records(1) };

/// Mends what can be mended and commits it; gives how many errors are gone.
pub(super) fn apply<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    repairs: &[Finding],
    whole: bool,
    now: Time,
) -> Result<u64> {
    // The map first: nothing may be allocated by a wrong one.
    let mut repaired = map(volume, repairs);
    for finding in repairs {
        let done = match *finding {
            Finding::Counter { what, counted, .. } => counter(volume, what, counted),
            Finding::Count { inode, what, counted, .. } => {
                let mut done = count(volume, Ino(inode), what, counted, now);
                if matches!(done, Err(Error::NoSpace { .. })) {
                    volume.commit(now)?;
                    done = count(volume, Ino(inode), what, counted, now);
                }
                match done {
                    Err(Error::NoSpace { .. } | Error::Corrupt(_) | Error::NotFound) => false,
                    other => other?,
                }
            }
            _ => false,
        };
        repaired += u64::from(done);
    }
    if !repairs.is_empty() {
        volume.changed = true;
    }
    if whole {
        tidy(volume, now)?;
    }
    // Two commits write all four copies of the superblock; blanked rows become free in between.
    for _ in 0..2 {
        if !repairs.is_empty() {
            volume.changed = true;
        }
        volume.commit(now)?;
        if whole {
            tidy(volume, now)?;
        }
    }
    volume.commit(now)?;
    Ok(repaired)
}

/// Corrects the free-space map; gives how many findings that mends.
pub(super) fn map<H: BlockDevice + Data>(volume: &mut Volume<H>, repairs: &[Finding]) -> u64 {
    let mut repaired = 0;
    for finding in repairs {
        match *finding {
            // The commit below makes the map anew, and empties the journal.
            Finding::SpaceMap { .. } | Finding::Journal { .. } | Finding::Root { .. } => repaired += 1,
            Finding::Leaked { start, count } | Finding::Unmarked { start, count } => {
                let run = Run::new(start, count);
                let in_use = matches!(finding, Finding::Unmarked { .. });
                repaired += u64::from(volume.space.correct(run, in_use));
            }
            _ => {}
        }
    }
    volume.changed |= repaired > 0;
    repaired
}

// Does what waits; what is damaged there waits on, and the check has told it.
fn tidy<H: BlockDevice + Data>(volume: &mut Volume<H>, now: Time) -> Result<()> {
    // Coding rows is a mount's work, and may stop for want of what a repair cannot give.
    if volume.load_waiting().is_ok() {
        volume.recoding.clear();
    }
    // Each call that fails takes one thing off the list.
    loop {
        match volume.tidy(now) {
            Ok(false) => return Ok(()),
            Ok(true) | Err(Error::Corrupt(_)) if volume.waiting_loaded => {}
            Ok(true) | Err(Error::Corrupt(_)) => return Ok(()),
            // A full volume: the next mount goes on.
            Err(Error::NoSpace { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn counter<H: BlockDevice + Data>(volume: &mut Volume<H>, what: &str, counted: u64) -> bool {
    match what {
        "inodes" => volume.counters.inode_count = counted,
        "tree blocks" => volume.counters.tree_blocks = counted,
        "next inode number" => volume.counters.next_inode = counted.min(COLLECTION_INODES - 1),
        "next vector id" => volume.counters.next_vector = counted,
        "next collection number" => {
            volume.counters.next_collection = u32::try_from(counted).unwrap_or(u32::MAX);
        }
        // The map was corrected already, and the superblock takes its count.
        "free blocks" => {}
        _ => return false,
    }
    true
}

fn count<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    inode: Ino,
    what: Counted,
    counted: u64,
    now: Time,
) -> Result<bool> {
    if matches!(what, Counted::Live | Counted::Rows) {
        let Some((id, 0)) = crate::format::collection_part(inode) else { return Ok(false) };
        return collection(volume, id, what, counted, now);
    }
    volume.transact(COUNT, now, |tx| {
        let mut record = load_inode(tx, inode)?;
        let small = u32::try_from(counted).map_err(|_| Error::Invalid("count out of range"))?;
        match what {
            Counted::Links => record.links = U32::new(small),
            Counted::Attributes => record.attributes = U32::new(small),
            Counted::Entries => record.size = U64::new(counted),
            Counted::Blocks => record.blocks = U64::new(counted),
            Counted::Live | Counted::Rows => {}
        }
        records::store_inode(tx, inode, &record)
    })?;
    Ok(true)
}

fn collection<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    id: CollectionId,
    what: Counted,
    counted: u64,
    now: Time,
) -> Result<bool> {
    volume.transact(COUNT, now, |tx| {
        let mut loaded = load_collection(tx, id)?;
        match what {
            Counted::Live => loaded.record.live = U64::new(counted),
            _ => loaded.record.rows = U64::new(counted),
        }
        loaded.store(tx)
    })?;
    Ok(true)
}
