//! The way back from an inode to its path: any, or one that a caller can find.

use alloc::vec::Vec;

use super::acl;
use super::directory::decode;
use super::types::Caller;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, Key, Kind, LinkRecord, ROOT, parse_exact};
use crate::memory;
use crate::numbers::Ino;
use crate::tree;
use crate::volume::Volume;

/// Directories a path can pass.
pub(super) const DEPTH_MAX: usize = 4096;
/// What it takes to find a name in a directory, and to go on below it: read and search permission.
pub(super) const LIST_AND_PASS: u32 = 5;

/// Finds a circle in about three times its length: one step is remembered, and forgotten for a later one after twice as many
/// (Brent, "An improved Monte Carlo factorization algorithm", BIT 20, 1980).
#[derive(Default)]
pub(super) struct Circle {
    remembered: Option<Ino>,
    steps: u32,
    period: u32,
}

impl Circle {
    pub(super) fn closes_at(&mut self, step: Ino) -> bool {
        if self.remembered == Some(step) {
            return true;
        }
        if self.steps == self.period {
            self.remembered = Some(step);
            self.period = self.period * 2 + 1;
            self.steps = 0;
        }
        self.steps += 1;
        false
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// A path of `inode` from the root, without leading slash; `None` if it has no name.
    pub fn path(&self, inode: Ino) -> Result<Option<Vec<u8>>> {
        self.path_through(inode, &|_| Ok(true))
    }

    /// The same by directories alone that `caller` may list and pass, as a walk over the mount by that caller would find it;
    /// `None` if there is no such path.
    pub fn reachable_path(&self, inode: Ino, caller: &Caller<'_>) -> Result<Option<Vec<u8>>> {
        self.path_through(inode, &|directory| acl::permits(self, directory, caller, LIST_AND_PASS))
    }

    // A directory has one name, a file may have many: the first whose directories are all open.
    fn path_through(&self, inode: Ino, open: &dyn Fn(Ino) -> Result<bool>) -> Result<Option<Vec<u8>>> {
        if inode == ROOT {
            return Ok(Some(Vec::new()));
        }
        let mut found = None;
        let (from, to) = (Key::new(inode, Kind::Link, 0), Key::last(inode, Kind::Link));
        tree::scan(self, from, to, &mut |_, value| {
            found = self.names_to(inode, parse_exact(value, "inode", inode.0)?, open)?;
            Ok(found.is_none())
        })?;
        found.as_deref().map(joined).transpose()
    }

    // The names from this one of an inode up to the root; none if a directory between is not open.
    pub(super) fn names_to(
        &self,
        inode: Ino,
        link: &LinkRecord,
        open: &dyn Fn(Ino) -> Result<bool>,
    ) -> Result<Option<Vec<Vec<u8>>>> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let (mut at, mut link) = (inode, *link);
        let mut circle = Circle::default();
        loop {
            let parent = Ino(link.parent.get());
            if parts.len() >= DEPTH_MAX || circle.closes_at(parent) {
                return Err(Error::corrupt("inode", inode.0, "directories form a circle"));
            }
            if !open(parent)? {
                return Ok(None);
            }
            memory::push(&mut parts, self.entry_name(at, &link)?)?;
            if parent == COLLECTIONS {
                memory::push(&mut parts, memory::copy(b"collections")?)?;
                memory::push(&mut parts, memory::copy(control::NAME)?)?;
                return Ok(Some(parts));
            }
            if parent == ROOT {
                return Ok(Some(parts));
            }
            at = parent;
            let (from, to) = (Key::new(at, Kind::Link, 0), Key::last(at, Kind::Link));
            let Some((_, value)) = tree::first(self, from, to)? else { return Ok(None) };
            link = *parse_exact(&value, "inode", at.0)?;
        }
    }

    // What the directory of a link calls the inode.
    pub(super) fn entry_name(&self, inode: Ino, link: &LinkRecord) -> Result<Vec<u8>> {
        let parent = Ino(link.parent.get());
        let name = tree::find(self, Key::new(parent, Kind::Dirent, link.cookie.get()), |value| {
            memory::copy(decode(parent, value)?.1)
        })?;
        name.ok_or(Error::corrupt("inode", inode.0, "its directory does not name it"))
    }
}

// Names from the last to the first, as a path.
pub(super) fn joined(parts: &[Vec<u8>]) -> Result<Vec<u8>> {
    let mut path = Vec::new();
    for part in parts.iter().rev() {
        if !path.is_empty() {
            memory::push(&mut path, b'/')?;
        }
        memory::extend(&mut path, part)?;
    }
    Ok(path)
}
