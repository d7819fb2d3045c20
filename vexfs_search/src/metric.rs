//! What a collection holds, and how near is measured.
//!
//! INVARIANT: a score is higher for nearer, whatever the metric, so that whoever ranks never asks for the metric.

/// The element type of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// Signed 8-bit integers.
    I8,
    /// Signed 16-bit integers.
    I16,
    /// Bits, packed with the lowest bit first.
    Bit,
}

impl Element {
    /// The element with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::I8, Self::I16, Self::Bit]
            .into_iter()
            .find(|element| element.name() == name)
    }

    /// `f32`, `f16`, `i8`, `i16` or `bit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::Bit => "bit",
        }
    }

    /// numpy's type of an entry.
    pub const fn descr(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
            Self::I8 => "|i1",
            Self::I16 => "<i2",
            Self::Bit => "|u1",
        }
    }

    /// Bytes of an entry.
    pub const fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::I16 => 2,
            Self::I8 | Self::Bit => 1,
        }
    }

    /// Bytes of a vector of `dimensions`.
    pub const fn bytes(self, dimensions: usize) -> usize {
        match self {
            Self::Bit => dimensions.div_ceil(8),
            _ => dimensions * self.width(),
        }
    }
}

/// How near two vectors are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Cosine of the angle; 1 is nearest.
    Cosine,
    /// Euclidean distance, squared; the score is its negative.
    L2,
    /// Inner product; the largest is nearest.
    InnerProduct,
    /// Bits that differ; the score is their negative number.
    Hamming,
}

impl Metric {
    /// The metric with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Cosine, Self::L2, Self::InnerProduct, Self::Hamming]
            .into_iter()
            .find(|metric| metric.name() == name)
    }

    /// `cosine`, `l2`, `ip` or `hamming`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Hamming => "hamming",
        }
    }

    /// True if a small [distance](Self::distance) is near.
    pub const fn is_distance(self) -> bool {
        matches!(self, Self::L2 | Self::Hamming)
    }

    /// The distance as faiss has it: squared for L2, bits for Hamming; of inner product and cosine the value itself.
    pub fn distance(self, score: f32) -> f32 {
        if self.is_distance() { 0.0 - score } else { score }
    }

    /// The score at this [distance](Self::distance).
    pub fn score(self, distance: f32) -> f32 {
        self.distance(distance)
    }
}

/// The cosine from an inner product and the squared lengths; nothing is near to a vector without a direction.
#[inline(always)]
pub(crate) fn cosine(product: f32, square: f32, query_square: f32) -> f32 {
    let lengths = square.sqrt() * query_square.sqrt();
    if lengths > 0.0 {
        product / lengths
    } else if lengths.is_nan() {
        f32::NAN
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::Hamming] {
            assert_eq!(Metric::from_name(metric.name()), Some(metric));
            assert_eq!(metric.score(metric.distance(3.5)), 3.5);
        }
        assert_eq!(Element::from_name("f64"), None);
        assert_eq!(Element::Bit.bytes(384), 48);
    }

    #[test]
    fn a_vector_of_zeros_has_no_neighbours_and_nan_stays() {
        assert_eq!(cosine(0.0, 0.0, 1.0), 0.0);
        assert_eq!(cosine(2.0, 4.0, 1.0), 1.0);
        assert!(cosine(f32::NAN, f32::NAN, 1.0).is_nan());
    }
}
