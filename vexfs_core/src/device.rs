//! What the core asks of its host: a disk, and a way to the bytes of files.
//!
//! The core writes metadata blocks through [`BlockDevice`] and never keeps a lock, a clock or a thread;
//! bytes of files and of vector rows go through [`Data`], so that a kernel can serve them from its page cache.

use alloc::vec::Vec;

use crate::error::Result;
use crate::memory::{self, Block};
use crate::numbers::Ino;

/// A disk: bytes that can be read, written, made durable and given back.
///
/// A write may be reordered with any other and torn at 512-byte sectors until [`Self::flush`] returned.
pub trait BlockDevice {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Reads `buffer.len()` bytes at byte `offset`.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// Writes `bytes` at byte `offset`.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Returns once everything written before is durable.
    fn flush(&self) -> Result<()>;

    /// Tells the disk that `len` bytes at `offset` are no longer needed; they may read as anything.
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Reads one metadata block that `verify` accepts.
    ///
    /// A host with a cache keeps what was verified, by `(address, checksum, generation)`, and gives it back
    /// without a read and without asking `verify` again.
    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        let mut bytes: Vec<u8> = memory::zeroed(address.len)?;
        self.read(address.offset, &mut bytes)?;
        verify(&bytes)?;
        Block::new(bytes)
    }
}

/// Where a metadata block lies and what its parent says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Byte offset on the device.
    pub offset: u64,
    /// Length in bytes: one block.
    pub len: usize,
    /// The generation that wrote it.
    pub generation: u64,
    /// CRC-32 of the block.
    pub checksum: u32,
}

/// One contiguous piece of a file's bytes: where it is in the file, and where on the device.
///
/// A host over a plain disk uses `device`, a kernel its page cache at `inode` and `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or a collection's matrix.
    pub inode: Ino,
    /// Byte offset in the file.
    pub offset: u64,
    /// Byte offset on the device.
    pub device: u64,
}

/// The host's way to the bytes of files and matrices.
pub trait Data {
    /// Reads `buffer.len()` bytes.
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()>;

    /// Writes `bytes`; durable with the next [`BlockDevice::flush`].
    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()>;

    /// Writes `len` zero bytes.
    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()>;
}

/// [`Data`] straight on a [`BlockDevice`]: what FUSE, fsck and the simulator use.
#[derive(Clone, Debug)]
pub struct Direct<D>(pub D);

impl<D: BlockDevice> BlockDevice for Direct<D> {
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

impl<D: BlockDevice> Data for Direct<D> {
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()> {
        self.0.read(place.device, buffer)
    }

    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()> {
        self.0.write(place.device, bytes)
    }

    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut done = 0;
        while done < len {
            let step = (len - done).min(ZEROS.len() as u64);
            self.0.write(place.device + done, &ZEROS[..step as usize])?;
            done += step;
        }
        Ok(())
    }
}

impl<D: BlockDevice + ?Sized> BlockDevice for &D {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        (**self).read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        (**self).write(offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        (**self).flush()
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        (**self).discard(offset, len)
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        (**self).metadata(address, verify)
    }
}

impl<D: Data + ?Sized> Data for &D {
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()> {
        (**self).read_at(place, buffer)
    }

    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()> {
        (**self).write_at(place, bytes)
    }

    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()> {
        (**self).write_zeros_at(place, len)
    }
}
