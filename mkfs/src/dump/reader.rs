//! An image to look at: its superblocks, and its tree without mounting it.

use vexfs_core::device::{Address, BlockDevice};
use vexfs_core::error::{Error, Result};
use vexfs_core::format::{
    Expected, Layout, Node, Pointer, SUPERBLOCK, SUPERBLOCK_MAGIC, Superblock, slot_offsets,
};
use vexfs_core::volume::{NodeRef, Nodes};

/// What was found in one of the four places of a superblock.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// Byte offset on the device.
    pub offset: u64,
    /// The copy; `Ok(None)` without our magic.
    pub copy: Result<Option<Superblock>>,
}

/// An image whose newest superblock is whole.
#[derive(Debug)]
pub struct Reader<D> {
    device: D,
    superblock: Superblock,
    layout: Layout,
}

impl<D: BlockDevice> Reader<D> {
    /// The four slots. Those at the end are looked for where the front ones say, else at the device's end.
    pub fn slots(device: &D) -> Result<[Slot; 4]> {
        let mut slots = [Slot { offset: 0, copy: Ok(None) }; 4];
        let mut size = device.size();
        for number in 0..4_u32 {
            let offset = slot_offsets(size)[number as usize];
            let copy = read_slot(device, offset, number);
            if let Ok(Some(found)) = &copy {
                let bytes = found.block_count.get().saturating_mul(u64::from(found.block_size.get()));
                size = bytes.min(device.size());
            }
            slots[number as usize] = Slot { offset, copy };
        }
        Ok(slots)
    }

    /// Opens the newest generation.
    pub fn open(device: D) -> Result<Self> {
        let slots = Self::slots(&device)?;
        let newest =
            slots.iter().filter_map(|slot| slot.copy.ok().flatten()).max_by_key(|copy| copy.generation.get());
        let refusal = slots.iter().find_map(|slot| slot.copy.err());
        let superblock = match (newest, refusal) {
            (Some(newest), _) => newest,
            (None, Some(Error::Corrupt(_))) => return Err(Error::SuperblocksDamaged),
            (None, Some(refusal)) => return Err(refusal),
            (None, None) => return Err(Error::NotVexfs),
        };
        let layout = superblock.layout()?;
        Ok(Self { device, superblock, layout })
    }

    /// The newest superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The device.
    pub fn device(&self) -> &D {
        &self.device
    }
}

fn read_slot(device: &impl BlockDevice, offset: u64, number: u32) -> Result<Option<Superblock>> {
    let mut bytes = [0; SUPERBLOCK];
    if offset.saturating_add(SUPERBLOCK as u64) > device.size() {
        return Ok(None);
    }
    device.read(offset, &mut bytes)?;
    if bytes[..8] != SUPERBLOCK_MAGIC {
        return Ok(None);
    }
    Superblock::parse(&bytes, number)
}

impl<D: BlockDevice> Nodes for Reader<D> {
    fn root(&self) -> (Pointer, u32) {
        (Pointer::from(self.superblock.root), self.superblock.root_level.get())
    }

    fn node(&self, expected: &Expected) -> Result<NodeRef<'_>> {
        let Pointer { block, generation, checksum } = expected.pointer;
        if !self.layout.covers(block, 1) {
            return Err(Error::corrupt("tree node", block, "outside the volume"));
        }
        let len = self.layout.block_size as usize;
        let offset = block * u64::from(self.layout.block_size);
        let address = Address { offset, len, generation, checksum };
        let bytes = self.device.metadata(address, &|bytes| Node::check(bytes, expected))?;
        Ok(NodeRef::Shared(bytes))
    }

    fn hash_seed(&self) -> &[u8; 16] {
        &self.superblock.hash_seed
    }

    fn geometry(&self) -> &Layout {
        &self.layout
    }
}
