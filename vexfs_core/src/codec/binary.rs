//! One bit a dimension: its sign. The scale is the mean magnitude, which of all one-scale codes has the least squared
//! error (Rastegari et al., XNOR-Net, 2016, section 3.1).

use super::single::{SIGN, Single};
use super::{Output, Singles};
use crate::error::Result;

/// Stores the signs, 1 for what is above zero; gives the scale's bits.
pub(super) fn encode(vector: Singles<'_>, row: &mut [u8]) -> Result<u32> {
    row.fill(0);
    let largest = vector.largest()?;
    if largest == 0 {
        return Ok(0);
    }
    // Magnitudes in units of 2^-16 of the largest one's last bit, cut off there: 40 bits each, at most 2^15 of them.
    let unit = Single::from_bits(largest).exponent - 16;
    let (mut sum, mut index) = (0_u64, 0_usize);
    vector.each(&mut |bits| {
        let magnitude = Single::from_bits(bits);
        let shift = (magnitude.exponent - unit).clamp(-63, 16);
        let mantissa = u64::from(magnitude.mantissa);
        sum += if shift < 0 { mantissa >> -shift } else { mantissa << shift };
        if bits & SIGN == 0 && bits != 0 {
            if let Some(byte) = row.get_mut(index / 8) {
                *byte |= 1 << (index % 8);
            }
        }
        index += 1;
    });
    let mean = sum / (index as u64).max(1);
    let excess = 48_u32.saturating_sub(mean.leading_zeros());
    let scale =
        Single { mantissa: super::single::round_even(mean, excess) as u32, exponent: unit + excess as i32 };
    Ok(scale.bits())
}

/// Reads the signs.
pub(super) fn decode(row: &[u8], scale: Single, output: Output<'_>) {
    let bits = scale.bits();
    output.fill(|index| {
        let positive = row.get(index / 8).is_some_and(|byte| *byte >> (index % 8) & 1 == 1);
        if positive || bits == 0 { bits } else { bits | SIGN }
    });
}
