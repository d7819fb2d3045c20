//! The exact answers to many queries at once, and all pairs of near rows.
//!
//! INVARIANT: the answers are those of [`Collection::search`], bit for bit. A block of rows that fits the cache meets
//! all queries in tiles of four by four; what may be near enough by the tile's sums, rounding counted, is scored as a
//! single query would score it.

use std::ops::Range;

use rayon::prelude::*;

use crate::collection::Collection;
use crate::cpu::{self, Cpu, Job};
use crate::decoded;
use crate::kernel::Entry;
use crate::metric::{Element, Metric};
use crate::nearest::{Best, Hit};
use crate::query::{Query, Values};
use crate::scan::{Options, Rows, Visitor, careful, entries, parts, with_scorer, with_threads};

/// Bytes of rows that meet all queries before the next.
const BLOCK_BYTES: usize = 128 << 10;
/// Rows that are compared with all later ones at once.
const PAIR_ROWS: usize = 64;

/// Two rows that are near to each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The lower row.
    pub row: u64,
    /// The higher row.
    pub other: u64,
    /// Higher is nearer.
    pub score: f32,
}

impl Collection {
    /// The nearest rows of each query: what [`search`](Self::search) gives for each alone, several times faster.
    pub fn search_all(&self, queries: &[Query], options: Options<'_>) -> Vec<Vec<Hit>> {
        if let Some(decoded) = self.in_memory() {
            return decoded.search_all(queries, options);
        }
        let none = || vec![Best::new(options.k, options.min_score); queries.len()];
        let scan = |rows| cpu::best(Block { collection: self, queries, rows, options });
        let merge = |a: Vec<Best>, b: Vec<Best>| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect();
        let parts = parts(self.rows(), self.row_bytes(), options.threads);
        let found: Vec<Best> =
            with_threads(options.threads, || parts.into_par_iter().map(scan).reduce(none, merge));
        found.into_iter().map(Best::into_sorted).collect()
    }

    /// All pairs of live rows with at least this score, best first. Compares every row with every other.
    pub fn pairs(&self, metric: Metric, options: Options<'_>) -> Vec<Pair> {
        if let Some(decoded) = self.in_memory() {
            return decoded.pairs(metric, options);
        }
        let starts: Vec<usize> = (0..self.rows()).step_by(PAIR_ROWS).collect();
        let part = |start: usize| {
            let rows = start..(start + PAIR_ROWS).min(self.rows());
            let query = |row: usize| {
                let wanted = self.is_live(row) && options.wants(row);
                let query = Query::from_bytes(self, self.stored(row).filter(|_| wanted)?, metric);
                // A row that was freed just now is NaN, and no query.
                Some((row as u64, query.ok()?))
            };
            let (rows_of, queries): (Vec<u64>, Vec<Query>) = rows.filter_map(query).unzip();
            let options = Options { k: usize::MAX, ..options };
            let later = start..self.rows();
            let found = cpu::best(Block { collection: self, queries: &queries, rows: later, options });
            let pairs = rows_of.into_iter().zip(found).flat_map(|(row, best)| {
                let later = best.into_sorted().into_iter().filter(move |hit| hit.row > row);
                later.map(move |hit| Pair { row, other: hit.row, score: hit.score })
            });
            pairs.collect::<Vec<_>>()
        };
        let mut pairs: Vec<Pair> =
            with_threads(options.threads, || starts.into_par_iter().flat_map_iter(part).collect());
        pairs.sort_by(|a, b| b.score.total_cmp(&a.score).then((a.row, a.other).cmp(&(b.row, b.other))));
        pairs.truncate(options.k);
        pairs
    }
}

struct Block<'a> {
    collection: &'a Collection,
    queries: &'a [Query],
    rows: Range<usize>,
    options: Options<'a>,
}

impl Job for Block<'_> {
    type Output = Vec<Best>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<Best> {
        let mut best = vec![Best::new(self.options.k, self.options.min_score); self.queries.len()];
        if self.queries.is_empty() {
            return best;
        }
        let step = (BLOCK_BYTES / self.collection.row_bytes().max(1)).max(4);
        let all_floats = self.queries.iter().all(|query| matches!(query.values, Values::Floats(_)));
        for start in self.rows.clone().step_by(step) {
            let rows = start..(start + step).min(self.rows.end);
            match self.collection.schema().element {
                _ if !all_floats => self.one_by_one(cpu, rows, &mut best),
                Element::F16 => self.tiles::<C, u16>(cpu, rows, &mut best),
                Element::I8 => self.tiles::<C, i8>(cpu, rows, &mut best),
                Element::I16 => self.tiles::<C, i16>(cpu, rows, &mut best),
                _ => self.tiles::<C, f32>(cpu, rows, &mut best),
            }
        }
        best
    }
}

impl Block<'_> {
    #[inline(always)]
    fn one_by_one<C: Cpu>(&self, cpu: C, rows: Range<usize>, best: &mut [Best]) {
        let element = self.collection.schema().element;
        let Block { collection, options, .. } = *self;
        for (query, best) in self.queries.iter().zip(best) {
            // In memory: nothing is decoded.
            let mut none = decoded::Block::default();
            let window = collection.window(rows.clone(), &mut none);
            let so_far = std::mem::replace(best, Best::new(0, 0.0));
            let rows = Rows { cpu, collection, query, window, options, best: so_far };
            *best = with_scorer(cpu, query, element, rows);
        }
    }

    #[inline(always)]
    fn tiles<C: Cpu, T: Entry>(&self, cpu: C, rows: Range<usize>, best: &mut [Best]) {
        let valid = self.collection.valid();
        let mut live = rows.filter(|row| valid[*row] != 0 && self.options.wants(*row)).peekable();
        while let Some(first) = live.next() {
            // The last tile is filled up with copies, which are not offered.
            let mut rows = [first; 4];
            let mut count = 1;
            while let (true, Some(row)) = (count < 4, live.peek()) {
                rows[count] = *row;
                count += 1;
                live.next();
            }
            let bytes = rows.map(|row| self.collection.stored(row).unwrap_or_default());
            let values = bytes.map(entries::<T>);
            let squares = values.map(|row| cpu.product_square(row, floats(&self.queries[0]))[1]);
            for (group, best) in self.queries.chunks(4).zip(best.chunks_mut(4)) {
                let queries = [0, 1, 2, 3].map(|index| floats(&group[index.min(group.len() - 1)]));
                let products = cpu.tile(values, queries);
                for (index, products) in products.iter().enumerate().take(count) {
                    for ((query, best), product) in group.iter().zip(&mut *best).zip(products) {
                        if best.may_take(most(query, *product, squares[index], values[index].len())) {
                            self.offer(cpu, query, rows[index], bytes[index], best);
                        }
                    }
                }
            }
        }
    }

    #[inline]
    fn offer<C: Cpu>(&self, cpu: C, query: &Query, row: usize, bytes: &[u8], best: &mut Best) {
        let element = self.collection.schema().element;
        let score = with_scorer(cpu, query, element, One(bytes));
        let hit = Hit { row: row as u64, score };
        best.offer(if score.is_finite() { hit } else { careful(self.collection, query, row) });
    }
}

// The values of a query that is known to be of floats.
#[inline(always)]
fn floats(query: &Query) -> &[f32] {
    match &query.values {
        Values::Floats(values) => values,
        _ => &[],
    }
}

// The highest score that a row can have, given its product with the query as a tile added it up. Not a number means
// that nothing is known.
#[inline(always)]
fn most(query: &Query, product: f32, square: f32, len: usize) -> f32 {
    // Sixteen sums, or eight, of len / 8 terms at most, each rounded to 24 bits; twice that to be sure.
    let rounding = (len as f32 / 8.0 + 16.0) * f32::EPSILON;
    let (own, other) = (square, query.square as f32);
    let lengths = own.sqrt() * other.sqrt();
    let score = match query.metric {
        Metric::InnerProduct => product + rounding * lengths,
        Metric::Cosine if lengths > 0.0 => product / lengths + 2.0 * rounding,
        Metric::Cosine => f32::INFINITY,
        Metric::L2 | Metric::Hamming => 2.0 * product - own - other + 2.0 * rounding * (own + other),
    };
    if score.is_finite() { score } else { f32::INFINITY }
}

struct One<'a>(&'a [u8]);

impl Visitor for One<'_> {
    type Output = f32;

    #[inline(always)]
    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) -> f32 {
        score(self.0)
    }
}
