//! How much a search does, and what share of the exact answer it finds then.

use crate::clustered::rotation::Random;
use crate::collection::Collection;
use crate::error::Result;
use crate::query::Query;
use crate::scan::Options;
use crate::stored::format::number;
use crate::stored::{Delta, StoredIndex};

/// Half the width of an interval of 95 %, in standard errors.
const STANDARD_ERRORS: f64 = 1.96;
/// The first number of leaves that is tried; then twice as many, and so on.
const PROBES_MIN: usize = 4;
/// Candidates for each row that is asked for.
const RERANK: [usize; 2] = [4, 10];
/// From this recall on nothing more is tried.
const ENOUGH: f64 = 0.999;

/// How much a search does, and what it finds of the exact answer, as measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effort {
    /// Leaves that are looked at.
    pub probes: usize,
    /// Candidates that are compared whole, for each row that is asked for.
    pub rerank: usize,
    /// The mean share of the exact answer that was found.
    pub recall: f64,
    /// The lower end of an interval that holds the mean of all queries with a probability of 95 %.
    pub low: f64,
    /// Queries that it was measured with.
    pub queries: u64,
}

impl Effort {
    /// One that was not measured.
    pub const fn unmeasured(probes: usize, rerank: usize) -> Self {
        Self { probes, rerank, recall: 0.0, low: 0.0, queries: 0 }
    }

    // Its mean and interval by the share that each query found.
    fn measured(self, shares: &[f64]) -> Self {
        let count = shares.len().max(1) as f64;
        let recall = shares.iter().sum::<f64>() / count;
        let variance =
            shares.iter().map(|share| (share - recall).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
        let low = (recall - STANDARD_ERRORS * (variance / count).sqrt()).max(0.0);
        Self { recall, low, queries: shares.len() as u64, ..self }
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let (recall, low) = (self.recall.to_bits(), self.low.to_bits());
        let numbers = [self.probes as u64, self.rerank as u64, recall, low, self.queries];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    pub(super) fn parse(bytes: &[u8]) -> Self {
        let size = |index| usize::try_from(number(bytes, index)).unwrap_or(usize::MAX);
        let share = |index| f64::from_bits(number(bytes, index));
        // No search may be made to do more than the whole index asks for.
        let (probes, rerank) = (size(0).max(1), size(1).clamp(1, 1 << 10));
        Self { probes, rerank, recall: share(2), low: share(3), queries: number(bytes, 4) }
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
        for ((own, query), least) in self.queries.iter().zip(&self.least) {
            let answer = index.search(collection, query, Options::nearest(self.k + 1), delta, &effort)?;
            let others = answer.hits.iter().filter(|hit| hit.row != *own).take(self.k);
            let found = others.filter(|hit| hit.score >= *least).count();
            let all = (collection.schema().live as usize).saturating_sub(1).clamp(1, self.k);
            shares.push((found as f64 / all as f64).min(1.0));
        }
        Ok(effort.measured(&shares))
    }

    /// Efforts from little to much, each better than the one before, until nearly everything is found.
    ///
    /// # Errors
    /// As [`StoredIndex::search`].
    pub fn sweep(&self, index: &StoredIndex, collection: &Collection, delta: &Delta) -> Result<Vec<Effort>> {
        let mut efforts: Vec<Effort> = Vec::new();
        let mut probes = PROBES_MIN;
        loop {
            let all = probes >= index.leaves();
            for rerank in RERANK {
                let effort = Effort::unmeasured(probes.min(index.leaves().max(1)), rerank);
                let effort = self.measure(index, collection, delta, effort)?;
                if efforts.last().is_none_or(|last| effort.low > last.low) {
                    efforts.push(effort);
                }
            }
            if all || efforts.last().is_some_and(|last| last.low >= ENOUGH) {
                return Ok(efforts);
            }
            probes *= 2;
        }
    }
}
