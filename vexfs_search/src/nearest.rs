//! The best k so far, and the set of rows that a search is restricted to.
//!
//! INVARIANT: of equal scores the lower row is better, so that the answer does not depend on the threads' order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Row of the matrix.
    pub row: u64,
    /// Higher is nearer; [`Metric::distance`](crate::Metric::distance) makes a distance of it.
    pub score: f32,
}

impl Eq for Hit {}

/// Better is less, so that a heap's top is the worst.
impl Ord for Hit {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Hit {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The best `k` hits of those offered with at least the least score.
#[derive(Clone, Debug)]
pub(crate) struct Best {
    heap: BinaryHeap<Hit>,
    k: usize,
    least: f32,
}

impl Best {
    /// None yet.
    pub(crate) fn new(k: usize, least: f32) -> Self {
        Self { heap: BinaryHeap::new(), k, least }
    }

    /// False if a score below this cannot be among the best any more.
    #[inline(always)]
    pub(crate) fn may_take(&self, score: f32) -> bool {
        score >= self.least
    }

    /// A score below this cannot be among the best any more.
    #[inline(always)]
    pub(crate) fn least(&self) -> f32 {
        self.least
    }

    /// Takes the hit if it is among the best. A NaN never is.
    #[inline]
    pub(crate) fn offer(&mut self, hit: Hit) {
        if self.k == 0 || !self.may_take(hit.score) {
            return;
        }
        if self.heap.len() < self.k {
            self.heap.push(hit);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && hit < *worst
        {
            *worst = hit;
        }
        if self.heap.len() == self.k {
            self.least = self.heap.peek().map_or(self.least, |worst| self.least.max(worst.score));
        }
    }

    /// The best of both.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|hit| self.offer(hit));
        self
    }

    /// Best first.
    pub(crate) fn into_sorted(self) -> Vec<Hit> {
        self.heap.into_sorted_vec()
    }
}

/// A set of rows.
///
/// ```
/// let rows: vexfs_search::RowSet = [3, 64].into_iter().collect();
/// assert!(rows.contains(64) && !rows.contains(4));
/// assert_eq!((rows.len(), rows.iter().collect()), (2, vec![3, 64]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    len: usize,
}

impl RowSet {
    /// Adds a row.
    pub fn insert(&mut self, row: usize) {
        let (word, bit) = (row / 64, 1 << (row % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.len += usize::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// True if the row is in it.
    #[inline(always)]
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Its rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let bits = |word: u64| (0..64).filter(move |bit| word >> bit & 1 == 1);
        (0..)
            .step_by(64)
            .zip(&self.words)
            .flat_map(move |(first, word)| bits(*word).map(move |bit| first + bit))
    }

    /// How many rows are in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if no row is in it.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl FromIterator<usize> for RowSet {
    fn from_iter<I: IntoIterator<Item = usize>>(rows: I) -> Self {
        let mut set = Self::default();
        rows.into_iter().for_each(|row| set.insert(row));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_kept_and_equal_scores_go_by_row() {
        let hits = [(1.0, 5), (2.0, 9), (1.0, 2), (f32::NAN, 0), (f32::NEG_INFINITY, 1), (2.0, 3)];
        let offer = |k, least| {
            let mut best = Best::new(k, least);
            hits.iter().for_each(|(score, row)| best.offer(Hit { row: *row, score: *score }));
            best.into_sorted().iter().map(|hit| hit.row).collect::<Vec<_>>()
        };
        assert!(offer(0, f32::NEG_INFINITY).is_empty());
        assert_eq!(offer(3, f32::NEG_INFINITY), [3, 9, 2]);
        assert_eq!(offer(usize::MAX, f32::NEG_INFINITY), [3, 9, 2, 5, 1]);
        assert_eq!(offer(usize::MAX, 2.0), [3, 9]);
    }
}
