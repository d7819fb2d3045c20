//! Metadata of vectors: a JSON object of up to 4 KiB behind each, as the attribute `user.vector.<collection>[.<n>].meta`.
//!
//! It lies at the collection, by row, so that all of it is read in the order of the rows; it goes where its vector goes, and
//! ends with it. Its text is kept as it was set.

use alloc::vec::Vec;

use super::collection::{self, Loaded};
use super::inherit::check_at;
use super::rows::ROWS_MAX;
use super::types::{Caller, SetMode};
use super::vector::{row_of, vector_key};
use super::vector_name::VectorName;
use super::{columns, inode, xattr};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLUMN_WIDTH_MAX, Incompatible, Key, Kind, METADATA_MAX, VectorRecord, collection_directory,
    metadata_offset, value_max,
};
use crate::json::{self, Value};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Pieces that the longest metadata is cut into, in the smallest blocks.
const CHUNKS_MAX: u64 = METADATA_MAX.div_ceil(value_max(4096)) as u64;

/// What is done to the metadata of a row.
type Change<'a, H> = &'a mut dyn FnMut(&mut Transaction<'_, H>, &Loaded, u64) -> Result<()>;

impl<H: BlockDevice + Data> Volume<H> {
    /// Sets the metadata of a vector.
    ///
    /// # Errors
    /// `NoAttribute` without the vector; `MetadataTooBig`; `Invalid` for what is no JSON object, and for a known member of another
    /// type.
    pub(super) fn set_metadata(
        &mut self,
        inode: Ino,
        name: &VectorName<'_>,
        value: &[u8],
        mode: SetMode,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        check(value)?;
        let pieces = value.len().div_ceil(value_max(self.layout.block_size)) as u64;
        // The old ones are removed, which takes no more than putting as many as there can be.
        let budget = Budget::records(16 + pieces + CHUNKS_MAX);
        self.change_metadata(inode, name, caller, now, budget, &mut |tx, loaded, row| {
            for column in columns::columns(tx, loaded.id)? {
                column.entry(value, &mut [0; COLUMN_WIDTH_MAX as usize][..usize::from(column.width)])?;
            }
            let old = exists(tx, loaded.id, row)?;
            xattr::check_mode(old, mode)?;
            if !old {
                let record = inode::load(tx, inode)?;
                xattr::check_list(tx, inode, &record, name.listed_len(loaded.element()?))?;
            }
            put(tx, loaded.id, row, value)
        })
    }

    /// Removes the metadata of a vector.
    pub(super) fn remove_metadata(
        &mut self,
        inode: Ino,
        name: &VectorName<'_>,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        self.change_metadata(inode, name, caller, now, Budget::freeing(16), &mut |tx, loaded, row| {
            if remove(tx, loaded.id, row)? { Ok(()) } else { Err(Error::NoAttribute) }
        })
    }

    fn change_metadata(
        &mut self,
        inode: Ino,
        name: &VectorName<'_>,
        caller: &Caller<'_>,
        now: Time,
        budget: Budget,
        change: Change<'_, H>,
    ) -> Result<()> {
        control::check_writable(inode)?;
        let id = collection::find(self, name.collection)?.ok_or(Error::NoAttribute)?;
        collection::check_access(self, id, caller)?;
        self.transact(budget, now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            loaded.check_element(name.element)?;
            let vector: Option<VectorRecord> =
                tree::record(tx, vector_key(inode, id, name.n), "vector of inode")?;
            let vector = vector.ok_or(Error::NoAttribute)?;
            check_at(name, &vector)?;
            let row = vector.row.get();
            change(tx, &loaded, row)?;
            loaded.row_relinked(tx, row)?;
            loaded.store(tx)?;
            let mut record = inode::load(tx, inode)?;
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)
        })
    }
}

/// The metadata of a file's vector.
pub(super) fn read<N: Nodes>(nodes: &N, inode: Ino, name: &VectorName<'_>) -> Result<Vec<u8>> {
    let (loaded, row) = row_of(nodes, inode, name)?;
    of_row(nodes, loaded.id, row)?.ok_or(Error::NoAttribute)
}

/// The metadata of a row, if it has any.
pub(crate) fn of_row<N: Nodes>(nodes: &N, id: CollectionId, row: u64) -> Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let (from, to) = chunks(id, row);
    tree::scan(nodes, from, to, &mut |key, chunk| {
        check_chunk(nodes, id, key.offset, text.len(), chunk)?;
        memory::extend(&mut text, chunk)?;
        Ok(true)
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// Fails unless this can be the next chunk of a row's metadata, of which `before` bytes came before.
pub(crate) fn check_chunk<N: Nodes>(
    nodes: &N,
    id: CollectionId,
    offset: u64,
    before: usize,
    chunk: &[u8],
) -> Result<()> {
    let index = offset as usize & 0xff;
    if chunk.is_empty()
        || before != index * value_max(nodes.geometry().block_size)
        || before + chunk.len() > METADATA_MAX
    {
        let why = "metadata with gaps or of a wrong length";
        return Err(Error::corrupt("collection", collection_directory(id).0, why));
    }
    Ok(())
}

/// The metadata of rows from `first` up to, not including, `end`, in their order.
pub(crate) fn each<N: Nodes>(
    nodes: &N,
    id: CollectionId,
    first: u64,
    end: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    let (from, to) = (chunks(id, first).0, chunks(id, end.min(ROWS_MAX)).0);
    let (mut row, mut text) = (0, Vec::new());
    tree::scan(nodes, from, to, &mut |key, chunk| {
        if key.offset >> 8 != row || key.offset & 0xff == 0 {
            if !text.is_empty() {
                each(row, &text)?;
            }
            (row, text) = (key.offset >> 8, Vec::new());
        }
        check_chunk(nodes, id, key.offset, text.len(), chunk)?;
        memory::extend(&mut text, chunk)?;
        Ok(true)
    })?;
    if text.is_empty() { Ok(()) } else { each(row, &text) }
}

/// True if a row has metadata.
pub(super) fn exists<N: Nodes>(nodes: &N, id: CollectionId, row: u64) -> Result<bool> {
    let (from, to) = chunks(id, row);
    Ok(tree::first(nodes, from, to)?.is_some())
}

/// Records that the metadata of a row is in.
pub(super) fn records<N: Nodes>(nodes: &N, id: CollectionId, row: u64) -> Result<u64> {
    let (from, to) = chunks(id, row);
    Ok(tree::last(nodes, from, to)?.map_or(0, |(key, _)| (key.offset & 0xff) + 1))
}

/// Puts the metadata of a row in place of what it had.
pub(super) fn put<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    row: u64,
    text: &[u8],
) -> Result<()> {
    remove(tx, id, row)?;
    tx.volume.needs |= Incompatible::METADATA;
    for (index, chunk) in text.chunks(value_max(tx.geometry().block_size)).enumerate() {
        let offset = metadata_offset(row, index as u64);
        tree::put(tx, Key::new(collection_directory(id), Kind::VectorMeta, offset), chunk)?;
    }
    Ok(())
}

/// Takes the metadata of a row away; true if there was any.
pub(super) fn remove<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    row: u64,
) -> Result<bool> {
    let (from, to) = chunks(id, row);
    Ok(tree::remove_range(tx, from, to, u64::MAX)? > 0)
}

/// Takes the metadata of a row to another one.
pub(super) fn move_row<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    from: u64,
    to: u64,
) -> Result<()> {
    let Some(text) = of_row(tx, id, from)? else { return Ok(()) };
    remove(tx, id, from)?;
    put(tx, id, to, &text)
}

fn chunks(id: CollectionId, row: u64) -> (Key, Key) {
    // A row that none can be has none.
    let at = |row: u64| {
        Key::new(collection_directory(id), Kind::VectorMeta, metadata_offset(row.min(ROWS_MAX), 0))
    };
    (at(row), at(row.saturating_add(1)))
}

/// Fails unless this is metadata.
pub(crate) fn check(text: &[u8]) -> Result<()> {
    if text.len() > METADATA_MAX {
        return Err(Error::MetadataTooBig);
    }
    json::check_object(text)?;
    for name in [&b"source"[..], b"model"] {
        if !matches!(json::member(text, name)?, None | Some(Value::Null | Value::String(_))) {
            return Err(Error::Invalid("`source` and `model` in metadata are strings"));
        }
    }
    for name in [&b"start"[..], b"length"] {
        match json::member(text, name)? {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) if json::integer(number).is_some_and(|value| value >= 0) => {}
            _ => return Err(Error::Invalid("`start` and `length` in metadata are whole numbers of bytes")),
        }
    }
    match json::member(text, b"confidence")? {
        None | Some(Value::Null | Value::Number(_)) => Ok(()),
        _ => Err(Error::Invalid("`confidence` in metadata is a number")),
    }
}
