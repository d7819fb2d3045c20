//! Inodes without a name, and other work that is done in steps: freeing big files, blanking freed rows.
//!
//! Whatever is begun here is on the orphan list in the same transaction, so that the next mount finishes it.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

use super::collection::load;
use super::{extents, inode, past, recode, rows};
use crate::bugs::planted;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result, if_whole};
use crate::format::{
    COLLECTIONS, FIRST_INODE, Incompatible, InodeFlags, Key, Kind, ORPHANS, OrphanKind, OrphanRecord,
    collection_part, parse_exact,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Recode, Volume};

/// Records that one transaction frees at most.
pub(crate) const STEP: u64 = 64;

/// Puts `inode` on the list.
pub(crate) fn add<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    kind: OrphanKind,
) -> Result<()> {
    if collection_part(inode).is_some() {
        tx.volume.given_up = tx.generation();
    }
    let record = OrphanRecord { kind: U32::new(kind as u32), reserved: U32::ZERO };
    tree::put(tx, Key::new(ORPHANS, Kind::Orphan, inode.0), record.as_bytes())
}

/// Takes `inode` off the list; false if it was not there.
pub(crate) fn forget<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, inode: Ino) -> Result<bool> {
    tree::remove(tx, Key::new(ORPHANS, Kind::Orphan, inode.0))
}

/// What becomes of an inode whose last link went: freed at once if it has fewer than `limit` records, nobody has it
/// open, and there is no history of its vectors.
pub(crate) fn bury<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    open: bool,
    limit: u64,
) -> Result<()> {
    let has_past = tx.volume.needs.contains(Incompatible::HISTORY) && past::has_any(tx, inode)?;
    if open || limit == 0 || has_past || !free_step(tx, inode, limit)? {
        if planted("orphan_forgotten") {
            return Ok(());
        }
        return add(tx, inode, OrphanKind::Delete);
    }
    finish(tx, inode)
}

/// The kind of an entry of the list.
pub(crate) fn kind_of<N: Nodes>(nodes: &N, inode: Ino) -> Result<Option<OrphanKind>> {
    let found = tree::find(nodes, Key::new(ORPHANS, Kind::Orphan, inode.0), |value| {
        let record: &OrphanRecord = parse_exact(value, "orphan list at inode", inode.0)?;
        record.kind().ok_or(Error::corrupt("orphan list at inode", inode.0, "unknown kind"))
    })?;
    Ok(found)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// After the last close of an inode: frees it if it has no name, in as many transactions as that takes.
    pub fn release(&mut self, inode: Ino, now: Time) -> Result<()> {
        // Matrices wait for a commit, and for `free_retired` or `tidy`.
        if kind_of(self, inode)? != Some(OrphanKind::Delete) || collection_part(inode).is_some() {
            return Ok(());
        }
        while !self.reap(inode, now)? {}
        Ok(())
    }

    /// One bounded step of the work that waits: orphans that a crash left, rows to be blanked after their commit, and
    /// recoding and compaction that were asked for.
    ///
    /// True if there may be more to do now.
    pub fn tidy(&mut self, now: Time) -> Result<bool> {
        if self.read_only {
            return Ok(false);
        }
        self.load_waiting()?;
        self.blank_strays()?;
        // Matrices that wait for a commit let others pass.
        let (all, waiting) = (self.may_wipe(), self.waiting.iter());
        if let Some(index) = { waiting }.rposition(|orphan| all || collection_part(*orphan).is_none()) {
            let reaped = self.reap(self.waiting[index], now);
            // What is damaged must not keep the others waiting.
            if matches!(reaped, Ok(true) | Err(Error::Corrupt(_))) {
                self.waiting.remove(index);
            }
            return reaped.map(|_| true);
        }
        for index in 0..self.blanks.len() {
            let id = self.blanks[index];
            let (any, rest) = match self.blank_rows(id, now) {
                Err(error @ Error::Corrupt(_)) => {
                    self.blanks.swap_remove(index);
                    return Err(error);
                }
                other => other?,
            };
            if !rest {
                self.blanks.swap_remove(index);
                return Ok(true);
            }
            if any {
                return Ok(true);
            }
        }
        match self.recode_next(now)? {
            Some((true, _)) => return Ok(true),
            Some((false, true)) => return Ok(false),
            _ => {}
        }
        while let Some(id) = self.compacting.last().copied() {
            let step = self.compact_step(id, now);
            if !matches!(step, Ok((_, true)) | Err(Error::NoMemory)) {
                self.compacting.pop();
            }
            match step? {
                (true, _) => return Ok(true),
                // The rest waits for a commit.
                (false, true) => return Ok(false),
                (false, false) => {}
            }
        }
        Ok(false)
    }

    /// Notes what a crash left to do; on the first call after mount, when nobody has anything open.
    pub(crate) fn load_waiting(&mut self) -> Result<()> {
        if self.waiting_loaded {
            return Ok(());
        }
        let mut waiting = Vec::new();
        tree::scan(
            self,
            Key::new(ORPHANS, Kind::Orphan, 0),
            Key::last(ORPHANS, Kind::Orphan),
            &mut |key, _| {
                memory::push(&mut waiting, Ino(key.offset))?;
                Ok(true)
            },
        )?;
        let (mut blanks, mut recoding) = (Vec::new(), Vec::new());
        let (from, to) = (Key::new(COLLECTIONS, Kind::Dirent, 0), Key::last(COLLECTIONS, Kind::Dirent));
        tree::scan(self, from, to, &mut |_, value| {
            let (record, _) = super::directory::decode(COLLECTIONS, value)?;
            if let Some((id, 0)) = collection_part(Ino(record.inode.get())) {
                memory::push(&mut blanks, id)?;
                // A record that cannot be read is told by whoever needs it.
                if if_whole(load(self, id))?.is_some_and(|loaded| matches!(loaded.recoding(), Ok(Some(_)))) {
                    memory::push(&mut recoding, Recode { id, stopped: None })?;
                }
            }
            Ok(true)
        })?;
        self.recoding = recoding;
        (self.waiting, self.blanks, self.waiting_loaded) = (waiting, blanks, true);
        Ok(())
    }

    /// Notes that a collection has rows to be blanked.
    pub(crate) fn note_blanks(&mut self, id: CollectionId) -> Result<()> {
        if !self.blanks.contains(&id) {
            memory::push(&mut self.blanks, id)?;
        }
        Ok(())
    }

    // One step of an orphan; true if it is done.
    pub(super) fn reap(&mut self, inode: Ino, now: Time) -> Result<bool> {
        let Some(kind) = kind_of(self, inode)? else { return Ok(true) };
        if kind == OrphanKind::Truncate {
            return self.truncate_step(inode, now);
        }
        if kind == OrphanKind::Delete {
            check_unused(self, inode, kind)?;
            if self.reap_past(inode, now)? || self.reap_vector(inode, now)? {
                return Ok(false);
            }
        }
        if self.wipe_matrix(inode, kind, now)? {
            return Ok(false);
        }
        match self.free_orphan(inode, kind, STEP, Budget::freeing(STEP + 8), now) {
            // A full volume: record by record, until a commit brings space.
            Err(Error::NoSpace { .. }) => self.free_orphan(inode, kind, 2, Budget::least(), now),
            other => other,
        }
    }

    fn free_orphan(
        &mut self,
        inode: Ino,
        kind: OrphanKind,
        limit: u64,
        budget: Budget,
        now: Time,
    ) -> Result<bool> {
        check_unused(self, inode, kind)?;
        self.transact(budget, now, |tx| {
            if recode::free_rows_of_first(tx, inode, limit)? > 0 {
                return Ok(false);
            }
            let mut freed = free_step(tx, inode, limit)?;
            if kind == OrphanKind::Collection {
                let matrix = Ino(inode.0 + 1);
                freed = freed && free_step(tx, matrix, limit)?;
                if freed {
                    tree::remove(tx, Key::new(matrix, Kind::Inode, 0))?;
                    tree::remove(tx, Key::new(inode, Kind::Inode, 0))?;
                    forget(tx, inode)?;
                }
            } else if freed {
                forget(tx, inode)?;
                finish(tx, inode)?;
            }
            Ok(freed)
        })
    }

    /// One step of freeing what lies past the end of a file; true if that is done.
    pub(crate) fn truncate_step(&mut self, inode: Ino, now: Time) -> Result<bool> {
        match self.free_behind(inode, STEP, Budget::freeing(2 * STEP + 8), now) {
            // A full volume: an extent at a time.
            Err(Error::NoSpace { .. }) => self.free_behind(inode, 1, Budget::least(), now),
            other => other,
        }
    }

    // Frees up to `limit` extents past the end of a file; true if none is left.
    fn free_behind(&mut self, inode: Ino, limit: u64, budget: Budget, now: Time) -> Result<bool> {
        let block_size = u64::from(self.layout.block_size);
        self.transact(budget, now, |tx| {
            let mut record = match inode::load(tx, inode) {
                Err(Error::NotFound) => return forget(tx, inode).map(|_| true),
                other => other?,
            };
            let from = record.size.get().div_ceil(block_size);
            let done = extents::punch(tx, inode, &mut record, from, u64::MAX, limit)?;
            if done {
                record.set_flag(InodeFlags::TRUNCATING, false);
                forget(tx, inode)?;
            }
            inode::store(tx, inode, &record)?;
            Ok(done)
        })
    }

    /// Finishes a truncate that a crash interrupted, before anything may grow the file.
    pub(crate) fn settle_truncate(&mut self, inode: Ino, now: Time) -> Result<()> {
        if inode::load(self, inode)?.flags().contains(InodeFlags::TRUNCATING) {
            while !self.truncate_step(inode, now)? {}
        }
        Ok(())
    }

    fn blank_rows(&mut self, id: CollectionId, now: Time) -> Result<(bool, bool)> {
        rows::blank_step(self, id, STEP / 2, now)
    }
}

/// Fails if something on the list is in use, which then must not be freed.
pub(crate) fn check_unused<N: Nodes>(nodes: &N, inode: Ino, kind: OrphanKind) -> Result<()> {
    let unused = match kind {
        OrphanKind::Delete if recode::is_unused(nodes, inode)? => true,
        OrphanKind::Delete if inode < FIRST_INODE || control::is_control(inode) => false,
        OrphanKind::Delete => match inode::load(nodes, inode) {
            Err(Error::NotFound) => true,
            other => other?.links.get() == 0,
        },
        // Its record goes in the transaction that puts it on the list.
        OrphanKind::Collection => {
            let record = Key::new(inode, Kind::Collection, 0);
            matches!(collection_part(inode), Some((_, 0))) && tree::find(nodes, record, |_| Ok(()))?.is_none()
        }
        OrphanKind::Truncate => true,
    };
    if unused {
        return Ok(());
    }
    Err(Error::corrupt("orphan list at inode", inode.0, "waits to be freed, but is in use"))
}

// Frees up to `limit` records of an inode, its `Inode` record last of all (and not here); true if none is left.
fn free_step<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, inode: Ino, limit: u64) -> Result<bool> {
    let mut record = if_whole(inode::load(tx, inode))?;
    let mut runs = Vec::new();
    let (from, to) = (Key::new(inode, Kind::Inode, 1), Key { inode: inode.0.saturating_add(1), ..Key::MIN });
    let mut seen = 0;
    tree::scan(tx, from, to, &mut |key, value| {
        if seen == limit {
            return Ok(false);
        }
        seen += 1;
        if key.kind == Kind::Extent as u8 {
            let (_, extent) = extents::decode(inode, key.offset, value)?;
            memory::push(&mut runs, extent.run)?;
        }
        Ok(true)
    })?;
    let removed = tree::remove_range(tx, from, to, seen)?;
    debug_assert_eq!(removed, seen);
    for run in runs {
        tx.free(run)?;
        if let Some(record) = &mut record {
            record.blocks.set(record.blocks.get().saturating_sub(run.count));
        }
    }
    if let Some(record) = record {
        if seen == limit {
            inode::store(tx, inode, &record)?;
        }
    }
    Ok(seen < limit)
}

fn finish<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, inode: Ino) -> Result<()> {
    if tree::remove(tx, Key::new(inode, Kind::Inode, 0))? && !control::is_control(inode) {
        tx.counters.inode_count = tx.counters.inode_count.saturating_sub(1);
    }
    Ok(())
}
