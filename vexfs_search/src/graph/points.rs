//! The points that a graph is built of: a byte a dimension, products in whole numbers, so that every CPU builds the same graph.
//!
//! INVARIANT: distances are those of the bytes, so of a point with itself 0. Inner products become distances by one more
//! dimension that makes all points equally long (Bachrach et al., RecSys 2014).

use std::hash::{DefaultHasher, Hasher};

use zerocopy::IntoBytes;

use super::walk::Scorer;
use crate::cpu::Cpu;
use crate::metric::Metric;

/// Steps of the largest entry.
const STEPS: f32 = 127.0;

/// Points, by their nodes.
#[derive(Clone, Debug)]
pub(crate) struct Points {
    dimensions: usize,
    metric: Metric,
    values: Vec<i8>,
    /// What a step stands for.
    units: Vec<f32>,
    /// Squared lengths.
    squares: Vec<f32>,
    /// The further dimension of inner products.
    extra: Vec<f32>,
}

impl Points {
    /// None yet.
    pub(crate) fn new(dimensions: usize, metric: Metric) -> Self {
        Self {
            dimensions,
            metric,
            values: Vec::new(),
            units: Vec::new(),
            squares: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Adds a rotated vector.
    pub(crate) fn push(&mut self, point: &[f32]) {
        let largest = point.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let unit = if largest > 0.0 { largest / STEPS } else { 1.0 };
        let mut sum = 0_i64;
        for value in point {
            let value = (value / unit).round() as i8;
            sum += i64::from(value) * i64::from(value);
            self.values.push(value);
        }
        self.units.push(unit);
        self.squares.push(unit * unit * sum as f32);
    }

    /// To be called when all are there.
    pub(crate) fn finish(&mut self) {
        if self.metric == Metric::InnerProduct {
            let longest = self.squares.iter().fold(0.0_f32, |longest, square| longest.max(*square));
            self.extra = self.squares.iter().map(|square| (longest - square).max(0.0).sqrt()).collect();
            self.squares.fill(longest);
        }
    }

    /// True if the two are equal in every byte.
    pub(crate) fn same(&self, a: u32, b: u32) -> bool {
        self.units[a as usize] == self.units[b as usize] && self.values(a) == self.values(b)
    }

    /// Equal points have equal hashes.
    pub(crate) fn hash(&self, node: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        hasher.write(self.values(node).as_bytes());
        hasher.finish()
    }

    /// Takes the last one out again.
    pub(crate) fn pop(&mut self) {
        self.units.pop();
        self.squares.pop();
        self.values.truncate(self.units.len() * self.dimensions);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    #[inline(always)]
    fn values(&self, node: u32) -> &[i8] {
        let start = node as usize * self.dimensions;
        self.values.get(start..start + self.dimensions).unwrap_or_default()
    }

    /// The product of two, the further dimension counted.
    #[inline(always)]
    fn product<C: Cpu>(&self, cpu: C, a: u32, b: u32) -> f32 {
        let [product, _] = cpu.bytes(self.values(a), self.values(b));
        let (a, b) = (a as usize, b as usize);
        let extra = if self.extra.is_empty() { 0.0 } else { self.extra[a] * self.extra[b] };
        self.units[a] * self.units[b] * product as f32 + extra
    }

    /// The squared distance.
    #[inline(always)]
    pub(crate) fn distance<C: Cpu>(&self, cpu: C, a: u32, b: u32) -> f32 {
        self.squares[a as usize] + self.squares[b as usize] - 2.0 * self.product(cpu, a, b)
    }

    #[inline(always)]
    pub(crate) fn prefetch<C: Cpu>(&self, cpu: C, node: u32) {
        let bytes = self.values(node).as_bytes();
        (0..bytes.len()).step_by(64).for_each(|line| cpu.prefetch(bytes, line));
    }
}

/// Walks towards one of the points.
pub(crate) struct Towards<'a> {
    pub(crate) points: &'a Points,
    pub(crate) node: u32,
}

impl Scorer for Towards<'_> {
    #[inline(always)]
    fn score<C: Cpu>(&self, cpu: C, node: u32) -> f32 {
        0.0 - self.points.distance(cpu, node, self.node)
    }

    #[inline(always)]
    fn prefetch<C: Cpu>(&self, cpu: C, node: u32) {
        self.points.prefetch(cpu, node);
    }
}
