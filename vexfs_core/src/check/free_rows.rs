//! Making a collection's runs of free rows anew, from the rows that are live or wait to be blanked.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use crate::device::{BlockDevice, Data};
use crate::error::Result;
use crate::format::{FreeRowsRecord, Key, Kind, collection_directory};
use crate::numbers::{CollectionId, Ino, Time};
use crate::operations::{load_collection, rows_at};
use crate::transaction::Budget;
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Runs that one transaction puts, or removes.
const STEP: u64 = 32;

/// Removes all runs, and puts one wherever neither a live row nor one that waits lies.
pub(super) fn renew<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    id: CollectionId,
    now: Time,
) -> Result<()> {
    let directory = collection_directory(id);
    let (from, to) = (Key::new(directory, Kind::FreeRows, 0), Key::last(directory, Kind::FreeRows));
    let budget = Budget { frees: true, ..Budget::records(STEP + 2) };
    while volume.transact(budget, now, |tx| tree::remove_range(tx, from, to, STEP))? > 0 {}
    let mut at = 0;
    loop {
        let (next, done) = volume.transact(budget, now, |tx| {
            let mut at = at;
            for _ in 0..STEP {
                let Some(used) = next_used(tx, id, at)? else { return Ok((at, true)) };
                if used > at {
                    let run = FreeRowsRecord { count: U64::new(used - at) };
                    tree::put(tx, Key::new(directory, Kind::FreeRows, at), run.as_bytes())?;
                }
                at = end_of_used(tx, id, used)?;
            }
            Ok((at, false))
        })?;
        at = next;
        if done {
            break;
        }
    }
    volume.transact(budget, now, |tx| {
        let mut loaded = load_collection(tx, id)?;
        loaded.record.frontier = U64::new(at);
        loaded.store(tx)
    })
}

// The first row from `at` on that is not free.
fn next_used<N: Nodes>(nodes: &N, id: CollectionId, at: u64) -> Result<Option<u64>> {
    let mut found: Option<u64> = None;
    for (inode, kind) in used(nodes, id)? {
        let (from, to) = (Key::new(inode, kind, at), Key::last(inode, kind));
        tree::scan(nodes, from, to, &mut |key, _| {
            found = Some(found.map_or(key.offset, |other| other.min(key.offset)));
            Ok(false)
        })?;
    }
    Ok(found)
}

// Where the records of rows that are not free lie.
fn used<N: Nodes>(nodes: &N, id: CollectionId) -> Result<[(Ino, Kind); 2]> {
    let rows = rows_at(id, load_collection(nodes, id)?.number());
    Ok([(rows, Kind::Row), (collection_directory(id), Kind::Blank)])
}

// One past the last of the rows from `from` on that are used one after another.
fn end_of_used<N: Nodes>(nodes: &N, id: CollectionId, from: u64) -> Result<u64> {
    let mut end = from;
    loop {
        let before = end;
        for (inode, kind) in used(nodes, id)? {
            let (from, to) = (Key::new(inode, kind, end), Key::last(inode, kind));
            tree::scan(nodes, from, to, &mut |key, _| {
                let next = key.offset == end;
                end += u64::from(next);
                Ok(next)
            })?;
        }
        if end == before {
            return Ok(end);
        }
    }
}
