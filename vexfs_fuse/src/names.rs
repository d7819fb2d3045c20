//! Names of files: making and removing them, and what becomes of an inode that lost its last one.

use fuser::Request;
use vexfs_core::format::FileKind;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{NewInode, RenameFlags};
use vexfs_core::{Event, Result};

use crate::clock::now;
use crate::service::Service;

/// The inode that `request` asks to be made.
pub fn new_inode(request: &Request, mode: u32, umask: u32, device: u32, kind: FileKind) -> NewInode {
    NewInode { kind, permissions: mode & 0o7777 & !umask, uid: request.uid(), gid: request.gid(), device }
}

/// The kind of file that mknod(2) makes; no type bits mean a regular file.
pub fn kind_of_mode(mode: u32) -> Option<FileKind> {
    if mode >> 12 == 0 { Some(FileKind::Regular) } else { FileKind::from_mode(mode) }
}

/// Removes a name of a file.
pub fn unlink(service: &Service, parent: Ino, name: &[u8]) -> (Result<()>, Vec<Event>) {
    let is_open = |inode| service.is_open(inode);
    let (result, events) = service.change(|volume| volume.unlink(parent, name, &is_open, now()));
    (result.and_then(|removed| bury(service, removed.inode, removed.links)), events)
}

/// Moves a name, perhaps over another.
pub fn rename(
    service: &Service,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    flags: RenameFlags,
) -> (Result<()>, Vec<Event>) {
    let is_open = |inode| service.is_open(inode);
    let (result, events) = service.change(|volume| volume.rename(from, to, flags, &is_open, now()));
    let result = result.and_then(|removed| match removed {
        Some(removed) => bury(service, removed.inode, removed.links),
        None => Ok(()),
    });
    (result, events)
}

// An inode that lost its last name: freed unless somebody has it open, whose close then does it.
fn bury(service: &Service, inode: Ino, links: u32) -> Result<()> {
    if links != 0 || service.is_open(inode) {
        return Ok(());
    }
    service.change(|volume| volume.release(inode, now())).0
}
