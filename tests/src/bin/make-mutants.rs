//! `make-mutants DISK INDEX COUNT SEED`: damaged images with right checksums, one behind the other on a disk, for the
//! kernel to mount: all of `tests/corpus/mutants.txt` whose blocks a kernel mounts, and COUNT more from SEED on.
//!
//! INDEX gets a line for each: its first byte on the disk, its length, and what it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;

use vexfs_tests::image::Image;
use vexfs_tests::mutate::bases::{self, BASES};
use vexfs_tests::mutate::edit::{line, parse_line};
use vexfs_tests::mutate::generate::Chooser;
use vexfs_tests::mutate::subject::Subject;

/// Blocks that the kernel mounts.
const BLOCK_SIZE: u32 = 4096;
/// Bytes that are zero need no place in a sparse file.
const STEP: usize = 4096;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [disk, index, count, seed] = &arguments[..] else {
        eprintln!("usage: make-mutants DISK INDEX COUNT SEED");
        return ExitCode::FAILURE;
    };
    match make(disk, index, count, seed) {
        Ok(count) => {
            println!("{count} damaged images");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("make-mutants: {why}");
            ExitCode::FAILURE
        }
    }
}

fn make(disk: &str, index: &str, count: &str, seed: &str) -> Result<usize, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("not a number: {text}"));
    let (count, seed) = (number(count)?, number(seed)?);
    let mut subjects = BTreeMap::new();
    for name in BASES {
        let subject = Subject::new(bases::image(name)?)?;
        if subject.layout.block_size == BLOCK_SIZE {
            subjects.insert(name, subject);
        }
    }
    let mut pack = Pack::new(disk)?;
    let corpus = include_str!("../../corpus/mutants.txt");
    for text in corpus.lines().filter(|text| !text.starts_with('#')) {
        let Some((head, edits)) = text.split_once('|') else { continue };
        let name = head.split_whitespace().next().unwrap_or_default();
        if let Some(subject) = subjects.get(name) {
            pack.add(&subject.with(&parse_line(edits)?), &format!("corpus {text}"))?;
        }
    }
    for seed in seed..seed + count {
        let names: Vec<&str> = subjects.keys().copied().collect();
        let name = names[seed as usize % names.len()];
        let subject = &subjects[name];
        let edits = Chooser::new(subject, seed).edits();
        pack.add(&subject.with(&edits), &format!("{name} {seed} | {}", line(&edits)))?;
    }
    std::fs::write(index, &pack.index).map_err(|error| format!("{index}: {error}"))?;
    Ok(pack.count)
}

/// The disk as it grows.
struct Pack {
    disk: File,
    len: u64,
    index: String,
    count: usize,
}

impl Pack {
    fn new(path: &str) -> Result<Self, String> {
        let disk = File::create(path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { disk, len: 0, index: String::new(), count: 0 })
    }

    fn add(&mut self, image: &Image, what: &str) -> Result<(), String> {
        let mut bytes = [0; STEP];
        for at in (0..image.size()).step_by(STEP) {
            image.read(at, &mut bytes);
            if bytes != [0; STEP] {
                self.disk.write_all_at(&bytes, self.len + at).map_err(|error| error.to_string())?;
            }
        }
        writeln!(self.index, "{} {} {what}", self.len, image.size()).map_err(|error| error.to_string())?;
        self.len += image.size();
        self.count += 1;
        self.disk.set_len(self.len).map_err(|error| error.to_string())
    }
}
