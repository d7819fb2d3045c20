//! The kinds of index that a collection may have beside it.
//!
//! INVARIANT: a kind has one file name, and a file says itself which kind it is of.

/// A kind of index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Every row by one bit a dimension, the best by four, the best of those whole. Builds in little time.
    Scan,
    /// The leaves nearest to the query by one bit a dimension, the best of them whole.
    Clustered,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Scan, Self::Clustered];

    /// `scan` or `clustered`; also the file's name in a collection's `index` directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Clustered => "clustered",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
