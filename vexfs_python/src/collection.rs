//! A collection, opened for searches.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vexfs_search::stored::Kind;
use vexfs_search::{Hit, Metric, Options, Query, RowSet, Way, Wish};

use crate::{matrices, metric_of, raised};

pub(crate) type Matrices<'py> = (Bound<'py, PyArray2<i64>>, Bound<'py, PyArray2<f32>>);
type Lists<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f32>>);

/// A collection and its indexes, kept open; any number of threads may search.
#[pyclass(frozen)]
pub(crate) struct Searcher(Mutex<Option<vexfs_search::Searcher>>);

#[pymethods]
impl Searcher {
    #[new]
    fn new(py: Python<'_>, directory: PathBuf) -> PyResult<Self> {
        let opened = py.detach(|| vexfs_search::Searcher::open(&directory)).map_err(raised)?;
        Ok(Self(Mutex::new(Some(opened))))
    }

    /// The nearest `k` rows of each query: rows (int64, -1 behind the last) and scores (float32, higher is nearer, NaN
    /// behind the last), both queries x k. `queries` are f32 values, n x dimension.
    #[pyo3(signature = (queries, k, metric, min_recall, way, rows, threads))]
    #[expect(clippy::too_many_arguments, reason = "the package calls it, by name")]
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        k: usize,
        metric: &str,
        min_recall: f64,
        way: &str,
        rows: Option<PyReadonlyArray1<'py, i64>>,
        threads: usize,
    ) -> PyResult<Matrices<'py>> {
        let wish = wish(metric, k, min_recall, way)?;
        let rows = rows.map(|rows| chosen(&rows)).transpose()?;
        let options = Options { rows: rows.as_ref(), threads, ..Options::nearest(k) };
        let answers = self.answers(py, &queries, wish, options)?;
        let (found, scores) = matrices(&answers, k)?;
        let shape = [answers.len(), k];
        Ok((PyArray1::from_vec(py, found).reshape(shape)?, PyArray1::from_vec(py, scores).reshape(shape)?))
    }

    /// All rows of a score of at least `min_score` for each query, nearest first: where each query's begin (queries +
    /// 1), the rows, the scores.
    #[pyo3(signature = (queries, min_score, metric, rows, threads))]
    fn range<'py>(
        &self,
        py: Python<'py>,
        queries: PyReadonlyArray2<'py, f32>,
        min_score: f32,
        metric: &str,
        rows: Option<PyReadonlyArray1<'py, i64>>,
        threads: usize,
    ) -> PyResult<Lists<'py>> {
        let wish = wish(metric, usize::MAX, 1.0, "exact")?;
        let rows = rows.map(|rows| chosen(&rows)).transpose()?;
        let options = Options { min_score, rows: rows.as_ref(), threads, ..Options::nearest(usize::MAX) };
        let answers = self.answers(py, &queries, wish, options)?;
        let mut starts = vec![0];
        answers.iter().for_each(|answer| starts.push(starts.last().unwrap_or(&0) + answer.len() as i64));
        let found = answers.iter().flatten().map(|hit| hit.row as i64).collect();
        let scores = answers.iter().flatten().map(|hit| hit.score).collect();
        Ok((PyArray1::from_vec(py, starts), PyArray1::from_vec(py, found), PyArray1::from_vec(py, scores)))
    }

    /// What queries must be like now: dimension, element and metric.
    fn form(&self, py: Python<'_>) -> PyResult<(usize, &'static str, &'static str)> {
        self.with(py, |searcher| {
            searcher.follow()?;
            let schema = searcher.collection().schema();
            Ok((schema.dimensions, schema.element.name(), schema.metric.name()))
        })
    }

    /// The collection's generation now.
    fn generation(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |searcher| searcher.collection().generation())
    }

    /// How such searches are done now: `exact` or the index's name, why, and the recall that was measured for it.
    fn explain(
        &self,
        py: Python<'_>,
        k: usize,
        metric: &str,
        min_recall: f64,
        way: &str,
    ) -> PyResult<(String, String, f64)> {
        let wish = wish(metric, k, min_recall, way)?;
        self.with(py, |searcher| {
            let plan = searcher.explain(wish)?;
            Ok((plan.name().to_owned(), plan.why().to_owned(), plan.recall()))
        })
    }

    /// Lets go of the files.
    fn close(&self, py: Python<'_>) {
        py.detach(|| *self.lock() = None);
    }
}

impl Searcher {
    // A search that panicked left nothing half done that matters: the files are opened again when they change.
    fn lock(&self) -> MutexGuard<'_, Option<vexfs_search::Searcher>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Does something with the collection while other Python threads run.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut vexfs_search::Searcher) -> vexfs_search::Result<T> + Send,
    ) -> PyResult<T> {
        let done = py.detach(|| self.lock().as_mut().map(work));
        done.ok_or_else(|| PyValueError::new_err("the collection is closed"))?.map_err(raised)
    }

    fn answers(
        &self,
        py: Python<'_>,
        queries: &PyReadonlyArray2<'_, f32>,
        wish: Wish,
        options: Options<'_>,
    ) -> PyResult<Vec<Vec<Hit>>> {
        let contiguous = || PyValueError::new_err("the queries are not contiguous: numpy.ascontiguousarray");
        let (count, width) = (queries.as_array().nrows(), queries.as_array().ncols());
        let values = queries.as_slice().map_err(|_| contiguous())?;
        self.with(py, |searcher| {
            let row = |number: usize| &values[number * width..(number + 1) * width];
            let queries: vexfs_search::Result<Vec<Query>> = (0..count)
                .map(|number| Query::new(searcher.collection(), row(number), wish.metric))
                .collect();
            searcher.search_all(&queries?, wish, options)
        })
    }
}

fn wish(metric: &str, k: usize, min_recall: f64, way: &str) -> PyResult<Wish> {
    let metric: Metric = metric_of(metric)?;
    if k == 0 {
        return Err(PyValueError::new_err("k = 0 finds nothing: ask for 1 or more"));
    }
    if !(0.0..=1.0).contains(&min_recall) {
        return Err(PyValueError::new_err(format!("{min_recall}: a recall is from 0 to 1")));
    }
    let way = match way {
        "fastest" => Way::Fastest,
        "exact" => Way::Exact,
        "any" => Way::Index(None),
        kind => Way::Index(Some(Kind::from_name(kind).ok_or_else(|| {
            PyValueError::new_err(format!("{kind:?}: the indexes are any, scan, clustered and graph"))
        })?)),
    };
    Ok(Wish { metric, k, min_recall, way })
}

fn chosen(rows: &PyReadonlyArray1<'_, i64>) -> PyResult<RowSet> {
    let row =
        |row: &i64| usize::try_from(*row).map_err(|_| PyValueError::new_err(format!("{row} is no row")));
    rows.as_array().iter().map(row).collect()
}
