//! The volume as the daemon's threads share it: its lock, its commits, its notifications.
//!
//! Order of locks: an inode's stripe, then `moving`, then the volume. No lock is held across a flush or a
//! notification. `moving` is held shared from a plan to the end of its reads or writes, and exclusively while a
//! commit is published: so no freed block is given out while somebody still moves bytes to or from it.

mod commits;
mod notices;
mod report;
mod sync;
mod transfers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use fuser::Notifier;
use vexfs_core::numbers::Ino;
use vexfs_core::{Error, Event, Result, Volume};

use self::commits::Wake;
pub use self::notices::Later;
use crate::disk::Disk;
use crate::messages::Ring;

/// Threads that serve requests.
pub const THREADS: usize = 6;
const STRIPES: usize = 256;
/// Dirty metadata that wakes the committing thread.
const DIRTY_MANY: u64 = 8 << 20;
/// Dirty metadata that makes a caller wait for a commit.
const DIRTY_TOO_MANY: u64 = 32 << 20;

/// The shared state of a mount.
pub struct Service {
    disk: Disk,
    volume: RwLock<Volume<Disk>>,
    moving: RwLock<()>,
    stripes: Vec<RwLock<()>>,
    /// How many changes were made, and how many of them are durable.
    changes: AtomicU64,
    durable: AtomicU64,
    /// Held while a commit or a record of the journal is under way; true once one failed.
    committing: Mutex<bool>,
    notifier: OnceLock<Notifier>,
    notifying: AtomicUsize,
    later: Mutex<Option<Sender<Later>>>,
    /// Sizes of columns that the kernel was told.
    sizes: Mutex<HashMap<u64, u64>>,
    /// How often each inode is open.
    opens: Mutex<HashMap<u64, u64>>,
    wake: Mutex<Wake>,
    woken: Condvar,
    ring: Ring,
    started: Instant,
    commits: AtomicU64,
    log_records: AtomicU64,
    log_bytes: AtomicU64,
    refusals: AtomicU64,
    panics: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Service {
    /// Shares `volume`, whose host is `disk`.
    pub fn new(disk: Disk, volume: Volume<Disk>, ring: Ring) -> Self {
        Self {
            disk,
            volume: RwLock::new(volume),
            moving: RwLock::new(()),
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            changes: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            committing: Mutex::new(false),
            notifier: OnceLock::new(),
            notifying: AtomicUsize::new(0),
            later: Mutex::new(None),
            sizes: Mutex::new(HashMap::new()),
            opens: Mutex::new(HashMap::new()),
            wake: Mutex::new(Wake { tidy: true, ..Wake::default() }),
            woken: Condvar::new(),
            ring,
            started: Instant::now(),
            commits: AtomicU64::new(0),
            log_records: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The volume, to read.
    pub fn volume(&self) -> RwLockReadGuard<'_, Volume<Disk>> {
        self.volume.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume_mut(&self) -> RwLockWriteGuard<'_, Volume<Disk>> {
        self.volume.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Keeps others from writing to or truncating `inode` at the same time.
    pub fn alone(&self, inode: Ino) -> RwLockWriteGuard<'_, ()> {
        self.stripes[inode.0 as usize % STRIPES].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps freed blocks from being given out, until the guard is dropped.
    pub fn moving(&self) -> RwLockReadGuard<'_, ()> {
        self.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the volume; commits and tries once more where only that brings space.
    ///
    /// What changed under the kernel's caches comes with the result and is still to be told, by
    /// [`Service::finish`] or [`Service::notify`].
    pub fn change<R>(
        &self,
        mut change: impl FnMut(&mut Volume<Disk>) -> Result<R>,
    ) -> (Result<R>, Vec<Event>) {
        let mut events = Vec::new();
        let mut tried = 0;
        loop {
            let (result, dirty) = {
                let mut volume = self.volume_mut();
                let result = change(&mut volume);
                // Counted under the lock, so that a record or commit knows exactly what it holds.
                self.changes.fetch_add(1, Ordering::AcqRel);
                events.extend(volume.events());
                (result, volume.statistics().dirty_bytes)
            };
            match result {
                Err(Error::NoSpace { pending }) if pending > 0 && tried < 2 => {
                    tried += 1;
                    if let Err(error) = self.commit() {
                        return (Err(error), events);
                    }
                }
                result => {
                    if dirty >= DIRTY_TOO_MANY {
                        // Its failure makes the volume read-only, which the next change meets.
                        let _ = self.commit();
                    } else if dirty >= DIRTY_MANY {
                        self.wake(|wake| wake.commit = true);
                    }
                    return (result, events);
                }
            }
        }
    }

    /// Notes an open of `inode`.
    pub fn opened(&self, inode: Ino) {
        *self.opens.lock().unwrap_or_else(PoisonError::into_inner).entry(inode.0).or_default() += 1;
    }

    /// Notes a close of `inode`; true if it was the last.
    pub fn closed(&self, inode: Ino) -> bool {
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        match opens.get_mut(&inode.0) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => {
                opens.remove(&inode.0);
                true
            }
        }
    }

    /// True if somebody has `inode` open.
    pub fn is_open(&self, inode: Ino) -> bool {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&inode.0)
    }

    /// Counts a refusal.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a panic.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("a request failed by a mistake of this program; the mount goes on. Please report it");
    }
}
