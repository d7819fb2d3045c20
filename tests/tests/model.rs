//! The model beside the real volume: random operations from a seed, everything compared, also after remounts.
//!
//! `VEXFS_LONG=1` runs many more seeds; `VEXFS_SEED=n` one, printing each operation; `VEXFS_STEPS=n` so many
//! operations of each.

use std::env;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use vexfs_core::format::FileKind;
use vexfs_tests::check::check_clean;
use vexfs_tests::crash::panic_text;
use vexfs_tests::effort::Effort;
use vexfs_tests::model::{Generator, Model, Name, Op, Outcome, Pair};
use vexfs_tests::sim::SimDevice;

/// A run: block size, size of the volume, size of files, and whether it is meant to run full.
struct Setting {
    block_size: u32,
    size: u64,
    file_size: u64,
}

const SETTINGS: [Setting; 6] = [
    Setting { block_size: 4096, size: 16 << 20, file_size: 30_000 },
    Setting { block_size: 8192, size: 16 << 20, file_size: 60_000 },
    Setting { block_size: 16384, size: 32 << 20, file_size: 100_000 },
    Setting { block_size: 4096, size: 16 << 20, file_size: 1200 },
    Setting { block_size: 4096, size: 2 << 20, file_size: 40_000 },
    Setting { block_size: 16384, size: 8 << 20, file_size: 150_000 },
];

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// Runs `steps` operations of `seed`; the error tells what differed and when.
fn run(seed: u64, steps: u64, print: bool) -> Result<(), String> {
    let setting = &SETTINGS[seed as usize % SETTINGS.len()];
    let device = SimDevice::new(setting.size);
    let mut pair = Pair::format(device, setting.block_size).map_err(|error| error.to_string())?;
    let mut generator = Generator::new(seed, setting.file_size);
    let free = pair.volume.statistics().free;
    for step in 0..steps {
        // Grow, shrink, grow: nodes split and merge.
        generator.removing = step / 250 % 3 == 2;
        let op = match step % 100 {
            7 | 29 | 58 => Op::Sync,
            40 | 73 => Op::Commit,
            84 => Op::Recover,
            98 => Op::Remount,
            _ => generator.next(&pair.model, &pair.open),
        };
        if print {
            println!("{step}: {op:?}");
        }
        let say = |why: String| format!("seed {seed}, step {step}: {why}");
        let outcome = pair.run_patiently(&op).map_err(say)?;
        if print && outcome != Outcome::Done {
            println!("    {outcome:?}");
        }
        if matches!(outcome, Outcome::NoSpace { .. }) {
            pair.compare()
                .map_err(|why| format!("after a refusal for space of {op:?}: {why}"))
                .map_err(say)?;
        }
        if step % 20 == 19 || print || op_remounts(&op) {
            pair.compare().map_err(|why| format!("after {op:?}: {why}")).map_err(say)?;
        }
        if step % 200 == 199 {
            pair.run(&Op::Commit).map_err(say)?;
            check_clean(&pair.device).map_err(|why| format!("check: {why}")).map_err(say)?;
        }
    }
    finish(pair, free).map_err(|why| format!("seed {seed}, at the end: {why}"))
}

fn op_remounts(op: &Op) -> bool {
    matches!(op, Op::Recover | Op::Remount)
}

/// Everything is removed: the blocks must come back.
fn finish(mut pair: Pair<SimDevice>, free: u64) -> Result<(), String> {
    pair.run(&Op::Remount)?;
    pair.compare()?;
    while let Some(op) = removal(&pair.model) {
        match pair.run_patiently(&op)? {
            Outcome::Done => {}
            outcome => {
                return Err(format!(
                    "{op:?} on the way to an empty volume: {outcome:?}, {:?}",
                    pair.volume.statistics()
                ));
            }
        }
    }
    let names: Vec<String> = pair.model.collections.keys().cloned().collect();
    for name in names {
        pair.run(&Op::RemoveCollection { name })?;
    }
    // What a commit frees, a second one gives back; a blanked row takes a commit more.
    for _ in 0..3 {
        pair.run(&Op::Tidy)?;
        pair.run(&Op::Commit)?;
    }
    pair.compare()?;
    check_clean(&pair.device)?;
    let now = pair.volume.statistics();
    if now.free != free || now.pending != 0 {
        return Err(format!("{free} blocks were free at the beginning, now {now:?}"));
    }
    Ok(())
}

/// Removes something that holds nothing else.
fn removal(model: &Model) -> Option<Op> {
    let (directory, name, inode) = model.nodes.iter().find_map(|(directory, node)| {
        let empty = |inode: &u64| model.node(*inode).entries.is_empty();
        let (name, inode) = node.entries.iter().find(|(_, inode)| empty(inode))?;
        Some((*directory, Name(name.clone()), *inode))
    })?;
    Some(match model.node(inode).kind {
        FileKind::Directory => Op::RemoveDirectory { directory, name },
        _ => Op::Unlink { directory, name },
    })
}

#[test]
fn the_volume_equals_the_model() {
    let effort = Effort::wanted();
    let steps = number("VEXFS_STEPS").unwrap_or(effort.of(1000, 1000, 3000));
    let one = number("VEXFS_SEED");
    let seeds = one.map_or(0..effort.of(12, 12, 300), |seed| seed..seed + 1);
    let failures = Mutex::new(Vec::new());
    let next = AtomicU64::new(seeds.start);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if !seeds.contains(&seed) {
                        return;
                    }
                    let result = catch_unwind(|| run(seed, steps, one.is_some()));
                    let result =
                        result.unwrap_or_else(|panic| Err(format!("seed {seed}: {}", panic_text(&*panic))));
                    if let Err(why) = result {
                        failures.lock().expect("no thread panics with it").push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panics with it");
    assert!(failures.is_empty(), "{} runs differ:\n{}", failures.len(), failures.join("\n"));
}
