//! P8: any image: no panic, no hang, memory bounded; and what a repair can mend it mends in one run.
//!
//! Images with some of everything are damaged from a seed, their checksums sealed again, and everything is done with
//! them that a host does: 2,000 where the build finds overflows and wrong assumptions (`make test-volume`, `make
//! test-fuzz`), fewer where those pass in silence. `VEXFS_IMAGES=N` does N of them, `VEXFS_SEED=S` begins at another seed (with N = 1 it
//! repeats one); a failure prints a line for `tests/corpus/mutants.txt`, where each line was a bug once.

use std::collections::BTreeMap;
use std::env;

use vexfs_tests::allocations::Counting;
use vexfs_tests::mutate::bases::{self, BASES};
use vexfs_tests::mutate::edit::{Edit, line, parse_line};
use vexfs_tests::mutate::exercise::{Limits, Verdict, run};
use vexfs_tests::mutate::generate::Chooser;
use vexfs_tests::mutate::subject::Subject;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Failures that are told; each kind once.
const TOLD: usize = 40;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|text| text.parse().ok())
}

fn subjects() -> BTreeMap<&'static str, Subject> {
    let subject = |name: &'static str| {
        let image = bases::image(name).unwrap_or_else(|why| panic!("{name}: {why}"));
        (name, Subject::new(image).unwrap_or_else(|why| panic!("{name}: {why}")))
    };
    BASES.into_iter().map(subject).collect()
}

/// Leaves out edits as long as it fails in the same way.
fn shrink(subject: &Subject, edits: &[Edit], seed: u64, kind: &str) -> Vec<Edit> {
    let mut edits = edits.to_vec();
    let mut at = 0;
    while at < edits.len() && edits.len() > 1 {
        let mut fewer = edits.clone();
        fewer.remove(at);
        let fails = run(subject, &subject.with(&fewer), seed, Limits::of(subject));
        match fails {
            Err(why) if kind_of(&why) == kind => edits = fewer,
            _ => at += 1,
        }
    }
    edits
}

/// What a failure has in common with others of its kind: its text without numbers.
fn kind_of(why: &str) -> String {
    let first = why.split(';').next().unwrap_or_default();
    if why.starts_with("panic") {
        return why.to_string();
    }
    first.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

#[test]
fn any_image_is_handled_calmly() {
    let subjects = subjects();
    let count = number("VEXFS_IMAGES").unwrap_or(if cfg!(debug_assertions) { 2000 } else { 150 });
    let first = number("VEXFS_SEED").unwrap_or(0);
    let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut total = Verdict::default();
    let (mut refused, mut found, mut whole) = (0, 0, 0);
    for seed in first..first + count {
        let name = BASES[seed as usize % BASES.len()];
        let subject = &subjects[name];
        let edits = Chooser::new(subject, seed).edits();
        match run(subject, &subject.with(&edits), seed, Limits::of(subject)) {
            Ok(verdict) => {
                refused += u64::from(verdict.refused);
                found += u64::from(verdict.found);
                whole += u64::from(verdict.left == 0);
                total.errors += verdict.errors;
                total.successes += verdict.successes;
                total.calls_max = total.calls_max.max(verdict.calls_max);
                total.check_calls_max = total.check_calls_max.max(verdict.check_calls_max);
                total.memory_max = total.memory_max.max(verdict.memory_max);
            }
            Err(why) => {
                let kind = kind_of(&why);
                let told = kinds.len();
                let entry = kinds.entry(kind.clone()).or_insert_with(|| {
                    let edits = if told < TOLD { shrink(subject, &edits, seed, &kind) } else { edits };
                    (0, format!("{name} {seed} | {}\n    {why}", line(&edits)))
                });
                entry.0 += 1;
            }
        }
    }
    println!(
        "mutated images: {count} (seeds {first} to {}): {refused} refused at mount, {found} with errors found, \
         {whole} whole after repair; calls {} done, {} failed; at most {} disk calls a call, {} a check, {} KiB held",
        first + count - 1,
        total.successes,
        total.errors,
        total.calls_max,
        total.check_calls_max,
        total.memory_max >> 10,
    );
    let failed: u64 = kinds.values().map(|(count, _)| count).sum();
    let mut told: Vec<&(u64, String)> = kinds.values().collect();
    told.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    let told: Vec<String> = told.iter().map(|(count, text)| format!("{count} times: {text}")).collect();
    assert!(failed == 0, "{failed} images, {} kinds:\n{}", kinds.len(), told.join("\n"));
    assert!(refused > count / 100 && found > count / 3, "the damage is too small");
}

#[test]
fn what_was_a_bug_once() {
    let subjects = subjects();
    let corpus = include_str!("../corpus/mutants.txt");
    let mut failures = Vec::new();
    let mut count = 0;
    for text in corpus.lines().filter(|text| !text.starts_with('#') && !text.trim().is_empty()) {
        let (head, edits) = text.split_once('|').expect("a base, a seed, | and edits");
        let (name, seed) = head.trim().split_once(' ').expect("a base and a seed");
        let seed = seed.trim().parse().expect("a seed");
        let edits = parse_line(edits).unwrap_or_else(|why| panic!("{why}"));
        let subject = &subjects[name];
        let image = subject.with(&edits);
        assert_ne!(image.hash(), subject.image().hash(), "without effect: {text}");
        count += 1;
        if let Err(why) = run(subject, &image, seed, Limits::of(subject)) {
            failures.push(format!("{text}\n    {why}"));
        }
    }
    println!("corpus: {count} images");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_base_images_are_whole() {
    for (name, subject) in subjects() {
        let verdict = run(&subject, subject.image(), 1, Limits::of(&subject));
        let verdict = verdict.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(!verdict.found && !verdict.refused && verdict.left == 0, "{name}: {verdict:?}");
        // Taken apart and put together again it is the same.
        assert_eq!(subject.with(&[]).hash(), subject.image().hash(), "{name}");
        let limits = Limits::of(&subject);
        println!("{name}: {} records, {verdict:?}, {limits:?}", subject.records.len());
    }
}
