//! Where the bytes of an index file are: in a file, in memory while it is built, or with a host that reads them its own way.
//!
//! INVARIANT: what is behind the end is an error of the kind `UnexpectedEof`, never zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::warmth::{Ahead, Warmth};

/// The bytes of an index file, for a host that reads them off its own disk.
pub trait ReadAt {
    /// How many there are.
    ///
    /// # Errors
    /// What the host refuses.
    fn size(&self) -> io::Result<u64>;

    /// Fills the buffer with those from `at` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if there are fewer; what the host refuses.
    fn read_into(&self, at: u64, bytes: &mut [u8]) -> io::Result<()>;
}

/// The first `len` bytes from `at` on.
pub(super) fn read(source: &dyn ReadAt, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    source.read_into(at, &mut bytes)?;
    Ok(bytes)
}

/// Where an index that is open finds what it did not take at opening.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In a file.
    File(File, Warmth),
    /// In memory: a part of the file, which begins at `start`.
    Memory {
        /// Where in the file it begins.
        start: u64,
        /// What is there.
        bytes: Vec<u8>,
    },
}

impl Bytes {
    /// A whole file's.
    pub(super) const fn whole(bytes: Vec<u8>) -> Self {
        Self::Memory { start: 0, bytes }
    }

    /// Begins to read pieces one after the other.
    pub(super) fn ahead(&self) -> Ahead<'_> {
        match self {
            Self::File(file, warmth) => warmth.ahead(file),
            Self::Memory { .. } => Ahead::default(),
        }
    }

    /// So many pieces, of so many bytes together, were read in this time.
    pub(super) fn learn(&self, time: Duration, pieces: usize, bytes: u64) {
        if let Self::File(_, warmth) = self {
            warmth.learn(time, pieces, bytes);
        }
    }

    /// Bytes of memory that they take.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::File(..) => 0,
            Self::Memory { bytes, .. } => bytes.capacity(),
        }
    }
}

impl ReadAt for Bytes {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::File(file, _) => Ok(file.metadata()?.len()),
            Self::Memory { start, bytes } => Ok(start + bytes.len() as u64),
        }
    }

    fn read_into(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.read_exact_at(bytes, at),
            Self::Memory { start, bytes: all } => {
                let there = || {
                    let from = usize::try_from(at.checked_sub(*start)?).ok()?;
                    all.get(from..from.checked_add(bytes.len())?)
                };
                bytes.copy_from_slice(there().ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }
}
