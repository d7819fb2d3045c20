//! Whether a search reads every row or asks an index, which one, and why.
//!
//! INVARIANT: an index that cannot be trusted is told and not used, and the exact answer stands in: it never makes a search
//! fail, and what it did not give is never called exact.

use std::time::Instant;

use crate::choice::{self, Chosen, Known};
pub use crate::choice::{Way, Wish, suffices};
use crate::collection::{Collection, Schema, computed};
use crate::error::{Error, Result};
use crate::nearest::Hit;
use crate::query::Query;
use crate::scan::Options;
use crate::stored::{Delta, Effort, Kind, StoredIndex, Summary};
use crate::tally::Figure;

/// A filter that leaves less than this share of the rows is faster compared row by row.
const FILTER_MAX: f64 = 0.1;
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
        let generation = collection.schema().generation;
        let mut used = Used { index, effort, delta: Delta::default(), generation };
        if let Err(error) = used.compare(collection) {
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
            let now = collection.generation()?;
            if now == self.generation {
                return Ok(Some(answer.hits));
            }
            self.generation = now;
            self.compare(collection)?;
        }
        Ok(None)
    }
}
