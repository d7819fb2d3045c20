//! The clustered index against the exact answer; its storage, its file, its changes.

use std::path::PathBuf;

use vexfs_search::{ClusteredIndex, Hit, Metric, MmapVectorStore, VectorStorage};

const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];

struct Random(u64);

impl Random {
    fn value(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.value()).collect()
    }
}

/// Vectors around a few dozen centres, as embeddings of texts lie; the last are meant as queries.
fn vectors(count: usize, dimensions: usize) -> Vec<Vec<f32>> {
    let mut random = Random(42);
    let centres: Vec<_> = (0..30).map(|_| random.vector(dimensions)).collect();
    (0..count)
        .map(|row| {
            let noise = random.vector(dimensions);
            centres[row * 7 % 30].iter().zip(noise).map(|(centre, noise)| centre + 0.8 * noise).collect()
        })
        .collect()
}

fn score(metric: Metric, a: &[f32], b: &[f32]) -> f64 {
    let sum =
        |of: fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| of((*a).into(), (*b).into())).sum::<f64>();
    match metric {
        Metric::InnerProduct => sum(|a, b| a * b),
        Metric::Cosine => sum(|a, b| a * b) / (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt(),
        Metric::L2 | Metric::Hamming => -sum(|a, b| (a - b) * (a - b)),
    }
}

fn exact(vectors: &[Vec<f32>], query: &[f32], metric: Metric, k: usize) -> Vec<(u64, f64)> {
    let scored = vectors.iter().enumerate().map(|(row, vector)| (row as u64, score(metric, vector, query)));
    let mut scored: Vec<_> = scored.collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(k);
    scored
}

fn recall(found: &[Hit], exact: &[(u64, f64)]) -> f64 {
    let same = found.iter().filter(|hit| exact.iter().any(|(row, _)| *row == hit.row)).count();
    same as f64 / exact.len() as f64
}

fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vexfs_search-clustered-{}-{name}", std::process::id()))
}

#[test]
fn some_leaves_find_most_and_all_leaves_find_all() {
    for dimensions in [20, 96] {
        let all = vectors(6050, dimensions);
        let (rows, queries) = all.split_at(6000);
        for metric in METRICS {
            let index = ClusteredIndex::build(rows.to_vec(), 10, 200, metric, 10).unwrap();
            let (mut some, mut whole) = (0.0, 0.0);
            for query in queries {
                let exact = exact(rows, query, metric, 10);
                let found = index.search(query, 10, index.leaves() / 3, 20).unwrap();
                for hit in &found {
                    let score = score(metric, &rows[hit.row as usize], query);
                    assert!((f64::from(hit.score) - score).abs() < 1e-3, "{hit:?}, not {score}");
                }
                some += recall(&found, &exact) / 50.0;
                whole += recall(&index.search(query, 10, usize::MAX, usize::MAX).unwrap(), &exact) / 50.0;
            }
            assert!(some > 0.9, "{metric:?} {dimensions}: {some}");
            assert_eq!((whole * 1000.0).round(), 1000.0, "{metric:?} {dimensions}");
        }
    }
}

#[test]
fn there_are_always_k_answers() {
    let rows = vectors(500, 16);
    let mut index = ClusteredIndex::build(rows.clone(), 4, 20, Metric::L2, 5).unwrap();
    for k in [1, 19, 21, 499, 500, 9999] {
        assert_eq!(index.search(&rows[3], k, 1, 1).unwrap().len(), k.min(500));
    }
    for row in 0..490 {
        assert!(index.remove(row));
        assert!(!index.remove(row));
    }
    let found = index.search(&rows[3], 50, 1, 1).unwrap();
    assert_eq!((found.len(), index.len()), (10, 10));
    assert!(found.iter().all(|hit| hit.row >= 490));
    assert!(!index.remove(500));
}

#[test]
fn test_mmap_storage() {
    let rows = vectors(2000, 64);
    let mut index = ClusteredIndex::build(rows.clone(), 10, 100, Metric::Cosine, 20).unwrap();
    let before = (index.search(&rows[7], 10, 5, 10).unwrap(), index.memory_usage_bytes());
    assert!(!index.is_using_mmap());
    let path = path("convert.npy");
    index.use_mmap_storage(&path).unwrap();
    assert!(index.is_using_mmap());
    assert_eq!(index.search(&rows[7], 10, 5, 10).unwrap(), before.0);
    // What is left is codes and centres: a bit a dimension, and some words a row.
    assert!(before.1 - index.memory_usage_bytes() >= 2000 * 64 * 4);
    assert!(index.memory_usage_bytes() < 2000 * 64);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn test_mmap_storage_twice_fails() {
    let mut index = ClusteredIndex::build(vectors(50, 8), 10, 100, Metric::L2, 20).unwrap();
    let path = path("twice.npy");
    index.use_mmap_storage(&path).unwrap();
    assert!(index.use_mmap_storage(&path).unwrap_err().to_string().contains("mapped already"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn vectors_are_found_as_soon_as_they_are_inserted() {
    let all = vectors(3000, 32);
    for metric in METRICS {
        let mut index = ClusteredIndex::build(all[..100].to_vec(), 5, 50, metric, 10).unwrap();
        for (row, vector) in all.iter().enumerate().skip(100) {
            assert_eq!(index.insert(vector).unwrap(), row as u64);
        }
        // Leaves were split on the way.
        assert!(index.leaves() > 3000 / 100);
        let mean = (0..50).map(|row| {
            let exact = exact(&all, &all[row * 59], metric, 10);
            recall(&index.search(&all[row * 59], 10, index.leaves() / 2, 20).unwrap(), &exact) / 50.0
        });
        assert!(mean.sum::<f64>() > 0.9, "{metric:?}");
    }
    let mut empty = ClusteredIndex::build(Vec::new(), 5, 50, Metric::L2, 10).unwrap();
    assert_eq!(empty.search(&[1.0], 3, 1, 1).unwrap(), []);
    assert_eq!(empty.insert(&[1.0, 2.0]).unwrap(), 0);
    assert_eq!(empty.search(&[1.0, 2.0], 3, 1, 1).unwrap(), [Hit { row: 0, score: 0.0 }]);
}

#[test]
fn what_is_saved_is_loaded_and_damage_is_told() {
    let rows = vectors(700, 24);
    let (matrix, file) = (path("saved.npy"), path("saved.index"));
    for metric in METRICS {
        let mut index = ClusteredIndex::build(rows.clone(), 10, 64, metric, 10).unwrap();
        index.remove(5);
        index.use_mmap_storage(&matrix).unwrap();
        index.save(&file).unwrap();
        let storage = || VectorStorage::Mmap(MmapVectorStore::open(&matrix, 24).unwrap());
        let loaded = ClusteredIndex::load(&file, storage()).unwrap();
        assert_eq!(loaded.search(&rows[5], 10, 4, 10).unwrap(), index.search(&rows[5], 10, 4, 10).unwrap());
        assert_eq!(loaded.len(), 699);
        let bytes = std::fs::read(&file).unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 97) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&file, &damaged).unwrap();
            assert!(ClusteredIndex::load(&file, storage()).is_err(), "byte {at}");
            std::fs::write(&file, &bytes[..at]).unwrap();
            assert!(ClusteredIndex::load(&file, storage()).is_err(), "cut at {at}");
        }
        std::fs::write(&file, &bytes).unwrap();
        let fewer = VectorStorage::InMemory(rows[..600].concat());
        assert!(ClusteredIndex::load(&file, fewer).unwrap_err().to_string().contains("more rows"));
    }
    std::fs::remove_file(matrix).unwrap();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn bad_input_is_told_in_words() {
    let words = |result: vexfs_search::Result<Vec<Hit>>| result.unwrap_err().to_string();
    let index = ClusteredIndex::build(vectors(50, 8), 10, 100, Metric::L2, 20).unwrap();
    assert_eq!(words(index.search(&[0.0; 7], 1, 1, 1)), "the vector has 7 dimensions, the index 8");
    assert!(words(index.search(&[f32::NAN; 8], 1, 1, 1)).contains("element 0"));
    for (k, probes, factor) in [(0, 1, 1), (1, 0, 1), (1, 1, 0)] {
        assert!(words(index.search(&[0.0; 8], k, probes, factor)).contains("1 or more"));
    }
    let build = |vectors, branches, leaf, metric| {
        ClusteredIndex::build(vectors, branches, leaf, metric, 5).unwrap_err().to_string()
    };
    assert!(build(vec![vec![1.0], vec![1.0, 2.0]], 10, 10, Metric::L2).contains("vector 1 has 2"));
    assert!(build(vec![vec![f32::INFINITY]], 10, 10, Metric::L2).contains("element 0"));
    assert!(build(vec![vec![1.0]], 1, 10, Metric::L2).contains("branching"));
    assert!(build(vec![vec![1.0]], 10, 0, Metric::L2).contains("branching"));
    assert!(build(vec![vec![1.0]], 10, 10, Metric::Hamming).contains("for bits"));
}
