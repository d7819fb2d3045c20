//! What a check can find, in words.

use core::fmt;

use crate::error::Error;

/// One thing that a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A copy of the superblock is damaged, as a power cut in the middle of writing it leaves it; no error, since the
    /// others are whole.
    Superblock {
        /// Slot 0 to 3.
        slot: u32,
    },
    /// The root of the newest tree cannot be read, but that of an older copy of the superblock: what changed since is
    /// lost.
    Root {
        /// The newest generation.
        newest: u64,
        /// The one whose root can be read.
        older: u64,
    },
    /// The free-space map cannot be read.
    SpaceMap {
        /// Why.
        error: Error,
    },
    /// The journal cannot be replayed: what it tells since the last commit is lost.
    Journal {
        /// Why.
        error: Error,
    },
    /// The journal was replayed, as the next mount would do; no error.
    Replayed {
        /// How many records.
        records: u64,
    },
    /// A node or record cannot be read.
    Damage {
        /// Why.
        error: Error,
    },
    /// Free bytes of a node are not zero.
    Padding {
        /// The node.
        block: u64,
    },
    /// Two things refer to one block.
    BlockTwice {
        /// The block.
        block: u64,
    },
    /// Blocks that the map has in use but nothing refers to.
    Leaked {
        /// First block.
        start: u64,
        /// How many.
        count: u64,
    },
    /// Blocks in use that the map calls free.
    Unmarked {
        /// First block.
        start: u64,
        /// How many.
        count: u64,
    },
    /// A record that contradicts others.
    Record {
        /// The inode that it belongs to.
        inode: u64,
        /// What is wrong.
        why: &'static str,
        /// Where in the inode: a cookie, a row, a block index.
        at: u64,
    },
    /// A count of an inode that is not what was counted.
    Count {
        /// The inode.
        inode: u64,
        /// Which count.
        what: Counted,
        /// What its record says.
        recorded: u64,
        /// What there is.
        counted: u64,
    },
    /// A count of the volume that is not what was counted.
    Counter {
        /// Which.
        what: &'static str,
        /// What the superblock says.
        recorded: u64,
        /// What there is.
        counted: u64,
    },
    /// The stored bytes of a vector do not match their checksum.
    Vector {
        /// Inode of the collection.
        collection: u64,
        /// Row.
        row: u64,
    },
    /// An inode that waits to be freed; no error.
    Orphan {
        /// The inode.
        inode: u64,
    },
    /// Freed rows that wait to be blanked; no error.
    Blanks {
        /// Inode of the collection.
        collection: u64,
        /// How many.
        rows: u64,
    },
}

/// A count that an inode's record keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Links.
    Links,
    /// Entries of a directory.
    Entries,
    /// Blocks of the extents.
    Blocks,
    /// Attributes, vectors included.
    Attributes,
    /// Live rows of a collection.
    Live,
    /// Rows of a collection.
    Rows,
}

impl Finding {
    /// False for what a power cut alone can leave behind, and what the next mount finishes.
    pub const fn is_error(&self) -> bool {
        !matches!(
            self,
            Self::Superblock { .. } | Self::Replayed { .. } | Self::Orphan { .. } | Self::Blanks { .. }
        )
    }

    /// True if a repair mends it without losing anything.
    pub const fn is_repairable(&self) -> bool {
        // What has no name left needs one, not a count.
        if let Self::Count { what: Counted::Links, counted: 0, .. } = self {
            return false;
        }
        matches!(
            self,
            Self::Superblock { .. }
                | Self::SpaceMap { .. }
                | Self::Leaked { .. }
                | Self::Unmarked { .. }
                | Self::Count { .. }
                | Self::Counter { .. }
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Superblock { slot } => write!(f, "superblock copy {slot} is damaged"),
            Self::Root { newest, older } => write!(
                f,
                "the tree of generation {newest} cannot be read: generation {older} takes its place, and what changed \
                 since is lost"
            ),
            Self::SpaceMap { error } => write!(f, "the free-space map cannot be used: {error}"),
            Self::Journal { error } => write!(
                f,
                "the journal cannot be replayed, and what was synced since the last commit is lost: {error}"
            ),
            Self::Replayed { records } => {
                write!(f, "{records} record(s) of the journal wait to be replayed by a mount")
            }
            Self::Damage { error } => write!(f, "{error}"),
            Self::Padding { block } => write!(f, "tree node {block}: free bytes are not zero"),
            Self::BlockTwice { block } => write!(f, "block {block} is referred to twice"),
            Self::Leaked { start, count } => {
                write!(f, "{count} block(s) from {start} on are marked in use, but nothing refers to them")
            }
            Self::Unmarked { start, count } => {
                write!(f, "{count} block(s) from {start} on are in use, but marked free")
            }
            Self::Record { inode, why, at } => write!(f, "inode {inode}: {why} (at {at})"),
            Self::Count { inode, what, recorded, counted } => {
                write!(f, "inode {inode}: {} recorded as {recorded}, counted {counted}", what.words())
            }
            Self::Counter { what, recorded, counted } => {
                write!(f, "superblock: {what} recorded as {recorded}, counted {counted}")
            }
            Self::Vector { collection, row } => {
                write!(f, "collection {collection}: row {row} does not match its checksum")
            }
            Self::Orphan { inode } => write!(f, "inode {inode} waits to be freed"),
            Self::Blanks { collection, rows } => {
                write!(f, "collection {collection}: {rows} freed row(s) wait to be blanked")
            }
        }
    }
}

impl Counted {
    const fn words(self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Entries => "directory entries",
            Self::Blocks => "blocks",
            Self::Attributes => "attributes",
            Self::Live => "live rows",
            Self::Rows => "rows",
        }
    }
}
