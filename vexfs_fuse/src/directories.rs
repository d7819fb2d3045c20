//! Listing of directories, with and without their entries' attributes.
//!
//! A cookie is the offset of the entry after it: 1 and 2 stand for `.` and `..`, the core's begin above.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use vexfs_core::format::FileKind;
use vexfs_core::numbers::Ino;
use vexfs_core::{Result, Volume};

use crate::convert::{GENERATION, attribute_ttl, entry_ttl, file_attr, file_type};
use crate::disk::Disk;
use crate::service::Service;

/// Gives `reply` the entries from `offset` on, as many as it takes.
pub fn list(service: &Service, directory: Ino, offset: u64, reply: &mut ReplyDirectory) -> Result<()> {
    entries(&service.volume(), directory, offset, |inode, kind, name, cookie| {
        reply.add(INodeNo(inode.0), cookie, file_type(kind), OsStr::from_bytes(name))
    })
}

/// The same with the attributes of each.
pub fn list_with_attributes(
    service: &Service,
    directory: Ino,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<()> {
    let volume = service.volume();
    let mut failed = None;
    entries(&volume, directory, offset, |inode, _, name, cookie| match volume.attributes(inode) {
        Ok(attributes) => {
            service.told(&attributes);
            let attr = file_attr(&attributes, service.shown());
            let ttl = attribute_ttl(&attributes).min(entry_ttl(&attributes));
            reply.add(INodeNo(inode.0), cookie, OsStr::from_bytes(name), &ttl, &attr, GENERATION)
        }
        Err(error) => {
            failed = Some(error);
            true
        }
    })?;
    failed.map_or(Ok(()), Err)
}

// `add` gives true when it is full.
fn entries(
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
