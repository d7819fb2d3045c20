//! A commit in three steps: `seal` (memory only), `write` (no lock), `publish` (short).
//!
//! Everything that the new superblock refers to is durable before the superblock is written; blocks that the
//! generation freed are given out only after the superblock is durable.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::bugs::planted;
use crate::checksum::crc32;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Node, NodeWriter, Pointer, PointerRecord, Superblock, slot_offsets};
use crate::memory::{self, Block, Map};
use crate::numbers::{Run, Time};
use crate::volume::Volume;

/// A commit on its way to the device; it owns all that it writes and needs no lock.
#[derive(Debug)]
pub struct Sealed {
    superblock: Superblock,
    size: u64,
    /// Byte offset and bytes of every new block, in the order of the device.
    blocks: Vec<(u64, Block)>,
}

impl Sealed {
    /// Writes the new blocks, flushes, writes the superblock to two slots, flushes.
    ///
    /// The first flush also makes durable the bytes of files that were written before the seal.
    pub fn write(&self, device: &impl BlockDevice) -> Result<()> {
        if planted("superblock_before_nodes") {
            self.write_superblock(device)?;
        }
        for (offset, block) in &self.blocks {
            device.write(*offset, block)?;
        }
        if !planted("no_flush_before_superblock") {
            device.flush()?;
        }
        self.write_superblock(device)?;
        if !planted("no_flush_after_superblock") {
            device.flush()?;
        }
        Ok(())
    }

    /// The generation that this commit makes durable.
    pub fn generation(&self) -> u64 {
        self.superblock.generation.get()
    }

    fn write_superblock(&self, device: &impl BlockDevice) -> Result<()> {
        let offsets = slot_offsets(self.size);
        let slots = self.superblock.slots();
        let copies = if planted("superblock_in_one_slot") { 1 } else { slots.len() };
        for slot in slots.into_iter().take(copies) {
            device.write(offsets[slot as usize], self.superblock.sealed(slot).as_bytes())?;
        }
        Ok(())
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Freezes all changes so far into a commit; memory only. `None` if nothing changed.
    ///
    /// # Errors
    /// `Busy` while another commit is not published; `ReadOnly` after one failed; `NoMemory`, and all is as before.
    pub fn seal(&mut self, now: Time) -> Result<Option<Sealed>> {
        if self.sealing || self.journal.writing {
            return Err(if self.read_only { Error::ReadOnly } else { Error::Busy });
        }
        if !self.changed {
            return Ok(None);
        }
        let checksum = self.finish(self.root, self.root_level)?;
        let map = self.space.prepare(self.generation)?;
        let block_size = u64::from(self.layout.block_size);
        let mut blocks = Vec::new();
        memory::reserve(&mut blocks, map.blocks.len() + self.dirty.len())?;
        // Nothing fails from here on: what failed above left all as it was.
        self.root.checksum = checksum;
        let (map_blocks, space) = self.space.seal(map);
        for (block, bytes) in map_blocks {
            memory::append(&mut blocks, (block * block_size, bytes));
        }
        for (block, bytes) in self.dirty.iter() {
            memory::append(&mut blocks, (block * block_size, bytes.clone()));
        }
        blocks.sort_unstable_by_key(|(offset, _)| *offset);
        let superblock = Superblock {
            generation: U64::new(self.generation),
            root: PointerRecord::from(self.root),
            root_level: U32::new(self.root_level),
            space,
            free_blocks: U64::new(self.space.free()),
            tree_blocks: U64::new(self.counters.tree_blocks),
            inode_count: U64::new(self.counters.inode_count),
            next_inode: U64::new(self.counters.next_inode),
            next_vector: U64::new(self.counters.next_vector),
            next_collection: U32::new(self.counters.next_collection),
            incompatible: U64::new(self.superblock.incompatible.get() | self.needs.bits()),
            read_only_compatible: U64::new(
                self.superblock.read_only_compatible.get() | self.needs_to_write.bits(),
            ),
            written: now.into(),
            ..self.superblock
        };
        self.sealed = core::mem::take(&mut self.dirty);
        self.generation += 1;
        self.sealing = true;
        self.changed = false;
        self.journal.forget();
        Ok(Some(Sealed { superblock, size: self.layout.size(), blocks }))
    }

    /// The blocks that the generation on its way to the device frees.
    ///
    /// Between [`Sealed::write`] and [`Volume::publish`] nothing durable refers to them and nobody gets them: a host
    /// may discard them then, once whoever reads or writes by an older plan is done.
    pub fn freed(&self) -> &[Run] {
        self.space.sealed()
    }

    /// After [`Sealed::write`] succeeded: the generation is durable, and blocks that it freed may be used again.
    pub fn publish(&mut self, sealed: Sealed) -> Result<()> {
        debug_assert!(self.sealing);
        self.superblock = sealed.superblock;
        self.sealed = Map::new();
        self.sealing = false;
        self.journal.restart();
        self.space.publish();
        Ok(())
    }

    /// After [`Sealed::write`] failed: what is on the device is not known, so the volume turns read-only.
    ///
    /// The sealed nodes stay in memory, so that everything can still be read.
    pub fn abandon(&mut self, sealed: Sealed) {
        drop(sealed);
        self.read_only = true;
    }

    /// `seal`, `write` and `publish` in one, for hosts that do nothing at the same time.
    #[inline(never)]
    pub fn commit(&mut self, now: Time) -> Result<()> {
        let Some(sealed) = self.seal(now)? else { return Ok(()) };
        match sealed.write(&self.host) {
            Ok(()) => self.publish(sealed),
            Err(error) => {
                self.abandon(sealed);
                Err(error)
            }
        }
    }

    // Fills in the checksums of all dirty nodes below `pointer`, children first, and gives the node's own.
    // Not deeper than the tree's levels.
    fn finish(&mut self, pointer: Pointer, level: u32) -> Result<u32> {
        // Nodes of this generation have no checksum before they get one here. A pointer that has one, and no node, was read from a
        // damaged volume: it stays what it is, for a check to find, and keeps nothing else from being committed.
        let foreign = pointer.checksum != 0 && self.dirty.get(pointer.block).is_none();
        if pointer.generation != self.generation || foreign {
            return Ok(pointer.checksum);
        }
        let missing = Error::corrupt("tree node", pointer.block, "dirty node lost");
        if level > 0 {
            let block = self.dirty.get(pointer.block).cloned().ok_or(missing)?;
            let node = Node::new(&block);
            let mut sums = Vec::new();
            for index in 0..node.count() {
                let child = node.pointer(index).ok_or(missing)?;
                if child.generation == self.generation {
                    let checksum = self.finish(child, level - 1)?;
                    memory::push(&mut sums, (index, Pointer { checksum, ..child }))?;
                }
            }
            drop(block);
            let mut writer = NodeWriter::new(self.dirty.get_mut(pointer.block).ok_or(missing)?.make_mut()?);
            for (index, child) in sums {
                writer.replace(index, PointerRecord::from(child).as_bytes());
            }
        }
        self.dirty.get(pointer.block).map(|bytes| crc32(bytes)).ok_or(missing)
    }
}
