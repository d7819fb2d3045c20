//! Rows in memory as a volume stores them, scored: for a host that reads the matrix from its own disk.
//!
//! INVARIANT: a row has the score that a search of the collection's files gives it. Nothing here knows which rows are live:
//! the caller says which to score, and what their scales are.

use zerocopy::IntoBytes;

use crate::codec::{Coder, Rows};
use crate::cpu::{self, Cpu, Job};
use crate::half;
use crate::metric::Element;
use crate::query::Query;
use crate::scan::{Visitor, with_scorer};

/// Bytes of vectors that are decoded at once.
const DECODED_BYTES: usize = 1 << 20;

/// Rows that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Portion<'a> {
    /// Element type of the vectors.
    pub element: Element,
    /// How rows stand for them.
    pub coder: &'a Coder,
    /// Dimensions, not 0; of a codebook, those that it is of.
    pub dimensions: usize,
    /// The rows. They are read faster where they are aligned as their entries are.
    pub rows: Rows<'a>,
}

/// A row of a [`Portion`] to be scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    /// Which one, from 0.
    pub index: usize,
    /// Its scale, of codecs that have one.
    pub scale: f32,
}

impl Portion<'_> {
    /// The score of each of the rows, which ascend; NaN for one that is not there as a whole, or whose scale cannot be one.
    ///
    /// ```
    /// # use vexfs_search::codec::{Codec, Coder, Rows};
    /// # use vexfs_search::portion::{Portion, Wanted};
    /// # use vexfs_search::{Element, Metric, Query};
    /// let query = Query::of(Element::I8, 4, &[1.0, 0.0, 0.0, 0.0], Metric::InnerProduct)?;
    /// let rows = Rows { bytes: &[5, 0, 0, 0, 7, 1, 1, 1], stride: 4 };
    /// let portion = Portion { element: Element::I8, coder: &Coder::Plain(Codec::None), dimensions: 4, rows };
    /// let wanted = [0, 1].map(|index| Wanted { index, scale: 0.0 });
    /// assert_eq!(portion.scores(&query, &wanted), [5.0, 7.0]);
    /// # Ok::<(), vexfs_search::Error>(())
    /// ```
    pub fn scores(&self, query: &Query, wanted: &[Wanted]) -> Vec<f32> {
        let mut scores = vec![f32::NAN; wanted.len()];
        let len = match self.coder.is_none() {
            true => self.element.bytes(self.dimensions),
            false => self.coder.stored_len(self.dimensions),
        };
        let stride = self.rows.stride.max(len);
        // Only whole rows.
        let count = (self.rows.bytes.len() + stride - len) / stride.max(1);
        let whole = wanted.partition_point(|wanted| wanted.index < count);
        let (wanted, scores_of) = (&wanted[..whole], &mut scores[..whole]);
        if self.coder.is_none() {
            let rows = Vectors { query, element: self.element, bytes: self.rows.bytes, stride, len };
            rows.score(0, wanted, scores_of);
        } else {
            self.decoded(query, wanted, scores_of, stride);
        }
        scores
    }

    // The same of rows of a codec, some of them at a time.
    fn decoded(&self, query: &Query, wanted: &[Wanted], scores: &mut [f32], stride: usize) {
        let stored = self.coder.stored_len(self.dimensions);
        let step = (DECODED_BYTES / (self.dimensions * size_of::<f32>())).max(1);
        let mut values = Vec::new();
        let mut done = 0;
        while let Some(first) = wanted.get(done).map(|wanted| wanted.index) {
            let count = wanted[done..].partition_point(|wanted| wanted.index < first + step);
            let (some, to) = (&wanted[done..done + count], &mut scores[done..done + count]);
            let rows = some[count - 1].index + 1 - first;
            let mut scales = vec![0.0; rows];
            for wanted in some.iter().filter(|wanted| possible(wanted.scale)) {
                scales[wanted.index - first] = wanted.scale;
            }
            values.resize(rows * self.dimensions, 0.0);
            let bytes = &self.rows.bytes[first * stride..(first + rows - 1) * stride + stored];
            let decoded = Rows { bytes, stride };
            if self.coder.decode(decoded, &scales, self.dimensions, &mut values).is_ok() {
                self.score_values(query, first, &values, some, to);
            }
            if self.coder.has_scale() {
                let odd = some.iter().zip(to).filter(|(wanted, _)| !possible(wanted.scale));
                odd.for_each(|(_, score)| *score = f32::NAN);
            }
            done += count;
        }
    }

    // Scores vectors as their attributes read.
    fn score_values(&self, query: &Query, first: usize, values: &[f32], some: &[Wanted], to: &mut [f32]) {
        let halves: Vec<u16>;
        let bytes = match self.element {
            Element::F16 => {
                halves = values.iter().map(|value| half::from_f32(*value)).collect();
                halves.as_bytes()
            }
            _ => values.as_bytes(),
        };
        let len = self.element.bytes(self.dimensions);
        Vectors { query, element: self.element, bytes, stride: len, len }.score(first, some, to);
    }
}

// True for what can be the scale of a row.
fn possible(scale: f32) -> bool {
    scale.is_finite() && scale >= 0.0
}

/// Whole vectors, every `stride` bytes one.
#[derive(Clone, Copy)]
struct Vectors<'a> {
    query: &'a Query,
    element: Element,
    bytes: &'a [u8],
    stride: usize,
    len: usize,
}

impl Vectors<'_> {
    fn score(self, first: usize, wanted: &[Wanted], scores: &mut [f32]) {
        let width = self.element.width();
        if self.bytes.as_ptr().addr().is_multiple_of(width) && self.stride.is_multiple_of(width) {
            cpu::best(Scores { vectors: self, first, wanted, scores });
            return;
        }
        for (wanted, score) in wanted.iter().zip(scores) {
            *score = self.query.careful(self.element, self.row(wanted.index - first)) as f32;
        }
    }

    #[inline(always)]
    fn row(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.stride..][..self.len]
    }
}

struct Scores<'a> {
    vectors: Vectors<'a>,
    first: usize,
    wanted: &'a [Wanted],
    scores: &'a mut [f32],
}

impl Job for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) {
        with_scorer(cpu, self.vectors.query, self.vectors.element, self);
    }
}

impl Visitor for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) {
        let Self { vectors, first, wanted, scores } = self;
        for (wanted, to) in wanted.iter().zip(scores) {
            let row = vectors.row(wanted.index - first);
            *to = score(row);
            if !to.is_finite() {
                *to = vectors.query.careful(vectors.element, row) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;
    use crate::codec::pq::{Codebook, Shape};
    use crate::codec::{self, Codec};

    const NONE: Coder = Coder::Plain(Codec::None);

    const DIMENSIONS: usize = 24;

    fn values(row: usize) -> Vec<f32> {
        (0..DIMENSIONS).map(|column| ((row * 31 + column * 7) % 19) as f32 / 9.0 - 1.0).collect()
    }

    fn all(count: usize) -> Vec<Wanted> {
        (0..count).map(|index| Wanted { index, scale: 0.0 }).collect()
    }

    #[test]
    fn every_codec_is_scored_as_what_it_decodes_to() {
        let codecs = [Codec::F16, Codec::Sq8, Codec::Sq4, Codec::Binary].map(Coder::Plain);
        let shape = Shape { subvectors: 8, sub_dimensions: 3, bits: 4 };
        let codebook = Codebook::new(shape, (0..16).flat_map(values).collect()).unwrap();
        for coder in codecs.into_iter().chain([Coder::Quantized(codebook.into())]) {
            let vectors: Vec<f32> = (0..300).flat_map(values).collect();
            let (mut bytes, mut scales) = (vec![0; 300 * 64], vec![0.0; 300]);
            match &coder {
                Coder::Plain(codec) => {
                    codec::encode(*codec, &vectors, DIMENSIONS, &mut bytes, 64, &mut scales).unwrap();
                }
                Coder::Quantized(codebook) => codebook.encode(&vectors, &mut bytes, 64),
            }
            let rows = Rows { bytes: &bytes, stride: 64 };
            let mut decoded = vec![0.0; vectors.len()];
            coder.decode(rows, &scales, DIMENSIONS, &mut decoded).unwrap();
            let query = Query::of(Element::F32, DIMENSIONS, &values(7), Metric::Cosine).unwrap();
            let portion = Portion { element: Element::F32, coder: &coder, dimensions: DIMENSIONS, rows };
            let wanted: Vec<Wanted> =
                (0..300).step_by(3).map(|index| Wanted { index, scale: scales[index] }).collect();
            for (wanted, score) in wanted.iter().zip(portion.scores(&query, &wanted)) {
                let row = &decoded[wanted.index * DIMENSIONS..][..DIMENSIONS];
                let expected = query.careful(Element::F32, row.as_bytes());
                assert!(
                    (f64::from(score) - expected).abs() < 1e-6,
                    "{} {wanted:?}: {score} {expected}",
                    coder.name()
                );
            }
        }
    }

    #[test]
    fn odd_scales_missing_rows_and_odd_places_are_no_panic() {
        let query = Query::of(Element::F32, DIMENSIONS, &values(1), Metric::L2).unwrap();
        let bytes = [0; 64 * 3 + 5];
        let portion = |coder, bytes| {
            let rows = Rows { bytes, stride: 64 };
            Portion { element: Element::F32, coder, dimensions: DIMENSIONS, rows }
        };
        let mut wanted = all(5);
        wanted[1].scale = f32::NAN;
        wanted[2].scale = -1.0;
        let scores = portion(&Coder::Plain(Codec::Sq8), &bytes[1..]).scores(&query, &wanted);
        assert_eq!(
            scores.iter().map(|score| score.is_nan()).collect::<Vec<_>>(),
            [false, true, true, true, true]
        );
        let whole: Vec<f32> = (0..3).flat_map(values).collect();
        for shift in 0..4 {
            let bytes = [&vec![0; shift][..], whole.as_bytes()].concat();
            let rows = Rows { bytes: &bytes[shift..], stride: DIMENSIONS * 4 };
            let portion = Portion { element: Element::F32, coder: &NONE, dimensions: DIMENSIONS, rows };
            let scores = portion.scores(&query, &all(3));
            assert!(scores[1] == 0.0 && scores[0] < 0.0 && scores[2] < 0.0, "{scores:?}");
        }
    }

    #[test]
    fn what_overflows_is_reckoned_again() {
        let large = vec![1e20_f32; DIMENSIONS];
        let query = Query::of(Element::F32, DIMENSIONS, &large, Metric::Cosine).unwrap();
        let rows = Rows { bytes: large.as_bytes(), stride: DIMENSIONS * 4 };
        let portion = Portion { element: Element::F32, coder: &NONE, dimensions: DIMENSIONS, rows };
        assert!((portion.scores(&query, &all(1))[0] - 1.0).abs() < 1e-6);
    }
}
