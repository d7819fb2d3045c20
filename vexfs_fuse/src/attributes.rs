//! Extended attributes: who asks, and refusals in words, since setfattr can only print an errno.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::Request;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Caller, SetMode};
use vexfs_core::{Error, Result, Volume};

use crate::clock::now;
use crate::disk::Disk;
use crate::service::{Service, Untold};

/// Sets an attribute.
pub fn set(
    service: &Service,
    request: &Request,
    inode: Ino,
    name: &OsStr,
    value: &[u8],
    mode: SetMode,
) -> (Result<()>, Untold) {
    change(service, request, inode, name, |volume, caller| {
        volume.set_attribute(inode, name.as_bytes(), value, mode, caller, now())?;
        if name.as_bytes().starts_with(b"user.vector.") {
            volume.await_content(inode)?;
        }
        Ok(())
    })
}

/// Removes an attribute.
pub fn remove(service: &Service, request: &Request, inode: Ino, name: &OsStr) -> (Result<()>, Untold) {
    change(service, request, inode, name, |volume, caller| {
        volume.remove_attribute(inode, name.as_bytes(), caller, now())
    })
}

/// The value of an attribute.
pub fn value(service: &Service, inode: Ino, name: &OsStr) -> Result<Vec<u8>> {
    // A vector's bytes are read from its row, which must not be given out meanwhile.
    let _moving = service.moving();
    service.volume().attribute(inode, name.as_bytes())
}

/// How an attribute is to be set, by the flags of setxattr(2); none if they contradict each other.
pub fn set_mode(flags: i32) -> Option<SetMode> {
    match flags & (libc::XATTR_CREATE | libc::XATTR_REPLACE) {
        0 => Some(SetMode::Any),
        libc::XATTR_CREATE => Some(SetMode::Create),
        libc::XATTR_REPLACE => Some(SetMode::Replace),
        _ => None,
    }
}

fn change(
    service: &Service,
    request: &Request,
    inode: Ino,
    name: &OsStr,
    mut change: impl FnMut(&mut Volume<Disk>, &Caller<'_>) -> Result<()>,
) -> (Result<()>, Untold) {
    let (uid, gid, pid) = (request.uid(), request.gid(), request.pid());
    let in_group = |group| groups_of(pid).contains(&group);
    let caller = Caller { uid, gid, in_group: &in_group };
    let (result, events) = service.change(|volume| change(volume, &caller));
    if let Err(error) = result {
        if name.as_bytes().starts_with(b"user.vexfs.") || name.as_bytes().starts_with(b"user.vector.") {
            service.refused();
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
