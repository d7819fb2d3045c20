//! Compaction: live rows move from the end of a matrix into its gaps, until every row below the frontier is live.
//!
//! A few rows at a time are moved in two steps. The first copies bytes into free rows, which nobody looks at; the host
//! tells the kernel of them before it calls for the second, which makes those rows the vectors', in one transaction.
//! Else a reader of a mapping could see that a row is in use while the page that he has is still that of the free one.
//!
//! The vector keeps its number, its header and the version it was made from; its old row is freed as if it were set anew,
//! and blanked after the commit. So a crash leaves a part of the work done, and the space comes back as with any
//! freed row. The matrix never gets shorter.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::collection::{Loaded, load};
use super::metadata;
use super::vector::{row_record, stored_row, vector_key};
use crate::bugs::planted;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{BlankRecord, Key, Kind, RowRecord, VectorRecord, collection_directory};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Copied, Event, Nodes, Volume};

/// Rows that one transaction moves.
const STEP: u64 = 16;
/// Records that moving one row without metadata changes at most: two of each file and row, a blank, a run of free rows,
/// extents.
const RECORDS: u64 = 16;

impl<H: BlockDevice + Data> Volume<H> {
    /// Has [`Volume::tidy`] close the gaps of a collection, from now until there are none or the next mount.
    ///
    /// # Errors
    /// `NotFound`; `ReadOnly`; `Underway` while the collection is being recoded.
    pub fn compact(&mut self, id: CollectionId) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        if load(self, id)?.recoding()?.is_some() {
            return Err(super::recode::UNDERWAY);
        }
        memory::reserve(&mut self.blanks, 1)?;
        if !self.compacting.contains(&id) {
            memory::push(&mut self.compacting, id)?;
        }
        self.note_blanks(id)
    }

    /// True while a collection is being compacted.
    pub fn is_compacting(&self, id: CollectionId) -> bool {
        self.compacting.contains(&id)
    }

    /// True while any is compacted or recoded: what is left of that may wait for a commit.
    pub fn waits_for_commit(&self) -> bool {
        let recodes = self.recoding.iter().any(|recode| recode.stopped.is_none());
        (recodes || !self.compacting.is_empty()) && !self.read_only
    }

    /// Copies up to 16 rows, or moves those that it copied; gives whether it did any, and whether there may be more to
    /// do, now or after a commit. What it did is to be told ([`Volume::events`]) before the next call.
    pub fn compact_step(&mut self, id: CollectionId, now: Time) -> Result<(bool, bool)> {
        let loaded = match load(self, id) {
            Err(Error::NotFound) => return Ok((false, false)),
            other => other?,
        };
        if loaded.recoding()?.is_some() {
            return Ok((false, false));
        }
        // Rows that are kept for vectors on their way are not to be copied into.
        if self.has_staged(id) {
            self.leave_copies(id);
            return Ok((false, true));
        }
        if let Some(copied) = self.take_copies(id)? {
            memory::reserve(&mut self.blanks, 1)?;
            let mut pieces = 0;
            for (from, ..) in &copied.moves {
                pieces += metadata::records(self, id, *from)?;
            }
            self.transact(Budget::records(STEP * RECORDS + 2 * pieces), now, |tx| {
                let mut loaded = load(tx, id)?;
                for (from, to, vector_id) in copied.moves {
                    // Meanwhile a vector may have been removed, or set in that row.
                    if next_move(tx, &loaded, u64::MAX, 0)? != Some((from, to, vector_id)) {
                        break;
                    }
                    finish_move(tx, &mut loaded, from, to)?;
                }
                loaded.store(tx)
            })?;
            self.note_blanks(id)?;
            return Ok((true, true));
        }
        let bytes = STEP * u64::from(loaded.record.stride.get()) + 2 * super::rows::CHUNK;
        let blocks = bytes.div_ceil(u64::from(self.layout.block_size));
        let moves = match loaded.record.rows.get() > loaded.record.live.get() {
            true => self
                .transact(Budget::records(STEP * RECORDS).with_blocks(blocks), now, |tx| copy_rows(tx, id))?,
            false => Vec::new(),
        };
        if moves.is_empty() {
            return Ok((false, blanks(self, id)?));
        }
        self.copied = Some(Copied { id, moves });
        if planted("compaction_before_told") {
            return self.compact_step(id, now);
        }
        Ok((true, true))
    }
}

// Copies rows from the end into the free ones at the beginning, whatever order that is; nothing refers to them yet.
fn copy_rows<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
) -> Result<Vec<(u64, u64, u64)>> {
    let mut loaded = load(tx, id)?;
    let mut moves: Vec<(u64, u64, u64)> = Vec::new();
    while (moves.len() as u64) < STEP {
        let (below, behind) = moves.last().map_or((u64::MAX, 0), |(from, to, _)| (*from, to + 1));
        let Some(next) = next_move(tx, &loaded, below, behind)? else { break };
        // As it is, damaged or not: its checksum goes with it.
        let stored = stored_row(tx, tx.volume, &loaded, next.0)?;
        loaded.write_row(tx, next.1, &stored)?;
        let stride = u64::from(loaded.record.stride.get());
        tx.event(Event { inode: loaded.matrix(), offset: loaded.row_offset(next.1), len: stride })?;
        memory::push(&mut moves, next)?;
    }
    Ok(moves)
}

// The last live row below `below`, the first free one from `behind` on, and the vector's number; if that is an
// improvement.
fn next_move<N: Nodes>(
    nodes: &N,
    loaded: &Loaded,
    below: u64,
    behind: u64,
) -> Result<Option<(u64, u64, u64)>> {
    let id = loaded.id;
    let directory = collection_directory(id);
    let key = |kind, row| Key::new(directory, kind, row);
    let Some((last, _)) = tree::last(nodes, loaded.row_key(0), loaded.row_key(below))? else {
        return Ok(None);
    };
    // The run that `behind` lies in, or the next.
    let run = tree::last(nodes, key(Kind::FreeRows, 0), key(Kind::FreeRows, behind.saturating_add(1)))?;
    let mut free = None;
    if let Some((run, value)) = run {
        let end = run.offset + super::rows::free_count(id, run.offset, &value)?;
        free = (behind < end).then_some(behind);
    }
    if free.is_none() {
        let (from, to) = (key(Kind::FreeRows, behind), Key::last(directory, Kind::FreeRows));
        free = tree::first(nodes, from, to)?.map(|(run, _)| run.offset);
    }
    match free {
        Some(free) if free < last.offset => {
            let vector_id = row_record(nodes, loaded, last.offset)?.header.vector_id.get();
            Ok(Some((last.offset, free, vector_id)))
        }
        _ => Ok(None),
    }
}

// Makes the row `to`, which is the lowest free one and holds a copy of `from`, that vector's row.
fn finish_move<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    from: u64,
    to: u64,
) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let record = row_record(tx, loaded, from)?;
    loaded.take_rows(tx, to..to + 1)?;
    relink(tx, loaded.id, &record, from, to)?;
    loaded.put_row(tx, to, &record)?;
    loaded.row_taken(tx, to, true)?;
    metadata::move_row(tx, loaded.id, from, to)?;
    tree::remove(tx, loaded.row_key(from))?;
    let blank = BlankRecord { generation: U64::new(tx.generation()) };
    tree::put(tx, Key::new(directory, Kind::Blank, from), blank.as_bytes())?;
    loaded.row_freed(tx, from)
}

// Tells the file where its vector is now.
fn relink<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    record: &RowRecord,
    from: u64,
    to: u64,
) -> Result<()> {
    let inode = Ino(record.header.file_inode.get());
    let key = vector_key(inode, id, record.n.get());
    let vector: Option<VectorRecord> = tree::record(tx, key, "vector of inode")?;
    match vector {
        Some(vector) if vector.row.get() == from && vector.vector_id == record.header.vector_id => {
            let vector = VectorRecord { row: U64::new(to), ..vector };
            tree::put(tx, key, vector.as_bytes())
        }
        _ => Err(Error::corrupt(
            "row of collection",
            collection_directory(id).0,
            "its file does not have that vector",
        )),
    }
}

// True if freed rows wait to be blanked.
fn blanks<N: Nodes>(nodes: &N, id: CollectionId) -> Result<bool> {
    let directory = collection_directory(id);
    let (from, to) = (Key::new(directory, Kind::Blank, 0), Key::last(directory, Kind::Blank));
    Ok(tree::first(nodes, from, to)?.is_some())
}
