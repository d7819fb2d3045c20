//! Rows of product quantisation ruled out by tables, without reading them back: asymmetric distances (Jégou, Douze, Schmid, 2011).
//!
//! Of each entry of the codebook a table has what it would add to the score of a row. A row's sum of them is its score but
//! for rounding; only rows whose sum comes near enough to the best so far are decoded, and scored as all others are. So an
//! answer is the same, to the bit, as if every row had been decoded.

use std::ops::Range;

use crate::codec::Rows;
use crate::codec::pq::Codebook;
use crate::half;
use crate::metric::{Element, Metric, cosine};
use crate::nearest::Best;
use crate::query::{Query, Values};
use crate::scan::Options;

/// More rows of a block than one in so many are decoded with the whole block, which is faster than one by one.
const FEW: usize = 8;
/// A search for more than one in so many rows decodes all of them anyway.
const RARE: usize = 64;
/// Sums that are added up side by side.
const LANES: usize = 4;

/// What each entry of a codebook adds to the sums of a row.
#[derive(Debug)]
pub(crate) struct Tables {
    metric: Metric,
    bits: usize,
    entries: usize,
    /// Of each entry its product with the query and its square, or the square of its distance and 0.
    sums: Vec<[f32; 2]>,
    /// The query's length, squared.
    square: f32,
    /// How much larger a score can be than what its sums say, in parts of the largest there can be.
    slack: f32,
    /// That largest one, of inner products.
    largest: f32,
}

impl Tables {
    /// Those of a query, where a search for `k` of so many rows gains from them.
    pub(crate) fn of(
        codebook: &Codebook,
        element: Element,
        query: &Query,
        k: usize,
        rows: usize,
    ) -> Option<Self> {
        let Values::Floats(values) = &query.values else { return None };
        let shape = codebook.shape();
        if k.saturating_mul(RARE) > rows || values.len() != shape.dimensions() {
            return None;
        }
        let read = |value: f32| match element {
            Element::F16 => half::to_f32(half::from_f32(value)),
            _ => value,
        };
        let mut sums = Vec::with_capacity(shape.subvectors * shape.entries());
        let mut longest = 0.0_f32;
        for (part, query_part) in values.chunks_exact(shape.sub_dimensions).enumerate() {
            let mut longest_here = 0.0_f32;
            for entry in codebook.part(part).chunks_exact(shape.sub_dimensions) {
                let pairs = entry.iter().map(|value| read(*value)).zip(query_part);
                let square: f32 = entry.iter().map(|value| read(*value).powi(2)).sum();
                longest_here = longest_here.max(square);
                sums.push(match query.metric {
                    Metric::L2 | Metric::Hamming => [pairs.map(|(a, b)| (a - b) * (a - b)).sum(), 0.0],
                    _ => [pairs.map(|(a, b)| a * b).sum(), square],
                });
            }
            longest += longest_here;
        }
        let square = query.square as f32;
        // Each of the sums, here and where a row is scored, rounds once a term; eight times what that can come to.
        let slack = (shape.dimensions() + shape.subvectors + 16) as f32 * f32::EPSILON * 4.0;
        let largest = longest.sqrt() * square.sqrt();
        let (bits, entries) = (shape.bits, shape.entries());
        Some(Self { metric: query.metric, bits, entries, sums, square, slack, largest })
    }

    /// The rows of a block that may be among the best; none if they are so many that the block had better be decoded whole.
    pub(crate) fn near(
        &self,
        rows: &Range<usize>,
        stored: Rows<'_>,
        best: &Best,
        options: &Options<'_>,
    ) -> Option<Vec<usize>> {
        let most = rows.len() / FEW;
        let mut near = Vec::new();
        for (row, codes) in rows.clone().zip(stored.bytes.chunks(stored.stride)) {
            let bound = self.bound(codes);
            // What overflows is scored with care.
            if (bound.is_finite() && !best.may_take(bound)) || !options.wants(row) {
                continue;
            }
            if near.len() == most {
                return None;
            }
            near.push(row);
        }
        Some(near)
    }

    // A score that a row with these codes does not exceed.
    fn bound(&self, codes: &[u8]) -> f32 {
        let [sum, square] =
            if self.bits == 4 { self.sums_of_halves(codes) } else { self.sums_of_bytes(codes) };
        match self.metric {
            Metric::L2 | Metric::Hamming => -sum * (1.0 - self.slack),
            Metric::InnerProduct => sum + self.slack * self.largest,
            Metric::Cosine if square > 0.0 => cosine(sum, square, self.square) + self.slack,
            Metric::Cosine => f32::INFINITY,
        }
    }

    fn sums_of_bytes(&self, codes: &[u8]) -> [f32; 2] {
        let mut lanes = [[0.0_f32; 2]; LANES];
        let tables = self.sums.chunks_exact(LANES * self.entries);
        let rest = tables.remainder();
        for (some, codes) in tables.zip(codes.chunks_exact(LANES)) {
            for ((lane, table), code) in lanes.iter_mut().zip(some.chunks_exact(self.entries)).zip(codes) {
                add(lane, table[usize::from(*code)]);
            }
        }
        let done = self.sums.len() / self.entries / LANES * LANES;
        for (table, code) in rest.chunks_exact(self.entries).zip(&codes[done..]) {
            add(&mut lanes[0], table[usize::from(*code)]);
        }
        total(lanes)
    }

    fn sums_of_halves(&self, codes: &[u8]) -> [f32; 2] {
        let mut lanes = [[0.0_f32; 2]; LANES];
        for (pair, code) in self.sums.chunks(2 * self.entries).zip(codes) {
            let (first, second) = pair.split_at(self.entries);
            add(&mut lanes[0], first[usize::from(code & 15)]);
            // An odd number of parts ends with half a byte.
            if let Some(entry) = second.get(usize::from(code >> 4)) {
                add(&mut lanes[1], *entry);
            }
        }
        total(lanes)
    }
}

#[inline(always)]
fn add(lane: &mut [f32; 2], entry: [f32; 2]) {
    lane[0] += entry[0];
    lane[1] += entry[1];
}

fn total(lanes: [[f32; 2]; LANES]) -> [f32; 2] {
    lanes.into_iter().fold([0.0; 2], |[a, b], [c, d]| [a + c, b + d])
}
