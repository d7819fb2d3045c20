//! Systematic workloads after the manner of ACE (OSDI'18): every operation on a small tree alone, every ordered pair of
//! them, and samples of three, each made durable at the end or after every step.
//!
//! The tree and what is done with it are bounded by [`OPERATIONS`]: two files, two directories, one collection. All that
//! comes before the first operation is durable and is not crashed again.

use std::sync::Arc;

use vexfs_core::operations::Allocate;

use super::{Op, Step, Story, Told, Workload};
use crate::random::Random;

/// One operation: paths that must be there, that must not, and what it does.
struct Operation {
    name: &'static str,
    needs: &'static [&'static str],
    absent: &'static [&'static str],
    tell: fn(&mut Story) -> Step,
}

const fn operation(
    name: &'static str,
    needs: &'static [&'static str],
    absent: &'static [&'static str],
    tell: fn(&mut Story) -> Step,
) -> Operation {
    Operation { name, needs, absent, tell }
}

const OPERATIONS: [Operation; 24] = [
    operation("create", &["d"], &["d/n"], |story| story.create("d/n")),
    operation("mkdir", &[], &["m"], |story| story.mkdir("m")),
    operation("rmdir", &["e"], &[], |story| story.rmdir("e")),
    operation("symlink", &["d"], &["d/s"], |story| story.symlink("d/s", "../a")),
    operation("overwrite", &["a"], &[], |story| story.write("a", 4000, 3000)),
    operation("append", &["b"], &[], |story| story.append("b", 6000)),
    operation("shrink", &["a"], &[], |story| story.truncate("a", 2000)),
    operation("grow", &["b"], &[], |story| story.truncate("b", 9000)),
    operation("punch", &["a"], &[], |story| story.allocate("a", Allocate::PunchHole, 1000, 6000)),
    operation("reserve", &["b"], &[], |story| {
        story.allocate("b", Allocate::Reserve { keep_size: false }, 0, 9000)
    }),
    operation("rename", &["b"], &["z"], |story| story.rename("b", "z")),
    operation("replace", &["b", "d/c"], &[], |story| story.rename("b", "d/c")),
    operation("exchange", &["a", "d/c"], &[], |story| story.exchange("a", "d/c")),
    operation("link", &["a", "d"], &["d/l"], |story| story.link("a", "d/l")),
    operation("unlink", &["a"], &[], |story| story.unlink("a")),
    operation("unlink-deep", &["d/c"], &[], |story| story.unlink("d/c")),
    operation("set-xattr", &["b"], &[], |story| story.set("b", "user.note", 50)),
    operation("set-long-xattr", &["a"], &[], |story| story.set("a", "user.long", 3000)),
    operation("first-vector", &["b"], &[], |story| story.vector("b", "v", 0, 96)),
    operation("replace-vector", &["a"], &[], |story| story.vector("a", "v", 0, 96)),
    operation("more-vectors", &["d/c"], &[], |story| story.vector("d/c", "v", 1, 96)),
    operation("remove-vector", &["d/c"], &[], |story| story.remove_vector("d/c", "v", 0)),
    operation("new-collection", &["b"], &[], |story| story.vector("b", "w", 0, 40)),
    operation("tidy", &[], &[], Story::tidy),
];

/// When things are made durable.
#[derive(Clone, Copy)]
enum Durable {
    /// At the end, by a commit.
    Commit,
    /// At the end, by a record of the journal.
    Sync,
    /// After every operation, by records, and the last again by a commit.
    Each,
}

/// Every operation alone and every ordered pair, in all three ways to make them durable; `sampled` triples.
pub(super) fn workloads(sampled: u64) -> Vec<Workload> {
    let count = OPERATIONS.len();
    let mut all = Vec::new();
    for durable in [Durable::Commit, Durable::Sync] {
        all.extend((0..count).map(|first| workload(vec![first], durable)));
    }
    for durable in [Durable::Commit, Durable::Sync, Durable::Each] {
        for first in 0..count {
            all.extend((0..count).map(|second| workload(vec![first, second], durable)));
        }
    }
    all.extend((0..sampled).map(triple));
    all
}

/// The triple of this seed.
pub(super) fn triple(seed: u64) -> Workload {
    let mut random = Random::new(seed);
    let chosen = (0..3).map(|_| random.index(OPERATIONS.len())).collect();
    workload(chosen, random.pick(&[Durable::Commit, Durable::Sync, Durable::Each]))
}

fn workload(chosen: Vec<usize>, durable: Durable) -> Workload {
    let names: Vec<&str> = chosen.iter().map(|index| OPERATIONS[*index].name).collect();
    let end = match durable {
        Durable::Commit => "commit",
        Durable::Sync => "sync",
        Durable::Each => "each",
    };
    Workload {
        name: format!("ace-{}+{end}", names.join("-")),
        size: 2 << 20,
        block_size: 4096,
        syncs: false,
        systematic: true,
        tell: Arc::new(move |story| Told(tell(story, &chosen, durable))),
    }
}

fn tell(story: &mut Story, chosen: &[usize], durable: Durable) -> Step {
    story.file("a", 9000)?;
    story.file("b", 100)?;
    story.mkdir("d")?;
    story.mkdir("e")?;
    story.file("d/c", 5000)?;
    for path in ["a", "d/c"] {
        story.vector(path, "v", 0, 96)?;
    }
    // A row that waits to be blanked.
    story.vector("a", "v", 0, 96)?;
    story.op(Op::Commit)?;
    story.begin();
    for index in chosen {
        let Operation { needs, absent, tell, .. } = &OPERATIONS[*index];
        // An operation before it may have taken away what it works on.
        let there = |path: &&str| story.inode(path).is_ok();
        if needs.iter().all(there) && !absent.iter().any(there) {
            tell(story)?;
        }
        if matches!(durable, Durable::Each) {
            story.op(Op::Sync)?;
        }
    }
    if matches!(durable, Durable::Sync) {
        story.op(Op::Sync)?;
    }
    story.op(Op::Commit)?;
    story.op(Op::Commit)
}
