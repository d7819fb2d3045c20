//! `vectors.arrow`: a collection as one Arrow IPC file, of which the matrix is a part.
//!
//! `pyarrow.memory_map` and the like read it without a copy: the rows are the matrix's own bytes, on the device; the
//! head, the bits of live rows, the other columns and the footer are rendered. A row is padded to 64 bytes there as
//! in `vectors.npy`, so a vector is a fixed-size list of as many entries as the padded row has, and the schema's
//! metadata has the dimension (`vexfs.dimension`). Source: Arrow's columnar format, "IPC File Format".

mod flat;
mod message;
mod shape;

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::IntoBytes;

use self::message::{Counts, FOOT, HEAD};
use self::shape::{Column, Shape};
use super::{HEADERS, MATRIX, Pseudo, SCALE, VALID, column, part_attributes};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    MATRIX_DATA, RowRecord, collection_directory, collection_part, matrix_number, numbered_matrix,
    parse_exact,
};
use crate::numbers::{CollectionId, Ino};
use crate::operations::{Attributes, LoadedCollection as Loaded, ReadPlan, load_collection, of_matrix};
use crate::tree;
use crate::volume::{Event, Nodes, Volume};

/// The collection whose `vectors.arrow` an inode is.
pub fn collection_of(inode: Ino) -> Option<CollectionId> {
    Shape::from_inode(inode).map(|shape| shape.id)
}

/// The matrix whose rows `inode` shows; `None` if it is no `vectors.arrow`, or of a collection that is gone.
pub(super) fn matrix_of<N: Nodes>(nodes: &N, inode: Ino) -> Option<Ino> {
    let shape = Shape::from_inode(inode)?;
    let number = load_collection(nodes, shape.id).ok()?.number();
    Some(numbered_matrix(shape.id, shape.number(number)?))
}

/// The inode that shows a collection now; none while its dimension is not known.
pub(super) fn current<N: Nodes>(nodes: &N, loaded: &Loaded) -> Result<Option<Ino>> {
    let size = loaded.matrix_record(nodes)?.size.get();
    Ok(Shape::of(loaded, size).map(|shape| shape.inode()))
}

/// The attributes of a `vectors.arrow`, of the collection's size now or of an earlier one.
pub(super) fn attributes<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
) -> Result<Option<Attributes>> {
    let Some(shape) = Shape::from_inode(inode) else { return Ok(None) };
    let valid = Ino(collection_directory(shape.id).0 + VALID);
    let shown = part_attributes(volume, valid, VALID, Pseudo::Column)?;
    Ok(Some(Attributes { inode, size: shape.file_size(), ..shown }))
}

/// Begins a read; `None` if `inode` is no `vectors.arrow`.
pub(super) fn read<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    offset: u64,
    buffer: &mut [u8],
) -> Result<Option<ReadPlan>> {
    let Some(shape) = Shape::from_inode(inode) else { return Ok(None) };
    let loaded = shown_by(volume, &shape)?;
    let size = shape.file_size();
    let len = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
    let buffer = &mut buffer[..len];
    buffer.fill(0);
    // Bytes of `part` that are asked for, and where they go.
    let asked = |part: Range<u64>| {
        let (start, end) = (part.start.max(offset), part.end.min(offset + len as u64));
        (start < end).then(|| (start, (start - offset) as usize..(end - offset) as usize))
    };
    if let Some((start, to)) = asked(0..HEAD as u64) {
        let head = message::head(&loaded, &shape, counts(volume, &loaded, &shape)?)?;
        let from = start as usize;
        buffer[to.clone()].copy_from_slice(&head[from..from + to.len()]);
    }
    if let Some((start, to)) = asked(size - FOOT as u64..size) {
        let foot = message::foot(&loaded, &shape)?;
        let from = (start - (size - FOOT as u64)) as usize;
        buffer[to.clone()].copy_from_slice(&foot[from..from + to.len()]);
    }
    let mut pieces = Vec::new();
    if is_current(&loaded, &shape) {
        if let Some((start, to)) = asked(MATRIX_DATA..shape.region) {
            pieces = column::matrix(volume, &loaded, start, &mut buffer[to.clone()], to.start)?;
        }
        let (bits, bytes) = shape.validity();
        if let Some((start, to)) = asked(bits..bits + bytes) {
            live_bits(volume, &loaded, start - bits, &mut buffer[to])?;
        }
        for column in Column::of(&loaded)? {
            let (first, width) = shape.column(*column);
            let rows = first..first + width * shape.rows_max();
            if let (Some(render), Some((start, to))) = (renderer(*column), asked(rows)) {
                let at = MATRIX_DATA + (start - first);
                column::rows(volume, &loaded, width, at, &mut buffer[to], &mut |record, to| {
                    render(record, to)
                })?;
            }
        }
    }
    Ok(Some(ReadPlan { len, pieces }))
}

/// Gives `each` what a change of a collection's column means to the bytes of its `vectors.arrow` `inode`.
///
/// The head comes last: who finds a row counted shall find its bytes.
pub fn mirror(event: &Event, inode: Ino, each: &mut dyn FnMut(Event)) {
    let Some(shape) = Shape::from_inode(inode) else { return };
    let Some((_, part)) = collection_part(event.inode).filter(|(id, _)| *id == shape.id) else { return };
    if matches!(part, MATRIX | SCALE) && !shape.is_of(matrix_number(event.inode)) {
        return;
    }
    let mut give = |range: Range<u64>| {
        if range.start < range.end {
            each(Event { inode, offset: range.start, len: range.end - range.start });
        }
    };
    let end = event.offset.saturating_add(event.len);
    // Rows that a change of a column with entries of `width` bytes touches.
    let rows = |width: u64| {
        let row = |offset: u64| (offset.saturating_sub(MATRIX_DATA) / width).min(shape.rows_max());
        row(event.offset)..row(end.saturating_add(width - 1))
    };
    let entries = |column: Column, rows: &Range<u64>| {
        let (first, width) = shape.column(column);
        first + width * rows.start..first + width * rows.end
    };
    match part {
        MATRIX if event.len == 0 => each(Event { inode, ..*event }),
        MATRIX => give(event.offset.max(MATRIX_DATA)..end.min(shape.region)),
        HEADERS => {
            let rows = rows(64);
            [Column::Id, Column::File, Column::Number].into_iter().for_each(|id| give(entries(id, &rows)));
        }
        SCALE => give(entries(Column::Scale, &rows(4))),
        VALID if event.len > 0 => {
            let (rows, first) = (rows(1), shape.validity().0);
            give(first + rows.start / 8..first + rows.end.div_ceil(8));
            give(0..MATRIX_DATA);
        }
        _ => {}
    }
}

// The collection as a file shows it, of a matrix that was replaced as it was then.
fn shown_by<N: Nodes>(nodes: &N, shape: &Shape) -> Result<Loaded> {
    let loaded = load_collection(nodes, shape.id)?;
    match shape.number(loaded.number()).filter(|number| *number != loaded.number()) {
        Some(number) => match of_matrix(nodes, shape.id, number) {
            Err(Error::NotFound) => Ok(loaded),
            other => other,
        },
        None => Ok(loaded),
    }
}

// True if the file is of the collection's matrix, and its rows are still as long as the file's.
fn is_current(loaded: &Loaded, shape: &Shape) -> bool {
    shape.is_of(loaded.number()) && u64::from(loaded.record.stride.get()) == shape.stride
}

fn counts<N: Nodes>(nodes: &N, loaded: &Loaded, shape: &Shape) -> Result<Counts> {
    if !is_current(loaded, shape) {
        return Ok(Counts { rows: 0, free: 0 });
    }
    let (all, max) = (loaded.record.rows.get(), shape.rows_max());
    if all <= max {
        return Ok(Counts { rows: all, free: all.saturating_sub(loaded.record.live.get()) });
    }
    // A file that was outgrown shows its own rows, whose free ones nobody counted.
    let mut live = 0;
    each_row(nodes, loaded, 0..max, &mut |_| live += 1)?;
    Ok(Counts { rows: max, free: max - live })
}

// Sets the bits of live rows in bytes from `first` on.
fn live_bits<N: Nodes>(nodes: &N, loaded: &Loaded, first: u64, bytes: &mut [u8]) -> Result<()> {
    let start = 8 * first;
    each_row(nodes, loaded, start..start + 8 * bytes.len() as u64, &mut |row| {
        bytes[((row - start) / 8) as usize] |= 1 << (row % 8);
    })
}

fn each_row<N: Nodes>(nodes: &N, loaded: &Loaded, rows: Range<u64>, each: &mut dyn FnMut(u64)) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let (from, to) = (loaded.row_key(rows.start), loaded.row_key(rows.end));
    tree::scan(nodes, from, to, &mut |key, value| {
        let _: &RowRecord = parse_exact(value, "row of collection", directory.0)?;
        each(key.offset);
        Ok(true)
    })
}

// How a column's entry is made from a row's record; the matrix's is not.
fn renderer(column: Column) -> Option<fn(&RowRecord, &mut [u8])> {
    match column {
        Column::Vector => None,
        Column::Id => Some(|record, to| to.copy_from_slice(record.header.vector_id.as_bytes())),
        Column::File => Some(|record, to| to.copy_from_slice(record.header.file_inode.as_bytes())),
        Column::Number => Some(|record, to| to.copy_from_slice(record.n.as_bytes())),
        Column::Scale => Some(|record, to| to.copy_from_slice(record.scale.as_bytes())),
    }
}
