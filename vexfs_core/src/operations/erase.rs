//! What a removed vector leaves beside its row, and how that goes: copies that compaction made and did not use, records of
//! the journal that carried it, and matrices that are freed whole.
//!
//! A row is blanked where it lies (`rows`). Before that is told as done, older records of the journal are overwritten; and a
//! matrix that its collection gave up is overwritten before its blocks are free. All of it waits until no durable state
//! leads to those bytes any more, and a crash leaves a `Blank` or `Orphan` record, so that the next mount does it again.

use alloc::vec::Vec;

use super::collection::load;
use super::extents::{self, Extent};
use super::{inode, orphan, rows};
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result, if_whole};
use crate::format::{Key, Kind, OrphanKind, collection_part};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::Budget;
use crate::tree;
use crate::volume::{Copied, Volume};

/// Bytes that one step overwrites at most: a caller of the volume waits for it.
const STEP_BYTES: u64 = 1 << 20;
/// Bytes that are read and overwritten at once.
const PIECE: u64 = 64 << 10;

impl<H: BlockDevice + Data> Volume<H> {
    /// Gives up what compaction copied in a collection and did not move yet.
    pub(super) fn leave_copies(&mut self, id: CollectionId) {
        if let Some(copied) = self.copied.take_if(|copied| copied.id == id) {
            for (_, to, _) in copied.moves {
                // Without memory that row keeps its copy until it is used again.
                let _ = memory::push(&mut self.strays, (id, to));
            }
        }
    }

    /// What compaction copied in a collection, to move it now; copies that are not used after all are blanked later.
    pub(super) fn take_copies(&mut self, id: CollectionId) -> Result<Option<Copied>> {
        let Some(copied) = self.copied.as_ref().filter(|copied| copied.id == id) else { return Ok(None) };
        memory::reserve(&mut self.strays, copied.moves.len())?;
        for (_, to, _) in &copied.moves {
            memory::append(&mut self.strays, (id, *to));
        }
        Ok(self.copied.take())
    }

    /// Blanks rows that were copied into and are still free.
    pub(super) fn blank_strays(&mut self) -> Result<()> {
        while let Some((id, row)) = self.strays.last().copied() {
            let blanked = self.blank_stray(id, row);
            // What is damaged must not keep the others waiting.
            if !matches!(blanked, Err(Error::NoMemory)) {
                self.strays.pop();
            }
            blanked?;
        }
        Ok(())
    }

    fn blank_stray(&mut self, id: CollectionId, row: u64) -> Result<()> {
        let loaded = match load(self, id) {
            // Its matrix is overwritten as a whole.
            Err(Error::NotFound) => return Ok(()),
            other => other?,
        };
        let again = |copied: &Copied| copied.id == id && copied.moves.iter().any(|(_, to, _)| *to == row);
        let kept = self.unstaged(id, row..row + 1).is_empty() || self.copied.as_ref().is_some_and(again);
        if !kept && rows::is_free(self, &loaded, row)? {
            rows::blank_bytes(self, &loaded, &[row])?;
        }
        Ok(())
    }

    /// Overwrites a bounded part of what older records left in the journal; false if nothing is left.
    ///
    /// The records of the durable generation stay. None of them carries a row whose freeing is durable, since it was freed
    /// before the first of them.
    pub(super) fn purge_journal(&mut self) -> Result<bool> {
        let Some(part) = self.journal.remains(STEP_BYTES) else { return Ok(false) };
        let journal = self.layout.journal_start * u64::from(self.layout.block_size);
        let mut changed = false;
        let mut at = part.start;
        while at < part.end {
            let mut bytes = memory::zeroed((part.end - at).min(PIECE) as usize)?;
            self.host.read(journal + at, &mut bytes)?;
            // What never was written stays a hole of a sparse image.
            if bytes.iter().any(|byte| *byte != 0) {
                bytes.fill(0);
                self.host.write(journal + at, &bytes)?;
                changed = true;
            }
            at += bytes.len() as u64;
        }
        self.journal.purged(&part, changed);
        Ok(true)
    }

    /// True if matrices that were given up may be overwritten: no durable state has them as a collection's any more.
    pub(super) fn may_wipe(&self) -> bool {
        self.given_up <= self.superblock.generation.get()
    }

    /// Overwrites and frees the last bytes of a matrix on the orphan list; false if there are none, or it is another inode.
    pub(super) fn wipe_matrix(&mut self, inode: Ino, kind: OrphanKind, now: Time) -> Result<bool> {
        let matrix = match (kind, collection_part(inode)) {
            (OrphanKind::Collection, Some(_)) => Ino(inode.0 + 1),
            (OrphanKind::Delete, Some(_)) => inode,
            _ => return Ok(false),
        };
        orphan::check_unused(self, inode, kind)?;
        if self.purge_journal()? {
            return Ok(true);
        }
        // Without its record the blocks are freed as they are.
        if if_whole(inode::load(self, matrix))?.is_none() {
            return Ok(false);
        }
        let last = self.last_extents(matrix, orphan::STEP / 2)?;
        if last.is_empty() {
            return Ok(false);
        }
        let block_size = u64::from(self.layout.block_size);
        for extent in last.iter().filter(|extent| !extent.unwritten) {
            let device = extent.run.start.0 * block_size;
            let place = Place { inode: matrix, offset: extent.at * block_size, device };
            self.host.write_zeros_at(place, extent.run.count * block_size)?;
        }
        match self.cut_off(matrix, &last, Budget::freeing(orphan::STEP + 8), now) {
            // A full volume: an extent at a time, until a commit brings space.
            Err(Error::NoSpace { .. }) => self.cut_off(matrix, &last[..1], Budget::least(), now)?,
            other => other?,
        }
        Ok(true)
    }

    // The last extents of an inode, last first, as many as make a step; of a long one its end.
    fn last_extents(&self, inode: Ino, limit: u64) -> Result<Vec<Extent>> {
        let mut found: Vec<Extent> = Vec::new();
        let mut blocks = STEP_BYTES / u64::from(self.layout.block_size);
        let (mut below, first) = (Key::last(inode, Kind::Extent), Key::new(inode, Kind::Extent, 0));
        while blocks > 0 && (found.len() as u64) < limit {
            let Some((key, value)) = tree::last(self, first, below)? else { break };
            let (_, extent) = extents::decode(inode, key.offset, &value)?;
            extents::check_place(&self.layout, inode, &extent)?;
            if extent.end() > below.offset {
                return Err(Error::corrupt("extent of inode", inode.0, "overlaps the next"));
            }
            let Some(end) = extent.part(extent.end() - blocks.min(extent.run.count), extent.end()) else {
                break;
            };
            blocks -= end.run.count;
            memory::push(&mut found, end)?;
            below = key;
        }
        Ok(found)
    }

    // Frees the end of an inode from the last of these extents on.
    fn cut_off(&mut self, inode: Ino, last: &[Extent], budget: Budget, now: Time) -> Result<()> {
        let Some(from) = last.last().map(|extent| extent.at) else { return Ok(()) };
        self.transact(budget, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            extents::punch(tx, inode, &mut record, from, u64::MAX, orphan::STEP)?;
            inode::store(tx, inode, &record)
        })
    }
}
