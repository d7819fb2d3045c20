//! Every live row of a collection with its score, as it was read off the disk.
//!
//! INVARIANT: a score belongs to the vector whose number stands beside it. Rows are read a portion at a time, and others change
//! the collection in between; a portion whose vectors are no longer the same ones is scored again, until a whole pass met no
//! change, so that a vector that moves is not missed. It takes 16 bytes a live row.

use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::ops::Range;
use std::vec::IntoIter;

use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::{MATRIX_DATA, RowRecord};
use vexfs_core::numbers::CollectionId;
use vexfs_core::operations::{Collection, ReadPlan};
use vexfs_core::{Error, Result, Volume};
use vexfs_search::codec::{Coder, Rows};
use vexfs_search::portion::{Portion, Wanted};
use vexfs_search::{Hit, Query};
use zerocopy::IntoBytes;

use super::question;
use super::source::Source;

/// Bytes of the matrix, and rows, that are read at once.
const PORTION_BYTES: usize = 512 << 10;
const PORTION_ROWS: usize = 1024;
/// Passes over a collection that changes meanwhile, after which the answer is what was found.
const PASSES_MAX: u32 = 4;

/// The scores of a collection's rows.
pub(super) struct Scan<'a, S> {
    pub(super) source: &'a S,
    pub(super) id: CollectionId,
    collection: &'a Collection,
    coder: Coder,
    query: &'a Query,
    /// Rows of a portion.
    span: u64,
    /// Numbers, so that rows are aligned.
    buffer: Vec<u64>,
    portions: Vec<Scored>,
    /// What the collection's count of changes was when the last pass began.
    changes: Option<u64>,
}

/// The live rows of a portion.
struct Scored {
    first: u64,
    rows: Vec<Row>,
}

/// A live row of a portion.
#[derive(Clone, Copy)]
struct Row {
    vector_id: u64,
    /// Behind the first of the portion.
    index: u32,
    score: f32,
}

/// A row that may be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) hit: Hit,
    pub(super) vector_id: u64,
}

/// What a look at a portion finds.
enum Look {
    /// No row from there on.
    End,
    /// The vectors that were scored.
    Same(Scored),
    /// Others; their bytes are in the buffer, from the first row's on.
    New(Scored, Vec<f32>, usize),
}

impl<'a, S: Source> Scan<'a, S> {
    /// None is read yet.
    pub(super) fn new(
        source: &'a S,
        id: CollectionId,
        collection: &'a Collection,
        query: &'a Query,
    ) -> Result<Self> {
        let coder = question::coder(source, collection)?;
        let stride = (collection.stride as usize).max(1);
        let span = (PORTION_BYTES / stride).clamp(1, PORTION_ROWS);
        let buffer = vec![0; (span * stride).div_ceil(size_of::<u64>())];
        let portions = Vec::new();
        Ok(Self { source, id, collection, coder, query, span: span as u64, buffer, portions, changes: None })
    }

    /// Scores what is new since the last time.
    pub(super) fn refresh(&mut self) -> Result<()> {
        for _ in 0..PASSES_MAX {
            let changes = self.source.look(|volume| volume.collection(self.id))?.changes;
            if self.changes == Some(changes) {
                break;
            }
            self.pass()?;
            self.changes = Some(changes);
        }
        Ok(())
    }

    /// The best `count` rows with at least the least score that come behind `after` in the order of the answer, best first.
    pub(super) fn best(&self, after: Option<Candidate>, count: usize, least: f32) -> Vec<Candidate> {
        let mut best = BinaryHeap::new();
        let rows =
            self.portions.iter().flat_map(|portion| portion.rows.iter().map(|row| (portion.first, row)));
        for (first, row) in rows.filter(|(_, row)| row.score >= least) {
            let hit = Hit { row: first + u64::from(row.index), score: row.score };
            let candidate = Candidate { hit, vector_id: row.vector_id };
            if after.is_some_and(|after| candidate <= after) {
                continue;
            }
            if best.len() < count {
                best.push(candidate);
            } else if let Some(mut worst) = best.peek_mut()
                && candidate < *worst
            {
                *worst = candidate;
            }
        }
        best.into_sorted_vec()
    }

    // Looks at all portions, and scores those that are not what they were.
    fn pass(&mut self) -> Result<()> {
        let mut old = std::mem::take(&mut self.portions).into_iter().peekable();
        let mut from = 0;
        loop {
            let portion = match self.look(from, &mut old)? {
                Look::End => return Ok(()),
                Look::Same(portion) => portion,
                Look::New(mut portion, scales, len) => {
                    self.score(&mut portion, &scales, len);
                    portion
                }
            };
            from = portion.first + self.span;
            self.portions.push(portion);
        }
    }

    // The portion of the next live row; its bytes, unless it holds the vectors that it held.
    fn look(&mut self, from: u64, old: &mut Peekable<IntoIter<Scored>>) -> Result<Look> {
        let Self { source, id, collection, span, .. } = *self;
        let buffer = bytes(&mut self.buffer);
        source.fetch(buffer, |volume, buffer| {
            let now = volume.collection(id)?;
            if !same_shape(&now, collection) {
                return Err(Error::Invalid("the collection was made another one meanwhile: ask again"));
            }
            let (portion, scales) = live_rows(volume, id, from..now.rows, span)?;
            let Some(portion) = portion else { return Ok((Look::End, None)) };
            while old.next_if(|old| old.first < portion.first).is_some() {}
            if let Some(same) = old.next_if(|old| old.is(&portion)) {
                return Ok((Look::Same(same), None));
            }
            let (plan, len) = matrix(volume, &now, &portion, buffer)?;
            Ok((Look::New(portion, scales, len), Some(plan)))
        })
    }

    fn score(&mut self, portion: &mut Scored, scales: &[f32], len: usize) {
        let Some(start) = portion.rows.first().map(|row| row.index) else { return };
        let wanted: Vec<Wanted> = (portion.rows.iter().zip(scales))
            .map(|(row, scale)| Wanted { index: (row.index - start) as usize, scale: *scale })
            .collect();
        let rows = Rows { bytes: &bytes(&mut self.buffer)[..len], stride: self.collection.stride as usize };
        let stored = Portion {
            element: question::element(self.collection),
            coder: &self.coder,
            dimensions: self.collection.dimensions as usize,
            rows,
        };
        for (row, score) in portion.rows.iter_mut().zip(stored.scores(self.query, &wanted)) {
            row.score = score;
        }
    }
}

impl Scored {
    // True if it is a portion of the same vectors.
    fn is(&self, other: &Self) -> bool {
        let key = |row: &Row| (row.index, row.vector_id);
        self.first == other.first && self.rows.iter().map(key).eq(other.rows.iter().map(key))
    }
}

/// True if the rows of one are read as those of the other.
pub(super) fn same_shape(one: &Collection, other: &Collection) -> bool {
    let shape = |it: &Collection| (it.dimensions, it.element, it.codec, it.stride, it.matrix);
    shape(one) == shape(other)
}

// The live rows of the portion that the first of `rows` which is live lies in, and their scales.
fn live_rows<H: BlockDevice + Data>(
    volume: &Volume<H>,
    id: CollectionId,
    rows: Range<u64>,
    span: u64,
) -> Result<(Option<Scored>, Vec<f32>)> {
    let (mut portion, mut scales) = (None::<Scored>, Vec::new());
    volume.rows_of(id, rows.start, &mut |row, record: &RowRecord| {
        if row >= rows.end {
            return false;
        }
        let portion = portion.get_or_insert_with(|| Scored { first: row - row % span, rows: Vec::new() });
        let index = row - portion.first;
        if index >= span {
            return false;
        }
        let vector_id = record.header.vector_id.get();
        portion.rows.push(Row { vector_id, index: index as u32, score: f32::NAN });
        scales.push(f32::from_bits(record.scale.get()));
        true
    })?;
    Ok((portion, scales))
}

// Begins to read the rows of a portion, from its first live one to its last; gives how many bytes they are.
fn matrix<H: BlockDevice + Data>(
    volume: &Volume<H>,
    collection: &Collection,
    portion: &Scored,
    buffer: &mut [u8],
) -> Result<(ReadPlan, usize)> {
    let (Some(first), Some(last)) = (portion.rows.first(), portion.rows.last()) else {
        return Err(Error::NotFound);
    };
    let stride = u64::from(collection.stride);
    let offset = MATRIX_DATA + (portion.first + u64::from(first.index)) * stride;
    let len = (last.index - first.index + 1) as usize * stride as usize;
    let plan = volume.read_begin(collection.matrix, offset, &mut buffer[..len])?;
    let len = plan.len;
    Ok((plan, len))
}

fn bytes(numbers: &mut [u64]) -> &mut [u8] {
    numbers.as_mut_bytes()
}
