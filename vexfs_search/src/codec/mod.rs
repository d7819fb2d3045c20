//! Batches of vectors to stored rows and back: what `vexfs_core::codec` does to one vector, with SIMD.
//!
//! INVARIANT: every path gives the bits that the core gives (docs/FORMAT.md, "Codecs"), whatever the CPU; a test holds
//! them to it. Products and roundings are single ones of IEEE 754, sums are sums of integers, so no order of the
//! elements shows.
//!
//! ```text
//! coder      how the rows of one collection are read
//! pq         product quantisation: codebooks, trained and applied
//! scale      a row's scale from its largest or its mean magnitude
//! level      which instructions this CPU has, and what is written for them
//! portable avx2 avx512    one row, a file an instruction set
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod coder;
mod level;
mod portable;
pub mod pq;
mod scale;

use std::fmt;

use level::{Job, Level};

pub use coder::Coder;
pub use level::name;

/// How a row stands for its vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// The elements.
    None,
    /// binary16.
    F16,
    /// An i8 a dimension, times the row's scale.
    Sq8,
    /// 4 bits a dimension: (code - 7.5) times the row's scale.
    Sq4,
    /// A sign a dimension, times the row's scale.
    Binary,
}

impl Codec {
    /// All of them, those that keep most first.
    pub const ALL: [Self; 5] = [Self::None, Self::F16, Self::Sq8, Self::Sq4, Self::Binary];

    /// The codec of this name in `schema.json`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Its name in `schema.json`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::F16 => "f16",
            Self::Sq8 => "sq8",
            Self::Sq4 => "sq4",
            Self::Binary => "binary",
        }
    }

    /// Bytes that the row of a vector of f32 takes, without padding.
    pub const fn stored_len(self, dimensions: usize) -> usize {
        match self {
            Self::None => dimensions * 4,
            Self::F16 => dimensions * 2,
            Self::Sq8 => dimensions,
            Self::Sq4 => dimensions.div_ceil(2),
            Self::Binary => dimensions.div_ceil(8),
        }
    }

    /// True if each row has a scale.
    pub const fn has_scale(self) -> bool {
        matches!(self, Self::Sq8 | Self::Sq4 | Self::Binary)
    }
}

/// Stored rows: `bytes` holds one row every `stride` bytes, the first at its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The rows, with what lies between them.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
}

/// A vector that cannot be stored, or a row that stands for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which one of the batch.
    pub row: usize,
    /// Why.
    pub why: &'static str,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}: {}", self.row, self.why)
    }
}

impl std::error::Error for Refused {}

/// Stores `vectors` (f32, `dimensions` each, one behind the other) as rows `stride` bytes apart, and the scale of each
/// in `scales`. Bytes between rows are left as they are.
///
/// # Errors
/// The first vector that the codec cannot store; rows before it are stored.
///
/// # Panics
/// If `stride`, `rows` or `scales` are too short for the vectors, or `dimensions` is 0.
pub fn encode(
    codec: Codec,
    vectors: &[f32],
    dimensions: usize,
    rows: &mut [u8],
    stride: usize,
    scales: &mut [f32],
) -> Result<(), Refused> {
    let count = vectors.len() / dimensions;
    check(codec, dimensions, count, rows.len(), stride, scales.len());
    level::best(Encode { codec, vectors, dimensions, rows, stride, scales })
}

/// Reads rows back: one vector of `dimensions` f32 after the other, as many as `vectors` has room for. What the scales
/// of a codec without them are is never looked at. A signaling NaN in a row of f16, which no encoder writes, is read
/// as a quiet one.
///
/// # Errors
/// The first row whose scale is no finite number from 0 on; rows before it are read.
///
/// # Panics
/// If `rows` or `scales` are too short for the vectors, or `dimensions` is 0.
pub fn decode(
    codec: Codec,
    rows: Rows<'_>,
    scales: &[f32],
    dimensions: usize,
    vectors: &mut [f32],
) -> Result<(), Refused> {
    let count = vectors.len() / dimensions;
    check(codec, dimensions, count, rows.bytes.len(), rows.stride, scales.len());
    level::best(Decode { codec, rows, scales, dimensions, vectors })
}

fn check(codec: Codec, dimensions: usize, count: usize, bytes: usize, stride: usize, scales: usize) {
    let stored = codec.stored_len(dimensions);
    assert!(stride >= stored, "{stored} bytes a row do not fit into {stride}");
    let needed = count.checked_sub(1).map_or(0, |last| last * stride + stored);
    assert!(bytes >= needed, "{bytes} bytes are too few for {count} rows, which take {needed}");
    assert!(!codec.has_scale() || scales >= count, "{scales} scales for {count} rows");
}

struct Encode<'a> {
    codec: Codec,
    vectors: &'a [f32],
    dimensions: usize,
    rows: &'a mut [u8],
    stride: usize,
    scales: &'a mut [f32],
}

impl Job for Encode<'_> {
    type Output = Result<(), Refused>;

    fn run<L: Level>(self, level: L) -> Self::Output {
        let stored = self.codec.stored_len(self.dimensions);
        let rows = self.rows.chunks_mut(self.stride);
        let mut scales = self.scales.iter_mut();
        for (row, (vector, bytes)) in self.vectors.chunks_exact(self.dimensions).zip(rows).enumerate() {
            let scale = encode_row(level, self.codec, vector, &mut bytes[..stored]);
            let scale = scale.map_err(|why| Refused { row, why })?;
            if let Some(to) = scales.next() {
                *to = scale;
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn encode_row<L: Level>(level: L, codec: Codec, vector: &[f32], row: &mut [u8]) -> Result<f32, &'static str> {
    if codec == Codec::None {
        portable::encode_none(vector, row);
        return Ok(0.0);
    }
    let largest = level.largest(vector);
    if codec == Codec::F16 {
        if largest >= scale::TOO_LARGE_F16 {
            return Err("a value is too large for the codec f16: above 65504");
        }
        level.encode_f16(vector, row);
        return Ok(0.0);
    }
    if largest >= scale::TOO_LARGE {
        return Err("a value is too large for the codec: from 2^127 on");
    }
    if largest < scale::TOO_SMALL {
        row.fill(0);
        return Ok(0.0);
    }
    Ok(match codec {
        Codec::Sq8 => {
            let scale = scale::of_largest(largest, 127.0);
            level.encode_sq8(vector, scale.recip(), row);
            scale
        }
        Codec::Sq4 => {
            let scale = scale::of_largest(largest, 7.5);
            level.encode_sq4(vector, scale.recip(), row);
            scale
        }
        _ => {
            let sum = level.encode_binary(vector, largest >> 23, row);
            scale::of_mean(sum / vector.len() as u64, largest >> 23)
        }
    })
}

struct Decode<'a> {
    codec: Codec,
    rows: Rows<'a>,
    scales: &'a [f32],
    dimensions: usize,
    vectors: &'a mut [f32],
}

impl Job for Decode<'_> {
    type Output = Result<(), Refused>;

    fn run<L: Level>(self, level: L) -> Self::Output {
        let stored = self.codec.stored_len(self.dimensions);
        let rows = self.rows.bytes.chunks(self.rows.stride);
        for (row, (vector, bytes)) in self.vectors.chunks_exact_mut(self.dimensions).zip(rows).enumerate() {
            let scale = if self.codec.has_scale() { self.scales[row] } else { 0.0 };
            if scale.to_bits() >= f32::INFINITY.to_bits() {
                return Err(Refused { row, why: "the row's scale is negative, NaN or infinite" });
            }
            decode_row(level, self.codec, &bytes[..stored], scale, vector);
        }
        Ok(())
    }
}

#[inline(always)]
fn decode_row<L: Level>(level: L, codec: Codec, row: &[u8], scale: f32, vector: &mut [f32]) {
    match codec {
        Codec::None => portable::decode_none(row, vector),
        Codec::F16 => level.decode_f16(row, vector),
        Codec::Sq8 => level.decode_sq8(row, scale, vector),
        Codec::Sq4 => level.decode_sq4(row, scale, vector),
        Codec::Binary => level.decode_binary(row, scale, vector),
    }
    // -0.0 becomes 0.0, as in the core: a level below zero that is none.
    if codec == Codec::Sq4 && scale < f32::MIN_POSITIVE {
        vector.iter_mut().for_each(|value| *value += 0.0);
    }
    // A scale that no encoder gives: what is too large is the largest number, as in the core.
    if scale >= scale::OVERFLOWS {
        vector.iter_mut().for_each(|value| *value = value.clamp(f32::MIN, f32::MAX));
    }
}

#[cfg(test)]
mod tests;
