//! An image of a disk in shared pages: cheap to copy, and its hash is kept along with every change.
//!
//! The hash is the sum of one 128-bit hash per 512-byte sector that is not all zero, so that a change costs
//! only the sectors it touches, and two images have equal hashes if and only if (up to chance) they are equal.

use std::sync::Arc;

/// Bytes of a sector: what a disk writes whole or not at all.
pub const SECTOR: usize = 512;
const PAGE: usize = 4096;
const SECTORS: usize = PAGE / SECTOR;

type Page = [u8; PAGE];

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

    /// Copies bytes out; the range must lie on the disk.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) {
        each_page(offset, buffer.len(), |page, within, from, len| {
            let target = &mut buffer[from..from + len];
            match &self.pages[page] {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + len]),
                None => target.fill(0),
            }
        });
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

    fn change(&mut self, page: usize, range: std::ops::Range<usize>, with: impl FnOnce(&mut [u8])) {
        let touched = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let first = page * SECTORS;
        let slot = &mut self.pages[page];
        if let Some(bytes) = slot {
            for sector in touched.clone() {
                self.hash = self.hash.wrapping_sub(sector_hash(first + sector, sector_of(bytes, sector)));
            }
        }
        let bytes = Arc::make_mut(slot.get_or_insert_with(|| Arc::new([0; PAGE])));
        with(&mut bytes[range]);
        for sector in touched {
            self.hash = self.hash.wrapping_add(sector_hash(first + sector, sector_of(bytes, sector)));
        }
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

fn sector_of(page: &Page, sector: usize) -> &[u8] {
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
