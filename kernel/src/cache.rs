//! A bounded cache of verified metadata blocks.
//!
//! A block has one place in it, by its address, and takes the place of whatever was there: no list to keep, and a
//! look-up costs one comparison. An entry is found by address, generation and checksum together, so a block that was
//! written anew at the same place is never mistaken for the old one.

use alloc::vec::Vec;

use vexfs_core::device::Address;
use vexfs_core::error::Result;
use vexfs_core::memory::{self, Block};

/// Places; with blocks of 4 KiB at most 16 MiB, taken as it fills.
const SLOTS: usize = 4096;

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Option<(Address, Block)>>,
    /// Blocks found, and blocks that were not.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Bytes held.
    pub(crate) bytes: u64,
}

impl Cache {
    /// An empty one.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { slots: memory::filled(SLOTS, None)?, hits: 0, misses: 0, bytes: 0 })
    }

    /// The block at `address`, if it is there.
    pub(crate) fn find(&mut self, address: Address) -> Option<Block> {
        let found = match &self.slots[slot(address)] {
            Some((there, block)) if *there == address => Some(block.clone()),
            _ => None,
        };
        match found {
            Some(_) => self.hits += 1,
            None => self.misses += 1,
        }
        found
    }

    /// Keeps a block.
    pub(crate) fn insert(&mut self, address: Address, block: Block) {
        let old = self.slots[slot(address)].replace((address, block));
        self.bytes += address.len as u64;
        self.bytes -= old.map_or(0, |(old, _)| old.len as u64);
    }
}

// Fibonacci hashing of the block's number.
fn slot(address: Address) -> usize {
    let number = address.offset / address.len.max(1) as u64;
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as usize % SLOTS
}
