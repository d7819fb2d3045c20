//! Freshness: a vector is stale when its file's content is not that which it was made from; and what is saved over a
//! file inherits its vectors, stale, where every other filesystem would lose them.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::collection::{self, Loaded};
use super::vector::{name_len, row_record, scan, vector_key};
use super::{inode, xattr};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    CollectionFlags, FileKind, InodeRecord, Key, Kind, VERSION_GONE, VectorRecord, collection_directory,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::transaction::Transaction;
use crate::tree;
use crate::volume::Nodes;

/// True if all vectors of a file were made from the content it has now; `None` if it has none.
pub(crate) fn freshness<N: Nodes>(nodes: &N, file: Ino, record: &InodeRecord) -> Result<Option<bool>> {
    let mut fresh = None;
    scan(nodes, file, &mut |_, _, vector| {
        fresh = Some(fresh.unwrap_or(true) && vector.version == record.version);
        Ok(())
    })?;
    Ok(fresh)
}

/// Gives the vectors of a file whose last name goes to the one that takes the name. They count as made from content
/// that is gone. A collection's vectors stay behind if the new file has some in it, or if it does not let inherit.
///
/// Only between files of one owner: who may replace a file must not thereby read what was made of its content.
pub(super) fn inherit<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, from: Ino, to: Ino) -> Result<()> {
    let (mut old, mut new) = (inode::load(tx, from)?, inode::load(tx, to)?);
    let files = old.kind(from)? == FileKind::Regular && new.kind(to)? == FileKind::Regular;
    if !files || old.links.get() != 1 || old.uid != new.uid || old.attributes.get() == 0 {
        return Ok(());
    }
    let mut vectors = Vec::new();
    scan(tx, from, &mut |id, n, record| memory::push(&mut vectors, (id, n, *record)))?;
    let mut rest = &vectors[..];
    while let Some((id, ..)) = rest.first().copied() {
        let (of_this, others) = rest.split_at(rest.partition_point(|(other, ..)| *other <= id));
        rest = others;
        let mut loaded = collection::load(tx, id)?;
        if loaded.flags().contains(CollectionFlags::NO_INHERIT) || has_any(tx, to, id)? {
            continue;
        }
        for (_, n, vector) in of_this {
            let len = name_len(tx, &loaded, *n)?;
            match xattr::check_list(tx, to, &new, len) {
                Err(Error::TooManyAttributes) => break,
                other => other?,
            }
            hand_over(tx, &mut loaded, (from, to), *n, vector)?;
            new.add_attribute()?;
            old.attributes = U32::new(old.attributes.get().saturating_sub(1));
        }
        loaded.store(tx)?;
    }
    inode::store(tx, from, &old)?;
    inode::store(tx, to, &new)
}

fn hand_over<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    (from, to): (Ino, Ino),
    n: u32,
    vector: &VectorRecord,
) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let row = vector.row.get();
    let mut record = row_record(tx, loaded.id, row)?;
    if record.header.file_inode.get() != from.0 || record.n.get() != n {
        return Err(Error::corrupt("row of collection", directory.0, "belongs to another file"));
    }
    record.header.file_inode = U64::new(to.0);
    record.version = U64::new(VERSION_GONE);
    tree::put(tx, Key::new(directory, Kind::Row, row), record.as_bytes())?;
    let vector = VectorRecord { version: record.version, ..*vector };
    tree::remove(tx, vector_key(from, loaded.id, n))?;
    tree::put(tx, vector_key(to, loaded.id, n), vector.as_bytes())?;
    loaded.row_relinked(tx, row)
}

fn has_any<N: Nodes>(nodes: &N, file: Ino, id: CollectionId) -> Result<bool> {
    let (from, to) = (vector_key(file, id, 0), vector_key(file, id, u32::MAX));
    Ok(tree::first(nodes, from, Key { offset: to.offset.saturating_add(1), ..to })?.is_some())
}
