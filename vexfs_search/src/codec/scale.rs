//! A row's scale: an f32 with 16 significant bits, so that each product with a code is exact.
//!
//! The core computes it in integers. Here it is one division in double precision, whose error lies far below the
//! distance of any quotient of small integers from a number of 16 bits that it does not equal.

/// Bits of the smallest magnitude that rounds to infinity as binary16: 65,520.
pub(super) const TOO_LARGE_F16: u32 = 0x477f_f000;
/// Bits of the smallest magnitude that cannot be scaled: 2^127.
pub(super) const TOO_LARGE: u32 = 254 << 23;
/// Bits of the smallest magnitude that is worth a scale: 2^-100.
pub(super) const TOO_SMALL: u32 = 27 << 23;
/// From this scale on a product with a code can be infinite: 2^120.
pub(super) const OVERFLOWS: f32 = f32::from_bits(247 << 23);

/// Bits of a double's fraction behind the first 16 significant ones.
const CUT: u32 = 37;

/// The largest magnitude (bits of a normal f32) divided by `steps`, rounded up.
#[inline]
pub(super) fn of_largest(largest: u32, steps: f64) -> f32 {
    let exact = f64::from(f32::from_bits(largest)) / steps;
    let below = (1_u64 << CUT) - 1;
    f64::from_bits((exact.to_bits() + below) & !below) as f32
}

/// The mean magnitude, rounded to nearest even: `mean` counts units of 2^-16 of the last bit of a magnitude with this
/// biased exponent; it has at most 53 bits.
#[inline]
pub(super) fn of_mean(mean: u64, exponent: u32) -> f32 {
    let bits = (mean as f64).to_bits();
    let below = (1_u64 << CUT) - 1;
    let rounded = f64::from_bits((bits + (below >> 1) + (bits >> CUT & 1)) & !below);
    // The unit is 2^(exponent - 150 - 16), as a double.
    let unit = f64::from_bits((u64::from(exponent) + 1023 - 166) << 52);
    (rounded * unit) as f32
}
