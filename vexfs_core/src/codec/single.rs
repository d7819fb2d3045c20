//! IEEE 754 binary32 in integers: a sign, a mantissa and an exponent.

/// All bits but the sign.
pub(crate) const MAGNITUDE: u32 = 0x7fff_ffff;
/// The bits of infinity: from here on there is no finite magnitude.
pub(crate) const INFINITE: u32 = 0x7f80_0000;
/// The sign.
pub(crate) const SIGN: u32 = 0x8000_0000;

/// A magnitude: `mantissa` x 2^`exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Single {
    /// At most 24 bits.
    pub(crate) mantissa: u32,
    /// Of the mantissa's lowest bit.
    pub(crate) exponent: i32,
}

impl Single {
    /// The magnitude of an f32 with these bits, which is finite.
    pub(crate) const fn from_bits(bits: u32) -> Self {
        let (exponent, fraction) = ((bits & MAGNITUDE) >> 23, bits & 0x7f_ffff);
        match exponent {
            0 => Self { mantissa: fraction, exponent: -149 },
            _ => Self { mantissa: fraction | 0x80_0000, exponent: exponent as i32 - 150 },
        }
    }

    /// `mantissa` x 2^`exponent`, rounded to 24 bits, to nearest even.
    pub(crate) const fn rounded(mantissa: u64, exponent: i32) -> Self {
        let excess = 40u32.saturating_sub(mantissa.leading_zeros());
        // A carry into the 25th bit leaves an even number, which `bits` takes.
        Self { mantissa: round_even(mantissa, excess) as u32, exponent: exponent + excess as i32 }
    }

    /// The product in single precision, as long as it is no denormal number.
    pub(crate) const fn times(self, other: Self) -> Self {
        Self::rounded(self.mantissa as u64 * other.mantissa as u64, self.exponent + other.exponent)
    }

    /// 1 / self in single precision; self has at most 16 significant bits and is not 0.
    pub(crate) const fn reciprocal(self) -> Self {
        let (whole, rest) = ((1u64 << 60) / self.mantissa as u64, (1u64 << 60) % self.mantissa as u64);
        // The quotient has more than 36 bits: one more below the rest tells it from a tie.
        Self::rounded(whole << 1 | (rest != 0) as u64, -61 - self.exponent)
    }

    /// The quotient in single precision, as long as it is no denormal number; `divisor` is not 0.
    pub(crate) const fn over(self, divisor: Self) -> Self {
        if self.mantissa == 0 {
            return self;
        }
        let (above, below) = (self.normalized(), divisor.normalized());
        let (above, below, exponent) =
            ((above.mantissa as u64) << 39, below.mantissa as u64, above.exponent - 39 - below.exponent);
        // 39 bits or more: one below them tells what is left from a tie.
        Self::rounded((above / below) << 1 | (above % below != 0) as u64, exponent - 1)
    }

    /// The square root in single precision.
    pub(crate) const fn root(self) -> Self {
        if self.mantissa == 0 {
            return self;
        }
        // 62 or 63 bits, and an even exponent.
        let most = (self.mantissa as u64).leading_zeros() as i32 - 1;
        let shift = most - ((self.exponent - most) & 1);
        let (square, exponent) = ((self.mantissa as u64) << shift, self.exponent - shift);
        let root = square.isqrt();
        // 31 bits: one below them tells what is left from a tie.
        Self::rounded(root << 1 | (root * root != square) as u64, exponent / 2 - 1)
    }

    // The same value with 24 bits, as it is not 0.
    const fn normalized(self) -> Self {
        let shift = self.mantissa.leading_zeros() as i32 - 8;
        match shift {
            0.. => Self { mantissa: self.mantissa << shift, exponent: self.exponent - shift },
            _ => Self { mantissa: self.mantissa >> 1, exponent: self.exponent + 1 },
        }
    }

    /// self / `divisor`, with 16 significant bits, rounded up; `divisor` is below 2^8, self is a normal number.
    pub(crate) const fn scale(self, divisor: u32) -> Self {
        let mantissa = ((self.mantissa as u64) << 24).div_ceil(divisor as u64);
        let excess = 48 - mantissa.leading_zeros();
        let (mantissa, exponent) = (mantissa.div_ceil(1 << excess), self.exponent - 24 + excess as i32);
        Self { mantissa: mantissa as u32, exponent }
    }

    /// The nearest integer, the even one of two.
    pub(crate) const fn round(self) -> u64 {
        match self.exponent {
            0.. => (self.mantissa as u64) << if self.exponent < 32 { self.exponent } else { 32 },
            _ => round_even(self.mantissa as u64, self.exponent.unsigned_abs()),
        }
    }

    /// The integer below or equal, and whether it is below.
    pub(crate) const fn floor(self) -> (u64, bool) {
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
    pub(crate) const fn multiple(self, count: u64) -> u32 {
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
    pub(crate) const fn bits(self) -> u32 {
        self.multiple(1)
    }
}

/// `value` / 2^`shift`, rounded to nearest even.
pub(crate) const fn round_even(value: u64, shift: u32) -> u64 {
    match shift {
        0 => value,
        1..64 => {
            let (whole, rest, half) = (value >> shift, value & ((1 << shift) - 1), 1 << (shift - 1));
            whole + (rest > half || rest == half && whole % 2 == 1) as u64
        }
        _ => 0,
    }
}
