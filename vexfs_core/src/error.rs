//! Everything that can go wrong, in one type, and its errno in one table.
//!
//! An `Error` is `Copy` and says what a person needs: what the caller did wrong, that the device
//! failed, that the image is of another kind, or that it is damaged, where and how. Damaged input is
//! always an `Err`; only our own mistakes are `debug_assert!`.

use core::fmt;

/// The result of everything in the core.
pub type Result<T> = core::result::Result<T, Error>;

/// What there is, or none where it is missing or damaged; an error where that is not known for want of memory.
pub(crate) fn if_whole<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(Error::NoMemory) => Err(Error::NoMemory),
        other => Ok(other.ok()),
    }
}

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// No such file, directory entry or inode.
    NotFound,
    /// The name is taken.
    Exists,
    /// A directory was needed.
    NotDirectory,
    /// A directory was given where it cannot be.
    IsDirectory,
    /// The directory (or collection) still holds entries.
    NotEmpty,
    /// A file name is longer than 255 bytes.
    NameTooLong,
    /// The caller may not do that (`EPERM`).
    NotPermitted(&'static str),
    /// The caller lacks a permission bit (`EACCES`).
    AccessDenied(&'static str),
    /// An argument makes no sense; the text says which.
    Invalid(&'static str),
    /// What was asked is not there in this version or on this kind of file.
    Unsupported(&'static str),
    /// The inode cannot have more links.
    TooManyLinks,
    /// Two directories of different trees (files and control) in one call.
    CrossDevice,
    /// The volume is mounted read-only, or became so after a failed write.
    ReadOnly,
    /// No free block is left for this; `pending` blocks come free with the next commit.
    NoSpace {
        /// Blocks that the next commit gives back.
        pending: u64,
    },
    /// The host has no memory.
    NoMemory,
    /// The file would pass the largest size.
    FileTooLarge,
    /// No attribute of that name.
    NoAttribute,
    /// An attribute value over 65,536 bytes.
    ValueTooBig,
    /// A vector's metadata is longer than 4,096 bytes.
    MetadataTooBig,
    /// The names of this file's attributes would pass 65,536 bytes, more than any tool can list.
    TooManyAttributes,
    /// The caller's buffer is too small; `needed` bytes would do.
    BufferTooSmall {
        /// Bytes needed.
        needed: u64,
    },
    /// An offset past the last data or hole (`ENXIO`).
    PastEnd,
    /// Another commit is under way, or the thing is in use.
    Busy,
    /// Other work on the collection is under way; the text says which, and what to do.
    Underway(&'static str),
    /// The vector was made from older content than the one that is there, which is of the present content.
    Outdated,
    /// A vector's byte length is not the collection's.
    WrongLength {
        /// The collection's dimension.
        dimensions: u32,
        /// The collection's element name.
        element: &'static str,
        /// Bytes a vector has there.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// The name asks for another element type than the collection holds.
    WrongElement {
        /// What the collection holds.
        holds: &'static str,
        /// What the name asks for.
        asked: &'static str,
    },
    /// A float vector holds a NaN or an infinity at element `index`.
    NotFinite {
        /// Index of the first such element.
        index: u32,
    },
    /// The stored bytes of a vector do not match their checksum.
    VectorChecksum {
        /// Inode of the collection.
        collection: u64,
        /// Row.
        row: u64,
    },
    /// The device failed to read, write or flush.
    Device {
        /// `read`, `write`, `flush` or `discard`.
        operation: &'static str,
        /// Byte offset on the device.
        offset: u64,
    },
    /// No superblock of ours in any of the four places.
    NotVexfs,
    /// A VexFS volume, but none of its superblocks is whole.
    SuperblocksDamaged,
    /// The format version is not one we know.
    Version(u32),
    /// Feature bits that we do not know and may not ignore.
    Incompatible(u64),
    /// Feature bits that we do not know, of a volume that is to be repaired: it may be read, and must not be written.
    IncompatibleToWrite(u64),
    /// The device is shorter than the volume on it.
    Truncated {
        /// Bytes that the superblock tells.
        expected: u64,
        /// Bytes that the device has.
        got: u64,
    },
    /// Damaged metadata.
    Corrupt(Corrupt),
}

/// Where metadata is damaged and what is wrong there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// The kind of structure.
    pub what: &'static str,
    /// The block number (or the inode, where a record and not a block is wrong).
    pub block: u64,
    /// What is wrong with it.
    pub why: &'static str,
    /// True if a stored checksum did not match.
    pub checksum: bool,
}

impl Error {
    /// Damage other than a checksum, at `block`.
    pub const fn corrupt(what: &'static str, block: u64, why: &'static str) -> Self {
        Self::Corrupt(Corrupt { what, block, why, checksum: false })
    }

    /// A checksum that does not match, at `block`.
    pub const fn checksum(what: &'static str, block: u64) -> Self {
        Self::Corrupt(Corrupt { what, block, why: "checksum mismatch", checksum: true })
    }

    /// The Linux errno a caller of the filesystem sees.
    pub const fn errno(self) -> i32 {
        match self {
            Self::NotPermitted(_) => 1,                             // EPERM
            Self::NotFound => 2,                                    // ENOENT
            Self::Device { .. } | Self::VectorChecksum { .. } => 5, // EIO
            Self::PastEnd => 6,                                     // ENXIO
            Self::NoMemory => 12,                                   // ENOMEM
            Self::AccessDenied(_) => 13,                            // EACCES
            Self::Busy | Self::Underway(_) => 16,                   // EBUSY
            Self::Exists | Self::Outdated => 17,                    // EEXIST
            Self::CrossDevice => 18,                                // EXDEV
            Self::NotDirectory => 20,                               // ENOTDIR
            Self::IsDirectory => 21,                                // EISDIR
            Self::Invalid(_)
            | Self::WrongLength { .. }
            | Self::WrongElement { .. }
            | Self::NotFinite { .. }
            | Self::NotVexfs
            | Self::Version(_)
            | Self::Incompatible(_) => 22, // EINVAL
            Self::FileTooLarge => 27,                               // EFBIG
            Self::NoSpace { .. } | Self::TooManyAttributes => 28,   // ENOSPC
            Self::ReadOnly | Self::IncompatibleToWrite(_) => 30,    // EROFS
            Self::TooManyLinks => 31,                               // EMLINK
            Self::BufferTooSmall { .. } => 34,                      // ERANGE
            Self::NameTooLong => 36,                                // ENAMETOOLONG
            Self::NotEmpty => 39,                                   // ENOTEMPTY
            Self::NoAttribute => 61,                                // ENODATA
            Self::Corrupt(Corrupt { checksum: true, .. }) => 74,    // EBADMSG
            Self::ValueTooBig | Self::MetadataTooBig => 7,          // E2BIG
            Self::Unsupported(_) => 95,                             // EOPNOTSUPP
            Self::Corrupt(_) | Self::Truncated { .. } | Self::SuperblocksDamaged => 117, // EUCLEAN
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotFound => f.write_str("no such file or directory"),
            Self::Exists => f.write_str("the name exists already"),
            Self::NotDirectory => f.write_str("not a directory"),
            Self::IsDirectory => f.write_str("is a directory"),
            Self::NotEmpty => f.write_str("not empty"),
            Self::NameTooLong => f.write_str("name longer than 255 bytes"),
            Self::NotPermitted(text)
            | Self::AccessDenied(text)
            | Self::Invalid(text)
            | Self::Underway(text)
            | Self::Unsupported(text) => f.write_str(text),
            Self::TooManyLinks => f.write_str("too many links to this inode"),
            Self::CrossDevice => {
                f.write_str("source and target are in different trees (files and control directory)")
            }
            Self::ReadOnly => f.write_str("the volume is read-only"),
            Self::NoSpace { pending: 0 } => f.write_str("no space left: remove files, or enlarge the volume"),
            Self::NoSpace { pending } => {
                write!(f, "no space left; {pending} blocks come free with the next commit")
            }
            Self::NoMemory => f.write_str("out of memory"),
            Self::FileTooLarge => f.write_str("file too large"),
            Self::NoAttribute => f.write_str("no such attribute"),
            Self::ValueTooBig => f.write_str("attribute value over 65536 bytes"),
            Self::MetadataTooBig => f.write_str("metadata of a vector over 4096 bytes"),
            Self::TooManyAttributes => f.write_str(
                "the names of this file's attributes would pass 65536 bytes, more than any tool can list",
            ),
            Self::BufferTooSmall { needed } => write!(f, "buffer too small, {needed} bytes needed"),
            Self::PastEnd => f.write_str("offset past the end"),
            Self::Busy => f.write_str("busy"),
            Self::Outdated => f.write_str("a vector of the present content is there already"),
            Self::WrongLength { dimensions, element, expected, got } => {
                write!(f, "the collection holds {dimensions} x {element} = {expected} bytes, got {got}")
            }
            Self::WrongElement { holds, asked } => {
                write!(f, "the collection holds {holds}, the name asks for {asked}")
            }
            Self::NotFinite { index } => {
                write!(f, "element {index} is NaN or infinite; a vector must be finite")
            }
            Self::VectorChecksum { collection, row } => {
                write!(
                    f,
                    "row {row} of the collection with inode {collection} does not match its checksum; restore the file's vector from its source"
                )
            }
            Self::Device { operation, offset } => {
                write!(f, "the device failed a {operation} at byte {offset}")
            }
            Self::NotVexfs => f.write_str("not a VexFS volume (no superblock found)"),
            Self::SuperblocksDamaged => {
                f.write_str("a VexFS volume, but none of its four superblocks is whole")
            }
            Self::Version(version) => {
                write!(f, "format version {version} is not known to this program; use a newer one")
            }
            Self::Incompatible(bits) => {
                write!(
                    f,
                    "the volume uses features this program does not know (bits {bits:#x}); use a newer one"
                )
            }
            Self::IncompatibleToWrite(bits) => {
                write!(
                    f,
                    "the volume uses features this program can read but not write (bits {bits:#x}); repair it with a newer one"
                )
            }
            Self::Truncated { expected, got } => {
                write!(f, "the volume has {expected} bytes but the device only {got}; was the image cut off?")
            }
            Self::Corrupt(Corrupt { what, block, why, .. }) => {
                write!(f, "damaged {what} {block}: {why}; unmount and run fsck.vexfs")
            }
        }
    }
}

impl core::error::Error for Error {}
