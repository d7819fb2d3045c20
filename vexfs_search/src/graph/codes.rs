//! What walks compare a query with: a node's code of four bits a dimension, with its factor and its squared length, in whole cache lines.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::walk::Scorer;
use crate::clustered::nibbles::{self, Rounded};
use crate::cpu::Cpu;
use crate::metric::Metric;

/// A cache line.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// The codes of all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Codes {
    /// Bytes of a code alone.
    len: usize,
    /// Lines of a node.
    stride: usize,
    pub(crate) lines: Vec<Line>,
}

impl Codes {
    /// None yet.
    pub(crate) fn new(dimensions: usize) -> Self {
        let len = nibbles::len(dimensions);
        Self { len, stride: (len + 8).div_ceil(64), lines: Vec::new() }
    }

    /// Adds a rotated vector.
    pub(crate) fn push(&mut self, point: &[f32]) {
        let mut bytes = Vec::with_capacity(self.stride * 64);
        let factor = nibbles::encode(point, &mut bytes);
        let square: f32 = point.iter().map(|value| value * value).sum();
        bytes.resize(self.stride * 64 - 8, 0);
        bytes.extend(factor.to_le_bytes());
        bytes.extend(square.to_le_bytes());
        self.lines.extend(bytes.as_chunks::<64>().0.iter().map(|line| Line(*line)));
    }

    #[inline(always)]
    fn bytes(&self, node: u32) -> &[u8] {
        let start = node as usize * self.stride;
        self.lines.get(start..start + self.stride).unwrap_or_default().as_bytes()
    }
}

/// Walks towards a query.
pub(crate) struct Query<'a> {
    pub(crate) codes: &'a Codes,
    pub(crate) metric: Metric,
    pub(crate) rounded: &'a Rounded,
}

impl Scorer for Query<'_> {
    #[inline(always)]
    fn score<C: Cpu>(&self, cpu: C, node: u32) -> f32 {
        let bytes = self.codes.bytes(node);
        let Some((body, tail)) = bytes.split_last_chunk::<8>() else { return f32::NEG_INFINITY };
        let factor = f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]);
        let product = self.rounded.product(cpu, &body[..self.codes.len], factor);
        match self.metric {
            Metric::L2 => 2.0 * product - f32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]),
            _ => product,
        }
    }

    #[inline(always)]
    fn prefetch<C: Cpu>(&self, cpu: C, node: u32) {
        let bytes = self.codes.bytes(node);
        (0..bytes.len()).step_by(64).for_each(|line| cpu.prefetch(bytes, line));
    }
}
