//! `generation.npy`: 512 numbers that tell whoever mapped or opened it what changed.
//!
//! The first is the generation: every change up to it is seen in the other columns. The second is the generation that changes
//! under way raise it to, of which some may be seen already. Then the last 510 changes: the one that
//! raised the generation to `g` is number `2 + g % 510`, its upper half the low 32 bits of `g`, the lower the row that it was of; all
//! bits are set where it was of no single row, or is not known.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::GENERATION;
use super::column::put_entry;
use crate::device::{BlockDevice, Data};
use crate::error::Result;
#[cfg(test)]
use crate::format::collection_directory;
use crate::format::{MATRIX_DATA, collection_part};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::operations::LoadedCollection as Loaded;
use crate::volume::{Raised, Volume, recent};

/// How many numbers it has.
pub(super) const ENTRIES: usize = 2 + recent::CHANGES;
/// Bytes of the data.
pub(crate) const LEN: u64 = (ENTRIES * size_of::<u64>()) as u64;

/// The numbers as the volume has them; a host holds the first back with [`Told`].
pub(super) fn numbers<H: BlockDevice + Data>(volume: &Volume<H>, loaded: &Loaded) -> Result<Vec<u64>> {
    let mut numbers = memory::filled(ENTRIES, recent::UNKNOWN)?;
    numbers[..2].fill(loaded.record.changes.get());
    if let Some(changes) = volume.recent.changes(loaded.id) {
        numbers[2..].copy_from_slice(changes);
    }
    Ok(numbers)
}

/// True of a `generation.npy`, which a host is to tell its cache of before and after all other columns.
pub fn is_generation(inode: Ino) -> bool {
    generation_of(inode).is_some()
}

fn generation_of(inode: Ino) -> Option<CollectionId> {
    collection_part(inode).filter(|(_, part)| *part == GENERATION).map(|(id, _)| id)
}

/// What a host's page cache is still to be told of: holds generations back until it was told of what they count.
///
/// A change is counted by the volume before the host's cache drops what it has of the columns. The host calls [`begin`](Self::begin) with
/// what was [raised](Volume::raised) while it still holds the volume; drops its page of `generation.npy`; drops those of the other columns;
/// calls [`end`](Self::end); and drops that of `generation.npy` once more. What it reads of it goes through [`show`](Self::show).
#[derive(Debug, Default)]
pub struct Told {
    untold: Vec<Raised>,
}

impl Told {
    /// Notes what is still to be told. Without memory it is shown too early.
    pub fn begin(&mut self, raised: &[Raised]) {
        if memory::reserve(&mut self.untold, raised.len()).is_ok() {
            raised.iter().for_each(|raised| memory::append(&mut self.untold, *raised));
        }
    }

    /// Notes that it was told.
    pub fn end(&mut self, raised: &[Raised]) {
        for told in raised {
            if let Some(place) = self.untold.iter().position(|untold| untold == told) {
                self.untold.swap_remove(place);
            }
        }
    }

    /// Puts the generation that may be shown into `bytes`, which were read of `inode` at `offset` while the volume is still held.
    pub fn show(&self, inode: Ino, offset: u64, bytes: &mut [u8]) {
        let Some(id) = generation_of(inode) else { return };
        let untold = self.untold.iter().filter(|untold| untold.id == id);
        if let Some(shown) = untold.map(|untold| untold.before).min() {
            put_entry(shown.as_bytes(), MATRIX_DATA, offset, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_before_what_is_untold_is_shown() {
        let id = CollectionId(2);
        let inode = Ino(collection_directory(id).0 + GENERATION);
        let mut told = Told::default();
        let shown = |told: &Told| {
            let mut bytes = 99_u64.to_le_bytes();
            told.show(inode, MATRIX_DATA, &mut bytes);
            u64::from_le_bytes(bytes)
        };
        let [first, second] = [5, 8].map(|before| Raised { id, before });
        assert_eq!(shown(&told), 99);
        told.begin(&[first, Raised { id: CollectionId(3), before: 1 }]);
        told.begin(&[second]);
        assert_eq!(shown(&told), 5);
        // They may be told in any order.
        told.end(&[second]);
        assert_eq!(shown(&told), 5);
        told.begin(&[second]);
        told.end(&[first]);
        assert_eq!(shown(&told), 8);
        told.end(&[second]);
        assert_eq!(shown(&told), 99);
        // A part of the file, and another one.
        told.begin(&[first]);
        let mut bytes = [9; 4];
        told.show(inode, MATRIX_DATA + 4, &mut bytes);
        assert_eq!(bytes, [0; 4]);
        told.show(Ino(inode.0 - 1), MATRIX_DATA, &mut bytes);
        told.show(inode, MATRIX_DATA + 8, &mut bytes[..2]);
        assert_eq!(bytes, [0; 4]);
    }
}
