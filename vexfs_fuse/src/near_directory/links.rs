//! What is near to a file, as symbolic links: who is found, what the links are called, and where they lead.
//!
//! INVARIANT: they are what the caller finds, by directories that he may list and pass, of a file that he may read and a
//! collection that he may search. A link that is shown from an answer of some seconds ago is looked up once more: its row must
//! still hold that vector, its file still be found at that path by who asks now.

use std::fmt::Write;

use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Attributes, Caller, FileVector, Holder, Reach};
use vexfs_core::{Error, Result};

use crate::near::{Indexed, Nearest, Source, nearest_files};

/// Cookies of a directory's entries begin here.
pub(super) const FIRST_COOKIE: u64 = 3;
/// Links in a directory at most.
const LINKS_MAX: usize = 20;
/// Bytes of a file's name at most.
const NAME_MAX: usize = 255;

/// A file with what is asked of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// The file.
    pub(super) file: Attributes,
    /// The vector that others are compared with: the file's first one of the collection.
    pub(super) vector: FileVector,
    /// Directories between the root and the links.
    pub(super) depth: usize,
}

/// A link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: Vec<u8>,
    /// From the root of the volume on.
    path: Vec<u8>,
    row: u64,
    vector_id: u64,
}

impl Subject {
    /// The links, nearest first.
    ///
    /// # Errors
    /// `AccessDenied` where the caller may not read the file or search the collection.
    pub(super) fn links(&self, source: &impl Indexed, caller: &Caller<'_>) -> Result<Vec<Link>> {
        self.check(source, caller)?;
        let vector = (self.vector.collection, self.vector.row);
        let found = nearest_files(source, vector, self.file.inode, caller, LINKS_MAX)?;
        // The root is found as a directory that has a vector, but a link to it would lead round in a circle.
        let files = found.into_iter().filter(|found| !found.path.is_empty());
        Ok(files.enumerate().map(|(index, found)| Link::new(index + 1, found)).collect())
    }

    /// Fails unless the caller may be told what is near.
    pub(super) fn check(&self, source: &impl Source, caller: &Caller<'_>) -> Result<()> {
        let (file, id) = (self.file.inode, self.vector.collection);
        if !source.look(|volume| Ok(volume.may_read(file, caller)? && volume.may_search(id, caller)?))? {
            return Err(Error::AccessDenied("no read permission on the file or its collection"));
        }
        Ok(())
    }

    /// True if a link still is what it was, for this caller.
    pub(super) fn holds(&self, link: &Link, source: &impl Source, caller: &Caller<'_>) -> Result<bool> {
        let id = self.vector.collection;
        let mut reach = Reach::new(ROOT, Some(self.file.inode));
        let holder = source.look(|volume| volume.holder(id, link.row, link.vector_id, caller, &mut reach))?;
        Ok(matches!(holder, Holder::Found(owner) if owner.path == link.path))
    }

    /// The file, and the number of its vector: of one that is set anew it is another.
    pub(super) fn key(&self) -> (Ino, u64) {
        (self.file.inode, self.vector.vector_id)
    }

    /// Where a link leads, from the directory that it is in.
    pub(super) fn target(&self, link: &Link) -> Vec<u8> {
        [&b"../".repeat(self.depth)[..], &link.path].concat()
    }
}

impl Link {
    fn new(rank: usize, found: Nearest) -> Self {
        let mut start = String::new();
        let _ = write!(start, "{rank:02} {:.3} ", found.score);
        let last = found.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name = [start.as_bytes(), shortened(last, NAME_MAX - start.len())].concat();
        Self { name, path: found.path, row: found.row, vector_id: found.vector_id }
    }
}

/// True for what can be the name of a link; nothing has to be searched for any other.
pub(super) fn is_link_name(name: &[u8]) -> bool {
    let mut parts = name.splitn(3, |byte| *byte == b' ');
    let rank = parts.next().unwrap_or_default();
    let score = parts.next().and_then(|score| std::str::from_utf8(score).ok());
    rank.len() == 2
        && rank.iter().all(u8::is_ascii_digit)
        && score.is_some_and(|score| score.parse::<f32>().is_ok())
        && parts.next().is_some_and(|rest| !rest.is_empty())
}

// The beginning of a name that is too long with a rank before it, cut between two characters.
fn shortened(name: &[u8], len_max: usize) -> &[u8] {
    if name.len() <= len_max {
        return name;
    }
    let is_inside = |byte: u8| byte & 0xc0 == 0x80;
    let cut = (0..=len_max).rev().find(|cut| !is_inside(name[*cut])).filter(|cut| cut + 4 > len_max);
    &name[..cut.unwrap_or(len_max)]
}

/// The file of `name` in a directory, its vector of `id` or of its only collection, and its place; fails with `NoAttribute`
/// where there is no such vector, and gives none where there are several collections to choose from.
pub(super) fn subject(
    source: &impl Source,
    parent: Ino,
    name: &[u8],
    id: Option<CollectionId>,
) -> Result<Option<Subject>> {
    source.look(|volume| {
        let file = volume.lookup(parent, name)?;
        if file.kind != FileKind::Regular {
            return Err(Error::NotFound);
        }
        let vector = volume.first_vector(file.inode, id.unwrap_or(CollectionId(0)))?;
        let vector = vector.ok_or(Error::NoAttribute)?;
        let next = CollectionId(vector.collection.0.saturating_add(1));
        match id {
            Some(id) if vector.collection != id => return Err(Error::NoAttribute),
            None if volume.first_vector(file.inode, next)?.is_some() => return Ok(None),
            _ => {}
        }
        let above = volume.path(parent)?.ok_or(Error::NotFound)?;
        let above = above.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).count();
        // `.vexfs`, `near`, the directories, the file, and perhaps the collection.
        let depth = 3 + above + usize::from(id.is_some());
        Ok(Some(Subject { file, vector, depth }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &[u8], score: f32) -> Nearest {
        Nearest { path: path.to_vec(), score, row: 3, vector_id: 5 }
    }

    #[test]
    fn names_sort_by_rank_and_are_known_again() {
        for (rank, score, name) in [(1, 0.8734, "01 0.873 b c"), (12, -2.5, "12 -2.500 b c")] {
            let link = Link::new(rank, found(b"a/b c", score));
            assert_eq!(link.name, name.as_bytes());
            assert!(is_link_name(&link.name));
        }
        for other in
            [&b".git"[..], b"01 0.873", b"01 0.873 ", b"1 0.873 a", b"desktop.ini", b"minilm", b"01 x.y a"]
        {
            assert!(!is_link_name(other), "{other:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        for name in ["x".repeat(255), "\u{e4}".repeat(127), format!("y{}", "\u{1f40b}".repeat(63))] {
            let link = Link::new(7, found(name.as_bytes(), 0.5));
            assert!((NAME_MAX - 3..=NAME_MAX).contains(&link.name.len()), "{}", link.name.len());
            assert!(std::str::from_utf8(&link.name).is_ok() && is_link_name(&link.name));
        }
        let bytes = [0x80; 255];
        assert_eq!(Link::new(7, found(&bytes, 0.5)).name.len(), NAME_MAX);
        assert_eq!(Link::new(7, found(b"\xff\n", 0.5)).name, b"07 0.500 \xff\n");
    }
}
