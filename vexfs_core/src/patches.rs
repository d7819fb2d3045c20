//! Bytes that the journal puts in place of the device's, while the device itself must not be written.

use alloc::vec::Vec;
use core::ops::Range;

use crate::device::{Data, Place};
use crate::error::Result;
use crate::memory;

/// Bytes by their place on the device; a later one covers those before. Empty on a volume that can be written.
#[derive(Debug, Default)]
pub(crate) struct Patches(Vec<(u64, Vec<u8>)>);

impl Patches {
    /// Adds bytes at byte offset `device`.
    pub(crate) fn push(&mut self, device: u64, bytes: &[u8]) -> Result<()> {
        memory::push(&mut self.0, (device, memory::copy(bytes)?))
    }

    /// Reads through `data`, and puts the patches over what is there.
    pub(crate) fn read(&self, data: &impl Data, place: Place, buffer: &mut [u8]) -> Result<()> {
        data.read_at(place, buffer)?;
        for (device, bytes) in &self.0 {
            if let Some((to, from)) = overlap(place.device, buffer.len(), *device, bytes.len()) {
                buffer[to].copy_from_slice(&bytes[from]);
            }
        }
        Ok(())
    }

    /// Puts patches into the buffer of a read, and takes their places off the list of what is still to be read.
    pub(crate) fn settle(
        &self,
        mut pieces: Vec<(Range<usize>, Place)>,
        buffer: &mut [u8],
    ) -> Result<Vec<(Range<usize>, Place)>> {
        // The latest first: what it took is off the list.
        for (device, bytes) in self.0.iter().rev() {
            let mut left = Vec::new();
            for (range, place) in pieces {
                let Some((to, from)) = overlap(place.device, range.len(), *device, bytes.len()) else {
                    memory::push(&mut left, (range, place))?;
                    continue;
                };
                buffer[range.start + to.start..range.start + to.end].copy_from_slice(&bytes[from]);
                for rest in [0..to.start, to.end..range.len()] {
                    if !rest.is_empty() {
                        let moved = rest.start as u64;
                        let place =
                            Place { offset: place.offset + moved, device: place.device + moved, ..place };
                        memory::push(&mut left, (range.start + rest.start..range.start + rest.end, place))?;
                    }
                }
            }
            pieces = left;
        }
        Ok(pieces)
    }
}

// The bytes that two ranges of the device share, as ranges of each.
fn overlap(
    first: u64,
    first_len: usize,
    second: u64,
    second_len: usize,
) -> Option<(Range<usize>, Range<usize>)> {
    let start = first.max(second);
    let end = (first + first_len as u64).min(second + second_len as u64);
    let part = |from: u64| (start - from) as usize..(end - from) as usize;
    (start < end).then(|| (part(first), part(second)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numbers::Ino;

    struct Ones;

    impl Data for Ones {
        fn read_at(&self, _: Place, buffer: &mut [u8]) -> Result<()> {
            buffer.fill(1);
            Ok(())
        }

        fn write_at(&self, _: Place, _: &[u8]) -> Result<()> {
            unreachable!()
        }

        fn write_zeros_at(&self, _: Place, _: u64) -> Result<()> {
            unreachable!()
        }
    }

    #[test]
    fn both_ways_of_reading_show_the_latest_patch() {
        let mut patches = Patches::default();
        patches.push(10, &[5; 10]).unwrap();
        patches.push(15, &[6; 10]).unwrap();
        let place = Place { inode: Ino(64), offset: 0, device: 0 };
        let mut whole = [0; 40];
        patches.read(&Ones, place, &mut whole).unwrap();
        let expected: Vec<u8> = (0..40)
            .map(|at| match at {
                10..15 => 5,
                15..25 => 6,
                _ => 1,
            })
            .collect();
        assert_eq!(whole[..], expected[..]);

        let mut settled = [0; 40];
        let pieces = patches.settle(alloc::vec![(0..40, place)], &mut settled).unwrap();
        for (range, place) in pieces {
            assert_eq!((place.device, place.offset), (range.start as u64, range.start as u64));
            Ones.read_at(place, &mut settled[range]).unwrap();
        }
        assert_eq!(settled[..], expected[..]);
    }
}
