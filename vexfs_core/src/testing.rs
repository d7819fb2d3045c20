//! What unit tests share: a device in memory, and numbers from a seed.

use alloc::vec::Vec;
use core::cell::RefCell;

use crate::device::BlockDevice;
use crate::error::Result;

/// A device in memory.
pub(crate) struct Ram(pub(crate) RefCell<Vec<u8>>);

impl Ram {
    /// A device of `size` bytes of canaries.
    pub(crate) fn new(size: usize) -> Self {
        Self(RefCell::new(alloc::vec![0xa5; size]))
    }
}

impl BlockDevice for Ram {
    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.0.borrow()[start..start + buffer.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = offset as usize;
        self.0.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// Numbers from a seed, which is not 0 (xorshift64; Marsaglia 2003).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
