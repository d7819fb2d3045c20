//! Extended attributes other than vectors.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a name at most (`XATTR_NAME_MAX` of Linux).
pub const XATTR_NAME_MAX: usize = 255;
/// Bytes of a value at most (`XATTR_SIZE_MAX` of Linux).
pub const XATTR_VALUE_MAX: usize = 65536;
/// Bytes of all names with their NULs at most (`XATTR_LIST_MAX` of Linux).
pub const XATTR_LIST_MAX: usize = 65536;

/// An attribute; the name follows, and behind it the value if `value_number` is 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct XattrRecord {
    /// Bytes of the value.
    pub value_len: U32,
    /// 0 = the value is here; else its `XattrValue` records are `value_number << 16 | chunk`.
    pub value_number: U32,
    /// Bytes of the name.
    pub name_len: U16,
    /// Reserved, zero.
    pub reserved: U16,
}

const _: () = assert!(size_of::<XattrRecord>() == 12);
