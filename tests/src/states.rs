//! Crash states: the images that a power cut may leave behind, worked out from a [`Trace`].
//!
//! Between two flushes a disk may have done any part of what it was told, in any order, torn at sectors.
//! Of each such epoch these images are made: every prefix at sector granularity; every subset of its writes,
//! up to a limit, and above that samples from a seed; torn writes in any subset of their sectors; and a
//! superblock torn at single bytes. What was flushed before is in all of them.

use std::ops::Range;
use std::sync::Arc;

use vexfs_core::format::{SUPERBLOCK, slot_offsets};

use crate::image::{self, Image, SECTOR};
use crate::random::Random;
use crate::sim::{DISCARDED, Event, Trace};

/// How many images to make of one epoch, at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Prefixes that end inside a write; those that end between two are all made.
    pub prefixes: usize,
    /// Subsets of the epoch's writes: all if there are no more, else so many samples.
    pub subsets: usize,
    /// Torn writes.
    pub torn: usize,
    /// Torn superblocks, of each superblock write.
    pub superblock: usize,
}

impl Limits {
    /// The lower of both, one by one.
    pub fn at_most(&self, other: &Self) -> Self {
        Self {
            prefixes: self.prefixes.min(other.prefixes),
            subsets: self.subsets.min(other.subsets),
            torn: self.torn.min(other.torn),
            superblock: self.superblock.min(other.superblock),
        }
    }
}

/// What a crash state is made of, for the message if it fails.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Events of the trace that happened before the crash, those of the epoch in part.
    pub events: usize,
    /// How the last epoch was cut, in words.
    pub cut: String,
}

/// Calls `each(image, origin)` for every crash state of the trace; stops when it returns false.
pub fn each_crash_state(
    trace: &Trace,
    limits: &Limits,
    seed: u64,
    mut each: impl FnMut(&Image, &Origin) -> bool,
) {
    let mut durable = trace.base.clone();
    let mut first = 0;
    while first < trace.events.len() {
        let end = trace.events[first..]
            .iter()
            .position(|event| matches!(event, Event::Flush))
            .map_or(trace.events.len(), |at| first + at);
        let epoch = Epoch::new(trace, &durable, first..end, seed ^ first as u64);
        if !epoch.each(limits, &mut each) {
            return;
        }
        epoch.writes.iter().for_each(|write| write.apply(&mut durable));
        first = end + 1;
    }
}

/// The writes between two flushes.
struct Epoch<'a> {
    durable: &'a Image,
    writes: Vec<Write>,
    end: usize,
    seed: u64,
    superblocks: [u64; 4],
}

/// A write or discard, and its place in the trace.
struct Write {
    event: usize,
    offset: u64,
    content: Content,
    /// The whole of it, for all the images that have it.
    change: image::Change,
}

enum Content {
    Bytes(Arc<[u8]>),
    Discard,
}

impl Write {
    fn of(event: usize, what: &Event) -> Option<Self> {
        let (offset, content, change) = match what {
            Event::Write { offset, bytes } => {
                (*offset, Content::Bytes(Arc::clone(bytes)), image::Change::new(*offset, bytes))
            }
            Event::Discard { offset, len } => {
                (*offset, Content::Discard, image::Change::new(*offset, &vec![DISCARDED; *len]))
            }
            Event::Flush | Event::LostFlush => return None,
        };
        Some(Self { event, offset, content, change })
    }

    /// How many pieces it can be torn into: its sectors; a discard is one.
    fn pieces(&self) -> usize {
        match &self.content {
            Content::Bytes(bytes) => {
                let first = self.offset as usize / SECTOR;
                (self.offset as usize + bytes.len()).div_ceil(SECTOR) - first
            }
            Content::Discard => 1,
        }
    }

    fn apply(&self, image: &mut Image) {
        image.apply(&self.change);
    }

    /// Applies only the part of it that lies in its sector number `piece`.
    fn apply_piece(&self, image: &mut Image, piece: usize) {
        let Content::Bytes(bytes) = &self.content else { return self.apply(image) };
        let lead = self.offset as usize % SECTOR;
        let start = (piece * SECTOR).saturating_sub(lead);
        let end = ((piece + 1) * SECTOR - lead).min(bytes.len());
        image.write(self.offset + start as u64, &bytes[start..end]);
    }
}

impl<'a> Epoch<'a> {
    fn new(trace: &Trace, durable: &'a Image, range: Range<usize>, seed: u64) -> Self {
        let writes = range.clone().filter_map(|event| Write::of(event, &trace.events[event]));
        let superblocks = slot_offsets(durable.size());
        Self { durable, writes: writes.collect(), end: range.end, seed, superblocks }
    }

    fn each(&self, limits: &Limits, each: &mut impl FnMut(&Image, &Origin) -> bool) -> bool {
        let mut random = Random::new(self.seed);
        self.prefixes(limits, &mut random, each)
            && self.subsets(limits, &mut random, each)
            && self.torn(limits, &mut random, each)
            && self.torn_superblocks(limits, &mut random, each)
    }

    /// The epoch's writes done in order up to some sector.
    fn prefixes(
        &self,
        limits: &Limits,
        random: &mut Random,
        each: &mut impl FnMut(&Image, &Origin) -> bool,
    ) -> bool {
        let inside: usize = self.writes.iter().map(|write| write.pieces() - 1).sum();
        let mut image = self.durable.clone();
        if !each(&image, &self.origin(self.writes.first(), "nothing of the epoch".into())) {
            return false;
        }
        for (index, write) in self.writes.iter().enumerate() {
            for piece in 0..write.pieces() {
                let last = piece + 1 == write.pieces();
                if last {
                    write.apply(&mut image);
                } else {
                    write.apply_piece(&mut image, piece);
                }
                if !last && random.below(inside as u64) >= limits.prefixes as u64 {
                    continue;
                }
                // What the caller was told after this write was told with all the write in the disk's hands.
                let cut = format!("prefix: {index} writes and {} sectors", piece + 1);
                if !each(&image, &self.origin(Some(write), cut)) {
                    return false;
                }
            }
        }
        each(&image, &self.origin(None, "the whole epoch, not yet flushed".into()))
    }

    /// Any of the epoch's writes done, the others not.
    fn subsets(
        &self,
        limits: &Limits,
        random: &mut Random,
        each: &mut impl FnMut(&Image, &Origin) -> bool,
    ) -> bool {
        let count = self.writes.len();
        let all = count < 63 && (1_u64 << count) <= limits.subsets as u64;
        let rounds = if all { 1 << count } else { limits.subsets as u64 };
        for round in 0..rounds {
            let chosen: Vec<usize> = if all {
                (0..count).filter(|index| round >> index & 1 == 1).collect()
            } else {
                // Dense, sparse and even subsets: a lone missing or lone present write is the likeliest culprit.
                match round % 3 {
                    0 => (0..count).filter(|_| random.one_in(2)).collect(),
                    1 => {
                        let out = random.index(count);
                        (0..count).filter(|index| *index != out && !random.one_in(8)).collect()
                    }
                    _ => {
                        let only = random.index(count);
                        (0..count).filter(|index| *index == only || random.one_in(8)).collect()
                    }
                }
            };
            let mut image = self.durable.clone();
            chosen.iter().for_each(|index| self.writes[*index].apply(&mut image));
            if !each(&image, &self.origin(None, format!("only writes {chosen:?} of {count}"))) {
                return false;
            }
        }
        true
    }

    /// One write done in some of its sectors only, each of the others done or not.
    fn torn(
        &self,
        limits: &Limits,
        random: &mut Random,
        each: &mut impl FnMut(&Image, &Origin) -> bool,
    ) -> bool {
        let tearable: Vec<usize> =
            (0..self.writes.len()).filter(|at| self.writes[*at].pieces() > 1).collect();
        if tearable.is_empty() {
            return true;
        }
        for round in 0..limits.torn {
            let victim = tearable[round % tearable.len()];
            let pieces = self.writes[victim].pieces();
            let chosen: Vec<usize> = (0..pieces).filter(|_| random.one_in(2)).collect();
            let others = random.below(3);
            let mut image = self.durable.clone();
            for (index, write) in self.writes.iter().enumerate() {
                if index == victim {
                    chosen.iter().for_each(|piece| write.apply_piece(&mut image, *piece));
                } else if others == 0 || (others == 1 && random.one_in(2)) {
                    write.apply(&mut image);
                }
            }
            let cut = format!("write {victim} torn: only its sectors {chosen:?}");
            if !each(&image, &self.origin(None, cut)) {
                return false;
            }
        }
        true
    }

    /// A superblock of which only some bytes arrived; the writes before it are done.
    fn torn_superblocks(
        &self,
        limits: &Limits,
        random: &mut Random,
        each: &mut impl FnMut(&Image, &Origin) -> bool,
    ) -> bool {
        for (index, write) in self.writes.iter().enumerate() {
            let Content::Bytes(bytes) = &write.content else { continue };
            if !self.superblocks.contains(&write.offset) {
                continue;
            }
            let len = bytes.len().min(SUPERBLOCK);
            for round in 0..limits.superblock {
                let mut image = self.durable.clone();
                if round % 2 == 0 {
                    self.writes[..index].iter().for_each(|before| before.apply(&mut image));
                }
                let from = if random.one_in(2) { 0 } else { random.index(len) };
                let to = from + random.index(len - from) + 1;
                image.write(write.offset + from as u64, &bytes[from..to]);
                let cut = format!("superblock of write {index} torn: only its bytes {from}..{to}");
                if !each(&image, &self.origin(None, cut)) {
                    return false;
                }
            }
        }
        true
    }

    /// The crash came right before the event after `last`, or at the end of the epoch.
    fn origin(&self, last: Option<&Write>, cut: String) -> Origin {
        Origin { events: last.map_or(self.end, |write| write.event), cut }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use vexfs_core::device::BlockDevice;

    use super::*;
    use crate::sim::SimDevice;

    const ALL: Limits = Limits { prefixes: 1000, subsets: 1024, torn: 200, superblock: 0 };

    #[test]
    fn what_was_flushed_is_in_every_state_and_all_subsets_come() {
        let device = SimDevice::new(1 << 20);
        device.record();
        device.write(70_000, &[1; 512]).expect("in range");
        device.flush().expect("never fails");
        for index in 0..4_u64 {
            device.write(100_000 + 1000 * index, &[2; 10]).expect("in range");
        }
        let trace = device.take_trace().expect("recording");
        let mut masks = HashSet::new();
        each_crash_state(&trace, &ALL, 1, |image, origin| {
            if origin.events > 2 {
                let mut byte = [0];
                image.read(70_001, &mut byte);
                assert_eq!(byte, [1], "{origin:?}");
                let mask = (0..4_u64).fold(0, |mask, index| {
                    image.read(100_000 + 1000 * index, &mut byte);
                    mask << 1 | usize::from(byte[0] == 2)
                });
                masks.insert(mask);
            }
            true
        });
        assert_eq!(masks.len(), 16);
    }

    #[test]
    fn a_write_that_straddles_sectors_is_torn_at_their_borders() {
        let device = SimDevice::new(1 << 20);
        device.record();
        device.write(70_000, &[9; 2000]).expect("in range");
        let trace = device.take_trace().expect("recording");
        let mut patterns = HashSet::new();
        each_crash_state(&trace, &ALL, 3, |image, _| {
            let mut bytes = [0; 2000];
            image.read(70_000, &mut bytes);
            for at in 0..1999 {
                let border = (70_001 + at) % SECTOR == 0;
                assert!(border || bytes[at] == bytes[at + 1], "torn inside a sector at {at}");
            }
            patterns.insert(image.hash());
            true
        });
        assert_eq!(patterns.len(), 32);
    }
}
