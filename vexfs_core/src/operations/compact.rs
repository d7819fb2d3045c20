//! Compaction: live rows move from the end of a matrix into its gaps, until every row below the frontier is live.
//!
//! A step is one transaction that moves a few rows. The vector keeps its number, its header and the version it was made
//! from; its old row is freed as if it were set anew, and blanked after the commit. So readers of a mapping see whole
//! rows or tombstones, a crash leaves a part of the work done, and the space comes back as with any freed row. The
//! matrix never gets shorter.

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::collection::{Loaded, load};
use super::vector::{row_record, stored_row, vector_key};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{BlankRecord, Key, Kind, RowRecord, VectorRecord, collection_directory};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Rows that one transaction moves.
const STEP: u64 = 16;
/// Records that moving one row changes at most: two of each file and row, a blank, a run of free rows, extents.
const RECORDS: u64 = 16;

impl<H: BlockDevice + Data> Volume<H> {
    /// Has [`Volume::tidy`] close the gaps of a collection, from now until there are none or the next mount.
    ///
    /// # Errors
    /// `NotFound`; `ReadOnly`.
    pub fn compact(&mut self, id: CollectionId) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        load(self, id)?;
        if !self.compacting.contains(&id) {
            memory::push(&mut self.compacting, id)?;
        }
        self.note_blanks(id)
    }

    /// True while a collection is being compacted.
    pub fn is_compacting(&self, id: CollectionId) -> bool {
        self.compacting.contains(&id)
    }

    /// True while any is: rows that were moved wait for a commit.
    pub fn waits_for_commit(&self) -> bool {
        !self.compacting.is_empty() && !self.read_only
    }

    /// Moves up to 16 rows; gives whether it moved any, and whether there may be more to move, now or after a commit.
    pub fn compact_step(&mut self, id: CollectionId, now: Time) -> Result<(bool, bool)> {
        let loaded = match load(self, id) {
            Err(Error::NotFound) => return Ok((false, false)),
            other => other?,
        };
        let (rows, live) = (loaded.record.rows.get(), loaded.record.live.get());
        let mut moved = 0;
        if rows > live {
            let bytes = STEP * u64::from(loaded.record.stride.get()) + 2 * super::rows::CHUNK;
            let blocks = bytes.div_ceil(u64::from(self.layout.block_size));
            moved = self.transact(Budget::records(STEP * RECORDS).with_blocks(blocks), now, |tx| {
                let mut loaded = load(tx, id)?;
                let mut moved = 0;
                while moved < STEP && move_last(tx, &mut loaded)? {
                    moved += 1;
                }
                loaded.store(tx)?;
                Ok(moved)
            })?;
            self.note_blanks(id)?;
        }
        let waits = blanks(self, id)?;
        Ok((moved > 0, moved > 0 || waits))
    }
}

// Moves the last live row into the lowest free one; false if that is not below it.
fn move_last<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, loaded: &mut Loaded) -> Result<bool> {
    let directory = collection_directory(loaded.id);
    let all = |kind| (Key::new(directory, kind, 0), Key::last(directory, kind));
    let (from, to) = all(Kind::FreeRows);
    let Some((free, _)) = tree::first(tx, from, to)? else { return Ok(false) };
    let (from, to) = all(Kind::Row);
    let Some((last, _)) = tree::last(tx, from, to)? else { return Ok(false) };
    if free.offset >= last.offset {
        return Ok(false);
    }
    let record = row_record(tx, loaded.id, last.offset)?;
    // As it is, damaged or not: its checksum goes with it.
    let stored = stored_row(tx, tx.volume, loaded, last.offset)?;
    let row = loaded.take_row(tx)?;
    loaded.write_row(tx, row, &stored)?;
    relink(tx, loaded.id, &record, last.offset, row)?;
    tree::put(tx, Key::new(directory, Kind::Row, row), record.as_bytes())?;
    loaded.row_taken(tx, row)?;
    tree::remove(tx, last)?;
    let blank = BlankRecord { generation: U64::new(tx.generation()) };
    tree::put(tx, Key::new(directory, Kind::Blank, last.offset), blank.as_bytes())?;
    loaded.row_freed(tx, last.offset)?;
    Ok(true)
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
