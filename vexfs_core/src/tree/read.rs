//! Finding and scanning records.

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::{Error, Result};
use crate::format::{Expected, Key, Node, parse_exact};
use crate::memory;
use crate::volume::{NodeRef, Nodes};

/// Calls `found` with the value at `key`, if there is one.
pub fn find<N: Nodes, R>(nodes: &N, key: Key, found: impl FnOnce(&[u8]) -> Result<R>) -> Result<Option<R>> {
    let (leaf, _) = leaf(nodes, key)?;
    let node = Node::new(&leaf);
    match node.search(key) {
        Ok(index) => found(node.value(index)).map(Some),
        Err(_) => Ok(None),
    }
}

/// The record of fixed size at `key`.
pub fn record<N: Nodes, T>(nodes: &N, key: Key, what: &'static str) -> Result<Option<T>>
where
    T: FromBytes + Immutable + KnownLayout + zerocopy::Unaligned + Copy,
{
    find(nodes, key, |value| parse_exact::<T>(value, what, key.inode).copied())
}

/// Calls `each` with the records in `from..to`, in order, until it gives false.
pub fn scan<N: Nodes>(
    nodes: &N,
    from: Key,
    to: Key,
    each: &mut dyn FnMut(Key, &[u8]) -> Result<bool>,
) -> Result<()> {
    let mut at = from;
    while at < to {
        let (leaf, high) = leaf(nodes, at)?;
        let node = Node::new(&leaf);
        let mut index = node.search(at).unwrap_or_else(|index| index);
        while let Some(key) = node.key(index) {
            if key >= to || !each(key, node.value(index))? {
                return Ok(());
            }
            index += 1;
        }
        at = high;
    }
    Ok(())
}

/// The first record in `from..to`.
pub fn first<N: Nodes>(nodes: &N, from: Key, to: Key) -> Result<Option<(Key, Vec<u8>)>> {
    let mut found = None;
    scan(nodes, from, to, &mut |key, value| {
        found = Some((key, memory::copy(value)?));
        Ok(false)
    })?;
    Ok(found)
}

/// The last record in `from..to`.
pub fn last<N: Nodes>(nodes: &N, from: Key, to: Key) -> Result<Option<(Key, Vec<u8>)>> {
    let mut to = to;
    while from < to {
        let (leaf, low) = leaf_before(nodes, to)?;
        let node = Node::new(&leaf);
        let index = node.search(to).unwrap_or_else(|index| index);
        if let Some(key) = index.checked_sub(1).and_then(|index| node.key(index)) {
            if key < from {
                return Ok(None);
            }
            return Ok(Some((key, memory::copy(node.value(index - 1))?)));
        }
        to = low;
    }
    Ok(None)
}

// The leaf where `key` belongs, and its upper bound.
fn leaf<N: Nodes>(nodes: &N, key: Key) -> Result<(NodeRef<'_>, Key)> {
    let mut expected = Expected::root(nodes.root());
    loop {
        let bytes = placed(nodes, &expected)?;
        if expected.level == 0 {
            return Ok((bytes, expected.high));
        }
        let node = Node::new(&bytes);
        expected = below(&expected, &node, node.child(key))?;
    }
}

// The leaf where the greatest key below `key` would be, and its lower bound.
fn leaf_before<N: Nodes>(nodes: &N, key: Key) -> Result<(NodeRef<'_>, Key)> {
    let mut expected = Expected::root(nodes.root());
    loop {
        let bytes = placed(nodes, &expected)?;
        if expected.level == 0 {
            return Ok((bytes, expected.low));
        }
        let node = Node::new(&bytes);
        let index = node.search(key).unwrap_or_else(|index| index).saturating_sub(1);
        expected = below(&expected, &node, index)?;
    }
}

/// The node that `expected` describes, which has the place in the tree that it has there.
pub(crate) fn placed<'n, N: Nodes>(nodes: &'n N, expected: &Expected) -> Result<NodeRef<'n>> {
    let bytes = nodes.node(expected)?;
    Node::new(&bytes).check_place(expected)?;
    Ok(bytes)
}

/// True if the tree has a node in this block; what is below a damaged one is not looked at.
pub(crate) fn has_node<N: Nodes>(nodes: &N, block: u64) -> Result<bool> {
    // In a damaged tree many pointers may lead to one node.
    let mut left = nodes.geometry().data_blocks;
    has_node_below(nodes, block, &Expected::root(nodes.root()), &mut left)
}

// Not deeper than the tree's levels, which fall with each step.
fn has_node_below<N: Nodes>(nodes: &N, block: u64, expected: &Expected, left: &mut u64) -> Result<bool> {
    if expected.pointer.block == block {
        return Ok(true);
    }
    if expected.level == 0 || *left == 0 {
        return Ok(false);
    }
    *left -= 1;
    let bytes = match placed(nodes, expected) {
        Err(Error::Corrupt(_)) => return Ok(false),
        other => other?,
    };
    let node = Node::new(&bytes);
    for index in 0..node.count() {
        if has_node_below(nodes, block, &below(expected, &node, index)?, left)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What `node` says of its child at `index`.
pub(super) fn below(expected: &Expected, node: &Node<'_>, index: usize) -> Result<Expected> {
    let missing = Error::corrupt("tree node", expected.pointer.block, "child missing");
    Ok(Expected {
        pointer: node.pointer(index).ok_or(missing)?,
        level: expected.level.checked_sub(1).ok_or(missing)?,
        low: node.key(index).ok_or(missing)?,
        high: node.key(index + 1).unwrap_or(expected.high),
    })
}
