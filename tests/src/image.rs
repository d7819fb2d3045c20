//! An image of a disk in shared pages: cheap to copy, and its hash is kept along with every change.
//!
//! The hash is the sum of one 128-bit hash per 512-byte sector that is not all zero, so that a change costs
//! only the sectors it touches, and two images have equal hashes if and only if (up to chance) they are equal.
//! Each page knows its part of the sum: a [`Change`] that was cut into pages once costs an image no hashing at all.

use std::ops::Range;
use std::sync::Arc;

use vexfs_core::device::Address;
use vexfs_core::error::Result;
use vexfs_core::memory::Block;

/// Bytes of a sector: what a disk writes whole or not at all.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
const SECTORS: usize = PAGE / SECTOR;

type Bytes = [u8; PAGE];

/// A page at its place on the disk. Never changed while it is shared.
#[derive(Clone)]
pub struct Page {
    bytes: Bytes,
    /// The sum of its sectors' hashes, which depend on the place.
    hash: u128,
}

impl Page {
    const ZERO: Self = Self { bytes: [0; PAGE], hash: 0 };

    /// Changes bytes of the page number `index` of a disk.
    fn change(&mut self, index: usize, range: Range<usize>, with: impl FnOnce(&mut [u8])) {
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let sum = |bytes: &Bytes| {
            let hash = |sector| sector_hash(index * SECTORS + sector, sector_of(bytes, sector));
            sectors.clone().fold(0_u128, |sum, sector| sum.wrapping_add(hash(sector)))
        };
        self.hash = self.hash.wrapping_sub(sum(&self.bytes));
        with(&mut self.bytes[range]);
        self.hash = self.hash.wrapping_add(sum(&self.bytes));
    }
}

/// The bytes of a disk.
#[derive(Clone)]
pub struct Image {
    /// `None` is a page of zeros.
    pages: Vec<Option<Arc<Page>>>,
    hash: u128,
}

impl Image {
    /// A disk of `size` zero bytes, rounded down to whole pages.
    pub fn new(size: u64) -> Self {
        Self { pages: vec![None; size as usize / PAGE], hash: 0 }
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        (self.pages.len() * PAGE) as u64
    }

    /// Equal for equal images, different for different ones.
    pub fn hash(&self) -> u128 {
        self.hash
    }

    /// True if the range lies on the disk.
    pub fn covers(&self, offset: u64, len: usize) -> bool {
        offset.checked_add(len as u64).is_some_and(|end| end <= self.size())
    }

    /// The pages that hold the range, if it is made of whole pages; it must lie on the disk. `None` is a page of zeros.
    pub fn whole_pages(&self, offset: u64, len: usize) -> Option<&[Option<Arc<Page>>]> {
        let at = usize::try_from(offset).ok()?;
        let whole = at.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        whole.then(|| &self.pages[at / PAGE..(at + len) / PAGE])
    }

    /// Copies bytes out; the range must lie on the disk.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        each_page(offset, buffer.len(), |page, within, from, len| {
            let target = &mut buffer[from..from + len];
            match &self.pages[page] {
                Some(page) => target.copy_from_slice(&page.bytes[within..within + len]),
                None => target.fill(0),
            }
        });
    }

    /// Reads a metadata block that `verify` accepts; it must lie on the disk.
    pub fn block(&self, address: Address, verify: &dyn Fn(&[u8]) -> Result<()>) -> Result<Block> {
        let mut bytes = vec![0; address.len];
        self.read(address.offset, &mut bytes);
        verify(&bytes)?;
        Block::new(bytes)
    }

    /// Puts bytes in; the range must lie on the disk.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        each_page(offset, bytes.len(), |page, within, from, len| {
            self.change(page, within..within + len, |target| {
                target.copy_from_slice(&bytes[from..from + len])
            });
        });
    }

    /// Fills a range with one byte; the range must lie on the disk.
    pub fn fill(&mut self, offset: u64, len: usize, byte: u8) {
        each_page(offset, len, |page, within, _, len| {
            self.change(page, within..within + len, |target| target.fill(byte));
        });
    }

    /// Does a change that was prepared; its range must lie on the disk.
    pub fn apply(&mut self, change: &Change) {
        for (index, piece) in &change.pieces {
            match piece {
                Piece::Whole(page) => {
                    self.hash = self.hash.wrapping_add(page.hash);
                    let before = self.pages[*index].replace(Arc::clone(page));
                    self.hash = self.hash.wrapping_sub(before.map_or(0, |page| page.hash));
                }
                Piece::Part(at, bytes) => {
                    self.change(*index, *at..at + bytes.len(), |target| target.copy_from_slice(bytes));
                }
            }
        }
    }

    fn change(&mut self, index: usize, range: Range<usize>, with: impl FnOnce(&mut [u8])) {
        let page = Arc::make_mut(self.pages[index].get_or_insert_with(|| Arc::new(Page::ZERO)));
        self.hash = self.hash.wrapping_sub(page.hash);
        page.change(index, range, with);
        self.hash = self.hash.wrapping_add(page.hash);
    }
}

/// Bytes for a range of a disk, cut into pages once: the images it is applied to share those that it fills.
pub struct Change {
    /// By the page's number.
    pieces: Vec<(usize, Piece)>,
}

enum Piece {
    Whole(Arc<Page>),
    /// From this byte of the page on.
    Part(usize, Vec<u8>),
}

impl Change {
    /// These bytes at `offset`.
    pub fn new(offset: u64, bytes: &[u8]) -> Self {
        let mut pieces = Vec::new();
        each_page(offset, bytes.len(), |index, within, from, len| {
            let bytes = &bytes[from..from + len];
            let piece = if len == PAGE {
                let mut page = Page::ZERO;
                page.change(index, 0..PAGE, |target| target.copy_from_slice(bytes));
                Piece::Whole(Arc::new(page))
            } else {
                Piece::Part(within, bytes.to_vec())
            };
            pieces.push((index, piece));
        });
        Self { pieces }
    }
}

/// Calls `with(page, offset in the page, offset in the range, length)` for each page that the range touches.
fn each_page(offset: u64, len: usize, mut with: impl FnMut(usize, usize, usize, usize)) {
    let mut done = 0;
    while done < len {
        let at = offset as usize + done;
        let step = (PAGE - at % PAGE).min(len - done);
        with(at / PAGE, at % PAGE, done, step);
        done += step;
    }
}

fn sector_of(page: &Bytes, sector: usize) -> &[u8] {
    &page[sector * SECTOR..(sector + 1) * SECTOR]
}

/// The hash of a sector at its place; 0 for zeros, so that a page that was never written equals one of zeros.
fn sector_hash(index: usize, bytes: &[u8]) -> u128 {
    let mut low = 0x243f_6a88_85a3_08d3_u64 ^ index as u64;
    let mut high = 0x1319_8a2e_0370_7344_u64.wrapping_add((index as u64).wrapping_mul(0xa409_3822_299f_31d1));
    let mut any = 0;
    for pair in bytes.chunks_exact(16) {
        let first = u64::from_le_bytes(pair[..8].try_into().expect("eight bytes"));
        let second = u64::from_le_bytes(pair[8..].try_into().expect("eight bytes"));
        any |= first | second;
        low = fold(low ^ first, 0x082e_fa98_ec4e_6c89 ^ second);
        high = fold(high ^ second, 0x4528_21e6_38d0_1377 ^ first.rotate_left(29));
    }
    if any == 0 {
        return 0;
    }
    (u128::from(fold(high, low ^ 0xbe54_66cf_34e9_0c6c)) << 64) | u128::from(low ^ high.rotate_left(17))
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right | 1);
    (product as u64) ^ ((product >> 64) as u64) ^ left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn hash_follows_content_whatever_the_way_there() {
        let mut random = Random::new(7);
        let mut one = Image::new(1 << 16);
        let mut bytes = vec![0; 1 << 16];
        for _ in 0..500 {
            let len = random.index(3000) + 1;
            let offset = random.index((1 << 16) - len);
            let piece = random.bytes(len);
            one.write(offset as u64, &piece);
            bytes[offset..offset + len].copy_from_slice(&piece);
        }
        let mut other = Image::new(1 << 16);
        other.fill(0, 1 << 16, 0xee);
        assert_ne!(one.hash(), other.hash());
        other.write(0, &bytes);
        assert_eq!(one.hash(), other.hash());
        other.write(777, &[bytes[777] ^ 1]);
        assert_ne!(one.hash(), other.hash());
        other.fill(0, 1 << 16, 0);
        assert_eq!(other.hash(), Image::new(1 << 16).hash());
    }

    #[test]
    fn a_prepared_change_is_the_write_itself() {
        let mut random = Random::new(11);
        let (mut written, mut applied) = (Image::new(1 << 16), Image::new(1 << 16));
        for _ in 0..200 {
            let len = random.index(3 * PAGE) + 1;
            let aligned = random.one_in(2);
            let offset = random.index((1 << 16) - len) / if aligned { PAGE } else { 1 }
                * if aligned { PAGE } else { 1 };
            let bytes = random.bytes(len);
            let before = applied.clone();
            written.write(offset as u64, &bytes);
            applied.apply(&Change::new(offset as u64, &bytes));
            assert_eq!(written.hash(), applied.hash());
            assert_ne!(before.hash(), applied.hash());
            let mut found = vec![0; len];
            applied.read(offset as u64, &mut found);
            assert!(found == bytes);
        }
    }

    #[test]
    fn copies_do_not_see_each_others_writes() {
        let mut one = Image::new(1 << 14);
        one.write(4000, &[1; 200]);
        let copy = one.clone();
        one.write(4090, &[2; 12]);
        let mut buffer = [0; 4];
        copy.read(4094, &mut buffer);
        assert_eq!(buffer, [1; 4]);
        one.read(4094, &mut buffer);
        assert_eq!(buffer, [2; 4]);
        assert_ne!(one.hash(), copy.hash());
    }
}
