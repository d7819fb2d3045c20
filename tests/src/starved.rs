//! Calls of the core that run out of memory (a build with `--cfg vexfs_bugs`, where allocations fail on purpose).
//!
//! Nothing of it happens before [`begin`], and in other builds.

use vexfs_core::error::Result;

/// Which allocations of the calls behind it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starve {
    /// Each once: the first, then, as the call is made again, the second, and so on until the call needs no more.
    Each,
    /// The one behind so many, of the first call; it is not made again.
    First(u64),
}

#[cfg(not(vexfs_bugs))]
mod imp {
    use super::{Result, Starve};

    /// Says which allocations fail from here on.
    pub fn begin(_: Option<Starve>) {}

    /// How many failed in this thread.
    pub fn failures() -> u64 {
        0
    }

    /// How many of them the call did without.
    pub fn passed() -> u64 {
        0
    }

    /// Makes a call of the core.
    pub fn call<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
        call()
    }
}

#[cfg(vexfs_bugs)]
mod imp {
    use std::cell::Cell;

    use vexfs_core::error::Error;

    use super::{Result, Starve};

    thread_local! {
        static PASSED: Cell<u64> = const { Cell::new(0) };
        static WANTED: Cell<Option<Starve>> = const { Cell::new(None) };
        static FAILURES: Cell<u64> = const { Cell::new(0) };
    }

    /// Says which allocations fail from here on.
    pub fn begin(wanted: Option<Starve>) {
        WANTED.set(wanted);
    }

    /// How many failed in this thread.
    pub fn failures() -> u64 {
        FAILURES.get()
    }

    /// How many of them the call did without.
    pub fn passed() -> u64 {
        PASSED.get()
    }

    /// Makes a call of the core, which fails as long as an allocation that it needs does: with `NoMemory`, and nothing is changed.
    ///
    /// # Panics
    /// Where it fails with another error than without that.
    pub fn call<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
        let (first, last) = match WANTED.get() {
            None => return call(),
            Some(Starve::Each) => (0, u64::MAX),
            Some(Starve::First(count)) => {
                WANTED.set(None);
                (count, count)
            }
        };
        for count in first..=last {
            vexfs_core::starve(count);
            let result = call();
            if !vexfs_core::feed() {
                return result;
            }
            FAILURES.set(FAILURES.get() + 1);
            match result {
                Ok(value) => {
                    PASSED.set(PASSED.get() + 1);
                    return Ok(value);
                }
                Err(Error::NoMemory) => {}
                Err(error) => match call() {
                    Err(same) if same == error => return Err(error),
                    other => {
                        let other = other.map(drop);
                        panic!(
                            "allocation {count} failed, and the call says {error:?}; without that: {other:?}"
                        );
                    }
                },
            }
        }
        Err(Error::NoMemory)
    }
}

pub use imp::{begin, call, failures, passed};
