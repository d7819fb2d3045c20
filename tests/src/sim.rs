//! `SimDevice`: a disk in memory that remembers every write and flush, in order.
//!
//! It does what a good disk does; what a power cut may leave of it is worked out from the trace by
//! [`crate::states`]. It never decides anything by chance or time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vexfs_core::device::{Address, BlockDevice};
use vexfs_core::error::{Error, Result};
use vexfs_core::make::{MakeOptions, make};
use vexfs_core::memory::Block;
use vexfs_core::numbers::Time;

use crate::image::Image;
use crate::verified::Verified;

/// What a discarded range reads as: neither what it held nor zeros.
pub const DISCARDED: u8 = 0xdd;

/// One thing that happened to the disk.
#[derive(Clone, Debug)]
pub enum Event {
    /// Bytes were written; not durable before the next flush.
    Write {
        /// Byte offset.
        offset: u64,
        /// What was written.
        bytes: Arc<[u8]>,
    },
    /// A range was given back; until the next flush it may read as before.
    Discard {
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// Everything before is durable.
    Flush,
    /// A flush that the disk only said it did.
    LostFlush,
}

/// Formats a disk, always in the same way.
pub fn format(device: &impl BlockDevice, block_size: u32) -> Result<()> {
    let options = MakeOptions {
        block_size,
        size: device.size(),
        uuid: *b"vexfs simulation",
        label: b"simulated",
        hash_seed: *b"0123456789abcdef",
        uid: 0,
        gid: 0,
        now: Time { seconds: 1_700_000_000, nanoseconds: 0 },
        journal_blocks: None,
    };
    make(device, &options).map(drop)
}

/// What happened since the recording began, and the disk as it was then.
#[derive(Clone)]
pub struct Trace {
    /// The disk at the beginning, all of it durable.
    pub base: Image,
    /// In order.
    pub events: Vec<Event>,
}

impl Trace {
    /// Where its flushes are.
    pub fn flushes(&self) -> Vec<usize> {
        (0..self.events.len()).filter(|at| matches!(self.events[*at], Event::Flush)).collect()
    }

    /// The first flush behind this event, or the end.
    pub fn flush_after(&self, event: usize) -> usize {
        self.flushes().into_iter().find(|at| *at > event).unwrap_or(self.events.len())
    }

    /// The same on a disk that did nothing at this flush, and said that it did.
    pub fn without_flush(&self, at: usize) -> Self {
        let mut trace = self.clone();
        trace.events[at] = Event::LostFlush;
        trace
    }
}

/// The disk. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct SimDevice(Arc<Mutex<State>>);

struct State {
    image: Image,
    recording: Option<Trace>,
    verified: Option<Arc<Verified>>,
}

impl SimDevice {
    /// A disk of `size` zero bytes.
    pub fn new(size: u64) -> Self {
        Self::from_image(Image::new(size))
    }

    /// A disk that holds `image`.
    pub fn from_image(image: Image) -> Self {
        Self(Arc::new(Mutex::new(State { image, recording: None, verified: None })))
    }

    /// A disk that holds `image`, whose metadata blocks were verified before where the very same pages were.
    pub fn from_known(image: Image, verified: &Arc<Verified>) -> Self {
        let verified = Some(Arc::clone(verified));
        Self(Arc::new(Mutex::new(State { image, recording: None, verified })))
    }

    /// What it holds now, durable or not.
    pub fn image(&self) -> Image {
        self.state().image.clone()
    }

    /// Begins a recording; what is there now counts as durable.
    pub fn record(&self) {
        let mut state = self.state();
        state.recording = Some(Trace { base: state.image.clone(), events: Vec::new() });
    }

    /// Ends the recording.
    pub fn take_trace(&self) -> Option<Trace> {
        self.state().recording.take()
    }

    /// Events recorded so far: the moment in the trace that is now.
    pub fn events(&self) -> usize {
        self.state().recording.as_ref().map_or(0, |trace| trace.events.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, event: impl FnOnce() -> Event) {
        if let Some(trace) = &mut self.recording {
            trace.events.push(event());
        }
    }

    fn covers(&self, operation: &'static str, offset: u64, len: usize) -> Result<()> {
        if self.image.covers(offset, len) { Ok(()) } else { Err(Error::Device { operation, offset }) }
    }
}

impl BlockDevice for SimDevice {
    fn size(&self) -> u64 {
        self.state().image.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let state = self.state();
        state.covers("read", offset, buffer.len())?;
        state.image.read(offset, buffer);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        state.covers("write", offset, bytes.len())?;
        state.image.write(offset, bytes);
        state.note(|| Event::Write { offset, bytes: bytes.into() });
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.state().note(|| Event::Flush);
        Ok(())
    }

    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        let mut state = self.state();
        let len = usize::try_from(len).map_err(|_| Error::Device { operation: "discard", offset })?;
        state.covers("discard", offset, len)?;
        state.image.fill(offset, len, DISCARDED);
        state.note(|| Event::Discard { offset, len });
        Ok(())
    }

    fn metadata(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        let state = self.state();
        state.covers("read", address.offset, address.len)?;
        match &state.verified {
            Some(verified) => verified.block(&state.image, address, verify),
            None => state.image.block(address, verify),
        }
    }
}
