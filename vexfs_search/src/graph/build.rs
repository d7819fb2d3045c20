//! Building a graph: nodes are put in, each batch walked for on the graph that stands.
//!
//! INVARIANT: the graph depends on the points and the shape alone, not on threads: a batch is walked for on one state of the graph,
//! and links back are grouped by node (Dobson et al., "ParlayANN", PPoPP 2024).

use rayon::prelude::*;

use super::points::{Points, Towards};
use super::prune::prune;
use super::walk::Walk;
use super::{Graph, NONE};
use crate::clustered::rotation::Random;
use crate::cpu::{self, Cpu, Job};

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Links a node has at most.
    pub(crate) degree: usize,
    /// Beam of the walks that find a node's links.
    pub(crate) width: usize,
    /// How much nearer a kept link must be to a candidate that is left out for it.
    pub(crate) slack: f32,
}

/// What the order depends on in which nodes are put in.
const SEED: u64 = 0x2545_f491_4f6c_dd1d;
/// A batch is at most one part in so many of the nodes that are there.
const BATCH_PART: usize = 50;
/// Nodes a batch has at most: what is kept for it takes memory.
const BATCH_MAX: usize = 1 << 14;

/// Builds the graph of all points; `entries` are nodes where walks begin. `done` is told how many nodes were put in.
pub(crate) fn build(points: &Points, shape: Shape, entries: Vec<u32>, done: &mut dyn FnMut(usize)) -> Graph {
    let nodes = points.len();
    let mut graph = Graph { degree: shape.degree, links: vec![NONE; nodes * shape.degree], entries };
    let mut order: Vec<u32> = (0..nodes as u32).collect();
    let mut random = Random(SEED);
    for at in (1..nodes).rev() {
        order.swap(at, random.below(at + 1));
    }
    extend(&mut graph, points, &order, shape, done);
    graph
}

/// Puts nodes without links into a graph whose other nodes have theirs.
pub(crate) fn extend(
    graph: &mut Graph,
    points: &Points,
    nodes: &[u32],
    shape: Shape,
    done: &mut dyn FnMut(usize),
) {
    let before = graph.len().saturating_sub(nodes.len());
    let mut at = 0;
    while at < nodes.len() {
        // Only what was put in can be found, so a batch is small at first.
        let len = ((before + at) / BATCH_PART).clamp(1, BATCH_MAX).min(nodes.len() - at);
        insert(graph, points, &nodes[at..at + len], shape);
        at += len;
        done(len);
    }
}

impl Graph {
    /// The graph of these points without the nodes that are none `now`, and with the others under their new numbers. What linked to one
    /// that is gone is linked to what that one linked to (FreshDiskANN, Singh et al. 2021). Nodes that are new have no links.
    pub(crate) fn carried(
        &self,
        points: &Points,
        entries: Vec<u32>,
        now: &(dyn Fn(u32) -> u32 + Sync),
        shape: Shape,
    ) -> Self {
        let mut graph =
            Self { degree: shape.degree, links: vec![NONE; points.len() * shape.degree], entries };
        let there = |link: &u32| now(*link) != NONE;
        let carry = |node: u32| {
            let own = now(node);
            if own == NONE {
                return None;
            }
            let links = self.links(node);
            let mut carried: Vec<u32> =
                links.iter().filter(|link| there(link)).map(|link| now(*link)).collect();
            if carried.len() < links.len() {
                let gone = links.iter().filter(|link| !there(link));
                let behind = gone.flat_map(|link| self.links(*link)).filter(|link| there(link));
                carried.extend(behind.map(|link| now(*link)).filter(|link| *link != own));
                carried.sort_unstable();
                carried.dedup();
                carried = cpu::best(Choose { points, node: own, links: &carried, shape });
            }
            Some((own, carried))
        };
        let carried: Vec<(u32, Vec<u32>)> =
            (0..self.len() as u32).into_par_iter().filter_map(carry).collect();
        carried.iter().for_each(|(node, links)| graph.set(*node, links));
        graph
    }
}

// Puts nodes in, which are not linked to each other.
fn insert(graph: &mut Graph, points: &Points, nodes: &[u32], shape: Shape) {
    let made: Vec<Vec<u32>> = nodes
        .par_iter()
        .map_init(Walk::default, |walk, node| cpu::best(Place { graph, points, node: *node, shape, walk }))
        .collect();
    let mut back: Vec<(u32, u32)> = Vec::new();
    for (node, links) in nodes.iter().zip(&made) {
        graph.set(*node, links);
        back.extend(links.iter().map(|link| (*link, *node)));
    }
    back.par_sort_unstable();
    let groups: Vec<&[(u32, u32)]> = back.chunk_by(|a, b| a.0 == b.0).collect();
    let choose = |group: &&[(u32, u32)]| {
        let node = group[0].0;
        let mut links = graph.links(node).to_vec();
        links.extend(group.iter().map(|pair| pair.1).filter(|other| !graph.links(node).contains(other)));
        cpu::best(Choose { points, node, links: &links, shape })
    };
    let renewed: Vec<Vec<u32>> = groups.par_iter().map(choose).collect();
    for (group, links) in groups.iter().zip(renewed) {
        graph.set(group[0].0, &links);
    }
}

/// The links of a node that is put in.
struct Place<'a> {
    graph: &'a Graph,
    points: &'a Points,
    node: u32,
    shape: Shape,
    walk: &'a mut Walk,
}

impl Job for Place<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<u32> {
        let Self { graph, points, node, shape, walk } = self;
        walk.run(cpu, graph, &Towards { points, node }, shape.width, None, |_, _| {});
        let steps = walk.entered.iter().chain(&walk.beam);
        let mut candidates: Vec<(f32, u32)> = steps.map(|step| (0.0 - step.score, step.node)).collect();
        let distance = |other: &u32| (points.distance(cpu, *other, node), *other);
        candidates.extend(graph.links(node).iter().map(distance));
        prune(cpu, points, node, &mut candidates, shape.degree, shape.slack)
    }
}

/// The links that a node keeps of these.
struct Choose<'a> {
    points: &'a Points,
    node: u32,
    links: &'a [u32],
    shape: Shape,
}

impl Job for Choose<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<u32> {
        let Self { points, node, links, shape } = self;
        if links.len() <= shape.degree {
            return links.to_vec();
        }
        links.iter().for_each(|link| points.prefetch(cpu, *link));
        let distance = |other: &u32| (points.distance(cpu, *other, node), *other);
        let mut candidates: Vec<(f32, u32)> = links.iter().map(distance).collect();
        prune(cpu, points, node, &mut candidates, shape.degree, shape.slack)
    }
}
