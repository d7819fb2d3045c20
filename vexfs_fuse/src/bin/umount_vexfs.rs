//! `umount.vexfs DIR`: unmounts, and waits until the daemon has written everything and let go of the image.
//!
//! umount(8) calls it for mounts of type `fuse.vexfs` that were made by mount(8); by hand it does the same.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use vexfs_fuse::mounting;
use vexfs_host::{Access, LockedImage, mounts};

/// How long the daemon may take for its last commit.
const WAIT: Duration = Duration::from_secs(120);

/// Unmounts a VexFS volume and waits until all is on disk.
#[derive(Debug, Parser)]
#[command(name = "umount.vexfs", version)]
struct Arguments {
    /// Where it is mounted.
    target: PathBuf,
    /// Unmount even if it is in use; it vanishes with its last user.
    #[arg(short = 'l')]
    lazy: bool,
    /// Accepted for umount(8).
    #[arg(short = 'n')]
    no_mtab: bool,
    /// Accepted for umount(8).
    #[arg(short = 'v')]
    verbose: bool,
    /// Accepted for umount(8).
    #[arg(short = 'f')]
    force: bool,
    /// Accepted for umount(8).
    #[arg(short = 'r')]
    read_only: bool,
    /// Accepted for umount(8).
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match unmount(&arguments.target, arguments.lazy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("umount.vexfs: {message}");
            ExitCode::from(32)
        }
    }
}

fn unmount(target: &Path, lazy: bool) -> Result<(), String> {
    let place = target.canonicalize().map_err(|error| format!("{}: {error}", target.display()))?;
    let all = mounts::all().map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let mount = all.iter().rev().find(|mount| mount.point == place && mount.is_vexfs());
    let mount = mount.ok_or_else(|| format!("{}: no VexFS is mounted there", target.display()))?;
    let failure = if lazy { None } else { failure(&place) };
    mounting::unmount(&place, lazy)?;
    if let Some(failure) = failure {
        eprintln!(
            "umount.vexfs: {}: what was not durable before a failure is lost: {failure}",
            target.display()
        );
    }
    if lazy {
        return Ok(());
    }
    // The daemon holds the lock until its last commit is on disk.
    LockedImage::open(&mount.source, Access::Read, WAIT).map(drop).map_err(|error| {
        let place = place.display();
        format!(
            "{error}; it is unmounted here, but another mount namespace, such as a container's, may still have it \
             (`grep -l {place} /proc/[0-9]*/mountinfo` shows whose)"
        )
    })
}

// Why the mount could make nothing durable any more, as it tells itself.
fn failure(place: &Path) -> Option<String> {
    let status = std::fs::read_to_string(place.join(".vexfs/status.json")).ok()?;
    let (_, rest) = status.split_once("\"failure\":\"")?;
    rest.split('"').next().map(str::to_owned)
}
