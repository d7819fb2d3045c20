//! A vector to search with, fitted to a collection.
//!
//! INVARIANT: it has the collection's dimensions and only finite values. Whole numbers against a collection of whole
//! numbers stay whole, and are compared exactly.

use crate::collection::Collection;
use crate::error::{Error, Result};
use crate::half;
use crate::metric::{Element, Metric};

/// A query vector that fits a collection.
#[derive(Clone, Debug)]
pub struct Query {
    pub(crate) values: Values,
    pub(crate) metric: Metric,
    /// Sum of the squares.
    pub(crate) square: f64,
}

#[derive(Clone, Debug)]
pub(crate) enum Values {
    /// Against floats, or fractions against whole numbers.
    Floats(Vec<f32>),
    /// Whole numbers against `i8`.
    Bytes(Vec<i8>),
    /// Whole numbers against `i16`.
    Shorts(Vec<i16>),
    /// Bits against bits.
    Bits(Vec<u8>),
}

impl Query {
    /// A query of numbers; of a bit collection, a bit is set where the number is above 0.
    ///
    /// # Errors
    /// Another number of dimensions than the collection's, a NaN or infinity, or Hamming distance of numbers.
    pub fn new(collection: &Collection, values: &[f32], metric: Metric) -> Result<Self> {
        let schema = collection.schema();
        Self::of(schema.element, schema.dimensions, values, metric)
    }

    /// A query that is a stored vector: its raw bytes, as the attribute gives them.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn from_bytes(collection: &Collection, bytes: &[u8], metric: Metric) -> Result<Self> {
        let schema = collection.schema();
        let expected = schema.vector_len();
        if bytes.len() != expected {
            let len = bytes.len();
            return Err(Error::Query(format!("the vector has {len} bytes, the collection's {expected}")));
        }
        Self::of(schema.element, schema.dimensions, &decode(schema.element, bytes), metric)
    }

    /// A query of numbers, for vectors of `dimensions` elements.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of(element: Element, dimensions: usize, values: &[f32], metric: Metric) -> Result<Self> {
        let (got, expected) = (values.len(), dimensions);
        if got != expected {
            return Err(Error::Query(format!("the query has {got} dimensions, the collection {expected}")));
        }
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(Error::Query(format!("element {index} of the query is NaN or infinite")));
        }
        if metric == Metric::Hamming && element != Element::Bit {
            let name = element.name();
            return Err(Error::Query(format!("hamming is for bits, the collection holds {name}")));
        }
        let within = |low: f32, high: f32| {
            values.iter().all(|value| value.fract() == 0.0 && (low..=high).contains(value))
        };
        let fitted = match element {
            Element::Bit => Values::Bits(pack(values)),
            Element::I8 if within(-128.0, 127.0) => {
                Values::Bytes(values.iter().map(|value| *value as i8).collect())
            }
            Element::I16 if within(-32768.0, 32767.0) => {
                Values::Shorts(values.iter().map(|value| *value as i16).collect())
            }
            _ => Values::Floats(values.to_vec()),
        };
        let square = match &fitted {
            Values::Bits(bits) => bits.iter().map(|byte| byte.count_ones()).sum::<u32>().into(),
            _ => values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>(),
        };
        Ok(Self { values: fitted, metric, square })
    }

    /// Its values.
    pub(crate) fn floats(&self) -> Vec<f32> {
        match &self.values {
            Values::Floats(values) => values.clone(),
            Values::Bytes(values) => values.iter().map(|value| f32::from(*value)).collect(),
            Values::Shorts(values) => values.iter().map(|value| f32::from(*value)).collect(),
            Values::Bits(bits) => decode(Element::Bit, bits),
        }
    }

    /// True if it is zero: no direction is near to it.
    pub fn is_zero(&self) -> bool {
        match &self.values {
            Values::Floats(values) => values.iter().all(|value| *value == 0.0),
            _ => self.square == 0.0,
        }
    }

    /// The metric that it asks for.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The score of one row in double precision: slow, and right where 32 bits overflow.
    pub(crate) fn careful(&self, element: Element, row: &[u8]) -> f64 {
        let row = decode(element, row);
        let query = self.floats();
        let sum = |of: fn(f64, f64) -> f64| {
            row.iter().zip(&query).map(|(a, b)| of(f64::from(*a), f64::from(*b))).sum::<f64>()
        };
        match self.metric {
            Metric::InnerProduct => sum(|a, b| a * b),
            Metric::L2 | Metric::Hamming => 0.0 - sum(|a, b| (a - b) * (a - b)),
            Metric::Cosine => {
                let lengths = sum(|a, _| a * a).sqrt() * sum(|_, b| b * b).sqrt();
                if lengths == 0.0 { 0.0 } else { sum(|a, b| a * b) / lengths }
            }
        }
    }
}

fn pack(values: &[f32]) -> Vec<u8> {
    let set = |eight: &[f32]| eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(*value > 0.0));
    values.chunks(8).map(set).collect()
}

/// The values of a vector's bytes; of bits zeros and ones.
pub fn decode(element: Element, bytes: &[u8]) -> Vec<f32> {
    let two = |b: &[u8]| [b[0], b[1]];
    match element {
        Element::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Element::F16 => bytes.chunks_exact(2).map(|b| half::to_f32(u16::from_le_bytes(two(b)))).collect(),
        Element::I16 => bytes.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes(two(b)))).collect(),
        Element::I8 => bytes.iter().map(|byte| f32::from(i8::from_le_bytes([*byte]))).collect(),
        Element::Bit => {
            bytes.iter().flat_map(|byte| (0..8).map(move |bit| f32::from(byte >> bit & 1))).collect()
        }
    }
}
