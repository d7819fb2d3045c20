//! The three programs as a person runs them, on images that the core filled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Caller, NewInode, SetMode};
use vexfs_core::{MountOptions, Volume};
use vexfs_host::{Access, Image, LockedImage};

const MKFS: &str = env!("CARGO_BIN_EXE_mkfs_vexfs");
const FSCK: &str = env!("CARGO_BIN_EXE_fsck_vexfs");
const DUMP: &str = env!("CARGO_BIN_EXE_dump_vexfs");
const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vexfs_mkfs-{}-{name}", std::process::id()));
        let _ = fs::remove_file(&path);
        Self(path)
    }

    fn made(name: &str, block_size: &str) -> Self {
        let scratch = Self::new(name);
        expect(0, run(MKFS, &["-q", "-b", block_size, "-L", "notes", scratch.path(), "16M"]));
        scratch
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// What the program printed, after it ended with `status`.
#[track_caller]
fn expect(status: i32, output: Output) -> String {
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

/// A directory with 300 files, three of them with a vector, through the core.
fn fill(path: &Path) {
    let image = LockedImage::open(path, Access::Write, Duration::ZERO).unwrap();
    let mut volume = Volume::mount(Direct(&image), MountOptions::default()).unwrap();
    let now = Time { seconds: 1_700_000_000, nanoseconds: 0 };
    let new = |kind| NewInode { kind, permissions: 0o755, umask: 0, uid: 0, gid: 0, device: 0 };
    let caller = Caller { uid: 0, gid: 0, in_group: &|_| false };
    let directory = volume.create(ROOT, b"docs", &new(FileKind::Directory), now).unwrap().inode;
    for index in 0..300 {
        let name = format!("file{index}");
        let file = volume.create(directory, name.as_bytes(), &new(FileKind::Regular), now).unwrap().inode;
        volume.write(file, 0, name.repeat(1000).as_bytes(), now).unwrap();
        if index < 3 {
            let vector = [index as f32; 100].map(f32::to_le_bytes).concat();
            volume.set_attribute(file, b"user.vector.tiny", &vector, SetMode::Any, &caller, now).unwrap();
        }
    }
    volume.commit(now).unwrap();
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_same_uuid_and_time_give_the_same_bytes() {
    let make = |name: &str, uuid: &str| {
        let scratch = Scratch::new(name);
        expect(0, run(MKFS, &["-q", "-L", "x", "-U", uuid, "--time", "1700000000", scratch.path(), "4M"]));
        fs::read(&scratch.0).unwrap()
    };
    assert_eq!(make("same-1", UUID), make("same-2", UUID));
    assert_ne!(make("same-3", UUID), make("same-4", "random"));
}

#[test]
fn nothing_is_overwritten_unasked_and_nothing_locked_ever() {
    let image = Scratch::made("careful", "4K");
    assert!(expect(1, run(MKFS, &[image.path()])).contains("holds vexfs; use -f"));
    let held = LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap();
    let before = fs::read(&image.0).unwrap();
    let text = expect(1, run(MKFS, &["-f", image.path()]));
    assert!(
        text.contains("in use by") && text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert_eq!(fs::read(&image.0).unwrap(), before);
    drop(held);
    let text = expect(0, run(MKFS, &["-f", "-b", "16K", "-U", UUID, image.path()]));
    assert!(text.contains(UUID) && text.contains("16.0 MiB (1024 blocks of 16384 bytes)"), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_no_file() {
    let image = Scratch::new("nonsense");
    assert!(expect(1, run(MKFS, &[image.path()])).contains("give a SIZE"));
    assert!(expect(1, run(MKFS, &[image.path(), "100K"])).contains("at least 1 MiB"));
    expect(1, run(MKFS, &["-L", &"x".repeat(33), image.path(), "4M"]));
    expect(2, run(MKFS, &["-b", "5K", image.path(), "4M"]));
    assert!(!image.0.exists());
    assert!(expect(1, run(MKFS, &["/dev/null", "4M"])).contains("character device"));
}

#[test]
fn a_filled_volume_is_clean_and_shown() {
    for block_size in ["4K", "8K", "16K"] {
        let image = Scratch::made(&format!("filled-{block_size}"), block_size);
        fill(&image.0);
        for mode in ["-n", "-p", "-a", "-y", "-fn"] {
            let text = expect(0, run(FSCK, &["-C0", "--vectors", mode, image.path()]));
            assert!(text.contains("300 files, 2 directories, 1 collection, 3 vectors"), "{text}");
        }
        let dump =
            |arguments: &[&str]| expect(0, run(DUMP, &[&["--json", image.path()], arguments].concat()));
        assert_eq!(json_lines(&dump(&["superblock"]))[4]["label"], "notes");
        let records = json_lines(&dump(&["file", "/docs/file1"]));
        let vector = records.iter().find(|record| record["kind"] == "Vector").unwrap();
        assert_eq!(vector["value"]["row"], 1);
        let collection = json_lines(&dump(&["collection", "tiny", "--rows"]));
        assert_eq!((&collection[0]["dimensions"], &collection[0]["live"]), (&100.into(), &3.into()));
        assert_eq!(collection[1]["sum_is_right"], true);
        let inodes = json_lines(&dump(&["stats"]));
        let inodes = inodes.iter().find(|line| line["kind"] == "Inode").unwrap();
        assert!(inodes["records"].as_u64().unwrap() >= 302);
        assert!(json_lines(&dump(&["tree", "--records"])).len() > 302);
        dump(&["space", "--runs"]);
        dump(&["journal"]);
        expect(1, run(DUMP, &[image.path(), "file", "/docs/none"]));
        expect(1, run(DUMP, &[image.path(), "collection", "none"]));
    }
}

#[test]
fn a_damaged_superblock_is_repaired_and_a_damaged_node_is_told() {
    let image = Scratch::made("damaged", "4K");
    fill(&image.0);
    let device = Image::open(&image.0, Access::Write).unwrap();
    device.write(16384 + 100, b"damage").unwrap();
    // A power cut can leave that, and the others are whole: it is told, but is no error.
    assert!(expect(0, run(FSCK, &["-n", image.path()])).contains("superblock copy 1 is damaged"));
    assert!(
        expect(0, run(FSCK, &[image.path()])).contains("copy 1 is damaged"),
        "not asked, nothing repaired"
    );
    expect(1, run(DUMP, &[image.path(), "superblock"]));
    expect(0, run(FSCK, &["-p", image.path()]));
    assert!(!expect(0, run(FSCK, &["-n", image.path()])).contains("copy 1"));
    expect(0, run(DUMP, &[image.path(), "superblock"]));

    let tree = json_lines(&expect(0, run(DUMP, &["--json", image.path(), "tree"])));
    let leaf = tree.iter().find(|node| node["level"] == 0).unwrap()["block"].as_u64().unwrap();
    device.write(leaf * 4096 + 2000, b"damage").unwrap();
    let text = expect(4, run(FSCK, &["-p", image.path()]));
    assert!(text.contains(&format!("damaged tree node {leaf}")), "{text}");
    let text = expect(1, run(DUMP, &[image.path(), "tree"]));
    assert!(text.contains("checksum mismatch"), "{text}");
    // Asked to repair everything, it gives up what is damaged, in one run.
    assert!(expect(1, run(FSCK, &["-y", image.path()])).contains("all repaired"));
    assert!(expect(0, run(FSCK, &["-n", image.path()])).contains("clean"));
    expect(0, run(DUMP, &[image.path(), "tree"]));
}

#[test]
fn what_cannot_be_checked_says_why() {
    let image = Scratch::made("unchecked", "4K");
    let held = LockedImage::open(&image.0, Access::Read, Duration::ZERO).unwrap();
    expect(0, run(FSCK, &["-n", image.path()]));
    drop(held);
    let truncated = fs::OpenOptions::new().write(true).open(&image.0).unwrap();
    truncated.set_len(2 << 20).unwrap();
    assert!(expect(4, run(FSCK, &["-n", image.path()])).contains("was the image cut off?"));
    assert!(expect(1, run(DUMP, &[image.path()])).contains("cut off"));
    truncated.set_len(0).unwrap();
    truncated.set_len(2 << 20).unwrap();
    assert!(expect(8, run(FSCK, &["-n", image.path()])).contains("not a VexFS volume"));
    expect(8, run(FSCK, &["-n", "/nowhere/at/all"]));
    expect(16, run(FSCK, &["-n", "-y", image.path()]));
    expect(16, run(FSCK, &[]));
    expect(0, run(FSCK, &["--help"]));
}
