//! fsync: a record of the journal for all that changed, one for all callers that wait.

use std::sync::atomic::Ordering;

use vexfs_core::Result;
use vexfs_core::operations::Sync;

use super::Service;
use crate::clock::now;

impl Service {
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
            volume.sync_failed();
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
