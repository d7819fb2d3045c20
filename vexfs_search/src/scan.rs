//! The exact answer to one query: every live row, the best k of them.
//!
//! INVARIANT: exactly `min(k, rows that match)` rows are found, whatever the filter. The rows are read once, in their
//! order, each asked for a few kibibytes ahead, so that a scan runs at the memory's speed.

use std::ops::Range;

use rayon::prelude::*;
use zerocopy::FromBytes;

use crate::adc::Tables;
use crate::collection::{Collection, Window};
use crate::cpu::{self, Cpu, Job};
use crate::decoded::Block;
use crate::kernel::Entry;
use crate::metric::{Element, Metric, cosine};
use crate::nearest::{Best, Hit, RowSet};
use crate::query::{Query, Values};

/// What to look for.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// How many rows; `usize::MAX` for all that match.
    pub k: usize,
    /// The least score that counts.
    pub min_score: f32,
    /// The rows to look at; all of them without it.
    pub rows: Option<&'a RowSet>,
    /// Threads; 0 for as many as there are cores.
    pub threads: usize,
}

impl Options<'_> {
    /// The `k` nearest of all rows.
    pub const fn nearest(k: usize) -> Self {
        Self { k, min_score: f32::NEG_INFINITY, rows: None, threads: 0 }
    }

    /// True if the set of rows, if there is one, has this one.
    #[inline(always)]
    pub(crate) fn wants(&self, row: usize) -> bool {
        self.rows.is_none_or(|set| set.contains(row))
    }
}

/// How far ahead of the row at work the next are asked for.
const AHEAD_BYTES: usize = 4096;
/// Below this a thread costs more than it saves.
const PART_BYTES_MIN: usize = 1 << 20;

impl Collection {
    /// The nearest live rows, nearest first; of equally near ones, the lower row.
    ///
    /// ```
    /// # use vexfs_search::{Collection, Metric, Options, Query};
    /// # fn search(directory: &std::path::Path) -> vexfs_search::Result<()> {
    /// let collection = Collection::open(directory)?;
    /// let query = Query::new(&collection, &[0.1; 384], Metric::Cosine)?;
    /// for hit in collection.search(&query, Options::nearest(10)) {
    ///     println!("row {}: {}", hit.row, hit.score);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn search(&self, query: &Query, options: Options<'_>) -> Vec<Hit> {
        let rows = self.rows();
        let parts = parts(rows, self.row_bytes(), options.threads);
        let tables = self
            .quantized()
            .and_then(|(_, codebook)| Tables::of(codebook, self.schema().element, query, options.k, rows));
        let tables = tables.as_ref();
        let scan = |rows: Range<usize>| cpu::best(Scan { collection: self, query, rows, options, tables });
        let best = match parts.as_slice() {
            [] => Best::new(options.k, options.min_score),
            [one] => scan(one.clone()),
            _ => {
                let none = || Best::new(options.k, options.min_score);
                with_threads(options.threads, || parts.into_par_iter().map(scan).reduce(none, Best::merge))
            }
        };
        best.into_sorted()
    }
}

/// The rows in parts for threads to share; one part for one thread.
pub(crate) fn parts(rows: usize, row_bytes: usize, threads: usize) -> Vec<Range<usize>> {
    let threads = if threads == 0 { rayon::current_num_threads() } else { threads };
    let most = rows.saturating_mul(row_bytes) / PART_BYTES_MIN + 1;
    let count = if threads == 1 { 1 } else { most.min(threads * 8) };
    let step = rows.div_ceil(count).max(1);
    (0..rows).step_by(step).map(|start| start..(start + step).min(rows)).collect()
}

/// Runs the work on so many threads; on the common pool if the number is 0, or no other can be made.
pub(crate) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    if threads == 0 {
        return work();
    }
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

/// Some of the rows.
pub(crate) struct Scan<'a> {
    pub(crate) collection: &'a Collection,
    pub(crate) query: &'a Query,
    pub(crate) rows: Range<usize>,
    pub(crate) options: Options<'a>,
    /// What rules out rows of a codebook.
    pub(crate) tables: Option<&'a Tables>,
}

impl Job for Scan<'_> {
    type Output = Best;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Best {
        let Scan { collection, query, rows, options, tables } = self;
        let element = collection.schema().element;
        let mut best = Best::new(options.k, options.min_score);
        let mut block = Block::default();
        for rows in collection.windows(rows) {
            let near = tables.zip(collection.quantized()).and_then(|(tables, (decoded, _))| {
                tables.near(&rows, decoded.stored(rows.clone()), &best, &options)
            });
            if let Some(near) = near {
                for row in near {
                    let window = collection.window(row..row + 1, &mut block);
                    let rows = Rows { cpu, collection, query, window, options, best };
                    best = with_scorer(cpu, query, element, rows);
                }
                continue;
            }
            let window = collection.window(rows, &mut block);
            best = with_scorer(cpu, query, element, Rows { cpu, collection, query, window, options, best });
        }
        best
    }
}

/// What is compiled once for every way to score a row.
pub(crate) trait Visitor {
    type Output;

    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) -> Self::Output;
}

/// Scores rows into `best`.
pub(crate) struct Rows<'a, C> {
    pub(crate) cpu: C,
    pub(crate) collection: &'a Collection,
    pub(crate) query: &'a Query,
    pub(crate) window: Window<'a>,
    pub(crate) options: Options<'a>,
    pub(crate) best: Best,
}

impl<C: Cpu> Visitor for Rows<'_, C> {
    type Output = Best;

    #[inline(always)]
    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) -> Best {
        let Self { cpu, collection, query, window, options, mut best } = self;
        let Window { first, matrix, valid } = window;
        let (stride, len) = (collection.row_bytes(), collection.schema().vector_len());
        for (index, valid) in valid.iter().enumerate() {
            let (row, at) = (first + index, index * stride);
            for line in (0..stride).step_by(64) {
                cpu.prefetch(matrix, at + AHEAD_BYTES + line);
            }
            if *valid == 0 || !options.wants(row) {
                continue;
            }
            let bytes = &matrix[at..at + len];
            let score = score(bytes);
            let finite = score.is_finite();
            if best.may_take(score) || !finite {
                best.offer(if finite {
                    Hit { row: row as u64, score }
                } else {
                    careful(collection, query, row)
                });
            }
        }
        best
    }
}

/// The hit of a row whose sums overflow. A row that is freed at this moment may be NaN, which is no hit.
#[cold]
pub(crate) fn careful(collection: &Collection, query: &Query, row: usize) -> Hit {
    let bytes = collection.vector(row).unwrap_or_default();
    Hit { row: row as u64, score: query.careful(collection.schema().element, &bytes) as f32 }
}

/// Chooses once how rows are scored, and visits with that.
#[inline(always)]
pub(crate) fn with_scorer<C: Cpu, V: Visitor>(
    cpu: C,
    query: &Query,
    element: Element,
    visitor: V,
) -> V::Output {
    let (metric, square) = (query.metric, query.square);
    match (&query.values, element) {
        (Values::Bits(values), _) => bits(cpu, metric, values, square, visitor),
        (Values::Bytes(values), _) => whole(metric, square, visitor, |row| cpu.bytes(entries(row), values)),
        (Values::Shorts(values), _) => whole(metric, square, visitor, |row| cpu.shorts(entries(row), values)),
        (Values::Floats(values), Element::F16) => floats::<C, u16, V>(cpu, metric, values, square, visitor),
        (Values::Floats(values), Element::I8) => floats::<C, i8, V>(cpu, metric, values, square, visitor),
        (Values::Floats(values), Element::I16) => floats::<C, i16, V>(cpu, metric, values, square, visitor),
        (Values::Floats(values), _) => floats::<C, f32, V>(cpu, metric, values, square, visitor),
    }
}

// A row's bytes as its entries; rows are aligned, `Collection::open` sees to it.
#[inline(always)]
pub(crate) fn entries<T: FromBytes + zerocopy::Immutable>(row: &[u8]) -> &[T] {
    <[T]>::ref_from_bytes(row).unwrap_or_default()
}

#[inline(always)]
fn floats<C: Cpu, T: Entry, V: Visitor>(
    cpu: C,
    metric: Metric,
    query: &[f32],
    square: f64,
    visitor: V,
) -> V::Output {
    match metric {
        Metric::InnerProduct => visitor.visit(|row| cpu.product::<T>(entries(row), query)),
        Metric::L2 | Metric::Hamming => visitor.visit(|row| 0.0 - cpu.difference::<T>(entries(row), query)),
        Metric::Cosine => visitor.visit(|row| {
            let [product, own] = cpu.product_square::<T>(entries(row), query);
            cosine(product, own, square as f32)
        }),
    }
}

#[inline(always)]
fn whole<V: Visitor>(
    metric: Metric,
    square: f64,
    visitor: V,
    sums: impl Fn(&[u8]) -> [i64; 2] + Copy,
) -> V::Output {
    match metric {
        Metric::InnerProduct => visitor.visit(|row| sums(row)[0] as f32),
        Metric::L2 | Metric::Hamming => {
            // Exact until the end: below 2^53 a double holds every whole number.
            visitor.visit(|row| {
                let [product, own] = sums(row);
                0.0 - (own as f64 + square - 2.0 * product as f64) as f32
            })
        }
        Metric::Cosine => visitor.visit(|row| {
            let [product, own] = sums(row);
            cosine(product as f32, own as f32, square as f32)
        }),
    }
}

#[inline(always)]
fn bits<C: Cpu, V: Visitor>(cpu: C, metric: Metric, query: &[u8], square: f64, visitor: V) -> V::Output {
    match metric {
        Metric::InnerProduct => visitor.visit(|row| cpu.bits_common(row, query)[0] as f32),
        Metric::L2 | Metric::Hamming => visitor.visit(|row| 0.0 - cpu.bits_different(row, query) as f32),
        Metric::Cosine => visitor.visit(|row| {
            let [both, own] = cpu.bits_common(row, query);
            cosine(both as f32, own as f32, square as f32)
        }),
    }
}
