//! A collection's rows: every row below the frontier is live, waits to be blanked, or is free, and just one of them.

use super::cure::Cure;
use super::finding::Counted;
use super::inodes::record;
use super::{Finding, State, history, matrices};
use crate::control::MATRIX;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    BlankRecord, CollectionRecord, FileKind, InodeRecord, Key, Kind, RowRecord, VectorRecord,
    collection_directory, collection_matrix, collection_part, numbered_matrix, parse, parse_exact,
};
use crate::numbers::{CollectionId, Ino};
use crate::operations::records::{self, ROWS_MAX};
use crate::operations::{LoadedCollection, NewInode, load_collection, rows_at};
use crate::tree;
use crate::volume::Volume;
use zerocopy::little_endian::{U16, U64};

/// What was seen of one collection.
#[derive(Default)]
pub(super) struct Rows {
    record: Option<CollectionRecord>,
    live: u64,
    end: u64,
    blanks: u64,
    blank_end: u64,
    free: u64,
    free_end: u64,
    /// The piece of metadata that was seen last, and the bytes of its row's up to its end.
    piece: Option<(u64, usize)>,
    /// The piece of a superseded vector that was found right last.
    past: Option<u64>,
    /// The record cannot be loaded.
    broken: bool,
    /// Bytes of the model's name behind the record.
    model_len: usize,
    behind: matrices::Behind,
}

impl Rows {
    pub(super) fn visit<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        kind: Kind,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let directory = Ino(key.inode);
        if let Some((_, MATRIX)) = collection_part(directory) {
            return matrices::visit(volume, state, kind, key, value);
        }
        let Some((id, 0)) = collection_part(directory) else {
            return Err(Error::corrupt("inode", directory.0, "rows outside a collection"));
        };
        match kind {
            Kind::Collection => {
                let (found, rest): (&CollectionRecord, _) = parse(value, "collection", directory.0)?;
                self.record = Some(*found);
                (self.behind, self.model_len) = matrices::of_record(found, rest);
                state.report.collections += 1;
                state.highest_collection = state.highest_collection.max(id.0);
                // Loading checks every number in it.
                self.broken = state.absorb(volume.collection(id))?.is_none();
                // Without one it gets one, as any directory.
                state.absorb(volume.collection_name(id))?;
            }
            Kind::Column => {
                let column = records::column(id, key.offset, value)?;
                let mut same = 0;
                for other in volume.columns(id)? {
                    same += u64::from(other.name == column.name && other.number < column.number);
                }
                if same > 0 {
                    let finding = record(directory, "two columns of one name", key.offset);
                    return state.contradiction(finding, Cure::Drop(key));
                }
            }
            // Of a collection that was removed they go with it.
            Kind::PastPiece if self.record.is_none() => {}
            Kind::PastPiece => {
                if history::piece(volume, state, id, key, value, self.past)? {
                    self.past = Some(key.offset);
                }
            }
            Kind::VectorMeta => self.metadata(volume, state, id, key, value)?,
            // What is left of a matrix that was replaced; those of the matrix that the collection has lie at it.
            Kind::Row if self.number() != 0 => {
                if !matrices::waits(volume, state, collection_matrix(id))? {
                    let finding = record(directory, "a row of a matrix that is gone", key.offset);
                    return state.contradiction(finding, Cure::Drop(key));
                }
            }
            Kind::Row => {
                self.row(volume, state, id, key, parse_exact(value, "row of collection", directory.0)?)?
            }
            Kind::Blank => {
                let blank: &BlankRecord = parse_exact(value, "collection", directory.0)?;
                let live = exists(volume, self.row_key(id, key.offset))?;
                if live || key.offset >= ROWS_MAX || blank.generation.get() > volume.newest_generation() {
                    let finding =
                        record(directory, "a freed row is live, or freed in the future", key.offset);
                    return state.contradiction(finding, Cure::Drop(key));
                }
                self.blanks += 1;
                self.blank_end = key.offset + 1;
            }
            Kind::FreeRows => {
                let count = records::free_count(id, key.offset, value)?;
                let end = key.offset + count;
                let blank = |row| Key::new(directory, Kind::Blank, row);
                let rows = (self.row_key(id, key.offset), self.row_key(id, end));
                let mut in_use = false;
                for (from, to) in [rows, (blank(key.offset), blank(end))] {
                    in_use |= tree::first(volume, from, to)?.is_some();
                }
                if in_use || key.offset < self.free_end {
                    let finding = record(directory, "a free row is in use, or free twice", key.offset);
                    return state.contradiction(finding, Cure::FreeRows(id));
                }
                self.free_end = end;
                self.free += count;
            }
            _ => return Err(Error::corrupt("inode", directory.0, "a record that a collection cannot have")),
        }
        Ok(())
    }

    pub(super) fn finish<H: BlockDevice + Data>(
        mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        inode: Ino,
    ) -> Result<()> {
        let Some((id, 0)) = collection_part(inode) else { return Ok(()) };
        let Some(collection) = self.record else {
            // Removed, and on its way out.
            let waits = state.absorb(records::orphan_kind(volume, inode))?.flatten().is_some();
            if waits {
                return Ok(());
            }
            state.cure(Cure::drop_inode(collection_matrix(id)))?;
            let finding = record(inode, "a collection without its record", 0);
            return state.contradiction(finding, Cure::drop_inode(inode));
        };
        if self.broken {
            // Said already, when it was loaded.
            return self.mend(state, id, &collection);
        }
        let loaded = load_collection(volume, id)?;
        let matrix = loaded.matrix();
        if loaded.number() != 0 {
            self.rows_of_matrix(volume, state, &loaded)?;
        }
        matrices::nothing_forgotten(volume, state, &loaded)?;
        matrices::whole_codebooks(volume, state, &loaded)?;
        if !exists(volume, Key::new(matrix, Kind::Inode, 0))? {
            let new =
                NewInode { kind: FileKind::Regular, permissions: 0, umask: 0, uid: 0, gid: 0, device: 0 };
            let new = InodeRecord::new(&new, inode, volume.superblock.written.into());
            let cure = Cure::put_inode(matrix, &new)?;
            state.contradiction(record(inode, "a collection without its matrix", 0), cure)?;
        }
        if self.blanks > 0 {
            state.report(Finding::Blanks { collection: inode.0, rows: self.blanks })?;
        }
        let pairs = [
            (Counted::Live, collection.live.get(), self.live),
            (Counted::Rows, collection.rows.get(), self.end),
        ];
        for (what, recorded, counted) in pairs {
            if recorded != counted {
                state.report(Finding::Count { inode: inode.0, what, recorded, counted })?;
            }
        }
        let all = self.live.checked_add(self.blanks).and_then(|sum| sum.checked_add(self.free));
        let end = self.end.max(self.blank_end).max(self.free_end);
        if all != Some(collection.frontier.get()) || end > collection.frontier.get() {
            let finding = record(inode, "rows are lost between live and free", collection.frontier.get());
            state.contradiction(finding, Cure::FreeRows(id))?;
        }
        Ok(())
    }

    // The number of the matrix that the record names.
    fn number(&self) -> u32 {
        self.behind.matrices.map_or(0, |matrices| matrices.number.get())
    }

    fn row_key(&self, id: CollectionId, row: u64) -> Key {
        Key::new(rows_at(id, self.number()), Kind::Row, row)
    }

    // The rows of a matrix that is not the collection's first, whose records lie at the matrix.
    fn rows_of_matrix<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        loaded: &LoadedCollection,
    ) -> Result<()> {
        let (from, to) = loaded.row_keys(0);
        let scanned = tree::scan(volume, from, to, &mut |key, value| {
            // What cannot be read is told when the matrix itself is looked at.
            if let Ok(found) = parse_exact::<RowRecord>(value, "row of collection", key.inode) {
                match self.row(volume, state, loaded.id, key, found) {
                    Err(error @ Error::Corrupt(_)) => {
                        state.contradiction(Finding::Damage { error }, Cure::Drop(key))?;
                    }
                    other => other?,
                }
            }
            Ok(true)
        });
        state.absorb(scanned).map(drop)
    }

    // A record that cannot be loaded: with counts as counted; if that is not what is wrong, nothing of it can be used.
    fn mend(&self, state: &mut State<'_>, id: CollectionId, collection: &CollectionRecord) -> Result<()> {
        let directory = collection_directory(id);
        let frontier = self.end.max(self.blank_end).max(self.free_end);
        let right = CollectionRecord {
            rows: U64::new(self.end),
            live: U64::new(self.live),
            frontier: U64::new(frontier),
            model_len: U16::new(0),
            ..*collection
        };
        let same = CollectionRecord { model_len: U16::new(0), ..*collection } == right;
        let settled = self.behind.matrices.is_none_or(|matrices| matrices.target.get() == 0);
        if same && settled && self.model_len == usize::from(collection.model_len.get()) {
            state.cure(Cure::drop_inode(numbered_matrix(id, self.number())))?;
            return state.cure(Cure::drop_inode(directory));
        }
        let key = Key::new(directory, Kind::Collection, 0);
        state.cure(Cure::Put(key, matrices::mended(&right, &self.behind)?))
    }

    // A piece of metadata: the next of a live row's, which together are a JSON object.
    fn metadata<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        id: CollectionId,
        key: Key,
        value: &[u8],
    ) -> Result<()> {
        let directory = Ino(key.inode);
        let row = key.offset >> 8;
        let before = self.piece.filter(|(piece, _)| *piece + 1 == key.offset && key.offset & 0xff != 0);
        let before = before.map_or(0, |(_, bytes)| bytes);
        let placed = records::check_metadata_piece(volume, id, key.offset, before, value).is_ok()
            && exists(volume, self.row_key(id, row))?;
        let whole =
            placed && (before > 0 || state.absorb(records::is_metadata(volume, id, row))? == Some(true));
        if !whole {
            let finding = record(directory, "metadata without a vector, or that is no JSON object", row);
            return state.contradiction(finding, Cure::Drop(key));
        }
        self.piece = Some((key.offset, before + value.len()));
        Ok(())
    }

    fn row<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        id: CollectionId,
        key: Key,
        row: &RowRecord,
    ) -> Result<()> {
        let directory = Ino(key.inode);
        let header = &row.header;
        if !header.known() || key.offset >= ROWS_MAX {
            return Err(Error::corrupt("row of collection", directory.0, "not a vector header, or no row"));
        }
        if let Some(collection) = &self.record {
            let same = header.dimensions == collection.dimensions
                && header.data_type == collection.element
                && header.compression == collection.codec;
            if !same {
                let finding = record(directory, "a row of another dimension, element or codec", key.offset);
                return state.contradiction(finding, Cure::Drop(key));
            }
        }
        let offset = u64::from(id.0) << 32 | u64::from(row.n.get());
        let vector = Key::new(Ino(header.file_inode.get()), Kind::Vector, offset);
        let back = tree::record::<_, VectorRecord>(volume, vector, "vector of inode");
        match state.absorb(back)? {
            None => return Ok(()),
            Some(Some(vector)) if vector.row.get() == key.offset && vector.vector_id == header.vector_id => {}
            Some(_) => {
                let finding = record(directory, "a row's file does not have that vector", key.offset);
                return state.contradiction(finding, Cure::Drop(key));
            }
        }
        self.live += 1;
        self.end = key.offset + 1;
        Ok(())
    }
}

fn exists<H: BlockDevice + Data>(volume: &Volume<H>, key: Key) -> Result<bool> {
    Ok(tree::find(volume, key, |_| Ok(()))?.is_some())
}
