//! Changes that tell a whole lie: directories in a circle, shared blocks, rows with two owners, wrong orphans.

use vexfs_core::checksum::siphash;
use vexfs_core::format::{
    BlankRecord, COLLECTIONS, DirentRecord, ExtentRecord, FileKind, FreeRowsRecord, InodeRecord, Key, Kind,
    LinkRecord, ORPHANS, OrphanRecord, ROOT, VectorRecord, collection_part,
};
use vexfs_core::numbers::Ino;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use super::edit::Edit;
use super::generate::Chooser;

/// One of the stories.
pub(super) fn choose(chooser: &mut Chooser<'_>) -> Vec<Edit> {
    let story = match chooser.random.below(8) {
        0 => circle(chooser),
        1 => other_name(chooser),
        2 => shared_blocks(chooser),
        3 => orphan(chooser),
        4 => free_rows(chooser),
        5 => vector(chooser),
        6 => foreign_name(chooser),
        _ => size(chooser),
    };
    story.unwrap_or_default()
}

fn inode_of(chooser: &Chooser<'_>, inode: u64) -> Option<InodeRecord> {
    let value = chooser.subject.value(Key::new(Ino(inode), Kind::Inode, 0))?;
    InodeRecord::read_from_bytes(value).ok()
}

fn directory(chooser: &mut Chooser<'_>) -> Option<u64> {
    for _ in 0..40 {
        let inode = chooser.record_of(Kind::Inode as u8)?.0.inode;
        let kind = FileKind::from_mode(inode_of(chooser, inode)?.mode.get());
        if kind == Some(FileKind::Directory) && inode < vexfs_core::format::COLLECTION_INODES {
            return Some(inode);
        }
    }
    None
}

// Where the records of these bytes at an inode begin.
fn place(chooser: &Chooser<'_>, inode: u64, name: &[u8]) -> u64 {
    let bytes = [&inode.to_le_bytes()[..], name].concat();
    (siphash(&chooser.subject.superblock.hash_seed, &bytes) >> 17 << 16).max(3)
}

// An entry that leads to `inode`, and the inode's way back.
fn entry(chooser: &Chooser<'_>, directory: u64, name: &[u8], inode: u64, kind: FileKind) -> Vec<Edit> {
    let cookie = place(chooser, directory, name);
    let record = DirentRecord {
        inode: U64::new(inode),
        kind: kind as u8,
        name_len: name.len() as u8,
        reserved: U16::ZERO,
    };
    let dirent = Key::new(Ino(directory), Kind::Dirent, cookie);
    let link = LinkRecord { parent: U64::new(directory), cookie: U64::new(cookie) };
    let back = Key::new(Ino(inode), Kind::Link, place(chooser, inode, link.as_bytes()));
    vec![Edit::Put(dirent, [record.as_bytes(), name].concat()), Edit::Put(back, link.as_bytes().to_vec())]
}

fn patch_inode(inode: u64, at: usize, bytes: &[u8]) -> Edit {
    Edit::Patch(Key::new(Ino(inode), Kind::Inode, 0), at, bytes.to_vec())
}

// A directory whose parent is itself or another one, which has an entry for it.
fn circle(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let (below, above) = (directory(chooser)?, directory(chooser)?);
    let above = if chooser.random.one_in(3) { below } else { above };
    let mut edits = Vec::new();
    if chooser.random.one_in(2) {
        // The name it had goes.
        let own = |record: &&(Key, Vec<u8>)| record.0.inode == below && record.0.kind == Kind::Link as u8;
        for (key, value) in chooser.subject.records.iter().filter(own) {
            let link = LinkRecord::read_from_bytes(value).ok()?;
            edits.push(Edit::Drop(*key));
            edits.push(Edit::Drop(Key::new(Ino(link.parent.get()), Kind::Dirent, link.cookie.get())));
        }
    }
    edits.extend(entry(chooser, above, b"circle", below, FileKind::Directory));
    edits.push(patch_inode(below, std::mem::offset_of!(InodeRecord, parent), &above.to_le_bytes()));
    Some(edits)
}

// Another name for anything, of any type.
fn other_name(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let above = match chooser.random.below(4) {
        0 => COLLECTIONS.0,
        1 => ROOT.0,
        _ => directory(chooser)?,
    };
    let old = chooser.record_of(Kind::Inode as u8)?.0.inode;
    let inode = if chooser.random.one_in(3) { chooser.number(old, 8) } else { old };
    let kinds = [FileKind::Directory, FileKind::Regular, FileKind::Symlink, FileKind::Socket];
    let own = inode_of(chooser, inode).and_then(|record| FileKind::from_mode(record.mode.get()));
    let kind = own.filter(|_| !chooser.random.one_in(3)).unwrap_or(chooser.random.pick(&kinds));
    let names: [&[u8]; 6] = [b"other", b".", b"..", b"a/b", b".vexfs", b"\0"];
    let name = chooser.random.pick(&names);
    Some(entry(chooser, above, name, inode, kind))
}

// An extent that lies on blocks of something else.
fn shared_blocks(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let (key, value) = chooser.record_of(Kind::Extent as u8)?;
    let mut extent = ExtentRecord::read_from_bytes(value).ok()?;
    let (_, other) = chooser.record_of(Kind::Extent as u8)?;
    let other = ExtentRecord::read_from_bytes(other).ok()?;
    let node = chooser.random.index(chooser.subject.nodes.len());
    extent.start = match chooser.random.below(3) {
        0 => U64::new(chooser.subject.nodes[node].pointer.block),
        1 => other.start,
        _ => U64::new(extent.start.get().wrapping_add(chooser.random.below(5)).wrapping_sub(2)),
    };
    if chooser.random.one_in(2) {
        extent.count = U32::new(chooser.number(u64::from(extent.count.get()), 4) as u32);
    }
    let target =
        if chooser.random.one_in(2) { *key } else { Key { offset: chooser.number(key.offset, 8), ..*key } };
    Some(vec![Edit::Put(target, extent.as_bytes().to_vec())])
}

// Something on the orphan list that does not belong there, or for another reason.
fn orphan(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let old = chooser.record_of(Kind::Inode as u8)?.0.inode;
    let inode = if chooser.random.one_in(3) { chooser.number(old, 8) } else { old };
    let kind = chooser.random.below(5) as u32;
    let record = OrphanRecord { kind: U32::new(kind), reserved: U32::ZERO };
    let mut edits = vec![Edit::Put(Key::new(ORPHANS, Kind::Orphan, inode), record.as_bytes().to_vec())];
    if kind == 2 && chooser.random.one_in(2) {
        // The flag of a truncate that is still under way.
        edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, flags), &2u32.to_le_bytes()));
    }
    if kind == 1 && chooser.random.one_in(2) {
        edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, links), &0u32.to_le_bytes()));
    }
    Some(edits)
}

// Rows that are free, or wait to be blanked, and something else as well.
fn free_rows(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let (key, _) = chooser.record_of(Kind::Row as u8)?;
    let row = if chooser.random.one_in(2) { key.offset } else { chooser.number(key.offset, 8) };
    let at = |kind| Key::new(Ino(key.inode), kind, row);
    Some(match chooser.random.below(3) {
        0 => {
            let generation = chooser.number(chooser.subject.superblock.generation.get(), 8);
            let blank = BlankRecord { generation: U64::new(generation) };
            vec![Edit::Put(at(Kind::Blank), blank.as_bytes().to_vec())]
        }
        1 => {
            let run = FreeRowsRecord { count: U64::new(chooser.number(1, 8)) };
            vec![Edit::Put(at(Kind::FreeRows), run.as_bytes().to_vec())]
        }
        _ => vec![Edit::Drop(*key)],
    })
}

// A vector of a file that is another's, or in a collection that is none.
fn vector(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let (_, value) = chooser.record_of(Kind::Vector as u8)?;
    let mut vector = VectorRecord::read_from_bytes(value).ok()?;
    let (key, _) = chooser.record_of(Kind::Vector as u8)?;
    let inode = chooser.record_of(Kind::Inode as u8)?.0.inode;
    let id = match chooser.random.below(3) {
        0 => chooser.number(key.offset >> 32, 4),
        _ => chooser
            .record_of(Kind::Collection as u8)
            .and_then(|record| collection_part(Ino(record.0.inode)))?
            .0
            .0
            .into(),
    };
    if chooser.random.one_in(2) {
        vector.row = U64::new(chooser.number(vector.row.get(), 8));
    }
    let n = chooser.number(0, 4);
    let target = Key::new(Ino(inode), Kind::Vector, id << 32 | n);
    Some(vec![Edit::Put(target, vector.as_bytes().to_vec())])
}

// A name's bytes changed and the record moved to where the new name hashes to.
fn foreign_name(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let (key, value) = chooser.record_of(Kind::Dirent as u8)?;
    let record = DirentRecord::read_from_prefix(value).ok()?.0;
    let names: [&[u8]; 6] =
        [b".vexfs", b"x y", b"\xff", b"..", b"name/with", b"a-name-of-a-collection.that-is-none"];
    let name = chooser.random.pick(&names);
    let record = DirentRecord { name_len: name.len() as u8, ..record };
    let cookie = place(chooser, key.inode, name);
    let moved = Key { offset: cookie, ..*key };
    let mut edits = vec![Edit::Put(moved, [record.as_bytes(), name].concat()), Edit::Drop(*key)];
    let inode = record.inode.get();
    let link = LinkRecord { parent: U64::new(key.inode), cookie: U64::new(cookie) };
    let back = Key::new(Ino(inode), Kind::Link, place(chooser, inode, link.as_bytes()));
    edits.push(Edit::Put(back, link.as_bytes().to_vec()));
    Some(edits)
}

// A size, flags and type that do not go together, so that other code runs on the same records.
fn size(chooser: &mut Chooser<'_>) -> Option<Vec<Edit>> {
    let inode = chooser.record_of(Kind::Inode as u8)?.0.inode;
    let old = inode_of(chooser, inode)?;
    let mut edits = Vec::new();
    let size = chooser.number(old.size.get(), 8);
    edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, size), &size.to_le_bytes()));
    if chooser.random.one_in(2) {
        let flags = chooser.random.below(4) as u32;
        edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, flags), &flags.to_le_bytes()));
    }
    if chooser.random.one_in(3) {
        let blocks = chooser.number(old.blocks.get(), 8);
        edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, blocks), &blocks.to_le_bytes()));
    }
    if chooser.random.one_in(3) {
        let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Fifo];
        let mode = chooser.random.pick(&kinds).mode() | 0o644;
        edits.push(patch_inode(inode, std::mem::offset_of!(InodeRecord, mode), &mode.to_le_bytes()));
    }
    Some(edits)
}
