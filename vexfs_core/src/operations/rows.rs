//! The rows of a collection: taking, writing, freeing and blanking them, and the blocks under them.
//!
//! Every row below the frontier is live, waits to be blanked (`Blank`), or is free (`FreeRows`), and just one of them.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::collection::{Loaded, load};
use super::extents::{self, Extent};
use super::{columns, inode, orphan, write};
use crate::bugs::planted;
use crate::codec;
use crate::control;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{
    BlankRecord, FreeRowsRecord, InodeRecord, Key, Kind, MATRIX_DATA, collection_directory, parse_exact,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Nodes, Volume};

/// Bytes that a matrix grows by at least; its chunks are given back as a whole.
pub(crate) const CHUNK: u64 = 64 << 10;
/// Rows that a collection can have, used and free together.
pub(crate) const ROWS_MAX: u64 = 1 << 46;
/// Bytes that a matrix grows by at most.
pub(crate) const GROWTH_MAX: u64 = 16 << 20;

impl Loaded {
    /// The lowest free row that is not kept for a vector, or one behind all.
    pub(crate) fn lowest_free<N: Nodes, H: BlockDevice + Data>(
        &self,
        nodes: &N,
        volume: &Volume<H>,
    ) -> Result<u64> {
        let runs = self.free_runs(nodes, volume, 1)?;
        runs.first().map(|run| run.start).ok_or(Error::NoSpace { pending: 0 })
    }

    /// `count` free rows that are not kept for vectors, the lowest first, then those behind all; as runs.
    pub(crate) fn free_runs<N: Nodes, H: BlockDevice + Data>(
        &self,
        nodes: &N,
        volume: &Volume<H>,
        count: u64,
    ) -> Result<Vec<Range<u64>>> {
        let directory = collection_directory(self.id);
        let (from, to) = (Key::new(directory, Kind::FreeRows, 0), Key::last(directory, Kind::FreeRows));
        let mut runs = Vec::new();
        let mut missing = count;
        let mut gather = |mut rows: Range<u64>| {
            while missing > 0 && rows.start < rows.end {
                let free = volume.unstaged(self.id, rows.clone());
                rows.start = free.end;
                let taken = missing.min(free.end - free.start);
                missing -= taken;
                if taken > 0 {
                    memory::push(&mut runs, free.start..free.start + taken)?;
                }
            }
            Ok(missing > 0)
        };
        let mut more = count > 0;
        tree::scan(nodes, from, to, &mut |key, value| {
            let end = key.offset + free_count(self.id, key.offset, value)?;
            more = gather(key.offset..end)?;
            Ok(more)
        })?;
        if more && gather(self.record.frontier.get()..ROWS_MAX)? {
            return Err(Error::NoSpace { pending: 0 });
        }
        Ok(runs)
    }

    /// Takes rows that are one run of free ones, or all behind the others; what it leaves out below stays free.
    pub(crate) fn take_rows<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        rows: Range<u64>,
    ) -> Result<()> {
        let directory = collection_directory(self.id);
        let key = |row| Key::new(directory, Kind::FreeRows, row);
        let frontier = self.record.frontier.get();
        let (start, end) = if rows.start >= frontier {
            self.record.frontier = U64::new(rows.end);
            (frontier, rows.end)
        } else {
            let missing = Error::corrupt("collection", directory.0, "a row to be taken is not free");
            let (run, value) = tree::last(tx, key(0), key(rows.start + 1))?.ok_or(missing)?;
            let end = run.offset + free_count(self.id, run.offset, &value)?;
            if end < rows.end {
                return Err(missing);
            }
            (run.offset, end)
        };
        if start == rows.start && start < frontier {
            tree::remove(tx, key(start))?;
        }
        for (from, to) in [(start, rows.start), (rows.end, end)] {
            if from < to {
                let rest = FreeRowsRecord { count: U64::new(to - from) };
                tree::put(tx, key(from), rest.as_bytes())?;
            }
        }
        Ok(())
    }

    /// Writes a row's bytes, and zeros up to the next row; makes room for them first.
    pub(crate) fn write_row<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        value: &[u8],
    ) -> Result<()> {
        let mut bytes = memory::copy(value)?;
        let padding = memory::zeroed(self.record.stride.get() as usize - value.len())?;
        memory::extend(&mut bytes, &padding)?;
        self.write_rows(tx, row, &bytes)
    }

    /// Writes rows that follow one another, from `row` on, each with its padding; makes room for them first.
    pub(crate) fn write_rows<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let matrix = self.matrix();
        let mut record = self.matrix_record(tx)?;
        let before = record;
        let offset = self.row_offset(row);
        self.make_room(tx, &mut record, offset, offset + bytes.len() as u64)?;
        write::write_now(tx, matrix, &mut record, offset, bytes)?;
        if record != before {
            inode::store(tx, matrix, &record)?;
        }
        Ok(())
    }

    /// Counts a row in; `told` if the host heard of its bytes before.
    pub(crate) fn row_taken<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        told: bool,
    ) -> Result<()> {
        let resized = self.count_row(row);
        self.rows_changed(tx, row..row + 1, resized, !told)
    }

    /// Counts a row in, which [`Loaded::rows_changed`] then tells; true if there are more rows now.
    pub(crate) fn count_row(&mut self, row: u64) -> bool {
        self.record.live = U64::new(self.record.live.get() + 1);
        let before = self.record.rows.get();
        self.record.rows = U64::new(before.max(row + 1));
        row >= before
    }

    /// Counts a row out.
    pub(crate) fn row_freed<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
    ) -> Result<()> {
        self.record.live = U64::new(self.record.live.get().saturating_sub(1));
        let mut rows = self.record.rows.get();
        if row.saturating_add(1) >= rows {
            let (from, to) = (self.row_key(0), self.row_key(ROWS_MAX));
            rows = tree::last(tx, from, to)?.map_or(0, |(key, _)| key.offset + 1);
        }
        let resized = self.record.rows.get() != rows;
        self.record.rows = U64::new(rows);
        self.rows_changed(tx, row..row + 1, resized, false)
    }

    /// Counts a change of a row's header alone.
    pub(crate) fn row_relinked<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
    ) -> Result<()> {
        self.rows_changed(tx, row..row + 1, false, false)
    }

    /// Tells the host of rows that changed, and whether there are more or fewer now; with the bytes of the `matrix`, if it
    /// did not hear of them before.
    pub(crate) fn rows_changed<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        rows: Range<u64>,
        resized: bool,
        matrix: bool,
    ) -> Result<()> {
        let stride = u64::from(self.record.stride.get());
        let count = rows.end - rows.start;
        let before = self.record.changes.get();
        tx.volume.recent.note_rows(self.id, before, rows.clone());
        self.record.changes = U64::new(before.wrapping_add(count));
        self.record.modified = tx.now.into();
        let columns =
            [(control::MATRIX, stride), (control::HEADERS, 64), (control::VALID, 1), (control::SCALE, 4)];
        let has_scale = codec::has_scale(self.codec()?);
        for (part, width) in columns.into_iter().filter(|(part, _)| *part != control::SCALE || has_scale) {
            let inode = self.part(part);
            if part != control::MATRIX || matrix {
                tx.event(Event { inode, offset: MATRIX_DATA + rows.start * width, len: count * width })?;
            }
            if resized {
                tx.event(Event { inode, offset: 0, len: MATRIX_DATA })?;
            }
        }
        for column in columns::columns(tx, self.id)? {
            let (inode, width) = (column.inode(self.id), u64::from(column.width));
            tx.event(Event { inode, offset: MATRIX_DATA + rows.start * width, len: count * width })?;
            if resized {
                tx.event(Event { inode, offset: 0, len: MATRIX_DATA })?;
            }
        }
        tell_generation(tx, self.id)?;
        tx.event(Event { inode: self.part(control::SCHEMA), offset: 0, len: 0 })
    }

    // Allocates the chunks of the matrix in bytes `from..to`; at its end more, the longer it is.
    fn make_room<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        record: &mut InodeRecord,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let block_size = u64::from(tx.geometry().block_size);
        let matrix = self.matrix();
        let size = record.size.get();
        // A chunk ahead, so that the kernel knows the new size before a row that needs it can be seen.
        if to.saturating_add(CHUNK) > size {
            let growth = (size / 8).max(1).next_power_of_two().clamp(CHUNK, GROWTH_MAX);
            let end = (to + CHUNK).max(size + growth).next_multiple_of(CHUNK);
            // Nearly full: as little as will do.
            let end = if room(tx, size, end) { end } else { to.next_multiple_of(CHUNK).max(size) };
            if end > size {
                grow(tx, matrix, record, size, end)?;
                record.size = U64::new(end);
            }
        }
        let (first, last) = (from / CHUNK * CHUNK, to.next_multiple_of(CHUNK).min(record.size.get()));
        extents::fill_holes(tx, matrix, record, first / block_size, last / block_size)?;
        Ok(())
    }
}

/// Raises the generation of a collection of which no row changed, but what whoever searches it knows: its name, or how its
/// rows will be.
pub(crate) fn raise_generation<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
) -> Result<()> {
    let mut loaded = load(tx, id)?;
    let before = loaded.record.changes.get();
    tx.volume.recent.note_all(id, before);
    loaded.record.changes = U64::new(before.wrapping_add(1));
    loaded.store(tx)?;
    tell_generation(tx, id)
}

/// Tells the host that whoever knows the collection by its generation is to look again.
pub(crate) fn tell_generation<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
) -> Result<()> {
    let inode = Ino(collection_directory(id).0 + control::GENERATION);
    tx.event(Event { inode, offset: MATRIX_DATA, len: control::GENERATION_LEN })
}

// True if a matrix can grow from byte `from` to byte `to`.
fn room<H: BlockDevice + Data>(tx: &Transaction<'_, H>, from: u64, to: u64) -> bool {
    let count = (to - from) / u64::from(tx.geometry().block_size);
    tx.volume.space.ready() >= count + tx.volume.space.reserve()
}

// Adds blocks to the end of a matrix, as one aligned extent if there is one.
fn grow<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    matrix: Ino,
    record: &mut InodeRecord,
    from: u64,
    to: u64,
) -> Result<()> {
    let block_size = u64::from(tx.geometry().block_size);
    let (first, last) = (from / block_size, to / block_size);
    let count = last - first;
    if !room(tx, from, to) {
        return Err(Error::NoSpace { pending: tx.volume.space.pending() });
    }
    let goal = extents::goal(tx, matrix, first)?;
    if count.is_power_of_two() {
        if let Some(run) = tx.take_aligned(count.trailing_zeros(), goal)? {
            let birth = tx.generation();
            record.add_blocks(count);
            return extents::link(tx, matrix, Extent { at: first, run, unwritten: true, birth });
        }
    }
    extents::fill_holes(tx, matrix, record, first, last)?;
    Ok(())
}

/// Blanks up to `limit` freed rows whose freeing is durable, and makes them free. Gives whether it did any, and
/// whether rows are left that wait.
pub(crate) fn blank_step<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    id: CollectionId,
    limit: u64,
    now: Time,
) -> Result<(bool, bool)> {
    let durable = volume.superblock.generation.get();
    let directory = collection_directory(id);
    let Ok(loaded) = load(volume, id) else { return Ok((false, false)) };
    let mut rows = Vec::new();
    let mut rest = false;
    let (from, to) = (Key::new(directory, Kind::Blank, 0), Key::last(directory, Kind::Blank));
    tree::scan(volume, from, to, &mut |key, value| {
        let blank: &BlankRecord = parse_exact(value, "collection", directory.0)?;
        if key.offset >= loaded.record.frontier.get() {
            return Err(Error::corrupt("collection", directory.0, "a freed row behind all rows"));
        }
        rest = true;
        if blank.generation.get() <= durable || planted("blank_before_durable") {
            memory::push(&mut rows, key.offset)?;
        }
        Ok((rows.len() as u64) < limit)
    })?;
    if rows.is_empty() {
        return Ok((false, rest));
    }
    // That they are gone is told last: a crash before finds them waiting, and all of this is done again.
    if volume.purge_journal()? {
        return Ok((true, true));
    }
    // Chunks may be given back below, rows that were copied into with them.
    volume.leave_copies(id);
    volume.blank_strays()?;
    let mut blanked = blank_bytes(volume, &loaded, &rows)?;
    let target = loaded.target()?;
    if let Some(target) = &target {
        for place in blank_bytes(volume, target, &rows)? {
            memory::push(&mut blanked, place)?;
        }
    }
    let matrices = 1 + u64::from(target.is_some());
    volume.transact(Budget::freeing(4 * limit + 2 * matrices * orphan::STEP), now, |tx| {
        let mut loaded = load(tx, id)?;
        for (place, len) in blanked {
            tx.note_fresh(place, len)?;
        }
        for row in &rows {
            tree::remove(tx, Key::new(directory, Kind::Blank, *row))?;
            give_row(tx, &mut loaded, *row)?;
        }
        give_chunks(tx, &loaded, &rows)?;
        if let Some(target) = loaded.target()? {
            give_chunks(tx, &target, &rows)?;
        }
        loaded.store(tx)
    })?;
    Ok((true, true))
}

/// Overwrites dead rows where they lie: NaN in floats, else zero. The transaction that makes them free comes after.
/// Gives the places.
pub(super) fn blank_bytes<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    loaded: &Loaded,
    rows: &[u64],
) -> Result<Vec<(Place, u64)>> {
    let mut places = Vec::new();
    let matrix = loaded.matrix();
    let mut bytes = memory::zeroed(loaded.record.stride.get() as usize)?;
    codec::fill_blank(loaded.codec()?, loaded.element()?, &mut bytes[..loaded.stored_len()]);
    for row in rows {
        let offset = loaded.row_offset(*row);
        let mut scratch = memory::zeroed(bytes.len())?;
        for (range, place) in super::file::pieces(volume, matrix, offset, &mut scratch)? {
            volume.host.write_at(place, &bytes[range.clone()])?;
            memory::push(&mut places, (place, range.len() as u64))?;
        }
        memory::push(&mut volume.events, Event { inode: matrix, offset, len: bytes.len() as u64 })?;
    }
    Ok(places)
}

/// True if a row is free: in no use, and not waiting to be blanked.
pub(super) fn is_free<N: Nodes>(nodes: &N, loaded: &Loaded, row: u64) -> Result<bool> {
    let key = |row| Key::new(collection_directory(loaded.id), Kind::FreeRows, row);
    if row >= loaded.record.frontier.get() {
        return Ok(true);
    }
    match tree::last(nodes, key(0), key(row + 1))? {
        Some((run, value)) => Ok(row < run.offset + free_count(loaded.id, run.offset, &value)?),
        None => Ok(false),
    }
}

// Adds a row to the runs of free ones.
fn give_row<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, loaded: &mut Loaded, row: u64) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let key = |row| Key::new(directory, Kind::FreeRows, row);
    let (mut start, mut count) = (row, 1);
    if let Some((before, value)) = tree::last(tx, key(0), key(row))? {
        let len = free_count(loaded.id, before.offset, &value)?;
        if before.offset + len == row {
            (start, count) = (before.offset, len + 1);
        }
    }
    let after = tree::find(tx, key(row + 1), memory::copy)?;
    if let Some(value) = after {
        count += free_count(loaded.id, row + 1, &value)?;
        tree::remove(tx, key(row + 1))?;
    }
    if start + count == loaded.record.frontier.get() {
        loaded.record.frontier = U64::new(start);
        tree::remove(tx, key(start))?;
        return Ok(());
    }
    tree::put(tx, key(start), FreeRowsRecord { count: U64::new(count) }.as_bytes())
}

// Gives back the chunks that hold no live row any more, around `rows` and behind the frontier.
fn give_chunks<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    rows: &[u64],
) -> Result<()> {
    let block_size = u64::from(tx.geometry().block_size);
    let directory = collection_directory(loaded.id);
    let matrix = loaded.matrix();
    let mut record = loaded.matrix_record(tx)?;
    let before = record;
    let mut given = 0;
    for row in rows {
        let frontier = loaded.record.frontier.get();
        let (from, to) = if *row >= frontier {
            (loaded.row_offset(frontier), record.size.get())
        } else {
            let (low, high) =
                (Key::new(directory, Kind::FreeRows, 0), Key::new(directory, Kind::FreeRows, row + 1));
            let Some((key, value)) = tree::last(tx, low, high)? else { continue };
            let end = key.offset + free_count(loaded.id, key.offset, &value)?;
            // Only what lies around this row: a long run is looked at row by row as it grows.
            let chunk = loaded.row_offset(*row) / CHUNK * CHUNK;
            let reach = loaded.row_offset(row + 1).next_multiple_of(CHUNK);
            (loaded.row_offset(key.offset).max(chunk), loaded.row_offset(end).min(reach))
        };
        // The first chunk holds no row before byte 4096.
        let kept = tx.volume.staged_end(loaded, from, to);
        let from = if from.max(kept) <= MATRIX_DATA { 0 } else { from.max(kept).next_multiple_of(CHUNK) };
        let to = if to >= record.size.get() { to } else { to / CHUNK * CHUNK };
        if from < to && given < orphan::STEP {
            given += 1;
            extents::punch(tx, matrix, &mut record, from / block_size, to / block_size, orphan::STEP)?;
        }
    }
    if record != before {
        inode::store(tx, matrix, &record)?;
    }
    Ok(())
}

/// How many rows the run of free ones at `row` has.
pub(crate) fn free_count(id: CollectionId, row: u64, value: &[u8]) -> Result<u64> {
    let directory = collection_directory(id).0;
    let record: &FreeRowsRecord = parse_exact(value, "collection", directory)?;
    let count = record.count.get();
    let end = row.checked_add(count).filter(|end| count > 0 && *end <= ROWS_MAX);
    end.map(|_| count).ok_or(Error::corrupt("collection", directory, "an impossible run of free rows"))
}
