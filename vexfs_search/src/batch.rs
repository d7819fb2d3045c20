//! The exact answers to many queries at once, and all pairs of near rows.
//!
//! INVARIANT: the answers are those of [`Collection::search`], bit for bit. A block of rows that fits the cache meets
//! all queries, eight rows and a panel of 32 queries at a time; what may be near enough by these products, rounding
//! counted, is scored as a single query would score it.

use std::ops::Range;

use rayon::prelude::*;

use crate::collection::Collection;
use crate::cpu::{self, Cpu, Job};
use crate::decoded;
use crate::kernel::Entry;
use crate::kernel::panel::{Panel, ROWS, WIDTH, eight};
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
        match queries {
            [] => return Vec::new(),
            [query] => return vec![self.search(query, options)],
            _ => {}
        }
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
        let step = (BLOCK_BYTES / self.collection.row_bytes().max(1)).max(ROWS);
        let blocks = self.rows.clone().step_by(step).map(|start| start..(start + step).min(self.rows.end));
        let metric = self.queries.first().map(|query| query.metric);
        let alike = |query: &Query| matches!(query.values, Values::Floats(_)) && Some(query.metric) == metric;
        if self.queries.iter().all(alike) {
            let groups = self.queries.chunks(WIDTH).zip(best.chunks(WIDTH));
            let mut screens: Vec<Screen> = groups.map(|(queries, best)| Screen::new(queries, best)).collect();
            blocks.for_each(|rows| self.screened(cpu, rows, &mut screens, &mut best));
        } else {
            blocks.for_each(|rows| self.one_by_one(cpu, rows, &mut best));
        }
        best
    }
}

impl<'a> Block<'a> {
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
    fn screened<C: Cpu>(&self, cpu: C, rows: Range<usize>, screens: &mut [Screen], best: &mut [Best]) {
        let valid = self.collection.valid();
        let wanted: Vec<(usize, &[u8])> = rows
            .filter(|row| valid[*row] != 0 && self.options.wants(*row))
            .filter_map(|row| Some((row, self.collection.stored(row)?)))
            .collect();
        let mut widened = Vec::new();
        let values: Vec<&[f32]> = match self.collection.schema().element {
            Element::F16 => widen::<C, u16>(cpu, &wanted, &mut widened),
            Element::I8 => widen::<C, i8>(cpu, &wanted, &mut widened),
            Element::I16 => widen::<C, i16>(cpu, &wanted, &mut widened),
            _ => wanted.iter().map(|(_, bytes)| entries(bytes)).collect(),
        };
        let squares: Vec<f32> = values.iter().map(|row| cpu.product(row, row)).collect();
        let groups = screens.iter_mut().zip(self.queries.chunks(WIDTH).zip(best.chunks_mut(WIDTH)));
        for (screen, (queries, best)) in groups {
            for first in (0..wanted.len()).step_by(ROWS) {
                let products = cpu.panel(eight(&values, first), &screen.panel);
                let rows = wanted[first..].iter().zip(&squares[first..]).zip(&products);
                for (((row, bytes), square), products) in rows {
                    if !screen.may_take(*square, products) {
                        continue;
                    }
                    for (number, (query, best)) in queries.iter().zip(&mut *best).enumerate() {
                        if screen.may_take_of(number, *square, products) {
                            self.offer(cpu, query, *row, bytes, best);
                            screen.set(number, query, best);
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

// Rows as floats, in `values`.
#[inline(always)]
fn widen<'v, C: Cpu, T: Entry>(cpu: C, rows: &[(usize, &[u8])], values: &'v mut Vec<f32>) -> Vec<&'v [f32]> {
    let len = rows.first().map_or(0, |(_, bytes)| entries::<T>(bytes).len());
    values.resize(rows.len() * len, 0.0);
    for (values, (_, bytes)) in values.chunks_exact_mut(len.max(1)).zip(rows) {
        cpu.widen(entries::<T>(bytes), values);
    }
    values.chunks_exact(len.max(1)).collect()
}

/// Up to [`WIDTH`] queries of one metric, and from which product on a row may be among the best of each: `constant + factor * x`,
/// where `x` is the row's length, or its square for L2. Rounding is counted, of the product and of the bound.
struct Screen {
    panel: Panel,
    constants: [f32; WIDTH],
    factors: [f32; WIDTH],
    squared: bool,
}

/// Squares of lengths below which, and from which on, products say nothing: terms underflow, or sums overflow.
const SQUARES: Range<f32> = 1e-30..1e30;

impl Screen {
    fn new(queries: &[Query], best: &[Best]) -> Self {
        let panel = Panel::new(&queries.iter().map(floats).collect::<Vec<_>>());
        let squared = queries.iter().any(|query| matches!(query.metric, Metric::L2 | Metric::Hamming));
        // Lanes without a query take nothing, those of no bound everything.
        let mut screen = Self { panel, constants: [f32::INFINITY; WIDTH], factors: [0.0; WIDTH], squared };
        for (number, (query, best)) in queries.iter().zip(best).enumerate() {
            screen.constants[number] = f32::NEG_INFINITY;
            screen.set(number, query, best);
        }
        screen
    }

    /// Takes over what a query's best asks of a row.
    #[inline(always)]
    fn set(&mut self, number: usize, query: &Query, best: &Best) {
        let (least, square) = (best.least(), query.square as f32);
        if !least.is_finite() || !SQUARES.contains(&square) {
            return;
        }
        // A sum of `len` terms in any order is off by less than `len` roundings of the sum of their sizes, which is at most
        // the product of the lengths; some more for the score itself and for this bound.
        let rounding = (floats(query).len() as f32 + 16.0) * f32::EPSILON;
        let length = square.sqrt();
        (self.constants[number], self.factors[number]) = match query.metric {
            Metric::InnerProduct => (least - least.abs() * rounding, -rounding * length),
            Metric::Cosine => (0.0, (least - 2.0 * rounding) * length),
            Metric::L2 | Metric::Hamming => {
                let least = least - least.abs() * rounding;
                ((least + square) / 2.0 - rounding * square, 0.5 - rounding)
            }
        };
    }

    /// False if the row is among the best of no query.
    #[inline(always)]
    fn may_take(&self, square: f32, products: &[f32; WIDTH]) -> bool {
        let x = self.x(square);
        let bounds = self.constants.iter().zip(&self.factors).map(|(constant, factor)| constant + factor * x);
        let below = |(product, bound): (&f32, f32)| *product < bound;
        // Not short-circuited: 32 comparisons at once.
        !products.iter().zip(bounds).map(below).fold(true, |all, below| all & below)
            || !SQUARES.contains(&square)
    }

    /// False if the row is not among the best of this query.
    #[inline(always)]
    fn may_take_of(&self, number: usize, square: f32, products: &[f32; WIDTH]) -> bool {
        let bound = self.constants[number] + self.factors[number] * self.x(square);
        // Not a number: nothing is known.
        let below = products[number] < bound;
        !below || !SQUARES.contains(&square)
    }

    #[inline(always)]
    fn x(&self, square: f32) -> f32 {
        if self.squared { square } else { square.sqrt() }
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

struct One<'a>(&'a [u8]);

impl Visitor for One<'_> {
    type Output = f32;

    #[inline(always)]
    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) -> f32 {
        score(self.0)
    }
}
