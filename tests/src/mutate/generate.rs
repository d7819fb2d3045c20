//! Chooses changes of an image from a seed: single fields, whole records, nodes, the map, and whole stories.

use std::collections::BTreeMap;

use vexfs_core::format::{
    Key, Kind, LOG_ENTRY, LOG_HEADER, LogEntry, NODE_HEADER, SLOT, SpaceEntry, Superblock,
};
use zerocopy::{FromBytes, IntoBytes};

use super::edit::Edit;
use super::fields::{self, Field};
use super::stories;
use super::subject::Subject;
use crate::random::Random;

/// Chooses what to change in one image.
pub struct Chooser<'a> {
    pub(super) subject: &'a Subject,
    pub(super) random: Random,
    /// Indexes of the records of each kind.
    kinds: BTreeMap<u8, Vec<usize>>,
    /// Numbers that mean something on this image: inodes, blocks, generations.
    numbers: Vec<u64>,
}

impl<'a> Chooser<'a> {
    /// The chooser of this seed.
    pub fn new(subject: &'a Subject, seed: u64) -> Self {
        let mut kinds: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
        for (index, (key, _)) in subject.records.iter().enumerate() {
            kinds.entry(key.kind).or_default().push(index);
        }
        let layout = &subject.layout;
        let generation = subject.superblock.generation.get();
        let data_end = layout.data_start + layout.data_blocks;
        let mut numbers = vec![layout.data_start, data_end - 1, data_end, layout.space.start];
        numbers.extend([layout.block_count, generation, generation + 1, u64::from(u32::MAX), 1 << 32]);
        numbers.extend([1 << 16, 1 << 24, 1 << 46, 1 << 47, 1 << 48, 1 << 52, 1 << 62, 1 << 63]);
        numbers.extend(subject.nodes.iter().map(|node| node.pointer.block));
        numbers.extend(kinds.get(&(Kind::Inode as u8)).into_iter().flatten().map(|index| {
            let (key, _) = &subject.records[*index];
            key.inode
        }));
        Self { subject, random: Random::new(seed), kinds, numbers }
    }

    /// One to four changes that belong together or not.
    pub fn edits(&mut self) -> Vec<Edit> {
        if !self.subject.log.is_empty() && self.random.one_in(2) {
            let count = 1 + self.random.index(3);
            return (0..count).map(|_| self.log()).collect();
        }
        let count = 1 + self.random.index(8) / 5 + self.random.index(8) / 6;
        let mut edits = Vec::new();
        for _ in 0..count {
            match self.random.below(100) {
                0..=39 => edits.extend(self.field()),
                40..=46 => edits.extend(self.bytes()),
                47..=51 => edits.extend(self.length()),
                52..=57 => edits.extend(self.drop_records()),
                58..=66 => edits.extend(self.copy_records()),
                67..=79 => edits.extend(stories::choose(self)),
                80..=88 => edits.push(self.node()),
                89..=93 => edits.push(self.superblock()),
                _ => edits.push(self.space()),
            }
        }
        edits
    }

    /// A record; kinds of which there are few come as often as others.
    pub(super) fn record(&mut self) -> Option<&'a (Key, Vec<u8>)> {
        let kinds: Vec<u8> = self.kinds.keys().copied().collect();
        let kind = self.random.pick(&kinds);
        self.record_of(kind)
    }

    /// A record of this kind, if there is one.
    pub(super) fn record_of(&mut self, kind: u8) -> Option<&'a (Key, Vec<u8>)> {
        let found = self.kinds.get(&kind)?;
        Some(&self.subject.records[found[self.random.index(found.len())]])
    }

    /// A number that is likely to be wrong in an interesting way, in place of `old`.
    pub(super) fn number(&mut self, old: u64, width: usize) -> u64 {
        let bits = 8 * width as u32;
        let max = u64::MAX >> (64 - bits);
        let number = match self.random.below(16) {
            0 => 0,
            1 => 1,
            2 => max,
            3 => max - 1,
            4 => 1 << (bits - 1),
            5 => (1 << (bits - 1)) - 1,
            6 => old.wrapping_add(1),
            7 => old.wrapping_sub(1),
            8 | 9 => old ^ (1 << self.random.below(u64::from(bits))),
            10 => self.random.bits() >> self.random.below(64),
            11 => old.wrapping_mul(2),
            12 => self.random.below(64),
            _ => self.random.pick(&self.numbers),
        };
        number & max
    }

    fn changed(&mut self, bytes: &[u8], (at, width): Field) -> Vec<u8> {
        let mut old = [0; 8];
        for (to, from) in old.iter_mut().take(width).zip(bytes.iter().skip(at)) {
            *to = *from;
        }
        self.number(u64::from_le_bytes(old), width).to_le_bytes()[..width].to_vec()
    }

    // One field of one record.
    fn field(&mut self) -> Option<Edit> {
        let (key, value) = self.record()?;
        let fields = fields::of_kind(key.kind);
        if fields.is_empty() {
            return self.bytes();
        }
        let field = self.random.pick(&fields);
        if self.random.one_in(6) {
            // What another record of the kind has there.
            let (_, other) = self.record_of(key.kind)?;
            let bytes = other.get(field.0..field.0 + field.1)?.to_vec();
            return Some(Edit::Patch(*key, field.0, bytes));
        }
        Some(Edit::Patch(*key, field.0, self.changed(value, field)))
    }

    // A few bytes anywhere in a value.
    fn bytes(&mut self) -> Option<Edit> {
        let (key, value) = self.record()?;
        if value.is_empty() {
            return None;
        }
        let at = self.random.index(value.len());
        let len = 1 + self.random.index(8);
        Some(Edit::Patch(*key, at, self.random.bytes(len)))
    }

    // A value of another length.
    fn length(&mut self) -> Option<Edit> {
        let (key, value) = self.record()?;
        let mut value = value.clone();
        let len = match self.random.below(4) {
            0 => 0,
            1 => value.len().saturating_sub(1),
            2 => value.len() + 1,
            _ => self.random.index(1400),
        };
        value.resize(len, 0x5a);
        Some(Edit::Put(*key, value))
    }

    // A record less, or all of one kind at one inode.
    fn drop_records(&mut self) -> Vec<Edit> {
        let Some((key, _)) = self.record() else { return Vec::new() };
        if self.random.one_in(2) {
            return vec![Edit::Drop(*key)];
        }
        let same = |other: &&(Key, Vec<u8>)| other.0.inode == key.inode && other.0.kind == key.kind;
        self.subject.records.iter().filter(same).take(20).map(|record| Edit::Drop(record.0)).collect()
    }

    // A record, or all of an inode's, a second time under another key, or moved there.
    fn copy_records(&mut self) -> Vec<Edit> {
        let Some((key, value)) = self.record() else { return Vec::new() };
        let moves = self.random.one_in(2);
        let mut target = *key;
        match self.random.below(4) {
            0 => target.inode = self.number(key.inode, 8),
            1 => target.kind = self.random.below(18) as u8,
            _ => target.offset = self.number(key.offset, 8),
        }
        if target.inode != key.inode && self.random.one_in(3) {
            let same = |other: &&(Key, Vec<u8>)| other.0.inode == key.inode;
            let group = self.subject.records.iter().filter(same).take(30);
            return group
                .map(|(from, value)| Edit::Put(Key { inode: target.inode, ..*from }, value.clone()))
                .collect();
        }
        let mut edits = vec![Edit::Put(target, value.clone())];
        if moves && target != *key {
            edits.push(Edit::Drop(*key));
        }
        edits
    }

    // Bytes of a node itself: its header, a slot, a pointer, anything.
    fn node(&mut self) -> Edit {
        let inner: Vec<usize> =
            (0..self.subject.nodes.len()).filter(|index| self.subject.nodes[*index].level > 0).collect();
        let index = match self.random.below(2) {
            0 if !inner.is_empty() => self.random.pick(&inner),
            _ => self.random.index(self.subject.nodes.len()),
        };
        let node = &self.subject.nodes[index];
        let way = node.way.clone();
        let count = usize::from(u16::from_le_bytes([node.bytes[6], node.bytes[7]])).max(1);
        let slot = NODE_HEADER + self.random.index(count) * SLOT;
        match self.random.below(5) {
            0 => {
                let field = self.random.pick(&fields::of_header());
                Edit::Node(way, field.0, self.changed(&node.bytes, field))
            }
            1 => {
                let (at, width) = self.random.pick(&fields::of_slot());
                Edit::Node(way, slot + at, self.changed(&node.bytes, (slot + at, width)))
            }
            2 => {
                let other = NODE_HEADER + self.random.index(count) * SLOT;
                Edit::Node(way, slot, node.bytes[other..other + SLOT].to_vec())
            }
            3 if node.level > 0 => self.pointer(index, slot),
            _ => {
                let at = self.random.index(node.bytes.len());
                let len = 1 + self.random.index(8);
                Edit::Node(way, at, self.random.bytes(len))
            }
        }
    }

    // A pointer that leads to another node, or a field of it.
    fn pointer(&mut self, index: usize, slot: usize) -> Edit {
        let node = &self.subject.nodes[index];
        let value = |at: usize| {
            let place = at + core::mem::offset_of!(vexfs_core::format::Slot, value);
            usize::from(u16::from_le_bytes([node.bytes[place], node.bytes[place + 1]]))
        };
        let at = value(slot);
        if self.random.one_in(2) {
            let (from, width) = self.random.pick(&fields::of_pointer());
            return Edit::Node(node.way.clone(), at + from, self.changed(&node.bytes, (at + from, width)));
        }
        let other = &self.subject.nodes[self.random.index(self.subject.nodes.len())];
        let record = vexfs_core::format::PointerRecord::from(other.pointer);
        Edit::Node(node.way.clone(), at, record.as_bytes().to_vec())
    }

    // A field of a record of the journal, of one of its entries, or of a value in it.
    fn log(&mut self) -> Edit {
        let number = self.random.index(self.subject.log.len());
        let (_, bytes) = &self.subject.log[number];
        if self.random.one_in(3) {
            let field = self.random.pick(&fields::of_log_header());
            return Edit::Log(number, field.0, self.changed(bytes, field));
        }
        let mut entries = Vec::new();
        let mut at = LOG_HEADER;
        while let Some(Ok((entry, _))) = bytes.get(at..).map(LogEntry::read_from_prefix) {
            entries.push((at, entry));
            at += LOG_ENTRY + entry.len.get() as usize;
        }
        let (at, entry) = self.random.pick(&entries);
        let of_value = fields::of_kind(entry.key_kind);
        let (from, width) = match self.random.below(3) {
            0 if !of_value.is_empty() && entry.len.get() > 0 => {
                let (from, width) = self.random.pick(&of_value);
                (at + LOG_ENTRY + from, width)
            }
            1 if self.random.one_in(3) => {
                // Another entry's head in place of this one's.
                let (other, _) = self.random.pick(&entries);
                return Edit::Log(number, at, bytes[other..other + LOG_ENTRY].to_vec());
            }
            _ => {
                let (from, width) = self.random.pick(&fields::of_log_entry());
                (at + from, width)
            }
        };
        Edit::Log(number, from, self.changed(bytes, (from, width)))
    }

    fn superblock(&mut self) -> Edit {
        let bytes = self.subject.superblock.as_bytes();
        let field = match self.random.one_in(8) {
            true => (self.random.index(size_of::<Superblock>() - 8), 8),
            false => self.random.pick(&fields::of_superblock()),
        };
        Edit::Superblock(field.0, self.changed(bytes, field))
    }

    // Bits of the map, or entries of its index.
    fn space(&mut self) -> Edit {
        let layout = self.subject.layout;
        let block_size = layout.block_size as usize;
        let level = self.random.index(layout.space.levels);
        let index = self.random.below(layout.space.counts[level]) as usize;
        if level > 0 {
            let (at, width) = self.random.pick(&fields::of_space_entry());
            let below = layout.space.counts[level - 1].min((block_size / size_of::<SpaceEntry>()) as u64);
            let entry = self.random.below(below) as usize * size_of::<SpaceEntry>();
            return Edit::Space(level, index, entry + at, self.changed(&[], (at, width)));
        }
        let used = (layout.data_blocks / 8).min(block_size as u64);
        let at = self.random.below(used.max(1)) as usize;
        let len = if self.random.one_in(4) { block_size - at } else { 1 + self.random.index(64) };
        let fill = self.random.pick(&[0x00, 0xff, 0x55, 0x01]);
        Edit::Space(level, index, at, vec![fill; len.min(256)])
    }
}
