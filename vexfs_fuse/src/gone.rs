//! What inodes showed when they lost their last name, for those who hold them without the daemon's knowledge.
//!
//! A working directory, an open directory or fifo and an `O_PATH` descriptor keep an inode in the kernel, of which the
//! daemon hears nothing; its records are freed all the same. fstat(2) of such a one is answered from here until the
//! kernel forgets it, as it does at once with those that nobody holds, so there are few. Nothing else can be asked of
//! them: they are stale.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vexfs_core::numbers::Ino;
use vexfs_core::operations::Attributes;

/// The inodes of a mount that have no name, and that the kernel may still hold.
#[derive(Debug, Default)]
pub struct Gone(Mutex<HashMap<u64, Attributes>>);

impl Gone {
    /// Notes what an inode showed last; before the kernel hears that its name is gone, and so before it forgets it.
    pub fn add(&self, last: &Attributes) {
        self.map().insert(last.inode.0, *last);
    }

    /// What `inode` showed last, if the kernel may still hold it.
    pub fn last(&self, inode: Ino) -> Option<Attributes> {
        self.map().get(&inode.0).copied()
    }

    /// The kernel holds `inode` no more.
    pub fn forget(&self, inode: Ino) {
        self.map().remove(&inode.0);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u64, Attributes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
