//! The clustered index: a k-means tree's leaves, one bit a dimension of each vector, and the best candidates ranked
//! again by their whole vectors.
//!
//! INVARIANT: an answer's scores are exact; only which rows are found is approximate, and with all leaves probed and
//! enough candidates it is the exact answer. Every row that was not removed is in exactly one leaf.

pub(crate) mod codes;
mod file;
pub(crate) mod nibbles;
pub(crate) mod rotation;
pub(crate) mod search;
pub(crate) mod tree;

use std::path::Path;

use codes::Codes;
use rotation::Rotation;
use tree::Shape;

use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::nearest::RowSet;
use crate::store::{MmapVectorStore, VectorStorage};

/// Rounds of k-means over all leaves of the tree.
const REFINEMENTS: usize = 2;

/// An index over vectors of floats.
///
/// ```
/// use vexfs_search::{ClusteredIndex, Metric};
///
/// let vector = |row: usize| (0..64).map(|entry| (row * (entry + 3) % 997) as f32).collect::<Vec<f32>>();
/// let mut index = ClusteredIndex::build((0..1000).map(vector).collect(), 10, 100, Metric::L2, 20)?;
/// let hits = index.search(&vector(423), 3, 4, 10)?;
/// assert_eq!((hits[0].row, hits[0].score), (423, 0.0));
///
/// let path = std::env::temp_dir().join(format!("clustered-{}.npy", std::process::id()));
/// index.use_mmap_storage(&path)?;
/// assert!(index.is_using_mmap());
/// assert_eq!(index.search(&vector(423), 3, 4, 10)?, hits);
/// assert!(index.use_mmap_storage(&path).is_err(), "it is mapped already");
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), vexfs_search::Error>(())
/// ```
#[derive(Debug)]
pub struct ClusteredIndex {
    metric: Metric,
    dimensions: usize,
    shape: Shape,
    rotation: Rotation,
    /// Rotated centres of the leaves, one behind the other.
    centres: Vec<f32>,
    /// Their squared lengths.
    squares: Vec<f32>,
    leaves: Vec<Leaf>,
    storage: VectorStorage,
    rows: usize,
    removed: RowSet,
}

/// The rows of a leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Leaf {
    pub(crate) rows: Vec<u32>,
    pub(crate) codes: Codes,
    /// Squared lengths of the vectors, for L2 alone.
    pub(crate) squares: Vec<f32>,
}

impl ClusteredIndex {
    /// Builds an index that keeps the vectors in memory; all have one length.
    ///
    /// `branching_factor` is how many clusters a split makes, `max_leaf_size` how many vectors a leaf may have, and
    /// `max_iterations` how many rounds of k-means a split takes at most.
    ///
    /// # Errors
    /// Vectors of different lengths, with a NaN or infinity, or more than 2^32; numbers out of range.
    pub fn build(
        vectors: Vec<Vec<f32>>,
        branching_factor: usize,
        max_leaf_size: usize,
        metric: Metric,
        max_iterations: usize,
    ) -> Result<Self> {
        let dimensions = vectors.first().map_or(0, Vec::len);
        if let Some(row) = vectors.iter().position(|vector| vector.len() != dimensions) {
            let len = vectors[row].len();
            return Err(Error::Query(format!("vector {row} has {len} dimensions, not {dimensions}")));
        }
        let rows = vectors.len();
        let mut values = Vec::with_capacity(rows * dimensions);
        vectors.iter().for_each(|vector| values.extend(vector));
        let storage = VectorStorage::InMemory(values);
        Self::over(storage, rows, dimensions, branching_factor, max_leaf_size, metric, max_iterations)
    }

    /// Builds an index over a mapped file, such as a collection's `vectors.npy`, of the rows that `rows` has.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub fn build_mapped(
        store: MmapVectorStore,
        dimensions: usize,
        branching_factor: usize,
        max_leaf_size: usize,
        metric: Metric,
        max_iterations: usize,
    ) -> Result<Self> {
        let rows = store.len();
        let storage = VectorStorage::Mmap(store);
        Self::over(storage, rows, dimensions, branching_factor, max_leaf_size, metric, max_iterations)
    }

    fn over(
        storage: VectorStorage,
        rows: usize,
        dimensions: usize,
        branching_factor: usize,
        max_leaf_size: usize,
        metric: Metric,
        max_iterations: usize,
    ) -> Result<Self> {
        let bad = |why: &str| Err(Error::Query(why.to_owned()));
        if branching_factor < 2 || max_leaf_size == 0 {
            return bad("a branching factor of 2 or more and leaves of 1 or more are needed");
        }
        if metric == Metric::Hamming {
            return bad("hamming is for bits, the index is for floats");
        }
        if rows > 0 && dimensions == 0 || u32::try_from(rows).is_err() {
            return bad("vectors of at least one dimension, and fewer than 2^32 of them, are needed");
        }
        let shape = Shape { branches: branching_factor, leaf_max: max_leaf_size, iterations: max_iterations };
        let mut index = Self {
            metric,
            dimensions,
            shape,
            rotation: Rotation::new(dimensions),
            centres: Vec::new(),
            squares: Vec::new(),
            leaves: Vec::new(),
            storage,
            rows,
            removed: RowSet::default(),
        };
        let all: Vec<u32> = (0..rows as u32).collect();
        index.grow(&all)?;
        Ok(index)
    }

    // Adds leaves for these rows.
    fn grow(&mut self, rows: &[u32]) -> Result<()> {
        let mut points = Vec::with_capacity(rows.len() * self.dimensions);
        for row in rows {
            points.extend(self.point(*row)?);
        }
        for (centre, leaf) in partition(&points, self.dimensions, rows, self.shape, self.metric, &mut |_| {})
        {
            self.squares.push(square(&centre));
            self.centres.extend(centre);
            self.leaves.push(leaf);
        }
        Ok(())
    }

    // A row's vector in the index's space: rotated, and of unit length for the cosine.
    fn point(&self, row: u32) -> Result<Vec<f32>> {
        let vector = self.storage.get(row as usize, self.dimensions);
        let vector = vector.ok_or_else(|| Error::Query(format!("row {row} is not in the storage")))?;
        self.turned(vector)
            .map_err(|entry| Error::Query(format!("row {row}: element {entry} is NaN or infinite")))
    }

    // The error is the first entry that is not finite.
    fn turned(&self, vector: &[f32]) -> std::result::Result<Vec<f32>, usize> {
        turned(&self.rotation, self.metric, vector)
    }

    /// Adds a vector, gives its row. A leaf that has become too large is split.
    ///
    /// # Errors
    /// Another length, a value that is not finite, or a mapped storage, which this cannot write to.
    pub fn insert(&mut self, vector: &[f32]) -> Result<u64> {
        if self.rows == 0 && self.dimensions == 0 {
            self.dimensions = vector.len();
            self.rotation = Rotation::new(vector.len());
        }
        self.check(vector)?;
        let point = self.turned(vector).map_err(|_| Error::Query("the vector is not finite".into()))?;
        let VectorStorage::InMemory(values) = &mut self.storage else {
            return Err(Error::Query("the vectors are mapped; add to the file, and build anew".into()));
        };
        values.extend(vector);
        let row = self.rows as u32;
        self.rows += 1;
        let Some(leaf) = self.nearest_leaf(&point) else { return self.grow(&[row]).map(|()| row.into()) };
        let centre = &self.centres[leaf * self.dimensions..][..self.dimensions];
        self.leaves[leaf].push(row, &point, centre, self.metric);
        if self.leaves[leaf].rows.len() > 2 * self.shape.leaf_max {
            self.split(leaf)?;
        }
        Ok(row.into())
    }

    fn nearest_leaf(&self, point: &[f32]) -> Option<usize> {
        let distance = |centre: &[f32]| point.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let distances = self.centres.chunks_exact(self.dimensions.max(1)).map(distance).enumerate();
        distances.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(leaf, _)| leaf)
    }

    fn split(&mut self, leaf: usize) -> Result<()> {
        let rows = self.leaves.swap_remove(leaf).rows;
        self.squares.swap_remove(leaf);
        let last = self.leaves.len() * self.dimensions;
        self.centres.copy_within(last.., leaf * self.dimensions);
        self.centres.truncate(last);
        let kept: Vec<u32> = rows.into_iter().filter(|row| !self.removed.contains(*row as usize)).collect();
        self.grow(&kept)
    }

    /// Removes a row: it is never found again. False if there was none.
    pub fn remove(&mut self, row: u64) -> bool {
        let there = usize::try_from(row).ok().filter(|row| *row < self.rows && !self.removed.contains(*row));
        there.is_some_and(|row| {
            self.removed.insert(row);
            true
        })
    }

    /// What nearness is.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Dimensions of a vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Rows that can be found.
    pub fn len(&self) -> usize {
        self.rows - self.removed.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many leaves there are: what `probes` counts.
    pub fn leaves(&self) -> usize {
        self.leaves.len()
    }

    /// Moves the whole vectors to a new file at `path` and maps it; everything else stays in memory.
    ///
    /// # Errors
    /// The vectors are mapped already, or the file cannot be written.
    pub fn use_mmap_storage(&mut self, path: &Path) -> Result<()> {
        match &self.storage {
            VectorStorage::Mmap(store) => {
                Err(Error::Query(format!("the vectors are mapped already, from {}", store.path().display())))
            }
            VectorStorage::InMemory(values) => {
                let vectors = values.chunks_exact(self.dimensions.max(1));
                self.storage = VectorStorage::Mmap(MmapVectorStore::create(path, self.dimensions, vectors)?);
                Ok(())
            }
        }
    }

    /// True if the whole vectors are mapped.
    pub fn is_using_mmap(&self) -> bool {
        matches!(self.storage, VectorStorage::Mmap(_))
    }

    /// Bytes of memory that belong to no file: codes, centres, and vectors unless they are mapped.
    pub fn memory_usage_bytes(&self) -> usize {
        let leaf = |leaf: &Leaf| {
            let floats = leaf.codes.factors.capacity() + leaf.squares.capacity();
            size_of::<Leaf>() + leaf.rows.capacity() * 4 + leaf.codes.blocks.capacity() + floats * 4
        };
        let leaves: usize = self.leaves.iter().map(leaf).sum();
        leaves + (self.centres.capacity() + self.squares.capacity()) * 4 + self.storage.memory_usage_bytes()
    }

    fn check(&self, vector: &[f32]) -> Result<()> {
        let (got, expected) = (vector.len(), self.dimensions);
        if got != expected {
            return Err(Error::Query(format!("the vector has {got} dimensions, the index {expected}")));
        }
        match vector.iter().position(|value| !value.is_finite()) {
            Some(entry) => Err(Error::Query(format!("element {entry} of the vector is NaN or infinite"))),
            None => Ok(()),
        }
    }
}

/// A vector in an index's space: rotated, and of unit length for the cosine. The error is the first entry that is not
/// finite.
pub(crate) fn turned(
    rotation: &Rotation,
    metric: Metric,
    vector: &[f32],
) -> std::result::Result<Vec<f32>, usize> {
    if let Some(entry) = vector.iter().position(|value| !value.is_finite()) {
        return Err(entry);
    }
    let mut point = vector.to_vec();
    if metric == Metric::Cosine {
        let square: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
        if square > 0.0 {
            point.iter_mut().for_each(|value| *value = (f64::from(*value) / square.sqrt()) as f32);
        }
    }
    rotation.turn(&mut point);
    Ok(point)
}

/// Puts points, one behind the other, into leaves, each with its centre; `rows` are their rows.
pub(crate) fn partition(
    points: &[f32],
    dimensions: usize,
    rows: &[u32],
    shape: Shape,
    metric: Metric,
    done: &mut dyn FnMut(usize),
) -> Vec<(Vec<f32>, Leaf)> {
    let mut leaves = tree::leaves(points, dimensions, rows.len(), shape, done);
    tree::refine(points, dimensions, &mut leaves, REFINEMENTS);
    let made = leaves.into_iter().map(|members| {
        let centre = tree::mean(points, dimensions, &members);
        let mut leaf = Leaf::new(dimensions);
        for member in members {
            leaf.push(rows[member as usize], tree::at(points, dimensions, member), &centre, metric);
        }
        leaf.shrink();
        (centre, leaf)
    });
    made.collect()
}

/// The squared length.
pub(crate) fn square(values: &[f32]) -> f32 {
    values.iter().map(|value| value * value).sum()
}

impl Leaf {
    /// Without rows.
    pub(crate) fn new(dimensions: usize) -> Self {
        Self { codes: Codes::new(dimensions), ..Self::default() }
    }

    fn shrink(&mut self) {
        self.codes.blocks.shrink_to_fit();
        self.codes.factors.shrink_to_fit();
        self.rows.shrink_to_fit();
        self.squares.shrink_to_fit();
    }

    /// Adds all rows of another.
    pub(crate) fn append(&mut self, other: &Self) {
        self.codes.append(&other.codes);
        self.rows.extend(&other.rows);
        self.squares.extend(&other.squares);
    }

    /// Adds a row, whose point this is.
    pub(crate) fn push(&mut self, row: u32, point: &[f32], centre: &[f32], metric: Metric) {
        let difference: Vec<f32> = point.iter().zip(centre).map(|(a, b)| a - b).collect();
        self.codes.push(&difference);
        self.rows.push(row);
        if metric == Metric::L2 {
            self.squares.push(square(point));
        }
    }
}
