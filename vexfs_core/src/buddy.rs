//! The block allocator in memory: a binary buddy system over blocks `0..blocks`.
//!
//! A buddy of order k is 2^k blocks at a multiple of 2^k. One bitmap an order says which buddies are free
//! as a whole; 64-ary summaries over it find the next one in a few words, without lists. Memory is taken
//! in [`Buddy::new`] alone (about 2 bits a block), so that nothing can fail in the middle of a commit.
//!
//! Invariant: a free block is marked at exactly one order, and two buddies of one pair are never both
//! marked (they are marked as one, an order higher), so the marks are a function of the set of free blocks.
//!
//! It knows nothing of the disk and of generations: that a block freed now may be given out only after the
//! next superblock is durable is the caller's business, who releases it then.
//!
//! Source: Knowlton, "A fast storage allocator", CACM 8 (1965); Knuth, TAOCP 1, section 2.5.

use alloc::vec::Vec;

use crate::error::{Error, Result};
use crate::memory;

/// The largest order: 2^18 blocks, 1 GiB of blocks of 4 KiB.
const ORDER_MAX: u32 = 18;

/// How many gaps of one order [`Buddy::take`] looks at.
const TRIES: u64 = 8;

/// Which of the blocks `0..blocks` are free.
#[derive(Debug)]
pub struct Buddy {
    blocks: u64,
    free: u64,
    /// The free buddies, a bitmap for each order.
    orders: Vec<Bits>,
}

impl Buddy {
    /// All blocks taken.
    pub fn new(blocks: u64) -> Result<Self> {
        let last = blocks.checked_ilog2().unwrap_or(0).min(ORDER_MAX);
        let mut orders = Vec::new();
        for order in 0..=last {
            // A buddy that the end of the volume cuts is never whole, so it has no bit.
            memory::push(&mut orders, Bits::new(blocks >> order)?)?;
        }
        Ok(Self { blocks, free: 0, orders })
    }

    /// Blocks managed.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Free blocks, exactly.
    pub fn free(&self) -> u64 {
        self.free
    }

    /// Gives a run back, which must be taken.
    pub fn release(&mut self, start: u64, count: u64) {
        debug_assert!(self.contains(start, count), "release of {start}+{count} past the end");
        debug_assert!(self.first_free(start).is_none_or(|free| free >= start + count), "released twice");
        for (order, index) in self.split(start, count) {
            self.mark_and_merge(order, index);
        }
        self.free += count;
    }

    /// True if every block of the run is free; also for an empty run inside the volume.
    pub fn is_free(&self, start: u64, count: u64) -> bool {
        self.contains(start, count) && self.free_from(start, count) == count
    }

    /// Takes exactly this run if it is all free; says whether it was.
    pub fn take_exact(&mut self, start: u64, count: u64) -> bool {
        let whole = self.is_free(start, count);
        if whole {
            self.carve(start, count);
        }
        whole
    }

    /// Takes 1 to `count` contiguous blocks, as `(start, got)`; none only when nothing is free.
    ///
    /// If the block `goal` is free, the run starts there and goes on as far as it is free: right for what
    /// grows, whose goal is its own end. Otherwise the run is chosen near `goal`, at or after it first, then
    /// from 0, and is all of `count` whenever a free buddy can hold that.
    pub fn take(&mut self, count: u64, goal: u64) -> Option<(u64, u64)> {
        if count == 0 {
            return None;
        }
        let (start, got) = match self.free_from(goal, count) {
            0 => self.choose(count, goal)?,
            got => (goal, got),
        };
        self.carve(start, got);
        Some((start, got))
    }

    /// Takes 2^`order` blocks at a multiple of 2^`order`, the nearest at or after `goal`, then from 0.
    ///
    /// A larger buddy, of the smallest order there is, is split where needed. None if there is no such
    /// buddy, and for orders above 18 or of more blocks than the volume has.
    pub fn take_aligned(&mut self, order: u32, goal: u64) -> Option<u64> {
        let largest = self.largest()?;
        let from = (order..=largest).find(|&order| self.orders[order as usize].count > 0)?;
        let size = 1u64 << order;
        // The first place that is aligned and not before the goal, and the buddy around it or after it.
        let place = goal.checked_next_multiple_of(size).unwrap_or(0);
        let start = self.nearest(from, place >> from << from)?;
        let start = if start >> from == place >> from { place } else { start };
        self.carve(start, size);
        Some(start)
    }

    /// Order of the largest free buddy, if any block is free.
    pub fn largest(&self) -> Option<u32> {
        self.orders.iter().rposition(|bits| bits.count > 0).map(|order| order as u32)
    }

    /// How many buddies of each order are free, from order 0 up.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        (0u32..).zip(self.orders.iter().map(|bits| bits.count))
    }

    /// The first free run at or after `start`, as `(start, count)`, up to the next block that is taken.
    pub fn next_free(&self, start: u64) -> Option<(u64, u64)> {
        let first = self.first_free(start)?;
        Some((first, self.free_from(first, u64::MAX)))
    }

    // True if the run lies in the volume.
    fn contains(&self, start: u64, count: u64) -> bool {
        start.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    // The order of the free buddy around a block.
    fn order_of(&self, block: u64) -> Option<u32> {
        self.orders.iter().zip(0u32..).find(|(bits, order)| bits.has(block >> order)).map(|(_, order)| order)
    }

    // The first free block at or after `start`.
    fn first_free(&self, start: u64) -> Option<u64> {
        if self.order_of(start).is_some() {
            return Some(start);
        }
        // No buddy around `start` is free, so every free one after it begins after it.
        let firsts = self.orders.iter().zip(0u32..).filter_map(|(bits, order)| {
            let index = bits.first((start >> order).checked_add(1)?)?;
            Some(index << order)
        });
        firsts.min()
    }

    // The run to take for `count` blocks that cannot begin at `goal`.
    //
    // A run of `count` need not be a buddy: first the gaps whose largest buddy is smaller, so that the large
    // ones stay whole (without that, an aged volume that is nearly full has none left: bench-alloc), then
    // the smallest buddy that holds it, and if there is none, the longest of a few around the largest.
    fn choose(&self, count: u64, goal: u64) -> Option<(u64, u64)> {
        let largest = self.largest()?;
        let floor = count.ilog2();
        let ceiling = floor + u32::from(!count.is_power_of_two());
        let gap = if floor < ceiling && floor <= largest { self.longest(floor, count, goal) } else { None };
        if gap.is_some_and(|(_, got)| got == count) {
            return gap;
        }
        match (ceiling..=largest).find(|&order| self.orders[order as usize].count > 0) {
            Some(order) => self.nearest(order, goal).map(|start| (start, count)),
            None => self.longest(largest, count, goal),
        }
    }

    // The first run of `count` blocks around a free buddy of an order, or the longest of those it looks at.
    fn longest(&self, order: u32, count: u64, goal: u64) -> Option<(u64, u64)> {
        let mut best: Option<(u64, u64)> = None;
        let mut at = goal;
        for _ in 0..self.orders[order as usize].count.min(TRIES) {
            let buddy = self.nearest(order, at)?;
            // From the start of the gap, so that what is left of it stays in one piece.
            let start = buddy - self.free_before(buddy);
            let got = self.free_from(start, count);
            if best.is_none_or(|(_, longest)| got > longest) {
                best = Some((start, got));
            }
            if got == count {
                break;
            }
            at = start + got;
        }
        best
    }

    // How many blocks from `start` are free one after another, at most `limit`.
    fn free_from(&self, start: u64, limit: u64) -> u64 {
        let Some(order) = self.order_of(start) else { return 0 };
        let mut end = ((start >> order) + 1) << order;
        // Where one free buddy ended the next begins, so its order is at most the alignment of that place.
        while end - start < limit {
            match self.orders_at(end).find(|&order| self.orders[order as usize].has(end >> order)) {
                Some(order) => end += 1 << order,
                None => break,
            }
        }
        limit.min(end - start)
    }

    // How many blocks before `end`, where a free buddy begins, are free one after another.
    fn free_before(&self, end: u64) -> u64 {
        let mut start = end;
        while start > 0 {
            match self.orders_at(start).find(|&order| self.orders[order as usize].has((start >> order) - 1)) {
                Some(order) => start -= 1 << order,
                None => break,
            }
        }
        end - start
    }

    // The orders of the buddies that can begin or end at a block.
    fn orders_at(&self, block: u64) -> core::ops::RangeInclusive<u32> {
        0..=block.trailing_zeros().min(self.orders.len() as u32 - 1)
    }

    // Start of the first free buddy of an order at or after `goal`, else of the first of all.
    fn nearest(&self, order: u32, goal: u64) -> Option<u64> {
        let bits = &self.orders[order as usize];
        let index = bits.first(goal.div_ceil(1 << order)).or_else(|| bits.first(0))?;
        Some(index << order)
    }

    // Takes a run that is free: each buddy it touches is unmarked, and what sticks out is marked again.
    fn carve(&mut self, start: u64, count: u64) {
        let end = start + count;
        let mut at = start;
        while at < end {
            let Some(order) = self.order_of(at) else {
                debug_assert!(false, "block {at} is taken");
                return;
            };
            let first = at >> order << order;
            let behind = first + (1 << order);
            self.orders[order as usize].clear(at >> order);
            // INVARIANT: the parts of a buddy, cut into the largest pieces, hold no pair of free buddies.
            for (order, index) in self.split(first, at - first) {
                self.orders[order as usize].set(index);
            }
            at = behind.min(end);
            for (order, index) in self.split(at, behind - at) {
                self.orders[order as usize].set(index);
            }
        }
        self.free -= count;
    }

    // Marks a buddy as free, or, as long as its other half is free, the pair.
    fn mark_and_merge(&mut self, mut order: u32, mut index: u64) {
        while (order as usize) + 1 < self.orders.len() && self.orders[order as usize].has(index ^ 1) {
            self.orders[order as usize].clear(index ^ 1);
            order += 1;
            index >>= 1;
        }
        self.orders[order as usize].set(index);
    }

    // Cuts a run into the largest buddies, as `(order, index)`.
    fn split(&self, start: u64, count: u64) -> impl Iterator<Item = (u32, u64)> + use<> {
        let order_max = self.orders.len() as u32 - 1;
        let (mut at, mut left) = (start, count);
        core::iter::from_fn(move || {
            let order = left.checked_ilog2()?.min(at.trailing_zeros()).min(order_max);
            let index = at >> order;
            at += 1 << order;
            left -= 1 << order;
            Some((order, index))
        })
    }
}

/// A bitmap that finds its next set bit: above every 64 words one word tells which of them are not zero.
#[derive(Debug)]
struct Bits {
    /// How many bits are set.
    count: u64,
    /// The bitmap, then its summaries, each a 64th of the one before, the last of one word.
    levels: Vec<Vec<u64>>,
}

impl Bits {
    // `len` bits, all clear.
    fn new(len: u64) -> Result<Self> {
        let mut levels = Vec::new();
        let mut words = usize::try_from(len).map_err(|_| Error::NoMemory)?.div_ceil(64).max(1);
        memory::push(&mut levels, memory::filled(words, 0)?)?;
        while words > 1 {
            words = words.div_ceil(64);
            memory::push(&mut levels, memory::filled(words, 0)?)?;
        }
        Ok(Self { count: 0, levels })
    }

    // False also for a bit past the end.
    fn has(&self, index: u64) -> bool {
        let word = usize::try_from(index / 64).ok().and_then(|at| self.levels[0].get(at));
        word.is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    // Sets a bit that is clear.
    fn set(&mut self, index: u64) {
        debug_assert!(!self.has(index));
        self.count += 1;
        let mut at = index as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            let was_zero = *word == 0;
            *word |= 1 << (at % 64);
            if !was_zero {
                return;
            }
            at /= 64;
        }
    }

    // Clears a bit that is set.
    fn clear(&mut self, index: u64) {
        debug_assert!(self.has(index));
        self.count -= 1;
        let mut at = index as usize;
        for level in &mut self.levels {
            let word = &mut level[at / 64];
            *word &= !(1 << (at % 64));
            if *word != 0 {
                return;
            }
            at /= 64;
        }
    }

    // The first set bit at or after `from`.
    fn first(&self, from: u64) -> Option<u64> {
        let mut at = usize::try_from(from).ok()?;
        for (height, level) in self.levels.iter().enumerate() {
            let word = level.get(at / 64)? & (u64::MAX << (at % 64));
            if word != 0 {
                let found = at / 64 * 64 + word.trailing_zeros() as usize;
                let below = self.levels[..height].iter().rev();
                let bit = below.fold(found, |at, level| at * 64 + level[at].trailing_zeros() as usize);
                return Some(bit as u64);
            }
            at = at / 64 + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers from a seed (the generator of Knuth's MMIX).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % limit
        }
    }

    // The same as the buddy, one bool a block.
    struct Model(Vec<bool>);

    impl Model {
        fn run(&self, start: u64) -> u64 {
            self.0.iter().skip(start as usize).take_while(|free| **free).count() as u64
        }

        fn is_free(&self, start: u64, count: u64) -> bool {
            self.0[start as usize..(start + count) as usize].iter().all(|free| *free)
        }

        fn set(&mut self, start: u64, count: u64, free: bool) {
            for block in &mut self.0[start as usize..(start + count) as usize] {
                assert_ne!(*block, free, "given out or back twice");
                *block = free;
            }
        }

        fn free(&self) -> u64 {
            self.0.iter().filter(|free| **free).count() as u64
        }

        // The starts of the buddies of an order that the definition calls free: whole, and the pair not.
        fn buddies(&self, order: u32, order_max: u32) -> Vec<u64> {
            let size = 1u64 << order;
            let whole = |start: u64| start + size <= self.0.len() as u64 && self.is_free(start, size);
            let starts = (0..self.0.len() as u64).step_by(size as usize);
            starts.filter(|&start| whole(start) && (order == order_max || !whole(start ^ size))).collect()
        }

        fn nearest(starts: &[u64], goal: u64) -> Option<u64> {
            starts.iter().copied().find(|&start| start >= goal).or(starts.first().copied())
        }
    }

    fn all_free(blocks: u64) -> (Buddy, Model) {
        let mut buddy = Buddy::new(blocks).unwrap();
        assert_eq!((buddy.blocks(), buddy.free(), buddy.largest()), (blocks, 0, None));
        assert_eq!((buddy.take(1, 0), buddy.take_aligned(0, 0), buddy.next_free(0)), (None, None, None));
        buddy.release(0, blocks);
        (buddy, Model(alloc::vec![true; blocks as usize]))
    }

    fn assert_same(buddy: &Buddy, model: &Model) {
        assert_eq!(buddy.free(), model.free());
        let order_max = buddy.orders.len() as u32 - 1;
        let mut largest = None;
        for (order, count) in buddy.counts() {
            let starts = model.buddies(order, order_max);
            assert_eq!(count, starts.len() as u64, "order {order}");
            assert!(starts.iter().all(|start| buddy.orders[order as usize].has(start >> order)));
            largest = if count > 0 { Some(order) } else { largest };
        }
        assert_eq!(buddy.largest(), largest);
        let (mut at, mut seen) = (0, 0);
        while let Some((start, count)) = buddy.next_free(at) {
            assert!(model.0[at as usize..start as usize].iter().all(|free| !free));
            assert_eq!(count, model.run(start));
            at = start + count;
            seen += count;
        }
        assert_eq!(seen, buddy.free());
    }

    fn take(buddy: &mut Buddy, model: &mut Model, count: u64, goal: u64) -> Option<(u64, u64)> {
        let largest = buddy.largest();
        let taken = buddy.take(count, goal);
        assert_eq!(taken.is_some(), largest.is_some());
        if let Some((start, got)) = taken {
            let run = model.run(goal);
            if run > 0 {
                assert_eq!((start, got), (goal, run.min(count)), "take({count}, {goal})");
            } else {
                assert!(got >= count.min(1 << largest.unwrap()), "take({count}, {goal}) got {got}");
            }
            assert!(got <= count);
            model.set(start, got, false);
        }
        taken
    }

    fn take_aligned(buddy: &mut Buddy, model: &mut Model, order: u32, goal: u64) -> Option<(u64, u64)> {
        let order_max = buddy.orders.len() as u32 - 1;
        let size = 1u64 << order;
        let from = (order..=order_max).find(|&order| !model.buddies(order, order_max).is_empty());
        let places: Vec<u64> = from.map_or(Vec::new(), |from| {
            let starts = model.buddies(from, order_max);
            starts.iter().flat_map(|start| (*start..start + (1 << from)).step_by(size as usize)).collect()
        });
        let taken = buddy.take_aligned(order, goal);
        assert_eq!(taken, Model::nearest(&places, goal), "take_aligned({order}, {goal})");
        if let Some(start) = taken {
            model.set(start, size, false);
        }
        taken.map(|start| (start, size))
    }

    fn random_operations(blocks: u64, steps: u64) {
        let (mut buddy, mut model) = all_free(blocks);
        let mut dice = Dice(blocks);
        let mut held: Vec<(u64, u64)> = Vec::new();
        for step in 0..steps {
            let goal = dice.below(blocks + 2).min(blocks - 1);
            let scale = dice.below(u64::from(blocks.ilog2()) + 2);
            let count = 1 + dice.below(1 << scale);
            let taken = match dice.below(8) {
                0..=2 => take(&mut buddy, &mut model, count, goal),
                3 => take_aligned(&mut buddy, &mut model, count.ilog2(), goal),
                4 => {
                    let inside = goal + count <= blocks;
                    let free = inside && model.is_free(goal, count);
                    assert_eq!(buddy.is_free(goal, count), free);
                    assert_eq!(buddy.take_exact(goal, count), free);
                    if free {
                        model.set(goal, count, false);
                    }
                    free.then_some((goal, count))
                }
                _ if held.is_empty() => None,
                _ => {
                    let (start, count) = held.swap_remove(dice.below(held.len() as u64) as usize);
                    // Sometimes a part only, as when a file is cut.
                    let part = 1 + dice.below(count);
                    buddy.release(start + count - part, part);
                    model.set(start + count - part, part, true);
                    (part < count).then_some((start, count - part))
                }
            };
            held.extend(taken);
            assert_eq!(buddy.free(), model.free());
            if step % 16 == 0 || blocks < 64 {
                assert_same(&buddy, &model);
            }
        }
        for (start, count) in held {
            buddy.release(start, count);
            model.set(start, count, true);
        }
        assert_same(&buddy, &model);
        assert_eq!(buddy.next_free(0), Some((0, blocks)));
        let untouched = all_free(blocks).0;
        assert!(buddy.counts().eq(untouched.counts()), "not all merged again");
    }

    #[test]
    fn equals_a_model_under_random_operations() {
        for blocks in 1..=130 {
            random_operations(blocks, 200);
        }
        for blocks in (131..5000).step_by(97).chain([255, 256, 257, 1023, 1024, 2047, 4095, 4096, 4097, 5000])
        {
            random_operations(blocks, 600);
        }
    }

    #[test]
    fn follows_the_goal_then_fills_gaps_then_splits_the_smallest() {
        let (mut buddy, _) = all_free(1 << 12);
        assert_eq!(buddy.take(10, 100), Some((100, 10)));
        // The goal is free: the run stops at what is taken.
        assert_eq!(buddy.take(64, 90), Some((90, 10)));
        // Taken is 90..110; 88..90, 110..112 and 112..128 are buddies.
        assert_eq!(buddy.take(2, 95), Some((110, 2)));
        // The buddy 80..88 is too small, but the gap around it goes from 0 to 90.
        assert_eq!(buddy.take(9, 95), Some((0, 9)));
        assert_eq!(buddy.take(16, 95), Some((112, 16)));
        // No buddy of 32 but the one at 32: nothing is split.
        assert_eq!(buddy.take(32, 95), Some((32, 32)));
        assert_eq!(buddy.take_aligned(4, 65), Some(16));
        assert_eq!(buddy.take_aligned(12, 0), None);
        assert!(!buddy.take_exact(80, 20) && buddy.take_exact(80, 10));
        assert_eq!((buddy.next_free(70), buddy.next_free(80)), (Some((70, 10)), Some((128, 4096 - 128))));
        assert_eq!((buddy.take(0, 0), buddy.is_free(4096, 0)), (None, true));
        assert!(!buddy.is_free(4096, 1) && !buddy.is_free(u64::MAX, 2));
    }

    #[test]
    fn a_run_may_span_the_largest_buddies() {
        let blocks = (5 << ORDER_MAX) + 77;
        let mut buddy = Buddy::new(blocks).unwrap();
        buddy.release(0, blocks);
        assert_eq!(buddy.largest(), Some(ORDER_MAX));
        assert_eq!(buddy.next_free(1), Some((1, blocks - 1)));
        assert!(buddy.take_exact(1, 1));
        let got = (3 << ORDER_MAX) + 5;
        assert_eq!(buddy.take(got, 1), Some((2, got)));
        assert_eq!(buddy.take(u64::MAX, blocks), Some((got + 2, blocks - got - 2)));
        assert_eq!((buddy.take(u64::MAX, u64::MAX), buddy.free()), (Some((0, 1)), 0));
    }

    #[test]
    fn finds_the_next_bit_over_all_summaries() {
        let mut bits = Bits::new(1 << 20).unwrap();
        assert_eq!(bits.levels.len(), 4);
        let set = [0, 63, 64, 4095, 4096, 262_143, 262_144, (1 << 20) - 1];
        set.iter().for_each(|&index| bits.set(index));
        for pair in set.windows(2) {
            assert_eq!(bits.first(pair[0] + 1), Some(pair[1]));
        }
        set[1..7].iter().for_each(|&index| bits.clear(index));
        assert_eq!(
            (bits.first(1), bits.first(1 << 20), bits.first(u64::MAX)),
            (Some((1 << 20) - 1), None, None)
        );
    }
}
