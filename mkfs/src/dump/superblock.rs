//! The four superblock slots.

use std::io::{self, Write};

use serde_json::{Value, json};
use vexfs_core::device::BlockDevice;
use vexfs_core::format::{Pointer, Superblock};
use vexfs_core::numbers::Time;

use super::reader::Reader;
use super::report::Report;
use crate::{time, uuid};

/// Shows each slot, and the newest copy in full; gives false if not all four slots are whole.
pub fn superblock<D: BlockDevice, W: Write>(device: &D, report: &mut Report<W>) -> io::Result<bool> {
    let slots = Reader::slots(device).map_err(io::Error::other)?;
    let newest =
        slots.iter().filter_map(|slot| slot.copy.ok().flatten()).max_by_key(|copy| copy.generation.get());
    let mut whole = true;
    for (number, slot) in slots.iter().enumerate() {
        let (state, generation) = match &slot.copy {
            Ok(Some(copy)) => ("whole".to_owned(), Some(copy.generation.get())),
            Ok(None) => ("no superblock".to_owned(), None),
            Err(error) => (error.to_string(), None),
        };
        whole &= generation.is_some();
        let value = json!({"slot": number, "offset": slot.offset, "state": state, "generation": generation});
        report.line(0, &value)?;
    }
    if let Some(newest) = newest {
        report.section("newest", &describe(&newest))?;
        let bytes = newest.block_count.get().saturating_mul(u64::from(newest.block_size.get()));
        let missing = bytes.saturating_sub(device.size());
        if missing > 0 {
            report.line(0, &json!({"error": "the image is cut off", "missing_bytes": missing}))?;
            whole = false;
        }
    }
    Ok(whole)
}

fn describe(superblock: &Superblock) -> Value {
    let label = String::from_utf8_lossy(&superblock.label);
    let root = Pointer::from(superblock.root);
    json!({
        "generation": superblock.generation.get(),
        "version": superblock.version.get(),
        "uuid": uuid::display(&superblock.uuid),
        "label": label.trim_end_matches('\0'),
        "compatible": format!("{:#x}", superblock.compatible.get()),
        "read_only_compatible": format!("{:#x}", superblock.read_only_compatible.get()),
        "incompatible": format!("{:#x}", superblock.incompatible.get()),
        "block_size": superblock.block_size.get(),
        "block_count": superblock.block_count.get(),
        "space_start": superblock.space_start.get(),
        "journal_start": superblock.journal_start.get(),
        "journal_blocks": superblock.journal_blocks.get(),
        "data_start": superblock.data_start.get(),
        "data_blocks": superblock.data_blocks.get(),
        "root": {"block": root.block, "generation": root.generation, "checksum": format!("{:08x}", root.checksum)},
        "root_level": superblock.root_level.get(),
        "space": {
            "generation": superblock.space.generation.get(),
            "slot": superblock.space.slot.get(),
            "checksum": format!("{:08x}", superblock.space.checksum.get()),
        },
        "free_blocks": superblock.free_blocks.get(),
        "tree_blocks": superblock.tree_blocks.get(),
        "inode_count": superblock.inode_count.get(),
        "next_inode": superblock.next_inode.get(),
        "next_vector": superblock.next_vector.get(),
        "next_collection": superblock.next_collection.get(),
        "created": time::display(Time::from(superblock.created)),
        "written": time::display(Time::from(superblock.written)),
    })
}
