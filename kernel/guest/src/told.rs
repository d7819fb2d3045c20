//! What a workload is about to do, told before it does it: a line of text in a sector of its own.
//!
//! A worker does one act after the other, so its next line says that the act before it has returned. The lines go past
//! every cache to a disk whose writes are recorded, between the writes of the volume: so whoever reads the record knows
//! at each moment of it what was promised.

use std::fmt;
use std::str::FromStr;

/// Bytes of a line's sector.
pub const SECTOR: usize = 512;
/// Lines that one worker may tell.
pub const LINES_MAX: u64 = 4096;
/// Dimensions of the vectors that acts set.
pub const DIMENSIONS: usize = 48;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who is about to act; it keeps to a directory and a collection of its own.
    pub worker: u32,
    /// Counts from 0.
    pub number: u64,
    /// What it is about to do.
    pub act: Act,
}

/// An act on a file of the worker's directory. Bytes are those of a seed ([`crate::bytes`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// A new, empty file.
    Create(String),
    /// `len` bytes at `offset`.
    Write {
        /// The file.
        file: String,
        /// How they get there.
        how: How,
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
        /// Which.
        seed: u64,
    },
    /// Another size.
    Truncate(String, u64),
    /// A hole of zeros: offset and length.
    Punch(String, u64, u64),
    /// An ordinary attribute `user.NUMBER` of `len` bytes.
    Set(String, u32, u64, u64),
    /// The vector of this number in the worker's collection.
    Vector(String, u32, u64),
    /// That vector no more.
    Forget(String, u32),
    /// The first takes the name of the second, which is replaced.
    Rename(String, String),
    /// No more.
    Unlink(String),
    /// fsync(2) of the file.
    Sync(String),
    /// fdatasync(2) of the file.
    SyncData(String),
    /// fsync(2) of the directory.
    SyncDirectory,
    /// sync(2).
    SyncAll,
    /// Nothing: the last line.
    End,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// write(2).
    Buffered,
    /// Through a mapping.
    Mapped,
    /// With O_DIRECT.
    Direct,
    /// With O_SYNC: durable when it returns.
    Synced,
}

const HOWS: [(How, &str); 4] =
    [(How::Buffered, "buffered"), (How::Mapped, "mapped"), (How::Direct, "direct"), (How::Synced, "synced")];

/// The directory of a worker, below the root.
pub fn directory(worker: u32) -> String {
    format!("worker-{worker}")
}

/// The attribute that is a vector of a worker's collection.
pub fn vector_name(worker: u32, n: u32) -> String {
    match n {
        0 => format!("user.vector.worker-{worker}"),
        _ => format!("user.vector.worker-{worker}.{n}"),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vexfs-told {} {} ", self.worker, self.number)?;
        match &self.act {
            Act::Create(file) => write!(f, "create {file}"),
            Act::Write { file, how, offset, len, seed } => {
                let how = HOWS.iter().find(|(one, _)| one == how).map_or("", |(_, name)| name);
                write!(f, "write {file} {how} {offset} {len} {seed}")
            }
            Act::Truncate(file, size) => write!(f, "truncate {file} {size}"),
            Act::Punch(file, offset, len) => write!(f, "punch {file} {offset} {len}"),
            Act::Set(file, number, len, seed) => write!(f, "set {file} {number} {len} {seed}"),
            Act::Vector(file, n, seed) => write!(f, "vector {file} {n} {seed}"),
            Act::Forget(file, n) => write!(f, "forget {file} {n}"),
            Act::Rename(from, to) => write!(f, "rename {from} {to}"),
            Act::Unlink(file) => write!(f, "unlink {file}"),
            Act::Sync(file) => write!(f, "sync {file}"),
            Act::SyncData(file) => write!(f, "syncdata {file}"),
            Act::SyncDirectory => write!(f, "syncdirectory"),
            Act::SyncAll => write!(f, "syncall"),
            Act::End => write!(f, "end"),
        }
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a line of a workload: {text}");
        let number = |word: &str| word.parse::<u64>().map_err(|_| wrong());
        let small = |word: &str| word.parse::<u32>().map_err(|_| wrong());
        let words: Vec<&str> = text.split_whitespace().collect();
        let ["vexfs-told", worker, count, ref act @ ..] = words[..] else { return Err(wrong()) };
        let act = match *act {
            ["create", file] => Act::Create(file.into()),
            ["write", file, how, offset, len, seed] => {
                let how = HOWS.iter().find(|(_, name)| *name == how).ok_or_else(wrong)?.0;
                let (offset, len, seed) = (number(offset)?, number(len)?, number(seed)?);
                Act::Write { file: file.into(), how, offset, len, seed }
            }
            ["truncate", file, size] => Act::Truncate(file.into(), number(size)?),
            ["punch", file, offset, len] => Act::Punch(file.into(), number(offset)?, number(len)?),
            ["set", file, which, len, seed] => {
                Act::Set(file.into(), small(which)?, number(len)?, number(seed)?)
            }
            ["vector", file, n, seed] => Act::Vector(file.into(), small(n)?, number(seed)?),
            ["forget", file, n] => Act::Forget(file.into(), small(n)?),
            ["rename", from, to] => Act::Rename(from.into(), to.into()),
            ["unlink", file] => Act::Unlink(file.into()),
            ["sync", file] => Act::Sync(file.into()),
            ["syncdata", file] => Act::SyncData(file.into()),
            ["syncdirectory"] => Act::SyncDirectory,
            ["syncall"] => Act::SyncAll,
            ["end"] => Act::End,
            _ => return Err(wrong()),
        };
        Ok(Self { worker: small(worker)?, number: number(count)?, act })
    }
}
