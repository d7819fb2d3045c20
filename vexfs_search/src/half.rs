//! 16-bit floats (IEEE 754 binary16) to 32-bit ones and back.

/// The value of a binary16; exact. No branch, so that loops over it are vectorized.
#[inline(always)]
pub fn to_f32(bits: u16) -> f32 {
    // Moves exponent and fraction into place; the product corrects the bias, of subnormal numbers too.
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// The nearest binary16, ties to even; too large a value becomes infinity.
pub fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    let half = match magnitude {
        // NaN stays NaN.
        0x7f80_0001.. => 0x7e00,
        // 65520 and above round to infinity.
        0x477f_f000.. => 0x7c00,
        // Normal: round off 13 bits of the fraction.
        0x3880_0000.. => ((magnitude - 0x3800_0000 + 0xfff + (magnitude >> 13 & 1)) >> 13) as u16,
        // Subnormal: a multiple of 2^-24; the sum's rounding is the rounding wanted.
        _ => ((f32::from_bits(magnitude) + 0.5).to_bits() - 0.5_f32.to_bits()) as u16,
    };
    sign | half
}

#[cfg(test)]
mod tests {
    use super::*;

    // By the definition, in double precision.
    fn reference(bits: u16) -> f64 {
        let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => fraction * 2_f64.powi(-24),
            31 if fraction == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (1024.0 + fraction) * 2_f64.powi(exponent - 25),
        };
        if bits & 0x8000 == 0 { magnitude } else { -magnitude }
    }

    #[test]
    fn all_65536_and_back() {
        for bits in 0..=u16::MAX {
            let (value, expected) = (to_f32(bits), reference(bits));
            if expected.is_nan() {
                assert!(value.is_nan() && to_f32(from_f32(value)).is_nan(), "{bits:#x}");
            } else {
                assert_eq!(f64::from(value), expected, "{bits:#x}");
                assert_eq!(from_f32(value), bits, "{bits:#x}");
            }
        }
    }

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        for bits in 0..0x7bff_u16 {
            let (low, high) = (to_f32(bits), to_f32(bits + 1));
            let middle = low + (high - low) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(from_f32(middle), even, "{bits:#x}");
            assert_eq!(from_f32(f32::from_bits(middle.to_bits() - 1)), bits, "{bits:#x}");
            assert_eq!(from_f32(f32::from_bits(middle.to_bits() + 1)), bits + 1, "{bits:#x}");
        }
        assert_eq!(from_f32(65519.996), 0x7bff);
        assert_eq!(from_f32(65520.0), 0x7c00);
        assert_eq!(from_f32(f32::NEG_INFINITY), 0xfc00);
    }
}
