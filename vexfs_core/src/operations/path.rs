//! The way back from an inode to its path.

use alloc::vec::Vec;

use super::directory::decode;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{CONTROL, Key, Kind, LinkRecord, ROOT, parse_exact};
use crate::memory;
use crate::numbers::Ino;
use crate::tree;
use crate::volume::Volume;

/// Directories a path can pass.
const DEPTH_MAX: usize = 4096;

impl<H: BlockDevice + Data> Volume<H> {
    /// A path of `inode` from the root, without leading slash; `None` if it has no name.
    pub fn path(&self, inode: Ino) -> Result<Option<Vec<u8>>> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut at = inode;
        while at != ROOT {
            if parts.len() >= DEPTH_MAX {
                return Err(Error::corrupt("inode", inode.0, "directories form a circle"));
            }
            let (from, to) = (Key::new(at, Kind::Link, 0), Key::last(at, Kind::Link));
            let Some((_, value)) = tree::first(self, from, to)? else { return Ok(None) };
            let link: &LinkRecord = parse_exact(&value, "inode", at.0)?;
            let parent = Ino(link.parent.get());
            let name = tree::find(self, Key::new(parent, Kind::Dirent, link.cookie.get()), |value| {
                memory::copy(decode(parent, value)?.1)
            })?;
            let Some(name) = name else {
                return Err(Error::corrupt("inode", at.0, "its directory does not name it"));
            };
            memory::push(&mut parts, name)?;
            at = if parent == crate::format::COLLECTIONS { CONTROL } else { parent };
            if at == CONTROL {
                memory::push(&mut parts, memory::copy(b"collections")?)?;
                memory::push(&mut parts, memory::copy(control::NAME)?)?;
                break;
            }
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            if !path.is_empty() {
                memory::push(&mut path, b'/')?;
            }
            memory::extend(&mut path, part)?;
        }
        Ok(Some(path))
    }
}
