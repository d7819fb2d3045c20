//! Recoding: another codec in another matrix, while vectors come, change and go, and readers of the old one keep it.

mod common;

use vexfs_core::Error;
use vexfs_core::check::{CheckOptions, check};
use vexfs_core::codec;
use vexfs_core::format::{
    COLLECTIONS, Codec, Element, FileKind, HISTORY_MAX, Incompatible, ROOT, collection_directory,
};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{NewVector, RenameFlags, SetMode};

use common::*;

const NAME: &[u8] = b"user.vector.c";
const DIMENSIONS: u32 = 100;

fn vector(seed: u32) -> Vec<u8> {
    let value = |d: u32| ((seed * 37 + d * 11) % 199) as f32 / 99.0 - 1.0;
    (0..DIMENSIONS).flat_map(|d| value(d).to_le_bytes()).collect()
}

// What is left of a vector that was stored in one codec after the other.
fn after(mut value: Vec<u8>, codecs: &[Codec]) -> Vec<u8> {
    for codec in codecs {
        let mut row = vec![0; codec::stored_len(*codec, Element::F32, DIMENSIONS).unwrap() as usize];
        let scale = codec::encode(*codec, Element::F32, &value, &mut row).unwrap();
        codec::decode(*codec, Element::F32, &row, scale, &mut value).unwrap();
    }
    value
}

fn file(volume: &mut Mounted<'_>, number: u32) -> Ino {
    let name = format!("file {number}");
    volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode
}

fn set(volume: &mut Mounted<'_>, inode: Ino, seed: u32) {
    volume.set_attribute(inode, NAME, &vector(seed), SetMode::Any, &root(), NOW).unwrap();
}

// A collection with so many vectors, of a file each.
fn filled(volume: &mut Mounted<'_>, count: u32) -> (CollectionId, Vec<Ino>) {
    let files: Vec<Ino> = (0..count).map(|number| file(volume, number)).collect();
    files.iter().zip(0..).for_each(|(inode, seed)| set(volume, *inode, seed));
    (volume.collection_by_name(b"c").unwrap().id, files)
}

fn finish(volume: &mut Mounted<'_>, id: CollectionId) {
    for _ in 0..10_000 {
        if volume.collection(id).unwrap().recode.is_none() {
            return;
        }
        volume.recode_step(id, NOW).unwrap();
    }
    panic!("a recode does not come to its end");
}

// Does the work that waits, and finds no error; a matrix that was replaced may wait to be freed.
fn whole(volume: &mut Mounted<'_>) {
    work(volume);
    let options = CheckOptions { vectors: true, ..CheckOptions::default() };
    let mut found = Vec::new();
    check(volume.host().clone(), options, &mut |finding| found.push(*finding), &mut |_, _| {}).unwrap();
    found.retain(|finding| finding.is_error());
    assert_eq!(found, []);
}

// Frees what was replaced, which no crash leads back to by then.
fn free_retired(volume: &mut Mounted<'_>) {
    volume.commit(NOW).unwrap();
    for matrix in volume.retired().to_vec() {
        while !volume.free_retired(matrix, NOW).unwrap() {}
    }
}

fn shown(volume: &Mounted<'_>, id: CollectionId, name: &[u8]) -> Ino {
    volume.lookup(collection_directory(id), name).unwrap().inode
}

#[test]
fn every_codec_becomes_every_other() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let mut volume = mount(&ram);
        let (id, files) = filled(&mut volume, 70);
        let mut codecs = vec![Codec::None];
        for codec in [Codec::Sq8, Codec::None, Codec::F16, Codec::Sq4, Codec::Sq8, Codec::Binary, Codec::None]
        {
            let before = volume.collection(id).unwrap();
            volume.recode(id, codec, NOW).unwrap();
            finish(&mut volume, id);
            codecs.push(codec);
            let now = volume.collection(id).unwrap();
            assert_eq!((now.codec, now.live), (codec, 70));
            assert!(now.changes > before.changes && now.matrix != before.matrix);
            for (inode, seed) in files.iter().zip(0..) {
                assert_eq!(volume.attribute(*inode, NAME).unwrap(), after(vector(seed), &codecs));
            }
            free_retired(&mut volume);
            whole(&mut volume);
        }
        for number in 0..70 {
            volume.unlink(ROOT, format!("file {number}").as_bytes(), &|_| false, NOW).unwrap();
        }
        whole(&mut volume);
        volume.remove_directory(COLLECTIONS, b"c", &|_| false, NOW).unwrap();
        whole(&mut volume);
        let empty = device(block_size);
        let free = mount(&empty).statistics().free;
        assert_eq!(volume.statistics().free, free, "something of the matrices is left");
    }
}

#[test]
fn what_changes_meanwhile_is_in_the_new_matrix() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 60);
    volume.recode(id, Codec::Sq8, NOW).unwrap();
    // Some of the rows are passed, some not.
    volume.recode_step(id, NOW).unwrap();
    let passed = volume.collection(id).unwrap().recode.unwrap().next;
    assert!((1..60).contains(&passed), "{passed} of 60 rows were passed");
    let mut seeds: Vec<u32> = (0..60).collect();
    for number in [0, 5, 59] {
        set(&mut volume, files[number], 1000 + number as u32);
        seeds[number] = 1000 + number as u32;
    }
    for number in [3, 58] {
        volume.remove_attribute(files[number], NAME, &root(), NOW).unwrap();
    }
    // Rows that came free are taken again, by a batch.
    work_without_recode(&mut volume);
    let more: Vec<Ino> = (60..70).map(|number| file(&mut volume, number)).collect();
    let values: Vec<Vec<u8>> = (60..70).map(vector).collect();
    let batch: Vec<NewVector<'_>> = (more.iter().zip(&values))
        .map(|(inode, value)| NewVector { inode: *inode, n: 0, value, keep: false })
        .collect();
    volume.set_vectors(id, &batch, &root(), NOW).unwrap();
    // Saved over, and so inherited: the row stays, its file is another.
    let heir = file(&mut volume, 100);
    volume.rename((ROOT, b"file 100"), (ROOT, b"file 1"), RenameFlags::empty(), &|_| false, NOW).unwrap();
    finish(&mut volume, id);
    whole(&mut volume);
    let codecs = [Codec::None, Codec::Sq8];
    for (number, inode) in files.iter().enumerate() {
        match number {
            3 | 58 => assert_eq!(volume.attribute(*inode, NAME), Err(Error::NoAttribute)),
            1 => assert_eq!(volume.attribute(heir, NAME).unwrap(), after(vector(1), &codecs)),
            _ => assert_eq!(volume.attribute(*inode, NAME).unwrap(), after(vector(seeds[number]), &codecs)),
        }
    }
    for (inode, seed) in more.iter().zip(60..) {
        assert_eq!(volume.attribute(*inode, NAME).unwrap(), after(vector(seed), &codecs));
    }
    assert_eq!(volume.collection(id).unwrap().live, 68);
}

// Commits, and blanks what was freed; a recode does not go on by that.
fn work_without_recode(volume: &mut Mounted<'_>) {
    volume.commit(NOW).unwrap();
    let id = volume.collection_by_name(b"c").unwrap().id;
    let before = volume.collection(id).unwrap().recode;
    volume.tidy(NOW).unwrap();
    assert_eq!(volume.collection(id).unwrap().recode, before);
}

#[test]
fn a_crash_leaves_a_part_of_the_work_done() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 60);
    volume.recode(id, Codec::Sq4, NOW).unwrap();
    volume.recode_step(id, NOW).unwrap();
    let passed = volume.collection(id).unwrap().recode;
    volume.commit(NOW).unwrap();
    let incompatible = volume.superblock().incompatible.get();
    assert_ne!(incompatible & Incompatible::RECODE.bits(), 0, "the feature is told");
    assert_eq!(clean(&ram), 0);
    drop(volume);
    let mut volume = mount(&ram);
    assert_eq!(volume.collection(id).unwrap().recode, passed);
    // The background work goes on by itself, and what was replaced is freed at the mount after.
    whole(&mut volume);
    assert_eq!(volume.collection(id).unwrap().codec, Codec::Sq4);
    assert_eq!(clean(&ram), 1);
    let mut volume = mount(&ram);
    whole(&mut volume);
    assert_eq!(clean(&ram), 0);
    let codecs = [Codec::None, Codec::Sq4];
    for (inode, seed) in files.iter().zip(0..) {
        assert_eq!(volume.attribute(*inode, NAME).unwrap(), after(vector(seed), &codecs));
    }
}

#[test]
fn who_has_the_old_files_open_keeps_them() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 40);
    volume.recode(id, Codec::Sq8, NOW).unwrap();
    finish(&mut volume, id);
    free_retired(&mut volume);
    let old = [b"vectors.npy".as_slice(), b"scale.npy"].map(|name| shown(&volume, id, name));
    let bytes = old.map(|inode| contents(&volume, inode));
    let rest = [b"headers.npy".as_slice(), b"valid.npy"].map(|name| shown(&volume, id, name));
    let sizes = rest.map(|inode| volume.attributes(inode).unwrap().size);
    volume.recode(id, Codec::Sq4, NOW).unwrap();
    finish(&mut volume, id);
    set(&mut volume, files[7], 700);
    whole(&mut volume);
    let now = [b"vectors.npy".as_slice(), b"scale.npy"].map(|name| shown(&volume, id, name));
    for index in 0..2 {
        assert_ne!(old[index], now[index]);
        assert_eq!(contents(&volume, old[index]), bytes[index], "the old file changed");
        assert_ne!(contents(&volume, now[index]), bytes[index]);
        assert_eq!(volume.matrix_of(old[index]), Some(old[0]));
        assert!(volume.attributes(rest[index]).unwrap().size >= sizes[index], "a mapped column got shorter");
    }
    assert_eq!(volume.retired(), [old[0]]);
    free_retired(&mut volume);
    assert_eq!(volume.attributes(old[0]), Err(Error::NotFound));
    whole(&mut volume);
    assert_eq!(clean(&ram), 0);
}

#[test]
fn it_can_be_given_up_and_what_is_in_its_way_is_told() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 40);
    whole(&mut volume);
    let free = volume.statistics().free;
    assert!(matches!(volume.stop_recode(id, NOW), Err(Error::Invalid(_))));
    volume.recode(id, Codec::None, NOW).unwrap();
    assert_eq!(volume.collection(id).unwrap().recode, None, "there is nothing to do");
    volume.recode(id, Codec::Binary, NOW).unwrap();
    volume.recode_step(id, NOW).unwrap();
    assert!(matches!(volume.recode(id, Codec::Sq8, NOW), Err(Error::Underway(_))));
    assert!(matches!(volume.compact(id), Err(Error::Underway(_))));
    volume.stop_recode(id, NOW).unwrap();
    whole(&mut volume);
    assert_eq!((volume.collection(id).unwrap().codec, clean(&ram)), (Codec::None, 0));
    assert_eq!(volume.attribute(files[3], NAME).unwrap(), vector(3));
    assert!(volume.statistics().free >= free - 2, "the space of the second matrix came back");
    // A value that a half cannot have: it says so, and goes on when that is mended.
    let large = 1e6_f32.to_le_bytes().repeat(DIMENSIONS as usize);
    volume.set_attribute(files[9], NAME, &large, SetMode::Any, &root(), NOW).unwrap();
    volume.recode(id, Codec::F16, NOW).unwrap();
    let stopped = loop {
        match volume.tidy(NOW) {
            Ok(true) => {}
            other => break other,
        }
    };
    assert!(matches!(stopped, Err(Error::Invalid(_))), "{stopped:?}");
    assert_eq!(volume.recode_stopped(id), stopped.err());
    set(&mut volume, files[9], 9);
    volume.recode(id, Codec::F16, NOW).unwrap();
    whole(&mut volume);
    assert_eq!(volume.collection(id).unwrap().codec, Codec::F16);
    volume.compact(id).unwrap();
    assert!(matches!(volume.recode(id, Codec::None, NOW), Err(Error::Underway(_))));
    whole(&mut volume);
}

#[test]
fn elements_that_a_codec_cannot_take_are_refused() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let inode = file(&mut volume, 0);
    volume.set_attribute(inode, b"user.vector.c:i8", &[5; 64], SetMode::Any, &root(), NOW).unwrap();
    let id = volume.collection_by_name(b"c").unwrap().id;
    assert!(matches!(volume.recode(id, Codec::Sq8, NOW), Err(Error::Invalid(_))));
    assert_eq!(volume.collection(id).unwrap().recode, None);
    whole(&mut volume);
}

#[test]
fn superseded_vectors_keep_the_codec_they_had() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 30);
    let (keep, all) = (b"user.vexfs.history", HISTORY_MAX.to_string());
    volume.set_attribute(collection_directory(id), keep, all.as_bytes(), SetMode::Any, &root(), NOW).unwrap();
    set(&mut volume, files[4], 400);
    volume.recode(id, Codec::Sq8, NOW).unwrap();
    volume.recode_step(id, NOW).unwrap();
    set(&mut volume, files[4], 401);
    finish(&mut volume, id);
    set(&mut volume, files[4], 402);
    whole(&mut volume);
    let back = |name: &[u8]| volume.attribute(files[4], name).unwrap();
    assert_eq!(back(b"user.vector.c@-1"), after(vector(401), &[Codec::Sq8]));
    assert_eq!(back(b"user.vector.c@-2"), vector(400));
    assert_eq!(back(b"user.vector.c@-3"), vector(4));
}

#[test]
fn a_full_volume_stops_it_and_gives_the_space_back() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 200);
    volume.recode(id, Codec::Sq4, NOW).unwrap();
    finish(&mut volume, id);
    free_retired(&mut volume);
    whole(&mut volume);
    // Room for a part of the larger matrix alone.
    let filler = file(&mut volume, 999);
    let available = volume.statistics().available * 4096;
    volume.write(filler, 0, &vec![7; (available - 50 * 4096) as usize], NOW).unwrap();
    volume.commit(NOW).unwrap();
    volume.commit(NOW).unwrap();
    volume.recode(id, Codec::None, NOW).unwrap();
    let stopped = loop {
        match volume.tidy(NOW) {
            Ok(true) => {}
            Err(Error::NoSpace { pending }) if pending > 0 => volume.commit(NOW).unwrap(),
            other => break other,
        }
    };
    assert!(matches!(stopped, Err(Error::NoSpace { .. })), "{stopped:?}");
    volume.commit(NOW).unwrap();
    assert_eq!(volume.tidy(NOW), Ok(false), "it is not tried over and over");
    clean(&ram);
    let expected = after(vector(150), &[Codec::Sq4]);
    assert_eq!(volume.attribute(files[150], NAME).unwrap(), expected);
    volume.stop_recode(id, NOW).unwrap();
    whole(&mut volume);
    assert_eq!(volume.collection(id).unwrap().codec, Codec::Sq4);
    assert_eq!(volume.attribute(files[150], NAME).unwrap(), expected);
}
