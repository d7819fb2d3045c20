//! Commits: asked for, by time, and the work that waits for one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use vexfs_core::commit::Sealed;
use vexfs_core::device::BlockDevice;
use vexfs_core::{Error, Result};

use super::{Failure, Service};
use crate::clock::now;

/// What the committing thread is woken for.
#[derive(Default)]
pub(super) struct Wake {
    pub(super) commit: bool,
    pub(super) tidy: bool,
    pub(super) stop: bool,
}

impl Service {
    /// Makes everything durable that was changed before the call.
    ///
    /// # Errors
    /// The device's; and once a commit, a write or a flush failed, every later one does.
    pub fn commit(&self) -> Result<()> {
        let _committing = self.committing();
        let (Some(sealed), covered) = self.seal()? else { return Ok(()) };
        // A flush that failed elsewhere may have taken the error that this one should have met.
        let written = sealed.write(&self.disk).and_then(|()| self.disk.failure().map_or(Ok(()), Err));
        if let Err(error) = written {
            self.volume_mut().abandon(sealed);
            return Err(error);
        }
        // Plans older than the seal may still use blocks that this commit frees; newer ones cannot.
        drop(self.moving.write().unwrap_or_else(PoisonError::into_inner));
        if self.discard {
            self.discard_freed();
        }
        self.volume_mut().publish(sealed)?;
        self.durable.fetch_max(covered, Ordering::AcqRel);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.wake(|wake| wake.tidy = true);
        Ok(())
    }

    // The commit, and how many changes it covers.
    fn seal(&self) -> Result<(Option<Sealed>, u64)> {
        let mut volume = self.volume_mut();
        self.check()?;
        let sealed = volume.seal(now()).inspect_err(|error| match error {
            // Nothing changed: a later commit may find memory.
            Error::NoMemory => {
                log::warn!("no memory for a commit; what it should have made durable waits for the next one")
            }
            error => volume.fail(Failure::Seal(*error)),
        })?;
        Ok((sealed, self.changes.load(Ordering::Acquire)))
    }

    // Gives back to the device what the commit frees, which nobody uses until it is published.
    fn discard_freed(&self) {
        let mut freed = self.volume_aside().freed().to_vec();
        freed.sort_unstable_by_key(|run| run.start.0);
        freed.dedup_by(|next, run| {
            let joins = run.end() == next.start.0;
            run.count += if joins { next.count } else { 0 };
            joins
        });
        let block_size = u64::from(self.shown.block_size);
        for run in freed {
            let (offset, len) = (run.start.0 * block_size, run.count * block_size);
            match self.disk.discard(offset, len) {
                Ok(()) => self.discarded_bytes.fetch_add(len, Ordering::Relaxed),
                // The space stays with the image; nothing is lost.
                Err(error) => return log::warn!("freed blocks are not given back to the device: {error}"),
            };
        }
    }

    /// Commits every `interval` and when woken, and does the work that waits after each; until the service stops.
    pub fn commit_by_time(&self, interval: Duration) {
        let mut due = Instant::now() + interval;
        loop {
            let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
            while !(wake.commit || wake.tidy || wake.stop) && Instant::now() < due {
                let left = due.saturating_duration_since(Instant::now());
                wake = self.woken.wait_timeout(wake, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (commit, stop) = (wake.commit || Instant::now() >= due, wake.stop);
            (wake.commit, wake.tidy) = (false, false);
            drop(wake);
            if stop {
                return;
            }
            if commit {
                // Its failure is logged and kept.
                let _ = self.commit();
                due = Instant::now() + interval;
                self.wake(|wake| wake.tidy = false);
            }
            self.tidy();
            self.free_retired();
        }
    }

    // The work that waits, in small steps so that callers get their turn.
    fn tidy(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            // What was freed so far is told before its rows are blanked, or a reader would believe in a row that was
            // blanked before he heard that it is free. After another commit there is more to tell.
            let durable = self.volume_aside().superblock().generation;
            self.wait_until_told();
            let (more, events) =
                self.change_aside(|volume| match volume.superblock().generation == durable {
                    true => volume.tidy(now()),
                    false => Ok(true),
                });
            self.tell(events);
            match more {
                Ok(true) => {}
                Ok(false) => {
                    let waits = self.volume_aside().waits_for_commit();
                    return self.wake(|wake| wake.commit |= waits);
                }
                Err(error) => return self.tell_stopped(error),
            }
        }
    }

    /// Waits so long, or until the service stops; true then.
    pub fn rest(&self, period: Duration) -> bool {
        let due = Instant::now() + period;
        let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
        while !wake.stop && Instant::now() < due {
            let left = due.saturating_duration_since(Instant::now());
            wake = self.woken.wait_timeout(wake, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        wake.stop
    }

    pub(super) fn wake(&self, change: impl FnOnce(&mut Wake)) {
        change(&mut self.wake.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }

    /// Ends the background work and makes all durable; the last call.
    pub fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Release);
        self.wake(|wake| wake.stop = true);
        *self.later.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.commit()
    }
}
