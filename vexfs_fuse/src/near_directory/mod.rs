//! `.vexfs/near/PATH/`: symbolic links to the files nearest to the file at PATH, nearest first.
//!
//! INVARIANT: the kernel keeps none of it without asking again. It shares names, attributes and pages between all users, so
//! what depends on who asks must be no part of them: names are looked up anew at each use, as who uses them; directories
//! are listed as who opened them, and from no cache; and an inode shows the same to everybody who was told its number.
//!
//! ```text
//! nodes      inode numbers, and what they stand for
//! entries    the volume's directories, which show the same to all
//! links      what is near to a file, as its caller finds it
//! answers    the links of the last seconds
//! listing    open directories
//! ```

mod answers;
mod entries;
mod links;
mod listing;
mod nodes;

use std::sync::Arc;

use vexfs_core::format::FileKind;
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Attributes, Caller};
use vexfs_core::{Error, Result};

use self::answers::Answers;
use self::links::{Link, Subject};
use self::listing::Listings;
pub use self::listing::Sink;
pub use self::nodes::is_near;
use self::nodes::{Node, Nodes};
use crate::attributes::{Asker, Who};
use crate::near::{Indexed, Pool, Source};
use crate::service::Service;

/// The directory of a mount.
pub struct NearDirectory {
    service: Arc<Service>,
    /// Threads for what has to wait for a search.
    pool: Arc<Pool>,
    nodes: Nodes,
    answers: Answers,
    listings: Listings,
}

impl NearDirectory {
    /// The directory of the volume that `service` shares.
    pub fn new(service: Arc<Service>, pool: Arc<Pool>) -> Self {
        Self {
            service,
            pool,
            nodes: Nodes::default(),
            answers: Answers::default(),
            listings: Listings::default(),
        }
    }

    /// Finds the entry `name` for `who`, and gives it to `then`, on another thread if it has to wait for a search.
    pub fn lookup(
        self: &Arc<Self>,
        who: Who,
        parent: Ino,
        name: &[u8],
        then: impl FnOnce(Result<Attributes>) + Send + 'static,
    ) {
        let found = match self.nodes.node(parent) {
            Some(Node::Directory(parent)) => {
                entries::find(&*self.service, parent, name).map(|(node, shown)| self.tell(&node, &shown))
            }
            Some(node) if links::is_link_name(name) => {
                let (near, name, asker) = (Arc::clone(self), name.to_vec(), Arc::new(Asker::of(who)));
                return match near.link_known(&asker, &node, &name) {
                    Ok(None) => {
                        let pool = Arc::clone(&self.pool);
                        pool.run(move || then(near.link(&asker, &node, &name)));
                    }
                    Ok(Some(found)) => then(Ok(found)),
                    Err(error) => then(Err(error)),
                };
            }
            Some(Node::File { parent, name: file }) => self.collection(parent, &file, name),
            _ => Err(Error::NotFound),
        };
        then(found);
    }

    /// What an inode shows; none if it is not here, as below.
    ///
    /// # Errors
    /// `NotFound` of what is no more.
    pub fn attributes(&self, inode: Ino) -> Option<Result<Attributes>> {
        is_near(inode).then(|| entries::attributes(&*self.service, &self.nodes, inode))
    }

    /// An attribute of an inode: it has none but an access list.
    ///
    /// # Errors
    /// `NoAttribute`.
    pub fn attribute(&self, inode: Ino, name: &[u8]) -> Option<Result<Vec<u8>>> {
        is_near(inode).then(|| entries::access_list(&*self.service, &self.nodes, inode, name))
    }

    /// Where a link leads.
    pub fn target(&self, inode: Ino) -> Option<Result<Vec<u8>>> {
        is_near(inode).then(|| match self.nodes.node(inode) {
            Some(Node::Link { target }) => Ok(target),
            Some(_) => Err(Error::Invalid("not a symbolic link")),
            None => Err(Error::NotFound),
        })
    }

    /// The kernel forgets an inode, as often as it says.
    pub fn forget(&self, inode: Ino, times: u64) {
        if is_near(inode) {
            self.nodes.forget(inode, times);
        }
    }

    // One of a file's collections.
    fn collection(&self, parent: Ino, file: &[u8], name: &[u8]) -> Result<Attributes> {
        let collections = entries::collections(&*self.service, parent, file)?;
        let found = collections.iter().find(|entry| entry.name == name).ok_or(Error::NotFound)?;
        Ok(self.tell(&found.node, &found.shown))
    }

    // A link that was found lately; none if it is to be searched for.
    fn link_known(&self, asker: &Asker, node: &Node, name: &[u8]) -> Result<Option<Attributes>> {
        let subject = self.subject(node)?;
        asker.as_caller(|caller| {
            subject.check(&*self.service, caller)?;
            let Some(answer) = self.answers.find(asker, &subject) else { return Ok(None) };
            match answer.link(name) {
                Some(link) if subject.holds(link, &*self.service, caller)? => {
                    Ok(Some(self.tell_link(&subject, link)))
                }
                None if answer.tells_missing() => Err(Error::NotFound),
                _ => Ok(None),
            }
        })
    }

    // A link, searched for unless somebody else just did.
    fn link(&self, asker: &Arc<Asker>, node: &Node, name: &[u8]) -> Result<Attributes> {
        if let Some(known) = self.link_known(asker, node, name)? {
            return Ok(known);
        }
        let (subject, links) = self.search(asker, node)?;
        let found = links.iter().find(|link| link.name == name).ok_or(Error::NotFound)?;
        Ok(self.tell_link(&subject, found))
    }

    fn search(&self, asker: &Arc<Asker>, node: &Node) -> Result<(Subject, Arc<[Link]>)> {
        let subject = self.subject(node)?;
        let links: Arc<[Link]> = asker.as_caller(|caller| subject.links(&*self.service, caller))?.into();
        self.answers.keep(asker, &subject, &links);
        Ok((subject, links))
    }

    // The file that a directory of links is about.
    fn subject(&self, node: &Node) -> Result<Subject> {
        let (parent, name, id): (_, _, Option<CollectionId>) = match node {
            Node::File { parent, name } => (*parent, name, None),
            Node::Collection { parent, name, id } => (*parent, name, Some(*id)),
            Node::Directory(_) | Node::Link { .. } => return Err(Error::NotFound),
        };
        links::subject(&*self.service, parent, name, id)?.ok_or(Error::NotFound)
    }

    fn tell(&self, node: &Node, shown: &Attributes) -> Attributes {
        Attributes { inode: self.nodes.tell(node, shown), ..*shown }
    }

    fn tell_link(&self, subject: &Subject, link: &Link) -> Attributes {
        let (node, shown) = as_node(subject, link);
        self.tell(&node, &shown)
    }
}

/// The names that the directory shows of a directory of the volume, as they are told at one look.
pub fn names_in(source: &impl Source, directory: Ino) -> Result<Vec<Vec<u8>>> {
    let (entries, _) = entries::some(source, directory, 0)?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// The links to what is near to the file `name` of a directory of the volume: names and targets; of a file with vectors in
/// several collections the names of these.
pub fn links_of(
    source: &impl Indexed,
    parent: Ino,
    name: &[u8],
    caller: &Caller<'_>,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
    match links::subject(source, parent, name, None)? {
        Some(subject) => {
            let links = subject.links(source, caller)?;
            Ok(links.into_iter().map(|link| (link.name.clone(), subject.target(&link))).collect())
        }
        None => {
            let collections = entries::collections(source, parent, name)?;
            Ok(collections.into_iter().map(|entry| (entry.name, Vec::new())).collect())
        }
    }
}

// A link, with the owner and times of the file that it is about.
fn as_node(subject: &Subject, link: &Link) -> (Node, Attributes) {
    let target = subject.target(link);
    let shown = Attributes {
        kind: FileKind::Symlink,
        permissions: 0o777,
        links: 1,
        size: target.len() as u64,
        sectors: 0,
        device: 0,
        ..subject.file
    };
    (Node::Link { target }, shown)
}
