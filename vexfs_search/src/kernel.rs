//! One row against one query: the sums that every metric is made of, an element type at a time.
//!
//! Sixteen accumulators, added up in a fixed order at the end: the compiler makes vector instructions of them,
//! and the result is the same whatever instructions those are.

use crate::half;

/// The element type of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Signed 8-bit integers.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Bits, packed with the lowest bit first.
    Bit,
}

impl Element {
    /// The element with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::I8, Self::I16, Self::Bit]
            .into_iter()
            .find(|element| element.name() == name)
    }

    /// `f32`, `f16`, `i8`, `i16` or `bit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::Bit => "bit",
        }
    }

    /// numpy's type of an entry.
    pub const fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
            Self::I8 => "|i1",
            Self::I16 => "<i2",
            Self::Bit => "|u1",
        }
    }

    /// Bytes of an entry.
    pub const fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::I16 => 2,
            Self::I8 | Self::Bit => 1,
        }
    }

    /// Bytes of a vector of `dimensions`.
    pub const fn bytes(self, dimensions: usize) -> usize {
        match self {
            Self::Bit => dimensions.div_ceil(8),
            _ => dimensions * self.width(),
        }
    }
}

/// How near two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Cosine of the angle; 1 is nearest.
    Cosine,
    /// Euclidean distance; 0 is nearest.
    L2,
    /// Inner product; the largest is nearest.
    InnerProduct,
    /// Bits that differ; 0 is nearest.
    Hamming,
}

impl Metric {
    /// The metric with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cosine, Self::L2, Self::InnerProduct, Self::Hamming]
            .into_iter()
            .find(|metric| metric.name() == name)
    }

    /// `cosine`, `l2`, `ip` or `hamming`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Hamming => "hamming",
        }
    }

    /// True if a small score is near.
    pub const fn is_distance(self) -> bool {
        matches!(self, Self::L2 | Self::Hamming)
    }

    /// The score that follows from a row's sums.
    pub(crate) fn score(self, sums: Sums, query_norm: f32) -> f32 {
        match self {
            Self::InnerProduct => sums.product,
            Self::L2 => sums.difference.sqrt(),
            Self::Hamming => sums.difference,
            // Against a vector without a direction nothing is near.
            Self::Cosine if sums.square <= 0.0 || query_norm <= 0.0 => 0.0,
            Self::Cosine => sums.product / (sums.square.sqrt() * query_norm),
        }
    }
}

/// Sums over the entries of a row `a` and the query `b`; those that a metric does not ask for are 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// Of `a * b`.
    pub(crate) product: f32,
    /// Of `a * a`.
    pub(crate) square: f32,
    /// Of `(a - b) * (a - b)`.
    pub(crate) difference: f32,
}

/// An entry that has a value.
pub(crate) trait Entry: Copy {
    fn value(self) -> f32;
}

impl Entry for f32 {
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Entry for i8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl Entry for i16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

/// The bits of a 16-bit float.
impl Entry for u16 {
    #[inline(always)]
    fn value(self) -> f32 {
        half::to_f32(self)
    }
}

const LANES: usize = 16;

/// The sums that `metric` asks for.
#[inline(always)]
pub(crate) fn sums<T: Entry>(metric: Metric, row: &[T], query: &[f32]) -> Sums {
    match metric {
        Metric::L2 | Metric::Hamming => {
            let [difference] = accumulate(row, query, |a, b| [(a - b) * (a - b)]);
            Sums { difference, ..Sums::default() }
        }
        Metric::InnerProduct => {
            let [product] = accumulate(row, query, |a, b| [a * b]);
            Sums { product, ..Sums::default() }
        }
        Metric::Cosine => {
            let [product, square] = accumulate(row, query, |a, b| [a * b, a * a]);
            Sums { product, square, ..Sums::default() }
        }
    }
}

// The sums of the terms of every pair, N sums at a time.
#[inline(always)]
fn accumulate<T: Entry, const N: usize>(
    row: &[T],
    query: &[f32],
    terms: impl Fn(f32, f32) -> [f32; N],
) -> [f32; N] {
    let mut lanes = [[0.0_f32; LANES]; N];
    let mut add = |lane: usize, terms: [f32; N]| {
        for (sum, term) in lanes.iter_mut().zip(terms) {
            sum[lane] += term;
        }
    };
    let (mut rows, mut queries) = (row.chunks_exact(LANES), query.chunks_exact(LANES));
    for (a, b) in (&mut rows).zip(&mut queries) {
        for lane in 0..LANES {
            add(lane, terms(a[lane].value(), b[lane]));
        }
    }
    for (lane, (a, b)) in rows.remainder().iter().zip(queries.remainder()).enumerate() {
        add(lane, terms(a.value(), *b));
    }
    lanes.map(fold)
}

fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The sums of two vectors of bits, taken as zeros and ones; exact.
#[inline(always)]
pub(crate) fn bit_sums(row: &[u8], query: &[u8]) -> Sums {
    let (mut both, mut ones, mut different) = (0_u32, 0_u32, 0_u32);
    let (mut rows, mut queries) = (row.chunks_exact(8), query.chunks_exact(8));
    for (a, b) in (&mut rows).zip(&mut queries) {
        let (a, b) = (word(a), word(b));
        both += (a & b).count_ones();
        ones += a.count_ones();
        different += (a ^ b).count_ones();
    }
    for (a, b) in rows.remainder().iter().zip(queries.remainder()) {
        both += (a & b).count_ones();
        ones += a.count_ones();
        different += (a ^ b).count_ones();
    }
    Sums { product: both as f32, square: ones as f32, difference: different as f32 }
}

#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    #[test]
    fn sums_equal_those_in_double_precision() {
        for len in [0, 1, 15, 16, 17, 31, 33, 100, 384, 1537] {
            let (a, b) = (values(len, 1 + len as u64), values(len, 99));
            let pairs = || a.iter().zip(&b).map(|(a, b)| (f64::from(*a), f64::from(*b)));
            let (product, square): (f64, f64) =
                (pairs().map(|(a, b)| a * b).sum(), pairs().map(|(a, _)| a * a).sum());
            let difference: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
            let near = |got: f32, expected: f64| {
                assert!(
                    (f64::from(got) - expected).abs() <= 1e-5 * (1.0 + len as f64).sqrt(),
                    "{len}: {got} {expected}"
                );
            };
            let cosine = sums(Metric::Cosine, &a, &b);
            near(cosine.product, product);
            near(cosine.square, square);
            near(sums(Metric::InnerProduct, &a, &b).product, product);
            near(sums(Metric::L2, &a, &b).difference, difference);
        }
    }

    #[test]
    fn bits_are_counted() {
        for len in [0, 1, 7, 8, 9, 16, 48, 100] {
            let bytes =
                |seed| values(len, seed).iter().map(|value| value.to_bits() as u8).collect::<Vec<u8>>();
            let (a, b) = (bytes(3), bytes(4));
            let bit = |bytes: &[u8], index: usize| bytes[index / 8] >> (index % 8) & 1;
            let expected = |term: fn(u8, u8) -> u8| {
                (0..len * 8).map(|index| u32::from(term(bit(&a, index), bit(&b, index)))).sum::<u32>() as f32
            };
            let got = bit_sums(&a, &b);
            assert_eq!(got.product, expected(|a, b| a & b));
            assert_eq!(got.square, expected(|a, _| a));
            assert_eq!(got.difference, expected(|a, b| a ^ b));
        }
    }

    #[test]
    fn names() {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::Hamming] {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
        }
        assert_eq!(Element::from_name("f64"), None);
        assert_eq!(Element::Bit.bytes(384), 48);
    }
}
