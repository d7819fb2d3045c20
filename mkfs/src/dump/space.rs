//! Free space.

use std::io::{self, Write};

use serde_json::json;
use vexfs_core::device::BlockDevice;
use vexfs_core::space::Space;
use vexfs_core::volume::Nodes;

use super::reader::Reader;
use super::report::Report;

/// Shows the free-space map's shape and the free runs by size; gives false if the map differs from the superblock.
pub fn space<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    runs: bool,
    report: &mut Report<W>,
) -> io::Result<bool> {
    let (layout, superblock) = (reader.geometry(), reader.superblock());
    let map = Space::load(reader.device(), layout, superblock.space).map_err(io::Error::other)?;
    let (mut sizes, mut largest, mut count) = ([(0_u64, 0_u64); 64], 0, 0_u64);
    let mut all = Vec::new();
    map.free_runs(&mut |run| {
        let (found, blocks) = &mut sizes[run.count.ilog2() as usize];
        *found += 1;
        *blocks += run.count;
        largest = largest.max(run.count);
        count += 1;
        if runs {
            all.push(run);
        }
    });
    let value = json!({
        "block_size": layout.block_size, "data_start": layout.data_start, "data_blocks": layout.data_blocks,
        "free_blocks": map.free(), "free_blocks_in_superblock": superblock.free_blocks.get(),
        "free_runs": count, "largest_run": largest, "map_start": layout.space.start,
        "map_blocks_a_level": layout.space.counts[..layout.space.levels],
    });
    report.section("space", &value)?;
    for (order, (found, blocks)) in sizes.iter().enumerate().filter(|(_, (found, _))| *found > 0) {
        report.line(0, &json!({"runs_of_at_least": 1_u64 << order, "runs": found, "blocks": blocks}))?;
    }
    for run in all {
        report.line(0, &json!({"free": run.start.0, "count": run.count}))?;
    }
    Ok(map.free() == superblock.free_blocks.get())
}
