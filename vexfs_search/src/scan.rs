//! The exact answer: every live row against the query, the best k of them.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::thread;

use zerocopy::FromBytes;

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::half;
use crate::kernel::{Element, Entry, Metric, Sums, bit_sums, sums};

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Row of the matrix.
    pub row: u64,
    /// Score by the metric: see [`Metric`].
    pub score: f32,
}

/// A query vector that fits a collection.
#[derive(Clone, Debug)]
pub struct Query {
    values: Values,
    norm: f32,
    metric: Metric,
}

#[derive(Clone, Debug)]
enum Values {
    Numbers(Vec<f32>),
    Bits(Vec<u8>),
}

impl Query {
    /// A query of numbers; of a bit collection, a bit is set where the number is above 0.
    pub fn new(collection: &Collection, values: &[f32], metric: Metric) -> Result<Self> {
        let schema = collection.schema();
        if values.len() != schema.dimensions {
            return Err(Error::Query(format!(
                "the query has {} dimensions, the collection {}",
                values.len(),
                schema.dimensions
            )));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Query(format!("element {index} of the query is NaN or infinite")));
        }
        if schema.element == Element::Bit {
            let set =
                |eight: &[f32]| eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(*value > 0.0));
            let bits: Vec<u8> = values.chunks(8).map(set).collect();
            let norm = bit_sums(&bits, &bits).square.sqrt();
            return Ok(Self { values: Values::Bits(bits), norm, metric });
        }
        if metric == Metric::Hamming {
            return Err(Error::Query(format!(
                "hamming is for bits, the collection holds {}",
                schema.element.name()
            )));
        }
        let norm = sums(Metric::Cosine, values, values).square.sqrt();
        Ok(Self { values: Values::Numbers(values.to_vec()), norm, metric })
    }

    /// A query that is a stored vector: its raw bytes, as the attribute gives them.
    pub fn from_bytes(collection: &Collection, bytes: &[u8], metric: Metric) -> Result<Self> {
        let schema = collection.schema();
        let expected = schema.element.bytes(schema.dimensions);
        if bytes.len() != expected {
            return Err(Error::Query(format!(
                "the vector has {} bytes, the collection's {expected}",
                bytes.len()
            )));
        }
        let values: Vec<f32> = match schema.element {
            Element::F32 => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
            }
            Element::F16 => {
                bytes.chunks_exact(2).map(|b| half::to_f32(u16::from_le_bytes([b[0], b[1]]))).collect()
            }
            Element::I16 => {
                bytes.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]]))).collect()
            }
            Element::I8 => bytes.iter().map(|byte| f32::from(i8::from_le_bytes([*byte]))).collect(),
            Element::Bit => {
                let bit = |byte: &u8| (0..8).map(|bit| f32::from(byte >> bit & 1)).collect::<Vec<_>>();
                bytes.iter().flat_map(bit).collect()
            }
        };
        Self::new(collection, &values, metric)
    }
}

impl Collection {
    /// The `k` nearest live rows, nearest first; of equally near ones, the lower row.
    pub fn nearest(&self, query: &Query, k: usize) -> Vec<Hit> {
        let rows = self.rows();
        let bytes = rows.saturating_mul(self.row_bytes());
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        // Below some MiB a thread costs more than it saves.
        let parts = threads.min(bytes / (4 << 20) + 1);
        let step = rows.div_ceil(parts).max(1);
        let found = thread::scope(|scope| {
            let part =
                |start: usize| scope.spawn(move || self.scan(query, k, start..(start + step).min(rows)));
            let workers: Vec<_> = (0..rows).step_by(step).map(part).collect();
            let mut best = Best::new(k);
            for worker in workers {
                match worker.join() {
                    Ok(part) => part.heap.into_iter().for_each(|candidate| best.offer(candidate)),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            best
        });
        let sign = if query.metric.is_distance() { -1.0 } else { 1.0 };
        let mut found = found.heap.into_vec();
        found.sort_unstable();
        found.into_iter().map(|Candidate { nearness, row }| Hit { row, score: sign * nearness }).collect()
    }

    fn scan(&self, query: &Query, k: usize, rows: Range<usize>) -> Best {
        match (&query.values, self.schema().element) {
            (Values::Bits(bits), _) => {
                self.each(query, k, rows, |row| row.get(..bits.len()).map(|row| bit_sums(row, bits)))
            }
            (Values::Numbers(values), Element::F32) => self.numbers::<f32>(query, values, k, rows),
            (Values::Numbers(values), Element::F16) => self.numbers::<u16>(query, values, k, rows),
            (Values::Numbers(values), Element::I16) => self.numbers::<i16>(query, values, k, rows),
            (Values::Numbers(values), _) => self.numbers::<i8>(query, values, k, rows),
        }
    }

    fn numbers<T>(&self, query: &Query, values: &[f32], k: usize, rows: Range<usize>) -> Best
    where
        T: Entry + FromBytes + zerocopy::Immutable,
    {
        let len = size_of_val(values) / size_of::<f32>() * size_of::<T>();
        self.each(query, k, rows, |row| {
            let row = <[T]>::ref_from_bytes(row.get(..len)?).ok()?;
            Some(sums(query.metric, row, values))
        })
    }

    #[inline(always)]
    fn each(
        &self,
        query: &Query,
        k: usize,
        rows: Range<usize>,
        sums: impl Fn(&[u8]) -> Option<Sums>,
    ) -> Best {
        let mut best = Best::new(k);
        for index in rows {
            if !self.is_live(index) {
                continue;
            }
            let Some(sums) = self.row(index).and_then(&sums) else { continue };
            let score = query.metric.score(sums, query.norm);
            let nearness = if query.metric.is_distance() { -score } else { score };
            // A row that is freed at this moment may read as NaN.
            if !nearness.is_nan() {
                best.offer(Candidate { nearness, row: index as u64 });
            }
        }
        best
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    nearness: f32,
    row: u64,
}

impl Eq for Candidate {}

/// Nearer is less, so that the heap's top is the worst.
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.nearness.total_cmp(&self.nearness).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// The best k so far.
struct Best {
    heap: BinaryHeap<Candidate>,
    k: usize,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { heap: BinaryHeap::new(), k }
    }

    fn offer(&mut self, candidate: Candidate) {
        if self.heap.len() < self.k {
            self.heap.push(candidate);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && candidate < *worst
        {
            *worst = candidate;
        }
    }
}
