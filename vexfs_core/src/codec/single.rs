//! IEEE 754 binary32 in integers: a sign, a mantissa and an exponent.

/// All bits but the sign.
pub(super) const MAGNITUDE: u32 = 0x7fff_ffff;
/// The bits of infinity: from here on there is no finite magnitude.
pub(super) const INFINITE: u32 = 0x7f80_0000;
/// The sign.
pub(super) const SIGN: u32 = 0x8000_0000;

/// A magnitude: `mantissa` x 2^`exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Single {
    /// At most 24 bits.
    pub(super) mantissa: u32,
    /// Of the mantissa's lowest bit.
    pub(super) exponent: i32,
}

impl Single {
    /// The magnitude of an f32 with these bits, which is finite.
    pub(super) const fn from_bits(bits: u32) -> Self {
        let (exponent, fraction) = ((bits & MAGNITUDE) >> 23, bits & 0x7f_ffff);
        match exponent {
            0 => Self { mantissa: fraction, exponent: -149 },
            _ => Self { mantissa: fraction | 0x80_0000, exponent: exponent as i32 - 150 },
        }
    }

    /// `mantissa` x 2^`exponent`, rounded to 24 bits, to nearest even.
    const fn rounded(mantissa: u64, exponent: i32) -> Self {
        let excess = 40u32.saturating_sub(mantissa.leading_zeros());
        // A carry into the 25th bit leaves an even number, which `bits` takes.
        Self { mantissa: round_even(mantissa, excess) as u32, exponent: exponent + excess as i32 }
    }

    /// The product in single precision, as long as it is no denormal number.
    pub(super) const fn times(self, other: Self) -> Self {
        Self::rounded(self.mantissa as u64 * other.mantissa as u64, self.exponent + other.exponent)
    }

    /// 1 / self in single precision; self has at most 16 significant bits and is not 0.
    pub(super) const fn reciprocal(self) -> Self {
        let (whole, rest) = ((1u64 << 60) / self.mantissa as u64, (1u64 << 60) % self.mantissa as u64);
        // The quotient has more than 36 bits: one more below the rest tells it from a tie.
        Self::rounded(whole << 1 | (rest != 0) as u64, -61 - self.exponent)
    }

    /// self / `divisor`, with 16 significant bits, rounded up; `divisor` is below 2^8, self is a normal number.
    pub(super) const fn scale(self, divisor: u32) -> Self {
        let mantissa = ((self.mantissa as u64) << 24).div_ceil(divisor as u64);
        let excess = 48 - mantissa.leading_zeros();
        let (mantissa, exponent) = (mantissa.div_ceil(1 << excess), self.exponent - 24 + excess as i32);
        Self { mantissa: mantissa as u32, exponent }
    }

    /// The nearest integer, the even one of two.
    pub(super) const fn round(self) -> u64 {
        match self.exponent {
            0.. => (self.mantissa as u64) << if self.exponent < 32 { self.exponent } else { 32 },
            _ => round_even(self.mantissa as u64, self.exponent.unsigned_abs()),
        }
    }

    /// The integer below or equal, and whether it is below.
    pub(super) const fn floor(self) -> (u64, bool) {
        match self.exponent {
            0.. => (self.round(), false),
            -63..0 => {
                let (mantissa, shift) = (self.mantissa as u64, self.exponent.unsigned_abs());
                (mantissa >> shift, mantissa & ((1 << shift) - 1) != 0)
            }
            _ => (0, self.mantissa != 0),
        }
    }

    /// `count` x self as the bits of an f32; `count` is below 2^40. Exact where the product has 24 bits, else rounded
    /// to nearest even; what is too large becomes the largest finite number.
    pub(super) const fn multiple(self, count: u64) -> u32 {
        let mut product = Self::rounded(self.mantissa as u64 * count, self.exponent);
        if product.mantissa == 0 {
            return 0;
        }
        if product.mantissa == 1 << 24 {
            product = Self { mantissa: 1 << 23, exponent: product.exponent + 1 };
        }
        let shift = product.mantissa.leading_zeros() - 8;
        let biased = product.exponent - shift as i32 + 150;
        if biased > 254 {
            return INFINITE - 1;
        }
        if biased < 1 {
            // A denormal number: its lowest bit is 2^-149.
            let drop = -149 - product.exponent;
            return match drop {
                ..=0 => product.mantissa << -drop,
                _ => round_even(product.mantissa as u64, drop as u32) as u32,
            };
        }
        (biased as u32) << 23 | (product.mantissa << shift) & 0x7f_ffff
    }

    /// The bits.
    pub(super) const fn bits(self) -> u32 {
        self.multiple(1)
    }
}

/// `value` / 2^`shift`, rounded to nearest even.
pub(super) const fn round_even(value: u64, shift: u32) -> u64 {
    match shift {
        0 => value,
        1..64 => {
            let (whole, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
            whole + (rest > half || rest == half && whole % 2 == 1) as u64
        }
        _ => 0,
    }
}
