//! After the device failed a write or a flush, or a panic met a change: nothing becomes durable any more.
//!
//! What the device holds, or what a half-made change left in memory, is not known then. So the volume turns
//! read-only, reads go on, and every later commit fails, until the next mount reads what the last whole commit left.
//!
//! INVARIANT: the failure is noted while the volume is held, so that no commit can seal what comes after it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError, RwLockWriteGuard};
use std::thread;

use vexfs_core::{Error, Result, Volume};

use super::Service;
use crate::disk::Disk;

/// Why nothing can become durable any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The device failed a write or a flush.
    Device(Error),
    /// A commit could not be put together.
    Seal(Error),
    /// A panic met a change of the volume, or a commit.
    Panic,
    /// Somebody asked for it, as a crash test does.
    ShutDown,
}

impl Failure {
    /// What callers are told.
    pub fn error(self) -> Error {
        match self {
            Self::Device(error) | Self::Seal(error) => error,
            Self::Panic | Self::ShutDown => Error::ReadOnly,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(error) => error.fmt(f),
            Self::Seal(error) => write!(f, "a commit could not be put together: {error}"),
            Self::ShutDown => f.write_str("it was shut down by XFS_IOC_GOINGDOWN"),
            Self::Panic => f.write_str("a mistake of this program met a change of the volume"),
        }
    }
}

/// The volume, held to change it.
pub(super) struct Changing<'s> {
    service: &'s Service,
    volume: RwLockWriteGuard<'s, Volume<Disk>>,
}

impl Deref for Changing<'_> {
    type Target = Volume<Disk>;

    fn deref(&self) -> &Self::Target {
        &self.volume
    }
}

impl DerefMut for Changing<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.volume
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        let failure = match self.service.disk.failure() {
            _ if thread::panicking() => Failure::Panic,
            Some(error) => Failure::Device(error),
            None => return,
        };
        self.fail(failure);
    }
}

impl Changing<'_> {
    /// Turns the volume read-only for good.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.volume.set_read_only();
        if self.service.failure.set(failure).is_ok() {
            log::error!(
                "the volume is read-only now, and what was not committed is lost: {failure}. Reads go on; \
                 unmount, mend the cause, and mount again"
            );
        }
    }
}

/// Held while a commit is under way: one at a time.
pub(super) struct Committing<'s> {
    service: &'s Service,
    _lock: MutexGuard<'s, ()>,
}

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.service.volume_mut().fail(Failure::Panic);
        }
    }
}

impl Service {
    pub(super) fn volume_mut(&self) -> Changing<'_> {
        let volume = self.volume.write().unwrap_or_else(PoisonError::into_inner);
        Changing { service: self, volume }
    }

    pub(super) fn committing(&self) -> Committing<'_> {
        let lock = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        Committing { service: self, _lock: lock }
    }

    /// Drops what is not durable yet, as a crash would: nothing of it becomes so any more.
    pub fn shut_down(&self) {
        self.volume_mut().fail(Failure::ShutDown);
    }

    /// Why nothing can become durable any more; none as long as all is well.
    pub fn failure(&self) -> Option<Failure> {
        self.failure.get().copied().or_else(|| self.disk.failure().map(Failure::Device))
    }

    pub(super) fn check(&self) -> Result<()> {
        self.failure().map_or(Ok(()), |failure| Err(failure.error()))
    }
}
