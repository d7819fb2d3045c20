//! History: vectors that were superseded by setting them anew, as many as the collection's `history` says.
//!
//! They are no rows: a matrix holds what counts now, and nothing else. A superseded vector lies in pieces at its collection,
//! by its id, with the record, the metadata and the stored bytes that its row had; the file has the list of ids beside
//! the vector. Whatever is on a list has its pieces, and the other way round. Both go with the vector, but for those of
//! a file that lost its last name: they go in steps, before the file itself does.

use alloc::vec::Vec;

use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, IntoBytes};

use super::codebook;
use super::collection::Loaded;
use super::vector::{Placed, stored_row, vector_of};
use crate::bugs::planted;
use crate::checksum::crc32;
use crate::codec;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    Codec, Element, HISTORY_MAX, Incompatible, Key, Kind, METADATA_MAX, PAST_IDS, PastRecord, RowRecord,
    VERSION_GONE, collection_directory, parse, past_offset, value_max,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// The error of setting or removing one.
pub(super) const UNCHANGEABLE: Error = Error::NotPermitted(
    "a superseded vector can be read alone: it goes as newer ones come, or with its vector",
);
/// Superseded vectors that go when one is set, at most: a history that was made shorter gets there in steps.
const DROPPED_MAX: usize = 2;
/// Pieces that one can have: 65,536 bytes, metadata and record, in the smallest blocks.
const PIECES_MAX: u64 =
    (super::collection::VECTOR_MAX + METADATA_MAX + size_of::<PastRecord>()).div_ceil(value_max(4096)) as u64;

/// A superseded vector.
pub(crate) struct Past {
    /// Its record.
    pub(crate) record: PastRecord,
    /// Its metadata; empty if it had none.
    pub(crate) metadata: Vec<u8>,
    stored: Vec<u8>,
}

impl Past {
    /// True if its bytes are those that were stored.
    pub(crate) fn is_whole(&self) -> bool {
        crc32(&self.stored) == self.record.row.header.checksum.get()
    }

    /// The vector as it was read when it was the present one.
    pub(crate) fn value(self, id: CollectionId) -> Result<Vec<u8>> {
        if !self.is_whole() {
            return Err(Error::checksum("superseded vector of collection", collection_directory(id).0));
        }
        let (codec, element, _) = form(id, &self.record)?;
        if codec == Codec::None {
            return Ok(self.stored);
        }
        let mut value = memory::zeroed(self.record.row.header.original_size.get() as usize)?;
        codec::decode(codec, element, &self.stored, self.record.row.scale.get(), &mut value)
            .map_err(|_| bad(id, "of an impossible scale"))?;
        Ok(value)
    }
}

const fn bad(id: CollectionId, why: &'static str) -> Error {
    Error::corrupt("superseded vector of collection", collection_directory(id).0, why)
}

pub(super) fn list_key(inode: Ino, id: CollectionId, n: u32) -> Key {
    Key::new(inode, Kind::PastVectors, u64::from(id.0) << 32 | u64::from(n))
}

fn pieces(id: CollectionId, vector_id: u64) -> (Key, Key) {
    let at = |piece| Key::new(collection_directory(id), Kind::PastPiece, past_offset(vector_id, piece));
    (at(0), at(PIECES_MAX))
}

/// The ids that a list's record tells, the newest first.
pub(crate) fn decode_list(inode: Ino, value: &[u8]) -> Result<Vec<u64>> {
    let bad = Error::corrupt("superseded vectors of inode", inode.0, "no list of falling ids");
    let raw = <[U64]>::ref_from_bytes(value).map_err(|_| bad)?;
    let mut ids = Vec::new();
    memory::reserve(&mut ids, raw.len())?;
    for id in raw {
        memory::append(&mut ids, id.get());
    }
    let falling = ids.windows(2).all(|pair| pair[0] > pair[1]);
    let fine = falling && ids.len() <= usize::from(HISTORY_MAX);
    match ids.first() {
        Some(first) if fine && *first < PAST_IDS => Ok(ids),
        _ => Err(bad),
    }
}

/// The record of a list; none of an empty one.
pub(crate) fn encode_list(ids: &[u64]) -> Result<Option<Vec<u8>>> {
    let mut value = Vec::new();
    for id in ids {
        memory::extend(&mut value, id.to_le_bytes().as_slice())?;
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// The ids of the superseded vectors behind a file's vector, the newest first.
pub(crate) fn list<N: Nodes>(nodes: &N, inode: Ino, id: CollectionId, n: u32) -> Result<Vec<u64>> {
    let found = tree::find(nodes, list_key(inode, id, n), |value| decode_list(inode, value))?;
    Ok(found.unwrap_or_default())
}

fn put_list<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, key: Key, ids: &[u64]) -> Result<()> {
    match encode_list(ids)? {
        Some(value) => tree::put(tx, key, &value),
        None => tree::remove(tx, key).map(drop),
    }
}

/// The record at the head of the first piece, and what follows it there.
pub(crate) fn decode_head(id: CollectionId, piece: &[u8]) -> Result<(&PastRecord, &[u8])> {
    let (record, rest): (&PastRecord, _) =
        parse(piece, "superseded vector of collection", collection_directory(id).0)?;
    if !record.row.header.known() {
        return Err(bad(id, "not a vector header"));
    }
    Ok((record, rest))
}

/// The record of a superseded vector, if there is one of this id.
pub(crate) fn head<N: Nodes>(nodes: &N, id: CollectionId, vector_id: u64) -> Result<Option<PastRecord>> {
    tree::find(nodes, pieces(id, vector_id).0, |piece| Ok(*decode_head(id, piece)?.0))
}

/// The row's record of a superseded vector that is on a list, and its metadata if it has any.
pub(super) fn described<N: Nodes>(
    nodes: &N,
    id: CollectionId,
    vector_id: u64,
) -> Result<(RowRecord, Option<Vec<u8>>)> {
    let head = head(nodes, id, vector_id)?.ok_or(bad(id, "missing"))?;
    if head.metadata_len.get() == 0 {
        return Ok((head.row, None));
    }
    Ok((head.row, load(nodes, id, vector_id)?.map(|past| past.metadata)))
}

// What its bytes are, and how many.
fn form(id: CollectionId, record: &PastRecord) -> Result<(Codec, Element, usize)> {
    let header = &record.row.header;
    let element = Element::from_u16(header.data_type.get()).ok_or(bad(id, "unknown element type"))?;
    let codec = Codec::from_u16(header.compression.get()).ok_or(bad(id, "unknown codec"))?;
    let dimensions = header.dimensions.get();
    let stored = codec::stored_len(codec, element, dimensions).ok_or(bad(id, "impossible dimension"))?;
    let fits = stored == header.compressed_size.get()
        && element.bytes(dimensions) == Some(header.original_size.get())
        && header.original_size.get() as usize <= super::collection::VECTOR_MAX
        && record.metadata_len.get() as usize <= METADATA_MAX;
    if fits { Ok((codec, element, stored as usize)) } else { Err(bad(id, "of a wrong length")) }
}

/// A superseded vector, if there is one of this id; what it says of itself is checked, but not its CRC-32.
pub(crate) fn load<N: Nodes>(nodes: &N, id: CollectionId, vector_id: u64) -> Result<Option<Past>> {
    let mut bytes = Vec::new();
    let (from, to) = pieces(id, vector_id);
    let longest = value_max(nodes.geometry().block_size);
    tree::scan(nodes, from, to, &mut |key, piece| {
        if bytes.len() != (key.offset & 0xff) as usize * longest {
            return Err(bad(id, "with gaps"));
        }
        memory::extend(&mut bytes, piece)?;
        Ok(true)
    })?;
    if bytes.is_empty() {
        return Ok(None);
    }
    let (record, rest) = decode_head(id, &bytes)?;
    let (_, _, stored_len) = form(id, record)?;
    let metadata_len = record.metadata_len.get() as usize;
    if rest.len() != metadata_len + stored_len {
        return Err(bad(id, "of a wrong length"));
    }
    let (metadata, stored) = rest.split_at(metadata_len);
    Ok(Some(Past { record: *record, metadata: memory::copy(metadata)?, stored: memory::copy(stored)? }))
}

/// The superseded vector that was replaced `back` times ago, from 1 on.
///
/// # Errors
/// `NoAttribute`; `Corrupt` if it is another file's, or missing.
pub(super) fn back<N: Nodes>(nodes: &N, inode: Ino, loaded: &Loaded, n: u32, back: u32) -> Result<Past> {
    let index = (back as usize).checked_sub(1).filter(|index| *index < loaded.history());
    let ids = list(nodes, inode, loaded.id, n)?;
    let vector_id = *index.and_then(|index| ids.get(index)).ok_or(Error::NoAttribute)?;
    let past = load(nodes, loaded.id, vector_id)?.ok_or(bad(loaded.id, "missing"))?;
    if !is_of(&past.record, inode, n, vector_id) {
        return Err(bad(loaded.id, "belongs to another file"));
    }
    Ok(past)
}

/// True if it is what the list of a file's vector means by this id.
pub(crate) fn is_of(record: &PastRecord, inode: Ino, n: u32, vector_id: u64) -> bool {
    let header = &record.row.header;
    header.file_inode.get() == inode.0 && record.row.n.get() == n && header.vector_id.get() == vector_id
}

/// Records that keeping a vector when it is set anew puts, and removes, at most.
pub(super) fn budget<H: BlockDevice + Data>(volume: &Volume<H>, loaded: &Loaded) -> (u64, u64) {
    if !volume.needs.contains(Incompatible::HISTORY) {
        return (0, 0);
    }
    let bytes = loaded.stored_len().max(loaded.vector_len()) + METADATA_MAX + size_of::<PastRecord>();
    let pieces = bytes.div_ceil(value_max(volume.layout.block_size)) as u64;
    (pieces + 1, DROPPED_MAX as u64 * pieces)
}

/// Keeps a vector in whose place `placed` of content `version` came: `row` is what its row's record was, its bytes are
/// still there. One that differs in nothing from what came is not kept, and neither is one that is damaged.
pub(super) fn keep<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    old: (u64, &RowRecord),
    metadata: Option<&[u8]>,
    (placed, version): (Placed, u64),
) -> Result<()> {
    let (at, row) = old;
    let (inode, n, vector_id) = (Ino(row.header.file_inode.get()), row.n.get(), row.header.vector_id.get());
    if !tx.volume.needs.contains(Incompatible::HISTORY) {
        return Ok(());
    }
    let mut ids = list(tx, inode, loaded.id, n)?;
    let before = ids.len();
    if loaded.history() > 0 && vector_id < PAST_IDS {
        let stored = stored_row(tx, tx.volume, loaded, at)?;
        let same = placed.checksum == row.header.checksum.get()
            && (placed.scale, version) == (row.scale.get(), row.version.get())
            && stored == stored_row(tx, tx.volume, loaded, placed.row)?;
        if !same && crc32(&stored) == row.header.checksum.get() {
            let (row, stored) = as_kept(tx, loaded, row, stored)?;
            put(tx, loaded.id, &row, metadata.unwrap_or_default(), &stored)?;
            memory::insert(&mut ids, 0, vector_id)?;
        }
    }
    let added = ids.len() - before;
    for _ in 0..DROPPED_MAX {
        if ids.len() > loaded.history() {
            if let Some(oldest) = ids.pop() {
                forget(tx, loaded.id, oldest)?;
            }
        }
    }
    if ids.len() != before || added > 0 { put_list(tx, list_key(inode, loaded.id, n), &ids) } else { Ok(()) }
}

// What is kept of a row: its bytes, but as elements where a codebook would be needed to read them, which goes with its matrix.
fn as_kept<H: BlockDevice + Data>(
    tx: &Transaction<'_, H>,
    loaded: &Loaded,
    row: &RowRecord,
    stored: Vec<u8>,
) -> Result<(RowRecord, Vec<u8>)> {
    if loaded.quantizer().is_none() {
        return Ok((*row, stored));
    }
    let mut value = memory::zeroed(loaded.vector_len())?;
    codebook::decode(tx, tx.volume, loaded, (&stored, row.scale.get()), &mut value)?;
    let mut kept = *row;
    kept.header.compression = Codec::None.number().into();
    kept.header.compressed_size = kept.header.original_size;
    kept.header.checksum = crc32(&value).into();
    Ok((kept, value))
}

fn put<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    row: &RowRecord,
    metadata: &[u8],
    stored: &[u8],
) -> Result<()> {
    let metadata_len = (metadata.len() as u32).into();
    let record = PastRecord { row: *row, metadata_len, reserved: 0.into() };
    let mut bytes = memory::copy(record.as_bytes())?;
    memory::extend(&mut bytes, metadata)?;
    memory::extend(&mut bytes, stored)?;
    let vector_id = row.header.vector_id.get();
    for (index, piece) in bytes.chunks(value_max(tx.geometry().block_size)).enumerate() {
        let offset = past_offset(vector_id, index as u64);
        tree::put(tx, Key::new(collection_directory(id), Kind::PastPiece, offset), piece)?;
    }
    Ok(())
}

fn forget<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    vector_id: u64,
) -> Result<()> {
    if planted("history_forgotten") {
        return Ok(());
    }
    let (from, to) = pieces(id, vector_id);
    tree::remove_range(tx, from, to, u64::MAX).map(drop)
}

/// Records of the history behind a file's vector.
pub(super) fn records<N: Nodes>(nodes: &N, inode: Ino, id: CollectionId, n: u32) -> Result<u64> {
    let mut records = 0;
    for vector_id in list(nodes, inode, id, n)? {
        let (from, to) = pieces(id, vector_id);
        records += tree::last(nodes, from, to)?.map_or(0, |(key, _)| (key.offset & 0xff) + 1);
    }
    Ok(records + u64::from(records > 0))
}

/// Removes the history behind a file's vector.
pub(super) fn remove<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    id: CollectionId,
    n: u32,
) -> Result<()> {
    let ids = list(tx, inode, id, n)?;
    for vector_id in &ids {
        forget(tx, id, *vector_id)?;
    }
    if ids.is_empty() { Ok(()) } else { put_list(tx, list_key(inode, id, n), &[]) }
}

/// How many superseded vectors a file has, in all collections.
pub(super) fn count<N: Nodes>(nodes: &N, inode: Ino) -> Result<u64> {
    let (from, to) = (Key::new(inode, Kind::PastVectors, 0), Key::last(inode, Kind::PastVectors));
    let mut count = 0;
    tree::scan(nodes, from, to, &mut |_, value| {
        // Whatever it is: a damaged list must not keep its file from being removed.
        count += (value.len() / size_of::<u64>()) as u64;
        Ok(true)
    })?;
    Ok(count)
}

/// True if a file has any.
pub(super) fn has_any<N: Nodes>(nodes: &N, inode: Ino) -> Result<bool> {
    let (from, to) = (Key::new(inode, Kind::PastVectors, 0), Key::last(inode, Kind::PastVectors));
    Ok(tree::first(nodes, from, to)?.is_some())
}

/// Gives the history behind a vector to another file, of whose content none of it was made.
pub(super) fn hand_over<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    (from, to): (Ino, Ino),
    n: u32,
) -> Result<()> {
    if !tx.volume.needs.contains(Incompatible::HISTORY) {
        return Ok(());
    }
    let ids = list(tx, from, id, n)?;
    for vector_id in &ids {
        let key = pieces(id, *vector_id).0;
        let mut piece = tree::find(tx, key, memory::copy)?.ok_or(bad(id, "missing"))?;
        let mut record = *decode_head(id, &piece)?.0;
        record.row.header.file_inode = U64::new(to.0);
        record.row.version = U64::new(VERSION_GONE);
        piece[..size_of::<PastRecord>()].copy_from_slice(record.as_bytes());
        tree::put(tx, key, &piece)?;
    }
    if !ids.is_empty() {
        put_list(tx, list_key(from, id, n), &[])?;
        put_list(tx, list_key(to, id, n), &ids)?;
    }
    Ok(())
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Removes the oldest of the superseded vectors behind a file's vector, whole; false if there is none.
    pub(super) fn shed_past(&mut self, inode: Ino, id: CollectionId, n: u32, now: Time) -> Result<bool> {
        let key = list_key(inode, id, n);
        if list(self, inode, id, n)?.is_empty() {
            return Ok(false);
        }
        self.transact(Budget::freeing(PIECES_MAX + 2), now, |tx| {
            drop_oldest(tx, key, u64::MAX)?;
            Ok(true)
        })
    }

    /// One step of removing the superseded vectors of a file that has no name; false if none is left.
    pub(super) fn reap_past(&mut self, inode: Ino, now: Time) -> Result<bool> {
        let (from, to) = (Key::new(inode, Kind::PastVectors, 0), Key::last(inode, Kind::PastVectors));
        let Some((key, _)) = tree::first(self, from, to)? else { return Ok(false) };
        match self.transact(Budget::freeing(PIECES_MAX + 2), now, |tx| drop_oldest(tx, key, u64::MAX)) {
            // A full volume: piece by piece, until a commit brings space.
            Err(Error::NoSpace { .. }) => {
                self.transact(Budget::least(), now, |tx| drop_oldest(tx, key, 2))?
            }
            other => other?,
        }
        Ok(true)
    }
}

// Removes up to `limit` pieces of the last on a list, from their end, so that the head says what it is until it goes; then
// takes it off the list.
fn drop_oldest<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, key: Key, limit: u64) -> Result<()> {
    let (id, _) = vector_of(key);
    let inode = Ino(key.inode);
    let mut ids = tree::find(tx, key, |value| decode_list(inode, value))?.unwrap_or_default();
    let Some(oldest) = ids.pop() else { return Ok(()) };
    let (from, to) = pieces(id, oldest);
    for _ in 0..limit {
        match tree::last(tx, from, to)? {
            Some((piece, _)) => tree::remove(tx, piece)?,
            None => return put_list(tx, key, &ids),
        };
    }
    Ok(())
}
