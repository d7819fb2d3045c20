//! One bit a dimension: the signs of a rotated vector's difference to its cluster's centre, and what they tell of an
//! inner product.
//!
//! With `r` the difference, `s` its signs and `q` the rotated query, `<r, q>` is estimated as `<s, q> |r|^2 / |r|_1`:
//! exact for `q = r`, and without bias for a random rotation (RaBitQ, SIGMOD 2024). `<s, q>` is added up from tables of
//! 16 entries for each four signs, 64 codes at a time.

/// Codes a block.
pub(crate) const BLOCK: usize = 64;

/// The codes of a cluster, in blocks of 64: byte `j` of all of them, then the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Codes {
    /// Bytes of a code.
    pub(crate) bytes: usize,
    /// The blocks; the last is filled up with zeros.
    pub(crate) blocks: Vec<u8>,
    /// `|r|^2 / |r|_1`, one a code.
    pub(crate) factors: Vec<f32>,
}

impl Codes {
    /// None yet, of so many dimensions.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { bytes: dimensions.div_ceil(8), ..Self::default() }
    }

    /// Adds the code of a difference.
    pub(crate) fn push(&mut self, difference: &[f32]) {
        let at = self.factors.len();
        if at.is_multiple_of(BLOCK) {
            self.blocks.resize(self.blocks.len() + BLOCK * self.bytes, 0);
        }
        let start = at / BLOCK * BLOCK * self.bytes + at % BLOCK;
        for (byte, eight) in difference.chunks(8).enumerate() {
            let bits = eight.iter().rev().fold(0, |bits, value| bits << 1 | u8::from(*value > 0.0));
            self.blocks[start + byte * BLOCK] = bits;
        }
        let square: f32 = difference.iter().map(|value| value * value).sum();
        let sum: f32 = difference.iter().map(|value| value.abs()).sum();
        self.factors.push(if sum > 0.0 { square / sum } else { 0.0 });
    }

    /// Adds all codes of another.
    pub(crate) fn append(&mut self, other: &Self) {
        for (number, factor) in other.factors.iter().enumerate() {
            let from = number / BLOCK * BLOCK * self.bytes + number % BLOCK;
            let at = self.factors.len();
            if at.is_multiple_of(BLOCK) {
                self.blocks.resize(self.blocks.len() + BLOCK * self.bytes, 0);
            }
            let to = at / BLOCK * BLOCK * self.bytes + at % BLOCK;
            for byte in 0..self.bytes {
                self.blocks[to + byte * BLOCK] = other.blocks[from + byte * BLOCK];
            }
            self.factors.push(*factor);
        }
    }

    /// The blocks, and the factors of each.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = (&[u8], &[f32])> {
        self.blocks.chunks_exact((BLOCK * self.bytes).max(1)).zip(self.factors.chunks(BLOCK))
    }
}

/// A query's tables: for each four dimensions the sum of the query's values under all 16 signs, in 7 bits.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// Sixteen entries for each four dimensions.
    pub(crate) entries: Vec<u8>,
    /// What one unit of a sum of entries stands for.
    pub(crate) unit: f32,
    /// What a sum of zero stands for.
    pub(crate) base: f32,
}

impl Tables {
    /// The tables of a rotated query.
    pub(crate) fn new(query: &[f32]) -> Self {
        let groups = query.len().div_ceil(8) * 2;
        let mut sums = vec![[0.0_f32; 16]; groups];
        let mut range = 0.0_f32;
        let mut base = 0.0;
        for (sums, four) in sums.iter_mut().zip(query.chunks(4)) {
            let size: f32 = four.iter().map(|value| value.abs()).sum();
            base -= size;
            range = range.max(2.0 * size);
            for (signs, sum) in sums.iter_mut().enumerate() {
                let signed =
                    |(bit, value): (usize, &f32)| if signs >> bit & 1 == 1 { *value } else { -value };
                *sum = size + four.iter().enumerate().map(signed).sum::<f32>();
            }
        }
        // Entries of at most 127, and sums of at most 16 bits.
        let largest = 127.0_f32.min((65535 / groups.max(1)) as f32).max(1.0);
        let unit = if range > 0.0 { range / largest } else { 1.0 };
        let entry = |sum: &f32| (sum / unit + 0.5) as u8;
        let entries = sums.iter().flat_map(|sums| sums.iter().map(entry)).collect();
        Self { entries, unit, base }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustered::rotation::{Random, Rotation};
    use crate::cpu::{Cpu, Portable};

    #[test]
    fn estimates_have_little_error_and_no_bias() {
        let dimensions = 384;
        let rotation = Rotation::new(dimensions);
        let mut random = Random(3);
        let mut unit = || {
            let sum =
                |random: &mut Random| (0..6).map(|_| (random.next() >> 40) as f32 / 1.7e7 - 0.5).sum::<f32>();
            let mut vector: Vec<f32> = (0..dimensions).map(|_| sum(&mut random)).collect();
            let len = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
            vector.iter_mut().for_each(|value| *value /= len);
            rotation.turn(&mut vector);
            vector
        };
        let vectors: Vec<Vec<f32>> = (0..200).map(|_| unit()).collect();
        let mut codes = Codes::new(dimensions);
        vectors.iter().for_each(|vector| codes.push(vector));
        let (mut error, mut bias, mut count) = (0.0, 0.0, 0.0);
        for query in (0..20).map(|_| unit()).chain(vectors[..5].iter().cloned()) {
            let tables = Tables::new(&query);
            for ((block, factors), vectors) in codes.blocks().zip(vectors.chunks(BLOCK)) {
                let sums = Portable.lookup(block, &tables.entries);
                for ((sum, factor), vector) in sums.iter().zip(factors).zip(vectors) {
                    let estimate = factor * (f32::from(*sum) * tables.unit + tables.base);
                    let exact: f32 = vector.iter().zip(&query).map(|(a, b)| a * b).sum();
                    error += f64::from((estimate - exact).powi(2));
                    bias += f64::from(estimate - exact);
                    count += 1.0;
                }
            }
        }
        // The theory: about 0.75 / sqrt(dimensions) for unit vectors.
        assert!(
            (error / count).sqrt() < 1.0 / f64::from(dimensions as u32).sqrt(),
            "{}",
            (error / count).sqrt()
        );
        assert!((bias / count).abs() < 0.005, "{}", bias / count);
    }
}
