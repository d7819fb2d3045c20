//! The lock of an image: `flock`, and the words to say who holds it.
//!
//! A lock belongs to an open file description: a daemon that forks keeps it, and the kernel goes on
//! showing the process that took it. So holders that are gone are looked for among open descriptors.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
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

/// How often a lock is looked for in `/proc/locks` before it counts as that of a process that is gone.
const LOOKS: u32 = 4;

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
    let seen = || {
        let mut pids = lock_pids(&lock_table().unwrap_or_default(), device, inode);
        pids.retain(|pid| fs::exists(format!("/proc/{pid}")).unwrap_or(false));
        Some(pids).filter(|pids| !pids.is_empty())
    };
    let pids = (0..LOOKS).find_map(|_| seen()).unwrap_or_else(|| open_pids(device, inode));
    pids.into_iter().map(|pid| Holder { pid, program: program(pid) }).collect()
}

/// The text of `/proc/locks`.
///
/// The kernel counts lines from one `read` to the next: a lock let go between two of them makes the next read skip
/// a line. So it is read in as few calls as the kernel allows (a page each), and [`holders`] looks more than once.
fn lock_table() -> io::Result<String> {
    let mut file = File::open("/proc/locks")?;
    let mut text = Vec::new();
    let mut page = vec![0; 1 << 16];
    loop {
        match file.read(&mut page) {
            Ok(0) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Ok(read) => text.extend_from_slice(&page[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
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
