//! Who may reach and write a file, where a host's kernel does not check it: paths and inodes inside a stream.
//!
//! It is POSIX's rule with access lists, of records alone; a host's kernel goes by the same for single calls.

use alloc::vec::Vec;

use super::acl;
use super::types::Caller;
use super::{directory, inode};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{FileKind, InodeRecord, NAME_MAX, ROOT};
use crate::memory;
use crate::numbers::Ino;
use crate::volume::{Nodes, Volume};

/// Search permission on a directory.
const EXECUTE: u32 = 1;
const WRITE: u32 = 2;
const STICKY: u32 = 0o1000;

/// Finds files by their paths from the root, as a caller; remembers the directory it was in last.
#[derive(Default)]
pub struct Resolver {
    last: Option<(Vec<u8>, Ino)>,
}

impl<H: BlockDevice + Data> Volume<H> {
    /// The inode at `path`, whose directories the caller may search. Symbolic links are not followed.
    ///
    /// # Errors
    /// `NotFound`, `NotDirectory`, `AccessDenied`; `Invalid` for a path that is no plain one.
    pub fn resolve(&self, resolver: &mut Resolver, path: &[u8], caller: &Caller<'_>) -> Result<Ino> {
        resolver.find(self, path, caller)
    }
}

impl Resolver {
    fn find<N: Nodes>(&mut self, nodes: &N, path: &[u8], caller: &Caller<'_>) -> Result<Ino> {
        let split = path.iter().rposition(|byte| *byte == b'/');
        let (head, name) = match split {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&path[..0], path),
        };
        let parent = match &self.last {
            Some((known, parent)) if known == head => *parent,
            _ => {
                let mut parent = ROOT;
                for name in head.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
                    parent = step(nodes, parent, name, caller)?;
                }
                self.last = Some((memory::copy(head)?, parent));
                parent
            }
        };
        step(nodes, parent, name, caller)
    }
}

fn step<N: Nodes>(nodes: &N, parent: Ino, name: &[u8], caller: &Caller<'_>) -> Result<Ino> {
    let plain = !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
    if !plain || (parent == ROOT && name == control::NAME) {
        return Err(Error::Invalid("not the path of a file from the root of the volume on"));
    }
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    let record = inode::load(nodes, parent)?;
    if record.kind(parent)? == FileKind::Symlink {
        return Err(Error::Invalid("leads through a symbolic link: give the path that it stands for"));
    }
    record.expect_directory(parent)?;
    if !acl::permits(nodes, parent, caller, EXECUTE)? {
        return Err(Error::AccessDenied("no search permission on a directory of the path"));
    }
    Ok(directory::entry(nodes, parent, name)?.ok_or(Error::NotFound)?.inode)
}

/// Fails unless the caller may set attributes of a file or directory: setxattr(2)'s rule for `user.`.
pub(super) fn check_attributes<N: Nodes>(
    nodes: &N,
    inode: Ino,
    record: &InodeRecord,
    caller: &Caller<'_>,
) -> Result<()> {
    if record.links.get() == 0 {
        return Err(Error::NotFound);
    }
    let kind = record.kind(inode)?;
    match kind {
        FileKind::Regular | FileKind::Directory => {}
        FileKind::Symlink => {
            return Err(Error::Invalid("is a symbolic link: give the path that it stands for"));
        }
        _ => return Err(Error::NotPermitted("only files and directories have vectors")),
    }
    let shared = kind == FileKind::Directory && record.mode.get() & STICKY != 0;
    if shared && caller.uid != 0 && caller.uid != record.uid.get() {
        return Err(Error::NotPermitted("a sticky directory's attributes are its owner's to set"));
    }
    if acl::permits(nodes, inode, caller, WRITE)? {
        return Ok(());
    }
    Err(Error::AccessDenied("no write permission on the file"))
}
