//! A query against the index: leaves by their centres, candidates by their codes, answers by their whole vectors.

use std::borrow::Cow;

use crate::clustered::codes::{BLOCK, Tables};
use crate::clustered::{ClusteredIndex, Leaf};
use crate::cpu::{self, Cpu, Job};
use crate::error::{Error, Result};
use crate::metric::{Metric, cosine};
use crate::nearest::{Best, Hit};
use crate::warmth::Ahead;

/// Whole vectors that are asked for ahead of the one at work.
const AHEAD: usize = 4;

impl ClusteredIndex {
    /// The `k` nearest rows among the best `k * rerank_factor` candidates of the `probes` leaves nearest to the query;
    /// best first. Scores are exact, as of [`Collection::search`](crate::Collection::search). If the leaves hold fewer
    /// than `k` rows, more are probed: there are always `min(k, rows)` answers.
    ///
    /// # Errors
    /// Another number of dimensions, a value that is not finite, or 0 for one of the numbers.
    pub fn search(&self, query: &[f32], k: usize, probes: usize, rerank_factor: usize) -> Result<Vec<Hit>> {
        if k == 0 || probes == 0 || rerank_factor == 0 {
            return Err(Error::Query("k, probes and the rerank factor are 1 or more".into()));
        }
        if self.is_empty() {
            return Ok(Vec::new());
        }
        self.check(query)?;
        let turned = self.turned(query).map_err(|_| Error::Query("the query is not finite".into()))?;
        let tables = Tables::new(&turned);
        let (count, wanted) = (k.saturating_mul(rerank_factor), k.min(self.len()));
        let probe = Probe { source: self, turned: &turned, tables: &tables, probes, count, wanted };
        let (candidates, _) = cpu::best(probe)?;
        Ok(cpu::best(Rerank { index: self, query, candidates: &candidates, k }))
    }
}

/// Where a search finds leaves.
pub(crate) trait Source {
    /// How near is measured.
    fn metric(&self) -> Metric;

    /// Dimensions of a centre.
    fn dimensions(&self) -> usize;

    /// The rotated centres, one behind the other, and their squared lengths.
    fn centres(&self) -> (&[f32], &[f32]);

    /// What asks for leaves ahead, if they are in a file.
    fn ahead(&self) -> Ahead<'_> {
        Ahead::default()
    }

    /// Where in the file a leaf is, and its length.
    fn place(&self, _leaf: usize) -> Option<(u64, usize)> {
        None
    }

    /// A leaf.
    fn leaf(&self, number: usize) -> Result<Cow<'_, Leaf>>;

    /// True if any row of a leaf may be found.
    fn wants_all(&self) -> bool;

    /// True if this row may be found.
    fn wants(&self, row: u32) -> bool;
}

impl Source for ClusteredIndex {
    fn metric(&self) -> Metric {
        self.metric
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn centres(&self) -> (&[f32], &[f32]) {
        (&self.centres, &self.squares)
    }

    #[inline(always)]
    fn leaf(&self, number: usize) -> Result<Cow<'_, Leaf>> {
        Ok(Cow::Borrowed(&self.leaves[number]))
    }

    #[inline(always)]
    fn wants_all(&self) -> bool {
        self.removed.is_empty()
    }

    #[inline(always)]
    fn wants(&self, row: u32) -> bool {
        !self.removed.contains(row as usize)
    }
}

/// Finds the best `count` candidates of the nearest `probes` leaves, and of more until `wanted` rows were seen; gives
/// how many leaves that took.
pub(crate) struct Probe<'a, S> {
    pub(crate) source: &'a S,
    /// The query in the index's space.
    pub(crate) turned: &'a [f32],
    pub(crate) tables: &'a Tables,
    pub(crate) probes: usize,
    pub(crate) count: usize,
    pub(crate) wanted: usize,
}

/// A leaf with the query's product with its centre.
#[derive(Clone, Copy)]
struct Near {
    rank: f32,
    product: f32,
    leaf: usize,
}

impl<S: Source> Job for Probe<'_, S> {
    type Output = Result<(Vec<Hit>, usize)>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Self::Output {
        let mut leaves = self.rank(cpu);
        let probes = self.probes.clamp(1, leaves.len().max(1));
        let nearest_first = |a: &Near, b: &Near| b.rank.total_cmp(&a.rank);
        if probes < leaves.len() {
            leaves.select_nth_unstable_by(probes - 1, nearest_first);
        }
        // The nearest first: what cannot be a candidate any more is then known early.
        let nearest = probes.min(leaves.len());
        leaves[..nearest].sort_unstable_by(nearest_first);
        let mut ahead = self.source.ahead();
        let mut candidates = Candidates::new(self.count);
        let mut seen = 0;
        for number in 0..leaves.len() {
            if number >= probes {
                if seen >= self.wanted {
                    return Ok((candidates.into_best(), number));
                }
                // The first held too little: the nearest of the others.
                leaves[number..].select_nth_unstable_by(0, nearest_first);
            }
            let near = leaves[number];
            ahead.come(number, nearest, |number| self.source.place(leaves[number].leaf));
            let leaf = self.source.leaf(near.leaf)?;
            seen += match self.source.wants_all() {
                true => leaf.rows.len(),
                false => leaf.rows.iter().filter(|row| self.source.wants(**row)).count(),
            };
            self.scan(cpu, &leaf, near.product, &mut candidates);
        }
        Ok((candidates.into_best(), leaves.len()))
    }
}

/// The best so many by their estimated scores; which of equal ones is open.
struct Candidates {
    hits: Vec<Hit>,
    count: usize,
    least: f32,
}

impl Candidates {
    fn new(count: usize) -> Self {
        Self { hits: Vec::new(), count, least: f32::NEG_INFINITY }
    }

    #[inline(always)]
    fn offer(&mut self, hit: Hit) {
        if hit.score >= self.least {
            self.hits.push(hit);
            if self.hits.len() >= self.count.saturating_mul(2).max(64) {
                self.prune();
            }
        }
    }

    // Twice as many as are kept: so a prune costs a constant a candidate.
    #[inline(never)]
    fn prune(&mut self) {
        if self.hits.len() > self.count {
            let (_, worst, _) = self.hits.select_nth_unstable(self.count - 1);
            self.least = worst.score;
            self.hits.truncate(self.count);
        }
    }

    fn into_best(mut self) -> Vec<Hit> {
        self.prune();
        self.hits
    }
}

impl<S: Source> Probe<'_, S> {
    // How near each leaf is.
    #[inline(always)]
    fn rank<C: Cpu>(&self, cpu: C) -> Vec<Near> {
        let (centres, squares) = self.source.centres();
        let inner = self.source.metric() == Metric::InnerProduct;
        let near = |(leaf, (centre, square)): (usize, (&[f32], &f32))| {
            let product = cpu.product(centre, self.turned);
            let rank = if inner { product } else { 2.0 * product - square };
            Near { rank, product, leaf }
        };
        centres.chunks_exact(self.source.dimensions().max(1)).zip(squares).enumerate().map(near).collect()
    }

    // Offers the leaf's rows with their estimated scores.
    #[inline(always)]
    fn scan<C: Cpu>(&self, cpu: C, leaf: &Leaf, product: f32, candidates: &mut Candidates) {
        let (unit, base) = (self.tables.unit, self.tables.base);
        for (number, (block, factors)) in leaf.codes.blocks().enumerate() {
            let sums = cpu.lookup(block, &self.tables.entries);
            let first = number * BLOCK;
            // Whole blocks of one size, which compilers turn into vector instructions.
            let factors_of_all = whole(factors);
            let mut scores = [0.0_f32; BLOCK];
            for ((score, sum), factor) in scores.iter_mut().zip(sums).zip(factors_of_all) {
                *score = product + factor * (f32::from(sum) * unit + base);
            }
            if self.source.metric() == Metric::L2 {
                for (score, square) in scores.iter_mut().zip(whole(&leaf.squares[first..])) {
                    *score = 2.0 * *score - square;
                }
            }
            // Once the best are known, most blocks have none of them.
            let near: u32 = scores.iter().map(|score| u32::from(*score >= candidates.least)).sum();
            if near == 0 {
                continue;
            }
            for (score, row) in scores.iter().zip(&leaf.rows[first..]).take(factors.len()) {
                if *score >= candidates.least && self.source.wants(*row) {
                    candidates.offer(Hit { row: u64::from(*row), score: *score });
                }
            }
        }
    }
}

// The first values, as many as a block has; zeros behind the last.
#[inline(always)]
fn whole(values: &[f32]) -> [f32; BLOCK] {
    let mut block = [0.0; BLOCK];
    let len = values.len().min(BLOCK);
    block[..len].copy_from_slice(&values[..len]);
    block
}

/// The candidates' own scores.
struct Rerank<'a> {
    index: &'a ClusteredIndex,
    query: &'a [f32],
    candidates: &'a [Hit],
    k: usize,
}

impl Job for Rerank<'_> {
    type Output = Vec<Hit>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<Hit> {
        let (index, candidates) = (self.index, self.candidates);
        let vector = |hit: &Hit| index.storage.get(hit.row as usize, index.dimensions);
        let square = cpu.product(self.query, self.query);
        let mut best = Best::new(self.k, f32::NEG_INFINITY);
        for (number, hit) in candidates.iter().enumerate() {
            if let Some(next) = candidates.get(number + AHEAD).and_then(vector) {
                let bytes = zerocopy::IntoBytes::as_bytes(next);
                for line in (0..bytes.len()).step_by(64) {
                    cpu.prefetch(bytes, line);
                }
            }
            let Some(row) = vector(hit) else { continue };
            let score = match index.metric {
                Metric::InnerProduct => cpu.product(row, self.query),
                Metric::Cosine => {
                    let [product, own] = cpu.product_square(row, self.query);
                    cosine(product, own, square)
                }
                Metric::L2 | Metric::Hamming => 0.0 - cpu.difference(row, self.query),
            };
            best.offer(Hit { row: hit.row, score });
        }
        best.into_sorted()
    }
}
