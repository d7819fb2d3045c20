//! Directories: looking up, listing, creating, linking and unlinking.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::acl::Inherited;
use super::inode::{self, attributes_of};
use super::names::{self, NameHash};
use super::types::{Attributes, Entry, NewInode, Removed};
use super::{index, orphan, past, unlinked};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    DirentRecord, FileKind, INLINE_MAX, InodeFlags, InodeRecord, Key, Kind, LinkRecord, NAME_MAX, ROOT, parse,
};
use crate::memory;
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

const SETGID: u32 = 0o2000;
/// Links of an inode at most.
const LINKS_MAX: u32 = 1 << 30;
/// Bytes of a symbolic link's target at most, as `PATH_MAX` less its NUL.
const TARGET_MAX: usize = 4095;

/// An entry found by name.
pub(crate) struct Found {
    /// Its place in the directory.
    pub(crate) cookie: u64,
    /// The inode named.
    pub(crate) inode: Ino,
    /// Its type, as the entry says.
    pub(crate) kind: FileKind,
}

/// The entry `name` of `directory`.
pub(crate) fn entry<N: Nodes>(nodes: &N, directory: Ino, name: &[u8]) -> Result<Option<Found>> {
    let hash = NameHash::new(nodes, directory, name);
    let found = names::find(nodes, directory, Kind::Dirent, hash, &mut |value| {
        Ok(decode(directory, value)?.1 == name)
    })?;
    let Some((cookie, value)) = found else { return Ok(None) };
    let (record, _) = decode(directory, &value)?;
    Ok(Some(Found { cookie, inode: Ino(record.inode.get()), kind: kind_of(directory, record)? }))
}

/// Adds an entry and the way back from its inode.
pub(crate) fn add_entry<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    directory: Ino,
    name: &[u8],
    inode: Ino,
    kind: FileKind,
) -> Result<()> {
    let hash = NameHash::new(tx, directory, name);
    let cookie = names::free_place(tx, directory, Kind::Dirent, hash)?;
    let record = DirentRecord {
        inode: U64::new(inode.0),
        kind: kind as u8,
        name_len: name.len() as u8,
        reserved: U16::ZERO,
    };
    let mut value = memory::copy(record.as_bytes())?;
    memory::extend(&mut value, name)?;
    tree::put(tx, Key::new(directory, Kind::Dirent, cookie), &value)?;
    let link = LinkRecord { parent: U64::new(directory.0), cookie: U64::new(cookie) };
    let hash = NameHash::new(tx, inode, link.as_bytes());
    let place = names::free_place(tx, inode, Kind::Link, hash)?;
    tree::put(tx, Key::new(inode, Kind::Link, place), link.as_bytes())
}

/// Removes an entry and the way back from its inode.
pub(crate) fn remove_entry<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    directory: Ino,
    found: &Found,
) -> Result<()> {
    tree::remove(tx, Key::new(directory, Kind::Dirent, found.cookie))?;
    let link = LinkRecord { parent: U64::new(directory.0), cookie: U64::new(found.cookie) };
    let hash = NameHash::new(tx, found.inode, link.as_bytes());
    let place = names::find(tx, found.inode, Kind::Link, hash, &mut |value| Ok(value == link.as_bytes()))?
        .map(|(at, _)| at);
    let place = place.ok_or(Error::corrupt("inode", found.inode.0, "the way back to a name is missing"))?;
    tree::remove(tx, Key::new(found.inode, Kind::Link, place))?;
    Ok(())
}

/// Counts an entry in or out of a directory's record, and a subdirectory's link to it.
pub(crate) fn count_entry(record: &mut InodeRecord, entries: i64, subdirectories: i32, now: Time) {
    record.size = U64::new(record.size.get().saturating_add_signed(entries));
    record.links = U32::new(record.links.get().saturating_add_signed(subdirectories));
    record.version = U64::new(record.version.get().wrapping_add(1));
    record.modified = now.into();
    record.changed = now.into();
}

/// Fails if `name` cannot be the name of a new entry of `directory`.
pub(crate) fn check_name(directory: Ino, name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(Error::Invalid("a name cannot be empty, '.' or '..', or hold '/' or NUL"));
    }
    if directory == ROOT && name == control::NAME {
        return Err(Error::Exists);
    }
    Ok(())
}

impl<H: BlockDevice + Data> Volume<H> {
    /// The entry `name` of `directory`.
    pub fn lookup(&self, directory: Ino, name: &[u8]) -> Result<Attributes> {
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        if let Some(found) = control::lookup(self, directory, name)? {
            return Ok(found);
        }
        if !control::has_entries(directory) {
            return Err(Error::NotFound);
        }
        inode::load(self, directory)?.expect_directory(directory)?;
        let found = entry(self, directory, name)?.ok_or(Error::NotFound)?;
        self.attributes(found.inode)
    }

    /// Entries after `cookie` (0 = from the start), without `.` and `..`, until `each` gives false.
    ///
    /// The entry for which it gave false does not count as given.
    pub fn read_directory(
        &self,
        directory: Ino,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<()> {
        if !control::read_directory(self, directory, cookie, each)? {
            return Ok(());
        }
        inode::load(self, directory)?.expect_directory(directory)?;
        let from = Key::new(directory, Kind::Dirent, cookie.saturating_add(1));
        tree::scan(self, from, Key::last(directory, Kind::Dirent), &mut |key, value| {
            let (record, name) = decode(directory, value)?;
            let kind = kind_of(directory, record)?;
            Ok(each(Entry { inode: Ino(record.inode.get()), kind, name, cookie: key.offset }))
        })
    }

    /// The directory that holds `directory`; the root holds itself.
    pub fn parent(&self, directory: Ino) -> Result<Ino> {
        if let Some(parent) = control::parent(directory) {
            return Ok(parent);
        }
        let record = inode::load(self, directory)?;
        record.expect_directory(directory)?;
        Ok(Ino(record.parent.get()))
    }

    /// Creates a regular file, directory, fifo, socket or device node.
    ///
    /// In `.vexfs/collections` a directory is a new collection.
    pub fn create(&mut self, directory: Ino, name: &[u8], new: &NewInode, now: Time) -> Result<Attributes> {
        if control::is_control(directory) {
            return self.create_in_control(directory, name, new, now);
        }
        check_name(directory, name)?;
        let inherited = Inherited::of(self, directory, new)?;
        let records = inherited.records(self.layout.block_size);
        let made = self.transact(Budget::records(6 + records), now, |tx| {
            let (inode, mut record) = make(tx, directory, name, &inherited.new)?;
            inherited.put(tx, inode, &mut record)?;
            inode::store(tx, inode, &record)?;
            attributes_of(inode, &record, tx.geometry().block_size)
        })?;
        self.note_name(made.inode, (directory, name));
        Ok(made)
    }

    /// Creates a symbolic link.
    pub fn symlink(
        &mut self,
        directory: Ino,
        name: &[u8],
        target: &[u8],
        uid: u32,
        gid: u32,
        now: Time,
    ) -> Result<Attributes> {
        if target.is_empty() {
            return Err(Error::NotFound);
        }
        if target.len() > TARGET_MAX {
            return Err(Error::NameTooLong);
        }
        control::check_writable(directory)?;
        let new = NewInode { kind: FileKind::Symlink, permissions: 0o777, umask: 0, uid, gid, device: 0 };
        self.transact(Budget::records(12), now, |tx| {
            let (inode, mut record) = make(tx, directory, name, &new)?;
            record.size = U64::new(target.len() as u64);
            record.set_flag(InodeFlags::INLINE, true);
            for (index, part) in target.chunks(INLINE_MAX).enumerate() {
                tree::put(tx, Key::new(inode, Kind::Inline, (index * INLINE_MAX) as u64), part)?;
            }
            inode::store(tx, inode, &record)?;
            attributes_of(inode, &record, tx.geometry().block_size)
        })
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, inode: Ino) -> Result<Vec<u8>> {
        let record = inode::load(self, inode)?;
        if record.kind(inode)? != FileKind::Symlink {
            return Err(Error::Invalid("not a symbolic link"));
        }
        let mut target = Vec::new();
        let (from, to) = (Key::new(inode, Kind::Inline, 0), Key::last(inode, Kind::Inline));
        tree::scan(self, from, to, &mut |key, value| {
            if key.offset != target.len() as u64 || target.len() > TARGET_MAX {
                return Err(Error::corrupt("inode", inode.0, "symbolic link with gaps"));
            }
            memory::extend(&mut target, value)?;
            Ok(true)
        })?;
        if target.len() as u64 != record.size.get() {
            return Err(Error::corrupt("inode", inode.0, "symbolic link of a wrong length"));
        }
        Ok(target)
    }

    /// Another name for a file.
    pub fn link(&mut self, inode: Ino, directory: Ino, name: &[u8], now: Time) -> Result<Attributes> {
        control::check_writable(directory)?;
        control::check_writable(inode)?;
        index::check_ordinary(self, inode)?;
        if index::is_of_index(&inode::load(self, directory)?) {
            return Err(Error::CrossDevice);
        }
        self.transact(Budget::records(8), now, |tx| {
            let mut record = inode::load(tx, inode)?;
            let kind = record.kind(inode)?;
            if kind == FileKind::Directory {
                return Err(Error::NotPermitted("a directory cannot have another name"));
            }
            if record.links.get() >= LINKS_MAX {
                return Err(Error::TooManyLinks);
            }
            // What had a name before comes to its end, and the history of its vectors may be half gone.
            if record.links.get() == 0 && (past::has_any(tx, inode)? || !orphan::forget(tx, inode)?) {
                return Err(Error::NotFound);
            }
            let mut parent = check_new(tx, directory, name)?;
            add_entry(tx, directory, name, inode, kind)?;
            count_entry(&mut parent, 1, 0, tx.now);
            inode::store(tx, directory, &parent)?;
            record.links = U32::new(record.links.get() + 1);
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)?;
            attributes_of(inode, &record, tx.geometry().block_size)
        })
    }

    /// A file without a name, as `O_TMPFILE` asks for: an orphan until it is linked.
    pub fn create_unnamed(&mut self, directory: Ino, new: &NewInode, now: Time) -> Result<Attributes> {
        control::check_writable(directory)?;
        index::check_ordinary(self, directory)?;
        self.load_waiting()?;
        let inherited = Inherited::of(self, directory, new)?;
        let records = inherited.records(self.layout.block_size);
        self.transact(Budget::records(4 + records), now, |tx| {
            let parent = inode::load(tx, directory)?;
            parent.expect_directory(directory)?;
            let inode = tx.new_inode()?;
            let mut record = InodeRecord::new(&inherit(&parent, &inherited.new), directory, tx.now);
            inherited.put(tx, inode, &mut record)?;
            record.links = U32::ZERO;
            inode::store(tx, inode, &record)?;
            orphan::add(tx, inode, crate::format::OrphanKind::Delete)?;
            attributes_of(inode, &record, tx.geometry().block_size)
        })
    }

    /// Removes a name of something that is no directory; with the last one its vectors leave their collections.
    ///
    /// If `is_open` says that somebody has the file open, its vectors stay readable as plain attributes until
    /// [`Volume::release`].
    pub fn unlink(
        &mut self,
        directory: Ino,
        name: &[u8],
        is_open: &dyn Fn(Ino) -> bool,
        now: Time,
    ) -> Result<Removed> {
        control::check_writable(directory)?;
        let found = entry(self, directory, name)?.ok_or(Error::NotFound)?;
        if found.kind == FileKind::Directory {
            return Err(Error::IsDirectory);
        }
        self.load_waiting()?;
        let linked = self.linked(found.inode, true)?;
        let successor = self.successor(found.inode)?;
        let mut remove = |budget, limit| {
            self.transact(budget, now, |tx| {
                let mut parent = inode::load(tx, directory)?;
                remove_entry(tx, directory, &found)?;
                count_entry(&mut parent, -1, 0, tx.now);
                inode::store(tx, directory, &parent)?;
                if let Some(successor) = successor.filter(|_| limit > 0) {
                    super::inherit::inherit(tx, found.inode, successor)?;
                }
                drop_link(tx, found.inode, is_open, limit)
            })
        };
        match remove(Budget::freeing(12 + linked.records() + orphan::STEP), orphan::STEP) {
            // A full volume: as little as will do, and the rest in steps.
            Err(Error::NoSpace { .. }) if linked.vectors == 0 || !is_open(found.inode) => {
                remove(Budget::least().with_vectors(linked.vectors, linked.metadata), 0)
            }
            other => other,
        }
    }

    /// Removes an empty directory; in `.vexfs/collections`, an empty collection with its index files, of which those
    /// that `is_open` says somebody has open are left to [`Volume::release`].
    pub fn remove_directory(
        &mut self,
        directory: Ino,
        name: &[u8],
        is_open: &dyn Fn(Ino) -> bool,
        now: Time,
    ) -> Result<Removed> {
        if control::is_control(directory) && !control::has_index(directory) {
            return self.remove_collection(directory, name, is_open, now);
        }
        if directory == ROOT && name == control::NAME {
            return Err(Error::NotPermitted("the control directory cannot be removed"));
        }
        let found = entry(self, directory, name)?.ok_or(Error::NotFound)?;
        self.load_waiting()?;
        let linked = self.linked(found.inode, true)?;
        let mut remove = |budget, limit| {
            self.transact(budget, now, |tx| {
                let mut parent = inode::load(tx, directory)?;
                remove_entry(tx, directory, &found)?;
                count_entry(&mut parent, -1, -1, tx.now);
                inode::store(tx, directory, &parent)?;
                drop_directory(tx, found.inode, limit)
            })
        };
        match remove(Budget::freeing(12 + linked.records() + orphan::STEP), orphan::STEP) {
            Err(Error::NoSpace { .. }) if linked.vectors == 0 => remove(Budget::least(), 0),
            other => other,
        }
    }
}

/// Takes one link away from an inode that is no directory; with the last one it becomes an orphan, or is freed if it
/// has fewer than `limit` records.
pub(crate) fn drop_link<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    is_open: &dyn Fn(Ino) -> bool,
    limit: u64,
) -> Result<Removed> {
    let mut record = inode::load(tx, inode)?;
    let links =
        record.links.get().checked_sub(1).ok_or(Error::corrupt("inode", inode.0, "no link is left"))?;
    record.links = U32::new(links);
    record.changed = tx.now.into();
    inode::store(tx, inode, &record)?;
    if links == 0 {
        let open = is_open(inode);
        unlinked::unlink_all(tx, inode, open)?;
        orphan::bury(tx, inode, open, limit)?;
    }
    let last = attributes_of(inode, &record, tx.geometry().block_size)?;
    Ok(Removed { inode, links, last })
}

/// Frees an empty directory that has lost its name.
pub(crate) fn drop_directory<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    limit: u64,
) -> Result<Removed> {
    let mut record = inode::load(tx, inode)?;
    record.expect_directory(inode)?;
    if tree::first(tx, Key::new(inode, Kind::Dirent, 0), Key::last(inode, Kind::Dirent))?.is_some() {
        return Err(Error::NotEmpty);
    }
    record.links = U32::ZERO;
    record.changed = tx.now.into();
    inode::store(tx, inode, &record)?;
    unlinked::unlink_all(tx, inode, false)?;
    orphan::bury(tx, inode, false, limit)?;
    let last = attributes_of(inode, &record, tx.geometry().block_size)?;
    Ok(Removed { inode, links: 0, last })
}

/// The directory's record, after making sure that a new entry `name` can be put there.
pub(crate) fn check_new<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    directory: Ino,
    name: &[u8],
) -> Result<InodeRecord> {
    check_name(directory, name)?;
    let parent = inode::load(tx, directory)?;
    parent.expect_directory(directory)?;
    if entry(tx, directory, name)?.is_some() {
        return Err(Error::Exists);
    }
    Ok(parent)
}

// Makes a new inode with a name; its record is still to be stored.
fn make<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    directory: Ino,
    name: &[u8],
    new: &NewInode,
) -> Result<(Ino, InodeRecord)> {
    let mut parent = check_new(tx, directory, name)?;
    let new = index::placed(&parent, inherit(&parent, new))?;
    let inode = tx.new_inode()?;
    let mut record = InodeRecord::new(&new, directory, tx.now);
    index::mark(&parent, &mut record);
    let subdirectories = i32::from(new.kind == FileKind::Directory);
    add_entry(tx, directory, name, inode, new.kind)?;
    count_entry(&mut parent, 1, subdirectories, tx.now);
    inode::store(tx, directory, &parent)?;
    Ok((inode, record))
}

// What a setgid directory passes on.
fn inherit(parent: &InodeRecord, new: &NewInode) -> NewInode {
    let mut new = *new;
    if parent.mode.get() & SETGID != 0 {
        new.gid = parent.gid.get();
        if new.kind == FileKind::Directory {
            new.permissions |= SETGID;
        }
    }
    new
}

/// An entry's record and name.
pub(crate) fn decode(directory: Ino, value: &[u8]) -> Result<(&DirentRecord, &[u8])> {
    let (record, name): (&DirentRecord, _) = parse(value, "directory", directory.0)?;
    if name.len() != usize::from(record.name_len) || name.is_empty() {
        return Err(Error::corrupt("directory", directory.0, "an entry's name has a wrong length"));
    }
    Ok((record, name))
}

fn kind_of(directory: Ino, record: &DirentRecord) -> Result<FileKind> {
    FileKind::from_u8(record.kind).ok_or(Error::corrupt(
        "directory",
        directory.0,
        "an entry of an unknown type",
    ))
}
