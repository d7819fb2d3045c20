//! A collection's rows: every row below the frontier is live, waits to be blanked, or is free, and just one of them.

use super::finding::Counted;
use super::inodes::record;
use super::{Finding, State};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    BlankRecord, CollectionRecord, FreeRowsRecord, Key, Kind, RowRecord, VectorRecord, collection_part,
    parse, parse_exact,
};
use crate::numbers::{CollectionId, Ino};
use crate::operations::records;
use crate::tree;
use crate::volume::Volume;

/// What was seen of one collection.
#[derive(Default)]
pub(super) struct Rows {
    record: Option<CollectionRecord>,
    live: u64,
    end: u64,
    blanks: u64,
    free: u64,
    free_end: u64,
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
        let Some((id, 0)) = collection_part(directory) else {
            return Err(Error::corrupt("inode", directory.0, "rows outside a collection"));
        };
        match kind {
            Kind::Collection => {
                let (found, _): (&CollectionRecord, _) = parse(value, "collection", directory.0)?;
                self.record = Some(*found);
                state.report.collections += 1;
                // Loading checks every number in it.
                state.absorb(volume.collection(id))?;
                if state.absorb(volume.collection_name(id))?.is_none() {
                    return Ok(());
                }
            }
            Kind::Row => {
                self.row(volume, state, id, key, parse_exact(value, "row of collection", directory.0)?)?
            }
            Kind::Blank => {
                let blank: &BlankRecord = parse_exact(value, "collection", directory.0)?;
                self.blanks += 1;
                let live = exists(volume, Key::new(directory, Kind::Row, key.offset))?;
                if live || blank.generation.get() > volume.newest_generation() {
                    state.report(record(
                        directory,
                        "a freed row is live, or freed in the future",
                        key.offset,
                    ))?;
                }
            }
            _ => {
                let run: &FreeRowsRecord = parse_exact(value, "collection", directory.0)?;
                let end = key.offset.checked_add(run.count.get()).filter(|_| run.count.get() > 0);
                let end =
                    end.ok_or(Error::corrupt("collection", directory.0, "an impossible run of free rows"))?;
                let within = |kind| (Key::new(directory, kind, key.offset), Key::new(directory, kind, end));
                for kind in [Kind::Row, Kind::Blank] {
                    let (from, to) = within(kind);
                    if tree::first(volume, from, to)?.is_some() {
                        state.report(record(directory, "a free row is in use", key.offset))?;
                    }
                }
                if key.offset < self.free_end {
                    state.report(record(directory, "runs of free rows overlap", key.offset))?;
                }
                self.free_end = end;
                self.free += run.count.get();
            }
        }
        Ok(())
    }

    pub(super) fn finish<H: BlockDevice + Data>(
        self,
        volume: &Volume<H>,
        state: &mut State<'_>,
        inode: Ino,
    ) -> Result<()> {
        let Some((_, 0)) = collection_part(inode) else { return Ok(()) };
        let Some(collection) = self.record else {
            // Removed, and on its way out.
            let waits = state.absorb(records::orphan_kind(volume, inode))?.flatten().is_some();
            return if waits {
                Ok(())
            } else {
                state.report(record(inode, "a collection without its record", 0))
            };
        };
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
        if all != Some(collection.frontier.get()) {
            state.report(record(inode, "rows are lost between live and free", collection.frontier.get()))?;
        }
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
        self.live += 1;
        self.end = key.offset.saturating_add(1);
        let header = &row.header;
        if !header.known() {
            return Err(Error::corrupt("row of collection", directory.0, "not a vector header"));
        }
        if let Some(collection) = &self.record {
            let same = header.dimensions == collection.dimensions
                && header.data_type == collection.element
                && header.compression == collection.codec;
            if !same {
                state.report(record(
                    directory,
                    "a row of another dimension, element or codec",
                    key.offset,
                ))?;
            }
        }
        let offset = u64::from(id.0) << 32 | u64::from(row.n.get());
        let vector = Key::new(Ino(header.file_inode.get()), Kind::Vector, offset);
        let back = tree::record::<_, VectorRecord>(volume, vector, "vector of inode");
        match state.absorb(back)? {
            None => Ok(()),
            Some(Some(vector)) if vector.row.get() == key.offset && vector.vector_id == header.vector_id => {
                Ok(())
            }
            Some(_) => state.report(record(directory, "a row's file does not have that vector", key.offset)),
        }
    }
}

fn exists<H: BlockDevice + Data>(volume: &Volume<H>, key: Key) -> Result<bool> {
    Ok(tree::find(volume, key, |_| Ok(()))?.is_some())
}
