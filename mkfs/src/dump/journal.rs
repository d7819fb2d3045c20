//! The journal, record by record: what is whole, what each tells, and where it ends.

use std::io::{self, Write};

use serde_json::json;
use vexfs_core::device::BlockDevice;
use vexfs_core::format::Incompatible;
use vexfs_core::journal::{Entry, FoundRecord, LogReader};
use vexfs_core::volume::Nodes;

use super::reader::Reader;
use super::report::Report;

/// Shows every record that a mount would replay; gives false if one is damaged.
pub fn journal<D: BlockDevice, W: Write>(reader: &Reader<D>, report: &mut Report<W>) -> io::Result<bool> {
    let (layout, superblock) = (*reader.geometry(), *reader.superblock());
    let used = superblock.incompatible.get() & Incompatible::JOURNAL.bits() != 0;
    let base = superblock.generation.get();
    let value = json!({
        "start": layout.journal_start, "blocks": layout.journal_blocks,
        "bytes": layout.journal_blocks * u64::from(layout.block_size), "base": base, "used": used,
    });
    report.section("journal", &value)?;
    let mut log = LogReader::new(&layout, superblock.uuid, base);
    if !used {
        return Ok(true);
    }
    loop {
        let record = match log.next(reader.device()) {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(true),
            Err(error) => {
                report.line(0, &json!({ "error": error.to_string() }))?;
                return Ok(false);
            }
        };
        if let Err(error) = show(&record, reader, report)? {
            report.line(0, &json!({ "record": record.header.sequence.get(), "error": error.to_string() }))?;
            return Ok(false);
        }
    }
}

fn show<D: BlockDevice, W: Write>(
    record: &FoundRecord,
    reader: &Reader<D>,
    report: &mut Report<W>,
) -> io::Result<vexfs_core::Result<()>> {
    let (mut puts, mut removals, mut taken, mut freed, mut carried) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let read = record.each(reader.geometry(), &mut |entry| {
        match entry {
            Entry::Put { .. } => puts += 1,
            Entry::Remove(_) => removals += 1,
            Entry::Take(run) => taken += run.count,
            Entry::Free(run) => freed += run.count,
            Entry::Bytes { bytes, .. } => carried += bytes.len() as u64,
        }
        Ok(())
    });
    report.line(
        0,
        &json!({
            "record": record.header.sequence.get(), "at": record.position, "bytes": record.header.length.get(),
            "puts": puts, "removals": removals, "blocks_taken": taken, "blocks_freed": freed,
            "bytes_carried": carried,
        }),
    )?;
    Ok(read)
}
