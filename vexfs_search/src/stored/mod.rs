//! An index as a file beside a collection's matrix, and searches that read of it only what they need.
//!
//! Of a clustered index that are some leaves. A scan has one leaf with every row, and records of four bits a dimension
//! for the best of it. A graph is read whole.
//!
//! INVARIANT: scores are exact, and rows that were set, moved or removed since the index was built are told by the numbers
//! of their vectors: those are searched exactly, or never found. The file is input: every byte that is used was checked
//! by a checksum first, and is read, not mapped, so that nobody changes it meanwhile.

mod build;
mod bytes;
mod delta;
mod effort;
mod format;
mod graph;
mod host;
mod kind;
mod records;
mod rows;
mod scan;

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use build::{Built, Progress, Stage, build, update};
pub use bytes::ReadAt;
pub use delta::Delta;
pub use effort::{Effort, Sample};
pub use format::{Identity, identity_of};
pub use host::{Candidates, Comparison, Summary};
pub use kind::Kind;

use crate::clustered::codes::Tables;
use crate::clustered::rotation::Rotation;
use crate::clustered::search::{Probe, Source};
use crate::clustered::{Leaf, square, turned};
use crate::collection::Collection;
use crate::cpu;
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::nearest::{Hit, RowSet};
use crate::query::Query;
use crate::scan::Options;
use crate::warmth::{Ahead, Warmth};
use bytes::Bytes;
use format::{Head, Place};

/// An index that stays in its file, but for the centres of its leaves, or the one leaf of a scan.
#[derive(Debug)]
pub struct StoredIndex {
    path: PathBuf,
    bytes: Bytes,
    head: Head,
    places: Vec<Place>,
    centres: Vec<f32>,
    squares: Vec<f32>,
    efforts: Vec<Effort>,
    /// The leaf of a scan.
    whole: Option<Leaf>,
    /// All records, if they were loaded.
    records: Option<Vec<u8>>,
    /// The graph of that kind.
    graph: Option<graph::Stored>,
}

/// What a search found, and what it cost.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Leaves that were looked at.
    pub leaves: usize,
    /// Nodes of a graph that were entered.
    pub nodes: usize,
    /// Rows whose whole vectors were compared.
    pub candidates: usize,
    /// Bytes of the index file that were read, without those read at opening.
    pub index_bytes: u64,
}

impl StoredIndex {
    /// Opens the index of this kind of the collection in `directory`; `None` if it has none.
    ///
    /// # Errors
    /// A file that is damaged, cut off, of another version or of another collection; what the system refuses.
    pub fn open(directory: &Path, kind: Kind) -> Result<Option<Self>> {
        let path = directory.join(DIRECTORY).join(kind.name());
        let file = match File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|source| Error::Io { path: path.clone(), source })?,
        };
        let index = Self::read(path, Bytes::File(file, Warmth::unknown()))?;
        if index.head.identity != format::identity(directory)? {
            return Err(index.wrong("is of another collection"));
        }
        if index.kind() != kind {
            return Err(index.wrong("is of another kind"));
        }
        Ok(Some(index))
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.head.kind
    }

    /// The time of an exact search when it was built.
    pub fn exact_ns(&self) -> u64 {
        self.head.exact_ns
    }

    /// The time that opening it took then.
    pub fn open_ns(&self) -> u64 {
        self.head.open_ns
    }

    /// Bytes of the whole file.
    pub fn size(&self) -> Result<u64> {
        self.bytes.size().map_err(|source| self.io(source))
    }

    /// Bytes that opening it read.
    pub fn opening_bytes(&self) -> u64 {
        let leaf = self.whole.as_ref().and_then(|_| self.places.first()?.len(&self.head));
        let graph = self.graph.as_ref().and_then(|_| graph::Stored::len(&self.head));
        self.head.table_end() + leaf.unwrap_or(0) as u64 + graph.unwrap_or(0) as u64
    }

    /// The collection's generation that it is of.
    pub fn generation(&self) -> u64 {
        self.head.generation
    }

    /// How near it measures.
    pub fn metric(&self) -> Metric {
        self.head.metric
    }

    /// Rows in it.
    pub fn len(&self) -> u64 {
        self.head.indexed
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.head.indexed == 0
    }

    /// How many leaves it has.
    pub fn leaves(&self) -> usize {
        self.places.len()
    }

    /// What its searches find at which effort, as measured when it was built; least effort first.
    pub fn efforts(&self) -> &[Effort] {
        &self.efforts
    }

    /// What it says of itself.
    pub fn summary(&self) -> Summary {
        Summary {
            kind: self.kind(),
            metric: self.metric(),
            rows: self.len(),
            leaves: self.leaves(),
            efforts: self.efforts.clone(),
            open_ns: self.open_ns(),
            exact_ns: self.exact_ns(),
        }
    }

    /// The nearest live rows, as [`Collection::search`] gives them but for what the effort misses: always
    /// `min(k, rows that match)`. Rows that `delta` has are compared whole. It is so of the collection that `delta` was taken of:
    /// who lets it change meanwhile compares [`Collection::generation`] behind the search, as [`Plan`](crate::Plan) does.
    ///
    /// # Errors
    /// Damage of the index; a query of another metric or dimension than it is for.
    pub fn search(
        &self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
        delta: &Delta,
        effort: &Effort,
    ) -> Result<Answer> {
        self.search_without(collection, query, options, delta, effort, None)
    }

    // As if a node of the graph were not there.
    fn search_without(
        &self,
        collection: &Collection,
        query: &Query,
        options: Options<'_>,
        delta: &Delta,
        effort: &Effort,
        without: Option<u32>,
    ) -> Result<Answer> {
        let Candidates { rows, leaves, nodes, index_bytes } =
            self.among(query, (options.k, options.rows), delta, effort, without)?;
        let hits = collection.search_live(query, &rows, options)?;
        Ok(Answer { hits, leaves, nodes, candidates: rows.len(), index_bytes })
    }

    // The rows among which the nearest of those that are wanted are.
    fn among(
        &self,
        query: &Query,
        (k, only): (usize, Option<&RowSet>),
        delta: &Delta,
        effort: &Effort,
        without: Option<u32>,
    ) -> Result<Candidates> {
        let values = query.floats();
        if query.metric() != self.head.metric || values.len() != self.head.dimensions {
            return Err(Error::Query("the index is of another metric or dimension".into()));
        }
        let rotation = Rotation::new(self.head.dimensions);
        let turned = turned(&rotation, self.head.metric, &values);
        let turned = turned.map_err(|_| Error::Query("the query is not finite".into()))?;
        let there = (self.head.indexed as usize).saturating_sub(delta.gone.len());
        let wanted = k.min(only.map_or(there, |rows| rows.len().min(there)));
        let source =
            View { index: self, delta, rows: only, without, read: Cell::default(), waited: Cell::default() };
        let count = wanted.saturating_mul(effort.pool).max(1);
        let kept = wanted.saturating_mul(effort.rerank);
        let mut candidates;
        let (mut leaves, mut nodes, mut read) = (0, 0, 0);
        if let Some(graph) = &self.graph {
            // A beam for few rows is no narrower than one that was measured.
            let width = wanted.max(build::K).saturating_mul(effort.pool);
            (candidates, nodes) = self.walk(graph, &turned, &source, width, (kept, wanted));
        } else {
            let (tables, turned, probes) = (Tables::new(&turned), &turned, effort.probes);
            let probe = Probe { source: &source, turned, tables: &tables, probes, count, wanted };
            (candidates, leaves) = cpu::best(probe)?;
            if self.whole.is_none() {
                self.bytes.learn(source.waited.get(), leaves, source.read.get());
            }
            read = self.refine(turned, &mut candidates, kept)?;
        }
        let wants = |row: &u64| only.is_none_or(|rows| rows.contains(*row as usize));
        let changed = delta.changed.iter().copied().filter(wants);
        let mut rows: Vec<u64> = candidates.iter().map(|hit| hit.row).chain(changed).collect();
        rows.sort_unstable();
        rows.dedup();
        Ok(Candidates { rows, leaves, nodes, index_bytes: source.read.get() + read })
    }

    /// What changed in the collection since the index was built, by the numbers of its vectors as they are now.
    ///
    /// # Errors
    /// Damage of the index; what the system refuses.
    pub fn delta(&self, collection: &Collection) -> Result<Delta> {
        Delta::between(&self.ids()?, &collection.headers()?, collection.rows())
    }

    fn wrong(&self, why: &str) -> Error {
        format::wrong(&self.path, why)
    }

    fn io(&self, source: std::io::Error) -> Error {
        Error::Io { path: self.path.clone(), source }
    }

    fn set_centres(&mut self, centres: Vec<f32>) {
        self.squares = centres.chunks_exact(self.head.dimensions.max(1)).map(square).collect();
        self.centres = centres;
    }
}

/// The index as one search sees it.
struct View<'a> {
    index: &'a StoredIndex,
    delta: &'a Delta,
    rows: Option<&'a RowSet>,
    /// A node of the graph that no walk enters.
    without: Option<u32>,
    /// Bytes of leaves that were read, and the time that took.
    read: Cell<u64>,
    waited: Cell<Duration>,
}

impl Source for View<'_> {
    fn metric(&self) -> Metric {
        self.index.head.metric
    }

    fn dimensions(&self) -> usize {
        self.index.head.dimensions
    }

    fn centres(&self) -> (&[f32], &[f32]) {
        (&self.index.centres, &self.index.squares)
    }

    fn leaf(&self, number: usize) -> Result<Cow<'_, Leaf>> {
        if let Some(leaf) = &self.index.whole {
            return Ok(Cow::Borrowed(leaf));
        }
        let begun = Instant::now();
        let (leaf, read) = self.index.leaf(number)?;
        self.read.set(self.read.get() + read);
        self.waited.set(self.waited.get() + begun.elapsed());
        Ok(Cow::Owned(leaf))
    }

    fn ahead(&self) -> Ahead<'_> {
        if self.index.whole.is_some() { Ahead::default() } else { self.index.bytes.ahead() }
    }

    fn place(&self, leaf: usize) -> Option<(u64, usize)> {
        let place = self.index.places.get(leaf)?;
        Some((place.at(), place.len(&self.index.head)?))
    }

    #[inline(always)]
    fn wants_all(&self) -> bool {
        self.rows.is_none() && self.delta.gone.is_empty()
    }

    #[inline(always)]
    fn wants(&self, row: u32) -> bool {
        let row = row as usize;
        !self.delta.gone.contains(row) && self.rows.is_none_or(|rows| rows.contains(row))
    }
}

/// Name of the directory in a collection's.
pub const DIRECTORY: &str = "index";
