//! What changed in a collection since its index was built.

use crate::error::Result;
use crate::headers::Headers;
use crate::nearest::RowSet;

/// The rows that an index is wrong about. A vector's number is never used again, and changes with every setting: so a row
/// is as it was exactly if its number is.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Rows of the index that hold another vector now, or none.
    pub(super) gone: RowSet,
    /// Live rows that the index does not have as they are.
    pub(super) changed: Vec<u64>,
}

impl Delta {
    /// Compares the numbers in an index with those of the first `rows` rows of a collection.
    pub(super) fn between(ids: &[u64], headers: &Headers, rows: usize) -> Result<Self> {
        let mut delta = Self::default();
        let mut seen = 0;
        headers.each_vector_id(|row, now| {
            let index = row as usize;
            seen = index + 1;
            let before = ids.get(index).copied().unwrap_or(0);
            if now == before {
                return;
            }
            if before != 0 {
                delta.gone.insert(index);
            }
            if now != 0 && index < rows {
                delta.changed.push(row);
            }
        })?;
        // The collection has become shorter.
        let behind = ids.iter().enumerate().skip(seen).filter(|(_, id)| **id != 0);
        behind.for_each(|(row, _)| delta.gone.insert(row));
        Ok(delta)
    }

    /// True if the index is right about every row.
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.changed.is_empty()
    }

    /// Rows that are searched exactly.
    pub fn changed(&self) -> usize {
        self.changed.len()
    }

    /// Rows of the index that are never found.
    pub fn gone(&self) -> usize {
        self.gone.len()
    }
}
