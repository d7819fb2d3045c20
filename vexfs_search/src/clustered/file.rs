//! The index as a file: everything but the whole vectors, little-endian, a checksum over all of it at the end.
//!
//! INVARIANT: what is read back is what was written, or an error; no length of the file is believed beyond its size.

use std::fs;
use std::path::Path;

use zerocopy::IntoBytes;

use crate::clustered::codes::{BLOCK, Codes};
use crate::clustered::rotation::Rotation;
use crate::clustered::tree::Shape;
use crate::clustered::{ClusteredIndex, Leaf};
use crate::error::{Error, Result};
use crate::metric::Metric;
use crate::nearest::RowSet;
use crate::store::VectorStorage;

const MAGIC: &[u8; 8] = b"VEXCLUS1";
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];

impl ClusteredIndex {
    /// Writes the index, without the whole vectors, to a new file that then takes the place of `path`.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn save(&self, path: &Path) -> Result<()> {
        let metric = METRICS.iter().position(|metric| *metric == self.metric).unwrap_or_default();
        let mut bytes = MAGIC.to_vec();
        let shape = self.shape;
        for number in [
            metric,
            self.dimensions,
            shape.branches,
            shape.leaf_max,
            shape.iterations,
            self.rows,
            self.leaves.len(),
            self.removed.len(),
        ] {
            bytes.extend((number as u64).to_le_bytes());
        }
        let removed = (0..self.rows).filter(|row| self.removed.contains(*row));
        removed.for_each(|row| bytes.extend((row as u32).to_le_bytes()));
        bytes.extend(self.centres.as_bytes());
        for leaf in &self.leaves {
            bytes.extend((leaf.rows.len() as u64).to_le_bytes());
            bytes.extend(leaf.rows.as_bytes());
            bytes.extend(leaf.codes.factors.as_bytes());
            bytes.extend(leaf.squares.as_bytes());
            bytes.extend(&leaf.codes.blocks);
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        let partial = path.with_extension("partial");
        let io = |source| Error::Io { path: path.to_owned(), source };
        fs::write(&partial, bytes).map_err(io)?;
        fs::rename(&partial, path).map_err(io)
    }

    /// Reads an index that [`save`](Self::save) wrote, over the vectors it was built from.
    ///
    /// # Errors
    /// A file that is damaged, of another version, or not of these vectors: build anew, or search exactly.
    pub fn load(path: &Path, storage: VectorStorage) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let wrong =
            |why: &str| Error::Format { path: path.to_owned(), why: format!("{why}; build the index anew") };
        let (body, sum) = bytes.split_last_chunk::<4>().ok_or_else(|| wrong("is cut off"))?;
        if !body.starts_with(MAGIC) {
            return Err(wrong("is no index of this version"));
        }
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(wrong("is damaged: its checksum is another"));
        }
        let index = parse(&body[MAGIC.len()..], storage).ok_or_else(|| wrong("contradicts itself"))?;
        let last = index.rows.checked_sub(1);
        if last.is_some_and(|row| index.storage.get(row, index.dimensions).is_none()) {
            return Err(wrong("is of more rows than there are"));
        }
        Ok(index)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*number)).ok()
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn words(&mut self, count: usize) -> Option<Vec<u32>> {
        let bytes = self.bytes(count.checked_mul(4)?)?;
        Some(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn floats(&mut self, count: usize) -> Option<Vec<f32>> {
        Some(self.words(count)?.into_iter().map(f32::from_bits).collect())
    }
}

fn parse(bytes: &[u8], storage: VectorStorage) -> Option<ClusteredIndex> {
    let mut reader = Reader(bytes);
    let metric = *METRICS.get(reader.number()?)?;
    let dimensions = reader.number()?;
    let shape =
        Shape { branches: reader.number()?, leaf_max: reader.number()?, iterations: reader.number()? };
    let (rows, leaf_count, removed) = (reader.number()?, reader.number()?, reader.number()?);
    let removed: RowSet = reader.words(removed)?.into_iter().map(|row| row as usize).collect();
    let centres = reader.floats(leaf_count.checked_mul(dimensions)?)?;
    let mut leaves = Vec::new();
    for _ in 0..leaf_count {
        let count = reader.number()?;
        let own = reader.words(count)?;
        let factors = reader.floats(count)?;
        let squares = if metric == Metric::L2 { reader.floats(count)? } else { Vec::new() };
        let bytes = dimensions.div_ceil(8);
        let len = count.div_ceil(BLOCK).checked_mul(BLOCK)?.checked_mul(bytes)?;
        let blocks = reader.bytes(len)?.to_vec();
        if own.iter().any(|row| *row as usize >= rows) {
            return None;
        }
        leaves.push(Leaf { rows: own, codes: Codes { bytes, blocks, factors }, squares });
    }
    // A rotation costs memory by the dimensions, which the vectors bear out.
    let known = storage.get(0, dimensions).is_some() || rows == 0 && dimensions <= 1 << 16;
    let whole = reader.0.is_empty() && known && shape.branches >= 2 && shape.leaf_max > 0;
    let square = |centre: &[f32]| centre.iter().map(|value| value * value).sum();
    whole.then(|| ClusteredIndex {
        squares: centres.chunks_exact(dimensions.max(1)).map(square).collect(),
        metric,
        dimensions,
        shape,
        rotation: Rotation::new(dimensions),
        centres,
        leaves,
        storage,
        rows,
        removed,
    })
}
