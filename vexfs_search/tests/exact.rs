//! The exact scan against a reference in double precision, over files as the control directory shows them.

use std::fs;
use std::path::PathBuf;

use vexfs_search::npy::Header;
use vexfs_search::{Collection, Element, Hit, Metric, Options, Query, RowSet, half};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn value(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A collection written to a directory, and its values in double precision.
struct Made {
    directory: PathBuf,
    values: Vec<Vec<f64>>,
    valid: Vec<bool>,
}

impl Made {
    fn new(name: &str, element: Element, metric: Metric, dimensions: usize, rows: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("vexfs_search-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut random = Random(0x1234_5678 + dimensions as u64);
        let stride = element.bytes(dimensions).next_multiple_of(64);
        let (mut data, mut values, mut valid) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows {
            let (bytes, exact) = vector(&mut random, element, dimensions);
            // Free rows are NaN or 0xff, whatever the element: they must not be looked at.
            let live = row % 7 != 3;
            data.extend(if live { bytes } else { vec![0xff; element.bytes(dimensions)] });
            data.resize((row + 1) * stride, 0);
            values.push(exact);
            valid.push(live);
        }
        let live = valid.iter().filter(|live| **live).count();
        let schema = format!(
            "{{\"dimension\":{dimensions},\"element\":\"{}\",\"metric\":\"{}\",\"model\":\"m\",\"rows\":{rows},\"live\":{live}}}",
            element.name(),
            metric.name()
        );
        fs::write(directory.join("schema.json"), schema).unwrap();
        let shape = [rows as u64, (stride / element.width()) as u64];
        fs::write(directory.join("vectors.npy"), [Header::render(element.descr(), &shape), data].concat())
            .unwrap();
        let flags = valid.iter().map(|live| u8::from(*live)).collect();
        fs::write(directory.join("valid.npy"), [Header::render("|b1", &shape[..1]), flags].concat()).unwrap();
        Self { directory, values, valid }
    }

    fn reference(&self, query: &[f64], metric: Metric) -> Vec<(f64, u64)> {
        let score = |row: &[f64]| {
            let sum =
                |term: fn(f64, f64) -> f64| row.iter().zip(query).map(|(a, b)| term(*a, *b)).sum::<f64>();
            match metric {
                Metric::Cosine => {
                    let norms = (sum(|a, _| a * a) * sum(|_, b| b * b)).sqrt();
                    if norms > 0.0 { sum(|a, b| a * b) / norms } else { 0.0 }
                }
                Metric::InnerProduct => sum(|a, b| a * b),
                Metric::L2 => -sum(|a, b| (a - b) * (a - b)),
                Metric::Hamming => -sum(|a, b| f64::from(a != b)),
            }
        };
        let live = self.values.iter().enumerate().filter(|(row, _)| self.valid[*row]);
        let mut scores: Vec<(f64, u64)> = live.map(|(row, values)| (score(values), row as u64)).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        scores
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn vector(random: &mut Random, element: Element, dimensions: usize) -> (Vec<u8>, Vec<f64>) {
    let mut bytes = Vec::new();
    let mut exact = Vec::new();
    match element {
        Element::F32 => (0..dimensions).for_each(|_| {
            let value = random.value();
            bytes.extend(value.to_le_bytes());
            exact.push(f64::from(value));
        }),
        Element::F16 => (0..dimensions).for_each(|_| {
            let value = half::from_f32(random.value());
            bytes.extend(value.to_le_bytes());
            exact.push(f64::from(half::to_f32(value)));
        }),
        Element::I8 => (0..dimensions).for_each(|_| {
            let value = random.next() as i8;
            bytes.extend(value.to_le_bytes());
            exact.push(f64::from(value));
        }),
        Element::I16 => (0..dimensions).for_each(|_| {
            let value = random.next() as i16;
            bytes.extend(value.to_le_bytes());
            exact.push(f64::from(value));
        }),
        Element::Bit => (0..dimensions / 8).for_each(|_| {
            let byte = random.next() as u8;
            bytes.push(byte);
            exact.extend((0..8).map(|bit| f64::from(byte >> bit & 1)));
        }),
    }
    (bytes, exact)
}

fn compare(hits: &[Hit], reference: &[(f64, u64)], k: usize) {
    assert_eq!(hits.len(), k.min(reference.len()));
    // Of a sum with terms of both signs only the error relative to the terms is small.
    let largest = reference.iter().map(|(score, _)| score.abs()).fold(1.0, f64::max);
    let close = 1e-5 * largest;
    for (hit, (score, row)) in hits.iter().zip(reference) {
        assert!((f64::from(hit.score) - score).abs() <= close, "{hit:?}, not {score} of row {row}");
        // A row may stand in another's place only if both are equally near.
        let own = reference.iter().find(|(_, row)| *row == hit.row).expect("a live row");
        assert!((own.0 - score).abs() <= close, "{hit:?} in the place of row {row}");
    }
}

#[test]
fn equals_the_reference_for_every_element_and_metric() {
    for element in [Element::F32, Element::F16, Element::I8, Element::I16, Element::Bit] {
        for dimensions in [8, 96, 104, 384] {
            for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct, Metric::Hamming] {
                if metric == Metric::Hamming && element != Element::Bit {
                    continue;
                }
                let name = format!("{}-{}-{dimensions}", element.name(), metric.name());
                let made = Made::new(&name, element, metric, dimensions, 500);
                let collection = Collection::open(&made.directory).unwrap();
                let (bytes, exact) = vector(&mut Random(77), element, dimensions);
                let query = Query::from_bytes(&collection, &bytes, metric).unwrap();
                let reference = made.reference(&exact, metric);
                for k in [0, 1, 10, 499, 5000] {
                    compare(&collection.search(&query, Options::nearest(k)), &reference, k);
                }
            }
        }
    }
}

#[test]
fn several_threads_find_the_same() {
    let made = Made::new("threads", Element::F32, Metric::L2, 384, 12_000);
    let collection = Collection::open(&made.directory).unwrap();
    let (bytes, exact) = vector(&mut Random(5), Element::F32, 384);
    let query = Query::from_bytes(&collection, &bytes, Metric::L2).unwrap();
    compare(&collection.search(&query, Options::nearest(100)), &made.reference(&exact, Metric::L2), 100);
}

#[test]
fn equal_scores_go_by_row() {
    let made = Made::new("ties", Element::Bit, Metric::Hamming, 8, 300);
    let collection = Collection::open(&made.directory).unwrap();
    let query = Query::from_bytes(&collection, &[0b1010_0101], Metric::Hamming).unwrap();
    let exact: Vec<f64> = (0..8).map(|bit| f64::from(0b1010_0101_u8 >> bit & 1)).collect();
    let rows: Vec<u64> = collection.search(&query, Options::nearest(300)).iter().map(|hit| hit.row).collect();
    let expected: Vec<u64> = made.reference(&exact, Metric::Hamming).iter().map(|(_, row)| *row).collect();
    assert_eq!(rows, expected);
}

#[test]
fn an_empty_collection_has_no_neighbours() {
    let made = Made::new("empty", Element::F32, Metric::Cosine, 16, 0);
    let collection = Collection::open(&made.directory).unwrap();
    let query = Query::new(&collection, &[1.0; 16], Metric::Cosine).unwrap();
    assert_eq!(collection.search(&query, Options::nearest(5)), []);
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let made = Made::new("wrong", Element::I8, Metric::L2, 64, 10);
    let collection = Collection::open(&made.directory).unwrap();
    let words = |result: vexfs_search::Result<Query>| result.unwrap_err().to_string();
    assert_eq!(
        words(Query::new(&collection, &[0.0; 63], Metric::L2)),
        "the query has 63 dimensions, the collection 64"
    );
    assert!(words(Query::new(&collection, &[f32::NAN; 64], Metric::L2)).contains("element 0"));
    assert!(words(Query::new(&collection, &[0.0; 64], Metric::Hamming)).contains("holds i8"));
    let path = made.directory.join("vectors.npy");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert!(Collection::open(&made.directory).unwrap_err().to_string().contains("too short for 10 rows"));
}

#[test]
fn many_queries_get_what_each_gets_alone() {
    for element in [Element::F32, Element::F16, Element::I8, Element::I16, Element::Bit] {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
            let made =
                Made::new(&format!("many-{}-{}", element.name(), metric.name()), element, metric, 104, 1501);
            let collection = Collection::open(&made.directory).unwrap();
            let mut random = Random(99);
            // More than a panel has lanes, and a rest.
            let some = (0..37).map(|index| match index % 2 {
                0 => Query::from_bytes(&collection, &vector(&mut random, element, 104).0, metric).unwrap(),
                // Fractions, against whole numbers too.
                _ => {
                    Query::new(&collection, &vector(&mut random, Element::F32, 104).1.map(), metric).unwrap()
                }
            });
            let queries: Vec<Query> = some.collect();
            let rows: RowSet = (0..1501).filter(|row| row % 3 != 0).collect();
            for options in [
                Options::nearest(1),
                Options::nearest(10),
                Options { rows: Some(&rows), threads: 2, ..Options::nearest(usize::MAX) },
            ] {
                for queries in [&queries[..], &queries[1..2], &queries[..3], &[]] {
                    let alone: Vec<_> =
                        queries.iter().map(|query| collection.search(query, options)).collect();
                    assert_eq!(collection.search_all(queries, options), alone, "{element:?} {metric:?}");
                }
            }
        }
    }
}

trait Narrow {
    fn map(&self) -> Vec<f32>;
}

impl Narrow for Vec<f64> {
    fn map(&self) -> Vec<f32> {
        self.iter().map(|value| *value as f32).collect()
    }
}

#[test]
fn filters_never_starve_k() {
    let made = Made::new("filter", Element::F32, Metric::Cosine, 32, 5000);
    let collection = Collection::open(&made.directory).unwrap();
    let (bytes, exact) = vector(&mut Random(5), Element::F32, 32);
    let query = Query::from_bytes(&collection, &bytes, Metric::Cosine).unwrap();
    let reference = made.reference(&exact, Metric::Cosine);
    for every in [5000, 1000, 97, 10, 2, 1] {
        let rows: RowSet = (0..5000).filter(|row| row % every == 0).collect();
        let expected: Vec<_> =
            reference.iter().filter(|(_, row)| rows.contains(*row as usize)).copied().collect();
        for k in [1, 10, 100, 10_000] {
            compare(
                &collection.search(&query, Options { rows: Some(&rows), ..Options::nearest(k) }),
                &expected,
                k,
            );
        }
    }
    let none = RowSet::default();
    assert_eq!(collection.search(&query, Options { rows: Some(&none), ..Options::nearest(5) }), []);
}

#[test]
fn a_range_holds_all_with_at_least_the_score() {
    let made = Made::new("range", Element::F32, Metric::L2, 24, 3000);
    let collection = Collection::open(&made.directory).unwrap();
    let (bytes, exact) = vector(&mut Random(8), Element::F32, 24);
    let query = Query::from_bytes(&collection, &bytes, Metric::L2).unwrap();
    let reference = made.reference(&exact, Metric::L2);
    // Between two scores, so that rounding decides nothing.
    let least = (reference[99].0 + reference[100].0) / 2.0;
    let options = Options { min_score: least as f32, ..Options::nearest(usize::MAX) };
    compare(&collection.search(&query, options), &reference[..100], 100);
    assert_eq!(collection.search(&query, Options { k: 7, ..options }).len(), 7);
}

#[test]
fn pairs_are_all_that_are_near() {
    let made = Made::new("pairs", Element::I8, Metric::Cosine, 64, 400);
    let path = made.directory.join("vectors.npy");
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.len() - 400 * 64;
    // Rows 5 and 300 alike, 8 and 9 nearly; row 10 is free.
    bytes.copy_within(data + 5 * 64..data + 6 * 64, data + 300 * 64);
    bytes.copy_within(data + 8 * 64..data + 9 * 64, data + 9 * 64);
    bytes[data + 9 * 64] ^= 1;
    bytes.copy_within(data + 8 * 64..data + 9 * 64, data + 10 * 64);
    fs::write(&path, bytes).unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    let pairs = collection.pairs(Metric::Cosine, Options { min_score: 0.9, ..Options::nearest(usize::MAX) });
    let rows: Vec<_> = pairs.iter().map(|pair| (pair.row, pair.other)).collect();
    assert_eq!(rows, [(5, 300), (8, 9)]);
    assert!((pairs[0].score - 1.0).abs() < 1e-6 && pairs[1].score < 1.0);
}

#[test]
fn sums_beyond_a_float_are_still_ranked() {
    let made = Made::new("huge", Element::F32, Metric::Cosine, 16, 4);
    let path = made.directory.join("vectors.npy");
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.len() - 4 * 64;
    for (row, value) in [(0, 3e38_f32), (1, 1e18), (2, 1.0), (3, f32::NAN)] {
        for entry in 0..16 {
            let sign = if row == 1 && entry % 2 == 0 { -1.0 } else { 1.0 };
            bytes[data + row * 64 + entry * 4..][..4].copy_from_slice(&(sign * value).to_le_bytes());
        }
    }
    fs::write(&path, bytes).unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    for (metric, expected) in
        [(Metric::Cosine, [0, 2, 1]), (Metric::L2, [2, 1, 0]), (Metric::InnerProduct, [0, 2, 1])]
    {
        let query = Query::new(&collection, &[2.0; 16], metric).unwrap();
        let rows = |hits: &[Hit]| hits.iter().map(|hit| hit.row).collect::<Vec<_>>();
        assert_eq!(rows(&collection.search(&query, Options::nearest(5))), expected, "{metric:?}");
        for hits in collection.search_all(&[query.clone(), query], Options::nearest(5)) {
            assert_eq!(rows(&hits), expected, "{metric:?}");
        }
    }
}

#[test]
fn a_sum_that_overflows_on_its_way_is_not_the_nearest() {
    let made = Made::new("on-its-way", Element::F32, Metric::InnerProduct, 16, 3);
    let path = made.directory.join("vectors.npy");
    let mut bytes = fs::read(&path).unwrap();
    let data = bytes.len() - 3 * 64;
    bytes[data..].fill(0);
    // Twice these: 6e38 - 3e38, of which the first is no f32; 3.2e38; 2.
    for (row, entry, value) in [(0, 3, 3e38_f32), (0, 9, -1.5e38), (1, 5, 1.6e38), (2, 0, 1.0)] {
        bytes[data + row * 64 + entry * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }
    fs::write(&path, bytes).unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    let query = Query::new(&collection, &[2.0; 16], Metric::InnerProduct).unwrap();
    let found = collection.search(&query, Options::nearest(3));
    assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [1, 0, 2], "{found:?}");
    assert_eq!(collection.search_rows(&query, &[0, 1, 2], Options::nearest(3)).unwrap(), found);
    for all in collection.search_all(&[query.clone(), query], Options::nearest(3)) {
        assert_eq!(all, found);
    }
}
