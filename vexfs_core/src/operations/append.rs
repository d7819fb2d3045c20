//! Many vectors at once: one transaction, whole or not at all.
//!
//! It does to each what setting an attribute does, and checks what a host's kernel checks before that. As for a single
//! one ([`super::stage`]), the bytes lie in free rows and the host told the kernel of them before anything says that
//! the rows are in use. Rows are taken, written and told in runs, so a vector costs its bytes and two records.

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::little_endian::U64;

use super::collection::{self, Loaded};
use super::inherit::{AWAITING_MAX, FIRST_VERSION};
use super::rows::{self, CHUNK, GROWTH_MAX};
use super::types::Caller;
use super::vector::{Placed, free_row, put_records, vector_key};
use super::vector_name::{At, VectorName};
use super::{access, codebook, inode, metadata, past, xattr};
use crate::bugs::planted;
use crate::checksum::crc32;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Codec, Element, FileKind, Incompatible, InodeRecord, VectorRecord};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Nodes, StagedRows, Volume};

/// Bytes of rows that are written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A vector that is to be set.
#[derive(Clone, Copy, Debug)]
pub struct NewVector<'a> {
    /// The file.
    pub inode: Ino,
    /// Which vector of the file.
    pub n: u32,
    /// The raw little-endian elements.
    pub value: &'a [u8],
    /// One that the file has already is kept.
    pub keep: bool,
}

/// What a batch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Vectors set.
    pub set: u64,
    /// Vectors that were there and were kept.
    pub kept: u64,
}

/// Why a batch was refused, and by which of its vectors, if it was one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index in the batch.
    pub index: Option<usize>,
    /// Why.
    pub error: Error,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { index: None, error }
    }
}

/// A batch whose bytes lie in the rows that its vectors will have.
#[derive(Debug)]
pub struct StagedBatch {
    number: u64,
    id: CollectionId,
    form: Form,
    /// Where each vector lies, but for those that are kept.
    placed: Vec<Option<Placed>>,
}

/// What the bytes of a row depend on; it can be changed while a collection is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Form {
    codec: Codec,
    element: Element,
    dimensions: u32,
}

impl Form {
    fn of(loaded: &Loaded) -> Result<Self> {
        let dimensions = loaded.record.dimensions.get();
        Ok(Self { codec: loaded.codec()?, element: loaded.element()?, dimensions })
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Sets vectors of one collection in one transaction. The caller needs write permission on the collection and on
    /// each file.
    ///
    /// For hosts with one cache of a matrix; others stage, tell the kernel, and set.
    ///
    /// # Errors
    /// Those of setting a vector as an attribute; then none is set.
    pub fn set_vectors(
        &mut self,
        id: CollectionId,
        vectors: &[NewVector<'_>],
        caller: &Caller<'_>,
        now: Time,
    ) -> core::result::Result<Batch, Refused> {
        let staged = self.stage_vectors(id, vectors, caller, now)?;
        let set = self.set_staged(&staged, vectors, caller, now);
        if set.is_err() {
            self.unstage_vectors(&staged)?;
        }
        set
    }

    /// Puts the bytes of vectors into the free rows that [`Volume::set_staged`] will give them. If that fails, or is not
    /// called, the host calls [`Volume::unstage_vectors`].
    ///
    /// # Errors
    /// Those of [`Volume::set_vectors`] that can be known by now.
    pub fn stage_vectors(
        &mut self,
        id: CollectionId,
        vectors: &[NewVector<'_>],
        caller: &Caller<'_>,
        now: Time,
    ) -> core::result::Result<StagedBatch, Refused> {
        collection::check_access(self, id, caller)?;
        let mut loaded = collection::load(self, id)?;
        let mut wanted: Vec<usize> = Vec::new();
        let mut file = None;
        for (index, vector) in vectors.iter().enumerate() {
            let accepted = accept(self, &mut loaded, vector, caller, &mut file);
            if accepted.map_err(|error| Refused { index: Some(index), error })? {
                memory::push(&mut wanted, index)?;
            }
        }
        let mut placed = memory::filled(vectors.len(), None)?;
        let runs = loaded.free_runs(self, self, wanted.len() as u64)?;
        memory::reserve(&mut self.staged_rows, runs.len())?;
        let bytes = (wanted.len() as u64).saturating_mul(u64::from(loaded.record.stride.get()));
        let block_size = u64::from(self.layout.block_size);
        let growth = (GROWTH_MAX / block_size).min(self.space.ready() / 4);
        let extents = 2 * (bytes / CHUNK + runs.len() as u64);
        let budget = Budget::records(40 + extents).with_blocks(bytes.div_ceil(block_size) + growth);
        let mut at = None;
        let written = self.transact(budget, now, |tx| {
            let mut rest = &wanted[..];
            for run in &runs {
                let (here, after) = rest.split_at((run.end - run.start) as usize);
                rest = after;
                write_run(tx, &mut loaded, run.start, here, vectors, &mut placed, &mut at)?;
            }
            Ok(())
        });
        written.map_err(|error| Refused { index: at, error })?;
        let number = self.next_batch;
        self.next_batch = number.wrapping_add(1);
        for rows in runs {
            memory::append(&mut self.staged_rows, StagedRows { batch: number, id, rows });
        }
        // Compaction may have copied into those rows before.
        self.leave_copies(id);
        let form = Form::of(&loaded)?;
        Ok(StagedBatch { number, id, form, placed })
    }

    /// Sets the vectors that were staged, in one transaction.
    ///
    /// # Errors
    /// Those of [`Volume::set_vectors`]; `NotFound` if the collection is gone.
    pub fn set_staged(
        &mut self,
        staged: &StagedBatch,
        vectors: &[NewVector<'_>],
        caller: &Caller<'_>,
        now: Time,
    ) -> core::result::Result<Batch, Refused> {
        let id = staged.id;
        collection::check_access(self, id, caller)?;
        let pieces = self.metadata_records(id, vectors)?;
        let (kept, dropped) = self.past_records(id, vectors)?;
        let count = vectors.len() as u64;
        // Rows of a matrix that is being made go, or are to be coded again.
        let again = if self.is_recoding(id)? { count } else { 0 };
        let runs = self.staged_rows.iter().filter(|rows| rows.batch == staged.number).count() as u64;
        // Records of rows follow one another, so they split few nodes; of each vector, either its own record or the
        // one that has its old row blanked is new.
        let budget = Budget {
            puts: count + count / 8 + 4 * runs + pieces + kept + again + 40,
            touches: 3 * count,
            removes: count + pieces + dropped + again,
            blocks: 0,
            frees: false,
        };
        // What is noted behind the transaction must not fail any more.
        memory::reserve(&mut self.awaiting, vectors.len().min(AWAITING_MAX))?;
        memory::reserve(&mut self.blanks, 1)?;
        let mut refused = None;
        let done = self.transact(budget, now, |tx| {
            let mut setter =
                Setter { loaded: collection::load(tx, id)?, file: None, empty: Vec::new(), used: Vec::new() };
            if let Some(vector) = vectors.first() {
                setter.loaded.accept(None, vector.value)?;
            }
            if Form::of(&setter.loaded)? != staged.form {
                return Err(Error::Invalid("the collection took another form meanwhile"));
            }
            let batch = setter.all(tx, vectors, &staged.placed, caller, &mut refused)?;
            setter.loaded.store(tx)?;
            Ok((batch, setter))
        });
        let (batch, setter) = done.map_err(|error| Refused { index: refused, error })?;
        for vector in vectors {
            self.journal.settled.remove(vector.inode.0);
            self.journal.bound(vector.inode);
        }
        for inode in setter.empty {
            // A vector whose file cannot be read waits for no content.
            let _ = self.await_first_content(inode);
        }
        self.staged_rows.retain(|rows| rows.batch != staged.number);
        for placed in staged.placed.iter().flatten() {
            if setter.used.binary_search(&placed.row).is_err() {
                // Without memory that row keeps its bytes until it is used again.
                let _ = memory::push(&mut self.strays, (id, placed.row));
            }
        }
        self.note_blanks(id)?;
        Ok(batch)
    }

    /// Forgets what was staged for a batch that is not set after all; its rows are blanked again.
    pub fn unstage_vectors(&mut self, staged: &StagedBatch) -> Result<()> {
        self.staged_rows.retain(|rows| rows.batch != staged.number);
        let mut rows = Vec::new();
        for row in staged.placed.iter().flatten().map(|placed| placed.row) {
            memory::push(&mut rows, row)?;
        }
        match collection::load(self, staged.id) {
            Ok(loaded) if !rows.is_empty() => rows::blank_bytes(self, &loaded, &rows).map(drop),
            _ => Ok(()),
        }
    }

    // Records that keeping the vectors which are replaced puts, and removes.
    fn past_records(&self, id: CollectionId, vectors: &[NewVector<'_>]) -> Result<(u64, u64)> {
        let (kept, dropped) = past::budget(self, &collection::load(self, id)?);
        let mut replaced = 0;
        for vector in vectors.iter().filter(|_| kept > 0) {
            let key = vector_key(vector.inode, id, vector.n);
            replaced += u64::from(tree::find(self, key, |_| Ok(()))?.is_some());
        }
        Ok((replaced * kept, replaced * dropped))
    }

    // Records of the metadata that the vectors which are replaced have: it goes along to another row.
    fn metadata_records(&self, id: CollectionId, vectors: &[NewVector<'_>]) -> Result<u64> {
        let mut pieces = 0;
        if self.needs.contains(Incompatible::METADATA) {
            for vector in vectors {
                let key = vector_key(vector.inode, id, vector.n);
                let old: Option<VectorRecord> = tree::record(self, key, "vector of inode")?;
                if let Some(old) = old {
                    pieces += metadata::records(self, id, old.row.get())?;
                }
            }
        }
        Ok(pieces)
    }
}

// Checks a vector and who sets it; false if there is one that is to be kept. `file` is the one checked last.
fn accept<N: Nodes>(
    nodes: &N,
    loaded: &mut Loaded,
    vector: &NewVector<'_>,
    caller: &Caller<'_>,
    file: &mut Option<Ino>,
) -> Result<bool> {
    if *file != Some(vector.inode) {
        control::check_writable(vector.inode)?;
        let record = inode::load(nodes, vector.inode)?;
        access::check_attributes(nodes, vector.inode, &record, caller)?;
        *file = Some(vector.inode);
    }
    loaded.accept(None, vector.value)?;
    let key = vector_key(vector.inode, loaded.id, vector.n);
    Ok(!(vector.keep && tree::find(nodes, key, |_| Ok(()))?.is_some()))
}

// Writes the `wanted` ones of `vectors` to the rows from `first` on, and notes where they lie; `at` is the one at hand.
fn write_run<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &mut Loaded,
    first: u64,
    wanted: &[usize],
    vectors: &[NewVector<'_>],
    placed: &mut [Option<Placed>],
    at: &mut Option<usize>,
) -> Result<()> {
    let len = loaded.stored_len();
    let stride = loaded.record.stride.get() as usize;
    let mut row = first;
    for part in wanted.chunks((WRITE_BYTES / stride).max(1)) {
        let start = row;
        let mut bytes = memory::zeroed(part.len() * stride)?;
        for (slot, index) in bytes.chunks_exact_mut(stride).zip(part) {
            *at = Some(*index);
            let stored = &mut slot[..len];
            let scale = codebook::encode_in(tx, loaded, vectors[*index].value, stored)?;
            placed[*index] = Some(Placed { row, checksum: crc32(stored), scale });
            row += 1;
        }
        *at = None;
        loaded.write_rows(tx, start, &bytes)?;
        if !planted("batch_before_told") {
            let inode = loaded.matrix();
            tx.event(Event { inode, offset: loaded.row_offset(start), len: bytes.len() as u64 })?;
        }
    }
    Ok(())
}

// A file whose vectors are being set; neighbours in a batch often are of the same.
struct File {
    inode: Ino,
    record: InodeRecord,
    changed: bool,
    /// Bytes of the list of its attributes' names, once it is long enough to be counted.
    listed: Option<usize>,
}

struct Setter {
    loaded: Loaded,
    file: Option<File>,
    /// Files whose content is still to come.
    empty: Vec<Ino>,
    /// Rows that were taken into use, in order.
    used: Vec<u64>,
}

impl Setter {
    // Sets all; notes in `at` which of them it was at when it failed.
    fn all<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        vectors: &[NewVector<'_>],
        placed: &[Option<Placed>],
        caller: &Caller<'_>,
        at: &mut Option<usize>,
    ) -> Result<Batch> {
        let (before, mut kept) = (self.loaded.record.rows.get(), 0);
        for (index, (vector, placed)) in vectors.iter().zip(placed).enumerate() {
            *at = Some(index);
            let set = match placed {
                Some(placed) => self.set(tx, vector, *placed, caller)?,
                None => false,
            };
            kept += u64::from(!set);
        }
        *at = None;
        self.close(tx)?;
        let resized = self.loaded.record.rows.get() != before;
        for run in runs(&self.used) {
            self.loaded.take_rows(tx, run.clone())?;
            self.loaded.rows_changed(tx, run, resized, false)?;
        }
        Ok(Batch { set: vectors.len() as u64 - kept, kept })
    }

    // Sets a vector that lies in its row; false if there is one that is to be kept.
    fn set<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        vector: &NewVector<'_>,
        placed: Placed,
        caller: &Caller<'_>,
    ) -> Result<bool> {
        let NewVector { inode, n, .. } = *vector;
        self.open(tx, inode, caller)?;
        let Some(file) = &mut self.file else { return Err(Error::NotFound) };
        let key = vector_key(inode, self.loaded.id, n);
        let old: Option<VectorRecord> = tree::record(tx, key, "vector of inode")?;
        if old.is_some() && vector.keep {
            return Ok(false);
        }
        file.changed = true;
        let (mut created, mut about) = (tx.now.as_nanoseconds(), None);
        match old {
            Some(old) => {
                about = metadata::of_row(tx, self.loaded.id, old.row.get())?;
                let freed = free_row(tx, &mut self.loaded, inode, n, &old)?;
                created = freed.header.created_timestamp.get();
                let new = (placed, file.record.version.get());
                past::keep(tx, &self.loaded, (old.row.get(), &freed), about.as_deref(), new)?;
            }
            None => {
                if file.record.attributes.get() >= xattr::FEW {
                    let collection = collection::name(tx, self.loaded.id)?;
                    let name = VectorName {
                        collection: &collection,
                        element: None,
                        n,
                        at: At::Present,
                        meta: false,
                    };
                    let len = name.listed_len(self.loaded.element()?);
                    xattr::check_listed(tx, inode, &file.record, len, &mut file.listed)?;
                }
                file.record.add_attribute()?;
            }
        }
        let version = file.record.version.get();
        file.record.bound_version = U64::new(version);
        file.record.changed = tx.now.into();
        put_records(tx, &self.loaded, inode, n, placed, version, created)?;
        if let Some(about) = about {
            metadata::put(tx, self.loaded.id, placed.row, &about)?;
        }
        self.loaded.count_row(placed.row);
        memory::push(&mut self.used, placed.row)?;
        Ok(true)
    }

    // Makes a file the one at hand.
    fn open<H: BlockDevice + Data>(
        &mut self,
        tx: &mut Transaction<'_, H>,
        inode: Ino,
        caller: &Caller<'_>,
    ) -> Result<()> {
        if self.file.as_ref().is_some_and(|file| file.inode == inode) {
            return Ok(());
        }
        self.close(tx)?;
        let record = inode::load(tx, inode)?;
        access::check_attributes(tx, inode, &record, caller)?;
        let new = record.size.get() == 0 && record.version.get() == FIRST_VERSION;
        if new && record.kind(inode)? == FileKind::Regular {
            memory::push(&mut self.empty, inode)?;
        }
        self.file = Some(File { inode, record, changed: false, listed: None });
        Ok(())
    }

    // Stores the record of the file at hand.
    fn close<H: BlockDevice + Data>(&mut self, tx: &mut Transaction<'_, H>) -> Result<()> {
        match self.file.take() {
            Some(file) if file.changed => inode::store(tx, file.inode, &file.record),
            _ => Ok(()),
        }
    }
}

// Rows in order as runs of those that follow one another.
fn runs(rows: &[u64]) -> impl Iterator<Item = Range<u64>> {
    rows.chunk_by(|row, next| row + 1 == *next).filter_map(|run| Some(*run.first()?..*run.last()? + 1))
}
