//! Where the parts of a `vectors.arrow` lie, which its inode number alone tells.
//!
//! ```text
//! 0                  head: magic, schema, the batch's metadata
//! 4096               the matrix's own bytes, and zeros up to `region`
//! region             one bit a row: 1 live, 0 free
//!                    vector ids, inodes, numbers, scales: one entry a row
//! size - FOOT        foot: end of the stream, footer, magic
//! ```
//!
//! A reader finds all but the head from the end of the file. So whoever has one open must not see its end move: a
//! matrix that outgrows its region, by an eighth at least, is shown as another file, with another inode number; the
//! old one goes on showing the rows that it has room for.

use super::message::FOOT;
use crate::codec;
use crate::error::Result;
use crate::format::MATRIX_DATA;
use crate::numbers::{CollectionId, Ino};
use crate::operations::LoadedCollection as Loaded;

/// Inode numbers from here on are those of `vectors.arrow`: the lower bits of the matrix's number, the collection, the row's length,
/// the size.
const INODES: u64 = 1 << 56;
const SIZE_BITS: u32 = 9;
const STRIDE_BITS: u32 = 11;
/// Sixteen matrices, one after another, are told apart.
const MATRIX_BITS: u32 = 4;
/// Sizes double every eight; the last is 2^62 bytes.
const SIZES: u64 = 8 * 46;
const ALIGN: u64 = 64;

/// A column of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    /// The stored vector.
    Vector,
    /// Its id, never reused.
    Id,
    /// The file's inode.
    File,
    /// Which vector of the file.
    Number,
    /// The row's scale, with codecs that have one.
    Scale,
}

impl Column {
    const ALL: [Self; 5] = [Self::Vector, Self::Id, Self::File, Self::Number, Self::Scale];

    /// The columns that a collection has.
    pub(super) fn of(loaded: &Loaded) -> Result<&'static [Self]> {
        let count = if codec::has_scale(loaded.codec()?) { 5 } else { 4 };
        Ok(&const { Self::ALL }[..count])
    }

    /// Its name in the schema.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Id => "vector_id",
            Self::File => "inode",
            Self::Number => "n",
            Self::Scale => "scale",
        }
    }
}

/// The places in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The collection.
    pub(super) id: CollectionId,
    /// The lower bits of the number of its matrix.
    pub(super) matrix: u32,
    /// Bytes from one row to the next.
    pub(super) stride: u64,
    /// The end of the matrix's part; one of the sizes that [`region`] counts.
    pub(super) region: u64,
    size: u64,
}

impl Shape {
    /// The shape that has room for a matrix of `size` bytes; none while its rows have no length.
    pub(super) fn of(loaded: &Loaded, size: u64) -> Option<Self> {
        let index = (0..SIZES).find(|index| region(*index) >= size)?;
        let matrix = loaded.number() % (1 << MATRIX_BITS);
        Self::new(loaded.id, matrix, u64::from(loaded.record.stride.get()), index)
    }

    /// The shape that an inode number stands for.
    pub(super) fn from_inode(inode: Ino) -> Option<Self> {
        let number = inode.0.checked_sub(INODES)?;
        let id = number >> (SIZE_BITS + STRIDE_BITS);
        let matrix = u32::try_from(id >> u32::BITS).ok().filter(|matrix| *matrix < 1 << MATRIX_BITS)?;
        let stride = ((number >> SIZE_BITS) & ((1 << STRIDE_BITS) - 1)) * ALIGN;
        Self::new(CollectionId(id as u32), matrix, stride, number & ((1 << SIZE_BITS) - 1))
    }

    fn new(id: CollectionId, matrix: u32, stride: u64, index: u64) -> Option<Self> {
        let fits = index < SIZES && stride > 0 && stride / ALIGN < 1 << STRIDE_BITS && stride % ALIGN == 0;
        fits.then(|| Self { id, matrix, stride, region: region(index), size: index })
    }

    /// The inode number.
    pub(super) fn inode(&self) -> Ino {
        let id = u64::from(self.matrix) << u32::BITS | u64::from(self.id.0);
        let id = id << (SIZE_BITS + STRIDE_BITS);
        Ino(INODES + id + ((self.stride / ALIGN) << SIZE_BITS) + self.size)
    }

    /// Rows that have room.
    pub(super) fn rows_max(&self) -> u64 {
        (self.region - MATRIX_DATA) / self.stride
    }

    /// First byte of the bits that say which rows are live, and how many bytes they take.
    pub(super) fn validity(&self) -> (u64, u64) {
        (self.region, self.rows_max().div_ceil(8))
    }

    /// First byte of a column's entries, and the bytes of one.
    pub(super) fn column(&self, column: Column) -> (u64, u64) {
        let rows = self.rows_max();
        let (bits, len) = self.validity();
        let ids = bits + len.next_multiple_of(ALIGN);
        let files = ids + (8 * rows).next_multiple_of(ALIGN);
        let numbers = files + (8 * rows).next_multiple_of(ALIGN);
        match column {
            Column::Vector => (MATRIX_DATA, self.stride),
            Column::Id => (ids, 8),
            Column::File => (files, 8),
            Column::Number => (numbers, 4),
            Column::Scale => (numbers + (4 * rows).next_multiple_of(ALIGN), 4),
        }
    }

    /// Bytes of all columns.
    pub(super) fn body_len(&self) -> u64 {
        // Room for scales is there without a codec, too: a codec can be chosen while a collection is empty.
        let (scales, width) = self.column(Column::Scale);
        scales + (width * self.rows_max()).next_multiple_of(ALIGN) - MATRIX_DATA
    }

    /// Bytes of the file.
    pub(super) fn file_size(&self) -> u64 {
        MATRIX_DATA + self.body_len() + FOOT as u64
    }

    /// True if it can be of the matrix of this number.
    pub(super) fn is_of(&self, number: u32) -> bool {
        number % (1 << MATRIX_BITS) == self.matrix
    }

    /// The number of its matrix, of a collection whose matrix now is `number`: that, or the last one before it that it can be.
    pub(super) fn number(&self, number: u32) -> Option<u32> {
        number.checked_sub(number.wrapping_sub(self.matrix) % (1 << MATRIX_BITS))
    }
}

// The sizes of regions: from 64 KiB on, eight steps to a doubling.
const fn region(index: u64) -> u64 {
    (8 + index % 8) << (13 + index / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_tell_shapes() {
        for (id, matrix, stride, index) in [(0, 0, 64, 0), (7, 3, 1536, 99), (u32::MAX, 15, 65536, SIZES - 1)]
        {
            let shape = Shape::new(CollectionId(id), matrix, stride, index).unwrap();
            assert_eq!(Shape::from_inode(shape.inode()), Some(shape));
            assert!(shape.inode().0 < 1 << 63);
            assert!(shape.file_size() < 1 << 63);
        }
        assert_eq!(Shape::from_inode(Ino(INODES)), None);
        assert_eq!(Shape::from_inode(Ino(INODES - 1)), None);
    }

    #[test]
    fn parts_follow_one_another_aligned() {
        let shape = Shape::new(CollectionId(1), 0, 192, 21).unwrap();
        let mut end = shape.region;
        let (start, len) = shape.validity();
        assert_eq!((start % ALIGN, start), (0, end));
        end = start + len.next_multiple_of(ALIGN);
        for column in [Column::Id, Column::File, Column::Number, Column::Scale] {
            let (start, width) = shape.column(column);
            assert_eq!((start % ALIGN, start), (0, end));
            end = start + (width * shape.rows_max()).next_multiple_of(ALIGN);
        }
        assert_eq!(MATRIX_DATA + shape.body_len(), end);
        assert!((1..SIZES).all(|index| region(index) > region(index - 1)));
    }
}
