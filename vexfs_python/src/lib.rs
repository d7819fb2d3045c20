//! `vexfs._vexfs`: searches of `vexfs_search` for Python, over numpy's own memory.
//!
//! It converts and checks; which names users see, and in which form answers come, is decided in `python/vexfs`. Vectors
//! are read where numpy has them, and the interpreter is let go of while rows are compared.

mod clustered;
mod collection;

use pyo3::exceptions::{PyFileNotFoundError, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use vexfs_search::{Error, Hit, Metric};

#[pymodule]
mod _vexfs {
    #[pymodule_export]
    use super::clustered::Clustered;
    #[pymodule_export]
    use super::collection::Searcher;
    use super::*;

    /// The vector instructions that searches use on this CPU.
    #[pyfunction]
    fn instructions() -> &'static str {
        vexfs_search::instructions()
    }
}

/// An error as Python knows it: `OSError` with its number, `FileNotFoundError` for an index that is not there, else
/// `ValueError`.
fn raised(error: Error) -> PyErr {
    let words = error.to_string();
    match error {
        Error::Io { path, source } => match source.raw_os_error() {
            Some(number) => PyOSError::new_err((number, source.to_string(), path)),
            None => PyOSError::new_err(words),
        },
        Error::NoIndex { .. } => PyFileNotFoundError::new_err(words),
        _ => PyValueError::new_err(words),
    }
}

fn metric_of(name: &str) -> PyResult<Metric> {
    Metric::from_name(name)
        .ok_or_else(|| PyValueError::new_err(format!("{name:?}: the metrics are l2, ip, cosine and hamming")))
}

/// Answers of many queries as two matrices by rows, `width` wide: rows of the collection, with -1 behind the last, and
/// scores, with NaN there.
fn matrices(answers: &[Vec<Hit>], width: usize) -> PyResult<(Vec<i64>, Vec<f32>)> {
    let (mut rows, mut scores) = (Vec::new(), Vec::new());
    let entries = answers.len().saturating_mul(width);
    if rows.try_reserve_exact(entries).is_err() || scores.try_reserve_exact(entries).is_err() {
        let words = format!("there is no memory for {} x {width} answers: ask for fewer", answers.len());
        return Err(PyMemoryError::new_err(words));
    }
    for (number, answer) in answers.iter().enumerate() {
        let hits = answer.iter().take(width);
        rows.extend(hits.clone().map(|hit| hit.row as i64));
        scores.extend(hits.map(|hit| hit.score));
        rows.resize((number + 1) * width, -1);
        scores.resize((number + 1) * width, f32::NAN);
    }
    Ok((rows, scores))
}
