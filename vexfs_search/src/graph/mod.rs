//! The graph index: each vector linked to some near ones in all directions, walked from a few entries towards a query.
//!
//! The graph is Vamana's (Subramanya et al., "DiskANN", NeurIPS 2019): a link is left out where a shorter one leads the same way.
//! Walks compare codes of four bits a dimension, which ranks about as whole vectors do in an eighth of the bytes, and what they
//! find is ranked again by whole vectors.
//!
//! INVARIANT: every link names a node of the graph, none itself. A walk ends: a node is entered once.

pub(crate) mod build;
pub(crate) mod codes;
pub(crate) mod points;
mod prune;
#[cfg(test)]
mod tests;
pub(crate) mod walk;

/// What stands for no link; links behind it are none either.
pub(crate) const NONE: u32 = u32::MAX;

/// Nodes and their links.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Graph {
    /// Links a node has at most.
    pub(crate) degree: usize,
    /// The links of all nodes, `degree` each, filled up with [`NONE`].
    pub(crate) links: Vec<u32>,
    /// Where walks begin.
    pub(crate) entries: Vec<u32>,
}

impl Graph {
    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.links.len() / self.degree.max(1)
    }

    /// The links of a node.
    #[inline(always)]
    pub(crate) fn links(&self, node: u32) -> &[u32] {
        let start = node as usize * self.degree;
        let links = self.links.get(start..start + self.degree).unwrap_or_default();
        let len = links.iter().position(|link| *link == NONE).unwrap_or(links.len());
        &links[..len]
    }

    /// Sets the links of a node, at most `degree`.
    fn set(&mut self, node: u32, links: &[u32]) {
        let start = node as usize * self.degree;
        let slots = &mut self.links[start..start + self.degree];
        let len = links.len().min(slots.len());
        slots[..len].copy_from_slice(&links[..len]);
        slots[len..].fill(NONE);
    }
}
