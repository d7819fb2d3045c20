//! Free space: the map on disk, and the buddy allocator that gives blocks out.
//!
//! Two views are kept apart. The **map** is what the tree refers to, bit for bit, and goes to disk with each
//! commit. The **buddy** is what may be given out now: it lacks blocks that a write plan holds but the tree does
//! not know yet, and blocks that were freed but are still part of the last durable generation.
//! No block that the durable generation refers to is ever given out.

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::buddy::Buddy;
use crate::bugs::planted;
use crate::checksum::crc32;
use crate::device::{Address, BlockDevice};
use crate::error::{Error, Result};
use crate::format::{Layout, SpaceEntry, SpaceLayout};
use crate::memory::{self, Block};
use crate::numbers::{BlockNo, Run};

/// Free space of a mounted volume.
#[derive(Debug)]
pub struct Space {
    layout: Layout,
    buddy: Buddy,
    /// The map: bit = 1 in use, whole blocks of level 0 one after the other.
    bits: Vec<u8>,
    /// Entries of the blocks of each level, level 0 first.
    entries: Vec<Vec<SpaceEntry>>,
    /// Per block of level 0: changed since the last seal.
    dirty: Vec<bool>,
    /// Free blocks by the map.
    free: u64,
    /// Freed in the open generation.
    pending: Vec<Run>,
    /// Freed in the generation on its way to the device.
    sealed: Vec<Run>,
    pending_blocks: u64,
    /// Blocks promised to write plans, for the tree nodes that linking their data will need.
    promised: u64,
}

/// The map as a commit is to write it.
#[derive(Debug)]
pub struct PreparedMap {
    /// The changed blocks with their places.
    pub(crate) blocks: Vec<(u64, Block)>,
    /// What changes in the entries of each level.
    entries: Vec<Vec<(usize, SpaceEntry)>>,
}

impl Space {
    /// Everything free, as on a new volume.
    pub fn empty(layout: &Layout) -> Result<Self> {
        let block_size = layout.block_size as usize;
        let count = layout.space.counts[0] as usize;
        let mut entries = Vec::new();
        for level in 0..layout.space.levels {
            let blocks = layout.space.counts[level] as usize;
            memory::push(&mut entries, memory::filled(blocks, SpaceEntry::NEVER)?)?;
        }
        let mut buddy = Buddy::new(layout.data_blocks)?;
        buddy.release(0, layout.data_blocks);
        let bytes = count.checked_mul(block_size).ok_or(Error::NoMemory)?;
        Ok(Self {
            layout: *layout,
            buddy,
            bits: memory::zeroed(bytes)?,
            entries,
            dirty: memory::filled(count, false)?,
            free: layout.data_blocks,
            pending: Vec::new(),
            sealed: Vec::new(),
            pending_blocks: 0,
            promised: 0,
        })
    }

    /// Reads the map that `top` stands for.
    pub fn load(device: &impl BlockDevice, layout: &Layout, top: SpaceEntry) -> Result<Self> {
        let mut space = Self::empty(layout)?;
        let levels = layout.space.levels;
        space.entries[levels - 1][0] = top;
        for level in (0..levels).rev() {
            for index in 0..space.entries[level].len() {
                let entry = space.entries[level][index];
                if entry.generation.get() == 0 {
                    continue;
                }
                let block = read_map_block(device, layout, level, index as u64, entry)?;
                space.adopt(level, index, &block)?;
            }
        }
        space.fill_buddy()?;
        Ok(space)
    }

    /// Free blocks by the map.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Blocks that can be given out now.
    pub fn ready(&self) -> u64 {
        self.buddy.free().saturating_sub(self.promised)
    }

    /// Blocks that come free with the next commits.
    pub fn pending(&self) -> u64 {
        self.pending_blocks
    }

    /// Blocks kept back, so that files can be deleted on a full volume.
    pub fn reserve(&self) -> u64 {
        (self.layout.data_blocks / 128).clamp(24, 8192)
    }

    /// Promises `blocks` to a write plan.
    pub fn promise(&mut self, blocks: u64) {
        self.promised += blocks;
    }

    /// Takes a promise back.
    pub fn redeem(&mut self, blocks: u64) {
        self.promised = self.promised.saturating_sub(blocks);
    }

    /// Takes up to `count` contiguous blocks, at `goal` if they are free there.
    pub fn take(&mut self, count: u64, goal: u64) -> Option<Run> {
        let goal = self.relative(goal);
        self.buddy.take(count, goal).map(|(start, count)| Run::new(start + self.layout.data_start, count))
    }

    /// Takes `2^order` blocks whose distance from the start of the data area is a multiple of `2^order`.
    pub fn take_aligned(&mut self, order: u32, goal: u64) -> Option<Run> {
        let goal = self.relative(goal);
        self.buddy.take_aligned(order, goal).map(|start| Run::new(start + self.layout.data_start, 1 << order))
    }

    /// Keeps exactly these blocks from being given out; false if they are not all free.
    pub fn hold(&mut self, run: Run) -> bool {
        self.buddy.take_exact(run.start.0 - self.layout.data_start, run.count)
    }

    /// The first run at or behind block `from` that could be given out, from there on.
    pub fn next_free(&self, from: u64) -> Option<Run> {
        let first = from.saturating_sub(self.layout.data_start);
        self.buddy.next_free(first).map(|(start, count)| Run::new(start + self.layout.data_start, count))
    }

    /// Gives back blocks that nothing on disk refers to, to be used again at once.
    pub fn give_back(&mut self, run: Run) {
        self.buddy.release(run.start.0 - self.layout.data_start, run.count);
    }

    /// Makes room so that as many [`Self::free_later`] cannot fail.
    pub fn reserve_pending(&mut self, additional: usize) -> Result<()> {
        memory::reserve(&mut self.pending, additional)
    }

    /// Gives back blocks that the durable generation may still refer to: they wait for the next commit.
    pub fn free_later(&mut self, run: Run) {
        if planted("reuse_before_durable") {
            self.give_back(run);
            return;
        }
        self.pending_blocks += run.count;
        memory::append(&mut self.pending, run);
    }

    /// Marks a run in the map; false, and nothing is changed, if not every bit of it was the other way.
    pub fn mark(&mut self, run: Run, used: bool) -> bool {
        if run.count == 0 || self.count_used(run) != if used { 0 } else { run.count } {
            return false;
        }
        let first = run.start.0 - self.layout.data_start;
        let (last, whole) = (first + run.count, if used { 0xff } else { 0 });
        let mut bit = first;
        while bit < last {
            let byte = &mut self.bits[(bit / 8) as usize];
            if bit % 8 == 0 && bit + 8 <= last {
                *byte = whole;
                bit += 8;
            } else {
                *byte ^= 1 << (bit % 8);
                bit += 1;
            }
        }
        let bits_per_block = u64::from(self.layout.block_size) * 8;
        for block in first / bits_per_block..=(last - 1) / bits_per_block {
            self.dirty[block as usize] = true;
        }
        if used {
            self.free -= run.count;
        } else {
            self.free += run.count;
        }
        true
    }

    /// Corrects a run of the map that a check found wrong; false if it could not.
    pub fn correct(&mut self, run: Run, used: bool) -> bool {
        let first = run.start.0 - self.layout.data_start;
        if used {
            return self.buddy.take_exact(first, run.count) && self.mark(run, true);
        }
        let marked = self.mark(run, false);
        if marked {
            self.give_back(run);
        }
        marked
    }

    /// How many blocks of the run the map has in use.
    pub fn count_used(&self, run: Run) -> u64 {
        let first = run.start.0 - self.layout.data_start;
        let (last, mut bit, mut count) = (first + run.count, first, 0);
        while bit < last {
            let byte = self.bits[(bit / 8) as usize];
            if bit % 8 == 0 && bit + 8 <= last {
                count += u64::from(byte.count_ones());
                bit += 8;
            } else {
                count += u64::from(byte >> (bit % 8) & 1);
                bit += 1;
            }
        }
        count
    }

    /// Every free run of the map, first to last; for a check or a trim.
    pub fn free_runs(&self, each: &mut dyn FnMut(Run)) {
        let mut start = None;
        for bit in 0..=self.layout.data_blocks {
            let free = bit < self.layout.data_blocks && self.bits[(bit / 8) as usize] & (1 << (bit % 8)) == 0;
            match (start, free) {
                (None, true) => start = Some(bit),
                (Some(first), false) => {
                    each(Run::new(first + self.layout.data_start, bit - first));
                    start = None;
                }
                _ => {}
            }
        }
    }

    /// The map as the commit of a generation is to write it; nothing of it counts before [`Self::seal`].
    pub fn prepare(&self, generation: u64) -> Result<PreparedMap> {
        let block_size = self.layout.block_size as usize;
        let fanout = SpaceLayout::fanout(self.layout.block_size) as usize;
        let mut blocks = Vec::new();
        let mut entries: Vec<Vec<(usize, SpaceEntry)>> = Vec::new();
        let mut changed = memory::copy(&self.dirty)?;
        for level in 0..self.layout.space.levels {
            let mut above = memory::filled(changed.len().div_ceil(fanout), false)?;
            let below = entries.last().map_or(&[][..], Vec::as_slice);
            let mut these = Vec::new();
            for index in (0..changed.len()).filter(|index| changed[*index]) {
                let bytes = if level == 0 {
                    memory::copy(&self.bits[index * block_size..(index + 1) * block_size])?
                } else {
                    let mut bytes = memory::zeroed(block_size)?;
                    let children = &self.entries[level - 1];
                    let last = children.len().min((index + 1) * fanout);
                    let old = children[index * fanout..last].as_bytes();
                    bytes[..old.len()].copy_from_slice(old);
                    for (child, entry) in below.iter().filter(|(child, _)| child / fanout == index) {
                        let at = child % fanout * size_of::<SpaceEntry>();
                        bytes[at..at + size_of::<SpaceEntry>()].copy_from_slice(entry.as_bytes());
                    }
                    bytes
                };
                let old = &self.entries[level][index];
                let slot = if old.generation.get() == 0 { 0 } else { 1 - old.slot.get().min(1) };
                let entry = SpaceEntry {
                    generation: U64::new(generation),
                    checksum: U32::new(crc32(&bytes)),
                    slot: U32::new(slot),
                };
                let place = self.layout.space.block(level, index as u64, slot);
                memory::push(&mut blocks, (place, Block::new(bytes)?))?;
                memory::push(&mut these, (index, entry))?;
                above[index / fanout] = true;
            }
            changed = above;
            memory::push(&mut entries, these)?;
        }
        Ok(PreparedMap { blocks, entries })
    }

    /// Freezes the map for that commit: the changed blocks with their places, and the top entry for the superblock.
    pub fn seal(&mut self, prepared: PreparedMap) -> (Vec<(u64, Block)>, SpaceEntry) {
        for (entries, changed) in self.entries.iter_mut().zip(prepared.entries) {
            for (index, entry) in changed {
                entries[index] = entry;
            }
        }
        self.dirty.fill(false);
        // A generation is sealed only after the one before was published, so nothing is lost here.
        debug_assert!(self.sealed.is_empty());
        self.sealed = core::mem::take(&mut self.pending);
        (prepared.blocks, self.entries[self.layout.space.levels - 1][0])
    }

    /// What the generation on its way to the device freed.
    pub fn sealed(&self) -> &[Run] {
        &self.sealed
    }

    /// The sealed generation is durable: what it freed may be given out.
    pub fn publish(&mut self) {
        for run in core::mem::take(&mut self.sealed) {
            self.pending_blocks -= run.count;
            self.give_back(run);
        }
    }

    fn relative(&self, block: u64) -> u64 {
        block.saturating_sub(self.layout.data_start).min(self.layout.data_blocks - 1)
    }

    fn adopt(&mut self, level: usize, index: usize, block: &[u8]) -> Result<()> {
        if level == 0 {
            let start = index * block.len();
            self.bits[start..start + block.len()].copy_from_slice(block);
            return Ok(());
        }
        let fanout = SpaceLayout::fanout(self.layout.block_size) as usize;
        let children = &mut self.entries[level - 1];
        let place = self.layout.space.block(level, index as u64, 0);
        let Ok((entries, _)) = <[SpaceEntry]>::ref_from_prefix_with_elems(block, fanout) else {
            return Err(Error::corrupt("free-space index", place, "too short"));
        };
        for (child, entry) in children.iter_mut().skip(index * fanout).zip(entries) {
            if entry.slot.get() > 1 {
                return Err(Error::corrupt("free-space index", place, "a slot that does not exist"));
            }
            *child = *entry;
        }
        Ok(())
    }

    // The buddy of `empty` has all free; here it learns what the map has in use.
    fn fill_buddy(&mut self) -> Result<()> {
        let blocks = self.layout.data_blocks;
        let mut buddy = Buddy::new(blocks)?;
        let mut free = 0;
        let mut bit = 0;
        while bit < blocks {
            let run = self.same(bit);
            if self.bits[(bit / 8) as usize] & (1 << (bit % 8)) == 0 {
                buddy.release(bit, run);
                free += run;
            }
            bit += run;
        }
        self.buddy = buddy;
        self.free = free;
        Ok(())
    }

    // How many bits from `bit` on are as this one.
    fn same(&self, bit: u64) -> u64 {
        let used = self.bits[(bit / 8) as usize] & (1 << (bit % 8)) != 0;
        let whole = if used { 0xff } else { 0 };
        let mut next = bit + 1;
        while next < self.layout.data_blocks {
            let byte = self.bits[(next / 8) as usize];
            if next % 8 == 0 && byte == whole && next + 8 <= self.layout.data_blocks {
                next += 8;
            } else if (byte & (1 << (next % 8)) != 0) == used {
                next += 1;
            } else {
                break;
            }
        }
        next - bit
    }
}

fn read_map_block(
    device: &impl BlockDevice,
    layout: &Layout,
    level: usize,
    index: u64,
    entry: SpaceEntry,
) -> Result<Block> {
    let place = layout.space.block(level, index, entry.slot.get().min(1));
    let what = if level == 0 { "free-space bitmap" } else { "free-space index" };
    let address = Address {
        offset: place * u64::from(layout.block_size),
        len: layout.block_size as usize,
        generation: entry.generation.get(),
        checksum: entry.checksum.get(),
    };
    let mut bytes = memory::zeroed(address.len)?;
    device.read(address.offset, &mut bytes)?;
    if crc32(&bytes) != address.checksum {
        return Err(Error::checksum(what, BlockNo(place).0));
    }
    Block::new(bytes)
}

#[cfg(test)]
mod tests;
