//! One inode's records against each other and against those of others.

use super::finding::Counted;
use super::{Finding, State, collections};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLLECTIONS, DirentRecord, FIRST_INODE, FileKind, INLINE_MAX, InodeFlags, InodeRecord, Key, Kind,
    LinkRecord, ORPHANS, OrphanKind, ROOT, VectorRecord, parse_exact,
};
use crate::numbers::{CollectionId, Ino};
use crate::operations::records;
use crate::tree;
use crate::volume::Volume;
use zerocopy::IntoBytes;

/// Directories between one and the root at most.
const DEPTH_MAX: usize = 1 << 16;

/// What was seen of one inode.
pub(super) struct Group {
    pub(super) inode: u64,
    /// A part of its records could not be read: its counts mean nothing.
    pub(super) incomplete: bool,
    record: Option<InodeRecord>,
    links: u64,
    link_parent: u64,
    entries: u64,
    subdirectories: u64,
    attributes: u64,
    /// Permission bits that the access list tells.
    listed_mode: Option<u32>,
    inline: u64,
    blocks: u64,
    extents: u64,
    extent_end: u64,
    rows: collections::Rows,
}

impl Group {
    pub(super) fn new(inode: u64) -> Self {
        Self {
            inode,
            incomplete: false,
            record: None,
            links: 0,
            link_parent: 0,
            entries: 0,
            subdirectories: 0,
            attributes: 0,
            listed_mode: None,
            inline: 0,
            blocks: 0,
            extents: 0,
            extent_end: 0,
            rows: collections::Rows::default(),
        }
    }

    /// Looks at one record. `Err(Corrupt)` says that it cannot be read.
    pub(super) fn visit<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let inode = Ino(key.inode);
        let Some(kind) = Kind::from_u8(key.kind) else {
            return Err(Error::corrupt("inode", inode.0, "a record of an unknown kind"));
        };
        match kind {
            Kind::Inode => self.record = Some(*parse_exact(value, "inode", inode.0)?),
            Kind::Inline => {
                if key.offset != self.inline {
                    state.report(record(inode, "inline bytes with gaps", key.offset))?;
                }
                self.inline += value.len() as u64;
            }
            Kind::Link => self.link(volume, state, key, value)?,
            Kind::Xattr => {
                let (_, name, _) = records::xattr(inode, value)?;
                check_hash(state, key, records::name_hash(volume, inode, name))?;
                let content = records::xattr_value(volume, inode, value)?;
                if let Some(mode) = records::listed_mode(inode, name, &content)? {
                    self.listed_mode = Some(mode);
                }
                self.attributes += 1;
            }
            Kind::XattrValue | Kind::VectorMeta => {}
            Kind::Vector => {
                self.attributes += 1;
                self.vector(volume, state, key, parse_exact(value, "vector of inode", inode.0)?)?;
            }
            Kind::Dirent => self.dirent(volume, state, key, value)?,
            Kind::Extent => self.extent(volume, state, key, value)?,
            Kind::Orphan => orphan(volume, state, key)?,
            Kind::Collection | Kind::Row | Kind::Blank | Kind::FreeRows => {
                self.rows.visit(volume, state, kind, key, value)?;
            }
        }
        Ok(())
    }

    /// Compares what was seen with the inode's record.
    pub(super) fn finish<H: BlockDevice + Data>(
        self,
        volume: &Volume<H>,
        state: &mut State<'_>,
    ) -> Result<()> {
        let inode = Ino(self.inode);
        if self.inode == 0 || inode == ORPHANS {
            return Ok(());
        }
        let Some(inode_record) = self.record else {
            if self.incomplete {
                return Ok(());
            }
            return state.report(record(inode, "records without an inode", 0));
        };
        let Some(kind) = FileKind::from_mode(inode_record.mode.get()) else {
            return state.report(record(inode, "of an unknown type", u64::from(inode_record.mode.get())));
        };
        if !control::is_control(inode) {
            state.report.inodes += 1;
            state.report.directories += u64::from(kind == FileKind::Directory);
            state.report.files += u64::from(kind == FileKind::Regular);
            state.highest_inode = state.highest_inode.max(inode.0);
        }
        if self.incomplete {
            return Ok(());
        }
        // What waits to be freed may have lost any of its records already; only its blocks are exact.
        let owner = match crate::format::collection_part(inode) {
            Some((id, _)) => crate::format::collection_directory(id),
            None => inode,
        };
        let waits = state.absorb(records::orphan_kind(volume, owner))?.flatten();
        if matches!(waits, Some(OrphanKind::Delete | OrphanKind::Collection)) {
            state.report.orphans += 1;
            return self.blocks(state, &inode_record);
        }
        self.counts(state, &inode_record, kind)?;
        self.contents(state, &inode_record, kind)?;
        if kind == FileKind::Directory && !control::is_control(inode) && inode_record.links.get() != 0 {
            self.way_up(volume, state, &inode_record)?;
        }
        self.rows.finish(volume, state, inode)
    }

    fn blocks(&self, state: &mut State<'_>, record: &InodeRecord) -> Result<()> {
        let (recorded, counted) = (record.blocks.get(), self.blocks);
        if recorded == counted {
            return Ok(());
        }
        state.report(Finding::Count { inode: self.inode, what: Counted::Blocks, recorded, counted })
    }

    fn counts(&self, state: &mut State<'_>, record: &InodeRecord, kind: FileKind) -> Result<()> {
        self.blocks(state, record)?;
        let mut pairs = [
            (Counted::Attributes, u64::from(record.attributes.get()), self.attributes),
            (Counted::Links, u64::from(record.links.get()), self.links),
            (Counted::Entries, self.entries, self.entries),
        ];
        if kind == FileKind::Directory {
            pairs[2].1 = record.size.get();
            let named = self.links == 1 || self.inode == ROOT.0 || self.inode == COLLECTIONS.0;
            pairs[1].2 = if named { 2 + self.subdirectories } else { 0 };
        } else if control::is_control(Ino(self.inode)) {
            // A matrix has no name of its own.
            pairs[1].1 = 0;
        }
        for (what, recorded, counted) in pairs {
            if recorded != counted {
                state.report(Finding::Count { inode: self.inode, what, recorded, counted })?;
            }
        }
        Ok(())
    }

    fn contents(&self, state: &mut State<'_>, inode_record: &InodeRecord, kind: FileKind) -> Result<()> {
        let inode = Ino(self.inode);
        let inline = inode_record.flags().contains(InodeFlags::INLINE);
        let wrong = match kind {
            FileKind::Regular | FileKind::Symlink if inline => {
                self.inline != inode_record.size.get()
                    || self.extents != 0
                    || (kind == FileKind::Regular && self.inline > INLINE_MAX as u64)
            }
            FileKind::Regular => self.inline != 0,
            _ => self.inline != 0 || self.extents != 0,
        };
        if wrong {
            state.report(record(inode, "its bytes do not fit its type or size", inode_record.size.get()))?;
        }
        if self.listed_mode.is_some_and(|mode| mode != inode_record.mode.get() & 0o777) {
            state.report(record(
                inode,
                "its access list and its mode differ",
                inode_record.mode.get().into(),
            ))?;
        }
        if inode_record.links.get() == 0 && !control::is_control(inode) {
            state.report(record(inode, "has no name, and does not wait to be freed", 0))?;
        }
        Ok(())
    }

    // A directory's way to the root must exist and end.
    fn way_up<H: BlockDevice + Data>(
        &self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        inode_record: &InodeRecord,
    ) -> Result<()> {
        let inode = Ino(self.inode);
        if inode != ROOT && self.link_parent != inode_record.parent.get() {
            return state.report(record(inode, "its parent does not name it", inode_record.parent.get()));
        }
        let mut at = inode;
        for _ in 0..DEPTH_MAX {
            if at == ROOT {
                return Ok(());
            }
            let key = Key::new(at, Kind::Inode, 0);
            match state.absorb(tree::record::<_, InodeRecord>(volume, key, "inode"))? {
                Some(Some(above)) => at = Ino(above.parent.get()),
                Some(None) => return state.report(record(inode, "a directory above it is missing", at.0)),
                None => return Ok(()),
            }
        }
        state.report(record(inode, "directories form a circle", at.0))
    }

    fn link<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let inode = Ino(key.inode);
        let link: &LinkRecord = parse_exact(value, "link of inode", inode.0)?;
        check_hash(state, key, records::name_hash(volume, inode, link.as_bytes()))?;
        self.links += 1;
        self.link_parent = link.parent.get();
        let parent = Ino(link.parent.get());
        let named = tree::find(volume, Key::new(parent, Kind::Dirent, link.cookie.get()), |value| {
            Ok(records::dirent(parent, value)?.0.inode.get() == inode.0)
        });
        match state.absorb(named)? {
            Some(Some(true)) | None => Ok(()),
            _ => state.report(record(inode, "a directory does not name it", parent.0)),
        }
    }

    fn dirent<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let directory = Ino(key.inode);
        let (entry, name): (&DirentRecord, _) = records::dirent(directory, value)?;
        let inode = Ino(entry.inode.get());
        check_hash(state, key, records::name_hash(volume, directory, name))?;
        self.entries += 1;
        self.subdirectories += u64::from(entry.kind == FileKind::Directory as u8);
        let bad_name = name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/'));
        let first = records::entry_cookie(volume, directory, name);
        if bad_name || state.absorb(first)?.flatten().is_some_and(|cookie| cookie != key.offset) {
            state.report(record(directory, "an entry's name is impossible or there twice", key.offset))?;
        }
        let target = tree::record::<_, InodeRecord>(volume, Key::new(inode, Kind::Inode, 0), "inode");
        let Some(target) = state.absorb(target)? else { return Ok(()) };
        let Some(target) = target else {
            return state.report(record(directory, "an entry names an inode that is not there", inode.0));
        };
        let kind = FileKind::from_mode(target.mode.get()).map(|kind| kind as u8);
        if kind != Some(entry.kind) {
            state.report(record(directory, "an entry has another type than its inode", inode.0))?;
        }
        match state.absorb(records::has_link(volume, inode, directory, key.offset))? {
            Some(false) => state.report(record(inode, "does not know a name it has", key.offset)),
            _ => Ok(()),
        }
    }

    fn extent<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let inode = Ino(key.inode);
        let (run, birth) = records::extent(inode, key.offset, value)?;
        if !volume.layout.covers(run.start.0, run.count) {
            return Err(Error::corrupt("extent of inode", inode.0, "outside the volume"));
        }
        if key.offset < self.extent_end {
            state.report(record(inode, "extents overlap", key.offset))?;
        }
        if birth > volume.newest_generation() {
            state.report(record(inode, "an extent from the future", key.offset))?;
        }
        self.extent_end = key.offset + run.count;
        self.extents += 1;
        self.blocks += run.count;
        state.claim(run.start.0, run.count)
    }

    fn vector<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        vector: &VectorRecord,
    ) -> Result<()> {
        let inode = Ino(key.inode);
        let (id, n) = (CollectionId((key.offset >> 32) as u32), key.offset as u32);
        state.report.vectors += 1;
        state.highest_vector = state.highest_vector.max(vector.vector_id.get());
        let Some(row) = state.absorb(records::row(volume, id, vector.row.get()))? else { return Ok(()) };
        let same = row.header.file_inode.get() == inode.0
            && row.n.get() == n
            && row.header.vector_id == vector.vector_id
            && row.version == vector.version;
        if !same {
            return state.report(record(inode, "a vector's row belongs to something else", vector.row.get()));
        }
        if !state.options.vectors {
            return Ok(());
        }
        match records::read_row(volume, id, vector.row.get()) {
            Err(Error::VectorChecksum { collection, row }) => {
                state.report(Finding::Vector { collection, row })
            }
            other => state.absorb(other).map(|_| ()),
        }
    }
}

fn orphan<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>, key: Key) -> Result<()> {
    let inode = Ino(key.offset);
    state.report(Finding::Orphan { inode: inode.0 })?;
    let kind = records::orphan_kind(volume, inode)?;
    let found = tree::record::<_, InodeRecord>(volume, Key::new(inode, Kind::Inode, 0), "inode");
    let Some(found) = state.absorb(found)? else { return Ok(()) };
    let fits = match (kind, found) {
        (Some(OrphanKind::Delete), Some(found)) => found.links.get() == 0 && inode >= FIRST_INODE,
        (Some(OrphanKind::Truncate), Some(found)) => found.flags().contains(InodeFlags::TRUNCATING),
        (Some(OrphanKind::Collection), Some(_)) => control::is_control(inode),
        _ => false,
    };
    if !fits {
        state.report(record(inode, "waits to be freed, but is in use or gone", 0))?;
    }
    Ok(())
}

fn check_hash(state: &mut State<'_>, key: Key, hash: u64) -> Result<()> {
    if key.offset >> 16 == hash && key.offset >= 3 {
        return Ok(());
    }
    state.report(record(Ino(key.inode), "a name lies at the wrong hash", key.offset))
}

pub(super) const fn record(inode: Ino, why: &'static str, at: u64) -> Finding {
    Finding::Record { inode: inode.0, why, at }
}
