//! The law: what each operation does, and when it is refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use vexfs_core::codec;
use vexfs_core::error::Error;
use vexfs_core::format::{
    Codec, FileKind, NAME_MAX, VERSION_GONE, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX,
};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Allocate, RenameFlags, SetMode};

use super::{CollectionState, Model, Node, Op, Renamed, VectorState};

/// What the volume chose.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// The inode number of what was created.
    pub inode: u64,
    /// The collection's number.
    pub collection: u32,
    /// The vector's row.
    pub row: u64,
    /// The vector's id.
    pub vector_id: u64,
    /// The content version the vector was bound to.
    pub version: u64,
    /// The same three for each vector of a batch.
    pub batch: Vec<(u64, u64, u64)>,
}

/// The content version of a file that nothing was written to yet.
pub(super) const FIRST_VERSION: u64 = 1;
/// Renamed files that are kept in mind.
const RENAMED_MAX: usize = 64;

impl Model {
    /// Does `op` while the files in `open` are held open, or says how it must be refused; gives the inodes whose times and versions it may change.
    ///
    /// After a refusal the model is to be thrown away: the caller works on a copy.
    pub fn apply(
        &mut self,
        op: &Op,
        open: &BTreeSet<u64>,
        learned: &Learned,
        now: Time,
    ) -> Result<Vec<u64>, Error> {
        match op {
            Op::Create { directory, name, kind, permissions, owner } => {
                let mut node = Node::new(*kind, *permissions, now);
                (node.uid, node.gid, node.parent) = (*owner, *owner, *directory);
                let touched = self.add(*directory, &name.0, node, learned.inode)?;
                self.note_name(learned.inode, (*directory, &name.0));
                Ok(touched)
            }
            Op::CreateUnnamed { .. } => {
                let node = Node { unnamed: true, ..Node::new(FileKind::Regular, 0o600, now) };
                self.nodes.insert(learned.inode, Arc::new(node));
                Ok(vec![learned.inode])
            }
            Op::Symlink { directory, name, target } => {
                let mut node = Node::new(FileKind::Symlink, 0o777, now);
                node.target = target.0.clone();
                self.add(*directory, &name.0, node, learned.inode)
            }
            Op::Link { inode, directory, name } => {
                if self.node(*inode).kind == FileKind::Directory {
                    return Err(Error::NotPermitted("hard link to a directory"));
                }
                self.free_name(*directory, &name.0)?;
                let node = self.change(*inode);
                node.links += 1;
                node.unnamed = false;
                self.change(*directory).entries.insert(name.0.clone(), *inode);
                Ok(vec![*inode, *directory])
            }
            Op::Unlink { directory, name } => {
                let inode = self.named(*directory, &name.0)?;
                if self.node(inode).kind == FileKind::Directory {
                    return Err(Error::IsDirectory);
                }
                self.change(*directory).entries.remove(&name.0);
                let mut touched = vec![inode, *directory];
                let renamed = self.renamed.iter().find(|renamed| renamed.inode == inode);
                if let Some(successor) = renamed.and_then(|renamed| renamed.successor)
                    && self.nodes.get(&successor).is_some_and(|node| node.links > 0)
                {
                    self.inherit(inode, successor);
                    touched.push(successor);
                }
                self.drop_link(inode, open);
                Ok(touched)
            }
            Op::RemoveDirectory { directory, name } => {
                let inode = self.named(*directory, &name.0)?;
                if self.node(inode).kind != FileKind::Directory {
                    return Err(Error::NotDirectory);
                }
                if !self.node(inode).entries.is_empty() {
                    return Err(Error::NotEmpty);
                }
                self.change(*directory).entries.remove(&name.0);
                self.change(*directory).links -= 1;
                self.nodes.remove(&inode);
                Ok(vec![*directory])
            }
            Op::Rename { from, to, flags } => self.rename((from.0, &from.1.0), (to.0, &to.1.0), *flags, open),
            Op::Open { .. } | Op::Tidy | Op::Commit | Op::Sync | Op::Recover | Op::Remount => Ok(Vec::new()),
            Op::Close { inode } => {
                let node = self.change(*inode);
                if node.awaits && node.version != FIRST_VERSION {
                    node.awaits = false;
                    let version = node.version;
                    for vector in node.vectors.values_mut().filter(|vector| vector.version == FIRST_VERSION) {
                        (vector.version, vector.fresh) = (version, Some(true));
                    }
                }
                if node.links == 0 {
                    self.nodes.remove(inode);
                }
                Ok(Vec::new())
            }
            Op::Write { inode, offset, fill } => {
                let node = self.regular(*inode)?;
                node.bytes.write(*offset, &fill.bytes());
                if fill.len > 0 {
                    node.content_changed();
                }
                Ok(vec![*inode])
            }
            Op::Truncate { inode, size } => {
                let node = self.regular(*inode)?;
                node.bytes.truncate(*size);
                node.content_changed();
                Ok(vec![*inode])
            }
            Op::Allocate { inode, what, offset, len } => self.allocate(*inode, *what, *offset, *len),
            Op::Permissions { inode, permissions } => {
                self.change(*inode).permissions = *permissions;
                Ok(vec![*inode])
            }
            Op::Owner { inode, uid, gid } => {
                let node = self.change(*inode);
                (node.uid, node.gid) = (*uid, *gid);
                Ok(vec![*inode])
            }
            Op::Modified { inode, seconds } => {
                self.change(*inode).modified = Time { seconds: *seconds, nanoseconds: 5 };
                Ok(vec![*inode])
            }
            Op::SetAttribute { inode, name, fill, mode } => {
                if name.0.len() > XATTR_NAME_MAX {
                    return Err(Error::BufferTooSmall { needed: 0 });
                }
                if fill.len > XATTR_VALUE_MAX {
                    return Err(Error::ValueTooBig);
                }
                let exists = self.node(*inode).attributes.contains_key(&name.0);
                mode_allows(*mode, exists)?;
                if !exists && self.list_len(*inode) + name.0.len() + 1 > XATTR_LIST_MAX {
                    return Err(Error::TooManyAttributes);
                }
                self.change(*inode).attributes.insert(name.0.clone(), *fill);
                Ok(vec![*inode])
            }
            Op::RemoveAttribute { inode, name } => {
                self.change(*inode).attributes.remove(&name.0).ok_or(Error::NoAttribute)?;
                Ok(vec![*inode])
            }
            Op::SetVector { inode, .. } => {
                let touched = self.vector(op, learned)?;
                self.await_content(*inode);
                Ok(touched)
            }
            Op::SetVectors { collection, vectors, keep } => self.batch((collection, vectors, *keep), learned),
            Op::RemoveVector { .. } | Op::SetMetadata { .. } | Op::RemoveMetadata { .. } => {
                self.vector(op, learned)
            }
            Op::CreateCollection { name, element, codec, dimensions } => {
                if self.collections.contains_key(name) {
                    return Err(Error::Exists);
                }
                let (id, element, codec, dimensions) = (learned.collection, *element, *codec, *dimensions);
                let state = CollectionState { id, element, codec, dimensions, history: 0, target: None };
                self.collections.insert(name.clone(), state);
                Ok(Vec::new())
            }
            Op::History { name, count } => {
                self.collections.get_mut(name).ok_or(Error::NotFound)?.history = *count;
                Ok(Vec::new())
            }
            Op::Compact { name } => {
                // Where the rows are now is learned, and compared with the columns.
                self.collections.get(name).ok_or(Error::NotFound)?;
                Ok(Vec::new())
            }
            Op::Recode { name, codec } => {
                let state = self.collections.get_mut(name).ok_or(Error::NotFound)?;
                match (codec, state.target) {
                    (None, None) => return Err(Error::Invalid("nothing to stop")),
                    (Some(Codec::Pq(_)), Some(_)) => return Err(Error::Underway("")),
                    (Some(codec), Some(target)) if *codec != target => return Err(Error::Underway("")),
                    // By a codebook it is begun anew, even if it is the same one.
                    (Some(codec), None) if *codec == state.codec && !matches!(codec, Codec::Pq(_)) => {}
                    (Some(codec), _)
                        if codec::stored_len(*codec, state.element, state.dimensions).is_none()
                            || !codec::takes(*codec, state.element) =>
                    {
                        return Err(Error::Invalid("element"));
                    }
                    (codec, _) => state.target = *codec,
                }
                Ok(Vec::new())
            }
            Op::RecodeStep { name } => {
                // Whether it was the last is learned.
                self.collections.get(name).ok_or(Error::NotFound)?;
                Ok(Vec::new())
            }
            Op::RemoveCollection { name } => {
                let id = self.collections.get(name).ok_or(Error::NotFound)?.id;
                if self.live(id) > 0 {
                    return Err(Error::NotEmpty);
                }
                self.collections.remove(name);
                Ok(Vec::new())
            }
            Op::RenameCollection { from, to } => {
                let state = *self.collections.get(from).ok_or(Error::NotFound)?;
                if from != to && self.collections.contains_key(to) {
                    return Err(Error::Exists);
                }
                self.collections.remove(from);
                self.collections.insert(to.clone(), state);
                Ok(Vec::new())
            }
        }
    }

    fn add(&mut self, directory: u64, name: &[u8], mut node: Node, inode: u64) -> Result<Vec<u64>, Error> {
        self.free_name(directory, name)?;
        let parent = self.change(directory);
        parent.entries.insert(name.to_vec(), inode);
        if node.kind == FileKind::Directory {
            parent.links += 1;
        } else {
            node.links = 1;
        }
        self.nodes.insert(inode, Arc::new(node));
        Ok(vec![inode, directory])
    }

    fn rename(
        &mut self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        flags: RenameFlags,
        open: &BTreeSet<u64>,
    ) -> Result<Vec<u64>, Error> {
        let moved = self.named(from.0, from.1)?;
        let target = self.named(to.0, to.1);
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        match target {
            Err(Error::NotFound) if !exchange => {}
            Err(error) => return Err(error),
            Ok(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Error::Exists),
            Ok(_) => {}
        }
        let target = target.ok();
        if self.is_below(to.0, moved)
            || (exchange && target.is_some_and(|target| self.is_below(from.0, target)))
        {
            return Err(Error::Invalid("a directory cannot move into itself"));
        }
        if target == Some(moved) {
            return Ok(Vec::new());
        }
        if let Some(target) = target.filter(|_| !exchange) {
            // A directory that holds the source is not empty.
            match (self.node(moved).kind == FileKind::Directory, &self.node(target).kind) {
                (false, FileKind::Directory) => return Err(Error::IsDirectory),
                (true, FileKind::Directory) if !self.node(target).entries.is_empty() => {
                    return Err(Error::NotEmpty);
                }
                (true, FileKind::Directory) => {
                    self.change(to.0).links -= 1;
                    self.nodes.remove(&target);
                }
                (true, _) => return Err(Error::NotDirectory),
                (false, _) => {
                    self.inherit(target, moved);
                    self.drop_link(target, open);
                }
            }
        }
        self.change(from.0).entries.remove(from.1);
        self.change(to.0).entries.insert(to.1.to_vec(), moved);
        self.move_parent(moved, from.0, to.0);
        let mut touched = vec![moved, from.0, to.0];
        if let Some(target) = target {
            touched.push(target);
            if exchange {
                self.change(from.0).entries.insert(from.1.to_vec(), target);
                self.move_parent(target, to.0, from.0);
            }
        }
        if !exchange {
            self.renamed.retain(|renamed| renamed.inode != moved);
            self.note_name(moved, to);
            let node = self.node(moved);
            if node.kind == FileKind::Regular && !node.vectors.is_empty() {
                let excess = (self.renamed.len() + 1).saturating_sub(RENAMED_MAX);
                self.renamed.drain(..excess);
                let place = (from.0, from.1.to_vec());
                self.renamed.push(Renamed { inode: moved, place, successor: None });
            }
        }
        Ok(touched)
    }

    // What is saved over a file of the same owner gets its vectors, stale, but in collections that it has some in.
    fn inherit(&mut self, from: u64, to: u64) {
        let (old, new) = (self.node(from), self.node(to));
        let files = old.kind == FileKind::Regular && new.kind == FileKind::Regular;
        if !files || old.links != 1 || old.uid != new.uid {
            return;
        }
        let own: BTreeSet<u32> = new.vectors.keys().map(|(id, _)| *id).collect();
        let inherited: Vec<((u32, u32), VectorState)> = old
            .vectors
            .iter()
            .filter(|((id, _), _)| !own.contains(id))
            .map(|(key, state)| (*key, *state))
            .collect();
        for (key, state) in inherited {
            self.change(from).vectors.remove(&key);
            if let Some(past) = self.change(from).past.remove(&key) {
                self.change(to).past.insert(key, past);
            }
            let state = VectorState { version: VERSION_GONE, fresh: Some(false), ..state };
            self.change(to).vectors.insert(key, state);
        }
    }

    fn note_name(&mut self, inode: u64, place: (u64, &[u8])) {
        for renamed in &mut self.renamed {
            if (renamed.place.0, &renamed.place.1[..]) == place {
                renamed.successor = Some(inode);
            }
        }
    }

    fn move_parent(&mut self, moved: u64, from: u64, to: u64) {
        if self.node(moved).kind == FileKind::Directory {
            self.change(from).links -= 1;
            self.change(to).links += 1;
            self.change(moved).parent = to;
        }
    }

    fn allocate(&mut self, inode: u64, what: Allocate, offset: u64, len: u64) -> Result<Vec<u64>, Error> {
        if len == 0 {
            return Err(Error::Invalid("length 0"));
        }
        let node = self.regular(inode)?;
        let end = offset + len;
        match what {
            Allocate::Reserve { keep_size } => {
                if !keep_size && end > node.bytes.size() {
                    node.bytes.extend(end);
                    node.content_changed();
                } else {
                    // No byte changes, but a volume may count it as a change.
                    node.vectors.values_mut().filter(|vector| vector.fresh == Some(true)).for_each(
                        |vector| {
                            vector.fresh = None;
                        },
                    );
                }
            }
            Allocate::PunchHole => {
                node.bytes.zero(offset, len);
                node.content_changed();
            }
            Allocate::ZeroRange { keep_size } => {
                node.bytes.zero(offset, len);
                if !keep_size {
                    node.bytes.extend(end);
                }
                node.content_changed();
            }
        }
        Ok(vec![inode])
    }

    fn drop_link(&mut self, inode: u64, open: &BTreeSet<u64>) {
        let node = self.change(inode);
        node.links -= 1;
        if node.links == 0 {
            node.past.clear();
        }
        if node.links == 0 && !open.contains(&inode) {
            self.nodes.remove(&inode);
        }
    }

    /// True if `inode` is `above` or lies somewhere in it.
    fn is_below(&self, mut inode: u64, above: u64) -> bool {
        if self.node(above).kind != FileKind::Directory {
            return false;
        }
        loop {
            if inode == above {
                return true;
            }
            let parent = self.node(inode).parent;
            if parent == inode {
                return false;
            }
            inode = parent;
        }
    }

    fn named(&self, directory: u64, name: &[u8]) -> Result<u64, Error> {
        let node = self.nodes.get(&directory).ok_or(Error::NotFound)?;
        if node.kind != FileKind::Directory {
            return Err(Error::NotDirectory);
        }
        if name.len() > NAME_MAX {
            return Err(Error::NameTooLong);
        }
        node.entries.get(name).copied().ok_or(Error::NotFound)
    }

    fn free_name(&self, directory: u64, name: &[u8]) -> Result<(), Error> {
        match self.named(directory, name) {
            Ok(_) => Err(Error::Exists),
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn regular(&mut self, inode: u64) -> Result<&mut Node, Error> {
        match self.node(inode).kind {
            FileKind::Regular => Ok(self.change(inode)),
            FileKind::Directory => Err(Error::IsDirectory),
            _ => Err(Error::Invalid("not a regular file")),
        }
    }

    /// The file with this number, to be changed; it must be there.
    pub fn change(&mut self, inode: u64) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&inode).expect("a file of the model"))
    }
}

impl Node {
    fn content_changed(&mut self) {
        self.vectors.values_mut().for_each(|vector| vector.fresh = vector.fresh.map(|_| false));
    }
}

pub(super) fn mode_allows(mode: SetMode, exists: bool) -> Result<(), Error> {
    match mode {
        SetMode::Create if exists => Err(Error::Exists),
        SetMode::Replace if !exists => Err(Error::NoAttribute),
        _ => Ok(()),
    }
}
