//! Why a collection's files cannot be searched.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a collection's files cannot be searched.
#[derive(Debug)]
pub enum Error {
    /// The system refused to open, read or map a file.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file does not hold what it should.
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The query does not fit the collection.
    Query(String),
    /// The collection has no index, or none of the kind that is asked for.
    NoIndex {
        /// The collection.
        directory: PathBuf,
        /// The kind's name, if one was asked for.
        kind: Option<&'static str>,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Format { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Query(why) => f.write_str(why),
            Self::NoIndex { directory, kind } => {
                let (place, kind) =
                    (directory.display(), kind.map_or(String::new(), |kind| format!("{kind} ")));
                write!(f, "{place}: has no {kind}index; `vexfs index {place}` builds one")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
