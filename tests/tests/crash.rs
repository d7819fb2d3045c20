//! Every crash state of every workload: it mounts without fsck, the check finds nothing, and all that can be
//! seen is as the last durable commit left it, or as the one under way would have (promises P2, P3, P4).
//!
//! `VEXFS_WORKLOADS=a,b` runs some only; `VEXFS_LIMITS=few|all` fewer or more states of each epoch; `VEXFS_LONG=1`
//! many more random workloads and all subsets of up to ten writes; `VEXFS_SEEDS=100..120` random ones of these seeds
//! alone; `VEXFS_STATES=FILE` does not count states whose hashes the file has, and adds those that it judged.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use vexfs_tests::crash::{Tally, panic_text};
use vexfs_tests::effort::Effort;
use vexfs_tests::states::Limits;
use vexfs_tests::workloads::{self, Workload};

const FEW: Limits = Limits { prefixes: 4, subsets: 16, torn: 4, superblock: 6 };
const USUAL: Limits = Limits { prefixes: 24, subsets: 128, torn: 24, superblock: 24 };
const ALL: Limits = Limits { prefixes: 200, subsets: 1024, torn: 100, superblock: 100 };

fn limits() -> Limits {
    match env::var("VEXFS_LIMITS").as_deref() {
        Ok("few") => FEW,
        Ok("all") => ALL,
        _ => Effort::wanted().of(FEW, USUAL, ALL),
    }
}

fn chosen() -> Vec<Workload> {
    if let Ok(seeds) = env::var("VEXFS_SEEDS") {
        let (from, to) = seeds.split_once("..").expect("seeds are FROM..TO");
        return workloads::of_seeds(from.parse().expect("a seed")..to.parse().expect("a seed"));
    }
    let (random, triples) = Effort::wanted().of((4, 20), (40, 300), (400, 5000));
    let mut all = workloads::all(random, triples);
    if let Ok(names) = env::var("VEXFS_WORKLOADS") {
        all.retain(|workload| names.split(',').any(|name| name == workload.name));
    }
    all
}

fn one(workload: &Workload, tally: &Tally, limits: &Limits) {
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let (trace, history) = workload.record()?.finish();
        let limits = if workload.systematic { limits.at_most(&FEW) } else { *limits };
        tally.explore(&workload.name, &trace, &history, &limits, 1);
        Ok::<(), String>(())
    }));
    match verdict {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tally.fail(format!("{} without a crash: {why}", workload.name)),
        Err(panic) => {
            tally.fail(format!("{} without a crash: panic: {}", workload.name, panic_text(&*panic)))
        }
    }
}

#[test]
fn every_crash_leaves_the_last_commit_or_the_next() {
    let (limits, workloads) = (limits(), chosen());
    let states = env::var_os("VEXFS_STATES").map(PathBuf::from);
    let tally =
        states.as_ref().map_or(Ok(Tally::default()), |path| Tally::after(path)).expect("VEXFS_STATES");
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(workload) = workloads.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(workload, &tally, &limits);
                }
            });
        }
    });
    let failures = tally.failures();
    failures.iter().for_each(|why| println!("{:.1500}", why));
    println!(
        "crash: {} distinct states from {} workloads, {} failures ({} s)",
        tally.distinct(),
        workloads.len(),
        failures.len(),
        start.elapsed().as_secs()
    );
    assert!(!workloads.is_empty(), "VEXFS_WORKLOADS names no workload");
    assert!(failures.is_empty(), "{} crash states are wrong", failures.len());
    if let Some(path) = states {
        tally.remember(&path).expect("VEXFS_STATES");
    }
}
