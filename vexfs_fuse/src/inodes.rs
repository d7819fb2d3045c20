//! What belongs to an inode as a whole: its size, owner, mode and times, and where its bytes are.
//!
//! Whatever moves the end of a file or its blocks keeps writers of that file out meanwhile.

use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Allocate, Attributes, Changes, Seek};
use vexfs_core::{Error, Result};

use crate::clock::now;
use crate::service::{Service, Untold};

/// setuid and setgid.
const PRIVILEGES: u32 = 0o6000;

/// What `stat` shows, also of one that has no name any more.
pub fn attributes(service: &Service, inode: Ino) -> Result<Attributes> {
    let found = service.volume().attributes(inode);
    match (found, service.gone().last(inode)) {
        (Err(Error::NotFound), Some(last)) => Ok(last),
        _ => found,
    }
}

/// What setattr asks for, as of user `caller`.
pub fn changes(
    mode: Option<u32>,
    (uid, gid): (Option<u32>, Option<u32>),
    size: Option<u64>,
    (accessed, modified): (Option<Time>, Option<Time>),
    caller: u32,
) -> Changes {
    // The daemon does for the kernel what FUSE_HANDLE_KILLPRIV_V2 asks.
    let kill_privileges = uid.is_some() || gid.is_some() || (size.is_some() && caller != 0);
    let permissions = mode.map(|mode| mode & 0o7777);
    Changes { permissions, uid, gid, size, accessed, modified, kill_privileges }
}

/// Changes attributes; gives what they are then.
pub fn change(service: &Service, inode: Ino, changes: &Changes) -> (Result<Attributes>, Untold) {
    let _alone = changes.size.map(|_| service.alone(inode));
    service.change(|volume| volume.set_attributes(inode, changes, now()))
}

/// Reserves, frees or zeroes a range of a file; then drops setuid and setgid bits, unless root did it, as a write does.
pub fn allocate(
    service: &Service,
    inode: Ino,
    what: Allocate,
    (offset, len): (u64, u64),
    uid: u32,
) -> (Result<()>, Untold) {
    let _alone = service.alone(inode);
    let kill = Changes { kill_privileges: true, ..Changes::default() };
    let (result, events) = service.change(|volume| {
        let done = volume.allocate(inode, what, offset, len, now())?;
        if uid != 0 && done.permissions & PRIVILEGES != 0 {
            volume.set_attributes(inode, &kill, now())?;
        }
        Ok(())
    });
    (result, events)
}

/// What fallocate(2) asks for with `mode`; none if there is no such thing here.
pub fn allocation(mode: i32) -> Option<Allocate> {
    let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !libc::FALLOC_FL_KEEP_SIZE {
        0 => Some(Allocate::Reserve { keep_size }),
        libc::FALLOC_FL_PUNCH_HOLE if keep_size => Some(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocate::ZeroRange { keep_size }),
        _ => None,
    }
}

/// Finds data or a hole from `offset` on, as lseek(2) asks; none if it asks for something else.
pub fn seek(service: &Service, inode: Ino, offset: i64, whence: i32) -> Option<Result<u64>> {
    let what = match whence {
        libc::SEEK_DATA => Seek::Data,
        libc::SEEK_HOLE => Seek::Hole,
        _ => return None,
    };
    let offset = u64::try_from(offset).ok()?;
    Some(service.volume().seek(inode, offset, what))
}
