//! The clustered index with its vectors in memory and mapped: memory, and the latency of a query cold, warm and hot.
//!
//! `cargo run --release -p vexfs_search --example mmap_demo [ROWS [DIMENSIONS]]`
//!
//! Cold means that the file's pages were dropped from the page cache (dd does that, without root) and the index mapped
//! anew; warm is a first mapping of a file that is cached; hot are the same queries again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use vexfs_search::{ClusteredIndex, Metric, MmapVectorStore, VectorStorage};

type Failure = Box<dyn std::error::Error>;

const QUERIES: usize = 100;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse());
    let (rows, dimensions) = (arguments.next().unwrap_or(Ok(50_000))?, arguments.next().unwrap_or(Ok(384))?);
    let directory = std::env::temp_dir().join(format!("mmap_demo-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let done = demo(rows, dimensions, &directory.join("vectors.npy"), &directory.join("clustered.index"));
    std::fs::remove_dir_all(&directory)?;
    done
}

fn demo(rows: usize, dimensions: usize, matrix: &Path, file: &Path) -> Result<(), Failure> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut vectors = vectors(&mut random, rows + QUERIES, dimensions);
    let queries = vectors.split_off(rows);
    let start = Instant::now();
    let mut index = ClusteredIndex::build(vectors, 10, 1000, Metric::L2, 20)?;
    println!(
        "{rows} x {dimensions} f32, {} leaves, built in {:.1} s",
        index.leaves(),
        start.elapsed().as_secs_f64()
    );
    let megabytes = |bytes: usize| bytes as f64 / 1e6;
    let in_memory = index.memory_usage_bytes();
    println!("in memory   {:8.1} MB   {}", megabytes(in_memory), run(&index, &queries)?);
    index.use_mmap_storage(matrix)?;
    index.save(file)?;
    let mapped = index.memory_usage_bytes();
    drop(index);
    // The file is dirty until it is written: only then its pages can be dropped.
    forget(matrix.to_owned())?;
    let open = || -> Result<ClusteredIndex, Failure> {
        let store = MmapVectorStore::open(matrix, dimensions)?;
        Ok(ClusteredIndex::load(file, VectorStorage::Mmap(store))?)
    };
    let saved = 100.0 * (1.0 - mapped as f64 / in_memory as f64);
    println!("mapped      {:8.1} MB   {saved:.1} % less", megabytes(mapped));
    println!("  cold                    {}", run(&open()?, &queries)?);
    let index = open()?;
    println!("  warm                    {}", run(&index, &queries)?);
    println!("  hot                     {}", run(&index, &queries)?);
    Ok(())
}

// The median and the slowest of the queries' latencies.
fn run(index: &ClusteredIndex, queries: &[Vec<f32>]) -> Result<String, Failure> {
    let mut microseconds = Vec::new();
    for query in queries {
        let start = Instant::now();
        std::hint::black_box(index.search(query, 10, 8, 10)?);
        microseconds.push(start.elapsed().as_secs_f64() * 1e6);
    }
    microseconds.sort_by(f64::total_cmp);
    let (median, slowest) = (microseconds[microseconds.len() / 2], microseconds[microseconds.len() - 1]);
    Ok(format!("{median:8.0} us a query, the slowest {slowest:.0} us"))
}

fn forget(path: PathBuf) -> Result<(), Failure> {
    let mut of = std::ffi::OsString::from("of=");
    of.push(path);
    let done = Command::new("dd")
        .arg(of)
        .args(["oflag=nocache", "conv=notrunc,fdatasync", "count=0", "if=/dev/null", "status=none"])
        .status()?;
    if done.success() { Ok(()) } else { Err("dd could not drop the file's pages".into()) }
}

// Vectors around centres, as embeddings lie.
fn vectors(random: &mut u64, count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let mut value = || {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let centres: Vec<Vec<f32>> = (0..100).map(|_| (0..dimensions).map(|_| value()).collect()).collect();
    let vector = |row: usize| centres[row * 37 % 100].iter().map(|centre| centre + value()).collect();
    (0..count).map(vector).collect()
}
