//! Claiming an image for a tool: locked at once, or soon after an unmount.

use std::path::Path;
use std::time::Duration;

use vexfs_host::{Access, ImageError, LockedImage, mounts};

/// How long a daemon may take to put its last commit on disk after it was unmounted.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// Opens and locks the image.
///
/// A plain umount(8) may return before the daemon has written everything: if the image is locked but no longer
/// mounted, this waits for the daemon.
pub fn claim(path: &Path, access: Access) -> Result<LockedImage, ImageError> {
    match LockedImage::open(path, access, Duration::ZERO) {
        Err(error @ ImageError::InUse { .. }) if is_mounted(path) => Err(error),
        Err(ImageError::InUse { .. }) => {
            log::warn!("{}: waiting for the program that has it open to finish", path.display());
            LockedImage::open(path, access, LAST_COMMIT)
        }
        other => other,
    }
}

// True if a VexFS mount names this image as its source; also where that cannot be told.
fn is_mounted(path: &Path) -> bool {
    let (Ok(path), Ok(mounts)) = (path.canonicalize(), mounts::all()) else { return true };
    mounts
        .iter()
        .any(|mount| mount.is_vexfs() && mount.source.canonicalize().is_ok_and(|source| source == path))
}
