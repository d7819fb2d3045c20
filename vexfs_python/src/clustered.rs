//! The clustered index, over memory or a mapped file.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use numpy::{PyArray1, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vexfs_search::{ClusteredIndex, MmapVectorStore, VectorStorage};

use crate::collection::Matrices;
use crate::{matrices, metric_of, raised};

/// A `ClusteredIndex` of `vexfs_search`.
#[pyclass(frozen)]
pub(crate) struct Clustered(RwLock<ClusteredIndex>);

#[pymethods]
impl Clustered {
    /// Of a matrix in memory, which is copied.
    #[staticmethod]
    fn of_array(
        py: Python<'_>,
        vectors: PyReadonlyArray2<'_, f32>,
        branches: usize,
        leaf: usize,
        metric: &str,
        iterations: usize,
    ) -> PyResult<Self> {
        let metric = metric_of(metric)?;
        let rows: Vec<Vec<f32>> = vectors.as_array().rows().into_iter().map(|row| row.to_vec()).collect();
        let built = py.detach(|| ClusteredIndex::build(rows, branches, leaf, metric, iterations));
        Ok(Self(RwLock::new(built.map_err(raised)?)))
    }

    /// Of a file as numpy saves it, or a collection's `vectors.npy`, which is mapped.
    #[staticmethod]
    fn of_file(
        py: Python<'_>,
        path: PathBuf,
        dimensions: usize,
        branches: usize,
        leaf: usize,
        metric: &str,
        iterations: usize,
    ) -> PyResult<Self> {
        let metric = metric_of(metric)?;
        let built = py.detach(|| {
            let store = MmapVectorStore::open(&path, dimensions)?;
            ClusteredIndex::build_mapped(store, dimensions, branches, leaf, metric, iterations)
        });
        Ok(Self(RwLock::new(built.map_err(raised)?)))
    }

    /// One that was saved, over the mapped file of its vectors.
    #[staticmethod]
    fn load(py: Python<'_>, path: PathBuf, vectors: PathBuf, dimensions: usize) -> PyResult<Self> {
        let loaded = py.detach(|| {
            let store = MmapVectorStore::open(&vectors, dimensions)?;
            ClusteredIndex::load(&path, VectorStorage::Mmap(store))
        });
        Ok(Self(RwLock::new(loaded.map_err(raised)?)))
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.read(|index| index.save(&path))).map_err(raised)
    }

    /// Rows and scores, queries x k, as `Searcher.search` gives them.
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        k: usize,
        probes: usize,
        rerank: usize,
    ) -> PyResult<Matrices<'py>> {
        let contiguous = |_| PyValueError::new_err("the queries are not contiguous: numpy.ascontiguousarray");
        let (count, width) = (queries.as_array().nrows(), queries.as_array().ncols());
        let values = queries.as_slice().map_err(contiguous)?;
        let row = |number: usize| &values[number * width..(number + 1) * width];
        let found: vexfs_search::Result<Vec<_>> = py.detach(|| {
            self.read(|index| (0..count).map(|number| index.search(row(number), k, probes, rerank)).collect())
        });
        let (rows, scores) = matrices(&found.map_err(raised)?, k)?;
        Ok((
            PyArray1::from_vec(py, rows).reshape([count, k])?,
            PyArray1::from_vec(py, scores).reshape([count, k])?,
        ))
    }

    /// Adds a vector; gives its row.
    fn insert(&self, vector: PyReadonlyArray1<'_, f32>) -> PyResult<u64> {
        let vector = vector.as_array().to_vec();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(&vector).map_err(raised)
    }

    /// Takes a row out; false if it was not there.
    fn remove(&self, row: u64) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(row)
    }

    fn __len__(&self) -> usize {
        self.read(ClusteredIndex::len)
    }

    fn metric(&self) -> &'static str {
        self.read(|index| index.metric().name())
    }

    fn dimensions(&self) -> usize {
        self.read(ClusteredIndex::dimensions)
    }

    fn leaves(&self) -> usize {
        self.read(ClusteredIndex::leaves)
    }

    fn memory_usage_bytes(&self) -> usize {
        self.read(ClusteredIndex::memory_usage_bytes)
    }

    fn is_using_mmap(&self) -> bool {
        self.read(ClusteredIndex::is_using_mmap)
    }

    /// Lets go of the vectors in memory for those of a file.
    fn use_mmap_storage(&self, path: PathBuf) -> PyResult<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).use_mmap_storage(&path).map_err(raised)
    }
}

impl Clustered {
    fn read<T>(&self, of: impl FnOnce(&ClusteredIndex) -> T) -> T {
        of(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
