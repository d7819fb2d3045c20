//! From rows to the files that the caller can reach.
//!
//! INVARIANT: what is found is exactly the best of what the caller can reach, as many as asked for if there are so
//! many. A row is told with the file it belongs to: if rows change hands meanwhile, the search begins again.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use vexfs_search::{Collection, Hit, Metric, Options, Pair, Plan, Query, RowSet, Schema};

use crate::ask::{self, Owner};
use crate::chunk::{self, Chunk};
use crate::failure::Failure;
use crate::paths::Paths;
use crate::site::{Place, VectorName};
use crate::xattr;

/// Rows asked for beyond k in the first attempt, for those that turn out not to be reachable.
const SPARE: usize = 8;
/// How many times as many in the next one, where they were too few.
const MORE: usize = 8;
/// Attempts at a moment in which no row that is found changes hands.
const ATTEMPTS_MAX: u32 = 16;

/// A file that was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) row: u64,
    pub(super) score: f32,
    pub(super) path: PathBuf,
    pub(super) chunk: Option<Chunk>,
    /// Which of the file's vectors it is, if that was told.
    n: Option<u32>,
}

impl Found {
    /// `path`, or `path:start+length` of a part.
    pub(super) fn place(&self) -> String {
        chunk::place(&self.path.to_string_lossy(), self.chunk)
    }
}

/// A collection's rows, as far as the caller reaches.
pub(super) struct Reach<'a> {
    pub(super) collection: &'a Collection,
    pub(super) plan: Plan,
    /// Walks over the mount, to find out which files are whose.
    pub(super) walks: u64,
    place: &'a Place,
    /// Files to choose from: all below a directory, or all that are reachable once that was found out.
    files: Option<Paths>,
    /// Rows that a condition leaves.
    filter: Option<RowSet>,
    rows: Option<RowSet>,
}

impl<'a> Reach<'a> {
    /// Restricted to files below `within`, and to the rows of `filter`, if they are given.
    pub(super) fn new(
        place: &'a Place,
        collection: &'a Collection,
        plan: Plan,
        within: Option<&Path>,
        filter: Option<RowSet>,
    ) -> Result<Self, Failure> {
        let mut walks = 0;
        let files = match within {
            Some(directory) => {
                walks += 1;
                Some(Paths::below(&place.site, &relative(place, directory)?))
            }
            None => None,
        };
        Ok(Self { collection, plan, walks, place, files, filter, rows: None })
    }

    /// Rows that a filter left before the scan; none if all were scanned.
    pub(super) fn filtered(&self) -> Option<usize> {
        self.rows.as_ref().map(RowSet::len)
    }

    /// The nearest files without `own`.
    pub(super) fn nearest(
        &mut self,
        query: &Query,
        options: Options<'_>,
        own: Option<u64>,
    ) -> Result<Vec<Found>, Failure> {
        let mut spare = SPARE;
        for _ in 0..ATTEMPTS_MAX {
            let wanted = options.k.saturating_add(spare);
            let hits = self.scan(query, Options { k: wanted, ..options }, own)?;
            let inodes = self.inodes(hits.iter().map(|hit| hit.row))?;
            if !unchanged(self.collection, query, &hits)? {
                continue;
            }
            let named = self.named(&hits, &inodes)?;
            let others = named.into_iter().flatten().filter(|found| inodes.get(&found.row).copied() != own);
            let mut found: Vec<Found> = others.take(options.k).collect();
            if found.len() < options.k && hits.len() == wanted && self.files.is_none() {
                // Too many are out of reach, or parts of the file itself.
                if self.walks > 0 {
                    // Choose from what can be an answer.
                    self.walks += 1;
                    self.files = Some(Paths::below(&self.place.site, Path::new("")));
                }
                spare = spare.saturating_mul(MORE);
                continue;
            }
            found.iter_mut().for_each(|found| found.chunk = self.chunk(found));
            return Ok(found);
        }
        Err(Failure::new("the collection changes faster than it is searched; try again"))
    }

    /// All pairs of different files with at least the least score, best first.
    pub(super) fn pairs(&mut self, metric: Metric, least: f32) -> Result<Vec<(Found, Found)>, Failure> {
        self.choose_rows(None)?;
        let options = Options { min_score: least, rows: self.rows.as_ref(), ..Options::nearest(usize::MAX) };
        let pairs = self.collection.pairs(metric, options);
        let rows = count(self.rows.as_ref(), self.collection.schema());
        self.plan.cost.scans += 1;
        self.plan.cost.candidates += rows * rows.saturating_sub(1) / 2;
        let inodes = self.inodes(pairs.iter().flat_map(|pair| [pair.row, pair.other]))?;
        let differ = |pair: &&Pair| inodes.get(&pair.row) != inodes.get(&pair.other);
        let hits = pairs
            .iter()
            .filter(differ)
            .flat_map(|pair| [pair.row, pair.other].map(|row| Hit { row, score: pair.score }));
        let hits: Vec<Hit> = hits.collect();
        let named = self.named(&hits, &inodes)?;
        let both = named.chunks_exact(2).filter_map(|two| Some((two[0].clone()?, two[1].clone()?)));
        Ok(both.map(|(one, other)| (self.with_chunk(one), self.with_chunk(other))).collect())
    }

    // The nearest rows of the chosen files, or of all.
    fn scan(&mut self, query: &Query, options: Options<'_>, own: Option<u64>) -> Result<Vec<Hit>, Failure> {
        self.choose_rows(own)?;
        let hits =
            self.plan.search(self.collection, query, Options { rows: self.rows.as_ref(), ..options })?;
        super::warn(&mut self.plan);
        Ok(hits)
    }

    // The rows of the chosen files, if some are chosen.
    fn choose_rows(&mut self, own: Option<u64>) -> Result<(), Failure> {
        if self.files.is_some() || self.filter.is_some() {
            let inodes = self.collection.file_inodes()?;
            let reached = |inode: u64| self.files.as_ref().is_none_or(|files| files.has(inode));
            let kept = |row: usize| self.filter.as_ref().is_none_or(|filter| filter.contains(row));
            let chosen = inodes
                .iter()
                .enumerate()
                .filter(|(row, inode)| Some(**inode) != own && kept(*row) && reached(**inode));
            self.rows = Some(chosen.map(|(row, _)| row).collect());
        }
        Ok(())
    }

    // The files of rows. A row that was freed since the scan has none.
    fn inodes(&self, rows: impl Iterator<Item = u64>) -> Result<HashMap<u64, u64>, Failure> {
        let headers = self.collection.headers()?;
        let mut inodes = HashMap::new();
        for row in rows {
            let inode = headers.file_inode(row)?;
            if inode != 0 {
                inodes.insert(row, inode);
            }
        }
        Ok(inodes)
    }

    // The files of hits; none of one that the caller cannot reach.
    fn named(&mut self, hits: &[Hit], inodes: &HashMap<u64, u64>) -> Result<Vec<Option<Found>>, Failure> {
        let found;
        let paths = match &self.files {
            Some(files) => files,
            None => {
                let rows: Vec<u64> = hits.iter().map(|hit| hit.row).collect();
                if let Some(owners) = ask::owners(self.place, &rows)? {
                    return Ok(hits
                        .iter()
                        .map(|hit| self.owned(hit, owners.get(&hit.row)?, inodes))
                        .collect());
                }
                self.walks += 1;
                let wanted = hits.iter().filter_map(|hit| inodes.get(&hit.row).copied());
                found = Paths::find(&self.place.site, wanted);
                &found
            }
        };
        let name = |hit: &Hit| {
            let path = paths.of(*inodes.get(&hit.row)?)?.to_owned();
            Some(Found { row: hit.row, score: hit.score, path, chunk: None, n: None })
        };
        Ok(hits.iter().map(name).collect())
    }

    // A hit with the file it was told to be of, if that is still so, and if nothing else is mounted over that path.
    fn owned(&self, hit: &Hit, owner: &Owner, inodes: &HashMap<u64, u64>) -> Option<Found> {
        let file = fs::symlink_metadata(self.place.site.root.join(&owner.path)).ok()?;
        let same = inodes.get(&hit.row) == Some(&owner.inode)
            && file.ino() == owner.inode
            && file.dev() == self.place.site.device;
        let path = owner.path.clone();
        same.then_some(Found { row: hit.row, score: hit.score, path, chunk: None, n: Some(owner.n) })
    }

    // Which part of its file the row is, if its metadata tells.
    fn with_chunk(&self, found: Found) -> Found {
        let chunk = self.chunk(&found);
        Found { chunk, ..found }
    }

    fn chunk(&self, found: &Found) -> Option<Chunk> {
        let file = self.place.site.root.join(&found.path);
        let n = found.n.or_else(|| self.number(&file, found.row))?;
        let name = VectorName { n, element: None, ..self.place.name.clone() };
        let metadata = xattr::get(&file, &format!("{}.meta", name.attribute())).ok()??;
        Chunk::of(&serde_json::from_slice(&metadata).ok()?)
    }

    // Which of the file's vectors has the bytes of the row.
    fn number(&self, file: &Path, row: u64) -> Option<u32> {
        let names = xattr::list(file).ok()?;
        let vectors =
            names.iter().filter_map(|name| VectorName::parse(name.strip_prefix("user.vector.")?).ok());
        let mut own = vectors.filter(|name| name.collection == self.place.name.collection).peekable();
        own.peek()?;
        let row = self.collection.vector(usize::try_from(row).ok()?)?;
        let value = |name: &VectorName| xattr::get(file, &name.attribute()).ok().flatten();
        own.find(|name| value(name).as_deref() == Some(&*row)).map(|name| name.n)
    }
}

// A directory of the mount, as a path from its root.
fn relative(place: &Place, directory: &Path) -> Result<PathBuf, Failure> {
    let real = directory.canonicalize().map_err(|error| Failure::io(directory, &error))?;
    let root = &place.site.root;
    let inside = real.strip_prefix(root).map_err(|_| {
        let (directory, root) = (directory.display(), root.display());
        Failure::new(format!("{directory}: is not on {root}, where the collection is"))
    })?;
    if !real.is_dir() {
        return Err(Failure::new(format!("{}: is no directory", directory.display())));
    }
    Ok(inside.to_owned())
}

// Looks again at rows that were found: true if they still are what they were.
fn unchanged(collection: &Collection, query: &Query, hits: &[Hit]) -> Result<bool, Failure> {
    if collection.generation()? == collection.schema().generation {
        return Ok(true);
    }
    let mut rows: Vec<u64> = hits.iter().map(|hit| hit.row).collect();
    rows.sort_unstable();
    Ok(collection.search_rows(query, &rows, Options::nearest(hits.len()))? == hits)
}

// How many rows a filter leaves; all of them without it.
fn count(rows: Option<&RowSet>, schema: &Schema) -> u64 {
    rows.map_or(schema.live, |rows| rows.len() as u64)
}
