//! The index in a file beside a collection: what it finds, what it never finds, and what damage does to it.

use std::fs;
use std::path::PathBuf;

use vexfs_search::npy::Header;
use vexfs_search::stored::{self, Effort, Kind, ReadAt, Sample, Summary};
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

    fn file(&self, kind: Kind) -> PathBuf {
        self.directory.join(stored::DIRECTORY).join(kind.name())
    }

    fn build(&self, kind: Kind) -> Vec<u8> {
        let built = stored::build(&self.directory, kind, &mut |_, _, _| {}).unwrap();
        assert_eq!(built.rows, self.ids.iter().filter(|id| **id != 0).count() as u64);
        fs::write(self.file(kind), &built.bytes).unwrap();
        built.bytes
    }

    fn open(&self, kind: Kind) -> StoredIndex {
        StoredIndex::open(&self.directory, kind).unwrap().unwrap()
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

fn answer(
    made: &Made,
    kind: Kind,
    row: usize,
    options: Options<'_>,
    effort: Option<Effort>,
) -> (Vec<Hit>, Vec<Hit>) {
    let collection = Collection::open(&made.directory).unwrap();
    let index = made.open(kind);
    let delta = index.delta(&collection).unwrap();
    let query = made.query(&collection, row);
    let effort = effort.unwrap_or(everything(&index));
    let found = index.search(&collection, &query, options, &delta, &effort).unwrap();
    (found.hits, collection.search(&query, options))
}

const CLUSTERED: Kind = Kind::Clustered;
/// Bytes of a row's record in a scan's file: half a byte a dimension, two floats and a checksum.
const RECORD: usize = DIMENSIONS / 2 + 12;

// Bytes of a scan's leaf by L2, which ends its file: three words a row, and blocks of 64 codes.
fn leaf_len() -> usize {
    let rows = (0..ROWS).filter(|row| row % 11 != 5).count();
    12 * rows + rows.next_multiple_of(64) * DIMENSIONS / 8
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
        for kind in Kind::ALL {
            made.build(kind);
            for row in [0, 7, 1234, 2499] {
                for k in [1, 10, 300, ROWS] {
                    let (found, exact) = answer(&made, kind, row, Options::nearest(k), None);
                    assert_eq!(found, exact, "{kind:?} {element:?} {metric:?} row {row} k {k}");
                }
            }
        }
    }
}

#[test]
fn four_bits_choose_nearly_what_whole_vectors_would() {
    for (element, metric) in [
        (Element::F32, Metric::Cosine),
        (Element::F32, Metric::L2),
        (Element::F32, Metric::InnerProduct),
        (Element::I8, Metric::L2),
    ] {
        let made = Made::new(&format!("bits-{}-{}", element.name(), metric.name()), element, metric);
        made.build(Kind::Scan);
        let collection = Collection::open(&made.directory).unwrap();
        let (index, mut loaded) = (made.open(Kind::Scan), made.open(Kind::Scan));
        loaded.load().unwrap();
        let mut found = [0; 3];
        for row in (0..ROWS).step_by(25) {
            let query = made.query(&collection, row);
            let exact = collection.search(&query, Options::nearest(10));
            // All by one bit alone, by four bits, and the same with what was loaded.
            let efforts =
                [Effort::unmeasured(1, 2), Effort::refined(1, ROWS, 2), Effort::refined(1, ROWS, 2)];
            for ((found, effort), index) in found.iter_mut().zip(efforts).zip([&index, &index, &loaded]) {
                let none = Default::default();
                let answer = index.search(&collection, &query, Options::nearest(10), &none, &effort).unwrap();
                assert_eq!((answer.hits.len(), answer.candidates, answer.leaves), (10, 20, 1));
                *found += answer.hits.iter().filter(|hit| exact.contains(hit)).count();
            }
        }
        let [one, four, again] = found;
        assert_eq!(four, again);
        assert!(four >= 985 && one < four, "{element:?} {metric:?}: {found:?} of 1000");
    }
}

#[test]
fn what_a_sweep_measures_holds_for_other_queries() {
    let made = Made::new("recall", Element::F32, Metric::Cosine);
    for kind in Kind::ALL {
        made.build(kind);
        let index = made.open(kind);
        let collection = Collection::open(&made.directory).unwrap();
        let effort = index.efforts().iter().find(|effort| effort.low >= 0.95).copied().unwrap();
        assert!(index.efforts().windows(2).all(|two| two[0].low < two[1].low));
        assert!(effort.ns > 0 && index.exact_ns() > 0 && index.open_ns() > 0);
        let others = Sample::take(&collection, 300, 10, 5).unwrap();
        let measured = others.measure(&index, &collection, &Default::default(), effort).unwrap();
        assert_eq!(measured.queries, 300);
        assert!(measured.recall >= 0.93 && measured.low <= measured.recall, "{kind:?} {measured:?}");
        // One leaf and its best alone find less: the measure can tell.
        let little = Effort::unmeasured(1, 1);
        let little = others.measure(&index, &collection, &Default::default(), little).unwrap();
        assert!(little.recall < measured.recall, "{kind:?} {little:?}");
    }
}

#[test]
fn changes_since_it_was_built_are_searched_exactly() {
    Kind::ALL.into_iter().for_each(changes_are_searched_exactly);
}

fn changes_are_searched_exactly(kind: Kind) {
    let mut made = Made::new(&format!("changes-{}", kind.name()), Element::F32, Metric::L2);
    made.build(kind);
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
    let (found, exact) = answer(&made, kind, 40, Options::nearest(5), least);
    assert_eq!(found, exact);
    assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [5, 40, 2500, 2501, 2502]);
    for row in [80, 100, 7] {
        for k in [1, 50, 3000] {
            let (found, exact) = answer(&made, kind, row, Options::nearest(k), None);
            assert_eq!(found, exact, "row {row} k {k}");
            assert!(found.iter().all(|hit| hit.row != 80 && hit.row != 100));
        }
    }

    // Brought up to date, nothing is left to compare, and the answers are the same.
    let index = made.open(kind);
    let collection = Collection::open(&made.directory).unwrap();
    let before = index.delta(&collection).unwrap();
    assert_eq!((before.changed(), before.gone()), (6, 3));
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    fs::write(made.file(kind), &built.bytes).unwrap();
    let index = made.open(kind);
    assert_eq!(index.generation(), made.generation);
    assert!(index.delta(&collection).unwrap().is_empty());
    let (found, exact) = answer(&made, kind, 40, Options::nearest(3000), None);
    assert_eq!(found, exact);
}

#[test]
fn leaves_are_split_and_emptied_by_updates() {
    let mut made = Made::new("splits", Element::F32, Metric::Cosine);
    made.build(CLUSTERED);
    let leaves = made.open(CLUSTERED).leaves();
    for number in 0..1500_u64 {
        let mut vector = made.vectors[60].clone();
        vector[number as usize % DIMENSIONS] += 1.0 + number as f32 / 100.0;
        made.vectors.push(vector);
        made.ids.push(20_000 + number);
    }
    made.write();
    let index = made.open(CLUSTERED);
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    assert!(built.leaves > leaves);
    fs::write(made.file(CLUSTERED), &built.bytes).unwrap();
    let (found, exact) = answer(&made, CLUSTERED, 60, Options::nearest(100), None);
    assert_eq!(found, exact);
    made.ids.iter_mut().skip(3).for_each(|id| *id = 0);
    made.write();
    let index = made.open(CLUSTERED);
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    assert_eq!(built.rows, 3);
    assert!(built.leaves <= 3);
}

#[test]
fn equal_vectors_are_all_found() {
    let mut made = Made::new("equal", Element::F32, Metric::Cosine);
    // 120 rows are row 3, in other lengths, which is the same to the cosine; and 20 are nothing but zeros.
    for row in (20..260).filter(|row| row % 2 == 0) {
        made.vectors[row] = made.vectors[3].iter().map(|value| value * (1 + row % 3) as f32).collect();
    }
    made.vectors[300..320].fill(vec![0.0; DIMENSIONS]);
    made.write();
    for kind in Kind::ALL {
        made.build(kind);
        for k in [1, 50, 110] {
            let effort = Some(Effort::refined(made.open(kind).leaves().max(1), 4, 4));
            let (found, exact) = answer(&made, kind, 3, Options::nearest(k), effort);
            let scores = |hits: &[Hit]| hits.iter().map(|hit| hit.score).collect::<Vec<_>>();
            assert_eq!(scores(&found), scores(&exact), "{kind:?} k {k}");
        }
    }
}

#[test]
fn a_graph_takes_in_and_gives_up_rows() {
    let graph = Kind::Graph;
    let mut made = Made::new("grown", Element::F32, Metric::L2);
    made.build(graph);
    // A third of the rows goes, one stays of some that are equal, and as many come: near to others, far away, and equal.
    (0..ROWS).filter(|row| row % 3 == 1).for_each(|row| made.ids[row] = 0);
    for number in 0..700_u64 {
        let mut vector = made.vectors[number as usize * 3].clone();
        vector[number as usize % DIMENSIONS] += [0.0, 3.0, 400.0][number as usize % 3];
        made.vectors.push(vector);
        made.ids.push(20_000 + number);
    }
    made.write();
    let index = made.open(graph);
    let built = stored::update(&index, &made.directory, &mut |_, _, _| {}).unwrap();
    assert_eq!(built.rows, made.ids.iter().filter(|id| **id != 0).count() as u64);
    fs::write(made.file(graph), &built.bytes).unwrap();
    let collection = Collection::open(&made.directory).unwrap();
    assert!(made.open(graph).delta(&collection).unwrap().is_empty());
    let sample = Sample::take(&collection, 200, 10, 7).unwrap();
    let index = made.open(graph);
    let found = sample.measure(&index, &collection, &Default::default(), Effort::refined(1, 8, 4)).unwrap();
    assert!(found.recall > 0.98, "{found:?}");
    // All but three go.
    made.ids.iter_mut().skip(3).for_each(|id| *id = 0);
    made.write();
    let built = stored::update(&made.open(graph), &made.directory, &mut |_, _, _| {}).unwrap();
    assert_eq!(built.rows, made.ids.iter().filter(|id| **id != 0).count() as u64);
    fs::write(made.file(graph), &built.bytes).unwrap();
    let (found, exact) = answer(&made, graph, 0, Options::nearest(10), Some(Effort::unmeasured(1, 1)));
    assert_eq!(found, exact);
}

#[test]
fn filters_never_starve_k() {
    let made = Made::new("filters", Element::F32, Metric::Cosine);
    // From every row to one of 2,500, which is 0.04 %, and to none.
    let steps = [1, 2, 10, 100, 500, 1000, ROWS].map(|step| (0..ROWS).step_by(step).collect());
    for kind in Kind::ALL {
        made.build(kind);
        for rows in steps.iter().chain([&RowSet::default(), &[5].into_iter().collect()]) {
            for k in [1, 10, 1000] {
                let options = Options { rows: Some(rows), ..Options::nearest(k) };
                let (found, exact) = answer(&made, kind, 3, options, Some(Effort::unmeasured(1, 1)));
                assert_eq!(found.len(), exact.len(), "{kind:?} {} rows, k {k}", rows.len());
                assert!(found.iter().all(|hit| rows.contains(hit.row as usize)));
            }
        }
    }
}

#[test]
fn damage_of_any_byte_is_told_and_never_believed() {
    Kind::ALL.into_iter().for_each(damage_is_told);
}

fn damage_is_told(kind: Kind) {
    let made = Made::new(&format!("damage-{}", kind.name()), Element::F32, Metric::L2);
    let bytes = made.build(kind);
    let collection = Collection::open(&made.directory).unwrap();
    let query = made.query(&collection, 9);
    let exact = collection.search(&query, Options::nearest(20));
    let try_it = |bytes: &[u8]| {
        fs::write(made.file(kind), bytes).unwrap();
        let index = StoredIndex::open(&made.directory, kind)?.expect("there is one");
        let delta = index.delta(&collection)?;
        // Every record is read; what they choose is all, too.
        let effort = Effort::refined(index.leaves(), ROWS, 110);
        let answer = index.search(&collection, &query, Options::nearest(20), &delta, &effort)?;
        assert_eq!(answer.hits, exact);
        Ok::<_, vexfs_search::Error>(())
    };
    try_it(&bytes).unwrap();
    let records = if kind == Kind::Scan { bytes.len() - leaf_len() - ROWS * RECORD } else { usize::MAX };
    let mut damaged = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 700).chain(0..200) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << (at % 8);
        // A free row has a record that nothing reads.
        let record = at.checked_sub(records).map(|at| at / RECORD);
        if record.is_some_and(|row| made.ids.get(row) == Some(&0)) {
            continue;
        }
        // All leaves are read: each byte is one that counts.
        let told = try_it(&wrong).expect_err("a flipped bit").to_string();
        assert!(told.contains("vexfs index") || told.contains("another collection"), "{told}");
        damaged += 1;
    }
    assert!(damaged >= 750);
    for len in [0, 1, 100, 152, bytes.len() / 3, bytes.len() - 1] {
        assert!(try_it(&bytes[..len]).is_err(), "cut off at {len}");
    }
    let other = Made::new(&format!("damage-other-{}", kind.name()), Element::F32, Metric::L2);
    fs::write(other.file(kind), &bytes).unwrap();
    let told = StoredIndex::open(&other.directory, kind).unwrap_err().to_string();
    assert!(told.contains("of another collection"), "{told}");
    fs::remove_file(other.file(kind)).unwrap();
    assert!(StoredIndex::open(&other.directory, kind).unwrap().is_none());
}

/// A host's own way to the bytes of a file.
struct InHand(Vec<u8>);

impl ReadAt for InHand {
    fn size(&self) -> std::io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_into(&self, at: u64, bytes: &mut [u8]) -> std::io::Result<()> {
        let there = self.0.get(at as usize..at as usize + bytes.len());
        bytes.copy_from_slice(there.ok_or(std::io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[test]
fn a_host_that_reads_the_file_itself_finds_the_same() {
    for kind in Kind::ALL {
        let mut made = Made::new(&format!("host-{}", kind.name()), Element::F32, Metric::L2);
        let bytes = InHand(made.build(kind));
        let path = PathBuf::from("index");
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&made.directory).unwrap());
        let owner = (kind, stored::identity_of([0; 16], inode));
        let summary = Summary::read(path.clone(), &bytes, owner).unwrap();
        let opened = made.open(kind);
        assert_eq!((summary.rows, summary.efforts.as_slice()), (opened.len(), opened.efforts()));
        assert!(Summary::read(path.clone(), &bytes, (kind, stored::identity_of([1; 16], inode))).is_err());
        let taken = StoredIndex::take(path.clone(), &bytes).unwrap();
        assert!(taken.memory_bytes() < bytes.0.len() + bytes.0.len() / 8);
        // A row is set anew, one goes, one comes back.
        (made.ids[3], made.ids[4], made.ids[5]) = (90_000, 0, 90_001);
        made.write();
        let collection = Collection::open(&made.directory).unwrap();
        let mut comparison = taken.comparison().unwrap();
        let live = made.ids.iter().enumerate().filter(|(_, id)| **id != 0);
        live.for_each(|(row, id)| comparison.row(row as u64, *id));
        let (delta, told) = (comparison.finish(), opened.delta(&collection).unwrap());
        assert_eq!((delta.changed(), delta.gone()), (told.changed(), told.gone()));
        for row in [3, 5, 40] {
            let query = made.query(&collection, row);
            for effort in taken.efforts() {
                let candidates = taken.candidates(&query, 10, &delta, effort).unwrap();
                let options = Options::nearest(10);
                let hits = collection.search_rows(&query, &candidates.rows, options).unwrap();
                assert_eq!(hits, opened.search(&collection, &query, options, &told, effort).unwrap().hits);
                assert!(candidates.rows.contains(&3) && candidates.rows.contains(&5));
            }
        }
        assert!(StoredIndex::take(path, &InHand(bytes.0[..bytes.0.len() - 1].to_vec())).is_err());
    }
}

// A file of a million leaves in one place would make each search read that place a million times.
#[test]
fn leaves_in_one_place_are_refused() {
    let made = Made::new("shared", Element::F32, Metric::L2);
    let mut bytes = made.build(CLUSTERED);
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let (leaves, efforts) = (number(&bytes, 96) as usize, number(&bytes, 104) as usize);
    let table = 192..192 + leaves * (24 + 4 * DIMENSIONS) + efforts * 56;
    // In each leaf as many rows as the file has bytes for.
    let count = (bytes.len() - table.end) / (12 + DIMENSIONS / 8) / 64 * 64;
    let place = [table.end as u64, count as u64, 0].map(u64::to_le_bytes).concat();
    (0..leaves).for_each(|leaf| bytes[192 + 24 * leaf..][..24].copy_from_slice(&place));
    let sum = crc32fast::hash(&bytes[table]);
    bytes[136..140].copy_from_slice(&sum.to_le_bytes());
    let sum = u64::from(crc32fast::hash(&bytes[8..184]));
    bytes[184..192].copy_from_slice(&sum.to_le_bytes());
    fs::write(made.file(CLUSTERED), &bytes).unwrap();
    let told = StoredIndex::open(&made.directory, CLUSTERED).unwrap_err().to_string();
    assert!(leaves > 1 && told.contains("contradicts itself"), "{told}");
}

#[test]
fn what_cannot_be_indexed_is_told() {
    let mut made = Made::new("empty", Element::F32, Metric::L2);
    made.ids.fill(0);
    made.write();
    let told = stored::build(&made.directory, CLUSTERED, &mut |_, _, _| {}).err().unwrap().to_string();
    assert!(told.contains("empty"), "{told}");
    let text = fs::read_to_string(made.directory.join("schema.json")).unwrap();
    fs::write(made.directory.join("schema.json"), text.replace("\"f32\"", "\"bit\"")).unwrap();
    for kind in Kind::ALL {
        assert!(stored::build(&made.directory, kind, &mut |_, _, _| {}).is_err());
    }
}
