//! What the C side offers: the block device, locks, the clock, the log, and a way to say what changed.
//!
//! INVARIANT: a `Host` is used only between the C side's `vexfs_mount` and `vexfs_unmount`, which bracket its life.
//! All functions may sleep, so nothing here is called under a spin lock.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_void};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use vexfs_core::numbers::{Ino, Time};
use vexfs_core::{Error, Result};

// SAFETY: declared as in vexfs.h, which host.c is compiled against.
unsafe extern "C" {
    fn vexfs_host_read(host: *mut c_void, offset: u64, buffer: *mut u8, len: usize) -> c_int;
    fn vexfs_host_write(host: *mut c_void, offset: u64, bytes: *const u8, len: usize) -> c_int;
    fn vexfs_host_zero(host: *mut c_void, offset: u64, len: u64) -> c_int;
    fn vexfs_host_flush(host: *mut c_void) -> c_int;
    fn vexfs_host_discard(host: *mut c_void, offset: u64, len: u64) -> c_int;
    fn vexfs_host_now(seconds: *mut i64, nanoseconds: *mut u32);
    fn vexfs_host_log(host: *mut c_void, level: c_int, text: *const u8, len: usize);
    fn vexfs_host_changed(host: *mut c_void, inode: u64, offset: u64, len: u64);
    fn vexfs_host_retire(host: *mut c_void, inode: u64) -> bool;
    fn vexfs_host_failed(host: *mut c_void);
    fn vexfs_host_in_group(group: u32) -> bool;
    fn vexfs_host_abandoned() -> bool;
    fn vexfs_host_nofs_save() -> u32;
    fn vexfs_host_nofs_restore(flags: u32);
    fn vexfs_lock_new(class: u32) -> *mut c_void;
    fn vexfs_lock_free(lock: *mut c_void);
    fn vexfs_lock_read(lock: *mut c_void);
    fn vexfs_unlock_read(lock: *mut c_void);
    fn vexfs_lock_write(lock: *mut c_void);
    fn vexfs_unlock_write(lock: *mut c_void);
}

/// How loud a message is: as the kernel's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something failed.
    Error = 3,
    /// A call was refused.
    Warning = 4,
    /// Worth knowing.
    Notice = 5,
}

/// The mount as the C side knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host(NonNull<c_void>);

// SAFETY: the C side's functions take any thread; the object outlives all of ours.
unsafe impl Send for Host {}
// SAFETY: as above; nothing is changed through the pointer here.
unsafe impl Sync for Host {}

impl Host {
    /// The C side's handle.
    pub(crate) const fn new(host: NonNull<c_void>) -> Self {
        Self(host)
    }

    /// Reads from the device.
    pub(crate) fn read(self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        // SAFETY: the buffer is ours and as long as said.
        let status = unsafe { vexfs_host_read(self.0.as_ptr(), offset, buffer.as_mut_ptr(), buffer.len()) };
        device("read", offset, status)
    }

    /// Writes to the device.
    pub(crate) fn write(self, offset: u64, bytes: &[u8]) -> Result<()> {
        // SAFETY: the bytes are readable and as long as said.
        let status = unsafe { vexfs_host_write(self.0.as_ptr(), offset, bytes.as_ptr(), bytes.len()) };
        device("write", offset, status)
    }

    /// Writes zeros to the device.
    pub(crate) fn zero(self, offset: u64, len: u64) -> Result<()> {
        // SAFETY: numbers alone.
        device("write", offset, unsafe { vexfs_host_zero(self.0.as_ptr(), offset, len) })
    }

    /// Makes what was written durable.
    pub(crate) fn flush(self) -> Result<()> {
        // SAFETY: the handle is alive.
        device("flush", 0, unsafe { vexfs_host_flush(self.0.as_ptr()) })
    }

    /// Gives blocks back to the device.
    pub(crate) fn discard(self, offset: u64, len: u64) -> Result<()> {
        // SAFETY: numbers alone.
        device("discard", offset, unsafe { vexfs_host_discard(self.0.as_ptr(), offset, len) })
    }

    /// Says something in the kernel's log.
    pub(crate) fn log(self, level: Level, text: &[u8]) {
        // SAFETY: the text is readable and as long as said; it need not end with NUL.
        unsafe { vexfs_host_log(self.0.as_ptr(), level as c_int, text.as_ptr(), text.len()) }
    }

    /// Says that `len` bytes of a pseudo-file changed at `offset`, and its attributes; 0 bytes: these alone.
    pub(crate) fn changed(self, inode: Ino, offset: u64, len: u64) {
        // SAFETY: numbers alone.
        unsafe { vexfs_host_changed(self.0.as_ptr(), inode.0, offset, len) }
    }

    /// Says that names lead to this inode no more; true while somebody has it open or mapped.
    pub(crate) fn retire(self, inode: Ino) -> bool {
        // SAFETY: numbers alone.
        unsafe { vexfs_host_retire(self.0.as_ptr(), inode.0) }
    }

    /// Says that nothing can be changed any more.
    pub(crate) fn failed(self) {
        // SAFETY: the handle is alive.
        unsafe { vexfs_host_failed(self.0.as_ptr()) }
    }
}

/// The time now.
pub(crate) fn now() -> Time {
    let mut time = Time::default();
    // SAFETY: both are ours to write.
    unsafe { vexfs_host_now(&raw mut time.seconds, &raw mut time.nanoseconds) };
    time
}

/// True if the calling task is in this group.
pub(crate) fn in_group(group: u32) -> bool {
    // SAFETY: a number alone.
    unsafe { vexfs_host_in_group(group) }
}

/// True if the calling task is being killed; else others have their turn first.
pub(crate) fn abandoned() -> bool {
    // SAFETY: it asks for nothing.
    unsafe { vexfs_host_abandoned() }
}

/// While it lives, an allocation does not call back into filesystems: memory that is wanted under the volume's lock
/// must not wait for the eviction of an inode, which wants the lock too.
#[derive(Debug)]
pub(crate) struct NoFilesystem(u32);

impl NoFilesystem {
    /// Begins the scope; scopes nest.
    pub(crate) fn enter() -> Self {
        // SAFETY: it sets a flag of this task, which `drop` sets back.
        Self(unsafe { vexfs_host_nofs_save() })
    }
}

impl Drop for NoFilesystem {
    fn drop(&mut self) {
        // SAFETY: the flags are those that `enter` got.
        unsafe { vexfs_host_nofs_restore(self.0) }
    }
}

/// A lock of the kernel (a `rw_semaphore`) around a value. Tasks sleep while they wait.
#[derive(Debug)]
pub(crate) struct Lock<T> {
    raw: NonNull<c_void>,
    value: UnsafeCell<T>,
}

// SAFETY: the value moves with the lock, which belongs to no thread.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: readers share the value, a writer has it alone; the semaphore sees to it.
unsafe impl<T: Send + Sync> Sync for Lock<T> {}

/// What a lock protects, for lockdep: each has an order of its own among the others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Class {
    /// A question and its answer.
    Exchange,
    /// Told changes.
    Telling,
    /// Commits.
    Committing,
    /// Bytes on their way.
    Moving,
    /// The volume.
    Volume,
    /// The cache of metadata.
    Cache,
    /// The log.
    Log,
    /// What the page cache was told of.
    Told,
}

impl<T> Lock<T> {
    /// A lock around `value`.
    pub(crate) fn new(class: Class, value: T) -> Result<Self> {
        // SAFETY: it allocates a lock and initialises it.
        let raw = unsafe { vexfs_lock_new(class as u32) };
        let raw = NonNull::new(raw).ok_or(Error::NoMemory)?;
        Ok(Self { raw, value: UnsafeCell::new(value) })
    }

    /// The value, to read it beside others.
    pub(crate) fn read(&self) -> Reading<'_, T> {
        // SAFETY: the lock is alive; `Reading` unlocks it.
        unsafe { vexfs_lock_read(self.raw.as_ptr()) };
        Reading(self)
    }

    /// The value, alone.
    pub(crate) fn write(&self) -> Writing<'_, T> {
        // SAFETY: the lock is alive; `Writing` unlocks it.
        unsafe { vexfs_lock_write(self.raw.as_ptr()) };
        Writing(self)
    }
}

impl<T> Drop for Lock<T> {
    fn drop(&mut self) {
        // SAFETY: nobody else has a reference, so nobody holds it or waits for it.
        unsafe { vexfs_lock_free(self.raw.as_ptr()) }
    }
}

/// A lock held by readers.
#[derive(Debug)]
pub(crate) struct Reading<'l, T>(&'l Lock<T>);

impl<T> Deref for Reading<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: held for reading, so nobody changes it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> Drop for Reading<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `read` locked it, in this task.
        unsafe { vexfs_unlock_read(self.0.raw.as_ptr()) }
    }
}

/// A lock held by one.
#[derive(Debug)]
pub(crate) struct Writing<'l, T>(&'l Lock<T>);

impl<T> Deref for Writing<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: held by us alone.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for Writing<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: held by us alone.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for Writing<'_, T> {
    fn drop(&mut self) {
        // SAFETY: `write` locked it, in this task.
        unsafe { vexfs_unlock_write(self.0.raw.as_ptr()) }
    }
}

fn device(operation: &'static str, offset: u64, status: c_int) -> Result<()> {
    match status {
        0 => Ok(()),
        // ENOMEM: no request reached the device.
        -12 => Err(Error::NoMemory),
        _ => Err(Error::Device { operation, offset }),
    }
}
