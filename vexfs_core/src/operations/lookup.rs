//! Vectors by row and by id, for programs that use the core as a library.

use alloc::vec::Vec;

use super::vector::read_row;
use super::{collection, metadata};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::RowRecord;
use crate::numbers::CollectionId;
use crate::tree;
use crate::volume::Volume;

impl<H: BlockDevice + Data> Volume<H> {
    /// The header of a row; `None` where the row holds no vector: removed, or never used.
    pub fn row(&self, id: CollectionId, row: u64) -> Result<Option<RowRecord>> {
        match collection::load(self, id) {
            Ok(loaded) => tree::record(self, loaded.row_key(row), "row of collection"),
            Err(Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// True if a row holds no vector (any more): what `valid.npy` shows as False.
    pub fn is_deleted(&self, id: CollectionId, row: u64) -> Result<bool> {
        self.row(id, row).map(|record| record.is_none())
    }

    /// The vector in a row, checked against its CRC-32: its raw little-endian elements, whatever codec stores them.
    ///
    /// # Errors
    /// `NotFound` where the row holds none; `VectorChecksum` for damaged bytes.
    pub fn vector(&self, id: CollectionId, row: u64) -> Result<Vec<u8>> {
        let record = self.row(id, row)?.ok_or(Error::NotFound)?;
        read_row(self, self, &collection::load(self, id)?, row, &record)
    }

    /// The metadata of the vector in a row; `None` where it has none.
    pub fn metadata_of(&self, id: CollectionId, row: u64) -> Result<Option<Vec<u8>>> {
        metadata::of_row(self, id, row)
    }

    /// The row of the vector with this id, by a scan over the collection's headers.
    pub fn row_of_id(&self, id: CollectionId, vector_id: u64) -> Result<Option<u64>> {
        let mut found = None;
        self.rows_of(id, 0, &mut |row, record| {
            if record.header.vector_id.get() == vector_id {
                found = Some(row);
            }
            found.is_none()
        })?;
        Ok(found)
    }
}
