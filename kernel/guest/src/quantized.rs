//! A codebook for product quantisation, handed to the filesystem: what it stores, reads back and shows.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use vexfs_guest::bytes::floats;

use crate::call::{self, Mapping};
use crate::manifest::{Failure, Outcome, expect};

const NAME: &[u8] = b"user.vector.quantized";
const DIMENSIONS: usize = 32;
/// Codes of a vector, and the entries that each chooses among.
const PARTS: usize = 4;
const ENTRIES: u64 = 256;
/// Files; their vectors are entries of the codebook, so that nothing of them is lost.
const FILES: u64 = 40;
/// Where the data of a column begins.
const DATA: usize = 4096;

// Entry `e` of each part is that part of vector `e`.
fn codebook() -> Vec<u8> {
    let vectors: Vec<Vec<u8>> = (0..ENTRIES).map(|entry| floats(entry, DIMENSIONS)).collect();
    let len = DIMENSIONS / PARTS * 4;
    (0..PARTS)
        .flat_map(|part| vectors.iter().flat_map(move |vector| &vector[part * len..][..len]))
        .copied()
        .collect()
}

fn mapped(path: &Path) -> Result<Mapping, Failure> {
    let file = File::open(path)?;
    Ok(Mapping::new(&file, file.metadata()?.len() as usize, false)?)
}

/// A collection is recoded by a codebook while it is mapped; vectors are coded and decoded by it from then on.
pub(crate) fn quantized(at: &Path) -> Outcome {
    let directory = at.parent().unwrap_or(at).join(".vexfs/collections/quantized");
    let name = |index: u64| at.join(format!("file-{index}"));
    for index in 0..FILES {
        fs::write(name(index), "x")?;
        call::set_attribute(&name(index), NAME, &floats(index, DIMENSIONS))?;
    }
    let told = mapped(&directory.join("generation.npy"))?;
    let generation = || u64::from_le_bytes(told.bytes()[DATA..DATA + 8].try_into().unwrap_or_default());
    let before = generation();
    fs::create_dir(directory.join("index"))?;
    // It is in memory yet when the filesystem is told of it.
    fs::write(directory.join("index/codebook.new"), codebook())?;
    let short = fs::write(directory.join("control"), "recode pq 4 4 codebook.new\n");
    expect("a codebook of another length is refused", short.is_err(), true)?;
    fs::write(directory.join("control"), "recode pq 4 8 codebook.new\n")?;
    let mut said = String::new();
    for _ in 0..300 {
        said = fs::read_to_string(directory.join("schema.json"))?;
        if said.contains("\"matrix\":1,") {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let arrived = said.contains("\"matrix\":1,") && said.contains("\"codec\":\"pq\"");
    expect(&format!("the codec: {said}"), arrived, true)?;
    expect("the mapped generation rose", generation() > before, true)?;
    let shown = mapped(&directory.join("codebook.npy"))?;
    expect("the codebook", shown.bytes()[DATA..].starts_with(&codebook()), true)?;
    for index in 0..FILES {
        expect("a vector", call::attribute(&name(index), NAME)? == floats(index, DIMENSIONS), true)?;
    }
    let matrix = mapped(&directory.join("vectors.npy"))?;
    let before = generation();
    call::set_attribute(&name(3), NAME, &floats(200, DIMENSIONS))?;
    expect("a vector that was set in pq", call::attribute(&name(3), NAME)? == floats(200, DIMENSIONS), true)?;
    expect("the generation behind it", generation() > before, true)?;
    let codes = matrix.bytes()[DATA..].chunks_exact(64).any(|row| row[..PARTS] == [200; PARTS]);
    expect("its codes in the mapped matrix", codes, true)?;
    fs::remove_file(name(3))?;
    expect("the generation behind an unlink", generation() > before + 1, true)
}
