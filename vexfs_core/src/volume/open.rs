//! The newest generation, as its superblock and its free-space map tell it.

use alloc::vec::Vec;

use super::{MountOptions, Volume};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    Incompatible, LEVEL_MAX, Layout, Pointer, ReadOnlyCompatible, SUPERBLOCK, Superblock, slot_offsets,
};
use crate::memory;
use crate::space::Space;

impl<H: BlockDevice + Data> Volume<H> {
    /// Opens the newest generation of which a whole superblock is found, without what the journal adds to it. A
    /// free-space map that cannot be used is told by `damage`, and all taken for free.
    // A volume is large for a kernel's stack. So what reads is not part of the frames that hold one, and each of those makes
    // its volume where the caller wants it (`scripts/kernel/frames.py` measures them).
    #[inline(never)]
    pub(crate) fn open_damaged(host: H, options: MountOptions) -> Result<Self> {
        let (superblock, damaged_slots) = find_superblock(&host)?;
        Self::open_generation(host, options, &superblock, damaged_slots)
    }

    // As `open_damaged`, the generation of this superblock.
    #[inline(never)]
    pub(crate) fn open_generation(
        host: H,
        options: MountOptions,
        superblock: &Superblock,
        damaged_slots: [bool; 4],
    ) -> Result<Self> {
        let (layout, space, damage) = space_of(&host, superblock)?;
        let unknown = superblock.read_only_compatible.get() & !ReadOnlyCompatible::all().bits();
        let options = MountOptions { read_only: options.read_only || unknown != 0, ..options };
        Self::assemble(host, layout, superblock, (space, damage), options, damaged_slots)
    }
}

/// The whole copies of the superblock of generations before `newest`, the latest first.
pub(crate) fn older_superblocks(device: &impl BlockDevice, newest: &Superblock) -> Result<Vec<Superblock>> {
    let size = newest.layout()?.size();
    let mut older: Vec<Superblock> = Vec::new();
    for (slot, offset) in (0..).zip(slot_offsets(size)) {
        let mut bytes = memory::zeroed(SUPERBLOCK)?;
        device.read(offset, &mut bytes)?;
        let Ok(Some(found)) = Superblock::parse(&bytes, slot) else { continue };
        let ours = found.uuid == newest.uuid && found.layout().is_ok_and(|layout| layout.size() == size);
        if ours && found.generation.get() < newest.generation.get() {
            memory::push(&mut older, found)?;
        }
    }
    older.sort_unstable_by_key(|found| core::cmp::Reverse(found.generation.get()));
    Ok(older)
}

// The layout that a superblock tells, and its free-space map; what is wrong with that, and then all is free.
#[inline(never)]
fn space_of(host: &impl BlockDevice, superblock: &Superblock) -> Result<(Layout, Space, Option<Error>)> {
    let layout = superblock.layout()?;
    if layout.size() > host.size() {
        return Err(Error::Truncated { expected: layout.size(), got: host.size() });
    }
    let unknown = superblock.incompatible.get() & !Incompatible::all().bits();
    if unknown != 0 {
        return Err(Error::Incompatible(unknown));
    }
    if superblock.root_level.get() >= LEVEL_MAX || !layout.covers(Pointer::from(superblock.root).block, 1) {
        return Err(Error::corrupt("superblock", 0, "impossible tree root"));
    }
    let different = Error::corrupt("superblock", 0, "free blocks differ from the free-space map");
    let (space, damage) = match Space::load(host, &layout, superblock.space) {
        Ok(space) if space.free() != superblock.free_blocks.get() => (space, Some(different)),
        Ok(space) => (space, None),
        Err(error @ Error::Corrupt(_)) => (Space::empty(&layout)?, Some(error)),
        Err(error) => return Err(error),
    };
    if superblock.generation.get() >= u64::MAX / 2 {
        return Err(Error::corrupt("superblock", 0, "impossible generation"));
    }
    Ok((layout, space, damage))
}

/// Finds the newest whole superblock among the four slots, and which of them are damaged.
#[inline(never)]
pub(crate) fn find_superblock(device: &impl BlockDevice) -> Result<(Superblock, [bool; 4])> {
    let mut best: Option<Superblock> = None;
    let mut damaged = [false; 4];
    let mut absent = [false; 4];
    let mut refusal = None;
    // Slots 2 and 3 lie at the volume's end, which is the device's unless the front ones say otherwise.
    for slot in 0..4u32 {
        let size = best.map_or(device.size(), |found| {
            found.block_count.get().saturating_mul(u64::from(found.block_size.get())).min(device.size())
        });
        let offset = slot_offsets(size)[slot as usize];
        let mut bytes = memory::zeroed(SUPERBLOCK)?;
        if offset.checked_add(SUPERBLOCK as u64).is_none_or(|end| end > device.size()) {
            continue;
        }
        device.read(offset, &mut bytes)?;
        match Superblock::parse(&bytes, slot) {
            Ok(Some(found)) => {
                if best.is_none_or(|best| found.generation.get() > best.generation.get()) {
                    best = Some(found);
                }
            }
            Ok(None) => absent[slot as usize] = true,
            Err(Error::Corrupt(_)) => damaged[slot as usize] = true,
            Err(error) => refusal = Some(error),
        }
    }
    match (best, refusal) {
        // Formatting writes all four, so one without a trace of ours is damaged too.
        (Some(best), _) => Ok((best, core::array::from_fn(|slot| damaged[slot] || absent[slot]))),
        (None, Some(refusal)) => Err(refusal),
        (None, None) if damaged.contains(&true) => Err(Error::SuperblocksDamaged),
        (None, None) => Err(Error::NotVexfs),
    }
}
