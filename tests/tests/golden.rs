//! Golden images: what version 1 wrote must stay readable, by the core and by a reader that shares no code with it.
//!
//! The listings were written by the maker of the images, which knows what it put there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use vexfs_core::check::{CheckOptions, check};
use vexfs_core::device::Direct;
use vexfs_core::format::{FileKind, ROOT, Superblock};
use vexfs_core::numbers::Time;
use vexfs_core::operations::NewInode;
use vexfs_core::{MountOptions, Volume};
use vexfs_tests::golden::listing::Listing;
use vexfs_tests::golden::{Features, IMAGES, Ram, directory, maker, sha256, unpack};

const NOW: Time = Time { seconds: 1_800_000_000, nanoseconds: 0 };

/// A directory for this process and test, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vexfs-golden-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("a scratch directory");
        Self(path)
    }

    fn image(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.join("image");
        fs::write(&path, bytes).expect("a written image");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning of its temporary directory.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn expected(name: &str) -> String {
    fs::read_to_string(directory().join(format!("{name}.json"))).expect("the listing beside the image")
}

fn read_image(arguments: &[&dyn AsRef<OsStr>]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/read_image.py");
    let mut python = Command::new("python3");
    python.arg("-B").arg(script);
    for argument in arguments {
        python.arg(argument);
    }
    python.output().expect("python3 runs")
}

/// Panics with the first line in which two listings differ.
fn assert_same(name: &str, found: &str, expected: &str) {
    let mut lines = found.lines().zip(expected.lines());
    if let Some((found, expected)) = lines.find(|(found, expected)| found != expected) {
        panic!("{name}: the listing differs\nfound:    {found}\nexpected: {expected}");
    }
    assert_eq!(found.len(), expected.len(), "{name}: a listing ends early");
}

fn assert_clean(name: &str, ram: &Ram) {
    let mut findings = Vec::new();
    let options = CheckOptions { vectors: true, now: NOW, ..CheckOptions::default() };
    let mut found = |finding: &vexfs_core::check::Finding| {
        if finding.is_error() {
            findings.push(finding.to_string());
        }
    };
    let report = check(Direct(ram), options, &mut found, &mut |_, _| {}).expect("a check that can be made");
    assert!(findings.is_empty(), "{name}: {findings:?}");
    assert!(report.vectors > 100 && report.files > 200, "{name}: the check saw too little: {report:?}");
}

fn read(name: &str, ram: &Ram) -> Listing {
    let options = MountOptions { read_only: true, ..MountOptions::default() };
    let volume = Volume::mount(Direct(ram), options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(volume.recovered().records > 0, Features::of(name).journal, "{name}: records of the journal");
    Listing::read(&volume).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_core_reads_them_as_they_were_made() {
    for (name, _) in IMAGES {
        let ram = Ram::new(unpack(name).expect("an image"));
        assert_same(name, &read(name, &ram).to_string(), &expected(name));
        assert_clean(name, &ram);
    }
}

#[test]
fn the_core_writes_on_and_finishes_what_was_left() {
    for (name, _) in IMAGES {
        let ram = Ram::new(unpack(name).expect("an image"));
        let before = read(name, &ram);
        let Features { history, recode, codebook, .. } = Features::of(name);
        // Of each collection with a codebook the matrix before.
        let orphans = 2 + usize::from(history) + usize::from(recode) + 2 * usize::from(codebook);
        assert_eq!(before.orphans.len(), orphans, "{name}");
        let mut volume = Volume::mount(Direct(&ram), MountOptions::default()).expect("a mounted image");
        for _ in 0..3 {
            while volume.tidy(NOW).expect("tidying") {}
            for matrix in volume.retired().to_vec() {
                while !volume.free_retired(matrix, NOW).expect("freeing") {}
            }
            volume.commit(NOW).expect("a commit");
        }
        let after = Listing::read(&volume).expect("a readable image");
        assert!(after.orphans.is_empty(), "{name}: {:?}", after.orphans);
        assert_same(name, &files_of(&after), &files_of(&before));
        let new =
            NewInode { kind: FileKind::Regular, permissions: 0o644, umask: 0, uid: 0, gid: 0, device: 0 };
        let inode = volume.create(ROOT, b"new", &new, NOW).expect("a new file").inode;
        volume.write(inode, 0, &[7; 20_000], NOW).expect("a write");
        volume.unlink(ROOT, b"attributes", &|_| false, NOW).expect("an unlink");
        volume.commit(NOW).expect("a commit");
        drop(volume);
        assert_clean(name, &ram);
    }
}

fn files_of(listing: &Listing) -> String {
    let text = listing.to_string();
    let start = text.find("\"files\"").expect("a list of files");
    let end = text.rfind("\"orphans\"").expect("a list of orphans");
    text[start..end].to_string()
}

#[test]
fn the_reader_written_from_the_document_agrees() {
    let scratch = Scratch::new("reader");
    for (name, _) in IMAGES {
        let image = scratch.image(&unpack(name).expect("an image"));
        let json = read_image(&[&image, &"json"]);
        assert!(json.status.success(), "{name}: {}", String::from_utf8_lossy(&json.stderr));
        assert_same(name, &String::from_utf8_lossy(&json.stdout), &expected(name));
        let checked = read_image(&[&image, &"check"]);
        let (out, err) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        if Features::of(name).journal {
            assert!(
                !checked.status.success() && err.contains("journal is to be replayed"),
                "{name}: {out}{err}"
            );
            continue;
        }
        assert!(checked.status.success() && out.starts_with("clean: "), "{name}: {out}{err}");
    }
}

#[test]
fn the_reader_extracts_files_and_vectors() {
    let scratch = Scratch::new("extract");
    for (name, _) in IMAGES {
        let bytes = unpack(name).expect("an image");
        let target = scratch.0.join(name);
        // What the machine's own filesystem refuses (devices, long attributes) is reported and left out.
        let output = read_image(&[&scratch.image(&bytes), &"extract", &target]);
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        let listing = read(name, &Ram::new(bytes));
        let mut files = 0;
        for (path, entry) in &listing.files {
            let Ok(path) = std::str::from_utf8(path) else { continue };
            if entry.kind == FileKind::Regular && entry.permissions & 0o400 != 0 {
                let place = target.join("files").join(path.trim_start_matches('/'));
                let bytes = fs::read(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
                assert_eq!(sha256(&bytes), sha256(&entry.content), "{name}: {path}");
                files += 1;
            }
        }
        assert!(files > 200, "{name}: only {files} files");
        for (collection, entry) in &listing.collections {
            let stem = target.join("vectors").join(String::from_utf8_lossy(collection).as_ref());
            let matrix = fs::read(stem.with_extension("npy")).expect("a matrix");
            let vectors = listing.files.values().flat_map(|file| &file.vectors);
            let mine = vectors.filter(|((name, _), _)| name == collection);
            let rows: BTreeMap<u64, &[u8]> =
                mine.map(|(_, vector)| (vector.row, &vector.bytes[..])).collect();
            assert_eq!(rows.len() as u64, entry.live, "{name}: {}", stem.display());
            let rows: Vec<u8> = rows.into_values().flatten().copied().collect();
            assert_eq!(&matrix[128..], rows, "{name}: {}", stem.display());
        }
    }
}

#[test]
fn the_reader_says_what_is_wrong() {
    let scratch = Scratch::new("damage");
    let (name, block_size) = IMAGES[0];
    let whole = unpack(name).expect("an image");
    let refuse = |bytes: &[u8], command: &str, message: &str| {
        let output = read_image(&[&scratch.image(bytes), &command]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {told}");
        assert!(told.contains(message) && told.lines().count() == 1, "{command}: {told}");
    };
    refuse(&[0; 1 << 20], "ls", "is not a VexFS volume");
    refuse(&whole[..whole.len() / 2], "json", "it was cut off");
    let mut damaged = whole.clone();
    for slot in [0, 16384, whole.len() - 32768, whole.len() - 16384] {
        damaged[slot + 100] ^= 1;
    }
    refuse(&damaged, "check", "has damaged superblocks only");
    let copy =
        |at: usize, slot| Superblock::parse(&whole[at..], slot).expect("a whole slot").expect("a slot");
    let copies = [copy(0, 0), copy(16384, 1)];
    let newest = copies.iter().max_by_key(|copy| copy.generation.get()).expect("two copies");
    let root = newest.root.block.get();
    let mut damaged = whole.clone();
    damaged[(root * u64::from(block_size)) as usize + 5] ^= 1;
    refuse(&damaged, "ls", &format!("node {root} has a wrong checksum"));
    // One damaged slot loses nothing, and is told.
    for at in [0, 8] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        let output = read_image(&[&scratch.image(&damaged), &"check"]);
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(told.starts_with("note: superblock slots [0] are damaged"), "{told}");
    }
}

#[test]
fn the_same_options_make_the_same_bytes() {
    for (name, block_size) in IMAGES {
        let (first, listing) = maker::image(block_size, Features::of(name)).expect("an image");
        let (second, _) = maker::image(block_size, Features::of(name)).expect("an image");
        assert_eq!(sha256(&first), sha256(&second), "{name}");
        // What the maker makes today, the core reads as the maker says.
        let ram = Ram::new(first);
        assert_same(name, &read(name, &ram).to_string(), &listing.to_string());
        assert_clean(name, &ram);
    }
}
