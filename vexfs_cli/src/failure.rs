//! Why a command failed: one sentence for a person.

use std::fmt;
use std::io;
use std::path::Path;

/// A reason, in words.
#[derive(Debug)]
pub(crate) struct Failure {
    words: String,
    broken_pipe: bool,
}

impl Failure {
    /// Fails with these words.
    pub(crate) fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), broken_pipe: false }
    }

    /// An operation on a path that the system refused.
    pub(crate) fn io(path: &Path, source: &io::Error) -> Self {
        Self::new(format!("{}: {source}", path.display()))
    }

    /// True if nobody reads the output any more.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Of writing to stdout.
impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self { words: format!("output: {source}"), broken_pipe: source.kind() == io::ErrorKind::BrokenPipe }
    }
}

impl From<vexfs_search::Error> for Failure {
    fn from(source: vexfs_search::Error) -> Self {
        Self::new(source.to_string())
    }
}
