//! Hierarchical k-means: points are split into a few clusters, each of those again, until none is too large.
//!
//! INVARIANT: every point is in exactly one leaf. No leaf of the tree has more than `leaf_max` points; rounds of plain
//! k-means over all leaves, which a tree's splits are blind to, then move points to nearer leaves.

use rayon::prelude::*;

use crate::clustered::rotation::Random;
use crate::cpu::{self, Cpu, Job};
use crate::kernel::panel::{Panel, ROWS, WIDTH, eight};

/// Points that a split is learnt from, for each of its clusters; all of them are then assigned.
const SAMPLE: usize = 256;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// How to split.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Clusters a split.
    pub(crate) branches: usize,
    /// Points a leaf may have.
    pub(crate) leaf_max: usize,
    /// Rounds of k-means.
    pub(crate) iterations: usize,
}

/// The leaves of `count` points that lie one behind the other, as indices of points.
///
/// `done` is told how many points have come to their leaf.
pub(crate) fn leaves(
    points: &[f32],
    dimensions: usize,
    count: usize,
    shape: Shape,
    done: &mut dyn FnMut(usize),
) -> Vec<Vec<u32>> {
    let mut random = Random(SEED);
    let mut waiting = vec![(0..count as u32).collect::<Vec<u32>>()];
    let mut leaves = Vec::new();
    while let Some(members) = waiting.pop() {
        if members.len() <= shape.leaf_max {
            done(members.len());
            leaves.extend((!members.is_empty()).then_some(members));
            continue;
        }
        let split = Split { points, dimensions, members: &members, shape };
        let mut parts = split.run(&mut random);
        parts.retain(|part| !part.is_empty());
        if parts.len() < 2 {
            // All alike: any halves are as good.
            let (left, right) = members.split_at(members.len() / 2);
            parts = vec![left.to_vec(), right.to_vec()];
        }
        waiting.extend(parts);
    }
    leaves
}

/// Moves every point to the leaf with the nearest centre, `rounds` times; leaves that lose all points go.
pub(crate) fn refine(points: &[f32], dimensions: usize, leaves: &mut Vec<Vec<u32>>, rounds: usize) {
    let count: usize = leaves.iter().map(Vec::len).sum();
    let all: Vec<u32> = (0..count as u32).collect();
    for _ in 0..rounds {
        let centres: Vec<Vec<f32>> = leaves.iter().map(|leaf| mean(points, dimensions, leaf)).collect();
        let assign = |members: &[u32]| cpu::best(Assign { points, dimensions, members, centres: &centres });
        let nearest: Vec<usize> = all.par_chunks(1024).flat_map_iter(assign).collect();
        leaves.iter_mut().for_each(Vec::clear);
        all.iter().zip(nearest).for_each(|(member, leaf)| leaves[leaf].push(*member));
        leaves.retain(|leaf| !leaf.is_empty());
    }
}

/// The mean of points.
pub(crate) fn mean(points: &[f32], dimensions: usize, members: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0_f64; dimensions];
    for member in members {
        let point = at(points, dimensions, *member);
        sum.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    sum.iter().map(|sum| (sum / members.len().max(1) as f64) as f32).collect()
}

pub(crate) fn at(points: &[f32], dimensions: usize, index: u32) -> &[f32] {
    let start = index as usize * dimensions;
    points.get(start..start + dimensions).unwrap_or_default()
}

struct Split<'a> {
    points: &'a [f32],
    dimensions: usize,
    members: &'a [u32],
    shape: Shape,
}

impl Split<'_> {
    fn run(&self, random: &mut Random) -> Vec<Vec<u32>> {
        let needed = self.members.len().div_ceil(self.shape.leaf_max.div_ceil(2).max(1));
        let clusters = self.shape.branches.min(needed).max(2);
        let sample: Vec<u32> = if self.members.len() <= clusters * SAMPLE {
            self.members.to_vec()
        } else {
            (0..clusters * SAMPLE).map(|_| self.members[random.below(self.members.len())]).collect()
        };
        let start = |_| at(self.points, self.dimensions, sample[random.below(sample.len())]).to_vec();
        let mut centres: Vec<Vec<f32>> = (0..clusters).map(start).collect();
        let mut before = Vec::new();
        for _ in 0..self.shape.iterations {
            let nearest = self.assign(&sample, &centres);
            if nearest == before {
                break;
            }
            for (cluster, centre) in centres.iter_mut().enumerate() {
                let own = sample.iter().zip(&nearest).filter(|(_, nearest)| **nearest == cluster);
                let own: Vec<u32> = own.map(|(member, _)| *member).collect();
                *centre = match own.is_empty() {
                    true => at(self.points, self.dimensions, sample[random.below(sample.len())]).to_vec(),
                    false => mean(self.points, self.dimensions, &own),
                };
            }
            before = nearest;
        }
        let mut parts = vec![Vec::new(); clusters];
        let nearest = self.assign(self.members, &centres);
        self.members.iter().zip(nearest).for_each(|(member, cluster)| parts[cluster].push(*member));
        parts
    }

    fn assign(&self, members: &[u32], centres: &[Vec<f32>]) -> Vec<usize> {
        let (points, dimensions) = (self.points, self.dimensions);
        let assign = |members: &[u32]| cpu::best(Assign { points, dimensions, members, centres });
        members.par_chunks(4096).flat_map_iter(assign).collect()
    }
}

struct Assign<'a> {
    points: &'a [f32],
    dimensions: usize,
    members: &'a [u32],
    centres: &'a [Vec<f32>],
}

impl Job for Assign<'_> {
    type Output = Vec<usize>;

    #[inline(always)]
    fn run<C: Cpu>(self, cpu: C) -> Vec<usize> {
        let half_square = |centre: &Vec<f32>| cpu.product(centre, centre) / 2.0;
        let squares: Vec<f32> = self.centres.iter().map(half_square).collect();
        let packed =
            |centres: &[Vec<f32>]| Panel::new(&centres.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let panels: Vec<Panel> = self.centres.chunks(WIDTH).map(packed).collect();
        let points: Vec<&[f32]> =
            self.members.iter().map(|member| at(self.points, self.dimensions, *member)).collect();
        let mut nearest = Vec::with_capacity(self.members.len());
        for first in (0..points.len()).step_by(ROWS) {
            // Half the square of the distance, without the point's own.
            let mut best = [(f32::INFINITY, 0); ROWS];
            for (panel, (squares, number)) in
                panels.iter().zip(squares.chunks(WIDTH).zip((0..).step_by(WIDTH)))
            {
                let products = cpu.panel(eight(&points, first), panel);
                for (best, products) in best.iter_mut().zip(&products) {
                    for (index, (square, product)) in squares.iter().zip(products).enumerate() {
                        if square - product < best.0 {
                            *best = (square - product, number + index);
                        }
                    }
                }
            }
            nearest.extend(best.iter().take(points.len() - first).map(|(_, cluster)| *cluster));
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_in_one_leaf() {
        let mut random = Random(1);
        let points: Vec<f32> = (0..3000 * 8).map(|_| (random.next() >> 40) as f32).collect();
        let alike = vec![1.0; 1000 * 8];
        let shape = Shape { branches: 10, leaf_max: 50, iterations: 5 };
        for (points, count) in [(&points, 3000), (&alike, 1000), (&alike, 1), (&alike, 0)] {
            let leaves = leaves(points, 8, count, shape, &mut |_| {});
            assert!(leaves.iter().all(|leaf| (1..=50).contains(&leaf.len())));
            let mut all: Vec<u32> = leaves.concat();
            all.sort_unstable();
            assert_eq!(all, (0..count as u32).collect::<Vec<_>>());
            let mut refined = leaves.clone();
            refine(points, 8, &mut refined, 2);
            let mut again: Vec<u32> = refined.concat();
            again.sort_unstable();
            assert_eq!(again, all);
            assert!(refined.iter().all(|leaf| !leaf.is_empty()));
        }
    }
}
