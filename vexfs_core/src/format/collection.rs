//! The record of a collection.

use core::mem::size_of;

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::TimeRecord;

/// Bytes of a model's name at most.
pub const COLLECTION_MODEL_MAX: usize = 255;

bitflags! {
    /// Flags of a collection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CollectionFlags: u16 {
        /// What is saved over a file does not get its vectors.
        const NO_INHERIT = 1;
        /// It was recoded, or is being: a `MatrixRecord` follows the record.
        const RECODED = 2;
    }
}

/// What a collection holds; the model's name follows, behind a `MatrixRecord` if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct CollectionRecord {
    /// Dimensions; 0 until the first vector (or `user.vexfs.dim`) fixes it.
    pub dimensions: U32,
    /// Bytes from one row to the next: a multiple of 64; 0 as long as `dimensions` is.
    pub stride: U32,
    /// `Element`.
    pub element: U16,
    /// `Codec`.
    pub codec: U16,
    /// `Metric`.
    pub metric: U16,
    /// Bytes of the model's name.
    pub model_len: U16,
    /// Highest row in use + 1; 0 if none is.
    pub rows: U64,
    /// Rows in use.
    pub live: U64,
    /// Raised by every change of a row.
    pub changes: U64,
    /// Rows from here on were never given out, or given back at the end.
    pub frontier: U64,
    /// When a row last changed.
    pub modified: TimeRecord,
    /// `CollectionFlags`.
    pub flags: U16,
    /// Superseded vectors that are kept behind each, 0 to `HISTORY_MAX`.
    pub history: U16,
}

const _: () = assert!(size_of::<CollectionRecord>() == 64);

/// Which matrix a collection has, and which one a recode fills.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct MatrixRecord {
    /// Number of the matrix, and of the rows' records that go with it.
    pub number: U32,
    /// The highest number that was given to one.
    pub last: U32,
    /// Number of the matrix that is being made; 0 if none is.
    pub target: U32,
    /// `Codec` of that one.
    pub codec: U16,
    /// Reserved, zero.
    pub reserved: U16,
    /// Rows below are in that one, too.
    pub next: U64,
}

const _: () = assert!(size_of::<MatrixRecord>() == 24);
