//! A collection that is searched many times while it changes.
//!
//! INVARIANT: a search is of the collection as it is then: what was set before it is found, what was removed is not.
//! Files are opened again when the collection's generation is another and `generation.npy` does not tell which rows that is of. A plan
//! is made again when an index file is another, which is looked for every second and when files are opened: until then the index
//! before answers as well.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::nearest::Hit;
use crate::plan::{Plan, Way, Wish};
use crate::query::Query;
use crate::scan::Options;
use crate::stored::{DIRECTORY, Kind};

/// Plans that are kept, each for other wishes.
const PLANS_MAX: usize = 8;
/// Searches that are made again because the collection got longer meanwhile.
const OUTGROWN_MAX: u32 = 2;
/// A plan is made again when the collection has so much more or less than it had.
const GROWN: f64 = 1.25;
/// How long an index file that another takes the place of may go on answering.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A collection, its plans and its indexes, kept open from search to search.
///
/// ```
/// # use vexfs_search::{Metric, Options, Query, Searcher, Way, Wish};
/// # fn search(directory: &std::path::Path) -> vexfs_search::Result<()> {
/// let mut searcher = Searcher::open(directory)?;
/// let wish = Wish { metric: Metric::Cosine, k: 10, min_recall: 0.95, way: Way::Fastest };
/// let query = Query::new(searcher.collection(), &[0.1; 384], wish.metric)?;
/// let hits = searcher.search(&query, wish, Options::nearest(wish.k))?;
/// # drop(hits); Ok(()) }
/// ```
pub struct Searcher {
    directory: PathBuf,
    collection: Collection,
    plans: Vec<Known>,
}

/// A plan, and what it was made for.
struct Known {
    wish: Wish,
    files: Files,
    looked: Instant,
    generation: u64,
    live: u64,
    plan: Plan,
}

/// When index files are looked for.
#[derive(Clone, Copy, PartialEq)]
enum Look {
    Now,
    /// If that was not done lately.
    Seldom,
}

/// The index files: inode and time of change of each kind's that is there.
type Files = Vec<Option<(u64, i64, i64)>>;

impl Searcher {
    /// Opens a collection by its directory (`/mnt/.vexfs/collections/NAME`), or a copy of its files.
    ///
    /// # Errors
    /// As [`Collection::open`].
    pub fn open(directory: &Path) -> Result<Self> {
        let collection = Collection::open(directory)?;
        Ok(Self { directory: directory.into(), collection, plans: Vec::new() })
    }

    /// The collection as the last search, or [`refresh`](Self::refresh), found it.
    pub fn collection(&self) -> &Collection {
        &self.collection
    }

    /// Looks whether the collection changed, and opens it again if so; true then.
    ///
    /// # Errors
    /// As [`Collection::open`].
    pub fn refresh(&mut self) -> Result<bool> {
        let changed = self.collection.generation()? != self.collection.schema().generation;
        if changed {
            self.collection = Collection::open(&self.directory)?;
        }
        Ok(changed)
    }

    /// [`refresh`](Self::refresh), but where only rows of the files that are open changed: then nothing is to be opened. What
    /// `schema.json` counts may be a little older then.
    ///
    /// # Errors
    /// As [`Collection::open`].
    pub fn follow(&mut self) -> Result<()> {
        if !self.collection.follow()? {
            self.collection = Collection::open(&self.directory)?;
        }
        Ok(())
    }

    /// The nearest rows of the collection as it is now. `options` may ask for other rows and scores than the last
    /// search did; of `wish` each difference makes another plan.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::NoIndex`]. The query must be of the wish's metric and the collection's
    /// dimensions, which are fixed from its first vector on.
    pub fn search(&mut self, query: &Query, wish: Wish, options: Options<'_>) -> Result<Vec<Hit>> {
        check(query, &wish)?;
        self.follow()?;
        for _ in 0..OUTGROWN_MAX {
            let number = self.plan(wish, Look::Seldom)?;
            let hits = self.plans[number].plan.search(&self.collection, query, options)?;
            // Rows that came behind the last one may hold what was in others before.
            if !self.collection.is_outgrown() {
                return Ok(hits);
            }
            self.follow()?;
        }
        let number = self.plan(wish, Look::Seldom)?;
        self.plans[number].plan.search(&self.collection, query, options)
    }

    /// [`search`](Self::search) of many queries, answered as the collection is at one moment or another while it
    /// runs; exact ones by products of blocks on all cores.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_all(
        &mut self,
        queries: &[Query],
        wish: Wish,
        options: Options<'_>,
    ) -> Result<Vec<Vec<Hit>>> {
        queries.iter().try_for_each(|query| check(query, &wish))?;
        self.follow()?;
        if let [query] = queries {
            return Ok(vec![self.search(query, wish, options)?]);
        }
        let number = self.plan(wish, Look::Seldom)?;
        self.plans[number].plan.search_all(&self.collection, queries, options)
    }

    /// How searches with this wish are done now.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn explain(&mut self, wish: Wish) -> Result<&mut Plan> {
        self.refresh()?;
        let number = self.plan(wish, Look::Now)?;
        self.plans[number].plan.wake();
        Ok(&mut self.plans[number].plan)
    }

    // The number of the plan for a wish, made now if there is none that still holds.
    fn plan(&mut self, wish: Wish, look: Look) -> Result<usize> {
        let schema = self.collection.schema();
        let (live, generation) = (schema.live, schema.generation);
        let found = self.plans.iter().position(|known| same(&known.wish, &wish));
        if let Some(number) = found {
            let known = &self.plans[number];
            let lately = known.generation == generation && known.looked.elapsed() < LOOK_EVERY;
            if look == Look::Seldom && lately {
                return Ok(number);
            }
        }
        let files = match wish.way {
            Way::Exact => Files::new(),
            _ => files(&self.directory),
        };
        let looked = Instant::now();
        if let Some(number) = found {
            let known = &mut self.plans[number];
            (known.looked, known.generation) = (looked, generation);
            let grown = live as f64 > known.live as f64 * GROWN || known.live as f64 > live as f64 * GROWN;
            if known.files == files && !grown {
                return Ok(number);
            }
            self.plans.remove(number);
        }
        if self.plans.len() == PLANS_MAX {
            self.plans.remove(0);
        }
        let plan = Plan::choose(&self.collection, wish)?;
        self.plans.push(Known { wish, files, looked, generation, live, plan });
        Ok(self.plans.len() - 1)
    }
}

fn check(query: &Query, wish: &Wish) -> Result<()> {
    if query.metric() == wish.metric {
        return Ok(());
    }
    let (query, wish) = (query.metric().name(), wish.metric.name());
    Err(Error::Query(format!("the query is for {query}, and {wish} is wished for")))
}

fn same(one: &Wish, other: &Wish) -> bool {
    let parts = |wish: &Wish| (wish.metric, wish.k, wish.min_recall.to_bits(), wish.way);
    parts(one) == parts(other)
}

fn files(directory: &Path) -> Files {
    let of = |kind: &Kind| {
        let file = fs::metadata(directory.join(DIRECTORY).join(kind.name())).ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec()))
    };
    Kind::ALL.iter().map(of).collect()
}
