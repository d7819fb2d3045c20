//! What the core gets as its host: the locked image behind its cache of metadata, shared with the commit that
//! runs without the volume's lock.

use std::sync::Arc;

use vexfs_core::Result;
use vexfs_core::device::{Address, BlockDevice, Data, Place};
use vexfs_core::memory::Block;
use vexfs_host::LockedImage;

use crate::cache::{CacheStatistics, Cached};

/// Zeros are written from here, as many at a time.
static ZEROS: [u8; 65536] = [0; 65536];

/// A handle to the volume's disk; cloning it copies a pointer.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Cached<LockedImage>>);

impl Disk {
    /// The image with a cache of `cache_bytes_max` bytes for its metadata.
    pub fn new(image: LockedImage, cache_bytes_max: usize) -> Self {
        Self(Arc::new(Cached::new(image, cache_bytes_max)))
    }

    /// Flushes of the device so far.
    pub fn flushes(&self) -> u64 {
        self.0.flushes()
    }

    /// How well the metadata cache does.
    pub fn cache_statistics(&self) -> CacheStatistics {
        self.0.statistics()
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.write(offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.discard(offset, len)
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        self.0.metadata(address, verify)
    }
}

impl Data for Disk {
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()> {
        self.0.read(place.device, buffer)
    }

    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()> {
        self.0.write(place.device, bytes)
    }

    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len() as u64);
            self.0.write(place.device + done, &ZEROS[..step as usize])?;
            done += step;
        }
        Ok(())
    }
}
