//! The exact scores of a few rows, as they are read off the disk.
//!
//! INVARIANT: a score belongs to the vector whose number stands beside it: record and bytes are of one look at the volume.

use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::MATRIX_DATA;
use vexfs_core::operations::{Collection, ReadPlan};
use vexfs_core::{Error, Result, Volume};
use vexfs_search::codec::Rows;
use vexfs_search::portion::{Portion, Wanted};
use vexfs_search::{Hit, Query};
use zerocopy::IntoBytes;

use super::question;
use super::scan::{Candidate, same_shape};
use super::source::Source;

/// Bytes of rows that are read at one look at the volume, and how many at most.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_ROWS: usize = 256;

/// The live ones of some rows with their scores, best first.
pub(super) fn scores(
    source: &impl Source,
    collection: &Collection,
    query: &Query,
    rows: &[u64],
) -> Result<Vec<Candidate>> {
    let coder = question::coder(source, collection)?;
    let stride = (collection.stride as usize).max(1);
    let batch = (BATCH_BYTES / stride).clamp(1, BATCH_ROWS);
    // Numbers, so that rows are aligned.
    let mut buffer = vec![0_u64; (batch.min(rows.len()) * stride).div_ceil(size_of::<u64>())];
    let mut found = Vec::with_capacity(rows.len());
    for rows in rows.chunks(batch) {
        let bytes = buffer.as_mut_bytes();
        let read = source.fetch(bytes, |volume, buffer| {
            if !same_shape(&volume.collection(collection.id)?, collection) {
                return Err(Error::Invalid("the collection was made another one meanwhile: ask again"));
            }
            let (read, plan) = plan(volume, collection, rows, buffer)?;
            Ok((read, Some(plan)))
        })?;
        let wanted: Vec<Wanted> =
            read.iter().enumerate().map(|(index, read)| Wanted { index, scale: read.scale }).collect();
        let portion = Portion {
            element: question::element(collection),
            coder: &coder,
            dimensions: collection.dimensions as usize,
            rows: Rows { bytes: &bytes[..read.len() * stride], stride },
        };
        let scores = portion.scores(query, &wanted);
        let candidate = |(read, score): (&Read, f32)| {
            let hit = Hit { row: read.row, score };
            Candidate { hit, vector_id: read.vector_id }
        };
        found.extend(read.iter().zip(scores).map(candidate));
    }
    // What has no score is near to nothing.
    found.retain(|candidate| !candidate.hit.score.is_nan());
    found.sort_unstable();
    Ok(found)
}

/// A live row whose bytes are read.
struct Read {
    row: u64,
    vector_id: u64,
    scale: f32,
}

// Begins to read the live ones of some rows into the buffer, one behind the other.
fn plan<H: BlockDevice + Data>(
    volume: &Volume<H>,
    collection: &Collection,
    rows: &[u64],
    buffer: &mut [u8],
) -> Result<(Vec<Read>, ReadPlan)> {
    let (id, stride) = (collection.id, (collection.stride as usize).max(1));
    let (mut read, mut all) = (Vec::with_capacity(rows.len()), ReadPlan { len: 0, pieces: Vec::new() });
    for row in rows {
        let Some(record) = volume.row(id, *row)? else { continue };
        let start = read.len() * stride;
        let place = MATRIX_DATA + *row * stride as u64;
        let plan = volume.read_begin(collection.matrix, place, &mut buffer[start..start + stride])?;
        if plan.len < stride {
            continue;
        }
        let shifted =
            plan.pieces.into_iter().map(|(range, place)| (range.start + start..range.end + start, place));
        all.pieces.extend(shifted);
        let (vector_id, scale) = (record.header.vector_id.get(), f32::from_bits(record.scale.get()));
        read.push(Read { row: *row, vector_id, scale });
    }
    all.len = read.len() * stride;
    Ok((read, all))
}
