//! What can be done to a filesystem: plain values, so that a failing run can be printed and repeated.

use std::fmt;

use vexfs_core::codec;
use vexfs_core::format::{Codec, Element, FileKind, NAME_MAX};
use vexfs_core::operations::{Allocate, RenameFlags, SetMode};

use super::quantize;
use crate::random::Random;

/// A file name; prints as text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub Vec<u8>);

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() > 40 {
            write!(f, "\"{}...\"({} bytes)", self.0[..8].escape_ascii(), self.0.len())
        } else {
            write!(f, "\"{}\"", self.0.escape_ascii())
        }
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// Bytes told by a seed and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Where the bytes come from.
    pub seed: u64,
    /// How many.
    pub len: usize,
}

impl Fill {
    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        Random::new(self.seed).bytes(self.len)
    }

    /// A JSON object of this length, from 2 bytes on; below, none.
    pub fn metadata(self) -> Vec<u8> {
        let around = br#"{"text":"","confidence":0.5}"#;
        let Some(len) = self.len.checked_sub(around.len()) else {
            return format!("{{}}{}", " ".repeat(self.len.saturating_sub(2))).into_bytes()[..self.len.max(1)]
                .to_vec();
        };
        let (head, tail) = around.split_at(9);
        let letters = self.bytes().into_iter().take(len).map(|byte| b'a' + byte % 26).collect::<Vec<u8>>();
        [head, &letters, tail].concat()
    }
}

/// Which vector of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorName {
    /// The collection's name.
    pub collection: String,
    /// The element type the name asks for.
    pub element: Element,
    /// Which of the file's vectors there.
    pub n: u32,
    /// Leave the element out although it is not f32, as one may once the collection exists.
    pub short: bool,
}

impl VectorName {
    /// Vector 0 of a collection of f32.
    pub fn new(collection: &str) -> Self {
        Self { collection: collection.into(), element: Element::F32, n: 0, short: false }
    }

    /// The name of the attribute as `listxattr` gives it.
    pub fn listed(&self) -> Vec<u8> {
        Self { short: false, ..self.clone() }.attribute()
    }

    /// The name of its metadata as `listxattr` gives it.
    pub fn listed_metadata(&self) -> Vec<u8> {
        [&self.listed()[..], b".meta"].concat()
    }

    /// The name of its metadata as it is asked for.
    pub fn metadata(&self) -> Vec<u8> {
        [&self.attribute()[..], b".meta"].concat()
    }

    /// The name of the vector that it superseded so many times ago, from 1 on.
    pub fn past(&self, back: usize) -> Vec<u8> {
        [&self.attribute()[..], format!("@-{back}").as_bytes()].concat()
    }

    /// The name of the attribute as it is asked for.
    pub fn attribute(&self) -> Vec<u8> {
        let mut name = format!("user.vector.{}", self.collection);
        if self.element != Element::F32 && !self.short {
            name += ":";
            name += self.element.name();
        }
        if self.n > 0 {
            name += &format!(".{}", self.n);
        }
        name.into_bytes()
    }
}

/// The bytes of a vector, told by a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorFill {
    /// Where the bytes come from.
    pub seed: u64,
    /// Dimensions.
    pub dimensions: u32,
    /// Put a NaN there (f32 and f16 only).
    pub poison: bool,
}

impl VectorFill {
    /// The bytes: any for integers and bits, finite ones for floats.
    pub fn bytes(self, element: Element) -> Vec<u8> {
        let len = element.bytes(self.dimensions).unwrap_or(self.dimensions.div_ceil(8)) as usize;
        let mut bytes = Random::new(self.seed).bytes(len);
        let width = element.width() as usize;
        if matches!(element, Element::F32 | Element::F16) {
            // The highest bit of the exponent off: below 2, so neither infinite nor NaN.
            bytes.chunks_exact_mut(width).for_each(|value| value[width - 1] &= 0xbf);
            if let Some(value) = bytes.chunks_exact_mut(width).last().filter(|_| self.poison) {
                value.fill(0xff);
            }
        }
        bytes
    }
}

/// The codecs that stored a vector, from the one that it was set in to the one that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codecs {
    /// The last at the lowest four bits, each as [`number`] tells.
    packed: u64,
}

impl Codecs {
    /// So many are told apart.
    pub const MAX: usize = 16;

    /// The codec that a vector is set in.
    pub fn new(codec: Codec) -> Self {
        Self { packed: number(codec) }
    }

    /// How many they are.
    pub fn count(self) -> usize {
        (64 - self.packed.leading_zeros()).div_ceil(4) as usize
    }

    /// A recode to one more.
    pub fn push(&mut self, codec: Codec) {
        assert!(self.count() < Self::MAX, "a vector that was recoded too often for this model");
        self.packed = self.packed << 4 | number(codec);
    }

    // Row and scale in the last of them, and what reads back from those.
    pub(super) fn store(self, fill: VectorFill, element: Element) -> ((Vec<u8>, u32), Vec<u8>) {
        let (mut value, mut stored) = (fill.bytes(element), (Vec::new(), 0));
        for at in (0..self.count()).rev() {
            let codec = numbered(self.packed >> (4 * at) & 15, fill.dimensions);
            let len = codec::stored_len(codec, element, fill.dimensions).unwrap_or(value.len() as u32);
            let mut row = vec![0; len as usize];
            if let Codec::Pq(quantizer) = codec {
                let codebook = quantize::codebook(quantizer, element);
                codebook.encode(&value, &mut row);
                codebook.decode(&row, &mut value);
                stored = (row, 0);
                continue;
            }
            let scale = codec::encode(codec, element, &value, &mut row).expect("small finite numbers");
            codec::decode(codec, element, &row, scale, &mut value).expect("a scale that was just made");
            stored = (row, scale);
        }
        (stored, value)
    }
}

// A codec in four bits: its number on disk + 1, and one more for codes of 8 bits.
fn number(codec: Codec) -> u64 {
    u64::from(codec.number()) + 1 + u64::from(codec.quantizer().bits == 8)
}

// The codec that this is of vectors of so many dimensions.
fn numbered(number: u64, dimensions: u32) -> Codec {
    let plain = Codec::from_u16(number as u16 - 1);
    let bits = if number == 7 { 8 } else { 4 };
    plain.or_else(|| quantize::quantized(dimensions, bits)).expect("a codec's number")
}

/// One thing to do; inodes are told by their numbers.
#[derive(Clone, Debug)]
pub enum Op {
    /// A file, directory, fifo, socket or device node.
    Create {
        /// Where.
        directory: u64,
        /// Its name.
        name: Name,
        /// Type.
        kind: FileKind,
        /// Permission bits.
        permissions: u32,
        /// uid and gid.
        owner: u32,
    },
    /// A file without a name, held open.
    CreateUnnamed {
        /// Whose filesystem.
        directory: u64,
    },
    /// A symbolic link.
    Symlink {
        /// Where.
        directory: u64,
        /// Its name.
        name: Name,
        /// What it names.
        target: Name,
    },
    /// Another name.
    Link {
        /// For this.
        inode: u64,
        /// Where.
        directory: u64,
        /// The name.
        name: Name,
    },
    /// Takes a name away.
    Unlink {
        /// Where.
        directory: u64,
        /// The name.
        name: Name,
    },
    /// Removes an empty directory.
    RemoveDirectory {
        /// Where.
        directory: u64,
        /// Its name.
        name: Name,
    },
    /// renameat2(2).
    Rename {
        /// Directory and name.
        from: (u64, Name),
        /// Directory and name.
        to: (u64, Name),
        /// How.
        flags: RenameFlags,
    },
    /// Keeps a file open, so that it outlives its names.
    Open {
        /// The file.
        inode: u64,
    },
    /// The last close.
    Close {
        /// The file.
        inode: u64,
    },
    /// Puts bytes into a file.
    Write {
        /// The file.
        inode: u64,
        /// Byte offset.
        offset: u64,
        /// The bytes.
        fill: Fill,
    },
    /// truncate(2).
    Truncate {
        /// The file.
        inode: u64,
        /// The new size.
        size: u64,
    },
    /// fallocate(2).
    Allocate {
        /// The file.
        inode: u64,
        /// How.
        what: Allocate,
        /// Byte offset.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// chmod.
    Permissions {
        /// The file.
        inode: u64,
        /// Permission bits.
        permissions: u32,
    },
    /// chown.
    Owner {
        /// The file.
        inode: u64,
        /// uid.
        uid: u32,
        /// gid.
        gid: u32,
    },
    /// Sets the time of the last change of the content.
    Modified {
        /// The file.
        inode: u64,
        /// Seconds since 1970.
        seconds: i64,
    },
    /// setxattr(2) of an ordinary attribute.
    SetAttribute {
        /// The file.
        inode: u64,
        /// The attribute.
        name: Name,
        /// Its value.
        fill: Fill,
        /// Create, replace or either.
        mode: SetMode,
    },
    /// removexattr(2) of an ordinary attribute.
    RemoveAttribute {
        /// The file.
        inode: u64,
        /// The attribute.
        name: Name,
    },
    /// setxattr(2) of a vector.
    SetVector {
        /// The file.
        inode: u64,
        /// Which.
        vector: VectorName,
        /// Its value.
        fill: VectorFill,
        /// Create, replace or either.
        mode: SetMode,
    },
    /// A batch of vectors, whole or not at all.
    SetVectors {
        /// Of which collection.
        collection: String,
        /// Each with its file and number.
        vectors: Vec<(u64, u32, VectorFill)>,
        /// Vectors that are there are kept.
        keep: bool,
    },
    /// removexattr(2) of a vector.
    RemoveVector {
        /// The file.
        inode: u64,
        /// Which.
        vector: VectorName,
    },
    /// setxattr(2) of a vector's metadata.
    SetMetadata {
        /// The file.
        inode: u64,
        /// Which.
        vector: VectorName,
        /// Its text.
        fill: Fill,
        /// Create, replace or either.
        mode: SetMode,
    },
    /// removexattr(2) of a vector's metadata.
    RemoveMetadata {
        /// The file.
        inode: u64,
        /// Of which.
        vector: VectorName,
    },
    /// mkdir in the control directory, with settings.
    CreateCollection {
        /// Its name.
        name: String,
        /// Element type.
        element: Element,
        /// How rows are stored.
        codec: Codec,
        /// Dimensions; 0 = as the first vector has.
        dimensions: u32,
    },
    /// Changes how many superseded vectors a collection keeps behind each.
    History {
        /// Its name.
        name: String,
        /// How many.
        count: usize,
    },
    /// rmdir in the control directory.
    RemoveCollection {
        /// Its name.
        name: String,
    },
    /// rename in the control directory.
    RenameCollection {
        /// Its name.
        from: String,
        /// The new one.
        to: String,
    },
    /// A step of compaction.
    Compact {
        /// The collection.
        name: String,
    },
    /// Asks for another codec, or gives up a recode.
    Recode {
        /// The collection.
        name: String,
        /// The codec; none to give up.
        codec: Option<Codec>,
    },
    /// A step of a recode.
    RecodeStep {
        /// The collection.
        name: String,
    },
    /// All the work that waits.
    Tidy,
    /// Makes everything durable.
    Commit,
    /// Makes everything durable, by a record of the journal where that will do.
    Sync,
    /// Syncs, and mounts anew as after a power cut: by the journal.
    Recover,
    /// Commits and mounts anew.
    Remount,
}

impl Op {
    /// True if more than one refusal may be right, and which comes first is not told.
    pub fn has_several_faults(&self) -> bool {
        match self {
            Self::Rename { .. } => true,
            Self::Unlink { name, .. } | Self::RemoveDirectory { name, .. } => name.0.len() > NAME_MAX,
            _ => false,
        }
    }
}
