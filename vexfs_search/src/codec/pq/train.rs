//! A codebook of a collection's own vectors: of each part the centres that k-means finds (Lloyd, 1982).
//!
//! Points and centres are compared in whole numbers, by what also codes vectors; centres are means in double precision,
//! summed in the order of the rows. So a codebook depends on vectors and seed alone: neither CPU nor threads show.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::assign::{Entries, Unit, gather};
use super::{Codebook, Shape};

/// What is asked of a training.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// Rounds of k-means at most; it ends when no point changes its centre.
    pub iterations: usize,
    /// Another seed begins with other vectors.
    pub seed: u64,
    /// Threads; 0 for as many as there are cores.
    pub threads: usize,
}

impl Default for Training {
    fn default() -> Self {
        Self { iterations: 25, seed: 1, threads: 0 }
    }
}

/// Trains a codebook on `vectors`, one behind the other. `told` hears of each part that is done.
///
/// # Errors
/// If there are fewer vectors than entries, or one is NaN or infinite.
pub fn train(
    vectors: &[f32],
    shape: Shape,
    training: &Training,
    told: &(dyn Fn() + Sync),
) -> Result<Codebook, String> {
    let (count, needed) = (vectors.len() / shape.dimensions(), shape.entries());
    if count < needed {
        return Err(format!(
            "{count} vectors are too few to train {needed} entries on: set more first, or take codes of 4 bits"
        ));
    }
    if vectors.iter().any(|value| !value.is_finite()) {
        return Err("a vector to train on is NaN or infinite".into());
    }
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let threads = if training.threads == 0 { cores() } else { training.threads };
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let part = next.fetch_add(1, Ordering::Relaxed);
            if part >= shape.subvectors {
                return done;
            }
            done.push((part, Part::new(vectors, shape, part, training.seed).train(training.iterations)));
            told();
        }
    };
    let mut parts: Vec<(usize, Vec<f32>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(shape.subvectors)).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().flat_map(|worker| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    parts.sort_unstable_by_key(|(part, _)| *part);
    Codebook::new(shape, parts.into_iter().flat_map(|(_, centres)| centres).collect())
}

/// One part of all vectors, and its centres.
struct Part {
    dimensions: usize,
    unit: Unit,
    /// The points, and the same counted in the unit.
    values: Vec<f32>,
    points: Vec<i16>,
    centres: Vec<f32>,
    codes: Vec<u8>,
}

impl Part {
    // The centres begin as points that are drawn without repetition.
    fn new(vectors: &[f32], shape: Shape, part: usize, seed: u64) -> Self {
        let (dimensions, start) = (shape.sub_dimensions, part * shape.sub_dimensions);
        let rows = vectors.chunks_exact(shape.dimensions());
        let values: Vec<f32> = rows.flat_map(|row| &row[start..start + dimensions]).copied().collect();
        let count = values.len() / dimensions;
        let unit = Unit::of(&values, dimensions);
        let mut random = Random(seed.wrapping_add(part as u64));
        let mut order: Vec<usize> = (0..count).collect();
        let mut centres = Vec::with_capacity(shape.entries() * dimensions);
        for index in 0..shape.entries() {
            order.swap(index, index + random.below(count - index));
            centres.extend_from_slice(&values[order[index] * dimensions..][..dimensions]);
        }
        let mut points = Vec::new();
        let entries = Entries::new(&centres, dimensions, unit);
        gather(&values, dimensions, 0, &entries, unit, &mut points);
        Self { dimensions, unit, values, points, centres, codes: vec![0; count] }
    }

    fn train(mut self, iterations: usize) -> Vec<f32> {
        let mut before = Vec::new();
        for _ in 0..iterations {
            Entries::new(&self.centres, self.dimensions, self.unit).assign(&self.points, &mut self.codes);
            if self.codes == before {
                break;
            }
            before.clone_from(&self.codes);
            self.move_centres();
        }
        self.centres
    }

    // Each centre goes to the mean of its points.
    fn move_centres(&mut self) {
        let dimensions = self.dimensions;
        let mut sums = vec![0.0_f64; self.centres.len()];
        let mut counts = vec![0_usize; self.centres.len() / dimensions];
        for (point, code) in self.values.chunks_exact(dimensions).zip(&self.codes) {
            counts[usize::from(*code)] += 1;
            let sum = &mut sums[usize::from(*code) * dimensions..][..dimensions];
            sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        let centres = self.centres.chunks_exact_mut(dimensions).zip(sums.chunks_exact(dimensions));
        for ((centre, sum), count) in centres.zip(&counts).filter(|(_, count)| **count > 0) {
            centre.iter_mut().zip(sum).for_each(|(to, sum)| *to = (sum / *count as f64) as f32);
        }
        self.fill_empty(&mut counts);
    }

    // A centre without points goes beside the one with the most, and takes half of them: neither loses its place altogether.
    fn fill_empty(&mut self, counts: &mut [usize]) {
        const APART: f32 = 1.0 / 1024.0;
        while let Some(empty) = counts.iter().position(|count| *count == 0) {
            let Some((largest, count)) = counts.iter().copied().enumerate().max_by_key(|(_, count)| *count)
            else {
                return;
            };
            if count < 2 {
                return;
            }
            for dimension in 0..self.dimensions {
                let sign = if dimension % 2 == 0 { APART } else { -APART };
                let value = self.centres[largest * self.dimensions + dimension];
                self.centres[empty * self.dimensions + dimension] = value * (1.0 + sign);
                self.centres[largest * self.dimensions + dimension] = value * (1.0 - sign);
            }
            (counts[empty], counts[largest]) = (count / 2, count - count / 2);
        }
    }
}

/// splitmix64 (Steele, Lea, Flood, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ z >> 31) * bound as u128) >> 64) as usize
    }
}
