//! Metadata of vectors as arrays, and superseded vectors: kept, handed on when a file is saved over, and gone with it.

mod common;

use vexfs_core::control::{COLUMNS, REQUESTS};
use vexfs_core::format::{COLLECTIONS, FileKind, ROOT, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::RenameFlags;
use vexfs_core::{Error, Result};

use common::*;

/// A collection `c` of bytes, with a file and its metadata for each text; rows are in their order.
fn described(volume: &mut Mounted<'_>, texts: &[&str]) -> (CollectionId, Vec<Ino>) {
    let files: Vec<Ino> = (0..texts.len()).map(|number| file(volume, &format!("file {number}"))).collect();
    for ((inode, seed), text) in files.iter().zip(0..).zip(texts) {
        set(volume, *inode, "user.vector.c:i8", &vector(seed)).unwrap();
        if !text.is_empty() {
            set(volume, *inode, "user.vector.c:i8.meta", text.as_bytes()).unwrap();
        }
    }
    (volume.collection_by_name(b"c").unwrap().id, files)
}

fn request(volume: &mut Mounted<'_>, id: CollectionId, text: &str) -> Result<()> {
    volume.request(Ino(collection_directory(id).0 + REQUESTS), text.as_bytes(), NOW)
}

/// The entries of a column's file, `width` bytes each, and the dtype in its head.
fn entries(volume: &Mounted<'_>, id: CollectionId, name: &str, width: usize) -> (String, Vec<Vec<u8>>) {
    let inode = volume.lookup(collection_directory(id), format!("{name}.npy").as_bytes()).unwrap().inode;
    assert!(inode.0 >= collection_directory(id).0 + COLUMNS);
    let bytes = contents(volume, inode);
    let head = std::str::from_utf8(&bytes[10..4096]).unwrap();
    let dtype = head.split('\'').nth(3).unwrap().to_string();
    let rows = volume.collection(id).unwrap().rows as usize;
    (dtype, bytes[4096..].chunks(width).take(rows).map(<[u8]>::to_vec).collect())
}

#[test]
fn a_member_of_the_metadata_is_an_array_of_its_type() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let texts = [
            "{\"yes\":true,\"count\":-7,\"part\":0.25,\"name\":\"caf\\u00e9\",\"time\":\"1970-01-01T00:00:02Z\"}",
            "",
            "{\"yes\":false,\"count\":9007199254740993,\"part\":-1e3,\"name\":\"\",\"time\":3}",
            "{\"yes\":null,\"other\":1}",
        ];
        let (id, files) = described(&mut volume, &texts);
        for column in ["yes bool", "count int", "part float", "name string 6", "time timestamp"] {
            request(&mut volume, id, &format!("column add {column}")).unwrap();
        }
        work(&mut volume);
        let mut volume = mount(&ram);
        let le = |number: i64| number.to_le_bytes().to_vec();
        let nan = 0x7ff8_0000_0000_0000_u64.to_le_bytes().to_vec();
        let float = |number: f64| number.to_le_bytes().to_vec();
        let (none, nothing) = (le(i64::MIN), vec![0xff]);
        let padded = |text: &[u8]| [text, &vec![0; 6 - text.len()]].concat();
        let expected = [
            ("yes", 1, "|i1", vec![vec![1], nothing.clone(), vec![0], nothing.clone()]),
            ("count", 8, "<i8", vec![le(-7), none.clone(), le(9_007_199_254_740_993), none.clone()]),
            ("part", 8, "<f8", vec![float(0.25), nan.clone(), float(-1000.0), nan]),
            (
                "name",
                6,
                "|S6",
                vec![padded("café".as_bytes()), padded(b"\xff"), padded(b""), padded(b"\xff")],
            ),
            ("time", 8, "<M8[ns]", vec![le(2_000_000_000), none.clone(), le(3_000_000_000), none]),
        ];
        for (name, width, dtype, values) in &expected {
            assert_eq!(entries(&volume, id, name, *width), (dtype.to_string(), values.clone()), "{name}");
        }
        // It follows what is set, and what is dropped is no file any more.
        set(&mut volume, files[1], "user.vector.c:i8.meta", b"{\"count\":5}").unwrap();
        volume.remove_attribute(files[0], b"user.vector.c:i8.meta", &root(), NOW).unwrap();
        let (_, counts) = entries(&volume, id, "count", 8);
        assert_eq!(counts[..2], [le(i64::MIN), le(5)]);
        request(&mut volume, id, "column drop count").unwrap();
        assert!(volume.lookup(collection_directory(id), b"count.npy").is_err());
        settle(&mut volume);
    }
}

#[test]
fn metadata_and_columns_that_do_not_fit_are_refused_in_words() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = described(&mut volume, &["{\"x\":\"text\",\"n\":1.5}"]);
    for (column, words) in [
        ("x bool", "true or false"),
        ("x int", "a whole number"),
        ("x float", "a number"),
        ("n string 5", "a string"),
        ("x timestamp", "a time like"),
        ("x string 3", "longer than its column"),
        ("n int", "a whole number"),
        ("vectors int", "own array"),
        (".hidden int", "1 to 64 characters"),
        ("a/b int", "1 to 64 characters"),
    ] {
        let refused = request(&mut volume, id, &format!("column add {column}")).unwrap_err();
        assert!(
            matches!(refused, Error::Invalid(_)) && refused.to_string().contains(words),
            "{column}: {refused}"
        );
    }
    request(&mut volume, id, "column add x string 4").unwrap();
    assert_eq!(request(&mut volume, id, "column add x string 4"), Err(Error::Exists));
    assert_eq!(request(&mut volume, id, "column drop y"), Err(Error::NotFound));
    for bad in ["{\"x\":\"texts\"}", "{\"x\":1}", "{\"x\":\"a\\u0000\"}"] {
        let refused = set(&mut volume, files[0], "user.vector.c:i8.meta", bad.as_bytes());
        assert!(matches!(refused, Err(Error::Invalid(_))), "{bad}: {refused:?}");
    }
    set(&mut volume, files[0], "user.vector.c:i8.meta", b"{\"x\":\"four\"}").unwrap();
    for number in 1..16 {
        request(&mut volume, id, &format!("column add column{number} int")).unwrap();
    }
    let refused = request(&mut volume, id, "column add more int").unwrap_err();
    assert!(refused.to_string().contains("at most 16 columns"));
    settle(&mut volume);
}

fn past(volume: &Mounted<'_>, inode: Ino, back: u32) -> Result<Vec<u8>> {
    volume.attribute(inode, format!("user.vector.c:i8@-{back}").as_bytes())
}

/// A collection `c` that keeps three superseded vectors behind each, empty.
fn with_history(volume: &mut Mounted<'_>) -> CollectionId {
    let directory = volume.create(COLLECTIONS, b"c", &new(FileKind::Directory), NOW).unwrap().inode;
    set(volume, directory, "user.vexfs.element", b"i8").unwrap();
    set(volume, directory, "user.vexfs.history", b"3").unwrap();
    volume.collection_by_name(b"c").unwrap().id
}

#[test]
fn what_a_file_is_saved_over_with_gets_its_history() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let id = with_history(&mut volume);
    let old = file(&mut volume, "file");
    for seed in 1..=5 {
        volume.write(old, 0, &[seed], NOW).unwrap();
        set(&mut volume, old, "user.vector.c:i8", &vector(seed)).unwrap();
        set(&mut volume, old, "user.vector.c:i8.meta", format!("{{\"seed\":{seed}}}").as_bytes()).unwrap();
    }
    for (back, seed) in [(1, 4), (2, 3), (3, 2)] {
        assert_eq!(past(&volume, old, back), Ok(vector(seed)));
        let about = volume.attribute(old, format!("user.vector.c:i8@-{back}.meta").as_bytes());
        assert_eq!(about, Ok(format!("{{\"seed\":{seed}}}").into_bytes()));
    }
    assert_eq!(past(&volume, old, 4), Err(Error::NoAttribute));
    assert!(set(&mut volume, old, "user.vector.c:i8@-1", &vector(9)).is_err());
    volume.commit(NOW).unwrap();
    // As editors save: another file takes the name.
    let saved = file(&mut volume, "file~");
    volume.write(saved, 0, b"other content", NOW).unwrap();
    let (from, to) = ((ROOT, &b"file~"[..]), (ROOT, &b"file"[..]));
    let removed = volume.rename(from, to, RenameFlags::empty(), &|_| false, NOW).unwrap();
    if let Some(removed) = removed.filter(|removed| removed.links == 0) {
        volume.release(removed.inode, NOW).unwrap();
    }
    settle(&mut volume);
    let mut volume = mount(&ram);
    assert_eq!(volume.attribute(saved, b"user.vector.c:i8"), Ok(vector(5)));
    for (back, seed) in [(1, 4), (2, 3), (3, 2)] {
        assert_eq!(past(&volume, saved, back), Ok(vector(seed)), "{back}");
    }
    // The next one supersedes the fifth.
    set(&mut volume, saved, "user.vector.c:i8", &vector(6)).unwrap();
    assert_eq!((past(&volume, saved, 1), past(&volume, saved, 3)), (Ok(vector(5)), Ok(vector(3))));
    assert_eq!(volume.collection(id).unwrap().live, 1);
    settle(&mut volume);
}

#[test]
fn a_history_goes_with_its_file_and_gives_all_space_back() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        with_history(&mut volume);
        settle(&mut volume);
        let before = volume.statistics();
        let directory = volume.create(ROOT, b"d", &new(FileKind::Directory), NOW).unwrap().inode;
        for number in 0..30_u8 {
            let name = format!("file {number}");
            let inode =
                volume.create(directory, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode;
            for seed in [0, 31, 62, 93] {
                set(&mut volume, inode, "user.vector.c:i8", &vector(number + seed)).unwrap();
            }
            assert_eq!(past(&volume, inode, 3), Ok(vector(number)));
        }
        settle(&mut volume);
        for number in 0..30 {
            let removed =
                volume.unlink(directory, format!("file {number}").as_bytes(), &|_| false, NOW).unwrap();
            volume.release(removed.inode, NOW).unwrap();
        }
        volume.remove_directory(ROOT, b"d", &|_| false, NOW).unwrap();
        settle(&mut volume);
        let after = volume.statistics();
        assert_eq!((after.inodes, after.tree_blocks), (before.inodes, before.tree_blocks));
        assert_eq!(volume.collection_by_name(b"c").unwrap().live, 0);
        // What lay in the rows, which are aligned to 64, is nowhere on the disk any more.
        drop(volume);
        let disk = ram.0.borrow();
        for number in 0..30_u8 {
            assert!(!disk.chunks(64).any(|row| row == vector(number + 93)), "the vector of file {number}");
        }
    }
}
