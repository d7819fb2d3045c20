//! Building an index of a collection's vectors, and bringing one up to date.
//!
//! INVARIANT: a row's number is that of the vector its code was made of, whatever happens to the collection meanwhile: what
//! changed is told by the number afterwards. Building takes as much memory as the vectors as floats.

use std::path::Path;
use std::time::Instant;

use super::bytes::Bytes;
use super::effort::{Sample, nanoseconds};
use super::format::{Head, Parts, encode, identity};
use super::{Delta, Effort, Kind, StoredIndex, graph, records, scan};
use crate::clustered::rotation::Rotation;
use crate::clustered::tree::Shape;
use crate::clustered::{Leaf, partition, turned};
use crate::collection::{Collection, Schema};
use crate::decoded::Decoded;
use crate::error::{Error, Result};
use crate::metric::{Element, Metric};
use crate::query::decode;

const SHAPE: Shape = Shape { branches: 16, leaf_max: 512, iterations: 10 };
/// Vectors that the recall is measured with, and how many neighbours of each.
const QUERIES: usize = 100;
pub(super) const K: usize = 10;

/// What a build is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading vectors.
    Reading,
    /// Putting them into leaves.
    Clustering,
    /// Linking them to near ones.
    Linking,
    /// Comparing with exact answers.
    Measuring,
}

/// A new index, to be written to its file.
pub struct Built {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// Rows in it.
    pub rows: u64,
    /// Leaves that it has.
    pub leaves: usize,
    /// Which kind it is.
    pub kind: Kind,
    /// The time of an exact search, in nanoseconds.
    pub exact_ns: u64,
    /// What its searches find.
    pub efforts: Vec<Effort>,
}

/// Tells how far a build is: the stage, vectors done, all of them.
pub type Progress<'a> = &'a mut dyn FnMut(Stage, u64, u64);

// A row, the number of its vector, and its point.
type Point = (u32, u64, Vec<f32>);

/// A collection's vectors as points.
pub(super) struct Reader {
    decoded: Decoded,
    rotation: Rotation,
    metric: Metric,
}

impl Reader {
    fn open(directory: &Path) -> Result<Self> {
        let decoded = Decoded::open(directory)?;
        let Schema { element, metric, dimensions, .. } = *decoded.schema();
        if element == Element::Bit || metric == Metric::Hamming {
            return Err(Error::Query("bits are searched exactly: there is no index for them".into()));
        }
        if u32::try_from(decoded.rows()).is_err() {
            return Err(Error::Query("an index has fewer than 2^32 rows".into()));
        }
        Ok(Self { rotation: Rotation::new(dimensions), decoded, metric })
    }

    // None of a free row, or one that is freed at this moment.
    pub(super) fn point(&self, row: usize) -> Result<Option<Point>> {
        let Some((bytes, id)) = self.decoded.numbered(row)? else { return Ok(None) };
        let values = decode(self.decoded.schema().element, &bytes);
        Ok(turned(&self.rotation, self.metric, &values).ok().map(|point| (row as u32, id, point)))
    }

    /// Rows, free ones counted.
    pub(super) fn rows(&self) -> usize {
        self.decoded.rows()
    }

    fn head(&self, directory: &Path, kind: Kind) -> Result<Head> {
        let schema = self.decoded.schema();
        // A build that others' changes met is of no generation: its rows are compared one by one.
        let same = Schema::read(directory)?.generation == schema.generation;
        Ok(Head {
            identity: identity(directory)?,
            kind,
            generation: if same { schema.generation } else { 0 },
            metric: self.metric,
            dimensions: schema.dimensions,
            shape: SHAPE,
            rows: 0,
            indexed: 0,
            leaves: 0,
            efforts: 0,
            record: if kind == Kind::Scan { records::len(schema.dimensions) as u64 } else { 0 },
            exact_ns: 0,
            open_ns: 0,
            table_sum: 0,
            ids_sum: 0,
            nodes: 0,
            degree: 0,
            entries: 0,
            graph_sum: 0,
        })
    }
}

/// Builds an index of this kind of the collection in `directory`.
///
/// # Errors
/// A collection of bits, or with no vector; what the system refuses.
pub fn build(directory: &Path, kind: Kind, progress: Progress<'_>) -> Result<Built> {
    let reader = Reader::open(directory)?;
    let head = reader.head(directory, kind)?;
    let parts = match kind {
        Kind::Scan => scan::parts(&reader, head, progress)?,
        Kind::Clustered => clustered(&reader, head, progress)?,
        Kind::Graph => graph::parts(&reader, head, progress)?,
    };
    let nodes = parts.graph.as_ref().map_or(0, graph::Stored::rows);
    if nodes == 0 && parts.leaves.iter().all(|(_, leaf)| leaf.rows.is_empty()) {
        return Err(Error::Query("the collection is empty: there is nothing to index".into()));
    }
    // Whether others changed rows meanwhile is told by the generation now.
    let generation = reader.head(directory, kind)?.generation;
    finish(directory, Parts { head: Head { generation, ..head }, ..parts }, progress)
}

fn clustered(reader: &Reader, head: Head, progress: Progress<'_>) -> Result<Parts> {
    let all = reader.rows();
    let (mut points, mut rows, mut ids) = (Vec::new(), Vec::new(), vec![0; all]);
    for (row, kept) in ids.iter_mut().enumerate() {
        if let Some((number, id, point)) = reader.point(row)? {
            *kept = id;
            rows.push(number);
            points.extend(point);
        }
        progress(Stage::Reading, row as u64 + 1, all as u64);
    }
    let (mut done, count) = (0, rows.len() as u64);
    let mut clustered = |points: usize| {
        done += points as u64;
        progress(Stage::Clustering, done, count);
    };
    let leaves = partition(&points, head.dimensions, &rows, SHAPE, head.metric, &mut clustered);
    Ok(Parts { head, leaves, ids, records: Vec::new(), graph: None })
}

/// Brings an index up to date: what changed since it was built is taken out of its leaves or its graph, and put in. A scan is
/// built anew, which takes little time.
///
/// # Errors
/// As [`build`], and damage of the index.
pub fn update(index: &StoredIndex, directory: &Path, progress: Progress<'_>) -> Result<Built> {
    if index.kind() == Kind::Scan {
        return build(directory, Kind::Scan, progress);
    }
    let reader = Reader::open(directory)?;
    let delta = index.delta(&Collection::open(directory)?)?;
    if let Some(graph) = &index.graph {
        let parts = graph::renewed(graph, &delta, &reader, reader.head(directory, Kind::Graph)?, progress)?;
        return finish(directory, parts, progress);
    }
    let mut ids = index.ids()?;
    ids.resize(ids.len().max(reader.decoded.rows()), 0);
    (0..ids.len()).filter(|row| delta.gone.contains(*row)).for_each(|row| ids[row] = 0);
    let mut added: Vec<Vec<Point>> = vec![Vec::new(); index.leaves().max(1)];
    let all = delta.changed.len() as u64;
    for (done, row) in (1..).zip(&delta.changed) {
        if let Some(point) = reader.point(*row as usize)? {
            ids[*row as usize] = point.1;
            added[index.nearest(&point.2)].push(point);
        }
        progress(Stage::Reading, done, all);
    }
    let mut leaves = Vec::new();
    for (number, added) in added.into_iter().enumerate() {
        leaves.extend(renewed(index, &reader, &delta, number, added)?);
        progress(Stage::Clustering, number as u64 + 1, index.leaves() as u64);
    }
    let head = reader.head(directory, Kind::Clustered)?;
    finish(directory, Parts { head, leaves, ids, records: Vec::new(), graph: None }, progress)
}

// A leaf without what is gone and with what came; more than one if it has become too large.
fn renewed(
    index: &StoredIndex,
    reader: &Reader,
    delta: &Delta,
    number: usize,
    added: Vec<Point>,
) -> Result<Vec<(Vec<f32>, Leaf)>> {
    let centre = index.centre(number).to_vec();
    let leaf = if number < index.leaves() { index.leaf(number)?.0 } else { Leaf::default() };
    let stays = |row: &u32| !delta.gone.contains(*row as usize);
    if added.is_empty() && leaf.rows.iter().all(stays) {
        return Ok(vec![(centre, leaf)]);
    }
    // Who left meanwhile is known by its number.
    let mut members = added;
    for row in leaf.rows.into_iter().filter(stays) {
        members.extend(reader.point(row as usize)?);
    }
    let dimensions = reader.decoded.schema().dimensions;
    if centre.is_empty() || members.len() > 2 * SHAPE.leaf_max {
        let rows: Vec<u32> = members.iter().map(|member| member.0).collect();
        let points: Vec<f32> = members.into_iter().flat_map(|member| member.2).collect();
        return Ok(partition(&points, dimensions, &rows, SHAPE, reader.metric, &mut |_| {}));
    }
    let mut leaf = Leaf::new(dimensions);
    members.iter().for_each(|(row, _, point)| leaf.push(*row, point, &centre, reader.metric));
    Ok(if leaf.rows.is_empty() { Vec::new() } else { vec![(centre, leaf)] })
}

fn finish(directory: &Path, mut parts: Parts, progress: Progress<'_>) -> Result<Built> {
    progress(Stage::Measuring, 0, 1);
    let bytes = encode(&parts, &[]);
    let start = Instant::now();
    let index = StoredIndex::read(directory.to_owned(), Bytes::whole(bytes))?;
    parts.head.open_ns = nanoseconds(start);
    let collection = Collection::open(directory)?;
    let delta = index.delta(&collection)?;
    let sample = Sample::take(&collection, QUERIES, K, 0)?;
    let efforts = sample.sweep(&index, &collection, &delta)?;
    parts.head.exact_ns = sample.exact_ns(&collection);
    progress(Stage::Measuring, 1, 1);
    let bytes = encode(&parts, &efforts);
    let (rows, leaves, kind) = (index.len(), parts.leaves.len(), index.kind());
    Ok(Built { bytes, rows, leaves, kind, exact_ns: parts.head.exact_ns, efforts })
}

impl StoredIndex {
    // The leaf that a point belongs to.
    fn nearest(&self, point: &[f32]) -> usize {
        let distance = |centre: &[f32]| point.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
        let distances = self.centres.chunks_exact(self.head.dimensions.max(1)).map(distance).enumerate();
        distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(leaf, _)| leaf)
    }
}
