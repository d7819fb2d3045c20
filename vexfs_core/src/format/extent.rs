//! Extents: where a file's blocks are.

use core::mem::size_of;

use bitflags::bitflags;
use zerocopy::little_endian::{U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Blocks of one extent at most.
pub const EXTENT_BLOCKS_MAX: u64 = 1 << 24;

bitflags! {
    /// Flags of an extent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ExtentFlags: u32 {
        /// Allocated but never written; reads as zeros.
        const UNWRITTEN = 1;
    }
}

/// `count` blocks of a file, from the block index in the key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ExtentRecord {
    /// First block on the device.
    pub start: U64,
    /// Blocks.
    pub count: U32,
    /// `ExtentFlags`.
    pub flags: U32,
    /// Generation in which it was allocated.
    pub birth: U64,
}

const _: () = assert!(size_of::<ExtentRecord>() == 24);
