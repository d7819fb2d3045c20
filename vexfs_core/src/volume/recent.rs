//! Which row each of a collection's last changes was of: so that who follows a collection looks at those and not at all.
//!
//! Kept in memory since the mount, of the collections that changed last; `generation.npy` shows it.
//!
//! INVARIANT: whoever raises a generation notes it here. An entry carries the number of its change: what a transaction noted that
//! was undone is overwritten by the change that gets its number, and is no other's until then.

use alloc::vec::Vec;
use core::ops::Range;

use super::{Event, Volume};
use crate::memory;
use crate::numbers::CollectionId;

/// Changes of a collection that are known.
pub(crate) const CHANGES: usize = 510;
/// Collections whose changes are known, those that changed last.
const COLLECTIONS: usize = 16;
/// No row is known.
pub(crate) const UNKNOWN: u64 = u64::MAX;

/// The last changes of a collection: the one that raised the generation to `g` at `g % CHANGES`, as the low 32 bits of `g`
/// above the row, or `UNKNOWN`.
#[derive(Debug)]
struct Recent {
    id: CollectionId,
    changes: Vec<u64>,
}

/// A collection whose generation rose, from this one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    /// Which one.
    pub id: CollectionId,
    /// The generation before.
    pub before: u64,
}

/// What changed last in collections.
#[derive(Debug, Default)]
pub(crate) struct Recents {
    all: Vec<Recent>,
    /// Since the host took them.
    raised: Vec<Raised>,
}

impl Recents {
    /// Notes that the generation of a collection rises from `before` by one for each of these rows.
    pub(crate) fn note_rows(&mut self, id: CollectionId, before: u64, rows: Range<u64>) {
        self.raise(id, before);
        let count = rows.end.saturating_sub(rows.start);
        for number in count.saturating_sub(CHANGES as u64)..count {
            let generation = before.wrapping_add(number + 1);
            let row = u32::try_from(rows.start + number).ok().filter(|row| *row != u32::MAX);
            self.note(id, generation, row.map_or(UNKNOWN, |row| generation << 32 | u64::from(row)));
        }
    }

    /// Notes that the generation of a collection rises from `before` by one, for all of it.
    pub(crate) fn note_all(&mut self, id: CollectionId, before: u64) {
        self.raise(id, before);
        self.note(id, before.wrapping_add(1), UNKNOWN);
    }

    /// The changes of a collection, if any are known.
    pub(crate) fn changes(&self, id: CollectionId) -> Option<&[u64]> {
        self.all.iter().find(|recent| recent.id == id).map(|recent| &recent.changes[..])
    }

    /// What was raised since the last call.
    pub(crate) fn take_raised(&mut self) -> Vec<Raised> {
        core::mem::take(&mut self.raised)
    }

    // Without memory it is told too early.
    fn raise(&mut self, id: CollectionId, before: u64) {
        if !self.raised.iter().any(|raised| raised.id == id) {
            let _ = memory::push(&mut self.raised, Raised { id, before });
        }
    }

    // Without memory nothing is known, which is right, too.
    fn note(&mut self, id: CollectionId, generation: u64, entry: u64) {
        let all = &mut self.all;
        match all.iter().rposition(|recent| recent.id == id) {
            Some(place) => all[place..].rotate_left(1),
            None => {
                let Ok(changes) = memory::filled(CHANGES, UNKNOWN) else { return };
                if all.len() >= COLLECTIONS {
                    all.remove(0);
                }
                if memory::push(all, Recent { id, changes }).is_err() {
                    return;
                }
            }
        }
        if let Some(last) = all.last_mut() {
            last.changes[(generation % CHANGES as u64) as usize] = entry;
        }
    }
}

impl<H> Volume<H> {
    /// Takes what changed under the host's caches since the last call.
    ///
    /// The host invalidates it after it released its lock, before it answers the caller.
    pub fn events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    /// Collections whose generation rose since the last call, to be held back until what changed is told:
    /// [`Told`](crate::control::Told).
    pub fn raised(&mut self) -> Vec<Raised> {
        self.recent.take_raised()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: CollectionId = CollectionId(3);

    #[test]
    fn each_change_has_its_place_and_number() {
        let mut recents = Recents::default();
        assert_eq!(recents.changes(ID), None);
        recents.note_rows(ID, 508, 7..10);
        let known = recents.changes(ID).unwrap();
        assert_eq!((known[509], known[0], known[1]), (509 << 32 | 7, 510 << 32 | 8, 511 << 32 | 9));
        assert_eq!(known.iter().filter(|entry| **entry != UNKNOWN).count(), 3);
        recents.note_all(ID, 1019);
        assert_eq!(recents.changes(ID).unwrap()[0], UNKNOWN);
        // More at once than are kept; rows that do not fit.
        recents.note_rows(ID, 1 << 40, 0..5000);
        let known = recents.changes(ID).unwrap();
        let last = (1_u64 << 40) + 5000;
        assert_eq!(known[(last % 510) as usize], last << 32 | 4999);
        assert_eq!(known[((last - 509) % 510) as usize], (last - 509) << 32 | 4490);
        recents.note_rows(ID, 5, (1 << 32) - 1..(1 << 32) + 1);
        assert_eq!(&recents.changes(ID).unwrap()[6..8], [UNKNOWN, UNKNOWN]);
    }

    #[test]
    fn those_that_changed_last_are_kept() {
        let mut recents = Recents::default();
        (0..COLLECTIONS as u32).for_each(|id| recents.note_rows(CollectionId(id), 0, 0..1));
        recents.note_rows(CollectionId(0), 1, 4..5);
        recents.note_rows(CollectionId(99), 0, 0..1);
        assert!(recents.changes(CollectionId(1)).is_none());
        assert_eq!(recents.changes(CollectionId(0)).unwrap()[..3], [UNKNOWN, 1 << 32, 2 << 32 | 4]);
        assert_eq!(recents.all.len(), COLLECTIONS);
    }

    #[test]
    fn the_generation_before_all_that_is_untold_is_kept() {
        let mut recents = Recents::default();
        recents.note_rows(ID, 7, 0..2);
        recents.note_all(ID, 9);
        recents.note_all(CollectionId(4), 1);
        let raised = recents.take_raised();
        assert_eq!(raised, [Raised { id: ID, before: 7 }, Raised { id: CollectionId(4), before: 1 }]);
        assert!(recents.take_raised().is_empty());
    }
}
