//! Real vectors in a volume, written by one host and read by the other, byte for byte.
//!
//! They are the rows of a `.npy` file of f32, or made here where there is none. Beside each lies what whole numbers and bits
//! make of it, so that both hosts can be asked what is near.

use std::fs;
use std::path::{Path, PathBuf};

use vexfs_guest::bytes::floats;

use crate::call::{self, Mapping};
use crate::manifest::{Failure, Outcome};

/// Where a column's entries begin.
const DATA: usize = 4096;
/// What is made where there is no file: rows, and their dimensions.
const MADE: (u64, usize) = (512, 64);

/// Rows of f32, all of one length.
struct Sample {
    bytes: Vec<u8>,
    row: usize,
}

impl Sample {
    fn new(file: &Path) -> Result<Self, Failure> {
        if !file.exists() {
            let bytes = (0..MADE.0).flat_map(|row| floats(row, MADE.1)).collect();
            return Ok(Self { bytes, row: MADE.1 * 4 });
        }
        let mut bytes = fs::read(file)?;
        let short = || -> Failure { format!("{}: no matrix of f32", file.display()).into() };
        let len = bytes.get(8..10).ok_or_else(short)?;
        let data = 10 + usize::from(u16::from_le_bytes([len[0], len[1]]));
        let header = String::from_utf8_lossy(bytes.get(..data).ok_or_else(short)?).into_owned();
        let shape =
            header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or_else(short)?.0;
        let columns = shape.split(',').nth(1).and_then(|columns| columns.trim().parse::<usize>().ok());
        let columns = columns.filter(|columns| *columns > 0 && header.contains("<f4")).ok_or_else(short)?;
        Ok(Self { bytes: bytes.split_off(data), row: columns * 4 })
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.row)
    }
}

fn values(row: &[u8]) -> impl Iterator<Item = f32> {
    row.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
}

/// The vectors of one row, by the attribute.
fn vectors(row: &[u8]) -> [(&'static str, Vec<u8>); 3] {
    let bytes = values(row).map(|value| (value * 400.0).round() as i8 as u8).collect();
    let signs: Vec<f32> = values(row).collect();
    let bits = |eight: &[f32]| eight.iter().rev().fold(0, |byte, value| byte << 1 | u8::from(*value > 0.0));
    [
        ("user.vector.sample", row.to_vec()),
        ("user.vector.sample-bytes:i8", bytes),
        ("user.vector.sample-bits:bit", signs.chunks(8).map(bits).collect()),
    ]
}

fn name(root: &Path, index: usize) -> PathBuf {
    root.join(format!("sample-{}", index % 16)).join(format!("row-{index}"))
}

/// Gives each row of the sample a file.
pub(crate) fn load(sample: &Path, root: &Path) -> Outcome {
    (0..16).try_for_each(|index| fs::create_dir(root.join(format!("sample-{index}"))))?;
    for (index, row) in Sample::new(sample)?.rows().enumerate() {
        let file = name(root, index);
        fs::write(&file, format!("row {index}"))?;
        for (attribute, value) in vectors(row) {
            call::set_attribute(&file, attribute.as_bytes(), &value)?;
        }
    }
    Ok(())
}

/// Checks that each file has its vectors, and that the mapped matrix holds them in their order.
pub(crate) fn check(sample: &Path, root: &Path) -> Outcome {
    let sample = Sample::new(sample)?;
    let matrix = fs::File::open(root.join(".vexfs/collections/sample/vectors.npy"))?;
    let matrix = Mapping::new(&matrix, matrix.metadata()?.len() as usize, false)?;
    let mut count = 0;
    for (index, row) in sample.rows().enumerate() {
        let file = name(root, index);
        for (attribute, value) in vectors(row) {
            let plain = attribute.split(':').next().unwrap_or(attribute);
            if call::attribute(&file, plain.as_bytes())? != value {
                return Err(format!("{}: {plain} is not what was set", file.display()).into());
            }
        }
        let at = DATA + index * sample.row;
        if matrix.bytes().get(at..at + sample.row) != Some(row) {
            return Err(format!("row {index} of the matrix is not the vector that was set").into());
        }
        count += 1;
    }
    println!("exercise sample: {count} vectors of {} bytes, as they were set", sample.row);
    Ok(())
}
