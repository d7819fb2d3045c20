//! Vectors on their way into a collection: through its `append`, in batches; or, where a mount has none, one by one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use serde_json::Value;

use super::list::Target;
use crate::failure::Failure;
use crate::site::{Place, Site, VectorName};
use crate::value;
use crate::xattr;

/// Bytes that are sent at once, about: the mount makes some batches of them, each one transaction, and sets one while it
/// takes the next.
const PART_BYTES: usize = 32 << 20;
const HEADER: usize = 32;
const KEEP: u32 = 1;

/// What became of vectors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// Set.
    pub(super) set: u64,
    /// Left alone, since they were there.
    pub(super) kept: u64,
}

/// Why vectors were refused, and which line named the first that was.
pub(super) struct Refused {
    pub(super) line: Option<usize>,
    pub(super) failure: Failure,
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        Self { line: None, failure }
    }
}

/// Takes vectors for a collection.
pub(super) struct Stream<'a> {
    place: &'a Place,
    keep: bool,
    sender: Option<Sender>,
    part: Part,
    paths: Relative<'a>,
}

/// Records that are sent at once, and the line of each.
#[derive(Default)]
struct Part {
    records: Vec<u8>,
    lines: Vec<usize>,
}

impl<'a> Stream<'a> {
    /// Opens the way into a collection; `keep` leaves vectors alone that are there.
    pub(super) fn open(place: &'a Place, keep: bool) -> Result<Self, Failure> {
        let path = place.directory.join("append");
        let sender = match open(&path) {
            Ok(file) => Some(Sender::start(Append { file, path, site: place.site.clone() })?),
            // A host without it, or a caller who may write but not read: each vector is an attribute.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                None
            }
            Err(error) => return Err(Failure::io(&path, &error)),
        };
        let paths = Relative { site: &place.site, known: HashMap::new() };
        Ok(Self { place, keep, sender, part: Part::default(), paths })
    }

    /// Takes a vector; `report` hears what was done meanwhile.
    pub(super) fn push(
        &mut self,
        target: &Target,
        bytes: &[u8],
        report: &mut dyn FnMut(Done),
    ) -> Result<(), Refused> {
        let refused = |failure| Refused { line: Some(target.line), failure };
        let Some(sender) = &mut self.sender else {
            report(self.one(target, bytes).map_err(refused)?);
            return Ok(());
        };
        let path = self.paths.of(&target.path).map_err(refused)?;
        record(&mut self.part.records, target.n, path.as_os_str().as_bytes(), bytes, self.keep);
        self.part.lines.push(target.line);
        if self.part.records.len() < PART_BYTES {
            return Ok(());
        }
        sender.send(mem::take(&mut self.part), report)
    }

    /// Sends what is left and waits until all is on disk.
    pub(super) fn finish(mut self, report: &mut dyn FnMut(Done)) -> Result<(), Refused> {
        let synced = match self.sender {
            Some(mut sender) => {
                if !self.part.lines.is_empty() {
                    sender.send(mem::take(&mut self.part), report)?;
                }
                sender.finish(report)?.sync_all()
            }
            None => File::open(&self.place.site.root).and_then(|root| root.sync_all()),
        };
        let failed = |error| Failure::new(format!("the volume cannot make it durable: {error}"));
        Ok(synced.map_err(failed)?)
    }

    // Sets one vector as an attribute.
    fn one(&self, target: &Target, bytes: &[u8]) -> Result<Done, Failure> {
        let name = VectorName { n: target.n, ..self.place.name.clone() };
        let attribute = name.attribute();
        let failed = |error: io::Error| value::explain(&target.path, &attribute, &self.place.site, &error);
        if self.keep && xattr::exists(&target.path, &attribute).map_err(failed)? {
            return Ok(Done { set: 0, kept: 1 });
        }
        xattr::set(&target.path, &attribute, bytes).map_err(failed)?;
        Ok(Done { set: 1, kept: 0 })
    }
}

/// A thread that sends one part while the next is made.
struct Sender {
    parts: SyncSender<Part>,
    answers: Receiver<Answer>,
    thread: JoinHandle<File>,
}

impl Sender {
    fn start(mut append: Append) -> Result<Self, Failure> {
        // A part is handed over when the one before it was answered.
        let (parts, made) = sync_channel::<Part>(0);
        let (told, answers) = channel();
        let work = move || {
            for part in made {
                let answer = append.send(part);
                let last = answer.refused.is_some();
                if told.send(answer).is_err() || last {
                    break;
                }
            }
            append.file
        };
        let thread = Builder::new().spawn(work);
        let thread = thread.map_err(|error| Failure::new(format!("no thread to send from: {error}")))?;
        Ok(Self { parts, answers, thread })
    }

    // After a refusal nobody takes parts any more, and the refusal is among the answers.
    fn send(&mut self, part: Part, report: &mut dyn FnMut(Done)) -> Result<(), Refused> {
        let _ = self.parts.send(part);
        self.answers.try_iter().try_for_each(|answer| answer.told(report))
    }

    fn finish(self, report: &mut dyn FnMut(Done)) -> Result<File, Refused> {
        drop(self.parts);
        self.answers.iter().try_for_each(|answer| answer.told(report))?;
        self.thread.join().map_err(|_| Failure::new("the thread that sends failed").into())
    }
}

/// What a mount says of a part.
struct Answer {
    done: Done,
    refused: Option<Refused>,
}

impl Answer {
    fn told(self, report: &mut dyn FnMut(Done)) -> Result<(), Refused> {
        report(self.done);
        self.refused.map_or(Ok(()), Err)
    }
}

/// A collection's `append`.
struct Append {
    file: File,
    path: PathBuf,
    site: Site,
}

impl Append {
    fn send(&mut self, part: Part) -> Answer {
        let Part { mut records, mut lines } = part;
        let mut said = self.exchange(&records);
        let done = said.done;
        if said.error.as_deref().is_some_and(|error| error.contains("symbolic link")) {
            // The daemon follows no links; here they can be followed, as the caller. What is set stays set.
            let set = usize::try_from(done.set + done.kept).unwrap_or(usize::MAX).min(lines.len());
            lines.drain(..set);
            records.drain(..length_of(&records, set));
            let again = resolved(&records, &self.site).and_then(|resolved| {
                self.file = open(&self.path).map_err(|error| Failure::io(&self.path, &error))?;
                Ok(self.exchange(&resolved))
            });
            match again {
                Ok(again) => said = again,
                Err(failure) => return Answer { done, refused: Some(failure.into()) },
            }
            said.done.set += done.set;
            said.done.kept += done.kept;
        }
        let refused = said.error.map(|error| {
            let line = said.record.and_then(|record| lines.get(record)).copied();
            Refused { line, failure: Failure::new(error) }
        });
        Answer { done: said.done, refused }
    }

    // Writes records and reads what became of them.
    fn exchange(&mut self, records: &[u8]) -> Said {
        let failed = |error: String| Said { done: Done::default(), error: Some(error), record: None };
        // Refused early: the reason is in the answer.
        let written = self.file.write_all(records);
        let mut bytes = [0; 8192];
        let len = match self.file.read(&mut bytes) {
            Ok(len) => len,
            Err(error) => return failed(error.to_string()),
        };
        let answer: Value = serde_json::from_slice(&bytes[..len]).unwrap_or(Value::Null);
        let count = |name: &str| answer.get(name).and_then(Value::as_u64);
        let error = answer.get("error").and_then(Value::as_str).map(advice);
        let done = Done { set: count("set").unwrap_or(0), kept: count("kept").unwrap_or(0) };
        match (error, count("set"), written) {
            (None, Some(_), Ok(())) => Said { done, error: None, record: None },
            (Some(error), ..) => {
                let record = count("record").and_then(|record| usize::try_from(record).ok());
                Said { done, error: Some(error), record }
            }
            (None, _, Err(error)) => failed(error.to_string()),
            (None, None, Ok(())) => failed("the mount gave no answer; is it of an older version?".into()),
        }
    }
}

/// An answer of `append`, as it is read.
struct Said {
    done: Done,
    error: Option<String>,
    record: Option<usize>,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

// What to do about an error, behind its words.
fn advice(error: &str) -> String {
    let fix = match error {
        _ if error.contains("no space") || error.contains("free block") => {
            "; remove files or enlarge the volume, then go on with --skip-existing"
        }
        _ if error.contains("checksum") || error.contains("damaged") => {
            "; unmount and run fsck.vexfs -p, or restore the vector from its source"
        }
        _ if error.contains("read-only") => "; .vexfs/status.json says why the volume is read-only",
        _ => "",
    };
    format!("{error}{fix}")
}

// Appends a record: see vexfs_core's control/append.rs.
fn record(batch: &mut Vec<u8>, n: u32, path: &[u8], value: &[u8], keep: bool) {
    batch.extend(b"VEXA");
    batch.extend(n.to_le_bytes());
    batch.extend(0_u64.to_le_bytes());
    batch.extend((path.len() as u32).to_le_bytes());
    batch.extend((value.len() as u32).to_le_bytes());
    batch.extend(0_u32.to_le_bytes());
    batch.extend(if keep { KEEP } else { 0 }.to_le_bytes());
    batch.extend(path);
    batch.extend(value);
}

// Numbers in a record's header.
fn int(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
}

// Bytes of the first `count` records.
fn length_of(records: &[u8], count: usize) -> usize {
    (0..count).fold(0, |at, _| {
        let rest = &records[at..];
        at + HEADER + int(rest, 16) as usize + int(rest, 20) as usize
    })
}

// Records with the paths that links stand for.
fn resolved(records: &[u8], site: &Site) -> Result<Vec<u8>, Failure> {
    let mut rest = records;
    let mut made = Vec::with_capacity(records.len());
    while rest.len() >= HEADER {
        let (n, keep) = (int(rest, 4), int(rest, 28) & KEEP != 0);
        let (path_len, value_len) = (int(rest, 16) as usize, int(rest, 20) as usize);
        let (path, value) = rest[HEADER..HEADER + path_len + value_len].split_at(path_len);
        let path = site.root.join(Path::new(std::ffi::OsStr::from_bytes(path)));
        let whole = path.canonicalize().map_err(|error| Failure::io(&path, &error))?;
        record(&mut made, n, below(&whole, site)?.as_os_str().as_bytes(), value, keep);
        rest = &rest[HEADER + path_len + value_len..];
    }
    Ok(made)
}

fn below<'p>(path: &'p Path, site: &Site) -> Result<&'p Path, Failure> {
    let outside = || Failure::new(format!("{}: is not on {}", path.display(), site.root.display()));
    path.strip_prefix(&site.root).map_err(|_| outside())
}

// Paths relative to the mount, by their directories, which are looked up once each.
struct Relative<'a> {
    site: &'a Site,
    known: HashMap<PathBuf, PathBuf>,
}

impl Relative<'_> {
    fn of(&mut self, path: &Path) -> Result<PathBuf, Failure> {
        let failed = |error: io::Error| Failure::io(path, &error);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return below(&path.canonicalize().map_err(failed)?, self.site).map(Path::to_owned);
        };
        if let Some(known) = self.known.get(parent) {
            return Ok(known.join(name));
        }
        let here = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let whole = here.canonicalize().map_err(failed)?;
        let relative = below(&whole, self.site)?.to_owned();
        let found = relative.join(name);
        self.known.insert(parent.to_owned(), relative);
        Ok(found)
    }
}
