//! The nearest rows of each query by comparing it with every row, and how many of the right ones were found.

use std::num::NonZeroUsize;
use std::thread;

use crate::Metric;

/// Accumulators of a sum, added up in a fixed order.
const LANES: usize = 16;

/// Of each query the `k` nearest of `rows` (vectors of `dimensions`, one behind the other), nearest first; of equally
/// near ones the lower.
pub(super) fn nearest(
    rows: &[f32],
    queries: &[f32],
    dimensions: usize,
    metric: Metric,
    k: usize,
) -> Vec<Vec<usize>> {
    let norms: Vec<f32> = match metric {
        Metric::Cosine => rows.chunks_exact(dimensions).map(|row| product(row, row).sqrt()).collect(),
        _ => Vec::new(),
    };
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let queries: Vec<&[f32]> = queries.chunks_exact(dimensions).collect();
    let of_query = |query: &&[f32]| {
        let rows = rows.chunks_exact(dimensions).enumerate();
        best(rows.map(|(index, row)| (nearness(row, query, metric, norms.get(index)), index)).collect(), k)
    };
    thread::scope(|scope| {
        let part = |part| scope.spawn(move || <[&[f32]]>::iter(part).map(of_query).collect::<Vec<_>>());
        let workers: Vec<_> = queries.chunks(queries.len().div_ceil(threads).max(1)).map(part).collect();
        let joined = workers.into_iter().flat_map(|worker| match worker.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    })
}

/// Of each query the `k` nearest among its `candidates`, compared by `rows`.
pub(super) fn rerank(
    candidates: &[Vec<usize>],
    rows: &[f32],
    queries: &[f32],
    dimensions: usize,
    metric: Metric,
    k: usize,
) -> Vec<Vec<usize>> {
    let again = |(query, candidates): (&[f32], &Vec<usize>)| {
        let scored = candidates.iter().map(|index| {
            let row = &rows[index * dimensions..][..dimensions];
            (nearness(row, query, metric, Some(&product(row, row).sqrt())), *index)
        });
        best(scored.collect(), k)
    };
    queries.chunks_exact(dimensions).zip(candidates).map(again).collect()
}

/// The share of the first `k` of `exact` that is among the first `k` of `found`, over all queries.
pub(super) fn recall(exact: &[Vec<usize>], found: &[Vec<usize>], k: usize) -> f64 {
    let of_query = |(exact, found): (&Vec<usize>, &Vec<usize>)| {
        let found = &found[..k.min(found.len())];
        exact.iter().take(k).filter(|index| found.contains(index)).count()
    };
    let hits: usize = exact.iter().zip(found).map(of_query).sum();
    hits as f64 / (exact.len() * k).max(1) as f64
}

fn best(mut scored: Vec<(f32, usize)>, k: usize) -> Vec<usize> {
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if k < scored.len() {
        scored.select_nth_unstable_by(k, order);
        scored.truncate(k);
    }
    scored.sort_unstable_by(order);
    scored.into_iter().map(|(_, index)| index).collect()
}

// More is nearer. The query's own norm changes no order.
fn nearness(row: &[f32], query: &[f32], metric: Metric, norm: Option<&f32>) -> f32 {
    match (metric, norm) {
        (Metric::Cosine, Some(norm)) if *norm > 0.0 => product(row, query) / norm,
        (Metric::Cosine, _) => 0.0,
        (Metric::L2, _) => -sum(row, query, |a, b| (a - b) * (a - b)),
        _ => product(row, query),
    }
}

/// The inner product.
pub(super) fn product(a: &[f32], b: &[f32]) -> f32 {
    sum(a, b, |a, b| a * b)
}

#[inline(always)]
fn sum(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (a, b) in a.iter().zip(b) {
        for ((lane, a), b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += term(*a, *b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| term(*a, *b)).sum();
    lanes.iter().sum::<f32>() + rest
}
