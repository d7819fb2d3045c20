//! A walk over the graph: the node nearest so far that was not entered yet is entered, until the best of the beam all were.
//!
//! INVARIANT: each node is scored at most once a walk; of equal scores the one that was found first stays.

use zerocopy::IntoBytes;

use super::Graph;
use crate::cpu::Cpu;

/// Nodes that are asked for ahead of the one at work.
const AHEAD: usize = 6;

/// How near nodes are to what a walk looks for.
pub(crate) trait Scorer {
    /// Higher is nearer.
    fn score<C: Cpu>(&self, cpu: C, node: u32) -> f32;

    /// Asks for what [`score`](Self::score) reads of a node.
    fn prefetch<C: Cpu>(&self, cpu: C, node: u32);
}

/// What a walk keeps, for the next one to use again.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Bits of the nodes that were scored.
    seen: Vec<u64>,
    /// The nearest so far, nearest first.
    pub(crate) beam: Vec<Step>,
    /// Nodes that were entered, in that order.
    pub(crate) entered: Vec<Step>,
    /// Nodes to score.
    next: Vec<u32>,
}

/// A node with its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    pub(crate) score: f32,
    pub(crate) node: u32,
    /// True once it was entered.
    done: bool,
}

impl Walk {
    fn reset(&mut self, nodes: usize) {
        self.seen.clear();
        self.seen.resize(nodes.div_ceil(64), 0);
        self.beam.clear();
        self.entered.clear();
    }

    #[inline(always)]
    fn is_new(&mut self, node: u32) -> bool {
        let Some(word) = self.seen.get_mut(node as usize / 64) else { return false };
        let bit = 1 << (node % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Walks with a beam of `width` nodes, as if there were no node `without`; `each` is told of every node that is scored. The beam holds
    /// the nearest afterwards.
    #[inline(always)]
    pub(crate) fn run<C: Cpu, S: Scorer>(
        &mut self,
        cpu: C,
        graph: &Graph,
        scorer: &S,
        width: usize,
        without: Option<u32>,
        mut each: impl FnMut(u32, f32),
    ) {
        self.reset(graph.len());
        let width = width.max(1);
        without.into_iter().for_each(|node| {
            self.is_new(node);
        });
        for entry in &graph.entries {
            if self.is_new(*entry) {
                self.next.push(*entry);
            }
        }
        self.score_next(cpu, scorer, width, &mut each);
        let mut at = 0;
        while let Some(step) = self.beam.get_mut(at) {
            if step.done {
                at += 1;
                continue;
            }
            step.done = true;
            let step = *step;
            self.entered.push(step);
            for link in graph.links(step.node) {
                if self.is_new(*link) {
                    self.next.push(*link);
                }
            }
            at = at.min(self.score_next(cpu, scorer, width, &mut each));
            // Probably the next one.
            if let Some(next) = self.beam.get(at) {
                let start = next.node as usize * graph.degree;
                if let Some(links) = graph.links.get(start..start + graph.degree) {
                    let bytes = links.as_bytes();
                    (0..bytes.len()).step_by(64).for_each(|line| cpu.prefetch(bytes, line));
                }
            }
        }
    }

    // Scores the nodes that are next; the first place of the beam where one came in.
    #[inline(always)]
    fn score_next<C: Cpu, S: Scorer>(
        &mut self,
        cpu: C,
        scorer: &S,
        width: usize,
        each: &mut impl FnMut(u32, f32),
    ) -> usize {
        let mut first = usize::MAX;
        let next = std::mem::take(&mut self.next);
        next.iter().take(AHEAD).for_each(|node| scorer.prefetch(cpu, *node));
        for (number, node) in next.iter().enumerate() {
            if let Some(ahead) = next.get(number + AHEAD) {
                scorer.prefetch(cpu, *ahead);
            }
            let score = scorer.score(cpu, *node);
            each(*node, score);
            let full = self.beam.len() == width;
            if score.is_nan() || full && self.beam.last().is_some_and(|last| score <= last.score) {
                continue;
            }
            if full {
                self.beam.pop();
            }
            let place = self.beam.partition_point(|step| step.score >= score);
            self.beam.insert(place, Step { score, node: *node, done: false });
            first = first.min(place);
        }
        self.next = next;
        self.next.clear();
        first
    }
}
