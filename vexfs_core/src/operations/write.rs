//! Writing: a plan, the bytes, and a transaction that links them.
//!
//! `write_begin` allocates and changes nothing in the tree; the host puts the bytes on the device without a lock;
//! `write_end` links the new blocks, and only that makes them part of the file. So a block that the tree refers to
//! was written before. Bytes past the end of a file in its last block are undefined: whoever makes the file longer
//! zeroes them.

use alloc::vec::Vec;

use super::allocate::zero_part;
use super::extents::{self, Extent};
use super::types::{Attributes, Source, WritePlan};
use super::{file, inode, xattr};
use crate::bugs::planted;
use crate::control;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{FileKind, INLINE_MAX, InodeFlags, InodeRecord, Key, Kind};
use crate::memory;
use crate::numbers::{Ino, Run, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// The largest file: 2^52 blocks of 4 KiB would be more, but `off_t` ends here.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

impl<H: BlockDevice + Data> Volume<H> {
    /// Begins a write of `len` bytes at byte `offset`.
    ///
    /// # Errors
    /// `NoSpace`, and then nothing is held; `FileTooLarge`; `Invalid` on anything but a regular file.
    pub fn write_begin(&mut self, inode: Ino, offset: u64, len: usize, now: Time) -> Result<WritePlan> {
        if control::is_control(inode) {
            return Err(Error::NotPermitted("files of the control directory cannot be written"));
        }
        self.settle_truncate(inode, now)?;
        let block_size = u64::from(self.layout.block_size);
        let blocks = (len as u64).div_ceil(block_size) + 2;
        let generation = self.generation;
        let mut tx = self.begin(Budget::records(8).with_blocks(blocks), now)?;
        let record = inode::load(&tx, inode)?;
        match record.kind(inode)? {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsDirectory),
            _ => return Err(Error::Invalid("not a regular file")),
        }
        let mut plan = plan(&mut tx, inode, &record, offset, len)?;
        // A vector was made from these bytes: that it is stale must be durable before they change.
        let fresh = record.version == record.bound_version;
        let lately = lately_stale(&tx, inode, &record);
        // What became stale lately may have been longer before, and the last durable state shows what lies there.
        let shown = if lately && !planted("shrunk_forgotten") { u64::MAX } else { record.size.get() };
        let bound = record.bound_version.get() != 0 && plan.changes_in_place(shown);
        if bound && fresh {
            let mut record = record;
            record.content_changed(generation, now);
            inode::store(&mut tx, inode, &record)?;
        }
        let guarded = bound && !planted("overwrite_before_stale");
        plan.commit_first = guarded && (fresh || lately);
        let taken = tx.detach_data(&plan.links);
        debug_assert_eq!(taken, plan.links.len());
        if bound && fresh {
            if let Err(error) = tx.commit() {
                self.give_back(&plan);
                return Err(error);
            }
        } else {
            drop(tx);
        }
        let promised =
            self.tree_worst(Budget::records(2 * (plan.links.len() + plan.conversions.len()) as u64 + 8));
        if self.space.ready() < promised + self.space.reserve() {
            self.give_back(&plan);
            return Err(Error::NoSpace { pending: self.space.pending() });
        }
        self.space.promise(promised);
        plan.promised = promised;
        Ok(plan)
    }

    /// Ends a write whose pieces are on the device; `bytes` are the caller's, for small files.
    pub fn write_end(
        &mut self,
        plan: WritePlan,
        bytes: &[u8],
        kill_privileges: bool,
        now: Time,
    ) -> Result<Attributes> {
        self.space.redeem(plan.promised);
        if plan.len == 0 {
            self.give_back(&plan);
            return self.attributes(plan.inode);
        }
        // The bytes have changed, whatever comes of the rest.
        if plan.changes_in_place(plan.size) {
            self.journal.overwrote(plan.inode);
        }
        let records = 2 * (plan.links.len() + plan.conversions.len()) as u64 + 8;
        let budget = Budget { frees: true, ..Budget::records(records) };
        if let Err(error) = self.begin(budget, now).map(drop) {
            self.give_back(&plan);
            return Err(error);
        }
        let mut tx = self.begin(budget, now)?;
        let adopted = tx.adopt(&plan.links);
        if let Err(error) = adopted {
            drop(tx);
            self.give_back(&plan);
            return Err(error);
        }
        let mut record = inode::load(&tx, plan.inode)?;
        finish(&mut tx, &mut record, &plan, bytes)?;
        for (place, len) in &plan.fresh {
            tx.note_fresh(*place, *len)?;
        }
        record.content_changed(tx.generation(), now);
        if kill_privileges {
            record.kill_privileges();
            xattr::drop_capabilities(&mut tx, plan.inode, &mut record)?;
        }
        inode::store(&mut tx, plan.inode, &record)?;
        let attributes = inode::attributes_of(plan.inode, &record, tx.geometry().block_size)?;
        tx.commit()?;
        if plan.commit_first {
            // Without memory for it the next overwrite syncs once more.
            let _ = self.journal.settled.insert(plan.inode.0, ());
        }
        Ok(attributes)
    }

    /// Gives up a write; what was put on the device is forgotten.
    pub fn write_cancel(&mut self, plan: WritePlan) {
        self.space.redeem(plan.promised);
        self.give_back(&plan);
    }

    /// Writes `bytes` at byte `offset`, in one call.
    pub fn write(&mut self, inode: Ino, offset: u64, bytes: &[u8], now: Time) -> Result<Attributes> {
        let plan = self.write_begin(inode, offset, bytes.len(), now)?;
        let done = match plan.commit_first {
            true => self.sync(now),
            false => Ok(()),
        };
        if let Err(error) = done.and_then(|()| plan.perform(&self.host, bytes)) {
            self.write_cancel(plan);
            return Err(error);
        }
        self.write_end(plan, bytes, false, now)
    }

    fn give_back(&mut self, plan: &WritePlan) {
        for (_, run) in &plan.links {
            self.space.give_back(*run);
        }
    }
}

impl WritePlan {
    /// Puts the pieces on the device, in their order: later ones may cover earlier ones.
    pub fn perform(&self, data: &impl Data, bytes: &[u8]) -> Result<()> {
        let short = Error::Invalid("fewer bytes than were announced");
        for (place, source) in &self.pieces {
            match *source {
                Source::Bytes { from, len } => {
                    data.write_at(*place, bytes.get(from..from + len).ok_or(short)?)?;
                }
                Source::Head { from, len } => {
                    data.write_at(*place, self.head.get(from..from + len).ok_or(short)?)?;
                }
                Source::Zeros { len } => data.write_zeros_at(*place, len)?,
            }
        }
        Ok(())
    }

    // True if bytes that a file of this size shows are written over where they lie.
    fn changes_in_place(&self, size: u64) -> bool {
        self.in_place && self.offset < size || self.gap && self.size < size
    }
}

/// True if a vector's file became stale, or a stale one got its vector anew, since the last commit, and no record says it
/// durably.
fn lately_stale<H: BlockDevice + Data>(tx: &Transaction<'_, H>, inode: Ino, record: &InodeRecord) -> bool {
    let durable = tx.volume.superblock.generation.get();
    record.stale_generation.get() > durable && !tx.volume.journal.settled.contains(inode.0)
}

/// Writes `bytes` at once, inside a transaction: for the matrix, and for single blocks.
pub(crate) fn write_now<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    offset: u64,
    bytes: &[u8],
) -> Result<()> {
    let plan = plan(tx, inode, record, offset, bytes.len())?;
    plan.perform(&tx.volume.host, bytes)?;
    // Rows are written where nothing is shown yet, whatever block that is in.
    for (place, source) in &plan.pieces {
        tx.note_fresh(*place, source.len())?;
    }
    finish(tx, record, &plan, bytes)
}

/// Zeroes what lies behind the end in the file's last block, up to byte `to`: before the file grows.
///
/// Where the last durable state may show those bytes, with a vector that was made from them, the block is written anew.
pub(crate) fn zero_gap<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    to: u64,
) -> Result<()> {
    if let Some((place, len)) = gap(tx, inode, record, to)? {
        if lately_stale(tx, inode, record) && !planted("shrunk_forgotten") {
            return zero_part(tx, inode, record, place.offset, place.offset + len);
        }
        tx.volume.host.write_zeros_at(place, len)?;
        tx.note_fresh(place, len)?;
    }
    Ok(())
}

/// Moves an inline file's bytes to a block of its own.
pub(crate) fn move_out<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
) -> Result<()> {
    if !record.flags().contains(InodeFlags::INLINE) {
        return Ok(());
    }
    let head = file::inline(tx, inode, record)?;
    tree::remove(tx, Key::new(inode, Kind::Inline, 0))?;
    record.set_flag(InodeFlags::INLINE, false);
    if head.is_empty() {
        return Ok(());
    }
    let block_size = u64::from(tx.geometry().block_size);
    let run = tx.take(1, 0)?;
    let place = Place { inode, offset: 0, device: run.start.0 * block_size };
    tx.volume.host.write_zeros_at(place, block_size)?;
    tx.volume.host.write_at(place, &head)?;
    tx.note_fresh(place, block_size)?;
    let birth = tx.generation();
    extents::link(tx, inode, Extent { at: 0, run, unwritten: false, birth })?;
    record.add_blocks(1);
    Ok(())
}

// What is to be done for a write; allocates its blocks in the transaction.
fn plan<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &InodeRecord,
    offset: u64,
    len: usize,
) -> Result<WritePlan> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= SIZE_MAX).ok_or(Error::FileTooLarge)?;
    let mut plan = WritePlan {
        inode,
        offset,
        len,
        size: record.size.get(),
        pieces: Vec::new(),
        fresh: Vec::new(),
        head: Vec::new(),
        commit_first: false,
        inline: false,
        in_place: false,
        gap: false,
        promised: 0,
        links: Vec::new(),
        conversions: Vec::new(),
    };
    let size = record.size.get();
    let holds_inline = record.flags().contains(InodeFlags::INLINE);
    if record.blocks.get() == 0 && (holds_inline || size == 0) && end <= INLINE_MAX as u64 {
        plan.inline = true;
        return Ok(plan);
    }
    if len == 0 {
        return Ok(plan);
    }
    if holds_inline {
        plan.head = file::inline(tx, inode, record)?;
    } else if let Some((place, zeros)) = gap(tx, inode, record, offset)? {
        plan.gap = true;
        memory::push(&mut plan.pieces, (place, Source::Zeros { len: zeros }))?;
        memory::push(&mut plan.fresh, (place, zeros))?;
    }
    let block_size = u64::from(tx.geometry().block_size);
    let (first, last) = (offset / block_size, end.div_ceil(block_size));
    if !plan.head.is_empty() && first > 0 {
        plan.cover(tx, 0, 1)?;
    }
    plan.cover(tx, first, last)?;
    Ok(plan)
}

impl WritePlan {
    // Plans the blocks `from..to`: allocates holes, and puts zeros, the head and the caller's bytes where they go.
    fn cover<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let mut known = Vec::new();
        let inode = self.inode;
        extents::each(tx, inode, from, to, &mut |extent| {
            memory::push(&mut known, extent)?;
            Ok(true)
        })?;
        let mut at = from;
        for extent in known {
            self.allocate(tx, at, extent.at)?;
            if extent.unwritten {
                memory::push(&mut self.conversions, (extent.at, extent.run.count))?;
            } else {
                self.in_place = true;
            }
            self.place(tx, extent.at, extent.run, extent.unwritten)?;
            at = extent.end();
        }
        self.allocate(tx, at, to)
    }

    fn allocate<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let mut at = from;
        while at < to {
            let goal = match self.links.last() {
                Some((last, run)) if last + run.count == at => run.end(),
                _ => extents::goal(tx, self.inode, at)?,
            };
            let run = tx.take(to - at, goal)?;
            memory::push(&mut self.links, (at, run))?;
            self.place(tx, at, run, true)?;
            at += run.count;
        }
        Ok(())
    }

    // Puts what belongs to the blocks at `at` on the list; all of a fresh block, else the caller's bytes alone.
    fn place<N: Nodes>(&mut self, nodes: &N, at: u64, run: Run, fresh: bool) -> Result<()> {
        let block_size = u64::from(nodes.geometry().block_size);
        let inode = self.inode;
        let (start, stop) = (at * block_size, (at + run.count) * block_size);
        let place =
            |offset: u64| Place { inode, offset, device: run.start.0 * block_size + (offset - start) };
        let end = self.offset + self.len as u64;
        let (from, to) = (self.offset.clamp(start, stop), end.clamp(start, stop));
        let head = self.head.len() as u64;
        // What the file shows only once this write is part of it: new blocks, and what lies behind its end.
        let shown = if fresh { start } else { from.max(self.size) };
        let until = if fresh { stop } else { to };
        if shown < until {
            memory::push(&mut self.fresh, (place(shown), until - shown))?;
        }
        if fresh {
            for (from, to) in [(start, from), (to.max(from), stop)] {
                if from < to {
                    memory::push(&mut self.pieces, (place(from), Source::Zeros { len: to - from }))?;
                }
            }
            if start < head {
                let len = (head.min(stop) - start) as usize;
                let source = Source::Head { from: start as usize, len };
                memory::push(&mut self.pieces, (place(start), source))?;
            }
        }
        if from < to {
            let source = Source::Bytes { from: (from - self.offset) as usize, len: (to - from) as usize };
            memory::push(&mut self.pieces, (place(from), source))?;
        }
        Ok(())
    }
}

// Makes the written blocks part of the file; the version and the times are the caller's to raise.
fn finish<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    record: &mut InodeRecord,
    plan: &WritePlan,
    bytes: &[u8],
) -> Result<()> {
    let inode = plan.inode;
    let end = plan.offset + plan.len as u64;
    if plan.inline {
        return write_inline(tx, record, plan, bytes);
    }
    if plan.len == 0 {
        return Ok(());
    }
    if record.flags().contains(InodeFlags::INLINE) {
        tree::remove(tx, Key::new(inode, Kind::Inline, 0))?;
        record.set_flag(InodeFlags::INLINE, false);
    }
    let birth = tx.generation();
    for (at, run) in &plan.links {
        extents::link(tx, inode, Extent { at: *at, run: *run, unwritten: false, birth })?;
        record.add_blocks(run.count);
    }
    for (at, count) in &plan.conversions {
        extents::convert(tx, inode, *at, at + count)?;
    }
    record.size.set(record.size.get().max(end));
    Ok(())
}

fn write_inline<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    record: &mut InodeRecord,
    plan: &WritePlan,
    bytes: &[u8],
) -> Result<()> {
    let inode = plan.inode;
    let end = plan.offset as usize + plan.len;
    if plan.len == 0 {
        return Ok(());
    }
    let old = match record.flags().contains(InodeFlags::INLINE) {
        true => file::inline(tx, inode, record)?,
        false => Vec::new(),
    };
    let mut new = memory::zeroed(old.len().max(end))?;
    new[..old.len()].copy_from_slice(&old);
    let from = bytes.get(..plan.len).ok_or(Error::Invalid("fewer bytes than were announced"))?;
    new[plan.offset as usize..end].copy_from_slice(from);
    tree::put(tx, Key::new(inode, Kind::Inline, 0), &new)?;
    record.set_flag(InodeFlags::INLINE, true);
    record.size.set(new.len() as u64);
    Ok(())
}

// The bytes behind the end of the file in its last block, up to `to`, if they are on the device.
fn gap<N: Nodes>(nodes: &N, inode: Ino, record: &InodeRecord, to: u64) -> Result<Option<(Place, u64)>> {
    let block_size = u64::from(nodes.geometry().block_size);
    let size = record.size.get();
    if to <= size || size % block_size == 0 || record.flags().contains(InodeFlags::INLINE) {
        return Ok(None);
    }
    let block = size / block_size;
    let mut found = None;
    extents::each(nodes, inode, block, block + 1, &mut |extent| {
        if !extent.unwritten {
            let device = extent.run.start.0 * block_size + size % block_size;
            let len = to.min((block + 1) * block_size) - size;
            found = Some((Place { inode, offset: size, device }, len));
        }
        Ok(false)
    })?;
    Ok(found)
}
