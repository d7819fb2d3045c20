//! An index in memory, and what changed in its collection since it was built.
//!
//! INVARIANT: what changed is told as of a count of the collection's changes, and holds for as long as that stays the same.

use std::sync::{Arc, Mutex, PoisonError};

use vexfs_core::Result;
use vexfs_core::numbers::CollectionId;
use vexfs_search::stored::{Delta, StoredIndex};

use super::index_file::Stamp;
use super::source::Source;

/// Rows that are compared at one look at the volume.
const ROWS_A_LOOK: u32 = 4096;
/// Attempts at a moment in which the collection does not change.
const ATTEMPTS: u32 = 4;

/// An index that many ask.
pub(super) struct Held {
    pub(super) index: StoredIndex,
    /// Its file.
    pub(super) stamp: Stamp,
    /// What changed, as of this count of changes. Who comes while it is found out waits for it.
    compared: Mutex<Option<(u64, Arc<Delta>)>>,
}

/// What changed since an index was built.
pub(super) enum Compared {
    /// As of this count of the collection's changes.
    AsOf(u64, Arc<Delta>),
    /// The collection changes faster than it can be found out.
    Moving,
    /// The index is damaged.
    Damaged(String),
}

impl Held {
    /// Not compared yet.
    pub(super) fn new(index: StoredIndex, stamp: Stamp) -> Self {
        Self { index, stamp, compared: Mutex::new(None) }
    }

    /// Finds out what changed, unless that is known.
    pub(super) fn compare(&self, source: &impl Source, id: CollectionId) -> Result<Compared> {
        let changes = || source.look(|volume| Ok(volume.collection(id)?.changes));
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..ATTEMPTS {
            let before = changes()?;
            if let Some((_, delta)) = compared.as_ref().filter(|(known, _)| *known == before) {
                return Ok(Compared::AsOf(before, Arc::clone(delta)));
            }
            let delta = match before == self.index.generation() {
                true => Delta::default(),
                false => match self.delta(source, id)? {
                    Ok(delta) => delta,
                    Err(damage) => return Ok(Compared::Damaged(damage)),
                },
            };
            if changes()? == before {
                *compared = Some((before, Arc::new(delta)));
            }
        }
        Ok(Compared::Moving)
    }

    // What differs between the index and the rows as they are; what is wrong with the index, if it is.
    fn delta(&self, source: &impl Source, id: CollectionId) -> Result<std::result::Result<Delta, String>> {
        let mut comparison = match self.index.comparison() {
            Ok(comparison) => comparison,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let mut next = Some(0);
        while let Some(from) = next {
            next = source.look(|volume| {
                let (mut left, mut next) = (ROWS_A_LOOK, None);
                volume.rows_of(id, from, &mut |row, record| {
                    if left == 0 {
                        next = Some(row);
                        return false;
                    }
                    left -= 1;
                    comparison.row(row, record.header.vector_id.get());
                    true
                })?;
                Ok(next)
            })?;
        }
        Ok(Ok(comparison.finish()))
    }
}
