//! The extents of a file: reading, linking, converting and punching them.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    EXTENT_BLOCKS_MAX, ExtentFlags, ExtentRecord, InodeRecord, Key, Kind, Layout, parse_exact,
};
use crate::memory;
use crate::numbers::{Ino, Run};
use crate::transaction::Transaction;
use crate::tree;
use crate::volume::Nodes;

/// One past the highest block index of a file: 2^63 bytes of the smallest blocks.
const BLOCK_INDEX_MAX: u64 = 1 << 51;

/// An extent in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// First block in the file.
    pub(crate) at: u64,
    /// Where it is on the device.
    pub(crate) run: Run,
    /// Never written; reads as zeros.
    pub(crate) unwritten: bool,
    /// Generation that allocated it.
    pub(crate) birth: u64,
}

impl Extent {
    /// One past the last block in the file.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.run.count
    }

    /// The part of it in `from..to`.
    pub(super) fn part(&self, from: u64, to: u64) -> Option<Self> {
        let (from, to) = (from.max(self.at), to.min(self.end()));
        (from < to).then(|| Self {
            at: from,
            run: Run::new(self.run.start.0 + (from - self.at), to - from),
            ..*self
        })
    }

    fn record(&self) -> ExtentRecord {
        let flags = if self.unwritten { ExtentFlags::UNWRITTEN } else { ExtentFlags::empty() };
        ExtentRecord {
            start: U64::new(self.run.start.0),
            count: U32::new(self.run.count as u32),
            flags: U32::new(flags.bits()),
            birth: U64::new(self.birth),
        }
    }
}

/// The record and the extent in a value, its numbers checked.
pub(crate) fn decode(inode: Ino, at: u64, value: &[u8]) -> Result<(ExtentRecord, Extent)> {
    let record: &ExtentRecord = parse_exact(value, "extent of inode", inode.0)?;
    let (start, count) = (record.start.get(), u64::from(record.count.get()));
    let flags = ExtentFlags::from_bits(record.flags.get());
    let impossible = count == 0
        || count > EXTENT_BLOCKS_MAX
        || start.checked_add(count).is_none()
        || at.checked_add(count).is_none_or(|end| end > BLOCK_INDEX_MAX)
        || flags.is_none();
    if impossible {
        return Err(Error::corrupt("extent of inode", inode.0, "impossible numbers"));
    }
    let unwritten = flags.is_some_and(|flags| flags.contains(ExtentFlags::UNWRITTEN));
    Ok((*record, Extent { at, run: Run::new(start, count), unwritten, birth: record.birth.get() }))
}

/// Fails unless the extent's bytes have a place in the file and on the volume.
pub(crate) fn check_place(layout: &Layout, inode: Ino, extent: &Extent) -> Result<()> {
    if !layout.covers(extent.run.start.0, extent.run.count) {
        return Err(Error::corrupt("extent of inode", inode.0, "outside the volume"));
    }
    if extent.end() > (1 << 63) / u64::from(layout.block_size) {
        return Err(Error::corrupt("extent of inode", inode.0, "behind the largest file's end"));
    }
    Ok(())
}

/// Calls `visit` with the parts of extents in `from..to` (file blocks), in order, until it gives false.
pub(crate) fn each<N: Nodes>(
    nodes: &N,
    inode: Ino,
    from: u64,
    to: u64,
    visit: &mut dyn FnMut(Extent) -> Result<bool>,
) -> Result<()> {
    let layout = *nodes.geometry();
    let check = |extent: &Extent| check_place(&layout, inode, extent);
    let mut end = from;
    if from > 0 {
        let before =
            tree::last(nodes, Key::new(inode, Kind::Extent, 0), Key::new(inode, Kind::Extent, from))?;
        if let Some((key, value)) = before {
            let (_, extent) = decode(inode, key.offset, &value)?;
            check(&extent)?;
            if let Some(part) = extent.part(from, to) {
                end = part.end();
                if !visit(part)? {
                    return Ok(());
                }
            }
        }
    }
    let (first, last) = (Key::new(inode, Kind::Extent, from), Key::new(inode, Kind::Extent, to));
    tree::scan(nodes, first, last, &mut |key, value| {
        let (_, extent) = decode(inode, key.offset, value)?;
        check(&extent)?;
        if extent.at < end {
            return Err(Error::corrupt("extent of inode", inode.0, "overlaps another"));
        }
        end = extent.end();
        match extent.part(from, to) {
            Some(part) => visit(part),
            None => Ok(true),
        }
    })
}

/// The extents that touch `from..to`, whole.
fn touching<N: Nodes>(nodes: &N, inode: Ino, from: u64, to: u64, limit: u64) -> Result<Vec<Extent>> {
    let mut found = Vec::new();
    if from > 0 {
        let before =
            tree::last(nodes, Key::new(inode, Kind::Extent, 0), Key::new(inode, Kind::Extent, from))?;
        if let Some((key, value)) = before {
            let (_, extent) = decode(inode, key.offset, &value)?;
            if extent.end() > from {
                memory::push(&mut found, extent)?;
            }
        }
    }
    let (first, last) = (Key::new(inode, Kind::Extent, from), Key::new(inode, Kind::Extent, to));
    tree::scan(nodes, first, last, &mut |key, value| {
        if found.len() as u64 >= limit {
            return Ok(false);
        }
        memory::push(&mut found, decode(inode, key.offset, value)?.1)?;
        Ok(true)
    })?;
    Ok(found)
}

fn put<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, inode: Ino, extent: &Extent) -> Result<()> {
    tree::put(tx, Key::new(inode, Kind::Extent, extent.at), extent.record().as_bytes())
}

/// Adds an extent where there is a hole, joined with its neighbours where they go together.
pub(crate) fn link<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    new: Extent,
) -> Result<()> {
    let mut extent = new;
    let joins = |left: &Extent, right: &Extent| {
        left.end() == right.at
            && left.run.end() == right.run.start.0
            && left.unwritten == right.unwritten
            && left.run.count + right.run.count <= EXTENT_BLOCKS_MAX
    };
    let range = (Key::new(inode, Kind::Extent, 0), Key::new(inode, Kind::Extent, extent.at));
    if let Some((key, value)) = tree::last(tx, range.0, range.1)? {
        let (_, left) = decode(inode, key.offset, &value)?;
        if joins(&left, &extent) {
            // The older birth: a later snapshot must not take shared blocks for its own.
            let birth = left.birth.min(extent.birth);
            let run = Run::new(left.run.start.0, left.run.count + extent.run.count);
            extent = Extent { at: left.at, run, birth, ..left };
        }
    }
    let right = Key::new(inode, Kind::Extent, extent.end());
    let found = tree::find(tx, right, |value| Ok(decode(inode, right.offset, value)?.1))?;
    if let Some(right_extent) = found {
        if joins(&extent, &right_extent) {
            tree::remove(tx, right)?;
            extent.run.count += right_extent.run.count;
            extent.birth = extent.birth.min(right_extent.birth);
        }
    }
    put(tx, inode, &extent)
}

/// Marks the unwritten blocks in `from..to` as written.
pub(crate) fn convert<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    from: u64,
    to: u64,
) -> Result<()> {
    for extent in touching(tx, inode, from, to, u64::MAX)? {
        if !extent.unwritten {
            continue;
        }
        tree::remove(tx, Key::new(inode, Kind::Extent, extent.at))?;
        for rest in [extent.part(extent.at, from), extent.part(to, extent.end())].into_iter().flatten() {
            put(tx, inode, &rest)?;
        }
        if let Some(part) = extent.part(from, to) {
            link(tx, inode, Extent { unwritten: false, ..part })?;
        }
    }
    Ok(())
}

/// Takes the blocks in `from..to` out of the file and frees them, at most about `limit` extents; true if all are out.
pub(crate) fn punch<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    from: u64,
    to: u64,
    limit: u64,
) -> Result<bool> {
    let found = touching(tx, inode, from, to, limit)?;
    let done = (found.len() as u64) < limit;
    for extent in found {
        tree::remove(tx, Key::new(inode, Kind::Extent, extent.at))?;
        for rest in [extent.part(extent.at, from), extent.part(to, extent.end())].into_iter().flatten() {
            put(tx, inode, &rest)?;
        }
        if let Some(part) = extent.part(from, to) {
            tx.free(part.run)?;
            record.blocks.set(record.blocks.get().saturating_sub(part.run.count));
        }
    }
    Ok(done)
}

/// The device block behind the file block before `at`, plus one: where the next one had best go.
pub(crate) fn goal<N: Nodes>(nodes: &N, inode: Ino, at: u64) -> Result<u64> {
    let before = tree::last(nodes, Key::new(inode, Kind::Extent, 0), Key::new(inode, Kind::Extent, at))?;
    match before {
        Some((key, value)) => Ok(decode(inode, key.offset, &value)?.1.run.end()),
        None => Ok(0),
    }
}

/// Allocates the holes in `from..to`, as unwritten blocks; gives how many blocks that took.
pub(crate) fn fill_holes<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    from: u64,
    to: u64,
) -> Result<u64> {
    let mut taken = 0;
    for (hole, count) in holes(tx, inode, from, to)? {
        let mut at = hole;
        while at < hole + count {
            let goal = goal(tx, inode, at)?;
            let run = tx.take((hole + count - at).min(EXTENT_BLOCKS_MAX), goal)?;
            let birth = tx.generation();
            link(tx, inode, Extent { at, run, unwritten: true, birth })?;
            at += run.count;
            taken += run.count;
        }
    }
    record.add_blocks(taken);
    Ok(taken)
}

/// The holes in `from..to`: first block and count of each.
pub(crate) fn holes<N: Nodes>(nodes: &N, inode: Ino, from: u64, to: u64) -> Result<Vec<(u64, u64)>> {
    let mut holes = Vec::new();
    let mut at = from;
    each(nodes, inode, from, to, &mut |extent| {
        if extent.at > at {
            memory::push(&mut holes, (at, extent.at - at))?;
        }
        at = extent.end();
        Ok(true)
    })?;
    if at < to {
        memory::push(&mut holes, (at, to - at))?;
    }
    Ok(holes)
}
