//! The bytes of a file: pages by number, those that are absent read as zeros.

use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE: u64 = 4096;

/// A sparse file.
#[derive(Clone, Debug, Default)]
pub struct Bytes {
    size: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE as usize]>>,
}

impl Bytes {
    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `offset` on, as many as fit and are there; returns how many.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let len = self.size.saturating_sub(offset).min(buffer.len() as u64);
        each_page(offset, len, |page, within, from, step| {
            let target = &mut buffer[from..from + step];
            match self.pages.get(&page) {
                Some(bytes) => target.copy_from_slice(&bytes[within..within + step]),
                None => target.fill(0),
            }
        });
        len as usize
    }

    /// Puts bytes in; the file grows where they pass its end.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        each_page(offset, bytes.len() as u64, |page, within, from, step| {
            let target = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(target)[within..within + step].copy_from_slice(&bytes[from..from + step]);
        });
        if !bytes.is_empty() {
            self.size = self.size.max(offset + bytes.len() as u64);
        }
    }

    /// Makes a range read as zeros; the size stays.
    pub fn zero(&mut self, offset: u64, len: u64) {
        let len = self.size.saturating_sub(offset).min(len);
        let touched: Vec<u64> =
            self.pages.range(offset / PAGE..=(offset + len) / PAGE).map(|(page, _)| *page).collect();
        for page in touched {
            let start = offset.max(page * PAGE) - page * PAGE;
            let end = (offset + len).min((page + 1) * PAGE).saturating_sub(page * PAGE);
            if start == 0 && end == PAGE {
                self.pages.remove(&page);
            } else if let Some(bytes) = self.pages.get_mut(&page).filter(|_| start < end) {
                Arc::make_mut(bytes)[start as usize..end as usize].fill(0);
            }
        }
    }

    /// Cuts the file, or lets it grow by a hole.
    pub fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.zero(size, self.size - size);
            drop(self.pages.split_off(&size.div_ceil(PAGE)));
        }
        self.size = size;
    }

    /// Lets the file grow to `size` if it is smaller.
    pub fn extend(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// True if all of the range reads as zeros.
    pub fn is_zero(&self, offset: u64, len: u64) -> bool {
        let end = offset.saturating_add(len).min(self.size);
        if offset >= end {
            return true;
        }
        self.pages.range(offset / PAGE..).take_while(|(page, _)| **page * PAGE < end).all(|(page, bytes)| {
            let base = page * PAGE;
            let from = offset.max(base) - base;
            let to = end.min(base + PAGE) - base;
            bytes[from as usize..to as usize].iter().all(|byte| *byte == 0)
        })
    }

    /// The ranges outside which all is zero, as (offset, length), cut at the file's end.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.pages
            .keys()
            .map(|page| (page * PAGE, self.size.saturating_sub(page * PAGE).min(PAGE) as usize))
            .filter(|(_, len)| *len > 0)
    }
}

/// Calls `with(page, offset in the page, offset in the range, length)` for each page that the range touches.
fn each_page(offset: u64, len: u64, mut with: impl FnMut(u64, usize, usize, usize)) {
    let mut done = 0;
    while done < len {
        let at = offset + done;
        let step = (PAGE - at % PAGE).min(len - done);
        with(at / PAGE, (at % PAGE) as usize, done as usize, step as usize);
        done += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn equals_a_plain_vector_of_bytes() {
        let mut random = Random::new(11);
        let mut plain: Vec<u8> = Vec::new();
        let mut sparse = Bytes::default();
        for _ in 0..2000 {
            let offset = random.index(20_000);
            let len = random.index(6000);
            match random.below(4) {
                0 => {
                    let bytes = random.bytes(len);
                    sparse.write(offset as u64, &bytes);
                    if len > 0 {
                        plain.resize(plain.len().max(offset + len), 0);
                        plain[offset..offset + len].copy_from_slice(&bytes);
                    }
                }
                1 => {
                    sparse.zero(offset as u64, len as u64);
                    let end = (offset + len).min(plain.len());
                    plain[offset.min(end)..end].fill(0);
                }
                2 => {
                    sparse.truncate(offset as u64);
                    plain.resize(offset, 0);
                }
                _ => {
                    let mut buffer = vec![1; len];
                    let got = sparse.read(offset as u64, &mut buffer);
                    let end = (offset + len).min(plain.len());
                    assert_eq!(&buffer[..got], &plain[offset.min(end)..end]);
                    let zero = plain[offset.min(end)..end].iter().all(|byte| *byte == 0);
                    assert_eq!(sparse.is_zero(offset as u64, len as u64), zero);
                }
            }
            assert_eq!(sparse.size(), plain.len() as u64);
        }
    }
}
