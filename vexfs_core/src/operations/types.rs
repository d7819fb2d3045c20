//! What the operations take and give: plain values, free of any host's types.

use alloc::vec::Vec;
use core::ops::Range;

use bitflags::bitflags;

use crate::device::Place;
use crate::format::{Codec, Element, FileKind, Metric};
use crate::numbers::{CollectionId, Ino, Run, Time};

/// What `stat` shows of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Inode number.
    pub inode: Ino,
    /// Type.
    pub kind: FileKind,
    /// Permission bits, with setuid, setgid and sticky: `mode & 0o7777`.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub links: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes as `st_blocks`.
    pub sectors: u64,
    /// Last access.
    pub accessed: Time,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Creation.
    pub created: Time,
    /// Device number of a device node, as makedev(3) of 32 bits (`major << 8 & 0xfff00 | minor & 0xff | (minor & !0xff) << 12`).
    pub device: u32,
    /// Content version.
    pub version: u64,
}

/// Who calls, where the core itself must decide (setting vectors); all else the host's kernel checks.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Effective uid; 0 may do anything.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
    /// True if the caller is in this supplementary group; asked only when it matters.
    pub in_group: &'a dyn Fn(u32) -> bool,
}

/// A file to be created.
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type.
    pub kind: FileKind,
    /// Permission bits that the caller asked for.
    pub permissions: u32,
    /// Those that the caller's umask takes away; the directory's default access list takes its place, if it has one.
    pub umask: u32,
    /// Owner.
    pub uid: u32,
    /// Group, unless the directory has the setgid bit.
    pub gid: u32,
    /// Device number of a device node.
    pub device: u32,
}

/// An entry that `read_dir` gives.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Inode named.
    pub inode: Ino,
    /// Type.
    pub kind: FileKind,
    /// Name: any bytes but `/` and NUL.
    pub name: &'a [u8],
    /// Where to go on after this entry; fixed for the entry's life, at least 3 and below 2^63.
    pub cookie: u64,
}

/// What an unlink or a rename-over did to the inode that lost a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The inode.
    pub inode: Ino,
    /// Links it has left; at 0 it is an orphan: the host calls `release` once nobody has it open.
    pub links: u32,
    /// What `stat` shows of it without that name; at 0 links the last that the volume tells, perhaps.
    pub last: Attributes,
}

/// Attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Changes {
    /// Permission bits.
    pub permissions: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size: truncates or extends.
    pub size: Option<u64>,
    /// Last access.
    pub accessed: Option<Time>,
    /// Last change of the content.
    pub modified: Option<Time>,
    /// Drop setuid and setgid (and file capabilities), as a write or chown by a user must.
    pub kill_privileges: bool,
}

bitflags! {
    /// Flags of rename, as renameat2(2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// Fail if the target exists.
        const NOREPLACE = 1;
        /// Exchange source and target.
        const EXCHANGE = 2;
    }
}

/// What fallocate(2) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// Allocate; `keep_size` leaves the size alone.
    Reserve {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
    /// Give blocks back; the range reads as zeros, the size stays.
    PunchHole,
    /// The range reads as zeros and is allocated.
    ZeroRange {
        /// `FALLOC_FL_KEEP_SIZE`.
        keep_size: bool,
    },
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// What lies at a byte of a file ([`crate::Volume::extent_at`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileExtent {
    /// Its first byte in the file, at a block's boundary.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// What it is.
    pub what: ExtentKind,
}

/// Where the bytes of a part of a file lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentKind {
    /// Nowhere: they read as zeros.
    Hole,
    /// In the tree.
    Inline,
    /// From this byte of the device on.
    Data(u64),
    /// Reserved from this byte of the device on; they read as zeros.
    Unwritten(u64),
}

/// How an attribute is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetMode {
    /// Create or replace.
    Any,
    /// `XATTR_CREATE`: it must not exist.
    Create,
    /// `XATTR_REPLACE`: it must exist.
    Replace,
}

/// A read in two steps: what is known is in the buffer already, `pieces` are still on the device.
///
/// The host reads them outside the volume's lock, and keeps the inode from being truncated meanwhile.
#[derive(Debug)]
pub struct ReadPlan {
    /// Bytes of the buffer that count; less than its length at the end of the file.
    pub len: usize,
    /// Parts of the buffer to be read, and from where.
    pub pieces: Vec<(Range<usize>, Place)>,
}

/// What a write still has to put on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `len` bytes of the caller's data, from byte `from` on.
    Bytes {
        /// First byte.
        from: usize,
        /// How many.
        len: usize,
    },
    /// `len` zeros.
    Zeros {
        /// How many.
        len: u64,
    },
    /// `len` bytes from the start of `WritePlan::head`: what an inline file held until now.
    Head {
        /// First byte.
        from: usize,
        /// How many.
        len: usize,
    },
}

impl Source {
    /// Bytes.
    pub(crate) fn len(&self) -> u64 {
        match *self {
            Self::Bytes { len, .. } | Self::Head { len, .. } => len as u64,
            Self::Zeros { len } => len,
        }
    }
}

/// A write in two steps: the host puts the pieces on the device outside the volume's lock, then calls `write_end`.
///
/// It holds the blocks that were allocated; give it to `write_end` or `write_cancel`, never drop it.
#[derive(Debug)]
pub struct WritePlan {
    /// The file.
    pub inode: Ino,
    /// Byte offset of the write.
    pub offset: u64,
    /// Bytes of the write.
    pub len: usize,
    /// What goes where; empty for a small file, whose bytes go into the tree.
    pub pieces: Vec<(Place, Source)>,
    /// Bytes of a file that was inline and moves to blocks.
    pub head: Vec<u8>,
    /// The write changes bytes in place that a vector was made from: the host must sync (or commit) before it
    /// writes them, so that the raised content version is durable first (already raised by `write_begin`).
    pub commit_first: bool,
    /// Size of the file before.
    pub(crate) size: u64,
    /// Bytes that only this write makes visible.
    pub(crate) fresh: Vec<(Place, u64)>,
    pub(crate) inline: bool,
    /// Some of the blocks were part of the file before.
    pub(crate) in_place: bool,
    /// Bytes behind the end are zeroed where they lie.
    pub(crate) gap: bool,
    /// Blocks promised for the tree nodes of `write_end`.
    pub(crate) promised: u64,
    /// File block index, device run: to be linked as written extents.
    pub(crate) links: Vec<(u64, Run)>,
    /// File block index and count of unwritten blocks that become written.
    pub(crate) conversions: Vec<(u64, u64)>,
}

/// Settings of a new collection.
#[derive(Clone, Copy, Debug)]
pub struct NewCollection<'a> {
    /// Dimensions; 0 = fixed by the first vector.
    pub dimensions: u32,
    /// Element type.
    pub element: Element,
    /// How rows are stored.
    pub codec: Codec,
    /// Metric.
    pub metric: Metric,
    /// Name of the model, at most 255 bytes.
    pub model: &'a [u8],
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits of its directory.
    pub permissions: u32,
}

/// What a collection is.
#[derive(Debug)]
pub struct Collection {
    /// Its number.
    pub id: CollectionId,
    /// Dimensions; 0 = not fixed yet.
    pub dimensions: u32,
    /// Element type.
    pub element: Element,
    /// How rows are stored.
    pub codec: Codec,
    /// Bytes of a row that are stored; 0 = not fixed yet.
    pub stored_len: u32,
    /// Bytes from one row to the next.
    pub stride: u32,
    /// Metric.
    pub metric: Metric,
    /// Name of the model.
    pub model: Vec<u8>,
    /// What is saved over a file gets its vectors, stale.
    pub inherit: bool,
    /// Superseded vectors that are kept behind each.
    pub history: u32,
    /// Highest row in use + 1.
    pub rows: u64,
    /// Rows in use.
    pub live: u64,
    /// Raised by every change of a row.
    pub changes: u64,
    /// What `vectors.npy` is now: another inode after each recode.
    pub matrix: Ino,
    /// The recode that is under way.
    pub recode: Option<Recoding>,
}

/// How far a collection is on its way to another codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recoding {
    /// The codec that it will have.
    pub codec: Codec,
    /// Rows below were coded for it.
    pub next: u64,
}

impl Collection {
    /// Bytes of one vector as it is set and read; 0 if the dimension is not fixed yet.
    pub fn vector_len(&self) -> u32 {
        self.element.bytes(self.dimensions).unwrap_or(0)
    }
}

/// One vector of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileVector {
    /// The collection.
    pub collection: CollectionId,
    /// Which vector of the file there.
    pub n: u32,
    /// Row in the collection.
    pub row: u64,
    /// Never reused.
    pub vector_id: u64,
    /// The content version that it was made from.
    pub version: u64,
}

/// What the host adds to the control directory's computed files.
pub trait Report {
    /// Appends the host's metrics in Prometheus text format.
    fn metrics(&self, text: &mut dyn core::fmt::Write) -> core::fmt::Result;
    /// The last 64 KiB of refusals and messages.
    fn log(&self, text: &mut dyn core::fmt::Write) -> core::fmt::Result;
    /// Members of `status.json`'s object, each beginning with a comma: `,"cache_bytes":1234`.
    fn status(&self, text: &mut dyn core::fmt::Write) -> core::fmt::Result;
    /// What was measured of a collection's indexes, as a JSON object; `{}` on a host that has none.
    fn recall(&self, _collection: CollectionId, text: &mut dyn core::fmt::Write) -> core::fmt::Result {
        text.write_str("{}\n")
    }
}
