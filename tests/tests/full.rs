//! Space that runs out at every possible block: nothing is half done, the check finds nothing, and removing works.
//!
//! The same workload runs on a volume with 0, 1, 2 ... blocks free, until one has enough for all of it. Each operation is
//! done or refused with ENOSPC, and whatever was refused left no trace (the model tells).

use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::operations::Allocate;
use vexfs_tests::check::check_clean;
use vexfs_tests::effort::Effort;
use vexfs_tests::model::{Fill, Generator, Name, Op, Outcome, Pair};
use vexfs_tests::sim::SimDevice;

const SIZE: u64 = 2 << 20;
const OPERATIONS: u64 = 40;

/// A volume on which about `free` blocks can still be taken; the file that took the others.
fn nearly_full(block_size: u32, free: u64) -> Result<(Pair<SimDevice>, u64), String> {
    let device = SimDevice::new(SIZE * u64::from(block_size) / 4096);
    let mut pair = Pair::format(device, block_size).map_err(|error| error.to_string())?;
    let create = |directory, name: &str, kind| Op::Create {
        directory,
        name: Name::from(name),
        kind,
        permissions: 0o644,
        owner: 1,
    };
    for (name, kind) in [("filler", FileKind::Regular), ("d", FileKind::Directory)] {
        pair.run(&create(ROOT.0, name, kind))?;
    }
    let filler = pair.model.find("filler").ok_or("no filler")?;
    pair.run(&Op::Commit)?;
    // What the kept-back reserve leaves, one reservation after the other, smaller and smaller.
    let mut offset = 0;
    let mut step = 64 * u64::from(block_size);
    while step >= u64::from(block_size) {
        let available = pair.volume.statistics().available;
        let fits = available.saturating_sub(free) * u64::from(block_size) >= step;
        let what = Allocate::Reserve { keep_size: true };
        let reserve = Op::Allocate { inode: filler, what, offset, len: step };
        if fits && pair.run(&reserve)? == Outcome::Done {
            offset += step;
        } else {
            step /= 2;
        }
        pair.run(&Op::Commit)?;
    }
    Ok((pair, filler))
}

/// Runs the workload; gives how many operations found no space.
fn run(block_size: u32, free: u64, seed: u64) -> Result<u64, String> {
    let (mut pair, filler) = nearly_full(block_size, free)?;
    let mut generator = Generator::new(seed, 12 * u64::from(block_size));
    let mut refused = 0;
    for step in 0..OPERATIONS {
        let op = match step % 10 {
            6 => Op::Sync,
            9 => Op::Commit,
            _ => generator.next(&pair.model, &pair.open),
        };
        // The filler stays as it is: it is what makes the volume full.
        if format!("{op:?}").contains(&format!("inode: {filler},")) {
            continue;
        }
        let outcome = pair.run_patiently(&op).map_err(|why| format!("step {step}: {why}"))?;
        if pair.model.find("filler") != Some(filler) {
            break;
        }
        refused += u64::from(matches!(outcome, Outcome::NoSpace { .. }));
    }
    pair.compare().map_err(|why| format!("when full: {why}"))?;
    pair.run(&Op::Remount)?;
    check_clean(&pair.device).map_err(|why| format!("when full: {why}"))?;
    pair.compare().map_err(|why| format!("after a remount: {why}"))?;
    remove_all(&mut pair)?;
    Ok(refused)
}

/// Everything can be removed from a full volume, and all space comes back.
fn remove_all(pair: &mut Pair<SimDevice>) -> Result<(), String> {
    while let Some((directory, name, is_directory)) = something(pair) {
        let op = match is_directory {
            true => Op::RemoveDirectory { directory, name },
            false => Op::Unlink { directory, name },
        };
        let outcome = pair.run_patiently(&op)?;
        if outcome != Outcome::Done {
            return Err(format!("{op:?} on a full volume: {outcome:?}"));
        }
    }
    for op in [Op::Tidy, Op::Commit, Op::Tidy, Op::Commit, Op::Tidy, Op::Remount] {
        pair.run(&op)?;
    }
    check_clean(&pair.device).map_err(|why| format!("when empty: {why}"))?;
    pair.compare().map_err(|why| format!("when empty: {why}"))?;
    let numbers = pair.volume.statistics();
    // Collections that are still there keep their records, and at most a chunk of their matrix.
    if numbers.free < numbers.blocks * 3 / 4 {
        return Err(format!("only {} of {} blocks came back", numbers.free, numbers.blocks));
    }
    Ok(())
}

/// A name that can be removed: of a file, or of an empty directory.
fn something(pair: &Pair<SimDevice>) -> Option<(u64, Name, bool)> {
    let mut waiting = vec![ROOT.0];
    while let Some(directory) = waiting.pop() {
        for (name, inode) in &pair.model.node(directory).entries {
            let node = pair.model.node(*inode);
            let is_directory = node.kind == FileKind::Directory;
            if !is_directory || node.entries.is_empty() {
                return Some((directory, Name(name.clone()), is_directory));
            }
            waiting.push(*inode);
        }
    }
    None
}

#[test]
fn running_out_of_space_at_any_block_leaves_no_trace() {
    let seeds = Effort::wanted().of(1, 4, 60);
    let (mut runs, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for seed in 0..seeds {
        let block_size = [4096, 4096, 8192, 16384][seed as usize % 4];
        let mut enough = 0;
        for free in 0.. {
            runs += 1;
            match run(block_size, free, seed) {
                Ok(0) => enough += 1,
                Ok(count) => {
                    refused += count;
                    enough = 0;
                }
                Err(why) => wrong.push(format!("seed {seed}, {free} blocks free: {why}")),
            }
            // Enough for all of it, several times in a row.
            if enough == 4 || free > 400 || wrong.len() > 10 {
                break;
            }
        }
    }
    println!("full volumes: {runs} runs, {refused} operations without space, {} failures", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(refused > 20, "only {refused} operations found no space");
}

// ftruncate was refused for want of space on a volume with half a megabyte free: it was promised as many records as cutting a
// file off needs, and a file that grows needs a few. It needs no more than a byte written behind the new end.
#[test]
fn a_file_grows_where_a_byte_behind_its_end_can_be_written() {
    for block_size in [4096, 8192, 16384] {
        for free in [24, 40, 80] {
            let grown = |by_write: bool| -> Result<Outcome, String> {
                let (mut pair, _) = nearly_full(block_size, free)?;
                let (directory, name) = (ROOT.0, Name::from("file"));
                let kind = FileKind::Regular;
                pair.run(&Op::Create { directory, name, kind, permissions: 0o644, owner: 1 })?;
                let inode = pair.model.find("file").ok_or("no file")?;
                let size = 5 * u64::from(block_size);
                let outcome = match by_write {
                    true => {
                        pair.run(&Op::Write { inode, offset: size - 1, fill: Fill { seed: 1, len: 1 } })?
                    }
                    false => pair.run(&Op::Truncate { inode, size })?,
                };
                pair.run(&Op::Remount)?;
                check_clean(&pair.device)?;
                pair.compare()?;
                Ok(outcome)
            };
            assert_eq!(grown(true), Ok(Outcome::Done), "block size {block_size}, {free} free: a write");
            assert_eq!(grown(false), Ok(Outcome::Done), "block size {block_size}, {free} free: a truncation");
        }
    }
}
