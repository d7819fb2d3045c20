//! The record of a column: a member of the metadata that is shown as an array.

use core::mem::size_of;

use zerocopy::little_endian::U16;
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a column's name at most.
pub const COLUMN_NAME_MAX: usize = 64;
/// Columns a collection has at most.
pub const COLUMNS_MAX: u64 = 16;
/// Bytes of a string in a column at most.
pub const COLUMN_WIDTH_MAX: u16 = 256;

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum ColumnType {
    /// True or false.
    Bool = 1,
    /// A whole number of 64 bits.
    Int = 2,
    /// IEEE 754 binary64.
    Float = 3,
    /// UTF-8 of up to `width` bytes.
    String = 4,
    /// Nanoseconds since 1970.
    Timestamp = 5,
}

impl ColumnType {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bool, Self::Int, Self::Float, Self::String, Self::Timestamp];

    /// The type with this number.
    pub fn from_u16(value: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u16 == value)
    }

    /// The type with this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// `bool`, `int`, `float`, `string` or `timestamp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Timestamp => "timestamp",
        }
    }
}

/// A column; its name follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ColumnRecord {
    /// `ColumnType`.
    pub kind: U16,
    /// Bytes of an entry: 1, 8, or up to 256 of a string.
    pub width: U16,
    /// Bytes of the name.
    pub name_len: U16,
    /// Reserved, zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<ColumnRecord>() == 8);
