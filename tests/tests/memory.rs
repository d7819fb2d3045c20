//! Every allocation of the core fails, one after the other: nothing is done by half, nothing is lost, the volume goes on.
//!
//! Only in a build with `--cfg vexfs_bugs`, where allocations fail on purpose (`scripts/planted-bugs.sh`).
//! `VEXFS_SEEDS=100..120`: the operations of these seeds instead of the usual ones.
#![cfg(vexfs_bugs)]

use vexfs_core::device::Direct;
use vexfs_core::error::Error;
use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::numbers::Time;
use vexfs_core::operations::NewInode;
use vexfs_core::volume::Volume;
use vexfs_tests::check::check_crashed;
use vexfs_tests::effort::Effort;
use vexfs_tests::model::{Comparison, Generator, Model, Op, Outcome, Pair, compare};
use vexfs_tests::random::Random;
use vexfs_tests::sim::SimDevice;
use vexfs_tests::starved::{self, Starve};
use vexfs_tests::workloads;

const STEPS: u64 = 240;

/// Which commit is the last durable one, and how many records of the journal are on it.
fn state(volume: &Volume<Direct<SimDevice>>) -> (u64, u64) {
    (volume.superblock().generation.get(), volume.journal_records())
}

/// The model without what a mount ends.
fn named(model: &Model) -> Model {
    let mut model = model.clone();
    model.forget_orphans();
    model
}

/// The power goes: the check finds nothing, and all that was durable is there.
fn after_a_crash(disk: &SimDevice, durable: &[Model]) -> Result<(), String> {
    let disk = SimDevice::from_image(disk.image());
    check_crashed(&disk).map_err(|why| format!("check after a crash: {why}"))?;
    let volume =
        Volume::mount(Direct(disk), Pair::<SimDevice>::OPTIONS).map_err(|error| format!("mount: {error}"))?;
    let how = Comparison {
        versions_may_differ: true,
        times_may_differ: true,
        any_bytes: true,
        ..Comparison::exact()
    };
    let mut why = String::new();
    for model in durable {
        match compare(&volume, model, &how) {
            Ok(()) => return Ok(()),
            Err(difference) => why = difference,
        }
    }
    Err(format!("after a crash: {why}"))
}

/// How many blocks a file can have before the volume is full.
fn room(volume: &mut Volume<Direct<SimDevice>>, now: Time) -> u64 {
    let new = NewInode { kind: FileKind::Regular, permissions: 0o600, umask: 0, uid: 0, gid: 0, device: 0 };
    let inode = volume.create(ROOT, b"room", &new, now).expect("a file").inode;
    let block = vec![1; 4096];
    let mut count = 0;
    loop {
        match volume.write(inode, count * 4096, &block, now) {
            Ok(_) => count += 1,
            Err(Error::NoSpace { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    count
}

fn run(seed: u64) -> Result<u64, String> {
    let disk = SimDevice::new(4 << 20);
    let mut pair = Pair::format(disk.clone(), 4096).map_err(|error| error.to_string())?;
    let mut generator = Generator::new(seed, 12_000);
    let mut random = Random::new(seed);
    let mut durable = vec![named(&pair.model)];
    let begun = starved::failures();
    for step in 0..STEPS {
        let op = match step % 18 {
            4 | 8 | 13 => Op::Sync,
            12 => Op::Tidy,
            17 => [Op::Commit, Op::Remount, Op::Recover][random.below(3) as usize].clone(),
            _ => generator.next(&pair.model, &pair.open),
        };
        let at = |why: String| format!("step {step}, {op:?}: {why}");
        let counted = state(&pair.volume);
        let before = named(&pair.model);
        // Some are not made again at once, or not at all: then nothing happened.
        let first = if random.one_in(3) { Some(Starve::First(random.below(60))) } else { None };
        let mut given_up = false;
        for wanted in first.into_iter().chain([Starve::Each]) {
            starved::begin(Some(wanted));
            let outcome = pair.run(&op);
            starved::begin(None);
            match outcome.map_err(at)? {
                Outcome::NoMemory => {
                    pair.compare().map_err(|why| at(format!("{wanted:?}, no memory: {why}")))?;
                    let mut possible = durable.clone();
                    // A write under a vector syncs before it changes bytes; nothing else is durable by a call that failed.
                    if state(&pair.volume) != counted {
                        possible.push(before.clone());
                    }
                    after_a_crash(&disk, &possible)
                        .map_err(|why| at(format!("{wanted:?}, no memory: {why}")))?;
                    given_up = random.one_in(2);
                    if given_up {
                        break;
                    }
                }
                Outcome::Failed | Outcome::ReadOnly => return Err(at("the volume failed".into())),
                Outcome::Done | Outcome::Refused(_) | Outcome::Busy | Outcome::NoSpace { .. } => break,
            }
        }
        pair.compare().map_err(at)?;
        match op {
            Op::Commit | Op::Sync | Op::Remount | Op::Recover if !given_up => {
                durable = vec![named(&pair.model)];
                after_a_crash(&disk, &durable).map_err(at)?;
            }
            // Some commit on their own account, before or behind the change.
            _ if state(&pair.volume) != counted => {
                durable = vec![before, named(&pair.model)];
            }
            _ => {}
        }
    }
    // Nothing that was held for a call without memory is kept from others.
    let settle = |pair: &mut Pair<SimDevice>| {
        for op in [Op::Commit, Op::Tidy, Op::Commit, Op::Tidy, Op::Commit, Op::Commit] {
            pair.run(&op)?;
        }
        Ok::<_, String>(())
    };
    settle(&mut pair)?;
    let now = pair.now();
    let copy = SimDevice::from_image(disk.image());
    let mut mounted =
        Volume::mount(Direct(copy), Pair::<SimDevice>::OPTIONS).map_err(|error| error.to_string())?;
    let (kept, whole) = (room(&mut pair.volume, now), room(&mut mounted, now));
    if kept != whole {
        return Err(format!("{kept} blocks can be written, and {whole} once it is mounted anew"));
    }
    Ok(starved::failures() - begun)
}

#[test]
fn every_allocation_may_fail() {
    let usual = Effort::wanted().of(2, 12, 200);
    let seeds = std::env::var("VEXFS_SEEDS").ok().map_or(0..usual, |text| {
        let (from, to) = text.split_once("..").expect("seeds are FROM..TO");
        from.parse().expect("a seed")..to.parse().expect("a seed")
    });
    judge("operations", seeds.map(|seed| (format!("seed {seed}"), run(seed))));
}

#[test]
fn every_workload_goes_on() {
    let told = workloads::all(8, 0).into_iter().filter(|workload| !workload.systematic).map(|workload| {
        let begun = starved::failures();
        starved::begin(Some(Starve::Each));
        let recorded = workload.record();
        starved::begin(None);
        let judged = recorded.and_then(|recorder| {
            let disk = SimDevice::from_image(recorder.pair.device.image());
            check_crashed(&disk).map_err(|why| format!("check after a crash: {why}"))?;
            Ok(starved::failures() - begun)
        });
        (workload.name, judged)
    });
    judge("workloads", told);
}

fn judge(what: &str, runs: impl Iterator<Item = (String, Result<u64, String>)>) {
    let (mut count, mut failures, mut wrong) = (0, 0, Vec::new());
    let before = starved::passed();
    for (name, run) in runs {
        count += 1;
        match run {
            Ok(failed) => failures += failed,
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    let passed = starved::passed() - before;
    println!(
        "memory: {what}: {count} runs, {failures} allocations failed, {passed} of them without effect, {} wrong",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(failures > 200 * count, "only {failures} allocations failed");
}
