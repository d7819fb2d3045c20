//! Codebooks of product quantisers: where they lie, and rows coded by them.
//!
//! A codebook is cut into records at the matrix whose rows it codes. So it is checksummed with the tree, comes with the
//! matrix and goes with it, and is never changed: other entries are another matrix. Rows are set by a copy in memory, which
//! is kept; reading one needs an entry a part, and looks them up where there is no copy.

use alloc::vec::Vec;

use zerocopy::little_endian::U32;

use super::collection::{self, Loaded};
use super::matrices::rows_at;
use super::{inode, orphan, recode};
use crate::codec::{self, Codebook, pq};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    CODEBOOK_PIECE, Codec, Incompatible, Key, Kind, OrphanKind, Quantizer, collection_directory,
    numbered_matrix,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{KeptCodebook, Nodes, Volume};

/// Codebooks that are kept in memory at most; each takes some 600 KiB for 384 dimensions.
const KEPT_MAX: usize = 4;
/// Pieces that one transaction puts.
const STEP: usize = 32;

/// Why a recode to `pq` without a codebook is refused.
pub(super) const WANTED: Error = Error::Invalid(
    "pq needs a codebook, which is trained on vectors: `vexfs recode COLLECTION --codec pq` makes one",
);
// Why a codebook is refused.
const MISFIT: Error = Error::Invalid(
    "the codebook does not fit: its parts make up another dimension than the collection has, or the elements are not f32 or f16",
);

impl Loaded {
    /// Where a piece of its codebook is.
    pub(super) fn codebook_key(&self, piece: u64) -> Key {
        Key::new(rows_at(self.id, self.number()), Kind::Codebook, piece)
    }

    /// The shape of its codebook, if its codec has one.
    pub(crate) fn quantizer(&self) -> Option<Quantizer> {
        match self.codec() {
            Ok(Codec::Pq(quantizer)) => Some(quantizer),
            _ => None,
        }
    }
}

/// Bytes of a collection's codebook from `offset` on, into all of `bytes`.
///
/// # Errors
/// `Corrupt` where it ends before that.
pub(crate) fn read<N: Nodes>(nodes: &N, loaded: &Loaded, offset: usize, bytes: &mut [u8]) -> Result<()> {
    let broken = Error::corrupt("codebook of collection", collection_directory(loaded.id).0, "is not whole");
    let mut done = 0;
    while done < bytes.len() {
        let (piece, start) = ((offset + done) / CODEBOOK_PIECE, (offset + done) % CODEBOOK_PIECE);
        let len = tree::find(nodes, loaded.codebook_key(piece as u64), |value| {
            let from = value.get(start..).filter(|from| !from.is_empty()).ok_or(broken)?;
            let len = from.len().min(bytes.len() - done);
            bytes[done..done + len].copy_from_slice(&from[..len]);
            Ok(len)
        })?;
        done += len.ok_or(broken)?;
    }
    Ok(())
}

/// A collection's codebook, checked.
///
/// # Errors
/// `Corrupt` if it is not whole, or no codebook.
pub(crate) fn load<N: Nodes>(nodes: &N, loaded: &Loaded, quantizer: Quantizer) -> Result<Codebook> {
    let bad = |why| Error::corrupt("codebook of collection", collection_directory(loaded.id).0, why);
    let mut entries = Vec::new();
    memory::reserve(&mut entries, quantizer.codebook_len())?;
    tree::scan(nodes, loaded.codebook_key(0), loaded.codebook_key(u64::MAX), &mut |key, value| {
        let whole = key.offset.checked_mul(CODEBOOK_PIECE as u64) == Some(entries.len() as u64);
        if !whole || entries.len() + value.len() > quantizer.codebook_len() {
            return Err(bad("is not whole"));
        }
        memory::extend(&mut entries, value)?;
        Ok(true)
    })?;
    Codebook::new(quantizer, loaded.element()?, entries).map_err(|error| match error {
        Error::Invalid(why) => bad(why),
        other => other,
    })
}

/// Codes a vector for a row of a collection, in a transaction. Gives the row's scale.
pub(super) fn encode_in<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    loaded: &Loaded,
    value: &[u8],
    row: &mut [u8],
) -> Result<u32> {
    let Some(quantizer) = loaded.quantizer() else {
        return codec::encode(loaded.codec()?, loaded.element()?, value, row);
    };
    if tx.volume.codebook(loaded.matrix()).is_none() {
        let codebook = load(tx, loaded, quantizer)?;
        keep(&mut tx.volume.codebooks, loaded.matrix(), codebook)?;
    }
    if let Some(codebook) = tx.volume.codebook(loaded.matrix()) {
        codebook.encode(value, row);
    }
    Ok(0)
}

/// Reads the vector of a collection's row.
///
/// # Errors
/// `Invalid` for an impossible scale; `Corrupt` for a codebook that is not whole.
pub(super) fn decode<N: Nodes, H: BlockDevice + Data>(
    nodes: &N,
    volume: &Volume<H>,
    loaded: &Loaded,
    (row, scale): (&[u8], u32),
    value: &mut [u8],
) -> Result<()> {
    let Some(quantizer) = loaded.quantizer() else {
        return codec::decode(loaded.codec()?, loaded.element()?, row, scale, value);
    };
    match volume.codebook(loaded.matrix()) {
        Some(codebook) => {
            codebook.decode(row, value);
            Ok(())
        }
        None => pq::decode(quantizer, loaded.element()?, row, value, |offset, bytes| {
            read(nodes, loaded, offset, bytes)
        }),
    }
}

// The one that was asked for longest ago makes room.
fn keep(kept: &mut Vec<KeptCodebook>, matrix: Ino, codebook: Codebook) -> Result<()> {
    if kept.len() >= KEPT_MAX {
        kept.remove(0);
    }
    memory::push(kept, KeptCodebook { matrix, codebook })
}

impl<H: BlockDevice + Data> Volume<H> {
    /// The entries of the codebook that a collection is stored by: f32, little-endian, of all entries of the first part of a
    /// vector, then of the next; as many as [`Collection::codec`](super::Collection::codec) says. None without one.
    pub fn codebook_entries(&self, id: CollectionId) -> Result<Option<Vec<u8>>> {
        let loaded = collection::load(self, id)?;
        let Some(quantizer) = loaded.quantizer() else { return Ok(None) };
        let mut entries = memory::zeroed(quantizer.codebook_len())?;
        read(self, &loaded, 0, &mut entries)?;
        Ok(Some(entries))
    }

    /// As [`Volume::recode`], by product quantisation with the codebook whose entries these are: f32, little-endian, of all
    /// entries of the first part of a vector, then of the next. The same codec with another codebook is another recode.
    ///
    /// # Errors
    /// As of [`Volume::recode`]; `Underway` whatever it is recoded to; `Invalid` for what is no codebook of its vectors.
    pub fn recode_with(
        &mut self,
        id: CollectionId,
        quantizer: Quantizer,
        entries: &[u8],
        now: Time,
    ) -> Result<()> {
        let loaded = self.before_recode(id)?;
        if loaded.recoding()?.is_some() {
            return Err(recode::UNDERWAY);
        }
        self.make_way(id)?;
        memory::reserve(&mut self.waiting, 1)?;
        memory::reserve(&mut self.recoding, 1)?;
        let number = self.put_codebook(&loaded, quantizer, entries, now)?;
        let begun = self.transact(Budget::records(6), now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            claim(tx, numbered_matrix(id, number))?;
            recode::set_out(tx, &mut loaded, number, Codec::Pq(quantizer))
        });
        if begun.is_err() {
            memory::push(&mut self.waiting, numbered_matrix(id, number))?;
        }
        begun?;
        self.note_recode(id)
    }

    // Puts a codebook at a matrix of its own, which nothing has a use for yet and the next mount frees if it stays so; gives
    // the matrix's number.
    fn put_codebook(
        &mut self,
        loaded: &Loaded,
        quantizer: Quantizer,
        entries: &[u8],
        now: Time,
    ) -> Result<u32> {
        let (id, element) = (loaded.id, loaded.element()?);
        codec::stored_len(Codec::Pq(quantizer), element, loaded.record.dimensions.get()).ok_or(MISFIT)?;
        pq::check(quantizer, element, entries)?;
        let number = self.transact(Budget::records(5), now, |tx| {
            let mut loaded = collection::load(tx, id)?;
            let number = recode::new_matrix(tx, &mut loaded, 0)?;
            orphan::add(tx, numbered_matrix(id, number), OrphanKind::Delete)?;
            // The collection's record says nothing of a codebook yet, but its pieces may become durable before that does.
            tx.volume.needs |= Incompatible::QUANTIZERS;
            loaded.store(tx)?;
            Ok(number)
        })?;
        let put = self.put_pieces(rows_at(id, number), entries, now);
        if put.is_err() {
            memory::push(&mut self.waiting, numbered_matrix(id, number))?;
        }
        put.map(|()| number)
    }

    fn put_pieces(&mut self, matrix: Ino, entries: &[u8], now: Time) -> Result<()> {
        for (step, some) in entries.chunks(STEP * CODEBOOK_PIECE).enumerate() {
            self.transact(Budget::records(STEP as u64), now, |tx| {
                for (index, piece) in some.chunks(CODEBOOK_PIECE).enumerate() {
                    let key = Key::new(matrix, Kind::Codebook, (step * STEP + index) as u64);
                    tree::put(tx, key, piece)?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

// A matrix with a codebook has a use now.
fn claim<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, matrix: Ino) -> Result<()> {
    orphan::forget(tx, matrix)?;
    let mut record = inode::load(tx, matrix)?;
    record.links = U32::new(1);
    inode::store(tx, matrix, &record)
}

impl<H> Volume<H> {
    // The codebook of a matrix, if it is in memory.
    fn codebook(&self, matrix: Ino) -> Option<&Codebook> {
        self.codebooks.iter().find(|kept| kept.matrix == matrix).map(|kept| &kept.codebook)
    }

    /// Forgets the codebook of a matrix that was given up.
    pub(super) fn forget_codebook(&mut self, matrix: Ino) {
        self.codebooks.retain(|kept| kept.matrix != matrix);
    }
}
