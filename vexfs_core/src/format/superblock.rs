//! The superblock: where everything begins, in four slots of which each generation writes two.

use core::mem::size_of;

use bitflags::bitflags;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes as _, IntoBytes as _};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::inode::TimeRecord;
use super::node::PointerRecord;
use super::space::{SpaceEntry, SpaceLayout};
use crate::checksum::crc32_parts;
use crate::error::{Error, Result};

/// The first eight bytes of a slot.
pub const SUPERBLOCK_MAGIC: [u8; 8] = *b"VEXFS-FS";
/// The format's version.
pub const VERSION: u32 = 1;
/// Bytes of a superblock; the rest of its slot is not used.
pub const SUPERBLOCK: usize = 512;
/// Slots lie at multiples of this, at every block size.
pub const SLOT_SPACING: u64 = 16384;
/// Bytes at the front of the volume that hold slots 0 and 1 (and two spare places).
const FRONT: u64 = 4 * SLOT_SPACING;
/// Bytes at the end that hold slots 2 and 3.
const BACK: u64 = 2 * SLOT_SPACING;

bitflags! {
    /// Features that a program may ignore.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Compatible: u64 {}
}

bitflags! {
    /// Features that a program must know to write.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ReadOnlyCompatible: u64 {
        /// Collections may have a directory of index files, which goes with them.
        const INDEX = 1;
    }
}

bitflags! {
    /// Features that a program must know to mount at all.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Incompatible: u64 {
        /// The journal may hold records on this generation, which a mount replays.
        const JOURNAL = 1;
        /// Collections may have another codec than `none`.
        const CODECS = 2;
        /// Vectors may have metadata.
        const METADATA = 4;
        /// Collections may keep superseded vectors.
        const HISTORY = 8;
        /// Collections may have another matrix than their first, or be on the way to one.
        const RECODE = 16;
        /// Collections may be stored by product quantisation.
        const QUANTIZERS = 32;
    }
}

/// The superblock.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Superblock {
    /// `VEXFS-FS`.
    pub magic: [u8; 8],
    /// CRC-32 of the 512 bytes with this field zero.
    pub checksum: U32,
    /// Format version, 1.
    pub version: U32,
    /// This commit's number; the highest whole one counts.
    pub generation: U64,
    /// The volume's UUID.
    pub uuid: [u8; 16],
    /// Label, UTF-8, padded with zeros.
    pub label: [u8; 32],
    /// `Compatible` bits.
    pub compatible: U64,
    /// `ReadOnlyCompatible` bits.
    pub read_only_compatible: U64,
    /// `Incompatible` bits.
    pub incompatible: U64,
    /// Block size in bytes: 4096, 8192 or 16384.
    pub block_size: U32,
    /// Which slot this copy was written to, 0 to 3.
    pub slot: U32,
    /// Blocks of the volume.
    pub block_count: U64,
    /// First block of the free-space map.
    pub space_start: U64,
    /// First block of the journal.
    pub journal_start: U64,
    /// Blocks of the journal.
    pub journal_blocks: U64,
    /// First block that the free-space map covers; bit 0 is this block.
    pub data_start: U64,
    /// Blocks that the free-space map covers.
    pub data_blocks: U64,
    /// The tree's root node.
    pub root: PointerRecord,
    /// Level of the root node; 0 is a leaf.
    pub root_level: U32,
    /// Reserved, zero.
    pub reserved: U32,
    /// The top block of the free-space map.
    pub space: SpaceEntry,
    /// Free blocks.
    pub free_blocks: U64,
    /// Blocks of tree nodes.
    pub tree_blocks: U64,
    /// Inodes of files, the root and orphans among them; control directory and collections are not counted.
    pub inode_count: U64,
    /// The next inode number to give.
    pub next_inode: U64,
    /// The next vector id to give.
    pub next_vector: U64,
    /// The next collection number to give.
    pub next_collection: U32,
    /// Reserved, zero.
    pub reserved2: U32,
    /// Key of the name hashes.
    pub hash_seed: [u8; 16],
    /// When the volume was made.
    pub created: TimeRecord,
    /// When this generation was written.
    pub written: TimeRecord,
    /// Reserved, zero.
    pub reserved3: [u8; 224],
}

const _: () = assert!(size_of::<Superblock>() == SUPERBLOCK);

impl Superblock {
    /// The superblock in a slot's first 512 bytes, if its magic and checksum are right.
    ///
    /// `Ok(None)` is a place without our magic; a damaged copy is an error.
    pub fn parse(bytes: &[u8], slot: u32) -> Result<Option<Self>> {
        let Ok((copy, _)) = Self::read_from_prefix(bytes) else { return Ok(None) };
        if copy.magic != SUPERBLOCK_MAGIC {
            return Ok(None);
        }
        if copy.checksum.get() != copy.sum() {
            return Err(Error::checksum("superblock slot", u64::from(slot)));
        }
        if copy.slot.get() != slot {
            return Err(Error::corrupt("superblock slot", u64::from(slot), "holds the copy of another slot"));
        }
        if copy.version.get() != VERSION {
            return Err(Error::Version(copy.version.get()));
        }
        Ok(Some(copy))
    }

    /// The copy for `slot`, sealed with its checksum.
    pub fn sealed(mut self, slot: u32) -> Self {
        self.slot = U32::new(slot);
        self.checksum = U32::new(self.sum());
        self
    }

    /// The slots that this generation is written to.
    pub fn slots(&self) -> [u32; 2] {
        if self.generation.get() % 2 == 0 { [0, 2] } else { [1, 3] }
    }

    /// Checks the geometry, which every later calculation trusts.
    pub fn layout(&self) -> Result<Layout> {
        let bad = |why| Error::corrupt("superblock", 0, why);
        let layout = Layout::new(self.block_size.get(), self.block_count.get(), self.journal_blocks.get())
            .map_err(|_| bad("impossible geometry"))?;
        let same = layout.space.start == self.space_start.get()
            && layout.journal_start == self.journal_start.get()
            && layout.data_start == self.data_start.get()
            && layout.data_blocks == self.data_blocks.get();
        if !same {
            return Err(bad("block places do not fit the size"));
        }
        if self.free_blocks.get() > layout.data_blocks {
            return Err(bad("more blocks free than there are"));
        }
        if self.tree_blocks.get() > layout.data_blocks {
            return Err(bad("more tree blocks than there are blocks"));
        }
        if self.next_inode.get() < super::FIRST_INODE.0 || self.next_inode.get() >= super::COLLECTION_INODES {
            return Err(bad("next inode number out of range"));
        }
        Ok(layout)
    }

    fn sum(&self) -> u32 {
        let bytes = self.as_bytes();
        crc32_parts(&[&bytes[..8], &[0; 4], &bytes[12..]])
    }
}

/// Where things lie on a volume; computed from three numbers, so that it cannot disagree with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of the volume.
    pub block_count: u64,
    /// The free-space map.
    pub space: SpaceLayout,
    /// First block of the journal.
    pub journal_start: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// First block that the free-space map covers.
    pub data_start: u64,
    /// Blocks that it covers.
    pub data_blocks: u64,
}

impl Layout {
    /// The smallest volume, in bytes.
    pub const SIZE_MIN: u64 = 1 << 20;

    /// The layout of a volume.
    pub fn new(block_size: u32, block_count: u64, journal_blocks: u64) -> Result<Self> {
        if !matches!(block_size, 4096 | 8192 | 16384) {
            return Err(Error::Invalid("block size must be 4096, 8192 or 16384 bytes"));
        }
        let bytes = block_count
            .checked_mul(u64::from(block_size))
            .filter(|bytes| *bytes <= i64::MAX as u64)
            .ok_or(Error::Invalid("volume larger than 2^63 bytes"))?;
        if bytes < Self::SIZE_MIN || bytes % SLOT_SPACING != 0 {
            return Err(Error::Invalid("volume smaller than 1 MiB, or not a multiple of 16 KiB"));
        }
        let front = FRONT / u64::from(block_size);
        let end = block_count - BACK / u64::from(block_size);
        let space = SpaceLayout::new(front, block_size, end - front)?;
        let journal_start = space.end();
        let data_start = journal_start.saturating_add(journal_blocks);
        if data_start.saturating_add(16) > end {
            return Err(Error::Invalid("no room for data"));
        }
        Ok(Self {
            block_size,
            block_count,
            space,
            journal_start,
            journal_blocks,
            data_start,
            data_blocks: end - data_start,
        })
    }

    /// Bytes of the volume.
    pub fn size(&self) -> u64 {
        self.block_count * u64::from(self.block_size)
    }

    /// True if the map covers the whole run.
    pub fn covers(&self, start: u64, count: u64) -> bool {
        start >= self.data_start
            && count <= self.data_blocks
            && start - self.data_start <= self.data_blocks - count
    }
}

/// Byte offsets of the four slots on a volume of `size` bytes.
pub fn slot_offsets(size: u64) -> [u64; 4] {
    let size = size - size % SLOT_SPACING;
    [0, SLOT_SPACING, size.saturating_sub(2 * SLOT_SPACING), size.saturating_sub(SLOT_SPACING)]
}
