//! Writing: a file of the columns `vector`, `path` and `n`, in batches of some thousand rows.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flatbuffers::{FlatBufferBuilder, UOffsetT, WIPOffset};
use vexfs_search::{Element, Schema};

use super::messages::{BATCH, MAGIC, SCHEMA};
use crate::failure::Failure;
use crate::formats::{Out, Sink, entries, wrong};

/// Bytes of vectors in a batch, about.
const BATCH_BYTES: usize = 8 << 20;
/// Buffers begin at multiples of it.
const ALIGNMENT: usize = 64;
/// Version 5 of the format.
const VERSION: i16 = 4;

/// A file that is written.
pub(in crate::formats) struct ArrowFile {
    path: PathBuf,
    out: BufWriter<File>,
    /// Bytes written.
    at: usize,
    described: Described,
    /// Of each batch: where it begins, the bytes of its metadata, those of its body.
    blocks: Vec<[u64; 3]>,
    vectors: Vec<u8>,
    offsets: Vec<u8>,
    paths: Vec<u8>,
    numbers: Vec<u8>,
    rows: usize,
}

/// Makes an Arrow file.
pub(in crate::formats) fn create(path: &Path, schema: &Schema) -> Result<ArrowFile, Failure> {
    let out = BufWriter::new(File::create(path).map_err(|error| Failure::io(path, &error))?);
    let mut file = ArrowFile {
        path: path.to_owned(),
        out,
        at: 0,
        described: Described::new(schema),
        blocks: Vec::new(),
        vectors: Vec::new(),
        offsets: Vec::new(),
        paths: Vec::new(),
        numbers: Vec::new(),
        rows: 0,
    };
    let mut flat = FlatBufferBuilder::new();
    let header = file.described.schema(&mut flat);
    let message = message(flat, SCHEMA, header, 0);
    let begun = file.put(MAGIC).and_then(|()| file.pad()).and_then(|()| file.put_message(&message));
    begun.map_err(|error| Failure::io(path, &error))?;
    Ok(file)
}

impl ArrowFile {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len();
        self.out.write_all(bytes)
    }

    fn pad(&mut self) -> std::io::Result<()> {
        let zeros = self.at.next_multiple_of(ALIGNMENT) - self.at;
        self.put(&[0; ALIGNMENT][..zeros])
    }

    // A mark, the length with padding, the metadata.
    fn put_message(&mut self, message: &[u8]) -> std::io::Result<()> {
        let len = (self.at + 8 + message.len()).next_multiple_of(ALIGNMENT) - self.at - 8;
        self.put(&u32::MAX.to_le_bytes())?;
        self.put(&(len as u32).to_le_bytes())?;
        self.put(message)?;
        self.pad()
    }

    // What was gathered, as a batch.
    fn batch(&mut self) -> std::io::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.offsets.extend((self.paths.len() as u32).to_le_bytes());
        let [vectors, offsets, paths, numbers] =
            [&mut self.vectors, &mut self.offsets, &mut self.paths, &mut self.numbers].map(std::mem::take);
        let mut places = Vec::new();
        let mut body_len = 0;
        // Which rows there are is left out where all are.
        for buffer in [&[][..], &[], &vectors, &[], &offsets, &paths, &[], &numbers] {
            places.push([body_len as u64, buffer.len() as u64]);
            body_len += buffer.len().next_multiple_of(ALIGNMENT);
        }
        let items = (self.rows * self.described.entries) as u64;
        let nodes = [self.rows as u64, items, self.rows as u64, self.rows as u64].map(|len| [len, 0]);
        let mut flat = FlatBufferBuilder::new();
        let buffers = structs(&mut flat, &places);
        let nodes = structs(&mut flat, &nodes);
        let table = flat.start_table();
        flat.push_slot_always(slot(0), self.rows as i64);
        flat.push_slot_always(slot(1), nodes);
        flat.push_slot_always(slot(2), buffers);
        let header = flat.end_table(table);
        let message = message(flat, BATCH, header.value(), body_len as i64);
        let start = self.at;
        self.put_message(&message)?;
        self.blocks.push([start as u64, (self.at - start) as u64, body_len as u64]);
        for buffer in [&vectors, &offsets, &paths, &numbers] {
            self.put(buffer)?;
            self.pad()?;
        }
        self.rows = 0;
        Ok(())
    }

    // The end of the stream, and the footer.
    fn end(&mut self) -> std::io::Result<()> {
        self.batch()?;
        self.put(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
        let mut flat = FlatBufferBuilder::new();
        let schema = self.described.schema(&mut flat);
        let batches = structs(&mut flat, &self.blocks);
        let dictionaries = structs::<3>(&mut flat, &[]);
        let table = flat.start_table();
        flat.push_slot_always(slot(0), VERSION);
        flat.push_slot_always(slot(1), WIPOffset::<UOffsetT>::new(schema));
        flat.push_slot_always(slot(2), dictionaries);
        flat.push_slot_always(slot(3), batches);
        let footer = flat.end_table(table);
        flat.finish_minimal(footer);
        let footer = flat.finished_data();
        self.put(footer)?;
        self.put(&(footer.len() as u32).to_le_bytes())?;
        self.put(MAGIC)?;
        self.out.flush()
    }
}

impl Sink for ArrowFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        self.vectors.extend_from_slice(row.vector);
        self.offsets.extend((self.paths.len() as u32).to_le_bytes());
        self.paths.extend_from_slice(row.path.as_bytes());
        self.numbers.extend(row.n.to_le_bytes());
        self.rows += 1;
        let written = if self.vectors.len() < BATCH_BYTES { Ok(()) } else { self.batch() };
        written.map_err(|error| Failure::io(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.end().map_err(|error| wrong(&self.path, error))
    }
}

// What the schema says.
struct Described {
    element: Element,
    entries: usize,
    metadata: [(&'static str, String); 4],
}

impl Described {
    fn new(schema: &Schema) -> Self {
        let metadata = [
            ("vexfs.dimension", schema.dimensions.to_string()),
            ("vexfs.element", schema.element.name().to_owned()),
            ("vexfs.metric", schema.metric.name().to_owned()),
            ("vexfs.model", schema.model.clone()),
        ];
        Self { element: schema.element, entries: entries(schema), metadata }
    }

    // The table `Schema`; gives where it is.
    fn schema(&self, flat: &mut FlatBufferBuilder<'_>) -> UOffsetT {
        let item = match self.element {
            Element::F32 => float(flat, 1),
            Element::F16 => float(flat, 0),
            Element::I8 => int(flat, 8, true),
            Element::I16 => int(flat, 16, true),
            Element::Bit => int(flat, 8, false),
        };
        let item = field(flat, "item", true, item, &[]);
        let table = flat.start_table();
        flat.push_slot_always(slot(0), self.entries as i32);
        let list = flat.end_table(table).value();
        let vector = field(flat, "vector", false, (16, list), &[item]);
        let table = flat.start_table();
        let text = flat.end_table(table).value();
        let path = field(flat, "path", false, (5, text), &[]);
        let number = int(flat, 32, false);
        let number = field(flat, "n", false, number, &[]);
        let fields = offsets(flat, &[vector, path, number]);
        let pairs: Vec<UOffsetT> = self.metadata.iter().map(|(key, value)| pair(flat, key, value)).collect();
        let metadata = offsets(flat, &pairs);
        let table = flat.start_table();
        flat.push_slot_always(slot(1), fields);
        flat.push_slot_always(slot(2), metadata);
        flat.end_table(table).value()
    }
}

// Where the field of a number has its place in a table.
const fn slot(number: u16) -> u16 {
    4 + 2 * number
}

fn float(flat: &mut FlatBufferBuilder<'_>, precision: i16) -> (u8, UOffsetT) {
    let table = flat.start_table();
    flat.push_slot_always(slot(0), precision);
    (3, flat.end_table(table).value())
}

fn int(flat: &mut FlatBufferBuilder<'_>, bits: i32, is_signed: bool) -> (u8, UOffsetT) {
    let table = flat.start_table();
    flat.push_slot_always(slot(0), bits);
    flat.push_slot_always(slot(1), is_signed);
    (2, flat.end_table(table).value())
}

fn field(
    flat: &mut FlatBufferBuilder<'_>,
    name: &str,
    nullable: bool,
    (kind, described): (u8, UOffsetT),
    children: &[UOffsetT],
) -> UOffsetT {
    let name = flat.create_string(name);
    let children = offsets(flat, children);
    let table = flat.start_table();
    flat.push_slot_always(slot(0), name);
    flat.push_slot_always(slot(1), nullable);
    flat.push_slot_always(slot(2), kind);
    flat.push_slot_always(slot(3), WIPOffset::<UOffsetT>::new(described));
    flat.push_slot_always(slot(5), children);
    flat.end_table(table).value()
}

fn pair(flat: &mut FlatBufferBuilder<'_>, key: &str, value: &str) -> UOffsetT {
    let (key, value) = (flat.create_string(key), flat.create_string(value));
    let table = flat.start_table();
    flat.push_slot_always(slot(0), key);
    flat.push_slot_always(slot(1), value);
    flat.end_table(table).value()
}

fn offsets(flat: &mut FlatBufferBuilder<'_>, tables: &[UOffsetT]) -> WIPOffset<UOffsetT> {
    let tables: Vec<_> = tables.iter().map(|at| WIPOffset::<UOffsetT>::new(*at)).collect();
    WIPOffset::new(flat.create_vector(&tables).value())
}

// Structs of 64-bit numbers, which is what they all come to: what is narrower is followed by zeros.
fn structs<const LONGS: usize>(
    flat: &mut FlatBufferBuilder<'_>,
    all: &[[u64; LONGS]],
) -> WIPOffset<UOffsetT> {
    flat.start_vector::<u64>(all.len() * LONGS);
    for long in all.as_flattened().iter().rev() {
        flat.push(*long);
    }
    WIPOffset::new(flat.end_vector::<u64>(all.len()).value())
}

// A table `Message`.
fn message(mut flat: FlatBufferBuilder<'_>, kind: u8, header: UOffsetT, body_len: i64) -> Vec<u8> {
    let table = flat.start_table();
    flat.push_slot_always(slot(0), VERSION);
    flat.push_slot_always(slot(1), kind);
    flat.push_slot_always(slot(2), WIPOffset::<UOffsetT>::new(header));
    flat.push_slot_always(slot(3), body_len);
    let message = flat.end_table(table);
    flat.finish_minimal(message);
    flat.finished_data().to_vec()
}
