//! A device in memory, and what tests on it begin and end with.

#![allow(dead_code, reason = "each test program uses a part")]

use std::cell::RefCell;

use vexfs_core::check::{CheckOptions, check};
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::make::{MakeOptions, make};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Caller, NewInode, SetMode};
use vexfs_core::{MountOptions, Result, Volume};

pub(crate) struct Ram(pub RefCell<Vec<u8>>);

impl BlockDevice for Ram {
    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.0.borrow()[start..start + buffer.len()]);
        Ok(())
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let start = offset as usize;
        self.0.borrow_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

pub(crate) type Mounted<'r> = Volume<Direct<&'r Ram>>;

pub(crate) const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 5 };
pub(crate) const BLOCK_SIZES: [u32; 3] = [4096, 8192, 16384];

pub(crate) fn device(block_size: u32) -> Ram {
    let ram = Ram(RefCell::new(vec![0x5a; 16 << 20]));
    let options = MakeOptions {
        block_size,
        size: 16 << 20,
        uuid: [7; 16],
        label: b"volume",
        hash_seed: [9; 16],
        uid: 0,
        gid: 0,
        now: NOW,
        journal_blocks: None,
    };
    make(&ram, &options).unwrap();
    ram
}

pub(crate) fn mount(ram: &Ram) -> Volume<Direct<&Ram>> {
    Volume::mount(Direct(ram), MountOptions::default()).unwrap()
}

// As a daemon mounts it: with the pseudo-files that it alone serves.
pub(crate) fn mount_as_daemon(ram: &Ram) -> Volume<Direct<&Ram>> {
    Volume::mount(Direct(ram), MountOptions { daemon: true, ..MountOptions::default() }).unwrap()
}

pub(crate) fn new(kind: FileKind) -> NewInode {
    NewInode { kind, permissions: 0o644, umask: 0, uid: 1, gid: 2, device: 0 }
}

pub(crate) fn root() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

pub(crate) fn contents(volume: &Volume<Direct<&Ram>>, inode: Ino) -> Vec<u8> {
    let mut bytes = vec![0xee; volume.attributes(inode).unwrap().size as usize + 10];
    let len = volume.read(inode, 0, &mut bytes).unwrap();
    bytes.truncate(len);
    bytes
}

pub(crate) fn work(volume: &mut Volume<Direct<&Ram>>) {
    volume.commit(NOW).unwrap();
    while volume.tidy(NOW).unwrap() {}
    volume.commit(NOW).unwrap();
    while volume.tidy(NOW).unwrap() {}
    volume.commit(NOW).unwrap();
    volume.commit(NOW).unwrap();
}

// No error is found; gives how many inodes wait to be freed.
pub(crate) fn clean(ram: &Ram) -> u64 {
    let report = check(Direct(ram), CheckOptions::default(), &mut |_| {}, &mut |_, _| {}).unwrap();
    assert_eq!(report.errors, 0);
    report.orphans
}

pub(crate) fn settle(volume: &mut Volume<Direct<&Ram>>) {
    work(volume);
    let options = CheckOptions { vectors: true, ..CheckOptions::default() };
    let device = volume.host();
    let report = check(device.clone(), options, &mut |finding| panic!("{finding}"), &mut |_, _| {}).unwrap();
    assert_eq!(report.errors, 0);
}

/// A file of the root.
pub(crate) fn file(volume: &mut Mounted<'_>, name: &str) -> Ino {
    volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode
}

/// Sets an attribute as root.
pub(crate) fn set(volume: &mut Mounted<'_>, inode: Ino, name: &str, value: &[u8]) -> Result<()> {
    volume.set_attribute(inode, name.as_bytes(), value, SetMode::Any, &root(), NOW)
}

/// A vector of 64 bytes.
pub(crate) fn vector(seed: u8) -> Vec<u8> {
    (0..64).map(|at| seed.wrapping_mul(29) ^ at).collect()
}
