//! Product quantisation: a vector is cut into parts, and of each part a row keeps which entry of a codebook is nearest
//! (Jégou, Douze, Schmid, 2011, "Product quantization for nearest neighbor search").
//!
//! Reading is a look-up. Setting compares with every entry, in whole numbers, because the kernel does it too: entries and
//! values are multiples of one unit, a power of two that leaves as many bits below the codebook's largest magnitude as sums
//! of 32 bits allow (12 for parts of 8 dimensions). Of equally near entries the first is taken. So what was read and is set
//! again gives the same codes.

use alloc::vec::Vec;

use super::single::{self, SIGN, Single};
use super::{Output, Singles, TOO_LARGE, TOO_SMALL, half};
use crate::error::{Error, Result};
use crate::format::{Element, Quantizer};
use crate::memory;

/// Bits that a sum over a part of a vector may have, sign and factors left out.
const SUM_BITS: u32 = 28;
/// Entries of a part at most.
const ENTRIES_MAX: usize = 256;

/// A codebook: for each part of a vector the entries that stand for it.
#[derive(Debug)]
pub struct Codebook {
    quantizer: Quantizer,
    element: Element,
    /// f32, little-endian: `subvectors` x `entries` x `sub_dimensions`.
    entries: Vec<u8>,
    /// The same as multiples of the unit: `subvectors` x `sub_dimensions` x `entries`.
    table: Vec<i16>,
    /// Sums of their squares: `subvectors` x `entries`.
    squares: Vec<i32>,
    /// None where all entries are zero.
    unit: Option<Unit>,
}

/// What values are counted in.
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// It is 2 to this power.
    exponent: i32,
    /// More of them no value counts: twice what the largest entry can be.
    most: i16,
}

/// Fails unless `entries` can be a codebook of this shape: finite f32, as many as it says, that the element type can hold.
///
/// # Errors
/// `Invalid`, with the reason.
pub fn check(quantizer: Quantizer, element: Element, entries: &[u8]) -> Result<()> {
    largest(quantizer, element, entries).map(drop)
}

// The bits of the largest magnitude in a codebook.
fn largest(quantizer: Quantizer, element: Element, entries: &[u8]) -> Result<u32> {
    if !quantizer.is_possible() || entries.len() != quantizer.codebook_len() {
        return Err(Error::Invalid(
            "a codebook has subvectors x 2^bits x dimensions of a subvector entries, f32; bits are 4 or 8",
        ));
    }
    let mut largest = 0;
    floats(entries).for_each(|bits| largest = largest.max(bits & single::MAGNITUDE));
    if largest >= TOO_LARGE {
        return Err(Error::Invalid("an entry of the codebook is NaN, infinite, or 2^127 or more"));
    }
    if element == Element::F16 && half::narrow(largest) >= half::INFINITE {
        return Err(Error::Invalid("an entry of the codebook is too large for f16: above 65504"));
    }
    Ok(if largest < TOO_SMALL { 0 } else { largest })
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

impl Codebook {
    /// A codebook of this shape for vectors of this element type.
    ///
    /// # Errors
    /// `Invalid` for entries that cannot be one, as [`check`] says; `NoMemory`.
    pub fn new(quantizer: Quantizer, element: Element, entries: Vec<u8>) -> Result<Self> {
        let largest = largest(quantizer, element, &entries)?;
        let unit = (largest != 0).then(|| {
            let dimensions = u32::from(quantizer.sub_dimensions).next_power_of_two().ilog2();
            let bits = (SUM_BITS - dimensions) / 2;
            // The largest is below 2^(exponent + 24), and so at most 2^bits units.
            let exponent = Single::from_bits(largest).exponent + 24 - bits as i32;
            Unit { exponent, most: ((1_u32 << (bits + 1)) - 1) as i16 }
        });
        let (count, length) = (quantizer.entries(), usize::from(quantizer.sub_dimensions));
        let mut table: Vec<i16> = memory::filled(entries.len() / 4, 0)?;
        let mut squares: Vec<i32> = memory::filled(usize::from(quantizer.subvectors) * count, 0)?;
        for (index, bits) in floats(&entries).enumerate() {
            let (entry, dimension) = (index / length, index % length);
            let units = unit.map_or(0, |unit| unit.count(as_element(element, bits)));
            table[(entry / count * length + dimension) * count + entry % count] = units;
            squares[entry] += i32::from(units) * i32::from(units);
        }
        Ok(Self { quantizer, element, entries, table, squares, unit })
    }

    /// Its shape.
    pub fn quantizer(&self) -> Quantizer {
        self.quantizer
    }

    /// Stores a vector of finite elements: `value` into all of `row` ([`Quantizer::code_len`] bytes), which is the code of
    /// each part, those of 4 bits two a byte, the lower first.
    pub fn encode(&self, value: &[u8], row: &mut [u8]) {
        row.fill(0);
        let (count, length) = (self.quantizer.entries(), usize::from(self.quantizer.sub_dimensions));
        let mut products = [0_i32; ENTRIES_MAX];
        let mut index = 0;
        Singles { element: self.element, bytes: value }.each(&mut |bits| {
            let units = self.unit.map_or(0, |unit| unit.count(bits));
            let column = self.table.get(index * count..(index + 1) * count).unwrap_or_default();
            for (product, entry) in products.iter_mut().zip(column) {
                *product += i32::from(*entry) * i32::from(units);
            }
            index += 1;
            if index % length == 0 {
                self.put(index / length - 1, &products[..count], row);
                products = [0; ENTRIES_MAX];
            }
        });
    }

    // Stores the code of a part, by its products with all entries: |x - e|^2 = |x|^2 - 2 xe + |e|^2.
    fn put(&self, part: usize, products: &[i32], row: &mut [u8]) {
        let squares = self.squares.get(part * products.len()..).unwrap_or_default();
        let (mut code, mut least) = (0, i32::MAX);
        for (index, (product, square)) in products.iter().zip(squares).enumerate() {
            let distance = square - 2 * product;
            if distance < least {
                (code, least) = (index as u8, distance);
            }
        }
        let (at, shift) = place(self.quantizer, part);
        if let Some(byte) = row.get_mut(at) {
            *byte |= code << shift;
        }
    }

    /// Reads a vector back: all of `row` into all of `value`.
    pub fn decode(&self, row: &[u8], value: &mut [u8]) {
        let look_up = |offset, to: &mut [u8]| {
            let from = self.entries.get(offset..offset + to.len()).unwrap_or_default();
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            Ok(())
        };
        // It fails only where the look-up does, which does not.
        let _ = decode(self.quantizer, self.element, row, value, look_up);
    }
}

/// Numbers of an entry that are looked up at once.
const PIECE: usize = 64;

/// Reads a vector back with a codebook that lies elsewhere: `look_up` gives bytes of it, from an offset on.
///
/// # Errors
/// Those of `look_up`.
pub(crate) fn decode(
    quantizer: Quantizer,
    element: Element,
    row: &[u8],
    value: &mut [u8],
    mut look_up: impl FnMut(usize, &mut [u8]) -> Result<()>,
) -> Result<()> {
    let (length, width) = (usize::from(quantizer.sub_dimensions), element.width() as usize);
    let mut entry = [0; 4 * PIECE];
    let parts = value.chunks_exact_mut((length * width).max(1));
    for (part, to) in parts.enumerate() {
        let (at, shift) = place(quantizer, part);
        let code = row.get(at).map_or(0, |byte| usize::from(byte >> shift) % quantizer.entries());
        let first = (part * quantizer.entries() + code) * length * 4;
        for (piece, to) in to.chunks_mut(PIECE * width).enumerate() {
            let entry = &mut entry[..to.len() / width * 4];
            look_up(first + piece * 4 * PIECE, entry)?;
            let mut bits = floats(entry);
            Output { element, bytes: to }.fill(|_| bits.next().unwrap_or(0));
        }
    }
    Ok(())
}

// The byte that a part's code is in, and how far it is shifted there.
fn place(quantizer: Quantizer, part: usize) -> (usize, usize) {
    match quantizer.bits {
        4 => (part / 2, 4 * (part % 2)),
        _ => (part, 0),
    }
}

// What a number becomes in a vector of this element type.
fn as_element(element: Element, bits: u32) -> u32 {
    if element == Element::F16 { half::widen(half::narrow(bits)) } else { bits }
}

impl Unit {
    // How many of it are nearest to a number.
    fn count(self, bits: u32) -> i16 {
        let magnitude = Single::from_bits(bits);
        let scaled = Single { exponent: magnitude.exponent - self.exponent, ..magnitude };
        let count = scaled.round().min(self.most as u64) as i16;
        if bits & SIGN != 0 { -count } else { count }
    }
}

#[cfg(test)]
#[path = "pq_tests.rs"]
mod tests;
