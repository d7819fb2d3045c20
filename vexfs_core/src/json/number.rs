//! Numbers of a JSON text as integers and as the bits of an IEEE 754 binary64, by integer arithmetic: a kernel has no
//! floats.

/// The number as an integer, if it is written as one and fits.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// The bits of the nearest double; ties go to the even one, what is too large becomes infinite.
pub(crate) fn float_bits(text: &[u8]) -> u64 {
    let (sign, decimal) = match text.strip_prefix(b"-") {
        Some(rest) => (1 << 63, Decimal::parse(rest)),
        None => (0, Decimal::parse(text)),
    };
    sign | decimal.bits()
}

/// Digits that are kept; more only matter for what lies a hair beside the middle of two doubles.
const DIGITS: u32 = 60;
/// `digits` x 10^`exponent`; more if `inexact`.
struct Decimal {
    digits: Big,
    exponent: i64,
    inexact: bool,
}

impl Decimal {
    fn parse(text: &[u8]) -> Self {
        let mut decimal = Self { digits: Big::default(), exponent: 0, inexact: false };
        let mut kept = 0;
        let mut fraction = false;
        let mut rest = text;
        while let [byte, behind @ ..] = rest {
            match byte {
                b'.' => fraction = true,
                b'0'..=b'9' => {
                    let digit = u64::from(byte - b'0');
                    if kept < DIGITS {
                        decimal.digits.multiply(10);
                        decimal.digits.add(digit);
                        kept += u32::from(kept > 0 || digit > 0);
                        decimal.exponent -= i64::from(fraction);
                    } else {
                        decimal.inexact |= digit > 0;
                        decimal.exponent += i64::from(!fraction);
                    }
                }
                _ => {
                    decimal.exponent = decimal.exponent.saturating_add(exponent(behind));
                    break;
                }
            }
            rest = behind;
        }
        decimal
    }

    fn bits(mut self) -> u64 {
        const INFINITE: u64 = 0x7ff << 52;
        // Beyond these every number of 60 digits is infinite or zero.
        if self.digits.is_zero() || self.exponent < -400 {
            return 0;
        }
        if self.exponent > 310 {
            return INFINITE;
        }
        // value = digits / divisor, and a power of two that is counted apart.
        let mut divisor = Big::default();
        divisor.add(1);
        for _ in 0..self.exponent.max(0) {
            self.digits.multiply(10);
        }
        for _ in 0..(-self.exponent).max(0) {
            divisor.multiply(10);
        }
        // The quotient gets 64 or 65 bits.
        let shift = 64 + divisor.length() - self.digits.length();
        if shift >= 0 {
            self.digits.shift(shift as u32)
        } else {
            divisor.shift(-shift as u32)
        }
        let (quotient, rest) = self.digits.divide(&divisor);
        round(quotient, -shift, rest || self.inexact)
    }
}

// `quotient` x 2^`exponent`, a bit more if `sticky`, as a double.
fn round(quotient: u128, exponent: i32, sticky: bool) -> u64 {
    let length = 128 - quotient.leading_zeros() as i32;
    // 53 bits, or fewer if the number is subnormal.
    let cut = (length - 53).max(-1074 - exponent);
    if cut > length + 1 {
        return 0;
    }
    let (cut, half) = (cut as u32, 1u128 << (cut - 1));
    let kept = (quotient >> cut) as u64;
    let lost = quotient & ((1 << cut) - 1);
    let up = lost > half || (lost == half && (sticky || kept & 1 == 1));
    let mantissa = kept + u64::from(up);
    let biased = exponent + cut as i32 + 1075;
    if mantissa < 1 << 52 {
        return mantissa;
    }
    // A carry into the 54th bit falls into the exponent, as it should.
    let bits = ((biased as u64 - 1) << 52) + mantissa;
    bits.min(0x7ff << 52)
}

fn exponent(text: &[u8]) -> i64 {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let value =
        digits.iter().fold(0i64, |value, digit| (value * 10 + i64::from(digit - b'0')).min(1_000_000));
    if negative { -value } else { value }
}

/// A whole number of up to 2,048 bits, lowest first.
#[derive(Clone, Default)]
struct Big([u64; 32]);

impl Big {
    fn is_zero(&self) -> bool {
        self.0.iter().all(|limb| *limb == 0)
    }

    /// Bits up to the highest that is set.
    fn length(&self) -> i32 {
        let top = self.0.iter().rposition(|limb| *limb != 0);
        top.map_or(0, |index| index as i32 * 64 + 64 - self.0[index].leading_zeros() as i32)
    }

    fn multiply(&mut self, by: u64) {
        let mut carry = 0u128;
        for limb in &mut self.0 {
            carry += u128::from(*limb) * u128::from(by);
            *limb = carry as u64;
            carry >>= 64;
        }
    }

    fn add(&mut self, value: u64) {
        let mut carry = value;
        for limb in &mut self.0 {
            let (sum, over) = limb.overflowing_add(carry);
            *limb = sum;
            carry = u64::from(over);
            if carry == 0 {
                break;
            }
        }
    }

    fn shift(&mut self, bits: u32) {
        let (limbs, bits) = ((bits / 64) as usize, bits % 64);
        for index in (0..self.0.len()).rev() {
            let at = |index: usize| index.checked_sub(limbs).map_or(0, |from| self.0[from]);
            let low = if bits == 0 || index == 0 { 0 } else { at(index - 1) >> (64 - bits) };
            self.0[index] = at(index) << bits | low;
        }
    }

    fn halve(&mut self) {
        for index in 0..self.0.len() {
            let above = self.0.get(index + 1).map_or(0, |limb| limb << 63);
            self.0[index] = self.0[index] >> 1 | above;
        }
    }

    fn subtract(&mut self, other: &Self) {
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(&other.0) {
            let (first, a) = limb.overflowing_sub(*other);
            let (second, b) = first.overflowing_sub(u64::from(borrow));
            *limb = second;
            borrow = a || b;
        }
    }

    fn at_least(&self, other: &Self) -> bool {
        self.0.iter().rev().ge(other.0.iter().rev())
    }

    /// Quotient, which must be below 2^66, and whether something is left.
    fn divide(mut self, divisor: &Self) -> (u128, bool) {
        let mut divisor = divisor.clone();
        divisor.shift(66);
        let mut quotient = 0u128;
        for _ in 0..=66 {
            quotient <<= 1;
            if self.at_least(&divisor) {
                self.subtract(&divisor);
                quotient |= 1;
            }
            divisor.halve();
        }
        (quotient, !self.is_zero())
    }
}
