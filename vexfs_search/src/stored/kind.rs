//! The kinds of index that a collection may have beside it.
//!
//! INVARIANT: a kind has one file name, and a file says itself which kind it is of.

/// A kind of index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Every row by one bit a dimension, the best by four, the best of those whole. Builds in little time.
    Scan,
    /// The leaves nearest to the query by one bit a dimension, the best of them whole.
    Clustered,
    /// The rows that links between near ones lead to, by four bits a dimension, the best of them whole. Takes longest to build, and
    /// memory for all of it; then it is the fastest.
    Graph,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Scan, Self::Clustered, Self::Graph];

    /// `scan`, `clustered` or `graph`; also the file's name in a collection's `index` directory.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Clustered => "clustered",
            Self::Graph => "graph",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
