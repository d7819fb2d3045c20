//! A mounted volume: `&self` reads, `&mut self` writes, so that the host's lock is obvious.
//!
//! The state of a volume is a tree. Nodes changed since the last commit are in `dirty`, those of a commit on its
//! way in `sealed`, all others on the device. Only a [`crate::transaction::Transaction`] changes any of it.

mod notes;
mod open;
pub(crate) mod recent;

use alloc::vec::Vec;
use core::ops::Deref;

use crate::device::{Address, BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    Expected, FIRST_INODE, Incompatible, Key, Layout, Node, Pointer, ReadOnlyCompatible, Superblock,
};
use crate::journal::Journal;
use crate::memory::{Block, Map};
use crate::numbers::{CollectionId, Ino, Time};
use crate::patches::Patches;
use crate::space::Space;

pub use recent::Raised;

pub(crate) use notes::{Copied, KeptCodebook, Lease, Recode, Renamed, Staged, StagedRows};
pub(crate) use open::{find_superblock, older_superblocks};
use recent::Recents;

/// How a collection may come to be by setting a first vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implicit {
    /// Never.
    Off,
    /// For this uid (and root).
    Owner(u32),
    /// For anyone.
    Any,
}

/// Options of a mount.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Change nothing.
    pub read_only: bool,
    /// Who may create a collection by setting a first vector.
    pub implicit: Implicit,
    /// List `.vexfs` in the root directory.
    pub list_control: bool,
    /// Show what only a daemon serves: `append`, and `vectors.arrow`, whose changes
    /// [`crate::control::arrow::mirror`] tells.
    pub daemon: bool,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self { read_only: false, implicit: Implicit::Any, list_control: false, daemon: false }
    }
}

/// What changed under the host's caches: it invalidates `len` bytes of the pseudo-file at `offset`, and its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// A pseudo-file or directory of the control directory.
    pub inode: Ino,
    /// First byte.
    pub offset: u64,
    /// Bytes; 0 = only the attributes changed.
    pub len: u64,
}

/// Numbers of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks for data and tree (what the free-space map covers).
    pub blocks: u64,
    /// Blocks free now.
    pub free: u64,
    /// Blocks free for new data: less a reserve that lets files be deleted on a full volume.
    pub available: u64,
    /// Blocks that come free with the next commit.
    pub pending: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Blocks of tree nodes.
    pub tree_blocks: u64,
    /// The generation being gathered; the last durable one is below it.
    pub generation: u64,
    /// Bytes of metadata that wait for a commit.
    pub dirty_bytes: u64,
}

/// Counters that a transaction may raise; they go to the superblock.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// Blocks of tree nodes.
    pub tree_blocks: u64,
    /// Inodes of files.
    pub inode_count: u64,
    /// The next inode number.
    pub next_inode: u64,
    /// The next vector id.
    pub next_vector: u64,
    /// The next collection number.
    pub next_collection: u32,
}

/// What a mount found in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records replayed.
    pub records: u64,
    /// The generation that they build on.
    pub base: u64,
    /// When the last of them was written.
    pub written: Time,
}

/// A mounted volume.
#[derive(Debug)]
pub struct Volume<H> {
    pub(crate) host: H,
    pub(crate) layout: Layout,
    pub(crate) options: MountOptions,
    /// The last durable one.
    pub(crate) superblock: Superblock,
    /// Features that the open generation needs: the next superblock names them.
    pub(crate) needs: Incompatible,
    /// Features of it that a program must know to write.
    pub(crate) needs_to_write: ReadOnlyCompatible,
    /// The generation being gathered.
    pub(crate) generation: u64,
    pub(crate) root: Pointer,
    pub(crate) root_level: u32,
    pub(crate) counters: Counters,
    pub(crate) space: Space,
    /// Nodes of the open generation, by block.
    pub(crate) dirty: Map<Block>,
    /// Nodes of the generation on its way to the device.
    pub(crate) sealed: Map<Block>,
    pub(crate) sealing: bool,
    pub(crate) changed: bool,
    pub(crate) read_only: bool,
    pub(crate) events: Vec<Event>,
    /// Orphans that a crash left, once they were looked for.
    pub(crate) waiting: Vec<Ino>,
    pub(crate) waiting_loaded: bool,
    /// The last generation in which a matrix was given up.
    pub(crate) given_up: u64,
    /// Collections that may have rows to be blanked.
    pub(crate) blanks: Vec<CollectionId>,
    /// Rows that were copied and are to be moved.
    pub(crate) copied: Option<Copied>,
    /// Rows that were copied and then not moved: they keep the copy until it is blanked.
    pub(crate) strays: Vec<(CollectionId, u64)>,
    /// Vectors whose bytes lie in the rows that they will have.
    pub(crate) staged: Vec<Staged>,
    /// The same for batches of vectors.
    pub(crate) staged_rows: Vec<StagedRows>,
    /// Number of the next batch.
    pub(crate) next_batch: u64,
    /// Files whose vectors somebody is making anew.
    pub(crate) leases: Vec<Lease>,
    /// New and empty files with vectors of the content that comes.
    pub(crate) awaiting: Vec<Ino>,
    /// Files with vectors that were renamed lately, and who took their names.
    pub(crate) renamed: Vec<Renamed>,
    /// Collections that are being compacted; the last one now.
    pub(crate) compacting: Vec<CollectionId>,
    /// Collections that are on their way to another codec, once they were looked for.
    pub(crate) recoding: Vec<Recode>,
    /// Matrices that were replaced since the mount, and that somebody may have open.
    pub(crate) retired: Vec<Ino>,
    /// Codebooks that rows were set by lately.
    pub(crate) codebooks: Vec<KeptCodebook>,
    pub(crate) journal: Journal,
    pub(crate) patches: Patches,
    pub(crate) recovered: Recovered,
    /// The last changes of collections.
    pub(crate) recent: Recents,
    damaged_slots: [bool; 4],
    /// What was wrong with the free-space map when it was opened: then all was taken for free.
    pub(crate) damage: Option<Error>,
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Features of the volume that are unknown here, and that only who knows them may write with.
    pub(crate) fn unknown_to_write(&self) -> u64 {
        self.superblock.read_only_compatible.get() & !ReadOnlyCompatible::all().bits()
    }

    // A volume as `superblock` tells it, nothing changed yet.
    #[inline(never)]
    pub(crate) fn assemble(
        host: H,
        layout: Layout,
        superblock: &Superblock,
        (space, damage): (Space, Option<Error>),
        options: MountOptions,
        damaged_slots: [bool; 4],
    ) -> Result<Self> {
        Ok(Self {
            host,
            layout,
            options,
            generation: superblock.generation.get() + 1,
            root: Pointer::from(superblock.root),
            root_level: superblock.root_level.get(),
            counters: Counters {
                tree_blocks: superblock.tree_blocks.get(),
                inode_count: superblock.inode_count.get(),
                next_inode: superblock.next_inode.get().max(FIRST_INODE.0),
                next_vector: superblock.next_vector.get(),
                next_collection: superblock.next_collection.get(),
            },
            space,
            dirty: Map::new(),
            sealed: Map::new(),
            sealing: false,
            changed: false,
            read_only: options.read_only,
            events: Vec::new(),
            waiting: Vec::new(),
            waiting_loaded: false,
            given_up: 0,
            blanks: Vec::new(),
            compacting: Vec::new(),
            recoding: Vec::new(),
            retired: Vec::new(),
            codebooks: Vec::new(),
            renamed: Vec::new(),
            awaiting: Vec::new(),
            copied: None,
            strays: Vec::new(),
            staged: Vec::new(),
            staged_rows: Vec::new(),
            next_batch: 0,
            leases: Vec::new(),
            journal: Journal::opened(layout.journal_blocks * u64::from(layout.block_size)),
            patches: Patches::default(),
            recovered: Recovered::default(),
            recent: Recents::default(),
            damaged_slots,
            needs: Incompatible::from_bits_retain(superblock.incompatible.get()) | Incompatible::JOURNAL,
            needs_to_write: ReadOnlyCompatible::from_bits_retain(superblock.read_only_compatible.get()),
            superblock: *superblock,
            damage,
        })
    }

    /// The host.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Where things lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The last durable superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Which of the four superblock slots were found damaged at mount; the next commits write them anew.
    pub fn damaged_slots(&self) -> [bool; 4] {
        self.damaged_slots
    }

    /// Numbers of the volume.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            block_size: self.layout.block_size,
            blocks: self.layout.data_blocks,
            free: self.space.free(),
            available: self.space.free().saturating_sub(self.space.reserve()),
            pending: self.space.pending(),
            inodes: self.counters.inode_count,
            tree_blocks: self.counters.tree_blocks,
            generation: self.generation,
            dirty_bytes: self.dirty.len() as u64 * u64::from(self.layout.block_size),
        }
    }

    /// The newest generation that anything may be of: the durable one, or the next, if the journal was replayed.
    pub(crate) fn newest_generation(&self) -> u64 {
        self.superblock.generation.get() + u64::from(self.recovered.records > 0)
    }

    /// Records of the journal on the last durable generation.
    pub fn journal_records(&self) -> u64 {
        self.journal.sequence
    }

    /// What the mount found in the journal.
    pub fn recovered(&self) -> Recovered {
        self.recovered
    }

    /// True if something waits for a commit.
    pub fn is_dirty(&self) -> bool {
        self.changed || self.sealing
    }

    /// Turns the volume read-only until it is mounted anew, as after a failed write.
    pub fn set_read_only(&mut self) {
        self.read_only = true;
    }

    /// True if nothing can be changed.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}

/// Something that holds a tree: a volume, or a transaction on it.
pub trait Nodes {
    /// The root and its level.
    fn root(&self) -> (Pointer, u32);

    /// The node that `expected` describes.
    fn node(&self, expected: &Expected) -> Result<NodeRef<'_>>;

    /// The key of the name hashes.
    fn hash_seed(&self) -> &[u8; 16];

    /// Where things lie.
    fn geometry(&self) -> &Layout;
}

/// The bytes of a node, borrowed or shared.
pub enum NodeRef<'a> {
    /// Of the transaction at hand.
    Bytes(&'a [u8]),
    /// Of the volume or the device.
    Shared(Block),
}

impl Deref for NodeRef<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Shared(block) => block,
        }
    }
}

impl<H: BlockDevice + Data> Nodes for Volume<H> {
    fn root(&self) -> (Pointer, u32) {
        (self.root, self.root_level)
    }

    fn node(&self, expected: &Expected) -> Result<NodeRef<'_>> {
        self.shared_node(expected).map(NodeRef::Shared)
    }

    fn hash_seed(&self) -> &[u8; 16] {
        &self.superblock.hash_seed
    }

    fn geometry(&self) -> &Layout {
        &self.layout
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    pub(crate) fn shared_node(&self, expected: &Expected) -> Result<Block> {
        let Pointer { block, generation, checksum } = expected.pointer;
        if generation == self.generation {
            let found = self.dirty.get(block).cloned();
            return found.ok_or(Error::corrupt("tree node", block, "of a generation that was never written"));
        }
        if let Some(node) = self.sealed.get(block) {
            if Node::new(node).generation() == generation {
                return Ok(node.clone());
            }
        }
        if !self.layout.covers(block, 1) {
            return Err(Error::corrupt("tree node", block, "outside the volume"));
        }
        if generation > self.superblock.generation.get() {
            return Err(Error::corrupt("tree node", block, "of a generation that was never written"));
        }
        let len = self.layout.block_size as usize;
        let offset = block * u64::from(self.layout.block_size);
        self.host
            .metadata(Address { offset, len, generation, checksum }, &|bytes| Node::check(bytes, expected))
    }
}

impl Expected {
    /// The root of a tree.
    pub const fn root((pointer, level): (Pointer, u32)) -> Self {
        Self { pointer, level, low: Key::MIN, high: Key::MAX }
    }
}
