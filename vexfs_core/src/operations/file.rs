//! Reading the bytes of a file, and finding its holes.

use alloc::vec::Vec;

use super::types::{ExtentKind, FileExtent, ReadPlan, Seek};
use super::{extents, inode};
use crate::control;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{FileKind, InodeFlags, InodeRecord, Key, Kind};
use crate::memory;
use crate::numbers::Ino;
use crate::tree;
use crate::volume::{Nodes, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Begins a read at byte `offset`: what is known goes into the buffer, the rest is in the plan.
    ///
    /// Works on regular files and on the mapped files of a collection.
    pub fn read_begin(&self, inode: Ino, offset: u64, buffer: &mut [u8]) -> Result<ReadPlan> {
        if control::is_control(inode) {
            return control::read_column(self, inode, offset, buffer);
        }
        let record = inode::load(self, inode)?;
        match record.kind(inode)? {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid("not a regular file")),
        }
        let left = record.size.get().saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..len];
        if record.flags().contains(InodeFlags::INLINE) {
            let bytes = inline(self, inode, &record)?;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            buffer.copy_from_slice(bytes.get(start..start + len).unwrap_or(&[]));
            return Ok(ReadPlan { len, pieces: Vec::new() });
        }
        let pieces = self.patches.settle(pieces(self, inode, offset, buffer)?, buffer)?;
        Ok(ReadPlan { len, pieces })
    }

    /// Reads up to `buffer.len()` bytes at byte `offset`; gives how many.
    pub fn read(&self, inode: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let plan = self.read_begin(inode, offset, buffer)?;
        for (range, place) in plan.pieces {
            self.host.read_at(place, &mut buffer[range])?;
        }
        Ok(plan.len)
    }

    /// The next data or hole at or after byte `offset`, as lseek(2).
    ///
    /// # Errors
    /// `PastEnd` behind the end of the file, or if no data follows.
    pub fn seek(&self, inode: Ino, offset: u64, what: Seek) -> Result<u64> {
        let record = inode::load(self, inode)?;
        let size = record.size.get();
        if offset >= size {
            return Err(Error::PastEnd);
        }
        let hole = match what {
            Seek::Hole => size,
            Seek::Data => offset,
        };
        if record.flags().contains(InodeFlags::INLINE) {
            return Ok(hole);
        }
        let block_size = u64::from(self.layout.block_size);
        let from = offset / block_size;
        let mut at = from;
        let mut data = None;
        extents::each(self, inode, from, size.div_ceil(block_size), &mut |extent| {
            if extent.unwritten {
                return Ok(true);
            }
            match what {
                Seek::Data => {
                    data = Some(extent.at);
                    Ok(false)
                }
                Seek::Hole if extent.at > at => Ok(false),
                Seek::Hole => {
                    at = extent.end();
                    Ok(true)
                }
            }
        })?;
        match what {
            Seek::Hole => Ok((at * block_size).clamp(offset, size)),
            Seek::Data => match data {
                Some(block) => Ok((block * block_size).max(offset)),
                None => Err(Error::PastEnd),
            },
        }
    }

    /// What lies at byte `offset` of a regular file, and how far; a hole ends where the next extent begins, or never.
    pub fn extent_at(&self, inode: Ino, offset: u64) -> Result<FileExtent> {
        let record = inode::load(self, inode)?;
        if record.kind(inode)? != FileKind::Regular {
            return Err(Error::Invalid("not a regular file"));
        }
        let block_size = u64::from(self.layout.block_size);
        if record.flags().contains(InodeFlags::INLINE) {
            let len = record.size.get();
            if offset < len {
                return Ok(FileExtent { offset: 0, len, what: ExtentKind::Inline });
            }
            return Ok(FileExtent { offset, len: u64::MAX - offset, what: ExtentKind::Hole });
        }
        let from = offset / block_size;
        let start = from * block_size;
        let mut found = FileExtent { offset: start, len: u64::MAX - start, what: ExtentKind::Hole };
        extents::each(self, inode, from, u64::MAX, &mut |extent| {
            let device = extent.run.start.0 * block_size;
            match (extent.at == from, extent.unwritten) {
                (false, _) => found.len = (extent.at - from) * block_size,
                (true, false) => found.what = ExtentKind::Data(device),
                (true, true) => found.what = ExtentKind::Unwritten(device),
            }
            if extent.at == from {
                found.len = extent.run.count * block_size;
            }
            Ok(false)
        })?;
        Ok(found)
    }
}

/// Zeros the parts of `buffer` that are holes, and lists those that are on the device.
pub(crate) fn pieces<N: Nodes>(
    nodes: &N,
    inode: Ino,
    offset: u64,
    buffer: &mut [u8],
) -> Result<Vec<(core::ops::Range<usize>, Place)>> {
    let block_size = u64::from(nodes.geometry().block_size);
    let end = offset.saturating_add(buffer.len() as u64);
    let mut pieces = Vec::new();
    let mut done = 0;
    extents::each(nodes, inode, offset / block_size, end.div_ceil(block_size), &mut |extent| {
        if extent.unwritten {
            return Ok(true);
        }
        let start = (extent.at * block_size).max(offset);
        let stop = (extent.end() * block_size).min(end);
        let range = (start - offset) as usize..(stop - offset) as usize;
        buffer[done..range.start].fill(0);
        done = range.end;
        let device = extent.run.start.0 * block_size + (start - extent.at * block_size);
        memory::push(&mut pieces, (range, Place { inode, offset: start, device }))?;
        Ok(true)
    })?;
    buffer[done..].fill(0);
    Ok(pieces)
}

/// The bytes of an inline file.
pub(crate) fn inline<N: Nodes>(nodes: &N, inode: Ino, record: &InodeRecord) -> Result<Vec<u8>> {
    let bytes = tree::find(nodes, Key::new(inode, Kind::Inline, 0), memory::copy)?.unwrap_or_default();
    if bytes.len() as u64 != record.size.get() {
        return Err(Error::corrupt("inode", inode.0, "inline bytes of a wrong length"));
    }
    Ok(bytes)
}
