//! A collection's `index` directory: ordinary files that programs keep beside a matrix, and that go with it.
//!
//! INVARIANT: a flag marks the directory and the files in it, and nothing else. They belong to the collection's owner and
//! group and have its permissions (files without execution), whoever made them: who may not read the matrix shall not
//! read what was made of it. They have one name and no attributes, so that they are never rows of a collection.

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};

use super::directory::{self, Found};
use super::types::{Attributes, Changes, NewInode};
use super::{inode, orphan};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    FileKind, InodeFlags, InodeRecord, Key, Kind, OrphanKind, ReadOnlyCompatible, collection_directory,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Nodes, Volume};

/// Files that an index directory has at most, so that all of them follow the collection in one transaction.
pub(crate) const FILES_MAX: u64 = 64;
const EXECUTE: u32 = 0o111;
const PERMISSIONS: u32 = 0o777;

/// True for an index directory and the files in it.
pub(crate) fn is_of_index(record: &InodeRecord) -> bool {
    record.flags().contains(InodeFlags::INDEX)
}

/// Fails for an inode of an index, whose owner and permissions are the collection's and which has no attributes.
pub(crate) fn check_ordinary<N: Nodes>(nodes: &N, inode: Ino) -> Result<()> {
    if !control::is_control(inode) && is_of_index(&inode::load(nodes, inode)?) {
        return Err(Error::NotPermitted(
            "an index file has its collection's owner and permissions, one name and no attributes",
        ));
    }
    Ok(())
}

/// As [`check_ordinary`], unless the changes leave owner, group and permissions as they are.
pub(crate) fn check_changes<N: Nodes>(nodes: &N, inode: Ino, changes: &Changes) -> Result<()> {
    if changes.uid.is_none() && changes.gid.is_none() && changes.permissions.is_none() {
        return Ok(());
    }
    let record = inode::load(nodes, inode)?;
    let same = changes.uid.is_none_or(|uid| uid == record.uid.get())
        && changes.gid.is_none_or(|gid| gid == record.gid.get())
        && changes.permissions.is_none_or(|mode| mode & 0o7777 == record.mode.get() & 0o7777);
    if same { Ok(()) } else { check_ordinary(nodes, inode) }
}

/// Fails if a name would come into an index directory, or out of one.
pub(crate) fn check_rename<N: Nodes>(nodes: &N, from: Ino, to: Ino) -> Result<()> {
    for directory in [from, to] {
        if from != to && !control::is_control(directory) && is_of_index(&inode::load(nodes, directory)?) {
            return Err(Error::CrossDevice);
        }
    }
    Ok(())
}

/// What `new` becomes in a directory with the record `parent`.
///
/// # Errors
/// `NotPermitted` for anything but a regular file in an index directory, and for one file too many.
pub(crate) fn placed(parent: &InodeRecord, new: NewInode) -> Result<NewInode> {
    if !is_of_index(parent) {
        return Ok(new);
    }
    if new.kind != FileKind::Regular {
        return Err(Error::NotPermitted("an index directory holds regular files alone"));
    }
    if parent.size.get() >= FILES_MAX {
        return Err(Error::NotPermitted("an index directory holds at most 64 files"));
    }
    let permissions = parent.mode.get() & PERMISSIONS & !EXECUTE;
    Ok(NewInode { permissions, umask: 0, uid: parent.uid.get(), gid: parent.gid.get(), ..new })
}

/// Marks the record of what comes into a directory with the record `parent`.
pub(crate) fn mark(parent: &InodeRecord, record: &mut InodeRecord) {
    if is_of_index(parent) {
        record.set_flag(InodeFlags::INDEX, true);
    }
}

/// The index directory of a collection, if it has one.
pub(crate) fn find<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Option<Found>> {
    directory::entry(nodes, collection_directory(id), control::INDEX)
}

/// How many records change when an index follows its collection, or goes with it.
pub(crate) fn records<N: Nodes>(nodes: &N, collection: Ino) -> Result<u64> {
    let Some((id, 0)) = crate::format::collection_part(collection) else { return Ok(0) };
    match find(nodes, id)? {
        Some(found) => Ok(1 + inode::load(nodes, found.inode)?.size.get().min(FILES_MAX)),
        None => Ok(0),
    }
}

/// Gives an index the owner, group and permissions of its collection, whose record is `collection`.
pub(crate) fn follow<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    collection: &InodeRecord,
) -> Result<()> {
    let Some(found) = find(tx, id)? else { return Ok(()) };
    for (inode, hidden) in
        files(tx, found.inode)?.iter().map(|file| (file.inode, EXECUTE)).chain([(found.inode, 0)])
    {
        let mut record = inode::load(tx, inode)?;
        let permissions = collection.mode.get() & PERMISSIONS & !hidden;
        record.mode = U32::new(record.mode.get() & !0o7777 | permissions);
        (record.uid, record.gid) = (collection.uid, collection.gid);
        record.changed = tx.now.into();
        inode::store(tx, inode, &record)?;
        tx.event(Event { inode, offset: 0, len: 0 })?;
    }
    Ok(())
}

/// Takes the index away from a collection that goes. Gives what nobody has open, which is to be freed in steps.
pub(crate) fn remove<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    id: CollectionId,
    is_open: &dyn Fn(Ino) -> bool,
) -> Result<Vec<Ino>> {
    let mut closed = Vec::new();
    let Some(found) = find(tx, id)? else { return Ok(closed) };
    for file in files(tx, found.inode)? {
        directory::remove_entry(tx, found.inode, &file)?;
        drop_name(tx, file.inode)?;
        if !is_open(file.inode) {
            memory::push(&mut closed, file.inode)?;
        }
    }
    directory::remove_entry(tx, collection_directory(id), &found)?;
    drop_name(tx, found.inode)?;
    memory::push(&mut closed, found.inode)?;
    Ok(closed)
}

// An inode of an index without a name waits to be freed.
fn drop_name<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, inode: Ino) -> Result<()> {
    let mut record = inode::load(tx, inode)?;
    record.links = U32::ZERO;
    record.changed = tx.now.into();
    if record.kind(inode)? == FileKind::Directory {
        record.size = U64::ZERO;
    }
    inode::store(tx, inode, &record)?;
    tx.event(Event { inode, offset: 0, len: 0 })?;
    // One that is being truncated is on the list already; freeing it is more than that.
    orphan::add(tx, inode, OrphanKind::Delete)
}

// The files of an index directory.
fn files<N: Nodes>(nodes: &N, index: Ino) -> Result<Vec<Found>> {
    let mut files = Vec::new();
    let (from, to) = (Key::new(index, Kind::Dirent, 0), Key::last(index, Kind::Dirent));
    tree::scan(nodes, from, to, &mut |key, value| {
        let (record, _) = directory::decode(index, value)?;
        let inode = Ino(record.inode.get());
        if files.len() as u64 == FILES_MAX || record.kind != FileKind::Regular as u8 {
            return Err(Error::corrupt("directory", index.0, "an index of too many files, or of others"));
        }
        memory::push(&mut files, Found { cookie: key.offset, inode, kind: FileKind::Regular })?;
        Ok(true)
    })?;
    Ok(files)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Makes the index directory of a collection.
    pub(crate) fn create_index(&mut self, id: CollectionId, now: Time) -> Result<Attributes> {
        let collection = collection_directory(id);
        self.transact(Budget::records(8), now, |tx| {
            let mut parent = directory::check_new(tx, collection, control::INDEX)?;
            let new = NewInode {
                kind: FileKind::Directory,
                permissions: parent.mode.get() & PERMISSIONS,
                umask: 0,
                uid: parent.uid.get(),
                gid: parent.gid.get(),
                device: 0,
            };
            let inode = tx.new_inode()?;
            let mut record = InodeRecord::new(&new, collection, tx.now);
            record.set_flag(InodeFlags::INDEX, true);
            directory::add_entry(tx, collection, control::INDEX, inode, FileKind::Directory)?;
            directory::count_entry(&mut parent, 1, 1, tx.now);
            inode::store(tx, collection, &parent)?;
            inode::store(tx, inode, &record)?;
            // Who does not know it would leave it behind when the collection goes.
            tx.volume.needs_to_write |= ReadOnlyCompatible::INDEX;
            inode::attributes_of(inode, &record, tx.geometry().block_size)
        })
    }
}
