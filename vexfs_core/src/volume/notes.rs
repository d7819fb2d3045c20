//! What a volume keeps in mind of work that takes several calls. It is in memory alone: a crash forgets it, and leaves
//! rows free and files as they were.

use alloc::vec::Vec;
use core::ops::Range;

use crate::codec::Codebook;
use crate::error::Error;
use crate::numbers::{CollectionId, Ino};

/// Rows whose bytes were copied into free ones.
#[derive(Debug)]
pub(crate) struct Copied {
    pub(crate) id: CollectionId,
    /// From, to, and the vector's number.
    pub(crate) moves: Vec<(u64, u64, u64)>,
}

/// A collection that is on its way to another codec.
#[derive(Debug)]
pub(crate) struct Recode {
    pub(crate) id: CollectionId,
    /// What keeps it from going on.
    pub(crate) stopped: Option<Error>,
}

/// A codebook in memory, and the matrix whose rows are coded by it.
#[derive(Debug)]
pub(crate) struct KeptCodebook {
    pub(crate) matrix: Ino,
    pub(crate) codebook: Codebook,
}

/// A vector that is about to be set: its bytes are in a free row, which is kept for it.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) inode: Ino,
    pub(crate) id: CollectionId,
    pub(crate) n: u32,
    pub(crate) row: u64,
    /// CRC-32 of the bytes.
    pub(crate) checksum: u32,
}

/// Free rows that are kept for a batch of vectors, whose bytes are in them.
#[derive(Debug)]
pub(crate) struct StagedRows {
    /// Of which batch.
    pub(crate) batch: u64,
    pub(crate) id: CollectionId,
    pub(crate) rows: Range<u64>,
}

/// A file with vectors that was renamed; editors do that before they save it anew under its name.
#[derive(Debug)]
pub(crate) struct Renamed {
    pub(crate) inode: Ino,
    /// Directory and name that it had.
    pub(crate) place: (Ino, Vec<u8>),
    /// The file that has the name since.
    pub(crate) successor: Option<Ino>,
}

/// A file whose vectors of a collection somebody is making anew.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) inode: Ino,
    pub(crate) id: CollectionId,
    /// Who: 1 to 64 printable bytes.
    pub(crate) holder: Vec<u8>,
    /// When it was taken, in seconds since 1970.
    pub(crate) from: i64,
    /// When it is over.
    pub(crate) until: i64,
}
