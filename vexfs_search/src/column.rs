//! Files of a collection as they are opened and read.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::error::{Error, Result};
use crate::npy::Header;
use crate::warmth::apart;

/// A mapped npy file.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    pub(crate) file: File,
    map: Mmap,
}

impl Column {
    /// Opens and maps it.
    ///
    /// # Errors
    /// What the system refuses; a file that is no npy file.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let io = |source| Error::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        // Read, not touched in the mapping, and alone: pages behind it of a column that is rendered cost a look at each row.
        apart(&file);
        let mut head = [0; 4096];
        let len = read_up_to(&file, &mut head).map_err(io)?;
        // Behind the head: a file that grows is long enough before its head tells of the rows.
        // SAFETY: the map is read alone. The filesystem never shortens a file under a mapping; bytes of a row
        // may change while its flag says free, and no value of the types read from it is invalid.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let header = match Header::parse(&head[..len]) {
            Ok(header) => header,
            // Longer than any that VexFS writes.
            Err(_) => Header::parse(&map).map_err(|why| Error::Format { path: path.clone(), why })?,
        };
        Ok(Self { path, header, file, map })
    }

    /// All of it, as it was long when it was opened.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// All that lies behind the header.
    pub(crate) fn data(&self) -> &[u8] {
        self.map.get(self.header.data..).unwrap_or_default()
    }

    /// Bytes of a text, if it is an array of texts.
    pub(crate) fn text_width(&self) -> Option<usize> {
        self.header.descr.strip_prefix("|S")?.parse().ok().filter(|width| *width > 0)
    }

    /// The file does not hold what it should.
    pub(crate) fn wrong(&self, why: &str) -> Error {
        Error::Format { path: self.path.clone(), why: why.to_owned() }
    }
}

/// A whole file whose size is told as 0, in as few reads as can be: each is a question to a daemon.
pub(crate) fn computed(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1 << 14);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Fills the buffer from the beginning of a file, as far as that goes.
pub(crate) fn read_up_to(file: &File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64)? {
            0 => break,
            len => done += len,
        }
    }
    Ok(done)
}
