//! An image taken apart: superblock, nodes and free-space map, and put together again with changes.
//!
//! [`Subject::with`] makes the changes and then seals every checksum from the leaves up to the superblock, so that
//! nothing but the change itself can be found wrong (after Janus, SP'19, and Hydra, SOSP'19).

use std::collections::{BTreeMap, BTreeSet};
use std::mem::{offset_of, size_of};
use std::rc::Rc;

use vexfs_core::checksum::crc32;
use vexfs_core::format::{
    Key, LOG_ALIGN, LOG_HEADER, LOG_MAGIC, Layout, LogHeader, NODE_HEADER, Node, NodeWriter, Pointer,
    PointerRecord, SLOT, SUPERBLOCK, Slot, SpaceEntry, SpaceLayout, Superblock, slot_offsets,
};
use zerocopy::{FromBytes, IntoBytes};

use super::edit::Edit;
use crate::image::Image;
use crate::verified::Verified;

/// A whole image, to make damaged copies of.
pub struct Subject {
    image: Image,
    /// The newest superblock.
    pub superblock: Superblock,
    /// Where things lie.
    pub layout: Layout,
    /// All nodes, each after its parent.
    pub nodes: Vec<SubjectNode>,
    /// All records, in order.
    pub records: Vec<(Key, Vec<u8>)>,
    /// The records of the journal on the newest superblock: byte offset on the device, bytes.
    pub log: Vec<(u64, Vec<u8>)>,
    /// Blocks that were accepted in damaged copies, which share most of their pages.
    pub verified: Rc<Verified>,
}

/// A node of the image.
pub struct SubjectNode {
    /// The way to it: indexes of the children taken from the root.
    pub way: Vec<u16>,
    /// Its level; 0 is a leaf.
    pub level: u32,
    /// What its parent says of it.
    pub pointer: Pointer,
    /// No key in it is lower.
    pub low: Key,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Changed parts of an image on the way to a new one.
struct Draft<'a> {
    subject: &'a Subject,
    nodes: BTreeMap<usize, Vec<u8>>,
    /// By level and index.
    map: BTreeMap<(usize, u64), Vec<u8>>,
    /// By number.
    log: BTreeMap<usize, Vec<u8>>,
    superblock: [u8; SUPERBLOCK],
}

impl Subject {
    /// Takes apart an image that is whole.
    pub fn new(image: Image) -> Result<Self, String> {
        let mut newest: Option<Superblock> = None;
        for (slot, offset) in (0..).zip(slot_offsets(image.size())) {
            let mut bytes = [0; SUPERBLOCK];
            image.read(offset, &mut bytes);
            if let Ok(Some(found)) = Superblock::parse(&bytes, slot) {
                newest = newest.into_iter().chain([found]).max_by_key(|copy| copy.generation.get());
            }
        }
        let superblock = newest.ok_or("no superblock")?;
        let layout = superblock.layout().map_err(|error| error.to_string())?;
        let mut subject = Self {
            image,
            superblock,
            layout,
            nodes: Vec::new(),
            records: Vec::new(),
            log: Vec::new(),
            verified: Rc::default(),
        };
        let root = Pointer::from(superblock.root);
        subject.descend(root, superblock.root_level.get(), Key::MIN, &mut Vec::new())?;
        subject.read_log();
        Ok(subject)
    }

    fn read_log(&mut self) {
        let block_size = u64::from(self.layout.block_size);
        let mut at = self.layout.journal_start * block_size;
        loop {
            let mut head = [0; LOG_HEADER];
            self.image.read(at, &mut head);
            let Ok(header) = LogHeader::read_from_bytes(&head) else { return };
            let ours = header.magic.get() == LOG_MAGIC && header.base == self.superblock.generation;
            if !ours || header.sequence.get() != self.log.len() as u64 {
                return;
            }
            let mut bytes = vec![0; header.length.get() as usize];
            self.image.read(at, &mut bytes);
            let len = bytes.len() as u64;
            self.log.push((at, bytes));
            at += len.next_multiple_of(LOG_ALIGN);
        }
    }

    fn descend(&mut self, pointer: Pointer, level: u32, low: Key, way: &mut Vec<u16>) -> Result<(), String> {
        let block_size = self.layout.block_size as usize;
        let mut bytes = vec![0; block_size];
        self.image.read(pointer.block * block_size as u64, &mut bytes);
        if crc32(&bytes) != pointer.checksum {
            return Err(format!("node {} of the base image is damaged", pointer.block));
        }
        self.nodes.push(SubjectNode { way: way.clone(), level, pointer, low, bytes: bytes.clone() });
        for (key, value) in records(&bytes) {
            if level == 0 {
                self.records.push((key, value));
                continue;
            }
            let child = PointerRecord::read_from_bytes(&value).map_err(|_| "not a pointer")?;
            let index = Node::new(&bytes).search(key).map_err(|_| "keys out of order")?;
            way.push(index as u16);
            self.descend(child.into(), level - 1, key, way)?;
            way.pop();
        }
        Ok(())
    }

    /// The value of the record at `key`.
    pub fn value(&self, key: Key) -> Option<&[u8]> {
        let index = self.records.binary_search_by_key(&key, |record| record.0).ok()?;
        Some(&self.records[index].1)
    }

    /// The image as it is.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// A copy with these changes, all its checksums right; changes that find no place or no room are left out.
    pub fn with(&self, edits: &[Edit]) -> Image {
        let mut superblock = [0; SUPERBLOCK];
        superblock.copy_from_slice(self.superblock.as_bytes());
        let mut draft = Draft {
            subject: self,
            nodes: BTreeMap::new(),
            map: BTreeMap::new(),
            log: BTreeMap::new(),
            superblock,
        };
        for edit in edits {
            draft.apply(edit);
        }
        draft.seal_nodes();
        draft.seal_map();
        // The superblock's own fields last, so that nothing sets them right again.
        for edit in edits {
            if let Edit::Superblock(from, bytes) = edit {
                patch(&mut draft.superblock, *from, bytes);
            }
        }
        draft.image()
    }

    /// The device block of a block of the free-space map, and the entry that stands for it.
    fn map_entry(&self, level: usize, index: u64) -> Option<SpaceEntry> {
        if level + 1 == self.layout.space.levels {
            return (index == 0).then_some(self.superblock.space);
        }
        let fanout = SpaceLayout::fanout(self.layout.block_size);
        let above = self.map_block(level + 1, index / fanout)?;
        let at = (index % fanout) as usize * size_of::<SpaceEntry>();
        SpaceEntry::read_from_prefix(above.get(at..)?).ok().map(|(entry, _)| entry)
    }

    fn map_block(&self, level: usize, index: u64) -> Option<Vec<u8>> {
        if level >= self.layout.space.levels || index >= self.layout.space.counts[level] {
            return None;
        }
        let entry = self.map_entry(level, index)?;
        let mut bytes = vec![0; self.layout.block_size as usize];
        if entry.generation.get() != 0 {
            let place = self.layout.space.block(level, index, entry.slot.get());
            self.image.read(place * u64::from(self.layout.block_size), &mut bytes);
        }
        Some(bytes)
    }
}

impl Draft<'_> {
    fn apply(&mut self, edit: &Edit) {
        match edit {
            Edit::Put(key, value) => self.change_leaf(*key, |_| Some(value.clone())),
            Edit::Drop(key) => self.change_leaf(*key, |_| None),
            Edit::Patch(key, from, bytes) => self.change_leaf(*key, |old| {
                let mut value = old?;
                patch(&mut value, *from, bytes);
                Some(value)
            }),
            Edit::Node(way, from, bytes) => {
                if let Some(index) = self.subject.nodes.iter().position(|node| node.way == *way) {
                    patch(self.node_mut(index), *from, bytes);
                }
            }
            Edit::Space(level, index, from, bytes) => {
                let place = (*level, *index as u64);
                if let Some(old) = self.map_bytes(place) {
                    let block = self.map.entry(place).or_insert(old);
                    patch(block, *from, bytes);
                }
            }
            Edit::Log(number, from, bytes) => {
                if let Some((_, old)) = self.subject.log.get(*number) {
                    patch(self.log.entry(*number).or_insert_with(|| old.clone()), *from, bytes);
                }
            }
            Edit::Superblock(..) => {}
        }
    }

    fn node_mut(&mut self, index: usize) -> &mut Vec<u8> {
        self.nodes.entry(index).or_insert_with(|| self.subject.nodes[index].bytes.clone())
    }

    // Changes a record in the leaf where it belongs, if it fits there.
    fn change_leaf(&mut self, key: Key, change: impl FnOnce(Option<Vec<u8>>) -> Option<Vec<u8>>) {
        let mut leaves = self.subject.nodes.iter().enumerate().filter(|(_, node)| node.level == 0);
        let Some((index, _)) = leaves.rfind(|(_, node)| node.low <= key) else { return };
        let block = self.subject.nodes[index].pointer.block;
        let bytes = self.node_mut(index);
        let mut all = records(bytes);
        let old = all.iter().position(|record| record.0 == key).map(|at| all.remove(at).1);
        if let Some(value) = change(old) {
            all.push((key, value));
        }
        all.sort_by_key(|record| record.0);
        let node = Node::new(bytes);
        let (level, generation) = (node.level(), node.generation());
        let mut fresh = vec![0; bytes.len()];
        let mut writer = NodeWriter::init(&mut fresh, level, generation, block);
        let fits = all.iter().enumerate().all(|(at, (key, value))| writer.insert(at, *key, value));
        if fits {
            *self.node_mut(index) = fresh;
        }
    }

    // Writes the checksum of every changed node into what points to it, lower levels first.
    fn seal_nodes(&mut self) {
        let subject = self.subject;
        let mut order: Vec<usize> = (0..subject.nodes.len()).collect();
        order.sort_by_key(|index| subject.nodes[*index].level);
        // Of lower levels alone: a pointer that leads up keeps the checksum that it was given.
        let mut sums: BTreeMap<u64, u32> = BTreeMap::new();
        let mut level = 0;
        let mut same_level: Vec<(u64, u32)> = Vec::new();
        let mut changed: BTreeSet<u64> = BTreeSet::new();
        for index in order {
            let node = &subject.nodes[index];
            if node.level > level {
                level = node.level;
                sums.extend(same_level.drain(..));
            }
            let base = self.nodes.get(&index).unwrap_or(&node.bytes);
            let mut bytes = base.clone();
            if node.level > 0 {
                let parent = Node::new(base);
                for slot in 0..parent.count() {
                    let Some(pointer) = parent.pointer(slot) else { continue };
                    let known = self.nodes.contains_key(&index) || changed.contains(&pointer.block);
                    let (true, Some(sum)) = (known, sums.get(&pointer.block)) else { continue };
                    let value = NODE_HEADER + slot * SLOT + offset_of!(Slot, value);
                    let at = usize::from(u16::from_le_bytes([base[value], base[value + 1]]));
                    patch(&mut bytes, at + offset_of!(PointerRecord, checksum), &sum.to_le_bytes());
                }
            }
            same_level.push((node.pointer.block, crc32(&bytes)));
            if bytes != node.bytes {
                changed.insert(node.pointer.block);
                self.nodes.insert(index, bytes);
            }
        }
        sums.extend(same_level);
        if let Some(sum) = sums.get(&Pointer::from(subject.superblock.root).block) {
            let at = offset_of!(Superblock, root) + offset_of!(PointerRecord, checksum);
            patch(&mut self.superblock, at, &sum.to_le_bytes());
        }
    }

    fn map_bytes(&self, place: (usize, u64)) -> Option<Vec<u8>> {
        self.map.get(&place).cloned().or_else(|| self.subject.map_block(place.0, place.1))
    }

    // The same for the free-space map, whose count of free blocks goes to the superblock.
    fn seal_map(&mut self) {
        let layout = &self.subject.layout;
        if self.map.is_empty() {
            return;
        }
        let fanout = SpaceLayout::fanout(layout.block_size);
        for level in 0..layout.space.levels {
            let blocks: Vec<(u64, u32)> = self
                .map
                .iter()
                .filter(|((at, _), _)| *at == level)
                .map(|((_, index), bytes)| (*index, crc32(bytes)))
                .collect();
            for (index, sum) in blocks {
                let field = offset_of!(SpaceEntry, checksum);
                if level + 1 == layout.space.levels {
                    let at = offset_of!(Superblock, space) + field;
                    patch(&mut self.superblock, at, &sum.to_le_bytes());
                } else if let Some(mut above) = self.map_bytes((level + 1, index / fanout)) {
                    let at = (index % fanout) as usize * size_of::<SpaceEntry>() + field;
                    patch(&mut above, at, &sum.to_le_bytes());
                    self.map.insert((level + 1, index / fanout), above);
                }
            }
        }
        let bits = u64::from(layout.block_size) * 8;
        let free: u64 = (0..layout.space.counts[0])
            .map(|index| {
                let covered = bits.min(layout.data_blocks - index * bits);
                let free = |bytes: Vec<u8>| {
                    (0..covered).filter(|bit| bytes[(bit / 8) as usize] & (1 << (bit % 8)) == 0).count()
                        as u64
                };
                self.map_bytes((0, index)).map_or(covered, free)
            })
            .sum();
        let at = offset_of!(Superblock, free_blocks);
        patch(&mut self.superblock, at, &free.to_le_bytes());
    }

    fn image(self) -> Image {
        let layout = &self.subject.layout;
        let block_size = u64::from(layout.block_size);
        let mut image = self.subject.image.clone();
        for (index, bytes) in &self.nodes {
            image.write(self.subject.nodes[*index].pointer.block * block_size, bytes);
        }
        for ((level, index), bytes) in &self.map {
            // Both places of the pair, so that another slot in its entry gets past the checksum, too.
            for slot in 0..2 {
                image.write(layout.space.block(*level, *index, slot) * block_size, bytes);
            }
        }
        for (number, mut bytes) in self.log {
            let at = offset_of!(LogHeader, checksum);
            patch(&mut bytes, at, &[0; 4]);
            // Of as many bytes as it says that it has, if it has them.
            let length = LogHeader::read_from_prefix(&bytes).map_or(0, |(header, _)| header.length.get());
            let sum = crc32(bytes.get(..length as usize).unwrap_or(&bytes));
            patch(&mut bytes, at, &sum.to_le_bytes());
            image.write(self.subject.log[number].0, &bytes);
        }
        let Ok(superblock) = Superblock::read_from_bytes(&self.superblock) else { return image };
        let offsets = slot_offsets(layout.size());
        for slot in self.subject.superblock.slots() {
            image.write(offsets[slot as usize], superblock.sealed(slot).as_bytes());
        }
        image
    }
}

/// The records of a node whose bytes may be anything; what cannot be read is left out.
fn records(bytes: &[u8]) -> Vec<(Key, Vec<u8>)> {
    let node = Node::new(bytes);
    (0..node.count()).filter_map(|index| Some((node.key(index)?, node.value(index).to_vec()))).collect()
}

fn patch(bytes: &mut [u8], from: usize, with: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(from).zip(with) {
        *to = *from;
    }
}
