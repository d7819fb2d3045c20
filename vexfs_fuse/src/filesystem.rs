//! fuser's calls as the core's: each request is translated, done by the module of its subject, and answered.
//!
//! Nothing is decided here. A request that panics is answered and counted, never the end of the mount.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use vexfs_core::control::{Pseudo, is_control, pseudo};
use vexfs_core::format::FileKind;
use vexfs_core::operations::{NewInode, RenameFlags as CoreRenameFlags};
use vexfs_core::{Error, Result};

use crate::attributes::Who;
use crate::clock::now;
use crate::convert::{errno, errno_of_inode, ino, time};
use crate::directories::{Attributed, Names};
use crate::names::new_inode;
use crate::near::Pool;
use crate::near_directory::{NearDirectory, is_near};
use crate::open_files::OpenFiles;
use crate::service::{Service, Untold};
use crate::{attributes, capabilities, controls, directories, inodes, names, replies};

/// The filesystem that fuser serves.
pub struct Vexfs {
    service: Arc<Service>,
    files: Arc<OpenFiles>,
    near: Arc<NearDirectory>,
}

impl Vexfs {
    /// Serves `service`; `access_times` marks reads as relatime does.
    pub fn new(service: Arc<Service>, access_times: bool) -> Self {
        let pool = Arc::new(Pool::start(&service));
        let files = OpenFiles::new(Arc::clone(&service), Arc::clone(&pool), access_times);
        let near = NearDirectory::new(Arc::clone(&service), pool);
        Self { files: Arc::new(files), near: Arc::new(near), service }
    }

    fn make(&self, parent: INodeNo, name: &OsStr, new: &NewInode, reply: ReplyEntry) {
        let made = self.service.change(|volume| volume.create(ino(parent), name.as_bytes(), new, now()));
        replies::entry(&self.service, reply, made);
    }

    // A panic answers EIO (fuser does, when a reply is dropped) and is counted; the mount goes on.
    fn guard(&self, handler: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(handler)).is_err() {
            self.service.panicked();
        }
    }
}

impl Filesystem for Vexfs {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        capabilities::ask(config, self.service.request_bytes());
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.guard(|| {
            if is_near(ino(parent)) {
                let service = Arc::clone(&self.service);
                let answer = move |found| replies::entry(&service, reply, (found, Untold::default()));
                return self.near.lookup(Who::of(request), ino(parent), name.as_bytes(), answer);
            }
            let found = self.service.volume().lookup(ino(parent), name.as_bytes());
            match found {
                Err(Error::NotFound) if !is_control(ino(parent)) => replies::no_entry(reply),
                found => replies::entry(&self.service, reply, (found, Untold::default())),
            }
        });
    }

    fn forget(&self, _request: &Request, inode: INodeNo, lookups: u64) {
        self.guard(|| {
            self.near.forget(ino(inode), lookups);
            self.service.gone().forget(ino(inode));
        });
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.guard(|| {
            let near = self.near.attributes(ino(inode));
            let found = near.unwrap_or_else(|| inodes::attributes(&self.service, ino(inode)));
            replies::attributes(&self.service, reply, (found, Untold::default()));
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
            let times = (atime.map(time), mtime.map(time));
            let changes = inodes::changes(mode, (uid, gid), size, times, request.uid());
            let changed = inodes::change(&self.service, ino(inode), &changes);
            replies::attributes(&self.service, reply, changed);
        });
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        self.guard(|| {
            let near = self.near.target(ino(inode));
            let target = near.unwrap_or_else(|| self.service.volume().read_link(ino(inode)));
            replies::bytes(reply, target.as_deref().map_err(|error| *error));
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
            let Some(kind) = names::kind_of_mode(mode) else { return reply.error(Errno::EINVAL) };
            self.make(parent, name, &new_inode(request, mode, umask, rdev, kind), reply);
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
            self.make(parent, name, &new_inode(request, mode, umask, 0, FileKind::Directory), reply);
        });
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let removed = names::unlink(&self.service, ino(parent), name.as_bytes());
            replies::done(&self.service, reply, removed);
        });
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let removed = names::remove_directory(&self.service, ino(parent), name.as_bytes());
            replies::done(&self.service, reply, removed);
        });
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.guard(|| {
            let (name, target) = (name.as_bytes(), target.as_os_str().as_bytes());
            let (parent, uid, gid) = (ino(parent), request.uid(), request.gid());
            let made = self.service.change(|volume| volume.symlink(parent, name, target, uid, gid, now()));
            replies::entry(&self.service, reply, made);
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
            let (from, to) = ((ino(parent), name.as_bytes()), (ino(new_parent), new_name.as_bytes()));
            replies::done(&self.service, reply, names::rename(&self.service, from, to, flags));
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
            let (to, name) = (ino(new_parent), new_name.as_bytes());
            let linked = self.service.change(|volume| volume.link(ino(inode), to, name, now()));
            replies::entry(&self.service, reply, linked);
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.guard(|| {
            let writing = flags.acc_mode() != OpenAccMode::O_RDONLY || flags.0 & libc::O_TRUNC != 0;
            match self.files.open(Who::of(request), ino(inode), writing) {
                Ok((handle, flags)) => reply.opened(handle, flags),
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
            let opened = self.files.create(Who::of(request), ino(parent), name.as_bytes(), &new);
            replies::created(&self.service, reply, opened);
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
            if let Some(append) = self.files.appending(fh) {
                return append.read(&self.service, size as usize, |bytes| reply.data(&bytes));
            }
            self.files.read(fh, ino(inode), offset, size, move |bytes| replies::bytes(reply, bytes));
        });
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.guard(|| {
            let kill = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
            let durable = flags.0 & libc::O_DSYNC != 0;
            if let Some(append) = self.files.appending(fh) {
                let len = data.len() as u32;
                let answer = move |done: Result<()>| replies::written(reply, done.map(|()| len));
                return append.write(&self.service, data, durable, answer);
            }
            let written = match pseudo(ino(inode)) {
                Some(Pseudo::Query) => self.files.ask(fh, offset, data),
                _ => self.service.write(ino(inode), offset, data, kill),
            };
            let written = written.map(|()| data.len() as u32);
            if durable && written.is_ok() {
                self.service.sync_then(move |synced| replies::written(reply, synced.and(written)));
            } else {
                replies::written(reply, written);
            }
        });
    }

    fn flush(
        &self,
        _request: &Request,
        _inode: INodeNo,
        fh: FileHandle,
        _owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.guard(|| self.files.end_batch(fh, |ended| replies::plain(reply, ended)));
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
        self.guard(|| replies::done(&self.service, reply, (Ok(()), self.files.close(fh))));
    }

    fn fsync(&self, _request: &Request, _inode: INodeNo, fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        let service = Arc::clone(&self.service);
        let answer = move |result| match result {
            Ok(()) => service.sync_then(|result| replies::durable(reply, result)),
            Err(error) => reply.error(errno(error)),
        };
        self.guard(|| self.files.end_batch(fh, answer));
    }

    fn fsyncdir(&self, _request: &Request, _inode: INodeNo, _fh: FileHandle, _data: bool, reply: ReplyEmpty) {
        self.guard(|| self.service.sync_then(|result| replies::durable(reply, result)));
    }

    fn opendir(&self, request: &Request, inode: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let near = || self.near.open(Who::of(request), ino(inode));
        self.guard(|| match is_near(ino(inode)).then(near).unwrap_or(Ok(FileHandle(0))) {
            Ok(handle) => reply.opened(handle, FopenFlags::empty()),
            Err(error) => reply.error(errno_of_inode(error)),
        });
    }

    fn readdir(
        &self,
        _request: &Request,
        inode: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.guard(|| match is_near(ino(inode)) {
            true => self.near.list(fh, ino(inode), offset, Names(reply)),
            false => directories::answer(&self.files, ino(inode), offset, reply),
        });
    }

    fn readdirplus(
        &self,
        _request: &Request,
        inode: INodeNo,
        fh: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.guard(|| match is_near(ino(inode)) {
            true => self.near.list(fh, ino(inode), offset, Attributed(reply, self.service.shown())),
            false => directories::answer_with_attributes(&self.files, ino(inode), offset, reply),
        });
    }

    fn releasedir(
        &self,
        _request: &Request,
        _inode: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.guard(|| self.near.close(fh));
        reply.ok();
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        self.guard(|| replies::statistics(reply, &self.service.volume().statistics()));
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
            let Some(mode) = attributes::set_mode(flags) else { return reply.error(Errno::EINVAL) };
            let who = Who::of(request);
            attributes::set(&self.service, who, ino(inode), name, value, mode, |service, set| {
                replies::done(service, reply, set);
            });
        });
    }

    fn getxattr(&self, _request: &Request, inode: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.guard(|| {
            let near = self.near.attribute(ino(inode), name.as_bytes());
            let value = near.unwrap_or_else(|| attributes::value(&self.service, ino(inode), name));
            replies::value(reply, value, size);
        });
    }

    fn listxattr(&self, _request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        self.guard(|| {
            let near = is_near(ino(inode)).then(|| Ok(Vec::new()));
            let names = near.unwrap_or_else(|| self.service.volume().list_attributes(ino(inode)));
            replies::value(reply, names, size);
        });
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.guard(|| {
            let removed = attributes::remove(&self.service, Who::of(request), ino(inode), name);
            replies::done(&self.service, reply, removed);
        });
    }

    fn fallocate(
        &self,
        request: &Request,
        inode: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.guard(|| {
            let Some(what) = inodes::allocation(mode) else { return reply.error(Errno::EOPNOTSUPP) };
            let (range, uid) = ((offset, length), request.uid());
            let allocated = inodes::allocate(&self.service, ino(inode), what, range, uid);
            replies::done(&self.service, reply, allocated);
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
        self.guard(|| match inodes::seek(&self.service, ino(inode), offset, whence) {
            Some(Ok(found)) => reply.offset(found as i64),
            Some(Err(error)) => reply.error(errno(error)),
            None => reply.error(Errno::EINVAL),
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
        request: &Request,
        _inode: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.guard(|| match controls::control(&self.service, request.uid(), command, in_data) {
            Ok(answer) => reply.ioctl(0, &answer),
            Err(error) => reply.error(error),
        });
    }
}
