//! Which matrix a collection has.
//!
//! It begins with one that is part 1 of its inodes, whose rows' records lie at its directory. Recoding makes others, each with a
//! number and inodes of its own, at which the records of its rows lie: they are put there row by row while the collection goes
//! on with the matrix that it has, and then count all at once, by one number in the collection's record. A matrix that was
//! replaced stays as it was, with a copy of the collection's record, until nobody has it open.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::collection::{Loaded, load, load_at};
use super::inode;
use super::rows::ROWS_MAX;
use super::types::Recoding;
use crate::bugs::planted;
use crate::codec;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    CodebookRecord, Codec, CollectionFlags, InodeRecord, Key, Kind, MATRIX_NUMBERS, MatrixRecord,
    QuantizerRecord, RedoRecord, RowRecord, collection_directory, collection_part, matrix_number,
    numbered_codebook, numbered_matrix, numbered_scale,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::transaction::Transaction;
use crate::tree;
use crate::volume::Nodes;

/// The inode that the records of the rows of this matrix lie at.
pub(crate) fn rows_at(id: CollectionId, number: u32) -> Ino {
    match number {
        0 => collection_directory(id),
        _ => numbered_matrix(id, number),
    }
}

/// The collection as `inode`, one of its files, shows it: as it is, or of a matrix that was replaced (and of its scales or
/// its codebook) as it was then.
pub(crate) fn shown<N: Nodes>(nodes: &N, inode: Ino) -> Result<Loaded> {
    let (id, part) = collection_part(inode).ok_or(Error::NotFound)?;
    let loaded = load(nodes, id)?;
    let number = matrix_number(inode);
    match part {
        control::MATRIX | control::SCALE | control::CODEBOOK if loaded.number() != number => {
            of_matrix(nodes, id, number)
        }
        _ => Ok(loaded),
    }
}

/// The collection as it was when the matrix of this number was replaced.
pub(crate) fn of_matrix<N: Nodes>(nodes: &N, id: CollectionId, number: u32) -> Result<Loaded> {
    let loaded = load_at(nodes, id, numbered_matrix(id, number))?;
    if loaded.number() != number {
        let why = "a matrix that was replaced says that it is another";
        return Err(Error::corrupt("collection", collection_directory(id).0, why));
    }
    Ok(loaded)
}

impl Loaded {
    /// The number of its matrix.
    pub(crate) fn number(&self) -> u32 {
        self.matrices.number.get()
    }

    /// The inode of its matrix.
    pub(crate) fn matrix(&self) -> Ino {
        numbered_matrix(self.id, self.number())
    }

    /// The record of its matrix, which is there as long as the collection is: without it the volume is damaged.
    pub(crate) fn matrix_record<N: Nodes>(&self, nodes: &N) -> Result<InodeRecord> {
        match inode::load(nodes, self.matrix()) {
            Err(Error::NotFound) => {
                Err(Error::corrupt("collection", self.id.0.into(), "its matrix is missing"))
            }
            other => other,
        }
    }

    /// The inode of one of its files.
    pub(crate) fn part(&self, part: u64) -> Ino {
        match part {
            control::MATRIX => self.matrix(),
            control::SCALE => numbered_scale(self.id, self.number()),
            control::CODEBOOK => numbered_codebook(self.id, self.number()),
            _ => Ino(collection_directory(self.id).0 + part),
        }
    }

    /// Where the record of a row is.
    pub(crate) fn row_key(&self, row: u64) -> Key {
        Key::new(rows_at(self.id, self.number()), Kind::Row, row)
    }

    /// The keys of all rows' records from `first` on.
    pub(crate) fn row_keys(&self, first: u64) -> (Key, Key) {
        (self.row_key(first), self.row_key(u64::MAX))
    }

    /// The matrices that the collection has beside its first one: the one in use, and the one that is being made.
    pub(super) fn own_matrices(&self) -> [Option<Ino>; 2] {
        [self.number(), self.matrices.target.get()]
            .map(|number| (number != 0).then(|| numbered_matrix(self.id, number)))
    }

    /// The recode that is under way.
    pub(crate) fn recoding(&self) -> Result<Option<Recoding>> {
        if self.matrices.target.get() == 0 {
            return Ok(None);
        }
        let bad = Error::corrupt("collection", collection_directory(self.id).0, "is recoded to no codec");
        let quantizer = self.codebooks.target.into();
        let codec = Codec::recorded(self.matrices.codec.get(), quantizer).ok_or(bad)?;
        Ok(Some(Recoding { codec, next: self.matrices.next.get() }))
    }

    /// The collection as it would be with the matrix that is being made, if one is.
    pub(crate) fn target(&self) -> Result<Option<Self>> {
        let Some(recoding) = self.recoding()? else { return Ok(None) };
        let model = memory::copy(&self.model)?;
        let number = self.matrices.target;
        let matrices =
            MatrixRecord { number, target: U32::ZERO, codec: U16::ZERO, next: U64::ZERO, ..self.matrices };
        let codebooks = CodebookRecord::default();
        let mut target = Self { id: self.id, record: self.record, model, matrices, codebooks };
        target.shape(recoding.codec, self.element()?, self.record.dimensions.get())?;
        Ok(Some(target))
    }

    /// Fails if its record says what cannot be of matrices.
    pub(super) fn check_matrices(&self) -> Result<()> {
        let bad = |why| Err(Error::corrupt("collection", collection_directory(self.id).0, why));
        let MatrixRecord { number, last, target, next, .. } = &self.matrices;
        let (number, last, target) = (number.get(), last.get(), target.get());
        if number > last || target > last || last >= MATRIX_NUMBERS || (target != 0 && target == number) {
            return bad("impossible numbers of matrices");
        }
        match self.recoding()? {
            Some(_) if next.get() > ROWS_MAX => bad("recoded beyond all rows"),
            Some(recoding) if self.stored_by(recoding.codec)?.is_none() => {
                bad("recoded to a codec that its vectors cannot have")
            }
            _ if self.quantizer().is_some() && number == 0 => bad("a codebook of its first matrix"),
            _ => Ok(()),
        }
    }

    // Bytes of its rows in this codec, if they can have it.
    fn stored_by(&self, codec: Codec) -> Result<Option<u32>> {
        Ok(codec::stored_len(codec, self.element()?, self.record.dimensions.get()))
    }

    /// This is the highest number of a matrix now.
    pub(super) fn set_last(&mut self, number: u32) {
        self.matrices.last = U32::new(number);
        let flags = self.flags() | CollectionFlags::RECODED;
        self.record.flags = U16::new(flags.bits());
    }

    /// The matrix that is being made is the one of this number, which no row is in yet.
    pub(super) fn set_target(&mut self, number: u32, codec: Codec) {
        self.matrices.target = U32::new(number);
        self.matrices.codec = U16::new(codec.number());
        self.codebooks.target = codec.quantizer().into();
        self.matrices.next = U64::ZERO;
    }

    /// There is no matrix that is being made any more.
    pub(super) fn drop_target(&mut self) {
        self.matrices.target = U32::ZERO;
        self.matrices.codec = U16::ZERO;
        self.matrices.next = U64::ZERO;
        self.codebooks.target = QuantizerRecord::default();
    }

    /// Puts the record of a row. If the row is in the matrix that is being made, it will be coded again for it.
    pub(super) fn put_row<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        row: u64,
        record: &RowRecord,
    ) -> Result<()> {
        tree::put(tx, self.row_key(row), record.as_bytes())?;
        let passed = self.recoding()?.is_some_and(|recoding| row < recoding.next);
        if !passed || planted("recode_passes_changes") {
            return Ok(());
        }
        let redo = RedoRecord { generation: U64::new(tx.generation()) };
        tree::put(tx, self.redo_key(row), redo.as_bytes())
    }

    /// A row has no vector any more: the matrix that is being made has none there either.
    pub(super) fn row_left<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        row: u64,
    ) -> Result<()> {
        let target = self.matrices.target.get();
        if target != 0 && row < self.matrices.next.get() {
            tree::remove(tx, Key::new(rows_at(self.id, target), Kind::Row, row))?;
        }
        Ok(())
    }

    /// Where it stands that a row is to be coded again.
    pub(super) fn redo_key(&self, row: u64) -> Key {
        Key::new(rows_at(self.id, self.matrices.target.get()), Kind::Redo, row)
    }
}
