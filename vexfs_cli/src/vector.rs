//! Vectors as people give them (npy files, JSON, raw bytes), turned into a collection's elements.

use std::borrow::Cow;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use vexfs_search::npy::{self, Header};
use vexfs_search::{Element, Schema, half};

use crate::failure::Failure;

/// A vector that was given, before it is fitted to a collection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Given {
    /// An npy array: its type and its bytes.
    Array { descr: String, bytes: Vec<u8> },
    /// JSON numbers.
    Numbers(Vec<f64>),
    /// Bytes without a type: the collection's elements as they are.
    Raw(Vec<u8>),
}

impl Given {
    /// Reads an argument: a JSON array, `-` for stdin, or the path of an npy file.
    pub(crate) fn read(argument: &str) -> Result<Self, Failure> {
        if argument.trim_start().starts_with('[') {
            return Self::parse(argument.as_bytes()).map_err(Failure::new);
        }
        let bytes = if argument == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(|error| Failure::new(format!("stdin: {error}")))?;
            bytes
        } else {
            fs::read(argument).map_err(|error| Failure::io(Path::new(argument), &error))?
        };
        Self::parse(&bytes).map_err(|why| Failure::new(format!("{argument}: {why}")))
    }

    /// Reads bytes: an npy file, a JSON array, or raw elements.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.starts_with(npy::MAGIC) {
            let header = Header::parse(bytes)?;
            let (rows, columns) = header.matrix()?;
            if rows != 1 {
                return Err(format!(
                    "the array has {rows} rows, one vector is needed (vexfs import takes many)"
                ));
            }
            let width = width(&header.descr)?;
            let len = usize::try_from(columns).ok().and_then(|columns| columns.checked_mul(width));
            let end = len.and_then(|len| len.checked_add(header.data));
            let data = end.and_then(|end| bytes.get(header.data..end));
            let data = data.ok_or("the array is cut off")?;
            return Ok(Self::Array { descr: header.descr, bytes: data.to_vec() });
        }
        if bytes.trim_ascii_start().starts_with(b"[") {
            let numbers = serde_json::from_slice(bytes);
            return numbers
                .map(Self::Numbers)
                .map_err(|error| format!("not a JSON array of numbers: {error}"));
        }
        Ok(Self::Raw(bytes.to_vec()))
    }

    /// The bytes of the vector in `element`s.
    pub(crate) fn encode(&self, element: Element) -> Result<Cow<'_, [u8]>, String> {
        match self {
            Self::Raw(bytes) => Ok(bytes.into()),
            Self::Array { descr, bytes } => encode(descr, bytes, element),
            Self::Numbers(numbers) => from_numbers(numbers, element).map(Cow::Owned),
        }
    }

    /// The values, for a query.
    pub(crate) fn values(&self, schema: &Schema) -> Result<Vec<f32>, String> {
        let numbers = match self {
            Self::Numbers(numbers) => numbers.clone(),
            Self::Array { descr, bytes } => numbers(descr, bytes)?,
            Self::Raw(bytes) => numbers(schema.element.descr(), bytes)?,
        };
        if schema.element == Element::Bit && numbers.len() * 8 == schema.dimensions {
            return Ok(unpack(&numbers));
        }
        Ok(numbers.into_iter().map(|value| value as f32).collect())
    }
}

/// Turns an array's bytes of numpy type `descr` into `element`s.
pub(crate) fn encode<'a>(descr: &str, bytes: &'a [u8], element: Element) -> Result<Cow<'a, [u8]>, String> {
    let same = descr == element.descr() || element == Element::I8 && descr == "<i1";
    if same { Ok(bytes.into()) } else { from_numbers(&numbers(descr, bytes)?, element).map(Cow::Owned) }
}

/// The dimensions of a vector of `len` entries of numpy type `descr` in a collection of `element`s.
pub(crate) fn dimensions(descr: &str, len: u64, element: Element) -> u64 {
    if element == Element::Bit && descr == "|u1" { len * 8 } else { len }
}

/// The element that a new collection should have for arrays of this numpy type.
pub(crate) fn element_of(descr: &str) -> Element {
    match descr {
        "<f2" => Element::F16,
        "|i1" | "<i1" => Element::I8,
        "<i2" => Element::I16,
        "|u1" | "|b1" => Element::Bit,
        _ => Element::F32,
    }
}

/// Bytes of an entry of a numpy type.
pub(crate) fn width(descr: &str) -> Result<usize, String> {
    match descr {
        "|b1" | "|i1" | "<i1" | "|u1" => Ok(1),
        "<f2" | "<i2" => Ok(2),
        "<f4" | "<i4" => Ok(4),
        "<f8" | "<i8" => Ok(8),
        _ => {
            Err(format!("arrays of type {descr} are not taken; save it as float32 (numpy.asarray(a, '<f4'))"))
        }
    }
}

/// A vector as a JSON array's text.
pub(crate) fn to_json(bytes: &[u8], element: Element) -> Result<String, String> {
    let values = match element {
        Element::Bit => unpack(&numbers("|u1", bytes)?),
        _ => numbers(element.descr(), bytes)?.into_iter().map(|value| value as f32).collect(),
    };
    // The shortest text that reads back as the same 32-bit float.
    Ok(format!("[{}]", values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")))
}

/// An array's bytes of numpy type `descr` as numbers.
pub(crate) fn numbers(descr: &str, bytes: &[u8]) -> Result<Vec<f64>, String> {
    let width = width(descr)?;
    let value = |entry: &[u8]| -> f64 {
        let mut eight = [0; 8];
        eight[..width].copy_from_slice(entry);
        let [a, b, c, d, ..] = eight;
        match descr {
            "<f2" => f64::from(half::to_f32(u16::from_le_bytes([a, b]))),
            "<f4" => f64::from(f32::from_le_bytes([a, b, c, d])),
            "<f8" => f64::from_le_bytes(eight),
            "|i1" | "<i1" => f64::from(i8::from_le_bytes([a])),
            "<i2" => f64::from(i16::from_le_bytes([a, b])),
            "<i4" => f64::from(i32::from_le_bytes([a, b, c, d])),
            "<i8" => i64::from_le_bytes(eight) as f64,
            _ => f64::from(a),
        }
    };
    if !bytes.len().is_multiple_of(width) {
        return Err(format!("{} bytes are no whole number of entries of {width}", bytes.len()));
    }
    Ok(bytes.chunks_exact(width).map(value).collect())
}

/// A vector's elements as numbers; bits are 0 and 1.
pub(crate) fn values(bytes: &[u8], element: Element) -> Result<Vec<f64>, String> {
    match element {
        Element::Bit => Ok(unpack(&numbers("|u1", bytes)?).into_iter().map(f64::from).collect()),
        _ => numbers(element.descr(), bytes),
    }
}

fn from_numbers(numbers: &[f64], element: Element) -> Result<Vec<u8>, String> {
    let whole = |low: f64, high: f64| {
        let bad = numbers.iter().position(|value| value.fract() != 0.0 || *value < low || *value > high);
        let wrong = |index: usize| {
            let (value, name) = (numbers[index], element.name());
            format!("element {index} is {value}; {name} takes whole numbers from {low} to {high}")
        };
        bad.map_or(Ok(()), |index| Err(wrong(index)))
    };
    match element {
        Element::F32 => Ok(numbers.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect()),
        Element::F16 => {
            Ok(numbers.iter().flat_map(|value| half::from_f32(*value as f32).to_le_bytes()).collect())
        }
        Element::I8 => {
            whole(-128.0, 127.0)?;
            Ok(numbers.iter().flat_map(|value| (*value as i8).to_le_bytes()).collect())
        }
        Element::I16 => {
            whole(-32768.0, 32767.0)?;
            Ok(numbers.iter().flat_map(|value| (*value as i16).to_le_bytes()).collect())
        }
        Element::Bit => {
            whole(0.0, 1.0)?;
            if !numbers.len().is_multiple_of(8) {
                return Err(format!("{} bits; their number is a multiple of 8", numbers.len()));
            }
            let pack =
                |eight: &[f64]| eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit > 0.0));
            Ok(numbers.chunks(8).map(pack).collect())
        }
    }
}

fn unpack(packed: &[f64]) -> Vec<f32> {
    packed.iter().flat_map(|byte| (0..8).map(move |bit| f32::from(*byte as u8 >> bit & 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_npy_and_raw_bytes_mean_the_same() {
        let raw: Vec<u8> = [1.0_f32, -0.5].iter().flat_map(|value| value.to_le_bytes()).collect();
        let npy = [Header::render("<f4", &[2]), raw.clone()].concat();
        let row = [Header::render("<f4", &[1, 2]), raw.clone()].concat();
        for given in [&npy[..], &row, b" [1, -0.5]", &raw] {
            let given = Given::parse(given).unwrap();
            assert_eq!(given.encode(Element::F32).unwrap(), raw);
        }
        assert!(Given::parse(&npy[..npy.len() - 1]).is_err());
        assert!(Given::parse(b"[1, \"a\"]").is_err());
        assert!(
            Given::parse(&[Header::render("<f4", &[2, 1]), raw].concat()).unwrap_err().contains("2 rows")
        );
    }

    #[test]
    fn elements_are_converted_or_refused() {
        let numbers = Given::Numbers(vec![1.0, -2.0, 127.0]);
        assert_eq!(numbers.encode(Element::I8).unwrap(), [1, 254, 127].as_slice());
        assert_eq!(numbers.encode(Element::I16).unwrap(), [1, 0, 254, 255, 127, 0].as_slice());
        assert_eq!(numbers.encode(Element::F16).unwrap(), [0, 0x3c, 0, 0xc0, 0xf0, 0x57].as_slice());
        let words = Given::Numbers(vec![0.0, 128.0]).encode(Element::I8).unwrap_err();
        assert_eq!(words, "element 1 is 128; i8 takes whole numbers from -128 to 127");
        assert!(Given::Numbers(vec![0.5]).encode(Element::I16).is_err());
        assert!(width(">f4").is_err());
    }

    #[test]
    fn bits_are_packed_lowest_first() {
        let bits = Given::Numbers(vec![1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!(bits.encode(Element::Bit).unwrap(), [0b1100_0001].as_slice());
        assert!(Given::Numbers(vec![1.0]).encode(Element::Bit).is_err());
        let flags = Given::Array { descr: "|b1".into(), bytes: vec![0, 1, 0, 0, 0, 0, 0, 0] };
        assert_eq!(flags.encode(Element::Bit).unwrap(), [2].as_slice());
        let packed = Given::Array { descr: "|u1".into(), bytes: vec![9] };
        assert_eq!(packed.encode(Element::Bit).unwrap(), [9].as_slice());
        assert_eq!(to_json(&[9], Element::Bit).unwrap(), "[1,0,0,1,0,0,0,0]");
    }

    #[test]
    fn json_reads_back_as_the_same_bytes() {
        let values = [0.1_f32, -1e-30, 3.402_823_5e38, 16_777_216.0, f32::from_bits(1)];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let text = to_json(&bytes, Element::F32).unwrap();
        assert_eq!(Given::parse(text.as_bytes()).unwrap().encode(Element::F32).unwrap(), bytes);
    }
}
