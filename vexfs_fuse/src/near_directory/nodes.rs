//! The inodes below `.vexfs/near`: their numbers, and what each of them stands for.
//!
//! INVARIANT: a number stands for one thing as long as the kernel knows it, and what it shows never depends on who asks: a
//! directory of the volume, a name in one, or a symbolic link with its target. Numbers of links and names are kept until
//! the kernel forgets them, as many times as it was told them; directories need none to be kept.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vexfs_core::control::{NEAR, is_control};
use vexfs_core::format::ROOT;
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::Attributes;

/// Directories of the volume are shown as the inodes from here on, each at its own number.
const DIRECTORIES: u64 = 1 << 60;
/// All other inodes are from here on, below twice this.
const NAMED: u64 = 1 << 61;

/// What an inode stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    /// A directory of the volume.
    Directory(Ino),
    /// What is near to the file of this name in a directory of the volume, whichever file that is.
    File { parent: Ino, name: Vec<u8> },
    /// The same by one of the file's collections.
    Collection { parent: Ino, name: Vec<u8>, id: CollectionId },
    /// A symbolic link.
    Link { target: Vec<u8> },
}

/// The inodes that the kernel knows.
#[derive(Default)]
pub(super) struct Nodes {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Known>>,
}

struct Known {
    node: Node,
    /// What a link shows.
    shown: Attributes,
    /// How often the kernel was told of it.
    told: u64,
}

/// True if an inode lies in `.vexfs/near`, or is it.
pub fn is_near(inode: Ino) -> bool {
    inode == NEAR || inode.0 >= DIRECTORIES
}

/// The inode that shows a directory of the volume.
pub(super) fn directory(inode: Ino) -> Ino {
    if inode == ROOT { NEAR } else { Ino(DIRECTORIES + inode.0) }
}

impl Nodes {
    /// The number of a node, of which the kernel is told once more.
    pub(super) fn tell(&self, node: &Node, shown: &Attributes) -> Ino {
        let mut known = self.known();
        let inode = self.number(&known, node);
        if !matches!(node, Node::Directory(_)) {
            let entry = known.entry(inode.0);
            let node = || Known { node: node.clone(), shown: Attributes { inode, ..*shown }, told: 0 };
            entry.or_insert_with(node).told += 1;
        }
        inode
    }

    /// The number that a node has, or would be given now.
    pub(super) fn number_of(&self, node: &Node) -> Ino {
        self.number(&self.known(), node)
    }

    /// What an inode stands for; none if the kernel was not told of it.
    pub(super) fn node(&self, inode: Ino) -> Option<Node> {
        match inode {
            NEAR => Some(Node::Directory(ROOT)),
            _ if inode.0 < NAMED => {
                let of = inode.0.checked_sub(DIRECTORIES).map(Ino);
                of.filter(|of| !is_control(*of)).map(Node::Directory)
            }
            _ => self.known().get(&inode.0).map(|known| known.node.clone()),
        }
    }

    /// What a link shows.
    pub(super) fn link(&self, inode: Ino) -> Option<Attributes> {
        self.known().get(&inode.0).map(|known| known.shown)
    }

    /// The kernel forgets an inode, as often as it says.
    pub(super) fn forget(&self, inode: Ino, times: u64) {
        let mut known = self.known();
        if let Some(found) = known.get_mut(&inode.0) {
            found.told = found.told.saturating_sub(times);
            if found.told == 0 {
                known.remove(&inode.0);
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The place of its hash, or the next one that is its own or nobody's.
    fn number(&self, known: &HashMap<u64, Known>, node: &Node) -> Ino {
        if let Node::Directory(inode) = node {
            return directory(*inode);
        }
        let mut place = self.hasher.hash_one(node) % NAMED;
        while known.get(&(NAMED + place)).is_some_and(|other| other.node != *node) {
            place = (place + 1) % NAMED;
        }
        Ino(NAMED + place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vexfs_core::format::FileKind;
    use vexfs_core::numbers::Time;

    const NOW: Time = Time { seconds: 1, nanoseconds: 0 };

    fn shown() -> Attributes {
        Attributes {
            inode: ROOT,
            kind: FileKind::Symlink,
            permissions: 0o777,
            uid: 1,
            gid: 1,
            links: 1,
            size: 3,
            sectors: 0,
            accessed: NOW,
            modified: NOW,
            changed: NOW,
            created: NOW,
            device: 0,
            version: 0,
        }
    }

    fn link(target: &[u8]) -> Node {
        Node::Link { target: target.to_vec() }
    }

    #[test]
    fn a_number_is_kept_until_the_kernel_forgets_it_as_often_as_it_was_told() {
        let nodes = Nodes::default();
        let one = nodes.tell(&link(b"a"), &shown());
        assert_eq!(nodes.tell(&link(b"a"), &shown()), one);
        assert_ne!(nodes.tell(&link(b"b"), &shown()), one);
        assert_eq!(nodes.number_of(&link(b"a")), one);
        nodes.forget(one, 1);
        assert_eq!(nodes.node(one), Some(link(b"a")));
        assert_eq!(nodes.link(one).map(|shown| shown.inode), Some(one));
        nodes.forget(one, 1);
        assert_eq!(nodes.node(one), None);
        nodes.forget(one, 1);
        assert_eq!(nodes.tell(&link(b"a"), &shown()), one, "the same thing again, so the same number");
    }

    #[test]
    fn directories_are_never_kept() {
        let nodes = Nodes::default();
        for (inode, number) in [(ROOT, NEAR), (Ino(77), Ino(DIRECTORIES + 77))] {
            assert_eq!(nodes.tell(&Node::Directory(inode), &shown()), number);
            assert_eq!(nodes.node(number), Some(Node::Directory(inode)));
            assert!(is_near(number) && nodes.known().is_empty());
        }
        assert!(!is_near(Ino(77)) && !is_near(ROOT));
    }
}
