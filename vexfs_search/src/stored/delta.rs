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

    /// Looks again at a row that had the vector `before` in the index and has `now`, 0 for none.
    pub(crate) fn follow(&mut self, row: u64, before: u64, now: u64) {
        if before != 0 && now != before {
            self.gone.insert(row as usize);
        }
        let place = self.changed.iter().position(|changed| *changed == row);
        match (place, now != 0 && now != before) {
            (Some(place), false) => {
                self.changed.swap_remove(place);
            }
            (None, true) => self.changed.push(row),
            _ => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_followed_wherever_it_goes() {
        let mut delta = Delta::default();
        let mut follow = |row, before, now| {
            delta.follow(row, before, now);
            (delta.gone.iter().collect::<Vec<_>>(), delta.changed.clone())
        };
        // As it was; another vector; none; one that the index never had, and that goes.
        assert_eq!(follow(3, 7, 7), (vec![], vec![]));
        assert_eq!(follow(3, 7, 9), (vec![3], vec![3]));
        assert_eq!(follow(3, 7, 11), (vec![3], vec![3]));
        assert_eq!(follow(3, 7, 0), (vec![3], vec![]));
        assert_eq!(follow(5, 0, 12), (vec![3], vec![5]));
        assert_eq!(follow(5, 0, 0), (vec![3], vec![]));
    }
}
