//! How much a search does, and what share of the exact answer it finds then.

use std::time::Instant;

use crate::clustered::rotation::Random;
use crate::collection::Collection;
use crate::error::Result;
use crate::query::Query;
use crate::scan::Options;
use crate::stored::format::number;
use crate::stored::{Delta, Kind, StoredIndex};

/// Half the width of an interval of 95 %, in standard errors.
const STANDARD_ERRORS: f64 = 1.96;
/// The first number of leaves that is tried; then twice as many, and so on.
const PROBES_MIN: usize = 4;
/// Candidates for each row that is asked for.
const RERANK: [usize; 2] = [4, 10];
/// Candidates of a scan by one bit, and of those by four bits, for each row that is asked for.
const POOLS: [(usize, usize); 6] = [(2, 1), (4, 2), (8, 2), (16, 3), (32, 4), (100, 10)];
/// Nodes of a walk's beam, and candidates that are compared whole, for each row that is asked for. A narrower beam finds most of what most
/// queries ask for, and of some, far from all vectors, next to nothing.
const BEAMS: [(usize, usize); 10] =
    [(3, 2), (4, 2), (6, 2), (8, 3), (12, 3), (16, 3), (24, 4), (32, 4), (48, 6), (64, 8)];
/// Exact searches that are timed.
const EXACT_QUERIES: usize = 5;
/// From this recall on nothing more is tried.
const ENOUGH: f64 = 0.999;

/// How much a search does, and what it finds of the exact answer, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Leaves that are looked at.
    pub probes: usize,
    /// Candidates by one bit a dimension, for each row that is asked for; with four bits the best of them are chosen, if
    /// the index has those. Of a graph: nodes of the beam.
    pub pool: usize,
    /// Candidates that are compared whole, for each row that is asked for.
    pub rerank: usize,
    /// The mean share of the exact answer that was found.
    pub recall: f64,
    /// The lower end of an interval that holds the mean of all queries with a probability of 95 %.
    pub low: f64,
    /// Queries that it was measured with.
    pub queries: u64,
    /// The time that the fastest of them took.
    pub ns: u64,
}

impl Effort {
    /// One that was not measured.
    pub const fn unmeasured(probes: usize, rerank: usize) -> Self {
        Self::refined(probes, rerank, rerank)
    }

    /// One that was not measured, of more candidates than are compared whole.
    pub const fn refined(probes: usize, pool: usize, rerank: usize) -> Self {
        Self { probes, pool, rerank, recall: 0.0, low: 0.0, queries: 0, ns: 0 }
    }

    // Its mean and interval by the share that each query found.
    fn measured(self, shares: &[f64], ns: u64) -> Self {
        let count = shares.len().max(1) as f64;
        let recall = shares.iter().sum::<f64>() / count;
        let variance =
            shares.iter().map(|share| (share - recall).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let low = (recall - STANDARD_ERRORS * (variance / count).sqrt()).max(0.0);
        Self { recall, low, queries: shares.len() as u64, ns, ..self }
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let (recall, low) = (self.recall.to_bits(), self.low.to_bits());
        let [probes, pool, rerank] = [self.probes, self.pool, self.rerank].map(|size| size as u64);
        let numbers = [probes, pool, rerank, recall, low, self.queries, self.ns];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        let size = |index| usize::try_from(number(bytes, index)).unwrap_or(usize::MAX);
        let share = |index| f64::from_bits(number(bytes, index));
        // No search may be made to do more than the whole index asks for.
        let [pool, rerank] = [size(1), size(2)].map(|factor| factor.clamp(1, 1 << 10));
        let (queries, ns) = (number(bytes, 5), number(bytes, 6));
        Self { probes: size(0).max(1), pool, rerank, recall: share(3), low: share(4), queries, ns }
    }
}

/// Vectors of a collection to search with, and the exact answers.
pub struct Sample {
    queries: Vec<(u64, Query)>,
    /// The least score of each answer.
    least: Vec<f32>,
    k: usize,
}

impl Sample {
    /// Takes up to `count` live vectors, by `seed`, and searches with them exactly for the `k` nearest others.
    ///
    /// # Errors
    /// A codec's row that cannot be decoded.
    pub fn take(collection: &Collection, count: usize, k: usize, seed: u64) -> Result<Self> {
        let metric = collection.schema().metric;
        let mut random = Random(seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1);
        let mut rows: Vec<usize> = (0..collection.rows()).filter(|row| collection.is_live(*row)).collect();
        let count = count.min(rows.len());
        for index in 0..count {
            let other = index + random.below(rows.len() - index);
            rows.swap(index, other);
        }
        let query = |row: &usize| {
            let bytes = collection.vector(*row)?;
            // A row that is freed just now is no query.
            Some((*row as u64, Query::from_bytes(collection, &bytes, metric).ok()?))
        };
        let queries: Vec<(u64, Query)> = rows[..count].iter().filter_map(query).collect();
        let all: Vec<Query> = queries.iter().map(|(_, query)| query.clone()).collect();
        let exact = collection.search_all(&all, Options::nearest(k + 1));
        let least = |((own, _), hits): (&(u64, Query), &Vec<crate::Hit>)| {
            let others = hits.iter().filter(|hit| hit.row != *own).take(k);
            others.last().map_or(f32::INFINITY, |hit| hit.score)
        };
        let least = queries.iter().zip(&exact).map(least).collect();
        Ok(Self { queries, least, k })
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.queries.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    /// The effort with what it finds of the exact answers: the share of rows that are as near as the exact answer's last.
    ///
    /// # Errors
    /// As [`StoredIndex::search`].
    pub fn measure(
        &self,
        index: &StoredIndex,
        collection: &Collection,
        delta: &Delta,
        effort: Effort,
    ) -> Result<Effort> {
        let mut shares = Vec::with_capacity(self.queries.len());
        let mut fastest = u64::MAX;
        for ((own, query), least) in self.queries.iter().zip(&self.least) {
            // A graph's links know the way to each of its vectors, but not to what others ask for.
            let without = index.graph.as_ref().and_then(|graph| graph.node_of(*own));
            let (options, start) = (Options::nearest(self.k + 1), Instant::now());
            let answer = index.search_without(collection, query, options, delta, &effort, without)?;
            fastest = fastest.min(nanoseconds(start));
            let others = answer.hits.iter().filter(|hit| hit.row != *own).take(self.k);
            let found = others.filter(|hit| hit.score >= *least).count();
            let all = (collection.schema().live as usize).saturating_sub(1).clamp(1, self.k);
            shares.push((found as f64 / all as f64).min(1.0));
        }
        Ok(effort.measured(&shares, fastest))
    }

    /// The time of the fastest of a few exact searches.
    pub fn exact_ns(&self, collection: &Collection) -> u64 {
        let time = |(_, query): &(u64, Query)| {
            let start = Instant::now();
            std::hint::black_box(collection.search(query, Options::nearest(self.k + 1)));
            nanoseconds(start)
        };
        self.queries.iter().take(EXACT_QUERIES).map(time).min().unwrap_or(0)
    }

    /// Efforts from little to much, each better than the one before, until nearly everything is found.
    ///
    /// # Errors
    /// As [`StoredIndex::search`].
    pub fn sweep(&self, index: &StoredIndex, collection: &Collection, delta: &Delta) -> Result<Vec<Effort>> {
        let mut efforts: Vec<Effort> = Vec::new();
        for effort in index.kind().efforts(index.leaves()) {
            let effort = self.measure(index, collection, delta, effort)?;
            if efforts.last().is_none_or(|last| effort.low > last.low) {
                efforts.push(effort);
            }
            if effort.low >= ENOUGH {
                break;
            }
        }
        Ok(efforts)
    }
}

impl Kind {
    // What is tried, from little to much.
    fn efforts(self, leaves: usize) -> Vec<Effort> {
        let all = leaves.max(1);
        match self {
            Self::Graph => BEAMS.map(|(beam, rerank)| Effort::refined(1, beam, rerank)).to_vec(),
            Self::Scan => POOLS.map(|(pool, rerank)| Effort::refined(all, pool, rerank)).to_vec(),
            Self::Clustered => {
                let doubled = std::iter::successors(Some(PROBES_MIN), |probes| probes.checked_mul(2));
                let probes = doubled.take_while(|probes| *probes < all).chain([all]);
                probes.flat_map(|probes| RERANK.map(|rerank| Effort::unmeasured(probes, rerank))).collect()
            }
        }
    }
}

/// The time since then.
pub(super) fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
