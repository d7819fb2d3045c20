//! The matrices of a collection that was recoded, or is being: the one in use, the one that is made, and those that were replaced.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::cure::Cure;
use super::inodes::record;
use super::{Finding, State};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    CODEBOOK_PIECE, CodebookRecord, CollectionFlags, CollectionRecord, Key, Kind, MatrixRecord, OrphanKind,
    RedoRecord, RowRecord, collection_directory, collection_part, numbered_matrix, parse, parse_exact,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::operations::{LoadedCollection, codebook, load_collection, records};
use crate::tree;
use crate::volume::Volume;

/// What follows a collection's record, before its model.
#[derive(Clone, Copy, Default)]
pub(super) struct Behind {
    pub(super) matrices: Option<MatrixRecord>,
    codebooks: Option<CodebookRecord>,
}

/// What follows a collection's record, and how many bytes that leaves for its model.
pub(super) fn of_record(record: &CollectionRecord, rest: &[u8]) -> (Behind, usize) {
    let flags = CollectionFlags::from_bits_retain(record.flags.get());
    let (mut behind, mut rest) = (Behind::default(), rest);
    if flags.contains(CollectionFlags::RECODED) {
        if let Ok((matrices, model)) = parse::<MatrixRecord>(rest, "collection", 0) {
            (behind.matrices, rest) = (Some(*matrices), model);
        }
    }
    if flags.contains(CollectionFlags::QUANTIZED) {
        if let Ok((codebooks, model)) = parse::<CodebookRecord>(rest, "collection", 0) {
            (behind.codebooks, rest) = (Some(*codebooks), model);
        }
    }
    (behind, rest.len())
}

/// A collection's record put right: without a model's name, on the way to no other codec.
pub(super) fn mended(record: &CollectionRecord, behind: &Behind) -> Result<Vec<u8>> {
    let mut flags = CollectionFlags::from_bits_retain(record.flags.get());
    flags.set(CollectionFlags::RECODED, behind.matrices.is_some());
    flags.set(CollectionFlags::QUANTIZED, behind.codebooks.is_some());
    let record = CollectionRecord { flags: U16::new(flags.bits()), ..*record };
    let mut bytes = memory::copy(record.as_bytes())?;
    if let Some(matrices) = behind.matrices {
        let last = U32::new(matrices.last.get().max(matrices.number.get()));
        let kept = MatrixRecord { number: matrices.number, last, ..MatrixRecord::default() };
        memory::extend(&mut bytes, kept.as_bytes())?;
    }
    if let Some(codebooks) = behind.codebooks {
        let kept = CodebookRecord { own: codebooks.own, ..CodebookRecord::default() };
        memory::extend(&mut bytes, kept.as_bytes())?;
    }
    Ok(bytes)
}

/// Looks at a record of a matrix other than its inode and extents.
pub(super) fn visit<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    kind: Kind,
    key: Key,
    value: &[u8],
) -> Result<()> {
    let matrix = Ino(key.inode);
    let Some((id, _)) = collection_part(matrix) else { return Ok(()) };
    match kind {
        // Of one that was replaced; it goes with it.
        Kind::Collection => parse::<CollectionRecord>(value, "collection", matrix.0).map(drop),
        Kind::Row => {
            let found: &RowRecord = parse_exact(value, "row of collection", matrix.0)?;
            match load_collection(volume, id) {
                Ok(loaded) if loaded.matrix() != matrix => row_of_target(volume, state, &loaded, key, found),
                // The collection's own are looked at with it; a collection that is gone has none.
                _ => Ok(()),
            }
        }
        Kind::Redo => parse_exact::<RedoRecord>(value, "row of collection", matrix.0).map(drop),
        Kind::Codebook if value.is_empty() || value.len() > CODEBOOK_PIECE => {
            Err(Error::corrupt("codebook of collection", matrix.0, "a piece of a wrong length"))
        }
        // Whether it is whole is looked at with the collection.
        Kind::Codebook => Ok(()),
        _ => Err(Error::corrupt("inode", matrix.0, "a record that a matrix cannot have")),
    }
}

// A row of the matrix that is being made belongs to a live one, and is what it is coded to, unless it is to be coded again.
fn row_of_target<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    loaded: &LoadedCollection,
    key: Key,
    found: &RowRecord,
) -> Result<()> {
    let Some(target) = state.absorb(loaded.target())?.flatten() else { return Ok(()) };
    if target.row_key(key.offset) != key {
        return Ok(());
    }
    let own: Option<RowRecord> = tree::record(volume, loaded.row_key(key.offset), "row of collection")?;
    let again = exists(volume, Key::new(Ino(key.inode), Kind::Redo, key.offset))?;
    let same = own.is_some_and(|own| {
        let (header, wanted) = (&found.header, &own.header);
        again
            || header.known()
                && header.compression == target.record.codec
                && header.compressed_size.get() as usize == target.stored_len()
                && (header.vector_id, header.file_inode) == (wanted.vector_id, wanted.file_inode)
                && (found.n, found.version) == (own.n, own.version)
    });
    if !same {
        return broken(
            state,
            loaded,
            "a row of the matrix that is being made is not that of the collection",
            key.offset,
        );
    }
    if !state.options.vectors || again {
        return Ok(());
    }
    match records::read_row_of(volume, &target, key.offset, found) {
        Err(Error::VectorChecksum { .. }) => broken(
            state,
            loaded,
            "a row of the matrix that is being made does not match its checksum",
            key.offset,
        ),
        other => state.absorb(other).map(drop),
    }
}

/// Every live row that was passed is in the matrix that is being made, or is to be coded again.
pub(super) fn nothing_forgotten<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    loaded: &LoadedCollection,
) -> Result<()> {
    let Some(target) = state.absorb(loaded.target())?.flatten() else { return Ok(()) };
    if !exists(volume, Key::new(target.matrix(), Kind::Inode, 0))? {
        return broken(state, loaded, "the matrix that is being made is not there", 0);
    }
    let mut forgotten = None;
    let (from, _) = loaded.row_keys(0);
    let scanned = tree::scan(volume, from, loaded.row_key(loaded.matrices.next.get()), &mut |key, _| {
        let again = Key::new(target.matrix(), Kind::Redo, key.offset);
        if !exists(volume, target.row_key(key.offset))? && !exists(volume, again)? {
            forgotten = Some(key.offset);
        }
        Ok(forgotten.is_none())
    });
    state.absorb(scanned)?;
    match forgotten {
        Some(row) => broken(state, loaded, "a row was left out of the matrix that is being made", row),
        None => Ok(()),
    }
}

/// A collection that is stored by a codebook, or on its way there, has it whole. Without its own none of its vectors can be read:
/// a salvage gives it up.
pub(super) fn whole_codebooks<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    loaded: &LoadedCollection,
) -> Result<()> {
    let whole = |loaded: &LoadedCollection| match loaded.quantizer() {
        Some(quantizer) => codebook::load(volume, loaded, quantizer).map(drop),
        None => Ok(()),
    };
    if let Some(target) = state.absorb(loaded.target())?.flatten() {
        if let Err(Error::Corrupt(_)) = whole(&target) {
            broken(state, loaded, "the codebook of the matrix that is being made is not whole", 0)?;
        }
    }
    match whole(loaded) {
        Err(error @ Error::Corrupt(_)) => {
            state.cure(Cure::drop_inode(loaded.matrix()))?;
            state.contradiction(Finding::Damage { error }, Cure::drop_inode(collection_directory(loaded.id)))
        }
        other => other,
    }
}

// What a salvage does about a recode that went wrong: it is given up, and the collection keeps its codec.
fn broken(state: &mut State<'_>, loaded: &LoadedCollection, why: &'static str, row: u64) -> Result<()> {
    let directory = collection_directory(loaded.id);
    let behind = Behind { matrices: Some(loaded.matrices), codebooks: Some(loaded.codebooks) };
    let mut bytes = mended(&loaded.record, &behind)?;
    memory::extend(&mut bytes, &loaded.model)?;
    let cure = Cure::Put(Key::new(directory, Kind::Collection, 0), bytes);
    state.contradiction(record(directory, why, row), cure)
}

/// True if a matrix waits to be freed, as may the records of the rows of a collection's first one, which lie at its directory.
pub(super) fn waits<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    matrix: Ino,
) -> Result<bool> {
    let kind = state.absorb(records::orphan_kind(volume, matrix))?.flatten();
    Ok(kind == Some(OrphanKind::Delete) && records::check_unused(volume, matrix, OrphanKind::Delete).is_ok())
}

/// True if a collection has the matrix, or is on its way to it.
pub(super) fn is_named<H: BlockDevice + Data>(volume: &Volume<H>, id: CollectionId, matrix: Ino) -> bool {
    let named = |loaded: &LoadedCollection| {
        let target = loaded.matrices.target.get();
        loaded.matrix() == matrix || (target != 0 && numbered_matrix(id, target) == matrix)
    };
    // One that cannot be loaded is told, and mended or given up, with all that it has.
    load_collection(volume, id).map_or(true, |loaded| named(&loaded))
}

fn exists<H: BlockDevice + Data>(volume: &Volume<H>, key: Key) -> Result<bool> {
    Ok(tree::find(volume, key, |_| Ok(()))?.is_some())
}
