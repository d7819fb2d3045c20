//! A score as a decimal number: the shortest that reads as the same double, laid out as JSON writers do; and a number of a
//! question as the bits of a single.
//!
//! INVARIANT: all integers. A score is a whole number below 2^53, or a cosine: 0, or from 2^-48 on and below 2. So 128 bits
//! hold all that is compared.

use core::fmt::{self, Write};

use super::score::Score;
use crate::codec::single::{SIGN, Single, round_even};
use crate::json;
use crate::memory::Text;

/// Digits that tell every double from its neighbours.
const DIGITS_MAX: u32 = 17;
/// Below 10^-5 an exponent is written.
const SMALL: i32 = -5;
/// Below 10^-15 there is no cosine.
const POINT_MIN: i32 = -15;

/// The bits of the single that is nearest to the nearest double, as who reads a double and narrows it has them.
pub(super) fn single_bits(text: &[u8]) -> u32 {
    const INFINITE: u32 = 0xff << 23;
    if let Some(small) = json::integer(text).filter(|number| number.unsigned_abs() < 1 << 24) {
        let magnitude = Single::rounded(small.unsigned_abs(), 0).bits();
        return if small < 0 { SIGN | magnitude } else { magnitude };
    }
    let double = json::float_bits(text);
    let (sign, biased) = ((double >> 63) as u32 * SIGN, (double >> 52) as i32 & 0x7ff);
    // 53 bits x 2^exponent; what is denormal as a double is 0 as a single.
    let (mantissa, exponent) = (double & ((1 << 52) - 1) | 1 << 52, biased - 1075);
    let magnitude = if biased == 0 {
        0
    } else if exponent > 127 - 52 {
        INFINITE
    } else {
        // The lowest bit of a single is 2^-149 or its 24th, whichever is higher.
        let cut = (-149 - exponent).max(29);
        let single = Single { mantissa: round_even(mantissa, cut as u32) as u32, exponent: exponent + cut };
        if single.mantissa == 1 << 24 && single.exponent == 104 { INFINITE } else { single.bits() }
    };
    sign | magnitude
}

/// Writes a score.
pub(super) fn write(text: &mut Text, score: Score) -> fmt::Result {
    let single = Single::from_bits(score.bits());
    if score.is_negative() {
        text.write_char('-')?;
    }
    let (whole, rest) = single.floor();
    if !rest {
        return write!(text, "{whole}.0");
    }
    let (digits, point) = shortest(single);
    layout(text, digits, point)
}

// Digits, and where the point is: the value, which is below 2 and no whole number, is 0.DIGITS x 10^point.
fn shortest(single: Single) -> (u64, i32) {
    // Of 24 bits: the value is mantissa / 2^down.
    let shift = single.mantissa.leading_zeros().saturating_sub(8);
    let mantissa = u128::from(single.mantissa) << shift;
    let down = (shift as i32 - single.exponent).unsigned_abs();
    let mut point = 1;
    while point > POINT_MIN && mantissa * power(1 - point) < 1 << down {
        point -= 1;
    }
    let mut count = 0;
    let digits = loop {
        count += 1;
        let scale = power(count as i32 - point);
        let scaled = mantissa * scale;
        let (below, rest, half) = (scaled >> down, scaled & ((1 << down) - 1), 1 << (down - 1));
        let nearest = below + u128::from(rest > half || rest == half && below & 1 == 1);
        // A double has 29 bits more, so half of its last place is 2^-30 of the mantissa's; below a power of two, 2^-31.
        let reads_back = |digits: u128| {
            let closer = mantissa == 1 << 23 && digits << down < scaled;
            scaled.abs_diff(digits << down) << (30 + u32::from(closer)) <= scale
        };
        match [nearest, below + 1].into_iter().find(|digits| reads_back(*digits)) {
            Some(digits) => break digits,
            None if count == DIGITS_MAX => break nearest,
            None => {}
        }
    };
    // Rounding up may have made one digit more.
    (digits as u64, point + i32::from(digits == power(count as i32)))
}

fn power(of_ten: i32) -> u128 {
    10u128.pow(of_ten.unsigned_abs())
}

fn layout(text: &mut Text, mut digits: u64, point: i32) -> fmt::Result {
    while digits > 0 && digits % 10 == 0 {
        digits /= 10;
    }
    if point <= 0 && point > SMALL {
        text.write_str("0.")?;
        (point..0).try_for_each(|_| text.write_char('0'))?;
        return write!(text, "{digits}");
    }
    // One digit before the point.
    let behind = digits.checked_ilog10().unwrap_or(0);
    let (first, rest) = (digits / 10u64.pow(behind), digits % 10u64.pow(behind));
    write!(text, "{first}")?;
    if behind > 0 {
        write!(text, ".{rest:0width$}", width = behind as usize)?;
    }
    if point <= SMALL { write!(text, "e{}", point - 1) } else { Ok(()) }
}
