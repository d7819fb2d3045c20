//! The core from a host's side: make, mount, files, vectors, remount.

mod common;

use vexfs_core::device::Direct;
use vexfs_core::format::{COLLECTIONS, FileKind, ROOT, collection_matrix};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Allocate, Changes, NewInode, RenameFlags, Seek, SetMode};
use vexfs_core::{Error, Volume};

use common::*;

#[test]
fn files_keep_their_bytes_across_a_remount() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let free = volume.statistics().free;
        let file = volume.create(ROOT, b"file", &new(FileKind::Regular), NOW).unwrap().inode;
        let mut model = Vec::new();
        let mut seed = 1u64;
        for step in 0..400 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let at = (seed >> 33) as usize % 60_000;
            let len = (seed >> 20) as usize % 9000 + 1;
            match step % 7 {
                0 => {
                    volume
                        .set_attributes(file, &Changes { size: Some(at as u64), ..Changes::default() }, NOW)
                        .unwrap();
                    model.resize(at, 0);
                }
                1 => {
                    volume.allocate(file, Allocate::PunchHole, at as u64, len as u64, NOW).unwrap();
                    let (from, to) = (at.min(model.len()), (at + len).min(model.len()));
                    model[from..to].fill(0);
                }
                2 => {
                    volume
                        .allocate(file, Allocate::Reserve { keep_size: true }, at as u64, len as u64, NOW)
                        .unwrap();
                }
                _ => {
                    let bytes: Vec<u8> = (0..len).map(|i| (i as u8) ^ step as u8 | 1).collect();
                    volume.write(file, at as u64, &bytes, NOW).unwrap();
                    if model.len() < at + len {
                        model.resize(at + len, 0);
                    }
                    model[at..at + len].copy_from_slice(&bytes);
                }
            }
            assert_eq!(contents(&volume, file), model, "step {step}");
            if step % 50 == 49 {
                volume.commit(NOW).unwrap();
                volume = mount(&ram);
                assert_eq!(contents(&volume, file), model, "after a remount at step {step}");
            }
        }
        assert_eq!(volume.seek(file, model.len() as u64, Seek::Data), Err(Error::PastEnd));
        volume.unlink(ROOT, b"file", &|_| false, NOW).unwrap();
        settle(&mut volume);
        assert_eq!(volume.statistics().free, free);
        assert_eq!(volume.statistics().inodes, 1);
    }
}

#[test]
fn vectors_are_rows_of_a_mapped_matrix() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let vector =
            |i: u32| -> Vec<u8> { (0..100).flat_map(|d| ((i * 100 + d) as f32).to_le_bytes()).collect() };
        let mut inodes = Vec::new();
        for i in 0..500u32 {
            let name = format!("doc{i}");
            let inode = volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode;
            volume.set_attribute(inode, b"user.vector.mini", &vector(i), SetMode::Any, &root(), NOW).unwrap();
            inodes.push(inode);
        }
        let short =
            volume.set_attribute(inodes[0], b"user.vector.mini", &[0; 16], SetMode::Any, &root(), NOW);
        assert!(matches!(short, Err(Error::WrongLength { expected: 400, got: 16, .. })));
        settle(&mut volume);
        let mut volume = mount(&ram);
        let id = volume.collection_by_name(b"mini").unwrap().id;
        assert_eq!(volume.collection(id).unwrap().rows, 500);
        let matrix = contents(&volume, collection_matrix(id));
        for (i, inode) in inodes.iter().enumerate() {
            assert_eq!(volume.attribute(*inode, b"user.vector.mini").unwrap(), vector(i as u32));
            assert_eq!(&matrix[4096 + i * 448..4096 + i * 448 + 400], vector(i as u32));
            assert_eq!(volume.list_attributes(*inode).unwrap(), b"user.vector.mini\0");
        }
        for i in 100..500u32 {
            volume.unlink(ROOT, format!("doc{i}").as_bytes(), &|_| false, NOW).unwrap();
        }
        settle(&mut volume);
        let collection = volume.collection(id).unwrap();
        assert_eq!((collection.rows, collection.live), (100, 100));
        let names = volume.path(inodes[7]).unwrap().unwrap();
        assert_eq!(names, b"doc7");
    }
}

#[test]
fn rename_replaces_and_exchanges() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let closed = |_| false;
    let a = volume.create(ROOT, b"a", &new(FileKind::Directory), NOW).unwrap().inode;
    let b = volume.create(a, b"b", &new(FileKind::Directory), NOW).unwrap().inode;
    let file = volume.create(ROOT, b"f", &new(FileKind::Regular), NOW).unwrap().inode;
    let into_itself = volume.rename((ROOT, b"a"), (b, b"x"), RenameFlags::empty(), &closed, NOW);
    assert!(matches!(into_itself, Err(Error::Invalid(_))));
    volume.rename((ROOT, b"f"), (b, b"f2"), RenameFlags::empty(), &closed, NOW).unwrap();
    assert_eq!(volume.path(file).unwrap().unwrap(), b"a/b/f2");
    volume.rename((b, b"f2"), (ROOT, b"a"), RenameFlags::EXCHANGE, &closed, NOW).unwrap_err();
    let g = volume.create(ROOT, b"g", &new(FileKind::Regular), NOW).unwrap().inode;
    volume.rename((ROOT, b"g"), (b, b"f2"), RenameFlags::EXCHANGE, &closed, NOW).unwrap();
    assert_eq!(volume.lookup(b, b"f2").unwrap().inode, g);
    assert_eq!(volume.lookup(ROOT, b"g").unwrap().inode, file);
    let removed = volume.rename((ROOT, b"g"), (b, b"f2"), RenameFlags::empty(), &closed, NOW).unwrap();
    assert_eq!(removed.unwrap().inode, g);
    let exists = volume.rename((b, b"f2"), (ROOT, b"a"), RenameFlags::NOREPLACE, &closed, NOW);
    assert_eq!(exists, Err(Error::Exists));
    assert_eq!(volume.attributes(ROOT).unwrap().links, 3);
}

#[test]
fn attributes_of_all_sizes() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inode = volume.create(ROOT, b"f", &new(FileKind::Regular), NOW).unwrap().inode;
    let free = volume.statistics().free;
    for len in [0, 1, 900, 1000, 5000, 65536] {
        let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
        let name = format!("user.a{len}");
        for mode in [SetMode::Create, SetMode::Replace] {
            volume.set_attribute(inode, name.as_bytes(), &value, mode, &root(), NOW).unwrap();
            assert_eq!(volume.attribute(inode, name.as_bytes()).unwrap(), value);
        }
    }
    let too_big = volume.set_attribute(inode, b"user.x", &[0; 65537], SetMode::Any, &root(), NOW);
    assert_eq!(too_big, Err(Error::ValueTooBig));
    let names = volume.list_attributes(inode).unwrap();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        volume.remove_attribute(inode, name, &root(), NOW).unwrap();
    }
    assert!(volume.list_attributes(inode).unwrap().is_empty());
    settle(&mut volume);
    assert!(volume.statistics().free >= free);
}

// What an index directory shows: (owner, permissions) of it and of its file.
#[test]
fn attributes_go_on_a_full_volume() {
    for (len, room) in [(10, 0), (4000, 0), (65_536, 400)] {
        let ram = device(4096);
        let mut volume = mount(&ram);
        let inode = file(&mut volume, "file");
        set(&mut volume, inode, "user.goes", &vec![7; len]).unwrap();
        // Some more, so that the tree has levels.
        for number in 0..30 {
            set(&mut volume, inode, &format!("user.{number}"), &[7; 65_536]).unwrap();
        }
        let full = file(&mut volume, "full");
        let mut at = 0;
        for size in [64 << 10, 4096] {
            let bytes = vec![1; size];
            while volume.statistics().available > room && volume.write(full, at, &bytes, NOW).is_ok() {
                at += size as u64;
                volume.commit(NOW).unwrap();
            }
        }
        let refused = set(&mut volume, inode, "user.more", &[1; 65_536]);
        assert!(refused.is_err() || room > 0);
        volume.commit(NOW).unwrap();
        volume.remove_attribute(inode, b"user.goes", &root(), NOW).unwrap();
        assert_eq!(volume.attribute(inode, b"user.goes"), Err(Error::NoAttribute));
        settle(&mut volume);
    }
}

fn owners(volume: &Volume<Direct<&Ram>>, index: Ino, file: Ino) -> [(u32, u32, u32); 2] {
    [index, file].map(|inode| {
        let shown = volume.attributes(inode).unwrap();
        (shown.uid, shown.gid, shown.permissions)
    })
}

#[test]
fn an_index_belongs_to_its_collection_and_goes_with_it() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let free = volume.statistics().free;
    let closed = |_| false;
    let directory = |permissions| NewInode { permissions, ..new(FileKind::Directory) };
    let c = volume.create(COLLECTIONS, b"c", &directory(0o2750), NOW).unwrap().inode;
    let mut create = |parent, name: &[u8], new: &NewInode| volume.create(parent, name, new, NOW);
    assert!(matches!(create(c, b"other", &directory(0o755)), Err(Error::NotPermitted(_))));
    assert!(matches!(create(c, b"index", &new(FileKind::Regular)), Err(Error::NotPermitted(_))));
    let other = NewInode { uid: 9, gid: 9, ..directory(0o777) };
    let index = create(c, b"index", &other).unwrap().inode;
    assert_eq!(create(c, b"index", &other), Err(Error::Exists));
    assert!(matches!(create(index, b"d", &other), Err(Error::NotPermitted(_))));
    let file = create(index, b"f", &NewInode { uid: 9, permissions: 0o600, ..new(FileKind::Regular) });
    let file = file.unwrap().inode;
    for number in 1..64 {
        create(index, format!("{number}").as_bytes(), &new(FileKind::Regular)).unwrap();
    }
    let full = create(index, b"64", &new(FileKind::Regular));
    assert!(matches!(full, Err(Error::NotPermitted(_))));
    assert_eq!(owners(&volume, index, file), [(1, 2, 0o750), (1, 2, 0o640)]);
    let shared = Changes { permissions: Some(0o775), gid: Some(7), ..Changes::default() };
    assert!(matches!(volume.set_attributes(file, &shared, NOW), Err(Error::NotPermitted(_))));
    volume.set_attributes(c, &shared, NOW).unwrap();
    assert_eq!(owners(&volume, index, file), [(1, 7, 0o775), (1, 7, 0o664)]);

    // One name, no attributes, and no way in or out.
    let outside = volume.create(ROOT, b"outside", &new(FileKind::Regular), NOW).unwrap().inode;
    assert_eq!(volume.link(outside, index, b"in", NOW), Err(Error::CrossDevice));
    assert!(matches!(volume.link(file, ROOT, b"out", NOW), Err(Error::NotPermitted(_))));
    for (from, to) in
        [((ROOT, b"outside".as_slice()), (index, b"in".as_slice())), ((index, b"f"), (ROOT, b"out"))]
    {
        assert_eq!(volume.rename(from, to, RenameFlags::empty(), &closed, NOW), Err(Error::CrossDevice));
    }
    let vector = volume.set_attribute(file, b"user.vector.c", &[0; 16], SetMode::Any, &root(), NOW);
    assert!(matches!(vector, Err(Error::NotPermitted(_))));
    volume.unlink(ROOT, b"outside", &closed, NOW).unwrap();

    // Another file takes the place of the first by rename; the collection is renamed.
    volume.write(file, 0, &[3; 5000], NOW).unwrap();
    volume.rename((index, b"f"), (index, b"1"), RenameFlags::empty(), &closed, NOW).unwrap();
    volume.rename((COLLECTIONS, b"c"), (COLLECTIONS, b"d"), RenameFlags::empty(), &closed, NOW).unwrap();
    assert_eq!(volume.path(file).unwrap().unwrap(), b".vexfs/collections/d/index/1");
    let mut names = Vec::new();
    let mut list = |entry: vexfs_core::operations::Entry<'_>| {
        names.push(entry.name.to_vec());
        true
    };
    volume.read_directory(c, 0, &mut list).unwrap();
    assert!(names.contains(&b"index".to_vec()) && names.contains(&b"vectors.npy".to_vec()));
    settle(&mut volume);
    drop(volume);

    // The collection goes, and its files with it, but for the one that is open until it is closed.
    let mut volume = mount(&ram);
    volume.remove_directory(COLLECTIONS, b"d", &|inode| inode == file, NOW).unwrap();
    work(&mut volume);
    assert_eq!(volume.attributes(index), Err(Error::NotFound));
    let mut bytes = [0; 3];
    assert_eq!((volume.read(file, 4998, &mut bytes), bytes), (Ok(2), [3, 3, 0]));
    volume.release(file, NOW).unwrap();
    settle(&mut volume);
    assert_eq!(volume.statistics().free, free);
}

#[test]
fn a_crash_while_a_collection_goes_leaves_nothing_of_its_index() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let free = volume.statistics().free;
    let directory = new(FileKind::Directory);
    let c = volume.create(COLLECTIONS, b"c", &directory, NOW).unwrap().inode;
    let index = volume.create(c, b"index", &directory, NOW).unwrap().inode;
    let file = volume.create(index, b"f", &new(FileKind::Regular), NOW).unwrap().inode;
    volume.write(file, 0, &[3; 500_000], NOW).unwrap();
    volume.sync(NOW).unwrap();
    volume.remove_directory(COLLECTIONS, b"c", &|_| true, NOW).unwrap();
    volume.sync(NOW).unwrap();
    drop(volume);
    // The collection, its matrix, its index and the file in that.
    assert_eq!(clean(&ram), 4);
    let mut volume = mount(&ram);
    settle(&mut volume);
    assert_eq!(volume.attributes(file), Err(Error::NotFound));
    assert_eq!(volume.statistics().free, free);
}

#[test]
fn a_program_that_knows_no_index_may_not_write() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let bits = |volume: &Volume<Direct<&Ram>>| volume.superblock().read_only_compatible.get();
    assert_eq!(bits(&volume), 0);
    let c = volume.create(COLLECTIONS, b"c", &new(FileKind::Directory), NOW).unwrap().inode;
    volume.create(c, b"index", &new(FileKind::Directory), NOW).unwrap();
    volume.sync(NOW).unwrap();
    assert_eq!(bits(&volume), 1);
}

#[test]
fn a_lease_is_over_in_time_and_keeps_others_off_until_then() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let at = |seconds| Time { seconds, nanoseconds: 0 };
    let file = volume.create(ROOT, b"file", &new(FileKind::Regular), at(1000)).unwrap().inode;
    volume.set_attribute(file, b"user.vector.v:i8", &[7; 64], SetMode::Any, &root(), at(1000)).unwrap();
    let mut lease = |value: &[u8], mode, now| {
        volume.set_attribute(file, b"user.vexfs.lease.v", value, mode, &root(), at(now))
    };
    assert_eq!(lease(b"a 10", SetMode::Any, 1000), Ok(()));
    assert_eq!(lease(b"b 10", SetMode::Any, 1009), Err(Error::Busy));
    assert_eq!(lease(b"a 10", SetMode::Replace, 1009), Ok(()));
    assert_eq!(lease(b"b 10", SetMode::Any, 1018), Err(Error::Busy));
    assert_eq!(lease(b"b 10", SetMode::Any, 1019), Ok(()));
    assert_eq!(lease(b"a 10", SetMode::Replace, 1020), Err(Error::Busy));
    assert_eq!(lease(b"a 10", SetMode::Any, 900), Ok(()), "the clock was set back");
    assert_eq!(lease(b"a 0", SetMode::Replace, 900), Ok(()));
    assert_eq!(
        lease(b"b 86401", SetMode::Any, 900),
        Err(Error::Invalid(
            "a lease is `HOLDER SECONDS`: 1 to 64 printable characters without a space, and 0 to 86400",
        ))
    );
    // As many as are kept in mind.
    for number in 0..4096 {
        let name = format!("{number}");
        let other = volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), at(900)).unwrap().inode;
        volume
            .set_attribute(other, b"user.vexfs.lease.v", b"a 10", SetMode::Create, &root(), at(900))
            .unwrap();
    }
    let mut lease =
        |now| volume.set_attribute(file, b"user.vexfs.lease.v", b"b 10", SetMode::Any, &root(), at(now));
    assert_eq!((lease(909), lease(910)), (Err(Error::Busy), Ok(())));
    settle(&mut volume);
}

#[test]
fn a_vector_says_which_content_it_was_made_from() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let file = volume.create(ROOT, b"file", &new(FileKind::Regular), NOW).unwrap().inode;
    let set = |volume: &mut Volume<Direct<&Ram>>, name: &str, value: u8| {
        volume.set_attribute(file, name.as_bytes(), &[value; 64], SetMode::Any, &root(), NOW)
    };
    let fresh =
        |volume: &Volume<Direct<&Ram>>| volume.attribute(file, b"user.vexfs.fresh.v").unwrap() == b"1";
    volume.write(file, 0, b"one", NOW).unwrap();
    let version = |volume: &Volume<Direct<&Ram>>| volume.attributes(file).unwrap().version;
    let one = version(&volume);
    volume.write(file, 0, b"two", NOW).unwrap();
    let two = version(&volume);
    set(&mut volume, &format!("user.vector.v:i8@{one}"), 1).unwrap();
    assert!(!fresh(&volume));
    assert!(matches!(set(&mut volume, &format!("user.vector.v@{}", two + 1), 1), Err(Error::Invalid(_))));
    set(&mut volume, &format!("user.vector.v@{two}"), 2).unwrap();
    assert!(fresh(&volume));
    assert_eq!(set(&mut volume, &format!("user.vector.v@{one}"), 3), Err(Error::Outdated));
    assert_eq!(volume.attribute(file, b"user.vector.v").unwrap(), [2; 64]);
    // Other vectors of the file are of the content that it is first closed with.
    let new_file = volume.create(ROOT, b"new", &new(FileKind::Regular), NOW).unwrap().inode;
    for name in [&b"user.vector.v.1"[..], b"user.vector.v@1"] {
        volume.set_attribute(new_file, name, &[1; 64], SetMode::Any, &root(), NOW).unwrap();
        volume.await_content(new_file, name).unwrap();
    }
    assert!(!volume.awaits_content(new_file), "what comes is not what the second was made from");
    settle(&mut volume);
}

#[test]
fn a_renamed_collection_keeps_no_row_for_who_staged_in_it() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let now = Time { seconds: 1, nanoseconds: 0 };
    let file = volume.create(ROOT, b"file", &new(FileKind::Regular), now).unwrap().inode;
    let set = |volume: &mut Volume<Direct<&Ram>>, name: &[u8]| {
        volume.set_attribute(file, name, &[7; 64], SetMode::Any, &root(), now).unwrap();
    };
    set(&mut volume, b"user.vector.old:i8");
    assert!(volume.stage_vector(file, b"user.vector.old:i8.1", &[8; 64], &root(), now).unwrap());
    let (from, to) = ((COLLECTIONS, &b"old"[..]), (COLLECTIONS, &b"new"[..]));
    volume.rename(from, to, RenameFlags::empty(), &|_| false, now).unwrap();
    set(&mut volume, b"user.vector.new:i8.2");
    let mut rows = Vec::new();
    volume.vectors_of(file, &mut |vector| rows.push(vector.row)).unwrap();
    assert_eq!(rows, [0, 1]);
}
