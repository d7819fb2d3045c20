//! An image as the core's block device.
//!
//! The core's errors carry only the operation and the offset; the system's reason goes to the log here.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::libc::{SYNC_FILE_RANGE_WRITE, sync_file_range};
use vexfs_core::device::BlockDevice;
use vexfs_core::error::{Error, Result};

use crate::image::{Image, LockedImage};

nix::ioctl_write_ptr_bad!(
    /// `BLKDISCARD` of linux/fs.h: start and length in bytes.
    blkdiscard,
    nix::request_code_none!(0x12, 119),
    [u64; 2]
);

impl BlockDevice for Image {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|source| self.failed("read", offset, &source))
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|source| self.failed("write", offset, &source))
    }

    fn flush(&self) -> Result<()> {
        self.file.sync_data().map_err(|source| self.failed("flush", 0, &source))
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        if len == 0 || self.no_discard.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.try_discard(offset, len) {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOTTY | Errno::ENOSYS) => {
                self.no_discard.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(errno) => Err(self.failed("discard", offset, &errno.into())),
        }
    }
}

impl Image {
    /// Has the system begin to write what was written and is not on the disk yet, without waiting for it. Promises
    /// nothing: `flush` does, and tells what failed.
    pub fn start_writeback(&self) {
        let descriptor = self.file.as_raw_fd();
        // SAFETY: the call takes numbers alone, and the descriptor is open. 0 bytes from 0 on are all (sync_file_range(2)).
        let status = unsafe { sync_file_range(descriptor, 0, 0, SYNC_FILE_RANGE_WRITE) };
        if status != 0 {
            log::debug!("{}: writing back cannot begin: {}", self.path.display(), io::Error::last_os_error());
        }
    }

    /// False once the system refused a discard as unknown: then none does anything.
    pub fn discards(&self) -> bool {
        !self.no_discard.load(Ordering::Relaxed)
    }

    fn try_discard(&self, offset: u64, len: u64) -> std::result::Result<(), Errno> {
        if self.is_device {
            let range = [offset, len];
            // SAFETY: the descriptor is open, and BLKDISCARD reads two u64 from the pointer, which is valid
            // for the call.
            unsafe { blkdiscard(self.file.as_raw_fd(), &range) }.map(drop)
        } else {
            let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
                return Err(Errno::EFBIG);
            };
            let how = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            fallocate(self.file(), how, offset, len)
        }
    }

    fn failed(&self, operation: &'static str, offset: u64, source: &io::Error) -> Error {
        log::error!("{}: {operation} at byte {offset} failed: {source}", self.path.display());
        Error::Device { operation, offset }
    }
}

impl BlockDevice for LockedImage {
    fn size(&self) -> u64 {
        BlockDevice::size(&**self)
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        BlockDevice::read(&**self, offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        BlockDevice::write(&**self, offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        BlockDevice::flush(&**self)
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        BlockDevice::discard(&**self, offset, len)
    }
}
