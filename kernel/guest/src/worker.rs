//! A worker: chooses acts on the files of a directory of its own, from a seed, and does them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vexfs_guest::bytes::{floats, noise};
use vexfs_guest::model::Directory;
use vexfs_guest::told::{Act, DIMENSIONS, How, directory, vector_name};

use crate::call::{self, Mapping};
use crate::dice::Dice;
use crate::manifest::{Failure, Outcome};

/// Files of a worker that have a name at the same time.
const FILES: u64 = 8;
/// No file is longer.
const SIZE_MAX: u64 = 160_000;

/// One who acts.
pub(crate) struct Worker {
    /// Its number, which its directory and collection have in their names.
    pub(crate) number: u32,
    /// Its directory.
    pub(crate) at: PathBuf,
    /// What must be in there.
    pub(crate) model: Directory,
    /// Chooses.
    pub(crate) dice: Dice,
    root: PathBuf,
    /// Names given so far; none is given twice.
    named: u64,
    /// Acts that belong together, the last one first.
    next: Vec<Act>,
}

impl Worker {
    /// The worker of this number, with an empty directory below `root`.
    pub(crate) fn new(root: &Path, number: u32, seed: u64) -> Result<Self, Failure> {
        let at = root.join(directory(number));
        fs::create_dir(&at)?;
        Ok(Self {
            number,
            at,
            model: Directory::new(number),
            dice: Dice::new(seed << 8 | u64::from(number)),
            root: root.to_path_buf(),
            named: 0,
            next: Vec::new(),
        })
    }

    /// The next act.
    pub(crate) fn choose(&mut self) -> Act {
        if let Some(act) = self.next.pop() {
            return act;
        }
        let names: Vec<String> = self.model.files.keys().cloned().collect();
        if (names.len() as u64) < FILES && (names.is_empty() || self.dice.one_in(4)) {
            return Act::Create(self.name());
        }
        let file = names[self.dice.below(names.len() as u64) as usize].clone();
        let size = self.model.files[&file].bytes.len() as u64;
        match self.dice.below(100) {
            0..=29 => self.write(file, size),
            30..=34 => Act::Truncate(file, self.dice.below(size * 3 / 2 + 2000).min(SIZE_MAX)),
            35..=38 => Act::Punch(file, self.dice.below(size + 1), 1 + self.dice.below(20_000)),
            39..=46 => Act::Set(file, self.dice.below(3) as u32, self.dice.below(3000), self.dice.bits()),
            47..=60 => Act::Vector(file, self.dice.below(3) as u32, self.dice.bits()),
            61..=64 => {
                let attributes = &self.model.files[&file].attributes;
                match (0..3).find(|n| attributes.contains_key(&vector_name(self.number, *n))) {
                    Some(n) => Act::Forget(file, n),
                    None => Act::Vector(file, 0, self.dice.bits()),
                }
            }
            65..=72 => self.save_over(file),
            73..=75 => Act::Unlink(file),
            76..=89 => Act::Sync(file),
            90..=93 => Act::SyncData(file),
            94..=97 => Act::SyncDirectory,
            _ => Act::SyncAll,
        }
    }

    fn write(&mut self, file: String, size: u64) -> Act {
        let how = match self.dice.below(10) {
            0 | 1 => How::Mapped,
            2 => How::Direct,
            3 => How::Synced,
            _ => How::Buffered,
        };
        let seed = self.dice.bits();
        let limit = if self.dice.one_in(4) { 60_000 } else { 3000 };
        let len = 1 + self.dice.below(limit);
        if how == How::Mapped && size > 0 {
            let offset = self.dice.below(size);
            return Act::Write { file, how, offset, len: len.min(size - offset), seed };
        }
        let how = if how == How::Mapped { How::Buffered } else { how };
        let offset = if self.dice.one_in(2) { size } else { self.dice.below(size + 1) };
        Act::Write { file, how, offset: offset.min(SIZE_MAX - len), len, seed }
    }

    // As an editor saves: a new file, its bytes, sometimes their fsync, and the name.
    fn save_over(&mut self, file: String) -> Act {
        let (new, len, seed) = (self.name(), 1 + self.dice.below(30_000), self.dice.bits());
        self.next.push(Act::Rename(new.clone(), file));
        if self.dice.one_in(2) {
            self.next.push(Act::Sync(new.clone()));
        }
        self.next.push(Act::Write { file: new.clone(), how: How::Buffered, offset: 0, len, seed });
        Act::Create(new)
    }

    fn name(&mut self) -> String {
        self.named += 1;
        format!("file-{}", self.named)
    }

    /// Does an act, and notes what it makes of the directory.
    pub(crate) fn act(&mut self, act: &Act) -> Outcome {
        self.perform(act).map_err(|error| format!("worker {}: {act:?}: {error}", self.number))?;
        Ok(self.model.apply(act)?)
    }

    fn perform(&self, act: &Act) -> Outcome {
        let path = |file: &String| self.at.join(file);
        let open = |file: &String| OpenOptions::new().read(true).write(true).open(path(file));
        match act {
            Act::Create(file) => File::create_new(path(file)).map(drop)?,
            Act::Write { file, how, offset, len, seed } => {
                write(&path(file), *how, *offset, &noise(*seed, *len as usize))?;
            }
            Act::Truncate(file, size) => open(file)?.set_len(*size)?,
            Act::Punch(file, offset, len) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                call::allocate(&open(file)?, mode, *offset as i64, *len as i64)?;
            }
            Act::Set(file, number, len, seed) => {
                let name = format!("user.{number}");
                call::set_attribute(&path(file), name.as_bytes(), &noise(*seed, *len as usize))?;
            }
            Act::Vector(file, n, seed) => {
                let name = vector_name(self.number, *n);
                call::set_attribute(&path(file), name.as_bytes(), &floats(*seed, DIMENSIONS))?;
            }
            Act::Forget(file, n) => {
                call::remove_attribute(&path(file), vector_name(self.number, *n).as_bytes())?;
            }
            Act::Rename(from, to) => fs::rename(path(from), path(to))?,
            Act::Unlink(file) => fs::remove_file(path(file))?,
            Act::Sync(file) => open(file)?.sync_all()?,
            Act::SyncData(file) => open(file)?.sync_data()?,
            Act::SyncDirectory => File::open(&self.at)?.sync_all()?,
            Act::SyncAll => call::sync_filesystem(&File::open(&self.root)?)?,
            Act::End => {}
        }
        Ok(())
    }
}

fn write(path: &Path, how: How, offset: u64, bytes: &[u8]) -> Outcome {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match how {
        How::Direct => drop(options.custom_flags(libc::O_DIRECT)),
        How::Synced => drop(options.custom_flags(libc::O_SYNC)),
        How::Buffered | How::Mapped => {}
    }
    let file = options.open(path)?;
    if how != How::Mapped {
        return Ok(file.write_all_at(bytes, offset)?);
    }
    let end = offset as usize + bytes.len();
    let mut mapping = Mapping::new(&file, end, true)?;
    mapping.bytes_mut()[offset as usize..].copy_from_slice(bytes);
    Ok(())
}
