//! Collections that are stored by a codebook: set, read, recoded to and from, checked, mended.

mod common;

use vexfs_core::Error;
use vexfs_core::codec::Codebook;
use vexfs_core::control::{self, Pseudo};
use vexfs_core::format::{
    CODEBOOK_PIECE, COLLECTIONS, Codec, Element, FileKind, Incompatible, MATRIX_DATA, Quantizer, ROOT,
    collection_directory,
};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Report, SetMode};

use common::*;

const NAME: &[u8] = b"user.vector.c";
const SHAPE: Quantizer = Quantizer { subvectors: 12, sub_dimensions: 8, bits: 8 };
const NARROW: Quantizer = Quantizer { subvectors: 24, sub_dimensions: 4, bits: 4 };

fn vector(seed: u32) -> Vec<u8> {
    (0..96).flat_map(|d| (((seed * 37 + d * 11) % 199) as f32 / 99.0 - 1.0).to_le_bytes()).collect()
}

fn entries(quantizer: Quantizer, seed: u32) -> Vec<u8> {
    let value = |at: u32| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 8) % 401;
    (0..quantizer.codebook_len() as u32 / 4)
        .flat_map(|at| (value(at) as f32 / 200.0 - 1.0).to_le_bytes())
        .collect()
}

// What a vector reads as.
fn read(quantizer: Quantizer, seed: u32, mut value: Vec<u8>) -> Vec<u8> {
    let codebook = Codebook::new(quantizer, Element::F32, entries(quantizer, seed)).unwrap();
    let mut row = vec![0; quantizer.code_len() as usize];
    codebook.encode(&value, &mut row);
    codebook.decode(&row, &mut value);
    value
}

struct Nothing;

impl Report for Nothing {
    fn status(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
    fn log(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
    fn metrics(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
}

fn set(volume: &mut Mounted<'_>, inode: Ino, seed: u32) {
    volume.set_attribute(inode, NAME, &vector(seed), SetMode::Any, &root(), NOW).unwrap();
}

fn filled(volume: &mut Mounted<'_>, count: u32) -> (CollectionId, Vec<Ino>) {
    let mut files = Vec::new();
    for number in 0..count {
        let name = format!("file {number}");
        files.push(volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode);
        set(volume, files[number as usize], number);
    }
    (volume.collection_by_name(b"c").unwrap().id, files)
}

fn finish(volume: &mut Mounted<'_>) {
    work(volume);
    volume.commit(NOW).unwrap();
    for matrix in volume.retired().to_vec() {
        while !volume.free_retired(matrix, NOW).unwrap() {}
    }
}

fn part(volume: &Mounted<'_>, id: CollectionId, name: &[u8]) -> Result<Ino, Error> {
    volume.lookup(collection_directory(id), name).map(|found| found.inode)
}

fn request(volume: &mut Mounted<'_>, id: CollectionId, text: &str) -> Result<(), Error> {
    let control = part(volume, id, b"control")?;
    volume.request(control, text.as_bytes(), NOW)
}

#[test]
fn vectors_are_stored_by_the_codebook_and_come_back() {
    for block_size in BLOCK_SIZES {
        let ram = device(block_size);
        let free = mount(&ram).statistics().free;
        let mut volume = mount(&ram);
        let (id, files) = filled(&mut volume, 60);
        volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
        // Set while it is under way, some of the rows passed.
        volume.recode_step(id, NOW).unwrap();
        set(&mut volume, files[3], 103);
        set(&mut volume, files[59], 159);
        finish(&mut volume);
        set(&mut volume, files[7], 107);
        let seed = |at: u32| if [3, 7, 59].contains(&at) { 100 + at } else { at };
        let collection = volume.collection(id).unwrap();
        assert_eq!((collection.codec, collection.stored_len, collection.stride), (Codec::Pq(SHAPE), 12, 64));
        settle(&mut volume);
        drop(volume);
        // Without a copy in memory they are looked up where the codebook lies.
        let mut volume = mount(&ram);
        for (inode, at) in files.iter().zip(0..) {
            let expected = read(SHAPE, 1, vector(seed(at)));
            assert_eq!(volume.attribute(*inode, NAME).unwrap(), expected, "vector {at}");
        }
        // Another codebook is another recode, even of the same shape; and back to elements.
        volume.recode_with(id, NARROW, &entries(NARROW, 2), NOW).unwrap();
        finish(&mut volume);
        volume.recode_with(id, NARROW, &entries(NARROW, 3), NOW).unwrap();
        finish(&mut volume);
        volume.recode(id, Codec::None, NOW).unwrap();
        finish(&mut volume);
        for (inode, at) in files.iter().zip(0..) {
            let first = read(NARROW, 2, read(SHAPE, 1, vector(seed(at))));
            assert_eq!(volume.attribute(*inode, NAME).unwrap(), read(NARROW, 3, first));
        }
        assert_eq!(part(&volume, id, b"codebook.npy"), Err(Error::NotFound));
        for number in 0..60 {
            volume.unlink(ROOT, format!("file {number}").as_bytes(), &|_| false, NOW).unwrap();
        }
        finish(&mut volume);
        volume.remove_directory(COLLECTIONS, b"c", &|_| false, NOW).unwrap();
        settle(&mut volume);
        assert_eq!(volume.statistics().free, free, "something of the codebooks is left");
    }
}

#[test]
fn the_codebook_is_a_file_beside_the_matrix() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume, 5);
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    finish(&mut volume);
    let inode = part(&volume, id, b"codebook.npy").unwrap();
    assert_eq!(control::pseudo(inode), Some(Pseudo::Column));
    let bytes = contents(&volume, inode);
    let (head, data) = bytes.split_at(MATRIX_DATA as usize);
    let head = String::from_utf8_lossy(head);
    assert!(head.contains("'descr': '<f4', 'fortran_order': False, 'shape': (12, 256, 8)"), "{head}");
    assert_eq!(data, entries(SHAPE, 1));
    // Read in odd pieces, across records.
    for offset in [0, 4090, 4096, 4097, 4096 + CODEBOOK_PIECE as u64 - 1, bytes.len() as u64 - 3] {
        let mut some = [0; 2000];
        let len = volume.read(inode, offset, &mut some).unwrap();
        let end = bytes.len().min(offset as usize + some.len());
        assert_eq!(some[..len], bytes[offset as usize..end], "from {offset}");
    }
    // One that was replaced serves whoever has it open.
    volume.recode_with(id, NARROW, &entries(NARROW, 2), NOW).unwrap();
    work(&mut volume);
    assert_eq!(contents(&volume, inode), bytes);
    assert_ne!(part(&volume, id, b"codebook.npy").unwrap(), inode);
    assert_eq!(volume.codebook_entries(id).unwrap().unwrap(), entries(NARROW, 2));
    finish(&mut volume);
    assert_eq!(volume.attributes(inode), Err(Error::NotFound));
    let schema = part(&volume, id, b"schema.json").unwrap();
    let schema = String::from_utf8(volume.render(schema, &Nothing).unwrap()).unwrap();
    assert!(schema.contains(r#""codec":"pq""#), "{schema}");
    assert!(schema.contains(r#""codebook":{"subvectors":24,"bits":4}"#), "{schema}");
    assert!(volume.superblock().incompatible.get() & Incompatible::QUANTIZERS.bits() != 0);
}

#[test]
fn what_does_not_fit_is_refused() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume, 5);
    let before = volume.statistics().free;
    let other = Quantizer { subvectors: 13, ..SHAPE };
    assert!(matches!(volume.recode_with(id, other, &entries(other, 1), NOW), Err(Error::Invalid(_))));
    let short = &entries(SHAPE, 1)[4..];
    assert!(matches!(volume.recode_with(id, SHAPE, short, NOW), Err(Error::Invalid(_))));
    assert!(matches!(volume.recode(id, Codec::Pq(SHAPE), NOW), Err(Error::Invalid(_))));
    assert_eq!(volume.statistics().free, before);
    for text in ["recode pq", "recode pq 12 8 missing", "recode pq 5 8 x", "recode pq 12 7 x"] {
        assert!(request(&mut volume, id, text).is_err(), "{text}");
    }
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    let again = volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW);
    assert!(matches!(again, Err(Error::Underway(_))));
    // It is under way, so this goes on with it.
    request(&mut volume, id, "recode pq").unwrap();
    request(&mut volume, id, "recode stop").unwrap();
    finish(&mut volume);
    assert_eq!(volume.collection(id).unwrap().codec, Codec::None);
    settle(&mut volume);
}

#[test]
fn a_codebook_comes_from_a_file_of_the_index_directory() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 5);
    let index = volume.create(collection_directory(id), b"index", &new(FileKind::Directory), NOW).unwrap();
    for (shape, seed) in [(SHAPE, 4), (Quantizer { subvectors: 96, sub_dimensions: 1, bits: 4 }, 5)] {
        let file = volume.create(index.inode, b"codebook.new", &new(FileKind::Regular), NOW).unwrap().inode;
        volume.write(file, 0, &entries(shape, seed), NOW).unwrap();
        let text = format!("recode pq {} {} codebook.new", shape.subvectors, shape.bits);
        let wrong = format!("recode pq {} {} codebook.new", shape.subvectors, 12 - shape.bits);
        assert!(
            matches!(request(&mut volume, id, &wrong), Err(Error::Invalid(why)) if why.contains("as long as"))
        );
        request(&mut volume, id, &text).unwrap();
        volume.unlink(index.inode, b"codebook.new", &|_| false, NOW).unwrap();
        finish(&mut volume);
        assert_eq!(volume.collection(id).unwrap().codec, Codec::Pq(shape));
        assert_eq!(volume.codebook_entries(id).unwrap().unwrap(), entries(shape, seed));
    }
    assert_eq!(
        volume.attribute(files[2], NAME).unwrap(),
        read(Quantizer { subvectors: 96, sub_dimensions: 1, bits: 4 }, 5, read(SHAPE, 4, vector(2)))
    );
    settle(&mut volume);
}

#[test]
fn an_empty_collection_gets_a_codebook_before_its_vectors() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    volume.create(COLLECTIONS, b"c", &new(FileKind::Directory), NOW).unwrap();
    let id = volume.collection_by_name(b"c").unwrap().id;
    let directory = collection_directory(id);
    let setting = |volume: &mut Mounted<'_>, name: &[u8], value: &[u8]| {
        volume.set_attribute(directory, name, value, SetMode::Any, &root(), NOW)
    };
    // No dimension yet.
    assert!(volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).is_err());
    setting(&mut volume, b"user.vexfs.dim", b"96").unwrap();
    let refused = setting(&mut volume, b"user.vexfs.codec", b"pq");
    assert!(matches!(refused, Err(Error::Unsupported(why)) if why.contains("vexfs recode")), "{refused:?}");
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    finish(&mut volume);
    // The codebook is of vectors of this dimension, so it stays, and so does the codec.
    for (name, value) in [(&b"user.vexfs.dim"[..], &b"48"[..]), (b"user.vexfs.codec", b"sq8")] {
        assert!(setting(&mut volume, name, value).is_err());
    }
    assert_eq!(volume.attribute(directory, b"user.vexfs.codec").unwrap(), b"pq");
    let (_, files) = filled(&mut volume, 3);
    assert_eq!(volume.attribute(files[1], NAME).unwrap(), read(SHAPE, 1, vector(1)));
    settle(&mut volume);
}

#[test]
fn superseded_vectors_outlive_their_codebook() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 3);
    let directory = collection_directory(id);
    volume.set_attribute(directory, b"user.vexfs.history", b"4", SetMode::Any, &root(), NOW).unwrap();
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    finish(&mut volume);
    set(&mut volume, files[0], 50);
    volume.recode(id, Codec::Sq8, NOW).unwrap();
    finish(&mut volume);
    set(&mut volume, files[0], 51);
    assert_eq!(volume.attribute(files[0], b"user.vector.c@-2").unwrap(), read(SHAPE, 1, vector(0)));
    settle(&mut volume);
}

#[test]
fn one_that_is_stopped_leaves_nothing() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume, 3);
    work(&mut volume);
    let free = volume.statistics().free;
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    request(&mut volume, id, "recode stop").unwrap();
    finish(&mut volume);
    assert!(volume.statistics().free + 2 >= free, "{} of {free} blocks", volume.statistics().free);
    settle(&mut volume);
}

#[test]
fn the_element_type_stays_while_there_is_a_codebook() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume, 3);
    volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW).unwrap();
    finish(&mut volume);
    // The codebook is in memory now, as one of f32.
    set(&mut volume, files[0], 9);
    for number in 0..3 {
        volume.unlink(ROOT, format!("file {number}").as_bytes(), &|_| false, NOW).unwrap();
    }
    finish(&mut volume);
    let directory = collection_directory(id);
    let mut element = |value: &[u8]| {
        volume.set_attribute(directory, b"user.vexfs.element", value, SetMode::Any, &root(), NOW)
    };
    element(b"f32").unwrap();
    let refused = element(b"f16");
    assert!(matches!(refused, Err(Error::NotPermitted(why)) if why.contains("codebook")), "{refused:?}");
    settle(&mut volume);
}

#[test]
fn the_volume_names_the_feature_before_a_piece_of_a_codebook_is_durable() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume, 3);
    // A full volume, to which some blocks after the other are given back until a codebook is put in part.
    let mut create = |name: &str, bytes: &[u8]| {
        let file = volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode;
        let mut len = 0;
        while volume.write(file, len, bytes, NOW).is_ok() && bytes.len() > 65536 {
            len += bytes.len() as u64;
        }
        file
    };
    let fillers: Vec<Ino> = (0..60).map(|number| create(&format!("filler {number}"), &[7; 16384])).collect();
    create("large", &[7; 131_072]);
    work(&mut volume);
    for (number, filler) in fillers.iter().enumerate() {
        volume.unlink(ROOT, format!("filler {number}").as_bytes(), &|_| false, NOW).unwrap();
        volume.release(*filler, NOW).unwrap();
        work(&mut volume);
        let free = volume.statistics().free;
        match volume.recode_with(id, SHAPE, &entries(SHAPE, 1), NOW) {
            Err(Error::NoSpace { .. }) => {}
            other => panic!("it never failed in the middle: {other:?}"),
        }
        // More than the records of a new matrix take: pieces.
        if volume.statistics().free + 16 < free {
            break;
        }
    }
    volume.commit(NOW).unwrap();
    assert!(volume.superblock().incompatible.get() & Incompatible::QUANTIZERS.bits() != 0);
    settle(&mut volume);
}
