//! `vectors.arrow`: what a reader of Arrow's format, written here from its description, finds in a collection's file.

mod common;

use std::collections::BTreeMap;

use vexfs_core::codec;
use vexfs_core::control::{Pseudo, SCALE, arrow, pseudo};
use vexfs_core::format::{COLLECTIONS, Codec, Element, FileKind, ROOT, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{NewVector, SetMode};

use common::*;

// ---- A reader of flatbuffers, as "FlatBuffer Internals" has them.

#[derive(Clone, Copy)]
struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
}

fn number<const LEN: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..LEN].copy_from_slice(&bytes[at..at + LEN]);
    assert_eq!(at % LEN, 0, "a number is aligned to its size");
    u64::from_le_bytes(wide)
}

impl<'a> Table<'a> {
    fn root(bytes: &'a [u8]) -> Self {
        Self { bytes, at: number::<4>(bytes, 0) as usize }
    }

    /// Where field `index` lies; none for one that is not there.
    fn place(self, index: usize) -> Option<usize> {
        let vtable = self.at - number::<4>(self.bytes, self.at) as usize;
        let len = number::<2>(self.bytes, vtable) as usize;
        let entry = 4 + 2 * index;
        let offset = if entry < len { number::<2>(self.bytes, vtable + entry) as usize } else { 0 };
        (offset > 0).then_some(self.at + offset)
    }

    fn number<const LEN: usize>(self, index: usize) -> u64 {
        self.place(index).map_or(0, |at| number::<LEN>(self.bytes, at))
    }

    fn target(self, index: usize) -> usize {
        let at = self.place(index).expect("the field is there");
        at + number::<4>(self.bytes, at) as usize
    }

    fn table(self, index: usize) -> Self {
        Self { at: self.target(index), ..self }
    }

    fn tables(self, index: usize) -> Vec<Self> {
        let start = self.target(index);
        let places = (0..number::<4>(self.bytes, start) as usize).map(|item| start + 4 + 4 * item);
        places.map(|at| Self { at: at + number::<4>(self.bytes, at) as usize, ..self }).collect()
    }

    fn structs<const LONGS: usize>(self, index: usize) -> Vec<[u64; LONGS]> {
        let start = self.target(index);
        let long = |item, at| number::<8>(self.bytes, start + 4 + 8 * (LONGS * item + at));
        let count = number::<4>(self.bytes, start) as usize;
        (0..count).map(|item| std::array::from_fn(|at| long(item, at))).collect()
    }

    fn text(self, index: usize) -> String {
        let start = self.target(index);
        let len = number::<4>(self.bytes, start) as usize;
        assert_eq!(self.bytes[start + 4 + len], 0, "a string ends in NUL");
        String::from_utf8(self.bytes[start + 4..start + 4 + len].to_vec()).expect("text is UTF-8")
    }
}

// ---- A reader of Arrow's file format.

/// A column's type, as Schema.fbs numbers them, and what it says more.
#[derive(Debug, PartialEq, Eq)]
struct Type {
    kind: u64,
    /// Bits, precision, bytes or entries.
    what: u64,
    /// Of an integer.
    signed: bool,
}

struct Field {
    name: String,
    shape: Type,
    child: Option<Type>,
}

struct Batch {
    rows: u64,
    nodes: Vec<[u64; 2]>,
    buffers: Vec<Vec<u8>>,
}

struct Arrow {
    fields: Vec<Field>,
    metadata: BTreeMap<String, String>,
    batch: Batch,
}

fn type_of(field: Table<'_>) -> Type {
    let described = field.table(3);
    let kind = field.number::<1>(2);
    // The precision of a float is 16 bits wide, all others 32.
    let what = if kind == 3 { described.number::<2>(0) } else { described.number::<4>(0) };
    Type { kind, what, signed: kind == 2 && described.number::<1>(1) == 1 }
}

/// The table of an encapsulated message at `at`, and where its body begins.
fn message(bytes: &[u8], at: usize) -> (Table<'_>, usize) {
    assert_eq!(bytes[at..at + 4], [0xff; 4], "a continuation mark");
    let len = number::<4>(bytes, at + 4) as usize;
    assert_eq!((at + 8 + len) % 8, 0);
    (Table::root(&bytes[at + 8..at + 8 + len]), at + 8 + len)
}

impl Arrow {
    fn parse(bytes: &[u8]) -> Self {
        assert_eq!(&bytes[..8], b"ARROW1\0\0");
        let end = bytes.len() - 6;
        assert_eq!(&bytes[end..], b"ARROW1");
        let len = u32::from_le_bytes(bytes[end - 4..end].try_into().unwrap()) as usize;
        let footer = Table::root(&bytes[end - 4 - len..end - 4]);
        assert_eq!(footer.number::<2>(0), 4, "version 5");
        assert!(footer.structs::<3>(2).is_empty(), "no dictionaries");
        let blocks = footer.structs::<3>(3);
        let [[offset, metadata_len, body_len]] = blocks[..] else { panic!("one batch: {blocks:?}") };
        let (head, body) = message(bytes, offset as usize);
        assert_eq!(body as u64, offset + metadata_len);
        assert_eq!((head.number::<2>(0), head.number::<1>(1), head.number::<8>(3)), (4, 3, body_len));
        // Whoever reads it as a stream finds the same: the schema, the batch, the end.
        let (first, next) = message(bytes, 8);
        assert_eq!((first.number::<1>(1), next as u64), (1, offset));
        assert_eq!(bytes[body + body_len as usize..][..8], [255, 255, 255, 255, 0, 0, 0, 0]);
        let (fields, metadata) = Self::schema(footer.table(1));
        let (streamed, _) = Self::schema(first.table(2));
        assert_eq!(streamed.len(), fields.len());
        let table = head.table(2);
        let buffers = table.structs::<2>(2).into_iter();
        let buffers = buffers.map(|[at, len]| bytes[body + at as usize..][..len as usize].to_vec()).collect();
        let batch = Batch { rows: table.number::<8>(0), nodes: table.structs(1), buffers };
        Self { fields, metadata, batch }
    }

    fn schema(schema: Table<'_>) -> (Vec<Field>, BTreeMap<String, String>) {
        let field = |table: Table<'_>| Field {
            name: table.text(0),
            shape: type_of(table),
            child: table.tables(5).first().map(|child| type_of(*child)),
        };
        let pairs = schema.tables(2).into_iter().map(|pair| (pair.text(0), pair.text(1)));
        (schema.tables(1).into_iter().map(field).collect(), pairs.collect())
    }

    /// The values of a column, `width` bytes each, by row; free rows are left out.
    fn column(&self, name: &str, width: usize) -> BTreeMap<u64, Vec<u8>> {
        let mut buffer = 0;
        for field in &self.fields {
            let lists = field.child.is_some();
            let (valid, values) = (&self.batch.buffers[buffer], buffer + if lists { 2 } else { 1 });
            if field.name == name {
                let bytes = &self.batch.buffers[values];
                assert_eq!(bytes.len() as u64 / width as u64, self.batch.rows);
                let live = |row: &u64| valid[(row / 8) as usize] >> (row % 8) & 1 == 1;
                let entry = |row: u64| bytes[row as usize * width..][..width].to_vec();
                return (0..self.batch.rows).filter(live).map(|row| (row, entry(row))).collect();
            }
            buffer = values + 1;
        }
        panic!("no column {name}");
    }
}

// ---- The tests.

fn value(element: Element, dimensions: u32, seed: u32) -> Vec<u8> {
    let unit = |d: u32| ((seed * 37 + d * 11) % 199) as f32 / 99.0 - 1.0;
    match element {
        Element::F32 => (0..dimensions).flat_map(|d| unit(d).to_le_bytes()).collect(),
        Element::F16 => {
            (0..dimensions).flat_map(|d| (0x3800_u16 + ((seed + d) % 512) as u16).to_le_bytes()).collect()
        }
        _ => (0..element.bytes(dimensions).unwrap()).map(|at| (seed * 7 + at * 3) as u8).collect(),
    }
}

/// Makes a collection of `count` vectors, a file each, and every third removed again; gives file and value by row.
fn filled(
    volume: &mut Mounted<'_>,
    element: Element,
    codec: Codec,
    dimensions: u32,
    count: u32,
) -> (CollectionId, Vec<(Ino, Vec<u8>)>) {
    let directory = volume.create(COLLECTIONS, b"c", &new(FileKind::Directory), NOW).unwrap().inode;
    let set = |volume: &mut Mounted<'_>, name: &[u8], value: &str| {
        volume.set_attribute(directory, name, value.as_bytes(), SetMode::Any, &root(), NOW).unwrap();
    };
    set(volume, b"user.vexfs.element", element.name());
    set(volume, b"user.vexfs.codec", codec.name());
    set(volume, b"user.vexfs.model", "a model");
    let id = volume.collection_by_name(b"c").unwrap().id;
    let mut files = Vec::new();
    for seed in 0..count {
        let name = format!("file {seed}");
        let inode = volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode;
        files.push((inode, value(element, dimensions, seed)));
    }
    let batch: Vec<NewVector<'_>> = files
        .iter()
        .map(|(inode, value)| NewVector { inode: *inode, n: inode.0 as u32 % 5, value, keep: false })
        .collect();
    volume.set_vectors(id, &batch, &root(), NOW).unwrap();
    (id, files)
}

fn remove(volume: &mut Mounted<'_>, element: Element, inode: Ino) {
    let n = inode.0 % 5;
    let number = if n == 0 { String::new() } else { format!(".{n}") };
    let name = format!("user.vector.c:{}{number}", element.name());
    volume.remove_attribute(inode, name.as_bytes(), &root(), NOW).unwrap();
}

fn file_of(volume: &Mounted<'_>, id: CollectionId) -> Ino {
    let inode = volume.lookup(collection_directory(id), b"vectors.arrow").unwrap().inode;
    assert_eq!(pseudo(inode), Some(Pseudo::Column));
    assert_eq!(arrow::collection_of(inode), Some(id));
    inode
}

#[test]
fn every_element_and_codec_is_a_column_that_a_reader_finds() {
    let float = |what| Type { kind: 3, what, signed: false };
    let integer = |bits, signed| Type { kind: 2, what: bits, signed };
    let cases = [
        (Element::F32, Codec::None, Some(float(1))),
        (Element::F32, Codec::F16, Some(float(0))),
        (Element::F32, Codec::Sq8, Some(integer(8, true))),
        (Element::F32, Codec::Sq4, None),
        (Element::F32, Codec::Binary, None),
        (Element::F16, Codec::None, Some(float(0))),
        (Element::I8, Codec::None, Some(integer(8, true))),
        (Element::Bit, Codec::None, Some(integer(8, false))),
    ];
    for block_size in BLOCK_SIZES {
        for (element, codec, child) in &cases {
            let (element, codec) = (*element, *codec);
            let ram = device(block_size);
            let mut volume = mount_as_daemon(&ram);
            let (id, files) = filled(&mut volume, element, codec, 96, 20);
            for (inode, _) in files.iter().step_by(3) {
                remove(&mut volume, element, *inode);
            }
            volume.commit(NOW).unwrap();
            let volume = mount_as_daemon(&ram);
            let collection = volume.collection(id).unwrap();
            let arrow = Arrow::parse(&contents(&volume, file_of(&volume, id)));
            let scaled = codec::has_scale(codec);
            let names: Vec<&str> = arrow.fields.iter().map(|field| &*field.name).collect();
            assert_eq!(names[..4], ["vector", "vector_id", "inode", "n"]);
            assert_eq!(names.get(4), scaled.then_some(&"scale"), "{codec:?}");
            assert_eq!(&arrow.fields[0].child, child, "{element:?} {codec:?}");
            let stride = collection.stride as usize;
            let kind = if child.is_some() { 16 } else { 15 };
            assert_eq!(arrow.fields[0].shape.kind, kind);
            assert_eq!([1, 2, 3].map(|at| arrow.fields[at].shape.what), [64, 64, 32]);
            assert_eq!(arrow.metadata["vexfs.dimension"], "96");
            assert_eq!(arrow.metadata["vexfs.element"], element.name());
            assert_eq!(arrow.metadata["vexfs.codec"], codec.name());
            assert_eq!(arrow.metadata["vexfs.model"], "a model");
            assert_eq!(arrow.batch.rows, collection.rows);
            assert_eq!(arrow.batch.nodes[0], [collection.rows, collection.rows - collection.live]);
            let (vectors, inodes) = (arrow.column("vector", stride), arrow.column("inode", 8));
            let (ids, numbers) = (arrow.column("vector_id", 8), arrow.column("n", 4));
            assert_eq!(inodes.len() as u64, collection.live);
            let kept = files.iter().enumerate().filter(|(at, _)| at % 3 != 0).map(|(_, file)| file);
            for (inode, value) in kept {
                let row = *inodes.iter().find(|(_, bytes)| **bytes == inode.0.to_le_bytes()).unwrap().0;
                let mut stored = vec![0; collection.stored_len as usize];
                let scale = codec::encode(codec, element, value, &mut stored).unwrap();
                assert_eq!(vectors[&row][..stored.len()], stored, "{element:?} {codec:?}");
                assert_eq!(vectors[&row][stored.len()..], vec![0; stride - stored.len()]);
                assert_eq!(numbers[&row], (inode.0 as u32 % 5).to_le_bytes());
                let mut told = None;
                volume.vectors_of(*inode, &mut |vector| told = Some(vector)).unwrap();
                assert_eq!(ids[&row], told.unwrap().vector_id.to_le_bytes());
                if scaled {
                    assert_eq!(arrow.column("scale", 4)[&row], scale.to_le_bytes());
                }
            }
        }
    }
}

#[test]
fn a_file_that_was_outgrown_shows_its_own_rows_and_the_next_one_all() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let (id, files) = filled(&mut volume, Element::F32, Codec::None, 96, 8);
    let small = file_of(&volume, id);
    // More than it has room for: a row takes its 384 bytes and some in other columns.
    let rows = (volume.attributes(small).unwrap().size / 384) as u32;
    for count in files.len() as u32..rows {
        let name = format!("more {count}");
        let inode = volume.create(ROOT, name.as_bytes(), &new(FileKind::Regular), NOW).unwrap().inode;
        let value = value(Element::F32, 96, count);
        volume.set_attribute(inode, b"user.vector.c", &value, SetMode::Any, &root(), NOW).unwrap();
    }
    remove(&mut volume, Element::F32, files[3].0);
    let large = file_of(&volume, id);
    let (old, new) = (Arrow::parse(&contents(&volume, small)), Arrow::parse(&contents(&volume, large)));
    assert_eq!(new.batch.rows, volume.collection(id).unwrap().rows);
    assert!(old.batch.rows < new.batch.rows && old.batch.rows > 0);
    assert_eq!(old.batch.nodes[0][1], 1, "the row that was removed");
    let (shown, all) = (old.column("vector", 384), new.column("vector", 384));
    assert_eq!(shown.len() as u64, old.batch.rows - 1);
    assert!(shown.iter().all(|(row, bytes)| all[row] == *bytes));
    // Both are this matrix's; neither is any other file's.
    let matrix = volume.collection(id).unwrap().matrix;
    assert_eq!((volume.matrix_of(small), volume.matrix_of(large)), (Some(matrix), Some(matrix)));
    assert_eq!((volume.matrix_of(matrix), volume.matrix_of(ROOT)), (Some(matrix), None));
    assert_eq!(volume.matrix_of(collection_directory(id)), None);
}

#[test]
fn any_part_of_it_can_be_read_alone() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let (id, _) = filled(&mut volume, Element::F32, Codec::Sq8, 100, 50);
    let inode = file_of(&volume, id);
    let whole = contents(&volume, inode);
    let mut seed = 3_usize;
    for _ in 0..600 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let offset = (seed >> 33) % (whole.len() + 100);
        let len = (seed >> 20) % 9000;
        let mut part = vec![0xee; len];
        let got = volume.read(inode, offset as u64, &mut part).unwrap();
        let end = (offset + len).min(whole.len());
        assert_eq!(part[..got], whole[offset.min(end)..end], "{offset} {len}");
    }
}

#[test]
fn whoever_mapped_it_is_told_of_every_byte_that_changed() {
    for codec in [Codec::None, Codec::Sq8] {
        let ram = device(4096);
        let mut volume = mount_as_daemon(&ram);
        let (id, files) = filled(&mut volume, Element::F32, codec, 96, 30);
        let inode = file_of(&volume, id);
        volume.commit(NOW).unwrap();
        volume.events();
        let mut cached = contents(&volume, inode);
        for step in 0..60_u32 {
            let (file, _) = &files[step as usize % files.len()];
            let n = file.0 % 5;
            let number = if n == 0 { String::new() } else { format!(".{n}") };
            let name = format!("user.vector.c{number}");
            match step % 4 {
                3 => drop(volume.remove_attribute(*file, name.as_bytes(), &root(), NOW)),
                _ => {
                    let value = value(Element::F32, 96, 1000 + step);
                    volume.set_attribute(*file, name.as_bytes(), &value, SetMode::Any, &root(), NOW).unwrap();
                }
            }
            if step % 16 == 15 {
                work(&mut volume);
            }
            if file_of(&volume, id) != inode {
                break;
            }
            let fresh = contents(&volume, inode);
            for event in volume.events() {
                arrow::mirror(&event, inode, &mut |told| {
                    assert_eq!(told.inode, inode);
                    let end = (told.offset + told.len).min(fresh.len() as u64) as usize;
                    cached[told.offset as usize..end].copy_from_slice(&fresh[told.offset as usize..end]);
                });
            }
            let differs = (0..fresh.len()).find(|at| fresh[*at] != cached[*at]);
            assert_eq!(differs, None, "{codec:?}, step {step}: the reader still sees the old byte there");
        }
        // Of other collections, and by other files, nothing is told.
        let other = vexfs_core::volume::Event {
            inode: Ino(collection_directory(CollectionId(77)).0 + SCALE),
            offset: 0,
            len: 9,
        };
        arrow::mirror(&other, inode, &mut |told| panic!("{told:?}"));
        arrow::mirror(&vexfs_core::volume::Event { inode, ..other }, ROOT, &mut |told| panic!("{told:?}"));
    }
}

#[test]
fn an_old_file_of_a_recoded_collection_is_of_its_old_matrix() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let (id, files) = filled(&mut volume, Element::F32, Codec::None, 96, 30);
    let (before, matrix) = (file_of(&volume, id), volume.collection(id).unwrap().matrix);
    volume.commit(NOW).unwrap();
    volume.recode(id, Codec::F16, NOW).unwrap();
    while volume.collection(id).unwrap().recode.is_some() {
        volume.recode_step(id, NOW).unwrap();
        volume.commit(NOW).unwrap();
    }
    let after = file_of(&volume, id);
    assert_ne!(before, after);
    assert_eq!(volume.matrix_of(before), Some(matrix));
    assert_ne!(volume.matrix_of(after), Some(matrix));
    // Who has it open sees the rows as they were.
    let (old, new) = (Arrow::parse(&contents(&volume, before)), Arrow::parse(&contents(&volume, after)));
    assert_eq!((old.batch.rows, old.fields[0].child.as_ref().unwrap().what), (30, 1));
    assert_eq!((new.batch.rows, new.fields[0].child.as_ref().unwrap().what), (30, 0));
    assert_eq!(new.metadata["vexfs.codec"], "f16");
    let (shown, inodes) = (old.column("vector", 384), old.column("inode", 8));
    for (inode, value) in &files {
        let row = inodes.iter().find(|(_, bytes)| **bytes == inode.0.to_le_bytes()).unwrap().0;
        assert_eq!(&shown[row], value);
    }
    // Once nobody has, the old matrix goes; its file is whole, and empty.
    assert_eq!(volume.retired(), [matrix]);
    while !volume.free_retired(matrix, NOW).unwrap() {}
    let old = Arrow::parse(&contents(&volume, before));
    assert_eq!((old.batch.rows, old.metadata["vexfs.codec"].as_str()), (0, "f16"));
    settle(&mut volume);
}

#[test]
fn no_file_before_the_first_vector_and_none_of_a_collection_that_is_gone() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let directory = volume.create(COLLECTIONS, b"empty", &new(FileKind::Directory), NOW).unwrap().inode;
    assert!(volume.lookup(directory, b"vectors.arrow").is_err());
    let (id, files) = filled(&mut volume, Element::F32, Codec::None, 96, 3);
    let inode = file_of(&volume, id);
    for (file, _) in &files {
        remove(&mut volume, Element::F32, *file);
    }
    settle(&mut volume);
    volume.remove_directory(COLLECTIONS, b"c", &|_| false, NOW).unwrap();
    assert!(volume.read(inode, 0, &mut [0; 100]).is_err());
    assert!(volume.attributes(inode).is_err());
    assert_eq!(volume.matrix_of(inode), None);
}
