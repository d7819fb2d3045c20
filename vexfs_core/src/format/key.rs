//! The key of a tree record: `(inode, kind, offset)`.

use crate::numbers::Ino;

/// What a record is; one file's records lie in this order. The values are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// `InodeRecord`; offset 0.
    Inode = 1,
    /// `CollectionRecord`, at a collection's directory; offset 0.
    Collection = 2,
    /// Bytes of a small file or a symbolic link; offset = byte offset.
    Inline = 3,
    /// `LinkRecord`: a directory entry that names this inode; offset = keyed hash << 16 | sequence.
    Link = 4,
    /// `XattrRecord`; offset = keyed hash << 16 | sequence.
    Xattr = 5,
    /// Bytes of a large attribute value; offset = value number << 16 | chunk.
    XattrValue = 6,
    /// `VectorRecord`; offset = collection << 32 | n.
    Vector = 7,
    /// Metadata of a vector, cut into pieces of `value_max`, at the collection's directory; offset = row << 8 | piece.
    VectorMeta = 8,
    /// `DirentRecord`, at the directory; offset = keyed hash << 16 | sequence, the readdir cookie.
    Dirent = 9,
    /// `ExtentRecord`; offset = block index in the file.
    Extent = 10,
    /// `RowRecord`, at the collection's directory; offset = row.
    Row = 11,
    /// `BlankRecord`: a row freed but not yet blanked; offset = row.
    Blank = 12,
    /// `FreeRowsRecord`: a run of free rows; offset = first row.
    FreeRows = 13,
    /// `OrphanRecord`, at the inode `ORPHANS`; offset = inode.
    Orphan = 14,
    /// `ColumnRecord`, at the collection's directory; offset = its number.
    Column = 15,
    /// Ids of the superseded vectors that are kept behind a file's vector, the newest first; offset as the vector's.
    PastVectors = 16,
    /// `PastRecord`, metadata and stored bytes of a superseded vector, cut into pieces of `value_max`, at the collection's
    /// directory; offset = vector id << 8 | piece.
    PastPiece = 17,
    /// `RedoRecord`, at a matrix that is being made: a row of it that changed since it was coded; offset = row.
    Redo = 18,
    /// Bytes of a codebook, cut into pieces of [`CODEBOOK_PIECE`](super::CODEBOOK_PIECE), at the matrix that is coded by it; offset =
    /// piece.
    Codebook = 19,
}

impl Kind {
    /// The kind with this number.
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Inode,
            2 => Self::Collection,
            3 => Self::Inline,
            4 => Self::Link,
            5 => Self::Xattr,
            6 => Self::XattrValue,
            7 => Self::Vector,
            8 => Self::VectorMeta,
            9 => Self::Dirent,
            10 => Self::Extent,
            11 => Self::Row,
            12 => Self::Blank,
            13 => Self::FreeRows,
            14 => Self::Orphan,
            15 => Self::Column,
            16 => Self::PastVectors,
            17 => Self::PastPiece,
            18 => Self::Redo,
            19 => Self::Codebook,
            _ => return None,
        })
    }
}

/// The key of a record; ordered by inode, then kind, then offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The inode that the record belongs to.
    pub inode: u64,
    /// The kind's number; the tree itself takes any.
    pub kind: u8,
    /// Where in the kind.
    pub offset: u64,
}

impl Key {
    /// Below every key.
    pub const MIN: Self = Self { inode: 0, kind: 0, offset: 0 };
    /// Above every key in use.
    pub const MAX: Self = Self { inode: u64::MAX, kind: u8::MAX, offset: u64::MAX };

    /// The key of a record of `inode`.
    pub const fn new(inode: Ino, kind: Kind, offset: u64) -> Self {
        Self { inode: inode.0, kind: kind as u8, offset }
    }

    /// The last key of this inode and kind.
    pub const fn last(inode: Ino, kind: Kind) -> Self {
        Self::new(inode, kind, u64::MAX)
    }

    /// The next key up.
    pub const fn next(self) -> Self {
        match self.offset.checked_add(1) {
            Some(offset) => Self { offset, ..self },
            None => match self.kind.checked_add(1) {
                Some(kind) => Self { inode: self.inode, kind, offset: 0 },
                None => match self.inode.checked_add(1) {
                    Some(inode) => Self { inode, kind: 0, offset: 0 },
                    None => self,
                },
            },
        }
    }
}
