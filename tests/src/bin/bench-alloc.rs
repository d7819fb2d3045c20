//! `make bench-alloc`: how free space and files break up over time under three allocators.
//!
//! A volume of 2^18 blocks (1 GiB of 4 KiB) is filled to 70, 85 or 95 % and then aged: each round deletes
//! objects at random until a tenth of the content is gone and writes new ones up to the same level. Files
//! have 1 to 256 blocks (uniform in the logarithm) and come in one request; some are appended to later.
//! Matrices have 128 to 3072 dimensions and 64 to 8192 rows of f32; eight grow at the same time, each by
//! as much as it has (64 KiB to 4 MiB), as the filesystem lets them. The operations come from a fixed seed
//! and are the same, in the same order, for
//!
//! * `buddy`: `vexfs_core::buddy::Buddy`, what VexFS uses;
//! * `first-fit`: the lowest free run that holds the request;
//! * `next-fit`: the same, from where the last search ended.
//!
//! The two baselines find a run in logarithmic time (a tree of longest runs over the bitmap), so that they
//! do not lose for a poor search; without a run that is long enough they give the longest. All three go on
//! at the end of what a growing object has, where that block is free. A request that got less than it asked
//! for is repeated for the rest.
//!
//! How to read the table: `age` is how many times the content was replaced; the next four columns describe
//! the volume at that age, the last two the time since the row before.
//!
//! * `file`, `matrix`: pieces (extents) an object has on average; 1 is perfect.
//! * `>=64K`, `>=1M`: share of the free space that lies in free runs of at least that size; more is better.
//! * `largest`: the longest free run, in MiB.
//! * `short`: of the requests of 1 MiB and more, the share that added more than one piece: no run was long
//!   enough (what still fits behind the object's end is not counted); less is better.
//! * `time`: time an operation relative to first-fit in this run: the median over the rounds, where the
//!   three take turns; below 1 is faster.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use vexfs_core::buddy::Buddy;

const BLOCKS: u64 = 1 << 18;
const BLOCK_SIZE: u64 = 4096;
const SEED: u64 = 0x5645_5846;
const FILLS_PERCENT: [u64; 3] = [70, 85, 95];
const AGES: [u64; 4] = [1, 4, 16, 64];
const ROUNDS_PER_AGE: u64 = 10;
/// Requests of this many blocks (1 MiB) and more count as big.
const BIG: u64 = (1 << 20) / BLOCK_SIZE;
const MATRICES_OPEN: usize = 8;
const DIMENSIONS: [u64; 8] = [128, 256, 384, 512, 768, 1024, 1536, 3072];

fn main() -> ExitCode {
    println!("{BLOCKS} blocks of {BLOCK_SIZE} bytes, seed {SEED:#x}; see the head of bench-alloc.rs\n");
    println!("fill  age  allocator    file  matrix   >=64K    >=1M  largest   short    time");
    for fill in FILLS_PERCENT {
        if let Err(message) = age(fill) {
            eprintln!("bench-alloc: {message}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

// Ages one volume under the three allocators and prints a row for each at each age.
fn age(fill_percent: u64) -> Result<(), String> {
    let mut load = Load::new(BLOCKS * fill_percent / 100);
    let mut buddy = Buddy::new(BLOCKS).map_err(|error| error.to_string())?;
    buddy.release(0, BLOCKS);
    let mut volumes = [
        Volume::new("first-fit", Box::new(Fit::new(BLOCKS, false))),
        Volume::new("next-fit", Box::new(Fit::new(BLOCKS, true))),
        Volume::new("buddy", Box::new(buddy)),
    ];
    for round in 0..=AGES[AGES.len() - 1] * ROUNDS_PER_AGE {
        let operations = load.round(round);
        for turn in 0..volumes.len() {
            let turn = (turn + round as usize) % volumes.len();
            volumes[turn].run(&operations)?;
        }
        if round > 0 && round % ROUNDS_PER_AGE == 0 && AGES.contains(&(round / ROUNDS_PER_AGE)) {
            let first_fit = volumes[0].times.clone();
            for volume in &mut volumes {
                let ratios =
                    volume.times.iter().zip(&first_fit).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64());
                let ratio = median(ratios);
                volume.times.clear();
                volume.print(fill_percent, round / ROUNDS_PER_AGE, ratio, &load)?;
            }
        }
    }
    println!();
    Ok(())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One step of the load; an object is a number that is never used again.
enum Operation {
    Delete { object: usize },
    Grow { object: usize, count: u64 },
}

/// The generator of the operations: what lives, how big it is, and what comes next.
struct Load {
    state: u64,
    target: u64,
    used: u64,
    /// Blocks of each object, 0 once it is deleted.
    sizes: Vec<u64>,
    /// True for matrices.
    kinds: Vec<bool>,
    /// The objects that may be deleted or appended to.
    closed: Vec<usize>,
    /// The matrices that grow, and how big each will be.
    open: Vec<(usize, u64)>,
}

impl Load {
    fn new(target: u64) -> Self {
        let (sizes, kinds) = (Vec::new(), Vec::new());
        Self { state: SEED, target, used: 0, sizes, kinds, closed: Vec::new(), open: Vec::new() }
    }

    // Round 0 fills the volume, each later one replaces a tenth of it.
    fn round(&mut self, round: u64) -> Vec<Operation> {
        let mut operations = Vec::new();
        let low = if round == 0 { 0 } else { self.target - self.target / ROUNDS_PER_AGE };
        while self.used > low && !self.closed.is_empty() {
            let index = self.below(self.closed.len() as u64) as usize;
            let object = self.closed.swap_remove(index);
            self.used -= std::mem::take(&mut self.sizes[object]);
            operations.push(Operation::Delete { object });
        }
        while self.used < self.target {
            let (object, count) = match self.below(10) {
                0 if !self.closed.is_empty() => {
                    let index = self.below(self.closed.len() as u64) as usize;
                    (self.closed[index], self.logarithmic(1, 16))
                }
                0..=5 => {
                    let object = self.create(false);
                    self.closed.push(object);
                    (object, self.logarithmic(1, 256))
                }
                _ => self.grow_matrix(),
            };
            let count = count.min(self.target - self.used);
            self.sizes[object] += count;
            self.used += count;
            operations.push(Operation::Grow { object, count });
        }
        operations
    }

    fn grow_matrix(&mut self) -> (usize, u64) {
        if self.open.len() < MATRICES_OPEN {
            let dimensions = DIMENSIONS[self.below(DIMENSIONS.len() as u64) as usize];
            let bytes = dimensions * 4 * self.logarithmic(64, 8192);
            let object = self.create(true);
            self.open.push((object, bytes.div_ceil(BLOCK_SIZE)));
        }
        let index = self.below(self.open.len() as u64) as usize;
        let (object, wanted) = self.open[index];
        let size = self.sizes[object];
        let step = size.clamp(16, 1024).min((wanted - size).next_multiple_of(16));
        if size + step >= wanted {
            self.open.swap_remove(index);
            self.closed.push(object);
        }
        (object, step)
    }

    fn create(&mut self, matrix: bool) -> usize {
        self.sizes.push(0);
        self.kinds.push(matrix);
        self.sizes.len() - 1
    }

    // The generator of Knuth's MMIX.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.state >> 33) % limit
    }

    // From `low` to `high`, each doubling as likely as any other.
    fn logarithmic(&mut self, low: u64, high: u64) -> u64 {
        let from = low << self.below(u64::from((high / low).ilog2()));
        from + self.below(from) + u64::from(self.below(2) == 1)
    }
}

/// What the three have in common.
trait Allocator {
    fn free(&self) -> u64;
    // Takes 1 to `count` blocks, at `goal` if that block is free.
    fn take(&mut self, count: u64, goal: Option<u64>) -> Option<(u64, u64)>;
    fn release(&mut self, start: u64, count: u64);
    // The first free run at or after `start`.
    fn next_free(&self, start: u64) -> Option<(u64, u64)>;
}

impl Allocator for Buddy {
    fn free(&self) -> u64 {
        self.free()
    }

    fn take(&mut self, count: u64, goal: Option<u64>) -> Option<(u64, u64)> {
        self.take(count, goal.unwrap_or(0))
    }

    fn release(&mut self, start: u64, count: u64) {
        self.release(start, count);
    }

    fn next_free(&self, start: u64) -> Option<(u64, u64)> {
        self.next_free(start)
    }
}

/// An allocator and the objects it placed.
struct Volume {
    name: &'static str,
    allocator: Box<dyn Allocator>,
    /// The pieces of each object, adjacent ones joined.
    objects: Vec<Vec<(u64, u64)>>,
    /// Big requests, and those that did not get all in one piece.
    big: u64,
    short: u64,
    /// Time of each round since the last row.
    times: Vec<Duration>,
}

impl Volume {
    fn new(name: &'static str, allocator: Box<dyn Allocator>) -> Self {
        Self { name, allocator, objects: Vec::new(), big: 0, short: 0, times: Vec::new() }
    }

    fn run(&mut self, operations: &[Operation]) -> Result<(), String> {
        let began = Instant::now();
        for operation in operations {
            match *operation {
                Operation::Delete { object } => {
                    for (start, count) in std::mem::take(&mut self.objects[object]) {
                        self.allocator.release(start, count);
                    }
                }
                Operation::Grow { object, count } => self.grow(object, count)?,
            }
        }
        self.times.push(began.elapsed());
        Ok(())
    }

    fn grow(&mut self, object: usize, count: u64) -> Result<(), String> {
        if object >= self.objects.len() {
            self.objects.resize_with(object + 1, Vec::new);
        }
        let pieces = &mut self.objects[object];
        let (mut left, mut added) = (count, 0);
        while left > 0 {
            let goal = pieces.last().map(|(start, count)| start + count);
            let taking = self.allocator.take(left, goal);
            let (start, got) = taking.ok_or_else(|| format!("{} found no room", self.name))?;
            match pieces.last_mut() {
                Some(last) if goal == Some(start) => last.1 += got,
                _ => {
                    pieces.push((start, got));
                    added += 1;
                }
            }
            left -= got;
        }
        self.big += u64::from(count >= BIG);
        self.short += u64::from(count >= BIG && added > 1);
        Ok(())
    }

    fn print(&mut self, fill: u64, age: u64, time: f64, load: &Load) -> Result<(), String> {
        let (mut free, mut free_64k, mut free_1m, mut largest) = (0, 0, 0, 0);
        let mut at = 0;
        while let Some((start, count)) = self.allocator.next_free(at) {
            at = start + count;
            free += count;
            free_64k += if count * BLOCK_SIZE >= 64 << 10 { count } else { 0 };
            free_1m += if count * BLOCK_SIZE >= 1 << 20 { count } else { 0 };
            largest = largest.max(count);
        }
        if free != BLOCKS - load.used || free != self.allocator.free() {
            return Err(format!("{} lost count: {free} blocks are free", self.name));
        }
        let pieces = |matrix: bool| {
            let of_kind = self.objects.iter().zip(&load.kinds).filter(|(_, kind)| **kind == matrix);
            let counts = of_kind.map(|(pieces, _)| pieces.len()).filter(|count| *count > 0);
            let (objects, total) =
                counts.fold((0, 0), |(objects, total), count| (objects + 1, total + count));
            total as f64 / f64::from(objects)
        };
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        println!(
            "{fill:>3}% {age:>4}  {:<10} {:>6.2} {:>7.2} {:>6.1}% {:>6.1}% {:>8.1} {:>6.1}% {time:>7.2}",
            self.name,
            pieces(false),
            pieces(true),
            percent(free_64k, free),
            percent(free_1m, free),
            (largest * BLOCK_SIZE) as f64 / f64::from(1 << 20),
            percent(self.short, self.big),
        );
        (self.big, self.short) = (0, 0);
        Ok(())
    }
}

/// First-fit, or next-fit, over a bitmap with a tree of the longest free runs above it.
struct Fit {
    /// Where the next search begins; first-fit has none.
    next: Option<u64>,
    free: u64,
    /// One bit a block, set if it is free.
    words: Vec<u64>,
    /// A binary heap: node n has the children 2n and 2n + 1; the leaves are the words.
    tree: Vec<Runs>,
}

/// The free runs of a part of the bitmap: at its start, at its end, and the longest.
#[derive(Clone, Copy, Default)]
struct Runs {
    head: u64,
    tail: u64,
    longest: u64,
}

impl Fit {
    fn new(blocks: u64, next_fit: bool) -> Self {
        let words = (blocks / 64).next_power_of_two() as usize;
        let next = next_fit.then_some(0);
        let mut fit = Self { next, free: 0, words: vec![0; words], tree: vec![Runs::default(); 2 * words] };
        fit.mark(0, blocks, true);
        fit
    }

    fn is_free(&self, block: u64) -> bool {
        self.words.get((block / 64) as usize).is_some_and(|word| word >> (block % 64) & 1 == 1)
    }

    fn mark(&mut self, start: u64, count: u64, free: bool) {
        let end = start + count;
        let (first, last) = ((start / 64) as usize, ((end - 1) / 64) as usize);
        for index in first..=last {
            let base = index as u64 * 64;
            let mask = bits(start.max(base) - base, end.min(base + 64) - base);
            let word = &mut self.words[index];
            assert_eq!(*word & mask, if free { 0 } else { mask }, "given out or back twice");
            *word ^= mask;
            let leaf = self.words.len() + index;
            self.tree[leaf] = Runs::of(self.words[index]);
        }
        let (mut first, mut last) = (self.words.len() + first, self.words.len() + last);
        let mut half = 64;
        while first > 1 {
            (first, last) = (first / 2, last / 2);
            for node in first..=last {
                self.tree[node] = Runs::join(self.tree[2 * node], self.tree[2 * node + 1], half);
            }
            half *= 2;
        }
        self.free = if free { self.free + count } else { self.free - count };
    }

    // How many blocks from `start` are free one after another, at most `limit`.
    fn free_from(&self, start: u64, limit: u64) -> u64 {
        let mut end = start;
        while end - start < limit {
            let Some(word) = self.words.get((end / 64) as usize) else { break };
            let ones = u64::from((word >> (end % 64)).trailing_ones());
            end += ones;
            if ones == 0 || !end.is_multiple_of(64) {
                break;
            }
        }
        limit.min(end - start)
    }

    // The lowest run of `count` free blocks at or after `from`.
    fn find(&self, count: u64, from: u64) -> Option<u64> {
        self.search(1, 0, self.words.len() as u64 * 64, count, from, &mut 0)
    }

    // The same under one node, over the blocks `start..start + size`; `before` are free just before it.
    fn search(
        &self,
        node: usize,
        start: u64,
        size: u64,
        count: u64,
        from: u64,
        before: &mut u64,
    ) -> Option<u64> {
        let runs = self.tree[node];
        if start + size <= from {
            return None;
        }
        if start >= from {
            if *before + runs.head >= count {
                return Some(start - *before);
            }
            if runs.longest < count {
                *before = if runs.head == size { *before + size } else { runs.tail };
                return None;
            }
        }
        if size == 64 {
            let word = self.words[node - self.words.len()] & (u64::MAX << from.saturating_sub(start).min(63));
            *before = u64::from(word.leading_ones());
            return first_run(word, count).map(|bit| start + bit);
        }
        let half = size / 2;
        let left = self.search(2 * node, start, half, count, from, before);
        left.or_else(|| self.search(2 * node + 1, start + half, half, count, from, before))
    }
}

impl Allocator for Fit {
    fn free(&self) -> u64 {
        self.free
    }

    fn take(&mut self, count: u64, goal: Option<u64>) -> Option<(u64, u64)> {
        let start = match goal {
            Some(goal) if self.is_free(goal) => goal,
            _ => {
                let wanted = count.min(self.tree[1].longest).max(1);
                let from = self.next.unwrap_or(0);
                self.find(wanted, from).or_else(|| self.find(wanted, 0))?
            }
        };
        let got = self.free_from(start, count);
        self.mark(start, got, false);
        if self.next.is_some() {
            self.next = Some(start + got);
        }
        Some((start, got))
    }

    fn release(&mut self, start: u64, count: u64) {
        self.mark(start, count, true);
    }

    fn next_free(&self, start: u64) -> Option<(u64, u64)> {
        let first = self.find(1, start)?;
        Some((first, self.free_from(first, u64::MAX)))
    }
}

impl Runs {
    fn of(word: u64) -> Self {
        let mut longest = 0;
        let mut rest = word;
        // Each step shortens every run by one.
        while rest != 0 && rest != u64::MAX {
            rest &= rest << 1;
            longest += 1;
        }
        let longest = if rest == u64::MAX { 64 } else { longest };
        Self { head: u64::from(word.trailing_ones()), tail: u64::from(word.leading_ones()), longest }
    }

    fn join(left: Self, right: Self, half: u64) -> Self {
        Self {
            head: if left.head == half { half + right.head } else { left.head },
            tail: if right.tail == half { half + left.tail } else { right.tail },
            longest: left.longest.max(right.longest).max(left.tail + right.head),
        }
    }
}

// The bits `from..to` of a word.
fn bits(from: u64, to: u64) -> u64 {
    (u64::MAX >> (64 - (to - from))) << from
}

// The lowest run of `count` set bits.
fn first_run(word: u64, count: u64) -> Option<u64> {
    let mut rest = word;
    let mut base = 0;
    while rest != 0 && count <= 64 {
        let skip = u64::from(rest.trailing_zeros());
        let ones = u64::from((rest >> skip).trailing_ones());
        if ones >= count {
            return Some(base + skip);
        }
        rest = rest.checked_shr((skip + ones) as u32).unwrap_or(0);
        base += skip + ones;
    }
    None
}
