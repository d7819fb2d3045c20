//! mount(2), remount and unmounting, without fusermount where the caller is root.
//!
//! The mount shows as type `fuse.vexfs` with the image's path as its source, so that tools find the one by the
//! other, and umount(8) calls `umount.vexfs`.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};

use crate::options::Options;

const KIND: &str = "fuse.vexfs";
/// Read-ahead in KiB; the handshake caps it at 128.
const READ_AHEAD_KIB: u32 = 1024;

/// Mounts `image` on `directory` and gives the descriptor that requests are read from.
///
/// # Errors
/// A sentence that says what is missing.
pub fn mount_fuse(image: &Path, directory: &Path, options: &Options) -> Result<OwnedFd, String> {
    let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
    let fuse =
        fuse.map_err(|cause| format!("/dev/fuse: {cause}; is the fuse module loaded (modprobe fuse)?"))?;
    let point = fs::metadata(directory).map_err(|cause| format!("{}: {cause}", directory.display()))?;
    let mut data = format!(
        "fd={},rootmode={:o},user_id={},group_id={},default_permissions,max_read=1048576",
        fuse.as_raw_fd(),
        point.mode() & libc::S_IFMT,
        geteuid(),
        getegid()
    );
    if options.allow_other {
        data.push_str(",allow_other");
    }
    match mount(Some(image), directory, Some(KIND), flags(options), Some(data.as_str())) {
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

/// Unmounts; a mount in use vanishes from sight now and ends with its last user.
pub fn unmount(directory: &Path) {
    if umount2(directory, MntFlags::UMOUNT_NOFOLLOW).is_err() {
        let _ = umount2(directory, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
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
