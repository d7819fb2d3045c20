//! How the rows of one collection are read: by their codec alone, or by a codebook as well.

use std::sync::Arc;

use super::pq::Codebook;
use super::{Codec, Refused, Rows, decode};

/// A codec with all that its rows need to be read.
#[derive(Clone, Debug)]
pub enum Coder {
    /// A row, and its scale where the codec has one.
    Plain(Codec),
    /// Product quantisation, `pq`: codes of a codebook's entries.
    Quantized(Arc<Codebook>),
}

impl Coder {
    /// The name of product quantisation in `schema.json`.
    pub const PQ: &'static str = "pq";

    /// The codec's name in `schema.json`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Plain(codec) => codec.name(),
            Self::Quantized(_) => Self::PQ,
        }
    }

    /// True if rows are the vectors.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Plain(Codec::None))
    }

    /// True if each row has a scale.
    pub fn has_scale(&self) -> bool {
        matches!(self, Self::Plain(codec) if codec.has_scale())
    }

    /// Bytes that the row of a vector of f32 takes, without padding.
    pub fn stored_len(&self, dimensions: usize) -> usize {
        match self {
            Self::Plain(codec) => codec.stored_len(dimensions),
            Self::Quantized(codebook) => codebook.shape().code_len(),
        }
    }

    /// True if rows can stand for vectors of so many dimensions.
    pub fn fits(&self, dimensions: usize) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Quantized(codebook) => codebook.shape().dimensions() == dimensions,
        }
    }

    /// Reads rows back, as [`decode`].
    ///
    /// # Errors
    /// The first row whose scale is no finite number from 0 on; rows before it are read.
    ///
    /// # Panics
    /// If `rows` or `scales` are too short for the vectors, or `dimensions` is 0 or not the codebook's.
    pub fn decode(
        &self,
        rows: Rows<'_>,
        scales: &[f32],
        dimensions: usize,
        vectors: &mut [f32],
    ) -> Result<(), Refused> {
        match self {
            Self::Plain(codec) => decode(*codec, rows, scales, dimensions, vectors),
            Self::Quantized(codebook) => {
                assert_eq!(dimensions, codebook.shape().dimensions(), "the codebook is of other vectors");
                codebook.decode(rows, vectors);
                Ok(())
            }
        }
    }
}

impl From<Codec> for Coder {
    fn from(codec: Codec) -> Self {
        Self::Plain(codec)
    }
}
