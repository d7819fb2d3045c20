//! Scalar quantisation to 8 and 4 bits, with one scale a row.
//!
//! `sq8` rounds x / scale to an integer of -127..=127, where the scale is the largest magnitude / 127. `sq4` has 16
//! levels at odd multiples of half a scale, so no level is wasted and none is zero: the scale is the largest magnitude
//! / 7.5. Both multiply by the scale's reciprocal in single precision, as SIMD code does.

use super::single::{SIGN, Single};
use super::{Output, Singles};
use crate::error::Result;

/// Stores i8 codes; gives the scale's bits.
pub(super) fn encode_8(vector: Singles<'_>, row: &mut [u8]) -> Result<u32> {
    let largest = vector.largest()?;
    if largest == 0 {
        row.fill(0);
        return Ok(0);
    }
    let scale = Single::from_bits(largest).scale(127);
    let reciprocal = scale.reciprocal();
    let mut codes = row.iter_mut();
    vector.each(&mut |bits| {
        let magnitude = Single::from_bits(bits).times(reciprocal).round().min(127) as u8;
        if let Some(code) = codes.next() {
            *code = if bits & SIGN != 0 { magnitude.wrapping_neg() } else { magnitude };
        }
    });
    Ok(scale.bits())
}

/// Reads i8 codes.
pub(super) fn decode_8(row: &[u8], scale: Single, output: Output<'_>) {
    output.fill(|index| {
        let code = row.get(index).map_or(0, |code| *code as i8);
        let bits = scale.multiple(u64::from(code.unsigned_abs()));
        if code < 0 { bits | SIGN } else { bits }
    });
}

/// Stores codes of 4 bits, element 2i in the lower half of byte i; gives the scale's bits.
pub(super) fn encode_4(vector: Singles<'_>, row: &mut [u8]) -> Result<u32> {
    row.fill(0);
    let largest = vector.largest()?;
    if largest == 0 {
        return Ok(0);
    }
    // Half a scale is a fifteenth: the highest level is 15 halves.
    let half = Single::from_bits(largest).scale(15);
    let scale = Single { exponent: half.exponent + 1, ..half };
    let reciprocal = scale.reciprocal();
    let mut index = 0;
    vector.each(&mut |bits| {
        let (below, inexact) = Single::from_bits(bits).times(reciprocal).floor();
        let below = below.min(8) as u8;
        let code = match bits & SIGN {
            0 => (8 + below).min(15),
            _ => 8_u8.saturating_sub(below + u8::from(inexact)),
        };
        if let Some(byte) = row.get_mut(index / 2) {
            *byte |= code << (4 * (index % 2));
        }
        index += 1;
    });
    Ok(scale.bits())
}

/// Reads codes of 4 bits.
pub(super) fn decode_4(row: &[u8], scale: Single, output: Output<'_>) {
    let half = Single { exponent: scale.exponent - 1, ..scale };
    output.fill(|index| {
        let code = row.get(index / 2).map_or(0, |byte| *byte >> (4 * (index % 2)) & 15);
        let halves = 2 * i32::from(code) - 15;
        let bits = half.multiple(u64::from(halves.unsigned_abs()));
        if halves < 0 && bits != 0 { bits | SIGN } else { bits }
    });
}
