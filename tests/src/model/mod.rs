//! The filesystem as maps in memory: what every call has to show, in the simplest way it can be told.
//!
//! [`Model::apply`] is the law, [`Pair`] runs the real volume beside it, [`compare`] looks at all that a user
//! can see. Inode numbers, rows and vector ids are the volume's to choose: the model learns them and holds the
//! volume to them.

mod apply;
mod bytes;
mod compare;
mod generate;
mod learn;
mod matrix;
mod op;
mod pair;
mod perform;
pub mod quantize;
mod vectors;

use std::collections::BTreeMap;
use std::sync::Arc;

use vexfs_core::format::{Codec, Element, FileKind, ROOT};
use vexfs_core::numbers::Time;

pub use apply::Learned;
pub use bytes::Bytes;
pub use compare::{Comparison, Overlay, compare};
pub use generate::Generator;
pub use op::{Codecs, Fill, Name, Op, VectorFill, VectorName};
pub use pair::{Outcome, Pair};

/// A filesystem; copies share what they have in common.
#[derive(Clone, Debug)]
pub struct Model {
    /// Files by inode number, those without a name that are open included.
    pub nodes: BTreeMap<u64, Arc<Node>>,
    /// Collections by name.
    pub collections: BTreeMap<String, CollectionState>,
    /// Files with vectors that were renamed since the mount.
    pub renamed: Vec<Renamed>,
}

/// A file with vectors that was renamed.
#[derive(Clone, Debug)]
pub struct Renamed {
    /// The file.
    pub inode: u64,
    /// Directory and name that it had.
    pub place: (u64, Vec<u8>),
    /// Who took them.
    pub successor: Option<u64>,
}

/// A file of any type.
#[derive(Clone, Debug)]
pub struct Node {
    /// Type.
    pub kind: FileKind,
    /// Permission bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub links: u32,
    /// True of a file that never had a name: it may still get one.
    pub unnamed: bool,
    /// Device number.
    pub device: u32,
    /// Last change of the content.
    pub modified: Time,
    /// Last change of the inode.
    pub changed: Time,
    /// Vectors that were set while it was new and empty are of the content that it is first closed with.
    pub awaits: bool,
    /// Content version.
    pub version: u64,
    /// Bytes of a regular file.
    pub bytes: Bytes,
    /// Entries of a directory.
    pub entries: BTreeMap<Vec<u8>, u64>,
    /// The directory that holds this directory.
    pub parent: u64,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    /// Ordinary attributes.
    pub attributes: BTreeMap<Vec<u8>, Fill>,
    /// Vectors, by collection number and n.
    pub vectors: BTreeMap<(u32, u32), VectorState>,
    /// What they superseded, the newest first.
    pub past: BTreeMap<(u32, u32), Vec<VectorState>>,
}

/// A collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CollectionState {
    /// Its number.
    pub id: u32,
    /// Element type.
    pub element: Element,
    /// How rows are stored.
    pub codec: Codec,
    /// Dimensions; 0 = not fixed yet.
    pub dimensions: u32,
    /// Superseded vectors that are kept behind each.
    pub history: usize,
    /// The codec that it is being recoded to.
    pub target: Option<Codec>,
}

/// A vector of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorState {
    /// Its bytes.
    pub fill: VectorFill,
    /// Where it lies: fixed until it is set again.
    pub row: u64,
    /// Never reused.
    pub vector_id: u64,
    /// The content version that it was made from.
    pub version: u64,
    /// True if the content did not change since; `None` where an empty file makes that a matter of opinion.
    pub fresh: Option<bool>,
    /// Its metadata.
    pub metadata: Option<Fill>,
    /// The codecs that stored it, one after the other.
    pub codecs: Codecs,
}

impl VectorState {
    /// The row that is kept of it, and its scale.
    pub fn row(&self, element: Element) -> (Vec<u8>, u32) {
        self.codecs.store(self.fill, element).0
    }

    /// What reads back.
    pub fn seen(&self, element: Element) -> Vec<u8> {
        self.codecs.store(self.fill, element).1
    }
}

impl Model {
    /// A volume fresh from `make` with this owner and time.
    pub fn new(uid: u32, gid: u32, permissions: u32, now: Time) -> Self {
        let mut root = Node::new(FileKind::Directory, permissions, now);
        (root.uid, root.gid, root.parent) = (uid, gid, ROOT.0);
        Self {
            nodes: BTreeMap::from([(ROOT.0, Arc::new(root))]),
            collections: BTreeMap::new(),
            renamed: Vec::new(),
        }
    }

    /// The file with this number, which must be there.
    pub fn node(&self, inode: u64) -> &Node {
        &self.nodes[&inode]
    }

    /// The file at a path from the root.
    pub fn find(&self, path: &str) -> Option<u64> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT.0, |directory, name| {
            self.nodes.get(&directory)?.entries.get(name.as_bytes()).copied()
        })
    }

    /// Drops what does not outlive a remount: files without names.
    pub fn forget_orphans(&mut self) {
        self.nodes.retain(|_, node| node.links > 0);
        self.renamed.clear();
        for node in self.nodes.values_mut().filter(|node| node.awaits) {
            Arc::make_mut(node).awaits = false;
        }
    }

    /// The name and state of the collection with this number.
    pub fn collection(&self, id: u32) -> Option<(&str, CollectionState)> {
        self.collections.iter().find(|(_, state)| state.id == id).map(|(name, state)| (name.as_str(), *state))
    }

    /// Vectors in this collection.
    pub fn live(&self, id: u32) -> usize {
        let named = self.nodes.values().filter(|node| node.links > 0);
        named.map(|node| node.vectors.range((id, 0)..=(id, u32::MAX)).count()).sum()
    }
}

impl Node {
    /// A new file of this type, without a name.
    pub fn new(kind: FileKind, permissions: u32, now: Time) -> Self {
        Self {
            kind,
            permissions,
            uid: 0,
            gid: 0,
            links: if kind == FileKind::Directory { 2 } else { 0 },
            unnamed: false,
            awaits: false,
            device: 0,
            modified: now,
            changed: now,
            version: 0,
            bytes: Bytes::default(),
            entries: BTreeMap::new(),
            parent: 0,
            target: Vec::new(),
            attributes: BTreeMap::new(),
            vectors: BTreeMap::new(),
            past: BTreeMap::new(),
        }
    }

    /// Size as `stat` tells it, where the type fixes it.
    pub fn size(&self) -> Option<u64> {
        match self.kind {
            FileKind::Regular => Some(self.bytes.size()),
            FileKind::Symlink => Some(self.target.len() as u64),
            _ => None,
        }
    }
}
