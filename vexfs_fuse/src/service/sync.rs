//! fsync: a record of the journal for all that changed, one for all callers that wait.

use std::sync::atomic::Ordering;

use vexfs_core::operations::Sync;
use vexfs_core::{Error, Result};

use super::Service;
use crate::clock::now;

impl Service {
    /// Makes everything durable that was changed before the call: by a record of the journal, or a commit where that
    /// will not do.
    ///
    /// Who waits while another's record is written finds its own changes in the next one, together with all others'
    /// that wait (group commit).
    pub fn sync(&self) -> Result<()> {
        let wanted = self.changes.load(Ordering::Acquire);
        let mut failed = self.committing();
        if *failed {
            return Err(Error::Device { operation: "write", offset: 0 });
        }
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
                drop(failed);
                return self.commit();
            }
            Sync::Record(record) => record,
        };
        let written = record.write(&self.disk);
        let mut volume = self.volume_mut();
        if let Err(error) = written {
            volume.sync_failed();
            *failed = true;
            log::error!("a record of the journal failed, the volume is read-only now: {error}");
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
