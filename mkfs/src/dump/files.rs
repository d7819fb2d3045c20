//! Files and collections: all records of an inode, found by its number, its path or a collection's name.

use std::io::{self, Write};
use std::ops::ControlFlow;

use serde_json::json;
use vexfs_core::device::BlockDevice;
use vexfs_core::error::{Error, Result};
use vexfs_core::format::{
    COLLECTIONS, CollectionRecord, DirentRecord, FreeRowsRecord, Key, Kind, ROOT, collection_part,
    numbered_matrix, parse, parse_exact,
};
use vexfs_core::numbers::Ino;
use vexfs_core::tree;

use super::reader::Reader;
use super::record::{describe_collection, matrices, record};
use super::report::Report;

/// Shows every record of an inode; gives false if there is none.
pub fn inode<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    number: u64,
    report: &mut Report<W>,
) -> io::Result<bool> {
    let (mut found, mut failed) = (false, None);
    let from = Key { inode: number, kind: 0, offset: 0 };
    let to = Key { inode: number.saturating_add(1), ..from };
    let scanned = tree::scan(reader, from, to, &mut |key, value| {
        found = true;
        failed = report.line(0, &record(key, value)).err();
        Ok(failed.is_none())
    });
    scanned.map_err(io::Error::other)?;
    failed.map_or(Ok(found), Err)
}

/// Shows every record of the file at a path from the root.
pub fn file<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    path: &[u8],
    report: &mut Report<W>,
) -> io::Result<bool> {
    let mut at = ROOT;
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at = entry(reader, at, name).map_err(io::Error::other)?.ok_or_else(|| {
            let (name, path) = (String::from_utf8_lossy(name), String::from_utf8_lossy(path));
            io::Error::other(format!("no `{name}` of `{path}` in this image"))
        })?;
    }
    inode(reader, at.0, report)
}

/// Shows a collection: its settings, its rows counted (and listed if asked), and its matrix's extents.
pub fn collection<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    name: &[u8],
    rows: bool,
    report: &mut Report<W>,
) -> io::Result<bool> {
    let found = entry(reader, COLLECTIONS, name).map_err(io::Error::other)?;
    let Some(directory) = found else {
        let name = String::from_utf8_lossy(name);
        return Err(io::Error::other(format!("no collection `{name}` in this image")));
    };
    let settings = tree::find(reader, Key::new(directory, Kind::Collection, 0), |value| {
        let (record, model) = parse::<CollectionRecord>(value, "collection", directory.0)?;
        let number = matrices(record, model).0.map_or(0, |matrices| matrices.number.get());
        Ok((record.live.get(), record.rows.get(), number, describe_collection(record, model)))
    });
    let missing = Error::corrupt("collection", directory.0, "its record is missing");
    let (live, used, number, settings) =
        settings.and_then(|found| found.ok_or(missing)).map_err(io::Error::other)?;
    report.section("collection", &settings)?;
    let id = collection_part(directory).map(|(id, _)| id);
    // The rows of the first matrix lie at the directory, others' at the matrix.
    let matrix = id.map(|id| numbered_matrix(id, number));
    let rows_at = matrix.filter(|_| number != 0).unwrap_or(directory);
    let count = |inode, kind| count(reader, inode, kind).map_err(io::Error::other);
    let (counted, blank) = (count(rows_at, Kind::Row)?, count(directory, Kind::Blank)?);
    let free = free_rows(reader, directory).map_err(io::Error::other)?;
    let value = json!({
        "number": id.map(|id| id.0), "inode": directory.0, "rows_counted": counted, "rows_to_blank": blank,
        "rows_free": free, "sum_is_right": counted == live && counted + blank + free >= used,
    });
    report.section("rows", &value)?;
    if rows {
        show(reader, rows_at, Kind::Row, report)?;
    }
    if let Some(matrix) = matrix {
        show(reader, matrix, Kind::Extent, report)?;
    }
    Ok(counted == live)
}

fn show<D: BlockDevice, W: Write>(
    reader: &Reader<D>,
    inode: Ino,
    kind: Kind,
    report: &mut Report<W>,
) -> io::Result<()> {
    let mut shown = ControlFlow::Continue(());
    let (from, to) = range(inode, kind);
    let scanned = tree::scan(reader, from, to, &mut |key, value| {
        if let Err(error) = report.line(0, &record(key, value)) {
            shown = ControlFlow::Break(error);
        }
        Ok(shown.is_continue())
    });
    scanned.map_err(io::Error::other)?;
    shown.break_value().map_or(Ok(()), Err)
}

fn count<D: BlockDevice>(reader: &Reader<D>, inode: Ino, kind: Kind) -> Result<u64> {
    let (mut count, (from, to)) = (0, range(inode, kind));
    tree::scan(reader, from, to, &mut |_, _| {
        count += 1;
        Ok(true)
    })?;
    Ok(count)
}

fn free_rows<D: BlockDevice>(reader: &Reader<D>, inode: Ino) -> Result<u64> {
    let (mut count, (from, to)) = (0_u64, range(inode, Kind::FreeRows));
    tree::scan(reader, from, to, &mut |_, value| {
        let run = parse_exact::<FreeRowsRecord>(value, "free rows", inode.0)?;
        count = count.saturating_add(run.count.get());
        Ok(true)
    })?;
    Ok(count)
}

// Finds an entry by its name, looking at all: the key of the name hashes is of no use to a damaged image.
fn entry<D: BlockDevice>(reader: &Reader<D>, directory: Ino, wanted: &[u8]) -> Result<Option<Ino>> {
    let (mut found, (from, to)) = (None, range(directory, Kind::Dirent));
    tree::scan(reader, from, to, &mut |_, value| {
        let (record, name) = parse::<DirentRecord>(value, "directory entry", directory.0)?;
        found = (name == wanted).then(|| Ino(record.inode.get()));
        Ok(found.is_none())
    })?;
    Ok(found)
}

fn range(inode: Ino, kind: Kind) -> (Key, Key) {
    (Key::new(inode, kind, 0), Key::last(inode, kind).next())
}
