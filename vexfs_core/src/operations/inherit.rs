//! Freshness: a vector is stale when its file's content is not that which it was made from; and what is saved over a
//! file inherits its vectors, stale, where every other filesystem would lose them.
//!
//! A vector that is set on a new file while that is empty is of the content that comes: tar(1) sets attributes before
//! data. It is bound when the file is first closed with content; a crash before leaves it stale.
//!
//! Some editors rename the old file, make the name anew, and remove the old file. So who takes the name of a file with
//! vectors is kept in mind, in memory alone, until that file is removed.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::collection::{self, Loaded};
use super::vector::{name_len, row_record, scan, vector_key};
use super::vector_name::{At, VectorName};
use super::{inode, past, xattr};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result, if_whole};
use crate::format::{
    CollectionFlags, FileKind, InodeRecord, Key, RowRecord, VERSION_GONE, VectorRecord, collection_directory,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Renamed, Volume};

/// True if all vectors of a file, or all in one collection, were made from the content it has now; `None` if it has none.
pub(crate) fn freshness<N: Nodes>(
    nodes: &N,
    file: Ino,
    record: &InodeRecord,
    only: Option<CollectionId>,
) -> Result<Option<bool>> {
    let mut fresh = None;
    scan(nodes, file, &mut |id, _, vector| {
        if only.is_none_or(|only| only == id) {
            fresh = Some(fresh.unwrap_or(true) && vector.version == record.version);
        }
        Ok(())
    })?;
    Ok(fresh)
}

/// Fails if the name asks for another version than this vector is of.
pub(super) fn check_at(name: &VectorName<'_>, vector: &VectorRecord) -> Result<()> {
    match name.at {
        At::Content(version) if version != vector.version.get() => Err(Error::NoAttribute),
        At::Past(_) => Err(Error::NoAttribute),
        _ => Ok(()),
    }
}

/// The content version that a vector to be set is made from: what its name says, or that of the present content. One of an
/// older version is stale from the first, and takes no place of one that is not.
pub(super) fn made_from(
    name: &VectorName<'_>,
    record: &InodeRecord,
    old: Option<&VectorRecord>,
) -> Result<u64> {
    let present = record.version.get();
    match name.at {
        At::Present => Ok(present),
        At::Content(version) if version > present => {
            Err(Error::Invalid("the file has not come to this content version yet"))
        }
        At::Content(version)
            if version != present && old.is_some_and(|old| old.version == record.version) =>
        {
            Err(Error::Outdated)
        }
        At::Content(version) => Ok(version),
        At::Past(_) => Err(past::UNCHANGEABLE),
    }
}

/// The content version of a file that nothing was written to yet.
pub(super) const FIRST_VERSION: u64 = 1;
/// Files whose content is waited for.
pub(super) const AWAITING_MAX: usize = 4096;

impl<H: BlockDevice + Data> Volume<H> {
    /// An attribute was set: a vector is of the content that its file is first closed with, if that is new and empty, and the
    /// vector's name says no version.
    pub fn await_content(&mut self, inode: Ino, attribute: &[u8]) -> Result<()> {
        if VectorName::parse(attribute)?.is_none_or(|name| name.at != At::Present) {
            return Ok(());
        }
        self.await_first_content(inode)
    }

    /// The same of a vector whose name says no version.
    pub(super) fn await_first_content(&mut self, inode: Ino) -> Result<()> {
        let record = inode::load(self, inode)?;
        let new = record.size.get() == 0 && record.version.get() == FIRST_VERSION;
        if new && record.kind(inode)? == FileKind::Regular && !self.awaits_content(inode) {
            if self.awaiting.len() >= AWAITING_MAX {
                self.awaiting.remove(0);
            }
            memory::push(&mut self.awaiting, inode)?;
        }
        Ok(())
    }

    /// A vector of a file was set that says itself which content it is of: what comes is not it.
    pub(super) fn await_nothing(&mut self, inode: Ino) {
        self.awaiting.retain(|awaiting| *awaiting != inode);
    }

    /// True if [`Volume::bind_content`] has something to do.
    pub fn awaits_content(&self, inode: Ino) -> bool {
        self.awaiting.contains(&inode)
    }

    /// A file was closed: binds the vectors that waited for its content.
    pub fn bind_content(&mut self, inode: Ino, now: Time) -> Result<()> {
        let Some(index) = self.awaiting.iter().position(|awaiting| *awaiting == inode) else { return Ok(()) };
        let version = inode::load(self, inode).map_or(0, |record| record.version.get());
        if version == FIRST_VERSION {
            return Ok(());
        }
        let count = self.vector_count(inode)?;
        if count == 0 {
            self.awaiting.remove(index);
            return Ok(());
        }
        let bound = self.transact(Budget::records(3 * count + 2), now, |tx| {
            let mut record = inode::load(tx, inode)?;
            let mut vectors = Vec::new();
            scan(tx, inode, &mut |id, n, vector| memory::push(&mut vectors, (id, n, *vector)))?;
            for (id, n, vector) in vectors.iter().filter(|(.., vector)| vector.version.get() == FIRST_VERSION)
            {
                let row = vector.row.get();
                let loaded = collection::load(tx, *id)?;
                let row_record = RowRecord { version: record.version, ..row_record(tx, &loaded, row)? };
                loaded.put_row(tx, row, &row_record)?;
                let vector = VectorRecord { version: record.version, ..*vector };
                tree::put(tx, vector_key(inode, *id, *n), vector.as_bytes())?;
            }
            record.bound_version = record.version;
            inode::store(tx, inode, &record)
        });
        // Without memory it waits for the next close.
        if !matches!(bound, Err(Error::NoMemory)) {
            self.awaiting.remove(index);
        }
        bound?;
        self.journal.settled.remove(inode.0);
        self.journal.bound(inode);
        Ok(())
    }
}

/// Files that are kept in mind.
const RENAMED_MAX: usize = 64;

impl<H: BlockDevice + Data> Volume<H> {
    /// What is to be kept in mind of a file that gets another name in place of `from`, and room for it; nothing of a file without
    /// vectors.
    pub(super) fn renames(&mut self, inode: Ino, from: (Ino, &[u8])) -> Result<Option<Renamed>> {
        let regular = |record: InodeRecord| record.kind(inode) == Ok(FileKind::Regular);
        if !if_whole(inode::load(self, inode))?.is_some_and(regular) || self.vector_count(inode)? == 0 {
            return Ok(None);
        }
        memory::reserve(&mut self.renamed, 1)?;
        Ok(Some(Renamed { inode, place: (from.0, memory::copy(from.1)?), successor: None }))
    }

    /// A file has a new name, `to`; of the old one that is to be kept in mind.
    pub(super) fn note_rename(&mut self, inode: Ino, old: Option<Renamed>, to: (Ino, &[u8])) {
        self.renamed.retain(|renamed| renamed.inode != inode);
        self.note_name(inode, to);
        if let Some(old) = old {
            if self.renamed.len() >= RENAMED_MAX {
                self.renamed.remove(0);
            }
            memory::append(&mut self.renamed, old);
        }
    }

    /// A name was given to a file.
    pub(super) fn note_name(&mut self, inode: Ino, place: (Ino, &[u8])) {
        let same = |renamed: &&mut Renamed| (renamed.place.0, &*renamed.place.1) == place;
        for renamed in self.renamed.iter_mut().filter(same) {
            renamed.successor = Some(inode);
        }
    }

    /// The file that took the name of `inode`, if it has a name.
    pub(super) fn successor(&self, inode: Ino) -> Result<Option<Ino>> {
        let renamed = self.renamed.iter().find(|renamed| renamed.inode == inode);
        let Some(to) = renamed.and_then(|renamed| renamed.successor) else { return Ok(None) };
        Ok(if_whole(inode::load(self, to))?.filter(|record| record.links.get() > 0).map(|_| to))
    }
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
            let len = name_len(tx, &loaded, *n, vector.row.get())?;
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
    let mut record = row_record(tx, loaded, row)?;
    if record.header.file_inode.get() != from.0 || record.n.get() != n {
        return Err(Error::corrupt("row of collection", directory.0, "belongs to another file"));
    }
    record.header.file_inode = U64::new(to.0);
    record.version = U64::new(VERSION_GONE);
    loaded.put_row(tx, row, &record)?;
    let vector = VectorRecord { version: record.version, ..*vector };
    tree::remove(tx, vector_key(from, loaded.id, n))?;
    tree::put(tx, vector_key(to, loaded.id, n), vector.as_bytes())?;
    past::hand_over(tx, loaded.id, (from, to), n)?;
    loaded.row_relinked(tx, row)
}

fn has_any<N: Nodes>(nodes: &N, file: Ino, id: CollectionId) -> Result<bool> {
    let (from, to) = (vector_key(file, id, 0), vector_key(file, id, u32::MAX));
    Ok(tree::first(nodes, from, Key { offset: to.offset.saturating_add(1), ..to })?.is_some())
}
