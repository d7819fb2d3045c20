//! Vectors: the 64-byte header, both directions of the file-vector mapping, and rows that are free.

use core::mem::size_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy_derive::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// `VECT`.
pub const VECTOR_MAGIC: u32 = 0x5645_4354;
/// Version of the vector header.
const VECTOR_VERSION: u32 = 1;
/// Byte offset of row 0 in a matrix; the bytes before are rendered, never stored.
pub const MATRIX_DATA: u64 = 4096;

/// The content version of a vector that was made from content which is gone: no file's content has it.
pub const VERSION_GONE: u64 = u64::MAX;

/// The element type of a collection (`VectorHeader::data_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Element {
    /// IEEE 754 binary32.
    F32 = 0,
    /// IEEE 754 binary16.
    F16 = 1,
    /// Signed 8-bit integers.
    I8 = 2,
    /// Signed 16-bit integers.
    I16 = 3,
    /// Bits, packed with the lowest bit first.
    Bit = 4,
}

impl Element {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::I8, Self::I16, Self::Bit];

    /// The element with this number.
    pub fn from_u16(value: u16) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The element with this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|element| element.name().as_bytes() == name)
    }

    /// `f32`, `f16`, `i8`, `i16` or `bit`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::Bit => "bit",
        }
    }

    /// Numpy's dtype of the stored matrix.
    pub const fn dtype(self) -> &'static str {
        match self {
            Self::F32 => "<f4",
            Self::F16 => "<f2",
            Self::I8 => "|i1",
            Self::I16 => "<i2",
            Self::Bit => "|u1",
        }
    }

    /// Bytes of one entry of the stored matrix.
    pub const fn width(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::I16 => 2,
            Self::I8 | Self::Bit => 1,
        }
    }

    /// Bytes of a vector of `dimensions`, or none where it has no whole number of them.
    pub const fn bytes(self, dimensions: u32) -> Option<u32> {
        match self {
            Self::Bit if dimensions % 8 != 0 => None,
            Self::Bit => Some(dimensions / 8),
            _ => dimensions.checked_mul(self.width()),
        }
    }

    /// The dimension of a vector of `bytes` bytes.
    pub const fn dimensions(self, bytes: u32) -> Option<u32> {
        match self {
            Self::Bit => bytes.checked_mul(8),
            _ if bytes % self.width() != 0 => None,
            _ => Some(bytes / self.width()),
        }
    }
}

/// How rows are stored (`VectorHeader::compression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    None,
    /// IEEE 754 binary16.
    F16,
    /// 8-bit integers, with a scale for each row.
    Sq8,
    /// 4-bit codes, with a scale for each row.
    Sq4,
    /// One bit a dimension, with a scale for each row.
    Binary,
    /// Product quantisation: of each part of the vector, which entry of a codebook is nearest.
    Pq(Quantizer),
}

/// The shape of a product quantiser, and so of its codebook. The one without parts is that of no codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantizer {
    /// Parts of a vector, each with a code of its own.
    pub subvectors: u16,
    /// Dimensions of a part.
    pub sub_dimensions: u16,
    /// Bits of a code: 8, or 4.
    pub bits: u16,
}

impl Quantizer {
    /// The one that cuts vectors of `dimensions` into so many parts; none if there is no such one.
    pub fn cutting(dimensions: u32, subvectors: u16, bits: u16) -> Option<Self> {
        let parts = u32::from(subvectors);
        if parts == 0 || dimensions == 0 || dimensions % parts != 0 {
            return None;
        }
        let sub_dimensions = u16::try_from(dimensions / parts).ok()?;
        Some(Self { subvectors, sub_dimensions, bits }).filter(Self::is_possible)
    }

    /// True if vectors can be stored by one of this shape.
    pub fn is_possible(&self) -> bool {
        self.subvectors > 0 && self.sub_dimensions > 0 && matches!(self.bits, 4 | 8)
    }

    /// Dimensions of a vector.
    pub const fn dimensions(&self) -> u32 {
        self.subvectors as u32 * self.sub_dimensions as u32
    }

    /// Entries that a part is compared with.
    pub const fn entries(&self) -> usize {
        1 << self.bits
    }

    /// Bytes of a vector's codes.
    pub const fn code_len(&self) -> u32 {
        (self.subvectors as u32 * self.bits as u32).div_ceil(8)
    }

    /// Bytes of the codebook: an f32 for each dimension of each entry of each part.
    pub const fn codebook_len(&self) -> usize {
        self.dimensions() as usize * self.entries() * 4
    }
}

impl Codec {
    /// Those that need nothing but a row.
    pub const ALL: [Self; 5] = [Self::None, Self::F16, Self::Sq8, Self::Sq4, Self::Binary];
    /// The name of [`Codec::Pq`], whatever its shape.
    pub const PQ: &'static str = "pq";
    // The number of `Pq`.
    const PQ_NUMBER: u16 = 5;

    /// The codec with this number, of those that need nothing but a row.
    pub fn from_u16(value: u16) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The codec with this number, in a collection's record with this quantiser.
    pub fn recorded(value: u16, quantizer: Quantizer) -> Option<Self> {
        match value {
            Self::PQ_NUMBER => Some(Self::Pq(quantizer)).filter(|_| quantizer.is_possible()),
            _ => Self::from_u16(value),
        }
    }

    /// Its number on disk.
    pub const fn number(self) -> u16 {
        match self {
            Self::None => 0,
            Self::F16 => 1,
            Self::Sq8 => 2,
            Self::Sq4 => 3,
            Self::Binary => 4,
            Self::Pq(_) => Self::PQ_NUMBER,
        }
    }

    /// The name of the codec with this number, if it is known.
    pub fn name_of(value: u16) -> Option<&'static str> {
        match value {
            Self::PQ_NUMBER => Some(Self::PQ),
            _ => Self::from_u16(value).map(Self::name),
        }
    }

    /// The shape of its quantiser; that of none for codecs without one.
    pub fn quantizer(self) -> Quantizer {
        match self {
            Self::Pq(quantizer) => quantizer,
            _ => Quantizer::default(),
        }
    }

    /// The codec with this name, of those that need nothing but a row.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name().as_bytes() == name)
    }

    /// `none`, `f16`, `sq8`, `sq4`, `binary` or `pq`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::F16 => "f16",
            Self::Sq8 => "sq8",
            Self::Sq4 => "sq4",
            Self::Binary => "binary",
            Self::Pq(_) => Self::PQ,
        }
    }
}

/// The distance a collection is searched with unless asked otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Metric {
    /// Cosine similarity.
    Cosine = 0,
    /// Euclidean distance.
    L2 = 1,
    /// Inner product.
    InnerProduct = 2,
    /// Hamming distance, for bits.
    Hamming = 3,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cosine, Self::L2, Self::InnerProduct, Self::Hamming];

    /// The metric with this number.
    pub fn from_u16(value: u16) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The metric with this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name().as_bytes() == name)
    }

    /// `cosine`, `l2`, `ip` or `hamming`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::L2 => "l2",
            Self::InnerProduct => "ip",
            Self::Hamming => "hamming",
        }
    }
}

/// The 64-byte header of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VectorHeader {
    /// `0x56454354`.
    pub magic: U32,
    /// Version of the header, 1.
    pub version: U32,
    /// Number of this vector, never reused: setting it anew gives a new one.
    pub vector_id: U64,
    /// The file it belongs to.
    pub file_inode: U64,
    /// `Element`.
    pub data_type: U16,
    /// `Codec`.
    pub compression: U16,
    /// Dimensions.
    pub dimensions: U32,
    /// Bytes of the vector as it is set and read.
    pub original_size: U32,
    /// Bytes of the vector as it is stored.
    pub compressed_size: U32,
    /// When the file got its first vector in this place, in nanoseconds since 1970.
    pub created_timestamp: U64,
    /// When this vector was set, in nanoseconds since 1970.
    pub modified_timestamp: U64,
    /// CRC-32 of the stored bytes.
    pub checksum: U32,
    /// Reserved, zero.
    pub flags: U32,
}

const _: () = assert!(size_of::<VectorHeader>() == 64);

impl VectorHeader {
    /// True if magic and version are ours.
    pub fn known(&self) -> bool {
        self.magic.get() == VECTOR_MAGIC && self.version.get() == VECTOR_VERSION
    }

    /// The header's version.
    pub const fn current_version() -> u32 {
        VECTOR_VERSION
    }
}

/// From a file to a row: its vector `n` in a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct VectorRecord {
    /// Row in the collection.
    pub row: U64,
    /// As in the header.
    pub vector_id: U64,
    /// The content version that the vector was made from.
    pub version: U64,
}

const _: () = assert!(size_of::<VectorRecord>() == 24);

/// From a row to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RowRecord {
    /// The header.
    pub header: VectorHeader,
    /// Which vector of the file.
    pub n: U32,
    /// The row's scale, the bits of an f32; zero for codecs without one.
    pub scale: U32,
    /// The content version that the vector was made from.
    pub version: U64,
}

const _: () = assert!(size_of::<RowRecord>() == 80);

/// A row that was freed in `generation` and is blanked once that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlankRecord {
    /// The generation whose commit frees the row.
    pub generation: U64,
}

const _: () = assert!(size_of::<BlankRecord>() == 8);

/// A run of free rows, from the row in the key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FreeRowsRecord {
    /// Rows.
    pub count: U64,
}

const _: () = assert!(size_of::<FreeRowsRecord>() == 8);

/// A row that changed after it was coded for the matrix that is being made: it is to be coded once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct RedoRecord {
    /// The generation in which it changed.
    pub generation: U64,
}

const _: () = assert!(size_of::<RedoRecord>() == 8);
