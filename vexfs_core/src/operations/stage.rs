//! Staging: the bytes of a vector lie in its row, and the host told the kernel of them, before anything says that the
//! row is in use.
//!
//! Else a reader of a mapping could find a row valid while the page that he has is still that of the free one. A row
//! with staged bytes is free for everybody else: the tree does not know it, a crash leaves it free. The lists of them
//! (of single vectors, and of runs of rows for batches) are in memory; nobody is given a row on them, copies into it, or
//! gives its chunk back. A host that has one cache of a matrix for readers and writers need not stage.

use alloc::vec::Vec;
use core::ops::Range;

use super::collection::{self, Loaded};
use super::vector_name::VectorName;
use super::{codebook, rows};
use crate::bugs::planted;
use crate::checksum::crc32;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::XATTR_VALUE_MAX;
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::volume::{Event, Staged, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Puts the bytes of a vector into the free row that [`Volume::set_attribute`] of the same will give it; true if it
    /// did. The host then tells the kernel of the events and sets the vector, which takes it off the list; if that fails it calls
    /// [`Volume::unstage_vector`].
    ///
    /// False for other attributes, and for a collection that is yet to be made, of which nobody has a page.
    ///
    /// # Errors
    /// Those of [`Volume::set_attribute`] that can be known by now.
    pub fn stage_vector(
        &mut self,
        inode: Ino,
        attribute: &[u8],
        value: &[u8],
        caller: &super::Caller<'_>,
        now: Time,
    ) -> Result<bool> {
        let Some(name) = VectorName::parse(attribute)?.filter(|name| !name.meta) else { return Ok(false) };
        name.check_changeable()?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(Error::ValueTooBig);
        }
        control::check_writable(inode)?;
        let Some(id) = collection::find(self, name.collection)? else { return Ok(false) };
        collection::check_access(self, id, caller)?;
        if planted("vector_before_told") {
            return Ok(false);
        }
        if self.staged.iter().any(|staged| staged.inode == inode && staged.id == id && staged.n == name.n) {
            return Ok(false);
        }
        memory::reserve(&mut self.staged, 1)?;
        let staged = self.transact(self.row_budget(value.len(), 0), now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            loaded.accept(name.element, value)?;
            let row = loaded.lowest_free(tx, tx.volume)?;
            let mut stored = memory::zeroed(loaded.stored_len())?;
            codebook::encode_in(tx, &loaded, value, &mut stored)?;
            loaded.write_row(tx, row, &stored)?;
            let len = u64::from(loaded.record.stride.get());
            tx.event(Event { inode: loaded.matrix(), offset: loaded.row_offset(row), len })?;
            Ok(Staged { inode, id, n: name.n, row, checksum: crc32(&stored) })
        })?;
        memory::append(&mut self.staged, staged);
        // Compaction may have copied into that row before.
        self.leave_copies(id);
        Ok(true)
    }

    /// Forgets what was staged for a vector; if that was not set after all, its row is blanked again.
    pub fn unstage_vector(&mut self, inode: Ino, attribute: &[u8]) -> Result<()> {
        let Some(name) = VectorName::parse(attribute)?.filter(|name| !name.meta) else { return Ok(()) };
        let Some(id) = collection::find(self, name.collection)? else { return Ok(()) };
        let Some(staged) = self.take_staged(id, inode, name.n) else { return Ok(()) };
        let loaded = collection::load(self, id);
        loaded.and_then(|loaded| rows::blank_bytes(self, &loaded, &[staged.row])).map(drop).inspect_err(
            |_| {
                // Without memory that row keeps its bytes until it is used again.
                let _ = memory::push(&mut self.strays, (id, staged.row));
            },
        )
    }

    /// Takes what was staged for a vector off the list.
    pub(super) fn take_staged(&mut self, id: CollectionId, inode: Ino, n: u32) -> Option<Staged> {
        let ours = |staged: &Staged| staged.id == id && staged.inode == inode && staged.n == n;
        let index = self.staged.iter().position(ours)?;
        Some(self.staged.swap_remove(index))
    }

    /// The row where these bytes are staged for a vector.
    pub(super) fn staged_row(&self, id: CollectionId, inode: Ino, n: u32, checksum: u32) -> Option<u64> {
        let ours = |staged: &&Staged| staged.id == id && staged.inode == inode && staged.n == n;
        self.staged.iter().find(ours).filter(|staged| staged.checksum == checksum).map(|staged| staged.row)
    }

    /// A collection has another name now, or is gone: who staged vectors in it by the old one will not find it. Its rows are
    /// free again.
    pub(super) fn forget_staged(&mut self, id: CollectionId) {
        let mut rows = Vec::new();
        // A batch does not go by the name.
        if collection::load(self, id).is_err() {
            self.staged_rows.retain(|staged| staged.id != id);
        }
        while let Some(index) = self.staged.iter().position(|staged| staged.id == id) {
            let row = self.staged.swap_remove(index).row;
            // Without memory that row keeps its bytes, as after a crash.
            let _ = memory::push(&mut rows, row);
        }
        if let Ok(loaded) = collection::load(self, id) {
            // In the same way, if the device fails.
            let _ = rows::blank_bytes(self, &loaded, &rows);
        }
    }

    // Rows of a collection in which bytes are staged, as runs.
    fn staged_runs(&self, id: CollectionId) -> impl Iterator<Item = Range<u64>> {
        let single = self.staged.iter().filter(move |staged| staged.id == id);
        let batches = self.staged_rows.iter().filter(move |staged| staged.id == id);
        single.map(|staged| staged.row..staged.row + 1).chain(batches.map(|staged| staged.rows.clone()))
    }

    /// The first of `rows` in which nothing is staged; empty, and the end of them, if there is none.
    pub(super) fn unstaged(&self, id: CollectionId, mut rows: Range<u64>) -> Range<u64> {
        let mut end = rows.start;
        while let Some(staged) = self.staged_runs(id).find(|staged| staged.contains(&end)) {
            end = staged.end;
        }
        rows.start = end.min(rows.end);
        let next = self.staged_runs(id).map(|staged| staged.start).filter(|start| rows.contains(start)).min();
        rows.start..next.unwrap_or(rows.end)
    }

    /// True if bytes are staged in any row of a collection.
    pub(super) fn has_staged(&self, id: CollectionId) -> bool {
        self.staged_runs(id).next().is_some()
    }

    /// The end of the last row with staged bytes in bytes `from..to` of the matrix; 0 if there is none.
    pub(super) fn staged_end(&self, loaded: &Loaded, from: u64, to: u64) -> u64 {
        let within =
            |rows: &Range<u64>| loaded.row_offset(rows.start) < to && loaded.row_offset(rows.end) > from;
        let runs = self.staged_runs(loaded.id).filter(within);
        runs.map(|rows| loaded.row_offset(rows.end)).max().unwrap_or(0)
    }
}
