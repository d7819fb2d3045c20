//! The tree: its nodes, its records, and what takes how much of it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::json;
use vexfs_core::device::BlockDevice;
use vexfs_core::format::{Expected, Key, Kind, NODE_HEADER, Node, SLOT};
use vexfs_core::volume::Nodes;

use super::reader::Reader;
use super::record::record;
use super::report::Report;

/// Shows every node, and every record if asked; gives false if a node could not be read.
pub fn tree<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    records: bool,
    report: &mut Report<W>,
) -> io::Result<bool> {
    let mut whole = true;
    walk(reader, Expected::root(reader.root()), 0, &mut |expected, depth, node| {
        let pointer = expected.pointer;
        match node {
            Ok(node) => {
                let value = json!({
                    "level": expected.level, "block": pointer.block, "generation": pointer.generation,
                    "checksum": format!("{:08x}", pointer.checksum), "count": node.count(),
                    "used": used(node), "low": key(expected.low), "high": key(expected.high),
                });
                report.line(depth, &value)?;
                for index in 0..if records && expected.level == 0 { node.count() } else { 0 } {
                    let Some(key) = node.key(index) else { break };
                    report.line(depth + 1, &record(key, node.value(index)))?;
                }
            }
            Err(error) => {
                whole = false;
                let value =
                    json!({"level": expected.level, "block": pointer.block, "error": error.to_string()});
                report.line(depth, &value)?;
            }
        }
        Ok(())
    })?;
    Ok(whole)
}

/// Counts nodes a level and records and bytes a kind; gives false if a node could not be read.
pub fn statistics<D: BlockDevice, W: Write>(reader: &Reader<D>, report: &mut Report<W>) -> io::Result<bool> {
    let (mut levels, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    let mut damaged = 0_u64;
    walk(reader, Expected::root(reader.root()), 0, &mut |expected, _, node| {
        let Ok(node) = node else {
            damaged += 1;
            return Ok(());
        };
        let (nodes, bytes) = levels.entry(expected.level).or_insert((0_u64, 0_u64));
        *nodes += 1;
        *bytes += used(node);
        for index in 0..if expected.level == 0 { node.count() } else { 0 } {
            let Some(key) = node.key(index) else { break };
            let (count, bytes) = kinds.entry(key.kind).or_insert((0_u64, 0_u64));
            *count += 1;
            *bytes += (SLOT + node.value(index).len()) as u64;
        }
        Ok(())
    })?;
    let block_size = u64::from(reader.geometry().block_size);
    for (level, (nodes, bytes)) in levels.iter().rev() {
        let fill = bytes * 100 / (nodes * block_size);
        report
            .line(0, &json!({"level": level, "nodes": nodes, "bytes_used": bytes, "fill_percent": fill}))?;
    }
    for (kind, (records, bytes)) in &kinds {
        let name = Kind::from_u8(*kind).map_or_else(|| kind.to_string(), |kind| format!("{kind:?}"));
        report.line(0, &json!({"kind": name, "records": records, "bytes": bytes}))?;
    }
    if damaged > 0 {
        report.line(0, &json!({"damaged_nodes": damaged}))?;
    }
    Ok(damaged == 0)
}

type Visit<'a> = dyn FnMut(&Expected, usize, std::result::Result<&Node<'_>, vexfs_core::error::Error>) -> io::Result<()>
    + 'a;

// Visits every node from `expected` down, parents first. Levels fall by one at each step, so it ends.
fn walk<D: BlockDevice>(
    reader: &Reader<D>,
    expected: Expected,
    depth: usize,
    visit: &mut Visit<'_>,
) -> io::Result<()> {
    let bytes = match reader.node(&expected) {
        Ok(bytes) => bytes,
        Err(error) => return visit(&expected, depth, Err(error)),
    };
    let node = Node::new(&bytes);
    visit(&expected, depth, Ok(&node))?;
    let Some(level) = expected.level.checked_sub(1) else { return Ok(()) };
    for index in 0..node.count() {
        let (Some(pointer), Some(low)) = (node.pointer(index), node.key(index)) else { break };
        let high = node.key(index + 1).unwrap_or(expected.high);
        walk(reader, Expected { pointer, level, low, high }, depth + 1, visit)?;
    }
    Ok(())
}

fn used(node: &Node<'_>) -> u64 {
    let values: usize = (0..node.count()).map(|index| SLOT + node.value(index).len()).sum();
    (NODE_HEADER + values) as u64
}

fn key(key: Key) -> String {
    match Kind::from_u8(key.kind) {
        _ if key == Key::MAX => "end".into(),
        Some(kind) => format!("{}/{kind:?}/{}", key.inode, key.offset),
        None => format!("{}/{}/{}", key.inode, key.kind, key.offset),
    }
}
