//! Changes of collections that the kernel was not told of yet, so that `generation.npy` does not count them before.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vexfs_core::Raised;
use vexfs_core::control::Told;
use vexfs_core::numbers::Ino;

/// What the kernel was told of.
#[derive(Default)]
pub(super) struct Generations(Mutex<Told>);

/// Changes that the kernel is still to be told of; once it is dropped they count as told.
#[derive(Default)]
pub(super) struct Held {
    changes: Vec<(Arc<Generations>, Vec<Raised>)>,
}

impl Generations {
    /// Holds back the generations that a change raised; called while the volume is still held.
    pub(super) fn hold(self: &Arc<Self>, raised: Vec<Raised>) -> Held {
        if raised.is_empty() {
            return Held::default();
        }
        self.told().begin(&raised);
        Held { changes: vec![(Arc::clone(self), raised)] }
    }

    /// Puts the generation that may be shown into what was read of `inode`, at `offset`, while the volume is held.
    pub(super) fn show(&self, inode: Ino, offset: u64, bytes: &mut [u8]) {
        self.told().show(inode, offset, bytes);
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    pub(super) fn append(&mut self, mut others: Self) {
        self.changes.append(&mut others.changes);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.changes.iter().for_each(|(all, raised)| all.told().end(raised));
    }
}
