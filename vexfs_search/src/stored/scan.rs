//! Building a scan: one leaf with every live row, and a record of four bits a dimension for each.
//!
//! INVARIANT: as of [`super::build`]. Rows are read once, some thousands at a time on all cores, and their codes are all that
//! is kept of them: memory does not grow by the vectors.

use rayon::prelude::*;

use super::build::{Progress, Reader, Stage};
use super::format::Parts;
use super::records;
use crate::clustered::Leaf;
use crate::error::Result;
use crate::metric::Metric;

/// Rows between two tellings of the progress, and rows that one thread takes at once.
const BATCH: usize = 1 << 14;
const PART: usize = 512;
/// Rows that the centre is the mean of.
const SAMPLE: usize = 4096;

/// What some rows come to.
#[derive(Default)]
struct Part {
    leaf: Leaf,
    ids: Vec<u64>,
    records: Vec<u8>,
}

/// The parts of a scan of all rows; without a row if none is live.
pub(super) fn parts(reader: &Reader, head: super::format::Head, progress: Progress<'_>) -> Result<Parts> {
    let (all, dimensions) = (reader.rows(), head.dimensions);
    let centre = centre(reader, dimensions)?;
    let mut leaf = Leaf::new(dimensions);
    let (mut ids, mut bytes) = (Vec::with_capacity(all), Vec::new());
    for start in (0..all).step_by(BATCH) {
        let end = all.min(start + BATCH);
        let starts: Vec<usize> = (start..end).step_by(PART).collect();
        let part = |start: usize| part(reader, start..end.min(start + PART), &centre, head.metric);
        let made: Vec<Part> = starts.into_par_iter().map(part).collect::<Result<_>>()?;
        for part in made {
            leaf.append(&part.leaf);
            ids.extend(part.ids);
            bytes.extend(part.records);
        }
        progress(Stage::Reading, end as u64, all as u64);
    }
    Ok(Parts { head, leaves: vec![(centre, leaf)], ids, records: bytes, graph: None })
}

// The mean of some points.
fn centre(reader: &Reader, dimensions: usize) -> Result<Vec<f32>> {
    let step = reader.rows().div_ceil(SAMPLE).max(1);
    let (mut sum, mut count) = (vec![0.0_f64; dimensions], 0.0);
    for row in (0..reader.rows()).step_by(step) {
        if let Some((_, _, point)) = reader.point(row)? {
            sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(value));
            count += 1.0;
        }
    }
    Ok(sum.iter().map(|sum| (sum / f64::max(count, 1.0)) as f32).collect())
}

fn part(reader: &Reader, rows: std::ops::Range<usize>, centre: &[f32], metric: Metric) -> Result<Part> {
    let mut part = Part { leaf: Leaf::new(centre.len()), ..Part::default() };
    let len = records::len(centre.len());
    for (number, row) in rows.enumerate() {
        let point = reader.point(row)?;
        part.ids.push(point.as_ref().map_or(0, |point| point.1));
        if let Some((row, _, point)) = point {
            part.leaf.push(row, &point, centre, metric);
            records::push(&point, &mut part.records);
        }
        part.records.resize((number + 1) * len, 0);
    }
    Ok(part)
}
