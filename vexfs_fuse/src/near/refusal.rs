//! Why a question of nearness is not answered, in words for who asked.

use std::fmt;

use vexfs_core::Error;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// What is wrong with the question.
    Said(String),
    /// The volume could not be read.
    Failed(Error),
}

impl Refusal {
    pub(super) fn new(why: &str) -> Self {
        Self::Said(why.to_owned())
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<vexfs_search::Error> for Refusal {
    fn from(error: vexfs_search::Error) -> Self {
        Self::Said(error.to_string())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Said(why) => f.write_str(why),
            Self::Failed(error) => error.fmt(f),
        }
    }
}
