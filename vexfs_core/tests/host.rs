//! What hosts call besides reading and writing: extents, rows, times, settings, syncs, failures, and rights by access list.

mod common;

use std::cell::{Cell, RefCell};

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::error::Corrupt;
use vexfs_core::format::{ACL_ACCESS, COLLECTIONS, FileKind, ROOT, acl_tag, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::operations::{
    Allocate, Caller, Changes, ExtentKind, FileExtent, NewVector, Resolver, SetMode, Sync,
};
use vexfs_core::{Error, MountOptions, Result, Volume};

use common::*;

/// A collection `c` of bytes with a file for each of `count` vectors.
fn filled(volume: &mut Mounted<'_>, count: u8) -> (CollectionId, Vec<Ino>) {
    let files: Vec<Ino> = (0..count).map(|number| file(volume, &format!("file {number}"))).collect();
    for (inode, seed) in files.iter().zip(0..) {
        set(volume, *inode, "user.vector.c:i8", &vector(seed)).unwrap();
    }
    (volume.collection_by_name(b"c").unwrap().id, files)
}

#[test]
fn extents_tell_where_each_byte_lies() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let block = u64::from(block_size);
        let inode = file(&mut volume, "file");
        volume.write(inode, 0, &[7; 100], NOW).unwrap();
        let at = |volume: &Mounted<'_>, offset| volume.extent_at(inode, offset).unwrap();
        assert_eq!(at(&volume, 99), FileExtent { offset: 0, len: 100, what: ExtentKind::Inline });
        assert_eq!(at(&volume, 100), FileExtent { offset: 100, len: u64::MAX - 100, what: ExtentKind::Hole });
        volume.write(inode, 2 * block, &vec![9; block as usize], NOW).unwrap();
        let reserve = Allocate::Reserve { keep_size: true };
        volume.allocate(inode, reserve, 5 * block, 2 * block, NOW).unwrap();
        volume.commit(NOW).unwrap();
        // The bytes of the extents are the file's, on the device itself.
        for (number, byte) in [(0, 7), (2, 9)] {
            let found = at(&volume, number * block + 10);
            let ExtentKind::Data(place) = found.what else { panic!("{found:?}") };
            assert_eq!((found.offset, ram.0.borrow()[place as usize + 10]), (number * block, byte));
        }
        let hole = at(&volume, block + 1);
        assert_eq!(hole, FileExtent { offset: block, len: block, what: ExtentKind::Hole });
        let reserved = at(&volume, 5 * block);
        assert_eq!((reserved.offset, reserved.len), (5 * block, 2 * block));
        assert!(matches!(reserved.what, ExtentKind::Unwritten(_)));
        let last = at(&volume, 7 * block);
        assert_eq!((last.what, last.len), (ExtentKind::Hole, u64::MAX - 7 * block));
        assert!(matches!(volume.extent_at(ROOT, 0), Err(Error::Invalid(_))));
        settle(&mut volume);
    }
}

#[test]
fn rows_are_found_by_number_and_id() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 5);
    set(&mut volume, files[2], "user.vector.c:i8.meta", b"{\"page\":3}").unwrap();
    volume.remove_attribute(files[4], b"user.vector.c:i8", &root(), NOW).unwrap();
    for (inode, seed) in files[..4].iter().zip(0..) {
        let found = volume.first_vector(*inode, CollectionId(0)).unwrap().unwrap();
        assert_eq!((found.collection, found.n), (id, 0));
        assert_eq!(volume.row_of_id(id, found.vector_id), Ok(Some(found.row)));
        assert_eq!(volume.vector(id, found.row), Ok(vector(seed)));
        assert_eq!(volume.is_deleted(id, found.row), Ok(false));
        let about = (seed == 2).then(|| b"{\"page\":3}".to_vec());
        assert_eq!(volume.metadata_of(id, found.row), Ok(about));
        assert_eq!(volume.first_vector(*inode, CollectionId(id.0 + 1)), Ok(None));
    }
    assert_eq!(volume.first_vector(files[4], CollectionId(0)), Ok(None));
    assert_eq!((volume.is_deleted(id, 4), volume.vector(id, 4)), (Ok(true), Err(Error::NotFound)));
    assert_eq!(volume.row_of_id(id, u64::MAX), Ok(None));
    assert!(volume.row(CollectionId(77), 0).unwrap().is_none());
    // A byte of a row that rots is told, and which row it is.
    let found = volume.first_vector(files[1], id).unwrap().unwrap();
    volume.commit(NOW).unwrap();
    let place = (0..ram.0.borrow().len() - 64).find(|at| ram.0.borrow()[*at..at + 64] == vector(1)).unwrap();
    ram.0.borrow_mut()[place] ^= 1;
    let damaged = mount(&ram).vector(id, found.row).unwrap_err();
    let collection = collection_directory(id);
    assert!(matches!(damaged, Error::VectorChecksum { row, .. } if row == found.row), "{damaged:?}");
    assert!(
        damaged.to_string().contains(&format!("row {} of the collection with inode {collection}", found.row))
    );
}

#[test]
fn times_that_a_host_held_back_stay_as_they_were_set() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inode = file(&mut volume, "file");
    let time = |seconds| Time { seconds, nanoseconds: 7 };
    volume.set_times(inode, time(10), time(20), time(30), NOW).unwrap();
    volume.commit(NOW).unwrap();
    let volume_again = mount(&ram);
    let shown = volume_again.attributes(inode).unwrap();
    assert_eq!((shown.accessed, shown.modified, shown.changed), (time(10), time(20), time(30)));
    // The same again changes nothing, of now neither.
    volume.set_times(inode, time(10), time(20), time(30), NOW).unwrap();
    assert_eq!(volume.attributes(inode).unwrap(), shown);
    assert!(matches!(volume.set_times(COLLECTIONS, NOW, NOW, NOW, NOW), Err(Error::NotPermitted(_))));
    // relatime: an access is marked when the last one is older than a change, or than a day.
    assert!(volume.wants_touch(&shown, time(31)));
    volume.set_times(inode, time(40), time(20), time(30), NOW).unwrap();
    let shown = volume.attributes(inode).unwrap();
    let day = 24 * 3600;
    assert!(!volume.wants_touch(&shown, time(41)) && !volume.wants_touch(&shown, time(39 + day)));
    assert!(volume.wants_touch(&shown, time(40 + day)));
    volume.set_read_only();
    assert!(!volume.wants_touch(&shown, time(40 + day)));
}

#[test]
fn settings_are_read_and_changed_while_a_collection_is_empty() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let directory = volume.create(COLLECTIONS, b"c", &new(FileKind::Directory), NOW).unwrap().inode;
    let values = [
        ("dim", "64", "0"),
        ("element", "i8", "f32"),
        ("metric", "l2", "cosine"),
        ("model", "a model", ""),
        ("inherit", "0", "1"),
        ("history", "3", "0"),
    ];
    let read = |volume: &Mounted<'_>, name: &str| {
        String::from_utf8(volume.attribute(directory, format!("user.vexfs.{name}").as_bytes()).unwrap())
            .unwrap()
    };
    for (name, value, before) in values {
        assert_eq!(read(&volume, name), before, "{name}");
        set(&mut volume, directory, &format!("user.vexfs.{name}"), value.as_bytes()).unwrap();
        assert_eq!(read(&volume, name), value, "{name}");
        let listed = volume.list_attributes(directory).unwrap();
        let whole = format!("user.vexfs.{name}");
        assert!(
            listed.split(|byte| *byte == 0).any(|found| found == whole.as_bytes()),
            "{name} is not listed"
        );
    }
    for (name, bad) in [
        ("dim", "many"),
        ("element", "f64"),
        ("metric", "manhattan"),
        ("inherit", "yes"),
        ("history", "65"),
        ("codec", "zip"),
        ("colour", "blue"),
    ] {
        let refused = set(&mut volume, directory, &format!("user.vexfs.{name}"), bad.as_bytes());
        assert!(matches!(refused, Err(Error::Invalid(_))), "{name}: {refused:?}");
    }
    let long = set(&mut volume, directory, "user.vexfs.model", &[b'm'; 256]);
    assert!(matches!(long, Err(Error::Invalid(_))));
    assert_eq!(volume.attribute(directory, b"user.vexfs.colour"), Err(Error::NoAttribute));
    let inode = file(&mut volume, "file");
    assert!(matches!(set(&mut volume, inode, "user.vexfs.dim", b"3"), Err(Error::NotPermitted(_))));
    set(&mut volume, inode, "user.vector.c", &vector(1)).unwrap();
    // What does not touch rows can still be changed, all else not.
    for (name, value, fixed) in
        [("dim", "32", true), ("codec", "sq8", true), ("history", "1", false), ("inherit", "1", false)]
    {
        let result = set(&mut volume, directory, &format!("user.vexfs.{name}"), value.as_bytes());
        assert_eq!(matches!(result, Err(Error::NotPermitted(_))), fixed, "{name}: {result:?}");
    }
    settle(&mut volume);
}

#[test]
fn metadata_of_the_wrong_form_says_what_is_wrong() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (_, files) = filled(&mut volume, 1);
    let name = "user.vector.c:i8.meta";
    for bad in
        ["", "[]", "{", "{\"a\":}", "{\"a\":1,}", "\"text\"", "{\"a\":1}{", "{\"a\":tru}", "{\"a\":\"\\q\"}"]
    {
        assert!(set(&mut volume, files[0], name, bad.as_bytes()).is_err(), "{bad}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(4096));
    let refused = set(&mut volume, files[0], name, long.as_bytes()).unwrap_err();
    assert_eq!((refused, refused.errno()), (Error::MetadataTooBig, 7));
    assert_eq!(volume.attribute(files[0], name.as_bytes()), Err(Error::NoAttribute));
    let nested = "{\"a\":[1,2.5e3,{\"b\":null}],\"c\":\"\\u00e9\\n\",\"d\":false}";
    set(&mut volume, files[0], name, nested.as_bytes()).unwrap();
    assert_eq!(volume.attribute(files[0], name.as_bytes()).unwrap(), nested.as_bytes());
    settle(&mut volume);
}

/// A disk that fails a write or flush when it is told to.
struct Failing {
    disk: Ram,
    fails: Cell<bool>,
}

impl Failing {
    fn result(&self, operation: &'static str, offset: u64) -> Result<()> {
        if self.fails.get() { Err(Error::Device { operation, offset }) } else { Ok(()) }
    }
}

impl BlockDevice for Failing {
    fn size(&self) -> u64 {
        self.disk.size()
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk.read(offset, buffer)
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.result("write", offset)?;
        self.disk.write(offset, bytes)
    }
    fn flush(&self) -> Result<()> {
        self.result("flush", 0)
    }
}

#[test]
fn a_sync_that_fails_turns_the_volume_read_only_and_keeps_what_was_durable() {
    for by_commit in [false, true] {
        let failing = Failing { disk: device(4096), fails: Cell::new(false) };
        let mut volume = Volume::mount(Direct(&failing), MountOptions::default()).unwrap();
        let inode = volume.create(ROOT, b"file", &new(FileKind::Regular), NOW).unwrap().inode;
        volume.write(inode, 0, b"durable", NOW).unwrap();
        volume.sync(NOW).unwrap();
        assert!(matches!(volume.sync_begin(NOW), Ok(Sync::Nothing)));
        volume.write(inode, 0, b"changed", NOW).unwrap();
        failing.fails.set(true);
        let failed = if by_commit { volume.commit(NOW) } else { volume.sync(NOW) };
        assert!(matches!(failed, Err(Error::Device { .. })), "{failed:?}");
        assert!(volume.is_read_only());
        failing.fails.set(false);
        // Whoever asks again is not told that all is well, and reads what is in memory.
        let again = if by_commit { volume.commit(NOW) } else { volume.sync(NOW) };
        assert_eq!(again, Err(Error::ReadOnly));
        assert_eq!(volume.write(inode, 0, b"x", NOW), Err(Error::ReadOnly));
        assert_eq!(volume.compact(CollectionId(0)), Err(Error::ReadOnly));
        let mut bytes = [0; 7];
        volume.read(inode, 0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"changed");
        let volume = mount(&failing.disk);
        volume.read(inode, 0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"durable");
        clean(&failing.disk);
    }
}

#[test]
fn what_a_commit_freed_may_be_discarded_before_it_is_used_again() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inode = file(&mut volume, "large");
    volume.write(inode, 0, &[0xab; 40 * 4096], NOW).unwrap();
    volume.commit(NOW).unwrap();
    let ExtentKind::Data(first) = volume.extent_at(inode, 0).unwrap().what else { panic!("no data") };
    volume.set_attributes(inode, &Changes { size: Some(0), ..Changes::default() }, NOW).unwrap();
    while volume.tidy(NOW).unwrap() {}
    let sealed = volume.seal(NOW).unwrap().unwrap();
    sealed.write(volume.host()).unwrap();
    let freed = volume.freed();
    assert!(freed.iter().any(|run| (run.start.0..run.end()).contains(&(first / 4096))), "{freed:?}");
    // A disk may forget them now.
    for run in freed {
        ram.0.borrow_mut()[(run.start.0 * 4096) as usize..(run.end() * 4096) as usize].fill(0xdd);
    }
    assert!(volume.is_dirty());
    volume.publish(sealed).unwrap();
    clean(&ram);
    settle(&mut volume);
}

#[test]
fn a_volume_of_another_kind_or_size_says_what_it_is() {
    let mounted = |ram: &Ram| Volume::mount(Direct(ram), MountOptions::default()).map(drop).unwrap_err();
    let empty = Ram(RefCell::new(vec![0; 16 << 20]));
    assert_eq!(mounted(&empty), Error::NotVexfs);
    let whole = device(4096);
    let short = Ram(RefCell::new(whole.0.borrow()[..8 << 20].to_vec()));
    assert_eq!(mounted(&short), Error::Truncated { expected: 16 << 20, got: 8 << 20 });
    assert!(mounted(&short).to_string().contains("16777216 bytes but the device only 8388608"));
}

#[test]
fn every_refusal_has_a_number_and_says_what_to_do() {
    let all = [
        (Error::NotFound, 2, "no such file"),
        (Error::Exists, 17, "exists"),
        (Error::NotDirectory, 20, "not a directory"),
        (Error::IsDirectory, 21, "is a directory"),
        (Error::NotEmpty, 39, "not empty"),
        (Error::NameTooLong, 36, "255"),
        (Error::NotPermitted("why"), 1, "why"),
        (Error::AccessDenied("why"), 13, "why"),
        (Error::Invalid("why"), 22, "why"),
        (Error::Unsupported("why"), 95, "why"),
        (Error::Underway("why"), 16, "why"),
        (Error::TooManyLinks, 31, "links"),
        (Error::CrossDevice, 18, "different trees"),
        (Error::ReadOnly, 30, "read-only"),
        (Error::NoSpace { pending: 0 }, 28, "remove files"),
        (Error::NoSpace { pending: 3 }, 28, "3 blocks"),
        (Error::NoMemory, 12, "memory"),
        (Error::FileTooLarge, 27, "too large"),
        (Error::NoAttribute, 61, "attribute"),
        (Error::ValueTooBig, 7, "65536"),
        (Error::MetadataTooBig, 7, "4096"),
        (Error::TooManyAttributes, 28, "65536"),
        (Error::BufferTooSmall { needed: 9 }, 34, "9 bytes"),
        (Error::PastEnd, 6, "past the end"),
        (Error::Busy, 16, "busy"),
        (Error::Outdated, 17, "already"),
        (Error::NotFinite { index: 4 }, 22, "element 4"),
        (Error::Device { operation: "flush", offset: 12 }, 5, "flush at byte 12"),
        (Error::NotVexfs, 22, "not a VexFS volume"),
        (Error::SuperblocksDamaged, 117, "superblocks"),
        (Error::Version(9), 22, "version 9"),
        (Error::Incompatible(0x40), 22, "0x40"),
        (Error::IncompatibleToWrite(0x24), 30, "0x24"),
        (Error::Truncated { expected: 8, got: 4 }, 117, "8 bytes"),
        (Error::corrupt("tree node", 5, "why"), 117, "tree node 5: why"),
        (Error::checksum("tree node", 5), 74, "checksum"),
    ];
    for (error, errno, words) in all {
        assert_eq!(error.errno(), errno, "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(matches!(Error::checksum("x", 1), Error::Corrupt(Corrupt { checksum: true, .. })));
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (_, files) = filled(&mut volume, 1);
    let refused = set(&mut volume, files[0], "user.vector.c:f32", &vector(0)).unwrap_err();
    assert!(refused.to_string().contains("holds i8") && refused.errno() == 22, "{refused}");
    let refused = set(&mut volume, files[0], "user.vector.c:i8", &[0; 9]).unwrap_err();
    assert!(refused.to_string().contains("64 x i8 = 64 bytes, got 9"), "{refused}");
}

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

#[test]
fn rights_follow_owner_groups_and_access_lists() {
    const NOBODY: u32 = u32::MAX;
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume, 1);
    let mode = |permissions| Changes { permissions: Some(permissions), ..Changes::default() };
    volume.set_attributes(collection_directory(id), &mode(0o777), NOW).unwrap();
    let inode = file(&mut volume, "shared");
    volume.set_attributes(inode, &mode(0o640), NOW).unwrap();
    let in_seven = |group| group == 7;
    let caller = |uid, gid| Caller { uid, gid, in_group: &|_| false };
    let supplementary = Caller { uid: 9, gid: 9, in_group: &in_seven };
    // Owner 1, group 2.
    let may_read = |volume: &Mounted<'_>, caller: &Caller<'_>| volume.may_read(inode, caller).unwrap();
    assert!(
        may_read(&volume, &caller(1, 9)) && may_read(&volume, &caller(9, 2)) && may_read(&volume, &root())
    );
    assert!(!may_read(&volume, &caller(9, 9)) && !may_read(&volume, &supplementary));
    // User 5 may write, group 7 read; the mask takes writing away from group 8.
    let entries = [
        (acl_tag::OWNER, 6, NOBODY),
        (acl_tag::USER, 6, 5),
        (acl_tag::USER, 0, 6),
        (acl_tag::OWNING_GROUP, 4, NOBODY),
        (acl_tag::GROUP, 4, 7),
        (acl_tag::GROUP, 7, 8),
        (acl_tag::MASK, 6, NOBODY),
        (acl_tag::OTHER, 0, NOBODY),
    ];
    let name = core::str::from_utf8(ACL_ACCESS).unwrap();
    volume.set_attribute(inode, name.as_bytes(), &list(&entries), SetMode::Any, &caller(1, 1), NOW).unwrap();
    assert!(
        may_read(&volume, &caller(5, 9))
            && may_read(&volume, &supplementary)
            && may_read(&volume, &caller(9, 8))
    );
    assert!(!may_read(&volume, &caller(9, 9)));
    // An entry of one's own comes before those of groups: user 6 may not, whatever groups it is in.
    assert!(!may_read(&volume, &Caller { uid: 6, gid: 2, in_group: &in_seven }));
    let value = vector(3);
    let batch = [NewVector { inode, n: 0, value: &value, keep: false }];
    let mut write =
        |caller: &Caller<'_>| volume.set_vectors(id, &batch, caller, NOW).map_err(|refused| refused.error);
    assert!(write(&caller(5, 9)).is_ok() && write(&caller(9, 8)).is_ok());
    for denied in [caller(9, 9), caller(9, 2), supplementary, caller(6, 8)] {
        assert!(
            matches!(write(&denied), Err(Error::AccessDenied(_))),
            "uid {} gid {}",
            denied.uid,
            denied.gid
        );
    }
    // Who may list and pass a collection may search it; a path is found through directories that may be passed.
    assert!(volume.may_search(id, &caller(9, 9)).unwrap());
    volume.set_attributes(collection_directory(id), &mode(0o770), NOW).unwrap();
    assert!(!volume.may_search(id, &caller(9, 9)).unwrap());
    assert!(volume.resolve(&mut Resolver::default(), b"shared", &caller(9, 9)).is_ok());
    settle(&mut volume);
}

#[test]
fn a_full_volume_lets_a_file_get_shorter() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let block = u64::from(block_size);
        // In turn, so that the extents are many.
        let files = [file(&mut volume, "one"), file(&mut volume, "other")];
        let small = file(&mut volume, "small");
        volume.write(small, 0, &[3; 100], NOW).unwrap();
        let bytes = vec![7; block_size as usize];
        let mut len = 0;
        while files.iter().all(|inode| volume.write(*inode, len, &bytes, NOW).is_ok()) {
            len += 2 * block;
            volume.commit(NOW).unwrap();
        }
        work(&mut volume);
        let free = volume.statistics().free;
        for (inode, size) in [(files[0], block + 1), (small, 10), (files[1], 0)] {
            let changes = Changes { size: Some(size), ..Changes::default() };
            assert_eq!(volume.set_attributes(inode, &changes, NOW).unwrap().size, size);
        }
        assert_eq!(contents(&volume, files[0])[..block as usize], bytes);
        assert_eq!(contents(&volume, small), [3; 10]);
        settle(&mut volume);
        assert!(volume.statistics().free > free + len / block - 10);
    }
}
