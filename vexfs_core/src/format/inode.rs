//! The inode record.

use core::mem::size_of;

use bitflags::bitflags;
use zerocopy::little_endian::{I64, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::numbers::Time;

/// A time on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TimeRecord {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: I64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: U32,
}

const _: () = assert!(size_of::<TimeRecord>() == 12);

impl From<Time> for TimeRecord {
    fn from(time: Time) -> Self {
        Self { seconds: I64::new(time.seconds), nanoseconds: U32::new(time.nanoseconds) }
    }
}

impl From<TimeRecord> for Time {
    fn from(record: TimeRecord) -> Self {
        Self { seconds: record.seconds.get(), nanoseconds: record.nanoseconds.get().min(999_999_999) }
    }
}

bitflags! {
    /// Flags of an inode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InodeFlags: u32 {
        /// The bytes are in `Inline` records; there is no extent.
        const INLINE = 1;
        /// Extents past the end are still to be freed; nothing may grow the file before.
        const TRUNCATING = 2;
        /// A collection's `index` directory or a file in it: owner, group and permissions are the collection's.
        const INDEX = 4;
    }
}

/// What `stat` shows, and what ties a file to its vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct InodeRecord {
    /// File type and permission bits, as `st_mode`.
    pub mode: U32,
    /// Owner.
    pub uid: U32,
    /// Group.
    pub gid: U32,
    /// Links: names of a file; 2 + subdirectories of a directory.
    pub links: U32,
    /// Size in bytes; of a directory, its entries.
    pub size: U64,
    /// Blocks of the volume that the extents take.
    pub blocks: U64,
    /// Content version: raised by every write and truncate.
    pub version: U64,
    /// Content version that the vector set last was made from; 0 = none was set.
    pub bound_version: U64,
    /// Generation in which the content last ran ahead of `bound_version`; 0 = never.
    pub stale_generation: U64,
    /// The directory that holds this directory; 0 for other types.
    pub parent: U64,
    /// Last access.
    pub accessed: TimeRecord,
    /// Last change of the content.
    pub modified: TimeRecord,
    /// Last change of the inode.
    pub changed: TimeRecord,
    /// Creation.
    pub created: TimeRecord,
    /// `InodeFlags`.
    pub flags: U32,
    /// Device number of a device node: minor & 0xff | major << 8 | (minor & !0xff) << 12, as makedev(3) of 32 bits.
    pub device: U32,
    /// Number of attribute records, vectors included, so that files without any are told at once.
    pub attributes: U32,
    /// Reserved, zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<InodeRecord>() == 128);
