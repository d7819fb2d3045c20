//! fstrim: all free blocks are given back to the device, some at a time.

use std::sync::atomic::Ordering;

use vexfs_core::device::BlockDevice;
use vexfs_core::numbers::Run;
use vexfs_core::{Error, Result};

use super::Service;

impl Service {
    /// Gives free runs of at least `least` bytes among the bytes `start..start + len` of the volume back to the device: a
    /// block device discards them, an image file has a hole there. Gives how many bytes those were.
    ///
    /// Commits first, so that what was removed before is free. Blocks are held back from use while they are discarded, so
    /// the mount serves meanwhile.
    ///
    /// # Errors
    /// `Invalid` for a range behind the volume or shorter than a block; `ReadOnly`; `Unsupported` if the device cannot
    /// discard, or the filesystem that the image lies on makes no holes; the device's.
    pub fn trim(&self, start: u64, len: u64, least: u64) -> Result<u64> {
        let block_size = u64::from(self.shown.block_size);
        let (size, read_only) = {
            let volume = self.volume();
            (volume.layout().size(), volume.is_read_only())
        };
        if start >= size || len < block_size {
            return Err(Error::Invalid(
                "the range to trim lies behind the volume, or is shorter than a block",
            ));
        }
        if read_only {
            return Err(Error::ReadOnly);
        }
        self.commit()?;
        let end = start.saturating_add(len).min(size) / block_size;
        let (mut next, mut trimmed) = (Some(start.div_ceil(block_size)), 0);
        while let Some(from) = next {
            let held = self.volume_mut().trim_begin(from, end, least.div_ceil(block_size))?;
            let discarded = held.runs.iter().try_fold(0, |sum, run| Ok(sum + self.discard_run(*run)?));
            next = held.next;
            self.volume_mut().trim_end(held);
            trimmed += discarded?;
        }
        Ok(trimmed)
    }

    // Discards one run of free blocks; gives its bytes.
    fn discard_run(&self, run: Run) -> Result<u64> {
        let block_size = u64::from(self.shown.block_size);
        let len = run.count * block_size;
        self.disk.discard(run.start.0 * block_size, len)?;
        if !self.disk.discards() {
            return Err(Error::Unsupported(
                "the device cannot discard, or its filesystem makes no holes in the image",
            ));
        }
        self.discarded_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(len)
    }
}
