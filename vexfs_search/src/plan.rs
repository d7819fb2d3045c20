//! Whether a search reads every row or asks an index, which one, and why.
//!
//! INVARIANT: an index that cannot be trusted is told and not used, and the exact answer stands in: it never makes a search
//! fail, and what it did not give is never called exact.

use std::time::Instant;

use crate::collection::{Collection, Schema};
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::nearest::Hit;
use crate::query::Query;
use crate::scan::Options;
use crate::stored::{Delta, Effort, Kind, StoredIndex};

/// Of an index of which more than this share changed, nothing is gained.
const CHANGED_MAX: f64 = 0.5;
/// A filter that leaves less than this share of the rows is faster compared row by row.
const FILTER_MAX: f64 = 0.1;
/// Attempts at a moment in which the collection does not change.
const ATTEMPTS: u32 = 4;
/// From so many bytes of vectors on a search with an index, opening it counted, is faster than one of all rows.
const INDEX_BYTES_MIN: u64 = 4 << 20;

/// True if searches use an index of a collection of this size: see the table in docs/BENCHMARKS.md.
pub fn pays(schema: &Schema) -> bool {
    schema.live.saturating_mul(schema.vector_len() as u64) >= INDEX_BYTES_MIN
}

/// What a search wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// What nearness is.
    pub metric: Metric,
    /// How many rows; `usize::MAX` for all.
    pub k: usize,
    /// The share of the nearest rows, 0 to 1, that an index must have found when it was measured.
    pub min_recall: f64,
    /// With an index or without one.
    pub way: Way,
}

/// Whether an index is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What is fastest, as measured on the machine.
    Fastest,
    /// Every row is read.
    Exact,
    /// An index, of this kind if one is named, even where reading every row is faster.
    Index(Option<Kind>),
}

impl Way {
    fn allows(self, kind: Kind) -> bool {
        match self {
            Self::Fastest => true,
            Self::Exact => false,
            Self::Index(wanted) => wanted.is_none_or(|wanted| wanted == kind),
        }
    }
}

/// How the searches of a collection are done.
///
/// ```
/// # use vexfs_search::{Collection, Metric, Options, Plan, Query, Way, Wish};
/// # fn search(directory: &std::path::Path) -> vexfs_search::Result<()> {
/// let collection = Collection::open(directory)?;
/// let wish = Wish { metric: Metric::Cosine, k: 10, min_recall: 0.95, way: Way::Fastest };
/// let mut plan = Plan::choose(&collection, wish)?;
/// let query = Query::new(&collection, &[0.1; 384], wish.metric)?;
/// let hits = plan.search(&collection, &query, Options::nearest(wish.k))?;
/// println!("{} rows, by {}, because {}", hits.len(), plan.name(), plan.why());
/// # Ok(()) }
/// ```
pub struct Plan {
    index: Option<Used>,
    why: String,
    warnings: Vec<String>,
    /// What it cost so far.
    pub cost: Cost,
    begun: Instant,
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
pub struct Cost {
    /// Times that rows were searched.
    pub scans: u64,
    /// Rows that were compared whole.
    pub candidates: u64,
    /// Leaves of clusters that were read.
    pub leaves: u64,
    /// Nodes of a graph that were entered.
    pub nodes: u64,
    /// Bytes of the index that were read.
    pub index_bytes: u64,
    /// Rows compared whole because they changed since the index was built.
    pub changed: u64,
    /// The time for all that in milliseconds, the opening of the index counted.
    pub ms: f64,
}

/// The least effort that found the recall, its interval counted.
pub fn suffices(efforts: &[Effort], min_recall: f64) -> Option<&Effort> {
    efforts.iter().find(|effort| effort.low >= min_recall)
}

impl Plan {
    // Reads every row.
    fn exact(why: impl Into<String>) -> Self {
        let (why, cost, begun) = (why.into(), Cost::default(), Instant::now());
        Self { index: None, why, warnings: Vec::new(), cost, begun }
    }

    /// Chooses for searches of a collection's nearest rows.
    ///
    /// # Errors
    /// [`Error::NoIndex`] if an index is asked for that is not there.
    pub fn choose(collection: &Collection, wish: Wish) -> Result<Self> {
        let start = Instant::now();
        let mut plan = Self::decide(collection, &wish)?;
        plan.begun = start;
        plan.cost.ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(plan)
    }

    fn decide(collection: &Collection, wish: &Wish) -> Result<Self> {
        if wish.way == Way::Exact {
            return Ok(Self::exact("it was asked for"));
        }
        let (mut indexes, mut errors) = (Vec::new(), Vec::new());
        for kind in Kind::ALL.into_iter().filter(|kind| wish.way.allows(*kind)) {
            match StoredIndex::open(collection.directory(), kind) {
                Ok(index) => indexes.extend(index),
                Err(error) => errors.push(error),
            }
        }
        if indexes.is_empty() {
            return match (errors.first(), wish.way) {
                (Some(error), _) => Ok(Self::distrusted(error)),
                (None, Way::Index(kind)) => Err(Error::NoIndex {
                    directory: collection.directory().into(),
                    kind: kind.map(Kind::name),
                }),
                (None, _) => Ok(Self::exact("there is no index")),
            };
        }
        let mut plan = Self::among(indexes, collection, wish);
        plan.warnings.splice(0..0, errors.iter().map(|error| format!("{error}; not used")));
        Ok(plan)
    }

    // Of indexes that can be read the best, or reading every row.
    fn among(indexes: Vec<StoredIndex>, collection: &Collection, wish: &Wish) -> Self {
        let mut choices = Vec::new();
        let mut why = String::new();
        for index in indexes {
            match Self::reason(wish, &index, collection) {
                Ok(effort) => choices.push(Choice { index, effort }),
                Err(reason) => why = reason,
            }
        }
        choices.sort_by_key(Choice::ns);
        let table = Table::new(&choices, collection.schema().live);
        let Some(Choice { index, effort }) = choices.into_iter().next() else { return Self::exact(why) };
        if wish.way == Way::Fastest && table.exact_is_faster() {
            return Self::exact(format!("reading every row is faster: {}", table.words));
        }
        Self::used(index, effort, collection, &table)
    }

    // The effort, or why none is made.
    fn reason(
        wish: &Wish,
        index: &StoredIndex,
        collection: &Collection,
    ) -> std::result::Result<Effort, String> {
        let (schema, forced) = (collection.schema(), wish.way != Way::Fastest);
        if index.metric() != wish.metric {
            return Err(format!("the index is for {}", index.metric().name()));
        }
        if !forced && !pays(schema) {
            return Err("the collection is so small that reading all of it is faster".into());
        }
        if wish.k as u64 > schema.live / 10 && !forced {
            return Err("a large part of the collection is asked for".into());
        }
        let all = index.leaves().max(1);
        match (suffices(index.efforts(), wish.min_recall), index.efforts().last()) {
            (Some(effort), _) => Ok(*effort),
            (None, _) if !forced => {
                Err(format!("no effort reached a recall of {} when it was measured", wish.min_recall))
            }
            (None, most) => {
                Ok(Effort { probes: all, ..most.copied().unwrap_or(Effort::unmeasured(all, 10)) })
            }
        }
    }

    fn used(index: StoredIndex, effort: Effort, collection: &Collection, table: &Table) -> Self {
        let generation = collection.schema().generation;
        let mut used = Used { index, effort, delta: Delta::default(), generation };
        if let Err(error) = used.compare(collection) {
            return Self::distrusted(&error);
        }
        let changed = used.delta.changed().max(used.delta.gone());
        if changed as f64 > CHANGED_MAX * collection.schema().live as f64 {
            let why = format!(
                "{changed} rows changed since the index was built; `vexfs index --update` puts them in"
            );
            return Self { warnings: vec![why.clone()], ..Self::exact(why) };
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
        Self { index: Some(used), ..Self::exact(why) }
    }

    fn distrusted(error: &Error) -> Self {
        let warnings = vec![format!("{error}; searched exactly")];
        Self { warnings, ..Self::exact(format!("the index cannot be used: {error}")) }
    }

    /// What those who search should hear of: an index that is damaged, or so old that it is not used. Told once.
    pub fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Why it is exact, or not.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// When the choice began.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// The share of the exact answers that was measured for what is done; 1 if every row is read.
    pub fn recall(&self) -> f64 {
        self.index.as_ref().map_or(1.0, |used| used.effort.recall)
    }

    /// True if every row is read.
    pub fn is_exact(&self) -> bool {
        self.index.is_none()
    }

    /// `exact`, `scan`, `clustered` or `graph`.
    pub fn name(&self) -> &'static str {
        self.index.as_ref().map_or("exact", |used| used.index.kind().name())
    }

    /// Bytes of vectors and of the index that were read.
    pub fn bytes(&self, schema: &Schema) -> u64 {
        let opening = self.index.as_ref().map_or(0, |used| used.index.opening_bytes());
        self.cost.candidates * schema.vector_len() as u64 + self.cost.index_bytes + opening
    }

    /// The nearest rows, as [`Collection::search`] gives them.
    ///
    /// # Errors
    /// A file of the collection that cannot be read. What is wrong with an index is a warning, and the answer exact.
    pub fn search(
        &mut self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
    ) -> Result<Vec<Hit>> {
        let start = Instant::now();
        let hits = self.rows(collection, query, options);
        self.cost.ms += start.elapsed().as_secs_f64() * 1e3;
        hits
    }

    fn rows(&mut self, collection: &Collection, query: &Query, options: Options<'_>) -> Result<Vec<Hit>> {
        self.cost.scans += 1;
        let live = collection.schema().live;
        let few = options.rows.filter(|rows| (rows.len() as f64) < FILTER_MAX * live as f64);
        if let Some(rows) = few {
            self.cost.candidates += rows.len() as u64;
            return collection.search_rows(query, &rows.iter().collect::<Vec<u64>>(), options);
        }
        if let Some(used) = &mut self.index {
            match used.search(collection, query, options, &mut self.cost) {
                Ok(Some(hits)) => return Ok(hits),
                Ok(None) => {
                    let why = "the collection changes faster than the index can be compared";
                    *self = self.instead(Self::exact(why));
                }
                Err(error) => *self = self.instead(Self::distrusted(&error)),
            }
        }
        self.cost.candidates += options.rows.map_or(live, |rows| rows.len() as u64);
        Ok(collection.search(query, options))
    }

    // Exactly from now on; what it cost so far stays.
    fn instead(&mut self, exact: Self) -> Self {
        let warnings = [self.take_warnings(), exact.warnings].concat();
        Self { warnings, cost: std::mem::take(&mut self.cost), begun: self.begun, ..exact }
    }
}

impl Used {
    // Finds out what changed since the index was built, unless nothing did.
    fn compare(&mut self, collection: &Collection) -> Result<()> {
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
    ) -> Result<Option<Vec<Hit>>> {
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
