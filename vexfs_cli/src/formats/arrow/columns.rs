//! Columns of a record batch, each ready to be read by row: lists of numbers, text, numbers.

use std::ops::Range;

use super::layout::{Array, Field, Kind};
use super::messages::Compression;

/// Bytes of a buffer: in the file, or unpacked.
enum Part {
    File(Range<usize>),
    Unpacked(Vec<u8>),
}

impl Part {
    fn of<'a>(&'a self, file: &'a [u8]) -> &'a [u8] {
        match self {
            Self::File(range) => file.get(range.clone()).unwrap_or(&[]),
            Self::Unpacked(bytes) => bytes,
        }
    }
}

/// A batch's bytes.
pub(super) struct Body<'a> {
    pub(super) file: &'a [u8],
    pub(super) range: Range<usize>,
    pub(super) compression: Compression,
}

impl Body<'_> {
    fn part(&self, array: &Array, index: usize) -> Result<Part, String> {
        let place = array.buffers.get(index).ok_or("a column without its buffers")?;
        let body = self.file.get(self.range.clone()).unwrap_or(&[]);
        Ok(match self.compression.buffer(body, *place)? {
            std::borrow::Cow::Owned(bytes) => Part::Unpacked(bytes),
            std::borrow::Cow::Borrowed(bytes) => {
                // Where it is in the file: behind its length, if it has one.
                let start = self.range.start + place[0] + (place[1] - bytes.len());
                Part::File(start..start + bytes.len())
            }
        })
    }

    // Where no entry is null, there need not be a buffer.
    fn validity(&self, array: &Array) -> Result<Option<Part>, String> {
        if array.nulls == 0 {
            return Ok(None);
        }
        let part = self.part(array, 0)?;
        if part.of(self.file).len() < array.len.div_ceil(8) {
            return Err("a column is shorter than its batch".into());
        }
        Ok(Some(part))
    }
}

fn is_valid(validity: &Option<Part>, file: &[u8], row: usize) -> bool {
    let bit = |part: &Part| part.of(file).get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 != 0);
    validity.as_ref().is_none_or(bit)
}

// The `width` bytes at an index as a number.
fn integer(bytes: &[u8], index: usize, width: usize) -> Option<u64> {
    let start = index.checked_mul(width)?;
    let entry = bytes.get(start..start.checked_add(width)?)?;
    Some(entry.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn bounds(offsets: &[u8], width: usize, row: usize) -> Option<Range<usize>> {
    let at = |index| integer(offsets, index, width).and_then(|offset| usize::try_from(offset).ok());
    Some(at(row)?..at(row + 1)?)
}

/// A column of lists of numbers.
pub(super) struct Lists {
    validity: Option<Part>,
    offsets: Offsets,
    items: Part,
    items_validity: Option<Part>,
    width: usize,
    /// Rows.
    pub(super) len: usize,
}

enum Offsets {
    Fixed { size: usize, used: usize },
    Told { part: Part, width: usize },
}

impl Lists {
    /// Of rows longer than `dimension` entries, so many count.
    pub(super) fn new(
        body: &Body<'_>,
        field: &Field,
        array: &Array,
        width: usize,
        dimension: Option<usize>,
    ) -> Result<Self, String> {
        let offsets = match field.kind {
            Kind::FixedList(size) => Offsets::Fixed { size, used: dimension.unwrap_or(size).min(size) },
            Kind::List { width } => Offsets::Told { part: body.part(array, 1)?, width },
            _ => return Err("the column holds no vectors".into()),
        };
        let [items] = &array.children[..] else { return Err("lists of nothing".into()) };
        Ok(Self {
            validity: body.validity(array)?,
            offsets,
            items: body.part(items, 1)?,
            items_validity: body.validity(items)?,
            width,
            len: array.len,
        })
    }

    /// The entries of a row; `None` if it is null.
    pub(super) fn row<'a>(&'a self, file: &'a [u8], row: usize) -> Result<Option<&'a [u8]>, String> {
        if !is_valid(&self.validity, file, row) {
            return Ok(None);
        }
        let range = match &self.offsets {
            Offsets::Fixed { size, used } => {
                row.checked_mul(*size).map(|start| start..start.saturating_add(*used))
            }
            Offsets::Told { part, width } => bounds(part.of(file), *width, row),
        };
        let scaled = range
            .clone()
            .and_then(|range| Some(range.start.checked_mul(self.width)?..range.end.checked_mul(self.width)?));
        let bytes = scaled.and_then(|range| self.items.of(file).get(range));
        let (Some(bytes), Some(mut entries)) = (bytes, range) else {
            return Err("a vector lies outside of its column".into());
        };
        if self.items_validity.is_some() && !entries.all(|entry| is_valid(&self.items_validity, file, entry))
        {
            return Err("a vector has elements that are null".into());
        }
        Ok(Some(bytes))
    }
}

/// A column of text.
pub(super) struct Texts {
    validity: Option<Part>,
    offsets: Part,
    /// Bytes of an offset; 0 for views.
    width: usize,
    data: Vec<Part>,
}

impl Texts {
    pub(super) fn new(body: &Body<'_>, field: &Field, array: &Array) -> Result<Self, String> {
        let width = match field.kind {
            Kind::Text { width } => width,
            Kind::TextView => 0,
            _ if field.in_dictionary => {
                return Err(format!("`{}` refers to a dictionary; write it as plain text", field.name));
            }
            _ => return Err(format!("the column `{}` is no text", field.name)),
        };
        let data = (2..array.buffers.len()).map(|index| body.part(array, index)).collect::<Result<_, _>>()?;
        Ok(Self { validity: body.validity(array)?, offsets: body.part(array, 1)?, width, data })
    }

    /// The text of a row.
    pub(super) fn row<'a>(&'a self, file: &'a [u8], row: usize) -> Result<&'a str, String> {
        if !is_valid(&self.validity, file, row) {
            return Err(format!("row {row} of its batch has no path"));
        }
        let bytes = if self.width == 0 { self.view(file, row) } else { self.plain(file, row) };
        let bytes = bytes.ok_or("a path lies outside of its column")?;
        std::str::from_utf8(bytes).map_err(|_| "a path is no UTF-8".into())
    }

    fn plain<'a>(&'a self, file: &'a [u8], row: usize) -> Option<&'a [u8]> {
        self.data.first()?.of(file).get(bounds(self.offsets.of(file), self.width, row)?)
    }

    // Up to twelve bytes lie in the view itself, more in a buffer.
    fn view<'a>(&'a self, file: &'a [u8], row: usize) -> Option<&'a [u8]> {
        let start = row.checked_mul(16)?;
        let view = self.offsets.of(file).get(start..start.checked_add(16)?)?;
        let len = integer(view, 0, 4)? as usize;
        if len <= 12 {
            return view.get(4..4 + len);
        }
        let at = integer(view, 3, 4)? as usize;
        self.data.get(integer(view, 2, 4)? as usize)?.of(file).get(at..at.checked_add(len)?)
    }
}

/// A column of whole numbers.
pub(super) struct Numbers {
    validity: Option<Part>,
    data: Part,
    width: usize,
    is_signed: bool,
}

impl Numbers {
    pub(super) fn new(body: &Body<'_>, field: &Field, array: &Array) -> Result<Self, String> {
        let (width, is_signed) = match field.kind {
            Kind::Number("|i1") => (1, true),
            Kind::Number("|u1") => (1, false),
            Kind::Number("<i2") => (2, true),
            Kind::Number("<u2") => (2, false),
            Kind::Number("<i4") => (4, true),
            Kind::Number("<u4") => (4, false),
            Kind::Number("<i8") => (8, true),
            Kind::Number("<u8") => (8, false),
            _ => return Err(format!("the column `{}` holds no whole numbers", field.name)),
        };
        Ok(Self { validity: body.validity(array)?, data: body.part(array, 1)?, width, is_signed })
    }

    /// The number of a row; `None` if it is null.
    pub(super) fn row(&self, file: &[u8], row: usize) -> Result<Option<u32>, String> {
        if !is_valid(&self.validity, file, row) {
            return Ok(None);
        }
        let value =
            integer(self.data.of(file), row, self.width).ok_or("a number lies outside of its column")?;
        let is_negative = self.is_signed && value >> (8 * self.width - 1) & 1 != 0;
        let number = u32::try_from(value).ok().filter(|_| !is_negative);
        number.map(Some).ok_or_else(|| "a vector's number is from 0 to 2^32 - 1".into())
    }
}
