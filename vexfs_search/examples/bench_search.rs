//! Our side of `make bench-search`: `bench_search DIRECTORY METHOD K SECONDS`.
//!
//! Maps the collection in DIRECTORY, prints what it built as one JSON line, and then, for every line on stdin, measures
//! each setting: a JSON line each, `"end"` behind the last. One thread, one query at a time.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use vexfs_search::npy::Header;
use vexfs_search::{Collection, Hit, Options, Query};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, method, k, seconds] = arguments.as_slice() else {
        return Err("bench_search DIRECTORY METHOD K SECONDS".into());
    };
    let (directory, k, seconds) = (Path::new(directory), k.parse()?, seconds.parse()?);
    let start = Instant::now();
    let collection = Collection::open(directory)?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let vectors = read(&directory.join("queries.npy"))?;
    let metric = collection.schema().metric;
    let queries: Vec<Query> =
        vectors.iter().map(|vector| Query::new(&collection, vector, metric)).collect::<Result<_, _>>()?;
    let engine = match method.as_str() {
        "exact" => Engine::exact(collection, k, open_ms),
        _ => return Err(format!("{method}: no such method").into()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", engine.facts)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        for (name, search) in &engine.settings {
            writeln!(out, "{}", measure(name, &queries, seconds, search))?;
        }
        writeln!(out, "\"end\"")?;
        out.flush()?;
    }
    Ok(())
}

type Search = Box<dyn Fn(&Query) -> Vec<Hit>>;

struct Engine {
    facts: Value,
    settings: Vec<(String, Search)>,
}

impl Engine {
    fn exact(collection: Collection, k: usize, open_ms: f64) -> Self {
        let bytes = collection.rows() * collection.vector(0).map_or(0, <[u8]>::len);
        let facts = json!({
            "name": "vexfs, exact", "build_s": 0.0, "memory": anonymous(), "bytes": bytes, "open_ms": open_ms,
        });
        let options = Options { threads: 1, ..Options::nearest(k) };
        let search: Search = Box::new(move |query| collection.search(query, options));
        Self { facts, settings: vec![(String::new(), search)] }
    }
}

fn measure(name: &str, queries: &[Query], seconds: f64, search: &Search) -> Value {
    let rows = |query: &Query| search(query).iter().map(|hit| hit.row).collect::<Vec<_>>();
    let answers: Vec<Vec<u64>> = queries.iter().map(rows).collect();
    let start = Instant::now();
    let mut count = 0;
    while count < 20 || start.elapsed().as_secs_f64() < seconds {
        black_box(search(&queries[count % queries.len()]));
        count += 1;
    }
    let qps = count as f64 / start.elapsed().as_secs_f64();
    json!({"setting": name, "qps": qps, "answers": answers})
}

// Bytes of this process that belong to no file.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0);
    kib * 1024
}

fn read(path: &Path) -> Result<Vec<Vec<f32>>, Failure> {
    let bytes = std::fs::read(path)?;
    let header = Header::parse(&bytes)?;
    let (_, columns) = header.matrix()?;
    if header.descr != "<f4" {
        return Err(format!("{}: holds {}, not <f4", path.display(), header.descr).into());
    }
    let values = bytes[header.data..].chunks_exact(4);
    let values: Vec<f32> = values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Ok(values.chunks_exact(usize::try_from(columns)?).map(<[f32]>::to_vec).collect())
}
