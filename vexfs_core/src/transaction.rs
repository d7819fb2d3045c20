//! The only writer of metadata: whole or not at all.
//!
//! A transaction works on its own copies of the nodes it changes; the volume sees them when it is committed.
//! Dropping one gives its blocks back and leaves no trace. It reserves its worst case before it starts, so that it
//! does not run out of space halfway.

use alloc::vec::Vec;

use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{Expected, Key, Layout, Node, NodeWriter, Pointer};
use crate::journal::{Changes, Told};
use crate::memory::{self, Block, Map};
use crate::numbers::{Run, Time};
use crate::volume::{Counters, Event, NodeRef, Nodes, Volume};

/// What a transaction may need.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Records put, each of which may split nodes.
    pub puts: u64,
    /// Records put in place of others of the same length.
    pub touches: u64,
    /// Records removed, after which nodes may be merged.
    pub removes: u64,
    /// Blocks of file data.
    pub blocks: u64,
    /// May use the reserve: for what frees space.
    pub frees: bool,
}

impl Budget {
    /// `records` records of any kind, and no data.
    pub const fn records(records: u64) -> Self {
        Self { puts: records, touches: 0, removes: 0, blocks: 0, frees: false }
    }

    /// Something that frees space: `records` records removed, and at most a third as many (and a few) put.
    pub const fn freeing(records: u64) -> Self {
        Self { puts: records / 3 + 8, touches: 0, removes: records, blocks: 0, frees: true }
    }

    /// The least that taking a name away needs, so that the reserve is always enough for it: the entry and the way
    /// back go, directory and inode change, the inode comes onto the orphan list.
    pub const fn least() -> Self {
        Self { puts: 1, touches: 2, removes: 2, blocks: 0, frees: true }
    }

    /// As much more as the vectors of what loses its name need: each has its row freed, to be blanked, and is counted;
    /// their metadata goes.
    pub const fn with_vectors(self, count: u64, metadata: u64) -> Self {
        let Self { puts, touches, removes, .. } = self;
        Self { puts: puts + count, touches: touches + count, removes: removes + 2 * count + metadata, ..self }
    }

    /// With `blocks` blocks of data.
    pub const fn with_blocks(self, blocks: u64) -> Self {
        Self { blocks, ..self }
    }
}

/// A change of a volume in the making.
pub struct Transaction<'v, H: BlockDevice + Data> {
    pub(crate) volume: &'v mut Volume<H>,
    /// When it happens, for the inodes' times.
    pub(crate) now: Time,
    pub(crate) root: Pointer,
    pub(crate) root_level: u32,
    pub(crate) counters: Counters,
    /// Own copies of changed nodes, by block.
    nodes: Map<Vec<u8>>,
    /// Blocks taken for data.
    taken: Vec<Run>,
    /// Blocks taken for nodes.
    taken_nodes: Vec<u64>,
    /// Blocks of data that are no longer needed.
    freed: Vec<Run>,
    /// Nodes of older generations that are no longer needed.
    replaced: Vec<u64>,
    /// Nodes of the open generation that are no longer needed.
    dropped: Vec<u64>,
    /// For the journal.
    changes: Changes,
    events: Vec<Event>,
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Blocks of tree nodes that a transaction can take at most.
    pub(crate) fn tree_worst(&self, budget: Budget) -> u64 {
        Self::worst_of(self.root_level, self.counters.tree_blocks, budget)
    }

    /// Blocks that the nodes may take which a replay makes of so many records put and removed since the last commit. It takes them
    /// one by one, so that nodes are copied which the changes themselves may have dropped as they were.
    pub(crate) fn replay_worst(&self, told: Told) -> u64 {
        let Told { puts, removes } = told;
        let level = self.root_level.max(self.superblock.root_level.get());
        Self::worst_of(level, self.superblock.tree_blocks.get(), Budget { removes, ..Budget::records(puts) })
    }

    // Blocks of nodes at most, for a tree whose root is of this level, with so many nodes.
    fn worst_of(level: u32, nodes: u64, budget: Budget) -> u64 {
        let Budget { puts, touches, removes, .. } = budget;
        let below = u64::from(level);
        // The root once; then each record its own path below it, a put a split on every level and a new root, a
        // removal a neighbour on every level.
        let apart = puts
            .saturating_mul(2 * below + 2)
            .saturating_add(touches.saturating_mul(below))
            .saturating_add(removes.saturating_mul(2 * below))
            .saturating_add(1);
        // However many records: a node is copied once a generation, and a put splits a leaf; one split of a leaf in
        // ten at most splits the node above.
        let splits = puts.saturating_add(puts / 8).saturating_add(16);
        apart.min(nodes.saturating_add(splits)) + 2
    }

    /// Starts a transaction, after making sure that its worst case fits.
    ///
    /// # Errors
    /// `ReadOnly`; `NoSpace`, with the blocks that a commit would bring.
    pub fn begin(&mut self, budget: Budget, now: Time) -> Result<Transaction<'_, H>> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let reserve = if budget.frees { 0 } else { self.space.reserve() };
        let wanted = self.tree_worst(budget).saturating_add(budget.blocks).saturating_add(reserve);
        if self.space.ready() < wanted {
            return Err(Error::NoSpace { pending: self.space.pending() });
        }
        Ok(self.start(now))
    }

    /// Starts a transaction that nothing is reserved for: a replay, which repeats what fitted once.
    pub(crate) fn start(&mut self, now: Time) -> Transaction<'_, H> {
        let (root, root_level, counters) = (self.root, self.root_level, self.counters);
        Transaction {
            volume: self,
            now,
            root,
            root_level,
            counters,
            nodes: Map::new(),
            taken: Vec::new(),
            taken_nodes: Vec::new(),
            freed: Vec::new(),
            replaced: Vec::new(),
            dropped: Vec::new(),
            changes: Changes::default(),
            events: Vec::new(),
        }
    }

    /// Runs `change` in a transaction and commits it if it succeeds.
    pub(crate) fn transact<R>(
        &mut self,
        budget: Budget,
        now: Time,
        change: impl FnOnce(&mut Transaction<'_, H>) -> Result<R>,
    ) -> Result<R> {
        let mut transaction = self.begin(budget, now)?;
        let result = change(&mut transaction)?;
        transaction.commit()?;
        Ok(result)
    }
}

impl<H: BlockDevice + Data> Transaction<'_, H> {
    /// Makes the change part of the volume; durable with the next commit of the volume.
    pub fn commit(mut self) -> Result<()> {
        // Everything that can fail comes first.
        self.volume.dirty.reserve(self.nodes.len())?;
        self.volume.space.reserve_pending(self.freed.len() + self.replaced.len())?;
        self.volume.journal.reserve(&self.changes, self.taken.len() + self.freed.len())?;
        memory::reserve(&mut self.volume.events, self.events.len())?;
        let mut blocks = Vec::new();
        memory::reserve(&mut blocks, self.nodes.len())?;
        for (block, bytes) in self.nodes.drain() {
            memory::append(&mut blocks, (block, Block::new(bytes)?));
        }
        for (block, bytes) in blocks {
            self.volume.dirty.put(block, bytes);
        }
        let (taken, freed) = (core::mem::take(&mut self.taken), core::mem::take(&mut self.freed));
        self.volume.journal.absorb(core::mem::take(&mut self.changes), &taken, &freed);
        let node = |block| Run::new(block, 1);
        let mut whole = true;
        for run in taken.into_iter().chain(core::mem::take(&mut self.taken_nodes).into_iter().map(node)) {
            whole &= self.volume.space.mark(run, true);
        }
        for block in core::mem::take(&mut self.dropped) {
            self.volume.dirty.remove(block);
            if self.volume.space.mark(Run::new(block, 1), false) {
                self.volume.space.give_back(Run::new(block, 1));
            }
        }
        for run in freed.into_iter().chain(core::mem::take(&mut self.replaced).into_iter().map(node)) {
            if self.volume.space.mark(run, false) {
                self.volume.space.free_later(run);
            } else {
                whole = false;
            }
        }
        // The same block twice in a damaged tree: keep it from spreading.
        self.volume.read_only |= !whole;
        for event in core::mem::take(&mut self.events) {
            memory::append(&mut self.volume.events, event);
        }
        self.volume.root = self.root;
        self.volume.root_level = self.root_level;
        self.volume.counters = self.counters;
        self.volume.changed = true;
        Ok(())
    }

    /// The generation that this change will be part of.
    pub fn generation(&self) -> u64 {
        self.volume.generation
    }

    /// Notes for the journal that the record at `key` changes.
    pub(crate) fn note(&mut self, key: Key) -> Result<()> {
        self.changes.key(key)
    }

    /// Notes for the journal that `len` bytes were put at `place`, which this change makes visible: they must be
    /// durable before it is.
    pub(crate) fn note_fresh(&mut self, place: Place, len: u64) -> Result<()> {
        self.changes.fresh(place, len)
    }

    /// Tells the host that `len` bytes of a pseudo-file changed.
    pub fn event(&mut self, event: Event) -> Result<()> {
        memory::push(&mut self.events, event)
    }

    /// Takes up to `count` contiguous blocks for data, at `goal` if they are free there.
    pub fn take(&mut self, count: u64, goal: u64) -> Result<Run> {
        memory::reserve(&mut self.taken, 1)?;
        let pending = self.volume.space.pending();
        let run = self.volume.space.take(count, goal).ok_or(Error::NoSpace { pending })?;
        memory::append(&mut self.taken, run);
        Ok(run)
    }

    /// Takes `2^order` aligned blocks for data.
    pub fn take_aligned(&mut self, order: u32, goal: u64) -> Result<Option<Run>> {
        memory::reserve(&mut self.taken, 1)?;
        let run = self.volume.space.take_aligned(order, goal);
        if let Some(run) = run {
            memory::append(&mut self.taken, run);
        }
        Ok(run)
    }

    /// Frees blocks of data; they are reused once that is durable, or at once if this transaction took them.
    ///
    /// # Errors
    /// `Corrupt`, if the map does not have all of them in use.
    pub fn free(&mut self, run: Run) -> Result<()> {
        if run.count == 0 {
            return Ok(());
        }
        if !self.volume.layout.covers(run.start.0, run.count) {
            return Err(Error::corrupt("extent at block", run.start.0, "outside the volume"));
        }
        if self.volume.space.count_used(run) == run.count {
            return memory::push(&mut self.freed, run);
        }
        self.give_up(run)
    }

    // Gives blocks back that this transaction took.
    fn give_up(&mut self, run: Run) -> Result<()> {
        let mut at = run.start.0;
        while at < run.end() {
            memory::reserve(&mut self.taken, 1)?;
            let holds = |taken: &Run| taken.start.0 <= at && at < taken.end();
            let Some(index) = self.taken.iter().position(holds) else {
                return Err(Error::corrupt("extent at block", at, "refers to free blocks"));
            };
            let taken = self.taken.swap_remove(index);
            let end = taken.end().min(run.end());
            for (from, to) in [(taken.start.0, at), (end, taken.end())] {
                if from < to {
                    memory::push(&mut self.taken, Run::new(from, to - from))?;
                }
            }
            self.volume.space.give_back(Run::new(at, end - at));
            at = end;
        }
        Ok(())
    }

    /// Takes over the blocks that a write plan held: they become part of this transaction.
    pub(crate) fn adopt(&mut self, links: &[(u64, Run)]) -> Result<()> {
        memory::reserve(&mut self.taken, links.len())?;
        for (_, run) in links {
            memory::append(&mut self.taken, *run);
        }
        Ok(())
    }

    /// Takes over blocks that were held back: they become part of this transaction.
    pub(crate) fn adopt_run(&mut self, run: Run) -> Result<()> {
        memory::push(&mut self.taken, run)
    }

    /// Hands over the blocks of a write plan, to be held outside a transaction; gives how many runs those were.
    pub(crate) fn detach_data(&mut self, links: &[(u64, Run)]) -> usize {
        let before = self.taken.len();
        self.taken.retain(|run| !links.iter().any(|(_, link)| link == run));
        before - self.taken.len()
    }

    /// The node at `block`, which is a copy of this transaction's own.
    pub(crate) fn own(&self, block: u64) -> Node<'_> {
        Node::new(self.nodes.get(block).map_or(&[], |bytes| bytes))
    }

    /// The node at `block`, to change.
    pub(crate) fn own_mut(&mut self, block: u64) -> Result<NodeWriter<'_>> {
        let found = self.nodes.get_mut(block).ok_or(Error::corrupt("tree node", block, "not writable"))?;
        Ok(NodeWriter::new(found))
    }

    /// Puts other bytes at the place of an own node.
    pub(crate) fn replace_own(&mut self, block: u64, bytes: Vec<u8>) {
        if let Some(own) = self.nodes.get_mut(block) {
            *own = bytes;
        }
    }

    /// Makes the node this transaction's own: copied, and moved to a new block unless it is of the open generation.
    /// Gives its block.
    pub(crate) fn writable(&mut self, expected: &Expected) -> Result<u64> {
        let Pointer { block, generation, .. } = expected.pointer;
        if generation == self.volume.generation && self.nodes.contains(block) {
            return Ok(block);
        }
        let mut bytes = memory::copy(&self.volume.shared_node(expected)?)?;
        let mut place = block;
        if generation != self.volume.generation {
            place = self.take_node()?;
            memory::push(&mut self.replaced, block)?;
            NodeWriter::new(&mut bytes).settle(self.volume.generation, place);
        }
        self.nodes.insert(place, bytes)?;
        Ok(place)
    }

    /// A new empty node.
    pub(crate) fn new_node(&mut self, level: u32) -> Result<u64> {
        let mut bytes = memory::zeroed(self.volume.layout.block_size as usize)?;
        let block = self.take_node()?;
        NodeWriter::init(&mut bytes, level, self.volume.generation, block);
        self.nodes.insert(block, bytes)?;
        self.counters.tree_blocks += 1;
        Ok(block)
    }

    /// Frees a node.
    pub(crate) fn drop_node(&mut self, pointer: Pointer) -> Result<()> {
        self.counters.tree_blocks = self.counters.tree_blocks.saturating_sub(1);
        if pointer.generation == self.volume.generation {
            self.nodes.remove(pointer.block);
            memory::push(&mut self.dropped, pointer.block)
        } else {
            memory::push(&mut self.replaced, pointer.block)
        }
    }

    fn take_node(&mut self) -> Result<u64> {
        // Always from the front: measured, a goal that moves on splits the free space (docs/DESIGN.md).
        memory::reserve(&mut self.taken_nodes, 1)?;
        let pending = self.volume.space.pending();
        let run = self.volume.space.take(1, 0).ok_or(Error::NoSpace { pending })?;
        memory::append(&mut self.taken_nodes, run.start.0);
        Ok(run.start.0)
    }
}

impl<H: BlockDevice + Data> Drop for Transaction<'_, H> {
    fn drop(&mut self) {
        for run in core::mem::take(&mut self.taken) {
            self.volume.space.give_back(run);
        }
        for block in core::mem::take(&mut self.taken_nodes) {
            self.volume.space.give_back(Run::new(block, 1));
        }
    }
}

impl<H: BlockDevice + Data> Nodes for Transaction<'_, H> {
    fn root(&self) -> (Pointer, u32) {
        (self.root, self.root_level)
    }

    fn node(&self, expected: &Expected) -> Result<NodeRef<'_>> {
        if expected.pointer.generation == self.volume.generation {
            if let Some(bytes) = self.nodes.get(expected.pointer.block) {
                return Ok(NodeRef::Bytes(bytes));
            }
        }
        self.volume.node(expected)
    }

    fn hash_seed(&self) -> &[u8; 16] {
        self.volume.hash_seed()
    }

    fn geometry(&self) -> &Layout {
        &self.volume.layout
    }
}
