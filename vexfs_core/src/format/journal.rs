//! The journal: records of an intent log, each what changed in the tree since the one before.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::TimeRecord;

/// The first four bytes of a record: `VLOG`.
pub const LOG_MAGIC: u32 = u32::from_le_bytes(*b"VLOG");
/// Records begin at multiples of this in the journal, so that a torn one leaves those before it whole.
pub const LOG_ALIGN: u64 = 512;
/// Bytes of a record at most: more changes than that are committed.
pub const LOG_RECORD_MAX: usize = 256 << 10;
/// Bytes of a [`LogHeader`].
pub const LOG_HEADER: usize = size_of::<LogHeader>();
/// Bytes of a [`LogEntry`].
pub const LOG_ENTRY: usize = size_of::<LogEntry>();

/// The head of a record; its entries follow without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LogHeader {
    /// `VLOG`.
    pub magic: U32,
    /// CRC-32 of the whole record with this field zero.
    pub checksum: U32,
    /// Bytes of the record, this header included.
    pub length: U32,
    /// Entries that follow.
    pub entries: U32,
    /// UUID of the volume.
    pub uuid: [u8; 16],
    /// The generation that the record builds on: that of the superblock.
    pub base: U64,
    /// Number of the record on that generation, from 0.
    pub sequence: U64,
    /// The next inode number to give, as in the superblock.
    pub next_inode: U64,
    /// The next vector id to give.
    pub next_vector: U64,
    /// Inodes of files.
    pub inode_count: U64,
    /// The next collection number to give.
    pub next_collection: U32,
    /// When the record was written.
    pub written: TimeRecord,
    /// Reserved, zero.
    pub reserved: [u8; 8],
}

const _: () = assert!(size_of::<LogHeader>() == 96);

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LogEntry {
    /// `LogKind`.
    pub kind: u8,
    /// Kind of the key, of a put or a removal; else 0.
    pub key_kind: u8,
    /// Reserved, zero.
    pub reserved: U16,
    /// Bytes that follow this entry.
    pub len: U32,
    /// Inode of the key; first block; byte offset on the device.
    pub first: U64,
    /// Offset of the key; count of blocks; 0.
    pub second: U64,
}

const _: () = assert!(size_of::<LogEntry>() == 24);

/// What an entry tells; the values are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LogKind {
    /// The record of this key is the value that follows.
    Put = 1,
    /// There is no record of this key.
    Remove = 2,
    /// Blocks were taken for data.
    Take = 3,
    /// Blocks of data were freed.
    Free = 4,
    /// Bytes that belong on the device at this place; only those of the last record are put there.
    Bytes = 5,
}

impl LogKind {
    /// The kind with this number.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Put,
            2 => Self::Remove,
            3 => Self::Take,
            4 => Self::Free,
            5 => Self::Bytes,
            _ => return None,
        })
    }
}
