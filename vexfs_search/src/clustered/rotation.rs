//! A rotation that spreads a vector's variance over all of its dimensions, so that signs tell equally much.
//!
//! INVARIANT: lengths and inner products stay as they are. Rounds of random signs and a fast Hadamard transform, over
//! the first and the last power of two of the dimensions in turn: `D log D` steps, and no matrix to keep.

/// A random rotation of vectors of one length; the same every time.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    signs: Vec<[f32; ROUNDS]>,
}

const ROUNDS: usize = 4;
const SEED: u64 = 0x853c_49e6_748f_ea9b;

impl Rotation {
    /// For vectors of `dimensions`.
    pub(crate) fn new(dimensions: usize) -> Self {
        let mut random = Random(SEED);
        let sign = |bit: u64| if bit & 1 == 1 { 1.0 } else { -1.0 };
        let mut signs = || {
            let word = random.next() >> 32;
            std::array::from_fn(|round| sign(word >> round))
        };
        Self { signs: (0..dimensions).map(|_| signs()).collect() }
    }

    /// Rotates the vector; what lies behind its dimensions stays.
    pub(crate) fn turn(&self, vector: &mut [f32]) {
        let len = self.signs.len().min(vector.len());
        let Some(power) = len.checked_ilog2().map(|log| 1_usize << log) else { return };
        for round in 0..ROUNDS {
            for (value, signs) in vector.iter_mut().zip(&self.signs) {
                *value *= signs[round];
            }
            let start = if round % 2 == 0 { 0 } else { len - power };
            hadamard(&mut vector[start..start + power]);
        }
    }
}

// The orthonormal transform; the length is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut width = 1;
    while width < values.len() {
        for pair in values.chunks_exact_mut(2 * width) {
            let (left, right) = pair.split_at_mut(width);
            for (a, b) in left.iter_mut().zip(right) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        width *= 2;
    }
    let scale = (values.len() as f32).sqrt().recip();
    values.iter_mut().for_each(|value| *value *= scale);
}

/// Numbers that look random and are the same every time (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next one.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// One below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 11) as usize) % limit.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_stay_and_variance_spreads() {
        for dimensions in [1, 2, 3, 8, 96, 384, 1000] {
            let rotation = Rotation::new(dimensions);
            let mut random = Random(5);
            let mut vector =
                || (0..dimensions).map(|_| (random.next() >> 40) as f32 / 8e6 - 1.0).collect::<Vec<_>>();
            let (mut a, mut b) = (vector(), vector());
            let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let before = product(&a, &b);
            rotation.turn(&mut a);
            rotation.turn(&mut b);
            assert!((product(&a, &b) - before).abs() < 1e-3 * dimensions as f32, "{dimensions}");
        }
        let mut peak = vec![0.0; 384];
        peak[7] = 1.0;
        Rotation::new(384).turn(&mut peak);
        assert!(peak.iter().all(|value| value.abs() < 0.4));
    }
}
