//! What a mount promises once its disk fails, or once it is shut down: whatever fsync said before stays, and nothing
//! more is said to be durable.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use vexfs_guest::bytes::{floats, noise};

use crate::call;
use crate::manifest::Outcome;

/// Files that are written until one fails, and the bytes of each.
const FILES: u64 = 100;
const SIZE: usize = 700_000;

/// Writes until the disk fails, which it must; leaves the number of files that were synced in `count`.
pub(crate) fn run(root: &Path, count: &Path) -> Outcome {
    let early = OpenOptions::new().read(true).write(true).create_new(true).open(root.join("early"))?;
    for index in 0..FILES {
        if let Err(error) = write(root, index) {
            println!("exercise failing: {index} files, then {error}");
            fs::write(count, index.to_string())?;
            return failed(root, &early);
        }
    }
    Err(format!("{FILES} files were written, and the disk did not fail").into())
}

/// Syncs one file, leaves another one in memory, and shuts down.
pub(crate) fn shut_down(root: &Path, count: &Path) -> Outcome {
    let early = OpenOptions::new().read(true).write(true).create_new(true).open(root.join("early"))?;
    write(root, 0)?;
    fs::write(root.join("lost"), "in memory alone")?;
    call::shut_down(&early)?;
    fs::write(count, "1")?;
    failed(root, &early)
}

/// After another mount: every file that was synced is whole.
pub(crate) fn check(root: &Path, count: &Path) -> Outcome {
    let count: u64 = fs::read_to_string(count)?.parse()?;
    for index in 0..count {
        let path = root.join(index.to_string());
        let whole = fs::read(&path)? == noise(index, SIZE);
        if !whole || call::attribute(&path, b"user.vector.synced")? != floats(index, 32) {
            return Err(format!("{} was synced and is not whole", path.display()).into());
        }
    }
    if root.join("lost").exists() {
        return Err("what was in memory alone is there after the shut-down".into());
    }
    Ok(())
}

fn write(root: &Path, index: u64) -> std::io::Result<()> {
    let path = root.join(index.to_string());
    let mut file = File::create(&path)?;
    file.write_all(&noise(index, SIZE))?;
    call::set_attribute(&path, b"user.vector.synced", &floats(index, 32))?;
    file.sync_all()
}

// Reads go on; nothing is taken any more, and no fsync succeeds.
fn failed(root: &Path, early: &File) -> Outcome {
    if early.sync_all().is_ok() && early.sync_all().is_ok() {
        return Err("fsync succeeds after the failure".into());
    }
    if early.sync_all().is_ok() {
        return Err("fsync failed once, and then succeeds".into());
    }
    let refused = fs::write(root.join("new"), "x").err().and_then(|error| error.raw_os_error());
    if refused != Some(libc::EROFS) {
        return Err(format!("a new file gives error {refused:?}, not EROFS").into());
    }
    match fs::read(root.join("0"))? == noise(0, SIZE) {
        true => Ok(()),
        false => Err("a file cannot be read any more".into()),
    }
}
