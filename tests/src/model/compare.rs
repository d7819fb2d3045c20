//! Looks at everything a user can see of a volume and says where it differs from the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Attributes, Seek};
use vexfs_core::volume::Volume;

use super::matrix::{Rows, compare_collections};
use super::{Fill, Model, Node, VectorName};

/// How strictly to compare.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Bytes written in place since the state that is compared with, by inode and offset: each byte of such a
    /// range may be the old or the new one.
    pub overlays: BTreeMap<u64, Vec<Overlay>>,
    /// Content versions may be higher than told, and vectors may look stale: a crash cut an operation in two.
    pub versions_may_differ: bool,
    /// Times may be newer than told, for the same reason.
    pub times_may_differ: bool,
    /// Bytes of files are read, but may be any: in-place writes since the state are not known.
    pub any_bytes: bool,
}

/// Bytes that may be found in the place of older ones.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// Byte offset in the file.
    pub offset: u64,
    /// The bytes.
    pub bytes: Arc<[u8]>,
}

impl Comparison {
    /// Everything must be equal.
    pub fn exact() -> Self {
        Self::default()
    }
}

/// Compares all that can be seen; the error names the first difference.
pub fn compare<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    model: &Model,
    how: &Comparison,
) -> Result<(), String> {
    let mut walk = Walk { volume, model, how, seen: BTreeSet::new(), rows: Rows::new() };
    walk.directory(ROOT.0, "")?;
    let unnamed = model.nodes.iter().filter(|(_, node)| node.links == 0);
    for (inode, node) in unnamed {
        let path = format!("<open inode {inode}>");
        let real = walk.volume.attributes(Ino(*inode)).map_err(|error| format!("{path}: {error}"))?;
        walk.file(*inode, node, &real, &path)?;
    }
    compare_collections(volume, model, &walk.rows)
}

struct Walk<'a, D> {
    volume: &'a Volume<Direct<D>>,
    model: &'a Model,
    how: &'a Comparison,
    seen: BTreeSet<u64>,
    rows: Rows,
}

impl<D: BlockDevice> Walk<'_, D> {
    fn directory(&mut self, inode: u64, path: &str) -> Result<(), String> {
        let node = self.model.node(inode);
        let say = |error| format!("{path}/: {error}");
        let real = self.volume.attributes(Ino(inode)).map_err(say)?;
        self.attributes(node, &real, path)?;
        self.extended(inode, node, &real, path)?;
        if self.volume.parent(Ino(inode)).map_err(say)?.0 != node.parent {
            return Err(format!("{path}/: wrong parent"));
        }
        self.entries(inode, node, path)?;
        for (name, child) in &node.entries {
            let path = format!("{path}/{}", name.escape_ascii());
            let real = self.volume.lookup(Ino(inode), name).map_err(|error| format!("{path}: {error}"))?;
            if real.inode.0 != *child {
                return Err(format!("{path}: names inode {}, not {child}", real.inode));
            }
            let node = self.model.node(*child);
            if node.kind == FileKind::Directory {
                self.directory(*child, &path)?;
            } else {
                self.file(*child, node, &real, &path)?;
            }
        }
        Ok(())
    }

    /// readdir, at once and taken up again in the middle.
    fn entries(&self, inode: u64, node: &Node, path: &str) -> Result<(), String> {
        let mut found = BTreeMap::new();
        let mut cookies = Vec::new();
        let mut wrong = None;
        let list = |cookie, each: &mut dyn FnMut(vexfs_core::operations::Entry<'_>) -> bool| {
            self.volume
                .read_directory(Ino(inode), cookie, each)
                .map_err(|error| format!("{path}/: listing: {error}"))
        };
        list(0, &mut |entry| {
            let kind = self.model.nodes.get(&entry.inode.0).map(|node| node.kind);
            if kind != Some(entry.kind) || entry.cookie < 3 || entry.cookie >> 63 != 0 {
                wrong = Some(format!("{path}/: strange entry {entry:?}"));
            }
            if cookies.last().is_some_and(|last| *last >= entry.cookie)
                || found.insert(entry.name.to_vec(), entry.inode.0).is_some()
            {
                wrong = Some(format!("{path}/: entries out of order or twice: {entry:?}"));
            }
            cookies.push(entry.cookie);
            true
        })?;
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        if found != node.entries {
            let extra: Vec<_> = found.keys().filter(|name| !node.entries.contains_key(*name)).collect();
            let missing: Vec<_> = node.entries.keys().filter(|name| !found.contains_key(*name)).collect();
            return Err(format!(
                "{path}/: entries: too many {extra:?}, missing {missing:?}, or other inodes"
            ));
        }
        if let Some(middle) = cookies.get(cookies.len() / 2) {
            let mut rest = Vec::new();
            list(*middle, &mut |entry| {
                rest.push(entry.cookie);
                true
            })?;
            if rest != cookies[cookies.len() / 2 + 1..] {
                return Err(format!("{path}/: listing from cookie {middle} gives another rest"));
            }
        }
        Ok(())
    }

    fn file(&mut self, inode: u64, node: &Node, real: &Attributes, path: &str) -> Result<(), String> {
        self.attributes(node, real, path)?;
        if !self.seen.insert(inode) {
            return Ok(());
        }
        let mut old_bytes = true;
        match node.kind {
            FileKind::Regular => old_bytes = self.bytes(inode, node, path)?,
            FileKind::Symlink => {
                let target = self
                    .volume
                    .read_link(Ino(inode))
                    .map_err(|error| format!("{path}: readlink: {error}"))?;
                if target != node.target {
                    return Err(format!("{path}: points to \"{}\"", target.escape_ascii()));
                }
            }
            _ => {}
        }
        self.extended(inode, node, real, path)?;
        self.vectors(inode, node, real, path, old_bytes)
    }

    fn attributes(&self, node: &Node, real: &Attributes, path: &str) -> Result<(), String> {
        let size = node.size().unwrap_or(real.size);
        let version = if self.how.versions_may_differ { real.version } else { node.version };
        let (modified, changed) = match self.how.times_may_differ {
            true => (real.modified, real.changed),
            false => (node.modified, node.changed),
        };
        let expected = (node.kind, node.permissions, node.uid, node.gid, node.links, size, modified, version);
        let found = (
            real.kind,
            real.permissions,
            real.uid,
            real.gid,
            real.links,
            real.size,
            real.modified,
            real.version,
        );
        if found != expected || real.changed != changed {
            return Err(format!(
                "{path}: attributes {real:?}, expected {expected:?}, ctime {:?}",
                node.changed
            ));
        }
        Ok(())
    }

    /// Compares content; false if bytes written in place after the state show.
    fn bytes(&self, inode: u64, node: &Node, path: &str) -> Result<bool, String> {
        const WHOLE: u64 = 1 << 18;
        const STEP: usize = 1 << 16;
        let mut ranges: Vec<(u64, usize)> = Vec::new();
        let size = node.bytes.size();
        if size <= WHOLE {
            ranges.extend((0..size).step_by(STEP).map(|at| (at, STEP)));
        } else {
            ranges.extend(node.bytes.ranges());
            self.each_data(inode, size, path, |offset, len| {
                ranges.extend((offset..offset + len).step_by(STEP).map(|at| (at, STEP)));
            })?;
        }
        let mut old = true;
        let (mut expected, mut found) = (vec![0; STEP], vec![0; STEP]);
        for (offset, len) in ranges {
            let there = node.bytes.read(offset, &mut expected[..len]);
            let got = self
                .volume
                .read(Ino(inode), offset, &mut found[..len])
                .map_err(|error| format!("{path}: read at {offset}: {error}"))?;
            if got != there {
                return Err(format!("{path}: read at {offset} gave {got} bytes, expected {there}"));
            }
            if expected[..there] != found[..there] && self.how.any_bytes {
                old = false;
            } else if expected[..there] != found[..there] {
                old = false;
                self.only_overlays(inode, offset, &expected[..there], &found[..there], path)?;
            }
        }
        self.seeks(inode, node, path)?;
        Ok(old)
    }

    fn only_overlays(
        &self,
        inode: u64,
        offset: u64,
        expected: &[u8],
        found: &[u8],
        path: &str,
    ) -> Result<(), String> {
        let overlays = self.how.overlays.get(&inode).map_or(&[][..], Vec::as_slice);
        for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
            let at = offset + index as u64;
            let allowed = expected == found
                || overlays.iter().any(|Overlay { offset, bytes }| {
                    at.checked_sub(*offset).and_then(|index| bytes.get(index as usize)) == Some(found)
                });
            if !allowed {
                return Err(format!("{path}: byte {at} is {found:#04x}, expected {expected:#04x}"));
            }
        }
        Ok(())
    }

    fn each_data(
        &self,
        inode: u64,
        size: u64,
        path: &str,
        mut each: impl FnMut(u64, u64),
    ) -> Result<(), String> {
        let mut at = 0;
        while at < size {
            let Some(data) = self.seek(inode, at, Seek::Data, path)? else { return Ok(()) };
            let hole = self.seek(inode, data, Seek::Hole, path)?.unwrap_or(size);
            if data < at || hole <= data || hole > size {
                return Err(format!("{path}: seek from {at}: data at {data}, hole at {hole}, size {size}"));
            }
            each(data, hole - data);
            at = hole;
        }
        Ok(())
    }

    /// What is called a hole must be zero, up to the next data; all else may be called data.
    fn seeks(&self, inode: u64, node: &Node, path: &str) -> Result<(), String> {
        let size = node.bytes.size();
        let mut at = 0;
        self.each_data(inode, size, path, |data, len| {
            at = if node.bytes.is_zero(at, data - at) { data + len } else { u64::MAX };
        })?;
        let overlaid = self.how.any_bytes || self.how.overlays.contains_key(&inode);
        if !overlaid && (at == u64::MAX || !node.bytes.is_zero(at, size.saturating_sub(at))) {
            return Err(format!("{path}: SEEK_DATA skips bytes that are not zero"));
        }
        if self.seek(inode, size, Seek::Data, path)?.is_some() {
            return Err(format!("{path}: SEEK_DATA finds data past the end"));
        }
        Ok(())
    }

    fn seek(&self, inode: u64, at: u64, what: Seek, path: &str) -> Result<Option<u64>, String> {
        match self.volume.seek(Ino(inode), at, what) {
            Ok(found) => Ok(Some(found)),
            Err(vexfs_core::error::Error::PastEnd) => Ok(None),
            Err(error) => Err(format!("{path}: seek from {at}: {error}")),
        }
    }

    /// Ordinary attributes, and the list of the names of all.
    fn extended(&self, inode: u64, node: &Node, real: &Attributes, path: &str) -> Result<(), String> {
        let listed =
            self.volume.list_attributes(real.inode).map_err(|error| format!("{path}: list: {error}"))?;
        if listed.last().is_some_and(|last| *last != 0) {
            return Err(format!("{path}: list of attributes does not end in NUL"));
        }
        let found: Vec<&[u8]> = listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        let mut sorted: Vec<Vec<u8>> = found.iter().map(|name| name.to_vec()).collect();
        sorted.sort();
        let mut expected: Vec<Vec<u8>> = node.attributes.keys().cloned().collect();
        if node.links > 0 {
            expected.extend(node.vectors.keys().map(|key| self.vector_name(*key).listed()));
            let with_metadata = node.vectors.iter().filter(|(_, state)| state.metadata.is_some());
            expected.extend(with_metadata.map(|(key, _)| self.vector_name(*key).listed_metadata()));
            expected.sort();
            if sorted != expected {
                let show = |names: &[Vec<u8>]| -> Vec<String> {
                    names.iter().map(|name| name.escape_ascii().to_string()).collect()
                };
                let (found, expected) = (show(&sorted), show(&expected));
                return Err(format!("{path}: attributes listed {found:?}, expected {expected:?}"));
            }
        }
        for (name, fill) in &node.attributes {
            let value = self
                .volume
                .attribute(Ino(inode), name)
                .map_err(|error| format!("{path}: attribute {}: {error}", name.escape_ascii()))?;
            if value != fill.bytes() {
                return Err(format!("{path}: attribute {} differs", name.escape_ascii()));
            }
        }
        Ok(())
    }

    fn vectors(
        &mut self,
        inode: u64,
        node: &Node,
        real: &Attributes,
        path: &str,
        old_bytes: bool,
    ) -> Result<(), String> {
        for (key, vector) in &node.vectors {
            let name = self.vector_name(*key);
            let value = self
                .volume
                .attribute(Ino(inode), &name.attribute())
                .map_err(|error| format!("{path}: {name:?}: {error}"))?;
            if value != vector.seen(name.element) {
                return Err(format!("{path}: {name:?}: value differs"));
            }
            let found = match self.volume.attribute(Ino(inode), &name.metadata()) {
                Ok(text) => Some(text),
                Err(vexfs_core::error::Error::NoAttribute) => None,
                Err(error) => return Err(format!("{path}: metadata of {name:?}: {error}")),
            };
            if found != vector.metadata.map(Fill::metadata) {
                return Err(format!("{path}: {name:?}: metadata differs"));
            }
        }
        self.past(inode, node, path)?;
        if node.links == 0 {
            return Ok(());
        }
        let mut found = Vec::new();
        self.volume
            .vectors_of(Ino(inode), &mut |vector| found.push(vector))
            .map_err(|error| format!("{path}: vectors: {error}"))?;
        let expected: Vec<(u32, u32, u64, u64)> =
            node.vectors.iter().map(|((id, n), state)| (*id, *n, state.row, state.vector_id)).collect();
        let told: Vec<(u32, u32, u64, u64)> = found
            .iter()
            .map(|vector| (vector.collection.0, vector.n, vector.row, vector.vector_id))
            .collect();
        if told != expected {
            return Err(format!(
                "{path}: vectors as (collection, n, row, id) are {told:?}, expected {expected:?}"
            ));
        }
        for (vector, ((id, n), state)) in found.iter().zip(&node.vectors) {
            let fresh = vector.version == real.version;
            // What was written in place must never look as if the vector were made from it.
            let wrong = match state.fresh {
                Some(false) => fresh,
                Some(true) if !old_bytes => fresh,
                Some(true) => !fresh && !self.how.versions_may_differ,
                None => false,
            };
            if wrong {
                return Err(format!(
                    "{path}: vector {id}.{n} is of version {}, the content of {}, expected {}",
                    vector.version,
                    real.version,
                    if fresh { "stale" } else { "fresh" },
                ));
            }
            self.rows.entry(*id).or_default().insert(vector.row, (inode, *n, vector.version, *state));
        }
        Ok(())
    }

    // Superseded vectors, and that there are no more of them.
    fn past(&self, inode: u64, node: &Node, path: &str) -> Result<(), String> {
        for key in node.vectors.keys() {
            let name = self.vector_name(*key);
            let state = self.model.collection(key.0).expect("a vector's collection exists").1;
            let past = node.past.get(key).map_or(&[][..], Vec::as_slice);
            for back in 1..=past.len() + 1 {
                let known = past.get(back - 1).filter(|_| back <= state.history);
                let same = |behind: &[u8], wanted: Option<Vec<u8>>| match self
                    .volume
                    .attribute(Ino(inode), &[&name.past(back)[..], behind].concat())
                {
                    Ok(value) if wanted.as_ref() == Some(&value) => Ok(()),
                    Err(vexfs_core::error::Error::NoAttribute) if wanted.is_none() => Ok(()),
                    Ok(_) => Err(format!("{path}: {name:?} {back} times ago differs, or should not be")),
                    Err(error) => Err(format!("{path}: {name:?} {back} times ago: {error}")),
                };
                same(b"", known.map(|past| past.seen(state.element)))?;
                same(b".meta", known.and_then(|past| past.metadata).map(Fill::metadata))?;
            }
        }
        Ok(())
    }

    fn vector_name(&self, (id, n): (u32, u32)) -> VectorName {
        let (name, state) = self.model.collection(id).expect("a vector's collection exists");
        VectorName { collection: name.into(), element: state.element, n, short: false }
    }
}
