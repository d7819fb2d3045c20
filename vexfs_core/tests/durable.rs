//! What commits and the records between them write, and what a mount makes of it.

mod common;

use std::cell::RefCell;

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{FileKind, Quantizer, ROOT, slot_offsets};
use vexfs_core::operations::Sync;
use vexfs_core::{Error, MountOptions, Result, Volume};

use common::*;

/// A device that notes what is asked of it, and fails at it once told to.
struct Noted {
    ram: Ram,
    calls: RefCell<Vec<Call>>,
    fails: RefCell<Option<Call>>,
}

/// A write at a byte offset, or a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Write(u64),
    Flush,
}

impl Noted {
    fn new() -> Self {
        Self { ram: device(4096), calls: RefCell::default(), fails: RefCell::default() }
    }

    fn call(&self, call: Call) -> Result<()> {
        self.calls.borrow_mut().push(call);
        let fails = matches!(
            (*self.fails.borrow(), call),
            (Some(Call::Write(_)), Call::Write(_)) | (Some(Call::Flush), Call::Flush)
        );
        if fails { Err(Error::Device { operation: "write", offset: 0 }) } else { Ok(()) }
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.take()
    }
}

impl BlockDevice for Noted {
    fn size(&self) -> u64 {
        self.ram.size()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.ram.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.call(Call::Write(offset))?;
        self.ram.write(offset, bytes)
    }
    fn flush(&self) -> Result<()> {
        self.call(Call::Flush)
    }
}

type Host<'r> = Volume<Direct<&'r Noted>>;

fn open(noted: &Noted, read_only: bool) -> Host<'_> {
    Volume::mount(Direct(noted), MountOptions { read_only, ..MountOptions::default() }).unwrap()
}

fn new_file(volume: &mut Host<'_>, name: &str) {
    volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap();
}

fn generation(volume: &Host<'_>) -> u64 {
    volume.superblock().generation.get()
}

#[test]
fn a_commit_writes_in_order_and_only_what_changed() {
    let noted = Noted::new();
    let mut volume = open(&noted, false);
    noted.calls();
    let first = generation(&volume);
    for number in 1..5 {
        new_file(&mut volume, &format!("f{number}"));
        volume.commit(NOW).unwrap();
        assert_eq!(generation(&volume), first + 2 * number - 1);
        let calls = noted.calls();
        let slots = slot_offsets(noted.size());
        let [blocks @ .., Call::Flush, Call::Write(one), Call::Write(other), Call::Flush] = &calls[..] else {
            panic!("{calls:?}")
        };
        let offsets: Vec<u64> =
            blocks.iter().map(|call| if let Call::Write(at) = call { *at } else { 0 }).collect();
        assert!(offsets.is_sorted() && offsets[0] > slots[1] && offsets.len() < 8, "{offsets:?}");
        assert!(slots.contains(one) && slots.contains(other) && one != other);
        // A record is one write and one flush.
        new_file(&mut volume, &format!("g{number}"));
        volume.sync(NOW).unwrap();
        let calls = noted.calls();
        assert!(matches!(calls[..], [Call::Write(_), Call::Flush]), "{calls:?}");
        volume.commit(NOW).unwrap();
        noted.calls();
        // Nothing has changed since.
        volume.commit(NOW).unwrap();
        assert!(!volume.is_dirty() && volume.seal(NOW).unwrap().is_none());
        assert!(matches!(volume.sync_begin(NOW).unwrap(), Sync::Nothing));
        assert_eq!((noted.calls(), generation(&volume)), (Vec::new(), first + 2 * number));
    }
}

// What a replay may need is that of the records since the last commit.
#[test]
fn records_of_older_commits_keep_nobody_from_a_record() {
    let noted = Noted::new();
    let mut volume = open(&noted, false);
    for number in 0..1500 {
        new_file(&mut volume, &format!("f{number}"));
        volume.sync(NOW).unwrap();
        assert_eq!(volume.journal_records(), 1);
        volume.unlink(ROOT, format!("f{number}").as_bytes(), &|_| false, NOW).unwrap();
        volume.commit(NOW).unwrap();
    }
}

#[test]
fn one_commit_at_a_time_and_none_after_a_failure() {
    let noted = Noted::new();
    let mut volume = open(&noted, false);
    new_file(&mut volume, "a");
    let inode = volume.lookup(ROOT, b"a").unwrap().inode;
    volume.write(inode, 0, &[1; 40_000], NOW).unwrap();
    volume.commit(NOW).unwrap();
    volume.unlink(ROOT, b"a", &|_| false, NOW).unwrap();
    assert!(volume.freed().is_empty());
    let sealed = volume.seal(NOW).unwrap().unwrap();
    assert_eq!(sealed.generation(), generation(&volume) + 1);
    assert!(volume.is_dirty());
    assert!(volume.freed().iter().map(|run| run.count).sum::<u64>() >= 10);
    new_file(&mut volume, "b");
    assert_eq!(volume.seal(NOW).unwrap_err(), Error::Busy);
    assert_eq!(volume.sync_begin(NOW).unwrap_err(), Error::Busy);
    sealed.write(&noted).unwrap();
    volume.publish(sealed).unwrap();
    assert!(volume.freed().is_empty());
    let Sync::Record(record) = volume.sync_begin(NOW).unwrap() else { panic!("a record was expected") };
    assert_eq!(volume.seal(NOW).unwrap_err(), Error::Busy);
    assert_eq!(volume.sync_begin(NOW).unwrap_err(), Error::Busy);
    record.write(&Direct(&noted)).unwrap();
    volume.sync_end();
    assert_eq!(volume.journal_records(), 1);

    new_file(&mut volume, "c");
    *noted.fails.borrow_mut() = Some(Call::Flush);
    let durable = generation(&volume);
    assert!(matches!(volume.commit(NOW), Err(Error::Device { .. })));
    assert!(volume.is_read_only());
    *noted.fails.borrow_mut() = None;
    // Everything can still be read, and nothing says that it became durable.
    for name in ["b", "c"] {
        assert!(volume.lookup(ROOT, name.as_bytes()).is_ok());
    }
    assert_eq!(volume.commit(NOW), Err(Error::ReadOnly));
    assert_eq!(volume.sync(NOW), Err(Error::ReadOnly));
    assert_eq!(volume.create(ROOT, b"d", &new(FileKind::Regular), NOW).unwrap_err(), Error::ReadOnly);
    assert_eq!(generation(&volume), durable);
}

#[test]
fn a_record_that_failed_ends_all_changes_too() {
    for fails in [Call::Write(0), Call::Flush] {
        let noted = Noted::new();
        let mut volume = open(&noted, false);
        new_file(&mut volume, "a");
        volume.commit(NOW).unwrap();
        new_file(&mut volume, "b");
        *noted.fails.borrow_mut() = Some(fails);
        assert!(matches!(volume.sync(NOW), Err(Error::Device { .. })));
        *noted.fails.borrow_mut() = None;
        assert!(volume.is_read_only());
        assert_eq!(volume.sync(NOW), Err(Error::ReadOnly));
        assert_eq!(volume.commit(NOW), Err(Error::ReadOnly));
        assert!(volume.lookup(ROOT, b"b").is_ok());
    }
}

#[test]
fn a_mount_makes_what_it_replayed_final() {
    for records in 0..4 {
        let noted = Noted::new();
        let mut volume = open(&noted, false);
        new_file(&mut volume, "before");
        volume.commit(NOW).unwrap();
        let base = generation(&volume);
        for number in 0..records {
            new_file(&mut volume, &format!("f{number}"));
            volume.sync(NOW).unwrap();
        }
        assert_eq!((generation(&volume), volume.journal_records()), (base, records));
        let statistics = volume.statistics();
        drop(volume);
        noted.calls();

        // A read-only mount shows all, and writes nothing.
        let volume = open(&noted, true);
        assert_eq!((volume.recovered().records, volume.recovered().base), (records, base));
        assert!((0..records).all(|number| volume.lookup(ROOT, format!("f{number}").as_bytes()).is_ok()));
        assert_eq!(volume.statistics().inodes, statistics.inodes);
        assert!(!volume.is_dirty());
        drop(volume);
        assert_eq!(noted.calls(), []);

        let volume = open(&noted, false);
        assert_eq!((volume.recovered().records, volume.journal_records()), (records, 0));
        assert_eq!(generation(&volume), base + u64::from(records > 0));
        assert_eq!(noted.calls().is_empty(), records == 0);
        assert!(!volume.is_dirty());
        drop(volume);
        let mut volume = open(&noted, false);
        assert_eq!(volume.recovered().records, 0);
        assert_eq!(noted.calls(), []);
        // Numbers that were given are not given again.
        let known = volume.lookup(ROOT, b"before").unwrap().inode.0 + records;
        new_file(&mut volume, "after");
        assert_eq!(volume.lookup(ROOT, b"after").unwrap().inode.0, known + 1);
        drop(volume);
        clean(&noted.ram);
    }
}

// A replay takes records out one by one, and copies nodes for that which were dropped as they were: with less room than that may
// take a record will not do.
#[test]
fn what_was_removed_in_steps_is_replayed_on_a_volume_with_little_room() {
    for room in [20, 40, 60, 80, 120, 200] {
        let ram = device(4096);
        let mut volume = mount(&ram);
        let inode = file(&mut volume, "vector");
        set(&mut volume, inode, "user.vector.c", &[0x3c; 384 * 4]).unwrap();
        let id = volume.collection_by_name(b"c").unwrap().id;
        let quantizer = Quantizer::cutting(384, 48, 8).unwrap();
        volume.recode_with(id, quantizer, &vec![0x3d; quantizer.codebook_len()], NOW).unwrap();
        volume.stop_recode(id, NOW).unwrap();
        volume.commit(NOW).unwrap();
        assert!(volume.statistics().tree_blocks > 100, "the codebook");
        let full = file(&mut volume, "full");
        let mut size = 0;
        for len in [64 << 10, 4 << 10] {
            while volume.statistics().free > room + 16
                && volume.write(full, size, &vec![1; len as usize], NOW).is_ok()
            {
                size += len;
                volume.commit(NOW).unwrap();
            }
        }
        let nodes = volume.statistics().tree_blocks;
        while !matches!(volume.tidy(NOW), Ok(false) | Err(Error::NoSpace { .. })) {}
        assert!(volume.statistics().tree_blocks < nodes / 2);
        volume.sync(NOW).unwrap();
        let records = volume.journal_records();
        drop(volume);
        assert_eq!(clean(&ram), 0, "room for {room} blocks, {records} records");
    }
}
