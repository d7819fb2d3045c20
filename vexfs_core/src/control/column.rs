//! The columns of a collection as numpy arrays: `vectors.npy`, `headers.npy`, `valid.npy`, `scale.npy`, members of the
//! metadata, `codebook.npy`, which rows refer to, and `generation.npy`, whose one entry tells whoever mapped it that something
//! changed.
//!
//! Each is a header of 4,096 bytes (numpy's format 1.0) and then one entry a row, or the codebook's. The matrix's bytes are on the
//! device; the other columns are rendered from the rows' records and metadata.

use alloc::vec::Vec;
use core::fmt::Write;

use super::{CODEBOOK, COLUMNS, GENERATION, HEADERS, MATRIX, SCALE, VALID, arrow, generation};
use crate::codec;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{
    COLUMN_WIDTH_MAX, ColumnType, MATRIX_DATA, Quantizer, RowRecord, collection_directory, collection_part,
    parse_exact,
};
use crate::memory::{self, Text};
use crate::numbers::Ino;
use crate::operations::{
    Column, LoadedCollection as Loaded, ReadPlan, codebook, column, each_extent, each_metadata, shown,
};
use crate::tree;
use crate::volume::{Nodes, Volume};
use zerocopy::IntoBytes;

const HEADER: usize = MATRIX_DATA as usize;
/// numpy's dtype of a `VectorHeader`.
const HEADER_DTYPE: &str = "[('magic', '<u4'), ('version', '<u4'), ('vector_id', '<u8'), ('file_inode', '<u8'), \
    ('data_type', '<u2'), ('compression', '<u2'), ('dimensions', '<u4'), ('original_size', '<u4'), \
    ('compressed_size', '<u4'), ('created_timestamp', '<u8'), ('modified_timestamp', '<u8'), \
    ('checksum', '<u4'), ('flags', '<u4')]";

/// Begins a read of a column: rendered bytes go into the buffer, the matrix's own into the plan.
pub(crate) fn read_column<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    offset: u64,
    buffer: &mut [u8],
) -> Result<ReadPlan> {
    if let Some(plan) = arrow::read(volume, inode, offset, buffer)? {
        return Ok(plan);
    }
    let (id, part) = collection_part(inode).ok_or(Error::NotFound)?;
    let loaded = match shown(volume, inode) {
        Err(Error::NotFound) => return Ok(gone(part, buffer)),
        found => found?,
    };
    let size = volume.attributes(inode)?.size;
    let len = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
    let buffer = &mut buffer[..len];
    let mut head = 0;
    if offset < MATRIX_DATA && len > 0 {
        let header = npy_header(volume, &loaded, part)?;
        let from = offset as usize;
        head = len.min(HEADER - from);
        buffer[..head].copy_from_slice(&header[from..from + head]);
    }
    let at = offset + head as u64;
    let rest = &mut buffer[head..];
    let pieces = match part {
        MATRIX => matrix(volume, &loaded, at, rest, head)?,
        HEADERS => {
            rows(volume, &loaded, 64, at, rest, &mut |record, to| {
                to.copy_from_slice(record.header.as_bytes())
            })?;
            Vec::new()
        }
        VALID => {
            rows(volume, &loaded, 1, at, rest, &mut |_, to| to.fill(1))?;
            Vec::new()
        }
        SCALE => {
            rows(volume, &loaded, 4, at, rest, &mut |record, to| {
                to.copy_from_slice(record.scale.as_bytes())
            })?;
            Vec::new()
        }
        GENERATION => {
            let numbers = generation::numbers(volume, &loaded)?;
            rest.fill(0);
            put_entry(numbers.as_bytes(), 0, at.saturating_sub(MATRIX_DATA), rest);
            Vec::new()
        }
        CODEBOOK => {
            codebook::read(volume, &loaded, at.saturating_sub(MATRIX_DATA) as usize, rest)?;
            Vec::new()
        }
        COLUMNS.. => {
            let column = column(volume, id, part - COLUMNS)?;
            members(volume, &loaded, &column, at, rest)?;
            Vec::new()
        }
        _ => return Err(Error::Invalid("not a column")),
    };
    Ok(ReadPlan { len, pieces })
}

// A file of a collection that was removed, which somebody has open or mapped: no row is live, and no generation was ever as high.
fn gone(part: u64, buffer: &mut [u8]) -> ReadPlan {
    buffer.fill(0);
    if part == GENERATION {
        buffer.fill(u8::MAX);
    }
    ReadPlan { len: buffer.len(), pieces: Vec::new() }
}

/// Bytes of the matrix from `offset` on; `base` is where `buffer` lies in the caller's.
pub(super) fn matrix<N: Nodes>(
    nodes: &N,
    loaded: &Loaded,
    offset: u64,
    buffer: &mut [u8],
    base: usize,
) -> Result<Vec<(core::ops::Range<usize>, Place)>> {
    let inode = loaded.matrix();
    let block_size = u64::from(nodes.geometry().block_size);
    let end = offset + buffer.len() as u64;
    let mut pieces = Vec::new();
    let mut done = 0;
    each_extent(nodes, inode, offset / block_size, end.div_ceil(block_size), &mut |extent| {
        if extent.unwritten {
            return Ok(true);
        }
        let start = (extent.at * block_size).max(offset);
        let stop = (extent.end() * block_size).min(end);
        let range = (start - offset) as usize..(stop - offset) as usize;
        dead(loaded, offset + done as u64, &mut buffer[done..range.start])?;
        done = range.end;
        let device = extent.run.start.0 * block_size + (start - extent.at * block_size);
        let place = Place { inode, offset: start, device };
        memory::push(&mut pieces, (range.start + base..range.end + base, place))?;
        Ok(true)
    })?;
    dead(loaded, offset + done as u64, &mut buffer[done..])?;
    Ok(pieces)
}

// What a hole of the matrix shows: dead rows up to the last one in use, zeros behind it.
fn dead(loaded: &Loaded, offset: u64, buffer: &mut [u8]) -> Result<()> {
    buffer.fill(0);
    let stride = u64::from(loaded.record.stride.get());
    let len = loaded.stored_len() as u64;
    let last = loaded.record.rows.get();
    let end = offset + buffer.len() as u64;
    if stride == 0 || len == 0 || offset < MATRIX_DATA {
        return Ok(());
    }
    let (codec, element) = (loaded.codec()?, loaded.element()?);
    let width = u64::from(codec::width(codec, element));
    let mut row = (offset - MATRIX_DATA) / stride;
    while row < last && MATRIX_DATA + row * stride < end {
        let start = MATRIX_DATA + row * stride;
        let (from, to) = (start.max(offset), (start + len).min(end));
        if from < to {
            // Entries are a power of two and rows are aligned to 64, so a page never cuts one.
            let phase = (from - start) % width;
            debug_assert_eq!(phase, 0);
            codec::fill_blank(codec, element, &mut buffer[(from - offset) as usize..(to - offset) as usize]);
        }
        row += 1;
    }
    Ok(())
}

/// Renders the entries of live rows, `width` bytes each, into zeros.
pub(super) fn rows<N: Nodes>(
    nodes: &N,
    loaded: &Loaded,
    width: u64,
    offset: u64,
    buffer: &mut [u8],
    render: &mut dyn FnMut(&RowRecord, &mut [u8]),
) -> Result<()> {
    buffer.fill(0);
    if buffer.is_empty() {
        return Ok(());
    }
    let start = offset - MATRIX_DATA;
    let end = start + buffer.len() as u64;
    let directory = collection_directory(loaded.id);
    let (from, to) = (loaded.row_key(start / width), loaded.row_key(end.div_ceil(width)));
    let mut entry = [0u8; 64];
    tree::scan(nodes, from, to, &mut |key, value| {
        let record: &RowRecord = parse_exact(value, "row of collection", directory.0)?;
        let entry = &mut entry[..width as usize];
        render(record, entry);
        put_entry(entry, key.offset * width, start, buffer);
        Ok(true)
    })
}

// Copies the part of an entry at byte `at` of the data that falls into `buffer`, which begins at byte `start`.
pub(super) fn put_entry(entry: &[u8], at: u64, start: u64, buffer: &mut [u8]) {
    let (from, to) = (at.max(start), (at + entry.len() as u64).min(start + buffer.len() as u64));
    if from < to {
        buffer[(from - start) as usize..(to - start) as usize]
            .copy_from_slice(&entry[(from - at) as usize..(to - at) as usize]);
    }
}

// Renders the entries of a column that is made from metadata.
fn members<N: Nodes>(
    nodes: &N,
    loaded: &Loaded,
    column: &Column,
    offset: u64,
    buffer: &mut [u8],
) -> Result<()> {
    if buffer.is_empty() {
        return Ok(());
    }
    let width = u64::from(column.width);
    let start = offset - MATRIX_DATA;
    let (first, end) = (start / width, (start + buffer.len() as u64).div_ceil(width));
    let mut entry = [0u8; COLUMN_WIDTH_MAX as usize];
    let entry = &mut entry[..width as usize];
    column.null(entry);
    for row in first..end {
        put_entry(entry, row * width, start, buffer);
    }
    each_metadata(nodes, loaded.id, first, end, &mut |row, text| {
        // What does not fit was never set by a sound program.
        if column.entry(text, entry).is_err() {
            column.null(entry);
        }
        put_entry(entry, row * width, start, buffer);
        Ok(())
    })
}

// numpy's header, format 1.0: magic, version, length, a Python dictionary padded with spaces, a newline.
fn npy_header<N: Nodes>(nodes: &N, loaded: &Loaded, part: u64) -> Result<Vec<u8>> {
    let mut text = Text::new();
    text.raw(b"\x93NUMPY\x01\x00")?;
    text.raw(&((HEADER - 10) as u16).to_le_bytes())?;
    let rows = loaded.record.rows.get();
    let (codec, element) = (loaded.codec()?, loaded.element()?);
    let columns = loaded.record.stride.get() / codec::width(codec, element);
    let written = match part {
        MATRIX => write!(
            text,
            "{{'descr': '{}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}",
            codec::dtype(codec, element)
        ),
        HEADERS => {
            write!(text, "{{'descr': {HEADER_DTYPE}, 'fortran_order': False, 'shape': ({rows},), }}")
        }
        COLUMNS.. => {
            let column = column(nodes, loaded.id, part - COLUMNS)?;
            text.raw(b"{'descr': '")?;
            match column.kind {
                ColumnType::Bool => text.raw(b"|i1")?,
                ColumnType::Int => text.raw(b"<i8")?,
                ColumnType::Float => text.raw(b"<f8")?,
                ColumnType::Timestamp => text.raw(b"<M8[ns]")?,
                ColumnType::String => write!(text, "|S{}", column.width).map_err(|_| Error::NoMemory)?,
            }
            write!(text, "', 'fortran_order': False, 'shape': ({rows},), }}")
        }
        GENERATION => {
            write!(text, "{{'descr': '<u8', 'fortran_order': False, 'shape': ({},), }}", generation::ENTRIES)
        }
        SCALE => write!(text, "{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows},), }}"),
        CODEBOOK => {
            let Quantizer { subvectors, sub_dimensions, .. } = codec.quantizer();
            let entries = codec.quantizer().entries();
            text.raw(b"{'descr': '<f4', 'fortran_order': False, 'shape': ")?;
            write!(text, "({subvectors}, {entries}, {sub_dimensions}), }}")
        }
        _ => write!(text, "{{'descr': '|b1', 'fortran_order': False, 'shape': ({rows},), }}"),
    };
    written.map_err(|_| Error::NoMemory)?;
    let mut bytes = text.into_bytes();
    let padding = memory::filled(HEADER - 1 - bytes.len(), b' ')?;
    memory::extend(&mut bytes, &padding)?;
    memory::push(&mut bytes, b'\n')?;
    Ok(bytes)
}
