//! fsync: a record of the journal for all that changed, one for all callers that wait.

use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::thread;

use vexfs_core::Result;
use vexfs_core::operations::Sync;

use super::Service;
use crate::clock::now;

/// What replies to one caller.
struct Answer(Box<dyn FnOnce(Result<()>) + Send>);

/// Callers of fsync that wait.
#[derive(Default)]
pub(super) struct Syncs {
    waiting: Vec<Answer>,
    /// A thread makes things durable, and takes whoever comes meanwhile along next.
    led: bool,
}

// After a panic another thread may lead, and nobody waits for this one: a reply that is dropped says EIO.
struct Leading<'s>(&'s Service);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            drop(mem::take(&mut *self.0.syncs()));
        }
    }
}

impl Service {
    /// Makes everything durable that was changed before the call, as [`Service::sync`], and lets `answer` reply.
    ///
    /// One thread waits for the device, on behalf of all callers; the others go on serving.
    pub fn sync_then(&self, answer: impl FnOnce(Result<()>) + Send + 'static) {
        let mut syncs = self.syncs();
        syncs.waiting.push(Answer(Box::new(answer)));
        if mem::replace(&mut syncs.led, true) {
            return;
        }
        drop(syncs);
        let _leading = Leading(self);
        while let Some(waiting) = self.waiting() {
            let result = self.sync();
            waiting.into_iter().for_each(|Answer(reply)| reply(result));
        }
    }

    // All who wait now; if there is none, this thread leads no more.
    fn waiting(&self) -> Option<Vec<Answer>> {
        let mut syncs = self.syncs();
        syncs.led = !syncs.waiting.is_empty();
        syncs.led.then(|| mem::take(&mut syncs.waiting))
    }

    fn syncs(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes everything durable that was changed before the call: by a record of the journal, or a commit where that
    /// will not do.
    ///
    /// Who waits while another's record is written finds its own changes in the next one, together with all others'
    /// that wait (group commit).
    ///
    /// # Errors
    /// The device's; and once a commit, a write or a flush failed, every later one does.
    pub fn sync(&self) -> Result<()> {
        let wanted = self.changes.load(Ordering::Acquire);
        let committing = self.committing();
        self.check()?;
        if self.durable.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        let (begun, covered) = {
            let mut volume = self.volume_mut();
            // Nobody changes anything while the lock is held.
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
        // A flush that failed elsewhere may have taken the error that this one should have met.
        let written = record.write(&self.disk).and_then(|()| self.disk.failure().map_or(Ok(()), Err));
        let mut volume = self.volume_mut();
        if let Err(error) = written {
            volume.sync_failed(error);
            return Err(error);
        }
        volume.sync_end();
        drop(volume);
        self.durable.fetch_max(covered, Ordering::AcqRel);
        self.log_records.fetch_add(1, Ordering::Relaxed);
        self.log_bytes.fetch_add(record.bytes(), Ordering::Relaxed);
        Ok(())
    }
}
