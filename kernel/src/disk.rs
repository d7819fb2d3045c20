//! What the core gets as its host: the block device, behind a cache of its metadata.
//!
//! INVARIANT: once a write or a flush failed, every later flush fails.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use vexfs_core::device::{Address, BlockDevice, Data, Place};
use vexfs_core::memory::{self, Block};
use vexfs_core::{Error, Result};

use crate::cache::Cache;
use crate::host::{Class, Host, Lock};

/// A handle to the volume's disk; cloning it copies a pointer.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: Host,
    size: u64,
    cache: Lock<Cache>,
    failure: Lock<Option<Error>>,
    flushes: AtomicU64,
}

/// How well the cache does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheStatistics {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) bytes: u64,
}

impl Disk {
    /// The device of `host`, of `size` bytes.
    pub(crate) fn new(host: Host, size: u64) -> Result<Self> {
        let cache = Lock::new(Class::Cache, Cache::new()?)?;
        let failure = Lock::new(Class::Cache, None)?;
        memory::shared(Shared { host, size, cache, failure, flushes: AtomicU64::new(0) }).map(Self)
    }

    /// The first write or flush that failed; after it, no flush says success any more.
    pub(crate) fn failure(&self) -> Option<Error> {
        *self.0.failure.read()
    }

    /// Flushes so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.0.flushes.load(Ordering::Relaxed)
    }

    /// How well the metadata cache does.
    pub(crate) fn cache_statistics(&self) -> CacheStatistics {
        let cache = self.0.cache.read();
        CacheStatistics { hits: cache.hits, misses: cache.misses, bytes: cache.bytes }
    }

    fn noted(&self, result: Result<()>) -> Result<()> {
        if let Err(error) = result {
            self.0.failure.write().get_or_insert(error);
        }
        result
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.0.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.host.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.noted(self.0.host.write(offset, bytes))
    }

    fn flush(&self) -> Result<()> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        self.0.flushes.fetch_add(1, Ordering::Relaxed);
        self.noted(self.0.host.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.host.discard(offset, len)
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        if let Some(block) = self.0.cache.write().find(address) {
            return Ok(block);
        }
        // The lock is not held while the device reads; two tasks may read the same block once.
        let mut bytes = memory::zeroed(address.len)?;
        self.read(address.offset, &mut bytes)?;
        verify(&bytes)?;
        let block = Block::new(bytes)?;
        self.0.cache.write().insert(address, block.clone());
        Ok(block)
    }
}

impl Data for Disk {
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()> {
        self.read(place.device, buffer)
    }

    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()> {
        self.write(place.device, bytes)
    }

    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()> {
        self.noted(self.0.host.zero(place.device, len))
    }
}
