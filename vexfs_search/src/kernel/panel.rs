//! Vectors packed for products with many rows: one entry of each lies side by side, so that no sum goes across lanes.
//!
//! Source: K. Goto, R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008.

/// Rows that meet a panel at once.
pub(crate) const ROWS: usize = 8;
/// Vectors of a panel, at most.
pub(crate) const WIDTH: usize = 32;
/// Lanes of a panel of few vectors.
pub(crate) const HALF: usize = 16;

/// The products of each row with each vector; those behind the last vector are 0, or not a number.
pub(crate) type Products = [[f32; WIDTH]; ROWS];

/// Up to [`WIDTH`] vectors of one length.
#[derive(Debug)]
pub(crate) struct Panel {
    packed: Vec<f32>,
    lanes: usize,
}

impl Panel {
    /// Packs the vectors.
    pub(crate) fn new(vectors: &[&[f32]]) -> Self {
        debug_assert!(vectors.len() <= WIDTH);
        let lanes = if vectors.len() <= HALF { HALF } else { WIDTH };
        let len = vectors.iter().map(|vector| vector.len()).min().unwrap_or(0);
        let mut packed = vec![0.0; len * lanes];
        for (entry, lanes) in packed.chunks_exact_mut(lanes).enumerate() {
            for (lane, vector) in lanes.iter_mut().zip(vectors) {
                *lane = vector[entry];
            }
        }
        Self { packed, lanes }
    }

    /// Entry 0 of each vector, entry 1 of each, ...
    pub(crate) fn packed(&self) -> &[f32] {
        &self.packed
    }

    /// Values an entry: [`HALF`] or [`WIDTH`].
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }
}

/// Eight of the rows from `first` on; behind the last, the first of them again.
pub(crate) fn eight<'a>(rows: &[&'a [f32]], first: usize) -> [&'a [f32]; ROWS] {
    std::array::from_fn(|index| rows[if first + index < rows.len() { first + index } else { first }])
}
