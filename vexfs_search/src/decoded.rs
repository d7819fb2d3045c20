//! A collection's vectors as their attributes read, whatever codec stores them.
//!
//! INVARIANT: a vector that is given out is the one of a single vector id: bytes, scale and id are read again until
//! they belong together. As many rows lie within each mapping as [`Decoded::rows`] says; the files never get shorter
//! under a mapping (the filesystem's promise).

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use memmap2::Mmap;
use serde_json::Value;
use zerocopy::IntoBytes;

use crate::codec::pq::Codebook;
use crate::codec::{Codec, Coder, Rows};
use crate::error::{Error, Result};
use crate::npy::Header;
use crate::{Element, Schema, half};

/// Where in a row of `headers.npy` the vector's id and the file's inode are.
const VECTOR_ID: usize = 8;
const FILE_INODE: usize = 16;
/// Bytes of a row of `headers.npy`.
const HEADER_SIZE: usize = 64;
/// How often a row that changes while it is read is read again.
const ATTEMPTS: u32 = 100;

/// A collection to read vectors from.
#[derive(Debug)]
pub struct Decoded {
    schema: Schema,
    coder: Coder,
    vectors: Column,
    valid: Column,
    headers: Column,
    scales: Option<Column>,
    rows: usize,
}

impl Decoded {
    /// Opens and maps the collection in `directory`.
    ///
    /// # Errors
    /// What the system refuses, and files that do not hold what `schema.json` says.
    pub fn open(directory: &Path) -> Result<Self> {
        Schema::opened(directory, |schema| Self::open_as(directory, schema))
    }

    fn open_as(directory: &Path, schema: Schema) -> Result<Self> {
        let wrong = |why: String| Error::Format { path: directory.join("schema.json"), why };
        let name = schema.all.get("codec").and_then(Value::as_str).unwrap_or("none");
        let coder = match name {
            Coder::PQ => Coder::Quantized(Arc::new(Codebook::open(&directory.join("codebook.npy"))?)),
            _ => Coder::Plain(
                Codec::from_name(name)
                    .ok_or_else(|| wrong(format!("the codec `{name}` is not known here")))?,
            ),
        };
        if !coder.is_none() && !matches!(schema.element, Element::F32 | Element::F16) {
            return Err(wrong(format!("{name} cannot store {}", schema.element.name())));
        }
        if !coder.fits(schema.dimensions) {
            return Err(wrong(format!("codebook.npy is not of vectors of {} dimensions", schema.dimensions)));
        }
        let stored = match coder.is_none() {
            true => schema.vector_len(),
            false => coder.stored_len(schema.dimensions),
        };
        let (dtype, width) = match coder {
            Coder::Plain(Codec::None) => (schema.element.descr(), schema.element.width()),
            Coder::Plain(Codec::F16) => (Element::F16.descr(), Element::F16.width()),
            Coder::Plain(Codec::Sq8) => (Element::I8.descr(), 1),
            Coder::Plain(Codec::Sq4 | Codec::Binary) | Coder::Quantized(_) => (Element::Bit.descr(), 1),
        };
        // The collection may grow between the opens; the least of the counts is right for all.
        let vectors = Column::open(directory.join("vectors.npy"), Some(dtype), Entry::Row { width, stored })?;
        let valid = Column::open(directory.join("valid.npy"), Some("|b1"), Entry::Bytes(1))?;
        let headers = Column::open(directory.join("headers.npy"), None, Entry::Bytes(HEADER_SIZE))?;
        let scales = match coder.has_scale() {
            true => Some(Column::open(directory.join("scale.npy"), Some("<f4"), Entry::Bytes(4))?),
            false => None,
        };
        let columns = [Some(&vectors), Some(&valid), Some(&headers), scales.as_ref()];
        let rows = columns.into_iter().flatten().map(|column| column.rows).min().unwrap_or(0);
        Ok(Self { schema, coder, vectors, valid, headers, scales, rows })
    }

    /// What `schema.json` said.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How rows stand for vectors.
    pub fn coder(&self) -> &Coder {
        &self.coder
    }

    /// Rows, free ones counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// True if the row holds a vector now.
    pub fn is_live(&self, row: usize) -> bool {
        row < self.rows && self.valid.now::<1>(row, 0) != [0]
    }

    /// The inode of the file that the row belongs to; 0 of a free row, or one past the end.
    pub fn file_inode(&self, row: usize) -> u64 {
        if self.is_live(row) { u64::from_le_bytes(self.headers.now(row, FILE_INODE)) } else { 0 }
    }

    /// The vector of a row, little-endian as its attribute reads; `None` of a free row, or one past the end.
    ///
    /// # Errors
    /// If the row's scale cannot be one.
    pub fn vector(&self, row: usize) -> Result<Option<Vec<u8>>> {
        Ok(self.numbered(row)?.map(|(vector, _)| vector))
    }

    /// The vector of a row, and its number, which no other vector ever has.
    ///
    /// # Errors
    /// As [`vector`](Self::vector).
    pub fn numbered(&self, row: usize) -> Result<Option<(Vec<u8>, u64)>> {
        for _ in 0..ATTEMPTS {
            if !self.is_live(row) {
                return Ok(None);
            }
            let id: [u8; 8] = self.headers.now(row, VECTOR_ID);
            let stored = self.vectors.entry(row).to_vec();
            let scale = self.scales.as_ref().map_or(0.0, |scales| f32::from_le_bytes(scales.now(row, 0)));
            fence(Ordering::Acquire);
            if self.is_live(row) && self.headers.now(row, VECTOR_ID) == id {
                return Ok(Some((self.decode(row, stored, scale)?, u64::from_le_bytes(id))));
            }
        }
        Ok(None)
    }

    /// Fails if the scale of a live row cannot be one.
    pub(crate) fn check_scales(&self) -> Result<()> {
        let Some(scales) = &self.scales else { return Ok(()) };
        let scale = |row: usize| f32::from_le_bytes(scales.now(row, 0));
        let odd = |row: &usize| !(scale(*row).is_finite() && scale(*row) >= 0.0);
        // Reading it tells, unless it was freed meanwhile.
        (0..self.rows).filter(odd).try_for_each(|row| self.vector(row).map(drop))
    }

    /// Rows as they are stored.
    pub(crate) fn stored(&self, rows: Range<usize>) -> Rows<'_> {
        Rows { bytes: self.vectors.entries(rows), stride: self.vectors.stride }
    }

    /// Decodes rows into `block`, `stride` bytes each, with a flag that says which are live. One whose scale cannot be
    /// one, as none had at the opening, counts as free.
    pub(crate) fn block(&self, rows: Range<usize>, stride: usize, block: &mut Block) {
        let dimensions = self.schema.dimensions;
        let ids: Vec<[u8; 8]> = rows.clone().map(|row| self.headers.now(row, VECTOR_ID)).collect();
        let scale = |row| self.scales.as_ref().map_or(0.0, |scales| f32::from_le_bytes(scales.now(row, 0)));
        let scales: Vec<f32> = rows.clone().map(scale).collect();
        let mut values = vec![0.0_f32; rows.len() * dimensions];
        let stored = self.stored(rows.clone());
        let whole = self.coder.decode(stored, &scales, dimensions, &mut values).is_ok();
        fence(Ordering::Acquire);
        block.vectors.clear();
        block.vectors.resize((rows.len() * stride).div_ceil(size_of::<f32>()), 0.0);
        block.valid.clear();
        for ((row, id), to) in rows.zip(ids).zip(block.vectors.as_mut_bytes().chunks_exact_mut(stride.max(1)))
        {
            let start = block.valid.len() * dimensions;
            let same = whole && self.is_live(row) && self.headers.now(row, VECTOR_ID) == id;
            let vector = match (same, values.get(start..start + dimensions)) {
                (true, Some(values)) => Some(self.attribute(values)),
                // It changed meanwhile, or one of the block is odd: alone.
                _ => self.vector(row).ok().flatten(),
            };
            block.valid.push(u8::from(vector.is_some()));
            if let Some(vector) = vector {
                to[..vector.len()].copy_from_slice(&vector);
            }
        }
    }

    // The bytes of a decoded vector's attribute.
    fn attribute(&self, vector: &[f32]) -> Vec<u8> {
        match self.schema.element {
            Element::F16 => vector.iter().flat_map(|value| half::from_f32(*value).to_le_bytes()).collect(),
            _ => vector.as_bytes().to_vec(),
        }
    }

    fn decode(&self, row: usize, stored: Vec<u8>, scale: f32) -> Result<Vec<u8>> {
        if self.coder.is_none() {
            return Ok(stored);
        }
        let mut vector = vec![0.0; self.schema.dimensions];
        let rows = Rows { bytes: &stored, stride: stored.len() };
        self.coder.decode(rows, &[scale], self.schema.dimensions, &mut vector).map_err(|refused| {
            let path = self.scales.as_ref().map_or(&self.vectors.path, |scales| &scales.path);
            Error::Format { path: path.clone(), why: format!("row {row}: {}", refused.why) }
        })?;
        Ok(self.attribute(&vector))
    }
}

/// Rows that were decoded together.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// The vectors; floats for their alignment.
    pub(crate) vectors: Vec<f32>,
    /// A byte a row, 0 if it is free.
    pub(crate) valid: Vec<u8>,
}

/// What a row of a column is.
#[derive(Clone, Copy)]
enum Entry {
    /// So many bytes, in a column of one dimension.
    Bytes(usize),
    /// `stored` bytes at the beginning of a row of entries of `width`, in a column of two.
    Row { width: usize, stored: usize },
}

/// A mapped npy file.
#[derive(Debug)]
struct Column {
    path: PathBuf,
    map: Mmap,
    data: usize,
    rows: usize,
    stride: usize,
    len: usize,
}

impl Column {
    fn open(path: PathBuf, dtype: Option<&str>, entry: Entry) -> Result<Self> {
        let io = |source| Error::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        // SAFETY: the map is read alone. The filesystem never shortens a file under a mapping; bytes may change while
        // they are read, and no value of the types read from them is invalid.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let wrong = |why: String| Error::Format { path: path.clone(), why };
        let header = Header::parse(&map).map_err(wrong)?;
        if let Some(dtype) = dtype.filter(|dtype| *dtype != header.descr) {
            return Err(wrong(format!("holds {}, not {dtype}", header.descr)));
        }
        let number = |number: u64| usize::try_from(number).ok();
        let (rows, stride, len) = match (entry, header.shape.as_slice(), header.fortran_order) {
            (Entry::Bytes(len), [rows], _) => (number(*rows), Some(len), len),
            (Entry::Row { width, stored }, [rows, entries], false) => {
                (number(*rows), number(*entries).and_then(|entries| entries.checked_mul(width)), stored)
            }
            (_, shape, _) => return Err(wrong(format!("has the shape {shape:?}"))),
        };
        let end =
            rows.zip(stride).and_then(|(rows, stride)| rows.checked_mul(stride)?.checked_add(header.data));
        let (Some(rows), Some(stride), Some(end)) = (rows, stride, end) else {
            return Err(wrong("is larger than memory can be".into()));
        };
        if rows > 0 && (end > map.len() || stride < len) {
            return Err(wrong(format!("is too short for {rows} rows")));
        }
        Ok(Self { path, map, data: header.data, rows, stride, len })
    }

    /// The bytes of a row, which is below `rows`.
    fn entry(&self, row: usize) -> &[u8] {
        let start = self.data + row * self.stride;
        self.map.get(start..start + self.len).unwrap_or_default()
    }

    /// The bytes of rows, which are below `rows`, up to the end of the last one's.
    fn entries(&self, rows: Range<usize>) -> &[u8] {
        let start = self.data + rows.start * self.stride;
        let end = self.data + rows.end.saturating_sub(1) * self.stride + self.len;
        self.map.get(start..end).unwrap_or_default()
    }

    /// `N` bytes of a row as they are at this moment, from `offset` on; zeros where there are none.
    fn now<const N: usize>(&self, row: usize, offset: usize) -> [u8; N] {
        match self.entry(row).get(offset..).and_then(|bytes| bytes.first_chunk::<N>()) {
            // SAFETY: the reference is valid for reads. Volatile, as another process may have changed the bytes since
            // they were last read.
            Some(bytes) => unsafe { std::ptr::from_ref(bytes).read_volatile() },
            None => [0; N],
        }
    }
}
