//! Names of files: making and removing them, and what becomes of an inode that lost its last one.

use fuser::Request;
use vexfs_core::Result;
use vexfs_core::format::FileKind;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{NewInode, Removed, RenameFlags};

use crate::clock::now;
use crate::service::{Service, Untold};

/// The inode that `request` asks to be made.
pub fn new_inode(request: &Request, mode: u32, umask: u32, device: u32, kind: FileKind) -> NewInode {
    NewInode { kind, permissions: mode & 0o7777, umask, uid: request.uid(), gid: request.gid(), device }
}

/// The kind of file that mknod(2) makes; no type bits mean a regular file.
pub fn kind_of_mode(mode: u32) -> Option<FileKind> {
    if mode >> 12 == 0 { Some(FileKind::Regular) } else { FileKind::from_mode(mode) }
}

/// Removes a name of a file.
pub fn unlink(service: &Service, parent: Ino, name: &[u8]) -> (Result<()>, Untold) {
    let is_open = |inode| service.opens().contains(inode);
    let (result, mut events) = service.change(|volume| volume.unlink(parent, name, &is_open, now()));
    let result = result.map(|removed| bury(service, &removed, &mut events));
    (result, events)
}

/// Removes an empty directory.
pub fn remove_directory(service: &Service, parent: Ino, name: &[u8]) -> (Result<()>, Untold) {
    let is_open = |inode| service.opens().contains(inode);
    let (result, events) = service.change(|volume| volume.remove_directory(parent, name, &is_open, now()));
    (result.map(|removed| service.gone().add(&removed.last)), events)
}

/// Moves a name, perhaps over another.
pub fn rename(
    service: &Service,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    flags: RenameFlags,
) -> (Result<()>, Untold) {
    let is_open = |inode| service.opens().contains(inode);
    let (result, mut events) = service.change(|volume| volume.rename(from, to, flags, &is_open, now()));
    let result =
        result.map(|replaced| replaced.iter().for_each(|removed| bury(service, removed, &mut events)));
    (result, events)
}

fn bury(service: &Service, removed: &Removed, events: &mut Untold) {
    if removed.links == 0 {
        service.gone().add(&removed.last);
        events.append(service.bury(removed.inode));
    }
}
