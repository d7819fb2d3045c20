//! Recoding: a second matrix is made, in another codec, while the collection goes on with the one that it has.
//!
//! Some rows at a time are decoded, coded anew, and put into the second matrix with records of their own, which nobody looks at
//! ([`super::matrices`]). A row that changes after that gets a `Redo` record and is coded again, one that is removed leaves both.
//! When nothing is left to do, one transaction makes the second matrix the collection's. So a crash leaves a part of the
//! work done, which goes on at the next mount, and whoever has the old matrix open keeps it: it is freed when nobody has.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::{U16, U32, U64};

use super::collection::{Loaded, load};
use super::rows::CHUNK;
use super::types::NewInode;
use super::vector::read_row;
use super::{codebook, columns, inode, orphan};
use crate::checksum::crc32;
use crate::codec;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result, if_whole};
use crate::format::{
    Codec, FileKind, InodeRecord, Key, Kind, MATRIX_DATA, MATRIX_NUMBERS, OrphanKind, RowRecord,
    collection_directory, collection_part, numbered_matrix,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Recode, Volume};

/// What is refused while a collection is recoded.
pub(super) const UNDERWAY: Error = Error::Underway(
    "the collection is being recoded: wait for its end (its `control` shows how far it is), or give it up with `recode stop`",
);
/// Rows that one transaction codes, and how many where there is plenty of space.
const STEP: u64 = 16;
const STEP_MANY: u64 = 256;
/// Free blocks that are plenty.
const PLENTY: u64 = 1 << 13;
/// Chunks of the second matrix that one transaction writes to at most, but for a single row.
const STEP_CHUNKS: u64 = 16;

impl<H: BlockDevice + Data> Volume<H> {
    /// Has [`Volume::tidy`] store a collection in another codec, from now on and after every mount until it is done. A codec that
    /// it has already is no work; one that it is on its way to goes on, if it had stopped.
    ///
    /// # Errors
    /// `NotFound`; `ReadOnly`; `Underway` while it is compacted, or recoded to another codec; `Invalid` for a codec that cannot
    /// store its elements, and for `pq`, unless it is on its way there: [`Volume::recode_with`] takes its codebook.
    pub fn recode(&mut self, id: CollectionId, codec: Codec, now: Time) -> Result<()> {
        let loaded = self.before_recode(id)?;
        match loaded.recoding()? {
            Some(recoding) if recoding.codec == codec => return self.note_recode(id),
            Some(_) => return Err(UNDERWAY),
            None if loaded.codec()? == codec => return Ok(()),
            None if matches!(codec, Codec::Pq(_)) => return Err(super::codebook::WANTED),
            None => {}
        }
        self.make_way(id)?;
        memory::reserve(&mut self.recoding, 1)?;
        self.transact(Budget::records(4), now, |tx| begin(tx, id, codec))?;
        self.note_recode(id)
    }

    /// A collection that may be recoded, if nothing else is done to it.
    pub(super) fn before_recode(&mut self, id: CollectionId) -> Result<Loaded> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.load_waiting()?;
        load(self, id)
    }

    /// Fails while a collection is compacted; what it was about to move stays.
    pub(super) fn make_way(&mut self, id: CollectionId) -> Result<()> {
        self.leave_copies(id);
        if self.is_compacting(id) {
            return Err(Error::Underway(
                "the collection is being compacted: wait for its end, which its `control` shows",
            ));
        }
        Ok(())
    }

    /// Gives up a recode: the collection keeps its codec, and the space of the second matrix is freed by [`Volume::tidy`].
    ///
    /// # Errors
    /// `NotFound`; `ReadOnly`; `Invalid` if none is under way.
    pub fn stop_recode(&mut self, id: CollectionId, now: Time) -> Result<()> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        self.load_waiting()?;
        let loaded = load(self, id)?;
        if loaded.recoding()?.is_none() {
            return Err(Error::Invalid("the collection is not being recoded: there is nothing to stop"));
        }
        let matrix = numbered_matrix(id, loaded.matrices.target.get());
        memory::reserve(&mut self.waiting, 1)?;
        self.transact(Budget { frees: true, ..Budget::records(4) }, now, |tx| {
            let mut loaded = load(tx, id)?;
            loaded.drop_target();
            loaded.store(tx)?;
            tx.event(Event { inode: loaded.part(control::SCHEMA), offset: 0, len: 0 })?;
            give_up_matrix(tx, matrix)
        })?;
        self.forget_recode(id);
        memory::append(&mut self.waiting, matrix);
        Ok(())
    }

    /// Why the recode of a collection stands still, if it does: what is in its way is to be mended, and the recode asked for again.
    pub fn recode_stopped(&self, id: CollectionId) -> Option<Error> {
        self.recoding.iter().find(|recode| recode.id == id)?.stopped
    }

    /// The recodes that stand still, and why.
    pub fn stopped_recodes(&self) -> impl Iterator<Item = (CollectionId, Error)> {
        self.recoding.iter().filter_map(|recode| Some((recode.id, recode.stopped?)))
    }

    /// True while a collection is on its way to another codec, whether that goes on or stands still.
    pub(super) fn is_recoding(&self, id: CollectionId) -> Result<bool> {
        if !self.needs.contains(crate::format::Incompatible::RECODE) {
            return Ok(false);
        }
        let loaded = if_whole(load(self, id))?;
        Ok(loaded.is_some_and(|loaded| matches!(loaded.recoding(), Ok(Some(_)))))
    }

    /// A step of the first recode that does not stand still; `None` if there is none. Gives whether it did any, and
    /// whether there may be more to do, now or after a commit.
    pub(super) fn recode_next(&mut self, now: Time) -> Result<Option<(bool, bool)>> {
        let Some(index) = self.recoding.iter().position(|recode| recode.stopped.is_none()) else {
            return Ok(None);
        };
        let id = self.recoding[index].id;
        let step = self.recode_step(id, now);
        match &step {
            Ok((_, true)) => {}
            // A commit brings space, and time brings memory.
            Err(Error::NoSpace { pending }) if *pending > 0 => {}
            Err(Error::NoMemory) => {}
            Err(error) => {
                if let Some(recode) = self.recoding.get_mut(index) {
                    recode.stopped = Some(*error);
                }
            }
            Ok((_, false)) => self.forget_recode(id),
        }
        step.map(Some)
    }

    /// Codes some rows of a collection for its second matrix, or makes that its matrix when all are in it. Gives whether it did
    /// any, and whether there is more to do, now or after a commit.
    ///
    /// # Errors
    /// `VectorChecksum` for a damaged row, which is not given a checksum that says it were whole; `Invalid` for a value that
    /// the codec cannot store; `NoSpace`.
    pub fn recode_step(&mut self, id: CollectionId, now: Time) -> Result<(bool, bool)> {
        let loaded = match load(self, id) {
            Err(Error::NotFound) => return Ok((false, false)),
            other => other?,
        };
        let Some(target) = loaded.target()? else { return Ok((false, false)) };
        let most = if self.space.ready() > PLENTY { STEP_MANY } else { STEP };
        let (from, to) = loaded.row_keys(loaded.matrices.next.get());
        let (rows, chunks) = some_rows(self, &target, (from, to), most)?;
        if !rows.is_empty() {
            self.code(id, &rows, chunks, true, now)?;
            return Ok((true, true));
        }
        // Rows that changed since they were coded.
        let changed = (loaded.redo_key(0), loaded.redo_key(u64::MAX));
        let (again, chunks) = some_rows(self, &target, changed, most)?;
        if !again.is_empty() {
            self.code(id, &again, chunks, false, now)?;
            return Ok((true, true));
        }
        // Bytes that lie in rows for vectors on their way are in the old codec.
        if self.has_staged(id) {
            return Ok((false, true));
        }
        self.switch(id, now)?;
        Ok((true, false))
    }

    // Codes rows in one transaction; if they are `new`, the recode has come behind the last of them.
    fn code(&mut self, id: CollectionId, rows: &[u64], chunks: u64, new: bool, now: Time) -> Result<()> {
        // Each row's record, its extent or its `Redo` record.
        let budget = self.row_budget((chunks * CHUNK) as usize, 2 * rows.len() as u64);
        self.transact(budget, now, |tx| {
            let mut loaded = load(tx, id)?;
            let Some(mut target) = loaded.target()? else { return Ok(()) };
            if new {
                for run in runs(rows, &target)? {
                    code_run(tx, &loaded, &mut target, &rows[run])?;
                }
                loaded.matrices.next = U64::new(rows.last().map_or(0, |row| row + 1));
                loaded.store(tx)?;
            } else {
                for row in rows {
                    code_again(tx, &loaded, &mut target, *row)?;
                }
            }
            Ok(())
        })
    }

    // Makes the second matrix the collection's.
    fn switch(&mut self, id: CollectionId, now: Time) -> Result<()> {
        memory::reserve(&mut self.retired, 1)?;
        let old = self.transact(Budget::records(12), now, |tx| {
            let mut loaded = load(tx, id)?;
            let Some(target) = loaded.target()? else { return Err(Error::NotFound) };
            keep_capacity(tx, &loaded, &target)?;
            let old = loaded.matrix();
            loaded.drop_target();
            loaded.store_at(tx, old)?;
            give_up_matrix(tx, old)?;
            let before = loaded.record.changes.get();
            loaded = Loaded { matrices: target.matrices, ..target };
            tx.volume.recent.note_all(id, before);
            loaded.record.changes = U64::new(before.wrapping_add(1));
            loaded.record.modified = tx.now.into();
            loaded.store(tx)?;
            tell_switch(tx, &loaded)?;
            Ok(old)
        })?;
        memory::append(&mut self.retired, old);
        Ok(())
    }

    /// Notes that a collection is on its way to another codec, and that nothing is in the way any more.
    pub(super) fn note_recode(&mut self, id: CollectionId) -> Result<()> {
        if let Some(known) = self.recoding.iter_mut().find(|recode| recode.id == id) {
            known.stopped = None;
            return Ok(());
        }
        memory::push(&mut self.recoding, Recode { id, stopped: None })
    }

    /// A collection is on its way to no other codec any more.
    pub(super) fn forget_recode(&mut self, id: CollectionId) {
        self.recoding.retain(|recode| recode.id != id);
    }

    /// Matrices that were replaced since the mount and are still there, for whoever has them open. The host calls
    /// [`Volume::free_retired`] for each that nobody has open, by [`Volume::matrix_of`]; what is left the next mount frees.
    pub fn retired(&self) -> &[Ino] {
        &self.retired
    }

    /// One bounded step of freeing a matrix that was replaced, which nobody has open and nobody can open meanwhile; true when there
    /// is no more to do. Until a commit after its replacement there is nothing: its vectors are what a crash would lead back to.
    pub fn free_retired(&mut self, matrix: Ino, now: Time) -> Result<bool> {
        if !self.retired.contains(&matrix) || !self.may_wipe() {
            return Ok(true);
        }
        let done = self.reap(matrix, now)?;
        if done {
            self.retired.retain(|retired| *retired != matrix);
            self.forget_codebook(matrix);
        }
        Ok(done)
    }
}

/// Takes the only link of a matrix and has it freed, in steps.
pub(super) fn give_up_matrix<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, matrix: Ino) -> Result<()> {
    let mut record = inode::load(tx, matrix)?;
    record.links = U32::ZERO;
    inode::store(tx, matrix, &record)?;
    orphan::add(tx, matrix, OrphanKind::Delete)
}

/// True if a matrix is neither its collection's nor going to be.
pub(super) fn is_unused<N: crate::volume::Nodes>(nodes: &N, matrix: Ino) -> Result<bool> {
    let Some((id, control::MATRIX)) = collection_part(matrix) else { return Ok(false) };
    match load(nodes, id) {
        Err(Error::NotFound) => Ok(true),
        Err(error) => Err(error),
        Ok(loaded) => Ok(loaded.matrix() != matrix && !loaded.own_matrices().contains(&Some(matrix))),
    }
}

/// Removes up to `limit` records of the rows of a collection's first matrix, which lie at its directory; gives how many.
pub(super) fn free_rows_of_first<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    matrix: Ino,
    limit: u64,
) -> Result<u64> {
    let Some((id, control::MATRIX)) = collection_part(matrix) else { return Ok(0) };
    if matrix != numbered_matrix(id, 0) {
        return Ok(0);
    }
    let directory = collection_directory(id);
    let (from, to) = (Key::new(directory, Kind::Row, 0), Key::last(directory, Kind::Row));
    tree::remove_range(tx, from, to, limit)
}

fn begin<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, id: CollectionId, codec: Codec) -> Result<()> {
    let mut loaded = load(tx, id)?;
    if !codec::takes(codec, loaded.element()?) {
        return Err(super::collection::WRONG_CODEC);
    }
    let number = new_matrix(tx, &mut loaded, 1)?;
    set_out(tx, &mut loaded, number, codec)
}

/// Gives a collection one more matrix, of so many links, for which it has no use yet; gives its number.
pub(super) fn new_matrix<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    links: u32,
) -> Result<u32> {
    let id = loaded.id;
    let number = loaded.matrices.last.get() + 1;
    if number >= MATRIX_NUMBERS {
        return Err(Error::Unsupported(
            "the collection was recoded so often that no number is left for a matrix: export it into another one",
        ));
    }
    loaded.set_last(number);
    let directory = inode::load(tx, collection_directory(id))?;
    let (uid, gid) = (directory.uid.get(), directory.gid.get());
    let new = NewInode { kind: FileKind::Regular, permissions: 0, umask: 0, uid, gid, device: 0 };
    let mut record = InodeRecord::new(&new, collection_directory(id), tx.now);
    record.links = U32::new(links);
    inode::store(tx, numbered_matrix(id, number), &record)?;
    Ok(number)
}

/// Puts a collection on its way to a matrix that it has, and to this codec.
pub(super) fn set_out<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    number: u32,
    codec: Codec,
) -> Result<()> {
    loaded.set_target(number, codec);
    tx.event(Event { inode: loaded.part(control::SCHEMA), offset: 0, len: 0 })?;
    loaded.store(tx)
}

// The first rows with keys in a range: as many as a transaction can write, and at most `most`; and in how many chunks of the
// second matrix they lie.
fn some_rows<H: BlockDevice + Data>(
    volume: &Volume<H>,
    target: &Loaded,
    (from, to): (Key, Key),
    most: u64,
) -> Result<(Vec<u64>, u64)> {
    let (mut found, mut chunks, mut end) = (Vec::new(), 0, 0);
    tree::scan(volume, from, to, &mut |key, _| {
        let (first, last) = chunks_of(target, key.offset);
        let more = (last + 1).saturating_sub(first.max(end));
        if !found.is_empty() && chunks + more > STEP_CHUNKS {
            return Ok(false);
        }
        memory::push(&mut found, key.offset)?;
        (chunks, end) = (chunks + more, last + 1);
        Ok((found.len() as u64) < most)
    })?;
    Ok((found, chunks))
}

// The first and the last chunk of a matrix that a row lies in.
fn chunks_of(target: &Loaded, row: u64) -> (u64, u64) {
    let (start, end) = (target.row_offset(row), target.row_offset(row.saturating_add(1)));
    (start / CHUNK, end.saturating_sub(1).max(start) / CHUNK)
}

// Rows as runs that are written at once, those that follow one another or lie in the same chunk.
fn runs(rows: &[u64], target: &Loaded) -> Result<Vec<Range<usize>>> {
    let near =
        |row: &u64, next: &u64| *next == row + 1 || chunks_of(target, *next).0 <= chunks_of(target, *row).1;
    let (mut runs, mut end) = (Vec::new(), 0);
    for run in rows.chunk_by(near) {
        memory::push(&mut runs, end..end + run.len())?;
        end += run.len();
    }
    Ok(runs)
}

// Codes rows of one run; what lies between them has no vector, and is blanked.
fn code_run<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    target: &mut Loaded,
    rows: &[u64],
) -> Result<()> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
    let (stride, len) = (target.record.stride.get() as usize, target.stored_len());
    let mut bytes = memory::zeroed((last - first + 1) as usize * stride)?;
    for row in bytes.chunks_exact_mut(stride) {
        codec::fill_blank(target.codec()?, target.element()?, &mut row[..len]);
    }
    for row in rows {
        let found: Option<RowRecord> = tree::record(tx, loaded.row_key(*row), "row of collection")?;
        let gone = Error::corrupt("row of collection", collection_directory(loaded.id).0, "gone meanwhile");
        let stored = code_row(tx, loaded, target, *row, &found.ok_or(gone)?)?;
        let start = (row - first) as usize * stride;
        bytes[start..start + len].copy_from_slice(&stored);
    }
    target.write_rows(tx, *first, &bytes)
}

// Codes a row that changed since it was coded, if it still has a vector.
fn code_again<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    target: &mut Loaded,
    row: u64,
) -> Result<()> {
    let found: Option<RowRecord> = tree::record(tx, loaded.row_key(row), "row of collection")?;
    if let Some(record) = found {
        let stored = code_row(tx, loaded, target, row, &record)?;
        target.write_row(tx, row, &stored)?;
    }
    tree::remove(tx, loaded.redo_key(row)).map(drop)
}

// Puts a row's record for the second matrix, and gives the bytes that belong to it.
fn code_row<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    target: &Loaded,
    row: u64,
    record: &RowRecord,
) -> Result<Vec<u8>> {
    if !record.header.known() {
        let directory = collection_directory(loaded.id).0;
        return Err(Error::corrupt("row of collection", directory, "not a vector header"));
    }
    let value = read_row(tx, tx.volume, loaded, row, record)?;
    let mut stored = memory::zeroed(target.stored_len())?;
    let scale = codebook::encode_in(tx, target, &value, &mut stored)?;
    let mut coded = *record;
    coded.scale = U32::new(scale);
    coded.header.compression = U16::new(target.codec()?.number());
    coded.header.compressed_size = U32::new(stored.len() as u32);
    coded.header.checksum = U32::new(crc32(&stored));
    target.put_row(tx, row, &coded)?;
    Ok(stored)
}

// The columns have as many entries as the matrix has room for, and whoever mapped them must not see their end move.
fn keep_capacity<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    target: &Loaded,
) -> Result<()> {
    let mut record = target.matrix_record(tx)?;
    let rows = loaded.capacity(tx)?.saturating_mul(u64::from(target.record.stride.get()));
    let size = if rows == 0 { 0 } else { rows.saturating_add(MATRIX_DATA).next_multiple_of(CHUNK) };
    record.size = U64::new(record.size.get().max(size));
    inode::store(tx, target.matrix(), &record)
}

// All headers changed, and the columns may have got longer; matrix and scales are other files.
fn tell_switch<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, loaded: &Loaded) -> Result<()> {
    let rows = loaded.record.rows.get();
    let headers = MATRIX_DATA + rows * size_of::<crate::format::VectorHeader>() as u64;
    for (part, len) in [
        (control::HEADERS, headers),
        (control::VALID, MATRIX_DATA),
        (control::MATRIX, 0),
        (control::SCALE, 0),
        (control::GENERATION, MATRIX_DATA + control::GENERATION_LEN),
        (control::CODEBOOK, 0),
        (control::SCHEMA, 0),
        (0, 0),
    ] {
        tx.event(Event { inode: loaded.part(part), offset: 0, len })?;
    }
    for column in columns::columns(tx, loaded.id)? {
        tx.event(Event { inode: column.inode(loaded.id), offset: 0, len: MATRIX_DATA })?;
    }
    Ok(())
}
