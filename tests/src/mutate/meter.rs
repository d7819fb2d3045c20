//! A disk that counts what is asked of it, keeps verified blocks as a host's cache does, and ends runaway calls.
//!
//! It also holds the core to one rule that no image may break: bytes of files and rows never go outside the data
//! area, where superblocks, free-space map and journal are.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

use vexfs_core::device::{Address, BlockDevice, Data, Place};
use vexfs_core::error::{Error, Result};
use vexfs_core::memory::Block;

use crate::allocations::uncounted;
use crate::image::Image;
use crate::verified::Verified;

/// The disk. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct Meter(Rc<State>);

struct State {
    image: RefCell<Image>,
    cache: Option<Cache>,
    /// Byte range where data may be.
    data: std::ops::Range<u64>,
    calls: Cell<u64>,
    /// Calls after which every further one fails.
    fuel: Cell<u64>,
    strayed: Cell<Option<u64>>,
}

/// Hashes the offset of a block. Offsets are a few thousand per image, and looked up a million times: a hash that withstands
/// chosen keys took a tenth of the whole run.
#[derive(Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    // Fibonacci hashing (Knuth, "The Art of Computer Programming", volume 3, section 6.4); both ends of the hash are used.
    fn write_u64(&mut self, number: u64) {
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A host's cache.
struct Cache {
    /// Verified blocks by byte offset.
    blocks: RefCell<HashMap<u64, (Address, Block), BuildHasherDefault<Spread>>>,
    /// What was accepted in other images with the same pages.
    verified: Rc<Verified>,
}

impl Meter {
    /// A disk that holds `image`, whose data area is the byte range `data`; with a cache, if there is something for it to
    /// begin with.
    pub fn new(image: Image, data: std::ops::Range<u64>, verified: Option<Rc<Verified>>) -> Self {
        Self(Rc::new(State {
            image: RefCell::new(image),
            cache: verified.map(|verified| Cache { blocks: RefCell::default(), verified }),
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
        self.call("read", address.offset, address.len)?;
        let Some(cache) = &self.0.cache else {
            let mut bytes = vexfs_core::memory::zeroed(address.len)?;
            self.0.image.borrow().read(address.offset, &mut bytes);
            verify(&bytes)?;
            return Block::new(bytes);
        };
        let found = cache.blocks.borrow().get(&address.offset).cloned();
        if let Some((_, block)) = found.filter(|(known, _)| *known == address) {
            return Ok(block);
        }
        uncounted(|| {
            let block = cache.verified.block(&self.0.image.borrow(), address, verify)?;
            cache.blocks.borrow_mut().insert(address.offset, (address, block.clone()));
            Ok(block)
        })
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
