//! Arrow IPC, file or stream: a column of lists of numbers, one of paths, perhaps one of numbers.
//!
//! A file is mapped, and its vectors are read where they lie. Rows whose vector is null are left out, and of rows that
//! are padded, as in `vectors.arrow`, what its metadata has as the dimension is taken. Written by hand: it takes some
//! hundred lines of Arrow, where its libraries take minutes to be compiled.

mod columns;
mod flat;
mod layout;
mod messages;
mod write;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use self::columns::{Body, Lists, Numbers, Texts};
use self::layout::{Array, Schema, arrays};
use self::messages::{BATCH, Compression, Message, Messages};
use super::{Columns, Row, Shape, Source, choose, wrong};
use crate::failure::Failure;
use crate::vector;

pub(super) use self::write::create;

/// A file that is read.
pub(super) struct Rows {
    path: PathBuf,
    map: Mmap,
    messages: Messages,
    schema: Schema,
    parts: Parts,
    shape: Shape,
    batch: Option<Batch>,
}

// Which columns are what.
struct Parts {
    vector: usize,
    path: Option<usize>,
    number: Option<usize>,
    /// Bytes of an entry of a vector.
    width: usize,
    /// Entries of a vector, where its rows are longer.
    dimension: Option<usize>,
}

/// Opens an Arrow file.
pub(super) fn open(path: &Path, columns: &Columns<'_>) -> Result<Rows, Failure> {
    let map = super::npy::map(path)?;
    let bad = |why: String| wrong(path, format!("cannot be read as Arrow: {why}"));
    let (schema, parts, descr) = described(&map, columns).map_err(bad)?;
    let (columns, rows) = counted(&map, &schema, &parts).map_err(bad)?;
    let (messages, _) = Messages::new(&map).map_err(bad)?;
    let shape = Shape { descr, columns, rows, has_paths: parts.path.is_some() };
    Ok(Rows { path: path.to_owned(), map, messages, schema, parts, shape, batch: None })
}

// The schema, the columns that count, and numpy's type of an entry.
fn described(file: &[u8], columns: &Columns<'_>) -> Result<(Schema, Parts, String), String> {
    let schema = Schema::parse(Messages::new(file)?.1)?;
    let holds = schema.fields.iter().filter(|field| field.entry().is_some());
    let vector = choose("column", columns.vector, holds.map(|field| field.name.as_str()).collect())?;
    let place = |name: &str| schema.fields.iter().position(|field| field.name == name);
    let vector = place(vector).ok_or("the column is gone")?;
    let descr = schema.fields[vector].entry().ok_or("the column holds no vectors")?;
    if schema.metadata.get("vexfs.codec").is_some_and(|codec| codec != "none" && codec != "f16") {
        return Err("its rows are codes of a codec; vexfs export gives the vectors".into());
    }
    let is_bits = schema.metadata.get("vexfs.element").is_some_and(|name| name == "bit");
    let dimension = schema.metadata.get("vexfs.dimension").and_then(|text| text.parse().ok());
    let dimension = dimension.map(|dimension: usize| if is_bits { dimension / 8 } else { dimension });
    let (path, number) = (place(columns.path), place(columns.number));
    let parts = Parts { vector, path, number, width: vector::width(descr)?, dimension };
    Ok((schema, parts, descr.to_owned()))
}

// Entries of the first vector, and how many vectors there are, where the file tells.
fn counted(file: &[u8], schema: &Schema, parts: &Parts) -> Result<(u64, Option<u64>), String> {
    let (mut messages, _) = Messages::new(file)?;
    let (mut first, mut rows) = (None, Some(0_u64));
    while let Some(message) = messages.next(file)? {
        let Some(columns) = batch_of(&message, schema)? else { continue };
        let vectors = columns.get(parts.vector).ok_or("a batch without vectors")?;
        let nulls = u64::try_from(vectors.nulls).ok();
        rows = rows.zip(nulls).and_then(|(rows, nulls)| (rows + vectors.len as u64).checked_sub(nulls));
        if first.is_none() {
            let lists = lists(file, &message, schema, parts, vectors)?;
            for row in 0..lists.len {
                if let Some(vector) = lists.row(file, row)? {
                    first = Some((vector.len() / parts.width) as u64);
                    break;
                }
            }
        }
    }
    Ok((first.unwrap_or(0), rows))
}

// The columns of a message that is a batch.
fn batch_of(message: &Message<'_>, schema: &Schema) -> Result<Option<Vec<Array>>, String> {
    match message.header {
        Some(header) if message.kind == BATCH => arrays(header, schema).map(Some),
        _ => Ok(None),
    }
}

fn body<'a>(file: &'a [u8], message: &Message<'_>) -> Result<Body<'a>, String> {
    let compression = message.header.map_or(Ok(Compression::None), Compression::of)?;
    Ok(Body { file, range: message.body.clone(), compression })
}

fn lists(
    file: &[u8],
    message: &Message<'_>,
    schema: &Schema,
    parts: &Parts,
    vectors: &Array,
) -> Result<Lists, String> {
    let body = body(file, message)?;
    Lists::new(&body, &schema.fields[parts.vector], vectors, parts.width, parts.dimension)
}

// A batch, its columns ready to be read.
struct Batch {
    vectors: Lists,
    paths: Option<Texts>,
    numbers: Option<Numbers>,
    next: usize,
}

impl Batch {
    fn new(
        file: &[u8],
        message: &Message<'_>,
        schema: &Schema,
        parts: &Parts,
    ) -> Result<Option<Self>, String> {
        let Some(columns) = batch_of(message, schema)? else { return Ok(None) };
        let body = body(file, message)?;
        let column = |index: Option<usize>| {
            index.and_then(|index| Some((schema.fields.get(index)?, columns.get(index)?)))
        };
        let vectors = columns.get(parts.vector).ok_or("a batch without vectors")?;
        let vectors = lists(file, message, schema, parts, vectors)?;
        let paths = column(parts.path).map(|(field, array)| Texts::new(&body, field, array)).transpose()?;
        let numbers =
            column(parts.number).map(|(field, array)| Numbers::new(&body, field, array)).transpose()?;
        Ok(Some(Self { vectors, paths, numbers, next: 0 }))
    }

    // The next row that has a vector.
    fn next_row(&mut self, file: &[u8]) -> Result<Option<usize>, String> {
        while self.next < self.vectors.len {
            self.next += 1;
            if self.vectors.row(file, self.next - 1)?.is_some() {
                return Ok(Some(self.next - 1));
            }
        }
        Ok(None)
    }

    fn row<'a>(&'a self, file: &'a [u8], row: usize) -> Result<Row<'a>, String> {
        let vector = self.vectors.row(file, row)?.ok_or("a row without a vector")?;
        let path = self.paths.as_ref().map(|paths| paths.row(file, row)).transpose()?;
        let n = self.numbers.as_ref().map(|numbers| numbers.row(file, row)).transpose()?.flatten();
        Ok(Row { vector: Cow::Borrowed(vector), path: path.map(Cow::Borrowed), n })
    }
}

impl Rows {
    // Goes to the next row, in a later batch where this one is through.
    fn advance(&mut self) -> Result<Option<usize>, String> {
        loop {
            if let Some(batch) = &mut self.batch
                && let Some(row) = batch.next_row(&self.map)?
            {
                return Ok(Some(row));
            }
            let Some(message) = self.messages.next(&self.map)? else { return Ok(None) };
            self.batch = Batch::new(&self.map, &message, &self.schema, &self.parts)?;
        }
    }
}

impl Source for Rows {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let row = self.advance().map_err(|why| wrong(&self.path, why))?;
        let (Some(row), Some(batch)) = (row, &self.batch) else { return Ok(None) };
        batch.row(&self.map, row).map(Some).map_err(|why| wrong(&self.path, why))
    }
}
