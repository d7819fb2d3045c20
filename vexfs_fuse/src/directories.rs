//! Listing of directories, with and without their entries' attributes.
//!
//! A cookie is the offset of the entry after it: 1 and 2 stand for `.` and `..`, the core's begin above.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use fuser::{INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use vexfs_core::format::FileKind;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::Attributes;
use vexfs_core::{Result, Volume};

use crate::convert::{GENERATION, Shown, attribute_ttl, entry_ttl, errno, file_attr, file_type};
use crate::disk::Disk;
use crate::near_directory::Sink;
use crate::open_files::OpenFiles;
use crate::service::Service;

/// Answers with the entries of a directory of the volume from `offset` on, as many as fit.
pub fn answer(files: &OpenFiles, directory: Ino, offset: u64, mut reply: ReplyDirectory) {
    if offset == 0 {
        files.touch_directory(directory);
    }
    match list(files.service(), directory, offset, &mut reply) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// The same with the attributes of each.
pub fn answer_with_attributes(files: &OpenFiles, directory: Ino, offset: u64, mut reply: ReplyDirectoryPlus) {
    if offset == 0 {
        files.touch_directory(directory);
    }
    match list_with_attributes(files.service(), directory, offset, &mut reply) {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// Entries by their names alone.
pub struct Names(pub ReplyDirectory);

/// Entries with attributes, none of which the kernel may keep.
pub struct Attributed(pub ReplyDirectoryPlus, pub Shown);

impl Sink for Names {
    fn add(&mut self, shown: &Attributes, cookie: u64, name: &[u8]) -> bool {
        self.0.add(INodeNo(shown.inode.0), cookie, file_type(shown.kind), OsStr::from_bytes(name))
    }

    fn tells(&self) -> bool {
        false
    }

    fn end(self, result: Result<()>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(error) => self.0.error(errno(error)),
        }
    }
}

impl Sink for Attributed {
    fn add(&mut self, shown: &Attributes, cookie: u64, name: &[u8]) -> bool {
        let attr = file_attr(shown, self.1);
        let (inode, name) = (INodeNo(shown.inode.0), OsStr::from_bytes(name));
        self.0.add(inode, cookie, name, &Duration::ZERO, &attr, GENERATION)
    }

    fn tells(&self) -> bool {
        true
    }

    fn end(self, result: Result<()>) {
        match result {
            Ok(()) => self.0.ok(),
            Err(error) => self.0.error(errno(error)),
        }
    }
}

fn list(service: &Service, directory: Ino, offset: u64, reply: &mut ReplyDirectory) -> Result<()> {
    entries(&service.volume(), directory, offset, |inode, kind, name, cookie| {
        reply.add(INodeNo(inode.0), cookie, file_type(kind), OsStr::from_bytes(name))
    })
}

fn list_with_attributes(
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
