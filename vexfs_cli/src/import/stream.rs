//! Vectors on their way into a collection: through its `append`, in batches; or, where a mount has none, one by one.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::list::Target;
use crate::failure::Failure;
use crate::site::{Place, Site, VectorName};
use crate::value;
use crate::xattr;

/// Bytes of a batch, about: some thousand vectors, each batch one transaction.
const BATCH_BYTES: usize = 4 << 20;
const HEADER: usize = 32;
const KEEP: u32 = 1;

/// What became of vectors.
#[derive(Clone, Copy, Default)]
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
    append: Option<File>,
    batch: Vec<u8>,
    /// The line of each record in the batch.
    lines: Vec<usize>,
    paths: Relative<'a>,
}

impl<'a> Stream<'a> {
    /// Opens the way into a collection; `keep` leaves vectors alone that are there.
    pub(super) fn open(place: &'a Place, keep: bool) -> Result<Self, Failure> {
        let path = place.directory.join("append");
        let append = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => Some(file),
            // A host without it, or a caller who may write but not read: each vector is an attribute.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                None
            }
            Err(error) => return Err(Failure::io(&path, &error)),
        };
        let paths = Relative { site: &place.site, known: HashMap::new() };
        Ok(Self { place, keep, append, batch: Vec::new(), lines: Vec::new(), paths })
    }

    /// Takes a vector; gives what was done meanwhile.
    pub(super) fn push(&mut self, target: &Target, bytes: &[u8]) -> Result<Done, Refused> {
        if self.append.is_none() {
            return self.one(target, bytes).map_err(|failure| Refused { line: Some(target.line), failure });
        }
        let path = self.paths.of(&target.path);
        let path = path.map_err(|failure| Refused { line: Some(target.line), failure })?;
        record(&mut self.batch, target.n, path.as_os_str().as_bytes(), bytes, self.keep);
        self.lines.push(target.line);
        if self.batch.len() < BATCH_BYTES { Ok(Done::default()) } else { self.send() }
    }

    /// Sends what is left and waits until all is on disk.
    pub(super) fn finish(mut self) -> Result<Done, Refused> {
        let done = self.send()?;
        let synced = match &self.append {
            Some(append) => append.sync_all(),
            None => File::open(&self.place.site.root).and_then(|root| root.sync_all()),
        };
        synced.map_err(|error| Failure::new(format!("the volume cannot make it durable: {error}")))?;
        Ok(done)
    }

    // One batch: written, and its answer read.
    fn send(&mut self) -> Result<Done, Refused> {
        let Some(append) = &mut self.append else { return Ok(Done::default()) };
        if self.batch.is_empty() {
            return Ok(Done::default());
        }
        let mut answer = exchange(append, &self.batch);
        if answer.error.as_deref().is_some_and(|error| error.contains("symbolic link")) {
            // The daemon follows no links; here they can be followed, as the caller.
            let resolved = resolved(&self.batch, &self.place.site)?;
            let path = self.place.directory.join("append");
            let opened = OpenOptions::new().read(true).write(true).open(&path);
            *append = opened.map_err(|error| Failure::io(&path, &error))?;
            answer = exchange(append, &resolved);
        }
        if let Some(error) = answer.error {
            let line = answer.record.and_then(|record| self.lines.get(record)).copied();
            return Err(Refused { line, failure: Failure::new(error) });
        }
        self.batch.clear();
        self.lines.clear();
        Ok(answer.done)
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

struct Answer {
    done: Done,
    error: Option<String>,
    record: Option<usize>,
}

// Writes a batch and reads what became of it.
fn exchange(append: &mut File, batch: &[u8]) -> Answer {
    let failed = |error: String| Answer { done: Done::default(), error: Some(error), record: None };
    // Refused early: the reason is in the answer.
    let written = append.write_all(batch);
    let mut bytes = [0; 8192];
    let len = match append.read(&mut bytes) {
        Ok(len) => len,
        Err(error) => return failed(error.to_string()),
    };
    let answer: Value = serde_json::from_slice(&bytes[..len]).unwrap_or(Value::Null);
    let count = |name: &str| answer.get(name).and_then(Value::as_u64);
    let error = answer.get("error").and_then(Value::as_str).map(advice);
    match (error, count("set"), written) {
        (None, Some(set), Ok(())) => {
            Answer { done: Done { set, kept: count("kept").unwrap_or(0) }, error: None, record: None }
        }
        (Some(error), ..) => {
            let record = count("record").and_then(|record| usize::try_from(record).ok());
            Answer { done: Done::default(), error: Some(error), record }
        }
        (None, _, Err(error)) => failed(error.to_string()),
        (None, None, Ok(())) => failed("the mount gave no answer; is it of an older version?".into()),
    }
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

// A batch with the paths that links stand for.
fn resolved(batch: &[u8], site: &Site) -> Result<Vec<u8>, Failure> {
    let mut rest = batch;
    let mut made = Vec::with_capacity(batch.len());
    let int = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes)
    };
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
