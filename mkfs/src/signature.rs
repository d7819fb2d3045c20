//! Signatures of filesystems, so that none is overwritten unasked.
//!
//! Our own and the common ones are told here; `blkid` is asked too where it is installed, for it knows more.

use std::path::Path;
use std::process::Command;

use vexfs_core::device::BlockDevice;
use vexfs_core::error::Result;
use vexfs_core::format::{SUPERBLOCK_MAGIC, slot_offsets};

/// Name, byte offset, bytes.
const SIGNATURES: [(&str, u64, &[u8]); 14] = [
    ("ext2, ext3 or ext4", 0x438, &[0x53, 0xef]),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 0x1_0040, b"_BHRfS_M"),
    ("bcachefs", 0x1018, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    ("f2fs", 0x400, &[0x10, 0x20, 0xf5, 0xf2]),
    ("squashfs", 0, b"hsqs"),
    ("erofs", 0x400, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("fat", 54, b"FAT"),
    ("fat", 82, b"FAT32"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("an iso9660 filesystem", 0x8001, b"CD001"),
];

/// What lies on the device: the name of a filesystem or partition table, if any is known there.
pub fn find(device: &impl BlockDevice, path: &Path) -> Result<Option<String>> {
    if holds_vexfs(device)? {
        return Ok(Some("vexfs".into()));
    }
    if let Some(name) = blkid(path) {
        return Ok(Some(name));
    }
    for (name, offset, expected) in SIGNATURES {
        if has(device, offset, expected)? {
            return Ok(Some(name.into()));
        }
    }
    let mbr = has(device, 510, &[0x55, 0xaa])? || has(device, 512, b"EFI PART")?;
    Ok(mbr.then(|| "a partition table".into()))
}

/// True if any of the four places of a superblock has our magic.
pub fn holds_vexfs(device: &impl BlockDevice) -> Result<bool> {
    for offset in slot_offsets(device.size()) {
        if has(device, offset, &SUPERBLOCK_MAGIC)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes every signature of an earlier use unreadable: the first and the last MiB become zeros.
///
/// What is zero already is left alone, so that a sparse file stays sparse.
pub fn wipe(device: &impl BlockDevice) -> Result<()> {
    const RESERVED: u64 = 1 << 20;
    let size = device.size();
    let front = size.min(RESERVED);
    clear(device, 0, front)?;
    clear(device, size.saturating_sub(RESERVED).max(front), size)?;
    device.flush()
}

fn clear(device: &impl BlockDevice, from: u64, to: u64) -> Result<()> {
    let (mut bytes, zeros) = (vec![0; 65536], vec![0; 65536]);
    let mut at = from;
    while at < to {
        let step = (to - at).min(zeros.len() as u64) as usize;
        device.read(at, &mut bytes[..step])?;
        if bytes[..step] != zeros[..step] {
            device.write(at, &zeros[..step])?;
        }
        at += step as u64;
    }
    Ok(())
}

fn has(device: &impl BlockDevice, offset: u64, expected: &[u8]) -> Result<bool> {
    let mut bytes = [0; 16];
    let Some(bytes) = bytes.get_mut(..expected.len()) else { return Ok(false) };
    if offset.saturating_add(expected.len() as u64) > device.size() {
        return Ok(false);
    }
    device.read(offset, bytes)?;
    Ok(bytes == expected)
}

// What blkid finds by looking at the device, not at its cache; none if it is not installed.
fn blkid(path: &Path) -> Option<String> {
    let output = Command::new("blkid").args(["-p", "-o", "export", "--"]).arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = |name| text.lines().find_map(|line| line.strip_prefix(name));
    match (value("TYPE="), value("PTTYPE=")) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(table)) => Some(format!("a partition table ({table})")),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    struct Ram(RefCell<Vec<u8>>);

    impl BlockDevice for Ram {
        fn size(&self) -> u64 {
            self.0.borrow().len() as u64
        }
        fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
            buffer.copy_from_slice(&self.0.borrow()[offset as usize..][..buffer.len()]);
            Ok(())
        }
        fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
            self.0.borrow_mut()[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_signature_is_found_and_wiped() {
        for size in [100_000, (3 << 20) + 5] {
            for (name, offset, bytes) in SIGNATURES {
                let ram = Ram(RefCell::new(vec![0; size]));
                ram.write(offset, bytes).unwrap();
                assert_eq!(find(&ram, Path::new("/nowhere")).unwrap().as_deref(), Some(name));
                wipe(&ram).unwrap();
                assert_eq!(find(&ram, Path::new("/nowhere")).unwrap(), None);
            }
        }
    }

    #[test]
    fn our_own_is_found_in_any_slot() {
        for slot in 0..4 {
            let ram = Ram(RefCell::new(vec![0; (3 << 20) + 777]));
            ram.write(slot_offsets(ram.size())[slot], b"VEXFS-FS").unwrap();
            assert_eq!(find(&ram, Path::new("/nowhere")).unwrap().as_deref(), Some("vexfs"));
            wipe(&ram).unwrap();
            assert!(!holds_vexfs(&ram).unwrap());
        }
    }

    #[test]
    fn a_tiny_file_holds_nothing() {
        assert_eq!(find(&Ram(RefCell::new(vec![0; 3])), Path::new("/nowhere")).unwrap(), None);
    }
}
