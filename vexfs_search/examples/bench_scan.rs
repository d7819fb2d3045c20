//! How fast a collection is scanned, against reading its bytes: `bench_scan DIRECTORY QUERIES.npy [THREADS]`.
//!
//! Prints one JSON object. DIRECTORY holds a collection's files, mounted or copied; one query at a time, k = 10.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use vexfs_search::npy::Header;
use vexfs_search::{Collection, Metric, Options, Query};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory, queries, rest @ ..] = arguments.as_slice() else {
        return Err("bench_scan DIRECTORY QUERIES.npy [THREADS]".into());
    };
    let threads = rest.first().map_or(Ok(1), |text| text.parse())?;
    let collection = Collection::open(Path::new(directory))?;
    let queries = read(Path::new(queries), collection.schema().dimensions)?;
    let metric = collection.schema().metric;
    let queries: Vec<Query> =
        queries.iter().map(|values| Query::new(&collection, values, metric)).collect::<Result<_, _>>()?;
    let options = Options { threads, ..Options::nearest(10) };
    let bytes = collection.rows() * collection.vector(0).map_or(0, |vector| vector.len());
    // Once for the pages, which a mapping gets at the first touch.
    let sum = |collection: &Collection| {
        (0..collection.rows())
            .filter_map(|row| collection.vector(row))
            .map(|vector| read_all(&vector))
            .fold(0, u64::wrapping_add)
    };
    black_box(sum(&collection));
    let (mut read, mut scan) = (f64::INFINITY, f64::INFINITY);
    for query in queries.iter().take(40) {
        let start = Instant::now();
        black_box(sum(&collection));
        read = read.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        black_box(collection.search(query, options));
        scan = scan.min(start.elapsed().as_secs_f64());
    }
    let start = Instant::now();
    black_box(collection.search_all(&queries, options));
    let batch = start.elapsed().as_secs_f64() / queries.len() as f64;
    let gigabytes = |seconds: f64| bytes as f64 / seconds / 1e9;
    println!(
        "{{\"instructions\": \"{}\", \"metric\": \"{}\", \"rows\": {}, \"threads\": {threads}, \
         \"read_gb_s\": {:.2}, \"scan_gb_s\": {:.2}, \"scan_ms\": {:.3}, \"batch_ms_a_query\": {:.3}}}",
        vexfs_search::instructions(),
        if metric == Metric::L2 { "l2" } else { metric.name() },
        collection.rows(),
        gigabytes(read),
        gigabytes(scan),
        scan * 1e3,
        batch * 1e3
    );
    Ok(())
}

// The sum of a vector's words: as little work as reading can be.
fn read_all(bytes: &[u8]) -> u64 {
    let word = |eight: &[u8]| u64::from_le_bytes(eight.try_into().unwrap_or_default());
    bytes.chunks_exact(8).map(word).fold(0, u64::wrapping_add)
}

fn read(path: &Path, dimensions: usize) -> Result<Vec<Vec<f32>>, Failure> {
    let bytes = std::fs::read(path)?;
    let header = Header::parse(&bytes)?;
    if header.descr != "<f4" || header.matrix()?.1 != dimensions as u64 {
        return Err(format!("{}: is no <f4 matrix of {dimensions} columns", path.display()).into());
    }
    let values = bytes[header.data..].chunks_exact(4);
    let values: Vec<f32> = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(values.chunks_exact(dimensions).map(<[f32]>::to_vec).collect())
}
