//! Free space against one bool a block.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::*;
use crate::testing::Random;

/// Bits of a block of the map.
const BITS: u64 = 4096 * 8;

/// A device that holds what was written, block by block; no other is read.
#[derive(Default)]
struct Sparse(RefCell<BTreeMap<u64, Vec<u8>>>);

impl BlockDevice for Sparse {
    fn size(&self) -> u64 {
        u64::MAX
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        buffer.copy_from_slice(&self.0.borrow()[&offset]);
        Ok(())
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.0.borrow_mut().insert(offset, bytes.to_vec());
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A volume that has `data_blocks` blocks for data.
fn layout(data_blocks: u64) -> Layout {
    let whole = (data_blocks + 1024).next_multiple_of(4) + data_blocks / BITS * 4;
    let layout = Layout::new(4096, whole, 16).unwrap();
    assert!(layout.data_blocks >= data_blocks);
    Layout { data_blocks, ..layout }
}

/// What the map, and what may be given out, should be.
struct Model {
    layout: Layout,
    used: Vec<bool>,
    ready: Vec<bool>,
    pending: Vec<Run>,
    touched: Vec<bool>,
    /// The slot of each pair that counts.
    durable: BTreeMap<u64, u64>,
}

impl Model {
    fn new(layout: Layout) -> Self {
        let blocks = layout.data_blocks as usize;
        let touched = vec![false; blocks.div_ceil(BITS as usize)];
        Self {
            layout,
            used: vec![false; blocks],
            ready: vec![true; blocks],
            pending: Vec::new(),
            touched,
            durable: BTreeMap::new(),
        }
    }

    fn range(&self, run: Run) -> core::ops::Range<usize> {
        let first = (run.start.0 - self.layout.data_start) as usize;
        first..first + run.count as usize
    }

    fn all(&self, bits: &[bool], run: Run, are: bool) -> bool {
        bits[self.range(run)].iter().all(|bit| *bit == are)
    }

    fn mark(&mut self, run: Run, used: bool) {
        let range = self.range(run);
        self.touched[range.start / BITS as usize..=(range.end - 1) / BITS as usize].fill(true);
        self.used[range].fill(used);
    }

    fn give(&mut self, run: Run, ready: bool) {
        let range = self.range(run);
        self.ready[range].fill(ready);
    }

    fn runs(&self, bits: &[bool], are: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, _) in bits.iter().enumerate().filter(|(_, bit)| **bit == are) {
            let block = self.layout.data_start + at as u64;
            match runs.last_mut() {
                Some(last) if last.start.0 + last.count == block => last.count += 1,
                _ => runs.push(Run::new(block, 1)),
            }
        }
        runs
    }

    fn any(&self, random: &mut Random, longest: u64) -> Run {
        let first = random.below(self.layout.data_blocks);
        let count = 1 + random.below(longest.min(self.layout.data_blocks - first));
        Run::new(self.layout.data_start + first, count)
    }

    fn assert_map(&self, space: &Space) {
        let count = |bits: &[bool], are: bool| bits.iter().filter(|bit| **bit == are).count() as u64;
        assert_eq!(space.free(), count(&self.used, false));
        let mut found = Vec::new();
        space.free_runs(&mut |run| found.push(run));
        assert_eq!(found, self.runs(&self.used, false));
    }

    fn assert_same(&self, space: &Space, random: &mut Random) {
        self.assert_map(space);
        assert_eq!(space.ready(), self.ready.iter().filter(|ready| **ready).count() as u64);
        assert_eq!(space.pending(), self.pending.iter().map(|run| run.count).sum::<u64>());
        let run = self.any(random, 3 * BITS);
        let used = self.used[self.range(run)].iter().filter(|used| **used).count() as u64;
        assert_eq!(space.count_used(run), used);
        let next =
            self.runs(&self.ready, true).into_iter().find(|ready| ready.start.0 + ready.count > run.start.0);
        let next = next.map(|ready| {
            let start = ready.start.0.max(run.start.0);
            Run::new(start, ready.start.0 + ready.count - start)
        });
        assert_eq!(space.next_free(run.start.0), next);
    }
}

fn sealed(space: &mut Space, generation: u64) -> (Vec<(u64, Block)>, SpaceEntry) {
    // What is not sealed leaves no trace.
    space.prepare(generation + 1).unwrap();
    let prepared = space.prepare(generation).unwrap();
    space.seal(prepared)
}

/// Seals, writes, publishes; what is loaded from the device is what the model says.
fn commit(space: &mut Space, model: &mut Model, device: &Sparse, generation: u64) {
    let (written, top) = sealed(space, generation);
    let mut expected: Vec<[u64; 2]> = Vec::new();
    let mut changed = model.touched.clone();
    for level in 0..model.layout.space.levels {
        let indexes: Vec<u64> = (0..changed.len() as u64).filter(|index| changed[*index as usize]).collect();
        expected.extend(
            indexes.iter().map(|index| [0, 1].map(|slot| model.layout.space.block(level, *index, slot))),
        );
        changed = changed.chunks(256).map(|chunk| chunk.contains(&true)).collect();
    }
    assert_eq!(written.len(), expected.len(), "what did not change was written, or not what did");
    for ((place, bytes), pair) in written.iter().zip(expected) {
        assert!(pair.contains(place));
        match model.durable.insert(pair[0], *place) {
            Some(before) => assert_ne!(*place, before, "the only copy was overwritten"),
            None => assert_eq!(*place, pair[0], "the first copy is the first of the pair"),
        }
        device.write(place * 4096, bytes).unwrap();
    }
    model.touched.fill(false);
    assert_eq!(space.sealed(), model.pending);
    assert_eq!(space.pending(), model.pending.iter().map(|run| run.count).sum::<u64>());
    space.publish();
    for run in core::mem::take(&mut model.pending) {
        model.give(run, true);
    }
    let loaded = Space::load(device, &model.layout, top).unwrap();
    model.assert_map(&loaded);
    assert_eq!(loaded.ready(), loaded.free());
}

fn run(data_blocks: u64, steps: u64, seed: u64) {
    let layout = layout(data_blocks);
    let (device, mut random) = (Sparse::default(), Random(seed));
    let (mut space, mut model) = (Space::empty(&layout).unwrap(), Model::new(layout));
    assert_eq!(sealed(&mut space, 1).0.len(), 0);
    for step in 0..steps {
        let longest = [1, 9, 70, 2 * BITS][random.below(4) as usize];
        match random.below(8) {
            0..3 => {
                let goal = model.any(&mut random, longest);
                let there = model.ready[model.range(goal)].iter().take_while(|ready| **ready).count() as u64;
                let Some(run) = space.take(goal.count, goal.start.0) else {
                    assert!(model.all(&model.ready, Run::new(layout.data_start, data_blocks), false));
                    continue;
                };
                assert!(run.count <= goal.count && model.all(&model.ready, run, true));
                assert!(there == 0 || run == Run::new(goal.start.0, there), "free, but not taken there");
                model.give(run, false);
                assert!(space.mark(run, true));
                model.mark(run, true);
            }
            3 => {
                let runs = model.runs(&model.used, true);
                if let Some(whole) = runs.get(random.below(runs.len().max(1) as u64) as usize) {
                    let skipped = random.below(whole.count);
                    let run = Run::new(whole.start.0 + skipped, 1 + random.below(whole.count - skipped));
                    assert!(space.mark(run, false));
                    model.mark(run, false);
                    space.reserve_pending(1).unwrap();
                    space.free_later(run);
                    model.pending.push(run);
                }
            }
            4 => {
                let (run, used) = (model.any(&mut random, longest), random.below(2) == 0);
                if !model.all(&model.used, run, !used) {
                    assert!(!space.mark(run, used), "a run that was so already");
                    assert!(!space.mark(Run::new(run.start.0, 0), used));
                }
            }
            5 => {
                let run = model.any(&mut random, longest);
                let held = space.hold(run);
                assert_eq!(held, model.all(&model.ready, run, true));
                if held {
                    model.give(run, false);
                    model.assert_same(&space, &mut random);
                    space.give_back(run);
                    model.give(run, true);
                }
            }
            6 => {
                let (run, used) = (model.any(&mut random, longest), random.below(2) == 0);
                let right =
                    if used { model.all(&model.ready, run, true) } else { model.all(&model.used, run, true) };
                assert_eq!(space.correct(run, used), right);
                if right {
                    model.mark(run, used);
                    model.give(run, !used);
                }
            }
            _ => commit(&mut space, &mut model, &device, step + 2),
        }
        model.assert_same(&space, &mut random);
    }
    commit(&mut space, &mut model, &device, steps + 2);
    commit(&mut space, &mut model, &device, steps + 3);
}

#[test]
fn equals_one_bool_a_block() {
    run(61, 2000, 1);
    run(2 * BITS, 150, 2);
    run(2 * BITS + 13, 150, 3);
}

#[test]
fn a_map_of_three_levels_is_loaded_as_it_was_sealed() {
    let layout = layout(257 * BITS + 5);
    assert_eq!((layout.space.levels, layout.space.counts[..3].to_vec()), (3, vec![258, 2, 1]));
    let device = Sparse::default();
    let mut space = Space::empty(&layout).unwrap();
    let places = [0, BITS - 1, 100 * BITS + 7, 255 * BITS, 256 * BITS, 257 * BITS + 4];
    let mut top = SpaceEntry::NEVER;
    for (step, place) in places.iter().enumerate() {
        assert!(space.mark(Run::new(layout.data_start + place, 1), true));
        let (written, of_this) = sealed(&mut space, step as u64 + 1);
        assert_eq!(written.len(), 3, "a block of each level");
        written.iter().for_each(|(place, bytes)| device.write(place * 4096, bytes).unwrap());
        space.publish();
        top = of_this;
        let loaded = Space::load(&device, &layout, top).unwrap();
        let mut bits = places[..=step].iter().map(|place| Run::new(layout.data_start + place, 1));
        assert!(bits.all(|run| loaded.count_used(run) == 1));
        assert_eq!((loaded.free(), loaded.ready()), (layout.data_blocks - step as u64 - 1, loaded.free()));
    }
    let mut changed = None;
    for (offset, bytes) in device.0.borrow().iter() {
        // Every block that counts is verified, and no other is read.
        let damaged = Sparse::default();
        *damaged.0.borrow_mut() = device.0.borrow().clone();
        damaged.0.borrow_mut().insert(*offset, bytes.iter().map(|byte| !byte).collect());
        let place = offset / 4096;
        let bitmap = place < layout.space.block(1, 0, 0);
        let what = if bitmap { "free-space bitmap" } else { "free-space index" };
        let loaded = Space::load(&damaged, &layout, top);
        let wrong = loaded.is_err();
        assert!(loaded.is_ok() || loaded.is_err_and(|error| error == Error::checksum(what, place)));
        damaged.0.borrow_mut().remove(offset);
        if !wrong {
            Space::load(&damaged, &layout, top).unwrap();
            changed = Some(*offset);
        }
    }
    assert!(changed.is_some(), "the older copies");
}

#[test]
fn a_slot_that_does_not_exist_is_damage() {
    let layout = layout(2 * BITS);
    let device = Sparse::default();
    let mut space = Space::empty(&layout).unwrap();
    assert!(space.mark(Run::new(layout.data_start, 5), true));
    let (written, top) = sealed(&mut space, 1);
    written.iter().for_each(|(place, bytes)| device.write(place * 4096, bytes).unwrap());
    for (slot, right) in [(0, true), (1, true), (2, false), (u32::MAX, false)] {
        // The first block of the bitmap never written, and said to be in this slot.
        let entry = SpaceEntry { slot: U32::new(slot), ..SpaceEntry::NEVER };
        let mut index = written[1].1.to_vec();
        index[..16].copy_from_slice(entry.as_bytes());
        device.write(written[1].0 * 4096, &index).unwrap();
        let top = SpaceEntry { checksum: U32::new(crc32(&index)), ..top };
        let loaded = Space::load(&device, &layout, top).map(|space| space.free());
        let expected =
            Error::corrupt("free-space index", layout.space.block(1, 0, 0), "a slot that does not exist");
        assert_eq!(loaded, if right { Ok(layout.data_blocks) } else { Err(expected) });
    }
}

#[test]
fn what_is_promised_is_not_given_to_others() {
    let layout = layout(100);
    let mut space = Space::empty(&layout).unwrap();
    space.promise(30);
    space.promise(20);
    assert_eq!(space.ready(), 50);
    space.redeem(30);
    assert_eq!(space.ready(), 80);
    space.promise(100);
    assert_eq!(space.ready(), 0);
    space.redeem(500);
    assert_eq!(space.ready(), 100);
    let run = space.take_aligned(4, layout.data_start + 40).unwrap();
    assert_eq!((run.count, (run.start.0 - layout.data_start) % 16), (16, 0));
    assert!(!space.hold(Run::new(run.start.0 + 15, 2)));
    assert!(space.hold(Run::new(run.start.0 + 16, 2)));
    assert_eq!((space.ready(), space.free(), space.pending()), (82, 100, 0));
    assert_eq!(space.reserve(), 24);
}
