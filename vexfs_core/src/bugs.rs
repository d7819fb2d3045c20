//! Bugs on purpose, each of which a test suite must find (`scripts/planted-bugs.sh`), and allocations that fail on purpose.
//!
//! Only a build with `--cfg vexfs_bugs` has them, the bugs as the environment's `VEXFS_BUG` names one; in every other build
//! none exists, and the compiler leaves nothing of the question.

#[cfg(vexfs_bugs)]
extern crate std;

/// True if this bug is planted.
#[cfg(not(vexfs_bugs))]
#[inline(always)]
pub(crate) const fn planted(_bug: &str) -> bool {
    false
}

/// True if this bug is planted.
#[cfg(vexfs_bugs)]
pub(crate) fn planted(bug: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<std::string::String>> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("VEXFS_BUG").ok()).as_deref() == Some(bug)
}

/// True if there is memory for what is to grow.
#[cfg(not(vexfs_bugs))]
#[inline(always)]
pub(crate) const fn granted() -> bool {
    true
}

#[cfg(vexfs_bugs)]
pub(crate) use starving::granted;
#[cfg(vexfs_bugs)]
pub use starving::{feed, starve};

/// Allocations that fail on purpose.
#[cfg(vexfs_bugs)]
mod starving {
    use core::cell::Cell;

    super::std::thread_local! {
        /// Allocations of this thread that succeed before one fails.
        static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
        static FAILED: Cell<bool> = const { Cell::new(false) };
    }

    /// Lets `count` allocations that the core makes in this thread succeed, and the one behind them fail.
    pub fn starve(count: u64) {
        LEFT.set(Some(count));
        FAILED.set(false);
    }

    /// Lets all succeed again; true if one failed.
    pub fn feed() -> bool {
        LEFT.set(None);
        FAILED.get()
    }

    /// True if there is memory for what is to grow.
    pub(crate) fn granted() -> bool {
        match LEFT.get() {
            None => true,
            Some(0) => {
                LEFT.set(None);
                FAILED.set(true);
                false
            }
            Some(left) => {
                LEFT.set(Some(left - 1));
                true
            }
        }
    }
}
