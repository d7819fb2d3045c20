//! Open directories below `.vexfs/near`, and their entries.
//!
//! INVARIANT: what a descriptor lists is what its opener finds, whoever reads it. A directory of links is searched when it is
//! read from its beginning, not when it is opened, and one reading of it is one answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuser::FileHandle;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::Attributes;
use vexfs_core::{Error, Result};

use super::entries::{self, Entry};
use super::links::{self, FIRST_COOKIE};
use super::nodes::Node;
use super::{NearDirectory, as_node};
use crate::attributes::{Asker, Who};

/// Where entries go.
pub trait Sink: Send + 'static {
    /// Takes one, unless it is full, which it answers with true.
    fn add(&mut self, shown: &Attributes, cookie: u64, name: &[u8]) -> bool;

    /// True if an entry that is taken tells the kernel of its inode.
    fn tells(&self) -> bool;

    /// The end.
    fn end(self, result: Result<()>);
}

/// All open directories.
#[derive(Default)]
pub(super) struct Listings {
    open: Mutex<HashMap<u64, Arc<Listing>>>,
    last: AtomicU64,
}

struct Listing {
    asker: Arc<Asker>,
    /// What was found at the last beginning, of a directory of links or collections.
    found: Mutex<Vec<Entry>>,
}

impl NearDirectory {
    /// Opens a directory for `who`.
    ///
    /// # Errors
    /// `AccessDenied` where `who` may not be told what is near.
    pub fn open(&self, who: Who, inode: Ino) -> Result<FileHandle> {
        let asker = Arc::new(Asker::of(who));
        let id = match self.nodes.node(inode).ok_or(Error::NotFound)? {
            Node::File { parent, name } => Some((parent, name, None)),
            Node::Collection { parent, name, id } => Some((parent, name, Some(id))),
            Node::Directory(_) => None,
            Node::Link { .. } => return Err(Error::NotDirectory),
        };
        if let Some((parent, name, id)) = id
            && let Some(subject) = links::subject(&*self.service, parent, &name, id)?
        {
            asker.as_caller(|caller| subject.check(&*self.service, caller))?;
        }
        let number = self.listings.last.fetch_add(1, Ordering::Relaxed) + 1;
        let listing = Listing { asker, found: Mutex::default() };
        self.listings.open().insert(number, Arc::new(listing));
        Ok(FileHandle(number))
    }

    /// Closes a directory.
    pub fn close(&self, handle: FileHandle) {
        self.listings.open().remove(&handle.0);
    }

    /// Gives `sink` the entries of an open directory from `offset` on, on another thread.
    pub fn list(self: &Arc<Self>, handle: FileHandle, inode: Ino, offset: u64, mut sink: impl Sink) {
        let near = Arc::clone(self);
        self.pool.run(move || {
            let listed = near.list_now(handle, inode, offset, &mut sink);
            sink.end(listed);
        });
    }

    fn list_now(&self, handle: FileHandle, inode: Ino, offset: u64, sink: &mut impl Sink) -> Result<()> {
        let node = self.nodes.node(inode).ok_or(Error::NotFound)?;
        let listing = self.listings.open().get(&handle.0).cloned().ok_or(Error::NotFound)?;
        let own = entries::attributes(&*self.service, &self.nodes, inode)?;
        if offset < 1 && sink.add(&own, 1, b".") {
            return Ok(());
        }
        let above = Attributes { inode: entries::parent(&*self.service, &node)?, ..own };
        if offset < 2 && sink.add(&above, 2, b"..") {
            return Ok(());
        }
        if let Node::Directory(of) = node {
            return self.list_directory(of, offset, sink);
        }
        let mut found = listing.found.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            *found = self.entries(&listing.asker, &node)?;
        }
        let _ = found.iter().filter(|entry| entry.cookie > offset).all(|entry| self.give(entry, sink));
        Ok(())
    }

    fn list_directory(&self, of: Ino, offset: u64, sink: &mut impl Sink) -> Result<()> {
        let mut after = if offset < FIRST_COOKIE { 0 } else { offset };
        loop {
            let (some, next) = entries::some(&*self.service, of, after)?;
            if !some.iter().all(|entry| self.give(entry, sink)) {
                return Ok(());
            }
            match next {
                Some(next) => after = next,
                None => return Ok(()),
            }
        }
    }

    // The links, or the collections to choose from.
    fn entries(&self, asker: &Arc<Asker>, node: &Node) -> Result<Vec<Entry>> {
        if let Node::File { parent, name } = node {
            let collections = entries::collections(&*self.service, *parent, name)?;
            if collections.len() != 1 {
                return Ok(collections);
            }
        }
        let (subject, links) = self.search(asker, node)?;
        let entry = |(link, cookie): (&links::Link, u64)| {
            let (node, shown) = as_node(&subject, link);
            Entry { node, name: link.name.clone(), shown, cookie }
        };
        Ok(links.iter().zip(FIRST_COOKIE..).map(entry).collect())
    }

    // False if it was not taken.
    fn give(&self, entry: &Entry, sink: &mut impl Sink) -> bool {
        let inode = match sink.tells() {
            true => self.nodes.tell(&entry.node, &entry.shown),
            false => self.nodes.number_of(&entry.node),
        };
        let full = sink.add(&Attributes { inode, ..entry.shown }, entry.cookie, &entry.name);
        if full && sink.tells() {
            self.nodes.forget(inode, 1);
        }
        !full
    }
}

impl Listings {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Listing>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
