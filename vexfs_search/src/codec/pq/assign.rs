//! Which entry of a codebook is nearest to a point, in whole numbers.

use super::super::level::{self, Job, Level};

/// Bits that a sum over a part of a vector may have, sign and factors left out.
const SUM_BITS: u32 = 28;
/// Below it a number has no unit: 2^-100.
const TOO_SMALL: f32 = f32::from_bits(27 << 23);

/// What values are counted in: a power of two that leaves room for sums of 32 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unit {
    /// 1 / the unit; 0 where nothing is to be counted.
    reciprocal: f32,
    /// More of them no value counts: twice what the largest number can be.
    most: f32,
}

impl Unit {
    /// That of numbers which stand for parts of so many dimensions.
    pub(super) fn of(numbers: &[f32], sub_dimensions: usize) -> Self {
        let largest = numbers.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let sum = (sub_dimensions as u32).next_power_of_two().ilog2();
        let bits = (SUM_BITS - sum) / 2;
        let most = ((1_u32 << (bits + 1)) - 1).min(i16::MAX as u32) as f32;
        if largest < TOO_SMALL {
            return Self { reciprocal: 0.0, most };
        }
        // The largest is below 2^(exponent + 1), and so at most 2^bits units.
        let exponent = (largest.to_bits() >> 23) as i32 - 127;
        Self { reciprocal: 2.0_f32.powi(bits as i32 - exponent - 1), most }
    }

    /// How many of it are nearest to a number, the even count of two.
    #[inline(always)]
    pub(super) fn count(self, value: f32) -> i16 {
        (value * self.reciprocal).round_ties_even().clamp(-self.most, self.most) as i16
    }
}

/// The entries of a part, counted in units, two dimensions side by side.
#[derive(Clone, Debug)]
pub(crate) struct Entries {
    /// Pairs of dimensions; the last one's second is 0 where their number is odd.
    pub(crate) pairs: usize,
    /// `pairs` x entries x 2.
    pub(crate) table: Vec<i16>,
    /// Sums of squares, one an entry; their number is a multiple of 16.
    pub(crate) squares: Vec<i32>,
    sub_dimensions: usize,
}

impl Entries {
    /// Those of one part of a codebook, one behind the other.
    pub(super) fn new(entries: &[f32], sub_dimensions: usize, unit: Unit) -> Self {
        let (pairs, count) = (sub_dimensions.div_ceil(2), entries.len() / sub_dimensions);
        let mut table = vec![0; pairs * count * 2];
        let mut squares = vec![0; count];
        for (index, entry) in entries.chunks_exact(sub_dimensions).enumerate() {
            for (dimension, value) in entry.iter().enumerate() {
                let units = unit.count(*value);
                table[(dimension / 2 * count + index) * 2 + dimension % 2] = units;
                squares[index] += i32::from(units) * i32::from(units);
            }
        }
        Self { pairs, table, squares, sub_dimensions }
    }

    /// The entry nearest to each point, the first of equally near ones; points are `2 * pairs` numbers each.
    pub(super) fn assign(&self, points: &[i16], codes: &mut [u8]) {
        assert_eq!(points.len(), codes.len() * 2 * self.pairs);
        level::best(Assign { entries: self, points, codes });
    }
}

/// Parts of vectors as points: those of `dimensions` numbers from `start` on, counted in the unit.
pub(super) fn gather(
    vectors: &[f32],
    dimensions: usize,
    start: usize,
    entries: &Entries,
    unit: Unit,
    points: &mut Vec<i16>,
) {
    points.clear();
    points.resize(vectors.len() / dimensions * entries.pairs * 2, 0);
    for (vector, point) in vectors.chunks_exact(dimensions).zip(points.chunks_exact_mut(entries.pairs * 2)) {
        let part = &vector[start..start + entries.sub_dimensions];
        for (value, units) in part.iter().zip(point) {
            *units = unit.count(*value);
        }
    }
}

struct Assign<'a> {
    entries: &'a Entries,
    points: &'a [i16],
    codes: &'a mut [u8],
}

impl Job for Assign<'_> {
    type Output = ();

    fn run<L: Level>(self, level: L) {
        level.nearest(self.entries, self.points, self.codes);
    }
}
