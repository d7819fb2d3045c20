//! Vectors of files that lose their last name, and of those that have none.
//!
//! With its name a file's vectors leave their collections; while it is open they stay readable as plain attributes. One that
//! is set after that is a vector like any other, until the last close or the next mount takes it out with the file.

use alloc::vec::Vec;

use super::collection::{self, Loaded};
use super::vector::{free_row, read_row, row_record, scan, take_out, vector_of};
use super::vector_name::{At, VectorName};
use super::{inode, metadata, past, xattr};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Element, Incompatible, InodeRecord, Key, Kind, VectorRecord, parse_exact};
use crate::memory::{self, Text};
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Records that unlinking one vector changes at most, without its metadata.
const RECORDS: u64 = 6;
/// Records that dropping a vector which a file without a name keeps as a plain attribute changes at most.
pub(super) const KEPT_RECORDS: u64 = 140;

/// The vectors of a file.
pub(crate) struct Linked {
    /// How many there are.
    pub(crate) vectors: u64,
    /// Records of their metadata.
    pub(crate) metadata: u64,
    /// Vectors that they superseded, which another file that takes the name may get.
    pub(crate) past: u64,
}

impl Linked {
    /// Records that unlinking all of them changes at most.
    pub(crate) const fn records(&self) -> u64 {
        self.vectors * RECORDS + self.metadata + self.past + if self.past > 0 { self.vectors } else { 0 }
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// What unlinking a file's vectors takes; without `all`, how many they are.
    pub(crate) fn linked(&self, inode: Ino, all: bool) -> Result<Linked> {
        let mut linked = Linked { vectors: 0, metadata: 0, past: 0 };
        scan(self, inode, &mut |id, _, vector| {
            linked.vectors += 1;
            if all {
                linked.metadata += metadata::records(self, id, vector.row.get())?;
                // A row of a matrix that is being made goes, too.
                linked.metadata += u64::from(self.is_recoding(id)?);
            }
            Ok(())
        })?;
        if all && linked.vectors > 0 && self.needs.contains(Incompatible::HISTORY) {
            linked.past = past::count(self, inode)?;
        }
        Ok(linked)
    }

    /// Takes one of the vectors that were set on a file after its last name had gone out of its collection; false if none
    /// is left.
    pub(super) fn reap_vector(&mut self, inode: Ino, now: Time) -> Result<bool> {
        let (from, to) = (Key::new(inode, Kind::Vector, 0), Key::last(inode, Kind::Vector));
        let Some((key, value)) = tree::first(self, from, to)? else { return Ok(false) };
        let (id, n) = vector_of(key);
        let vector: VectorRecord = *parse_exact(&value, "vector of inode", inode.0)?;
        let metadata = metadata::records(self, id, vector.row.get())?;
        memory::reserve(&mut self.blanks, 1)?;
        self.transact(Budget::freeing(16 + metadata), now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            take_out(tx, &mut loaded, inode, n, &vector)
        })?;
        self.note_blanks(id)?;
        Ok(true)
    }
}

/// Takes all vectors of a file out of their collections; `keep` leaves their bytes as plain attributes. Their history is left
/// to [`super::orphan`].
pub(crate) fn unlink_all<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    keep: bool,
) -> Result<()> {
    let mut vectors = Vec::new();
    scan(tx, inode, &mut |id, n, record| memory::push(&mut vectors, (id, n, *record)))?;
    let mut open: Option<Loaded> = None;
    for (id, n, vector) in &vectors {
        if open.as_ref().is_some_and(|loaded| loaded.id != *id) {
            if let Some(loaded) = open.take() {
                loaded.store(tx)?;
            }
        }
        let mut loaded = match open.take() {
            Some(loaded) => loaded,
            None => collection::load(tx, *id)?,
        };
        if keep {
            let row = vector.row.get();
            let record = row_record(tx, &loaded, row)?;
            match read_row(tx, tx.volume, &loaded, row, &record) {
                Ok(bytes) => {
                    let collection = collection::name(tx, *id)?;
                    let element = Some(loaded.element()?);
                    let mut name =
                        VectorName { collection: &collection, element, n: *n, at: At::Present, meta: false };
                    keep_as(tx, inode, &name, &bytes)?;
                    if let Some(about) = metadata::of_row(tx, *id, row)? {
                        name.meta = true;
                        keep_as(tx, inode, &name, &about)?;
                    }
                }
                // A damaged vector is lost with its file; that must not keep the file from being removed.
                Err(Error::VectorChecksum { .. } | Error::Corrupt(_)) => {}
                Err(error) => return Err(error),
            }
        }
        free_row(tx, &mut loaded, inode, *n, vector)?;
        open = Some(loaded);
    }
    if let Some(loaded) = open {
        loaded.store(tx)?;
    }
    if !vectors.is_empty() {
        let (from, to) = (Key::new(inode, Kind::Vector, 0), Key::last(inode, Kind::Vector));
        tree::remove_range(tx, from, to, u64::MAX)?;
        for (id, ..) in &vectors {
            tx.volume.note_blanks(*id)?;
        }
    }
    Ok(())
}

// Puts a plain attribute of this name.
fn keep_as<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    name: &VectorName<'_>,
    value: &[u8],
) -> Result<()> {
    let mut text = Text::new();
    name.write(&mut text)?;
    xattr::put(tx, inode, text.as_bytes(), value)
}

/// Drops the plain attribute that a vector became when its file, still open, lost its last name, and that of its metadata,
/// which it gives; none if there is no such attribute. The inode's record is the caller's to store.
pub(super) fn drop_kept<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    name: &VectorName<'_>,
    element: Element,
) -> Result<Option<Option<Vec<u8>>>> {
    if record.links.get() != 0 {
        return Ok(None);
    }
    let mut name = VectorName { element: Some(element), at: At::Present, meta: false, ..*name };
    let mut text = Text::new();
    name.write(&mut text)?;
    if !xattr::replace(tx, inode, record, text.as_bytes(), None)? {
        return Ok(None);
    }
    name.meta = true;
    let mut text = Text::new();
    name.write(&mut text)?;
    let about = xattr::stored(tx, inode, text.as_bytes())?;
    xattr::replace(tx, inode, record, text.as_bytes(), None)?;
    Ok(Some(about))
}

/// A vector that an unlinked but open file keeps as a plain attribute.
pub(super) fn kept<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<Vec<u8>> {
    if inode::load(nodes, inode)?.links.get() != 0 {
        return Err(Error::NoAttribute);
    }
    xattr::stored(nodes, inode, name)?.ok_or(Error::NoAttribute)
}
