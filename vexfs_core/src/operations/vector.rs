//! Vectors of files: setting, reading, listing, removing.
//!
//! The mapping is two tree records, one at the file and one at the collection, always changed together. A vector
//! goes to a free row first and is switched to in the same transaction; the row it had before gets a `Blank`
//! record, and only after the commit is that row blanked and free.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::collection::{self, Loaded};
use super::inherit::{check_at, made_from};
use super::types::{Caller, FileVector, SetMode};
use super::vector_name::{At, VectorName};
use super::{codebook, file, inode, metadata, past, rows, unlinked, xattr};
use crate::checksum::crc32;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result, if_whole};
use crate::format::{
    BlankRecord, Codec, Element, FileKind, Key, Kind, MATRIX_DATA, RowRecord, VECTOR_MAGIC, VectorHeader,
    VectorRecord, collection_directory, parse_exact,
};
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Sets a vector; creates the collection if it may.
    pub(crate) fn set_vector(
        &mut self,
        inode: Ino,
        name: &VectorName<'_>,
        value: &[u8],
        mode: SetMode,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        control::check_writable(inode)?;
        let existing = collection::find(self, name.collection)?;
        if let Some(id) = existing {
            collection::check_access(self, id, caller)?;
        }
        // Its metadata goes along to another row, and what it was may be kept.
        let more = match if_whole(row_of(self, inode, &VectorName { at: At::Present, ..*name }))? {
            Some((loaded, row)) => {
                let (kept, dropped) = past::budget(self, &loaded);
                2 * metadata::records(self, loaded.id, row)? + kept + dropped
            }
            None => 0,
        };
        let nameless = if_whole(inode::load(self, inode))?.is_some_and(|record| record.links.get() == 0);
        let kept = if nameless { 2 * unlinked::KEPT_RECORDS } else { 0 };
        let budget = self.row_budget(value.len(), more + kept);
        memory::reserve(&mut self.blanks, 1)?;
        let (id, replaced) = self.transact(budget, now, |tx| {
            let id = match existing {
                Some(id) => id,
                None => collection::create_implicit(tx, name, value.len(), caller)?,
            };
            let mut loaded = collection::load(tx, id)?;
            loaded.accept(name.element, value)?;
            let mut record = inode::load(tx, inode)?;
            match record.kind(inode)? {
                FileKind::Regular | FileKind::Directory => {}
                _ => return Err(Error::NotPermitted("only files and directories have vectors")),
            }
            let key = vector_key(inode, id, name.n);
            let old: Option<VectorRecord> = tree::record(tx, key, "vector of inode")?;
            let kept = unlinked::drop_kept(tx, inode, &mut record, name, loaded.element()?)?;
            xattr::check_mode(old.is_some() || kept.is_some(), mode)?;
            let version = made_from(name, &record, old.as_ref())?;
            let (mut created, mut about) = (tx.now.as_nanoseconds(), kept.flatten());
            let mut replaced = None;
            match old {
                Some(old) => {
                    about = metadata::of_row(tx, id, old.row.get())?;
                    let freed = free_row(tx, &mut loaded, inode, name.n, &old)?;
                    created = freed.header.created_timestamp.get();
                    replaced = Some((old.row.get(), freed));
                }
                None => {
                    xattr::check_list(tx, inode, &record, name.listed_len(loaded.element()?))?;
                    record.add_attribute()?;
                }
            }
            let mut stored = memory::zeroed(loaded.stored_len())?;
            let scale = codebook::encode_in(tx, &loaded, value, &mut stored)?;
            let staged = tx.volume.staged_row(id, inode, name.n, crc32(&stored));
            let row = staged.map_or_else(|| loaded.lowest_free(tx, tx.volume), Ok)?;
            loaded.take_rows(tx, row..row + 1)?;
            if staged.is_none() {
                loaded.write_row(tx, row, &stored)?;
            }
            let placed = Placed { row, checksum: crc32(&stored), scale };
            if let Some((row, freed)) = replaced.filter(|_| record.links.get() > 0) {
                past::keep(tx, &loaded, (row, &freed), about.as_deref(), (placed, version))?;
            }
            put_records(tx, &loaded, inode, name.n, placed, version, created)?;
            loaded.row_taken(tx, row, staged.is_some())?;
            if let Some(about) = about {
                metadata::put(tx, id, row, &about)?;
            }
            loaded.store(tx)?;
            if version == record.version.get() {
                record.bound_version = record.version;
            }
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)?;
            Ok((id, old.is_some()))
        })?;
        self.journal.settled.remove(inode.0);
        self.journal.bound(inode);
        self.take_staged(id, inode, name.n);
        if name.at != At::Present {
            self.await_nothing(inode);
        }
        if replaced { self.note_blanks(id) } else { Ok(()) }
    }

    /// What putting a vector of `len` bytes into a row may need, and so many records `more`.
    pub(super) fn row_budget(&self, len: usize, more: u64) -> Budget {
        let blocks = (len as u64).div_ceil(u64::from(self.layout.block_size)) + 1;
        // The largest chunk that the matrix can grow by.
        let growth = rows::GROWTH_MAX / u64::from(self.layout.block_size);
        let room = self.space.ready() / 4;
        Budget::records(40 + more).with_blocks(blocks + growth.min(room))
    }

    /// Removes a vector.
    pub(crate) fn remove_vector(
        &mut self,
        inode: Ino,
        name: &VectorName<'_>,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        control::check_writable(inode)?;
        let id = collection::find(self, name.collection)?.ok_or(Error::NoAttribute)?;
        collection::check_access(self, id, caller)?;
        let past = past::records(self, inode, id, name.n)?;
        memory::reserve(&mut self.blanks, 1)?;
        match self.remove_in(inode, id, name, past, now) {
            // A full volume: the history goes first, in steps.
            Err(Error::NoSpace { .. }) if past > 0 => {
                while self.shed_past(inode, id, name.n, now)? {}
                self.remove_in(inode, id, name, 0, now)?;
            }
            other => other?,
        }
        self.note_blanks(id)
    }

    // Removes a vector with its history, which has `past` records.
    fn remove_in(
        &mut self,
        inode: Ino,
        id: CollectionId,
        name: &VectorName<'_>,
        past: u64,
        now: Time,
    ) -> Result<()> {
        self.transact(Budget::freeing(16 + unlinked::KEPT_RECORDS + past), now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            loaded.check_element(name.element)?;
            let key = vector_key(inode, id, name.n);
            let mut record = inode::load(tx, inode)?;
            match tree::record(tx, key, "vector of inode")? {
                Some(old) => {
                    check_at(name, &old)?;
                    take_out(tx, &mut loaded, inode, name.n, &old)?;
                    record.attributes.set(record.attributes.get().saturating_sub(1));
                }
                None => {
                    let kept = unlinked::drop_kept(tx, inode, &mut record, name, loaded.element()?)?;
                    kept.ok_or(Error::NoAttribute)?;
                }
            }
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)
        })
    }

    /// All vectors of a file, in order of collection and number.
    pub fn vectors_of(&self, inode: Ino, each: &mut dyn FnMut(FileVector)) -> Result<()> {
        scan(self, inode, &mut |id, n, record| {
            each(file_vector(vector_key(inode, id, n), record));
            Ok(())
        })
    }

    /// A file's first vector of this collection or, where it has none of it, of the next one.
    pub fn first_vector(&self, inode: Ino, from: CollectionId) -> Result<Option<FileVector>> {
        let (from, to) = (vector_key(inode, from, 0), Key::last(inode, Kind::Vector));
        let Some((key, value)) = tree::first(self, from, to)? else { return Ok(None) };
        Ok(Some(file_vector(key, parse_exact(&value, "vector of inode", inode.0)?)))
    }

    /// How many vectors a file has.
    pub(crate) fn vector_count(&self, inode: Ino) -> Result<u64> {
        self.linked(inode, false).map(|linked| linked.vectors)
    }

    /// Live rows from `first` on, until `each` gives false.
    pub fn rows_of(
        &self,
        id: CollectionId,
        first: u64,
        each: &mut dyn FnMut(u64, &RowRecord) -> bool,
    ) -> Result<()> {
        let directory = collection_directory(id);
        let (from, to) = collection::load(self, id)?.row_keys(first);
        tree::scan(self, from, to, &mut |key, value| {
            Ok(each(key.offset, parse_exact(value, "row of collection", directory.0)?))
        })
    }
}

fn file_vector(key: Key, record: &VectorRecord) -> FileVector {
    let (collection, n) = vector_of(key);
    let (row, vector_id, version) = (record.row.get(), record.vector_id.get(), record.version.get());
    FileVector { collection, n, row, vector_id, version }
}

/// A superseded vector, by its name.
pub(crate) fn read_past<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    name: &VectorName<'_>,
    back: u32,
) -> Result<Vec<u8>> {
    let (loaded, _) = row_of(volume, inode, &VectorName { at: At::Present, ..*name })?;
    if inode::load(volume, inode)?.links.get() == 0 {
        return Err(Error::NoAttribute);
    }
    let past = past::back(volume, inode, &loaded, name.n, back)?;
    match name.meta {
        true => Some(past.metadata).filter(|text| !text.is_empty()).ok_or(Error::NoAttribute),
        false => past.value(loaded.id),
    }
}

/// Reads a vector and checks it against its CRC-32.
pub(crate) fn read<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    name: &VectorName<'_>,
) -> Result<Vec<u8>> {
    let (loaded, row) = row_of(volume, inode, name)?;
    let record = row_record(volume, &loaded, row)?;
    if record.header.file_inode.get() != inode.0 || record.n.get() != name.n {
        let directory = collection_directory(loaded.id).0;
        return Err(Error::corrupt("row of collection", directory, "belongs to another file"));
    }
    read_row(volume, volume, &loaded, row, &record)
}

/// The collection and row of a file's vector.
pub(super) fn row_of<N: Nodes>(nodes: &N, inode: Ino, name: &VectorName<'_>) -> Result<(Loaded, u64)> {
    let id = collection::find(nodes, name.collection)?.ok_or(Error::NoAttribute)?;
    let loaded = collection::load(nodes, id)?;
    if loaded.check_element(name.element).is_err() {
        return Err(Error::NoAttribute);
    }
    let vector: Option<VectorRecord> = tree::record(nodes, vector_key(inode, id, name.n), "vector of inode")?;
    let vector = vector.ok_or(Error::NoAttribute)?;
    check_at(name, &vector)?;
    Ok((loaded, vector.row.get()))
}

/// The record of a live row.
pub(crate) fn row_record<N: Nodes>(nodes: &N, loaded: &Loaded, row: u64) -> Result<RowRecord> {
    let directory = collection_directory(loaded.id);
    let record: Option<RowRecord> = tree::record(nodes, loaded.row_key(row), "row of collection")?;
    let record = record.ok_or(Error::corrupt("collection", directory.0, "a vector's row is missing"))?;
    if !record.header.known() {
        return Err(Error::corrupt("row of collection", directory.0, "not a vector header"));
    }
    Ok(record)
}

/// The vector in a row, checked and decoded.
pub(crate) fn read_row<N: Nodes, H: BlockDevice + Data>(
    nodes: &N,
    volume: &Volume<H>,
    loaded: &Loaded,
    row: u64,
    record: &RowRecord,
) -> Result<Vec<u8>> {
    let bad = |why| Error::corrupt("row of collection", collection_directory(loaded.id).0, why);
    if record.header.compressed_size.get() as usize != loaded.stored_len() {
        return Err(bad("of a wrong length"));
    }
    let bytes = stored_row(nodes, volume, loaded, row)?;
    if crc32(&bytes) != record.header.checksum.get() {
        return Err(Error::VectorChecksum { collection: collection_directory(loaded.id).0, row });
    }
    if loaded.codec()? == Codec::None {
        return Ok(bytes);
    }
    let mut value = memory::zeroed(loaded.vector_len())?;
    let row = (&bytes[..], record.scale.get());
    match codebook::decode(nodes, volume, loaded, row, &mut value) {
        Err(Error::Invalid(_)) => Err(bad("of an impossible scale")),
        other => other.map(|()| value),
    }
}

/// The stored bytes of a row, unchecked.
pub(super) fn stored_row<N: Nodes, H: BlockDevice + Data>(
    nodes: &N,
    volume: &Volume<H>,
    loaded: &Loaded,
    row: u64,
) -> Result<Vec<u8>> {
    let mut bytes = memory::zeroed(loaded.stored_len())?;
    let offset = loaded.row_offset(row);
    for (range, place) in file::pieces(nodes, loaded.matrix(), offset, &mut bytes)? {
        volume.patches.read(&volume.host, place, &mut bytes[range])?;
    }
    Ok(bytes)
}

/// Appends the names of a file's vectors and their metadata to a list of attributes.
pub(crate) fn list<N: Nodes>(nodes: &N, inode: Ino, names: &mut Vec<u8>) -> Result<()> {
    let mut known: Option<(CollectionId, Element, Vec<u8>)> = None;
    scan(nodes, inode, &mut |id, n, vector| {
        if known.as_ref().is_none_or(|(known, ..)| *known != id) {
            known = Some((id, collection::load(nodes, id)?.element()?, collection::name(nodes, id)?));
        }
        let mut text = Text::new();
        if let Some((_, element, name)) = &known {
            let mut wanted =
                VectorName { collection: name, element: Some(*element), n, at: At::Present, meta: false };
            wanted.write(&mut text)?;
            text.raw(&[0])?;
            if metadata::exists(nodes, id, vector.row.get())? {
                wanted.meta = true;
                wanted.write(&mut text)?;
                text.raw(&[0])?;
            }
        }
        memory::extend(names, text.as_bytes())?;
        xattr::check_listable(inode, names)
    })
}

/// Takes a vector out of its collection and away from its file, with its history.
pub(super) fn take_out<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    inode: Ino,
    n: u32,
    vector: &VectorRecord,
) -> Result<()> {
    free_row(tx, loaded, inode, n, vector)?;
    tree::remove(tx, vector_key(inode, loaded.id, n))?;
    past::remove(tx, inode, loaded.id, n)?;
    loaded.store(tx)
}

/// Frees the row of a vector, and its metadata; gives what the row's record was.
pub(super) fn free_row<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    inode: Ino,
    n: u32,
    vector: &VectorRecord,
) -> Result<RowRecord> {
    let row = vector.row.get();
    let record = row_record(tx, loaded, row)?;
    let directory = collection_directory(loaded.id);
    if record.header.file_inode.get() != inode.0 || record.n.get() != n {
        return Err(Error::corrupt("row of collection", directory.0, "belongs to another file"));
    }
    tree::remove(tx, loaded.row_key(row))?;
    loaded.row_left(tx, row)?;
    metadata::remove(tx, loaded.id, row)?;
    let blank = BlankRecord { generation: U64::new(tx.generation()) };
    tree::put(tx, Key::new(directory, Kind::Blank, row), blank.as_bytes())?;
    loaded.row_freed(tx, row)?;
    Ok(record)
}

/// A vector as it lies in its row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) row: u64,
    /// CRC-32 of its bytes.
    pub(super) checksum: u32,
    pub(super) scale: u32,
}

/// Puts both records of a vector.
pub(super) fn put_records<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    inode: Ino,
    n: u32,
    placed: Placed,
    version: u64,
    created: u64,
) -> Result<()> {
    let vector_id = tx.counters.next_vector;
    tx.counters.next_vector = vector_id.checked_add(1).ok_or(Error::NoSpace { pending: 0 })?;
    let header = VectorHeader {
        magic: U32::new(VECTOR_MAGIC),
        version: U32::new(VectorHeader::current_version()),
        vector_id: U64::new(vector_id),
        file_inode: U64::new(inode.0),
        data_type: U16::new(loaded.element()? as u16),
        compression: loaded.record.codec,
        dimensions: loaded.record.dimensions,
        original_size: U32::new(loaded.vector_len() as u32),
        compressed_size: U32::new(loaded.stored_len() as u32),
        created_timestamp: U64::new(created),
        modified_timestamp: U64::new(tx.now.as_nanoseconds()),
        checksum: U32::new(placed.checksum),
        flags: U32::ZERO,
    };
    let record =
        RowRecord { header, n: U32::new(n), scale: U32::new(placed.scale), version: U64::new(version) };
    loaded.put_row(tx, placed.row, &record)?;
    let vector = VectorRecord {
        row: U64::new(placed.row),
        vector_id: U64::new(vector_id),
        version: U64::new(version),
    };
    tree::put(tx, vector_key(inode, loaded.id, n), vector.as_bytes())
}

/// The vectors of a file, in order of collection and number.
pub(super) fn scan<N: Nodes>(
    nodes: &N,
    inode: Ino,
    each: &mut dyn FnMut(CollectionId, u32, &VectorRecord) -> Result<()>,
) -> Result<()> {
    let (from, to) = (Key::new(inode, Kind::Vector, 0), Key::last(inode, Kind::Vector));
    tree::scan(nodes, from, to, &mut |key, value| {
        let (id, n) = vector_of(key);
        each(id, n, parse_exact(value, "vector of inode", inode.0)?)?;
        Ok(true)
    })
}

/// The collection and number that a key of a vector names.
pub(super) const fn vector_of(key: Key) -> (CollectionId, u32) {
    (CollectionId((key.offset >> 32) as u32), key.offset as u32)
}

pub(super) fn vector_key(inode: Ino, id: CollectionId, n: u32) -> Key {
    Key::new(inode, Kind::Vector, u64::from(id.0) << 32 | u64::from(n))
}

/// Bytes that a vector, with its metadata, takes in a list of names.
pub(super) fn name_len<N: Nodes>(nodes: &N, loaded: &Loaded, n: u32, row: u64) -> Result<usize> {
    let (collection, element) = (collection::name(nodes, loaded.id)?, loaded.element()?);
    let mut name =
        VectorName { collection: &collection, element: Some(element), n, at: At::Present, meta: false };
    let len = name.listed_len(element);
    name.meta = true;
    Ok(len + if metadata::exists(nodes, loaded.id, row)? { name.listed_len(element) } else { 0 })
}

impl Loaded {
    /// Byte offset of a row in the matrix.
    pub(crate) fn row_offset(&self, row: u64) -> u64 {
        MATRIX_DATA.saturating_add(row.saturating_mul(u64::from(self.record.stride.get())))
    }
}
