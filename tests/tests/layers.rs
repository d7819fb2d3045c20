//! The architecture, held by a test: layers import only downwards, and the tree's tidiness rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, lowest first. The head comment of `vexfs_core/src/lib.rs` draws the same picture, from
/// the top; [`the_drawing_is_the_rule`] keeps the two equal.
const LAYERS: [&[&str]; 6] = [
    &["error", "checksum", "memory", "numbers", "bugs"],
    &["format"],
    &["device", "buddy"],
    &["transaction", "volume", "commit", "journal", "patches", "space"],
    &["tree"],
    &["operations", "control", "make", "check", "recover"],
];

/// Modules beside the layers, which may use only the lowest of them and `format`.
const BESIDE: [&str; 2] = ["codec", "json"];

/// Lines a file may have.
const LINES_MAX: usize = 500;

/// Crates whose files the tidiness rules hold for.
const CRATES: [&str; 9] = [
    "vexfs_core",
    "vexfs_host",
    "vexfs_fuse",
    "vexfs_search",
    "vexfs_cli",
    "vexfs_python",
    "mkfs",
    "tests",
    "kernel",
];

/// Where `unsafe` may stand, each time with a `SAFETY:` comment above it: system calls that no crate wraps, the
/// map of a file, SIMD, and the kernel's interfaces.
const UNSAFE: [&str; 8] = [
    "tests/src/allocations.rs",
    "vexfs_search/src/",
    "vexfs_fuse/src/",
    "vexfs_host/src/",
    "vexfs_cli/src/xattr.rs",
    "vexfs_cli/src/formats/npy.rs",
    "vexfs_cli/src/formats/sqlite.rs",
    "kernel/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files below a directory, as paths from the project's root with their text.
fn sources(below: &str) -> Vec<(String, String)> {
    let mut files = Vec::new();
    let mut waiting = vec![root().join(below)];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries {
            let path = entry.expect("a readable directory").path();
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                files.push((name, text));
            }
        }
    }
    files.sort();
    files
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|modules| modules.contains(&module))
}

/// The top-level module a file of the core belongs to; none for `lib.rs`, and for what unit tests share.
fn module(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("vexfs_core/src/")?;
    let name = inside.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name)).filter(|name| !["lib", "testing"].contains(name))
}

/// Modules that a text names behind `crate::`, by line; in comments only links count for nothing.
fn imports(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_tests = false;
    for (index, line) in text.lines().enumerate() {
        let code = line.trim_start();
        in_tests |= code.starts_with("#[cfg(test)]");
        if in_tests || code.starts_with("//") {
            continue;
        }
        for part in line.split("crate::").skip(1) {
            // `use crate::{a::B, c}` names several; elsewhere one follows.
            let names: Vec<&str> = match part.strip_prefix('{') {
                Some(list) => list.split(',').map(str::trim).collect(),
                None => vec![part],
            };
            for name in names {
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
                found.push((index + 1, name[..end].to_string()));
            }
        }
    }
    found
}

#[test]
fn imports_point_downwards() {
    let mut wrong = Vec::new();
    for (path, text) in sources("vexfs_core/src") {
        let Some(from) = module(&path) else { continue };
        if path.ends_with("/tests.rs") {
            continue;
        }
        if !path["vexfs_core/src/".len()..].contains('/')
            && text.lines().any(|line| line.starts_with("use super::"))
        {
            wrong.push(format!("{path}: a top-level module names others by `crate::`, not `super::`"));
        }
        let beside = BESIDE.contains(&from);
        let Some(own) = layer(from).or(beside.then_some(1)) else {
            wrong.push(format!("{path}: module {from} is in no layer"));
            continue;
        };
        for (line, to) in imports(&text) {
            let fine = if to == from || (BESIDE.contains(&to.as_str()) && own > 1) {
                true
            } else if beside {
                layer(&to).is_some_and(|other| other <= 1)
            } else {
                layer(&to).is_some_and(|other| other <= own)
            };
            if !fine {
                wrong.push(format!("{path}:{line}: {from} may not use {to}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_drawing_is_the_rule() {
    let text = fs::read_to_string(root().join("vexfs_core/src/lib.rs")).expect("lib.rs");
    let drawing = text.split("```").nth(1).expect("a drawing between backquotes in the head comment");
    let drawn: Vec<Vec<&str>> = drawing
        .lines()
        .skip(1)
        .map(|line| line.trim_start_matches("//!").split("  ").filter(|words| !words.trim().is_empty()))
        .map(|columns| columns.flat_map(str::split_whitespace).collect::<Vec<_>>())
        .filter(|words| !words.is_empty())
        .collect();
    assert_eq!(drawn.len(), LAYERS.len(), "layers drawn in vexfs_core/src/lib.rs: {drawn:?}");
    for (words, modules) in drawn.iter().zip(LAYERS.iter().rev()) {
        // Words of explanation follow the modules.
        assert_eq!(&words[..modules.len().min(words.len())], *modules, "a layer of vexfs_core/src/lib.rs");
    }
}

#[test]
fn every_module_of_the_core_exists_in_a_layer() {
    let mut modules: BTreeMap<String, usize> = BTreeMap::new();
    for (path, _) in sources("vexfs_core/src") {
        if let Some(name) = module(&path) {
            *modules.entry(name.to_string()).or_default() += 1;
        }
    }
    assert!(modules.len() > 8, "the core's modules were not found: {modules:?}");
    for name in modules.keys() {
        assert!(layer(name).is_some() || BESIDE.contains(&name.as_str()), "{name} is in no layer");
    }
}

#[test]
fn files_are_tidy() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in CRATES.iter().flat_map(|directory| sources(directory)) {
        count += 1;
        // A module's own tests, at its end, are not counted.
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > LINES_MAX {
            wrong.push(format!("{path}: {lines} lines; which second idea has moved in?"));
        }
        if !text.starts_with("//!") && !text.starts_with("// SPDX") {
            wrong.push(format!("{path}: no head comment"));
        }
        for (index, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let line = index + 1;
            // Put together here, so that this file does not find itself.
            for word in ["to\u{64}o!(", "unimplemente\u{64}!(", "db\u{67}!("] {
                if code.contains(word) {
                    wrong.push(format!("{path}:{line}: {word})"));
                }
            }
            let unsafe_word = ["unsa", "fe "].concat();
            if code.contains(&unsafe_word) {
                let explained =
                    text.lines().take(line).skip(line.saturating_sub(6)).any(|line| line.contains("SAFETY:"));
                if !explained || !UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
                    wrong.push(format!(
                        "{path}:{line}: {unsafe_word}without SAFETY, or outside of {UNSAFE:?}"
                    ));
                }
            }
        }
    }
    assert!(count > 30, "only {count} files found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_forbids_what_it_must() {
    let text = fs::read_to_string(root().join("vexfs_core/src/lib.rs")).expect("lib.rs");
    for rule in ["#![no_std]", "#![forbid(unsafe_code)]", "clippy::unwrap_used", "clippy::float_arithmetic"] {
        assert!(text.contains(rule), "vexfs_core/src/lib.rs lacks {rule}");
    }
    let std = sources("vexfs_core/src").into_iter().filter(|(path, _)| !path.ends_with("tests.rs"));
    for (path, text) in std {
        let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        let before_tests = before_tests.split("#[cfg(vexfs_bugs)]").next().unwrap_or_default();
        assert!(!before_tests.contains("std::"), "{path} names std");
    }
}
