//! faiss's flat indexes, `IndexFlat` of floats and `IndexBinaryFlat` of bits, as `faiss.write_index` writes them.
//!
//! ```text
//! IxF2, IxFI, IxFl   d i32, ntotal i64, two i64 that nobody reads, is_trained u8, metric i32 (0 inner product, 1 L2),
//!                    then the count of floats u64, and the floats
//! IBxF               d i32 (bits), bytes of a code i32, ntotal i64, is_trained u8, metric i32, count of bytes u64, bytes
//! ```
//! Source: `faiss/impl/index_write.cpp`. Other kinds of index are refused by name.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use vexfs_search::{Element, Metric, Schema};

use super::npy::map;
use super::{Out, Row, Shape, Sink, Source, wrong};
use crate::failure::Failure;
use crate::vector;

/// What faiss writes where it has nothing to say.
const UNUSED: i64 = 1 << 20;

/// An index that is read.
pub(super) struct Flat {
    map: Mmap,
    shape: Shape,
    data: usize,
    row_len: usize,
    next: u64,
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<Flat, Failure> {
    let map = map(path)?;
    let parsed = parse(&map).map_err(|why| wrong(path, why))?;
    let Head { descr, columns, rows, data, row_len } = parsed;
    let shape = Shape { descr: descr.into(), columns, rows: Some(rows), has_paths: false };
    Ok(Flat { map, shape, data, row_len, next: 0 })
}

struct Head {
    descr: &'static str,
    columns: u64,
    rows: u64,
    data: usize,
    row_len: usize,
}

fn parse(bytes: &[u8]) -> Result<Head, String> {
    let cut = || "is cut off".to_owned();
    let kind = bytes.get(..4).ok_or_else(cut)?;
    let int = |at: usize| {
        let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map(i32::from_le_bytes).ok_or_else(cut)
    };
    let long = |at: usize| {
        let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
        eight.map(i64::from_le_bytes).ok_or_else(cut)
    };
    let wrong = || "is no flat index that makes sense".to_owned();
    let (descr, columns, rows, row_len, counted) = match kind {
        b"IxF2" | b"IxFI" | b"IxFl" => {
            let columns = u64::try_from(int(4)?).map_err(|_| wrong())?;
            // A metric above 1 has an argument.
            let counted = if int(33)? > 1 { 41 } else { 37 };
            ("<f4", columns, long(8)?, columns.checked_mul(4), counted)
        }
        b"IBxF" => {
            let columns = u64::try_from(int(8)?).map_err(|_| wrong())?;
            ("|u1", columns, long(12)?, Some(columns), 25)
        }
        other => {
            return Err(format!(
                "holds `{}`; only flat indexes (IndexFlat, IndexBinaryFlat) hold the vectors themselves: \
                 save them with index.reconstruct_n as npy",
                String::from_utf8_lossy(other)
            ));
        }
    };
    let rows = u64::try_from(rows).map_err(|_| wrong())?;
    let row_len =
        row_len.and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0).ok_or_else(wrong)?;
    let width: usize = if descr == "<f4" { 4 } else { 1 };
    let count = u64::try_from(long(counted)?).map_err(|_| wrong())?;
    let len = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_len)).ok_or_else(wrong)?;
    if count.checked_mul(width as u64) != Some(len as u64) {
        return Err(wrong());
    }
    let data = counted + 8;
    if bytes.len().checked_sub(data).is_none_or(|left| left < len) {
        return Err(cut());
    }
    Ok(Head { descr, columns, rows, data, row_len })
}

impl Source for Flat {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        if self.shape.rows.is_none_or(|rows| self.next >= rows) {
            return Ok(None);
        }
        let start = self.data + self.next as usize * self.row_len;
        self.next += 1;
        let vector = self.map.get(start..start + self.row_len);
        Ok(vector.map(|bytes| Row { vector: Cow::Borrowed(bytes), path: None, n: None }))
    }
}

/// An index that is written; its head is written last, when the vectors are counted.
pub(super) struct FlatFile {
    path: PathBuf,
    out: BufWriter<File>,
    element: Element,
    dimensions: usize,
    metric: Metric,
    rows: u64,
}

/// Makes a file.
pub(super) fn create(path: &Path, schema: &Schema) -> Result<FlatFile, Failure> {
    let out =
        BufWriter::with_capacity(1 << 20, File::create(path).map_err(|error| Failure::io(path, &error))?);
    let (element, dimensions, metric) = (schema.element, schema.dimensions, schema.metric);
    let mut file = FlatFile { path: path.to_owned(), out, element, dimensions, metric, rows: 0 };
    file.head().map_err(|error| Failure::io(path, &error))?;
    Ok(file)
}

impl FlatFile {
    fn head(&mut self) -> std::io::Result<()> {
        let (d, rows) = (self.dimensions as i32, self.rows as i64);
        let mut head = Vec::new();
        if self.element == Element::Bit {
            head.extend(b"IBxF");
            head.extend(d.to_le_bytes());
            head.extend((d / 8).to_le_bytes());
            head.extend(rows.to_le_bytes());
            head.push(1);
            head.extend(1_i32.to_le_bytes());
            head.extend((rows * i64::from(d / 8)).to_le_bytes());
        } else {
            // The cosine is the inner product of vectors of length 1; faiss has no other name for it.
            let l2 = self.metric == Metric::L2;
            head.extend(if l2 { b"IxF2" } else { b"IxFI" });
            head.extend(d.to_le_bytes());
            head.extend(rows.to_le_bytes());
            head.extend(UNUSED.to_le_bytes());
            head.extend(UNUSED.to_le_bytes());
            head.push(1);
            head.extend(i32::from(l2).to_le_bytes());
            head.extend((rows * i64::from(d)).to_le_bytes());
        }
        self.out.write_all(&head)
    }
}

impl Sink for FlatFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        self.rows += 1;
        let written = if matches!(self.element, Element::F32 | Element::Bit) {
            self.out.write_all(row.vector)
        } else {
            let numbers = vector::values(row.vector, self.element).map_err(|why| wrong(&self.path, why))?;
            let bytes: Vec<u8> = numbers.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect();
            self.out.write_all(&bytes)
        };
        written.map_err(|error| Failure::io(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        let path = self.path.clone();
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.head()?;
            self.out.flush()
        };
        write().map_err(|error| Failure::io(&path, &error))
    }
}
