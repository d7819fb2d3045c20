//! Random operations from a seed, most of them sensible, some of them to be refused.

use std::collections::BTreeSet;

use vexfs_core::format::{Codec, Element, FileKind, ROOT};
use vexfs_core::operations::{Allocate, RenameFlags, SetMode};

use super::quantize::quantized;
use super::{Codecs, Fill, Model, Name, Op, VectorFill, VectorName};
use crate::random::Random;

/// Chooses what to do next.
pub struct Generator {
    random: Random,
    /// Files of about this many bytes at most.
    pub file_size: u64,
    /// Shrinks instead of growing.
    pub removing: bool,
    /// Use attributes and vectors.
    pub attributes: bool,
    age: Age,
}

/// What there was when a stream of operations was first used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    First,
    Second,
    Third,
    Fourth,
    Fifth,
    Sixth,
    Seventh,
}

/// How many of them the first runs used.
const FIRST_COLLECTIONS: usize = 6;
/// Collections that the runs use: name, element, codec if it is made by hand, dimensions.
const COLLECTIONS: [(&str, Element, Codec, u32); 8] = [
    ("minilm", Element::F32, Codec::None, 96),
    ("half", Element::F16, Codec::Sq4, 50),
    ("clip", Element::I8, Codec::None, 100),
    ("audio-2", Element::I16, Codec::None, 24),
    ("hash_x", Element::Bit, Codec::None, 256),
    ("wide", Element::F32, Codec::F16, 700),
    ("eight", Element::F32, Codec::Sq8, 130),
    ("signs", Element::F32, Codec::Binary, 77),
];

impl Generator {
    /// The stream of operations of this seed.
    pub fn new(seed: u64, file_size: u64) -> Self {
        Self { random: Random::new(seed), file_size, removing: false, attributes: true, age: Age::Seventh }
    }

    /// The same without what came later: codecs, compaction and metadata. The bytes that these operations leave are the
    /// ground of other tests.
    pub fn first(seed: u64, file_size: u64) -> Self {
        Self { age: Age::First, ..Self::new(seed, file_size) }
    }

    /// The same without product quantisation.
    pub fn sixth(seed: u64, file_size: u64) -> Self {
        Self { age: Age::Sixth, ..Self::new(seed, file_size) }
    }

    /// The same without recodes.
    pub fn fifth(seed: u64, file_size: u64) -> Self {
        Self { age: Age::Fifth, ..Self::new(seed, file_size) }
    }

    /// The same without superseded vectors and batches of vectors.
    pub fn third(seed: u64, file_size: u64) -> Self {
        Self { age: Age::Third, ..Self::new(seed, file_size) }
    }

    /// The same with codecs and compaction, without metadata.
    pub fn second(seed: u64, file_size: u64) -> Self {
        Self { age: Age::Second, ..Self::new(seed, file_size) }
    }

    // A collection to work with.
    fn pick_collection(&mut self) -> (&'static str, Element, Codec, u32) {
        match self.age > Age::First {
            true => self.random.pick(&COLLECTIONS),
            false => {
                let (name, element, _, dimensions) = self.random.pick(&COLLECTIONS[..FIRST_COLLECTIONS]);
                (name, element, Codec::None, dimensions)
            }
        }
    }

    /// What to do next with a filesystem like this.
    pub fn next(&mut self, model: &Model, open: &BTreeSet<u64>) -> Op {
        loop {
            let choice = self.random.below(100);
            let op = match choice {
                0..=13 => self.create(model),
                14..=16 => self.link(model),
                17..=24 => self.rename(model),
                25..=33 => self.remove(model),
                34..=54 => self.content(model),
                55..=60 => self.settings(model),
                61..=62 => self.open_or_close(model, open),
                63..=76 if self.attributes => self.attribute(model),
                77..=96 if self.attributes => self.vector(model),
                97 if self.attributes => self.collection(model),
                99 => Some(Op::Tidy),
                _ => None,
            };
            // A run that shrinks leaves out most of what would grow.
            let grows = choice <= 16 || (34..=54).contains(&choice) || (63..=97).contains(&choice);
            if self.removing && grows && !self.random.one_in(6) {
                continue;
            }
            if let Some(op) = op {
                return op;
            }
        }
    }

    fn create(&mut self, model: &Model) -> Option<Op> {
        let directory = self.directory(model);
        let name = self.name(model, directory, 12);
        let kind = match self.random.below(20) {
            0..=4 => FileKind::Directory,
            5 => {
                let longest = if self.random.one_in(4) { 2000 } else { 60 };
                let len = self.random.index(longest) + 1;
                return Some(Op::Symlink { directory, name, target: Name(self.random.bytes(len)) });
            }
            6 => self.random.pick(&[FileKind::Fifo, FileKind::Socket, FileKind::CharDevice]),
            7 => return Some(Op::CreateUnnamed { directory }),
            _ => FileKind::Regular,
        };
        let permissions = self.random.below(0o1000) as u32;
        Some(Op::Create { directory, name, kind, permissions, owner: self.random.below(3) as u32 * 1000 })
    }

    fn link(&mut self, model: &Model) -> Option<Op> {
        let inode = self.file(model, |kind| kind != FileKind::Directory)?;
        let node = model.node(inode);
        if node.links == 0 && !node.unnamed {
            // linkat(2) refuses a file that lost its last name.
            return None;
        }
        let directory = self.directory(model);
        Some(Op::Link { inode, directory, name: self.name(model, directory, 12) })
    }

    fn rename(&mut self, model: &Model) -> Option<Op> {
        let (from, to) = (self.directory(model), self.directory(model));
        let flags = match self.random.below(8) {
            0 => RenameFlags::NOREPLACE,
            1 | 2 => RenameFlags::EXCHANGE,
            _ => RenameFlags::empty(),
        };
        let (source, target) = (self.name(model, from, 1), self.name(model, to, 2));
        Some(Op::Rename { from: (from, source), to: (to, target), flags })
    }

    fn remove(&mut self, model: &Model) -> Option<Op> {
        let directory = self.directory(model);
        let name = self.name(model, directory, 1);
        let inode = model.node(directory).entries.get(&name.0);
        let is_directory = inode.is_some_and(|inode| model.node(*inode).kind == FileKind::Directory);
        Some(if is_directory != self.random.one_in(20) {
            Op::RemoveDirectory { directory, name }
        } else {
            Op::Unlink { directory, name }
        })
    }

    fn content(&mut self, model: &Model) -> Option<Op> {
        let inode = self.file(model, |kind| kind == FileKind::Regular)?;
        let size = model.node(inode).bytes.size();
        let offset = self.offset(size);
        let len = self.len();
        Some(match self.random.below(20) {
            0..=11 => Op::Write { inode, offset, fill: Fill { seed: self.random.bits(), len: len as usize } },
            12..=14 => Op::Truncate { inode, size: if self.random.one_in(4) { 0 } else { offset } },
            15 => Op::Allocate { inode, what: self.reserve(), offset, len: len.max(1) },
            16 | 17 => Op::Allocate { inode, what: Allocate::PunchHole, offset, len: len.max(1) * 2 },
            18 => {
                let what = Allocate::ZeroRange { keep_size: self.random.one_in(2) };
                Op::Allocate { inode, what, offset, len: len.max(1) }
            }
            _ => {
                // Far out, and back.
                let offset = self.random.below(1 << 41);
                if size > self.file_size * 4 {
                    Op::Truncate { inode, size: self.random.below(self.file_size) }
                } else {
                    Op::Write { inode, offset, fill: Fill { seed: self.random.bits(), len: 100 } }
                }
            }
        })
    }

    fn settings(&mut self, model: &Model) -> Option<Op> {
        let inode = self.file(model, |_| true)?;
        Some(match self.random.below(3) {
            0 => Op::Permissions { inode, permissions: self.random.below(0o1000) as u32 },
            1 => {
                Op::Owner { inode, uid: self.random.below(5000) as u32, gid: self.random.below(5000) as u32 }
            }
            _ => Op::Modified { inode, seconds: self.random.below(1 << 33) as i64 - (1 << 31) },
        })
    }

    fn open_or_close(&mut self, model: &Model, open: &BTreeSet<u64>) -> Option<Op> {
        if open.len() > 3 || (!open.is_empty() && self.random.one_in(2)) {
            let inode = *open.iter().nth(self.random.index(open.len()))?;
            return Some(Op::Close { inode });
        }
        self.file(model, |kind| kind == FileKind::Regular).map(|inode| Op::Open { inode })
    }

    fn attribute(&mut self, model: &Model) -> Option<Op> {
        let inode = self.file(model, |kind| matches!(kind, FileKind::Regular | FileKind::Directory))?;
        let names = ["user.a", "user.checksum.sha256", "security.selinux", "trusted.overlay.opaque"];
        let name = if self.random.one_in(5) {
            Name(format!("user.{}", "n".repeat(self.random.index(250) + 1)).into_bytes())
        } else {
            self.random.pick(&names).into()
        };
        if self.random.one_in(4) {
            return Some(Op::RemoveAttribute { inode, name });
        }
        let len = match self.random.below(12) {
            0 => 0,
            1 => 60_000 + self.random.index(5537),
            2 | 3 => self.random.index(9000),
            _ => self.random.index(120),
        };
        let fill = Fill { seed: self.random.bits(), len };
        Some(Op::SetAttribute { inode, name, fill, mode: self.mode() })
    }

    fn vector(&mut self, model: &Model) -> Option<Op> {
        // Vectors of files that have a name; an open one without is told apart elsewhere.
        let inode = self.file(model, |kind| kind == FileKind::Regular)?;
        if model.node(inode).links == 0 {
            return None;
        }
        let (name, element, _, dimensions) = self.pick_collection();
        let known = model.collections.get(name);
        let short = known.is_some() && self.random.one_in(3);
        let n = if self.random.one_in(2) { 0 } else { self.random.below(5) as u32 };
        let mut vector = VectorName { collection: name.into(), element, n, short };
        if self.random.one_in(if self.removing { 2 } else { 5 }) {
            return Some(Op::RemoveVector { inode, vector });
        }
        if self.age >= Age::Third && self.random.one_in(3) {
            return Some(self.metadata(inode, vector));
        }
        if self.age >= Age::Fourth && known.is_some_and(|state| state.dimensions > 0) && self.random.one_in(4)
        {
            return Some(self.batch(model, name, dimensions));
        }
        let mut fill = VectorFill { seed: self.random.bits(), dimensions, poison: false };
        let mut mode = self.mode();
        if known.is_some_and(|state| state.dimensions > 0) && self.random.one_in(12) {
            mode = SetMode::Any;
            match self.random.below(3) {
                0 => fill.dimensions = dimensions + 8,
                1 => fill.poison = true,
                _ => {
                    vector.short = false;
                    vector.element = if element == Element::I8 { Element::I16 } else { Element::I8 };
                }
            }
        }
        Some(Op::SetVector { inode, vector, fill, mode })
    }

    // Vectors of a few files; some have the same file and number, and one may be impossible.
    fn batch(&mut self, model: &Model, name: &str, dimensions: u32) -> Op {
        let mut vectors = Vec::new();
        for _ in 0..self.random.below(12) {
            let fill = VectorFill { seed: self.random.bits(), dimensions, poison: self.random.one_in(150) };
            let inode = self.file(model, |kind| kind == FileKind::Regular);
            if let Some(inode) = inode.filter(|inode| model.node(*inode).links > 0) {
                vectors.push((inode, self.random.below(6) as u32, fill));
            }
        }
        Op::SetVectors { collection: name.into(), vectors, keep: self.random.one_in(3) }
    }

    fn metadata(&mut self, inode: u64, vector: VectorName) -> Op {
        if self.random.one_in(5) {
            return Op::RemoveMetadata { inode, vector };
        }
        let len = match self.random.below(12) {
            0 => 4097,
            1 => 1,
            2 | 3 => 4096 - self.random.index(3000),
            _ => 2 + self.random.index(200),
        };
        Op::SetMetadata { inode, vector, fill: Fill { seed: self.random.bits(), len }, mode: self.mode() }
    }

    fn collection(&mut self, model: &Model) -> Option<Op> {
        let (name, element, codec, dimensions) = self.pick_collection();
        let open = model.nodes.values().any(|node| node.links == 0 && !node.vectors.is_empty());
        if self.age >= Age::Sixth
            && self.random.one_in(2)
            && let Some(op) = self.recode(model, name)
        {
            return Some(op);
        }
        if self.age >= Age::Fifth && model.collections.contains_key(name) && self.random.one_in(3) {
            return Some(Op::History { name: name.into(), count: self.random.pick(&[0, 1, 2, 3, 64]) });
        }
        if self.age > Age::First && model.collections.contains_key(name) && self.random.one_in(3) {
            return Some(Op::Compact { name: name.into() });
        }
        Some(if model.collections.contains_key(name) && !open && self.random.one_in(2) {
            Op::RemoveCollection { name: name.into() }
        } else {
            let dimensions = if self.random.one_in(2) { 0 } else { dimensions };
            Op::CreateCollection { name: name.into(), element, codec, dimensions }
        })
    }

    // Begins a recode, goes on with it, or gives it up; what no codec can store is refused.
    fn recode(&mut self, model: &Model, name: &str) -> Option<Op> {
        let (state, name) = (model.collections.get(name)?, name.to_owned());
        let vectors = model.nodes.values().flat_map(|node| &node.vectors);
        let stored = vectors.filter(|((id, _), _)| *id == state.id).map(|(_, vector)| vector.codecs.count());
        let room = stored.max().unwrap_or(0) + 1 < Codecs::MAX;
        Some(match self.random.below(8) {
            0 => Op::Recode { name, codec: None },
            1 | 2 if room => Op::Recode { name, codec: Some(self.codec(state.dimensions)) },
            _ if state.target.is_some() => Op::RecodeStep { name },
            _ if room => Op::Recode { name, codec: Some(self.codec(state.dimensions)) },
            _ => return None,
        })
    }

    // Any codec for vectors of so many dimensions.
    fn codec(&mut self, dimensions: u32) -> Codec {
        if self.age >= Age::Seventh && self.random.one_in(3) {
            let bits = if self.random.one_in(4) { 8 } else { 4 };
            if let Some(codec) = quantized(dimensions, bits) {
                return codec;
            }
        }
        self.random.pick(&Codec::ALL)
    }

    fn reserve(&mut self) -> Allocate {
        Allocate::Reserve { keep_size: self.random.one_in(2) }
    }

    fn mode(&mut self) -> SetMode {
        match self.random.below(8) {
            0 => SetMode::Create,
            1 => SetMode::Replace,
            _ => SetMode::Any,
        }
    }

    fn directory(&mut self, model: &Model) -> u64 {
        if self.random.one_in(3) {
            return ROOT.0;
        }
        self.file(model, |kind| kind == FileKind::Directory).unwrap_or(ROOT.0)
    }

    /// A file of the wanted type other than the root, if there is one.
    fn file(&mut self, model: &Model, wanted: impl Fn(FileKind) -> bool) -> Option<u64> {
        let all: Vec<u64> = model
            .nodes
            .iter()
            .filter(|(inode, node)| **inode != ROOT.0 && wanted(node.kind))
            .map(|(inode, _)| *inode)
            .collect();
        if all.is_empty() { None } else { Some(self.random.pick(&all)) }
    }

    /// A name; once in `existing` times one that is there already.
    fn name(&mut self, model: &Model, directory: u64, existing: u64) -> Name {
        let entries = &model.node(directory).entries;
        if !entries.is_empty() && self.random.one_in(existing) {
            let at = self.random.index(entries.len());
            return Name(entries.keys().nth(at).cloned().unwrap_or_default());
        }
        match self.random.below(30) {
            0 => Name(vec![b'L'; 255]),
            1 => Name(vec![b'M'; 250 + self.random.index(8)]),
            2 => Name(vec![0xff, self.random.below(120) as u8 + 128, 0xc3, b' ', b'\n']),
            _ => Name(format!("f{}", self.random.below(60)).into_bytes()),
        }
    }

    fn offset(&mut self, size: u64) -> u64 {
        match self.random.below(8) {
            0 => 0,
            1 | 2 => size,
            3 => self.random.below(self.file_size / 4096 + 1) * 4096,
            4 => self.random.below(1000),
            _ => self.random.below(self.file_size),
        }
    }

    fn len(&mut self) -> u64 {
        match self.random.below(8) {
            0..=2 => self.random.below(200) + 1,
            3 => 4096 * (1 + self.random.below(4)),
            4 => self.random.below(900) + 1,
            _ => self.random.below(self.file_size / 2) + 1,
        }
    }
}
