//! Mending nodes themselves, for a repair: what cannot be read is given up, padding is zeroed.

use zerocopy::IntoBytes;

use super::change::Path;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Key, Pointer, PointerRecord};
use crate::transaction::Transaction;

/// Puts empty nodes in place of the node at `level` whose lower bound is `low`, without reading it.
///
/// Blocks of what was there are not freed: nobody knows what they are.
pub(crate) fn give_up<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    low: Key,
    level: u32,
) -> Result<()> {
    if level >= tx.root_level {
        let block = tx.new_node(0)?;
        tx.root = Pointer { block, generation: tx.generation(), checksum: 0 };
        tx.root_level = 0;
        return Ok(());
    }
    let path = Path::open_to(tx, low, level as usize + 1)?;
    let (parent, index) = path.steps[level as usize + 1];
    if tx.own(parent).key(index) != Some(low) {
        return Err(Error::corrupt("tree node", parent, "child missing"));
    }
    let mut child = tx.new_node(0)?;
    for above in 1..=level {
        let block = tx.new_node(above)?;
        let pointer = Pointer { block: child, generation: tx.generation(), checksum: 0 };
        tx.own_mut(block)?.insert(0, low, PointerRecord::from(pointer).as_bytes());
        child = block;
    }
    let pointer = Pointer { block: child, generation: tx.generation(), checksum: 0 };
    tx.own_mut(parent)?.replace(index, PointerRecord::from(pointer).as_bytes());
    Ok(())
}

/// Zeroes what is free in the node at `level` where `low` belongs.
pub(crate) fn clear_padding<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    low: Key,
    level: u32,
) -> Result<()> {
    let path = Path::open_to(tx, low, level as usize)?;
    tx.own_mut(path.steps[level as usize].0)?.clear_padding();
    Ok(())
}
