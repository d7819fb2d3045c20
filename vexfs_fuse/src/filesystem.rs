//! fuser's calls as the core's. Each handler only translates; what it means is the core's or the service's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use vexfs_core::control::{Pseudo, is_control, pseudo};
use vexfs_core::format::FileKind;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{
    Allocate, Attributes, Caller, Changes, NewInode, RenameFlags as CoreRenameFlags, Seek, SetMode,
};
use vexfs_core::{Error, Event, Result, Volume};

use crate::convert::{attribute_ttl, entry_ttl, errno, errno_of_inode, file_attr, file_type, nothing};
use crate::disk::Disk;
use crate::service::{Service, from_system, now};

/// Bytes of one read or write at most.
const REQUEST_BYTES: u32 = 1 << 20;
const GENERATION: Generation = Generation(0);

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The filesystem that fuser serves.
pub struct Vexfs {
    service: Arc<Service>,
    access_times: bool,
    handles: Mutex<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
}

/// What is known of one open file.
struct Handle {
    inode: Ino,
    /// A computed file's content, as it was at the open.
    content: Option<Vec<u8>>,
    /// The access was marked, or need not be.
    touched: AtomicBool,
}

impl Vexfs {
    /// Serves `service`; `access_times` marks reads as relatime does.
    pub fn new(service: Arc<Service>, access_times: bool) -> Self {
        Self { service, access_times, handles: Mutex::new(HashMap::new()), next_handle: AtomicU64::new(1) }
    }

    // A panic answers EIO (fuser does, when a reply is dropped) and is counted; the mount goes on.
    fn guard(&self, handler: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(handler)).is_err() {
            self.service.panicked();
        }
    }

    fn block_size(&self) -> u32 {
        self.service.volume().layout().block_size
    }

    fn reply_entry(&self, reply: ReplyEntry, (result, events): (Result<Attributes>, Vec<Event>)) {
        let block_size = self.block_size();
        let _ = result.as_ref().map(|attributes| self.service.told(attributes));
        self.service.finish(events, move || match result {
            Ok(attributes) => {
                let attr = file_attr(&attributes, block_size);
                reply.entry_with_ttls(
                    &attribute_ttl(&attributes),
                    &entry_ttl(&attributes),
                    &attr,
                    GENERATION,
                );
            }
            Err(error) => reply.error(errno(error)),
        });
    }

    fn reply_empty(&self, reply: ReplyEmpty, (result, events): (Result<()>, Vec<Event>)) {
        self.service.finish(events, move || match result {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn reply_attr(&self, reply: ReplyAttr, (result, events): (Result<Attributes>, Vec<Event>)) {
        let block_size = self.block_size();
        let _ = result.as_ref().map(|attributes| self.service.told(attributes));
        self.service.finish(events, move || match result {
            Ok(attributes) => reply.attr(&attribute_ttl(&attributes), &file_attr(&attributes, block_size)),
            Err(error) => reply.error(errno_of_inode(error)),
        });
    }

    // Opens a file: counts it, renders it if it is computed.
    fn open_handle(&self, inode: Ino, writing: bool) -> Result<(FileHandle, FopenFlags)> {
        let kind = pseudo(inode);
        if kind.is_some() && writing {
            return Err(Error::AccessDenied("files of the control directory cannot be written"));
        }
        // Counted first, so that an unlink from now on keeps the inode.
        self.service.opened(inode);
        let opened = match kind {
            Some(Pseudo::Computed) => self.service.volume().render(inode, &*self.service).map(Some),
            _ => self.service.volume().attributes(inode).map(|_| None),
        };
        let content = opened.inspect_err(|_| {
            self.service.closed(inode);
        })?;
        let flags = match content {
            Some(_) => FopenFlags::FOPEN_DIRECT_IO,
            None => FopenFlags::FOPEN_KEEP_CACHE,
        };
        let touched = AtomicBool::new(!self.access_times);
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.insert(number, Arc::new(Handle { inode, content, touched }));
        Ok((FileHandle(number), flags))
    }

    fn handle(&self, fh: FileHandle) -> Option<Arc<Handle>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner).get(&fh.0).cloned()
    }

    fn close_handle(&self, fh: FileHandle) -> (Result<()>, Vec<Event>) {
        let removed = self.handles.lock().unwrap_or_else(PoisonError::into_inner).remove(&fh.0);
        let Some(handle) = removed else { return (Ok(()), Vec::new()) };
        if !self.service.closed(handle.inode) || is_control(handle.inode) {
            return (Ok(()), Vec::new());
        }
        let gone = matches!(self.service.volume().attributes(handle.inode), Ok(found) if found.links == 0);
        match gone && !self.service.volume().is_read_only() {
            true => self.service.change(|volume| volume.release(handle.inode, now())),
            false => (Ok(()), Vec::new()),
        }
    }

    // Marks an access, once for each open file.
    fn touch(&self, inode: Ino, touched: &AtomicBool) {
        if touched.swap(true, Ordering::Relaxed) {
            return;
        }
        let wanted = {
            let volume = self.service.volume();
            volume.attributes(inode).is_ok_and(|attributes| volume.wants_touch(&attributes, now()))
        };
        if wanted {
            // A full or failing disk must not keep anybody from reading.
            let _ = self.service.change(|volume| volume.touch(inode, now()));
        }
    }

    fn read_into<R>(&self, inode: Ino, offset: u64, size: u32, then: impl FnOnce(Result<&[u8]>) -> R) -> R {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.service.read(inode, offset, &mut buffer[..size]) {
                Ok(len) => then(Ok(&buffer[..len])),
                Err(error) => then(Err(error)),
            }
        })
    }

    // Setting and removing attributes: refusals of vectors are logged, since setfattr can only print an errno.
    fn change_attribute(
        &self,
        request: &Request,
        inode: Ino,
        name: &OsStr,
        mut change: impl FnMut(&mut Volume<Disk>, &Caller<'_>) -> Result<()>,
    ) -> (Result<()>, Vec<Event>) {
        let (uid, gid, pid) = (request.uid(), request.gid(), request.pid());
        let in_group = |group| groups_of(pid).contains(&group);
        let caller = Caller { uid, gid, in_group: &in_group };
        let (result, events) = self.service.change(|volume| change(volume, &caller));
        if let Err(error) = result {
            if name.as_bytes().starts_with(b"user.vexfs.") || name.as_bytes().starts_with(b"user.vector.") {
                self.service.refused();
                let name = name.to_string_lossy();
                let reason = match name.strip_prefix("user.vector.") {
                    Some(rest) => in_words(rest, error),
                    None => error.to_string(),
                };
                log::warn!("refused: pid {pid}, inode {inode}, attribute {name}: {reason}");
            }
        }
        (result, events)
    }
}

// The reason with the collection's name in it, and a suggestion where the name cannot be one.
fn in_words(rest: &str, error: Error) -> String {
    let name = rest.split(['.', ':']).next().unwrap_or_default();
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let reason = error.to_string();
    if !name.is_empty() && name.chars().all(fine) && name.len() <= 64 {
        return match reason.strip_prefix("the collection ") {
            Some(rest) => format!("collection {name} {rest}"),
            None => format!("collection {name}: {reason}"),
        };
    }
    let better: String = name.chars().map(|c| if fine(c) { c } else { '_' }).take(64).collect();
    format!("{reason}; instead of '{name}' try '{better}'")
}

// Supplementary groups of a process; none if it is gone.
fn groups_of(pid: u32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    line.map(|line| line.split_whitespace().filter_map(|group| group.parse().ok()).collect())
        .unwrap_or_default()
}

fn new_inode(request: &Request, mode: u32, umask: u32, device: u32, kind: FileKind) -> NewInode {
    NewInode { kind, permissions: mode & 0o7777 & !umask, uid: request.uid(), gid: request.gid(), device }
}

fn time(value: TimeOrNow) -> vexfs_core::numbers::Time {
    match value {
        TimeOrNow::SpecificTime(time) => from_system(time),
        TimeOrNow::Now => now(),
    }
}

fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

impl Filesystem for Vexfs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DONT_MASK,
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_EXPLICIT_INVAL_DATA,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ASYNC_DIO,
            InitFlags::FUSE_MAX_PAGES,
        ];
        for flag in wanted {
            // An older kernel lacks some of them, and works without.
            let _ = config.add_capabilities(flag);
        }
        let _ = config.set_max_write(REQUEST_BYTES);
        let _ = config.set_max_readahead(REQUEST_BYTES);
        let _ = config.set_max_background(64);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard(|| {
            let found = self.service.volume().lookup(ino(parent), name.as_bytes());
            if found == Err(Error::NotFound) && !is_control(ino(parent)) {
                let (ttl, attr) = nothing();
                return reply.entry(&ttl, &attr, GENERATION);
            }
            self.reply_entry(reply, (found, Vec::new()));
        });
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.guard(|| {
            let found = self.service.volume().attributes(ino(inode));
            self.reply_attr(reply, (found, Vec::new()));
        });
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.guard(|| {
            let _alone = size.map(|_| self.service.alone(ino(inode)));
            let changes = Changes {
                permissions: mode.map(|mode| mode & 0o7777),
                uid,
                gid,
                size,
                accessed: atime.map(time),
                modified: mtime.map(time),
                // The daemon does for the kernel what FUSE_HANDLE_KILLPRIV_V2 asks.
                kill_privileges: uid.is_some() || gid.is_some() || (size.is_some() && request.uid() != 0),
            };
            let result = self.service.change(|volume| volume.set_attributes(ino(inode), &changes, now()));
            drop(_alone);
            self.reply_attr(reply, result);
        });
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        self.guard(|| match self.service.volume().read_link(ino(inode)) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.guard(|| {
            // No type bits mean a regular file, as mknod(2) says.
            let kind = if mode >> 12 == 0 { Some(FileKind::Regular) } else { FileKind::from_mode(mode) };
            let Some(kind) = kind else { return reply.error(Errno::EINVAL) };
            let new = new_inode(request, mode, umask, rdev, kind);
            let result =
                self.service.change(|volume| volume.create(ino(parent), name.as_bytes(), &new, now()));
            self.reply_entry(reply, result);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        self.guard(|| {
            let new = new_inode(request, mode, umask, 0, FileKind::Directory);
            let result =
                self.service.change(|volume| volume.create(ino(parent), name.as_bytes(), &new, now()));
            self.reply_entry(reply, result);
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let is_open = |inode| self.service.is_open(inode);
            let (result, events) =
                self.service.change(|volume| volume.unlink(ino(parent), name.as_bytes(), &is_open, now()));
            let result = result.and_then(|removed| self.bury(removed.inode, removed.links));
            self.reply_empty(reply, (result, events));
        });
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let (result, events) =
                self.service.change(|volume| volume.remove_directory(ino(parent), name.as_bytes(), now()));
            self.reply_empty(reply, (result.map(|_| ()), events));
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.guard(|| {
            let (uid, gid) = (request.uid(), request.gid());
            let target = target.as_os_str().as_bytes();
            let result = self
                .service
                .change(|volume| volume.symlink(ino(parent), name.as_bytes(), target, uid, gid, now()));
            self.reply_entry(reply, result);
        });
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.guard(|| {
            let Some(flags) = CoreRenameFlags::from_bits(flags.bits()) else {
                return reply.error(Errno::EINVAL);
            };
            let is_open = |inode| self.service.is_open(inode);
            let (from, to) = ((ino(parent), name.as_bytes()), (ino(new_parent), new_name.as_bytes()));
            let (result, events) =
                self.service.change(|volume| volume.rename(from, to, flags, &is_open, now()));
            let result = result.and_then(|removed| match removed {
                Some(removed) => self.bury(removed.inode, removed.links),
                None => Ok(()),
            });
            self.reply_empty(reply, (result, events));
        });
    }

    fn link(
        &self,
        _request: &Request,
        inode: INodeNo,
        new_parent: INodeNo,
        new_name: &OsStr,
        reply: ReplyEntry,
    ) {
        self.guard(|| {
            let result = self
                .service
                .change(|volume| volume.link(ino(inode), ino(new_parent), new_name.as_bytes(), now()));
            self.reply_entry(reply, result);
        });
    }

    fn open(&self, _request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.guard(|| {
            let writing = flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0;
            match self.open_handle(ino(inode), writing) {
                Ok((fh, flags)) => reply.opened(fh, flags),
                Err(error) => reply.error(errno_of_inode(error)),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.guard(|| {
            let new = new_inode(request, mode, umask, 0, FileKind::Regular);
            let (result, events) =
                self.service.change(|volume| volume.create(ino(parent), name.as_bytes(), &new, now()));
            let opened = result.and_then(|attributes| {
                self.open_handle(attributes.inode, false).map(|(fh, flags)| (attributes, fh, flags))
            });
            let block_size = self.block_size();
            self.service.finish(events, move || match opened {
                Ok((attributes, fh, flags)) => {
                    let attr = file_attr(&attributes, block_size);
                    reply.created(&entry_ttl(&attributes), &attr, GENERATION, fh, flags);
                }
                Err(error) => reply.error(errno(error)),
            });
        });
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.guard(|| {
            if let Some(handle) = self.handle(fh) {
                if let Some(content) = &handle.content {
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
                    let end = start.saturating_add(size as usize).min(content.len());
                    return reply.data(&content[start..end]);
                }
                self.touch(ino(inode), &handle.touched);
            }
            self.read_into(ino(inode), offset, size, |bytes| match bytes {
                Ok(bytes) => reply.data(bytes),
                Err(error) => reply.error(errno(error)),
            });
        });
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.guard(|| {
            let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
            let mut result = self.service.write(ino(inode), offset, data, kill);
            if result.is_ok() && flags.0 & libc::O_DSYNC != 0 {
                result = self.service.commit();
            }
            match result {
                Ok(()) => reply.written(data.len() as u32),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        // Nothing is held back between write and close; the kernel need not ask again.
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        _request: &Request,
        _inode: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.guard(|| {
            let result = self.close_handle(fh);
            self.reply_empty(reply, result);
        });
    }

    fn fsync(&self, _request: &Request, _inode: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        self.guard(|| self.reply_empty(reply, (self.service.commit(), Vec::new())));
    }

    fn fsyncdir(&self, _request: &Request, _inode: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        self.guard(|| self.reply_empty(reply, (self.service.commit(), Vec::new())));
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.guard(|| {
            if offset == 0 && self.access_times {
                self.touch(ino(inode), &AtomicBool::new(false));
            }
            let volume = self.service.volume();
            let result = list(&volume, ino(inode), offset, |inode, kind, name, cookie| {
                reply.add(INodeNo(inode.0), cookie, file_type(kind), OsStr::from_bytes(name))
            });
            drop(volume);
            match result {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.guard(|| {
            if offset == 0 && self.access_times {
                self.touch(ino(inode), &AtomicBool::new(false));
            }
            let block_size = self.block_size();
            let volume = self.service.volume();
            let mut failed = None;
            let result =
                list(&volume, ino(inode), offset, |inode, _, name, cookie| match volume.attributes(inode) {
                    Ok(attributes) => {
                        self.service.told(&attributes);
                        let attr = file_attr(&attributes, block_size);
                        let ttl: Duration = attribute_ttl(&attributes).min(entry_ttl(&attributes));
                        reply.add(INodeNo(inode.0), cookie, OsStr::from_bytes(name), &ttl, &attr, GENERATION)
                    }
                    Err(error) => {
                        failed = Some(error);
                        true
                    }
                });
            drop(volume);
            match result.and(failed.map_or(Ok(()), Err)) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.guard(|| {
            let numbers = self.service.volume().statistics();
            // An inode takes part of a block; as many can still be made as blocks are free, roughly.
            let more = numbers.available;
            reply.statfs(
                numbers.blocks,
                numbers.free,
                numbers.available,
                numbers.inodes.saturating_add(more),
                more,
                numbers.block_size,
                255,
                numbers.block_size,
            );
        });
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.guard(|| {
            let mode = match flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE) {
                0 => SetMode::Any,
                libc::XATTR_CREATE => SetMode::Create,
                libc::XATTR_REPLACE => SetMode::Replace,
                _ => return reply.error(Errno::EINVAL),
            };
            let result = self.change_attribute(request, ino(inode), name, |volume, caller| {
                volume.set_attribute(ino(inode), name.as_bytes(), value, mode, caller, now())
            });
            self.reply_empty(reply, result);
        });
    }

    fn getxattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.guard(|| {
            let _moving = self.service.moving();
            let value = self.service.volume().attribute(ino(inode), name.as_bytes());
            reply_value(value, size, reply);
        });
    }

    fn listxattr(&self, _request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.guard(|| {
            let names = self.service.volume().list_attributes(ino(inode));
            reply_value(names, size, reply);
        });
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let result = self.change_attribute(request, ino(inode), name, |volume, caller| {
                volume.remove_attribute(ino(inode), name.as_bytes(), caller, now())
            });
            self.reply_empty(reply, result);
        });
    }

    fn access(&self, _request: &Request, _inode: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        // The kernel checks permissions itself (default_permissions).
        reply.error(Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.guard(|| {
            let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
            let what = match mode & !libc::FALLOC_FL_KEEP_SIZE {
                0 => Allocate::Reserve { keep_size },
                libc::FALLOC_FL_PUNCH_HOLE if keep_size => Allocate::PunchHole,
                libc::FALLOC_FL_ZERO_RANGE => Allocate::ZeroRange { keep_size },
                _ => return reply.error(Errno::EOPNOTSUPP),
            };
            let alone = self.service.alone(ino(inode));
            let (result, events) =
                self.service.change(|volume| volume.allocate(ino(inode), what, offset, length, now()));
            drop(alone);
            self.reply_empty(reply, (result.map(|_| ()), events));
        });
    }

    fn lseek(
        &self,
        _request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.guard(|| {
            let (Ok(offset), Some(what)) = (u64::try_from(offset), seek_of(whence)) else {
                return reply.error(Errno::EINVAL);
            };
            match self.service.volume().seek(ino(inode), offset, what) {
                Ok(found) => reply.offset(found as i64),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn copy_file_range(
        &self,
        _request: &Request,
        _inode_in: INodeNo,
        _fh_in: FileHandle,
        _offset_in: u64,
        _inode_out: INodeNo,
        _fh_out: FileHandle,
        _offset_out: u64,
        _len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // The kernel copies through its page cache instead.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _inode: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(Errno::ENOTTY);
    }
}

impl Vexfs {
    // An inode that lost its last name: freed unless somebody has it open, whose close then does it.
    fn bury(&self, inode: Ino, links: u32) -> Result<()> {
        if links != 0 || self.service.is_open(inode) {
            return Ok(());
        }
        self.service.change(|volume| volume.release(inode, now())).0
    }
}

// Gives the entries of a directory from `offset` on, `.` and `..` first; `add` gives true when it is full.
fn list(
    volume: &Volume<Disk>,
    directory: Ino,
    offset: u64,
    mut add: impl FnMut(Ino, FileKind, &[u8], u64) -> bool,
) -> Result<()> {
    if offset < 1 && add(directory, FileKind::Directory, b".", 1) {
        return Ok(());
    }
    if offset < 2 && add(volume.parent(directory)?, FileKind::Directory, b"..", 2) {
        return Ok(());
    }
    let after = if offset <= 2 { 0 } else { offset };
    volume.read_directory(directory, after, &mut |entry| {
        !add(entry.inode, entry.kind, entry.name, entry.cookie)
    })
}

fn seek_of(whence: i32) -> Option<Seek> {
    match whence {
        libc::SEEK_DATA => Some(Seek::Data),
        libc::SEEK_HOLE => Some(Seek::Hole),
        _ => None,
    }
}

// A value as getxattr(2) and listxattr(2) give it: its size where that is asked, ERANGE where it does not fit.
fn reply_value(value: Result<Vec<u8>>, size: u32, reply: ReplyXattr) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(errno(error)),
    }
}
