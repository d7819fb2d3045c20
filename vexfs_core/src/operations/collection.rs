//! Collections: their records, their rows, the growth of their matrix.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::extents::{self, Extent};
use super::types::{Attributes, Caller, Collection, NewCollection, NewInode, Removed};
use super::vector_name::{VectorName, check_collection_name};
use super::{directory, inode, orphan, write};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    BlankRecord, COLLECTION_MODEL_MAX, COLLECTIONS, Codec, CollectionRecord, Element, FileKind,
    FreeRowsRecord, InodeRecord, Key, Kind, MATRIX_DATA, Metric, OrphanKind, collection_directory,
    collection_matrix, collection_part, parse, parse_exact,
};
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Implicit, Nodes, Volume};

/// Bytes that a matrix grows by at least; its chunks are given back as a whole.
pub(crate) const CHUNK: u64 = 64 << 10;
/// Bytes that a matrix grows by at most.
pub(crate) const GROWTH_MAX: u64 = 16 << 20;
/// Bytes of a vector at most: what an attribute can hold.
const VECTOR_MAX: usize = 65536;
const DIMENSION: &[u8] = b"user.vexfs.dim";
const ELEMENT: &[u8] = b"user.vexfs.element";
const METRIC: &[u8] = b"user.vexfs.metric";
const MODEL: &[u8] = b"user.vexfs.model";
const CODEC: &[u8] = b"user.vexfs.codec";
/// How many numbers a collection can have: its inodes must stay below 2^63.
const IDS_MAX: u32 = u32::MAX;

/// A collection's record and model name, to be changed and stored again.
pub(crate) struct Loaded {
    /// Its number.
    pub(crate) id: CollectionId,
    /// The record.
    pub(crate) record: CollectionRecord,
    model: Vec<u8>,
}

/// The number of the collection with this name.
pub(crate) fn find<N: Nodes>(nodes: &N, name: &[u8]) -> Result<Option<CollectionId>> {
    match directory::entry(nodes, COLLECTIONS, name)? {
        Some(found) => match collection_part(found.inode) {
            Some((id, 0)) => Ok(Some(id)),
            _ => Err(Error::corrupt("directory", COLLECTIONS.0, "an entry that is no collection")),
        },
        None => Ok(None),
    }
}

/// The collection with this number.
pub(crate) fn load<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Loaded> {
    let directory = collection_directory(id);
    let bad = |why| Error::corrupt("collection", directory.0, why);
    let found = tree::find(nodes, Key::new(directory, Kind::Collection, 0), |value| {
        let (record, model): (&CollectionRecord, _) = parse(value, "collection", directory.0)?;
        if model.len() != usize::from(record.model_len.get()) {
            return Err(bad("model name of a wrong length"));
        }
        Ok(Loaded { id, record: *record, model: memory::copy(model)? })
    })?;
    let loaded = found.ok_or(Error::NotFound)?;
    let element = loaded.element()?;
    let bytes = element.bytes(loaded.record.dimensions.get()).ok_or(bad("impossible dimension"))?;
    if bytes as usize > VECTOR_MAX || loaded.record.stride.get() != bytes.next_multiple_of(64) {
        return Err(bad("impossible row length"));
    }
    Codec::from_u16(loaded.record.codec.get()).ok_or(bad("unknown codec"))?;
    Metric::from_u16(loaded.record.metric.get()).ok_or(bad("unknown metric"))?;
    let (rows, live, frontier) =
        (loaded.record.rows.get(), loaded.record.live.get(), loaded.record.frontier.get());
    if live > rows || rows > frontier || frontier > 1 << 46 {
        return Err(bad("impossible row counts"));
    }
    Ok(loaded)
}

/// The name of a collection.
pub(crate) fn name<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Vec<u8>> {
    let inode = collection_directory(id);
    let bad = Error::corrupt("collection", inode.0, "has no name");
    let (from, to) = (Key::new(inode, Kind::Link, 0), Key::last(inode, Kind::Link));
    let (_, value) = tree::first(nodes, from, to)?.ok_or(bad)?;
    let link: &crate::format::LinkRecord = parse_exact(&value, "collection", inode.0)?;
    tree::find(nodes, Key::new(COLLECTIONS, Kind::Dirent, link.cookie.get()), |value| {
        memory::copy(directory::decode(COLLECTIONS, value)?.1)
    })?
    .ok_or(bad)
}

impl Loaded {
    /// The element type.
    pub(crate) fn element(&self) -> Result<Element> {
        Element::from_u16(self.record.element.get()).ok_or(Error::corrupt(
            "collection",
            collection_directory(self.id).0,
            "unknown element type",
        ))
    }

    /// Bytes of a vector; 0 until the dimension is fixed.
    pub(crate) fn vector_len(&self) -> usize {
        match self.element() {
            Ok(element) => element.bytes(self.record.dimensions.get()).unwrap_or(0) as usize,
            Err(_) => 0,
        }
    }

    /// Rows that the columns have room for; it never shrinks while the collection lives.
    pub(crate) fn capacity<N: Nodes>(&self, nodes: &N) -> Result<u64> {
        let size = inode::load(nodes, collection_matrix(self.id))?.size.get();
        let stride = u64::from(self.record.stride.get());
        Ok(size.saturating_sub(MATRIX_DATA).checked_div(stride).unwrap_or(0))
    }

    /// Fails if the name asks for another element type.
    pub(crate) fn check_element(&self, asked: Option<Element>) -> Result<()> {
        let holds = self.element()?;
        match asked {
            Some(asked) if asked != holds => {
                Err(Error::WrongElement { holds: holds.name(), asked: asked.name() })
            }
            _ => Ok(()),
        }
    }

    /// Fails unless `value` can be a vector here; fixes the dimension with the first one.
    pub(crate) fn accept(&mut self, asked: Option<Element>, value: &[u8]) -> Result<()> {
        self.check_element(asked)?;
        let element = self.element()?;
        if self.record.dimensions.get() == 0 {
            self.record.dimensions = U32::new(dimensions(element, value.len())?);
            self.record.stride = U32::new((value.len() as u32).next_multiple_of(64));
        }
        let expected = self.vector_len();
        if value.len() != expected {
            return Err(Error::WrongLength {
                dimensions: self.record.dimensions.get(),
                element: element.name(),
                expected: expected as u64,
                got: value.len() as u64,
            });
        }
        match first_not_finite(element, value) {
            Some(index) => Err(Error::NotFinite { index }),
            None => Ok(()),
        }
    }

    /// Takes the lowest free row, or one behind all.
    pub(crate) fn take_row<H: BlockDevice + Data>(&mut self, tx: &mut Transaction<'_, H>) -> Result<u64> {
        let directory = collection_directory(self.id);
        let (from, to) = (Key::new(directory, Kind::FreeRows, 0), Key::last(directory, Kind::FreeRows));
        let Some((key, value)) = tree::first(tx, from, to)? else {
            let row = self.record.frontier.get();
            self.record.frontier = U64::new(row + 1);
            return Ok(row);
        };
        let count = free_count(self.id, &value)?;
        tree::remove(tx, key)?;
        if count > 1 {
            let rest = FreeRowsRecord { count: U64::new(count - 1) };
            tree::put(tx, Key { offset: key.offset + 1, ..key }, rest.as_bytes())?;
        }
        Ok(key.offset)
    }

    /// Writes a row's bytes, and zeros up to the next row; makes room for them first.
    pub(crate) fn write_row<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        value: &[u8],
    ) -> Result<()> {
        let matrix = collection_matrix(self.id);
        let mut record = inode::load(tx, matrix)?;
        let before = record;
        let offset = self.row_offset(row);
        let mut bytes = memory::copy(value)?;
        let padding = memory::zeroed(self.record.stride.get() as usize - value.len())?;
        memory::extend(&mut bytes, &padding)?;
        self.make_room(tx, &mut record, offset, offset + bytes.len() as u64)?;
        write::write_now(tx, matrix, &mut record, offset, &bytes)?;
        if record != before {
            inode::store(tx, matrix, &record)?;
        }
        Ok(())
    }

    /// Counts a row in.
    pub(crate) fn row_taken<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
    ) -> Result<()> {
        self.record.live = U64::new(self.record.live.get() + 1);
        let rows = self.record.rows.get().max(row + 1);
        self.row_changed(tx, row, rows, true)
    }

    /// Counts a row out.
    pub(crate) fn row_freed<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
    ) -> Result<()> {
        self.record.live = U64::new(self.record.live.get().saturating_sub(1));
        let mut rows = self.record.rows.get();
        if row + 1 == rows {
            let directory = collection_directory(self.id);
            let (from, to) = (Key::new(directory, Kind::Row, 0), Key::last(directory, Kind::Row));
            rows = tree::last(tx, from, to)?.map_or(0, |(key, _)| key.offset + 1);
        }
        self.row_changed(tx, row, rows, false)
    }

    /// Stores the record.
    pub(crate) fn store<H: BlockDevice + Data>(&self, tx: &mut Transaction<'_, H>) -> Result<()> {
        let mut bytes = memory::copy(self.record.as_bytes())?;
        memory::extend(&mut bytes, &self.model)?;
        tree::put(tx, Key::new(collection_directory(self.id), Kind::Collection, 0), &bytes)
    }

    /// What it shows to the outside.
    pub(crate) fn show(&self) -> Result<Collection> {
        let record = &self.record;
        Ok(Collection {
            id: self.id,
            dimensions: record.dimensions.get(),
            element: self.element()?,
            stride: record.stride.get(),
            metric: Metric::from_u16(record.metric.get()).unwrap_or(Metric::Cosine),
            model: memory::copy(&self.model)?,
            rows: record.rows.get(),
            live: record.live.get(),
            changes: record.changes.get(),
        })
    }

    fn row_changed<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        rows: u64,
        matrix: bool,
    ) -> Result<()> {
        let directory = collection_directory(self.id).0;
        let stride = u64::from(self.record.stride.get());
        self.record.changes = U64::new(self.record.changes.get() + 1);
        self.record.modified = tx.now.into();
        let resized = self.record.rows.get() != rows;
        self.record.rows = U64::new(rows);
        let columns = [(control::MATRIX, stride), (control::HEADERS, 64), (control::VALID, 1)];
        for (part, width) in columns {
            let inode = Ino(directory + part);
            if part != control::MATRIX || matrix {
                tx.event(Event { inode, offset: MATRIX_DATA + row * width, len: width })?;
            }
            if resized {
                tx.event(Event { inode, offset: 0, len: MATRIX_DATA })?;
            }
        }
        tx.event(Event { inode: Ino(directory + control::SCHEMA), offset: 0, len: 0 })
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
        let matrix = collection_matrix(self.id);
        let size = record.size.get();
        if to > size {
            let growth = (size / 8).max(1).next_power_of_two().clamp(CHUNK, GROWTH_MAX);
            let end = to.max(size + growth).next_multiple_of(CHUNK);
            let chunk_end = to.next_multiple_of(CHUNK);
            if grow(tx, matrix, record, size, end).is_err() {
                // Nearly full: as little as will do.
                grow(tx, matrix, record, size, chunk_end)?;
                record.size = U64::new(chunk_end);
            } else {
                record.size = U64::new(end);
            }
        }
        let (first, last) = (from / CHUNK * CHUNK, to.next_multiple_of(CHUNK).min(record.size.get()));
        extents::fill_holes(tx, matrix, record, first / block_size, last / block_size)?;
        Ok(())
    }
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
    if tx.volume.space.ready() < count + tx.volume.space.reserve() {
        return Err(Error::NoSpace { pending: tx.volume.space.pending() });
    }
    let goal = extents::goal(tx, matrix, first)?;
    if count.is_power_of_two() {
        if let Some(run) = tx.take_aligned(count.trailing_zeros(), goal)? {
            let birth = tx.generation();
            record.blocks.set(record.blocks.get() + count);
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
        rest = true;
        if blank.generation.get() <= durable || cfg!(vexfs_bug = "blank_before_durable") {
            memory::push(&mut rows, key.offset)?;
        }
        Ok((rows.len() as u64) < limit)
    })?;
    if rows.is_empty() {
        return Ok((false, rest));
    }
    blank_bytes(volume, &loaded, &rows)?;
    volume.transact(Budget::freeing(4 * limit + 2 * orphan::STEP), now, |tx| {
        let mut loaded = load(tx, id)?;
        for row in &rows {
            tree::remove(tx, Key::new(directory, Kind::Blank, *row))?;
            give_row(tx, &mut loaded, *row)?;
        }
        give_chunks(tx, &mut loaded, &rows)?;
        loaded.store(tx)
    })?;
    Ok((true, true))
}

// Overwrites dead rows where they lie: NaN in floats, else zero. The transaction that makes them free comes after.
fn blank_bytes<H: BlockDevice + Data>(volume: &mut Volume<H>, loaded: &Loaded, rows: &[u64]) -> Result<()> {
    let matrix = collection_matrix(loaded.id);
    let mut bytes = memory::zeroed(loaded.record.stride.get() as usize)?;
    fill_blank(loaded.element()?, &mut bytes[..loaded.vector_len()]);
    for row in rows {
        let offset = loaded.row_offset(*row);
        let mut scratch = memory::zeroed(bytes.len())?;
        for (range, place) in super::file::pieces(volume, matrix, offset, &mut scratch)? {
            volume.host.write_at(place, &bytes[range])?;
        }
        memory::push(&mut volume.events, Event { inode: matrix, offset, len: bytes.len() as u64 })?;
    }
    Ok(())
}

/// Fills bytes with what a dead row shows: quiet NaN in floats, else zero.
pub(crate) fn fill_blank(element: Element, bytes: &mut [u8]) {
    let pattern: &[u8] = match element {
        Element::F32 => &[0, 0, 0xc0, 0x7f],
        Element::F16 => &[0, 0x7e],
        _ => &[0],
    };
    for (to, from) in bytes.iter_mut().zip(pattern.iter().cycle()) {
        *to = *from;
    }
}

// Adds a row to the runs of free ones.
fn give_row<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, loaded: &mut Loaded, row: u64) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let key = |row| Key::new(directory, Kind::FreeRows, row);
    let (mut start, mut count) = (row, 1);
    if let Some((before, value)) = tree::last(tx, key(0), key(row))? {
        let len = free_count(loaded.id, &value)?;
        if before.offset.checked_add(len) == Some(row) {
            (start, count) = (before.offset, len + 1);
        }
    }
    let after = tree::find(tx, key(row + 1), memory::copy)?;
    if let Some(value) = after {
        count += free_count(loaded.id, &value)?;
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
    loaded: &mut Loaded,
    rows: &[u64],
) -> Result<()> {
    let block_size = u64::from(tx.geometry().block_size);
    let directory = collection_directory(loaded.id);
    let matrix = collection_matrix(loaded.id);
    let mut record = inode::load(tx, matrix)?;
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
            let end = key.offset + free_count(loaded.id, &value)?;
            // Only what lies around this row: a long run is looked at row by row as it grows.
            let chunk = loaded.row_offset(*row) / CHUNK * CHUNK;
            let reach = loaded.row_offset(row + 1).next_multiple_of(CHUNK);
            (loaded.row_offset(key.offset).max(chunk), loaded.row_offset(end).min(reach))
        };
        // The first chunk holds no row before byte 4096.
        let from = if from <= MATRIX_DATA { 0 } else { from.next_multiple_of(CHUNK) };
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

fn free_count(id: CollectionId, value: &[u8]) -> Result<u64> {
    let record: &FreeRowsRecord = parse_exact(value, "collection", collection_directory(id).0)?;
    match record.count.get() {
        0 => Err(Error::corrupt("collection", collection_directory(id).0, "an empty run of free rows")),
        count if count > 1 << 46 => {
            Err(Error::corrupt("collection", collection_directory(id).0, "an impossible run of free rows"))
        }
        count => Ok(count),
    }
}

fn dimensions(element: Element, bytes: usize) -> Result<u32> {
    if bytes == 0 || bytes > VECTOR_MAX {
        return Err(Error::Invalid("a vector has 1 to 65536 bytes"));
    }
    element
        .dimensions(bytes as u32)
        .ok_or(Error::Invalid("the vector's length is no multiple of its element's size"))
}

// The index of the first NaN or infinity, told by its exponent bits.
fn first_not_finite(element: Element, value: &[u8]) -> Option<u32> {
    let found = match element {
        Element::F32 => {
            value.chunks_exact(4).position(|bytes| bytes[3] & 0x7f == 0x7f && bytes[2] & 0x80 != 0)
        }
        Element::F16 => value.chunks_exact(2).position(|bytes| bytes[1] & 0x7c == 0x7c),
        _ => None,
    };
    found.map(|index| index as u32)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Creates an empty collection.
    pub fn create_collection(
        &mut self,
        name: &[u8],
        new: &NewCollection<'_>,
        now: Time,
    ) -> Result<CollectionId> {
        self.transact(Budget::records(16), now, |tx| create(tx, name, new))
    }

    /// The collection with this name.
    pub fn collection_by_name(&self, name: &[u8]) -> Result<Collection> {
        let id = find(self, name)?.ok_or(Error::NotFound)?;
        load(self, id)?.show()
    }

    /// The collection with this number.
    pub fn collection(&self, id: CollectionId) -> Result<Collection> {
        load(self, id)?.show()
    }

    /// The name of a collection.
    pub fn collection_name(&self, id: CollectionId) -> Result<Vec<u8>> {
        name(self, id)
    }

    /// `mkdir` in the control directory.
    pub(crate) fn create_in_control(
        &mut self,
        parent: Ino,
        name: &[u8],
        new: &NewInode,
        now: Time,
    ) -> Result<Attributes> {
        if parent != COLLECTIONS || new.kind != FileKind::Directory {
            return Err(Error::NotPermitted("the control directory holds only collections, made with mkdir"));
        }
        let settings = NewCollection {
            dimensions: 0,
            element: Element::F32,
            metric: Metric::Cosine,
            model: b"",
            uid: new.uid,
            gid: new.gid,
            permissions: new.permissions,
        };
        let id = self.create_collection(name, &settings, now)?;
        self.attributes(collection_directory(id))
    }

    /// `rmdir` in the control directory.
    pub(crate) fn remove_collection(&mut self, parent: Ino, name: &[u8], now: Time) -> Result<Removed> {
        if parent != COLLECTIONS {
            return Err(Error::NotPermitted("only collections can be removed from the control directory"));
        }
        let found = directory::entry(self, COLLECTIONS, name)?.ok_or(Error::NotFound)?;
        let id = find(self, name)?.ok_or(Error::NotFound)?;
        if load(self, id)?.record.live.get() != 0 {
            return Err(Error::NotEmpty);
        }
        self.load_waiting()?;
        self.transact(Budget::freeing(12), now, |tx| {
            let mut parent = inode::load(tx, COLLECTIONS)?;
            directory::remove_entry(tx, COLLECTIONS, &found)?;
            directory::count_entry(&mut parent, -1, -1, tx.now);
            inode::store(tx, COLLECTIONS, &parent)?;
            tree::remove(tx, Key::new(found.inode, Kind::Collection, 0))?;
            orphan::add(tx, found.inode, OrphanKind::Collection)
        })?;
        memory::push(&mut self.waiting, found.inode)?;
        Ok(Removed { inode: found.inode, links: 0 })
    }

    /// Changes a setting of an empty collection.
    pub(crate) fn set_setting(&mut self, inode: Ino, name: &[u8], value: &[u8], now: Time) -> Result<()> {
        let Some((id, 0)) = collection_part(inode) else {
            return Err(Error::NotPermitted(
                "user.vexfs attributes are set on a collection's directory alone",
            ));
        };
        self.transact(Budget::records(4), now, |tx| {
            let mut loaded = load(tx, id)?;
            if loaded.record.live.get() != 0 || loaded.record.frontier.get() != 0 {
                return Err(Error::NotPermitted("a collection can be configured only while it is empty"));
            }
            change_setting(&mut loaded, name, value)?;
            loaded.store(tx)
        })
    }
}

/// The first vector of a collection that does not exist makes it.
pub(crate) fn create_implicit<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    wanted: &VectorName<'_>,
    len: usize,
    caller: &Caller<'_>,
) -> Result<CollectionId> {
    let allowed = match tx.volume.options.implicit {
        Implicit::Off => false,
        Implicit::Owner(uid) => caller.uid == uid || caller.uid == 0,
        Implicit::Any => true,
    };
    if !allowed {
        return Err(Error::AccessDenied(
            "there is no such collection, and you may not make one by setting a vector",
        ));
    }
    let element = wanted.element.unwrap_or(Element::F32);
    let new = NewCollection {
        dimensions: dimensions(element, len)?,
        element,
        metric: if element == Element::Bit { Metric::Hamming } else { Metric::Cosine },
        model: b"",
        uid: caller.uid,
        gid: caller.gid,
        permissions: 0o700,
    };
    create(tx, wanted.collection, &new)
}

/// Fails unless the caller may put vectors into the collection.
pub(crate) fn check_access<N: Nodes>(nodes: &N, id: CollectionId, caller: &Caller<'_>) -> Result<()> {
    let record = inode::load(nodes, collection_directory(id))?;
    let mode = record.mode.get();
    let bit = if caller.uid == record.uid.get() {
        0o200
    } else if caller.gid == record.gid.get() || (caller.in_group)(record.gid.get()) {
        0o020
    } else {
        0o002
    };
    if caller.uid == 0 || mode & bit != 0 {
        return Ok(());
    }
    Err(Error::AccessDenied("no write permission on the collection"))
}

fn create<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    name: &[u8],
    new: &NewCollection<'_>,
) -> Result<CollectionId> {
    check_collection_name(name)?;
    if new.model.len() > COLLECTION_MODEL_MAX {
        return Err(Error::Invalid("the model's name is longer than 255 bytes"));
    }
    let bytes = new.element.bytes(new.dimensions).filter(|bytes| *bytes as usize <= VECTOR_MAX);
    let bytes = bytes.ok_or(Error::Invalid(
        "dimension out of range: a vector has at most 65536 bytes, bits come in eights",
    ))?;
    let mut parent = directory::check_new(tx, COLLECTIONS, name)?;
    if tx.counters.next_collection == IDS_MAX {
        return Err(Error::NoSpace { pending: 0 });
    }
    let id = CollectionId(tx.counters.next_collection);
    tx.counters.next_collection += 1;
    let inode = collection_directory(id);
    directory::add_entry(tx, COLLECTIONS, name, inode, FileKind::Directory)?;
    directory::count_entry(&mut parent, 1, 1, tx.now);
    inode::store(tx, COLLECTIONS, &parent)?;
    let NewCollection { uid, gid, permissions, .. } = *new;
    let directory_inode = NewInode { kind: FileKind::Directory, permissions, uid, gid, device: 0 };
    inode::store(tx, inode, &InodeRecord::new(&directory_inode, COLLECTIONS, tx.now))?;
    let matrix = NewInode { kind: FileKind::Regular, permissions: 0, ..directory_inode };
    inode::store(tx, collection_matrix(id), &InodeRecord::new(&matrix, inode, tx.now))?;
    let record = CollectionRecord {
        dimensions: U32::new(new.dimensions),
        stride: U32::new(bytes.next_multiple_of(64)),
        element: U16::new(new.element as u16),
        codec: U16::new(Codec::None as u16),
        metric: U16::new(new.metric as u16),
        model_len: U16::new(new.model.len() as u16),
        rows: U64::ZERO,
        live: U64::ZERO,
        changes: U64::ZERO,
        frontier: U64::ZERO,
        modified: tx.now.into(),
        reserved: U32::ZERO,
    };
    Loaded { id, record, model: memory::copy(new.model)? }.store(tx)?;
    tx.event(Event { inode: COLLECTIONS, offset: 0, len: 0 })?;
    Ok(id)
}

/// The value of a collection's setting, if that is what the name means.
pub(crate) fn setting<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
    use core::fmt::Write;
    let Some((id, 0)) = collection_part(inode) else { return Ok(None) };
    let loaded = load(nodes, id)?;
    let mut text = Text::new();
    match name {
        DIMENSION => write!(text, "{}", loaded.record.dimensions.get()).map_err(|_| Error::NoMemory)?,
        ELEMENT => text.raw(loaded.element()?.name().as_bytes())?,
        METRIC => text.raw(loaded.show()?.metric.name().as_bytes())?,
        MODEL => text.raw(&loaded.model)?,
        CODEC => text.raw(Codec::None.name().as_bytes())?,
        _ => return Ok(None),
    }
    Ok(Some(text.into_bytes()))
}

/// The names of a collection's settings, each with a NUL behind it.
pub(crate) fn settings<N: Nodes>(nodes: &N, inode: Ino) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    if let Some((id, 0)) = collection_part(inode) {
        load(nodes, id)?;
        for name in [DIMENSION, ELEMENT, METRIC, MODEL, CODEC] {
            memory::extend(&mut names, name)?;
            memory::push(&mut names, 0)?;
        }
    }
    Ok(names)
}

fn change_setting(loaded: &mut Loaded, name: &[u8], value: &[u8]) -> Result<()> {
    let number = || core::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match name {
        DIMENSION => {
            let dimension = number().ok_or(Error::Invalid("user.vexfs.dim is a decimal number"))?;
            loaded.record.dimensions = U32::new(dimension);
        }
        ELEMENT => {
            let element = Element::from_name(value)
                .ok_or(Error::Invalid("user.vexfs.element is f32, f16, i8, i16 or bit"))?;
            loaded.record.element = U16::new(element as u16);
        }
        METRIC => {
            let metric = Metric::from_name(value)
                .ok_or(Error::Invalid("user.vexfs.metric is cosine, l2, ip or hamming"))?;
            loaded.record.metric = U16::new(metric as u16);
        }
        MODEL => {
            if value.len() > COLLECTION_MODEL_MAX {
                return Err(Error::Invalid("the model's name is longer than 255 bytes"));
            }
            loaded.model = memory::copy(value)?;
            loaded.record.model_len = U16::new(value.len() as u16);
        }
        CODEC if value == Codec::None.name().as_bytes() => {}
        CODEC => return Err(Error::Unsupported("the only codec there yet is 'none'")),
        _ => return Err(Error::Invalid("unknown setting: use dim, element, metric, model or codec")),
    }
    let bytes = loaded.element()?.bytes(loaded.record.dimensions.get());
    let bytes = bytes.filter(|bytes| *bytes as usize <= VECTOR_MAX);
    let bytes = bytes.ok_or(Error::Invalid(
        "dimension out of range: a vector has at most 65536 bytes, bits come in eights",
    ))?;
    loaded.record.stride = U32::new(bytes.next_multiple_of(64));
    Ok(())
}
