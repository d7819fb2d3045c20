//! Superseded vectors that a collection keeps: the fixed part of one, and where its pieces lie.

use core::mem::size_of;

use zerocopy::little_endian::U32;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::vector::RowRecord;

/// Superseded vectors that are kept behind a vector at most.
pub const HISTORY_MAX: u16 = 64;
/// Vector ids from here on do not fit the key of a superseded vector.
pub const PAST_IDS: u64 = 1 << 56;

/// A superseded vector; its metadata's text follows, then its stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct PastRecord {
    /// What its row's record was.
    pub row: RowRecord,
    /// Bytes of its metadata; 0 if it had none.
    pub metadata_len: U32,
    /// Reserved, zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<PastRecord>() == 88);

/// The offset of a piece of a superseded vector in its key.
pub const fn past_offset(vector_id: u64, piece: u64) -> u64 {
    vector_id << 8 | piece
}
