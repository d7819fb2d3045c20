//! What the model says of vectors and their metadata.

use vexfs_core::error::Error;
use vexfs_core::format::{Codec, Element, FileKind, METADATA_MAX, XATTR_LIST_MAX};
use vexfs_core::operations::SetMode;

use super::apply::{FIRST_VERSION, mode_allows};
use super::{Codecs, CollectionState, Learned, Model, Node, Op, VectorFill, VectorName, VectorState};

// Keeps what was superseded, unless nothing is another; of a history that is too long, two go at a time.
fn keep(node: &mut Node, key: (u32, u32), state: CollectionState, (old, new): (VectorState, VectorState)) {
    let row = |vector: VectorState| (vector.row(state.element), vector.version);
    let past = node.past.entry(key).or_default();
    if state.history > 0 && row(old) != row(new) {
        past.insert(0, old);
    }
    past.truncate(state.history.max(past.len().saturating_sub(2)));
    if past.is_empty() {
        node.past.remove(&key);
    }
}

fn finite(fill: VectorFill, element: Element) -> Result<(), Error> {
    match fill.poison && matches!(element, Element::F32 | Element::F16) {
        true => Err(Error::NotFinite { index: 0 }),
        false => Ok(()),
    }
}

impl Model {
    pub(super) fn vector(&mut self, op: &Op, learned: &Learned) -> Result<Vec<u64>, Error> {
        match op {
            Op::SetVector { inode, vector, fill, mode } => {
                let known = self.collections.get(&vector.collection).copied();
                let mut state = known.unwrap_or(CollectionState {
                    id: learned.collection,
                    element: vector.element,
                    codec: Codec::None,
                    dimensions: 0,
                    history: 0,
                    target: None,
                });
                if state.element != vector.element {
                    return Err(Error::WrongElement { holds: "", asked: "" });
                }
                if state.dimensions != 0 && state.dimensions != fill.dimensions {
                    return Err(Error::Invalid("length"));
                }
                finite(*fill, state.element)?;
                let key = (state.id, vector.n);
                mode_allows(*mode, known.is_some() && self.node(*inode).vectors.contains_key(&key))?;
                state.dimensions = fill.dimensions;
                self.collections.insert(vector.collection.clone(), state);
                let Learned { row, vector_id, version, .. } = learned.clone();
                let node = self.change(*inode);
                let fresh = if node.bytes.size() == 0 { None } else { Some(true) };
                let metadata = node.vectors.get(&key).and_then(|old| old.metadata);
                let codecs = Codecs::new(state.codec);
                let new = VectorState { fill: *fill, row, vector_id, version, fresh, metadata, codecs };
                if let Some(old) = node.vectors.insert(key, new).filter(|_| node.links > 0) {
                    keep(node, key, state, (old, new));
                }
                Ok(vec![*inode])
            }
            Op::RemoveVector { inode, vector } => {
                let state = self.collections.get(&vector.collection).copied().ok_or(Error::NoAttribute)?;
                if state.element != vector.element {
                    return Err(Error::WrongElement { holds: "", asked: "" });
                }
                let key = (state.id, vector.n);
                self.change(*inode).vectors.remove(&key).ok_or(Error::NoAttribute)?;
                self.change(*inode).past.remove(&key);
                Ok(vec![*inode])
            }
            Op::SetMetadata { inode, vector, fill, mode } => {
                if fill.len > METADATA_MAX {
                    return Err(Error::MetadataTooBig);
                }
                if fill.len < 2 {
                    return Err(Error::Invalid("JSON"));
                }
                let exists = self.known_vector(*inode, vector)?.metadata.is_some();
                mode_allows(*mode, exists)?;
                if !exists && self.list_len(*inode) + vector.listed_metadata().len() + 1 > XATTR_LIST_MAX {
                    return Err(Error::TooManyAttributes);
                }
                self.known_vector(*inode, vector)?.metadata = Some(*fill);
                Ok(vec![*inode])
            }
            Op::RemoveMetadata { inode, vector } => {
                self.known_vector(*inode, vector)?.metadata.take().ok_or(Error::NoAttribute)?;
                Ok(vec![*inode])
            }
            _ => unreachable!("only vectors come here"),
        }
    }

    /// Vectors of one collection, one after another.
    pub(super) fn batch(
        &mut self,
        (collection, vectors, keep): (&str, &[(u64, u32, VectorFill)], bool),
        learned: &Learned,
    ) -> Result<Vec<u64>, Error> {
        let state = self.collections.get(collection).copied().ok_or(Error::NotFound)?;
        let mut touched = Vec::new();
        for (at, (inode, n, fill)) in vectors.iter().enumerate() {
            // Whether it is kept or set.
            finite(*fill, state.element)?;
            if keep && self.node(*inode).vectors.contains_key(&(state.id, *n)) {
                continue;
            }
            let vector = VectorName { n: *n, element: state.element, ..VectorName::new(collection) };
            let op = Op::SetVector { inode: *inode, vector, fill: *fill, mode: SetMode::Any };
            let (row, vector_id, version) = learned.batch.get(at).copied().unwrap_or_default();
            let learned = Learned { collection: state.id, row, vector_id, version, ..Learned::default() };
            touched.extend(self.vector(&op, &learned)?);
            self.await_content(*inode);
        }
        Ok(touched)
    }

    /// A new file's vectors wait for its content.
    pub(super) fn await_content(&mut self, inode: u64) {
        let node = self.change(inode);
        let new = node.bytes.size() == 0 && node.version == FIRST_VERSION;
        node.awaits |= new && node.kind == FileKind::Regular;
    }

    fn known_vector(&mut self, inode: u64, vector: &VectorName) -> Result<&mut VectorState, Error> {
        let state = self.collections.get(&vector.collection).copied().ok_or(Error::NoAttribute)?;
        if state.element != vector.element {
            return Err(Error::WrongElement { holds: "", asked: "" });
        }
        self.change(inode).vectors.get_mut(&(state.id, vector.n)).ok_or(Error::NoAttribute)
    }

    /// Bytes that `listxattr` gives for this file.
    pub(super) fn list_len(&self, inode: u64) -> usize {
        let node = self.node(inode);
        let vectors = node.vectors.iter().map(|((id, n), known)| {
            let (name, state) = self.collection(*id).expect("a vector's collection exists");
            let vector = VectorName { collection: name.into(), element: state.element, n: *n, short: false };
            let metadata = known.metadata.map_or(0, |_| vector.listed_metadata().len() + 1);
            vector.listed().len() + 1 + metadata
        });
        node.attributes.keys().map(|name| name.len() + 1).chain(vectors).sum()
    }
}
