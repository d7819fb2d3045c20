//! Codecs: a vector's elements to the bytes of its row, and back.
//!
//! All arithmetic is on integers: an f32 is its sign, mantissa and exponent. So the kernel, which has no floating
//! point, stores and reads the very bytes that the FUSE host does, and those are what the same formula gives in IEEE
//! 754 single precision, rounding to nearest even: SIMD code elsewhere can be held to it bit for bit.
//!
//! | codec | a row holds | an element reads as |
//! | --- | --- | --- |
//! | `none` | the elements | itself |
//! | `f16` | binary16, rounded to nearest even | the same, widened |
//! | `sq8` | i8 | code x scale |
//! | `sq4` | two codes of 4 bits a byte, the lower first | (code - 7.5) x scale |
//! | `binary` | 8 signs a byte, the lowest bit first | scale, or -scale where the bit is 0 |
//! | `pq` | of each part a code of 8 bits, or 4 | the dimension of that entry of the codebook |
//!
//! The scale is one f32 a row, with 16 significant bits, so that every product is exact. What was read and is set
//! again gives the same row: copies of copies do not drift.

mod binary;
mod half;
pub mod pq;
mod scalar;
pub(crate) mod single;

use crate::error::{Error, Result};
use crate::format::{Codec, Element};
use single::Single;

pub use pq::Codebook;

/// Magnitudes from here on cannot be scaled: 2^127, as bits.
const TOO_LARGE: u32 = 254 << 23;
/// A vector with no magnitude from here on is stored as zeros: 2^-100, as bits.
const TOO_SMALL: u32 = 27 << 23;

// Why `pq` is refused by what has no codebook.
const NO_CODEBOOK: Error = Error::Invalid("rows of pq are read and stored by their codebook");

/// Bytes of a row: what a vector of `dimensions` takes as it is stored. `None` for a dimension that the element type
/// cannot have, or a codec that cannot store it.
pub fn stored_len(codec: Codec, element: Element, dimensions: u32) -> Option<u32> {
    let bytes = element.bytes(dimensions)?;
    match codec {
        Codec::None => Some(bytes),
        _ if !takes(codec, element) => None,
        Codec::F16 => dimensions.checked_mul(2),
        Codec::Sq8 => Some(dimensions),
        Codec::Sq4 => Some(dimensions.div_ceil(2)),
        Codec::Binary => Some(dimensions.div_ceil(8)),
        Codec::Pq(quantizer) => Some(quantizer.code_len())
            .filter(|_| quantizer.is_possible() && quantizer.dimensions() == dimensions),
    }
}

/// True if the codec can store elements of this type.
pub const fn takes(codec: Codec, element: Element) -> bool {
    match codec {
        Codec::None => true,
        Codec::F16 => matches!(element, Element::F32),
        Codec::Sq8 | Codec::Sq4 | Codec::Binary | Codec::Pq(_) => {
            matches!(element, Element::F32 | Element::F16)
        }
    }
}

/// True if the codec keeps a scale for each row.
pub const fn has_scale(codec: Codec) -> bool {
    matches!(codec, Codec::Sq8 | Codec::Sq4 | Codec::Binary)
}

/// Numpy's dtype of the stored matrix.
pub const fn dtype(codec: Codec, element: Element) -> &'static str {
    match codec {
        Codec::None => element.dtype(),
        Codec::F16 => Element::F16.dtype(),
        Codec::Sq8 => Element::I8.dtype(),
        Codec::Sq4 | Codec::Binary | Codec::Pq(_) => "|u1",
    }
}

/// Bytes of one entry of the stored matrix.
pub const fn width(codec: Codec, element: Element) -> u32 {
    match codec {
        Codec::None => element.width(),
        Codec::F16 => 2,
        Codec::Sq8 | Codec::Sq4 | Codec::Binary | Codec::Pq(_) => 1,
    }
}

/// Fills bytes of a row, from the beginning of an entry on, with what a row without a vector shows: quiet NaN in
/// floats, else zero.
pub fn fill_blank(codec: Codec, element: Element, bytes: &mut [u8]) {
    let pattern: &[u8] = match (codec, element) {
        (Codec::None, Element::F32) => &[0, 0, 0xc0, 0x7f],
        (Codec::None, Element::F16) | (Codec::F16, _) => &[0, 0x7e],
        _ => &[0],
    };
    for (to, from) in bytes.iter_mut().zip(pattern.iter().cycle()) {
        *to = *from;
    }
}

/// Stores a vector of finite elements: `value` into all of `row` ([`stored_len`] bytes). Gives the row's scale as
/// the bits of an f32; 0 for codecs without one, and for a vector of zeros.
///
/// # Errors
/// `Invalid` if a value is beyond what the codec can store, and for `pq`, whose [`Codebook`] does it.
pub fn encode(codec: Codec, element: Element, value: &[u8], row: &mut [u8]) -> Result<u32> {
    match codec {
        Codec::None => {
            row.copy_from_slice(value);
            Ok(0)
        }
        Codec::F16 => half::encode(value, row).map(|()| 0),
        Codec::Sq8 => scalar::encode_8(Singles { element, bytes: value }, row),
        Codec::Sq4 => scalar::encode_4(Singles { element, bytes: value }, row),
        Codec::Binary => binary::encode(Singles { element, bytes: value }, row),
        Codec::Pq(_) => Err(NO_CODEBOOK),
    }
}

/// Reads a vector back: all of `row` into all of `value`.
///
/// # Errors
/// `Invalid` if the scale is no finite positive number, which [`encode`] never gives; for `pq`, whose [`Codebook`] does it.
pub fn decode(codec: Codec, element: Element, row: &[u8], scale: u32, value: &mut [u8]) -> Result<()> {
    if has_scale(codec) && scale >= single::INFINITE {
        return Err(Error::Invalid("the row's scale is negative, NaN or infinite"));
    }
    let scale = Single::from_bits(scale);
    match codec {
        Codec::None => value.copy_from_slice(row),
        Codec::F16 => half::decode(row, value),
        Codec::Sq8 => scalar::decode_8(row, scale, Output { element, bytes: value }),
        Codec::Sq4 => scalar::decode_4(row, scale, Output { element, bytes: value }),
        Codec::Binary => binary::decode(row, scale, Output { element, bytes: value }),
        Codec::Pq(_) => return Err(NO_CODEBOOK),
    }
    Ok(())
}

/// A vector's elements as the bits of f32.
#[derive(Clone, Copy)]
struct Singles<'a> {
    element: Element,
    bytes: &'a [u8],
}

impl Singles<'_> {
    fn each(&self, each: &mut dyn FnMut(u32)) {
        if self.element == Element::F16 {
            self.bytes
                .chunks_exact(2)
                .for_each(|two| each(half::widen(u16::from_le_bytes([two[0], two[1]]))));
        } else {
            let bits = |four: &[u8]| u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
            self.bytes.chunks_exact(4).for_each(|four| each(bits(four)));
        }
    }

    /// The largest magnitude; 0 if there is none worth a scale.
    fn largest(&self) -> Result<u32> {
        let mut largest = 0;
        self.each(&mut |bits| largest = largest.max(bits & single::MAGNITUDE));
        match largest {
            TOO_LARGE.. => {
                Err(Error::Invalid("a value is too large for the collection's codec: from 2^127 on"))
            }
            0..TOO_SMALL => Ok(0),
            _ => Ok(largest),
        }
    }
}

/// Where the elements that are read go, one after the other.
struct Output<'a> {
    element: Element,
    bytes: &'a mut [u8],
}

impl Output<'_> {
    fn fill(self, mut next: impl FnMut(usize) -> u32) {
        if self.element == Element::F16 {
            for (index, two) in self.bytes.chunks_exact_mut(2).enumerate() {
                two.copy_from_slice(&half::narrow(next(index)).to_le_bytes());
            }
        } else {
            for (index, four) in self.bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&next(index).to_le_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests;
