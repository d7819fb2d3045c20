//! What indexes find of real questions: some of those that they answered, compared with the exact answer in idle time.
//!
//! INVARIANT: nothing of a question is told, but by the shares that all of one kind, effort and k come to; and those are the
//! same for everybody, because they are compared with all rows, whoever asked. At most so many questions wait, each of
//! those that were asked as likely as another.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use vexfs_core::numbers::CollectionId;
use vexfs_search::stored::{Effort, Kind};
use vexfs_search::{Figure, Query, Tally};

use super::index_file::Stamp;

/// Questions that wait to be compared.
const WAITING_MAX: usize = 32;
/// Figures of an index, each of an effort and a k; beyond, no others are begun.
const FIGURES_MAX: usize = 64;
/// Answers of more rows are not compared.
const K_MAX: usize = 1000;

/// A question that an index answered.
pub(super) struct Asked {
    pub(super) id: CollectionId,
    pub(super) kind: Kind,
    /// The index as it was.
    pub(super) stamp: Stamp,
    pub(super) effort: Effort,
    pub(super) k: usize,
    pub(super) query: Query,
}

/// Questions that wait, and what those before came to.
#[derive(Default)]
pub struct Recall {
    waiting: Mutex<Waiting>,
    measured: Mutex<HashMap<(CollectionId, Kind), Measured>>,
}

/// A sample of the questions that were asked since it was empty.
#[derive(Default)]
struct Waiting {
    asked: Vec<Asked>,
    /// How many there were to choose from.
    seen: u64,
}

/// What questions to an index came to.
struct Measured {
    stamp: Stamp,
    figures: Vec<Since>,
}

struct Since {
    figure: Figure,
    /// When it was begun, in seconds since 1970.
    since: u64,
}

impl Recall {
    /// Takes a question into the sample, or not.
    pub(super) fn keep(&self, asked: Asked) {
        if asked.k > K_MAX {
            return;
        }
        let mut waiting = self.waiting();
        waiting.seen += 1;
        if waiting.asked.len() < WAITING_MAX {
            waiting.asked.push(asked);
            return;
        }
        // Each hasher has keys of its own: that is random enough to choose by.
        let place = RandomState::new().build_hasher().finish() % waiting.seen;
        if let Some(kept) = usize::try_from(place).ok().and_then(|place| waiting.asked.get_mut(place)) {
            *kept = asked;
        }
    }

    /// The next question to compare.
    pub(super) fn next(&self) -> Option<Asked> {
        let mut waiting = self.waiting();
        let next = waiting.asked.pop();
        if waiting.asked.is_empty() {
            waiting.seen = 0;
        }
        next
    }

    /// Counts what an answer had of the exact one, by an index of this generation of the collection.
    pub(super) fn count(&self, asked: &Asked, generation: u64, share: f64) {
        let mut measured = self.measured();
        let new = || Measured { stamp: asked.stamp, figures: Vec::new() };
        let of_index = measured.entry((asked.id, asked.kind)).or_insert_with(new);
        if of_index.stamp != asked.stamp {
            *of_index = new();
        }
        let (kind, k, effort) = (asked.kind, asked.k, Figure::key(&asked.effort));
        let same = |since: &&mut Since| (since.figure.k, since.figure.effort) == (k, effort);
        let (full, known) = (of_index.figures.len() >= FIGURES_MAX, of_index.figures.iter_mut().find(same));
        match known {
            Some(since) => since.figure.tally.add(share),
            None if full => {}
            None => {
                let mut tally = Tally::default();
                tally.add(share);
                let figure = Figure { kind, generation, k, effort, tally };
                of_index.figures.push(Since { figure, since: now() });
            }
        }
    }

    /// What was found of an index's answers, as long as it is that one.
    pub(super) fn figures(&self, id: CollectionId, kind: Kind, stamp: Stamp) -> Vec<Figure> {
        let measured = self.measured();
        let of_index = measured.get(&(id, kind)).filter(|measured| measured.stamp == stamp);
        of_index.into_iter().flat_map(|measured| &measured.figures).map(|since| since.figure).collect()
    }

    /// The text of a collection's `recall`: an object, empty if nothing was measured.
    pub fn render(&self, id: CollectionId) -> String {
        let measured = self.measured();
        let indexes = Kind::ALL.into_iter().filter_map(|kind| measured.get(&(id, kind)));
        let lines: Vec<Value> = indexes.flat_map(|index| index.figures.iter().map(Since::as_json)).collect();
        let all = if lines.is_empty() { json!({}) } else { json!({"measured": lines}) };
        format!("{all}\n")
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn measured(&self) -> MutexGuard<'_, HashMap<(CollectionId, Kind), Measured>> {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Since {
    fn as_json(&self) -> Value {
        let Figure { kind, generation, k, effort: [probes, pool, rerank], tally } = self.figure;
        let (low, high) = tally.interval();
        json!({
            "kind": kind.name(), "k": k, "recall": tally.recall(), "n": tally.searches(), "low": low, "high": high,
            "probes": probes, "pool": pool, "rerank": rerank, "since": self.since, "generation": generation,
        })
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_search::{Element, Metric};

    fn asked(k: usize) -> Asked {
        Asked {
            id: CollectionId(1),
            kind: Kind::Graph,
            stamp: Stamp::default(),
            effort: Effort::refined(1, 4, 2),
            k,
            query: Query::of(Element::F32, 2, &[1.0, 0.0], Metric::L2).unwrap(),
        }
    }

    // Each is as likely to be among those that wait, whenever it was asked.
    #[test]
    fn the_sample_is_bounded_and_of_all_times() {
        let (rounds, all) = (400, 4 * WAITING_MAX);
        let mut early = 0;
        for _ in 0..rounds {
            let recall = Recall::default();
            (1..=all).for_each(|k| recall.keep(asked(k)));
            let kept: Vec<usize> = std::iter::from_fn(|| recall.next()).map(|asked| asked.k).collect();
            assert_eq!(kept.len(), WAITING_MAX);
            early += kept.iter().filter(|k| **k <= all / 2).count();
        }
        // Half of them, by more than six standard errors.
        let share = early as f64 / (rounds * WAITING_MAX) as f64;
        assert!((share - 0.5).abs() < 0.03, "{share}");
        let recall = Recall::default();
        recall.keep(asked(K_MAX + 1));
        assert!(recall.next().is_none());
    }

    #[test]
    fn what_is_told_is_of_the_index_that_is_there() {
        let recall = Recall::default();
        assert_eq!(recall.render(CollectionId(1)), "{}\n");
        recall.count(&asked(10), 7, 1.0);
        recall.count(&asked(10), 7, 0.5);
        recall.count(&asked(3), 7, 1.0);
        let told: Value = serde_json::from_str(&recall.render(CollectionId(1))).unwrap();
        let first = &told["measured"][0];
        assert_eq!((&first["kind"], &first["k"], &first["n"]), (&json!("graph"), &json!(10), &json!(2)));
        assert_eq!((&first["recall"], &first["generation"]), (&json!(0.75), &json!(7)));
        assert_eq!(Figure::parse(recall.render(CollectionId(1)).as_bytes()).len(), 2);
        let figures = recall.figures(CollectionId(1), Kind::Graph, Stamp::default());
        assert_eq!(figures.len(), 2);
        let other = Stamp { size: 1, ..Stamp::default() };
        assert!(recall.figures(CollectionId(1), Kind::Graph, other).is_empty());
        recall.count(&Asked { stamp: other, ..asked(10) }, 8, 0.0);
        assert_eq!(recall.figures(CollectionId(1), Kind::Graph, other)[0].tally.recall(), 0.0);
        // No more figures than are worth keeping.
        (1..=2 * FIGURES_MAX).for_each(|k| recall.count(&Asked { stamp: other, ..asked(k) }, 8, 0.0));
        assert_eq!(recall.figures(CollectionId(1), Kind::Graph, other).len(), FIGURES_MAX);
        assert_eq!(recall.render(CollectionId(2)), "{}\n");
    }
}
