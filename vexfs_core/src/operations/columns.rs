//! Columns: members of the metadata that a collection shows as arrays, one entry a row.
//!
//! Only their names and types are stored. The entries are made from the metadata whenever they are read, so there is
//! nothing that could contradict it; metadata that does not fit a column is refused.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::U16;

use super::{collection, metadata};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLUMN_NAME_MAX, COLUMN_WIDTH_MAX, COLUMNS_MAX, ColumnRecord, ColumnType, Incompatible, Key, Kind,
    collection_directory, parse,
};
use crate::json::{self, Value};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::Budget;
use crate::tree;
use crate::volume::{Event, Nodes, Volume};

/// A column of a collection.
#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number: where it stands among the collection's files.
    pub number: u64,
    /// The type of its entries.
    pub kind: ColumnType,
    /// Bytes of an entry.
    pub width: u16,
    /// The member of the metadata; names of inner ones behind dots.
    pub name: Vec<u8>,
}

impl Column {
    /// What stands where a row has no such member. A float's is NaN, a string's the byte FF, which no UTF-8 has.
    pub(crate) fn null(&self, entry: &mut [u8]) {
        entry.fill(0);
        let null: &[u8] = match self.kind {
            ColumnType::Bool => &[0xff],
            ColumnType::Int | ColumnType::Timestamp => &i64::MIN.to_le_bytes(),
            ColumnType::Float => &0x7ff8_0000_0000_0000_u64.to_le_bytes(),
            ColumnType::String => &[0xff],
        };
        for (to, from) in entry.iter_mut().zip(null) {
            *to = *from;
        }
    }

    /// The entry of a row with this metadata.
    ///
    /// # Errors
    /// `Invalid` if the member is of another type.
    pub(crate) fn entry(&self, text: &[u8], entry: &mut [u8]) -> Result<()> {
        self.null(entry);
        let value = match json::member(text, &self.name)? {
            None | Some(Value::Null) => return Ok(()),
            Some(value) => value,
        };
        let number: Option<[u8; 8]> = match (self.kind, value) {
            (ColumnType::Bool, Value::Bool(value)) => {
                entry[0] = u8::from(value);
                return Ok(());
            }
            (ColumnType::String, Value::String(raw)) => {
                let string = json::unescape(raw)?;
                // An entry ends at its last byte that is not zero.
                if string.len() > entry.len() || string.last() == Some(&0) {
                    return Err(Error::Invalid("a string of the metadata is longer than its column is wide"));
                }
                entry.fill(0);
                entry[..string.len()].copy_from_slice(&string);
                return Ok(());
            }
            (ColumnType::Int, Value::Number(number)) => json::integer(number).map(i64::to_le_bytes),
            (ColumnType::Float, Value::Number(number)) => Some(json::float_bits(number).to_le_bytes()),
            (ColumnType::Timestamp, Value::String(raw)) => json::nanoseconds(raw).map(i64::to_le_bytes),
            (ColumnType::Timestamp, Value::Number(number)) => {
                let seconds = json::integer(number);
                seconds.and_then(|value| value.checked_mul(1_000_000_000)).map(i64::to_le_bytes)
            }
            _ => None,
        };
        let Some(number) = number.filter(|number| self.kind == ColumnType::Float || *number != NULL) else {
            return Err(Error::Invalid(match self.kind {
                ColumnType::Bool => "metadata that does not fit its column: true or false",
                ColumnType::Int => "metadata that does not fit its column: a whole number of 64 bits",
                ColumnType::Float => "metadata that does not fit its column: a number",
                ColumnType::String => "metadata that does not fit its column: a string",
                ColumnType::Timestamp => {
                    "metadata that does not fit its column: a time like 2026-11-21T14:30:00Z, or seconds since 1970"
                }
            }));
        };
        entry.copy_from_slice(&number);
        Ok(())
    }

    /// Its inode among the collection's files.
    pub(crate) fn inode(&self, id: CollectionId) -> Ino {
        Ino(collection_directory(id).0 + control::COLUMNS + self.number)
    }
}

const NULL: [u8; 8] = i64::MIN.to_le_bytes();

impl<H: BlockDevice + Data> Volume<H> {
    /// The columns of a collection, in the order of their numbers.
    pub fn columns(&self, id: CollectionId) -> Result<Vec<Column>> {
        columns(self, id)
    }

    /// Shows a member of the metadata as an array; `width` is the bytes of a string.
    ///
    /// # Errors
    /// `Exists`; `NotFound` without the collection; `Invalid` for a bad name or width, and if the metadata of a row does not fit.
    pub fn add_column(
        &mut self,
        id: CollectionId,
        name: &[u8],
        kind: ColumnType,
        width: u16,
        now: Time,
    ) -> Result<()> {
        check_name(name)?;
        let width = match kind {
            ColumnType::Bool => 1,
            ColumnType::String if (1..=COLUMN_WIDTH_MAX).contains(&width) => width,
            ColumnType::String => return Err(Error::Invalid("a string column is 1 to 256 bytes wide")),
            _ => 8,
        };
        let others = columns(self, id)?;
        if others.iter().any(|column| column.name == name) {
            return Err(Error::Exists);
        }
        let free = (0..COLUMNS_MAX).find(|number| others.iter().all(|column| column.number != *number));
        let number = free.ok_or(Error::Invalid("a collection has at most 16 columns"))?;
        let column = Column { number, kind, width, name: memory::copy(name)? };
        let mut entry = memory::zeroed(usize::from(width))?;
        metadata::each(self, id, 0, u64::MAX, &mut |_, text| column.entry(text, &mut entry))?;
        self.transact(Budget::records(8), now, |tx| {
            collection::load(tx, id)?;
            let record = ColumnRecord {
                kind: U16::new(kind as u16),
                width: U16::new(width),
                name_len: U16::new(name.len() as u16),
                reserved: U16::ZERO,
            };
            let mut bytes = memory::copy(record.as_bytes())?;
            memory::extend(&mut bytes, name)?;
            tx.volume.needs |= Incompatible::METADATA;
            tree::put(tx, key(id, number), &bytes)?;
            tx.event(Event { inode: collection_directory(id), offset: 0, len: 0 })?;
            // Its number may have been another column's.
            tx.event(Event { inode: column.inode(id), offset: 0, len: i64::MAX as u64 })
        })
    }

    /// Shows a member of the metadata as an array no longer.
    pub fn drop_column(&mut self, id: CollectionId, name: &[u8], now: Time) -> Result<()> {
        let column = columns(self, id)?.into_iter().find(|column| column.name == name);
        let column = column.ok_or(Error::NotFound)?;
        self.transact(Budget::freeing(8), now, |tx| {
            tree::remove(tx, key(id, column.number))?;
            tx.event(Event { inode: collection_directory(id), offset: 0, len: 0 })?;
            tx.event(Event { inode: column.inode(id), offset: 0, len: i64::MAX as u64 })
        })
    }
}

/// The columns of a collection, in the order of their numbers.
pub(crate) fn columns<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Vec<Column>> {
    let mut columns = Vec::new();
    let (from, to) = (key(id, 0), Key::last(collection_directory(id), Kind::Column));
    tree::scan(nodes, from, to, &mut |key, value| {
        memory::push(&mut columns, decode(id, key.offset, value)?)?;
        Ok(true)
    })?;
    Ok(columns)
}

/// The column with this number.
pub(crate) fn column<N: Nodes>(nodes: &N, id: CollectionId, number: u64) -> Result<Column> {
    tree::find(nodes, key(id, number), |value| decode(id, number, value))?.ok_or(Error::NotFound)
}

/// A column from its record.
pub(crate) fn decode(id: CollectionId, number: u64, value: &[u8]) -> Result<Column> {
    let directory = collection_directory(id).0;
    let (record, name): (&ColumnRecord, _) = parse(value, "column of collection", directory)?;
    let width = record.width.get();
    let kind = ColumnType::from_u16(record.kind.get()).filter(|kind| match kind {
        ColumnType::Bool => width == 1,
        ColumnType::String => (1..=COLUMN_WIDTH_MAX).contains(&width),
        _ => width == 8,
    });
    match kind {
        Some(kind)
            if number < COLUMNS_MAX
                && name.len() == usize::from(record.name_len.get())
                && check_name(name).is_ok() =>
        {
            Ok(Column { number, kind, width, name: memory::copy(name)? })
        }
        _ => Err(Error::corrupt("column of collection", directory, "of no known type, width or name")),
    }
}

fn key(id: CollectionId, number: u64) -> Key {
    Key::new(collection_directory(id), Kind::Column, number)
}

fn check_name(name: &[u8]) -> Result<()> {
    let fine = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let taken = [&b"vectors"[..], b"headers", b"valid", b"scale", b"codebook", b"rotation", b"generation"];
    if name.is_empty() || name.len() > COLUMN_NAME_MAX || !name.iter().all(fine) || name[0] == b'.' {
        return Err(Error::Invalid(
            "a column's name has 1 to 64 characters of A-Z a-z 0-9 _ - and dots within",
        ));
    }
    if taken.contains(&name) {
        return Err(Error::Invalid("a collection's own array has that name"));
    }
    Ok(())
}
