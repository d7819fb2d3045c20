//! Answers to the kernel: a result of the core, sent once the kernel was told what changed under its caches.

use fuser::{
    Errno, FileHandle, FopenFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyStatfs,
    ReplyWrite, ReplyXattr,
};
use vexfs_core::operations::Attributes;
use vexfs_core::{Result, Statistics};

use crate::convert::{GENERATION, attribute_ttl, entry_ttl, errno, errno_of_inode, file_attr, nothing};
use crate::service::{Service, Untold};

/// Longest name of a file, in bytes.
const NAME_LEN_MAX: u32 = 255;

/// Answers with an inode behind a name.
pub fn entry(service: &Service, reply: ReplyEntry, (result, events): (Result<Attributes>, Untold)) {
    let shown = service.shown();
    let _ = result.as_ref().map(|attributes| service.told(attributes));
    service.finish(events, move || match result {
        Ok(attributes) => {
            let attr = file_attr(&attributes, shown);
            reply.entry_with_ttls(&attribute_ttl(&attributes), &entry_ttl(&attributes), &attr, GENERATION);
        }
        Err(error) => reply.error(errno(error)),
    });
}

/// Answers that there is no such name, which the kernel remembers.
pub fn no_entry(reply: ReplyEntry) {
    let (ttl, attr) = nothing();
    reply.entry(&ttl, &attr, GENERATION);
}

/// Answers with a new file that is open.
pub fn created(
    service: &Service,
    reply: ReplyCreate,
    (result, events): (Result<(Attributes, FileHandle, FopenFlags)>, Untold),
) {
    let shown = service.shown();
    service.finish(events, move || match result {
        Ok((attributes, handle, flags)) => {
            let attr = file_attr(&attributes, shown);
            reply.created(&entry_ttl(&attributes), &attr, GENERATION, handle, flags);
        }
        Err(error) => reply.error(errno(error)),
    });
}

/// Answers with attributes of an inode.
pub fn attributes(service: &Service, reply: ReplyAttr, (result, events): (Result<Attributes>, Untold)) {
    let shown = service.shown();
    let _ = result.as_ref().map(|attributes| service.told(attributes));
    service.finish(events, move || match result {
        Ok(attributes) => reply.attr(&attribute_ttl(&attributes), &file_attr(&attributes, shown)),
        Err(error) => reply.error(errno_of_inode(error)),
    });
}

/// Answers that it is done, or why not.
pub fn done(service: &Service, reply: ReplyEmpty, (result, events): (Result<()>, Untold)) {
    service.finish(events, move || plain(reply, result));
}

/// The same where nothing changed.
pub fn plain(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers fsync(2): whatever kept a commit from becoming durable is an I/O error to the caller, and logged in words.
pub fn durable(reply: ReplyEmpty, result: Result<()>) {
    match result {
        Ok(()) => reply.ok(),
        Err(_) => reply.error(Errno::EIO),
    }
}

/// Answers how many bytes were written.
pub fn written(reply: ReplyWrite, result: Result<u32>) {
    match result {
        Ok(len) => reply.written(len),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers with bytes.
pub fn bytes(reply: ReplyData, bytes: Result<&[u8]>) {
    match bytes {
        Ok(bytes) => reply.data(bytes),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers as getxattr(2) and listxattr(2) do: the size where that is asked, ERANGE where the value does not fit.
pub fn value(reply: ReplyXattr, value: Result<Vec<u8>>, size: u32) {
    match value {
        Ok(value) if size == 0 => reply.size(value.len() as u32),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
        Err(error) => reply.error(errno(error)),
    }
}

/// Answers statfs(2).
pub fn statistics(reply: ReplyStatfs, numbers: &Statistics) {
    // An inode takes part of a block; as many can still be made as blocks are free, roughly.
    let more = numbers.available;
    reply.statfs(
        numbers.blocks,
        numbers.free,
        numbers.available,
        numbers.inodes.saturating_add(more),
        more,
        numbers.block_size,
        NAME_LEN_MAX,
        numbers.block_size,
    );
}
