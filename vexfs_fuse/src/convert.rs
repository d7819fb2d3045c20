//! Between the core's types and fuser's.

use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, Generation, INodeNo, TimeOrNow};
use vexfs_core::Error;
use vexfs_core::control::{self, HEADERS, NEAR, Pseudo, VALID, arrow, is_control, pseudo};
use vexfs_core::format::{COLLECTIONS, FileKind, collection_part};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::Attributes;

use crate::clock::{from_fuser, now, to_system};

/// Inode numbers are never used again, so that all are of one generation.
pub const GENERATION: Generation = Generation(0);

/// How long the kernel may keep what only the kernel itself changes.
const LONG: Duration = Duration::from_secs(86_400);

/// How long the kernel may keep the attributes of `attributes.inode`.
pub fn attribute_ttl(attributes: &Attributes) -> Duration {
    // A column may grow between a read of its header and a look at its size: the size must be as new.
    if is_control(attributes.inode) { Duration::ZERO } else { LONG }
}

/// How long the kernel may keep an entry; those of the control directory can come and go by themselves.
pub fn entry_ttl(attributes: &Attributes) -> Duration {
    // Columns that are made from metadata come and go, a collection that grew is another `vectors.arrow`, and one that was
    // recoded has another matrix and other scales.
    let lasts = pseudo(attributes.inode) == Some(Pseudo::Column)
        && collection_part(attributes.inode)
            .is_some_and(|(_, part)| matches!(part, HEADERS | VALID | control::GENERATION));
    if is_control(attributes.inode) && !lasts { Duration::ZERO } else { LONG }
}

/// An answer that says "there is none", to be remembered.
pub fn nothing() -> (Duration, FileAttr) {
    let epoch = std::time::UNIX_EPOCH;
    let attr = FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: epoch,
        mtime: epoch,
        ctime: epoch,
        crtime: epoch,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    };
    (LONG, attr)
}

/// What the kernel is shown of every inode alike.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// Bytes of a block.
    pub block_size: u32,
    /// The user who mounts, and his group: they own what is the mount's own in the control directory.
    pub owner: (u32, u32),
}

impl Shown {
    // Who owns an inode. The core has what is no record of the volume as root's.
    fn owner(&self, attributes: &Attributes) -> (u32, u32) {
        let inode = attributes.inode;
        match pseudo(inode) {
            Some(_) if ![COLLECTIONS, NEAR].contains(&inode) && !is_collections(inode) => self.owner,
            _ => (attributes.uid, attributes.gid),
        }
    }
}

// True for a collection's directory and files.
fn is_collections(inode: Ino) -> bool {
    collection_part(inode).is_some() || arrow::collection_of(inode).is_some()
}

/// Attributes as the kernel wants them.
pub fn file_attr(attributes: &Attributes, shown: Shown) -> FileAttr {
    let (uid, gid) = shown.owner(attributes);
    FileAttr {
        ino: INodeNo(attributes.inode.0),
        size: attributes.size,
        blocks: attributes.sectors,
        atime: to_system(attributes.accessed),
        mtime: to_system(attributes.modified),
        ctime: to_system(attributes.changed),
        crtime: to_system(attributes.created),
        kind: file_type(attributes.kind),
        perm: attributes.permissions as u16,
        nlink: attributes.links,
        uid,
        gid,
        rdev: attributes.device,
        blksize: shown.block_size,
        flags: 0,
    }
}

/// An inode's number.
pub fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

/// A time that a caller sets.
pub fn time(value: TimeOrNow) -> Time {
    match value {
        TimeOrNow::SpecificTime(time) => from_fuser(time),
        TimeOrNow::Now => now(),
    }
}

/// A file's type.
pub fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::Directory => FileType::Directory,
        FileKind::BlockDevice => FileType::BlockDevice,
        FileKind::Regular => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Socket => FileType::Socket,
    }
}

/// The errno where the inode itself was asked for: one that is gone is stale, and the kernel looks its name up anew.
pub fn errno_of_inode(error: Error) -> Errno {
    match error {
        Error::NotFound => Errno::ESTALE,
        other => errno(other),
    }
}

/// The errno of an error; damage and failures of the device are logged in words.
pub fn errno(error: Error) -> Errno {
    if matches!(error, Error::Corrupt(_) | Error::Device { .. } | Error::VectorChecksum { .. }) {
        log::error!("{error}");
    }
    Errno::from_i32(error.errno())
}
