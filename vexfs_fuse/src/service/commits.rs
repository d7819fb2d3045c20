//! Commits: asked for, by time, and the work that waits for one.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vexfs_core::{Error, Result};

use super::Service;
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
    pub fn commit(&self) -> Result<()> {
        let mut failed = self.committing();
        if *failed {
            return Err(Error::Device { operation: "write", offset: 0 });
        }
        let (sealed, covered) = {
            let mut volume = self.volume_mut();
            (volume.seal(now())?, self.changes.load(Ordering::Acquire))
        };
        let Some(sealed) = sealed else { return Ok(()) };
        let written = sealed.write(&self.disk);
        let moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        let mut volume = self.volume_mut();
        let result = match written {
            Ok(()) => volume.publish(sealed),
            Err(error) => {
                volume.abandon(sealed);
                Err(error)
            }
        };
        drop(volume);
        drop(moving);
        if let Err(error) = result {
            *failed = true;
            log::error!("a commit failed, the volume is read-only now: {error}");
            return Err(error);
        }
        self.durable.fetch_max(covered, Ordering::AcqRel);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.wake(|wake| wake.tidy = true);
        Ok(())
    }

    pub(super) fn committing(&self) -> MutexGuard<'_, bool> {
        self.committing.lock().unwrap_or_else(PoisonError::into_inner)
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
        }
    }

    // The work that waits, in small steps so that callers get their turn.
    fn tidy(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            let (more, events) = self.change(|volume| volume.tidy(now()));
            self.notify(&events);
            match more {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return log::warn!("work in the background stopped: {error}"),
            }
        }
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
