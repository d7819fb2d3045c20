//! Whose a row is, for a caller: the file, if it can be found by directories that the caller may list and pass.
//!
//! Many rows are asked for at once, most of them perhaps out of reach, so each directory is looked at once: a row costs a
//! look at its record and at its file's links. A path is made, as it is at that moment, only for what is told.

use alloc::vec::Vec;

use super::metadata::of_row;
use super::path::{Circle, DEPTH_MAX, LIST_AND_PASS, joined};
use super::types::Caller;
use super::{acl, inode};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, FileKind, Key, Kind, LinkRecord, ROOT, collection_directory, parse_exact};
use crate::memory::{self, Map};
use crate::numbers::{CollectionId, Ino};
use crate::tree;
use crate::volume::Volume;

/// Read permission.
const READ: u32 = 4;
/// Search permission.
const PASS: u32 = 1;

/// Directories that are known at a time; beyond, what was found out is forgotten.
const KNOWN_MAX: usize = 1 << 18;

/// How far a caller reaches: what was found out of directories, for one question.
#[derive(Debug)]
pub struct Reach {
    below: Ino,
    without: Option<Ino>,
    known: Map<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// Found by directories that the caller may list and pass, and such a one itself.
    open: bool,
    /// It is `below`, or lies in it.
    inside: bool,
}

/// A row's file.
#[derive(Debug, PartialEq, Eq)]
pub struct Owner {
    /// The file.
    pub inode: Ino,
    /// Which of its vectors the row is.
    pub n: u32,
    /// Its path from the root of the volume.
    pub path: Vec<u8>,
    /// The vector's metadata.
    pub metadata: Option<Vec<u8>>,
}

/// Who has a row.
#[derive(Debug, PartialEq, Eq)]
pub enum Holder {
    /// A file that the caller finds.
    Found(Owner),
    /// A file that the caller does not find, or that is left out.
    Hidden,
    /// Not that vector any more.
    Gone,
}

impl Reach {
    /// Files in or below a directory, the root for all, but for one that is left out.
    pub const fn new(below: Ino, without: Option<Ino>) -> Self {
        Self { below, without, known: Map::new() }
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Who has `row` of a collection, which held the vector of this number.
    ///
    /// # Errors
    /// A damaged file or directory hides its files; only what the tree itself cannot tell is an error.
    pub fn holder(
        &self,
        id: CollectionId,
        row: u64,
        vector_id: u64,
        caller: &Caller<'_>,
        reach: &mut Reach,
    ) -> Result<Holder> {
        let Some(record) = self.row(id, row)?.filter(|record| record.header.vector_id.get() == vector_id)
        else {
            return Ok(Holder::Gone);
        };
        let file = Ino(record.header.file_inode.get());
        if reach.without == Some(file) {
            return Ok(Holder::Hidden);
        }
        match hidden_if_damaged(self.path_of(file, caller, reach))? {
            Some(path) => {
                let metadata = of_row(self, id, row)?;
                Ok(Holder::Found(Owner { inode: file, n: record.n.get(), path, metadata }))
            }
            None => Ok(Holder::Hidden),
        }
    }

    /// True if `caller` may read the file at `inode`.
    pub fn may_read(&self, inode: Ino, caller: &Caller<'_>) -> Result<bool> {
        acl::permits(self, inode, caller, READ)
    }

    /// True if `caller` may search a collection: reach its files, and read them.
    pub fn may_search(&self, id: CollectionId, caller: &Caller<'_>) -> Result<bool> {
        Ok(acl::permits(self, COLLECTIONS, caller, PASS)?
            && acl::permits(self, collection_directory(id), caller, LIST_AND_PASS)?)
    }

    // The first of the file's paths that leads through open directories only, and through the one asked for.
    fn path_of(&self, file: Ino, caller: &Caller<'_>, reach: &mut Reach) -> Result<Option<Vec<u8>>> {
        let mut found = None;
        let mut damaged = None;
        let (from, to) = (Key::new(file, Kind::Link, 0), Key::last(file, Kind::Link));
        tree::scan(self, from, to, &mut |_, value| {
            let link: &LinkRecord = parse_exact(value, "inode", file.0)?;
            let known = self.directory_known(Ino(link.parent.get()), caller, reach)?;
            if known.open && known.inside {
                match self.names_to(file, link, &|_| Ok(true)) {
                    Ok(names) => found = names,
                    Err(error) => damaged = Some(error),
                }
            }
            Ok(found.is_none())
        })?;
        match (found, damaged) {
            (Some(names), _) => joined(&names).map(Some),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    // What is known of a directory; finds it out for all between it and the next one that is known.
    fn directory_known(&self, directory: Ino, caller: &Caller<'_>, reach: &mut Reach) -> Result<Known> {
        let closed = Known { open: false, inside: false };
        if reach.known.len() > KNOWN_MAX {
            reach.known = Map::new();
        }
        let mut climbed: Vec<Ino> = Vec::new();
        let mut circle = Circle::default();
        let mut at = directory;
        let mut known = loop {
            if let Some(known) = reach.known.get(at.0) {
                break *known;
            }
            if climbed.len() >= DEPTH_MAX || circle.closes_at(at) {
                break closed;
            }
            memory::push(&mut climbed, at)?;
            if hidden_if_damaged(self.open_directory(at, caller).map(Some))? != Some(true) {
                break closed;
            }
            if at == ROOT || at == COLLECTIONS {
                // No directory of files holds the control directory's.
                break Known { open: true, inside: reach.below == ROOT };
            }
            match hidden_if_damaged(self.named_parent(at))? {
                Some(parent) => at = parent,
                None => break closed,
            }
        };
        for directory in climbed.into_iter().rev() {
            known.inside |= directory == reach.below;
            reach.known.insert(directory.0, known)?;
        }
        Ok(known)
    }

    fn open_directory(&self, directory: Ino, caller: &Caller<'_>) -> Result<bool> {
        let record = inode::load(self, directory)?;
        Ok(record.kind(directory)? == FileKind::Directory
            && acl::permits(self, directory, caller, LIST_AND_PASS)?)
    }

    // The directory that holds this one, and has a name for it.
    fn named_parent(&self, directory: Ino) -> Result<Option<Ino>> {
        let (from, to) = (Key::new(directory, Kind::Link, 0), Key::last(directory, Kind::Link));
        let Some((_, value)) = tree::first(self, from, to)? else { return Ok(None) };
        let link: &LinkRecord = parse_exact(&value, "inode", directory.0)?;
        self.entry_name(directory, link)?;
        Ok(Some(Ino(link.parent.get())))
    }
}

// What is damaged is found by nobody; fsck names it.
fn hidden_if_damaged<T>(result: Result<Option<T>>) -> Result<Option<T>> {
    match result {
        Err(Error::NotFound | Error::Corrupt(_)) => Ok(None),
        result => result,
    }
}
