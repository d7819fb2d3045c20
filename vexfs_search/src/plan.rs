//! Whether a search reads every row or asks an index, which one, and why.
//!
//! INVARIANT: an index that cannot be trusted is told and not used, and the exact answer stands in: it never makes a search
//! fail, and what it did not give is never called exact.

use std::time::{Duration, Instant};

use crate::changes::{Ask, Since};
use crate::choice::{self, Chosen, Known};
pub use crate::choice::{Way, Wish, suffices};
use crate::collection::{Collection, Schema};
use crate::column::computed;
use crate::error::{Error, Result};
use crate::nearest::{Hit, RowSet};
use crate::query::Query;
use crate::scan::Options;
use crate::stored::{Delta, Effort, Kind, StoredIndex, Summary};
use crate::tally::Figure;

/// A filter that leaves less than this share of the rows is faster compared row by row.
const FILTER_MAX: f64 = 0.1;
/// How long an index rests that could not be compared while it was searched.
const REST: Duration = Duration::from_secs(1);
/// Looks at what changed behind a search, each at what changed during the one before.
const RENEWALS: u32 = 64;
/// Attempts at a moment in which the collection does not change.
const ATTEMPTS: u32 = 4;
/// The file of a collection that tells what real searches found.
const RECALL: &str = "recall";

/// True if searches use an index of a collection of this size: see the table in docs/BENCHMARKS.md.
pub fn pays(schema: &Schema) -> bool {
    schema.extent().pays()
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
    /// An index that could not be compared during a search, why it is used, and since when it is not.
    resting: Option<(Used, String, Instant)>,
    warnings: Vec<String>,
    /// What it cost so far.
    pub cost: Cost,
    begun: Instant,
}

struct Used {
    index: StoredIndex,
    effort: Effort,
    /// What changed up to which generation.
    delta: Delta,
    generation: u64,
    /// The numbers of the vectors in the index, by row, once they were needed.
    ids: Option<Vec<u64>>,
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

impl Plan {
    // Reads every row.
    fn exact(why: impl Into<String>) -> Self {
        let (why, cost, begun) = (why.into(), Cost::default(), Instant::now());
        Self { index: None, why, resting: None, warnings: Vec::new(), cost, begun }
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
    fn among(mut indexes: Vec<StoredIndex>, collection: &Collection, wish: &Wish) -> Self {
        let summaries: Vec<Summary> = indexes.iter().map(StoredIndex::summary).collect();
        let all: Vec<&Summary> = summaries.iter().collect();
        // What a host measured of real searches; files that were copied from a volume have none beside them.
        let mut figures = Figure::parse(&computed(&collection.directory().join(RECALL)).unwrap_or_default());
        // They may be of an index that was replaced since.
        let is_of = |figure: &Figure, index: &StoredIndex| {
            (index.kind(), index.generation()) == (figure.kind, figure.generation)
        };
        figures.retain(|figure| indexes.iter().any(|index| is_of(figure, index)));
        let known = Known { figures: &figures, ..Known::default() };
        match choice::choose(&all, collection.schema().extent(), wish, known) {
            (Some(Chosen { number, effort }), why) => {
                Self::used(indexes.swap_remove(number), effort, collection, why)
            }
            (None, why) => Self::exact(why),
        }
    }

    fn used(index: StoredIndex, effort: Effort, collection: &Collection, why: String) -> Self {
        let (delta, generation) = (Delta::default(), index.generation());
        let mut used = Used { index, effort, delta, generation, ids: None };
        if let Err(error) = used.catch_up(collection, Ask::Cache) {
            return Self::distrusted(&error);
        }
        if let Some(why) = collection.schema().extent().outdated(&used.delta) {
            return Self { warnings: vec![why.clone()], ..Self::exact(why) };
        }
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
        self.wake();
        let hits = self.rows(collection, query, options);
        self.cost.ms += start.elapsed().as_secs_f64() * 1e3;
        hits
    }

    /// [`search`](Self::search) of many queries; of all rows by products of blocks.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_all(
        &mut self,
        collection: &Collection,
        queries: &[Query],
        options: Options<'_>,
    ) -> Result<Vec<Vec<Hit>>> {
        self.wake();
        if !self.is_exact() {
            return queries.iter().map(|query| self.search(collection, query, options)).collect();
        }
        let known = collection.generation()?;
        let all = collection.search_all(queries, options);
        let settle = |(query, hits)| match since(collection, known, query, options, hits)? {
            Some(hits) => Ok(hits),
            None => Self::all(collection, query, options),
        };
        queries.iter().zip(all).map(settle).collect()
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
                    let why = "the collection changes faster than the index can be compared".into();
                    let rests = |used| (used, std::mem::replace(&mut self.why, why), Instant::now());
                    self.resting = self.index.take().map(rests);
                }
                Err(error) => *self = self.instead(Self::distrusted(&error)),
            }
        }
        self.cost.candidates += options.rows.map_or(live, |rows| rows.len() as u64);
        Self::all(collection, query, options)
    }

    // Of all rows; those that changed meanwhile are looked at once more.
    fn all(collection: &Collection, query: &Query, options: Options<'_>) -> Result<Vec<Hit>> {
        for _ in 1..ATTEMPTS {
            let known = collection.generation()?;
            let hits = collection.search(query, options);
            if let Some(hits) = since(collection, known, query, options, hits)? {
                return Ok(hits);
            }
        }
        Ok(collection.search(query, options))
    }

    /// Takes up the index again that rested for a while.
    pub(crate) fn wake(&mut self) {
        if let Some((used, why, _)) = self.resting.take_if(|(_, _, since)| since.elapsed() >= REST) {
            (self.index, self.why) = (Some(used), why);
        }
    }

    // Exactly from now on; what it cost so far stays.
    fn instead(&mut self, exact: Self) -> Self {
        let warnings = [self.take_warnings(), exact.warnings].concat();
        Self { warnings, cost: std::mem::take(&mut self.cost), begun: self.begun, ..exact }
    }
}

impl Used {
    // Looks at the rows that changed since the delta was known to be right, and gives them; at all rows, if nobody tells which.
    fn catch_up(&mut self, collection: &Collection, ask: Ask) -> Result<Option<Vec<u64>>> {
        let (told, rows) = match collection.since(self.generation, ask)? {
            Since::Nothing => return Ok(Some(Vec::new())),
            Since::Rows(told, rows) => (told, rows),
            Since::Much => {
                let told = collection.generation()?;
                self.delta = self.index.delta(collection)?;
                self.generation = told;
                return Ok(None);
            }
        };
        if self.ids.is_none() {
            self.ids = Some(self.index.ids()?);
        }
        let (ids, headers) = (self.ids.as_deref().unwrap_or_default(), collection.headers()?);
        // A collection that has grown is opened again by who keeps it, and searched again: nothing more is to be done now.
        let (within, rest): (Vec<u64>, Vec<u64>) =
            rows.into_iter().partition(|row| *row < collection.rows() as u64);
        for row in &within {
            let before = ids.get(*row as usize).copied().unwrap_or(0);
            self.delta.follow(*row, before, headers.vector_id(*row)?);
        }
        if !rest.is_empty() {
            return Ok(Some(Vec::new()));
        }
        self.generation = told;
        Ok(Some(within))
    }

    // Rows that changed meanwhile are looked at behind the search, so that none that moved is missed. None if in every attempt more
    // changed than is told of.
    fn search(
        &mut self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
        cost: &mut Cost,
    ) -> Result<Option<Vec<Hit>>> {
        for _ in 0..ATTEMPTS {
            self.catch_up(collection, Ask::Cache)?;
            let answer = self.index.search(collection, query, options, &self.delta, &self.effort)?;
            cost.candidates += answer.candidates as u64;
            cost.leaves += answer.leaves as u64;
            cost.nodes += answer.nodes as u64;
            cost.index_bytes += answer.index_bytes;
            cost.changed = self.delta.changed() as u64;
            let settled =
                settled(collection, query, options, answer.hits, || self.catch_up(collection, Ask::Host))?;
            if settled.is_some() {
                return Ok(settled);
            }
        }
        Ok(None)
    }
}

// What a search of all rows that began at the generation `known` found, with the rows that changed meanwhile as they are now.
fn since(
    collection: &Collection,
    mut known: u64,
    query: &Query,
    options: Options<'_>,
    hits: Vec<Hit>,
) -> Result<Option<Vec<Hit>>> {
    settled(collection, query, options, hits, || {
        Ok(match collection.since(known, Ask::Host)? {
            Since::Nothing => Some(Vec::new()),
            Since::Rows(told, rows) => {
                known = told;
                Some(rows)
            }
            Since::Much => None,
        })
    })
}

// What a search found, with the rows that changed meanwhile as they are now; `changed` tells them, each time since the last. What moved
// while those were looked at moved from a row that was looked at before, or was none of the nearest: so it ends where none of those
// changed. None if it does not, or if more changed than is told of.
fn settled(
    collection: &Collection,
    query: &Query,
    options: Options<'_>,
    mut hits: Vec<Hit>,
    mut changed: impl FnMut() -> Result<Option<Vec<u64>>>,
) -> Result<Option<Vec<Hit>>> {
    let mut looked: RowSet = hits.iter().map(|hit| hit.row as usize).collect();
    for round in 0..RENEWALS {
        let Some(rows) = changed()? else { return Ok(None) };
        if rows.is_empty() || round > 0 && !rows.iter().any(|row| looked.contains(*row as usize)) {
            return Ok(Some(hits));
        }
        let Some(renewed) = collection.renewed(hits, query, &rows, options)? else { return Ok(None) };
        hits = renewed;
        rows.iter().for_each(|row| looked.insert(*row as usize));
    }
    Ok(None)
}
