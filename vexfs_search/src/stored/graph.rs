//! A graph in an index file: the rows of its nodes, its links, the codes that walks compare; and searches that walk it.
//!
//! INVARIANT: as of [`super::build`], which makes it of all live rows. All of it is read at opening, and its checksum and every number
//! in it are looked at, so a walk never leaves it.

use std::collections::HashMap;
use std::io;

use rayon::prelude::*;
use zerocopy::IntoBytes;

use super::build::{Progress, Reader, Stage};
use super::bytes::ReadAt;
use super::format::{Head, Parts};
use super::{Delta, StoredIndex, View};
use crate::clustered::nibbles::Rounded;
use crate::clustered::search::Source;
use crate::cpu::{self, Cpu, Job};
use crate::error::Result;
use crate::graph::build::{self, Shape};
use crate::graph::codes::{self, Codes, Line};
use crate::graph::points::Points;
use crate::graph::walk::Walk;
use crate::graph::{Graph, NONE};
use crate::metric::Metric;
use crate::nearest::{Best, Hit};

/// See the comparison in docs/BENCHMARKS.md.
const SHAPE: Shape = Shape { degree: 32, width: 96, slack: 1.1 };
/// Nodes where walks begin.
const ENTRIES: usize = 16;
/// Rows that are read between two tellings of the progress.
const BATCH: usize = 1 << 12;
/// How much wider a walk is that follows one which found too little.
const WIDER: usize = 4;

/// A graph as it is kept.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Where the rows of each node begin, and where the last ends.
    firsts: Vec<u32>,
    /// The rows of all nodes: rows with equal vectors are one node.
    rows: Vec<u32>,
    pub(super) graph: Graph,
    codes: Codes,
}

impl Stored {
    /// Bytes that it takes in a file with this head; `None` if they are more than there can be.
    pub(super) fn len(head: &Head) -> Option<usize> {
        let [nodes, rows, degree, entries] =
            [head.nodes, head.indexed, head.degree, head.entries].map(usize::try_from);
        let (nodes, squares) = (nodes.ok()?, usize::from(head.metric == Metric::L2));
        let words = degree.ok()?.checked_add(2 + squares)?;
        let node = words.checked_mul(4)?.checked_add(codes::stride(head.dimensions) * 64)?;
        let others = rows.ok()?.checked_add(entries.ok()?)?.checked_add(1)?.checked_mul(4)?;
        nodes.checked_mul(node)?.checked_add(others)
    }

    /// Rows in it.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The node of this row, if it is the only one there.
    pub(super) fn node_of(&self, row: u64) -> Option<u32> {
        let place = self.rows.iter().position(|other| u64::from(*other) == row)?;
        let node = self.firsts.partition_point(|first| *first as usize <= place).checked_sub(1)? as u32;
        (self.rows_of(node).len() == 1).then_some(node)
    }

    #[inline(always)]
    fn rows_of(&self, node: u32) -> &[u32] {
        let place = |number: usize| self.firsts.get(number).map_or(0, |first| *first as usize);
        self.rows.get(place(node as usize)..place(node as usize + 1)).unwrap_or_default()
    }

    /// Its parts as bytes, in the order of the file.
    pub(super) fn parts(&self) -> [&[u8]; 7] {
        [
            self.firsts.as_bytes(),
            self.rows.as_bytes(),
            self.graph.entries.as_bytes(),
            self.graph.links.as_bytes(),
            self.codes.factors.as_bytes(),
            self.codes.squares.as_bytes(),
            self.codes.lines.as_bytes(),
        ]
    }

    /// Reads it from where it begins. An error of the kind `InvalidData` is damage.
    pub(super) fn read(bytes: &dyn ReadAt, head: &Head, at: u64) -> io::Result<Self> {
        let damage = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
        let len = Self::len(head).and_then(|len| at.checked_add(len as u64));
        if len.is_none_or(|end| bytes.size().is_ok_and(|len| len < end)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (nodes, degree) = (head.nodes as usize, head.degree as usize);
        let words = |count: usize| vec![0_u32; count];
        let floats = |count: usize| vec![0.0_f32; count];
        let (mut firsts, mut rows) = (words(nodes + 1), words(head.indexed as usize));
        let (mut entries, mut links) = (words(head.entries as usize), words(nodes * degree));
        let mut factors = floats(nodes);
        let mut squares = floats(if head.metric == Metric::L2 { nodes } else { 0 });
        let mut lines = vec![Line([0; 64]); nodes * codes::stride(head.dimensions)];
        let (mut sum, mut at) = (crc32fast::Hasher::new(), at);
        for part in [
            firsts.as_mut_bytes(),
            rows.as_mut_bytes(),
            entries.as_mut_bytes(),
            links.as_mut_bytes(),
            factors.as_mut_bytes(),
            squares.as_mut_bytes(),
            lines.as_mut_bytes(),
        ] {
            bytes.read_into(at, part)?;
            sum.update(part);
            at += part.len() as u64;
        }
        if sum.finalize() != head.graph_sum {
            return Err(damage("is damaged: its graph's checksum is another"));
        }
        let inside = |node: &u32| (*node as usize) < nodes;
        let fine = rows.iter().all(|row| u64::from(*row) < head.rows)
            && firsts.is_sorted()
            && firsts.last().is_some_and(|end| *end as usize == rows.len())
            && entries.iter().all(inside)
            && links.iter().all(|link| *link == NONE || inside(link));
        if !fine {
            return Err(damage("contradicts itself"));
        }
        let codes = Codes::of(head.dimensions, lines, factors, squares);
        Ok(Self { firsts, rows, graph: Graph { degree, links, entries }, codes })
    }
}

/// What nodes are made of.
struct Nodes {
    /// The rows of each.
    rows: Vec<Vec<u32>>,
    points: Points,
    codes: Codes,
    /// Nodes by the hash of their point.
    known: HashMap<u64, Vec<u32>>,
    /// The vectors' numbers by row.
    ids: Vec<u64>,
}

impl Nodes {
    fn new(head: &Head, rows: usize) -> Self {
        Self {
            rows: Vec::new(),
            points: Points::new(head.dimensions, head.metric),
            codes: Codes::new(head.dimensions),
            known: HashMap::new(),
            ids: vec![0; rows],
        }
    }

    // Reads the vectors of these rows; what is free by now is left out.
    fn read(&mut self, reader: &Reader, rows: &[u32], metric: Metric, progress: Progress<'_>) -> Result<()> {
        let (mut done, all) = (0, rows.len() as u64);
        for batch in rows.chunks(BATCH) {
            let points: Vec<_> =
                batch.par_iter().map(|row| reader.point(*row as usize)).collect::<Result<_>>()?;
            points.into_iter().flatten().for_each(|(row, id, point)| self.push(row, id, &point, metric));
            done += batch.len() as u64;
            progress(Stage::Reading, done, all);
        }
        Ok(())
    }

    fn push(&mut self, row: u32, id: u64, point: &[f32], metric: Metric) {
        if let Some(kept) = self.ids.get_mut(row as usize) {
            *kept = id;
        }
        let node = self.points.len() as u32;
        self.points.push(point);
        let alike = self.known.entry(self.points.hash(node)).or_default();
        if let Some(other) = alike.iter().find(|other| self.points.same(**other, node)) {
            self.rows[*other as usize].push(row);
            self.points.pop();
            return;
        }
        alike.push(node);
        self.rows.push(vec![row]);
        self.codes.push(point, metric);
    }

    // Nodes all over the collection.
    fn entries(&self) -> Vec<u32> {
        let (count, nodes) = (self.rows.len().min(ENTRIES), self.rows.len() as u64);
        (0..count as u64).map(|number| (number * nodes / count as u64) as u32).collect()
    }

    fn into_parts(self, head: Head, graph: Graph) -> Parts {
        let mut firsts = vec![0];
        let mut rows = Vec::new();
        for own in &self.rows {
            rows.extend(own);
            firsts.push(rows.len() as u32);
        }
        let graph = Some(Stored { firsts, rows, graph, codes: self.codes });
        Parts { head, leaves: Vec::new(), ids: self.ids, records: Vec::new(), graph }
    }
}

/// The parts of a graph of all live rows; without a node if there are none.
pub(super) fn parts(reader: &Reader, head: Head, progress: Progress<'_>) -> Result<Parts> {
    let rows: Vec<u32> = (0..reader.rows() as u32).collect();
    let mut nodes = Nodes::new(&head, rows.len());
    nodes.read(reader, &rows, head.metric, progress)?;
    nodes.points.finish();
    let (mut done, all) = (0, nodes.rows.len() as u64);
    let graph = build::build(&nodes.points, SHAPE, nodes.entries(), &mut |nodes| {
        done += nodes as u64;
        progress(Stage::Linking, done, all);
    });
    Ok(nodes.into_parts(head, graph))
}

/// The parts of a graph brought up to date: nodes of rows that are gone are taken out, and those of rows that changed put in.
pub(super) fn renewed(
    old: &Stored,
    delta: &Delta,
    reader: &Reader,
    head: Head,
    progress: Progress<'_>,
) -> Result<Parts> {
    let stays = |row: &u32| !delta.gone.contains(*row as usize);
    let stayed: Vec<u32> = old.rows.iter().copied().filter(stays).collect();
    let changed: Vec<u32> = delta.changed.iter().filter_map(|row| u32::try_from(*row).ok()).collect();
    let last = stayed.iter().chain(&changed).max().map_or(0, |row| *row as usize + 1);
    let mut nodes = Nodes::new(&head, reader.rows().max(last));
    nodes.read(reader, &stayed, head.metric, progress)?;
    let kept = nodes.rows.len() as u32;
    nodes.read(reader, &changed, head.metric, progress)?;
    nodes.points.finish();
    // By rows, as some of them may have been freed since.
    let mut place = vec![NONE; nodes.ids.len()];
    for (rows, node) in nodes.rows.iter().zip(0..) {
        rows.iter().for_each(|row| place[*row as usize] = node);
    }
    let now = |node: u32| {
        let mut rows = old.rows_of(node).iter().filter(|row| stays(row));
        rows.find_map(|row| place.get(*row as usize).copied().filter(|node| *node < kept)).unwrap_or(NONE)
    };
    let mut graph = old.graph.carried(&nodes.points, nodes.entries(), &now, SHAPE);
    let added: Vec<u32> = (kept..nodes.rows.len() as u32).collect();
    let (mut done, all) = (0, added.len() as u64);
    build::extend(&mut graph, &nodes.points, &added, SHAPE, &mut |nodes| {
        done += nodes as u64;
        progress(Stage::Linking, done, all);
    });
    Ok(nodes.into_parts(head, graph))
}

impl StoredIndex {
    /// The best `count` candidates that a walk with a beam of `width` finds, of at least `wanted` rows; and how many nodes it entered.
    /// Too narrow a walk is followed by wider ones, and the widest looks at every node.
    pub(super) fn walk(
        &self,
        stored: &Stored,
        turned: &[f32],
        view: &View<'_>,
        width: usize,
        (count, wanted): (usize, usize),
    ) -> (Vec<Hit>, usize) {
        let (rounded, nodes) = (Rounded::new(turned), stored.graph.len());
        // Of a part of the rows a walk finds the less the smaller that is.
        let share = view.rows.map_or(1, |rows| stored.rows() / rows.len().max(1)).max(1);
        let (mut width, mut entered) = (width.saturating_mul(share), 0);
        while width < nodes {
            let found = cpu::best(Travel {
                stored,
                rounded: &rounded,
                view,
                width,
                count,
                walk: &mut Walk::default(),
            });
            entered += found.1;
            if found.0.len() >= wanted.min(count) {
                return (found.0, entered);
            }
            width = width.saturating_mul(WIDER);
        }
        let every = stored.rows.iter().filter(|row| view.wants(**row));
        (every.map(|row| Hit { row: u64::from(*row), score: 0.0 }).collect(), entered)
    }
}

/// One walk.
struct Travel<'a> {
    stored: &'a Stored,
    rounded: &'a Rounded,
    view: &'a View<'a>,
    width: usize,
    count: usize,
    walk: &'a mut Walk,
}

impl Job for Travel<'_> {
    type Output = (Vec<Hit>, usize);

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Self::Output {
        let Self { stored, rounded, view, width, count, walk } = self;
        let scorer = codes::Query { codes: &stored.codes, rounded };
        if view.wants_all() {
            walk.run(cpu, &stored.graph, &scorer, width, view.without, |_, _| {});
            let steps = walk.beam.iter();
            let rows = steps.flat_map(|step| stored.rows_of(step.node).iter().map(|row| (*row, step.score)));
            let best = rows.map(|(row, score)| Hit { row: u64::from(row), score }).take(count).collect();
            return (best, walk.entered.len());
        }
        let mut best = Best::new(count, f32::NEG_INFINITY);
        walk.run(cpu, &stored.graph, &scorer, width, view.without, |node, score| {
            for row in stored.rows_of(node).iter().filter(|row| view.wants(**row)) {
                best.offer(Hit { row: u64::from(*row), score });
            }
        });
        (best.into_sorted(), walk.entered.len())
    }
}
