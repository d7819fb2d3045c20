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
//! - **`moving`** is held shared from a plan to the end of its reads or writes, and exclusively while a commit is
//!   published: so no freed block is given out while somebody still moves bytes to or from it. Whoever holds it
//!   neither commits nor changes the volume, since a commit waits for him.
//! - The **volume** is never taken twice by a thread, not even to read: a writer may wait in between.
//!
//! Names need no lock here: the kernel holds a directory while it looks up, lists or changes one of its names, and
//! keeps what it was told for a day. A look-up that it makes without, to ask whether an old answer still holds, is
//! about a name that it drops itself when the unlink it sent meanwhile comes back.

mod commits;
mod failure;
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
use nix::unistd::{getegid, geteuid};
use vexfs_core::numbers::Ino;
use vexfs_core::{Error, Event, Result, Volume};

use self::commits::Wake;
pub use self::failure::Failure;
pub use self::notices::Later;
use crate::clock::now;
use crate::convert::Shown;
use crate::disk::Disk;
use crate::messages::Ring;
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
    shown: Shown,
    volume: RwLock<Volume<Disk>>,
    moving: RwLock<()>,
    stripes: Vec<RwLock<()>>,
    /// How many changes were made, and how many of them are durable.
    changes: AtomicU64,
    durable: AtomicU64,
    committing: Mutex<()>,
    failure: OnceLock<Failure>,
    notifier: OnceLock<Notifier>,
    notifying: AtomicUsize,
    later: Mutex<Option<Sender<Later>>>,
    /// Sizes of columns that the kernel was told.
    sizes: Mutex<HashMap<u64, u64>>,
    opens: Opens,
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
        let owner = (geteuid().as_raw(), getegid().as_raw());
        Self {
            shown: Shown { block_size: volume.layout().block_size, owner },
            disk,
            volume: RwLock::new(volume),
            moving: RwLock::new(()),
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            changes: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            committing: Mutex::new(()),
            failure: OnceLock::new(),
            notifier: OnceLock::new(),
            notifying: AtomicUsize::new(0),
            later: Mutex::new(None),
            sizes: Mutex::new(HashMap::new()),
            opens: Opens::default(),
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

    /// How often each inode is open.
    pub fn opens(&self) -> &Opens {
        &self.opens
    }

    /// Frees an inode that lost its last name, unless somebody has it open, whose close then does it.
    ///
    /// What cannot be freed stays on the list of orphans, and the next mount frees it.
    pub fn bury(&self, inode: Ino) -> Vec<Event> {
        let Some(_claim) = self.opens.claim(inode) else { return Vec::new() };
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::PathBuf;
    use std::time::Duration;

    use vexfs_core::format::{FileKind, ROOT};
    use vexfs_core::make::{MakeOptions, make};
    use vexfs_core::operations::NewInode;
    use vexfs_core::{MountOptions, Volume};
    use vexfs_host::{Access, LockedImage};

    use super::*;

    /// An image of its own, removed at the end.
    struct Image(PathBuf);

    impl Image {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("vexfs_fuse-{}-{name}", std::process::id()));
            std::fs::File::create(&path).expect("a file").set_len(16 << 20).expect("its size");
            let options = MakeOptions {
                block_size: 4096,
                size: 16 << 20,
                uuid: [7; 16],
                label: b"",
                hash_seed: [7; 16],
                uid: 0,
                gid: 0,
                now: now(),
                journal_blocks: None,
            };
            make(&Self::open(&path), &options).expect("a volume");
            Self(path)
        }

        fn open(path: &std::path::Path) -> Disk {
            let image = LockedImage::open(path, Access::Write, Duration::ZERO).expect("an image");
            Disk::new(image, 1 << 20)
        }

        fn mount(&self) -> Service {
            let disk = Self::open(&self.0);
            let volume = Volume::mount(disk.clone(), MountOptions::default()).expect("a mount");
            Service::new(disk, volume, Ring::default())
        }
    }

    impl Drop for Image {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn create(volume: &mut Volume<Disk>, name: &[u8]) -> Result<Ino> {
        let new = NewInode { kind: FileKind::Regular, permissions: 0o644, uid: 0, gid: 0, device: 0 };
        volume.create(ROOT, name, &new, now()).map(|made| made.inode)
    }

    fn text(render: impl FnOnce(&mut String) -> std::fmt::Result) -> String {
        let mut text = String::new();
        render(&mut text).expect("text");
        text
    }

    // A panic in the middle of a change left the volume's lock poisoned, and the lock was used on: the next commit
    // would have made half a change durable. Now the volume is read-only from that moment on.
    #[test]
    fn a_panic_in_a_change_ends_all_writing_but_no_reading() {
        use vexfs_core::operations::Report;
        let image = Image::new("panic");
        let service = image.mount();
        service.change(|volume| create(volume, b"durable")).0.expect("a file");
        service.commit().expect("a commit");
        let half = catch_unwind(AssertUnwindSafe(|| {
            service.change(|volume| {
                create(volume, b"half")?;
                panic!("a mistake, made on purpose");
                #[expect(unreachable_code, reason = "says what the closure gives")]
                Ok(())
            })
        }));
        assert!(half.is_err(), "the closure panics");
        assert!(service.volume().is_read_only());
        assert!(service.volume().lookup(ROOT, b"durable").is_ok(), "reads go on");
        assert_eq!(service.change(|volume| create(volume, b"later")).0, Err(Error::ReadOnly));
        assert!(service.commit().is_err() && service.commit().is_err(), "no commit says success any more");
        let (metrics, status) = (text(|to| service.metrics(to)), text(|to| service.status(to)));
        assert!(metrics.contains("\nvexfs_failed 1\n"), "{metrics}");
        assert!(status.contains("\"failure\":\"a mistake of this program"), "{status}");
        drop(service);
        let service = image.mount();
        let volume = service.volume();
        assert!(volume.lookup(ROOT, b"durable").is_ok());
        assert_eq!(volume.lookup(ROOT, b"half").err(), Some(Error::NotFound), "half a change became durable");
    }

    #[test]
    fn without_a_failure_all_is_well() {
        use vexfs_core::operations::Report;
        let service = Image::new("well").mount();
        service.change(|volume| create(volume, b"file")).0.expect("a file");
        service.commit().expect("a commit");
        assert!(!service.volume().is_read_only() && service.failure().is_none());
        assert!(text(|to| service.metrics(to)).contains("\nvexfs_failed 0\n"));
        assert!(text(|to| service.status(to)).contains("\"failure\":null"));
    }

    #[test]
    fn an_inode_is_buried_by_the_last_who_had_it_open() {
        let service = Image::new("bury").mount();
        let inode = service.change(|volume| create(volume, b"file")).0.expect("a file");
        assert!(service.opens().add(inode));
        let is_open = |inode| service.opens().contains(inode);
        service.change(|volume| volume.unlink(ROOT, b"file", &is_open, now())).0.expect("no name");
        service.bury(inode);
        assert!(service.volume().attributes(inode).is_ok(), "an open file was freed");
        service.opens().remove(inode);
        service.bury(inode);
        assert_eq!(service.volume().attributes(inode).err(), Some(Error::NotFound));
    }
}
