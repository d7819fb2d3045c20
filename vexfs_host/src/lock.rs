//! The lock of an image: `flock`, and the words to say who holds it.
//!
//! A lock belongs to an open file description: a daemon that forks keeps it, and the kernel goes on
//! showing the process that took it. So holders that are gone are looked for among open descriptors.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{major, makedev, minor};

/// A process that holds an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its program's name, if it can be seen.
    pub program: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.program {
            Some(program) => write!(f, "{program} (process {})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// Between two attempts at a lock.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Locks `file`, trying until `end`; gives the file back with the error.
pub(crate) fn lock(file: File, exclusive: bool, end: Instant) -> Result<Flock<File>, (File, Errno)> {
    let how = if exclusive { FlockArg::LockExclusiveNonblock } else { FlockArg::LockSharedNonblock };
    let mut file = file;
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if Instant::now() < end => {
                file = back;
                std::thread::sleep(PAUSE);
            }
            Err(failed) => return Err(failed),
        }
    }
}

/// Who holds a lock on the file with these numbers, or has it open.
pub(crate) fn holders(device: u64, inode: u64) -> Vec<Holder> {
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids: Vec<u32> = lock_pids(&locks, device, inode);
    pids.retain(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
    if pids.is_empty() {
        pids = open_pids(device, inode);
    }
    pids.into_iter().map(|pid| Holder { pid, program: program(pid) }).collect()
}

/// Processes with a `flock` on the file, from the text of `/proc/locks`.
fn lock_pids(locks: &str, device: u64, inode: u64) -> Vec<u32> {
    let wanted = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    let mut pids: Vec<u32> = locks
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|fields| fields.get(1) == Some(&"FLOCK") && fields.get(5) == Some(&wanted.as_str()))
        .filter_map(|fields| fields[4].parse().ok())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// Other processes that have the file open, as far as this user may look.
fn open_pids(device: u64, inode: u64) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut open: Vec<u32> = pids
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            descriptors
                .filter_map(|entry| fs::metadata(entry.path()).ok())
                .any(|file| file.ino() == inode && file.dev() == device)
        })
        .collect();
    open.sort_unstable();
    open
}

fn program(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned()).filter(|name| !name.is_empty())
}

/// The file that the loop device with this number lies on; none of another device.
pub(crate) fn backing_file(device: u64) -> Option<PathBuf> {
    let (major, minor) = (major(device), minor(device));
    let path = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/loop/backing_file")).ok()?;
    Some(PathBuf::from(path.trim_end_matches('\n')))
}

/// Loop devices that the file with these numbers is attached to: device number and path.
pub(crate) fn loop_devices(device: u64, inode: u64) -> Vec<(u64, PathBuf)> {
    let Ok(blocks) = fs::read_dir("/sys/block") else { return Vec::new() };
    let loops = blocks.flatten().filter(|entry| entry.path().join("loop/backing_file").exists());
    loops
        .filter_map(|entry| {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let file = fs::metadata(backing.trim_end_matches('\n')).ok()?;
            let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
            let (major, minor) = numbers.trim_end().split_once(':')?;
            let number = makedev(major.parse().ok()?, minor.parse().ok()?);
            let same = file.dev() == device && file.ino() == inode;
            same.then(|| (number, PathBuf::from("/dev").join(entry.file_name())))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_flocks_of_that_file_count() {
        let text = "1: POSIX  ADVISORY  WRITE 100 08:02:77 0 EOF\n\
                    2: FLOCK  ADVISORY  WRITE 200 08:02:77 0 EOF\n\
                    2: -> FLOCK  ADVISORY  WRITE 201 08:02:77 0 EOF\n\
                    3: FLOCK  ADVISORY  READ 300 08:02:78 0 EOF\n\
                    4: FLOCK  ADVISORY  READ 199 08:02:77 0 EOF\n";
        assert_eq!(lock_pids(text, makedev(8, 2), 77), [199, 200]);
        assert_eq!(lock_pids(text, makedev(8, 3), 77), [0; 0]);
    }
}
