//! Where an index finds the whole vectors: in memory, or in a mapped `.npy` file.
//!
//! INVARIANT: a mapped store has exactly the rows that its file had when it was opened, each checked against its size.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use zerocopy::{FromBytes, IntoBytes};

use crate::error::{Error, Result};
use crate::npy::Header;

/// Vectors of floats in a mapped `.npy` file, such as a collection's `vectors.npy`. Nothing is copied, and what is not
/// used takes no memory; threads may share it.
///
/// ```
/// use vexfs_search::MmapVectorStore;
///
/// let path = std::env::temp_dir().join(format!("store-{}.npy", std::process::id()));
/// let store = MmapVectorStore::create(&path, 2, [[1.0, 2.0], [3.0, 4.0]])?;
/// assert_eq!((store.len(), store.get(1)), (2, Some(&[3.0, 4.0][..])));
/// assert_eq!(store.get(2), None);
/// # std::fs::remove_file(path).unwrap();
/// # Ok::<(), vexfs_search::Error>(())
/// ```
#[derive(Debug)]
pub struct MmapVectorStore {
    path: PathBuf,
    map: Mmap,
    data: usize,
    rows: usize,
    stride: usize,
    dimensions: usize,
}

impl MmapVectorStore {
    /// Writes the vectors to a new file and maps it.
    ///
    /// # Errors
    /// A vector of another length, or what the system refuses.
    pub fn create<V: AsRef<[f32]>>(
        path: &Path,
        dimensions: usize,
        vectors: impl IntoIterator<Item = V>,
    ) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let vectors: Vec<V> = vectors.into_iter().collect();
        let mut out = BufWriter::new(File::create(path).map_err(io)?);
        out.write_all(&Header::render("<f4", &[vectors.len() as u64, dimensions as u64])).map_err(io)?;
        for vector in &vectors {
            let len = vector.as_ref().len();
            if len != dimensions {
                return Err(Error::Query(format!("a vector has {len} dimensions, not {dimensions}")));
            }
            out.write_all(vector.as_ref().as_bytes()).map_err(io)?;
        }
        out.flush().map_err(io)?;
        Self::open(path, dimensions)
    }

    /// Maps a file of rows of `dimensions` floats; a row may be longer, as a collection's are.
    ///
    /// # Errors
    /// No such matrix, or one that is cut off.
    pub fn open(path: &Path, dimensions: usize) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: read alone; a VexFS matrix is never shortened under a mapping, and any bytes are floats.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let wrong = |why: String| Error::Format { path: path.to_owned(), why };
        let header = Header::parse(&map).map_err(wrong)?;
        if header.descr != "<f4" || header.fortran_order || header.data % size_of::<f32>() != 0 {
            return Err(wrong(format!("holds {}; rows of <f4 are needed", header.descr)));
        }
        let [rows, columns] = header.shape[..] else { return Err(wrong("is no matrix".into())) };
        let fits = || {
            let rows = usize::try_from(rows).ok()?;
            let stride = usize::try_from(columns).ok()?.checked_mul(size_of::<f32>())?;
            let end = rows.checked_mul(stride)?.checked_add(header.data)?;
            (end <= map.len() && (rows == 0 || stride >= dimensions * size_of::<f32>()))
                .then_some((rows, stride))
        };
        let (rows, stride) =
            fits().ok_or_else(|| wrong(format!("is too short for {rows} rows of {dimensions} floats")))?;
        Ok(Self { path: path.to_owned(), data: header.data, map, rows, stride, dimensions })
    }

    /// The vector of a row.
    pub fn get(&self, row: usize) -> Option<&[f32]> {
        if row >= self.rows {
            return None;
        }
        let start = self.data + row * self.stride;
        let bytes = self.map.get(start..start + self.dimensions * size_of::<f32>())?;
        <[f32]>::ref_from_bytes(bytes).ok()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The whole vectors of an index.
#[derive(Debug)]
pub enum VectorStorage {
    /// In memory, one behind the other.
    InMemory(Vec<f32>),
    /// In a mapped file.
    Mmap(MmapVectorStore),
}

impl VectorStorage {
    /// The vector of a row.
    #[inline(always)]
    pub fn get(&self, row: usize, dimensions: usize) -> Option<&[f32]> {
        match self {
            Self::InMemory(values) => {
                let start = row.checked_mul(dimensions)?;
                values.get(start..start.checked_add(dimensions)?)
            }
            Self::Mmap(store) => store.get(row),
        }
    }

    /// Bytes of memory that belong to no file.
    pub fn memory_usage_bytes(&self) -> usize {
        match self {
            Self::InMemory(values) => values.capacity() * size_of::<f32>(),
            Self::Mmap(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("vexfs_search-store-{}-{name}.npy", std::process::id()))
    }

    #[test]
    fn large_vectors_are_mapped_and_never_copied() {
        let path = path("large");
        let vectors: Vec<Vec<f32>> = (0..100).map(|row| vec![row as f32 / 3.0; 1024]).collect();
        let store = MmapVectorStore::create(&path, 1024, &vectors).unwrap();
        let again = MmapVectorStore::open(&path, 1024).unwrap();
        std::fs::remove_file(&path).unwrap();
        for (row, vector) in vectors.iter().enumerate() {
            assert_eq!(store.get(row), Some(&vector[..]));
            assert_eq!(again.get(row), Some(&vector[..]));
        }
        assert_eq!(store.get(5).unwrap().as_ptr(), store.get(5).unwrap().as_ptr());
        assert!(store.map.as_ptr_range().contains(&store.get(99).unwrap().as_ptr().cast()));
        assert_eq!((store.get(100), store.len()), (None, 100));
    }

    #[test]
    fn what_is_no_such_matrix_is_refused() {
        let path = path("wrong");
        assert!(MmapVectorStore::create(&path, 3, [[1.0, 2.0]]).is_err());
        MmapVectorStore::create(&path, 2, [[1.0, 2.0]]).unwrap();
        assert!(MmapVectorStore::open(&path, 3).unwrap_err().to_string().contains("too short"));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(MmapVectorStore::open(&path, 2).is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(MmapVectorStore::open(&path, 2).is_err());
    }
}
