//! The headers of a collection's rows: whose they are, and which vectors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::column::read_up_to;
use crate::error::{Error, Result};
use crate::npy::Header;

/// `headers.npy`, read a row at a time, never mapped.
#[derive(Debug)]
pub struct Headers {
    path: PathBuf,
    file: File,
    data: u64,
    rows: u64,
}

impl Headers {
    /// Bytes of a header.
    const SIZE: u64 = 64;
    /// Where in it the vector's id and the inode of the file are.
    const VECTOR_ID: u64 = 8;
    pub(crate) const FILE_INODE: u64 = 16;
    /// Headers that are read at once.
    const BATCH: u64 = 4096;

    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("headers.npy");
        let io = |source| Error::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        let mut head = [0; 4096];
        let len = read_up_to(&file, &mut head).map_err(io)?;
        let wrong = |why| Error::Format { path: path.clone(), why };
        let header = Header::parse(&head[..len]).map_err(wrong)?;
        let [rows] = header.shape[..] else { return Err(wrong("is no one-dimensional array".into())) };
        Ok(Self { data: header.data as u64, rows, file, path })
    }

    /// The inode of the file that the row belongs to; 0 of a free row, or one past the end.
    pub fn file_inode(&self, row: u64) -> Result<u64> {
        if row >= self.rows {
            return Ok(0);
        }
        self.number(self.data + row * Self::SIZE + Self::FILE_INODE)
    }

    /// The number of the vector in the row, which no other vector ever has; 0 of a free row, or one past the end.
    pub fn vector_id(&self, row: u64) -> Result<u64> {
        if row >= self.rows {
            return Ok(0);
        }
        self.number(self.data + row * Self::SIZE + Self::VECTOR_ID)
    }

    /// Shows row and number of the vector in each row, 0 of a free one.
    pub fn each_vector_id(&self, each: impl FnMut(u64, u64)) -> Result<()> {
        self.each(Self::VECTOR_ID, each)
    }

    // The number at `place` in each header.
    pub(crate) fn each(&self, place: u64, mut each: impl FnMut(u64, u64)) -> Result<()> {
        let mut bytes = vec![0; (Self::BATCH * Self::SIZE) as usize];
        for start in (0..self.rows).step_by(Self::BATCH as usize) {
            let count = Self::BATCH.min(self.rows - start);
            let batch = &mut bytes[..(count * Self::SIZE) as usize];
            let read = self.file.read_exact_at(batch, self.data + start * Self::SIZE);
            read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
            for (row, header) in (start..).zip(batch.chunks_exact(Self::SIZE as usize)) {
                let id = header[place as usize..].first_chunk::<8>().copied().unwrap_or_default();
                each(row, u64::from_le_bytes(id));
            }
        }
        Ok(())
    }

    /// Rows, free ones counted, as of the opening.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    fn number(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|source| Error::Io { path: self.path.clone(), source })?;
        Ok(u64::from_le_bytes(bytes))
    }
}
