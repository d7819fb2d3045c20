//! An index for a host that reads the volume itself: its file in memory, its candidates without their whole vectors.
//!
//! INVARIANT: what is taken into memory was checked, and nobody changes it there. The host compares the candidates whole,
//! as a search over the mapped files does, so that a score is exact whoever asked.

use std::path::PathBuf;

use super::bytes::ReadAt;
use super::format::{Identity, Opening, wrong};
use super::{Delta, Effort, Kind, StoredIndex};
use crate::error::Result;
use crate::metric::Metric;
use crate::query::Query;

/// What an index says of itself, without its rows: enough to choose among several.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Which kind it is.
    pub kind: Kind,
    /// How near it measures.
    pub metric: Metric,
    /// Rows in it.
    pub rows: u64,
    /// How many leaves it has.
    pub leaves: usize,
    /// What its searches find at which effort, least effort first.
    pub efforts: Vec<Effort>,
    /// The time of opening it when it was built, in nanoseconds.
    pub open_ns: u64,
    /// The time of an exact search then.
    pub exact_ns: u64,
}

impl Summary {
    /// Reads it of the file with these bytes, which is the index of this kind of that collection; `path` is for messages.
    ///
    /// # Errors
    /// As [`StoredIndex::open`].
    pub fn read(path: PathBuf, source: &dyn ReadAt, (kind, owner): (Kind, Identity)) -> Result<Self> {
        let Opening { head, places, efforts, .. } = Opening::read(&path, source)?;
        if head.identity != owner {
            return Err(wrong(&path, "is of another collection"));
        }
        if head.kind != kind {
            return Err(wrong(&path, "is of another kind"));
        }
        let (metric, rows, leaves) = (head.metric, head.indexed, places.len());
        Ok(Self { kind, metric, rows, leaves, efforts, open_ns: head.open_ns, exact_ns: head.exact_ns })
    }
}

/// Rows among which the nearest are, to be compared whole.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Ascending, each once. Those that changed since the index was built are all among them.
    pub rows: Vec<u64>,
    /// Leaves that were looked at.
    pub leaves: usize,
    /// Nodes of a graph that were entered.
    pub nodes: usize,
    /// Bytes of the index that were read, without those read at opening.
    pub index_bytes: u64,
}

/// Finds out what changed since an index was built, from the rows as they are.
pub struct Comparison {
    /// The numbers of the vectors by row, as the index knows them.
    ids: Vec<u64>,
    next: usize,
    delta: Delta,
}

impl Comparison {
    /// Shows a live row and the number of its vector. Rows are shown in ascending order; one that is left out is free.
    pub fn row(&mut self, row: u64, id: u64) {
        let index = usize::try_from(row).unwrap_or(usize::MAX);
        self.free_until(index);
        self.next = index.saturating_add(1);
        let before = self.ids.get(index).copied().unwrap_or(0);
        if before == id {
            return;
        }
        if before != 0 {
            self.delta.gone.insert(index);
        }
        if id != 0 {
            self.delta.changed.push(row);
        }
    }

    // The rows before this one that were not shown.
    fn free_until(&mut self, end: usize) {
        for index in self.next..end.min(self.ids.len()) {
            if self.ids[index] != 0 {
                self.delta.gone.insert(index);
            }
        }
    }

    /// What changed; there is no further live row.
    pub fn finish(mut self) -> Delta {
        self.free_until(usize::MAX);
        self.delta
    }
}

impl StoredIndex {
    /// Takes the index with these bytes into memory, checked; `path` is for messages. What it is of, [`Summary::read`] tells.
    ///
    /// # Errors
    /// A file that is damaged, cut off or of another version; what the host refuses.
    pub fn take(path: PathBuf, source: &dyn ReadAt) -> Result<Self> {
        Self::taken(path, source)
    }

    /// Bytes of memory that it takes while it is open.
    pub fn memory_bytes(&self) -> usize {
        let floats = (self.centres.capacity() + self.squares.capacity()) * size_of::<f32>();
        let records = self.records.as_ref().map_or(0, Vec::capacity);
        let opened = self.opening_bytes().saturating_sub(self.head.table_end());
        self.bytes.memory() + floats + records + opened as usize
    }

    /// The rows among which the `k` nearest are, but for what the effort misses.
    ///
    /// # Errors
    /// Damage of the index; a query of another metric or dimension than it is for.
    pub fn candidates(&self, query: &Query, k: usize, delta: &Delta, effort: &Effort) -> Result<Candidates> {
        self.among(query, (k, None), delta, effort, None)
    }

    /// Begins to compare it with the rows as they are.
    ///
    /// # Errors
    /// Damage of the index.
    pub fn comparison(&self) -> Result<Comparison> {
        Ok(Comparison { ids: self.ids()?, next: 0, delta: Delta::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_whether_rows_went_came_or_moved() {
        let ids = vec![1, 2, 0, 4, 5, 6];
        let mut comparison = Comparison { ids, next: 0, delta: Delta::default() };
        // Row 1 has another vector, 2 came, 3 went, 4 stayed, 5 went; 7 lies behind the index.
        for (row, id) in [(0, 1), (1, 9), (2, 8), (4, 5), (7, 6)] {
            comparison.row(row, id);
        }
        let delta = comparison.finish();
        assert_eq!(delta.gone.iter().collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(delta.changed, [1, 2, 7]);
        let none = Comparison { ids: vec![1, 0], next: 0, delta: Delta::default() }.finish();
        assert_eq!((none.gone(), none.changed()), (1, 0));
    }
}
