//! A directory as maps in memory: what acts make of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::bytes::{floats, noise};
use crate::told::{Act, DIMENSIONS, vector_name};

/// Names and values of a file's attributes, vectors among them.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// The directory of one worker.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Its files by name.
    pub files: BTreeMap<String, File>,
    worker: u32,
    made: usize,
}

/// A file; copies share what they hold.
#[derive(Clone, Debug)]
pub struct File {
    /// The same as long as it lives, whatever its name; counts from 0.
    pub number: usize,
    /// Its content.
    pub bytes: Arc<Vec<u8>>,
    /// Its attributes.
    pub attributes: Arc<Attributes>,
}

impl Directory {
    /// An empty one, of this worker.
    pub fn new(worker: u32) -> Self {
        Self { files: BTreeMap::new(), worker, made: 0 }
    }

    /// Does an act.
    ///
    /// # Errors
    /// An act on what is not there.
    pub fn apply(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Create(file) => {
                let new = File { number: self.made, bytes: Arc::default(), attributes: Arc::default() };
                self.made += 1;
                if self.files.insert(file.clone(), new).is_some() {
                    return Err(format!("{file} is there already"));
                }
            }
            Act::Write { file, offset, len, seed, .. } => {
                overwrite(self.bytes(file)?, *offset as usize, &noise(*seed, *len as usize));
            }
            Act::Truncate(file, size) => self.bytes(file)?.resize(*size as usize, 0),
            Act::Punch(file, offset, len) => {
                let bytes = self.bytes(file)?;
                let end = bytes.len().min((offset + len) as usize);
                bytes[(*offset as usize).min(end)..end].fill(0);
            }
            Act::Set(file, number, len, seed) => {
                self.attributes(file)?.insert(format!("user.{number}"), noise(*seed, *len as usize));
            }
            Act::Vector(file, n, seed) => {
                let name = vector_name(self.worker, *n);
                self.attributes(file)?.insert(name, floats(*seed, DIMENSIONS));
            }
            Act::Forget(file, n) => {
                let name = vector_name(self.worker, *n);
                self.attributes(file)?.remove(&name).ok_or_else(|| format!("{file} has no {name}"))?;
            }
            Act::Rename(from, to) => {
                let mut saved = self.files.remove(from).ok_or_else(|| format!("no {from}"))?;
                if let Some(replaced) = self.files.get(to) {
                    saved.inherit(replaced);
                }
                self.files.insert(to.clone(), saved);
            }
            Act::Unlink(file) => drop(self.files.remove(file).ok_or_else(|| format!("no {file}"))?),
            Act::Sync(_) | Act::SyncData(_) | Act::SyncDirectory | Act::SyncAll | Act::End => {}
        }
        Ok(())
    }

    fn file(&mut self, name: &str) -> Result<&mut File, String> {
        self.files.get_mut(name).ok_or_else(|| format!("no {name}"))
    }

    fn bytes(&mut self, file: &str) -> Result<&mut Vec<u8>, String> {
        self.file(file).map(|file| Arc::make_mut(&mut file.bytes))
    }

    fn attributes(&mut self, file: &str) -> Result<&mut Attributes, String> {
        self.file(file).map(|file| Arc::make_mut(&mut file.attributes))
    }
}

impl File {
    // What is saved over a file gets its vectors, if it has none.
    fn inherit(&mut self, replaced: &Self) {
        let is_vector = |name: &String| name.starts_with("user.vector.");
        if !self.attributes.keys().any(is_vector) {
            let vectors = replaced.attributes.iter().filter(|(name, _)| is_vector(name));
            let vectors = vectors.map(|(name, value)| (name.clone(), value.clone()));
            Arc::make_mut(&mut self.attributes).extend(vectors);
        }
    }
}

fn overwrite(bytes: &mut Vec<u8>, start: usize, with: &[u8]) {
    let end = start + with.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(with);
}
