//! Puts things on a new volume, and notes beside what a reader must find there.
//!
//! The same block size gives the same bytes: nothing here depends on time, chance or the machine.

use std::collections::BTreeMap;

use vexfs_core::device::Direct;
use vexfs_core::format::{
    COLLECTION_INODES, COLLECTIONS, Codec, ColumnType, FileKind, Quantizer, ROOT, collection_directory,
};
use vexfs_core::make::{MakeOptions, make};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Allocate, Attributes, Caller, Changes, NewInode, SetMode};
use vexfs_core::{Error, MountOptions, Result, Volume};

use super::listing::{CollectionEntry, FileEntry, Listing, PastEntry, VectorEntry, VolumeEntry};
use super::{Features, Ram, plan};

/// When everything happens that is not said to happen at another time.
pub(super) const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
const SIZE: usize = 6 << 20;
const UUID: [u8; 16] = *b"vexfs golden v1!";
const LABEL: &[u8] = b"golden";

/// An image of this block size, and the listing of what is on it.
pub fn image(block_size: u32, features: Features) -> Result<(Vec<u8>, Listing)> {
    let ram = Ram::new(vec![0; SIZE]);
    let options = MakeOptions {
        block_size,
        size: SIZE as u64,
        uuid: UUID,
        label: LABEL,
        hash_seed: *b"0123456789abcdef",
        uid: 0,
        gid: 0,
        now: NOW,
        journal_blocks: None,
    };
    make(&ram, &options)?;
    let mut maker = Maker {
        volume: Volume::mount(Direct(&ram), MountOptions::default())?,
        files: BTreeMap::new(),
        orphans: BTreeMap::new(),
        collections: BTreeMap::new(),
        journal: features.journal,
    };
    maker.note(b"/", ROOT)?;
    plan::fill(&mut maker, features)?;
    let listing = maker.finish(block_size)?;
    Ok((ram.into_bytes(), listing))
}

/// A volume that is being filled, and what is on it so far.
pub(super) struct Maker<'a> {
    pub(super) volume: Volume<Direct<&'a Ram>>,
    /// By path; names of one inode share nothing until the end.
    files: BTreeMap<Vec<u8>, FileEntry>,
    orphans: BTreeMap<u64, u32>,
    collections: BTreeMap<Vec<u8>, CollectionEntry>,
    journal: bool,
}

impl Maker<'_> {
    /// Creates something at `path`.
    pub(super) fn create(&mut self, path: &[u8], kind: FileKind, permissions: u32) -> Result<Ino> {
        let new = NewInode { kind, permissions, umask: 0, uid: 1000, gid: 100, device: 0 };
        self.create_as(path, &new)
    }

    /// Creates something at `path`, as `new` says.
    pub(super) fn create_as(&mut self, path: &[u8], new: &NewInode) -> Result<Ino> {
        let (parent, name) = self.parent(path)?;
        let inode = self.volume.create(parent, name, new, NOW)?.inode;
        self.note(path, inode)?;
        let entry = self.entry(path)?;
        (entry.kind, entry.permissions, entry.uid, entry.gid) = (new.kind, new.permissions, new.uid, new.gid);
        (entry.links, entry.size, entry.device) = (1, 0, new.device);
        Ok(inode)
    }

    /// Creates a regular file with this content, written in one piece.
    pub(super) fn file(&mut self, path: &[u8], content: &[u8]) -> Result<Ino> {
        let inode = self.create(path, FileKind::Regular, 0o644)?;
        self.write(path, 0, content)?;
        Ok(inode)
    }

    /// Writes into a file.
    pub(super) fn write(&mut self, path: &[u8], offset: usize, bytes: &[u8]) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.write(inode, offset as u64, bytes, NOW)?;
        let content = &mut self.entry(path)?.content;
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.make_stale(path)
    }

    /// Sets the size of a file.
    pub(super) fn truncate(&mut self, path: &[u8], size: usize) -> Result<()> {
        self.change(path, &Changes { size: Some(size as u64), ..Changes::default() })?;
        self.entry(path)?.content.resize(size, 0);
        self.make_stale(path)
    }

    /// fallocate(2) on a file.
    pub(super) fn allocate(&mut self, path: &[u8], what: Allocate, offset: usize, len: usize) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.allocate(inode, what, offset as u64, len as u64, NOW)?;
        let content = &mut self.entry(path)?.content;
        let end = offset + len;
        match what {
            Allocate::Reserve { keep_size: true } => {}
            Allocate::Reserve { keep_size: false } => content.resize(content.len().max(end), 0),
            Allocate::PunchHole | Allocate::ZeroRange { keep_size: true } => {
                let (from, to) = (offset.min(content.len()), end.min(content.len()));
                content[from..to].fill(0);
            }
            Allocate::ZeroRange { keep_size: false } => {
                content.resize(content.len().max(end), 0);
                content[offset..end].fill(0);
            }
        }
        self.make_stale(path)
    }

    /// Creates a symbolic link.
    pub(super) fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let inode = self.volume.symlink(parent, name, target, 1000, 100, NOW)?.inode;
        self.note(path, inode)?;
        let entry = self.entry(path)?;
        entry.content = target.to_vec();
        (entry.kind, entry.permissions, entry.links) = (FileKind::Symlink, 0o777, 1);
        Ok(())
    }

    /// Gives a file another name; it has to have its content, attributes and vectors before.
    pub(super) fn link(&mut self, path: &[u8], other: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(other)?;
        let inode = self.inode(path)?;
        self.volume.link(inode, parent, name, NOW)?;
        let entry = self.entry(path)?.clone();
        self.files.insert(other.to_vec(), entry);
        Ok(())
    }

    /// Removes a file that has one name.
    pub(super) fn unlink(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.volume.unlink(parent, name, &|_| false, NOW)?;
        self.files.remove(path);
        split(path).map_or(Ok(()), |(parent, _)| self.make_stale(parent))
    }

    /// Removes a file that somebody has open, and crashes: it stays on the orphan list.
    pub(super) fn unlink_open(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let removed = self.volume.unlink(parent, name, &|_| true, NOW)?;
        self.files.remove(path);
        self.orphans.insert(removed.inode.0, 1);
        Ok(())
    }

    /// Removes an empty collection; its rows wait on the orphan list.
    pub(super) fn remove_collection(&mut self, name: &[u8]) -> Result<()> {
        let removed = self.volume.remove_directory(COLLECTIONS, name, &|_| false, NOW)?;
        self.orphans.insert(removed.inode.0, 3);
        Ok(())
    }

    /// chmod, chown, utimens.
    pub(super) fn change(&mut self, path: &[u8], changes: &Changes) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.set_attributes(inode, changes, NOW)?;
        let entry = self.entry(path)?;
        entry.permissions = changes.permissions.unwrap_or(entry.permissions);
        entry.uid = changes.uid.unwrap_or(entry.uid);
        entry.gid = changes.gid.unwrap_or(entry.gid);
        entry.modified = changes.modified.unwrap_or(entry.modified);
        Ok(())
    }

    /// Sets an attribute that is no vector.
    pub(super) fn attribute(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.set_attribute(inode, name, value, SetMode::Any, &root(), NOW)?;
        self.entry(path)?.attributes.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    /// Sets vector `n` of a file in a collection; `name` is its attribute's.
    pub(super) fn vector(&mut self, path: &[u8], name: &str, bytes: &[u8]) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.set_attribute(inode, name.as_bytes(), bytes, SetMode::Any, &root(), NOW)?;
        let vectors = &mut self.entry(path)?.vectors;
        let place = vector_place(name)?;
        let old = vectors.remove(&place);
        // It stays with the vector that takes its place.
        let metadata = old.as_ref().and_then(|old| old.metadata.clone());
        let mut past: Vec<PastEntry> = old.iter().flat_map(|old| old.past.clone()).collect();
        past.splice(..0, old.map(|old| PastEntry { bytes: old.bytes, metadata: old.metadata }));
        let history = self.collections.get(&place.0).map_or(0, |known| known.history);
        past.truncate(history as usize);
        let (name, bytes) = (name.into(), bytes.to_vec());
        let vector = VectorEntry { name, row: 0, bytes, stale: false, metadata, past };
        self.entry(path)?.vectors.insert(place, vector);
        Ok(())
    }

    /// Sets the metadata of a vector, whose attribute is `name`.
    pub(super) fn metadata(&mut self, path: &[u8], name: &str, text: &str) -> Result<()> {
        let inode = self.inode(path)?;
        let attribute = format!("{name}.meta");
        self.volume.set_attribute(
            inode,
            attribute.as_bytes(),
            text.as_bytes(),
            SetMode::Any,
            &root(),
            NOW,
        )?;
        let vector = self.entry(path)?.vectors.get_mut(&vector_place(name)?).ok_or(Error::NotFound)?;
        vector.metadata = Some(text.into());
        Ok(())
    }

    /// Has a collection keep superseded vectors.
    pub(super) fn history(&mut self, collection: &str, count: u32) -> Result<()> {
        let inode = collection_directory(self.volume.collection_by_name(collection.as_bytes())?.id);
        let (name, value) = (b"user.vexfs.history", count.to_string());
        self.volume.set_attribute(inode, name, value.as_bytes(), SetMode::Any, &root(), NOW)?;
        let entry = self.collections.get_mut(collection.as_bytes()).ok_or(Error::NotFound)?;
        entry.history = count;
        Ok(())
    }

    /// Stores a collection by this codebook.
    pub(super) fn quantize(&mut self, collection: &str, quantizer: Quantizer, entries: &[u8]) -> Result<()> {
        let id = self.volume.collection_by_name(collection.as_bytes())?.id;
        self.volume.recode_with(id, quantizer, entries, NOW)?;
        while self.volume.collection(id)?.recode.is_some() {
            self.volume.recode_step(id, NOW)?;
        }
        self.collections.get_mut(collection.as_bytes()).ok_or(Error::NotFound)?.codec = Codec::PQ;
        Ok(())
    }

    /// Stores a collection in another codec.
    pub(super) fn recode(&mut self, collection: &str, codec: Codec) -> Result<()> {
        let id = self.volume.collection_by_name(collection.as_bytes())?.id;
        self.volume.recode(id, codec, NOW)?;
        while self.volume.collection(id)?.recode.is_some() {
            self.volume.recode_step(id, NOW)?;
        }
        self.collections.get_mut(collection.as_bytes()).ok_or(Error::NotFound)?.codec = codec.name();
        Ok(())
    }

    /// Matrices that were replaced wait to be freed.
    pub(super) fn note_retired(&mut self) {
        self.orphans.extend(self.volume.retired().iter().map(|matrix| (matrix.0, 1)));
    }

    /// Shows a member of a collection's metadata as a column.
    pub(super) fn column(
        &mut self,
        collection: &str,
        name: &str,
        kind: ColumnType,
        width: u16,
    ) -> Result<()> {
        let id = self.volume.collection_by_name(collection.as_bytes())?.id;
        self.volume.add_column(id, name.as_bytes(), kind, width, NOW)?;
        let entry = self.collections.get_mut(collection.as_bytes()).ok_or(Error::NotFound)?;
        let shown = if kind == ColumnType::String { width } else { 8 };
        let shown = if kind == ColumnType::Bool { 1 } else { shown };
        entry.columns.push((name.into(), kind.name(), shown));
        Ok(())
    }

    /// Removes a vector.
    pub(super) fn remove_vector(&mut self, path: &[u8], name: &str) -> Result<()> {
        let inode = self.inode(path)?;
        self.volume.remove_attribute(inode, name.as_bytes(), &root(), NOW)?;
        self.entry(path)?.vectors.remove(&vector_place(name)?);
        Ok(())
    }

    /// Notes what a collection must be; its rows are counted at the end.
    pub(super) fn expect_collection(&mut self, name: &str, entry: CollectionEntry) {
        self.collections.insert(name.into(), entry);
    }

    /// Commits, and does what waits for a commit.
    pub(super) fn settle(&mut self) -> Result<()> {
        for _ in 0..3 {
            self.volume.commit(NOW)?;
            while self.volume.tidy(NOW)? {}
        }
        self.volume.commit(NOW)
    }

    /// Makes everything durable, at the end.
    pub(super) fn durable(&mut self) -> Result<()> {
        if self.journal { self.volume.sync(NOW) } else { self.volume.commit(NOW) }
    }

    // What was put there, with the places (inodes, rows) that the core chose.
    fn finish(mut self, block_size: u32) -> Result<Listing> {
        self.durable()?;
        let names: Vec<Vec<u8>> = self.files.keys().cloned().collect();
        let mut inodes = std::collections::BTreeSet::new();
        for path in &names {
            let count = |directory: bool| {
                let inside = |(other, entry): &(&Vec<u8>, &FileEntry)| {
                    split(other).is_some_and(|(parent, _)| parent == &path[..])
                        && (!directory || entry.kind == FileKind::Directory)
                };
                self.files.iter().filter(inside).count()
            };
            let inode = self.files[path].inode;
            let (size, links) = match self.files[path].kind {
                FileKind::Directory => (count(false), 2 + count(true)),
                _ => (
                    self.files[path].content.len(),
                    self.files.values().filter(|other| other.inode == inode).count(),
                ),
            };
            inodes.insert(inode);
            let mut rows = BTreeMap::new();
            self.volume.vectors_of(Ino(inode), &mut |vector| {
                rows.insert((vector.collection, vector.n), vector.row);
            })?;
            let entry = self.entry(path)?;
            (entry.size, entry.links) = (size as u64, links as u32);
            for ((collection, n), row) in rows {
                let name = self.volume.collection_name(collection)?;
                let wrong = Error::Invalid("the volume has a vector that was never set");
                self.entry(path)?.vectors.get_mut(&(name, n)).ok_or(wrong)?.row = row;
            }
        }
        for (name, collection) in &mut self.collections {
            let mut rows = std::collections::BTreeSet::new();
            for entry in self.files.values() {
                rows.extend(entry.vectors.iter().filter(|(place, _)| place.0 == *name).map(|(_, v)| v.row));
            }
            collection.live = rows.len() as u64;
            collection.rows = rows.last().map_or(0, |row| row + 1);
        }
        let is_file = |(inode, kind): &(&u64, &u32)| **kind == 1 && **inode < COLLECTION_INODES;
        let orphan_files = self.orphans.iter().filter(is_file).count();
        Ok(Listing {
            volume: VolumeEntry {
                block_size,
                uuid: UUID,
                label: LABEL.to_vec(),
                inodes: (inodes.len() + orphan_files) as u64,
            },
            collections: self.collections,
            files: self.files,
            orphans: self.orphans,
        })
    }

    // Vectors of a file whose content changed are stale, and of a directory whose entries did.
    fn make_stale(&mut self, path: &[u8]) -> Result<()> {
        self.entry(path)?.vectors.values_mut().for_each(|vector| vector.stale = true);
        Ok(())
    }

    fn note(&mut self, path: &[u8], inode: Ino) -> Result<()> {
        let attributes: Attributes = self.volume.attributes(inode)?;
        self.files.insert(path.to_vec(), FileEntry { modified: NOW, ..FileEntry::new(&attributes) });
        split(path).map_or(Ok(()), |(parent, _)| self.make_stale(parent))
    }

    fn entry(&mut self, path: &[u8]) -> Result<&mut FileEntry> {
        self.files.get_mut(path).ok_or(Error::NotFound)
    }

    pub(super) fn inode(&self, path: &[u8]) -> Result<Ino> {
        self.files.get(path).map(|entry| Ino(entry.inode)).ok_or(Error::NotFound)
    }

    fn parent<'p>(&self, path: &'p [u8]) -> Result<(Ino, &'p [u8])> {
        let (parent, name) = split(path).ok_or(Error::NotFound)?;
        Ok((self.inode(parent)?, name))
    }
}

/// Root, who may do anything.
pub(super) fn root() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

// The directory and the name of a path; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let (parent, name) = (&path[..slash], &path[slash + 1..]);
    (!name.is_empty()).then_some((if parent.is_empty() { b"/" } else { parent }, name))
}

// Collection and n of an attribute's name.
fn vector_place(name: &str) -> Result<(Vec<u8>, u32)> {
    let bad = Error::Invalid("not the name of a vector");
    let rest = name.strip_prefix("user.vector.").ok_or(bad)?;
    let (head, n) = rest.split_once('.').unwrap_or((rest, "0"));
    let collection = head.split_once(':').map_or(head, |(collection, _)| collection);
    Ok((collection.into(), n.parse().map_err(|_| bad)?))
}
