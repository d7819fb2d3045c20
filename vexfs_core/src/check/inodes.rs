//! One inode's records against each other and against those of others.

use super::circle::{self, Way};
use super::cure::Cure;
use super::finding::Counted;
use super::names::check_hash;
use super::{Finding, State, collections, history, matrices};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLLECTION_INODES, COLLECTIONS, CONTROL, ExtentRecord, FIRST_INODE, FileKind, INLINE_MAX, InodeFlags,
    InodeRecord, Key, Kind, ORPHANS, OrphanKind, ROOT, VectorRecord, collection_directory, collection_part,
    parse_exact,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::operations::{NewInode, is_of_index, records};
use crate::tree;
use crate::volume::Volume;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// What was seen of one inode.
pub(super) struct Group {
    pub(super) inode: u64,
    /// A part of its records could not be read: its counts mean nothing.
    pub(super) incomplete: bool,
    record: Option<InodeRecord>,
    pub(super) links: u64,
    pub(super) link_parent: u64,
    /// A collection names it: it is that one's index directory.
    pub(super) is_index: bool,
    pub(super) entries: u64,
    pub(super) subdirectories: u64,
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
            is_index: false,
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

    /// Its type, if its record was seen and has one.
    pub(super) fn kind(&self) -> Option<FileKind> {
        self.record.and_then(|record| FileKind::from_mode(record.mode.get()))
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
        if !possible(inode, kind) || (matches!(kind, Kind::Inode | Kind::Collection) && key.offset != 0) {
            return Err(Error::corrupt("inode", inode.0, "a record that this inode cannot have"));
        }
        match kind {
            Kind::Inode => self.record = Some(*parse_exact(value, "inode", inode.0)?),
            Kind::Inline => {
                if key.offset != self.inline {
                    let finding = record(inode, "inline bytes with gaps", key.offset);
                    return state.contradiction(finding, Cure::Drop(key));
                }
                self.inline += value.len() as u64;
            }
            Kind::Link => self.link(volume, state, key, value)?,
            Kind::Xattr => {
                let (attribute, name, _) = records::xattr(inode, value)?;
                if !check_hash(state, key, records::name_hash(volume, inode, name))? {
                    return Ok(());
                }
                let content = records::xattr_value(volume, inode, value)?;
                if content.len() != attribute.value_len.get() as usize {
                    let finding = record(inode, "an attribute's value has a wrong length", key.offset);
                    return state.contradiction(finding, Cure::Drop(key));
                }
                if let Some(mode) = records::listed_mode(inode, name, &content)? {
                    self.listed_mode = Some(mode);
                }
                self.attributes += 1;
            }
            Kind::XattrValue => {}
            Kind::Vector => {
                self.vector(volume, state, key, parse_exact(value, "vector of inode", inode.0)?)?;
            }
            Kind::PastVectors => {
                let named = self.record.is_none_or(|record| record.links.get() > 0);
                history::list(volume, state, key, value, named)?;
            }
            Kind::Dirent => self.dirent(volume, state, key, value)?,
            Kind::Extent => self.extent(volume, state, key, value)?,
            Kind::Orphan => orphan(volume, state, key)?,
            Kind::Collection
            | Kind::VectorMeta
            | Kind::Row
            | Kind::Blank
            | Kind::FreeRows
            | Kind::Column
            | Kind::PastPiece
            | Kind::Redo
            | Kind::Codebook => {
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
            let cure = match inode {
                ROOT | COLLECTIONS => new_directory(volume, inode)?,
                _ => Cure::drop_inode(inode),
            };
            return state.contradiction(record(inode, "records without an inode", 0), cure);
        };
        let Some(kind) = FileKind::from_mode(inode_record.mode.get()) else {
            let finding = record(inode, "of an unknown type", u64::from(inode_record.mode.get()));
            let kind = if self.entries > 0 { FileKind::Directory } else { FileKind::Regular };
            return state.contradiction(finding, retyped(inode, &inode_record, kind)?);
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
        if control::is_control(inode) && matrices::waits(volume, state, inode)? {
            state.report.orphans += 1;
            return self.blocks(state, &inode_record);
        }
        let owner = match crate::format::collection_part(inode) {
            Some((id, _)) => crate::format::collection_directory(id),
            None => inode,
        };
        let waits = state.absorb(records::orphan_kind(volume, owner))?.flatten();
        if let Some(kind @ (OrphanKind::Delete | OrphanKind::Collection)) = waits {
            if records::check_unused(volume, owner, kind).is_ok() {
                state.report.orphans += 1;
                return self.blocks(state, &inode_record);
            }
        }
        if let Some((why, cure)) = misplaced(volume, inode, &inode_record, kind)? {
            return state.contradiction(record(inode, why, 0), cure);
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
        // No name is left: a count alone would not bring it back.
        if pairs[1].2 == 0 && pairs[1].1 != 0 {
            state.cure(Cure::Attach(Ino(self.inode)))?;
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
            FileKind::Regular => self.inline != 0 || inode_record.size.get() > i64::MAX as u64,
            FileKind::Symlink => true,
            _ => self.inline != 0 || self.extents != 0,
        };
        if wrong {
            let finding = record(inode, "its bytes do not fit its type or size", inode_record.size.get());
            state.report(finding)?;
            self.mend_contents(state, inode_record, kind)?;
        }
        if let Some(listed) = self.listed_mode.filter(|listed| *listed != inode_record.mode.get() & 0o777) {
            let mode = inode_record.mode.get();
            let finding = record(inode, "its access list and its mode differ", mode.into());
            // The list is what was asked for last; the mode follows it.
            let mended = InodeRecord { mode: U32::new(mode & !0o777 | listed), ..*inode_record };
            state.contradiction(finding, Cure::put_inode(inode, &mended)?)?;
        }
        // Of all others the entries that name them tell.
        if is_of_index(inode_record) && (inode == ROOT || control::is_control(inode)) {
            let mut right = *inode_record;
            right.set_flag(InodeFlags::INDEX, false);
            let finding = record(inode, "is marked as an index, and cannot be one", 0);
            state.contradiction(finding, Cure::put_inode(inode, &right)?)?;
        }
        // Where it is only the count that says so, that is set right.
        if inode_record.links.get() == 0 && self.links == 0 && !control::is_control(inode) {
            let finding = record(inode, "has no name, and does not wait to be freed", 0);
            state.contradiction(finding, Cure::Attach(inode))?;
        }
        Ok(())
    }

    // Bytes in the tree, or in extents, whichever there are; the size follows.
    fn mend_contents(&self, state: &mut State<'_>, inode_record: &InodeRecord, kind: FileKind) -> Result<()> {
        let inode = Ino(self.inode);
        let mut record = *inode_record;
        let keeps_inline = match kind {
            FileKind::Regular => self.extents == 0 && self.inline > 0 && self.inline <= INLINE_MAX as u64,
            FileKind::Symlink => self.inline > 0,
            _ => false,
        };
        if kind == FileKind::Symlink && !keeps_inline {
            return state.cure(Cure::drop_inode(inode));
        }
        if !keeps_inline {
            state.cure(Cure::drop_kind(inode, Kind::Inline))?;
        }
        if keeps_inline || kind != FileKind::Regular {
            state.cure(Cure::drop_kind(inode, Kind::Extent))?;
        }
        if matches!(kind, FileKind::Regular | FileKind::Symlink) {
            let block_end = self.extent_end.saturating_mul(u64::from(state.block_size));
            record.size = match keeps_inline {
                true => U64::new(self.inline),
                false => U64::new(record.size.get().min(block_end)),
            };
        }
        record.set_flag(InodeFlags::INLINE, keeps_inline);
        if record != *inode_record {
            state.cure(Cure::put_inode(inode, &record)?)?;
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
            let right = InodeRecord { parent: U64::new(self.link_parent), ..*inode_record };
            let finding = record(inode, "its parent does not name it", inode_record.parent.get());
            return match self.links {
                // Without a name it gets one, and a parent with it.
                0 => state.report(finding),
                _ => state.contradiction(finding, Cure::put_inode(inode, &right)?),
            };
        }
        match circle::way_up(volume, state, inode)? {
            Some(Way::Missing) => state.report(record(inode, "a directory above it is missing", 0)),
            Some(Way::Circle(member)) => state.contradiction(
                record(member, "directories form a circle", inode.0),
                Cure::drop_kind(member, Kind::Link),
            ),
            Some(Way::Fine) | None => Ok(()),
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
        let (run, birth) = records::extent(volume, inode, key.offset, value)?;
        if key.offset < self.extent_end {
            return state.contradiction(record(inode, "extents overlap", key.offset), Cure::Drop(key));
        }
        if birth > volume.newest_generation() {
            let mut right = *parse_exact::<ExtentRecord>(value, "extent of inode", inode.0)?;
            right.birth = volume.superblock.generation;
            let cure = Cure::Put(key, memory::copy(right.as_bytes())?);
            state.contradiction(record(inode, "an extent from the future", key.offset), cure)?;
        }
        // Its own blocks, whoever else has them.
        self.blocks += run.count;
        if !state.claim(run.start.0, run.count, false)? {
            return state.cure(Cure::Drop(key));
        }
        self.extent_end = key.offset + run.count;
        self.extents += 1;
        Ok(())
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
        self.attributes += 1;
        state.report.vectors += 1;
        state.highest_vector = state.highest_vector.max(vector.vector_id.get());
        let Some(row) = state.absorb(records::row(volume, id, vector.row.get()))? else {
            return state.cure(Cure::Drop(key));
        };
        let same = row.header.file_inode.get() == inode.0
            && row.n.get() == n
            && row.header.vector_id == vector.vector_id
            && row.version == vector.version;
        if !same {
            let finding = record(inode, "a vector's row belongs to something else", vector.row.get());
            return state.contradiction(finding, Cure::Drop(key));
        }
        if !state.options.vectors {
            return Ok(());
        }
        match records::read_row(volume, id, vector.row.get()) {
            Err(Error::VectorChecksum { collection, row }) => {
                state.contradiction(Finding::Vector { collection, row }, Cure::Drop(key))
            }
            // A collection that is not there any more: its rows are of no use.
            Err(Error::NotFound) => {
                let finding = record(inode, "a vector of a collection that is not there", u64::from(id.0));
                state.contradiction(finding, Cure::Drop(key))
            }
            other => match state.absorb(other)? {
                Some(_) => Ok(()),
                None => state.cure(Cure::Drop(key)),
            },
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
        (Some(OrphanKind::Truncate), Some(found)) => found.flags().contains(InodeFlags::TRUNCATING),
        (Some(kind), Some(_)) => records::check_unused(volume, inode, kind).is_ok(),
        _ => false,
    };
    if !fits {
        let finding = record(inode, "waits to be freed, but is in use or gone", 0);
        state.contradiction(finding, Cure::Drop(key))?;
    }
    Ok(())
}

// What stands in the wrong place as a whole, and what a salvage does about it.
fn misplaced<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    inode_record: &InodeRecord,
    kind: FileKind,
) -> Result<Option<(&'static str, Cure)>> {
    let wanted = match (inode, collection_part(inode)) {
        (ROOT | COLLECTIONS, _) | (_, Some((_, 0))) => FileKind::Directory,
        (_, Some((id, _))) => {
            let owner = Key::new(collection_directory(id), Kind::Collection, 0);
            if tree::find(volume, owner, |_| Ok(()))?.is_none() {
                return Ok(Some(("a matrix without its collection", Cure::drop_inode(inode))));
            }
            if !matrices::is_named(volume, id, inode) {
                return Ok(Some(("a matrix that its collection does not have", Cure::drop_inode(inode))));
            }
            FileKind::Regular
        }
        _ => return Ok(None),
    };
    if kind == wanted {
        return Ok(None);
    }
    Ok(Some(("of the wrong type for what it is", retyped(inode, inode_record, wanted)?)))
}

fn retyped(inode: Ino, record: &InodeRecord, kind: FileKind) -> Result<Cure> {
    let mode = kind.mode() | (record.mode.get() & 0o7777);
    Cure::put_inode(inode, &InodeRecord { mode: U32::new(mode), ..*record })
}

/// The directories that every volume has.
pub(super) fn essential<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>) -> Result<()> {
    for inode in [ROOT, COLLECTIONS] {
        let any = tree::first(volume, Key::new(inode, Kind::Inode, 0), Key::last(inode, Kind::Orphan));
        if let Some(None) = state.absorb(any)? {
            let cure = new_directory(volume, inode)?;
            state.contradiction(record(inode, "a directory that every volume has is missing", 0), cure)?;
        }
    }
    Ok(())
}

fn new_directory<H: BlockDevice + Data>(volume: &Volume<H>, inode: Ino) -> Result<Cure> {
    let new = NewInode { kind: FileKind::Directory, permissions: 0o755, umask: 0, uid: 0, gid: 0, device: 0 };
    let parent = if inode == ROOT { ROOT } else { CONTROL };
    Cure::put_inode(inode, &InodeRecord::new(&new, parent, volume.superblock.written.into()))
}

// Which records an inode can have at all, by its number.
fn possible(inode: Ino, kind: Kind) -> bool {
    match (inode, collection_part(inode)) {
        (ORPHANS, _) => kind == Kind::Orphan,
        (ROOT | COLLECTIONS, _) => kind != Kind::Orphan,
        (_, Some((_, part))) => part <= 1 && kind != Kind::Orphan,
        _ => (FIRST_INODE.0..COLLECTION_INODES).contains(&inode.0) && kind != Kind::Orphan,
    }
}

pub(super) const fn record(inode: Ino, why: &'static str, at: u64) -> Finding {
    Finding::Record { inode: inode.0, why, at }
}
