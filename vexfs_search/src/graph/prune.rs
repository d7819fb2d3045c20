//! Which links a node keeps: the nearest, but none that leads where a kept one leads already.

use super::points::Points;
use crate::cpu::Cpu;

/// The links of `node` among `candidates`, each with its squared distance, at most `degree`; nearest first. A candidate is left out
/// if a kept one is `slack` times nearer to it than the node is (RobustPrune of DiskANN, with squared distances).
#[inline(always)]
pub(crate) fn prune<C: Cpu>(
    cpu: C,
    points: &Points,
    node: u32,
    candidates: &mut Vec<(f32, u32)>,
    degree: usize,
    slack: f32,
) -> Vec<u32> {
    candidates.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    candidates.dedup_by_key(|candidate| candidate.1);
    let mut kept: Vec<u32> = Vec::with_capacity(degree);
    for (distance, candidate) in candidates.iter().copied() {
        if kept.len() == degree {
            break;
        }
        if candidate == node {
            continue;
        }
        let shadowed = |other: &u32| slack * points.distance(cpu, *other, candidate) <= distance;
        if !kept.iter().any(shadowed) {
            kept.push(candidate);
        }
    }
    kept
}
