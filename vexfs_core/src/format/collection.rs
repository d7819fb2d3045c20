//! The record of a collection.

use core::mem::size_of;

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::TimeRecord;
use super::vector::Quantizer;

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
        /// Its matrix, or the one that is being made, has a codebook: a `CodebookRecord` follows the `MatrixRecord`.
        const QUANTIZED = 4;
    }
}

/// What a collection holds; the model's name follows, behind a `MatrixRecord` and a `CodebookRecord` if there are.
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

/// The shape of a product quantiser; all zero where there is none.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct QuantizerRecord {
    /// Parts of a vector.
    pub subvectors: U16,
    /// Dimensions of a part.
    pub sub_dimensions: U16,
    /// Bits of a code, 4 or 8.
    pub bits: U16,
    /// Reserved, zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<QuantizerRecord>() == 8);

impl From<Quantizer> for QuantizerRecord {
    fn from(quantizer: Quantizer) -> Self {
        Self {
            subvectors: U16::new(quantizer.subvectors),
            sub_dimensions: U16::new(quantizer.sub_dimensions),
            bits: U16::new(quantizer.bits),
            reserved: U16::ZERO,
        }
    }
}

impl From<QuantizerRecord> for Quantizer {
    fn from(record: QuantizerRecord) -> Self {
        Self {
            subvectors: record.subvectors.get(),
            sub_dimensions: record.sub_dimensions.get(),
            bits: record.bits.get(),
        }
    }
}

/// The shapes of a collection's codebooks, whose entries are `Codebook` records at the matrices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct CodebookRecord {
    /// Of the matrix that the collection has.
    pub own: QuantizerRecord,
    /// Of the one that is being made.
    pub target: QuantizerRecord,
}

const _: () = assert!(size_of::<CodebookRecord>() == 16);
