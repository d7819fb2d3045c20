//! The records on disk: `docs/FORMAT.md` in code, a file per structure.
//!
//! Every struct here is little-endian, has alignment 1 and no padding, and its size is asserted at compile
//! time. This layer turns bytes into records and back; it does no I/O and knows no policy.

mod acl;
mod collection;
mod column;
mod directory;
mod extent;
mod inode;
mod journal;
mod key;
mod node;
mod past;
mod space;
mod superblock;
mod vector;
mod xattr;

pub use acl::{ACL_ACCESS, ACL_DEFAULT, ACL_MAX, ACL_VERSION, AclEntry, AclHeader, acl_tag};
pub use collection::{
    COLLECTION_MODEL_MAX, CodebookRecord, CollectionFlags, CollectionRecord, MatrixRecord, QuantizerRecord,
};
pub use column::{COLUMN_NAME_MAX, COLUMN_WIDTH_MAX, COLUMNS_MAX, ColumnRecord, ColumnType};
pub use directory::{DirentRecord, FileKind, LinkRecord, NAME_MAX, OrphanKind, OrphanRecord};
pub use extent::{EXTENT_BLOCKS_MAX, ExtentFlags, ExtentRecord};
pub use inode::{InodeFlags, InodeRecord, TimeRecord};
pub use journal::{
    LOG_ALIGN, LOG_ENTRY, LOG_HEADER, LOG_MAGIC, LOG_RECORD_MAX, LogEntry, LogHeader, LogKind,
};
pub use key::{Key, Kind};
pub use node::{
    Expected, LEVEL_MAX, NODE_HEADER, NODE_MAGIC, Node, NodeHeader, NodeWriter, Pointer, PointerRecord, SLOT,
    Slot, value_max,
};
pub use past::{HISTORY_MAX, PAST_IDS, PastRecord, past_offset};
pub use space::{SpaceEntry, SpaceLayout};
pub use superblock::{
    Compatible, Incompatible, Layout, ReadOnlyCompatible, SLOT_SPACING, SUPERBLOCK, SUPERBLOCK_MAGIC,
    Superblock, VERSION, slot_offsets,
};
pub use vector::{
    BlankRecord, Codec, Element, FreeRowsRecord, MATRIX_DATA, Metric, Quantizer, RedoRecord, RowRecord,
    VECTOR_MAGIC, VERSION_GONE, VectorHeader, VectorRecord,
};
pub use xattr::{XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrRecord};

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::error::{Error, Result};
use crate::numbers::{CollectionId, Ino};

/// The root directory.
pub const ROOT: Ino = Ino(1);
/// `/.vexfs`, the control directory.
pub const CONTROL: Ino = Ino(2);
/// `/.vexfs/collections`.
pub const COLLECTIONS: Ino = Ino(3);
/// The pseudo-inode that holds the orphan records.
pub const ORPHANS: Ino = Ino(32);
/// The first inode number of an ordinary file.
pub const FIRST_INODE: Ino = Ino(64);
/// Inode numbers from here on belong to collections: `COLLECTION_INODES + 64 * id + part`.
pub const COLLECTION_INODES: u64 = 1 << 48;
/// Inode numbers a collection takes.
pub const COLLECTION_PARTS: u64 = 64;
/// Inode numbers from here on are those of matrices that recoding made, and of their scales: two for each, `MATRIX_NUMBERS` of
/// them for a collection.
pub const MATRICES: u64 = 1 << 53;
/// How many matrices a collection can have, one after another; the first is part 1 of the collection.
pub const MATRIX_NUMBERS: u32 = 1 << 19;
/// Inode numbers from here on are those that show codebooks: one for each matrix that recoding made.
pub const CODEBOOKS: u64 = 1 << 54;
/// Bytes of a codebook in one record, but for the last one's: what fits at every block size.
pub const CODEBOOK_PIECE: usize = 896;
/// Inline bytes of a file or a symbolic link, in one record, at most; also bounded by [`value_max`].
pub const INLINE_MAX: usize = 768;

/// The part of a collection that its matrix is, and those that show its scales and its codebook.
const MATRIX_PART: u64 = 1;
const SCALE_PART: u64 = 5;
const CODEBOOK_PART: u64 = 14;

/// Bytes of a vector's metadata at most.
pub const METADATA_MAX: usize = 4096;

/// The offset of a piece of a row's metadata in its key.
pub const fn metadata_offset(row: u64, index: u64) -> u64 {
    row << 8 | index
}

/// The directory inode of a collection.
pub const fn collection_directory(id: CollectionId) -> Ino {
    Ino(COLLECTION_INODES + id.0 as u64 * COLLECTION_PARTS)
}

/// The inode of a collection's first matrix: part 1 of its 64.
pub const fn collection_matrix(id: CollectionId) -> Ino {
    Ino(collection_directory(id).0 + MATRIX_PART)
}

/// The inode of a collection's matrix of this number: part 1 for 0, else one of its own.
pub const fn numbered_matrix(id: CollectionId, number: u32) -> Ino {
    match number {
        0 => collection_matrix(id),
        _ => Ino(MATRICES + 2 * (id.0 as u64 * MATRIX_NUMBERS as u64 + number as u64)),
    }
}

/// The inode that shows the scales of the rows in that matrix: part 5 for 0, else the next one.
pub const fn numbered_scale(id: CollectionId, number: u32) -> Ino {
    match number {
        0 => Ino(collection_directory(id).0 + SCALE_PART),
        _ => Ino(numbered_matrix(id, number).0 + 1),
    }
}

/// The inode that shows the codebook of that matrix: part 14 for 0, which never has one.
pub const fn numbered_codebook(id: CollectionId, number: u32) -> Ino {
    match number {
        0 => Ino(collection_directory(id).0 + CODEBOOK_PART),
        _ => Ino(CODEBOOKS + id.0 as u64 * MATRIX_NUMBERS as u64 + number as u64),
    }
}

/// The number of the matrix that an inode is, or whose scales or codebook it shows; 0 for all else.
pub fn matrix_number(inode: Ino) -> u32 {
    numbered(inode).map_or(0, |(_, number, _)| number)
}

// Collection, number and part of an inode that recoding made.
fn numbered(inode: Ino) -> Option<(CollectionId, u32, u64)> {
    let (index, part) = match inode.0.checked_sub(CODEBOOKS) {
        Some(index) => (index, CODEBOOK_PART),
        None => {
            let index = inode.0.checked_sub(MATRICES)?;
            (index / 2, if index % 2 == 0 { MATRIX_PART } else { SCALE_PART })
        }
    };
    let id = u32::try_from(index / u64::from(MATRIX_NUMBERS)).ok()?;
    let number = (index % u64::from(MATRIX_NUMBERS)) as u32;
    (number != 0).then_some((CollectionId(id), number, part))
}

/// The collection and the part that an inode number stands for; matrices, scales and codebooks are the same parts, whatever
/// number they have.
pub fn collection_part(inode: Ino) -> Option<(CollectionId, u64)> {
    if let Some((id, _, part)) = numbered(inode) {
        return Some((id, part));
    }
    let number = inode.0.checked_sub(COLLECTION_INODES)?;
    let id = u32::try_from(number / COLLECTION_PARTS).ok()?;
    Some((CollectionId(id), number % COLLECTION_PARTS))
}

/// The record at the head of `bytes`; `what` and `block` name it in the error.
pub fn parse<'a, T>(bytes: &'a [u8], what: &'static str, block: u64) -> Result<(&'a T, &'a [u8])>
where
    T: FromBytes + Immutable + KnownLayout + zerocopy::Unaligned,
{
    T::ref_from_prefix(bytes).map_err(|_| Error::corrupt(what, block, "record too short"))
}

/// The record that `bytes` are, no more and no less.
pub fn parse_exact<'a, T>(bytes: &'a [u8], what: &'static str, block: u64) -> Result<&'a T>
where
    T: FromBytes + Immutable + KnownLayout + zerocopy::Unaligned,
{
    T::ref_from_bytes(bytes).map_err(|_| Error::corrupt(what, block, "record of a wrong length"))
}
