//! System calls that the standard library does not have: attributes, mappings, nodes, times, fallocate.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A list of names may have this many bytes, and a value as well.
const VALUE_MAX: usize = 65_536;

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn checked(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Sets an attribute of a path itself.
pub(crate) fn set_attribute(path: &Path, name: &[u8], value: &[u8]) -> io::Result<()> {
    set_attribute_as(path, name, value, 0)
}

/// The same, with flags of setxattr(2).
pub(crate) fn set_attribute_as(path: &Path, name: &[u8], value: &[u8], flags: i32) -> io::Result<()> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    // SAFETY: strings end with NUL, the value is as long as said.
    let status =
        unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    checked(status as isize).map(drop)
}

/// Removes an attribute.
pub(crate) fn remove_attribute(path: &Path, name: &[u8]) -> io::Result<()> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    // SAFETY: strings end with NUL.
    checked(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) } as isize).map(drop)
}

/// The value of an attribute.
pub(crate) fn attribute(path: &Path, name: &[u8]) -> io::Result<Vec<u8>> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    let mut value = vec![0; VALUE_MAX];
    // SAFETY: the buffer is as long as said.
    let len =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(checked(len)?);
    Ok(value)
}

/// The names of all attributes, sorted.
pub(crate) fn attributes(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let path = c_path(path)?;
    let mut list = vec![0u8; VALUE_MAX];
    // SAFETY: the buffer is as long as said.
    let len = unsafe { libc::llistxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(checked(len)?);
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<Vec<u8>> = names.map(<[u8]>::to_vec).collect();
    names.sort();
    Ok(names)
}

/// Makes a node; `mode` has the type.
pub(crate) fn make_node(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path ends with NUL.
    checked(unsafe { libc::mknod(path.as_ptr(), mode, device) } as isize).map(drop)
}

/// Does `work` with files as the user and group of this number.
pub(crate) fn as_user<R>(id: u32, work: impl FnOnce() -> R) -> R {
    // SAFETY: they change who this thread is to files, and nothing else.
    let (group, user) = unsafe { (libc::setfsgid(id), libc::setfsuid(id)) };
    let done = work();
    // SAFETY: as before.
    unsafe { (libc::setfsuid(user as u32), libc::setfsgid(group as u32)) };
    done
}

/// Sets access and modification time of a path itself.
pub(crate) fn set_times(path: &Path, seconds: i64, nanoseconds: i64) -> io::Result<()> {
    let path = c_path(path)?;
    let times = [libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds }; 2];
    // SAFETY: the path ends with NUL, and there are two times.
    let status =
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) };
    checked(status as isize).map(drop)
}

/// fallocate(2).
pub(crate) fn allocate(file: &File, mode: i32, offset: i64, len: i64) -> io::Result<()> {
    // SAFETY: numbers alone.
    checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) } as isize).map(drop)
}

/// lseek(2).
pub(crate) fn seek(file: &File, offset: i64, whence: i32) -> io::Result<u64> {
    // SAFETY: numbers alone.
    checked(unsafe { libc::lseek(file.as_raw_fd(), offset, whence) } as isize).map(|at| at as u64)
}

/// sync(2).
pub(crate) fn sync() {
    // SAFETY: it takes nothing and gives nothing.
    unsafe { libc::sync() };
}

/// syncfs(2): of the filesystem that a file is on.
pub(crate) fn sync_filesystem(file: &File) -> io::Result<()> {
    // SAFETY: numbers alone.
    checked(unsafe { libc::syncfs(file.as_raw_fd()) } as isize).map(drop)
}

/// `struct blkpg_partition` of linux/blkpg.h.
#[repr(C)]
struct Partition {
    start: i64,
    len: i64,
    number: i32,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg` of linux/blkpg.h.
#[repr(C)]
struct PartitionCall {
    operation: i32,
    flags: i32,
    len: i32,
    partition: *mut Partition,
}

/// Makes `len` bytes of a disk from `start` on a partition of this number; with no bytes, takes it away.
pub(crate) fn set_partition(disk: &File, number: i32, start: u64, len: u64) -> io::Result<()> {
    const BLKPG: libc::c_ulong = 0x1269;
    const ADD: i32 = 1;
    const REMOVE: i32 = 2;
    let mut partition = Partition { start: start as i64, len: len as i64, number, names: [0; 128] };
    let operation = if len > 0 { ADD } else { REMOVE };
    let call = PartitionCall {
        operation,
        flags: 0,
        len: size_of::<Partition>() as i32,
        partition: &raw mut partition,
    };
    // SAFETY: both structures live through the call, and are laid out as the kernel's.
    checked(unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const call) } as isize).map(drop)
}

/// mount(2), read and write, without options.
pub(crate) fn mount(device: &Path, at: &Path, kind: &str) -> io::Result<()> {
    let (device, at, kind) = (c_path(device)?, c_path(at)?, CString::new(kind)?);
    // SAFETY: strings end with NUL, and there are no options.
    let status = unsafe { libc::mount(device.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    checked(status as isize).map(drop)
}

/// umount(2).
pub(crate) fn unmount(at: &Path) -> io::Result<()> {
    let at = c_path(at)?;
    // SAFETY: the path ends with NUL.
    checked(unsafe { libc::umount(at.as_ptr()) } as isize).map(drop)
}

/// `XFS_IOC_GOINGDOWN`, keeping nothing but what is durable.
pub(crate) fn shut_down(file: &File) -> io::Result<()> {
    const GOING_DOWN: libc::c_ulong = 0x8004_587d;
    let keep_durable = 2u32;
    // SAFETY: the number is there through the call.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), GOING_DOWN as _, &raw const keep_durable) } as isize)
        .map(drop)
}

/// An extent as FS_IOC_FIEMAP tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Extent {
    /// First byte in the file.
    pub(crate) offset: u64,
    /// First byte on the device; 0 if there is none.
    pub(crate) device: u64,
    /// Bytes.
    pub(crate) len: u64,
    reserved: [u64; 2],
    /// `FIEMAP_EXTENT_...`
    pub(crate) flags: u32,
    more: [u32; 3],
}

const EXTENTS_MAX: usize = 16;

/// `struct fiemap` of linux/fiemap.h, with its extents.
#[repr(C)]
struct Extents {
    start: u64,
    len: u64,
    flags: u32,
    found: u32,
    room: u32,
    reserved: u32,
    extents: [Extent; EXTENTS_MAX],
}

/// The first extents of a file.
pub(crate) fn extents(file: &File) -> io::Result<Vec<Extent>> {
    const FIEMAP: libc::c_ulong = 0xc020_660b;
    let mut map = Extents {
        start: 0,
        len: u64::MAX,
        flags: 0,
        found: 0,
        room: EXTENTS_MAX as u32,
        reserved: 0,
        extents: [Extent::default(); EXTENTS_MAX],
    };
    // SAFETY: the structure is laid out as the kernel's, has room for as many extents as it says, and lives on.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), FIEMAP as _, &raw mut map) } as isize)?;
    Ok(map.extents[..map.found as usize].to_vec())
}

/// renameat2(2).
pub(crate) fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let here = libc::AT_FDCWD;
    // SAFETY: paths end with NUL.
    let status = unsafe { libc::renameat2(here, from.as_ptr(), here, to.as_ptr(), flags) };
    checked(status as isize).map(drop)
}

/// A mapping of a file.
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes from the start, shared.
    pub(crate) fn new(file: &File, len: usize, writable: bool) -> io::Result<Self> {
        let access = if writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        // SAFETY: a new mapping, at no address of ours.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { start: start.cast(), len })
    }

    /// Its bytes as they are now.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: mapped until `drop`; the tester changes no file while it looks at this.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    /// Its bytes, to change.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped until `drop`, and ours alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, with this length.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
