//! Which rows of a collection stand for all of them.

use crate::error::{Error, Result};
use crate::{Collection, Element, Metric, decode};

/// How large a sample is, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rows to search, at most.
    pub rows: usize,
    /// Queries, at most; never more than a fifth of the live rows.
    pub queries: usize,
    /// Neighbours that a search is to find.
    pub k: usize,
    /// Another seed is another sample.
    pub seed: u64,
}

/// Vectors of a collection: rows to search, and others to search with.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Elements of a vector.
    pub dimensions: usize,
    /// How near is measured.
    pub metric: Metric,
    /// Neighbours that a search is to find.
    pub k: usize,
    /// The vectors that are searched, one behind the other, in the order of their rows.
    pub rows: Vec<f32>,
    /// The vectors to search with, likewise.
    pub queries: Vec<f32>,
    /// How many vectors of the collection were live.
    pub live: usize,
}

impl Sample {
    /// Draws a sample. The live rows are ordered by the outputs of splitmix64 (Steele, Lea, Flood, 2014) from the
    /// seed, the first output being row 0's; the first rows are the queries, the next ones are searched.
    ///
    /// # Errors
    /// A collection whose vectors are not f32, or that has no more than `k` of them.
    pub fn draw(collection: &Collection, options: &Options) -> Result<Self> {
        let schema = collection.schema();
        if schema.element != Element::F32 || schema.metric == Metric::Hamming {
            let (element, metric) = (schema.element.name(), schema.metric.name());
            return Err(Error::Query(format!(
                "a collection of {element} compared by {metric} has no sample"
            )));
        }
        let mut live: Vec<(u64, usize)> = (0..collection.rows())
            .filter(|row| collection.is_live(*row))
            .map(|row| (random(options.seed, row as u64), row))
            .collect();
        if live.len() <= options.k {
            let (live, k) = (live.len(), options.k);
            return Err(Error::Query(format!(
                "the collection holds {live} vectors; to find {k} neighbours takes at least {}",
                k.saturating_add(1)
            )));
        }
        live.sort_unstable();
        let count = live.len();
        let queries = options.queries.min(count / 5).min(count - options.k).max(1);
        let rows = options.rows.max(options.k).min(count - queries);
        let mut chosen: Vec<usize> = live.into_iter().map(|(_, row)| row).take(queries + rows).collect();
        let (first, others) = chosen.split_at_mut(queries);
        first.sort_unstable();
        others.sort_unstable();
        Ok(Self {
            dimensions: schema.dimensions,
            metric: schema.metric,
            k: options.k,
            rows: vectors(collection, others),
            queries: vectors(collection, first),
            live: count,
        })
    }

    /// Rows that are searched.
    pub fn row_count(&self) -> usize {
        self.rows.len() / self.dimensions.max(1)
    }

    /// Queries.
    pub fn query_count(&self) -> usize {
        self.queries.len() / self.dimensions.max(1)
    }
}

/// Up to `most` vectors of a collection, one behind the other in the order of their rows: what a codebook is trained on. They are
/// drawn as a [`Sample`] is.
///
/// # Errors
/// A collection whose vectors are neither f32 nor f16.
pub fn to_train_on(collection: &Collection, most: usize, seed: u64) -> Result<Vec<f32>> {
    let element = collection.schema().element;
    if !matches!(element, Element::F32 | Element::F16) {
        return Err(Error::Query(format!(
            "vectors of {} are not quantised: pq takes f32 and f16",
            element.name()
        )));
    }
    let live = (0..collection.rows()).filter(|row| collection.is_live(*row));
    let mut rows: Vec<(u64, usize)> = live.map(|row| (random(seed, row as u64), row)).collect();
    if most < rows.len() {
        rows.select_nth_unstable(most);
        rows.truncate(most);
    }
    let mut rows: Vec<usize> = rows.into_iter().map(|(_, row)| row).collect();
    rows.sort_unstable();
    Ok(vectors(collection, &rows))
}

// The vectors of rows; one that was freed meanwhile is left out.
fn vectors(collection: &Collection, rows: &[usize]) -> Vec<f32> {
    let mut all = Vec::with_capacity(rows.len() * collection.schema().dimensions);
    for row in rows {
        let Some(bytes) = collection.vector(*row) else { continue };
        let start = all.len();
        all.extend(decode(collection.schema().element, &bytes));
        if !collection.is_live(*row) || !all[start..].iter().all(|value| value.is_finite()) {
            all.truncate(start);
        }
    }
    all
}

/// The output of splitmix64 with this index.
fn random(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
