//! Writes a flatbuffer from its root to its leaves, as little of the format as Arrow's metadata needs.
//!
//! A table is written before what it refers to, and its vtable right before it: so every offset points onwards, as
//! the format asks, and is filled in when its target is known. Positions count from the beginning of the buffer, to
//! which scalars are aligned. Source: the "FlatBuffer Internals" page of flatbuffers.dev.

use alloc::vec::Vec;

use crate::error::Result;
use crate::memory;

/// A field of a table.
#[derive(Clone, Copy)]
pub(super) enum Field {
    /// Not there: its default.
    Absent,
    /// A byte, a truth value or the kind of a union.
    Byte(u8),
    /// A 16-bit number.
    Short(u16),
    /// A 32-bit number.
    Int(u32),
    /// A 64-bit number.
    Long(u64),
    /// A string, vector or table that is written later: [`Flat::meet`].
    Later,
}

impl Field {
    const fn width(self) -> usize {
        match self {
            Self::Absent => 0,
            Self::Byte(_) => 1,
            Self::Short(_) => 2,
            Self::Int(_) | Self::Later => 4,
            Self::Long(_) => 8,
        }
    }
}

/// Where an offset stands that is still to be filled in.
#[derive(Clone, Copy)]
pub(super) struct Reference(usize);

/// The buffer being written.
pub(super) struct Flat {
    bytes: Vec<u8>,
}

impl Flat {
    /// A buffer whose root is the next table, once `Reference` has met it.
    pub(super) fn new() -> Result<(Self, Reference)> {
        Ok((Self { bytes: memory::zeroed(4)? }, Reference(0)))
    }

    /// Writes a table that `reference` points to; gives the references of its [`Field::Later`], in order, the rest of
    /// them unused.
    pub(super) fn table_at<const COUNT: usize>(
        &mut self,
        reference: Reference,
        fields: [Field; COUNT],
    ) -> Result<[Reference; COUNT]> {
        let mut places = [0_u16; COUNT];
        let mut end = 4;
        for (place, field) in places.iter_mut().zip(fields) {
            if field.width() > 0 {
                end = usize::next_multiple_of(end, field.width());
                *place = end as u16;
                end += field.width();
            }
        }
        // The table begins where a 64-bit number could.
        let vtable_len = 4 + 2 * COUNT;
        self.align(8, vtable_len)?;
        memory::extend(&mut self.bytes, &(vtable_len as u16).to_le_bytes())?;
        memory::extend(&mut self.bytes, &(end as u16).to_le_bytes())?;
        for place in places {
            memory::extend(&mut self.bytes, &place.to_le_bytes())?;
        }
        let table = self.bytes.len();
        self.meet(reference, table);
        let zeros = memory::zeroed(end)?;
        memory::extend(&mut self.bytes, &zeros)?;
        self.put(table, &(vtable_len as u32).to_le_bytes());
        let mut references = [Reference(0); COUNT];
        let mut later = 0;
        for (place, field) in places.into_iter().zip(fields) {
            let at = table + usize::from(place);
            match field {
                Field::Absent => {}
                Field::Byte(value) => self.put(at, &[value]),
                Field::Short(value) => self.put(at, &value.to_le_bytes()),
                Field::Int(value) => self.put(at, &value.to_le_bytes()),
                Field::Long(value) => self.put(at, &value.to_le_bytes()),
                Field::Later => {
                    references[later] = Reference(at);
                    later += 1;
                }
            }
        }
        Ok(references)
    }

    /// Writes a string that `reference` points to.
    pub(super) fn string_at(&mut self, reference: Reference, text: &[u8]) -> Result<()> {
        self.align(4, 0)?;
        self.meet(reference, self.bytes.len());
        memory::extend(&mut self.bytes, &(text.len() as u32).to_le_bytes())?;
        memory::extend(&mut self.bytes, text)?;
        memory::push(&mut self.bytes, 0)
    }

    /// Writes a vector of `count` references that `reference` points to; gives the first of them.
    pub(super) fn references_at(&mut self, reference: Reference, count: usize) -> Result<References> {
        self.align(4, 0)?;
        self.meet(reference, self.bytes.len());
        memory::extend(&mut self.bytes, &(count as u32).to_le_bytes())?;
        let first = self.bytes.len();
        let zeros = memory::zeroed(4 * count)?;
        memory::extend(&mut self.bytes, &zeros)?;
        Ok(References { first, count })
    }

    /// Writes a vector of structs of 64-bit numbers that `reference` points to.
    pub(super) fn structs_at<const LONGS: usize>(
        &mut self,
        reference: Reference,
        structs: &[[u64; LONGS]],
    ) -> Result<()> {
        // The count stands before the first struct, which is aligned to 8.
        self.align(8, 4)?;
        self.meet(reference, self.bytes.len());
        memory::extend(&mut self.bytes, &(structs.len() as u32).to_le_bytes())?;
        for long in structs.as_flattened() {
            memory::extend(&mut self.bytes, &long.to_le_bytes())?;
        }
        Ok(())
    }

    /// The bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    // Fills in an offset: it counts from where it stands.
    fn meet(&mut self, reference: Reference, target: usize) {
        self.put(reference.0, &((target - reference.0) as u32).to_le_bytes());
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    // Zeros, until what begins `ahead` bytes on is aligned.
    fn align(&mut self, to: usize, ahead: usize) -> Result<()> {
        let len = self.bytes.len() + ahead;
        let zeros = memory::zeroed(len.next_multiple_of(to) - len)?;
        memory::extend(&mut self.bytes, &zeros)
    }
}

/// References in a row, each to be met by a table.
#[derive(Clone, Copy)]
pub(super) struct References {
    first: usize,
    count: usize,
}

impl References {
    /// Each of them.
    pub(super) fn iter(self) -> impl Iterator<Item = Reference> {
        (0..self.count).map(move |index| Reference(self.first + 4 * index))
    }
}
