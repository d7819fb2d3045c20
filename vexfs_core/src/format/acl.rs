//! POSIX access lists, in the form in which Linux passes them as attributes: a header, then entries.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The attribute that holds who may access a file, where that is more than its mode says.
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory that says what new files in it get.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// The only version of the form.
pub const ACL_VERSION: u32 = 2;
/// Bytes of a list at most: what Linux asks a FUSE filesystem for at once.
pub const ACL_MAX: usize = 4096;

/// Whom an entry is about; entries lie in the order of these numbers.
pub mod acl_tag {
    /// The owner.
    pub const OWNER: u16 = 0x01;
    /// A user, by number.
    pub const USER: u16 = 0x02;
    /// The file's group.
    pub const OWNING_GROUP: u16 = 0x04;
    /// A group, by number.
    pub const GROUP: u16 = 0x08;
    /// The most that users and groups by number, and the file's group, may.
    pub const MASK: u16 = 0x10;
    /// Everybody else.
    pub const OTHER: u16 = 0x20;
}

/// The head of a list; its entries follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AclHeader {
    /// [`ACL_VERSION`].
    pub version: U32,
}

/// What one user, group or class may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AclEntry {
    /// One of [`acl_tag`].
    pub tag: U16,
    /// 4 read, 2 write, 1 execute.
    pub permissions: U16,
    /// The user's or group's number; `u32::MAX` for the others.
    pub id: U32,
}

const _: () = assert!(size_of::<AclHeader>() == 4);
const _: () = assert!(size_of::<AclEntry>() == 8);
