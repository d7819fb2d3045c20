//! `docs/REQUIREMENTS.md` is kept to its word: every number is answered once, and what it names exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How many requirements each of the founding documents has.
const COUNTS: [(&str, usize); 5] = [("S000", 43), ("S001", 55), ("S002", 56), ("S003", 58), ("S004", 43)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Numbers and remaining cells of every row of the tables of requirements.
fn rows() -> Vec<(Vec<String>, Vec<String>)> {
    let text = fs::read_to_string(root().join("docs/REQUIREMENTS.md")).expect("the page");
    let lines = text.lines().filter(|line| line.starts_with("| S00"));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    lines
        .map(|line| {
            let mut cells: Vec<String> = cells(line);
            assert_eq!(cells.len(), 5, "{line}");
            let numbers = cells.remove(0);
            let document = &numbers[..4];
            let parts = numbers.split(", ").map(|part| part.rsplit('-').next().unwrap_or_default());
            (parts.map(|part| format!("{document}-{part}")).collect(), cells)
        })
        .collect()
}

#[test]
fn every_requirement_is_answered_once() {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for (numbers, _) in rows() {
        for number in numbers {
            *answers.entry(number).or_default() += 1;
        }
    }
    let wanted: Vec<String> = COUNTS
        .iter()
        .flat_map(|(document, count)| (1..=*count).map(move |number| format!("{document}-{number:02}")))
        .collect();
    let wrong: Vec<_> = wanted.iter().filter(|number| answers.get(*number) != Some(&1)).collect();
    assert!(wrong.is_empty(), "not answered once: {wrong:?}");
    assert_eq!(answers.len(), wanted.len(), "numbers that do not exist: {answers:?}");
}

#[test]
fn what_is_called_there_has_a_place_or_a_test() {
    for (numbers, cells) in rows() {
        let [_, state, place, test] = &cells[..] else { unreachable!("five cells") };
        let known = matches!(&state[..], "there" | "partly" | "other way" | "-" | "no");
        assert!(known, "{numbers:?}: unknown state {state}");
        assert!(state != "there" || place.contains('`') || test.contains('`'), "{numbers:?}: where?");
        assert!(!matches!(&state[..], "partly" | "-") || !place.is_empty(), "{numbers:?}: what is missing?");
    }
}

#[test]
fn places_and_tests_exist() {
    let mut named = 0;
    for (numbers, cells) in rows() {
        for name in cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            let (path, item) = name.split_once("::").map_or((name, None), |(path, item)| (path, Some(item)));
            if !["vexfs_", "tests/", "mkfs/", "docs/", "scripts/"].iter().any(|start| path.starts_with(start))
            {
                continue;
            }
            named += 1;
            let path = root().join(path);
            assert!(path.exists(), "{numbers:?}: {name} does not exist");
            let Some(item) = item else { continue };
            let text = fs::read_to_string(&path).expect("a readable file");
            let defined = text.contains(&format!("fn {item}(")) || text.contains(&format!("def {item}("));
            assert!(defined, "{numbers:?}: {name} is not there");
        }
    }
    assert!(named > 100, "only {named} names were found: has the page another form?");
}
