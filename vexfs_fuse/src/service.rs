//! The volume as the daemon's threads share it: its lock, its commits, its notifications.
//!
//! Order of locks: an inode's stripe, then `committing`, then `moving`, then the volume, then the small ones of a
//! table each (`opens`, the sizes of columns), under which nothing else is taken. No lock but a stripe and
//! `committing` is held across a flush, none across a notification.
//!
//! - A **stripe** keeps two writers of a file apart, from the plan to its end. Several inodes share one, so that
//!   nobody takes two. Whoever holds one may commit (a change that finds no space, a write over bytes that a vector
//!   was made from): a commit takes no stripe, and those it waits for hold none, so it ends. Meanwhile only writers
//!   of that stripe wait; reads take none.
//! - **`moving`** is held shared from a plan to the end of its reads or writes. A commit takes it exclusively for a
//!   moment between its seal and its publishing: so whoever still moves bytes to or from blocks that it frees is done
//!   before they are given out, or back to the device. Whoever holds it neither commits nor changes the volume, since
//!   a commit waits for him.
//! - The **volume** is never taken twice by a thread, not even to read: a writer may wait in between.
//!
//! Names need no lock here: the kernel holds a directory while it looks up, lists or changes one of its names, and
//! keeps what it was told for a day. A look-up that it makes without, to ask whether an old answer still holds, is
//! about a name that it drops itself when the unlink it sent meanwhile comes back.

mod commits;
mod failure;
mod generations;
mod notices;
mod report;
mod retired;
mod sync;
#[cfg(test)]
mod tests;
mod transfers;
mod trim;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use nix::unistd::{getegid, geteuid};
use vexfs_core::numbers::Ino;
use vexfs_core::{Error, Result, Volume};

use self::commits::Wake;
pub use self::failure::Failure;
use self::generations::Generations;
use self::notices::Telling;
pub use self::notices::{Later, Untold};
use self::sync::Syncs;
use crate::capabilities::REQUEST_BYTES;
use crate::clock::now;
use crate::convert::Shown;
use crate::disk::Disk;
use crate::gone::Gone;
use crate::messages::Ring;
use crate::near::Indexes;
use crate::notifier::Notifier;
use crate::opens::Opens;

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
    /// Freed blocks are given back to the device.
    discard: bool,
    /// Bytes of one read or write at most.
    request_bytes: u32,
    shown: Shown,
    volume: RwLock<Volume<Disk>>,
    /// Looks at the volume and changes of it, for requests.
    requests: AtomicU64,
    moving: RwLock<()>,
    stripes: Vec<RwLock<()>>,
    /// How many changes were made, and how many of them are durable.
    changes: AtomicU64,
    durable: AtomicU64,
    committing: Mutex<()>,
    syncs: Mutex<Syncs>,
    failure: OnceLock<Failure>,
    notifier: OnceLock<Notifier>,
    notifying: AtomicUsize,
    telling: Mutex<Telling>,
    generations: Arc<Generations>,
    later: Mutex<Option<Sender<Later>>>,
    /// Sizes of columns that the kernel was told.
    sizes: Mutex<HashMap<u64, u64>>,
    /// Every `vectors.arrow` that the kernel was told, by collection: one for each size it had.
    arrows: Mutex<HashMap<u32, Vec<Ino>>>,
    opens: Opens,
    gone: Gone,
    indexes: Indexes,
    wake: Mutex<Wake>,
    woken: Condvar,
    ring: Ring,
    started: Instant,
    commits: AtomicU64,
    log_records: AtomicU64,
    log_bytes: AtomicU64,
    discarded_bytes: AtomicU64,
    refusals: AtomicU64,
    panics: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    stopped: AtomicBool,
}

impl Service {
    /// Shares `volume`, whose host is `disk`; with `discard` it gives back to the device what commits free. `indexes` are
    /// those that questions of nearness are answered by.
    pub fn new(disk: Disk, volume: Volume<Disk>, ring: Ring, discard: bool, indexes: Indexes) -> Self {
        let owner = (geteuid().as_raw(), getegid().as_raw());
        Self {
            shown: Shown { block_size: volume.layout().block_size, owner },
            disk,
            discard,
            request_bytes: REQUEST_BYTES,
            volume: RwLock::new(volume),
            requests: AtomicU64::new(0),
            moving: RwLock::new(()),
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            changes: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            committing: Mutex::new(()),
            syncs: Mutex::default(),
            failure: OnceLock::new(),
            notifier: OnceLock::new(),
            notifying: AtomicUsize::new(0),
            telling: Mutex::default(),
            generations: Arc::default(),
            later: Mutex::new(None),
            sizes: Mutex::new(HashMap::new()),
            arrows: Mutex::new(HashMap::new()),
            opens: Opens::default(),
            gone: Gone::default(),
            indexes,
            wake: Mutex::new(Wake { tidy: true, ..Wake::default() }),
            woken: Condvar::new(),
            ring,
            started: Instant::now(),
            commits: AtomicU64::new(0),
            log_records: AtomicU64::new(0),
            log_bytes: AtomicU64::new(0),
            discarded_bytes: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The same, with reads and writes of so many bytes at most.
    pub fn with_requests_of(self, request_bytes: u32) -> Self {
        Self { request_bytes, ..self }
    }

    /// Bytes of one read or write at most.
    pub fn request_bytes(&self) -> u32 {
        self.request_bytes
    }

    /// The volume, to read, for a request.
    pub fn volume(&self) -> RwLockReadGuard<'_, Volume<Disk>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.volume_aside()
    }

    /// A number that grows with every request.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The volume, to read, for what is done when there is no request.
    pub fn volume_aside(&self) -> RwLockReadGuard<'_, Volume<Disk>> {
        self.volume.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the kernel is shown of every inode alike.
    pub fn shown(&self) -> Shown {
        self.shown
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
    /// [`Service::finish`] or [`Service::tell`].
    pub fn change<R>(&self, change: impl FnMut(&mut Volume<Disk>) -> Result<R>) -> (Result<R>, Untold) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.change_aside(change)
    }

    /// [`Service::change`] where no request asks for it.
    pub(crate) fn change_aside<R>(
        &self,
        mut change: impl FnMut(&mut Volume<Disk>) -> Result<R>,
    ) -> (Result<R>, Untold) {
        let mut events = Untold::default();
        let mut tried = 0;
        loop {
            let (result, dirty) = {
                let mut volume = self.volume_mut();
                let result = change(&mut volume);
                // Counted under the lock, so that a record or commit knows exactly what it holds.
                self.changes.fetch_add(1, Ordering::AcqRel);
                events.append(self.untold(&mut volume));
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

    /// How often each inode is open.
    pub fn opens(&self) -> &Opens {
        &self.opens
    }

    /// The indexes in memory.
    pub fn indexes_kept(&self) -> &Indexes {
        &self.indexes
    }

    /// What inodes without a name showed last.
    pub fn gone(&self) -> &Gone {
        &self.gone
    }

    /// Frees an inode that lost its last name, unless somebody has it open, whose close then does it.
    ///
    /// What cannot be freed stays on the list of orphans, and the next mount frees it.
    pub fn bury(&self, inode: Ino) -> Untold {
        let Some(_claim) = self.opens.claim(inode) else { return Untold::default() };
        let (freed, events) = self.change(|volume| volume.release(inode, now()));
        if let Err(error) = freed {
            log::warn!("inode {inode} has no name any more and is freed at the next mount: {error}");
        }
        events
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
