//! Superseded vectors: what a list names has its pieces, and every piece belongs to one that a list names.

use super::State;
use super::cure::Cure;
use super::inodes::record;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{InodeRecord, Key, Kind, VectorRecord};
use crate::numbers::{CollectionId, Ino};
use crate::operations::past;
use crate::tree;
use crate::volume::Volume;

/// Looks at the list behind a file's vector. `named` is false if the file waits to be freed: then it goes in steps.
pub(super) fn list<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    key: Key,
    value: &[u8],
    named: bool,
) -> Result<()> {
    let inode = Ino(key.inode);
    let ids = past::decode_list(inode, value)?;
    if !named {
        return Ok(());
    }
    let (id, n) = (CollectionId((key.offset >> 32) as u32), key.offset as u32);
    let vector = Key::new(inode, Kind::Vector, key.offset);
    let vector = tree::record::<_, VectorRecord>(volume, vector, "vector of inode");
    let Some(vector) = state.absorb(vector)? else { return Ok(()) };
    if vector.is_none_or(|vector| ids.first().is_some_and(|newest| *newest >= vector.vector_id.get())) {
        let finding = record(inode, "superseded vectors without a newer one", key.offset);
        return state.contradiction(finding, Cure::Drop(key));
    }
    let mut left = ids;
    let before = left.len();
    let mut failed = None;
    left.retain(|vector_id| match past::head(volume, id, *vector_id) {
        Ok(head) => head.is_some_and(|head| past::is_of(&head, inode, n, *vector_id)),
        Err(error) => {
            failed = failed.or(Some(error));
            false
        }
    });
    if let Some(error) = failed.filter(|error| !matches!(error, Error::Corrupt(_))) {
        return Err(error);
    }
    if left.len() == before {
        return Ok(());
    }
    let cure = past::encode_list(&left)?.map_or(Cure::Drop(key), |value| Cure::Put(key, value));
    state.contradiction(record(inode, "a superseded vector is missing, or another's", key.offset), cure)
}

/// Looks at a piece; `before` is the one that was found right last. True if it is.
pub(super) fn piece<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    id: CollectionId,
    key: Key,
    value: &[u8],
    before: Option<u64>,
) -> Result<bool> {
    let follows = key.offset & 0xff != 0 && before.is_some_and(|before| before + 1 == key.offset);
    if follows || (key.offset & 0xff == 0 && whole(volume, state, id, key, value)?) {
        return Ok(true);
    }
    let finding =
        record(Ino(key.inode), "a superseded vector that no file has, or that is damaged", key.offset >> 8);
    state.contradiction(finding, Cure::Drop(key))?;
    Ok(false)
}

// True if the list of a file has it, and nothing of it is missing.
fn whole<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    id: CollectionId,
    key: Key,
    value: &[u8],
) -> Result<bool> {
    let vector_id = key.offset >> 8;
    let head = *past::decode_head(id, value)?.0;
    let (inode, n) = (Ino(head.row.header.file_inode.get()), head.row.n.get());
    state.highest_vector = state.highest_vector.max(vector_id);
    let listed = past::list(volume, inode, id, n).map(|ids| ids.contains(&vector_id));
    if !unless_damaged(listed)? || !past::is_of(&head, inode, n, vector_id) {
        return Ok(false);
    }
    let file = tree::record::<_, InodeRecord>(volume, Key::new(inode, Kind::Inode, 0), "inode");
    if matches!(file, Ok(Some(file)) if file.links.get() == 0) {
        return Ok(true);
    }
    let loaded = past::load(volume, id, vector_id);
    let checked = state.options.vectors;
    unless_damaged(loaded.map(|past| past.is_some_and(|past| !checked || past.is_whole())))
}

// Damage is not what it should be; whatever else keeps it from being read is no finding.
fn unless_damaged(looked: Result<bool>) -> Result<bool> {
    match looked {
        Err(Error::Corrupt(_)) => Ok(false),
        other => other,
    }
}
