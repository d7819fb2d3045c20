//! Why an image cannot be opened, in words a person can act on.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::lock::Holder;

/// Why an image could not be opened or locked.
#[derive(Debug)]
pub enum ImageError {
    /// The system refused an operation on the path.
    Io {
        /// What was tried: `open`, `lock` ...
        operation: &'static str,
        /// The image.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The path is neither a regular file nor a block device.
    WrongKind {
        /// The path.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A filesystem on the device is mounted by the kernel.
    Mounted {
        /// The image.
        path: PathBuf,
        /// Where.
        point: PathBuf,
    },
    /// A program has the image locked.
    InUse {
        /// The image.
        path: PathBuf,
        /// Who holds it, as far as can be seen.
        holders: Vec<Holder>,
    },
}

impl ImageError {
    /// Wraps what the system said of an operation on a path.
    pub fn io(operation: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path: path.into(), source: source.into() }
    }

    /// True if waiting for somebody to let go of the image would help.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Self::Mounted { .. } | Self::InUse { .. })
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { operation, path, source } => {
                write!(f, "{}: cannot {operation}: {source}", path.display())
            }
            Self::WrongKind { path, kind } => {
                write!(f, "{}: is a {kind}; an image is a regular file or a block device", path.display())
            }
            Self::Mounted { path, point } => {
                write!(f, "{}: is mounted on {}; unmount it first", path.display(), point.display())
            }
            Self::InUse { path, holders } => {
                write!(f, "{}: is in use", path.display())?;
                for (index, holder) in holders.iter().enumerate() {
                    write!(f, "{} {holder}", if index == 0 { " by" } else { "," })?;
                }
                f.write_str("; unmount it or wait for that to end")
            }
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
