//! Extended attributes: who asks, and refusals in words, since setfattr can only print an errno.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::Request;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Caller, SetMode};
use vexfs_core::{Error, Result, Volume};

use crate::clock::now;
use crate::disk::Disk;
use crate::service::{Service, Untold};

/// The process that asks.
#[derive(Clone, Copy)]
pub struct Who {
    uid: u32,
    gid: u32,
    pid: u32,
}

impl Who {
    /// Whose request this is.
    pub fn of(request: &Request) -> Self {
        Self { uid: request.uid(), gid: request.gid(), pid: request.pid() }
    }

    /// The process.
    pub fn pid(self) -> u32 {
        self.pid
    }
}

/// A process with its groups, as they were when it opened a file.
pub struct Asker {
    who: Who,
    groups: Vec<u32>,
}

impl Asker {
    /// This process, as it is now.
    pub fn of(who: Who) -> Self {
        Self { who, groups: groups_of(who.pid) }
    }

    /// True if both may do the same.
    pub fn has_rights_of(&self, other: &Self) -> bool {
        (self.who.uid, self.who.gid, &self.groups) == (other.who.uid, other.who.gid, &other.groups)
    }

    /// Does `work` in its name.
    pub fn as_caller<R>(&self, work: impl FnOnce(&Caller<'_>) -> R) -> R {
        let in_group = |group| self.groups.contains(&group);
        work(&Caller { uid: self.who.uid, gid: self.who.gid, in_group: &in_group })
    }
}

/// Sets an attribute and lets `answer` reply.
///
/// The bytes of a vector are in its row, and the kernel knows it, before anything says that the row is in use.
pub fn set(
    service: &Arc<Service>,
    who: Who,
    inode: Ino,
    name: &OsStr,
    value: &[u8],
    mode: SetMode,
    answer: impl FnOnce(&Service, (Result<()>, Untold)) + Send + 'static,
) {
    if !is_vector(name) {
        return answer(service, put(service, who, inode, name, value, mode));
    }
    let (staged, events) = as_caller(who, |caller| {
        service.change(|volume| volume.stage_vector(inode, name.as_bytes(), value, caller, now()))
    });
    // What cannot be staged cannot be set either, and that says why.
    if !matches!(staged, Ok(true)) {
        return answer(service, put(service, who, inode, name, value, mode));
    }
    let (service, shared) = (Arc::clone(service), Arc::clone(service));
    let (name, value) = (name.to_owned(), value.to_vec());
    service.finish(events, move || {
        // Perhaps on a thread of the daemon's own, which must go on.
        let rest = || {
            let (set, mut events) = put(&shared, who, inode, &name, &value, mode);
            if set.is_err() {
                let (unstaged, more) = shared.change(|volume| volume.unstage_vector(inode, name.as_bytes()));
                events.append(more);
                if let Err(error) = unstaged {
                    log::warn!("a free row keeps the bytes of a vector that was not set: {error}");
                }
            }
            answer(&shared, (set, events));
        };
        if catch_unwind(AssertUnwindSafe(rest)).is_err() {
            shared.panicked();
        }
    });
}

fn put(
    service: &Service,
    who: Who,
    inode: Ino,
    name: &OsStr,
    value: &[u8],
    mode: SetMode,
) -> (Result<()>, Untold) {
    change(service, who, inode, name, |volume, caller| {
        volume.set_attribute(inode, name.as_bytes(), value, mode, caller, now())?;
        volume.await_content(inode, name.as_bytes())
    })
}

fn is_vector(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.vector.")
}

/// Removes an attribute.
pub fn remove(service: &Service, who: Who, inode: Ino, name: &OsStr) -> (Result<()>, Untold) {
    change(service, who, inode, name, |volume, caller| {
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
    who: Who,
    inode: Ino,
    name: &OsStr,
    mut change: impl FnMut(&mut Volume<Disk>, &Caller<'_>) -> Result<()>,
) -> (Result<()>, Untold) {
    let (result, events) = as_caller(who, |caller| service.change(|volume| change(volume, caller)));
    if let Err(error) = result {
        // That somebody else was faster is no refusal.
        if matches!(error, Error::Busy | Error::Outdated) {
            return (result, events);
        }
        if name.as_bytes().starts_with(b"user.vexfs.") || is_vector(name) {
            service.refused();
            let name = name.to_string_lossy();
            let reason = match name.strip_prefix("user.vector.") {
                Some(rest) => in_words(rest, error),
                None => error.to_string(),
            };
            log::warn!("refused: pid {}, inode {inode}, attribute {name}: {reason}", who.pid);
        }
    }
    (result, events)
}

fn as_caller<R>(who: Who, work: impl FnOnce(&Caller<'_>) -> R) -> R {
    let in_group = |group| groups_of(who.pid).contains(&group);
    work(&Caller { uid: who.uid, gid: who.gid, in_group: &in_group })
}

// The reason with the collection's name in it, and a suggestion where the name cannot be one.
fn in_words(rest: &str, error: Error) -> String {
    let name = rest.split(['.', ':', '@']).next().unwrap_or_default();
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
