//! What a reader of a mapping may believe: a row that is in use is never on the page of a free one.
//!
//! The kernel keeps pages of a matrix until it is told of a change; whether a row is in use it may hear at any moment
//! after the volume changed. So each change is followed by the reader's look before anything is told.

use std::collections::BTreeMap;

use vexfs_core::checksum::crc32;
use vexfs_core::device::Direct;
use vexfs_core::format::{FileKind, MATRIX_DATA, ROOT, collection_matrix};
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::operations::{Batch, Caller, NewInode, NewVector, SetMode, StagedBatch};
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_tests::check::check_clean;
use vexfs_tests::random::Random;
use vexfs_tests::sim::{SimDevice, format};

const NOW: Time = Time { seconds: 1_800_000_000, nanoseconds: 0 };
const NAME: &[u8] = b"user.vector.things";
const LEN: usize = 384;
const FILES: usize = 40;
const PAGE: u64 = 4096;

fn root() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

/// True if the planted bug keeps vectors from being staged.
fn unstaged() -> bool {
    std::env::var("VEXFS_BUG").is_ok_and(|bug| bug == "vector_before_told")
}

/// A volume with a collection, and the pages of its matrix as the kernel has them.
struct Host {
    device: SimDevice,
    volume: Volume<Direct<SimDevice>>,
    files: Vec<Ino>,
    cached: BTreeMap<u64, Vec<u8>>,
    looks: u64,
}

impl Host {
    fn new() -> Self {
        let device = SimDevice::new(8 << 20);
        format(&device, 4096).expect("formats");
        let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
        let new =
            NewInode { kind: FileKind::Regular, permissions: 0o644, umask: 0, uid: 0, gid: 0, device: 0 };
        let create = |index: usize| {
            let name = format!("f{index}");
            volume.create(ROOT, name.as_bytes(), &new, NOW).expect("creates").inode
        };
        let files: Vec<Ino> = (0..FILES).map(create).collect();
        let mut host = Self { device, volume, files, cached: BTreeMap::new(), looks: 0 };
        // The first vector makes the collection, which nobody has a page of.
        host.volume.set_attribute(host.files[0], NAME, &[1; LEN], SetMode::Any, &root(), NOW).expect("sets");
        host.tell();
        host
    }

    fn id(&self) -> CollectionId {
        self.volume.collection_by_name(b"things").expect("is there").id
    }

    fn page(&self, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE as usize];
        self.volume.read(collection_matrix(self.id()), number * PAGE, &mut bytes).expect("reads");
        bytes
    }

    /// The kernel hears of everything, and a reader has the pages anew at once; of new ones, too.
    fn tell(&mut self) {
        let matrix = collection_matrix(self.id());
        for event in self.volume.events() {
            if event.inode == matrix && event.len > 0 {
                let last = (event.offset + event.len - 1) / PAGE;
                (event.offset / PAGE..=last).for_each(|page| drop(self.cached.remove(&page)));
            }
        }
        for page in 0..self.volume.attributes(matrix).expect("attributes").size / PAGE {
            if !self.cached.contains_key(&page) {
                self.cached.insert(page, self.page(page));
            }
        }
    }

    /// Every row in use must have its bytes on the pages that the reader has.
    fn look(&mut self, after: &str) {
        self.looks += 1;
        let mut wrong = Vec::new();
        self.volume
            .rows_of(self.id(), 0, &mut |row, record| {
                let bytes: Vec<u8> = (0..LEN as u64)
                    .map(|at| MATRIX_DATA + row * LEN as u64 + at)
                    .map(|at| self.cached.get(&(at / PAGE)).map_or(0, |page| page[(at % PAGE) as usize]))
                    .collect();
                if crc32(&bytes) != record.header.checksum.get() {
                    wrong.push(row);
                }
                true
            })
            .expect("rows");
        assert!(wrong.is_empty(), "after {after}: rows {wrong:?} are in use on pages of free ones");
    }

    fn stage(&mut self, file: usize, value: u8) -> bool {
        let staged = self.volume.stage_vector(self.files[file], NAME, &[value; LEN], &root(), NOW);
        self.look("the bytes of a vector were put into its row");
        self.tell();
        staged.expect("stages")
    }

    fn put(&mut self, file: usize, value: u8) {
        let inode = self.files[file];
        self.volume.set_attribute(inode, NAME, &[value; LEN], SetMode::Any, &root(), NOW).expect("sets");
        self.look("a vector was set");
        self.tell();
        assert_eq!(self.volume.attribute(inode, NAME).expect("reads"), [value; LEN]);
    }

    fn stage_batch(&mut self, wanted: &[Wanted]) -> StagedBatch {
        let vectors: Vec<NewVector<'_>> = wanted.iter().map(|wanted| wanted.vector(&self.files)).collect();
        let staged = self.volume.stage_vectors(self.id(), &vectors, &root(), NOW);
        self.look("the bytes of a batch were put into its rows");
        self.tell();
        staged.expect("stages")
    }

    fn put_batch(&mut self, staged: &StagedBatch, wanted: &[Wanted]) -> Batch {
        let vectors: Vec<NewVector<'_>> = wanted.iter().map(|wanted| wanted.vector(&self.files)).collect();
        let set = self.volume.set_staged(staged, &vectors, &root(), NOW).expect("sets");
        self.look("a batch was set");
        self.tell();
        set
    }

    fn value(&self, file: usize) -> Option<Vec<u8>> {
        self.volume.attribute(self.files[file], NAME).ok()
    }

    fn remove(&mut self, file: usize) {
        if self.volume.remove_attribute(self.files[file], NAME, &root(), NOW).is_ok() {
            self.look("a vector was removed");
            self.tell();
        }
    }

    fn tidy(&mut self) {
        while self.volume.tidy(NOW).expect("tidies") {
            self.look("a step in the background");
            self.tell();
        }
    }

    fn settle(&mut self) {
        for _ in 0..3 {
            self.volume.commit(NOW).expect("commits");
            self.tidy();
        }
        self.volume.commit(NOW).expect("commits");
    }
}

/// One vector of a batch.
struct Wanted {
    file: usize,
    value: [u8; LEN],
    keep: bool,
}

impl Wanted {
    fn some(random: &mut Random) -> Vec<Self> {
        let one = |random: &mut Random| Self {
            file: random.index(FILES),
            value: [random.below(120) as u8; LEN],
            keep: random.one_in(4),
        };
        (0..random.below(14)).map(|_| one(random)).collect()
    }

    fn vector(&self, files: &[Ino]) -> NewVector<'_> {
        NewVector { inode: files[self.file], n: 0, value: &self.value, keep: self.keep }
    }
}

#[test]
fn a_row_in_use_is_never_seen_on_the_page_of_a_free_one() {
    for seed in 0..6 {
        let (mut host, mut random) = (Host::new(), Random::new(seed));
        for _ in 0..300 {
            let file = random.index(FILES);
            match random.below(10) {
                0..=4 => {
                    let value = random.below(120) as u8;
                    assert!(host.stage(file, value) || unstaged());
                    host.put(file, value);
                }
                5..=7 => host.remove(file),
                8 => host.settle(),
                _ => {
                    host.volume.compact(host.id()).expect("compacts");
                    host.settle();
                }
            }
        }
        host.settle();
        check_clean(&host.device).expect("clean");
        assert!(host.looks > 400, "{} looks", host.looks);
    }
}

#[test]
fn vectors_on_their_way_have_rows_of_their_own() {
    for seed in 0..6 {
        let (mut host, mut random) = (Host::new(), Random::new(100 + seed));
        for _ in 0..60 {
            let mut files: Vec<usize> = (0..FILES).filter(|_| random.one_in(6)).collect();
            for file in &files {
                assert!(host.stage(*file, *file as u8) || unstaged());
            }
            if random.one_in(2) {
                host.remove(random.index(FILES));
                host.settle();
            }
            if random.one_in(3) {
                host.volume.compact(host.id()).expect("compacts");
                host.settle();
            }
            while !files.is_empty() {
                let file = files.swap_remove(random.index(files.len()));
                match random.below(4) {
                    // Another value than was staged, or none after all.
                    0 => {
                        host.volume.unstage_vector(host.files[file], NAME).expect("unstages");
                        host.tell();
                        host.stage(file, 200);
                        host.put(file, 200);
                    }
                    1 => host.volume.unstage_vector(host.files[file], NAME).expect("unstages"),
                    _ => host.put(file, file as u8),
                }
                host.tell();
            }
        }
        host.settle();
        check_clean(&host.device).expect("clean");
        assert_free_rows_are_blank(&host, seed);
    }
}

#[test]
fn batches_on_their_way_have_rows_of_their_own() {
    for seed in 0..6 {
        let (mut host, mut random) = (Host::new(), Random::new(200 + seed));
        for _ in 0..60 {
            let mut batches = Vec::new();
            for _ in 0..random.below(4) {
                let wanted = Wanted::some(&mut random);
                batches.push((host.stage_batch(&wanted), wanted));
            }
            let single = random.index(FILES);
            assert!(host.stage(single, 130) || unstaged());
            if random.one_in(2) {
                (0..random.below(9)).for_each(|_| host.remove(random.index(FILES)));
                host.settle();
            }
            if random.one_in(3) {
                host.volume.compact(host.id()).expect("compacts");
                host.settle();
            }
            host.put(single, 130);
            while !batches.is_empty() {
                let (staged, wanted) = batches.swap_remove(random.index(batches.len()));
                if random.one_in(3) {
                    host.volume.unstage_vectors(&staged).expect("unstages");
                    host.tell();
                } else {
                    set_and_check(&mut host, &staged, &wanted);
                }
                if random.one_in(4) {
                    host.settle();
                }
            }
        }
        host.settle();
        check_clean(&host.device).expect("clean");
        assert_free_rows_are_blank(&host, seed);
    }
}

/// Sets a batch; afterwards each file has what the last vector of it says.
fn set_and_check(host: &mut Host, staged: &StagedBatch, wanted: &[Wanted]) {
    let mut expected: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut kept = 0;
    let there: Vec<Option<Vec<u8>>> = (0..FILES).map(|file| host.value(file)).collect();
    for Wanted { file, value, keep } in wanted {
        let old = expected.get(file).or(there[*file].as_ref());
        match old.filter(|_| *keep) {
            Some(old) => expected.insert(*file, old.clone()),
            None => expected.insert(*file, value.to_vec()),
        };
    }
    let set = host.put_batch(staged, wanted);
    for (file, value) in expected {
        // What was kept when the batch was staged may have been removed since.
        match host.value(file) {
            Some(found) => assert_eq!(found, value, "file {file}"),
            None => kept += 1,
        }
    }
    assert_eq!(set.set + set.kept, wanted.len() as u64);
    assert!(kept <= set.kept, "{kept} of {} kept ones are gone", set.kept);
}

/// Nothing is kept for anybody: what is free is blank, or zero where nothing ever was.
fn assert_free_rows_are_blank(host: &Host, seed: u64) {
    let live: Vec<u64> = rows(host);
    let frontier = live.last().map_or(0, |row| row + 1);
    for row in (0..frontier).filter(|row| !live.contains(row)) {
        let mut bytes = vec![0; LEN];
        let offset = MATRIX_DATA + row * LEN as u64;
        host.volume.read(collection_matrix(host.id()), offset, &mut bytes).expect("reads");
        assert!(
            bytes.chunks(4).all(|value| f32::from_le_bytes(value.try_into().expect("four")).is_nan())
                || bytes.iter().all(|byte| *byte == 0),
            "seed {seed}: free row {row} keeps bytes"
        );
    }
}

fn rows(host: &Host) -> Vec<u64> {
    let mut live = Vec::new();
    let mut each = |row, _: &_| {
        live.push(row);
        true
    };
    host.volume.rows_of(host.id(), 0, &mut each).expect("rows");
    live
}
