//! Bugs on purpose, each of which a test suite must find (`scripts/planted-bugs.sh`).
//!
//! Only a build with `--cfg vexfs_bugs` has them, and then as the environment's `VEXFS_BUG` names one; in every other build
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
