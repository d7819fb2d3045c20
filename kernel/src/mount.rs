//! The volume as the kernel's tasks share it: its lock, its commits, fsync.
//!
//! The lock of the volume is a `rw_semaphore`: readers (look-ups, reads of files, getxattr) are many and share it, and
//! all that is held under it may sleep for the disk. Order of locks: the VFS's own (an inode's, a folio's), a file's
//! writer lock (`vexfs_inode.writing`, C), then `telling`, `committing`, `moving`, `volume`, and the small ones of the
//! disk and the log, under which nothing else is taken.
//!
//! - **`moving`** is held shared from a plan to the end of its reads or writes. A commit takes it exclusively for a
//!   moment between its seal and its publishing: so whoever still moves bytes to or from blocks that it frees is done
//!   before they are given out.
//! - **`telling`** is held shared from a change to the end of what it has to tell the page cache. Freed rows are
//!   blanked only after it was taken exclusively, so that nobody believes in a row that was blanked before he could
//!   hear that it is free.
//! - A reader never takes the volume twice: a writer may wait in between.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloc::sync::Arc;
use alloc::vec::Vec;

use vexfs_core::control::{Told, is_generation};
use vexfs_core::format::{collection_part, matrix_number, numbered_codebook, numbered_scale};
use vexfs_core::memory;
use vexfs_core::operations::Sync;
use vexfs_core::{Error, Event, MountOptions, Raised, Result, Volume};

use crate::disk::Disk;
use crate::host::{Class, Host, Level, Lock, Reading, Writing, now};
use crate::report::Log;

/// Dirty metadata that makes a caller wait for a commit.
const DIRTY_TOO_MANY: u64 = 16 << 20;

/// A mounted volume.
#[derive(Debug)]
pub struct Mount {
    host: Host,
    disk: Disk,
    discard: bool,
    /// Apart, so that a mount is small enough to be moved on a kernel's stack.
    volume: Arc<Lock<Volume<Disk>>>,
    pub(crate) moving: Lock<()>,
    telling: Lock<()>,
    pub(crate) told: Lock<Told>,
    committing: Lock<()>,
    /// How many changes were made, and how many of them are durable.
    changes: AtomicU64,
    durable: AtomicU64,
    failed: AtomicBool,
    stopped: AtomicBool,
    pub(crate) commits: AtomicU64,
    pub(crate) log_records: AtomicU64,
    pub(crate) refusals: AtomicU64,
    pub(crate) log: Lock<Log>,
}

impl Mount {
    /// Mounts the volume on `host`'s device of `size` bytes.
    #[inline(never)]
    pub(crate) fn new(host: Host, size: u64, options: MountOptions, discard: bool) -> Result<Self> {
        let disk = Disk::new(host, size)?;
        let volume = open(&disk, options)?;
        Ok(Self {
            host,
            disk,
            discard,
            volume,
            moving: Lock::new(Class::Moving, ())?,
            telling: Lock::new(Class::Telling, ())?,
            told: Lock::new(Class::Told, Told::default())?,
            committing: Lock::new(Class::Committing, ())?,
            changes: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            commits: AtomicU64::new(0),
            log_records: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            log: Lock::new(Class::Log, Log::new())?,
        })
    }

    /// The volume, to read.
    pub(crate) fn volume(&self) -> Reading<'_, Volume<Disk>> {
        self.volume.read()
    }

    /// Tells what the mount found in the journal.
    pub(crate) fn greet(&self) {
        let recovered = self.volume().recovered();
        if recovered.records > 0 {
            self.say(Level::Notice, format_args!("{} records of the journal replayed", recovered.records));
        }
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// True once nothing can become durable any more.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Changes the volume, and tells the page cache what changed under it; commits and tries once more where only that
    /// brings space.
    pub(crate) fn change<R>(&self, mut change: impl FnMut(&mut Volume<Disk>) -> Result<R>) -> Result<R> {
        let mut tried = 0;
        loop {
            let (result, dirty) = {
                let _telling = self.telling.read();
                let (result, events, raised, dirty) = {
                    let mut volume = self.volume.write();
                    let result = change(&mut volume);
                    // Counted under the lock, so that a record or commit knows exactly what it holds.
                    self.changes.fetch_add(1, Ordering::AcqRel);
                    self.note_failure(&mut volume);
                    let events = volume.events();
                    let raised = volume.raised();
                    self.told.write().begin(&raised);
                    (result, events, raised, volume.statistics().dirty_bytes)
                };
                self.tell(events, &raised);
                (result, dirty)
            };
            match result {
                Err(Error::NoSpace { pending }) if pending > 0 && tried < 2 => {
                    tried += 1;
                    self.commit()?;
                }
                result => {
                    if dirty >= DIRTY_TOO_MANY {
                        // Its failure makes the volume read-only, which the next change meets.
                        let _ = self.commit();
                    }
                    return result;
                }
            }
        }
    }

    /// Makes everything durable that was changed before the call.
    ///
    /// # Errors
    /// The device's; and once a commit, a write or a flush failed, every later one does.
    pub(crate) fn commit(&self) -> Result<()> {
        let _committing = self.committing.write();
        self.check()?;
        let (sealed, covered) = {
            let mut volume = self.volume.write();
            let sealed = match volume.seal(now()) {
                // Nothing changed: a later commit may find memory.
                Err(Error::NoMemory) => return Err(Error::NoMemory),
                Err(error) => return Err(self.fail(&mut volume, error)),
                Ok(sealed) => sealed,
            };
            (sealed, self.changes.load(Ordering::Acquire))
        };
        let Some(sealed) = sealed else { return Ok(()) };
        // A flush that failed elsewhere may have taken the error that this one should have met.
        let written = sealed.write(&self.disk).and_then(|()| self.disk.failure().map_or(Ok(()), Err));
        if let Err(error) = written {
            let mut volume = self.volume.write();
            volume.abandon(sealed);
            return Err(self.fail(&mut volume, error));
        }
        // Plans older than the seal may still use blocks that this commit frees; newer ones cannot.
        drop(self.moving.write());
        if self.discard {
            self.discard_freed();
        }
        self.volume.write().publish(sealed)?;
        self.durable.fetch_max(covered, Ordering::AcqRel);
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes everything durable that was changed before the call: by a record of the journal, or a commit where that
    /// will not do.
    ///
    /// Who waits while another's record is written finds its own changes in the next one, together with all others'
    /// that wait (group commit).
    ///
    /// # Errors
    /// The device's; and once a commit, a write or a flush failed, every later one does.
    pub(crate) fn sync(&self) -> Result<()> {
        let wanted = self.changes.load(Ordering::Acquire);
        let committing = self.committing.write();
        self.check()?;
        if self.durable.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        let (begun, covered) = {
            let mut volume = self.volume.write();
            (volume.sync_begin(now())?, self.changes.load(Ordering::Acquire))
        };
        let record = match begun {
            Sync::Nothing => return Ok(()),
            Sync::Commit => {
                drop(committing);
                return self.commit();
            }
            Sync::Record(record) => record,
        };
        let written = record.write(&self.disk).and_then(|()| self.disk.failure().map_or(Ok(()), Err));
        let mut volume = self.volume.write();
        if let Err(error) = written {
            volume.sync_failed(error);
            return Err(match error {
                Error::NoMemory => error,
                error => self.fail(&mut volume, error),
            });
        }
        volume.sync_end();
        drop(volume);
        self.durable.fetch_max(covered, Ordering::AcqRel);
        self.log_records.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// What is to be done by time: a commit, then the work that waits for one, as long as there is any.
    pub(crate) fn tick(&self) {
        while !self.volume().is_read_only() && self.commit().is_ok() {
            if let Err(error) = self.tidy() {
                self.say(Level::Warning, format_args!("work in the background stopped: {error}"));
                return;
            }
            if self.stopped.load(Ordering::Acquire) || !self.volume().waits_for_commit() {
                return;
            }
        }
    }

    // The work that waits, in small steps so that callers get their turn.
    fn tidy(&self) -> Result<()> {
        while !self.stopped.load(Ordering::Acquire) {
            // What was freed so far is told before its rows are blanked; after another commit there is more to tell.
            drop(self.telling.write());
            let durable = self.volume().superblock().generation;
            let more = self.change(|volume| match volume.superblock().generation == durable {
                true => volume.tidy(now()),
                false => Ok(true),
            })?;
            self.retire()?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    // Takes the names of matrices that recoding replaced to those in their place, and frees those that nobody has open.
    fn retire(&self) -> Result<()> {
        let retired = memory::copy(self.volume().retired())?;
        for matrix in retired {
            let mut used = self.host.retire(matrix);
            if let Some((id, _)) = collection_part(matrix) {
                let number = matrix_number(matrix);
                for view in [numbered_scale(id, number), numbered_codebook(id, number)] {
                    used |= self.host.retire(view);
                }
            }
            if used {
                continue;
            }
            while !self.change(|volume| volume.free_retired(matrix, now()))? {}
        }
        Ok(())
    }

    /// Drops what is not durable yet, as a power cut would: nothing of it becomes so any more.
    pub(crate) fn shut_down(&self) {
        let mut volume = self.volume.write();
        self.fail(&mut volume, Error::ReadOnly);
    }

    /// Ends the background work; the last commit follows.
    pub(crate) fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Release);
        if self.volume().is_read_only() { Ok(()) } else { self.commit() }
    }

    /// A message to the kernel's log and to `.vexfs/log`.
    pub(crate) fn say(&self, level: Level, text: core::fmt::Arguments<'_>) {
        self.log.write().say(self.host, level, text);
    }

    // Tells what changed; a collection's matrix before its other columns: who finds a row valid shall find its bytes. Its generation
    // before and after them.
    fn tell(&self, mut events: Vec<Event>, raised: &[Raised]) {
        events.sort_unstable_by_key(|event| (event.inode.0, event.offset, event.len));
        events.dedup();
        let tell = |generations: bool| {
            let wanted = events.iter().filter(|event| is_generation(event.inode) == generations);
            wanted.for_each(|event| self.host.changed(event.inode, event.offset, event.len));
        };
        tell(true);
        tell(false);
        self.told.write().end(raised);
        tell(true);
    }

    // Gives back to the device what the commit frees, which nobody uses until it is published.
    fn discard_freed(&self) {
        let block_size = u64::from(self.volume().layout().block_size);
        let Ok(freed) = memory::copy(self.volume().freed()) else { return };
        for run in freed {
            if self.host.discard(run.start.0 * block_size, run.count * block_size).is_err() {
                return;
            }
        }
    }

    fn check(&self) -> Result<()> {
        match self.has_failed() {
            true => Err(self.disk.failure().unwrap_or(Error::ReadOnly)),
            false => Ok(()),
        }
    }

    fn note_failure(&self, volume: &mut Writing<'_, Volume<Disk>>) {
        if let Some(error) = self.disk.failure() {
            self.fail(volume, error);
        }
    }

    // Turns the volume read-only for good; the failure is noted while the volume is held, so that no commit can seal
    // what comes after it.
    fn fail(&self, volume: &mut Writing<'_, Volume<Disk>>, error: Error) -> Error {
        volume.set_read_only();
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.host.failed();
            self.say(
                Level::Error,
                format_args!("the volume is read-only now, and what was not committed is lost: {error}"),
            );
        }
        error
    }
}

// A kernel's stack is 16 KiB, and a volume is moved on it: each move has a frame of its own, which ends.
#[inline(never)]
fn open(disk: &Disk, options: MountOptions) -> Result<Arc<Lock<Volume<Disk>>>> {
    shared(Volume::mount(disk.clone(), options))
}

#[inline(never)]
fn shared(volume: Result<Volume<Disk>>) -> Result<Arc<Lock<Volume<Disk>>>> {
    memory::shared(Lock::new(Class::Volume, volume?)?)
}
