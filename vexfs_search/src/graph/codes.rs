//! What walks compare a query with: a code of four bits a dimension for each node, its factor, and its squared length.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::walk::Scorer;
use crate::clustered::nibbles::{self, Rounded};
use crate::clustered::square;
use crate::cpu::Cpu;
use crate::metric::Metric;

/// A cache line.
#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

/// Cache lines of a node's code.
pub(crate) const fn stride(dimensions: usize) -> usize {
    nibbles::len(dimensions).div_ceil(64)
}

/// The codes of all nodes, by their numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Codes {
    /// Bytes of a code.
    len: usize,
    /// Lines of a code.
    stride: usize,
    /// The codes, each filled up with zeros.
    pub(crate) lines: Vec<Line>,
    /// The factors of their products.
    pub(crate) factors: Vec<f32>,
    /// Squared lengths, for L2 alone.
    pub(crate) squares: Vec<f32>,
}

impl Codes {
    /// None yet.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { len: nibbles::len(dimensions), stride: stride(dimensions), ..Self::default() }
    }

    /// Those of which these are the parts.
    pub(crate) fn of(dimensions: usize, lines: Vec<Line>, factors: Vec<f32>, squares: Vec<f32>) -> Self {
        Self { lines, factors, squares, ..Self::new(dimensions) }
    }

    /// Adds a rotated vector.
    pub(crate) fn push(&mut self, point: &[f32], metric: Metric) {
        let mut bytes = Vec::with_capacity(self.stride * 64);
        self.factors.push(nibbles::encode(point, &mut bytes));
        bytes.resize(self.stride * 64, 0);
        self.lines.extend(bytes.as_chunks::<64>().0.iter().map(|line| Line(*line)));
        if metric == Metric::L2 {
            self.squares.push(square(point));
        }
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
    pub(crate) rounded: &'a Rounded,
}

impl Scorer for Query<'_> {
    #[inline(always)]
    fn score<C: Cpu>(&self, cpu: C, node: u32) -> f32 {
        let at = node as usize;
        let code = self.codes.bytes(node).get(..self.codes.len).unwrap_or_default();
        let factor = self.codes.factors.get(at).copied().unwrap_or_default();
        let product = self.rounded.product(cpu, code, factor);
        // Of L2 alone.
        self.codes.squares.get(at).map_or(product, |square| 2.0 * product - square)
    }

    #[inline(always)]
    fn prefetch<C: Cpu>(&self, cpu: C, node: u32) {
        let bytes = self.codes.bytes(node);
        (0..bytes.len()).step_by(64).for_each(|line| cpu.prefetch(bytes, line));
    }
}
