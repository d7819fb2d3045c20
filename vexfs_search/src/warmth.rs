//! Whether pieces of a file that lie apart have to come from the disk, and many of them asked for at once if so.
//!
//! One after the other each would wait for the disk. To ask costs a system call a piece, which a search in memory would
//! feel: so it is done for the first search, and as long as searches wait.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

/// What a piece that is in memory takes at most, besides a nanosecond a byte.
const IN_MEMORY: Duration = Duration::from_micros(10);

/// Pieces that are asked for ahead of the one at work: FUSE takes no more advice while it has some 48 reads at hand.
const AHEAD: usize = 32;

/// Asks for pieces ahead of the one that is read.
#[derive(Default)]
pub(crate) struct Ahead<'a> {
    /// None if nothing need be asked for.
    file: Option<&'a File>,
    asked: usize,
}

impl Ahead<'_> {
    /// Comes to piece `number` of `count`; `place` gives where each is, and its length.
    #[inline(always)]
    pub(crate) fn come(
        &mut self,
        number: usize,
        count: usize,
        place: impl Fn(usize) -> Option<(u64, usize)>,
    ) {
        let Some(file) = self.file else { return };
        while self.asked < count.min(number + AHEAD) {
            ask(file, place(self.asked));
            self.asked += 1;
        }
    }
}

/// Reads of the file bring nothing that lies behind; its mappings are not touched by that.
pub(crate) fn apart(file: &File) {
    // Advice: without it more is read.
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
}

// Advice: without it the piece is read all the same.
fn ask(file: &File, place: Option<(u64, usize)>) {
    let Some((at, len)) = place else { return };
    let (Ok(at), Ok(len)) = (i64::try_from(at), i64::try_from(len)) else { return };
    let _ = posix_fadvise(file, at, len, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
}

/// What the last search of a file met.
#[derive(Debug)]
pub(crate) struct Warmth {
    cold: AtomicBool,
}

impl Warmth {
    /// Of a file that nothing is known of.
    pub(crate) const fn unknown() -> Self {
        Self { cold: AtomicBool::new(true) }
    }

    /// Begins to read pieces one after the other.
    pub(crate) fn ahead<'a>(&self, file: &'a File) -> Ahead<'a> {
        Ahead { file: self.cold.load(Ordering::Relaxed).then_some(file), asked: 0 }
    }

    /// So many pieces, of so many bytes together, were read in this time.
    pub(crate) fn learn(&self, time: Duration, pieces: usize, bytes: u64) {
        if let Ok(pieces @ 1..) = u32::try_from(pieces) {
            self.cold.store(time > IN_MEMORY * pieces + Duration::from_nanos(bytes), Ordering::Relaxed);
        }
    }
}
