//! Our side of `make bench-search`: `bench_search DIRECTORY METHOD K SECONDS`.
//!
//! Maps the collection in DIRECTORY, prints what it built as one JSON line, and then, for every line on stdin, measures
//! each setting: a JSON line each, `"end"` behind the last. One thread, one query at a time.

use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use serde_json::{Value, json};
use vexfs_search::npy::Header;
use vexfs_search::stored::{self, Delta, Effort, Kind};
use vexfs_search::{
    ClusteredIndex, Collection, Hit, MmapVectorStore, Options, Query, StoredIndex, VectorStorage,
};

const BRANCHES: usize = 16;
const LEAF_MAX: usize = 512;
const ITERATIONS: usize = 10;

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
        "clustered" => Engine::clustered(&collection, directory, k, open_ms)?,
        "scan" => Engine::stored(collection, directory, k, Kind::Scan)?,
        "graph" => Engine::stored(collection, directory, k, Kind::Graph)?,
        _ => return Err(format!("{method}: no such method").into()),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", engine.facts)?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        line?;
        for (name, search) in &engine.settings {
            writeln!(out, "{}", measure(name, &queries, &vectors, seconds, search))?;
        }
        writeln!(out, "\"end\"")?;
        out.flush()?;
    }
    Ok(())
}

type Search = Box<dyn Fn(&Query, &[f32]) -> Vec<Hit>>;

struct Engine {
    facts: Value,
    settings: Vec<(String, Search)>,
}

impl Engine {
    fn exact(collection: Collection, k: usize, open_ms: f64) -> Self {
        let bytes = collection.rows() * collection.vector(0).map_or(0, |vector| vector.len());
        let facts = json!({
            "name": "vexfs, exact", "build_s": 0.0, "memory": anonymous(), "bytes": bytes, "open_ms": open_ms,
        });
        let options = Options { threads: 1, ..Options::nearest(k) };
        let search: Search = Box::new(move |query, _| collection.search(query, options));
        Self { facts, settings: vec![(String::new(), search)] }
    }

    // Built, saved, and opened again: what is measured is what a program meets that finds the index there.
    fn clustered(collection: &Collection, directory: &Path, k: usize, open_ms: f64) -> Result<Self, Failure> {
        let (dimensions, metric) = (collection.schema().dimensions, collection.schema().metric);
        let (matrix, file) = (directory.join("vectors.npy"), directory.join("clustered.index"));
        let start = process_seconds();
        let store = MmapVectorStore::open(&matrix, dimensions)?;
        let built = ClusteredIndex::build_mapped(store, dimensions, BRANCHES, LEAF_MAX, metric, ITERATIONS)?;
        let build_s = process_seconds() - start;
        built.save(&file)?;
        drop(built);
        let start = Instant::now();
        let store = MmapVectorStore::open(&matrix, dimensions)?;
        let index = ClusteredIndex::load(&file, VectorStorage::Mmap(store))?;
        let open_ms = open_ms + start.elapsed().as_secs_f64() * 1e3;
        let facts = json!({
            "name": format!("vexfs, clustered, leaves of {LEAF_MAX}"), "build_s": build_s, "open_ms": open_ms,
            "memory": index.memory_usage_bytes(), "bytes": std::fs::metadata(&file)?.len(),
        });
        let index = Rc::new(index);
        let setting = |(probes, factor): (usize, usize)| {
            let index = Rc::clone(&index);
            let search: Search =
                Box::new(move |_, vector| index.search(vector, k, probes, factor).unwrap_or_default());
            (format!("probes={probes} rerank={factor}"), search)
        };
        let probes = [4, 8, 16, 32, 64, 128, 256].into_iter().chain([index.leaves()]);
        let settings =
            probes.flat_map(|probes| [(probes, 4), (probes, 10), (probes, 20)]).map(setting).collect();
        Ok(Self { facts, settings })
    }
}

impl Engine {
    // Built as `vexfs index` builds it, the measuring of recall and times counted; opened, and its records loaded.
    fn stored(collection: Collection, directory: &Path, k: usize, kind: Kind) -> Result<Self, Failure> {
        let start = process_seconds();
        let built = stored::build(directory, kind, &mut |_, _, _| {})?;
        let build_s = process_seconds() - start;
        std::fs::create_dir_all(directory.join(stored::DIRECTORY))?;
        std::fs::write(directory.join(stored::DIRECTORY).join(kind.name()), &built.bytes)?;
        let bytes = built.bytes.len();
        drop(built);
        let start = Instant::now();
        let mut index = StoredIndex::open(directory, kind)?.ok_or("no index")?;
        index.load()?;
        let open_ms = start.elapsed().as_secs_f64() * 1e3;
        let facts = json!({
            "name": if kind == Kind::Scan { "vexfs, scan by 1 and 4 bits" } else { "vexfs, graph" }, "build_s": build_s, "open_ms": open_ms,
            "memory": bytes, "bytes": bytes,
        });
        let shared = Rc::new((collection, index));
        let setting = |(pool, rerank): (usize, usize)| {
            let shared = Rc::clone(&shared);
            let effort = Effort::refined(1, pool, rerank);
            let search: Search = Box::new(move |query, _| {
                let (collection, index) = &*shared;
                let answer = index.search(collection, query, Options::nearest(k), &Delta::default(), &effort);
                answer.map(|answer| answer.hits).unwrap_or_default()
            });
            (format!("pool={pool} rerank={rerank}"), search)
        };
        let pools: &[(usize, usize)] = match kind {
            Kind::Graph => {
                &[(1, 1), (2, 2), (3, 2), (4, 2), (6, 2), (8, 3), (12, 3), (16, 3), (24, 4), (32, 4), (48, 6)]
            }
            _ => &[(2, 1), (2, 2), (4, 1), (4, 2), (8, 2), (16, 2), (32, 2), (64, 3), (100, 10)],
        };
        Ok(Self { facts, settings: pools.iter().copied().map(setting).collect() })
    }
}

fn measure(name: &str, queries: &[Query], vectors: &[Vec<f32>], seconds: f64, search: &Search) -> Value {
    let both: Vec<_> = queries.iter().zip(vectors).collect();
    let rows =
        |(query, vector): &(&Query, &Vec<f32>)| search(query, vector).iter().map(|hit| hit.row).collect();
    let answers: Vec<Vec<u64>> = both.iter().map(rows).collect();
    let (start, mut count) = (cpu_seconds(), 0);
    let seconds = loop {
        let (query, vector) = both[count % both.len()];
        black_box(search(query, vector));
        count += 1;
        if count % 20 == 0 {
            let elapsed = cpu_seconds() - start;
            // A system without the count measures nothing.
            if elapsed >= seconds || elapsed.is_nan() {
                break elapsed;
            }
        }
    };
    let qps = count as f64 / seconds;
    json!({"setting": name, "qps": qps, "answers": answers})
}

// Time that this thread has had a core: others on the machine do not count.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse::<f64>().ok())
        .map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}

// Time that all threads of this process have had a core.
fn process_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may have spaces: ticks of a hundredth of a second.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|word| word.parse::<f64>().ok());
    ticks(11).zip(ticks(12)).map_or(f64::NAN, |(user, system)| (user + system) / 100.0)
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
