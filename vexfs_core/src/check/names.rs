//! Directory entries and the ways back: each entry knows its inode, and each inode every name it has.

use zerocopy::IntoBytes;

use super::cure::Cure;
use super::inodes::{Group, record};
use super::{Finding, State};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::Result;
use crate::format::{
    COLLECTIONS, DirentRecord, FileKind, InodeFlags, InodeRecord, Key, Kind, LinkRecord, ROOT,
    collection_part, parse_exact,
};
use crate::numbers::Ino;
use crate::operations::{is_of_index, records};
use crate::tree;
use crate::volume::Volume;

impl Group {
    pub(super) fn link<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let inode = Ino(key.inode);
        let link: &LinkRecord = parse_exact(value, "link of inode", inode.0)?;
        let parent = Ino(link.parent.get());
        let cookie = link.cookie.get();
        if let Some(why) = self.wrong_link(inode, parent) {
            return state.contradiction(record(inode, why, parent.0), Cure::Drop(key));
        }
        if !check_hash(state, key, records::name_hash(volume, inode, link.as_bytes()))? {
            return Ok(());
        }
        self.links += 1;
        self.link_parent = parent.0;
        let named = tree::find(volume, Key::new(parent, Kind::Dirent, cookie), |value| {
            Ok(records::dirent(parent, value)?.0.inode.get() == inode.0)
        });
        match state.absorb(named)? {
            Some(Some(true)) => {
                self.is_index = control::has_index(parent);
                Ok(())
            }
            None => Ok(()),
            _ => {
                state.contradiction(record(inode, "a directory does not name it", parent.0), Cure::Drop(key))
            }
        }
    }

    // Where a name of this inode cannot be.
    fn wrong_link(&self, inode: Ino, parent: Ino) -> Option<&'static str> {
        let is_collection = matches!(collection_part(inode), Some((_, 0)));
        if inode == ROOT || (control::is_control(inode) && !is_collection) {
            return Some("has a name that it cannot have");
        }
        if is_collection != (parent == COLLECTIONS) {
            return Some("is named in the wrong part of the volume");
        }
        if self.links > 0 && self.kind() == Some(FileKind::Directory) {
            return Some("a directory with two names");
        }
        None
    }

    pub(super) fn dirent<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let directory = Ino(key.inode);
        let (entry, name): (&DirentRecord, _) = records::dirent(directory, value)?;
        let inode = Ino(entry.inode.get());
        let gone = Cure::Drop(key);
        if !check_hash(state, key, records::name_hash(volume, directory, name))? {
            return Ok(());
        }
        if self.kind().is_some_and(|kind| kind != FileKind::Directory) {
            return state.contradiction(record(directory, "an entry of what is no directory", inode.0), gone);
        }
        let first = records::entry_cookie(volume, directory, name);
        if bad_name(directory, name)
            || state.absorb(first)?.flatten().is_some_and(|cookie| cookie != key.offset)
        {
            let finding = record(directory, "an entry's name is impossible or there twice", key.offset);
            return state.contradiction(finding, gone);
        }
        self.entries += 1;
        self.subdirectories += u64::from(entry.kind == FileKind::Directory as u8);
        let target = tree::record::<_, InodeRecord>(volume, Key::new(inode, Kind::Inode, 0), "inode");
        let Some(target) = state.absorb(target)? else { return Ok(()) };
        let Some(target) = target else {
            let finding = record(directory, "an entry names an inode that is not there", inode.0);
            return state.contradiction(finding, gone);
        };
        let kind = FileKind::from_mode(target.mode.get()).map(|kind| kind as u8);
        if kind != Some(entry.kind) {
            return state.contradiction(
                record(directory, "an entry has another type than its inode", inode.0),
                right_type(key, entry, name, kind)?.unwrap_or(gone),
            );
        }
        if let Some(cure) = self.wrong_index(key, entry, inode, &target)? {
            let finding = record(directory, "an index where none can be, or what is none in it", inode.0);
            state.contradiction(finding, cure)?;
        }
        match state.absorb(records::has_link(volume, inode, directory, key.offset))? {
            Some(false) => {
                state.contradiction(record(inode, "does not know a name it has", key.offset), gone)
            }
            _ => Ok(()),
        }
    }
}

impl Group {
    // A collection holds one directory, its index; in that are regular files. These have its mark, and nothing else. What
    // is one tells the entry of a collection, not the mark, which may be what is wrong.
    fn wrong_index(
        &self,
        key: Key,
        entry: &DirentRecord,
        inode: Ino,
        target: &InodeRecord,
    ) -> Result<Option<Cure>> {
        let in_collection = control::has_index(Ino(self.inode));
        let in_index = self.is_index;
        let kind = if in_collection { FileKind::Directory } else { FileKind::Regular };
        if (in_collection || in_index) && entry.kind != kind as u8 {
            return Ok(Some(Cure::Drop(key)));
        }
        if is_of_index(target) == (in_collection || in_index) {
            return Ok(None);
        }
        let mut right = *target;
        right.set_flag(InodeFlags::INDEX, in_collection || in_index);
        Cure::put_inode(inode, &right).map(Some)
    }
}

// The entry with its inode's type, if that has one.
fn right_type(key: Key, entry: &DirentRecord, name: &[u8], kind: Option<u8>) -> Result<Option<Cure>> {
    let Some(kind) = kind else { return Ok(None) };
    let mut value = crate::memory::copy(DirentRecord { kind, ..*entry }.as_bytes())?;
    crate::memory::extend(&mut value, name)?;
    Ok(Some(Cure::Put(key, value)))
}

fn bad_name(directory: Ino, name: &[u8]) -> bool {
    let reserved = name == b"." || name == b".." || (directory == ROOT && name == control::NAME);
    reserved
        || name.iter().any(|byte| matches!(byte, 0 | b'/'))
        || (directory == COLLECTIONS && !records::is_collection_name(name))
        || (control::has_index(directory) && name != control::INDEX)
}

/// True if a record lies where its name's hash says; else it is reported.
pub(super) fn check_hash(state: &mut State<'_>, key: Key, hash: u64) -> Result<bool> {
    if key.offset >> 16 == hash && key.offset >= 3 {
        return Ok(true);
    }
    let finding: Finding = record(Ino(key.inode), "a name lies at the wrong hash", key.offset);
    state.contradiction(finding, Cure::Drop(key))?;
    Ok(false)
}
