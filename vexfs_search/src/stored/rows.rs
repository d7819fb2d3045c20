//! The exact scores of a few rows.

use std::time::Instant;

use crate::collection::Collection;
use crate::cpu::{self, Cpu, Job};
use crate::decoded::Block;
use crate::error::Result;
use crate::nearest::{Best, Hit};
use crate::query::Query;
use crate::scan::{Options, Visitor, careful, with_scorer};

/// Rows that are asked for ahead of the one at work.
const AHEAD: usize = 4;

impl Collection {
    /// The nearest of `rows` that are live: what [`search`](Self::search) gives if it is restricted to them, without
    /// looking at any other row.
    ///
    /// # Errors
    /// None now; a codec's row that cannot be decoded.
    pub fn search_rows(&self, query: &Query, rows: &[u64], options: Options<'_>) -> Result<Vec<Hit>> {
        Ok(self.picked(query, rows, options, false))
    }

    /// The same of rows that are known to be live, or will be asked for again if the collection changed meanwhile: the
    /// flags of a large collection are many pages.
    ///
    /// # Errors
    /// As [`search_rows`](Self::search_rows).
    pub(super) fn search_live(&self, query: &Query, rows: &[u64], options: Options<'_>) -> Result<Vec<Hit>> {
        Ok(self.picked(query, rows, options, true))
    }

    /// What a search found, but of `rows` (ascending), which changed meanwhile, as they are now. None if there may be others in place of
    /// what is gone.
    ///
    /// # Errors
    /// As [`search_rows`](Self::search_rows).
    pub(crate) fn renewed(
        &self,
        mut hits: Vec<Hit>,
        query: &Query,
        rows: &[u64],
        options: Options<'_>,
    ) -> Result<Option<Vec<Hit>>> {
        if rows.is_empty() {
            return Ok(Some(hits));
        }
        let found = hits.len();
        hits.retain(|hit| rows.binary_search(&hit.row).is_err());
        let mut best = Best::new(options.k, options.min_score);
        let again = self.search_rows(query, rows, options)?;
        hits.into_iter().chain(again).for_each(|hit| best.offer(hit));
        let best = best.into_sorted();
        Ok((best.len() >= found || found < options.k).then_some(best))
    }

    fn picked(&self, query: &Query, rows: &[u64], options: Options<'_>, live: bool) -> Vec<Hit> {
        let begun = Instant::now();
        let best = cpu::best(Picked { collection: self, query, rows, options, live });
        self.learn(begun.elapsed(), rows.len());
        best.into_sorted()
    }
}

struct Picked<'a> {
    collection: &'a Collection,
    query: &'a Query,
    rows: &'a [u64],
    options: Options<'a>,
    /// True if no flag is to be looked at.
    live: bool,
}

impl Job for Picked<'_> {
    type Output = Best;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Best {
        let best = Best::new(self.options.k, self.options.min_score);
        with_scorer(cpu, self.query, self.collection.schema().element, Scorer { cpu, picked: self, best })
    }
}

struct Scorer<'a, C> {
    cpu: C,
    picked: Picked<'a>,
    best: Best,
}

impl<C: Cpu> Visitor for Scorer<'_, C> {
    type Output = Best;

    #[inline(always)]
    fn visit(self, score: impl Fn(&[u8]) -> f32 + Copy) -> Best {
        let Picked { collection, query, rows, options, live } = self.picked;
        let (mut best, mut block) = (self.best, Block::default());
        let len = collection.schema().vector_len();
        let row_of = |row: u64| usize::try_from(row).unwrap_or(usize::MAX);
        let mut ahead = collection.ahead();
        for (number, row) in rows.iter().enumerate() {
            ahead.come(number, rows.len(), |number| collection.place(rows[number]));
            if let Some(next) = rows.get(number + AHEAD).and_then(|next| collection.stored(row_of(*next))) {
                (0..next.len()).step_by(64).for_each(|line| self.cpu.prefetch(next, line));
            }
            let index = row_of(*row);
            if index >= collection.rows() || !options.wants(index) {
                continue;
            }
            let bytes = match collection.stored(index).filter(|_| live) {
                Some(bytes) => bytes,
                None => {
                    let window = collection.window(index..index + 1, &mut block);
                    let (Some(1..), Some(bytes)) = (window.valid.first(), window.matrix.get(..len)) else {
                        continue;
                    };
                    bytes
                }
            };
            let score = score(bytes);
            let finite = score.is_finite();
            if best.may_take(score) || !finite {
                best.offer(if finite { Hit { row: *row, score } } else { careful(collection, query, index) });
            }
        }
        best
    }
}
