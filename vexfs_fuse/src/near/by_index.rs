//! The nearest rows by an index in memory: its candidates, compared whole as the image has them.
//!
//! INVARIANT: it gives as many as were asked for, or says that it cannot: then every row is read. So neither who may reach
//! little, nor a condition that few rows meet, nor an index that misses some is ever told fewer than there are. Rows that
//! changed since the index was built are all compared, as of a moment at which nothing else had changed.

use std::sync::Arc;

use vexfs_core::Result;
use vexfs_core::operations::{Collection, Reach};
use vexfs_search::Query;
use vexfs_search::stored::{Candidates, Delta, Effort};

use super::held::{Compared, Held};
use super::picked;
use super::scan::Candidate;
use super::search::{Cost, Search};
use super::source::{Indexed, Source};
use super::told::{Found, Taken, Told};

/// Attempts at a moment in which the collection does not change.
const ATTEMPTS: u32 = 4;
/// Rows beyond k in the first round, for those that turn out not to be answers.
pub(super) const SPARE: usize = 8;
/// An index is asked for no more than this share of the rows: beyond, reading all of them is as fast.
const PART_MAX: u64 = 10;

/// What an index found.
pub(super) enum Outcome {
    /// As many as were asked for.
    Found(Vec<Found>),
    /// Why it did not do.
    Short(String),
    /// The index is damaged, in words.
    Damaged(String),
}

/// One search by an index.
pub(super) struct ByIndex<'a, S> {
    pub(super) search: &'a Search<'a, S>,
    pub(super) held: &'a Arc<Held>,
    pub(super) effort: Effort,
    pub(super) cost: &'a mut Cost,
}

/// What a round came to.
enum Round {
    Over(Outcome),
    /// Something changed meanwhile.
    Again,
}

impl<S: Indexed> ByIndex<'_, S> {
    /// The nearest that are wanted.
    pub(super) fn nearest(mut self) -> Result<Outcome> {
        let Search { source, collection, .. } = *self.search;
        let mut reach = self.search.reach();
        for _ in 0..ATTEMPTS {
            let (changes, delta) = match self.held.compare(source, collection.id)? {
                Compared::AsOf(changes, delta) => (changes, delta),
                Compared::Damaged(why) => return Ok(Outcome::Damaged(why)),
                Compared::Moving => break,
            };
            if let Some(why) = self.search.extent().outdated(&delta) {
                return Ok(Outcome::Short(why));
            }
            self.cost.changed = delta.changed() as u64;
            if let Round::Over(outcome) = self.rounds(changes, &delta, &mut reach)? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Short("the collection changes faster than the index can be compared".into()))
    }

    // Asks for more and more until enough of what is found is an answer.
    fn rounds(&mut self, changes: u64, delta: &Delta, reach: &mut Reach) -> Result<Round> {
        let Search { source, collection, wanted, caller, .. } = *self.search;
        let most = usize::try_from(collection.live / PART_MAX).unwrap_or(usize::MAX);
        let first = wanted.k.saturating_add(SPARE);
        let mut count = first;
        loop {
            let best = match self.best(count, count.div_ceil(first), delta)? {
                Ok(best) => best,
                Err(damage) => return Ok(Round::Over(Outcome::Damaged(damage))),
            };
            if source.look(|volume| Ok(volume.collection(collection.id)?.changes))? != changes {
                return Ok(Round::Again);
            }
            let near_enough = best.partition_point(|candidate| candidate.hit.score >= wanted.least);
            let mut told = Told::new(collection.id, wanted, (caller, &mut *reach), true);
            match told.take(source, &best[..near_enough])? {
                Taken::Full => return Ok(Round::Over(Outcome::Found(told.found))),
                Taken::Changed => return Ok(Round::Again),
                Taken::Fewer => {}
            }
            // By the share of those that were answers.
            let found = told.found.len();
            let needed = wanted.k.saturating_mul(best.len()).saturating_mul(2) / (2 * found + 1);
            count = needed.max(count.saturating_mul(2));
            if near_enough < best.len() || count > most {
                let why =
                    format!("of the {} rows that the index found nearest {found} were answers", best.len());
                return Ok(Round::Over(Outcome::Short(why)));
            }
        }
    }

    // The best so many rows, which is `wider` times what the effort was chosen for; what is wrong with the index, if it is.
    fn best(
        &mut self,
        count: usize,
        wider: usize,
        delta: &Delta,
    ) -> Result<std::result::Result<Vec<Candidate>, String>> {
        let Search { source, collection, query, .. } = *self.search;
        let effort = Effort { probes: self.effort.probes.saturating_mul(wider), ..self.effort };
        let (best, candidates) = match best(source, collection, query, (self.held, &effort), count, delta)? {
            Ok(found) => found,
            Err(damage) => return Ok(Err(damage)),
        };
        self.cost.candidates += candidates.rows.len() as u64;
        self.cost.leaves += candidates.leaves as u64;
        self.cost.nodes += candidates.nodes as u64;
        self.cost.index_bytes += candidates.index_bytes;
        Ok(Ok(best))
    }
}

/// The best so many rows that an index finds with an effort, and what they were among; what is wrong with it, if it is.
pub(super) fn best(
    source: &impl Source,
    collection: &Collection,
    query: &Query,
    (held, effort): (&Held, &Effort),
    count: usize,
    delta: &Delta,
) -> Result<std::result::Result<(Vec<Candidate>, Candidates), String>> {
    let candidates = match held.index.candidates(query, count, delta, effort) {
        Ok(candidates) => candidates,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let mut best = picked::scores(source, collection, query, &candidates.rows)?;
    // What comes behind is there by chance.
    best.truncate(count);
    Ok(Ok((best, candidates)))
}
