//! `judge-record IMAGE RECORD STATES`: makes the crash states of a recorded disk and judges each by what the workload
//! in the guest told; fails if one is wrong, or if there are fewer than STATES.
//!
//! IMAGE is the volume as it was when the recording began, RECORD what QEMU's `blklogwrites` wrote (`scripts/kernel`).

use std::process::ExitCode;
use std::time::Instant;

use vexfs_tests::crash::Tally;
use vexfs_tests::image::Image;
use vexfs_tests::record::Record;
use vexfs_tests::sim::{Event, Trace};
use vexfs_tests::states::Limits;
use vexfs_tests::witness::{Forgetful, Witness};

/// From the fewest to the most states of an epoch: the first that give enough are taken.
const LIMITS: [Limits; 3] = [
    Limits { prefixes: 2, subsets: 6, torn: 2, superblock: 2 },
    Limits { prefixes: 8, subsets: 24, torn: 8, superblock: 8 },
    Limits { prefixes: 48, subsets: 256, torn: 48, superblock: 48 },
];

/// Parts of the record that are tried without their flushes, and events of each.
const PARTS: usize = 4;
const PART: usize = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, record, states] = &arguments[..] else {
        eprintln!("usage: judge-record IMAGE RECORD STATES");
        return ExitCode::FAILURE;
    };
    match judge(image, record, states) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("judge-record: {why}");
            ExitCode::FAILURE
        }
    }
}

fn judge(image: &str, record: &str, states: &str) -> Result<(), String> {
    let wanted: usize = states.parse().map_err(|_| format!("not a number: {states}"))?;
    let bytes = std::fs::read(image).map_err(|error| format!("{image}: {error}"))?;
    let mut base = Image::new(bytes.len() as u64);
    base.write(0, &bytes);
    let record = Record::read(base, record.as_ref())?;
    let witness = Witness::new(&record.lines)?;
    let flushes = record.trace.events.iter().filter(|event| matches!(event, Event::Flush)).count();
    println!(
        "recorded: {} acts, {} writes and discards, {flushes} flushes",
        witness.acts(),
        record.trace.events.len() - flushes
    );
    let (start, tally) = (Instant::now(), Tally::default());
    for (seed, limits) in (1..).zip(&LIMITS) {
        tally.explore("the kernel's disk", &record.trace, &witness, limits, seed);
        if tally.distinct() >= wanted || !tally.failures().is_empty() {
            break;
        }
    }
    let failures = tally.failures();
    failures.iter().for_each(|why| println!("{why:.1500}"));
    println!(
        "crash states: {} distinct, {} wrong ({} s)",
        tally.distinct(),
        failures.len(),
        start.elapsed().as_secs()
    );
    let caught = without_flushes(&record.trace, &witness);
    println!("the same disk without flushes: {caught} of {PARTS} parts are caught");
    if caught == 0 {
        return Err("a disk that ignores flushes passes: these states prove nothing".into());
    }
    match failures.is_empty() && tally.distinct() >= wanted {
        true => Ok(()),
        false => Err(format!("{} wrong states; {} of at least {wanted}", failures.len(), tally.distinct())),
    }
}

/// Parts of the record in which the judge sees that flushes are missing.
fn without_flushes(trace: &Trace, witness: &Witness) -> usize {
    let part = |number: usize| {
        let start = (trace.events.len() * (number + 1) / (PARTS + 1)).min(trace.events.len());
        start..(start + PART).min(trace.events.len())
    };
    let caught = |number: &usize| {
        let (trace, forgetful) = Forgetful::new(witness, trace, part(*number));
        let tally = Tally::default();
        tally.explore("without flushes", &trace, &forgetful, &LIMITS[1], 1);
        !tally.failures().is_empty()
    };
    (0..PARTS).filter(caught).count()
}
