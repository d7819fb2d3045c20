//! Whether a search reads every row or asks an index, which one, and why.
//!
//! INVARIANT: an index that cannot be trusted is told and not used, and the exact answer stands in: it never makes a search
//! fail, and what it did not give is never called exact.

use std::time::Instant;

use vexfs_search::stored::{Delta, Effort, Kind};
use vexfs_search::{Collection, Hit, Metric, Options, Query, RowSet, Schema, StoredIndex};

use crate::arguments::{IndexChoice, Search};
use crate::failure::Failure;
use crate::index::pays;
use crate::site::Place;

/// Of an index of which more than this share changed, nothing is gained.
const CHANGED_MAX: f64 = 0.5;
/// A filter that leaves less than this share of the rows is faster compared row by row.
const FILTER_MAX: f64 = 0.1;
/// Attempts at a moment in which the collection does not change.
const ATTEMPTS: u32 = 4;

/// How a search is done.
pub(crate) struct Plan {
    index: Option<Used>,
    /// Why it is exact, or not.
    pub(super) why: String,
    /// What it cost so far.
    pub(super) cost: Cost,
    /// When the choice began.
    pub(super) begun: Instant,
}

/// An index that can be used, and how.
struct Choice {
    index: StoredIndex,
    effort: Effort,
}

impl Choice {
    // What a search costs that opens it.
    fn ns(&self) -> u64 {
        self.index.open_ns().saturating_add(self.effort.ns)
    }
}

/// What searches cost, as measured on the machine when the indexes were built.
struct Table {
    exact_ns: u64,
    best_ns: u64,
    words: String,
}

impl Table {
    /// Of choices, the fastest first, and of reading all `live` rows.
    fn new(choices: &[Choice], live: u64) -> Self {
        // As many rows as there are now cost in proportion.
        let exact =
            |choice: &Choice| choice.index.exact_ns() as f64 * live as f64 / choice.index.len().max(1) as f64;
        let times: Vec<(Kind, u64)> =
            choices.iter().map(|choice| (choice.index.kind(), choice.ns())).collect();
        Self::of(&times, choices.first().map_or(0.0, exact) as u64)
    }

    fn of(times: &[(Kind, u64)], exact_ns: u64) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        let index = |(kind, ns): &(Kind, u64)| format!("{} {:.2} ms", kind.name(), ms(*ns));
        let exact = format!("exact {:.2} ms", ms(exact_ns));
        let words: Vec<String> = times.iter().map(index).chain([exact]).collect();
        let best_ns = times.first().map_or(0, |(_, ns)| *ns);
        Self { exact_ns, best_ns, words: format!("{} on this machine", words.join(", ")) }
    }

    // An index that was not timed is taken to be faster.
    fn exact_is_faster(&self) -> bool {
        self.exact_ns > 0 && self.exact_ns <= self.best_ns
    }
}

struct Used {
    index: StoredIndex,
    effort: Effort,
    /// What changed up to which generation.
    delta: Delta,
    generation: u64,
}

/// What searches have cost.
#[derive(Debug, Default)]
pub(super) struct Cost {
    pub(super) scans: u64,
    /// Rows that were compared whole.
    pub(super) candidates: u64,
    pub(super) leaves: u64,
    /// Nodes of a graph that were entered.
    pub(super) nodes: u64,
    pub(super) index_bytes: u64,
    /// Rows compared whole because they changed since the index was built.
    pub(super) changed: u64,
    /// The time for all that, the opening of the index counted.
    pub(super) ms: f64,
}

/// The least effort that found the recall, its interval counted.
pub(crate) fn suffices(efforts: &[Effort], min_recall: f64) -> Option<&Effort> {
    efforts.iter().find(|effort| effort.low >= min_recall)
}

impl Plan {
    /// Reads every row.
    fn exact(why: impl Into<String>) -> Self {
        Self { index: None, why: why.into(), cost: Cost::default(), begun: Instant::now() }
    }

    /// Chooses for a search of the nearest `k` by `metric`.
    pub(super) fn choose(
        arguments: &Search,
        place: &Place,
        collection: &Collection,
        metric: Metric,
        k: usize,
    ) -> Result<Self, Failure> {
        let start = Instant::now();
        let mut plan = Self::decide(arguments, place, collection, metric, k)?;
        plan.begun = start;
        plan.cost.ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(plan)
    }

    fn decide(
        arguments: &Search,
        place: &Place,
        collection: &Collection,
        metric: Metric,
        k: usize,
    ) -> Result<Self, Failure> {
        if arguments.exact {
            return Ok(Self::exact("--exact asks for it"));
        }
        let name = &place.name.collection;
        let (mut indexes, mut errors) = (Vec::new(), Vec::new());
        let allowed = |kind: &Kind| arguments.index.is_none_or(|choice| choice.allows(*kind));
        for kind in Kind::ALL.into_iter().filter(allowed) {
            match StoredIndex::open(&place.directory, kind) {
                Ok(index) => indexes.extend(index),
                Err(error) => errors.push(error),
            }
        }
        if indexes.is_empty() {
            return match errors.first() {
                Some(error) => Ok(Self::distrusted(error)),
                None => match arguments.index {
                    None => Ok(Self::exact("there is no index")),
                    Some(choice) => {
                        let what = if choice == IndexChoice::Any { "index" } else { "such index" };
                        Err(Failure::new(format!("{name}: has no {what}; `vexfs index {name}` builds one")))
                    }
                },
            };
        }
        errors.iter().for_each(|error| eprintln!("vexfs: {error}; not used"));
        let mut choices = Vec::new();
        let mut why = String::new();
        for index in indexes {
            match Self::reason(arguments, &index, collection, metric, k) {
                Ok(effort) => choices.push(Choice { index, effort }),
                Err(reason) => why = reason,
            }
        }
        choices.sort_by_key(Choice::ns);
        let table = Table::new(&choices, collection.schema().live);
        let Some(Choice { index, effort }) = choices.into_iter().next() else { return Ok(Self::exact(why)) };
        if arguments.index.is_none() && table.exact_is_faster() {
            return Ok(Self::exact(format!("reading every row is faster: {}", table.words)));
        }
        Self::used(index, effort, collection, &table)
    }

    // The effort, or why none is made.
    fn reason(
        arguments: &Search,
        index: &StoredIndex,
        collection: &Collection,
        metric: Metric,
        k: usize,
    ) -> Result<Effort, String> {
        let (schema, forced) = (collection.schema(), arguments.index.is_some());
        if index.metric() != metric {
            return Err(format!("the index is for {}", index.metric().name()));
        }
        if !forced && !pays(schema) {
            return Err("the collection is so small that reading all of it is faster".into());
        }
        if k as u64 > schema.live / 10 && !forced {
            return Err("a large part of the collection is asked for".into());
        }
        let all = index.leaves().max(1);
        match (suffices(index.efforts(), arguments.min_recall), index.efforts().last()) {
            (Some(effort), _) => Ok(*effort),
            (None, _) if !forced => {
                Err(format!("no effort reached a recall of {} when it was measured", arguments.min_recall))
            }
            (None, most) => {
                Ok(Effort { probes: all, ..most.copied().unwrap_or(Effort::unmeasured(all, 10)) })
            }
        }
    }

    fn used(
        index: StoredIndex,
        effort: Effort,
        collection: &Collection,
        table: &Table,
    ) -> Result<Self, Failure> {
        let generation = collection.schema().generation;
        let mut used = Used { index, effort, delta: Delta::default(), generation };
        if let Err(error) = used.compare(collection) {
            return Ok(Self::distrusted(&error));
        }
        let changed = used.delta.changed().max(used.delta.gone());
        if changed as f64 > CHANGED_MAX * collection.schema().live as f64 {
            let why = format!(
                "{changed} rows changed since the index was built; `vexfs index --update` puts them in"
            );
            eprintln!("vexfs: {why}");
            return Ok(Self::exact(why));
        }
        let why = format!(
            "a recall of {:.4} (at least {:.4}, with a probability of 97.5 %) was measured {}, {} and {} candidates a row, with {} \
             queries; {}",
            effort.recall,
            effort.low,
            match used.index.kind() {
                Kind::Graph => "by links".to_owned(),
                Kind::Scan | Kind::Clustered =>
                    format!("at {} of {} leaves", effort.probes, used.index.leaves()),
            },
            effort.pool,
            effort.rerank,
            effort.queries,
            table.words
        );
        Ok(Self { index: Some(used), why, ..Self::exact("") })
    }

    fn distrusted(error: &vexfs_search::Error) -> Self {
        eprintln!("vexfs: {error}; searched exactly");
        Self::exact(format!("the index cannot be used: {error}"))
    }

    /// `exact`, `scan`, `clustered` or `graph`.
    pub(super) fn name(&self) -> &'static str {
        self.index.as_ref().map_or("exact", |used| used.index.kind().name())
    }

    /// Bytes of vectors and of the index that were read.
    pub(super) fn bytes(&self, schema: &Schema) -> u64 {
        let opening = self.index.as_ref().map_or(0, |used| used.index.opening_bytes());
        self.cost.candidates * schema.vector_len() as u64 + self.cost.index_bytes + opening
    }

    /// The nearest rows.
    pub(super) fn search(
        &mut self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
    ) -> Result<Vec<Hit>, Failure> {
        let start = Instant::now();
        let hits = self.rows(collection, query, options);
        self.cost.ms += start.elapsed().as_secs_f64() * 1e3;
        hits
    }

    fn rows(
        &mut self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
    ) -> Result<Vec<Hit>, Failure> {
        self.cost.scans += 1;
        let live = collection.schema().live;
        let few = options.rows.filter(|rows| (rows.len() as f64) < FILTER_MAX * live as f64);
        if let Some(rows) = few {
            self.cost.candidates += rows.len() as u64;
            return Ok(collection.search_rows(query, &rows.iter().collect::<Vec<u64>>(), options)?);
        }
        if let Some(used) = &mut self.index {
            match used.search(collection, query, options, &mut self.cost) {
                Ok(Some(hits)) => return Ok(hits),
                Ok(None) => {
                    *self = self.instead("the collection changes faster than the index can be compared")
                }
                Err(error) => {
                    eprintln!("vexfs: {error}; searched exactly");
                    *self = self.instead(&format!("the index cannot be used: {error}"));
                }
            }
        }
        self.cost.candidates += options.rows.map_or(live, |rows| rows.len() as u64);
        Ok(collection.search(query, options))
    }

    // Exactly from now on; what it cost so far stays.
    fn instead(&mut self, why: &str) -> Self {
        Self { cost: std::mem::take(&mut self.cost), begun: self.begun, ..Self::exact(why) }
    }
}

impl Used {
    // Finds out what changed since the index was built, unless nothing did.
    fn compare(&mut self, collection: &Collection) -> vexfs_search::Result<()> {
        self.delta = match self.index.generation() == self.generation {
            true => Delta::default(),
            false => self.index.delta(collection)?,
        };
        Ok(())
    }

    // None if the collection changed in every attempt: a row that moves meanwhile could be missed.
    fn search(
        &mut self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
        cost: &mut Cost,
    ) -> vexfs_search::Result<Option<Vec<Hit>>> {
        for _ in 0..ATTEMPTS {
            let answer = self.index.search(collection, query, options, &self.delta, &self.effort)?;
            cost.candidates += answer.candidates as u64;
            cost.leaves += answer.leaves as u64;
            cost.nodes += answer.nodes as u64;
            cost.index_bytes += answer.index_bytes;
            cost.changed = self.delta.changed() as u64;
            let now = Schema::read(collection.directory())?.generation;
            if now == self.generation {
                return Ok(Some(answer.hits));
            }
            self.generation = now;
            self.compare(collection)?;
        }
        Ok(None)
    }
}

/// Looks again at rows that were found: true if they still are what they were.
pub(super) fn unchanged(collection: &Collection, query: &Query, hits: &[Hit]) -> Result<bool, Failure> {
    let mut rows: Vec<u64> = hits.iter().map(|hit| hit.row).collect();
    rows.sort_unstable();
    Ok(collection.search_rows(query, &rows, Options::nearest(hits.len()))? == hits)
}

/// How many rows a filter leaves; all of them without it.
pub(super) fn count(rows: Option<&RowSet>, schema: &Schema) -> u64 {
    rows.map_or(schema.live, |rows| rows.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_faster_is_told_by_the_times() {
        let times = [(Kind::Clustered, 2_000_000), (Kind::Scan, 3_500_000)];
        let table = Table::of(&times, 17_000_000);
        assert_eq!(table.words, "clustered 2.00 ms, scan 3.50 ms, exact 17.00 ms on this machine");
        assert!(!table.exact_is_faster());
        assert!(Table::of(&times, 1_999_999).exact_is_faster());
        assert!(!Table::of(&times, 0).exact_is_faster(), "it was not timed");
    }
}
