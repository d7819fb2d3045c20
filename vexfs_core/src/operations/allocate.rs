//! fallocate(2): reserving, punching and zeroing ranges of a file.
//!
//! A block of which only a part is zeroed is written anew at another place, so that a crash shows old or new.

use zerocopy::little_endian::U64;

use super::extents::{self, Extent};
use super::types::{Allocate, Attributes};
use super::write::{self, SIZE_MAX};
use super::{file, inode, orphan};
use crate::control;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{FileKind, InodeFlags, InodeRecord, Key, Kind};
use crate::memory;
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Blocks that one transaction allocates at most.
const BATCH: u64 = 1 << 15;

impl<H: BlockDevice + Data> Volume<H> {
    /// Does to `len` bytes at byte `offset` what `what` says. Long ranges take several transactions.
    pub fn allocate(
        &mut self,
        inode: Ino,
        what: Allocate,
        offset: u64,
        len: u64,
        now: Time,
    ) -> Result<Attributes> {
        control::check_writable(inode)?;
        let end = offset.checked_add(len).filter(|end| *end <= SIZE_MAX).ok_or(Error::FileTooLarge)?;
        if len == 0 {
            return Err(Error::Invalid("a range of no bytes"));
        }
        match inode::load(self, inode)?.kind(inode)? {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid("not a regular file")),
        }
        self.settle_truncate(inode, now)?;
        let block_size = u64::from(self.layout.block_size);
        match what {
            Allocate::Reserve { keep_size } => {
                self.reserve_range(inode, offset / block_size, end.div_ceil(block_size), now)?;
                self.finish_range(inode, end, keep_size, now)?;
            }
            Allocate::PunchHole => self.zero_range(inode, offset, end, now)?,
            Allocate::ZeroRange { keep_size } => {
                let size = inode::load(self, inode)?.size.get();
                self.zero_range(inode, offset, end.min(size).max(offset), now)?;
                self.reserve_range(inode, offset / block_size, end.div_ceil(block_size), now)?;
                self.finish_range(inode, end, keep_size, now)?;
            }
        }
        self.attributes(inode)
    }

    fn reserve_range(&mut self, inode: Ino, from: u64, to: u64, now: Time) -> Result<()> {
        let mut at = from;
        while at < to {
            let until = to.min(at + BATCH);
            let wanted = extents::holes(self, inode, at, until)?.iter().map(|(_, count)| count).sum::<u64>();
            // Each hole may fall into several runs; a transaction that meets more of them than this fails whole.
            let budget = Budget::records(64).with_blocks(wanted);
            self.transact(budget, now, |tx| {
                let mut record = inode::load(tx, inode)?;
                write::move_out(tx, inode, &mut record)?;
                extents::fill_holes(tx, inode, &mut record, at, until)?;
                inode::store(tx, inode, &record)
            })?;
            at = until;
        }
        Ok(())
    }

    fn finish_range(&mut self, inode: Ino, end: u64, keep_size: bool, now: Time) -> Result<()> {
        self.transact(Budget::records(8).with_blocks(1), now, |tx| {
            let mut record = inode::load(tx, inode)?;
            if keep_size || end <= record.size.get() {
                // As every filesystem of Linux; but the bytes are the same, and so is the content's version.
                record.modified = tx.now.into();
                record.changed = tx.now.into();
            } else {
                write::zero_gap(tx, inode, &mut record, end)?;
                record.size = U64::new(end);
                record.content_changed(tx.generation(), tx.now);
            }
            inode::store(tx, inode, &record)
        })
    }

    // Bytes `offset..end` read as zeros afterwards: whole blocks become holes. The first transaction does all of it
    // unless the range has very many extents.
    fn zero_range(&mut self, inode: Ino, offset: u64, end: u64, now: Time) -> Result<()> {
        let block_size = u64::from(self.layout.block_size);
        let (first, last) = (offset.div_ceil(block_size), end / block_size);
        let mut touched = 0;
        extents::each(self, inode, first, last, &mut |_| {
            touched += 1;
            Ok(touched < orphan::STEP)
        })?;
        let budget = Budget { blocks: 3, ..Budget::freeing(2 * touched + 16) };
        let mut done = self.transact(budget, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            record.content_changed(tx.generation(), tx.now);
            if record.flags().contains(InodeFlags::INLINE) {
                zero_inline(tx, inode, &record, offset, end)?;
                inode::store(tx, inode, &record)?;
                return Ok(true);
            }
            let same = offset / block_size == end / block_size;
            if offset % block_size != 0 {
                let to = if same { end } else { first * block_size };
                zero_part(tx, inode, &mut record, offset, to)?;
            }
            if end % block_size != 0 && !(same && offset % block_size != 0) {
                zero_part(tx, inode, &mut record, last * block_size, end)?;
            }
            let done = first >= last || extents::punch(tx, inode, &mut record, first, last, orphan::STEP)?;
            inode::store(tx, inode, &record)?;
            Ok(done)
        })?;
        while !done {
            done = self.transact(Budget::freeing(2 * orphan::STEP + 8), now, |tx| {
                let mut record = inode::load(tx, inode)?;
                let done = extents::punch(tx, inode, &mut record, first, last, orphan::STEP)?;
                inode::store(tx, inode, &record)?;
                Ok(done)
            })?;
        }
        Ok(())
    }
}

fn zero_inline<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &InodeRecord,
    offset: u64,
    end: u64,
) -> Result<()> {
    let mut bytes = file::inline(tx, inode, record)?;
    let len = bytes.len() as u64;
    bytes[offset.min(len) as usize..end.min(len) as usize].fill(0);
    tree::put(tx, Key::new(inode, Kind::Inline, 0), &bytes)
}

/// Zeroes bytes `from..to`, which lie in one block, by writing that block anew elsewhere.
pub(super) fn zero_part<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    from: u64,
    to: u64,
) -> Result<()> {
    debug_assert!(!record.flags().contains(InodeFlags::INLINE));
    let block_size = u64::from(tx.geometry().block_size);
    let block = from / block_size;
    let mut found = None;
    extents::each(tx, inode, block, block + 1, &mut |extent| {
        found = (!extent.unwritten).then_some(extent);
        Ok(false)
    })?;
    let Some(extent) = found else { return Ok(()) };
    if from >= to {
        return Ok(());
    }
    let start = block * block_size;
    let mut bytes = memory::zeroed(block_size as usize)?;
    let old = Place { inode, offset: start, device: extent.run.start.0 * block_size };
    tx.volume.host.read_at(old, &mut bytes)?;
    bytes[(from - start) as usize..(to - start) as usize].fill(0);
    extents::punch(tx, inode, record, block, block + 1, 2)?;
    let run = tx.take(1, extent.run.start.0)?;
    let new = Place { device: run.start.0 * block_size, ..old };
    tx.volume.host.write_at(new, &bytes)?;
    tx.note_fresh(new, block_size)?;
    let birth = tx.generation();
    extents::link(tx, inode, Extent { at: block, run, unwritten: false, birth })?;
    record.add_blocks(1);
    Ok(())
}
