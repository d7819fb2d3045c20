//! The metadata of `vectors.arrow`: its schema, its one record batch, its footer.
//!
//! Numbers of fields, kinds and versions are those of Arrow's `Schema.fbs`, `Message.fbs` and `File.fbs`, version 5 of
//! the format. The parts have fixed places ([`HEAD`] bytes before the rows, [`FOOT`] behind the columns), so that
//! nothing but the counts of rows ever changes in a file.

use alloc::vec::Vec;

use super::flat::{Field, Flat, Reference};
use super::shape::{Column, Shape};
use crate::codec;
use crate::error::{Error, Result};
use crate::format::{Codec, Element, MATRIX_DATA, Metric};
use crate::memory::{self, Text};
use crate::operations::LoadedCollection as Loaded;
use core::fmt::Write;

/// Bytes before the rows: the magic, the schema's message, the batch's.
pub(super) const HEAD: usize = MATRIX_DATA as usize;
/// Bytes behind the columns: the end of the stream, the footer, its length, the magic.
pub(super) const FOOT: usize = 4096;

const MAGIC: &[u8; 6] = b"ARROW1";
/// Where the batch's message begins.
const BATCH: usize = 3072;
const VERSION_5: Field = Field::Short(4);
const HEADER_SCHEMA: u8 = 1;
const HEADER_BATCH: u8 = 3;
const TYPE_INT: u8 = 2;
const TYPE_FLOAT: u8 = 3;
const TYPE_FIXED_BINARY: u8 = 15;
const TYPE_FIXED_LIST: u8 = 16;
const HALF: Field = Field::Short(0);
const SINGLE: Field = Field::Short(1);

/// How many rows a file shows, and how many of them are free.
#[derive(Clone, Copy)]
pub(super) struct Counts {
    pub(super) rows: u64,
    pub(super) free: u64,
}

/// The first [`HEAD`] bytes of a file.
pub(super) fn head(loaded: &Loaded, shape: &Shape, counts: Counts) -> Result<Vec<u8>> {
    let mut bytes = memory::copy(MAGIC)?;
    memory::extend(&mut bytes, &[0; 2])?;
    let (mut flat, root) = Flat::new()?;
    let header = message(&mut flat, root, HEADER_SCHEMA, 0)?;
    schema(&mut flat, header, loaded)?;
    encapsulate(&mut bytes, flat, BATCH)?;
    let (mut flat, root) = Flat::new()?;
    let header = message(&mut flat, root, HEADER_BATCH, shape.body_len())?;
    batch(&mut flat, header, loaded, shape, counts)?;
    encapsulate(&mut bytes, flat, HEAD)?;
    Ok(bytes)
}

/// The last [`FOOT`] bytes of a file.
pub(super) fn foot(loaded: &Loaded, shape: &Shape) -> Result<Vec<u8>> {
    let (mut flat, root) = Flat::new()?;
    let [described, dictionaries, batches, ..] =
        flat.table_at(root, [VERSION_5, Field::Later, Field::Later, Field::Later, Field::Absent])?;
    flat.structs_at::<3>(dictionaries, &[])?;
    // An offset, the length of the metadata in 32 bits and as many of padding, the length of the body.
    flat.structs_at(batches, &[[BATCH as u64, (HEAD - BATCH) as u64, shape.body_len()]])?;
    schema(&mut flat, described, loaded)?;
    let mut bytes = memory::copy(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])?;
    memory::extend(&mut bytes, &flat.into_bytes())?;
    let end = FOOT - 4 - MAGIC.len();
    pad(&mut bytes, end)?;
    memory::extend(&mut bytes, &((end - 8) as u32).to_le_bytes())?;
    memory::extend(&mut bytes, MAGIC)?;
    Ok(bytes)
}

// Begins a message; gives the reference of its header.
fn message(flat: &mut Flat, root: Reference, kind: u8, body_len: u64) -> Result<Reference> {
    let fields = [VERSION_5, Field::Byte(kind), Field::Later, Field::Long(body_len), Field::Absent];
    let [header, ..] = flat.table_at(root, fields)?;
    Ok(header)
}

// Appends a message with its length, and zeros up to `end`.
fn encapsulate(bytes: &mut Vec<u8>, flat: Flat, end: usize) -> Result<()> {
    memory::extend(bytes, &[0xff; 4])?;
    let len = end.saturating_sub(bytes.len() + 4) as u32;
    memory::extend(bytes, &len.to_le_bytes())?;
    memory::extend(bytes, &flat.into_bytes())?;
    pad(bytes, end)
}

fn pad(bytes: &mut Vec<u8>, end: usize) -> Result<()> {
    let zeros = end.checked_sub(bytes.len()).ok_or(Error::Invalid("Arrow's metadata outgrew its place"))?;
    memory::extend(bytes, &memory::zeroed(zeros)?)
}

fn schema(flat: &mut Flat, reference: Reference, loaded: &Loaded) -> Result<()> {
    let [fields, metadata, ..] =
        flat.table_at(reference, [Field::Absent, Field::Later, Field::Later, Field::Absent])?;
    let columns = Column::of(loaded)?;
    let fields = flat.references_at(fields, columns.len())?;
    for (reference, column) in fields.iter().zip(columns) {
        field(flat, reference, *column, loaded)?;
    }
    let mut dimension = Text::new();
    write!(dimension, "{}", loaded.record.dimensions.get()).map_err(|_| Error::NoMemory)?;
    let metric = Metric::from_u16(loaded.record.metric.get()).map_or("", Metric::name);
    let pairs: [(&[u8], &[u8]); 5] = [
        (b"vexfs.dimension", dimension.as_bytes()),
        (b"vexfs.element", loaded.element()?.name().as_bytes()),
        (b"vexfs.codec", loaded.codec()?.name().as_bytes()),
        (b"vexfs.metric", metric.as_bytes()),
        (b"vexfs.model", &loaded.model),
    ];
    let references = flat.references_at(metadata, pairs.len())?;
    for (reference, (key, value)) in references.iter().zip(pairs) {
        let [to_key, to_value] = flat.table_at(reference, [Field::Later, Field::Later])?;
        flat.string_at(to_key, key)?;
        flat.string_at(to_value, value)?;
    }
    Ok(())
}

fn field(flat: &mut Flat, reference: Reference, column: Column, loaded: &Loaded) -> Result<()> {
    let (kind, described) = match column {
        Column::Vector => match list_len(loaded)? {
            Some(len) => (TYPE_FIXED_LIST, [Field::Int(len), Field::Absent]),
            None => (TYPE_FIXED_BINARY, [Field::Int(loaded.record.stride.get()), Field::Absent]),
        },
        Column::Scale => (TYPE_FLOAT, [SINGLE, Field::Absent]),
        Column::Id | Column::File => (TYPE_INT, [Field::Int(64), Field::Absent]),
        Column::Number => (TYPE_INT, [Field::Int(32), Field::Absent]),
    };
    let children = named(flat, reference, column.name(), kind, described)?;
    let lists = column == Column::Vector && kind == TYPE_FIXED_LIST;
    let children = flat.references_at(children, usize::from(lists))?;
    for child in children.iter() {
        let (kind, described) = match dtype(loaded)? {
            "<f4" => (TYPE_FLOAT, [SINGLE, Field::Absent]),
            "<f2" => (TYPE_FLOAT, [HALF, Field::Absent]),
            "<i2" => (TYPE_INT, [Field::Int(16), Field::Byte(1)]),
            "|i1" => (TYPE_INT, [Field::Int(8), Field::Byte(1)]),
            _ => (TYPE_INT, [Field::Int(8), Field::Absent]),
        };
        let none = named(flat, child, "item", kind, described)?;
        flat.references_at(none, 0)?;
    }
    Ok(())
}

// Writes a field that can be null, and its type; gives the reference of its children.
fn named(flat: &mut Flat, reference: Reference, name: &str, kind: u8, of: [Field; 2]) -> Result<Reference> {
    let fields = [
        Field::Later,
        Field::Byte(1),
        Field::Byte(kind),
        Field::Later,
        Field::Absent,
        Field::Later,
        Field::Absent,
    ];
    let [to_name, to_type, children, ..] = flat.table_at(reference, fields)?;
    flat.string_at(to_name, name.as_bytes())?;
    flat.table_at(to_type, of)?;
    Ok(children)
}

fn batch(
    flat: &mut Flat,
    reference: Reference,
    loaded: &Loaded,
    shape: &Shape,
    Counts { rows, free }: Counts,
) -> Result<()> {
    let fields = [Field::Long(rows), Field::Later, Field::Later, Field::Absent, Field::Absent];
    let [to_nodes, to_buffers, ..] = flat.table_at(reference, fields)?;
    let (mut nodes, mut buffers) = (Vec::new(), Vec::new());
    // All columns are null where a row is free, and share the bits that say so.
    let valid = [shape.validity().0 - MATRIX_DATA, rows.div_ceil(8)];
    for column in Column::of(loaded)? {
        memory::push(&mut nodes, [rows, free])?;
        memory::push(&mut buffers, valid)?;
        if *column == Column::Vector {
            if let Some(len) = list_len(loaded)? {
                memory::push(&mut nodes, [rows * u64::from(len), 0])?;
                memory::push(&mut buffers, [0, 0])?;
            }
        }
        let (start, width) = shape.column(*column);
        memory::push(&mut buffers, [start - MATRIX_DATA, rows * width])?;
    }
    flat.structs_at(to_nodes, &nodes)?;
    flat.structs_at(to_buffers, &buffers)
}

// Entries of a row with its padding; `None` if a row is opaque: codes of several a byte.
fn list_len(loaded: &Loaded) -> Result<Option<u32>> {
    let (codec, element) = (loaded.codec()?, loaded.element()?);
    let plain = element == Element::Bit || dtype(loaded)? != "|u1" || codec == Codec::None;
    Ok(plain.then(|| loaded.record.stride.get() / codec::width(codec, element)))
}

fn dtype(loaded: &Loaded) -> Result<&'static str> {
    Ok(codec::dtype(loaded.codec()?, loaded.element()?))
}
