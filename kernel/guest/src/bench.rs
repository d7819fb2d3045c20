//! How long things take on a VexFS mount beside an ext4 one of the same machine: the best of some rounds, in turns.
//!
//! The guest is emulated, so the times say nothing; their ratio says something.

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vexfs_guest::bytes::{floats, noise};

use crate::call::{self, Mapping};
use crate::dice::Dice;
use crate::manifest::{Failure, Outcome};

const ROUNDS: u64 = 5;
/// Files with an attribute of 1.5 KiB: a vector of 384 floats, and an ordinary attribute as large on ext4.
const FILES: u64 = 500;
const DIMENSIONS: usize = 384;
/// Rows of the matrix that is scanned: so many files with so many vectors.
const SCANNED: (u64, u64) = (100, 50);
/// Bytes of the file that is read.
const SIZE: usize = 48 << 20;
const READS: u64 = 2000;

/// One of the two mounts.
struct Side {
    at: PathBuf,
    attribute: &'static [u8],
    /// The matrix, or on ext4 a file of the same bytes.
    matrix: PathBuf,
}

type Measure = fn(&Side, u64) -> Result<Duration, Failure>;

const MEASURES: [(&str, Measure); 9] = [
    ("create and fsync the directory", create),
    ("setxattr of 1.5 KiB and sync", set),
    ("getxattr of 1.5 KiB", get),
    ("mapped scan of the matrix, from the disk", scan_cold),
    ("mapped scan of the matrix, from memory", scan_warm),
    ("sequential write and fsync", write),
    ("sequential read, from the disk", read),
    ("random reads of 4 KiB, from the disk", read_random),
    ("unlink and sync", unlink),
];

/// Measures on a VexFS mount and on an ext4 mount.
pub(crate) fn run(vexfs: &Path, ext4: &Path) -> Outcome {
    let matrix = vexfs.join(".vexfs/collections/scanned/vectors.npy");
    fill(vexfs)?;
    let sides = [
        Side { at: vexfs.into(), attribute: b"user.vector.bench", matrix: matrix.clone() },
        Side { at: ext4.into(), attribute: b"user.bench", matrix: ext4.join("matrix") },
    ];
    fs::copy(&matrix, &sides[1].matrix)?;
    let mut best = [[Duration::MAX; 2]; MEASURES.len()];
    for round in 0..ROUNDS {
        for (measure, best) in MEASURES.iter().zip(&mut best) {
            for (side, best) in sides.iter().zip(best) {
                *best = measure.1(side, round).map_err(|error| format!("{}: {error}", measure.0))?.min(*best);
            }
        }
    }
    for ((name, _), [ours, theirs]) in MEASURES.iter().zip(best) {
        let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
        println!("exercise time beside ext4: {ratio:.2} {name} ({ours:.1?} to {theirs:.1?})");
    }
    Ok(())
}

// The matrix that is scanned.
fn fill(vexfs: &Path) -> Outcome {
    for file in 0..SCANNED.0 {
        let path = vexfs.join(format!("scanned-{file}"));
        File::create(&path)?;
        for n in 0..SCANNED.1 {
            let name = format!("user.vector.scanned.{n}");
            call::set_attribute(&path, name.as_bytes(), &floats(file * SCANNED.1 + n, DIMENSIONS))?;
        }
    }
    Ok(())
}

fn name(side: &Side, index: u64) -> PathBuf {
    side.at.join("files").join(format!("file-{index}"))
}

fn drop_caches() -> Outcome {
    call::sync();
    Ok(fs::write("/proc/sys/vm/drop_caches", "3")?)
}

fn each(side: &Side, mut act: impl FnMut(u64, &Path) -> Outcome) -> Result<Duration, Failure> {
    let start = Instant::now();
    for index in 0..FILES {
        act(index, &name(side, index))?;
    }
    call::sync_filesystem(&File::open(&side.at)?)?;
    Ok(start.elapsed())
}

fn create(side: &Side, _: u64) -> Result<Duration, Failure> {
    let directory = side.at.join("files");
    fs::create_dir(&directory)?;
    let start = Instant::now();
    for index in 0..FILES {
        File::create(name(side, index))?;
    }
    File::open(&directory)?.sync_all()?;
    Ok(start.elapsed())
}

fn set(side: &Side, round: u64) -> Result<Duration, Failure> {
    let values: Vec<Vec<u8>> = (0..FILES).map(|index| floats(index + round * FILES, DIMENSIONS)).collect();
    each(side, |index, path| Ok(call::set_attribute(path, side.attribute, &values[index as usize])?))
}

fn get(side: &Side, _: u64) -> Result<Duration, Failure> {
    let start = Instant::now();
    for index in 0..FILES {
        black_box(call::attribute(&name(side, index), side.attribute)?);
    }
    Ok(start.elapsed())
}

fn scan_cold(side: &Side, round: u64) -> Result<Duration, Failure> {
    drop_caches()?;
    scan(side, round)
}

// What the other side did to be cold threw this side's pages out, too.
fn scan_warm(side: &Side, round: u64) -> Result<Duration, Failure> {
    scan(side, round)?;
    scan(side, round)
}

// Every byte of the mapping, in order.
fn scan(side: &Side, _: u64) -> Result<Duration, Failure> {
    let file = File::open(&side.matrix)?;
    let len = file.metadata()?.len() as usize;
    let start = Instant::now();
    let mapping = Mapping::new(&file, len, false)?;
    let words = mapping.bytes().chunks_exact(8);
    let sum = words.fold(0u64, |sum, word| {
        sum.wrapping_add(word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    });
    black_box(sum);
    Ok(start.elapsed())
}

fn write(side: &Side, round: u64) -> Result<Duration, Failure> {
    let bytes = noise(round, 1 << 20);
    let start = Instant::now();
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(side.at.join("large"))?;
    for _ in 0..SIZE >> 20 {
        file.write_all(&bytes)?;
    }
    file.sync_all()?;
    Ok(start.elapsed())
}

fn read(side: &Side, _: u64) -> Result<Duration, Failure> {
    drop_caches()?;
    let mut buffer = vec![0; 1 << 20];
    let start = Instant::now();
    let mut file = File::open(side.at.join("large"))?;
    while file.read(&mut buffer)? > 0 {
        black_box(&buffer);
    }
    Ok(start.elapsed())
}

fn read_random(side: &Side, round: u64) -> Result<Duration, Failure> {
    drop_caches()?;
    let file = File::open(side.at.join("large"))?;
    let mut dice = Dice::new(round);
    let mut buffer = [0; 4096];
    let start = Instant::now();
    for _ in 0..READS {
        file.read_exact_at(&mut buffer, dice.below(SIZE as u64 / 4096) * 4096)?;
        black_box(&buffer);
    }
    Ok(start.elapsed())
}

fn unlink(side: &Side, _: u64) -> Result<Duration, Failure> {
    let took = each(side, |_, path| Ok(fs::remove_file(path)?))?;
    fs::remove_dir(side.at.join("files"))?;
    Ok(took)
}
