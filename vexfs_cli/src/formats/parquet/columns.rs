//! Columns as a file has them: lists of numbers, text, numbers; a batch of rows at a time.

use std::ops::Range;

use parquet::basic::{ConvertedType, LogicalType, Repetition, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::schema::types::ColumnDescriptor;

use crate::vector;

/// numpy's type of the entries, if a column holds lists of numbers.
pub(super) fn entry(leaf: &ColumnDescriptor) -> Option<&'static str> {
    if leaf.max_rep_level() != 1 {
        return None;
    }
    Some(match (leaf.physical_type(), leaf.converted_type()) {
        (Type::FLOAT, _) => "<f4",
        (Type::DOUBLE, _) => "<f8",
        (Type::INT32, ConvertedType::INT_8) => "|i1",
        (Type::INT32, ConvertedType::UINT_8) => "|u1",
        (Type::INT32, ConvertedType::INT_16) => "<i2",
        (Type::INT32, ConvertedType::NONE | ConvertedType::INT_32) => "<i4",
        (Type::INT64, ConvertedType::NONE | ConvertedType::INT_64) => "<i8",
        (Type::FIXED_LEN_BYTE_ARRAY, _) if is_half(leaf) => "<f2",
        _ => return None,
    })
}

fn is_half(leaf: &ColumnDescriptor) -> bool {
    leaf.type_length() == 2 && matches!(leaf.logical_type_ref(), Some(LogicalType::Float16))
}

/// A column of lists of numbers.
pub(super) struct Lists {
    reader: ColumnReader,
    /// Levels from which on there is an entry, and an entry that is not null.
    there: i16,
    whole: i16,
    width: usize,
    bytes: Vec<u8>,
    rows: Vec<Option<Range<usize>>>,
}

impl Lists {
    /// Of a leaf that `entry` knows.
    pub(super) fn new(reader: ColumnReader, leaf: &ColumnDescriptor) -> Self {
        let whole = leaf.max_def_level();
        let is_optional = leaf.self_type().get_basic_info().repetition() == Repetition::OPTIONAL;
        let width = entry(leaf).and_then(|descr| vector::width(descr).ok()).unwrap_or(1);
        Self {
            reader,
            there: whole - i16::from(is_optional),
            whole,
            width,
            bytes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Rows of the batch.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The entries of a row; `None` if it is null, or an empty list.
    pub(super) fn row(&self, row: usize) -> Option<&[u8]> {
        self.bytes.get(self.rows.get(row)?.clone()?)
    }

    /// Reads the next batch; gives how many rows it has.
    pub(super) fn read(&mut self, rows: usize) -> Result<usize, String> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let width = self.width;
        let levels = match &mut self.reader {
            ColumnReader::FloatColumnReader(reader) => {
                take(reader, rows, |value| bytes.extend(value.to_le_bytes()))
            }
            ColumnReader::DoubleColumnReader(reader) => {
                take(reader, rows, |value| bytes.extend(value.to_le_bytes()))
            }
            ColumnReader::Int32ColumnReader(reader) => {
                take(reader, rows, |value| bytes.extend(&value.to_le_bytes()[..width]))
            }
            ColumnReader::Int64ColumnReader(reader) => {
                take(reader, rows, |value| bytes.extend(value.to_le_bytes()))
            }
            ColumnReader::FixedLenByteArrayColumnReader(reader) => {
                take(reader, rows, |value| bytes.extend(value.data()))
            }
            _ => Err("the column holds no numbers".into()),
        };
        self.bytes = bytes;
        let (defined, repeated) = levels?;
        self.rows.clear();
        let mut at = 0;
        for (defined, repeated) in defined.into_iter().zip(repeated) {
            let is_there = defined >= self.there;
            if is_there && defined < self.whole {
                return Err("a vector has elements that are null".into());
            }
            if repeated == 0 {
                self.rows.push(is_there.then_some(at..at));
            }
            if is_there {
                at += self.width;
                if let Some(Some(row)) = self.rows.last_mut() {
                    row.end = at;
                }
            }
        }
        if at != self.bytes.len() {
            return Err("a column has other elements than it says".into());
        }
        Ok(self.rows.len())
    }
}

// Reads whole rows: their levels, of definition and of repetition, and each value.
fn take<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    put: impl FnMut(&T::T),
) -> Result<(Vec<i16>, Vec<i16>), String> {
    let (mut defined, mut repeated, mut values) = (Vec::new(), Vec::new(), Vec::new());
    let read = reader.read_records(rows, Some(&mut defined), Some(&mut repeated), &mut values);
    read.map_err(|error| error.to_string())?;
    values.iter().for_each(put);
    Ok((defined, repeated))
}

// Reads a column without lists: an entry a row, perhaps null.
fn plain<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    rows: usize,
    max: i16,
) -> Result<Vec<Option<T::T>>, String> {
    let (mut defined, mut values) = (Vec::new(), Vec::new());
    let read = reader.read_records(rows, Some(&mut defined), None, &mut values);
    let (records, ..) = read.map_err(|error| error.to_string())?;
    let mut values = values.into_iter();
    let entry = |row: usize| if max == 0 || defined.get(row) == Some(&max) { values.next() } else { None };
    Ok((0..records).map(entry).collect())
}

/// A column of text.
pub(super) struct Texts {
    reader: ColumnReaderImpl<parquet::data_type::ByteArrayType>,
    max: i16,
    rows: Vec<Option<ByteArray>>,
}

impl Texts {
    pub(super) fn new(reader: ColumnReader, leaf: &ColumnDescriptor) -> Result<Self, String> {
        match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                Ok(Self { reader, max: leaf.max_def_level(), rows: Vec::new() })
            }
            _ => Err(format!("the column `{}` is no text", leaf.name())),
        }
    }

    /// Reads the next batch; gives how many rows it has.
    pub(super) fn read(&mut self, rows: usize) -> Result<usize, String> {
        self.rows = plain(&mut self.reader, rows, self.max)?;
        Ok(self.rows.len())
    }

    /// The text of a row.
    pub(super) fn row(&self, row: usize) -> Result<&str, String> {
        let bytes = self.rows.get(row).and_then(Option::as_ref).ok_or("a row has a vector, but no path")?;
        std::str::from_utf8(bytes.data()).map_err(|_| "a path is no UTF-8".into())
    }
}

/// A column of whole numbers.
pub(super) struct Numbers {
    reader: ColumnReader,
    max: i16,
    is_unsigned: bool,
    rows: Vec<Option<i64>>,
}

impl Numbers {
    pub(super) fn new(reader: ColumnReader, leaf: &ColumnDescriptor) -> Result<Self, String> {
        if !matches!(reader, ColumnReader::Int32ColumnReader(_) | ColumnReader::Int64ColumnReader(_)) {
            return Err(format!("the column `{}` holds no whole numbers", leaf.name()));
        }
        let is_unsigned = leaf.converted_type() == ConvertedType::UINT_32;
        Ok(Self { reader, max: leaf.max_def_level(), is_unsigned, rows: Vec::new() })
    }

    /// Reads the next batch; gives how many rows it has.
    pub(super) fn read(&mut self, rows: usize) -> Result<usize, String> {
        let (max, is_unsigned) = (self.max, self.is_unsigned);
        let wide = |value: i32| if is_unsigned { i64::from(value as u32) } else { i64::from(value) };
        self.rows = match &mut self.reader {
            ColumnReader::Int32ColumnReader(reader) => {
                plain(reader, rows, max)?.into_iter().map(|value| value.map(wide)).collect()
            }
            ColumnReader::Int64ColumnReader(reader) => plain(reader, rows, max)?,
            _ => Vec::new(),
        };
        Ok(self.rows.len())
    }

    /// The number of a row; `None` if it is null.
    pub(super) fn row(&self, row: usize) -> Result<Option<u32>, String> {
        let number = self.rows.get(row).copied().flatten().map(u32::try_from).transpose();
        number.map_err(|_| "a vector's number is from 0 to 2^32 - 1".into())
    }
}
