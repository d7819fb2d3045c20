//! `vexfs umount`: unmounts, and waits until the image is free.
//!
//! umount(8) returns when the kernel has let go; the FUSE daemon may still be writing its last commit. Its lock
//! on the image tells when it is done.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use vexfs_host::mounts::{self, Mount};
use vexfs_host::{Access, ImageError, LockedImage};

use crate::arguments::Umount;
use crate::failure::Failure;

pub(crate) fn run(arguments: &Umount) -> Result<(), Failure> {
    let mount = find(&arguments.dir)?;
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("umount")
    } else {
        let mut command = Command::new("fusermount3");
        command.arg("-u");
        command
    };
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.arg("--").arg(&mount.point).status();
    let status = status.map_err(|error| Failure::new(format!("cannot run {program}: {error}")))?;
    if !status.success() {
        return Err(Failure::new(format!(
            "{}: {program} failed; close what is open there (fuser -vm {} shows it)",
            mount.point.display(),
            mount.point.display()
        )));
    }
    wait(&mount.source, Duration::from_secs(arguments.wait))
}

fn find(directory: &Path) -> Result<Mount, Failure> {
    // A dead daemon's mount cannot be resolved, but named.
    let path = directory.canonicalize().unwrap_or_else(|_| PathBuf::from(directory));
    let all = mounts::all().map_err(|error| Failure::io(Path::new("/proc/self/mountinfo"), &error))?;
    let found = all.into_iter().rev().find(|mount| mount.point == path && mount.is_vexfs());
    found.ok_or_else(|| Failure::new(format!("{}: no VexFS volume is mounted there", directory.display())))
}

// Waits for the lock on the image; it is given back at once.
fn wait(image: &Path, limit: Duration) -> Result<(), Failure> {
    match LockedImage::open(image, Access::Read, limit) {
        Ok(_) => Ok(()),
        Err(error @ (ImageError::InUse { .. } | ImageError::Mounted { .. })) => {
            Err(Failure::new(error.to_string()))
        }
        // An image that this user may not open is not this user's to wait for.
        Err(error) => {
            eprintln!("vexfs: unmounted, but cannot tell when all is on disk: {error}");
            Ok(())
        }
    }
}
