//! Records as a check looks at them: decoded and resolved, one function each.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U64;

use super::acl::{self, List};
use super::columns::{self, Column};
use super::names::{self, NameHash};
use super::{collection, directory, extents, inode, metadata, orphan, rows, vector, xattr};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    DirentRecord, FileKind, InodeRecord, Kind, LinkRecord, OrphanKind, RowRecord, XattrRecord,
    collection_directory,
};
use crate::numbers::{CollectionId, Ino, Run};
use crate::transaction::Transaction;
use crate::volume::{Nodes, Volume};

pub(crate) use super::rows::ROWS_MAX;

/// An entry's record and name.
pub(crate) fn dirent(directory: Ino, value: &[u8]) -> Result<(&DirentRecord, &[u8])> {
    directory::decode(directory, value)
}

/// An attribute's record, name, and value if it is inline.
pub(crate) fn xattr(inode: Ino, value: &[u8]) -> Result<(&XattrRecord, &[u8], &[u8])> {
    xattr::decode(inode, value)
}

/// An attribute's value, from its record's bytes.
pub(crate) fn xattr_value<N: Nodes>(nodes: &N, inode: Ino, bytes: &[u8]) -> Result<Vec<u8>> {
    xattr::value(nodes, inode, bytes)
}

/// The permission bits that an access list tells; `None` for all other attributes, of which default lists must make
/// sense.
pub(crate) fn listed_mode(inode: Ino, name: &[u8], value: &[u8]) -> Result<Option<u32>> {
    let Some(list) = List::named(name) else { return Ok(None) };
    let acl = acl::decode(inode, value)?;
    Ok(acl.filter(|_| list == List::Access).map(|acl| acl.mode()))
}

/// An extent's blocks on the device and its birth.
pub(crate) fn extent<N: Nodes>(nodes: &N, inode: Ino, at: u64, value: &[u8]) -> Result<(Run, u64)> {
    let (_, extent) = extents::decode(inode, at, value)?;
    extents::check_place(nodes.geometry(), inode, &extent)?;
    Ok((extent.run, extent.birth))
}

/// Adds an entry and the way back from its inode; the counts are the caller's.
pub(crate) fn add_entry<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    directory: Ino,
    name: &[u8],
    inode: Ino,
    kind: FileKind,
) -> Result<()> {
    directory::add_entry(tx, directory, name, inode, kind)
}

/// Fails if something on the orphan list is in use.
pub(crate) fn check_unused<N: Nodes>(nodes: &N, inode: Ino, kind: OrphanKind) -> Result<()> {
    orphan::check_unused(nodes, inode, kind)
}

/// How many rows the run of free ones at `row` has.
pub(crate) fn free_count(id: CollectionId, row: u64, value: &[u8]) -> Result<u64> {
    rows::free_count(id, row, value)
}

/// True if a collection can have this name.
pub(crate) fn is_collection_name(name: &[u8]) -> bool {
    super::vector_name::check_collection_name(name).is_ok()
}

/// The hash part of a name's place.
pub(crate) fn name_hash<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> u64 {
    NameHash::new(nodes, inode, name).value()
}

/// Where the first entry of this name lies.
pub(crate) fn entry_cookie<N: Nodes>(nodes: &N, directory: Ino, name: &[u8]) -> Result<Option<u64>> {
    Ok(directory::entry(nodes, directory, name)?.map(|found| found.cookie))
}

/// True if `inode` knows that it has a name at `cookie` of `parent`.
pub(crate) fn has_link<N: Nodes>(nodes: &N, inode: Ino, parent: Ino, cookie: u64) -> Result<bool> {
    let link = LinkRecord { parent: U64::new(parent.0), cookie: U64::new(cookie) };
    let hash = NameHash::new(nodes, inode, link.as_bytes());
    Ok(names::find(nodes, inode, Kind::Link, hash, &mut |value| Ok(value == link.as_bytes()))?.is_some())
}

/// What `inode` waits for on the orphan list.
pub(crate) fn orphan_kind<N: Nodes>(nodes: &N, inode: Ino) -> Result<Option<OrphanKind>> {
    orphan::kind_of(nodes, inode)
}

/// The record of a live row.
pub(crate) fn row<N: Nodes>(nodes: &N, id: CollectionId, row: u64) -> Result<RowRecord> {
    let loaded = match collection::load(nodes, id) {
        Err(Error::NotFound) => {
            let directory = collection_directory(id).0;
            return Err(Error::corrupt("collection", directory, "a vector's row is missing"));
        }
        other => other?,
    };
    vector::row_record(nodes, &loaded, row)
}

/// Fails unless `chunk` can be this piece of a row's metadata, of which `before` bytes came before.
pub(crate) fn check_metadata_piece<N: Nodes>(
    nodes: &N,
    id: CollectionId,
    offset: u64,
    before: usize,
    chunk: &[u8],
) -> Result<()> {
    metadata::check_chunk(nodes, id, offset, before, chunk)
}

/// A column from its record.
pub(crate) fn column(id: CollectionId, number: u64, value: &[u8]) -> Result<Column> {
    columns::decode(id, number, value)
}

/// True if the metadata of a row is what can be set.
pub(crate) fn is_metadata<N: Nodes>(nodes: &N, id: CollectionId, row: u64) -> Result<bool> {
    Ok(metadata::of_row(nodes, id, row)?.is_some_and(|text| metadata::check(&text).is_ok()))
}

/// Reads a row and checks it against its CRC-32.
pub(crate) fn read_row<H: BlockDevice + Data>(
    volume: &Volume<H>,
    id: CollectionId,
    row: u64,
) -> Result<Vec<u8>> {
    let loaded = collection::load(volume, id)?;
    let record = vector::row_record(volume, &loaded, row)?;
    vector::read_row(volume, volume, &loaded, row, &record)
}

/// Reads a row of any of a collection's matrices and checks it against its CRC-32.
pub(crate) fn read_row_of<H: BlockDevice + Data>(
    volume: &Volume<H>,
    loaded: &collection::Loaded,
    row: u64,
    record: &RowRecord,
) -> Result<Vec<u8>> {
    vector::read_row(volume, volume, loaded, row, record)
}

/// Puts an inode's record.
pub(crate) fn store_inode<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &InodeRecord,
) -> Result<()> {
    inode::store(tx, inode, record)
}
