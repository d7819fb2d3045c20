//! The mounts of this machine, from `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use vexfs_core::format::{SUPERBLOCK_MAGIC, slot_offsets};

use crate::image::{Access, Image};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device number as `st_dev` shows it of files on the mount.
    pub device: u64,
    /// Where it is mounted.
    pub point: PathBuf,
    /// Filesystem type: `ext4`, `vexfs`, `fuse.vexfs`, `fuseblk.vexfs` ...
    pub kind: OsString,
    /// What is mounted: a device, an image, or any word.
    pub source: PathBuf,
}

impl Mount {
    /// True for a mount of VexFS, by either host.
    ///
    /// A FUSE mount may have lost its subtype on the way; then the image that is its source tells. The mount
    /// itself is not touched: its daemon may be dead.
    pub fn is_vexfs(&self) -> bool {
        let named = ["vexfs", "fuse.vexfs", "fuseblk.vexfs"].iter().any(|kind| self.kind == *kind);
        named || self.kind == "fuse" && self.source.is_absolute() && holds_superblock(&self.source)
    }
}

/// All mounts that this process sees, in the order they were made.
pub fn all() -> io::Result<Vec<Mount>> {
    Ok(parse(&fs::read("/proc/self/mountinfo")?))
}

/// The topmost mount with this device number that holds `path`, which must be absolute and without links.
pub fn of_path(path: &Path, device: u64) -> io::Result<Option<Mount>> {
    let holds = |mount: &Mount| mount.device == device && path.starts_with(&mount.point);
    let found = all()?.into_iter().filter(holds);
    Ok(found.max_by_key(|mount| mount.point.components().count()))
}

// True if slot 0 or 1 of the image begins as a superblock.
fn holds_superblock(image: &Path) -> bool {
    let Ok(image) = Image::open(image, Access::Read) else { return false };
    let slots = slot_offsets(image.len());
    slots.iter().take(2).any(|offset| {
        let mut magic = [0; SUPERBLOCK_MAGIC.len()];
        image.file().read_exact_at(&mut magic, *offset).is_ok() && magic == SUPERBLOCK_MAGIC
    })
}

/// Parses mountinfo as proc(5) describes it; lines that it does not describe are left out.
fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().position(|field| *field == b"-")?;
    let (major, minor) = std::str::from_utf8(fields.get(2)?).ok()?.split_once(':')?;
    Some(Mount {
        device: nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?),
        point: unescape(fields.get(4)?).into(),
        kind: unescape(fields.get(dash + 1)?),
        source: unescape(fields.get(dash + 2)?).into(),
    })
}

/// Undoes mountinfo's `\040`-style escapes.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let value = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = value.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_optional_fields_and_escapes() {
        let text = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:3 - ext3 /dev/root rw\n\
                     37 35 0:52 / /v rw - fuse.vexfs /tmp/a\\134b.img rw,user_id=0\nnonsense\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].point, Path::new("/mnt 2"));
        assert_eq!(mounts[0].kind, "ext3");
        assert_eq!(mounts[0].device, nix::sys::stat::makedev(98, 0));
        assert_eq!(mounts[1].source, Path::new("/tmp/a\\b.img"));
        assert!(mounts[1].is_vexfs() && !mounts[0].is_vexfs());
    }

    #[test]
    fn a_file_is_found_on_its_mount() {
        use std::os::unix::fs::MetadataExt;
        let device = fs::metadata("/proc/self/mountinfo").unwrap().dev();
        let mount = of_path(Path::new("/proc/version"), device).unwrap().unwrap();
        assert_eq!(mount.point, Path::new("/proc"));
        assert_eq!(of_path(Path::new("/proc/version"), u64::MAX).unwrap(), None);
    }
}
