//! IEEE 754 binary16: the codec `f16`, and elements of that type in the others.

use super::single::{MAGNITUDE, SIGN, round_even};
use crate::error::{Error, Result};

/// Bits of the smallest f32 magnitude that rounds to infinity: 65,520.
const TOO_LARGE: u32 = 0x477f_f000;
/// Bits of infinity.
pub(super) const INFINITE: u16 = 0x7c00;

/// Rounds f32 elements to binary16.
pub(super) fn encode(value: &[u8], row: &mut [u8]) -> Result<()> {
    for (from, to) in value.chunks_exact(4).zip(row.chunks_exact_mut(2)) {
        let bits = u32::from_le_bytes([from[0], from[1], from[2], from[3]]);
        if bits & MAGNITUDE >= TOO_LARGE {
            return Err(Error::Invalid("a value is too large for the collection's codec f16: above 65504"));
        }
        to.copy_from_slice(&narrow(bits).to_le_bytes());
    }
    Ok(())
}

/// Widens binary16 to f32 elements.
pub(super) fn decode(row: &[u8], value: &mut [u8]) {
    for (from, to) in row.chunks_exact(2).zip(value.chunks_exact_mut(4)) {
        to.copy_from_slice(&widen(u16::from_le_bytes([from[0], from[1]])).to_le_bytes());
    }
}

/// The bits of the f32 with the same value.
pub(super) const fn widen(bits: u16) -> u32 {
    let (sign, exponent, fraction) =
        ((bits as u32 & 0x8000) << 16, bits as u32 >> 10 & 0x1f, bits as u32 & 0x3ff);
    let magnitude = match exponent {
        0 if fraction == 0 => 0,
        0 => {
            // A denormal number: fraction x 2^-24, whose highest bit becomes the hidden one.
            let shift = fraction.leading_zeros() - 8;
            (126 - shift) << 23 | (fraction << shift) & 0x7f_ffff
        }
        31 => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    sign | magnitude
}

/// The bits of the nearest binary16, the even one of two; what is too large becomes infinity.
pub(super) const fn narrow(bits: u32) -> u16 {
    let (sign, magnitude) = ((bits & SIGN) >> 16, bits & MAGNITUDE);
    let exponent = magnitude >> 23;
    let half = if magnitude > 0x7f80_0000 {
        0x7e00
    } else if magnitude >= TOO_LARGE {
        0x7c00
    } else if exponent < 113 {
        // A denormal number, of units of 2^-24; a carry makes it the smallest normal one.
        let mantissa = if exponent == 0 { magnitude } else { magnitude & 0x7f_ffff | 0x80_0000 };
        let place = if exponent == 0 { 1 } else { exponent };
        round_even(mantissa as u64, 126 - place) as u32
    } else {
        // A carry out of the fraction raises the exponent, as it should.
        round_even((magnitude - (112 << 23)) as u64, 13) as u32
    };
    (sign | half) as u16
}
