//! The index in a file beside a collection: what it finds, what it never finds, and what damage does to it.

use std::fs;
use std::path::PathBuf;

use vexfs_search::npy::Header;
use vexfs_search::stored::{self, Effort, Sample};
use vexfs_search::{Collection, Element, Hit, Metric, Options, Query, RowSet, StoredIndex, half};

const DIMENSIONS: usize = 40;
const ROWS: usize = 2500;

struct Random(u64);

impl Random {
    fn value(&mut self) -> f32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// A collection's files, as the control directory shows them; number 0 is a free row.
struct Made {
    directory: PathBuf,
    element: Element,
    metric: Metric,
    vectors: Vec<Vec<f32>>,
    ids: Vec<u64>,
    generation: u64,
}

impl Made {
    fn new(name: &str, element: Element, metric: Metric) -> Self {
        let directory =
            std::env::temp_dir().join(format!("vexfs_search-stored-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join(stored::DIRECTORY)).unwrap();
        let mut random = Random(77);
        let centres: Vec<Vec<f32>> =
            (0..30).map(|_| (0..DIMENSIONS).map(|_| random.value()).collect()).collect();
        let vector = |row: usize| {
            let near = |value: &f32| ((value + random.value() * 0.5) * 50.0).round();
            centres[row % centres.len()].iter().map(near).collect()
        };
        let vectors = (0..ROWS).map(vector).collect();
        let ids = (0..ROWS as u64).map(|row| if row % 11 == 5 { 0 } else { row + 1 }).collect();
        let mut made = Self { directory, element, metric, vectors, ids, generation: 0 };
        made.write();
        made
    }

    fn write(&mut self) {
        self.generation += 1;
        let rows = self.vectors.len();
        let live = self.ids.iter().filter(|id| **id != 0).count();
        let (element, metric) = (self.element.name(), self.metric.name());
        let schema = format!(
            "{{\"dimension\":{DIMENSIONS},\"element\":\"{element}\",\"metric\":\"{metric}\",\"codec\":\"none\",\
             \"rows\":{rows},\"live\":{live},\"generation\":{}}}",
            self.generation
        );
        let stride = self.element.bytes(DIMENSIONS).next_multiple_of(64);
        let (mut data, mut headers) = (Vec::new(), Vec::new());
        for (row, (vector, id)) in self.vectors.iter().zip(&self.ids).enumerate() {
            for value in vector {
                match self.element {
                    Element::F16 => data.extend(half::from_f32(*value).to_le_bytes()),
                    Element::I8 => data.extend((*value as i8).to_le_bytes()),
                    _ => data.extend(value.to_le_bytes()),
                }
            }
            data.resize((row + 1) * stride, 0);
            headers.extend([0; 8]);
            headers.extend(id.to_le_bytes());
            headers.resize((row + 1) * 64, 0);
        }
        let file = |name: &str, descr: &str, shape: &[u64], data: Vec<u8>| {
            fs::write(self.directory.join(name), [Header::render(descr, shape), data].concat()).unwrap();
        };
        let columns = (stride / self.element.width()) as u64;
        file("vectors.npy", self.element.descr(), &[rows as u64, columns], data);
        file("headers.npy", "|V64", &[rows as u64], headers);
        let valid = self.ids.iter().map(|id| u8::from(*id != 0)).collect();
        file("valid.npy", "|b1", &[rows as u64], valid);
        fs::write(self.directory.join("schema.json"), schema).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.directory.join(stored::DIRECTORY).join(stored::FILE)
    }

    fn build(&self) -> Vec<u8> {
        let built = stored::build(&self.directory, &mut |_, _, _| {}).unwrap();
        assert_eq!(built.rows, self.ids.iter().filter(|id| **id != 0).count() as u64);
        fs::write(self.file(), &built.bytes).unwrap();
        built.bytes
    }

    fn query(&self, collection: &Collection, row: usize) -> Query {
        Query::new(collection, &self.vectors[row], self.metric).unwrap()
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn everything(index: &StoredIndex) -> Effort {
    Effort::unmeasured(index.leaves(), ROWS)
}

fn answer(made: &Made, row: usize, options: Options<'_>, effort: Option<Effort>) -> (Vec<Hit>, Vec<Hit>) {
    let collection = Collection::open(&made.directory).unwrap();
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    let delta = index.delta(&collection).unwrap();
    let query = made.query(&collection, row);
    let effort = effort.unwrap_or(everything(&index));
    let found = index.search(&collection, &query, options, &delta, &effort).unwrap();
    (found.hits, collection.search(&query, options))
}

#[test]
fn with_all_leaves_the_answer_is_the_exact_one() {
    let kinds = [
        (Element::F32, Metric::Cosine),
        (Element::F32, Metric::L2),
        (Element::F32, Metric::InnerProduct),
        (Element::F16, Metric::L2),
        (Element::I8, Metric::Cosine),
    ];
    for (element, metric) in kinds {
        let made = Made::new(&format!("all-{}-{}", element.name(), metric.name()), element, metric);
        made.build();
        for row in [0, 7, 1234, 2499] {
            for k in [1, 10, 300, ROWS] {
                let (found, exact) = answer(&made, row, Options::nearest(k), None);
                assert_eq!(found, exact, "{element:?} {metric:?} row {row} k {k}");
            }
        }
    }
}

#[test]
fn what_a_sweep_measures_holds_for_other_queries() {
    let made = Made::new("recall", Element::F32, Metric::Cosine);
    made.build();
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    let effort = index.efforts().iter().find(|effort| effort.low >= 0.95).copied().unwrap();
    assert!(index.efforts().windows(2).all(|two| two[0].low < two[1].low));
    let others = Sample::take(&collection, 300, 10, 5).unwrap();
    let measured = others.measure(&index, &collection, &Default::default(), effort).unwrap();
    assert_eq!(measured.queries, 300);
    assert!(measured.recall >= 0.93 && measured.low <= measured.recall, "{measured:?}");
    // One leaf and its best alone find less: the measure can tell.
    let little = others.measure(&index, &collection, &Default::default(), Effort::unmeasured(1, 1)).unwrap();
    assert!(little.recall < measured.recall, "{little:?}");
}

#[test]
fn changes_since_it_was_built_are_searched_exactly() {
    let mut made = Made::new("changes", Element::F32, Metric::L2);
    made.build();
    // Row 40 is set anew, row 80 removed, row 5 (free until now) set, row 100 moves to row 16, and rows are added.
    let far = vec![900.0; DIMENSIONS];
    (made.vectors[40], made.ids[40]) = (far.clone(), 10_000);
    made.ids[80] = 0;
    (made.vectors[5], made.ids[5]) = (far.clone(), 10_001);
    (made.vectors[16], made.ids[16]) = (made.vectors[100].clone(), made.ids[100]);
    made.ids[100] = 0;
    for number in 0..3 {
        made.vectors.push(far.clone());
        made.ids.push(10_002 + number);
    }
    made.write();
    let least = Some(Effort::unmeasured(1, 1));
    let (found, exact) = answer(&made, 40, Options::nearest(5), least);
    assert_eq!(found, exact);
    assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [5, 40, 2500, 2501, 2502]);
    for row in [80, 100, 7] {
        for k in [1, 50, 3000] {
            let (found, exact) = answer(&made, row, Options::nearest(k), None);
            assert_eq!(found, exact, "row {row} k {k}");
            assert!(found.iter().all(|hit| hit.row != 80 && hit.row != 100));
        }
    }

    // Brought up to date, nothing is left to compare, and the answers are the same.
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    let before = index.delta(&collection).unwrap();
    assert_eq!((before.changed(), before.gone()), (6, 3));
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    fs::write(made.file(), &built.bytes).unwrap();
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    assert_eq!(index.generation(), made.generation);
    assert!(index.delta(&collection).unwrap().is_empty());
    let (found, exact) = answer(&made, 40, Options::nearest(3000), None);
    assert_eq!(found, exact);
}

#[test]
fn leaves_are_split_and_emptied_by_updates() {
    let mut made = Made::new("splits", Element::F32, Metric::Cosine);
    made.build();
    let leaves = StoredIndex::open(&made.directory).unwrap().unwrap().leaves();
    for number in 0..1500_u64 {
        let mut vector = made.vectors[60].clone();
        vector[number as usize % DIMENSIONS] += 1.0 + number as f32 / 100.0;
        made.vectors.push(vector);
        made.ids.push(20_000 + number);
    }
    made.write();
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    assert!(built.leaves > leaves);
    fs::write(made.file(), &built.bytes).unwrap();
    let (found, exact) = answer(&made, 60, Options::nearest(100), None);
    assert_eq!(found, exact);
    made.ids.iter_mut().skip(3).for_each(|id| *id = 0);
    made.write();
    let index = StoredIndex::open(&made.directory).unwrap().unwrap();
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    assert_eq!(built.rows, 3);
    assert!(built.leaves <= 3);
}

#[test]
fn filters_never_starve_k() {
    let made = Made::new("filters", Element::F32, Metric::Cosine);
    made.build();
    for step in [1, 10, 200, 2000] {
        let rows: RowSet = (0..ROWS).step_by(step).collect();
        let options = Options { rows: Some(&rows), ..Options::nearest(10) };
        let (found, exact) = answer(&made, 3, options, Some(Effort::unmeasured(1, 4)));
        assert_eq!(found.len(), exact.len(), "every {step}th row");
        assert!(found.iter().all(|hit| rows.contains(hit.row as usize)));
    }
}

#[test]
fn damage_of_any_byte_is_told_and_never_believed() {
    let made = Made::new("damage", Element::F32, Metric::L2);
    let bytes = made.build();
    let collection = Collection::open(&made.directory).unwrap();
    let query = made.query(&collection, 9);
    let exact = collection.search(&query, Options::nearest(20));
    let try_it = |bytes: &[u8]| {
        fs::write(made.file(), bytes).unwrap();
        let index = StoredIndex::open(&made.directory)?.expect("there is one");
        let delta = index.delta(&collection)?;
        index.search(&collection, &query, Options::nearest(20), &delta, &everything(&index))
    };
    assert_eq!(try_it(&bytes).unwrap().hits, exact);
    let mut damaged = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 700).chain(0..200) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (at % 8);
        // All leaves are read: each byte is one that counts.
        let told = try_it(&wrong).expect_err("a flipped bit").to_string();
        assert!(told.contains("vexfs index") || told.contains("another collection"), "{told}");
        damaged += 1;
    }
    assert!(damaged >= 800);
    for len in [0, 1, 100, 136, bytes.len() / 3, bytes.len() - 1] {
        assert!(try_it(&bytes[..len]).is_err(), "cut off at {len}");
    }
    let other = Made::new("damage-other", Element::F32, Metric::L2);
    fs::write(other.file(), &bytes).unwrap();
    let told = StoredIndex::open(&other.directory).unwrap_err().to_string();
    assert!(told.contains("of another collection"), "{told}");
    fs::remove_file(other.file()).unwrap();
    assert!(StoredIndex::open(&other.directory).unwrap().is_none());
}

#[test]
fn what_cannot_be_indexed_is_told() {
    let mut made = Made::new("empty", Element::F32, Metric::L2);
    made.ids.fill(0);
    made.write();
    let told = stored::build(&made.directory, &mut |_, _, _| {}).err().unwrap().to_string();
    assert!(told.contains("empty"), "{told}");
    let text = fs::read_to_string(made.directory.join("schema.json")).unwrap();
    fs::write(made.directory.join("schema.json"), text.replace("\"f32\"", "\"bit\"")).unwrap();
    assert!(stored::build(&made.directory, &mut |_, _, _| {}).is_err());
}
