//! The walk over all nodes, and the comparison of what they refer to with the map and the counters.

use super::cure::Cure;
use super::inodes::{self, Group};
use super::{Finding, State};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Expected, FIRST_INODE, Node};
use crate::numbers::Run;
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Visits every node and record.
pub(super) fn tree<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>) -> Result<()> {
    let root = Expected::root(volume.root());
    // Nodes have their blocks before any extent has.
    reserve(volume, state, &root);
    let mut group = Group::new(0);
    node(volume, state, &root, &mut group)?;
    finish(volume, state, group)?;
    inodes::essential(volume, state)
}

// Ends an inode; what it refers to may be damaged.
fn finish<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>, group: Group) -> Result<()> {
    let finished = group.finish(volume, state);
    state.absorb(finished).map(|_| ())
}

// Notes the blocks of all nodes; reads those above the leaves alone.
fn reserve<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>, expected: &Expected) {
    let block = expected.pointer.block;
    if !volume.layout.covers(block, 1) || !state.reserve_node(block) || expected.level == 0 {
        return;
    }
    // What cannot be read the walk over everything reports.
    let Ok(bytes) = tree::placed(volume, expected) else { return };
    let node = Node::new(&bytes);
    for child in (0..node.count()).filter_map(|index| child(expected, &node, index)) {
        reserve(volume, state, &child);
    }
}

fn child(expected: &Expected, node: &Node<'_>, index: usize) -> Option<Expected> {
    Some(Expected {
        pointer: node.pointer(index)?,
        level: expected.level.checked_sub(1)?,
        low: node.key(index)?,
        high: node.key(index + 1).unwrap_or(expected.high),
    })
}

// Not deeper than the tree's levels, which fall with each step.
fn node<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    expected: &Expected,
    group: &mut Group,
) -> Result<()> {
    let block = expected.pointer.block;
    let Some(bytes) = state.absorb(tree::placed(volume, expected))? else {
        group.incomplete = true;
        return state.cure(Cure::Node(expected.low, expected.level));
    };
    // Two pointers to one node: the second one leads nowhere.
    if !state.claim(block, 1, true)? {
        (group.incomplete, state.whole) = (true, false);
        return state.cure(Cure::Node(expected.low, expected.level));
    }
    state.tree_blocks += 1;
    (state.progress)(state.tree_blocks, volume.statistics().tree_blocks);
    let node_bytes = Node::new(&bytes);
    if !node_bytes.padding_is_zero() {
        state.contradiction(Finding::Padding { block }, Cure::Padding(expected.low, expected.level))?;
    }
    let missing = Error::corrupt("tree node", block, "child missing");
    for index in 0..node_bytes.count() {
        let key = node_bytes.key(index).ok_or(missing)?;
        if expected.level > 0 {
            node(volume, state, &child(expected, &node_bytes, index).ok_or(missing)?, group)?;
            continue;
        }
        if key.inode != group.inode {
            let before = core::mem::replace(group, Group::new(key.inode));
            finish(volume, state, before)?;
        }
        let visited = group.visit(volume, state, key, node_bytes.value(index));
        if state.absorb(visited)?.is_none() {
            group.incomplete = true;
            state.cure(Cure::Drop(key))?;
        }
    }
    Ok(())
}

/// Compares the map with what is referred to.
pub(super) fn space<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>) -> Result<()> {
    let layout = *volume.layout();
    let kind = |state: &State<'_>, bit: u64| {
        let marked = volume.space.count_used(Run::new(bit + layout.data_start, 1)) != 0;
        let used = state.used[(bit / 8) as usize] & (1 << (bit % 8)) != 0;
        (marked != used).then_some(marked)
    };
    let mut bit = 0;
    while bit < layout.data_blocks {
        let Some(marked) = kind(state, bit) else {
            bit += 1;
            continue;
        };
        let start = bit;
        while bit < layout.data_blocks && kind(state, bit) == Some(marked) {
            bit += 1;
        }
        let (start, count) = (start + layout.data_start, bit - start);
        if !marked {
            state.report(Finding::Unmarked { start, count })?;
        } else if state.options.salvage || (state.whole && !state.shared) {
            // Below a node that cannot be read, and in an extent of which another has a part, blocks may well be in use. A
            // salvage gives those up, and on a volume that seems full it may need their room to do so.
            state.report(Finding::Leaked { start, count })?;
        }
    }
    Ok(())
}

/// Compares the superblock's counters with what was counted.
pub(super) fn counters<H: BlockDevice + Data>(volume: &Volume<H>, state: &mut State<'_>) -> Result<()> {
    if !state.whole || state.shared {
        return Ok(());
    }
    let counters = volume.counters;
    let exact = [
        ("inodes", counters.inode_count, state.report.inodes),
        ("tree blocks", counters.tree_blocks, state.tree_blocks),
        ("free blocks", volume.space.free(), volume.layout.data_blocks - state.report.blocks_used),
    ];
    for (what, recorded, counted) in exact {
        if recorded != counted {
            state.report(Finding::Counter { what, recorded, counted })?;
        }
    }
    let above = [
        ("next inode number", counters.next_inode, state.highest_inode.max(FIRST_INODE.0 - 1)),
        ("next vector id", counters.next_vector, state.highest_vector),
        ("next collection number", counters.next_collection.into(), state.highest_collection.into()),
    ];
    for (what, recorded, highest) in above {
        if recorded <= highest {
            let counted = highest.saturating_add(1);
            state.report(Finding::Counter { what, recorded, counted })?;
        }
    }
    Ok(())
}
