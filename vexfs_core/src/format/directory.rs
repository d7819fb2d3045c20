//! Directory entries, the way back from an inode to its names, and orphans.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a name at most.
pub const NAME_MAX: usize = 255;

/// The type of a file, with the numbers of `d_type` in readdir(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    /// A fifo.
    Fifo = 1,
    /// A character device.
    CharDevice = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    BlockDevice = 6,
    /// A regular file.
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket.
    Socket = 12,
}

impl FileKind {
    /// The type in a `st_mode`.
    pub const fn from_mode(mode: u32) -> Option<Self> {
        Self::from_u8((mode >> 12) as u8 & 15)
    }

    /// The type with this `d_type`.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Fifo,
            2 => Self::CharDevice,
            4 => Self::Directory,
            6 => Self::BlockDevice,
            8 => Self::Regular,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }

    /// The type bits of a `st_mode`.
    pub const fn mode(self) -> u32 {
        (self as u32) << 12
    }
}

/// A directory entry; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DirentRecord {
    /// The inode named.
    pub inode: U64,
    /// Its `FileKind`.
    pub kind: u8,
    /// Bytes of the name.
    pub name_len: u8,
    /// Reserved, zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<DirentRecord>() == 12);

/// A name of an inode: the entry at `cookie` in directory `parent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LinkRecord {
    /// Inode of the directory.
    pub parent: U64,
    /// Offset of the entry's key.
    pub cookie: U64,
}

const _: () = assert!(size_of::<LinkRecord>() == 16);

/// Why an inode is on the orphan list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OrphanKind {
    /// No name is left: free it, once nobody has it open.
    Delete = 1,
    /// Extents past the end of the file are still to be freed.
    Truncate = 2,
    /// A collection that was removed: free its rows and its matrix.
    Collection = 3,
}

/// An inode whose blocks are freed in steps.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct OrphanRecord {
    /// `OrphanKind`.
    pub kind: U32,
    /// Reserved, zero.
    pub reserved: U32,
}

const _: () = assert!(size_of::<OrphanRecord>() == 8);

impl OrphanRecord {
    /// The kind, if it is one.
    pub const fn kind(&self) -> Option<OrphanKind> {
        Some(match self.kind.get() {
            1 => OrphanKind::Delete,
            2 => OrphanKind::Truncate,
            3 => OrphanKind::Collection,
            _ => return None,
        })
    }
}
