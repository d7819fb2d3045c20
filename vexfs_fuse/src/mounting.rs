//! mount(2), remount and unmounting: by root directly, by others through fusermount3.
//!
//! The mount shows as type `fuse.vexfs` with the image's path as its source, so that tools find the one by the
//! other, and umount(8) calls `umount.vexfs`.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};

use crate::options::Options;

const KIND: &str = "fuse.vexfs";
const BLOCK_KIND: &str = "fuseblk.vexfs";
/// What the kernel counts blocks of a `fuseblk` mount's device in; statfs(2) has the volume's own.
const BLOCK_OPTION: &str = ",blksize=4096";
const DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: &str = "fusermount3";
const INSTALL: &str = "install the package fuse3";
/// Read-ahead in KiB; the handshake caps it at 128.
const READ_AHEAD_KIB: u32 = 1024;

/// Mounts `image` on `directory` and gives the descriptor that requests are read from.
///
/// # Errors
/// A sentence that says what is missing.
pub fn mount_fuse(
    image: &Path,
    directory: &Path,
    options: &Options,
    request_bytes: u32,
) -> Result<OwnedFd, String> {
    let fuse = OpenOptions::new().read(true).write(true).open(DEVICE);
    let fuse =
        fuse.map_err(|cause| format!("{DEVICE}: {cause}; is the fuse module loaded (modprobe fuse)?"))?;
    let point = fs::metadata(directory).map_err(|cause| format!("{}: {cause}", directory.display()))?;
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions,max_read={request_bytes}",
        fuse.as_raw_fd(),
        point.mode() & libc::S_IFMT,
        geteuid(),
        getegid()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    if options.block {
        data.push_str(BLOCK_OPTION);
    }
    let kind = if options.block { BLOCK_KIND } else { KIND };
    match mount(Some(image), directory, Some(kind), flags(options), Some(data.as_str())) {
        Ok(()) => Ok(fuse.into()),
        Err(Errno::ENODEV) => Err("this kernel has no FUSE (modprobe fuse)".to_owned()),
        Err(cause) => Err(format!("cannot mount on {}: {}", directory.display(), cause.desc())),
    }
}

/// Changes the kernel's flags of a mount.
///
/// # Errors
/// A sentence that says why not.
pub fn remount(directory: &Path, options: &Options) -> Result<(), String> {
    let flags = flags(options) | MsFlags::MS_REMOUNT;
    mount(None::<&Path>, directory, None::<&str>, flags, None::<&str>)
        .map_err(|cause| format!("cannot remount {}: {}", directory.display(), cause.desc()))
}

/// Unmounts, through fusermount3 where only root may; with `lazy` a mount in use vanishes from sight now and ends
/// with its last user.
///
/// # Errors
/// A sentence that says why not.
pub fn unmount(directory: &Path, lazy: bool) -> Result<(), String> {
    let detach = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(directory, detach | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) if !geteuid().is_root() => fusermount(directory, lazy),
        Err(cause) => Err(format!("cannot unmount {}: {}", directory.display(), cause.desc())),
    }
}

fn fusermount(directory: &Path, lazy: bool) -> Result<(), String> {
    let mut command = Command::new(FUSERMOUNT);
    command.arg("-u").args(lazy.then_some("-z")).arg("--").arg(directory).stdin(Stdio::null());
    let done = command.output().map_err(|cause| format!("{FUSERMOUNT}: {cause}; {INSTALL}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
    }
}

/// Why a user who is not root cannot mount, in words; `cause` is what fuser says.
pub fn why_not(directory: &Path, cause: &io::Error) -> String {
    if let Err(cause) = OpenOptions::new().read(true).write(true).open(DEVICE) {
        return format!("{DEVICE}: {cause}; users other than root need it readable and writable (mode 0666)");
    }
    match cause.kind() {
        io::ErrorKind::NotFound => {
            format!("{FUSERMOUNT} is not there, which mounts for others than root; {INSTALL}")
        }
        _ => format!("cannot mount on {}: {}", directory.display(), cause.to_string().trim()),
    }
}

/// Raises the mount's read-ahead.
pub fn raise_read_ahead(directory: &Path) {
    let mounts = vexfs_host::mounts::all().unwrap_or_default();
    let Some(mount) = mounts.iter().rev().find(|mount| mount.point == directory) else { return };
    let (major, minor) = (libc::major(mount.device), libc::minor(mount.device));
    let path = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
    if let Err(cause) = fs::write(&path, READ_AHEAD_KIB.to_string()) {
        log::info!("read-ahead stays at the kernel's default: {path}: {cause}");
    }
}

fn flags(options: &Options) -> MsFlags {
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    flags.set(MsFlags::MS_NODEV, !options.devices);
    flags.set(MsFlags::MS_NOSUID, !options.setuid);
    flags.set(MsFlags::MS_NOEXEC, options.no_exec);
    flags.set(MsFlags::MS_NOATIME, options.no_access_times);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_privileges_are_off_unless_asked_for() {
        assert_eq!(flags(&Options::default()), MsFlags::MS_NODEV | MsFlags::MS_NOSUID);
        let asked = Options::parse(&["dev,suid,ro,noatime".to_owned()], false).unwrap();
        assert_eq!(flags(&asked), MsFlags::MS_RDONLY | MsFlags::MS_NOATIME);
    }
}
