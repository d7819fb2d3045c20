//! Product quantisation: of each part of a vector, which entry of a codebook is nearest.
//!
//! INVARIANT: codes are those that `vexfs_core::codec::pq` gives, bit for bit: both count values and entries in the same
//! unit, a power of two, and compare whole numbers; of equally near entries the first is taken. A test holds them to it.
//!
//! ```text
//! assign    which entry is nearest: of many points, in whole numbers
//! train     a codebook of a collection's own vectors, by k-means
//! ```

mod assign;
mod train;

use std::fs;
use std::path::Path;

use super::Rows;
use crate::error::{Error, Result};
use crate::npy::Header;

pub(super) use assign::Entries;
use assign::{Unit, gather};
pub use train::{Training, train};

/// Vectors that are coded at once.
const BLOCK: usize = 256;

/// The shape of a codebook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Parts of a vector, each with a code of its own.
    pub subvectors: usize,
    /// Dimensions of a part.
    pub sub_dimensions: usize,
    /// Bits of a code, 4 or 8.
    pub bits: usize,
}

impl Shape {
    /// The one that cuts vectors of `dimensions` into so many parts.
    ///
    /// # Errors
    /// Which numbers are possible.
    pub fn cutting(dimensions: usize, subvectors: usize, bits: usize) -> std::result::Result<Self, String> {
        if !matches!(bits, 4 | 8) {
            return Err(format!("a code of pq has 4 or 8 bits, not {bits}"));
        }
        if subvectors == 0 || dimensions == 0 || !dimensions.is_multiple_of(subvectors) {
            let some: Vec<String> =
                (1..=dimensions).filter(|m| dimensions.is_multiple_of(*m)).map(|m| m.to_string()).collect();
            return Err(format!(
                "{dimensions} dimensions cannot be cut into {subvectors} equal parts; these can be: {}",
                some.join(", ")
            ));
        }
        Ok(Self { subvectors, sub_dimensions: dimensions / subvectors, bits })
    }

    /// Dimensions of a vector.
    pub const fn dimensions(self) -> usize {
        self.subvectors * self.sub_dimensions
    }

    /// Entries that a part is compared with.
    pub const fn entries(self) -> usize {
        1 << self.bits
    }

    /// Bytes of a vector's codes.
    pub const fn code_len(self) -> usize {
        (self.subvectors * self.bits).div_ceil(8)
    }
}

/// For each part of a vector the entries that stand for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Codebook {
    shape: Shape,
    /// `subvectors` x `entries` x `sub_dimensions`.
    entries: Vec<f32>,
}

impl Codebook {
    /// A codebook of this shape: `subvectors` x `entries` x `sub_dimensions` finite numbers.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn new(shape: Shape, entries: Vec<f32>) -> std::result::Result<Self, String> {
        let needed = shape.dimensions() * shape.entries();
        if entries.len() != needed || !matches!(shape.bits, 4 | 8) {
            return Err(format!("{} numbers are no codebook, which has {needed}", entries.len()));
        }
        if entries.iter().any(|value| !value.is_finite()) {
            return Err("an entry is NaN or infinite".into());
        }
        Ok(Self { shape, entries })
    }

    /// Reads a `codebook.npy`: f32, subvectors x (16 or 256) x dimensions of a part.
    ///
    /// # Errors
    /// What the system refuses, and files that hold no codebook.
    pub fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        Self::parse(&bytes).map_err(|why| Error::Format { path: path.to_owned(), why })
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, String> {
        let header = Header::parse(bytes)?;
        let lengths: Vec<usize> =
            header.shape.iter().map(|length| usize::try_from(*length).unwrap_or(usize::MAX)).collect();
        let wrong = || {
            let (descr, shape) = (&header.descr, &header.shape);
            format!(
                "holds {descr} of shape {shape:?}; a codebook is <f4, subvectors x 16 or 256 x dimensions"
            )
        };
        let [subvectors, entries @ (16 | 256), sub_dimensions] = lengths[..] else { return Err(wrong()) };
        if header.descr != "<f4" || header.fortran_order || sub_dimensions == 0 || subvectors == 0 {
            return Err(wrong());
        }
        let bits = if entries == 16 { 4 } else { 8 };
        let data = bytes.get(header.data..).unwrap_or_default();
        let len = subvectors.checked_mul(sub_dimensions).and_then(|len| len.checked_mul(entries * 4));
        let data = len.and_then(|len| data.get(..len)).ok_or("is shorter than its header says")?;
        Self::from_bytes(Shape { subvectors, sub_dimensions, bits }, data)
    }

    /// A codebook of this shape from the bytes of its entries, f32, little-endian.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn from_bytes(shape: Shape, bytes: &[u8]) -> std::result::Result<Self, String> {
        let (fours, _) = bytes.as_chunks::<4>();
        Self::new(shape, fours.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The bytes of its entries, f32, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    /// The same with each entry rounded to binary16, for a collection of f16.
    ///
    /// # Errors
    /// If one is too large for it.
    pub fn halved(&self) -> std::result::Result<Self, String> {
        let half = |value: &f32| crate::half::to_f32(crate::half::from_f32(*value));
        let entries: Vec<f32> = self.entries.iter().map(half).collect();
        Self::new(self.shape, entries).map_err(|_| "an entry is too large for f16: above 65504".into())
    }

    /// Stores `vectors`, one behind the other, as rows `stride` bytes apart. Bytes between rows are left as they are.
    ///
    /// # Panics
    /// If `rows` are too short for the vectors, or `stride` for a row.
    pub fn encode(&self, vectors: &[f32], rows: &mut [u8], stride: usize) {
        Encoder::new(self).encode(vectors, rows, stride);
    }

    /// Reads rows back: one vector after the other, as many as `vectors` has room for.
    ///
    /// # Panics
    /// If `rows` are too short for them.
    pub fn decode(&self, rows: Rows<'_>, vectors: &mut [f32]) {
        match self.shape.sub_dimensions {
            2 => self.decode_parts::<2>(rows, vectors),
            4 => self.decode_parts::<4>(rows, vectors),
            6 => self.decode_parts::<6>(rows, vectors),
            8 => self.decode_parts::<8>(rows, vectors),
            16 => self.decode_parts::<16>(rows, vectors),
            32 => self.decode_parts::<32>(rows, vectors),
            _ => self.decode_any(rows, vectors),
        }
    }

    // Parts of a length that the compiler knows: a look-up is some loads and stores, not a call.
    fn decode_parts<const N: usize>(&self, rows: Rows<'_>, vectors: &mut [f32]) {
        let Shape { subvectors, bits, .. } = self.shape;
        let (entries, _) = self.entries.as_chunks::<N>();
        let rows = rows.bytes.chunks(rows.stride);
        for (vector, row) in vectors.chunks_exact_mut(subvectors * N).zip(rows) {
            for ((part, to), entries) in
                vector.as_chunks_mut::<N>().0.iter_mut().enumerate().zip(entries.chunks(1 << bits))
            {
                *to = entries[code(row, part, bits)];
            }
        }
    }

    fn decode_any(&self, rows: Rows<'_>, vectors: &mut [f32]) {
        let Shape { sub_dimensions, bits, .. } = self.shape;
        let rows = rows.bytes.chunks(rows.stride);
        for (vector, row) in vectors.chunks_exact_mut(self.shape.dimensions()).zip(rows) {
            for (part, to) in vector.chunks_exact_mut(sub_dimensions).enumerate() {
                to.copy_from_slice(self.entry(part, code(row, part, bits)));
            }
        }
    }

    // An entry of a part.
    fn entry(&self, part: usize, code: usize) -> &[f32] {
        let at = (part * self.shape.entries() + code) * self.shape.sub_dimensions;
        &self.entries[at..at + self.shape.sub_dimensions]
    }

    /// All entries of a part, one behind the other.
    pub fn part(&self, part: usize) -> &[f32] {
        let len = self.shape.entries() * self.shape.sub_dimensions;
        &self.entries[part * len..(part + 1) * len]
    }
}

// The code of a part of a row.
#[inline(always)]
fn code(row: &[u8], part: usize, bits: usize) -> usize {
    if bits == 4 { usize::from(row[part / 2] >> (4 * (part % 2)) & 15) } else { usize::from(row[part]) }
}

/// A codebook as vectors are compared with it.
#[derive(Debug)]
pub struct Encoder {
    shape: Shape,
    unit: Unit,
    parts: Vec<Entries>,
}

impl Encoder {
    /// That of a codebook.
    pub fn new(codebook: &Codebook) -> Self {
        let shape = codebook.shape;
        let unit = Unit::of(&codebook.entries, shape.sub_dimensions);
        let of_part = |part| Entries::new(codebook.part(part), shape.sub_dimensions, unit);
        Self { shape, unit, parts: (0..shape.subvectors).map(of_part).collect() }
    }

    /// As [`Codebook::encode`].
    ///
    /// # Panics
    /// As [`Codebook::encode`].
    pub fn encode(&self, vectors: &[f32], rows: &mut [u8], stride: usize) {
        let (dimensions, len) = (self.shape.dimensions(), self.shape.code_len());
        assert!(stride >= len, "{len} bytes a row do not fit into {stride}");
        let (mut points, mut codes) = (Vec::new(), [0; BLOCK]);
        for (vectors, rows) in vectors.chunks(BLOCK * dimensions).zip(rows.chunks_mut(BLOCK * stride)) {
            rows.chunks_mut(stride).for_each(|row| row[..len].fill(0));
            for (part, entries) in self.parts.iter().enumerate() {
                gather(
                    vectors,
                    dimensions,
                    part * self.shape.sub_dimensions,
                    entries,
                    self.unit,
                    &mut points,
                );
                let codes = &mut codes[..vectors.len() / dimensions];
                entries.assign(&points, codes);
                for (row, code) in rows.chunks_mut(stride).zip(codes) {
                    match self.shape.bits {
                        4 => row[part / 2] |= *code << (4 * (part % 2)),
                        _ => row[part] = *code,
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
