//! `generation.npy`, kept open: which rows changed, without a look at all of them.
//!
//! The kernel keeps the file's page, and drops it before and after the host tells it of a change of the other columns: what is read
//! of it is true, and costs a call of the system. But a page of another column that was in no memory can show a change a moment before that
//! page does; behind a search the host itself is asked, past the kernel's cache (`O_DIRECT`).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::column::read_up_to;
use crate::npy::Header;

/// Changes that it tells of.
const CHANGES: usize = 510;
/// Numbers before them: the generation, and the one that changes under way raise it to.
const NUMBERS: usize = 2;
/// How long a change is under way at most; a host that was killed never ends it.
const UNDER_WAY: Duration = Duration::from_millis(200);

/// The file.
#[derive(Debug)]
pub(crate) struct Generation {
    file: File,
    /// The same, read past the kernel's cache; none where that cannot be done.
    host: Option<File>,
    data: u64,
}

/// Who is asked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Ask {
    /// The kernel's cache: enough to begin with.
    Cache,
    /// The host: behind a search.
    Host,
}

/// What changed since a generation.
#[derive(Debug, PartialEq)]
pub(crate) enum Since {
    /// Nothing.
    Nothing,
    /// These rows, ascending, up to that generation.
    Rows(u64, Vec<u64>),
    /// More than is told of.
    Much,
}

impl Generation {
    /// None of files that were copied from a volume without it.
    pub(crate) fn open(directory: &Path) -> Option<Self> {
        let path = directory.join("generation.npy");
        let file = File::open(&path).ok()?;
        let mut head = [0; 4096];
        let len = read_up_to(&file, &mut head).ok()?;
        let header = Header::parse(&head[..len]).ok()?;
        if header.descr != "<u8" || header.shape != [(NUMBERS + CHANGES) as u64] {
            return None;
        }
        let host = OpenOptions::new().read(true).custom_flags(OFlag::O_DIRECT.bits()).open(&path).ok();
        let mut generation = Self { file, host, data: header.data as u64 };
        if generation.read::<2>(Ask::Host).is_none() {
            generation.host = None;
        }
        Some(generation)
    }

    /// Every change up to this one is seen in the other columns. None once the file is gone.
    pub(crate) fn told(&self) -> Option<u64> {
        self.read::<1>(Ask::Cache).map(|[told]| told)
    }

    /// What changed since `known`, changes that are under way included: they are waited for.
    pub(crate) fn since(&self, known: u64, ask: Ask) -> Since {
        let Some([told, wanted]) = self.read(ask) else { return Since::Much };
        if told == known && wanted == known {
            return Since::Nothing;
        }
        let begun = Instant::now();
        loop {
            match self.read::<{ NUMBERS + CHANGES }>(ask) {
                Some(numbers) if numbers[0] >= wanted => return rows(&numbers, known),
                Some(_) if begun.elapsed() < UNDER_WAY => thread::yield_now(),
                _ => return Since::Much,
            }
        }
    }

    fn read<const N: usize>(&self, ask: Ask) -> Option<[u64; N]> {
        let mut bytes = [[0; 8]; N];
        let file = self.host.as_ref().filter(|_| ask == Ask::Host).unwrap_or(&self.file);
        file.read_exact_at(bytes.as_flattened_mut(), self.data).ok()?;
        Some(bytes.map(u64::from_le_bytes))
    }
}

// Numbers of changes tell those that are known from those that took their place.
fn rows(numbers: &[u64; NUMBERS + CHANGES], known: u64) -> Since {
    let told = numbers[0];
    let Some(count) = told.checked_sub(known).filter(|count| *count <= CHANGES as u64) else {
        return Since::Much;
    };
    let mut rows = Vec::with_capacity(count as usize);
    for change in known + 1..=told {
        let entry = numbers[NUMBERS + (change % CHANGES as u64) as usize];
        if entry == u64::MAX || entry >> 32 != change & u64::from(u32::MAX) {
            return Since::Much;
        }
        rows.push(entry & u64::from(u32::MAX));
    }
    rows.sort_unstable();
    rows.dedup();
    if rows.is_empty() { Since::Nothing } else { Since::Rows(told, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(told: u64, changes: impl IntoIterator<Item = (u64, u64)>) -> [u64; NUMBERS + CHANGES] {
        let mut numbers = [u64::MAX; NUMBERS + CHANGES];
        numbers[..2].fill(told);
        for (change, row) in changes {
            numbers[NUMBERS + (change % CHANGES as u64) as usize] = change << 32 | row;
        }
        numbers
    }

    #[test]
    fn rows_are_those_of_the_changes_between() {
        let high = u64::from(u32::MAX) + 600;
        let told = |at: u64| numbers(at, (at - 509..=at).map(|change| (change, change % 7)));
        assert_eq!(rows(&told(high), high), Since::Nothing);
        assert_eq!(rows(&told(high), high - 1), Since::Rows(high, vec![high % 7]));
        assert_eq!(rows(&told(high), high - 510), Since::Rows(high, (0..7).collect()));
        // More than are kept, or a generation that was never there.
        assert_eq!(rows(&told(high), high - 511), Since::Much);
        assert_eq!(rows(&told(high), high + 1), Since::Much);
        // One of no single row, and one that a change which was undone took the place of.
        assert_eq!(rows(&numbers(9, [(7, 1), (9, 3)]), 6), Since::Much);
        assert_eq!(rows(&numbers(9, [(7, 1), (8, 2), (9, 3)]), 6), Since::Rows(9, vec![1, 2, 3]));
        assert_eq!(rows(&numbers(9, [(7, 1), (8 + 510, 2), (9, 3)]), 6), Since::Much);
    }
}
