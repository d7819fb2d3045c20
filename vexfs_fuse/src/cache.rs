//! A bounded cache of verified metadata blocks, in front of any device.
//!
//! An entry is found by address, generation and checksum together, so a block that was written anew at the
//! same place is never mistaken for the old one. Only `metadata` is cached: bytes of files and rows live in
//! the kernel's page cache. Eviction gives each block a second chance once it was hit; a block that was read
//! only once, as by a scan, goes first.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vexfs_core::device::{Address, BlockDevice};
use vexfs_core::error::Result;
use vexfs_core::memory::Block;

/// Locks, so that threads that read different blocks rarely meet.
const SHARDS: usize = 16;
/// What an entry costs beside the block's bytes, roughly.
const ENTRY_OVERHEAD: usize = 128;

/// A device with a cache of its metadata blocks.
#[derive(Debug)]
pub struct Cached<D> {
    device: D,
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
    flushes: AtomicU64,
}

/// How well the cache does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Blocks found.
    pub hits: u64,
    /// Blocks read from the device.
    pub misses: u64,
    /// Bytes held, with the cost of holding them.
    pub bytes: u64,
    /// Bytes it may hold.
    pub bytes_max: u64,
}

impl CacheStatistics {
    /// Hits per lookup, 0 before the first.
    pub fn hit_ratio(&self) -> f64 {
        match self.hits + self.misses {
            0 => 0.0,
            lookups => self.hits as f64 / lookups as f64,
        }
    }
}

impl<D> Cached<D> {
    /// Puts a cache of at most `bytes_max` bytes in front of `device`.
    pub fn new(device: D, bytes_max: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(Shard::default()));
        let shard_bytes_max = bytes_max / SHARDS;
        let (hits, misses, flushes) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
        Self { device, shards, shard_bytes_max, hits, misses, flushes }
    }

    /// The device behind the cache.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Flushes of the device so far.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// How well the cache does.
    pub fn statistics(&self) -> CacheStatistics {
        let bytes = self.shards.iter().map(|shard| locked(shard).bytes as u64).sum();
        CacheStatistics {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes,
            bytes_max: (self.shard_bytes_max * SHARDS) as u64,
        }
    }

    fn shard(&self, address: Address) -> &Mutex<Shard> {
        // Fibonacci hashing: neighbouring blocks go to different shards.
        let hash = (address.offset >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.shards[(hash >> 60) as usize % SHARDS]
    }
}

impl<D: BlockDevice> BlockDevice for Cached<D> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.device.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.device.write(offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.device.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.device.discard(offset, len)
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        let shard = self.shard(address);
        if let Some(block) = locked(shard).find(address) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(block);
        }
        // The lock is not held while the device reads; two threads may read the same block once.
        self.misses.fetch_add(1, Ordering::Relaxed);
        let block = self.device.metadata(address, verify)?;
        locked(shard).insert(address, block.clone(), self.shard_bytes_max);
        Ok(block)
    }
}

/// One lock's part of the cache: a map, and a clock hand over its slots.
#[derive(Debug, Default)]
struct Shard {
    slots: Vec<Slot>,
    by_offset: HashMap<u64, usize>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    address: Address,
    block: Block,
    was_hit: bool,
}

impl Shard {
    fn find(&mut self, address: Address) -> Option<Block> {
        let slot = self.slots.get_mut(*self.by_offset.get(&address.offset)?)?;
        if slot.address != address {
            return None;
        }
        slot.was_hit = true;
        Some(slot.block.clone())
    }

    fn insert(&mut self, address: Address, block: Block, bytes_max: usize) {
        if cost(address) > bytes_max {
            return;
        }
        if let Some(&index) = self.by_offset.get(&address.offset) {
            self.remove(index);
        }
        while self.bytes + cost(address) > bytes_max && !self.slots.is_empty() {
            self.evict();
        }
        self.by_offset.insert(address.offset, self.slots.len());
        self.slots.push(Slot { address, block, was_hit: false });
        self.bytes += cost(address);
    }

    // Ends after two rounds at most: the first takes every second chance away.
    fn evict(&mut self) {
        loop {
            self.hand = if self.hand >= self.slots.len() { 0 } else { self.hand };
            let slot = &mut self.slots[self.hand];
            if slot.was_hit {
                slot.was_hit = false;
                self.hand += 1;
            } else {
                return self.remove(self.hand);
            }
        }
    }

    fn remove(&mut self, index: usize) {
        let removed = self.slots.swap_remove(index);
        self.by_offset.remove(&removed.address.offset);
        self.bytes -= cost(removed.address);
        if let Some(moved) = self.slots.get(index) {
            self.by_offset.insert(moved.address.offset, index);
        }
    }
}

fn cost(address: Address) -> usize {
    address.len + ENTRY_OVERHEAD
}

// A panic while a shard was locked leaves a cache that is at worst smaller than it could be.
fn locked(shard: &Mutex<Shard>) -> std::sync::MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A device whose every block holds its block number, and which counts its reads.
    struct Numbered {
        reads: Cell<usize>,
    }

    impl BlockDevice for Numbered {
        fn size(&self) -> u64 {
            1 << 30
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            self.reads.set(self.reads.get() + 1);
            buffer.fill((offset / 4096) as u8);
            Ok(())
        }
        fn write(&self, _: u64, _: &[u8]) -> Result<()> {
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    fn address(block: u64, generation: u64) -> Address {
        Address { offset: block * 4096, len: 4096, generation, checksum: generation as u32 }
    }

    fn cached(blocks: usize) -> Cached<Numbered> {
        Cached::new(Numbered { reads: Cell::new(0) }, blocks * (4096 + ENTRY_OVERHEAD) * SHARDS)
    }

    fn read(cache: &Cached<Numbered>, address: Address) -> u8 {
        cache.metadata(address, &|_| Ok(())).expect("read")[0]
    }

    #[test]
    fn a_block_is_read_once() {
        let cache = cached(4);
        assert_eq!(read(&cache, address(9, 1)), 9);
        assert_eq!(read(&cache, address(9, 1)), 9);
        assert_eq!(cache.device().reads.get(), 1);
        let statistics = cache.statistics();
        assert_eq!((statistics.hits, statistics.misses), (1, 1));
        assert_eq!(statistics.hit_ratio(), 0.5);
    }

    #[test]
    fn another_generation_at_the_same_place_is_another_block() {
        let cache = cached(4);
        read(&cache, address(9, 1));
        read(&cache, address(9, 2));
        read(&cache, address(9, 1));
        assert_eq!(cache.device().reads.get(), 3);
    }

    #[test]
    fn it_stays_within_its_size() {
        let cache = cached(2);
        for block in 0..10_000 {
            read(&cache, address(block, 1));
        }
        let statistics = cache.statistics();
        assert!(statistics.bytes <= statistics.bytes_max, "{statistics:?}");
        assert!(statistics.bytes > 0);
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_used_again_and_again() {
        let cache = cached(8);
        for block in 100..10_100 {
            read(&cache, address(1, 1));
            read(&cache, address(1, 1));
            read(&cache, address(block, 1));
        }
        assert_eq!(cache.device().reads.get(), 10_001);
    }

    #[test]
    fn a_refused_block_is_not_kept() {
        let cache = cached(4);
        let refuse = |_: &[u8]| Err(vexfs_core::error::Error::checksum("tree node", 9));
        assert!(cache.metadata(address(9, 1), &refuse).is_err());
        assert!(cache.metadata(address(9, 1), &refuse).is_err());
        assert_eq!(cache.statistics().bytes, 0);
    }
}
