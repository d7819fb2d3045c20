//! Damaged images: each is mounted, looked at, changed, and unmounted. Any call may fail with an honest error; the
//! kernel must not complain, and unmounting must succeed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vexfs_guest::bytes::{floats, noise};

use crate::call::{self, Mapping};
use crate::manifest::Outcome;

/// Images that are mounted, however slow the machine is.
const IMAGES_MIN: u32 = 100;
/// Paths that are looked at in one image: a damaged tree may seem to have any number.
const PATHS_MAX: usize = 400;
/// Bytes that are read of one file.
const BYTES_MAX: u64 = 1 << 20;
/// Bytes that are mapped: behind a damaged place a mapping gives SIGBUS, which a read says first.
const MAPPED_MAX: u64 = 1 << 16;

/// What came out.
#[derive(Default)]
struct Tally {
    images: u32,
    refused: u32,
    done: u64,
    failed: u64,
}

/// Goes through the images on `disk` that `index` lists, mounting each at `at`: at least [`IMAGES_MIN`] of them, and more
/// as long as some seconds are not over.
pub(crate) fn run(disk: &Path, index: &Path, at: &Path, seconds: u64) -> Outcome {
    let device = OpenOptions::new().read(true).write(true).open(disk)?;
    let part = PathBuf::from(format!("{}1", disk.display()));
    let end = Instant::now() + Duration::from_secs(seconds);
    let list = fs::read_to_string(index)?;
    let mut tally = Tally::default();
    for text in list.lines() {
        if tally.images >= IMAGES_MIN && Instant::now() > end {
            break;
        }
        let mut words = text.splitn(3, ' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or("no number");
        let (start, len) = (number()?, number()?);
        let what = words.next().unwrap_or_default();
        // What the kernel's log says next is of this image.
        let _ = fs::write("/dev/kmsg", format!("damaged image: {what:.300}\n"));
        call::set_partition(&device, 1, start, len)?;
        tally.images += 1;
        match call::mount(&part, at, "vexfs") {
            Ok(()) => {
                tally.look(at);
                tally.change(at);
                tally.look(at);
                call::unmount(at).map_err(|error| format!("unmount: {error}: {what}"))?;
            }
            Err(_) => tally.refused += 1,
        }
        call::set_partition(&device, 1, 0, 0)?;
    }
    let (Tally { images, refused, done, failed }, all) = (tally, list.lines().count());
    println!(
        "exercise damaged: {images} of {all} images, {refused} refused, {done} calls done, {failed} failed"
    );
    Ok(())
}

impl Tally {
    fn note<T>(&mut self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.done += 1;
                Some(value)
            }
            Err(_) => {
                self.failed += 1;
                None
            }
        }
    }

    fn look(&mut self, at: &Path) {
        let mut waiting = vec![at.join(".vexfs"), at.to_path_buf()];
        let mut paths = 0;
        while let Some(path) = waiting.pop() {
            paths += 1;
            if paths > PATHS_MAX {
                return;
            }
            let Some(seen) = self.note(fs::symlink_metadata(&path)) else { continue };
            for name in self.note(call::attributes(&path)).unwrap_or_default() {
                self.note(call::attribute(&path, &name));
            }
            if seen.is_dir() {
                let Some(entries) = self.note(fs::read_dir(&path)) else { continue };
                for entry in entries.take(PATHS_MAX) {
                    waiting.extend(self.note(entry).map(|entry| entry.path()));
                }
            } else if seen.is_symlink() {
                self.note(fs::read_link(&path));
            } else if seen.is_file() {
                self.read(&path, seen.size());
            }
        }
    }

    fn read(&mut self, path: &Path, size: u64) {
        let Some(file) = self.note(File::open(path)) else { return };
        let mut bytes = Vec::new();
        let whole = self.note((&file).take(BYTES_MAX).read_to_end(&mut bytes)).is_some();
        self.note(call::seek(&file, 0, libc::SEEK_HOLE));
        self.note(call::seek(&file, 0, libc::SEEK_DATA));
        self.note(file.read_at(&mut [0; 100], size.saturating_sub(50)));
        let len = bytes.len().min(size.min(MAPPED_MAX) as usize);
        if whole && len > 0 {
            let sum = self
                .note(Mapping::new(&file, len, false))
                .map(|mapping| mapping.bytes().iter().max().copied());
            std::hint::black_box(sum);
        }
    }

    fn change(&mut self, at: &Path) {
        let new = at.join("new");
        self.note(fs::create_dir(at.join("made")));
        if let Some(mut file) = self.note(File::create(&new)) {
            self.note(file.write_all(&noise(1, 30_000)));
            self.note(file.sync_all());
        }
        self.note(call::set_attribute(&new, b"user.vector.new", &floats(1, 16)));
        self.note(call::set_attribute(&new, b"user.value", &noise(2, 3000)));
        let mut paths: Vec<PathBuf> = Vec::new();
        if let Some(entries) = self.note(fs::read_dir(at)) {
            paths.extend(entries.take(12).filter_map(Result::ok).map(|entry| entry.path()));
        }
        for (index, path) in paths.iter().enumerate() {
            self.change_one(path, &at.join("made").join(index.to_string()), index);
        }
        self.note(fs::rename(&new, at.join("made/new")));
        if let Some(directory) = self.note(File::open(at)) {
            self.note(call::sync_filesystem(&directory));
        }
    }

    fn change_one(&mut self, path: &Path, other: &Path, index: usize) {
        for name in self.note(call::attributes(path)).unwrap_or_default() {
            if name.starts_with(b"user.vector.") && index % 2 == 0 {
                self.note(call::remove_attribute(path, &name));
            }
        }
        if fs::symlink_metadata(path).is_ok_and(|seen| seen.is_file()) {
            if let Some(file) = self.note(OpenOptions::new().write(true).open(path)) {
                self.note(file.write_all_at(&noise(3, 5000), 100));
                self.note(file.set_len(3000 * index as u64));
                self.note(call::allocate(&file, 3, 50, 100));
                self.note(file.sync_all());
            }
        }
        let result = match index % 3 {
            0 => fs::rename(path, other),
            1 => fs::hard_link(path, other),
            _ => match fs::remove_file(path) {
                Err(error) if error.kind() == ErrorKind::IsADirectory => fs::remove_dir(path),
                result => result,
            },
        };
        self.note(result);
    }
}
