//! Setting what a command made: all vectors of a file in a collection, and no others.
//!
//! Each names the content version that it was made from. Until the last step one of the file's vectors is stale, so that a
//! file of which only a part was set when this process died is still one that there is something to do for.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use vexfs_search::Schema;

use super::claim::Item;
use super::handle;
use crate::failure::Failure;
use crate::site::{Place, VectorName};
use crate::value;
use crate::vector::Given;
use crate::xattr;

/// What was done for a batch.
#[derive(Default)]
pub(super) struct Tally {
    /// Files whose vectors were set.
    pub(super) set: usize,
    pub(super) vectors: usize,
    /// Files that the command has no vector for, by inode.
    pub(super) left_without: HashSet<u64>,
    /// Files that were removed meanwhile.
    pub(super) gone: usize,
    /// Files that others set newer vectors of.
    pub(super) overtaken: usize,
}

/// What became of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Set,
    LeftWithout,
    Gone,
    Overtaken,
}

/// The bytes of a file's vectors, checked.
pub(super) fn encode(place: &Place, schema: &Schema, vectors: &[Given]) -> Result<Vec<Vec<u8>>, String> {
    let encode = |given: &Given| {
        let bytes = given.encode(schema.element)?.into_owned();
        value::check(&place.name.collection, Some(schema), None, &bytes)
            .map_err(|failure| failure.to_string())?;
        Ok(bytes)
    };
    vectors.iter().map(encode).collect()
}

/// Sets the vectors of a file, and removes those that it has beyond them.
pub(super) fn store(place: &Place, item: &Item, vectors: &[Vec<u8>]) -> Result<Outcome, Failure> {
    let gone = || item.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
    if gone() {
        return Ok(Outcome::Gone);
    }
    let held = handle(&item.file);
    let file = Vectors { place, path: &held, version: item.version };
    match file.replace(vectors) {
        Ok(()) if vectors.is_empty() => Ok(Outcome::LeftWithout),
        Ok(()) => Ok(Outcome::Set),
        Err((_, error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(Outcome::Overtaken),
        Err(_) if gone() => Ok(Outcome::Gone),
        Err((name, error)) => Err(value::explain(&item.path, &name, &place.site, &error)),
    }
}

// The vectors of a file in the collection.
struct Vectors<'a> {
    place: &'a Place,
    path: &'a Path,
    version: u64,
}

// The attribute, and what was wrong.
type Step = Result<(), (String, io::Error)>;

impl Vectors<'_> {
    fn replace(&self, vectors: &[Vec<u8>]) -> Step {
        let there = self.numbers().map_err(|error| (self.name(0), error))?;
        let count = vectors.len() as u32;
        let stale = there
            .iter()
            .copied()
            .find(|n| !xattr::exists(self.path, &self.named(*n, self.version)).is_ok_and(|exists| exists));
        // The vector that is stale until all else is done.
        let last = match (stale, vectors.first()) {
            (None, Some(first)) if count > 1 && there.is_empty() && self.version > 1 => {
                self.put(0, self.version - 1, first)?;
                0
            }
            (stale, _) => stale.unwrap_or(0),
        };
        for n in (0..count).filter(|n| *n != last) {
            self.put(n, self.version, &vectors[n as usize])?;
        }
        for n in there.iter().copied().filter(|n| *n >= count && *n != last) {
            self.remove(n)?;
        }
        match vectors.get(last as usize) {
            Some(vector) => self.put(last, self.version, vector),
            None if there.contains(&last) => self.remove(last),
            None => Ok(()),
        }
    }

    fn put(&self, n: u32, version: u64, vector: &[u8]) -> Step {
        let name = self.named(n, version);
        xattr::set(self.path, &name, vector).map_err(|error| (name, error))
    }

    fn remove(&self, n: u32) -> Step {
        let name = self.name(n);
        match xattr::remove(self.path, &name) {
            Err(error) if error.raw_os_error() != Some(libc::ENODATA) => Err((name, error)),
            _ => Ok(()),
        }
    }

    // The numbers of the vectors that the file has.
    fn numbers(&self) -> io::Result<Vec<u32>> {
        let names = xattr::list(self.path)?;
        let parsed =
            names.iter().filter_map(|name| VectorName::parse(name.strip_prefix("user.vector.")?).ok());
        Ok(parsed.filter(|name| name.collection == self.place.name.collection).map(|name| name.n).collect())
    }

    fn name(&self, n: u32) -> String {
        VectorName { n, ..self.place.name.clone() }.attribute()
    }

    fn named(&self, n: u32, version: u64) -> String {
        format!("{}@{version}", self.name(n))
    }
}
