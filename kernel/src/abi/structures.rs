//! `vexfs.h`'s structures, as both sides of the module lay them out.

use core::marker::PhantomData;

use vexfs_core::control::{Pseudo, pseudo};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Attributes, ExtentKind, FileExtent};
use vexfs_core::{Error, Result};

use crate::transfer::Times;

/// Bytes of the C side, to read.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Bytes<'b> {
    data: *const u8,
    len: usize,
    life: PhantomData<&'b [u8]>,
}

impl<'b> Bytes<'b> {
    pub(crate) fn get(self) -> &'b [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the C side gives as many readable bytes, which nobody changes but a mapping of a file whose folio is
        // written back; such bytes are only copied to the disk.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }
}

/// Bytes of the C side, to write; none if the length is 0.
#[derive(Debug)]
#[repr(C)]
pub struct Buffer<'b> {
    data: *mut u8,
    len: usize,
    life: PhantomData<&'b mut [u8]>,
}

impl<'b> Buffer<'b> {
    pub(crate) fn get(self) -> &'b mut [u8] {
        if self.len == 0 {
            return &mut [];
        }
        // SAFETY: the C side gives as many bytes, which are initialised and its own alone for the call.
        unsafe { core::slice::from_raw_parts_mut(self.data, self.len) }
    }

    /// Copies `value` and gives its length; without a buffer the length alone.
    pub(crate) fn fill(self, value: &[u8]) -> Result<isize> {
        let buffer = self.get();
        if !buffer.is_empty() {
            let needed = value.len() as u64;
            buffer.get_mut(..value.len()).ok_or(Error::BufferTooSmall { needed })?.copy_from_slice(value);
        }
        Ok(value.len() as isize)
    }
}

/// `struct vexfs_time`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CTime {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    reserved: u32,
}

impl From<Time> for CTime {
    fn from(time: Time) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds, reserved: 0 }
    }
}

impl From<CTime> for Time {
    fn from(time: CTime) -> Self {
        Self { seconds: time.seconds, nanoseconds: time.nanoseconds }
    }
}

/// `struct vexfs_attributes`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CAttributes {
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) sectors: u64,
    pub(crate) accessed: CTime,
    pub(crate) modified: CTime,
    pub(crate) changed: CTime,
    pub(crate) created: CTime,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    pub(crate) device: u32,
    /// What of the control directory it is: 0 nothing, 1 a directory, 2 computed, 3 a column, 4 a file
    /// that takes requests, 5 one that answers questions.
    pub(crate) class: u32,
}

impl From<Attributes> for CAttributes {
    fn from(from: Attributes) -> Self {
        let class = match pseudo(from.inode) {
            None => 0,
            Some(Pseudo::Directory) => 1,
            Some(Pseudo::Computed) => 2,
            Some(Pseudo::Column) => 3,
            Some(Pseudo::Request | Pseudo::Append) => 4,
            Some(Pseudo::Query) => 5,
        };
        Self {
            inode: from.inode.0,
            size: from.size,
            sectors: from.sectors,
            accessed: from.accessed.into(),
            modified: from.modified.into(),
            changed: from.changed.into(),
            created: from.created.into(),
            mode: from.kind.mode() | from.permissions,
            uid: from.uid,
            gid: from.gid,
            links: from.links,
            device: from.device,
            class,
        }
    }
}

/// `struct vexfs_statistics`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct CStatistics {
    pub(crate) blocks: u64,
    pub(crate) free: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) block_size: u32,
    pub(crate) read_only: u32,
    pub(crate) uuid: [u8; 16],
}

/// `struct vexfs_options`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct COptions {
    pub(crate) read_only: u8,
    pub(crate) list_control: u8,
    /// 0 off, 1 owner, 2 any.
    pub(crate) implicit: u8,
    pub(crate) discard: u8,
    pub(crate) owner: u32,
}

/// `struct vexfs_new`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CNew {
    pub(crate) mode: u32,
    pub(crate) umask: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) device: u32,
}

/// `struct vexfs_changes`: what `which` has a bit of.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CChanges {
    pub(crate) which: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) accessed: CTime,
    pub(crate) modified: CTime,
}

/// `struct vexfs_times`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CTimes {
    pub(crate) accessed: CTime,
    pub(crate) modified: CTime,
    pub(crate) changed: CTime,
}

impl From<CTimes> for Times {
    fn from(times: CTimes) -> Self {
        Self {
            accessed: times.accessed.into(),
            modified: times.modified.into(),
            changed: times.changed.into(),
        }
    }
}

/// `struct vexfs_extent`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CExtent {
    offset: u64,
    len: u64,
    device: u64,
    /// 0 a hole, 1 in the tree, 2 data, 3 not written.
    kind: u32,
    reserved: u32,
}

impl From<FileExtent> for CExtent {
    fn from(from: FileExtent) -> Self {
        let (kind, device) = match from.what {
            ExtentKind::Hole => (0, 0),
            ExtentKind::Inline => (1, 0),
            ExtentKind::Data(device) => (2, device),
            ExtentKind::Unwritten(device) => (3, device),
        };
        Self { offset: from.offset, len: from.len, device, kind, reserved: 0 }
    }
}

/// `struct vexfs_caller`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CCaller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) process: i32,
}
