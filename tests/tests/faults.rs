//! Every call of the disk fails once, and from then on: no wrong success, nothing half done, no panic (P6).
//!
//! A run of the same operations is repeated with the n-th read, write or flush failing, for n = 0, 1, 2 ...
//! until nothing fails any more. After a failure the volume goes on, or is read-only; mounted anew on a disk
//! that works, it holds what the last successful commit promised, or what a failed one managed to write.
//! `VEXFS_SEEDS=100..120`: the operations of these seeds instead of the usual ones.

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::volume::Volume;
use vexfs_tests::check::check_crashed;
use vexfs_tests::effort::Effort;
use vexfs_tests::faulty::{Call, FaultDevice, OrderDevice};
use vexfs_tests::model::{Comparison, Generator, Model, Op, Outcome, Pair, compare};
use vexfs_tests::sim::SimDevice;

const STEPS: u64 = 76;

/// The operations of a seed, chosen on a disk that works.
fn operations(seed: u64) -> Vec<Op> {
    let mut pair = Pair::format(SimDevice::new(4 << 20), 4096).expect("formats");
    let mut generator = Generator::new(seed, 12_000);
    let mut operations = Vec::new();
    for step in 0..STEPS {
        let op = match step % 18 {
            4 | 8 | 13 => Op::Sync,
            17 => Op::Commit,
            _ => generator.next(&pair.model, &pair.open),
        };
        let outcome = pair.run(&op).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
        if outcome == Outcome::Done {
            operations.push(op);
        }
    }
    operations.push(Op::Commit);
    operations
}

/// Which commit is the last durable one, and how many records of the journal are on it.
fn state<D: BlockDevice>(volume: &Volume<Direct<D>>) -> (u64, u64) {
    (volume.superblock().generation.get(), volume.journal_records())
}

/// Runs the operations with a fault; gives the failures that the disk produced.
fn run(operations: &[Op], call: Call, n: u64, for_ever: bool) -> Result<u64, String> {
    let disk = SimDevice::new(4 << 20);
    let device = FaultDevice::new(disk.clone());
    let mut pair = Pair::format(device.clone(), 4096).map_err(|error| error.to_string())?;
    // What a mount may find: the last durable state, and that of a commit that failed.
    let mut found = vec![named(&pair.model)];
    device.fail(call, n, for_ever);
    pair.looks = FaultDevice::pause;
    for op in operations {
        let before = device.failures();
        let state = state(&pair.volume);
        let model = named(&pair.model);
        let outcome = pair.run(op)?;
        let commits = matches!(op, Op::Commit | Op::Sync);
        match outcome {
            Outcome::Done if commits => found = vec![named(&pair.model)],
            // It committed on its own account, in the middle.
            Outcome::Done if self::state(&pair.volume) > state => {
                found = vec![model, named(&pair.model)];
            }
            Outcome::Done | Outcome::Refused(_) => {}
            Outcome::Failed => {
                if device.failures() == before {
                    return Err(format!("{op:?}: says that the disk failed, which it did not"));
                }
                // A write under a vector commits on its own account before it changes bytes in place.
                if commits || matches!(op, Op::Write { .. }) {
                    found.push(model);
                }
                if commits && !pair.volume.is_read_only() {
                    return Err("a commit failed and the volume is not read-only".into());
                }
                break;
            }
            Outcome::ReadOnly | Outcome::Busy | Outcome::NoMemory | Outcome::NoSpace { .. } => break,
        }
    }
    let failures = device.failures();
    device.heal();
    let how = Comparison {
        versions_may_differ: true,
        times_may_differ: true,
        any_bytes: true,
        ..Comparison::exact()
    };
    if pair.volume.is_read_only() {
        compare(&pair.volume, &pair.model, &how)
            .map_err(|why| format!("read after the failed commit: {why}"))?;
        // The disk works again; what it lost it will not get back, so no commit may say success.
        if pair.volume.commit(pair.now()).is_ok() {
            return Err("a commit after a failed one says success".into());
        }
    }
    check_crashed(&disk).map_err(|why| format!("check: {why}"))?;
    let volume =
        Volume::mount(Direct(disk), Pair::<SimDevice>::OPTIONS).map_err(|error| format!("mount: {error}"))?;
    let mut why = String::new();
    for model in &found {
        match compare(&volume, model, &how) {
            Ok(()) => return Ok(failures),
            Err(difference) => why = difference,
        }
    }
    Err(format!("after a mount on a disk that works: {why}"))
}

/// The model without what a mount ends.
fn named(model: &Model) -> Model {
    let mut model = model.clone();
    model.forget_orphans();
    model
}

#[test]
fn every_call_may_fail() {
    let usual = Effort::wanted().of(2, 14, 100);
    let seeds = std::env::var("VEXFS_SEEDS").ok().map_or(0..usual, |text| {
        let (from, to) = text.split_once("..").expect("seeds are FROM..TO");
        from.parse().expect("a seed")..to.parse().expect("a seed")
    });
    let mut runs = 0;
    let mut wrong = Vec::new();
    for seed in seeds {
        let operations = operations(seed);
        for call in [Call::Read, Call::Write, Call::Flush] {
            for for_ever in [false, true] {
                for n in 0.. {
                    runs += 1;
                    match run(&operations, call, n, for_ever) {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(why) => {
                            wrong.push(format!("seed {seed}, {call:?} {n}, for ever {for_ever}: {why}"));
                        }
                    }
                }
            }
        }
    }
    println!("faults: {runs} runs with a failing disk, {} failures", wrong.len());
    wrong.truncate(20);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(runs > 100, "only {runs} runs; the disk hardly ever failed");
}

#[test]
fn no_superblock_before_what_it_refers_to() {
    for seed in 0..8 {
        let device = OrderDevice::new(SimDevice::new(8 << 20));
        let mut pair = Pair::format(device.clone(), 4096).expect("formats");
        let mut generator = Generator::new(seed, 20_000);
        for step in 0..600 {
            let op = match step % 24 {
                5 | 11 => Op::Sync,
                23 => Op::Commit,
                _ => generator.next(&pair.model, &pair.open),
            };
            pair.run(&op).unwrap_or_else(|why| panic!("seed {seed}, step {step}: {why}"));
        }
        assert_eq!(device.wrong(), Vec::<String>::new(), "seed {seed}");
        assert!(device.commits() > 20, "only {} commits", device.commits());
    }
}
