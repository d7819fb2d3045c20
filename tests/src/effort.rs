//! How much a suite does: little where a developer waits for it unoptimized, all that it promises, or many times that.

use std::env;

/// How much a suite does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// In builds with debug assertions, unless the environment asks for more: a build that is not optimized takes long.
    Few,
    /// In optimized builds, and where `VEXFS_EFFORT=usual` says so.
    Usual,
    /// Where `VEXFS_LONG` is set.
    Long,
}

impl Effort {
    /// What the environment and the build ask for.
    ///
    /// # Panics
    /// On a `VEXFS_EFFORT` that is not known.
    pub fn wanted() -> Self {
        if env::var_os("VEXFS_LONG").is_some() {
            return Self::Long;
        }
        match env::var("VEXFS_EFFORT").as_deref() {
            Ok("usual") => Self::Usual,
            Ok("few") => Self::Few,
            Ok(other) => panic!("VEXFS_EFFORT={other}: it is few or usual"),
            Err(_) if cfg!(debug_assertions) => Self::Few,
            Err(_) => Self::Usual,
        }
    }

    /// The value for this effort.
    pub fn of<T>(self, few: T, usual: T, long: T) -> T {
        match self {
            Self::Few => few,
            Self::Usual => usual,
            Self::Long => long,
        }
    }
}
