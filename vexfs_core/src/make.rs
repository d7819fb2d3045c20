//! Formatting: an empty volume with its root and control directories.
//!
//! The same options give the same bytes. Only the superblock slots, the map and the first nodes are written.

use zerocopy::little_endian::{U32, U64};

use crate::device::{BlockDevice, Direct};
use crate::error::{Error, Result};
use crate::format::{
    COLLECTIONS, Compatible, FIRST_INODE, Incompatible, InodeFlags, InodeRecord, Key, Kind, Layout,
    NodeWriter, Pointer, PointerRecord, ROOT, ReadOnlyCompatible, SLOT_SPACING, SUPERBLOCK, SUPERBLOCK_MAGIC,
    SpaceEntry, Superblock, VERSION, slot_offsets,
};
use crate::memory::{self, Block};
use crate::numbers::{Run, Time};
use crate::space::Space;
use crate::transaction::Budget;
use crate::tree;
use crate::volume::{MountOptions, Volume};

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct MakeOptions<'a> {
    /// 4096, 8192 or 16384 bytes.
    pub block_size: u32,
    /// Bytes of the volume; rounded down to 16 KiB, at least 1 MiB.
    pub size: u64,
    /// UUID.
    pub uuid: [u8; 16],
    /// Label, at most 32 bytes.
    pub label: &'a [u8],
    /// Key of the name hashes.
    pub hash_seed: [u8; 16],
    /// Owner of the root directory.
    pub uid: u32,
    /// Group of the root directory.
    pub gid: u32,
    /// Creation time.
    pub now: Time,
    /// Blocks of the journal; `None` = by the volume's size.
    pub journal_blocks: Option<u64>,
}

/// Formats `device` and gives the superblock.
///
/// # Errors
/// `Invalid` for a size, block size or label out of range, `Truncated` if the device is shorter, and the device's own.
pub fn make(device: &impl BlockDevice, options: &MakeOptions<'_>) -> Result<Superblock> {
    let size = options.size - options.size % SLOT_SPACING;
    if size > device.size() {
        return Err(Error::Truncated { expected: size, got: device.size() });
    }
    if !matches!(options.block_size, 4096 | 8192 | 16384) {
        return Err(Error::Invalid("block size must be 4096, 8192 or 16384 bytes"));
    }
    let block_count = size / u64::from(options.block_size);
    // 1/64 of the volume, at least 16 blocks and at most 32 MiB.
    let journal_max = (32 << 20) / u64::from(options.block_size);
    let journal = options.journal_blocks.unwrap_or((block_count / 64).clamp(16, journal_max));
    let layout = Layout::new(options.block_size, block_count, journal)?;
    let superblock = first_superblock(&layout, options)?;

    // A slot that is left from an earlier volume may carry a higher generation than ours.
    let zeros = memory::zeroed(SUPERBLOCK)?;
    for size in [device.size(), size] {
        for offset in slot_offsets(size) {
            device.write(offset, &zeros)?;
        }
    }
    // As may the first record of its journal.
    let journal = layout.journal_start * u64::from(layout.block_size);
    device.write(journal, &memory::zeroed(layout.block_size as usize)?)?;
    device.flush()?;

    let mut volume = Volume::blank(Direct(device), layout, superblock)?;
    volume.transact(Budget::records(8), options.now, |tx| {
        let directory = |inode, permissions: u32| InodeRecord {
            mode: U32::new(0o040_000 | permissions),
            uid: U32::new(options.uid),
            gid: U32::new(options.gid),
            links: U32::new(2),
            size: U64::ZERO,
            blocks: U64::ZERO,
            version: U64::ZERO,
            bound_version: U64::ZERO,
            stale_generation: U64::ZERO,
            parent: U64::new(inode),
            accessed: options.now.into(),
            modified: options.now.into(),
            changed: options.now.into(),
            created: options.now.into(),
            flags: U32::new(InodeFlags::empty().bits()),
            device: U32::ZERO,
            attributes: U32::ZERO,
            reserved: U32::ZERO,
        };
        use zerocopy::IntoBytes;
        let root = directory(ROOT.0, 0o755);
        tree::put(tx, Key::new(ROOT, Kind::Inode, 0), root.as_bytes())?;
        let collections = directory(crate::format::CONTROL.0, 0o755);
        tree::put(tx, Key::new(COLLECTIONS, Kind::Inode, 0), collections.as_bytes())
    })?;
    volume.commit(options.now)?;
    // The second generation fills the other two slots.
    volume.changed = true;
    volume.commit(options.now)?;
    Ok(volume.superblock)
}

impl<D: BlockDevice> Volume<Direct<D>> {
    // A volume of generation 0: an empty leaf, not yet on the device.
    fn blank(host: Direct<D>, layout: Layout, superblock: Superblock) -> Result<Self> {
        let space = Space::empty(&layout)?;
        let mut volume =
            Self::assemble(host, layout, &superblock, (space, None), MountOptions::default(), [false; 4])?;
        let run = volume.space.take(1, layout.data_start).ok_or(Error::NoSpace { pending: 0 })?;
        volume.space.mark(Run::new(run.start.0, 1), true);
        let mut bytes = memory::zeroed(layout.block_size as usize)?;
        NodeWriter::init(&mut bytes, 0, volume.generation, run.start.0);
        volume.dirty.insert(run.start.0, Block::new(bytes)?)?;
        volume.root = Pointer { block: run.start.0, generation: volume.generation, checksum: 0 };
        volume.counters.tree_blocks = 1;
        Ok(volume)
    }
}

fn first_superblock(layout: &Layout, options: &MakeOptions<'_>) -> Result<Superblock> {
    let mut label = [0; 32];
    label
        .get_mut(..options.label.len())
        .ok_or(Error::Invalid("label longer than 32 bytes"))?
        .copy_from_slice(options.label);
    Ok(Superblock {
        magic: SUPERBLOCK_MAGIC,
        checksum: U32::ZERO,
        version: U32::new(VERSION),
        generation: U64::ZERO,
        uuid: options.uuid,
        label,
        compatible: U64::new(Compatible::empty().bits()),
        read_only_compatible: U64::new(ReadOnlyCompatible::empty().bits()),
        incompatible: U64::new(Incompatible::JOURNAL.bits()),
        block_size: U32::new(layout.block_size),
        slot: U32::ZERO,
        block_count: U64::new(layout.block_count),
        space_start: U64::new(layout.space.start),
        journal_start: U64::new(layout.journal_start),
        journal_blocks: U64::new(layout.journal_blocks),
        data_start: U64::new(layout.data_start),
        data_blocks: U64::new(layout.data_blocks),
        root: PointerRecord::from(Pointer::default()),
        root_level: U32::ZERO,
        reserved: U32::ZERO,
        space: SpaceEntry::NEVER,
        free_blocks: U64::new(layout.data_blocks),
        tree_blocks: U64::ZERO,
        inode_count: U64::new(1),
        next_inode: U64::new(FIRST_INODE.0),
        next_vector: U64::new(1),
        next_collection: U32::new(1),
        reserved2: U32::ZERO,
        hash_seed: options.hash_seed,
        created: options.now.into(),
        written: options.now.into(),
        reserved3: [0; 224],
    })
}
