//! No byte of a removed vector stays on the device once its removal is durable and the work behind it is done; before
//! that, all of it stays, since a crash leads back to it.

mod common;

use std::cell::RefCell;

use vexfs_core::Result;
use vexfs_core::check::{CheckOptions, check};
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{COLLECTIONS, Codec, ROOT};
use vexfs_core::numbers::{CollectionId, Ino};

use common::*;

const NAME: &str = "user.vector.c:i8";

// How often these bytes lie on the device, wherever.
fn copies(ram: &Ram, bytes: &[u8]) -> usize {
    let device = ram.0.borrow();
    let (mut count, mut rest) = (0, &device[..]);
    while let Some(at) = rest.iter().position(|byte| *byte == bytes[0]) {
        count += usize::from(rest[at..].starts_with(bytes));
        rest = &rest[at + 1..];
    }
    count
}

// A collection of so many vectors, each set and made durable by a record of the journal that carries it.
fn filled(volume: &mut Mounted<'_>, count: u8) -> (CollectionId, Vec<Ino>) {
    let files: Vec<Ino> = (0..count).map(|seed| file(volume, &format!("f{seed}"))).collect();
    volume.commit(NOW).unwrap();
    for (inode, seed) in files.iter().zip(0..) {
        set(volume, *inode, NAME, &vector(seed)).unwrap();
        volume.sync(NOW).unwrap();
    }
    (volume.collection_by_name(b"c").unwrap().id, files)
}

fn remove(volume: &mut Mounted<'_>, inode: Ino) {
    volume.remove_attribute(inode, NAME.as_bytes(), &root(), NOW).unwrap();
}

// Files of which the fourth lost its vector 3 durably; behind that a record of the journal sets the sixth's to 50.
fn removed_and_synced(volume: &mut Mounted<'_>) -> Vec<Ino> {
    let (_, files) = filled(volume, 8);
    remove(volume, files[3]);
    volume.commit(NOW).unwrap();
    set(volume, files[5], NAME, &vector(50)).unwrap();
    volume.sync(NOW).unwrap();
    files
}

#[test]
fn the_journal_carries_no_vector_that_is_gone() {
    for block_size in BLOCK_SIZES {
        for crash in [false, true] {
            let ram = device(block_size);
            let mut volume = mount(&ram);
            let (_, files) = filled(&mut volume, 8);
            assert_eq!(copies(&ram, &vector(3)), 2, "in its row, and in the record");
            volume.commit(NOW).unwrap();
            remove(&mut volume, files[3]);
            volume.sync(NOW).unwrap();
            while volume.tidy(NOW).unwrap() {}
            assert_eq!(
                copies(&ram, &vector(3)),
                2,
                "its removal is durable by a record, which builds on a state that has it"
            );
            volume.commit(NOW).unwrap();
            if crash {
                // Whoever mounts it next finds the row waiting, and does what is left.
                drop(volume);
                volume = mount(&ram);
            }
            while volume.tidy(NOW).unwrap() {}
            assert_eq!(copies(&ram, &vector(3)), 0);
            assert!(copies(&ram, &vector(4)) >= 1, "others are as they were");
            settle(&mut volume);
        }
    }
}

#[test]
fn records_since_the_commit_stay_as_they_are() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let files = removed_and_synced(&mut volume);
    while volume.tidy(NOW).unwrap() {}
    assert_eq!(copies(&ram, &vector(3)), 0);
    // The power goes: the record is replayed.
    drop(volume);
    let mut volume = mount(&ram);
    assert_eq!(volume.recovered().records, 1);
    assert_eq!(volume.attribute(files[5], NAME.as_bytes()).unwrap(), vector(50));
    settle(&mut volume);
    assert_eq!(copies(&ram, &vector(5)), 0, "it was replaced");
}

#[test]
fn copies_that_compaction_did_not_use_are_blanked() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 40);
    for inode in &files[2..20] {
        remove(&mut volume, *inode);
    }
    work(&mut volume);
    volume.compact(id).unwrap();
    assert_eq!(volume.compact_step(id, NOW).unwrap(), (true, true));
    assert_eq!(copies(&ram, &vector(39)), 2, "copied, and not moved yet");
    // Its vector goes, so it is not moved; nor is what would have come behind it.
    remove(&mut volume, files[39]);
    work(&mut volume);
    assert_eq!(copies(&ram, &vector(39)), 0);
    assert!(!volume.is_compacting(id));
    for (seed, inode) in (0..).zip(&files) {
        let there = !(2..20).contains(&seed) && seed != 39;
        assert_eq!(volume.attribute(*inode, NAME.as_bytes()).ok(), there.then(|| vector(seed)));
        assert_eq!(copies(&ram, &vector(seed)), usize::from(there), "vector {seed}");
    }
    settle(&mut volume);
}

#[test]
fn a_collection_that_goes_takes_its_bytes_along() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let (_, files) = filled(&mut volume, 40);
        work(&mut volume);
        for inode in &files {
            remove(&mut volume, *inode);
        }
        volume.remove_directory(COLLECTIONS, b"c", &|_| false, NOW).unwrap();
        while volume.tidy(NOW).unwrap() {}
        for seed in 0..40 {
            assert!(copies(&ram, &vector(seed)) >= 1, "a crash leads back to vector {seed}");
        }
        volume.commit(NOW).unwrap();
        // A crash between two steps of it.
        assert!(volume.tidy(NOW).unwrap());
        drop(volume);
        let mut volume = mount(&ram);
        work(&mut volume);
        settle(&mut volume);
        for seed in 0..40 {
            assert_eq!(copies(&ram, &vector(seed)), 0, "vector {seed}");
        }
    }
}

#[test]
fn the_matrix_before_a_recode_is_overwritten() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inodes: Vec<Ino> = (0..40).map(|seed| file(&mut volume, &format!("f{seed}"))).collect();
    let floats = |seed: u8| -> Vec<u8> {
        (0..64).flat_map(|at| (f32::from(seed) + at as f32 / 64.0).to_le_bytes()).collect()
    };
    for (inode, seed) in inodes.iter().zip(0..) {
        set(&mut volume, *inode, "user.vector.c", &floats(seed)).unwrap();
    }
    let id = volume.collection_by_name(b"c").unwrap().id;
    volume.commit(NOW).unwrap();
    volume.recode(id, Codec::Sq8, NOW).unwrap();
    while volume.recode_step(id, NOW).unwrap().1 {}
    let old = volume.retired()[0];
    assert!(volume.free_retired(old, NOW).unwrap(), "nothing to do before a commit");
    assert_eq!((volume.retired(), copies(&ram, &floats(7))), (&[old][..], 1));
    volume.commit(NOW).unwrap();
    while !volume.free_retired(old, NOW).unwrap() {}
    assert_eq!((volume.retired(), copies(&ram, &floats(7))), (&[][..], 0));
    assert!(volume.lookup(ROOT, b"f7").is_ok());
    settle(&mut volume);
}

/// A device that remembers what was written, in order.
struct Recorder {
    ram: Ram,
    writes: RefCell<Vec<(u64, Vec<u8>)>>,
}

impl BlockDevice for Recorder {
    fn size(&self) -> u64 {
        self.ram.size()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.ram.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.writes.borrow_mut().push((offset, bytes.to_vec()));
        self.ram.write(offset, bytes)
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_repair_that_is_cut_off_keeps_what_the_journal_tells() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let files = removed_and_synced(&mut volume);
    drop(volume);
    // A row waits to be blanked, and the journal has a record that counts.
    let before = ram.0.borrow().clone();
    let recorder = Recorder { ram, writes: RefCell::default() };
    let options = CheckOptions { repair: true, now: NOW, ..CheckOptions::default() };
    check(Direct(&recorder), options, &mut |_| {}, &mut |_, _| {}).unwrap();
    assert_eq!(copies(&recorder.ram, &vector(3)), 0);
    let writes = recorder.writes.into_inner();
    assert!(writes.len() > 10);
    let cut = Ram(RefCell::new(before));
    for (offset, bytes) in &writes {
        let after_crash = Ram(RefCell::new(cut.0.borrow().clone()));
        let volume = mount(&after_crash);
        assert_eq!(volume.attribute(files[5], NAME.as_bytes()).unwrap(), vector(50));
        cut.write(*offset, bytes).unwrap();
    }
}
