//! A disk that counts what is asked of it, keeps verified blocks as a host's cache does, and ends runaway calls.
//!
//! It also holds the core to one rule that no image may break: bytes of files and rows never go outside the data
//! area, where superblocks, free-space map and journal are.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use vexfs_core::device::{Address, BlockDevice, Data, Place};
use vexfs_core::error::{Error, Result};
use vexfs_core::memory::Block;

use crate::allocations::uncounted;
use crate::image::Image;

/// The disk. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct Meter(Rc<State>);

struct State {
    image: RefCell<Image>,
    /// Verified blocks by byte offset, if there is a cache.
    cache: Option<RefCell<HashMap<u64, (Address, Block)>>>,
    /// Byte range where data may be.
    data: std::ops::Range<u64>,
    calls: Cell<u64>,
    /// Calls after which every further one fails.
    fuel: Cell<u64>,
    strayed: Cell<Option<u64>>,
}

impl Meter {
    /// A disk that holds `image`, whose data area is the byte range `data`.
    pub fn new(image: Image, data: std::ops::Range<u64>, cached: bool) -> Self {
        Self(Rc::new(State {
            image: RefCell::new(image),
            cache: cached.then(RefCell::default),
            data,
            calls: Cell::new(0),
            fuel: Cell::new(u64::MAX),
            strayed: Cell::new(None),
        }))
    }

    /// What it holds now.
    pub fn image(&self) -> Image {
        self.0.image.borrow().clone()
    }

    /// Begins to count anew; more than `fuel` calls fail.
    pub fn refuel(&self, fuel: u64) {
        self.0.calls.set(0);
        self.0.fuel.set(fuel);
    }

    /// Calls since the last [`Self::refuel`].
    pub fn calls(&self) -> u64 {
        self.0.calls.get()
    }

    /// Where bytes of a file were written outside the data area, if they were.
    pub fn strayed(&self) -> Option<u64> {
        self.0.strayed.get()
    }

    fn call(&self, operation: &'static str, offset: u64, len: usize) -> Result<()> {
        self.0.calls.set(self.0.calls.get() + 1);
        let lies_on_it = self.0.image.borrow().covers(offset, len);
        if self.0.calls.get() > self.0.fuel.get() || !lies_on_it {
            return Err(Error::Device { operation, offset });
        }
        Ok(())
    }
}

impl BlockDevice for Meter {
    fn size(&self) -> u64 {
        self.0.image.borrow().size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.call("read", offset, buffer.len())?;
        self.0.image.borrow().read(offset, buffer);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.call("write", offset, bytes.len())?;
        uncounted(|| self.0.image.borrow_mut().write(offset, bytes));
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        let found = self.0.cache.as_ref().and_then(|cache| cache.borrow().get(&address.offset).cloned());
        if let Some((_, block)) = found.filter(|(known, _)| *known == address) {
            self.call("read", address.offset, address.len)?;
            return Ok(block);
        }
        let mut bytes = vexfs_core::memory::zeroed(address.len)?;
        self.read(address.offset, &mut bytes)?;
        verify(&bytes)?;
        if let Some(cache) = &self.0.cache {
            let kept = uncounted(|| Block::new(bytes.clone()))?;
            uncounted(|| cache.borrow_mut().insert(address.offset, (address, kept)));
        }
        Block::new(bytes)
    }
}

impl Data for Meter {
    fn read_at(&self, place: Place, buffer: &mut [u8]) -> Result<()> {
        self.read(place.device, buffer)
    }

    fn write_at(&self, place: Place, bytes: &[u8]) -> Result<()> {
        let end = place.device.saturating_add(bytes.len() as u64);
        if place.device < self.0.data.start || end > self.0.data.end {
            self.0.strayed.set(Some(place.device));
        }
        self.write(place.device, bytes)
    }

    fn write_zeros_at(&self, place: Place, len: u64) -> Result<()> {
        let mut done = 0;
        while done < len {
            let step = (len - done).min(65536) as usize;
            let device = place.device.saturating_add(done);
            self.write_at(Place { device, ..place }, &vec![0; step])?;
            done += step as u64;
        }
        Ok(())
    }
}
