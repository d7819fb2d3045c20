//! The best rows of a collection whose files a caller finds.
//!
//! INVARIANT: a score belongs to the vector whose number stands beside it. Rows are read a portion at a time, and others change
//! the collection in between: a pass that met a change is made again, some times, so that a vector that moves is not missed.
//! What is kept is as many rows as were asked for and those of a portion; who has a row is found out only of rows that
//! would be among them.

use alloc::vec::Vec;
use core::ops::Range;

use super::Source;
use super::question::Question;
use super::score::{Query, Score};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Codec, MATRIX_DATA, RowRecord};
use crate::memory;
use crate::numbers::CollectionId;
use crate::operations::{Caller, Collection, Holder, Reach};
use crate::volume::Volume;

/// Bytes of the matrix, and rows, that are read at once.
const PORTION_BYTES: usize = 256 << 10;
const PORTION_ROWS: usize = 1024;
/// Rows whose files are looked for at one look at the volume.
pub(super) const ROWS_A_LOOK: usize = 64;

/// A row that may be told. Better is less: of equal scores the lower row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) score: core::cmp::Reverse<Score>,
    pub(super) row: u64,
    pub(super) vector_id: u64,
}

/// A search of a collection.
pub(super) struct Scan<'a, S> {
    pub(super) source: &'a S,
    pub(super) id: CollectionId,
    pub(super) question: &'a Question,
    collection: &'a Collection,
    query: &'a Query,
    /// Rows of a portion at most.
    span: u64,
    buffer: Vec<u8>,
    /// The live rows of the portion at work.
    portion: Vec<Candidate>,
    /// The best so far, in no order; more than were asked for only while a portion is at work.
    pub(super) best: Vec<Candidate>,
}

impl<'a, S: Source> Scan<'a, S> {
    /// None is read yet.
    pub(super) fn new(
        source: &'a S,
        id: CollectionId,
        collection: &'a Collection,
        query: &'a Query,
        question: &'a Question,
    ) -> Result<Self> {
        if collection.codec != Codec::None {
            return Err(Error::Unsupported("the collection's codec keeps floats"));
        }
        let stride = (collection.stride as usize).max(1);
        let span = (PORTION_BYTES / stride).clamp(1, PORTION_ROWS);
        let buffer = memory::zeroed(span * stride)?;
        let (portion, best) = (Vec::new(), Vec::new());
        Ok(Self { source, id, question, collection, query, span: span as u64, buffer, portion, best })
    }

    /// Goes over all rows; true if none changed meanwhile.
    pub(super) fn pass(&mut self, caller: &Caller<'_>, reach: &mut Reach) -> Result<bool> {
        let changes = |scan: &Self| scan.source.look(|volume| Ok(volume.collection(scan.id)?.changes));
        let before = changes(self)?;
        self.best.clear();
        let mut from = 0;
        while self.read(from)? {
            let Some(last) = self.portion.last() else { break };
            from = last.row.saturating_add(1);
            self.score();
            self.keep(caller, reach)?;
            if self.source.abandoned() {
                return Err(Error::Busy);
            }
        }
        self.best.sort_unstable();
        Ok(changes(self)? == before)
    }

    // Reads the live rows of the portion that begins with the first one from `from` on; false if there is none.
    fn read(&mut self, from: u64) -> Result<bool> {
        let Self { source, id, collection, span, buffer, portion, .. } = self;
        portion.clear();
        source.fetch(buffer, |volume, buffer| {
            let now = volume.collection(*id)?;
            let shape = |it: &Collection| (it.dimensions, it.element, it.codec, it.stride, it.matrix);
            if shape(&now) != shape(collection) {
                return Err(Error::Invalid("the collection was made another one meanwhile: ask again"));
            }
            live_rows(volume, *id, from..now.rows, *span, portion)?;
            let (Some(first), Some(last)) = (portion.first(), portion.last()) else {
                return Ok((false, None));
            };
            let stride = u64::from(now.stride);
            let offset = first.row.checked_mul(stride).and_then(|offset| offset.checked_add(MATRIX_DATA));
            let offset = offset.ok_or(Error::corrupt("row", id.0.into(), "its place is beyond all files"))?;
            let len = (last.row - first.row + 1) as usize * stride as usize;
            let plan = volume.read_begin(now.matrix, offset, &mut buffer[..len])?;
            // Rows that the matrix has not as a whole are none.
            let whole = plan.len / stride as usize;
            let start = first.row;
            portion.retain(|row| ((row.row - start) as usize) < whole);
            Ok((true, Some(plan)))
        })
    }

    fn score(&mut self) {
        let Some(start) = self.portion.first().map(|row| row.row) else { return };
        let (stride, len) = (self.collection.stride as usize, self.collection.vector_len() as usize);
        for candidate in &mut self.portion {
            let at = (candidate.row - start) as usize * stride;
            if let Some(row) = self.buffer.get(at..at + len) {
                candidate.score = core::cmp::Reverse(self.query.score(row));
            }
        }
    }

    // Keeps the best of the portion, if the caller finds their files.
    fn keep(&mut self, caller: &Caller<'_>, reach: &mut Reach) -> Result<()> {
        let k = self.question.k;
        let worst = if self.best.len() < k { None } else { self.best.iter().max().copied() };
        let least = self.question.min_score;
        self.portion.retain(|row| {
            least.is_none_or(|least| row.score.0 >= least) && worst.is_none_or(|worst| *row < worst)
        });
        self.portion.sort_unstable();
        let mut kept = 0;
        for some in self.portion.chunks(ROWS_A_LOOK) {
            if kept == k {
                break;
            }
            self.source.look(|volume| {
                for row in some {
                    if kept == k {
                        break;
                    }
                    let holder = volume.holder(self.id, row.row, row.vector_id, caller, reach)?;
                    if matches!(holder, Holder::Found(_)) {
                        memory::push(&mut self.best, *row)?;
                        kept += 1;
                    }
                }
                Ok(())
            })?;
        }
        if self.best.len() > k {
            self.best.select_nth_unstable(k - 1);
            self.best.truncate(k);
        }
        Ok(())
    }
}

// The live rows of a portion, with no score yet.
fn live_rows<H: BlockDevice + Data>(
    volume: &Volume<H>,
    id: CollectionId,
    rows: Range<u64>,
    span: u64,
    portion: &mut Vec<Candidate>,
) -> Result<()> {
    memory::reserve(portion, span as usize)?;
    volume.rows_of(id, rows.start, &mut |row, record: &RowRecord| {
        let first = portion.first().map_or(row, |first| first.row);
        if row >= rows.end || row - first >= span {
            return false;
        }
        let score = core::cmp::Reverse(Score::LEAST);
        memory::append(portion, Candidate { score, row, vector_id: record.header.vector_id.get() });
        true
    })
}
