//! Directories of the volume as `.vexfs/near` shows them: their directories, and the files that have vectors, as directories too.
//!
//! INVARIANT: nothing here depends on who asks. Owner, permissions and access lists are the volume's own, less writing, and
//! where a file is shown, who may read it may list and pass. So the kernel keeps out whom it would keep out of the files.

use vexfs_core::control::is_control;
use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::{ACL_ACCESS, AclEntry, AclHeader, FileKind};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::Attributes;
use vexfs_core::{Error, Result, Volume};
use zerocopy::{FromBytes, IntoBytes};

use super::links;
use super::nodes::{Node, Nodes, directory};
use crate::near::Source;

/// Entries of a directory that are looked at before the volume is let go of.
const ENTRIES_A_LOOK: usize = 512;
const READ: u32 = 4;
const PASS: u32 = 1;

/// An entry of a directory.
pub(super) struct Entry {
    pub(super) node: Node,
    pub(super) name: Vec<u8>,
    pub(super) shown: Attributes,
    pub(super) cookie: u64,
}

/// The entry `name` of a directory of the volume.
///
/// # Errors
/// `NotFound`; `NoAttribute` for what has no vector.
pub(super) fn find(source: &impl Source, parent: Ino, name: &[u8]) -> Result<(Node, Attributes)> {
    source.look(|volume| {
        let found = volume.lookup(parent, name)?;
        if is_control(found.inode) {
            return Err(Error::NotFound);
        }
        entry(volume, parent, name, &found)?.ok_or(Error::NoAttribute)
    })
}

/// Entries of a directory of the volume after `cookie`, some at a time, and if they are the last.
pub(super) fn some(source: &impl Source, parent: Ino, cookie: u64) -> Result<(Vec<Entry>, Option<u64>)> {
    source.look(|volume| {
        let (mut entries, mut seen, mut failed, mut next) = (Vec::new(), 0, None, None);
        volume.read_directory(parent, cookie, &mut |given| {
            if seen == ENTRIES_A_LOOK {
                return false;
            }
            seen += 1;
            next = Some(given.cookie);
            match given_entry(volume, parent, &given) {
                Ok(found) => entries.extend(found),
                // Removed, or damaged: who looks it up is told.
                Err(Error::NotFound | Error::Corrupt(_)) => {}
                Err(error) => failed = Some(error),
            }
            failed.is_none()
        })?;
        failed.map_or(Ok(()), Err)?;
        Ok((entries, next.filter(|_| seen == ENTRIES_A_LOOK)))
    })
}

fn given_entry<H: BlockDevice + Data>(
    volume: &Volume<H>,
    parent: Ino,
    given: &vexfs_core::operations::Entry<'_>,
) -> Result<Option<Entry>> {
    if is_control(given.inode) || !matches!(given.kind, FileKind::Directory | FileKind::Regular) {
        return Ok(None);
    }
    let found = entry(volume, parent, given.name, &volume.attributes(given.inode)?)?;
    let (name, cookie) = (given.name.to_vec(), given.cookie);
    Ok(found.map(|(node, shown)| Entry { node, name, shown, cookie }))
}

// What stands for a directory or a file; none for what has no vector.
fn entry<H: BlockDevice + Data>(
    volume: &Volume<H>,
    parent: Ino,
    name: &[u8],
    found: &Attributes,
) -> Result<Option<(Node, Attributes)>> {
    let node = match found.kind {
        FileKind::Directory => Node::Directory(found.inode),
        FileKind::Regular if volume.first_vector(found.inode, CollectionId(0))?.is_some() => {
            Node::File { parent, name: name.to_vec() }
        }
        _ => return Ok(None),
    };
    Ok(Some((node, shown(found))))
}

/// The collections of a file, as directories.
pub(super) fn collections(source: &impl Source, parent: Ino, name: &[u8]) -> Result<Vec<Entry>> {
    source.look(|volume| {
        let file = volume.lookup(parent, name)?;
        let (mut entries, mut from) = (Vec::new(), Some(0));
        while let Some(vector) = match from {
            Some(from) => volume.first_vector(file.inode, CollectionId(from))?,
            None => None,
        } {
            let id = vector.collection;
            from = id.0.checked_add(1);
            let node = Node::Collection { parent, name: name.to_vec(), id };
            let cookie = u64::from(id.0) + links::FIRST_COOKIE;
            entries.push(Entry { node, name: volume.collection_name(id)?, shown: shown(&file), cookie });
        }
        Ok(entries)
    })
}

/// What an inode shows.
///
/// # Errors
/// `NotFound` of what is no more.
pub(super) fn attributes(source: &impl Source, nodes: &Nodes, inode: Ino) -> Result<Attributes> {
    let of = match nodes.node(inode).ok_or(Error::NotFound)? {
        Node::Link { .. } => return nodes.link(inode).ok_or(Error::NotFound),
        Node::Directory(of) => source.look(|volume| volume.attributes(of))?,
        Node::File { parent, name } | Node::Collection { parent, name, .. } => {
            source.look(|volume| volume.lookup(parent, &name))?
        }
    };
    Ok(Attributes { inode, ..shown(&of) })
}

/// An access list of what an inode stands for, as it is shown.
///
/// # Errors
/// `NoAttribute` where there is none, and for every other attribute.
pub(super) fn access_list(
    source: &impl Source,
    nodes: &Nodes,
    inode: Ino,
    attribute: &[u8],
) -> Result<Vec<u8>> {
    if attribute != ACL_ACCESS {
        return Err(Error::NoAttribute);
    }
    let (kind, mut list) = source.look(|volume| {
        let of = match nodes.node(inode).ok_or(Error::NotFound)? {
            Node::Link { .. } => return Err(Error::NoAttribute),
            Node::Directory(of) => volume.attributes(of)?,
            Node::File { parent, name } | Node::Collection { parent, name, .. } => {
                volume.lookup(parent, &name)?
            }
        };
        Ok((of.kind, volume.attribute(of.inode, ACL_ACCESS)?))
    })?;
    let (_, entries) = AclHeader::mut_from_prefix(&mut list).map_err(|_| Error::NoAttribute)?;
    let entries = <[AclEntry]>::mut_from_bytes(entries).map_err(|_| Error::NoAttribute)?;
    for entry in entries {
        entry.permissions.set(permitted(kind, u32::from(entry.permissions.get())) as u16);
    }
    Ok(list.as_bytes().to_vec())
}

/// The directory that holds one.
pub(super) fn parent(source: &impl Source, node: &Node) -> Result<Ino> {
    match node {
        Node::Directory(of) if directory(*of) == vexfs_core::control::NEAR => Ok(vexfs_core::format::CONTROL),
        Node::Directory(of) => source.look(|volume| volume.parent(*of)).map(directory),
        Node::File { parent, .. } | Node::Collection { parent, .. } => Ok(directory(*parent)),
        Node::Link { .. } => Err(Error::NotDirectory),
    }
}

// A directory or file of the volume as a directory.
fn shown(of: &Attributes) -> Attributes {
    let bits = |shift: u32| permitted(of.kind, of.permissions >> shift & 7) << shift;
    Attributes {
        kind: FileKind::Directory,
        permissions: bits(6) | bits(3) | bits(0),
        // As many as are not counted.
        links: 1,
        size: 0,
        sectors: 0,
        device: 0,
        ..*of
    }
}

// What somebody may do with what is shown who may do `bits` with what it shows.
fn permitted(kind: FileKind, bits: u32) -> u32 {
    match kind {
        FileKind::Directory => bits & (READ | PASS),
        _ if bits & READ != 0 => READ | PASS,
        _ => 0,
    }
}
