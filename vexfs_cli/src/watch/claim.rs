//! Taking files to work on: each is held open, so that a rename does no harm, and leased, so that others leave it alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::handle;
use super::queue::{self, Found};
use crate::arguments::Watch;
use crate::failure::Failure;
use crate::site::Place;
use crate::xattr;

/// A file that is worked on.
pub(super) struct Item {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) inode: u64,
    /// The content version that its vectors are made from, or an older one than that.
    pub(super) version: u64,
}

impl Item {
    /// Its path as the command reads it.
    pub(super) fn line(&self, null: bool) -> Vec<u8> {
        let end: &[u8] = if null { b"\0" } else { b"\n" };
        [self.path.as_os_str().as_bytes(), end].concat()
    }
}

/// What became of taking a file.
pub(super) enum Claim {
    Ours(Item),
    /// Somebody else works on it.
    Others,
    /// There is nothing to do any more.
    Gone,
    /// It cannot be done, in words: inode and content version of the file.
    Refused(u64, u64, String),
}

/// Takes files in the name of this process.
pub(super) struct Claimer<'a> {
    place: &'a Place,
    attribute: String,
    holder: Holder,
    seconds: u32,
    null: bool,
}

impl<'a> Claimer<'a> {
    /// For files of this collection.
    pub(super) fn new(place: &'a Place, arguments: &Watch) -> Result<Self, Failure> {
        Ok(Self {
            place,
            attribute: format!("user.vexfs.lease.{}", place.name.collection),
            holder: Holder::this().map_err(|error| Failure::io(Path::new("/proc/self"), &error))?,
            seconds: arguments.lease,
            null: arguments.null,
        })
    }

    /// Takes a file, unless somebody else has it or there is nothing to do.
    pub(super) fn claim(&self, found: Found) -> Result<Claim, Failure> {
        let Found { path, inode, version, .. } = found;
        let refused = |why: String| Ok(Claim::Refused(inode, version, format!("{}: {why}", path.display())));
        if !self.null && path.as_os_str().as_bytes().contains(&b'\n') {
            return refused("its name has a line end: use -0".into());
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(&path);
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claim::Gone),
            Err(error) => return self.trouble(&path, inode, version, &error),
        };
        let held = handle(&file);
        match self.take(&held) {
            Ok(true) => {}
            Ok(false) => return Ok(Claim::Others),
            Err(error) => return self.trouble(&path, inode, version, &error),
        }
        // What was seen before the lease may be done by now, and the name another file's.
        let same = file.metadata().is_ok_and(|metadata| metadata.ino() == inode && metadata.nlink() > 0);
        let fresh = xattr::get(&held, &format!("user.vexfs.fresh.{}", self.place.name.collection));
        let done = matches!(fresh, Ok(Some(value)) if value == b"1");
        match queue::version(&held).filter(|_| same && !done) {
            Some(version) => Ok(Claim::Ours(Item { path, file, inode, version })),
            None => {
                self.give_back(&held);
                Ok(Claim::Gone)
            }
        }
    }

    /// Says that the work goes on.
    pub(super) fn prolong(&self, items: &[Item]) {
        for item in items {
            // One that is lost means work done twice, nothing worse.
            let _ = xattr::set_as(
                &handle(&item.file),
                &self.attribute,
                self.value(self.seconds).as_bytes(),
                xattr::Mode::Replace,
            );
        }
    }

    /// Gives files back.
    pub(super) fn release(&self, items: &[Item]) {
        for item in items {
            self.give_back(&handle(&item.file));
        }
    }

    // Leases a file; false if somebody else has it who still lives.
    fn take(&self, held: &Path) -> io::Result<bool> {
        let value = self.value(self.seconds);
        let take = || match xattr::set_as(held, &self.attribute, value.as_bytes(), xattr::Mode::Create) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            other => other.map(|()| true),
        };
        if take()? {
            return Ok(true);
        }
        let lease = xattr::get(held, &self.attribute)?.unwrap_or_default();
        let holder = lease.split(|byte| *byte == b' ').next().unwrap_or_default();
        if !self.holder.knows_dead(holder) {
            return Ok(false);
        }
        match xattr::remove(held, &self.attribute) {
            Err(error) if error.raw_os_error() != Some(libc::ENODATA) => Err(error),
            _ => take(),
        }
    }

    fn give_back(&self, held: &Path) {
        // If it is another's by now, that stays; if the mount is gone, so is the lease.
        let _ = xattr::set_as(held, &self.attribute, self.value(0).as_bytes(), xattr::Mode::Replace);
    }

    fn value(&self, seconds: u32) -> String {
        format!("{} {seconds}", self.holder.text)
    }

    // Sorts errors of a file from those of the mount.
    fn trouble(&self, path: &Path, inode: u64, version: u64, error: &io::Error) -> Result<Claim, Failure> {
        let refused = |why: String| Ok(Claim::Refused(inode, version, format!("{}: {why}", path.display())));
        match error.raw_os_error() {
            Some(libc::EPERM) => {
                refused("cannot be leased: it may not be changed, or the mount is of a version without leases".into())
            }
            Some(libc::EACCES) => refused(
                "not permitted: setting vectors needs read and write permission on the file, and write permission on the \
                 collection's directory"
                    .into(),
            ),
            Some(libc::ELOOP | libc::ENOENT | libc::ESTALE) => Ok(Claim::Gone),
            Some(libc::EMFILE) => Err(Failure::new("too many open files: use a smaller --batch, or ulimit -n")),
            _ => Err(Failure::io(path, error)),
        }
    }
}

// A process, by what no other has: the namespace of its number, the number, and when it began.
struct Holder {
    text: String,
    namespace: String,
}

impl Holder {
    fn this() -> io::Result<Self> {
        let target = fs::read_link("/proc/self/ns/pid")?;
        let namespace: String = target.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
        let pid = std::process::id();
        let began = began(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { text: format!("vexfs-watch:{namespace}:{pid}:{began}"), namespace })
    }

    // True if this is the name of a process that would be seen from here if it still were.
    fn knows_dead(&self, holder: &[u8]) -> bool {
        let Ok(text) = std::str::from_utf8(holder) else { return false };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["vexfs-watch", namespace, pid, started] if namespace == self.namespace => {
                pid.parse().is_ok_and(|pid: u32| began(pid).is_none_or(|began| began != started))
            }
            _ => false,
        }
    }
}

// When a process began, in the kernel's ticks; none if there is no such process, or only what is left of one.
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" { None } else { fields.nth(18).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_dead_only_if_it_would_be_seen() {
        let this = Holder::this().unwrap();
        assert!(!this.knows_dead(this.text.as_bytes()));
        let (head, began) = this.text.rsplit_once(':').unwrap();
        assert!(this.knows_dead(format!("{head}:{began}1").as_bytes()), "another process had this number");
        let namespace = &this.namespace;
        assert!(this.knows_dead(format!("vexfs-watch:{namespace}:4294967295:1").as_bytes()));
        assert!(!this.knows_dead(format!("vexfs-watch:{namespace}7:4294967295:1").as_bytes()));
        assert!(!this.knows_dead(b"somebody") && !this.knows_dead(b"\xff"));
    }
}
