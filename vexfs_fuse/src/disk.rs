//! What the core gets as its host: the locked image behind its cache of metadata, shared with the commit that
//! runs without the volume's lock.
//!
//! INVARIANT: once a write or a flush failed, every later flush fails: a page that the system could not write is
//! clean to it afterwards, and its next flush would say success.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use vexfs_core::device::{Address, BlockDevice, Data, Place};
use vexfs_core::memory::Block;
use vexfs_core::{Error, Result};
use vexfs_host::LockedImage;

use crate::cache::{CacheStatistics, Cached};

/// Zeros are written from here, as many at a time.
static ZEROS: [u8; 65536] = [0; 65536];

/// A handle to the volume's disk; cloning it copies a pointer.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    cached: Cached<LockedImage>,
    /// The system tells a failed flush once, so they go one by one, and each looks at what those before met.
    flushing: Mutex<()>,
    failure: OnceLock<Error>,
}

impl Disk {
    /// The image with a cache of `cache_bytes_max` bytes for its metadata.
    pub fn new(image: LockedImage, cache_bytes_max: usize) -> Self {
        let cached = Cached::new(image, cache_bytes_max);
        Self(Arc::new(Shared { cached, flushing: Mutex::new(()), failure: OnceLock::new() }))
    }

    /// Flushes of the device so far.
    pub fn flushes(&self) -> u64 {
        self.0.cached.flushes()
    }

    /// Has the system begin to write what it holds back, without waiting: the next flush takes less long then.
    pub fn start_writeback(&self) {
        self.0.cached.device().start_writeback();
    }

    /// False once the system refused a discard as unknown.
    pub fn discards(&self) -> bool {
        self.0.cached.device().discards()
    }

    /// How well the metadata cache does.
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.0.cached.statistics()
    }

    /// The first write or flush that failed; after it, no flush says success any more.
    pub fn failure(&self) -> Option<Error> {
        self.0.failure.get().copied()
    }

    fn noted(&self, result: Result<()>) -> Result<()> {
        result.inspect_err(|error| {
            // Only the first is kept.
            let _ = self.0.failure.set(*error);
        })
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.0.cached.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.cached.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.noted(self.0.cached.write(offset, bytes))
    }

    fn flush(&self) -> Result<()> {
        let _flushing = self.0.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = self.failure() {
            return Err(error);
        }
        self.noted(self.0.cached.flush())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.cached.discard(offset, len)
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        self.0.cached.metadata(address, verify)
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
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len() as u64);
            self.write(place.device + done, &ZEROS[..step as usize])?;
            done += step;
        }
        Ok(())
    }
}
