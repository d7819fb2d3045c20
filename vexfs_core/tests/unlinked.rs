//! Vectors of open files that lose their last name, or have none.

mod common;

use vexfs_core::format::{COLLECTIONS, FileKind, ROOT};
use vexfs_core::numbers::CollectionId;
use vexfs_core::operations::SetMode;
use vexfs_core::{Error, Volume};

use common::*;

#[test]
fn an_open_file_keeps_its_vector_after_its_last_name() {
    let closed = |_| false;
    let ram = device(4096);
    let mut volume = mount(&ram);
    let free = volume.statistics().free;
    let inode = volume.create(ROOT, b"open", &new(FileKind::Regular), NOW).unwrap().inode;
    volume.set_attribute(inode, b"user.vector.c:i8.2", &[5; 64], SetMode::Create, &root(), NOW).unwrap();
    volume.unlink(ROOT, b"open", &|_| true, NOW).unwrap();
    assert_eq!(volume.attribute(inode, b"user.vector.c:i8.2").unwrap(), [5; 64]);
    assert_eq!(volume.collection(CollectionId(1)).unwrap().live, 0);
    volume.release(inode, NOW).unwrap();
    assert_eq!(volume.attributes(inode), Err(Error::NotFound));
    volume.remove_directory(COLLECTIONS, b"c", &closed, NOW).unwrap();
    settle(&mut volume);
    assert_eq!(volume.statistics().free, free);
}

#[test]
fn a_vector_of_an_open_file_without_a_name_goes_with_it() {
    let name: &[u8] = b"user.vector.c";
    let vector = |seed: u8| f32::from(seed).to_le_bytes().repeat(16);
    for block_size in BLOCK_SIZES {
        for crash in [false, true] {
            let ram = device(block_size);
            let mut volume = mount(&ram);
            let mut files = Vec::new();
            for file in ["named", "new", "kept"] {
                let made = volume.create(ROOT, file.as_bytes(), &new(FileKind::Regular), NOW).unwrap();
                files.push(made.inode);
            }
            let [named, fresh, kept] = files[..] else { unreachable!() };
            let set = |volume: &mut Volume<_>, inode, seed, mode| {
                volume.set_attribute(inode, name, &vector(seed), mode, &root(), NOW)
            };
            set(&mut volume, named, 1, SetMode::Any).unwrap();
            set(&mut volume, kept, 2, SetMode::Any).unwrap();
            let about: &[u8] = b"user.vector.c.meta";
            volume.set_attribute(kept, about, b"{\"page\":3}", SetMode::Any, &root(), NOW).unwrap();
            volume.unlink(ROOT, b"new", &|_| true, NOW).unwrap();
            volume.unlink(ROOT, b"kept", &|_| true, NOW).unwrap();
            set(&mut volume, fresh, 3, SetMode::Create).unwrap();
            assert_eq!(set(&mut volume, kept, 4, SetMode::Create), Err(Error::Exists));
            set(&mut volume, kept, 4, SetMode::Replace).unwrap();
            assert_eq!(volume.attribute(fresh, name).unwrap(), vector(3));
            assert_eq!(volume.attribute(kept, name).unwrap(), vector(4));
            assert_eq!(volume.attribute(kept, about).unwrap(), b"{\"page\":3}");
            assert_eq!(volume.list_attributes(kept).unwrap(), b"user.vector.c\0user.vector.c.meta\0");
            volume.commit(NOW).unwrap();
            if crash {
                drop(volume);
                assert_eq!(clean(&ram), 2);
                volume = mount(&ram);
            } else {
                volume.release(fresh, NOW).unwrap();
                volume.release(kept, NOW).unwrap();
            }
            settle(&mut volume);
            let mut rows = Vec::new();
            volume
                .rows_of(CollectionId(1), 0, &mut |row, _| {
                    rows.push(row);
                    true
                })
                .unwrap();
            assert_eq!(rows, [0]);
            assert_eq!(volume.collection(CollectionId(1)).unwrap().live, 1);
            drop(volume);
            clean(&ram);
        }
    }
}

#[test]
fn an_open_file_without_a_name_may_lose_its_vector() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let file = volume.create(ROOT, b"f", &new(FileKind::Regular), NOW).unwrap().inode;
    volume.set_attribute(file, b"user.vector.c", &[0; 64], SetMode::Any, &root(), NOW).unwrap();
    volume.unlink(ROOT, b"f", &|_| true, NOW).unwrap();
    volume.remove_attribute(file, b"user.vector.c", &root(), NOW).unwrap();
    assert_eq!(volume.attribute(file, b"user.vector.c"), Err(Error::NoAttribute));
    assert_eq!(volume.remove_attribute(file, b"user.vector.c", &root(), NOW), Err(Error::NoAttribute));
    volume.release(file, NOW).unwrap();
    settle(&mut volume);
    drop(volume);
    clean(&ram);
}
