//! How near a row of whole numbers or bits is to a query, to the bit what the FUSE host reckons with floats.
//!
//! INVARIANT: sums are whole numbers and exact. A score is the nearest f32 of one (inner product, L2, Hamming), or made of
//! such by the four roundings of IEEE 754 single precision (cosine): order and ties are those of the floats.

use alloc::vec::Vec;

use super::{Answered, Refusal};
use crate::codec::single::{INFINITE, MAGNITUDE, SIGN, Single};
use crate::error::{Error, Result};
use crate::format::{Element, Metric};
use crate::memory;
use crate::operations::Collection;

/// A score, ordered: higher is nearer. The bits of an f32, turned so that they ascend as the floats do; there is no -0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score(i32);

impl Score {
    /// The f32 with these bits, which is no NaN.
    pub(super) const fn from_bits(bits: u32) -> Self {
        match bits {
            SIGN => Self(0),
            bits if bits & SIGN == 0 => Self(bits as i32),
            bits => Self(-((bits & MAGNITUDE) as i32)),
        }
    }

    /// The bits of the f32.
    pub(super) const fn bits(self) -> u32 {
        if self.0 < 0 { SIGN | self.0.unsigned_abs() } else { self.0 as u32 }
    }

    /// True below 0.
    pub(super) const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// The score as a distance: the other sign.
    pub(super) const fn negated(self) -> Self {
        Self(-self.0)
    }

    /// Below all others.
    pub(super) const LEAST: Self = Self(-i32::MAX);

    // The f32 nearest to a whole number.
    fn whole(value: i64) -> Self {
        let magnitude = Single::rounded(value.unsigned_abs(), 0).bits();
        if value < 0 { Self(-(magnitude as i32)) } else { Self(magnitude as i32) }
    }

    // The cosine from an inner product and the squared lengths; nothing is near to a vector without a direction.
    fn cosine(product: i64, square: u64, query_square: u64) -> Self {
        let root = |square: u64| Single::rounded(square, 0).root();
        let lengths = root(square).times(root(query_square));
        if lengths.mantissa == 0 {
            return Self(0);
        }
        let magnitude = Single::rounded(product.unsigned_abs(), 0).over(lengths).bits() as i32;
        Self(if product < 0 { -magnitude } else { magnitude })
    }
}

/// A query that fits a collection.
#[derive(Debug)]
pub(super) struct Query {
    values: Values,
    metric: Metric,
    /// Sum of the squares.
    square: u64,
}

#[derive(Debug)]
enum Values {
    /// Against `i8`.
    Bytes(Vec<i16>),
    /// Against `i16`.
    Shorts(Vec<i16>),
    Bits(Vec<u8>),
}

impl Query {
    /// A query of numbers, as the bits of floats; of a bit collection, a bit is set where the number is above 0.
    pub(super) fn of_numbers(collection: &Collection, numbers: &[u32], metric: Metric) -> Answered<Self> {
        let (got, expected) = (numbers.len(), collection.dimensions as usize);
        if got != expected {
            return Err(Refusal::new(format_args!(
                "the query has {got} dimensions, the collection {expected}"
            )));
        }
        if let Some(index) = numbers.iter().position(|bits| bits & MAGNITUDE >= INFINITE) {
            return Err(Refusal::new(format_args!("element {index} of the query is NaN or infinite")));
        }
        let values = match collection.element {
            Element::Bit => Values::Bits(pack(numbers)?),
            Element::I8 => Values::Bytes(whole_numbers(numbers, i8::MIN.into(), i8::MAX.into())?),
            _ => Values::Shorts(whole_numbers(numbers, i16::MIN, i16::MAX)?),
        };
        Ok(Self::new(values, metric))
    }

    /// A query that is a vector, as it is stored.
    pub(super) fn of_bytes(collection: &Collection, bytes: &[u8], metric: Metric) -> Result<Self> {
        if bytes.len() != collection.vector_len() as usize {
            return Err(Error::Invalid("the vector has not the length of the collection's"));
        }
        let mut numbers = Vec::new();
        let values = match collection.element {
            Element::Bit => Values::Bits(memory::copy(bytes)?),
            Element::I8 => {
                memory::reserve(&mut numbers, bytes.len())?;
                bytes.iter().try_for_each(|byte| memory::push(&mut numbers, i16::from(*byte as i8)))?;
                Values::Bytes(numbers)
            }
            _ => {
                memory::reserve(&mut numbers, bytes.len() / 2)?;
                shorts(bytes).try_for_each(|short| memory::push(&mut numbers, short))?;
                Values::Shorts(numbers)
            }
        };
        Ok(Self::new(values, metric))
    }

    fn new(values: Values, metric: Metric) -> Self {
        let square = match &values {
            Values::Bits(bits) => ones(bits.iter().copied()),
            Values::Bytes(values) | Values::Shorts(values) => {
                values.iter().map(|value| u64::from(value.unsigned_abs()).pow(2)).sum()
            }
        };
        Self { values, metric, square }
    }

    /// True if it is zero: no direction is near to it.
    pub(super) const fn is_zero(&self) -> bool {
        self.square == 0
    }

    /// The score of a row, which is as long as the query.
    pub(super) fn score(&self, row: &[u8]) -> Score {
        let [product, square] = match &self.values {
            Values::Bits(bits) if matches!(self.metric, Metric::L2 | Metric::Hamming) => {
                return Score::whole(-(ones(row.iter().zip(bits).map(|(a, b)| a ^ b)) as i64));
            }
            Values::Bits(bits) => {
                let both = ones(row.iter().zip(bits).map(|(a, b)| a & b));
                [both as i64, ones(row.iter().copied()) as i64]
            }
            Values::Bytes(values) => sums(row.iter().map(|byte| i64::from(*byte as i8)), values),
            Values::Shorts(values) => sums(shorts(row).map(i64::from), values),
        };
        match self.metric {
            Metric::InnerProduct => Score::whole(product),
            Metric::L2 | Metric::Hamming => Score::whole(2 * product - square - self.square as i64),
            Metric::Cosine => Score::cosine(product, square as u64, self.square),
        }
    }
}

// Sums of `row * query` and of `row * row`: below 2^47 for the longest vector.
fn sums(row: impl Iterator<Item = i64>, query: &[i16]) -> [i64; 2] {
    row.zip(query).fold([0; 2], |[product, square], (a, b)| [product + a * i64::from(*b), square + a * a])
}

fn ones(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.map(|byte| u64::from(byte.count_ones())).sum()
}

fn shorts(bytes: &[u8]) -> impl Iterator<Item = i16> {
    bytes.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]]))
}

// Bits that are set where the number is above 0, the first lowest.
fn pack(numbers: &[u32]) -> Result<Vec<u8>> {
    let mut bytes = memory::zeroed(numbers.len().div_ceil(8))?;
    for (byte, eight) in bytes.iter_mut().zip(numbers.chunks(8)) {
        let set = |bits: &u32| u8::from(bits & SIGN == 0 && bits & MAGNITUDE != 0);
        *byte = eight.iter().rev().fold(0, |byte, bits| byte << 1 | set(bits));
    }
    Ok(bytes)
}

fn whole_numbers(numbers: &[u32], low: i16, high: i16) -> Answered<Vec<i16>> {
    let mut whole = Vec::new();
    memory::reserve(&mut whole, numbers.len())?;
    for (index, bits) in numbers.iter().enumerate() {
        let number = whole_number(*bits).filter(|number| (low..=high).contains(number));
        let number = number.ok_or_else(|| {
            Refusal::new(format_args!(
                "vector: element {index} is no whole number from {low} to {high}, and this host reckons with no others: \
                 mount with FUSE (mount -t vexfs), or use `vexfs search`"
            ))
        })?;
        memory::push(&mut whole, number)?;
    }
    Ok(whole)
}

// The whole number that an f32 is, if it is one of 16 bits.
fn whole_number(bits: u32) -> Option<i16> {
    let (magnitude, rest) = Single::from_bits(bits).floor();
    let number = i64::try_from(magnitude).ok().filter(|number| !rest && *number <= 1 << 15)?;
    i16::try_from(if bits & SIGN == 0 { number } else { -number }).ok()
}
