//! Changing the size of a file.

use zerocopy::little_endian::U64;

use super::write::{self, SIZE_MAX};
use super::{extents, file, inode, orphan};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{FileKind, INLINE_MAX, InodeFlags, InodeRecord, Key, Kind, OrphanKind};
use crate::memory;
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Sets the size of a file. What lies behind the new end is freed in steps, but gone at once.
    pub(crate) fn truncate(&mut self, inode: Ino, size: u64, now: Time) -> Result<()> {
        if control::is_control(inode) {
            return Err(Error::NotPermitted("files of the control directory cannot be truncated"));
        }
        if size > SIZE_MAX {
            return Err(Error::FileTooLarge);
        }
        self.settle_truncate(inode, now)?;
        memory::reserve(&mut self.waiting, 1)?;
        // Extents go only where the end comes nearer. What grows is moved out of the tree, or zeroed up to its block's end.
        let shrinks = inode::load(self, inode)?.size.get() >= size;
        let budget = match shrinks {
            true => Budget { frees: true, ..Budget::records(2 * orphan::STEP + 8).with_blocks(1) },
            false => Budget::records(8).with_blocks(2),
        };
        let done = match self.set_size(inode, size, orphan::STEP, budget, now) {
            // A full volume: the size now, the extents one by one.
            Err(Error::NoSpace { .. }) if shrinks => self.set_size(inode, size, 0, Budget::least(), now)?,
            other => other?,
        };
        let mut rest = Ok(done);
        while matches!(rest, Ok(false)) {
            rest = self.truncate_step(inode, now);
        }
        match rest {
            // The size is the new one; what lies behind it goes later.
            Err(Error::NoMemory) => memory::append(&mut self.waiting, inode),
            other => drop(other?),
        }
        Ok(())
    }

    // One transaction; true if no extent behind the end is left.
    fn set_size(&mut self, inode: Ino, size: u64, limit: u64, budget: Budget, now: Time) -> Result<bool> {
        self.transact(budget, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            match record.kind(inode)? {
                FileKind::Regular => {}
                FileKind::Directory => return Err(Error::IsDirectory),
                _ => return Err(Error::Invalid("only a regular file has a size to set")),
            }
            let done = resize(tx, inode, &mut record, size, limit)?;
            record.content_changed(tx.generation(), tx.now);
            inode::store(tx, inode, &record)?;
            Ok(done)
        })
    }
}

// Sets the size, and frees up to `limit` extents behind it; false if some may be left, and then the inode is on the orphan list.
fn resize<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    size: u64,
    limit: u64,
) -> Result<bool> {
    let old = record.size.get();
    let inline = record.flags().contains(InodeFlags::INLINE);
    if inline {
        if size > INLINE_MAX as u64 {
            write::move_out(tx, inode, record)?;
        } else {
            resize_inline(tx, inode, record, size as usize)?;
        }
    }
    write::zero_gap(tx, inode, record, size)?;
    record.size = U64::new(size);
    if size >= old {
        return Ok(true);
    }
    let from = size.div_ceil(u64::from(tx.geometry().block_size));
    let done = inline || limit > 0 && extents::punch(tx, inode, record, from, u64::MAX, limit)?;
    if !done {
        record.set_flag(InodeFlags::TRUNCATING, true);
        orphan::add(tx, inode, OrphanKind::Truncate)?;
    }
    Ok(done)
}

fn resize_inline<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    size: usize,
) -> Result<()> {
    let mut bytes = file::inline(tx, inode, record)?;
    let key = Key::new(inode, Kind::Inline, 0);
    if size == 0 {
        record.set_flag(InodeFlags::INLINE, false);
        return tree::remove(tx, key).map(|_| ());
    }
    let grown = crate::memory::zeroed(size.saturating_sub(bytes.len()))?;
    crate::memory::extend(&mut bytes, &grown)?;
    bytes.truncate(size);
    tree::put(tx, key, &bytes)
}
