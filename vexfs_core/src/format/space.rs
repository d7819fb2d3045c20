//! The free-space map: a static tree of bitmap and index blocks, each in a pair of fixed slots.
//!
//! Level 0 are bitmap blocks (bit = 1: in use; bit 0 of byte 0 first), level 1 index blocks over them, and so
//! on up to one top block, whose entry is in the superblock. A changed block goes to the slot that its entry
//! does not name, so that the last generation stays whole. An entry of generation 0 was never written: all free.

use core::mem::size_of;

use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{Error, Result};

/// What an index block (or the superblock) says of one block of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SpaceEntry {
    /// Generation that wrote it; 0 = never written, all free.
    pub generation: U64,
    /// CRC-32 of the block.
    pub checksum: U32,
    /// Which of the pair holds it, 0 or 1.
    pub slot: U32,
}

const _: () = assert!(size_of::<SpaceEntry>() == 16);

impl SpaceEntry {
    /// A block that was never written.
    pub const NEVER: Self = Self { generation: U64::ZERO, checksum: U32::ZERO, slot: U32::ZERO };
}

/// Levels a map can have: enough for 2^63 bytes.
const LEVELS: usize = 6;

/// Where the map's blocks lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceLayout {
    /// First block of the region.
    pub start: u64,
    /// Levels in use, at least 2: bitmaps and an index.
    pub levels: usize,
    /// Blocks (pairs of slots) of each level; the top one has 1.
    pub counts: [u64; LEVELS],
}

impl SpaceLayout {
    /// The map of `blocks` blocks, its region beginning at `start`.
    pub fn new(start: u64, block_size: u32, blocks: u64) -> Result<Self> {
        let mut counts = [0; LEVELS];
        let mut count = blocks.div_ceil(u64::from(block_size) * 8).max(1);
        counts[0] = count;
        let mut levels = 1;
        while levels < 2 || count > 1 {
            count = count.div_ceil(Self::fanout(block_size));
            *counts.get_mut(levels).ok_or(Error::Invalid("volume too large"))? = count;
            levels += 1;
        }
        Ok(Self { start, levels, counts })
    }

    /// Entries of an index block.
    pub const fn fanout(block_size: u32) -> u64 {
        block_size as u64 / size_of::<SpaceEntry>() as u64
    }

    /// The device block of `slot` of the pair `index` at `level`.
    pub fn block(&self, level: usize, index: u64, slot: u32) -> u64 {
        let below: u64 = self.counts.iter().take(level).sum();
        self.start + (below + index) * 2 + u64::from(slot)
    }

    /// One past the region's last block.
    pub fn end(&self) -> u64 {
        self.start + self.counts.iter().sum::<u64>() * 2
    }
}
