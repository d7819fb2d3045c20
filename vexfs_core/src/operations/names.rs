//! Entries by hash: directory entries and attributes share one way to find a name.
//!
//! A name's record lies at `hash << 16 | sequence`: 47 bits of a keyed hash, and a sequence number that tells
//! apart names of equal hash. It stays there for its life, so a directory entry's place is its readdir cookie.

use alloc::vec::Vec;

use crate::checksum::siphash;
use crate::error::{Error, Result};
use crate::format::{Key, Kind, NAME_MAX};
use crate::memory;
use crate::numbers::Ino;
use crate::tree;
use crate::volume::Nodes;

/// Cookies 0 to 2 stand for the start, `.` and `..`.
const FIRST: u64 = 3;

/// Where the records of a name (or of another pair of numbers) begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NameHash(u64);

impl NameHash {
    /// Of `name` at `inode`; the inode is hashed too, so that equal names in many places do not meet.
    pub(crate) fn new<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Self {
        let mut bytes = [0u8; 8 + NAME_MAX + 1];
        let len = name.len().min(NAME_MAX + 1);
        bytes[..8].copy_from_slice(&inode.0.to_le_bytes());
        bytes[8..8 + len].copy_from_slice(&name[..len]);
        Self(siphash(nodes.hash_seed(), &bytes[..8 + len]) >> 17)
    }

    /// The 47 bits, which are the upper part of a record's offset.
    pub(crate) fn value(self) -> u64 {
        self.0
    }

    fn range(self, inode: Ino, kind: Kind) -> (Key, Key) {
        let start = self.0 << 16;
        let from = Key::new(inode, kind, start.max(FIRST));
        (from, Key::new(inode, kind, start + (1 << 16)))
    }
}

/// The record of `kind` at `inode` with this hash that `is` accepts: its key's offset and its bytes.
pub(crate) fn find<N: Nodes>(
    nodes: &N,
    inode: Ino,
    kind: Kind,
    hash: NameHash,
    is: &mut dyn FnMut(&[u8]) -> Result<bool>,
) -> Result<Option<(u64, Vec<u8>)>> {
    let (from, to) = hash.range(inode, kind);
    let mut found = None;
    tree::scan(nodes, from, to, &mut |key, value| {
        if is(value)? {
            found = Some((key.offset, memory::copy(value)?));
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// The first free place for a record with this hash.
pub(crate) fn free_place<N: Nodes>(nodes: &N, inode: Ino, kind: Kind, hash: NameHash) -> Result<u64> {
    let (from, to) = hash.range(inode, kind);
    let mut place = from.offset;
    tree::scan(nodes, from, to, &mut |key, _| {
        let taken = key.offset == place;
        place += u64::from(taken);
        Ok(taken)
    })?;
    if place >= to.offset {
        return Err(Error::NoSpace { pending: 0 });
    }
    Ok(place)
}
