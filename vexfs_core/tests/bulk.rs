//! `append`: a stream of records becomes vectors, all of a batch or none, as the caller may.

mod common;

use vexfs_core::Error;
use vexfs_core::control::append::{RECORD_HEADER, whole_records};
use vexfs_core::control::{APPEND, QUERY};
use vexfs_core::format::{FileKind, ROOT, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Batch, Caller, Changes, NewInode, NewVector, Refused, Resolver, SetMode};

use common::*;

const NAME: &[u8] = b"user.vector.c:i8";
const LEN: usize = 32;

fn vector(seed: u8) -> Vec<u8> {
    (0..LEN).map(|at| seed.wrapping_mul(31).wrapping_add(at as u8)).collect()
}

/// A record of the stream, as `control::append` lays it out.
struct Record<'a> {
    n: u32,
    inode: u64,
    path: &'a [u8],
    value: &'a [u8],
    metadata: u32,
    flags: u32,
}

impl Record<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"VEXA".to_vec();
        bytes.extend(self.n.to_le_bytes());
        bytes.extend(self.inode.to_le_bytes());
        for number in [self.path.len() as u32, self.value.len() as u32, self.metadata, self.flags] {
            bytes.extend(number.to_le_bytes());
        }
        assert_eq!(bytes.len(), RECORD_HEADER);
        [&bytes, self.path, self.value].concat()
    }
}

fn by_path<'a>(path: &'a [u8], n: u32, value: &'a [u8]) -> Record<'a> {
    Record { n, inode: 0, path, value, metadata: 0, flags: 0 }
}

fn by_inode(inode: Ino, n: u32, value: &[u8]) -> Record<'_> {
    Record { n, inode: inode.0, path: b"", value, metadata: 0, flags: 0 }
}

fn user(uid: u32) -> Caller<'static> {
    Caller { uid, gid: uid, in_group: &|_| false }
}

fn make(
    volume: &mut Mounted<'_>,
    parent: Ino,
    name: &[u8],
    kind: FileKind,
    permissions: u32,
    uid: u32,
) -> Ino {
    let new = NewInode { kind, permissions, umask: 0, uid, gid: uid, device: 0 };
    volume.create(parent, name, &new, NOW).unwrap().inode
}

/// A collection of 32 bytes a vector, which anybody may write to; one vector is in it.
fn collection(volume: &mut Mounted<'_>) -> CollectionId {
    let seed = make(volume, ROOT, b"seed", FileKind::Regular, 0o644, 0);
    volume.set_attribute(seed, NAME, &vector(0), SetMode::Any, &root(), NOW).unwrap();
    let id = volume.collection_by_name(b"c").unwrap().id;
    let changes = Changes { permissions: Some(0o777), ..Changes::default() };
    volume.set_attributes(collection_directory(id), &changes, NOW).unwrap();
    id
}

fn append_of(id: CollectionId) -> Ino {
    Ino(collection_directory(id).0 + APPEND)
}

/// What a host does with a stream.
fn append(
    volume: &mut Mounted<'_>,
    id: CollectionId,
    stream: &[u8],
    caller: &Caller<'_>,
) -> Result<Batch, Refused> {
    let (found, vectors) = volume.appended(append_of(id), stream, caller)?;
    assert_eq!(found, id);
    volume.set_vectors(id, &vectors, caller, NOW)
}

fn value(volume: &Mounted<'_>, inode: Ino, n: u32) -> Result<Vec<u8>, Error> {
    let suffix = if n == 0 { String::new() } else { format!(".{n}") };
    volume.attribute(inode, format!("user.vector.c:i8{suffix}").as_bytes())
}

#[test]
fn a_stream_sets_vectors_by_path_and_inode() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let id = collection(&mut volume);
        let directory = make(&mut volume, ROOT, b"d", FileKind::Directory, 0o755, 0);
        let one = make(&mut volume, directory, b"one", FileKind::Regular, 0o644, 0);
        let two = make(&mut volume, directory, b"two", FileKind::Regular, 0o644, 0);
        let values: Vec<_> = (1..=4).map(vector).collect();
        let mut stream = by_path(b"d/one", 0, &values[0]).bytes();
        stream.extend(by_path(b"/d//two", 0, &values[1]).bytes());
        stream.extend(by_path(b"d/two", 7, &values[2]).bytes());
        stream.extend(by_inode(directory, 0, &values[3]).bytes());
        assert_eq!(append(&mut volume, id, &stream, &root()), Ok(Batch { set: 4, kept: 0 }));
        settle(&mut volume);
        let volume = mount(&ram);
        for (inode, n, wanted) in [(one, 0, 0), (two, 0, 1), (two, 7, 2), (directory, 0, 3)] {
            assert_eq!(value(&volume, inode, n).as_ref(), Ok(&values[wanted]));
        }
        assert_eq!(volume.collection(id).unwrap().live, 5);
    }
}

#[test]
fn what_is_to_be_kept_is_kept_and_all_else_replaced() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let files: Vec<Ino> = (0..40u8)
        .map(|number| {
            make(&mut volume, ROOT, format!("file {number}").as_bytes(), FileKind::Regular, 0o644, 0)
        })
        .collect();
    let stream = |seed: u8, flags: u32| -> Vec<u8> {
        files.iter().flat_map(|file| Record { flags, ..by_inode(*file, 0, &vector(seed)) }.bytes()).collect()
    };
    assert_eq!(append(&mut volume, id, &stream(1, 1), &root()), Ok(Batch { set: 40, kept: 0 }));
    volume.remove_attribute(files[9], NAME, &root(), NOW).unwrap();
    assert_eq!(append(&mut volume, id, &stream(2, 1), &root()), Ok(Batch { set: 1, kept: 39 }));
    assert_eq!(value(&volume, files[8], 0), Ok(vector(1)));
    assert_eq!(value(&volume, files[9], 0), Ok(vector(2)));
    assert_eq!(append(&mut volume, id, &stream(3, 0), &root()), Ok(Batch { set: 40, kept: 0 }));
    assert!(files.iter().all(|file| value(&volume, *file, 0) == Ok(vector(3))));
    settle(&mut volume);
    assert_eq!(volume.collection(id).unwrap().live, 41);
}

#[test]
fn a_batch_with_one_bad_record_sets_none() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let file = make(&mut volume, ROOT, b"file", FileKind::Regular, 0o644, 0);
    let (good, long) = (vector(1), vec![1; LEN + 1]);
    let fifo = make(&mut volume, ROOT, b"fifo", FileKind::Fifo, 0o644, 0);
    volume.symlink(ROOT, b"link", b"file", 0, 0, NOW).unwrap();
    let records = [
        by_inode(file, 0, &long),
        by_path(b"missing", 0, &good),
        by_path(b"fifo", 0, &good),
        by_inode(fifo, 0, &good),
        by_path(b"link", 0, &good),
        by_inode(Ino(999), 0, &good),
        by_inode(append_of(id), 0, &good),
    ];
    for bad in records {
        let stream = [by_path(b"file", 0, &good).bytes(), bad.bytes()].concat();
        let refused = append(&mut volume, id, &stream, &root()).unwrap_err();
        assert_eq!(refused.index, Some(1), "{refused:?}");
        assert_eq!(value(&volume, file, 0), Err(Error::NoAttribute));
    }
    settle(&mut volume);
    assert_eq!(volume.collection(id).unwrap().live, 1);
}

#[test]
fn a_batch_may_be_staged_and_given_up() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let file = make(&mut volume, ROOT, b"file", FileKind::Regular, 0o644, 0);
    let (first, second) = (vector(1), vector(2));
    let batch = |value| [NewVector { inode: file, n: 0, value, keep: false }];
    let given_up = volume.stage_vectors(id, &batch(&first), &root(), NOW).unwrap();
    // Its row is nobody else's while it is staged.
    let set = volume.stage_vectors(id, &batch(&second), &root(), NOW).unwrap();
    volume.unstage_vectors(&given_up).unwrap();
    assert_eq!(volume.set_staged(&set, &batch(&second), &root(), NOW), Ok(Batch { set: 1, kept: 0 }));
    assert_eq!(value(&volume, file, 0), Ok(second));
    settle(&mut volume);
    // What the given up one held is nowhere on the disk.
    let disk = ram.0.borrow();
    assert!(!disk.windows(LEN).any(|window| window == first));
}

#[test]
fn a_file_takes_as_many_names_in_batches_as_one_by_one() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let [one, other] =
        [b"one", b"two"].map(|name| make(&mut volume, ROOT, name, FileKind::Regular, 0o644, 0));
    // Long names, so that not all the numbers are needed; some have a name more, for their metadata.
    let numbers = |from: u32, count: u32| (from..from + count).map(|n| 4_000_000_000 + n);
    let name = |n: u32| format!("user.vector.c:i8.{n}").into_bytes();
    let about = |volume: &mut Mounted<'_>, inode, n| {
        let meta = [&name(n)[..], b".meta"].concat();
        volume.set_attribute(inode, &meta, b"{}", SetMode::Any, &root(), NOW)
    };
    let listed = |volume: &Mounted<'_>, inode| volume.list_attributes(inode).unwrap();
    let mut count = 0;
    while volume
        .set_attribute(one, &name(4_000_000_000 + count), &vector(1), SetMode::Any, &root(), NOW)
        .is_ok()
    {
        if count % 7 == 0 && about(&mut volume, one, 4_000_000_000 + count).is_err() {
            break;
        }
        count += 1;
    }
    let most = listed(&volume, one);
    assert!(most.len() <= 65536 && most.len() + 64 > 65536, "{}", most.len());
    let value = vector(2);
    let (mut at, step) = (0, 301);
    let refused = loop {
        // In turn with another file, as an import has them.
        let of = |inode, n| NewVector { inode, n, value: &value, keep: false };
        let batch: Vec<_> = numbers(at, step).map(|n| of(other, n)).chain([of(one, 4_000_000_000)]).collect();
        match volume.set_vectors(id, &batch, &root(), NOW) {
            Ok(_) => {}
            Err(refused) => break refused,
        }
        for n in numbers(at, step).filter(|n| (n - 4_000_000_000) % 7 == 0) {
            about(&mut volume, other, n).unwrap();
        }
        at += step;
    };
    assert_eq!(refused.error, Error::TooManyAttributes);
    // One that is refused is so wherever it stands: one by one as many more come in as in the batch before it.
    let before = listed(&volume, other).len();
    let fits = refused.index.unwrap();
    for (index, n) in numbers(at, step).enumerate().take(fits + 1) {
        let set = volume.set_attribute(other, &name(n), &value, SetMode::Any, &root(), NOW);
        assert_eq!(set.is_ok(), index < fits, "{index} of {fits}, {before} before: {set:?}");
    }
    settle(&mut volume);
    assert!(listed(&mount(&ram), other).len() <= 65536);
}

#[test]
fn only_who_may_write_appends() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let closed = make(&mut volume, ROOT, b"closed", FileKind::Directory, 0o700, 5);
    let inside = make(&mut volume, closed, b"file", FileKind::Regular, 0o666, 6);
    make(&mut volume, ROOT, b"mine", FileKind::Regular, 0o600, 6);
    make(&mut volume, ROOT, b"theirs", FileKind::Regular, 0o644, 7);
    make(&mut volume, ROOT, b"shared", FileKind::Directory, 0o1777, 7);
    let vector = vector(1);
    let six = user(6);
    let error = |volume: &mut Mounted<'_>, record: Record<'_>, caller: &Caller<'_>| {
        append(volume, id, &record.bytes(), caller).map_err(|refused| refused.error)
    };
    assert_eq!(error(&mut volume, by_path(b"mine", 0, &vector), &six), Ok(Batch { set: 1, kept: 0 }));
    let denied = |result: Result<Batch, Error>| matches!(result, Err(Error::AccessDenied(_)));
    assert!(denied(error(&mut volume, by_path(b"theirs", 0, &vector), &six)));
    assert!(denied(error(&mut volume, by_path(b"closed/file", 0, &vector), &six)));
    let not_permitted = |result: Result<Batch, Error>| matches!(result, Err(Error::NotPermitted(_)));
    assert!(not_permitted(error(&mut volume, by_inode(inside, 0, &vector), &six)));
    assert!(not_permitted(error(&mut volume, by_path(b"shared", 0, &vector), &six)));
    assert_eq!(error(&mut volume, by_path(b"shared", 0, &vector), &user(7)), Ok(Batch { set: 1, kept: 0 }));
    assert_eq!(
        error(&mut volume, by_path(b"closed/file", 0, &vector), &user(5)),
        Ok(Batch { set: 1, kept: 0 })
    );
    // The collection's own mode counts too.
    let changes = Changes { permissions: Some(0o755), ..Changes::default() };
    volume.set_attributes(collection_directory(id), &changes, NOW).unwrap();
    assert!(denied(error(&mut volume, by_path(b"mine", 1, &vector), &six)));
    settle(&mut volume);
}

#[test]
fn paths_are_plain_ones_from_the_root_on() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let directory = make(&mut volume, ROOT, b"d", FileKind::Directory, 0o755, 0);
    let file = make(&mut volume, directory, b"f", FileKind::Regular, 0o644, 0);
    volume.symlink(ROOT, b"link", b"d", 0, 0, NOW).unwrap();
    let mut resolver = Resolver::default();
    let mut find = |path: &[u8]| volume.resolve(&mut resolver, path, &root());
    assert_eq!(find(b"d/f"), Ok(file));
    assert_eq!(find(b"//d//f"), Ok(file));
    assert_eq!(find(b"d"), Ok(directory));
    assert_eq!(find(b"d/g"), Err(Error::NotFound));
    assert_eq!(find(b"d/f/g"), Err(Error::NotDirectory));
    assert_eq!(find(&[&b"d/"[..], &[b'x'; 256]].concat()), Err(Error::NameTooLong));
    for bad in
        [&b""[..], b"d/", b"d/.", b"../d", b"d/../d/f", b".vexfs", b".vexfs/README", b"d/\0", b"link/f"]
    {
        let found = find(bad);
        assert!(matches!(found, Err(Error::Invalid(_))), "{}: {found:?}", bad.escape_ascii());
    }
    // It is not misled by the directory that it was in last.
    assert_eq!(find(b"d/f"), Ok(file));
    assert_eq!(find(b"f"), Err(Error::NotFound));
}

#[test]
fn what_is_no_record_is_told_as_soon_as_it_is_seen() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = collection(&mut volume);
    let value = vector(1);
    let good = by_path(b"seed", 0, &value).bytes();
    let two = [&good[..], &good].concat();
    assert_eq!(whole_records(&two, 10), Ok((two.len(), 2)));
    assert_eq!(whole_records(&two, 1), Ok((good.len(), 1)));
    assert_eq!(whole_records(&[], 10), Ok((0, 0)));
    // Every beginning of a record may still become one.
    for len in 0..good.len() {
        assert_eq!(whole_records(&two[..good.len() + len], 10), Ok((good.len(), 1)), "{len}");
        let whole = volume.appended(append_of(id), &two[..good.len() + len], &root());
        assert_eq!(whole.is_ok(), len == 0, "{len}");
    }
    let bad = |record: Record<'_>| [good.clone(), record.bytes()].concat();
    let streams = [
        [&good[..], b"VEXB"].concat(),
        [&good[..], b"X"].concat(),
        bad(Record { metadata: 1, ..by_path(b"seed", 0, &value) }),
        bad(Record { flags: 2, ..by_path(b"seed", 0, &value) }),
        bad(by_path(&[b'p'; 4097], 0, &value)),
        bad(by_path(b"seed", 0, &[0; 65_537])),
    ];
    for stream in streams {
        assert_eq!(whole_records(&stream, 10).unwrap_err().index, Some(1));
        assert_eq!(volume.appended(append_of(id), &stream, &root()).unwrap_err().index, Some(1));
    }
    for wrong in [by_path(b"", 0, &value), Record { path: b"seed", ..by_inode(ROOT, 0, &value) }] {
        let refused = volume.appended(append_of(id), &wrong.bytes(), &root()).unwrap_err();
        assert!(matches!(refused.error, Error::Invalid(_)));
    }
    for other in [ROOT, Ino(collection_directory(id).0 + QUERY), collection_directory(id)] {
        let refused = volume.appended(other, &good, &root()).unwrap_err();
        assert!(matches!(refused.error, Error::NotPermitted(_)));
    }
}
