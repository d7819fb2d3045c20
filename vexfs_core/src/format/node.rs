//! A node of the tree: a header, an array of slots in key order, and values packed at the end of the block.
//!
//! ```text
//! 0        32                              heap               block size
//! | header | slot 0 | slot 1 | ... | zeros | ... value 1 | value 0 |
//! ```
//!
//! Values are always packed: what is between the slots and the heap is free, and zero. In a leaf (level 0)
//! values are records; above, they are pointers to children, and slot 0 carries the node's own lower bound.
//! [`Node::check`] accepts bytes from the device; only then may [`Node`] read them.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::key::Key;
use crate::bugs::planted;
use crate::checksum::crc32;
use crate::error::{Error, Result};
use crate::memory;

/// `VNOD`, little-endian.
pub const NODE_MAGIC: u32 = u32::from_le_bytes(*b"VNOD");
/// Bytes of a node's header.
pub const NODE_HEADER: usize = size_of::<NodeHeader>();
/// Bytes of a slot.
pub const SLOT: usize = size_of::<Slot>();
/// Levels a tree can have.
pub const LEVEL_MAX: u32 = 12;

/// Bytes of a record's value at most: a quarter of a node, slot included.
pub const fn value_max(block_size: u32) -> usize {
    (block_size as usize - NODE_HEADER) / 4 - SLOT
}

/// The header of a node.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NodeHeader {
    /// `VNOD`.
    pub magic: U32,
    /// 0 = leaf.
    pub level: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// Slots in use.
    pub count: U16,
    /// Generation that wrote it.
    pub generation: U64,
    /// The block it lies in.
    pub block: U64,
    /// Byte offset of the lowest value.
    pub heap: U16,
    /// Reserved, zero.
    pub reserved2: [u8; 6],
}

const _: () = assert!(size_of::<NodeHeader>() == 32);

/// A slot: a key and where its value is.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Slot {
    /// Key: inode.
    pub inode: U64,
    /// Key: offset.
    pub offset: U64,
    /// Key: kind.
    pub kind: u8,
    /// Reserved, zero.
    pub reserved: u8,
    /// Byte offset of the value in the block.
    pub value: U16,
    /// Bytes of the value.
    pub value_len: U16,
    /// Reserved, zero.
    pub reserved2: U16,
}

const _: () = assert!(size_of::<Slot>() == 24);

impl Slot {
    fn key(&self) -> Key {
        Key { inode: self.inode.get(), kind: self.kind, offset: self.offset.get() }
    }
}

/// A pointer to a child, on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PointerRecord {
    /// Block of the child.
    pub block: U64,
    /// Generation that wrote it.
    pub generation: U64,
    /// CRC-32 of it.
    pub checksum: U32,
    /// Reserved, zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<PointerRecord>() == 24);

/// A pointer to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pointer {
    /// Block of the node.
    pub block: u64,
    /// Generation that wrote it.
    pub generation: u64,
    /// CRC-32 of it; not yet known of a node that is not sealed.
    pub checksum: u32,
}

impl From<PointerRecord> for Pointer {
    fn from(record: PointerRecord) -> Self {
        Self {
            block: record.block.get(),
            generation: record.generation.get(),
            checksum: record.checksum.get(),
        }
    }
}

impl From<Pointer> for PointerRecord {
    fn from(pointer: Pointer) -> Self {
        Self {
            block: U64::new(pointer.block),
            generation: U64::new(pointer.generation),
            checksum: U32::new(pointer.checksum),
            reserved: U32::ZERO,
        }
    }
}

/// What a parent knows of a node before it reads it.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The pointer in the parent.
    pub pointer: Pointer,
    /// One below the parent's.
    pub level: u32,
    /// No key of the node is lower.
    pub low: Key,
    /// Every key of the node is lower than this.
    pub high: Key,
}

/// A node, to read.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    bytes: &'a [u8],
    slots: &'a [Slot],
}

impl<'a> Node<'a> {
    /// The node in bytes that [`Node::check`] accepted, or that a [`NodeWriter`] made.
    pub fn new(bytes: &'a [u8]) -> Self {
        let count = match NodeHeader::ref_from_prefix(bytes) {
            Ok((header, _)) => usize::from(header.count.get()),
            Err(_) => 0,
        };
        let slots = match bytes.get(NODE_HEADER..) {
            Some(rest) => {
                <[Slot]>::ref_from_prefix_with_elems(rest, count).map(|(slots, _)| slots).unwrap_or(&[])
            }
            None => &[],
        };
        Self { bytes, slots }
    }

    /// Checks bytes from the device against all that is known of them.
    pub fn check(bytes: &[u8], expected: &Expected) -> Result<()> {
        let block = expected.pointer.block;
        let bad = |why| Err(Error::corrupt("tree node", block, why));
        if !planted("node_checksum_ignored") && crc32(bytes) != expected.pointer.checksum {
            return Err(Error::checksum("tree node", block));
        }
        let Ok((header, rest)) = NodeHeader::ref_from_prefix(bytes) else { return bad("too short") };
        if header.magic.get() != NODE_MAGIC {
            return bad("not a node");
        }
        if header.block.get() != block || header.generation.get() != expected.pointer.generation {
            return bad("written for another place or generation");
        }
        let count = usize::from(header.count.get());
        let Ok((slots, _)) = <[Slot]>::ref_from_prefix_with_elems(rest, count) else {
            return bad("more slots than it has room for");
        };
        let heap = usize::from(header.heap.get());
        if heap < NODE_HEADER + count * SLOT || heap > bytes.len() {
            return bad("values overlap the slots");
        }
        let mut used = 0;
        let mut taken = memory::zeroed(bytes.len().div_ceil(8))?;
        let mut previous = None;
        for slot in slots {
            let (start, len) = (usize::from(slot.value.get()), usize::from(slot.value_len.get()));
            if start < heap || start + len > bytes.len() {
                return bad("a value lies outside");
            }
            if len > value_max(bytes.len() as u32) {
                return bad("a value of more than a quarter of a node");
            }
            if expected.level > 0 && len != size_of::<PointerRecord>() {
                return bad("a pointer of a wrong length");
            }
            used += len;
            if !take(&mut taken, start, start + len) {
                return bad("values overlap");
            }
            let key = slot.key();
            if previous.is_some_and(|previous| previous >= key) {
                return bad("keys out of order");
            }
            previous = Some(key);
        }
        if used != bytes.len() - heap {
            return bad("values leave gaps");
        }
        Node::new(bytes).check_place(expected)
    }

    /// Checks that the node has the level and the keys that its parent says, whoever else may point to it.
    ///
    /// A host's cache gives back bytes that were checked for one parent; another one may point to them as well.
    pub fn check_place(&self, expected: &Expected) -> Result<()> {
        let bad = |why| Err(Error::corrupt("tree node", expected.pointer.block, why));
        if self.level() != expected.level {
            return bad("of the wrong level");
        }
        let (first, last) = match (self.slots.first(), self.slots.last()) {
            (Some(first), Some(last)) => (first.key(), last.key()),
            _ if expected.level > 0 => return bad("no child"),
            _ => return Ok(()),
        };
        if first < expected.low || last >= expected.high {
            return bad("keys outside the parent's bounds");
        }
        if expected.level > 0 && first != expected.low {
            return bad("first key differs from the parent's");
        }
        Ok(())
    }

    /// Slots in use.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// The generation in the header.
    pub fn generation(&self) -> u64 {
        NodeHeader::ref_from_prefix(self.bytes).map(|(header, _)| header.generation.get()).unwrap_or(0)
    }

    /// The level in the header; 0 is a leaf.
    pub fn level(&self) -> u32 {
        NodeHeader::ref_from_prefix(self.bytes).map(|(header, _)| u32::from(header.level)).unwrap_or(0)
    }

    /// The key at `index`.
    pub fn key(&self, index: usize) -> Option<Key> {
        self.slots.get(index).map(Slot::key)
    }

    /// The value at `index`.
    pub fn value(&self, index: usize) -> &'a [u8] {
        let Some(slot) = self.slots.get(index) else { return &[] };
        let start = usize::from(slot.value.get());
        self.bytes.get(start..start + usize::from(slot.value_len.get())).unwrap_or(&[])
    }

    /// The pointer at `index`, above the leaves.
    pub fn pointer(&self, index: usize) -> Option<Pointer> {
        PointerRecord::read_from_bytes(self.value(index)).ok().map(Pointer::from)
    }

    /// The index of `key`, or where it would go.
    pub fn search(&self, key: Key) -> core::result::Result<usize, usize> {
        self.slots.binary_search_by(|slot| slot.key().cmp(&key))
    }

    /// The index of the child under which `key` belongs.
    pub fn child(&self, key: Key) -> usize {
        match self.search(key) {
            Ok(index) => index,
            Err(index) => index.saturating_sub(1),
        }
    }

    /// Free bytes.
    pub fn room(&self) -> usize {
        let heap = NodeHeader::ref_from_prefix(self.bytes).map(|(header, _)| header.heap.get()).unwrap_or(0);
        usize::from(heap).saturating_sub(NODE_HEADER + self.slots.len() * SLOT)
    }

    /// Bytes that slots and values take.
    pub fn used(&self) -> usize {
        self.bytes.len().saturating_sub(NODE_HEADER + self.room())
    }

    /// True if what is free is zero.
    pub fn padding_is_zero(&self) -> bool {
        let start = NODE_HEADER + self.slots.len() * SLOT;
        self.bytes.get(start..start + self.room()).is_some_and(|gap| gap.iter().all(|byte| *byte == 0))
    }
}

// Notes bytes `from..to` of a node as taken, a bit each; false if one was before.
fn take(taken: &mut [u8], from: usize, to: usize) -> bool {
    let mut at = from;
    while at < to {
        let end = (at | 7).min(to - 1);
        let mask = (0xffu8 << (at % 8)) & (0xffu8 >> (7 - end % 8));
        match taken.get_mut(at / 8) {
            Some(byte) if *byte & mask == 0 => *byte |= mask,
            _ => return false,
        }
        at = end + 1;
    }
    true
}

/// A node, to change.
pub struct NodeWriter<'a> {
    bytes: &'a mut [u8],
}

impl<'a> NodeWriter<'a> {
    /// The node in `bytes`.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// Makes an empty node of zeroed bytes.
    pub fn init(bytes: &'a mut [u8], level: u32, generation: u64, block: u64) -> Self {
        bytes.fill(0);
        let heap = bytes.len() as u16;
        let mut node = Self { bytes };
        let header = node.header();
        header.magic = U32::new(NODE_MAGIC);
        header.level = level as u8;
        header.heap = U16::new(heap);
        header.generation = U64::new(generation);
        header.block = U64::new(block);
        node
    }

    /// The node, to read.
    pub fn node(&self) -> Node<'_> {
        Node::new(self.bytes)
    }

    /// Gives the node a new place and generation.
    pub fn settle(&mut self, generation: u64, block: u64) {
        let header = self.header();
        header.generation = U64::new(generation);
        header.block = U64::new(block);
    }

    /// Inserts a record before `index`; false if there is no room.
    pub fn insert(&mut self, index: usize, key: Key, value: &[u8]) -> bool {
        let node = self.node();
        let (count, room) = (node.count(), node.room());
        if room < SLOT + value.len() || index > count {
            return false;
        }
        let heap = usize::from(self.header().heap.get()) - value.len();
        self.bytes[heap..heap + value.len()].copy_from_slice(value);
        let slot = Slot {
            inode: U64::new(key.inode),
            offset: U64::new(key.offset),
            kind: key.kind,
            reserved: 0,
            value: U16::new(heap as u16),
            value_len: U16::new(value.len() as u16),
            reserved2: U16::ZERO,
        };
        let at = NODE_HEADER + index * SLOT;
        self.bytes.copy_within(at..NODE_HEADER + count * SLOT, at + SLOT);
        self.bytes[at..at + SLOT].copy_from_slice(slot.as_bytes());
        let header = self.header();
        header.heap = U16::new(heap as u16);
        header.count = U16::new(count as u16 + 1);
        true
    }

    /// Removes the record at `index`.
    pub fn remove(&mut self, index: usize) {
        let count = self.node().count();
        let Some((start, len)) = self
            .slots()
            .get(index)
            .map(|slot| (usize::from(slot.value.get()), usize::from(slot.value_len.get())))
        else {
            return;
        };
        let heap = usize::from(self.header().heap.get());
        self.bytes.copy_within(heap..start, heap + len);
        self.bytes[heap..heap + len].fill(0);
        for slot in self.slots() {
            // An empty value may lie at the same place.
            if usize::from(slot.value.get()) <= start {
                slot.value = U16::new(slot.value.get() + len as u16);
            }
        }
        let at = NODE_HEADER + index * SLOT;
        let end = NODE_HEADER + count * SLOT;
        self.bytes.copy_within(at + SLOT..end, at);
        self.bytes[end - SLOT..end].fill(0);
        let header = self.header();
        header.heap = U16::new((heap + len) as u16);
        header.count = U16::new(count as u16 - 1);
    }

    /// Puts another value at `index`; false if there is no room, and nothing has changed.
    pub fn replace(&mut self, index: usize, value: &[u8]) -> bool {
        let node = self.node();
        let (old, room) = (node.value(index).len(), node.room());
        let Some(key) = node.key(index) else { return false };
        if old == value.len() {
            let start = usize::from(self.slots()[index].value.get());
            self.bytes[start..start + old].copy_from_slice(value);
            return true;
        }
        if room + old < value.len() {
            return false;
        }
        self.remove(index);
        self.insert(index, key, value)
    }

    /// Zeroes what is free.
    pub fn clear_padding(&mut self) {
        let start = NODE_HEADER + self.node().count() * SLOT;
        let end = start + self.node().room();
        if let Some(gap) = self.bytes.get_mut(start..end) {
            gap.fill(0);
        }
    }

    /// Changes the key at `index`, which must keep the order.
    pub fn rekey(&mut self, index: usize, key: Key) {
        if let Some(slot) = self.slots().get_mut(index) {
            slot.inode = U64::new(key.inode);
            slot.offset = U64::new(key.offset);
            slot.kind = key.kind;
        }
    }

    fn header(&mut self) -> &mut NodeHeader {
        match NodeHeader::mut_from_prefix(self.bytes) {
            Ok((header, _)) => header,
            Err(_) => unreachable!("a block is longer than a header"),
        }
    }

    fn slots(&mut self) -> &mut [Slot] {
        let count = self.node().count();
        match <[Slot]>::mut_from_prefix_with_elems(&mut self.bytes[NODE_HEADER..], count) {
            Ok((slots, _)) => slots,
            Err(_) => &mut [],
        }
    }
}
