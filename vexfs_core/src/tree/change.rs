//! Putting and removing records.
//!
//! A change goes down once and makes every node on the path the transaction's own. Splits and merges then go up
//! that path. Slot 0 of a node above the leaves always carries the node's own lower bound.

use zerocopy::IntoBytes;

use super::read::{below, placed};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    Expected, Key, LEVEL_MAX, NODE_HEADER, Node, NodeWriter, Pointer, PointerRecord, SLOT, value_max,
};
use crate::memory;
use crate::transaction::Transaction;
use crate::tree;
use crate::volume::Nodes;

/// Puts a record, replacing the one at the same key.
pub fn put<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, key: Key, value: &[u8]) -> Result<()> {
    if value.len() > value_max(tx.geometry().block_size) {
        return Err(Error::Invalid("record larger than a quarter of a node"));
    }
    tx.note(key)?;
    let path = Path::open(tx, key)?;
    let leaf = path.block(0)?;
    let mut writer = tx.own_mut(leaf)?;
    let index = match writer.node().search(key) {
        Ok(index) => {
            if writer.replace(index, value) {
                return Ok(());
            }
            writer.remove(index);
            index
        }
        Err(index) => index,
    };
    path.insert(tx, 0, index, key, value)
}

/// Removes the record at `key`; true if there was one.
pub fn remove<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, key: Key) -> Result<bool> {
    if tree::find(tx, key, |_| Ok(()))?.is_none() {
        return Ok(false);
    }
    tx.note(key)?;
    let path = Path::open(tx, key)?;
    let mut leaf = tx.own_mut(path.block(0)?)?;
    if let Ok(index) = leaf.node().search(key) {
        leaf.remove(index);
    }
    path.shrink(tx)?;
    Ok(true)
}

/// Removes records in `from..to`, at most `limit`; gives how many it removed.
pub fn remove_range<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    from: Key,
    to: Key,
    limit: u64,
) -> Result<u64> {
    let mut removed = 0;
    while removed < limit {
        let Some((first, _)) = tree::first(tx, from, to)? else { break };
        let path = Path::open(tx, first)?;
        let leaf = path.block(0)?;
        let index = tx.own(leaf).search(first).unwrap_or_else(|index| index);
        while removed < limit {
            let Some(key) = tx.own(leaf).key(index).filter(|key| *key < to) else { break };
            tx.note(key)?;
            tx.own_mut(leaf)?.remove(index);
            removed += 1;
        }
        path.shrink(tx)?;
    }
    Ok(removed)
}

/// The way from the root to a leaf, all of it the transaction's own.
pub(super) struct Path {
    /// Per level, 0 the leaf: the block, and the index of the child taken.
    pub(super) steps: [(u64, usize); LEVEL_MAX as usize + 1],
    /// The root's level.
    top: usize,
}

impl Path {
    fn open<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, key: Key) -> Result<Self> {
        Self::open_to(tx, key, 0)
    }

    /// The way from the root down to the level `bottom`.
    pub(super) fn open_to<H: BlockDevice + Data>(
        tx: &mut Transaction<'_, H>,
        key: Key,
        bottom: usize,
    ) -> Result<Self> {
        let mut expected = Expected::root(tx.root());
        let mut path = Self { steps: [(0, 0); LEVEL_MAX as usize + 1], top: expected.level as usize };
        loop {
            let level = expected.level as usize;
            let block = tx.writable(&expected)?;
            tx.own(block).check_place(&expected)?;
            let pointer = Pointer { block, generation: tx.generation(), checksum: 0 };
            if level == path.top {
                tx.root = pointer;
            } else if pointer != expected.pointer {
                let (parent, index) = path.steps[level + 1];
                tx.own_mut(parent)?.replace(index, PointerRecord::from(pointer).as_bytes());
            }
            path.steps[level].0 = block;
            if level == 0 {
                return Ok(path);
            }
            expected.pointer = pointer;
            let node = tx.own(block);
            let index = node.child(key);
            path.steps[level].1 = index;
            if level == bottom {
                return Ok(path);
            }
            expected = below(&expected, &node, index)?;
        }
    }

    fn block(&self, level: usize) -> Result<u64> {
        self.steps.get(level).map(|step| step.0).ok_or(Error::corrupt("tree", 0, "too many levels"))
    }

    // Inserts at `level`, before `index` of the path's node there; splits as far up as needed.
    fn insert<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        level: usize,
        index: usize,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let block = self.block(level)?;
        if tx.own_mut(block)?.insert(index, key, value) {
            return Ok(());
        }
        let right = tx.new_node(level as u32)?;
        let separator = split(tx, block, right, index, key, value)?;
        let pointer =
            |block| PointerRecord::from(Pointer { block, generation: tx.generation(), checksum: 0 });
        let (left_record, right_record) = (pointer(block), pointer(right));
        if level < self.top {
            let above = self.steps[level + 1].1 + 1;
            return self.insert(tx, level + 1, above, separator, right_record.as_bytes());
        }
        let level = level as u32 + 1;
        if level >= LEVEL_MAX {
            return Err(Error::Invalid("the tree cannot grow any higher"));
        }
        let root = tx.new_node(level)?;
        let mut writer = tx.own_mut(root)?;
        writer.insert(0, Key::MIN, left_record.as_bytes());
        writer.insert(1, separator, right_record.as_bytes());
        tx.root = Pointer { block: root, generation: tx.generation(), checksum: 0 };
        tx.root_level = level;
        Ok(())
    }

    // After removals: merges nodes that became small with a neighbour, upwards, and lowers the root.
    fn shrink<H: BlockDevice + Data>(&self, tx: &mut Transaction<'_, H>) -> Result<()> {
        let capacity = tx.geometry().block_size as usize - NODE_HEADER;
        for level in 0..self.top {
            let block = self.block(level)?;
            let used = tx.own(block).used();
            if used >= capacity / 4 {
                break;
            }
            let (parent, index) = self.steps[level + 1];
            let count = tx.own(parent).count();
            let merged = (index + 1 < count && merge(tx, parent, index, level, capacity)?)
                || (index > 0 && merge(tx, parent, index - 1, level, capacity)?);
            if !merged {
                break;
            }
        }
        while tx.root_level > 0 {
            let root = tx.own(tx.root.block);
            let (1, Some(child)) = (root.count(), root.pointer(0)) else { break };
            let old = tx.root;
            tx.drop_node(old)?;
            tx.root = child;
            tx.root_level -= 1;
            if child.generation != tx.generation() {
                break;
            }
        }
        Ok(())
    }
}

// Splits `left` into itself and the new node `right`, the record to insert included; gives the right one's first key.
fn split<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    left: u64,
    right: u64,
    index: usize,
    key: Key,
    value: &[u8],
) -> Result<Key> {
    let size = tx.geometry().block_size as usize;
    let node = tx.own(left);
    let count = node.count();
    let level = node.level();
    // Records in their new order: the one to insert stands at `index`.
    let record = |at: usize| -> (Key, &[u8]) {
        match at {
            _ if at == index => (key, value),
            _ if at < index => (node.key(at).unwrap_or(key), node.value(at)),
            _ => (node.key(at - 1).unwrap_or(key), node.value(at - 1)),
        }
    };
    // Ascending insertion leaves full nodes behind; all else splits in the middle.
    let at = if index == count {
        count
    } else {
        let half = (node.used() + SLOT + value.len()).div_ceil(2);
        let mut bytes = 0;
        let mut at = 0;
        while bytes < half && at < count {
            bytes += SLOT + record(at).1.len();
            at += 1;
        }
        at
    };
    let mut left_bytes = memory::zeroed(size)?;
    let mut right_bytes = memory::zeroed(size)?;
    let generation = tx.generation();
    let mut left_node = NodeWriter::init(&mut left_bytes, level, generation, left);
    let mut fits = true;
    for at in 0..at {
        let (key, value) = record(at);
        fits &= left_node.insert(at, key, value);
    }
    let mut right_node = NodeWriter::init(&mut right_bytes, level, generation, right);
    for (to, from) in (at..=count).enumerate() {
        let (key, value) = record(from);
        fits &= right_node.insert(to, key, value);
    }
    debug_assert!(fits, "a split node overflows");
    let separator = record(at).0;
    tx.replace_own(left, left_bytes);
    tx.replace_own(right, right_bytes);
    Ok(separator)
}

// Merges the child at `index` + 1 of `parent` into the child at `index`, if one node can hold both.
fn merge<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    parent: u64,
    index: usize,
    level: usize,
    capacity: usize,
) -> Result<bool> {
    let above = tx.own(parent);
    // The parent's own bounds are not known here, but its first and last child's are within them.
    let own_bounds = Expected {
        pointer: Pointer { block: parent, generation: tx.generation(), checksum: 0 },
        level: level as u32 + 1,
        low: Key::MIN,
        high: Key::MAX,
    };
    let left = below(&own_bounds, &above, index)?;
    let right = below(&own_bounds, &above, index + 1)?;
    let (left_used, right_used) = {
        let (left, right) = (placed(tx, &left)?, placed(tx, &right)?);
        (Node::new(&left).used(), Node::new(&right).used())
    };
    // Nearly full nodes would split again at once; an empty one always goes.
    let fits = left_used + right_used <= capacity - capacity / 8;
    if !fits && left_used != 0 && right_used != 0 {
        return Ok(false);
    }
    let block = tx.writable(&left)?;
    let pointer = Pointer { block, generation: tx.generation(), checksum: 0 };
    let bytes = memory::copy(&tx.node(&right)?)?;
    let from = Node::new(&bytes);
    let mut into = tx.own_mut(block)?;
    for record in 0..from.count() {
        let at = into.node().count();
        let key = from.key(record).unwrap_or(Key::MAX);
        if !into.insert(at, key, from.value(record)) {
            return Err(Error::corrupt("tree node", block, "merge overflows"));
        }
    }
    tx.drop_node(right.pointer)?;
    let mut above = tx.own_mut(parent)?;
    above.remove(index + 1);
    above.replace(index, PointerRecord::from(pointer).as_bytes());
    Ok(true)
}
