//! Searches over rows of a codebook against the same rows read back.

use std::fs;
use std::path::PathBuf;

use vexfs_search::codec::pq::{Codebook, Shape, Training, train};
use vexfs_search::npy::Header;
use vexfs_search::{Collection, Element, Hit, Metric, Options, Query, RowSet};

const DIMENSIONS: usize = 48;
const ROWS: usize = 5000;

struct Random(u64);

impl Random {
    fn value(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn vector(&mut self) -> Vec<f32> {
        (0..DIMENSIONS).map(|_| self.value()).collect()
    }
}

/// A directory with a collection, removed at the end.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Made {
    fn new(name: &str, element: Element, vectors: &[f32], codebook: &Codebook) -> Self {
        let directory = std::env::temp_dir().join(format!("vexfs-quantized-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let Shape { subvectors, sub_dimensions, bits } = codebook.shape();
        let schema = serde_json::json!({
            "dimension": DIMENSIONS, "element": element.name(), "codec": "pq", "metric": "cosine", "model": "",
            "rows": ROWS, "live": ROWS, "generation": 1, "matrix": 1,
            "codebook": {"subvectors": subvectors, "bits": bits},
        });
        fs::write(directory.join("schema.json"), schema.to_string()).unwrap();
        let mut rows = vec![0; ROWS * 64];
        codebook.encode(vectors, &mut rows, 64);
        let write = |file: &str, descr: &str, shape: &[u64], data: &[u8]| {
            let bytes = [&Header::render(descr, shape)[..], data].concat();
            fs::write(directory.join(file), bytes).unwrap();
        };
        let count = ROWS as u64;
        write("vectors.npy", "|u1", &[count, 64], &rows);
        // Some rows are free.
        let valid: Vec<u8> = (0..ROWS).map(|row| u8::from(row % 11 != 4)).collect();
        write("valid.npy", "|b1", &[count], &valid);
        let headers: Vec<u8> = (0..ROWS as u64)
            .flat_map(|row| {
                let mut header = [0; 64];
                header[8..16].copy_from_slice(&(row + 1).to_le_bytes());
                header[16..24].copy_from_slice(&(row + 100).to_le_bytes());
                header
            })
            .collect();
        write("headers.npy", "[('header', '|V64')]", &[count], &headers);
        let shape = [subvectors as u64, 1 << bits, sub_dimensions as u64];
        write("codebook.npy", "<f4", &shape, &codebook.to_bytes());
        Self(directory)
    }
}

fn bits_of(hits: &[Hit]) -> Vec<(u64, u32)> {
    hits.iter().map(|hit| (hit.row, hit.score.to_bits())).collect()
}

#[test]
fn tables_rule_out_no_row_that_is_among_the_best() {
    let mut random = Random(77);
    let mut vectors: Vec<f32> = (0..ROWS).flat_map(|_| random.vector()).collect();
    // Rows that are equal, rows of zeros, and large ones.
    vectors.copy_within(0..100 * DIMENSIONS, 3000 * DIMENSIONS);
    vectors[200 * DIMENSIONS..210 * DIMENSIONS].fill(0.0);
    vectors[300 * DIMENSIONS..310 * DIMENSIONS].iter_mut().for_each(|value| *value *= 50.0);
    for (parts, bits, element) in [
        (12, 8, Element::F32),
        (3, 4, Element::F32),
        (16, 4, Element::F32),
        (6, 8, Element::F16),
        (48, 8, Element::F32),
    ] {
        let Ok(shape) = Shape::cutting(DIMENSIONS, parts, bits) else { continue };
        let training = Training { iterations: 4, ..Training::default() };
        let codebook = train(&vectors, shape, &training, &|| {}).unwrap();
        let made = Made::new(&format!("{parts}x{bits}"), element, &vectors, &codebook);
        let collection = Collection::open(&made.0).unwrap();
        let some: RowSet = (0..ROWS).filter(|row| row % 3 == 1).collect();
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
            for scale in [1.0, 1e-12, 1e15] {
                let values: Vec<f32> = random.vector().into_iter().map(|value| value * scale).collect();
                let query = Query::new(&collection, &values, metric).unwrap();
                for (threads, rows) in [(1, None), (0, None), (1, Some(&some))] {
                    let few = Options { threads, rows, ..Options::nearest(10) };
                    // So many are wanted that every row is read back.
                    let all = Options { k: ROWS, ..few };
                    let expected = collection.search(&query, all);
                    assert!(expected.len() > ROWS / 4, "{}", expected.len());
                    let found = collection.search(&query, few);
                    assert_eq!(
                        bits_of(&found),
                        bits_of(&expected[..10]),
                        "{parts}x{bits} {metric:?} x {scale}"
                    );
                }
            }
        }
    }
}

#[test]
fn files_that_do_not_fit_together_are_refused() {
    let mut random = Random(5);
    let vectors: Vec<f32> = (0..ROWS).flat_map(|_| random.vector()).collect();
    let shape = Shape::cutting(DIMENSIONS, 12, 4).unwrap();
    let codebook =
        train(&vectors, shape, &Training { iterations: 1, ..Training::default() }, &|| {}).unwrap();
    let made = Made::new("misfits", Element::F32, &vectors, &codebook);
    assert!(Collection::open(&made.0).is_ok());
    let other = Codebook::new(Shape { sub_dimensions: 3, ..shape }, vec![0.5; 12 * 16 * 3]).unwrap();
    let bytes = [Header::render("<f4", &[12, 16, 3]), other.to_bytes()].concat();
    fs::write(made.0.join("codebook.npy"), bytes).unwrap();
    let refused = Collection::open(&made.0).unwrap_err().to_string();
    assert!(refused.contains("not of vectors of 48 dimensions"), "{refused}");
    fs::remove_file(made.0.join("codebook.npy")).unwrap();
    assert!(Collection::open(&made.0).is_err());
}
