//! What graphs hold to whatever they are made of, and how much walks find.

use super::build::{Shape, build, extend};
use super::codes::{Codes, Query};
use super::points::Points;
use super::prune::prune;
use super::walk::Walk;
use super::{Graph, NONE};
use crate::clustered::nibbles::Rounded;
use crate::clustered::rotation::{Random, Rotation};
use crate::cpu::{self, Cpu, Job, Portable};
use crate::metric::Metric;

const DIMENSIONS: usize = 48;
const SHAPE: Shape = Shape { degree: 24, width: 48, slack: 1.1 };

// Points around some centres, rotated.
fn vectors(count: usize, seed: u64) -> Vec<Vec<f32>> {
    let (mut random, rotation) = (Random(seed), Rotation::new(DIMENSIONS));
    let mut value = move || (random.next() >> 40) as f32 / (1 << 23) as f32 - 1.0;
    let centres: Vec<Vec<f32>> = (0..20).map(|_| (0..DIMENSIONS).map(|_| value()).collect()).collect();
    let vector = |number: usize| {
        let mut point: Vec<f32> = centres[number % 20].iter().map(|centre| centre + 0.7 * value()).collect();
        rotation.turn(&mut point);
        point
    };
    (0..count).map(vector).collect()
}

fn points(vectors: &[Vec<f32>], metric: Metric) -> Points {
    let mut points = Points::new(DIMENSIONS, metric);
    vectors.iter().for_each(|vector| points.push(vector));
    points.finish();
    points
}

fn built(points: &Points) -> Graph {
    build(points, SHAPE, vec![0], &mut |_| {})
}

fn check(graph: &Graph, nodes: usize) {
    assert_eq!(graph.len(), nodes);
    for node in 0..nodes as u32 {
        let links = graph.links(node);
        assert!(links.iter().all(|link| (*link as usize) < nodes && *link != node));
        let mut different = links.to_vec();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), links.len(), "node {node} has a link twice");
        let slots = &graph.links[node as usize * graph.degree..][..graph.degree];
        assert!(slots[links.len()..].iter().all(|link| *link == NONE));
    }
}

// Nodes that links lead to from the entries.
fn reached(graph: &Graph) -> usize {
    let mut seen = vec![false; graph.len()];
    let mut next = graph.entries.clone();
    let mut count = 0;
    while let Some(node) = next.pop() {
        if !std::mem::replace(&mut seen[node as usize], true) {
            count += 1;
            next.extend(graph.links(node));
        }
    }
    count
}

struct Find<'a> {
    graph: &'a Graph,
    codes: &'a Codes,
    query: &'a [f32],
    width: usize,
}

impl Job for Find<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<u32> {
        let (mut walk, rounded) = (Walk::default(), Rounded::new(self.query));
        let mut told = 0;
        let scorer = Query { codes: self.codes, rounded: &rounded };
        walk.run(cpu, self.graph, &scorer, self.width, None, |_, _| told += 1);
        assert!(walk.beam.len() <= self.width && walk.beam.is_sorted_by(|a, b| a.score >= b.score));
        assert!(walk.entered.len() <= told && told <= self.graph.len());
        walk.beam.iter().map(|step| step.node).collect()
    }
}

// The share of the ten nearest that walks find among the 30 best of a beam of 60.
fn recall(graph: &Graph, vectors: &[Vec<f32>], metric: Metric, queries: &[Vec<f32>]) -> f64 {
    let mut codes = Codes::new(DIMENSIONS);
    vectors.iter().for_each(|vector| codes.push(vector, metric));
    let near = |a: &[f32], b: &[f32]| -> f32 {
        match metric {
            Metric::L2 => a.iter().zip(b).map(|(a, b)| -(a - b) * (a - b)).sum(),
            _ => a.iter().zip(b).map(|(a, b)| a * b).sum(),
        }
    };
    let mut found = 0;
    for query in queries {
        let mut nearest: Vec<u32> = (0..vectors.len() as u32).collect();
        nearest.sort_by(|a, b| {
            near(&vectors[*b as usize], query).total_cmp(&near(&vectors[*a as usize], query))
        });
        let mut best = cpu::best(Find { graph, codes: &codes, query, width: 60 });
        best.truncate(30);
        found += nearest[..10].iter().filter(|node| best.contains(node)).count();
    }
    found as f64 / (10 * queries.len()) as f64
}

#[test]
fn walks_find_the_nearest() {
    let mut vectors = vectors(3060, 9);
    let queries = vectors.split_off(3000);
    for metric in [Metric::L2, Metric::InnerProduct] {
        let graph = built(&points(&vectors, metric));
        check(&graph, 3000);
        assert_eq!(reached(&graph), 3000, "{metric:?}");
        let recall = recall(&graph, &vectors, metric, &queries);
        assert!(recall > 0.97, "{metric:?} {recall}");
    }
}

#[test]
fn the_graph_depends_on_no_thread() {
    let points = points(&vectors(900, 5), Metric::L2);
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| built(&points))
    };
    assert_eq!(with(1), with(3));
}

#[test]
fn a_link_is_left_out_where_a_kept_one_leads() {
    // On a line: 0, then 1, 1.1, 3 and -1 from it.
    let on_line = |at: f32| {
        let mut point = vec![0.0; DIMENSIONS];
        point[0] = at;
        point
    };
    let points = points(&[0.0, 1.0, 1.1, 3.0, -1.0].map(on_line), Metric::L2);
    let chosen = |degree: usize| {
        let mut candidates: Vec<(f32, u32)> =
            (0..5).map(|node| (points.distance(Portable, 0, node), node)).chain([(0.0, 0)]).collect();
        prune(Portable, &points, 0, &mut candidates, degree, 1.1)
    };
    assert_eq!(chosen(8), [1, 4]);
    assert_eq!(chosen(1), [1]);
}

#[test]
fn nothing_and_little_are_graphs() {
    assert_eq!(built(&points(&[], Metric::L2)).len(), 0);
    assert!(built(&points(&vectors(1, 1), Metric::L2)).links(0).is_empty());
    let few = built(&points(&vectors(5, 1), Metric::InnerProduct));
    check(&few, 5);
    assert_eq!(reached(&few), 5);
}

#[test]
fn nodes_come_and_go() {
    let mut before = vectors(2860, 9);
    let queries = before.split_off(2800);
    let new = before.split_off(2400);
    let graph = built(&points(&before, Metric::L2));
    // Every third goes, 400 come.
    let stays = |number: usize| number % 3 != 1;
    let mut now: Vec<Vec<f32>> =
        (0..2400).filter(|number| stays(*number)).map(|n| before[n].clone()).collect();
    let kept = now.len();
    now.extend(new);
    let points = points(&now, Metric::L2);
    let number = |node: u32| {
        let node = node as usize;
        if stays(node) { (0..node).filter(|other| stays(*other)).count() as u32 } else { NONE }
    };
    let mut graph = graph.carried(&points, vec![0], &number, SHAPE);
    check(&graph, now.len());
    let added: Vec<u32> = (kept as u32..now.len() as u32).collect();
    assert!(added.iter().all(|node| graph.links(*node).is_empty()));
    extend(&mut graph, &points, &added, SHAPE, &mut |_| {});
    check(&graph, now.len());
    assert!(reached(&graph) > now.len() - 3);
    let recall = recall(&graph, &now, Metric::L2, &queries);
    assert!(recall > 0.97, "{recall}");
}
