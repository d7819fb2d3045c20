//! `.fvecs`, `.bvecs` and `.ivecs`: before each vector its dimension as 32 bits, then floats, bytes or integers.
//!
//! Source: the description of the TEXMEX sets (corpus-texmex.irisa.fr).

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use vexfs_search::{Element, Schema};

use super::npy::map;
use super::{Out, Row, Shape, Sink, Source, wrong};
use crate::failure::Failure;
use crate::vector;

/// The type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// f32.
    Float,
    /// u8, which is a number here, not eight bits.
    Byte,
    /// i32.
    Int,
}

impl Entry {
    fn width(self) -> usize {
        if self == Self::Byte { 1 } else { 4 }
    }
}

/// A file that is read.
pub(super) struct Vectors {
    path: PathBuf,
    map: Mmap,
    entry: Entry,
    shape: Shape,
    next: usize,
}

/// Opens a file.
pub(super) fn open(path: &Path, entry: Entry) -> Result<Vectors, Failure> {
    let map = map(path)?;
    let columns =
        dimension(&map, 0).ok_or_else(|| wrong(path, "is empty, or does not begin with a dimension"))?;
    let record = 4 + columns * entry.width();
    if map.len() % record != 0 {
        let why = format!(
            "{} bytes are no whole number of vectors of {columns} entries; was it cut off?",
            map.len()
        );
        return Err(wrong(path, why));
    }
    // Bytes from 0 to 255 fit i16; a type of bytes would mean bits.
    let descr = match entry {
        Entry::Float => "<f4",
        Entry::Byte => "<i2",
        Entry::Int => "<i4",
    };
    let rows = Some((map.len() / record) as u64);
    let shape = Shape { descr: descr.into(), columns: columns as u64, rows, has_paths: false };
    Ok(Vectors { path: path.to_owned(), map, entry, shape, next: 0 })
}

impl Source for Vectors {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        if self.next >= self.map.len() {
            return Ok(None);
        }
        let columns = self.shape.columns as usize;
        if dimension(&self.map, self.next) != Some(columns) {
            let why =
                format!("the vector at byte {} has another dimension than the first, {columns}", self.next);
            return Err(wrong(&self.path, why));
        }
        let start = self.next + 4;
        self.next = start + columns * self.entry.width();
        let bytes = self.map.get(start..self.next).ok_or_else(|| wrong(&self.path, "is cut off"))?;
        let vector = match self.entry {
            Entry::Byte => {
                bytes.iter().flat_map(|byte| i16::from(*byte).to_le_bytes()).collect::<Vec<_>>().into()
            }
            _ => Cow::Borrowed(bytes),
        };
        Ok(Some(Row { vector, path: None, n: None }))
    }
}

// The dimension at `at`: from 1 on.
fn dimension(bytes: &[u8], at: usize) -> Option<usize> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(i32::from_le_bytes(four)).ok().filter(|columns| (1..=1 << 20).contains(columns))
}

/// A file that is written.
pub(super) struct VectorsFile {
    path: PathBuf,
    out: BufWriter<File>,
    element: Element,
    entry: Entry,
}

/// Makes a file.
pub(super) fn create(path: &Path, schema: &Schema, entry: Entry) -> Result<VectorsFile, Failure> {
    let out =
        BufWriter::with_capacity(1 << 20, File::create(path).map_err(|error| Failure::io(path, &error))?);
    Ok(VectorsFile { path: path.to_owned(), out, element: schema.element, entry })
}

impl Sink for VectorsFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        let numbers = vector::values(row.vector, self.element).map_err(|why| wrong(&self.path, why))?;
        let (low, high) = match self.entry {
            Entry::Float => (f64::MIN, f64::MAX),
            Entry::Byte => (0.0, 255.0),
            Entry::Int => (f64::from(i32::MIN), f64::from(i32::MAX)),
        };
        let whole = |value: &f64| self.entry == Entry::Float || value.fract() == 0.0;
        if let Some(bad) = numbers.iter().find(|value| !whole(value) || **value < low || **value > high) {
            let why =
                format!("{bad} has no place in this format, which takes whole numbers from {low} to {high}");
            return Err(wrong(&self.path, why));
        }
        let mut bytes = (numbers.len() as u32).to_le_bytes().to_vec();
        for value in numbers {
            match self.entry {
                Entry::Float => bytes.extend((value as f32).to_le_bytes()),
                Entry::Byte => bytes.push(value as u8),
                Entry::Int => bytes.extend((value as i32).to_le_bytes()),
            }
        }
        self.out.write_all(&bytes).map_err(|error| Failure::io(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::io(&self.path, &error))
    }
}
