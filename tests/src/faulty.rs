//! Disks that wrap another one and fail, watch, or lie.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vexfs_core::device::BlockDevice;
use vexfs_core::error::{Error, Result};
use vexfs_core::format::{SUPERBLOCK_MAGIC, slot_offsets};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `read`.
    Read,
    /// `write`; nothing of it is done.
    Write,
    /// `flush`.
    Flush,
}

/// Fails the n-th call of a kind, once or from then on. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct FaultDevice<D> {
    disk: D,
    fault: Arc<Mutex<Fault>>,
}

#[derive(Default)]
struct Fault {
    plan: Option<(Call, u64, bool)>,
    /// Calls of the planned kind so far.
    calls: u64,
    failures: u64,
    /// Nothing fails, and nothing is counted.
    paused: bool,
}

impl<D: BlockDevice> FaultDevice<D> {
    /// The disk, without any fault yet.
    pub fn new(disk: D) -> Self {
        Self { disk, fault: Arc::default() }
    }

    /// From now on, fails call number `n` (counted from 0) of this kind, and those after it if `for_ever`.
    pub fn fail(&self, call: Call, n: u64, for_ever: bool) {
        *lock(&self.fault) = Fault { plan: Some((call, n, for_ever)), ..Fault::default() };
    }

    /// Works for a while, as if the calls meanwhile were not made; `false` ends that.
    pub fn pause(&self, paused: bool) {
        lock(&self.fault).paused = paused;
    }

    /// Works again.
    pub fn heal(&self) {
        lock(&self.fault).plan = None;
    }

    /// Calls that failed since the fault was planned.
    pub fn failures(&self) -> u64 {
        lock(&self.fault).failures
    }

    fn pass(&self, call: Call, operation: &'static str, offset: u64) -> Result<()> {
        let mut fault = lock(&self.fault);
        let Some((kind, n, for_ever)) = fault.plan else { return Ok(()) };
        if kind != call || fault.paused {
            return Ok(());
        }
        let at = fault.calls;
        fault.calls += 1;
        if at == n || (for_ever && at > n) {
            fault.failures += 1;
            return Err(Error::Device { operation, offset });
        }
        Ok(())
    }
}

impl<D: BlockDevice> BlockDevice for FaultDevice<D> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.pass(Call::Read, "read", offset)?;
        self.disk.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.pass(Call::Write, "write", offset)?;
        self.disk.write(offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        self.pass(Call::Flush, "flush", 0)?;
        self.disk.flush()
    }
}

/// Watches the order of writes: a superblock goes out only after a flush of everything written before it, and
/// nothing is written between it and the flush that follows. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct OrderDevice<D> {
    disk: D,
    order: Arc<Mutex<Order>>,
}

#[derive(Default)]
struct Order {
    /// Writes other than superblocks since the last flush.
    others: u64,
    /// Superblocks since the last flush.
    superblocks: u64,
    commits: u64,
    wrong: Vec<String>,
}

impl<D: BlockDevice> OrderDevice<D> {
    /// The disk, watched from now on.
    pub fn new(disk: D) -> Self {
        Self { disk, order: Arc::default() }
    }

    /// What was out of order.
    pub fn wrong(&self) -> Vec<String> {
        lock(&self.order).wrong.clone()
    }

    /// Flushes that made superblocks durable.
    pub fn commits(&self) -> u64 {
        lock(&self.order).commits
    }
}

impl<D: BlockDevice> BlockDevice for OrderDevice<D> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut order = lock(&self.order);
        let others = order.others;
        if slot_offsets(self.disk.size()).contains(&offset) && bytes.starts_with(&SUPERBLOCK_MAGIC) {
            if others > 0 {
                order
                    .wrong
                    .push(format!("superblock at {offset} with {others} writes not flushed before it"));
            }
            order.superblocks += 1;
        } else {
            if order.superblocks > 0 {
                order.wrong.push(format!("write at {offset} before the superblock was flushed"));
            }
            order.others += 1;
        }
        self.disk.write(offset, bytes)
    }

    fn flush(&self) -> Result<()> {
        let mut order = lock(&self.order);
        order.commits += u64::from(order.superblocks > 0);
        (order.others, order.superblocks) = (0, 0);
        self.disk.flush()
    }
}

/// What a lying disk does to one write, reporting success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Forgets it.
    Lose,
    /// Puts it to another place.
    Misdirect {
        /// Byte offset.
        to: u64,
    },
    /// Writes only its first sector.
    Tear,
    /// Flips this bit of it.
    Rot {
        /// Counted from the first byte's lowest bit; taken modulo the write's length.
        bit: u64,
    },
}

/// Lies about chosen writes, counted from 0. Copies of the handle are the same disk.
#[derive(Clone)]
pub struct LyingDevice<D> {
    disk: D,
    lies: Arc<Mutex<Lies>>,
}

#[derive(Default)]
struct Lies {
    plan: HashMap<u64, Lie>,
    writes: u64,
    told: u64,
}

impl<D: BlockDevice> LyingDevice<D> {
    /// The disk, honest until told otherwise.
    pub fn new(disk: D) -> Self {
        Self { disk, lies: Arc::default() }
    }

    /// From now on, lies about write number `n`.
    pub fn lie(&self, n: u64, lie: Lie) {
        *lock(&self.lies) = Lies { plan: HashMap::from([(n, lie)]), writes: 0, told: 0 };
    }

    /// Writes since the plan was made.
    pub fn writes(&self) -> u64 {
        lock(&self.lies).writes
    }

    /// Lies told since then.
    pub fn told(&self) -> u64 {
        lock(&self.lies).told
    }

    fn next_lie(&self) -> Option<Lie> {
        let mut lies = lock(&self.lies);
        let n = lies.writes;
        lies.writes += 1;
        let lie = lies.plan.get(&n).copied();
        lies.told += u64::from(lie.is_some());
        lie
    }
}

impl<D: BlockDevice> BlockDevice for LyingDevice<D> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read(offset, buffer)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match self.next_lie() {
            None => self.disk.write(offset, bytes),
            Some(Lie::Lose) => Ok(()),
            Some(Lie::Misdirect { to }) => self.disk.write(to, bytes),
            Some(Lie::Tear) => self.disk.write(offset, &bytes[..bytes.len().min(512)]),
            Some(Lie::Rot { bit }) => {
                let mut bytes = bytes.to_vec();
                let bit = (bit % (bytes.len() as u64 * 8).max(1)) as usize;
                if let Some(byte) = bytes.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                self.disk.write(offset, &bytes)
            }
        }
    }

    fn flush(&self) -> Result<()> {
        self.disk.flush()
    }
}
