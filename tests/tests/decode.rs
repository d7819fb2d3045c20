//! Bytes of any kind at the functions that decode them: an error or a value, never a panic (P8).
//!
//! What the mutated images of `mutants.rs` reach through a mount is tried here directly, many more times: nodes,
//! superblocks, names of attributes and of control files. All from seeds; `VEXFS_ROUNDS=N` multiplies the rounds.

use std::collections::BTreeMap;
use std::env;

use vexfs_core::checksum::crc32;
use vexfs_core::device::Direct;
use vexfs_core::format::{
    COLLECTIONS, CONTROL, Expected, FileKind, Key, NODE_HEADER, NODE_MAGIC, Node, NodeWriter, Pointer, ROOT,
    SLOT, SUPERBLOCK, Superblock, slot_offsets, value_max,
};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Caller, NewInode, RenameFlags, SetMode};
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_tests::check::check_clean;
use vexfs_tests::effort::Effort;
use vexfs_tests::random::Random;
use vexfs_tests::sim::{self, SimDevice};
use zerocopy::IntoBytes;

const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };

fn rounds(usual: u64) -> u64 {
    let times = env::var("VEXFS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    usual * times / Effort::wanted().of(4, 1, 1)
}

fn key(random: &mut Random) -> Key {
    let small = |random: &mut Random| {
        if random.one_in(8) { random.bits() >> random.below(64) } else { random.below(40) }
    };
    Key { inode: small(random), kind: random.below(16) as u8, offset: small(random) }
}

/// A node with random records, and what is in it.
fn filled(random: &mut Random, size: usize, level: u32) -> (Vec<u8>, BTreeMap<Key, Vec<u8>>) {
    let mut bytes = vec![0; size];
    let mut model = BTreeMap::new();
    let mut writer = NodeWriter::init(&mut bytes, level, 7, 99);
    for _ in 0..random.index(120) {
        let key = key(random);
        let longest = if random.one_in(20) { size / 2 } else { value_max(size as u32).min(200) };
        let len = if level > 0 { 24 } else { random.index(longest) };
        let value = random.bytes(len);
        if let Err(at) = writer.node().search(key)
            && writer.insert(at, key, &value)
        {
            model.insert(key, value);
        }
    }
    (bytes, model)
}

/// What a parent that believes everything would say of these bytes.
fn believed(bytes: &[u8]) -> Expected {
    let node = Node::new(bytes);
    let block = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
    let pointer = Pointer { block, generation: node.generation(), checksum: crc32(bytes) };
    let low = if node.level() > 0 { node.key(0).unwrap_or(Key::MIN) } else { Key::MIN };
    Expected { pointer, level: node.level(), low, high: Key::MAX }
}

fn damage(random: &mut Random, bytes: &mut [u8]) {
    let count = usize::from(u16::from_le_bytes([bytes[6], bytes[7]])).max(1);
    for _ in 0..1 + random.index(3) {
        let at = match random.below(4) {
            0 => random.index(NODE_HEADER),
            1 | 2 => NODE_HEADER + random.index(count * SLOT),
            _ => random.index(bytes.len()),
        };
        let at = at.min(bytes.len() - 1);
        bytes[at] = match random.below(4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at].wrapping_add(1),
            _ => random.bits() as u8,
        };
    }
}

#[test]
fn a_node_of_any_bytes_is_refused_or_can_be_used() {
    let (mut refused, mut used) = (0u64, 0u64);
    for seed in 0..rounds(60_000) {
        let mut random = Random::new(seed);
        let size = random.pick(&[4096, 8192, 16384]);
        let level = random.index(3) as u32;
        let mut bytes = match random.below(8) {
            0 => {
                let mut noise = random.bytes(size);
                noise[..4].copy_from_slice(&NODE_MAGIC.to_le_bytes());
                noise
            }
            _ => filled(&mut random, size, level).0,
        };
        damage(&mut random, &mut bytes);
        // Reading asks nothing of the bytes; changing wants a node that was checked.
        read(&bytes, &mut random);
        let expected = believed(&bytes);
        match Node::check(&bytes, &expected) {
            Err(_) => refused += 1,
            Ok(()) => {
                used += 1;
                change(&mut bytes, &mut random, seed);
            }
        }
    }
    println!("nodes: {refused} refused, {used} used");
    assert!(refused > 1000 && used > 1000, "the damage is too small or too large");
}

fn read(bytes: &[u8], random: &mut Random) {
    let node = Node::new(bytes);
    for index in 0..node.count() + 2 {
        std::hint::black_box((node.key(index), node.value(index), node.pointer(index)));
    }
    for _ in 0..8 {
        let key = key(random);
        std::hint::black_box((node.search(key).is_ok(), node.child(key)));
    }
    std::hint::black_box((node.room(), node.used(), node.padding_is_zero()));
}

/// Random changes to a node that was accepted: it stays one that is accepted, and holds what was put there.
fn change(bytes: &mut [u8], random: &mut Random, seed: u64) {
    let node = Node::new(bytes);
    let level = node.level();
    let mut model: BTreeMap<Key, Vec<u8>> =
        (0..node.count()).map(|at| (node.key(at).expect("a key"), node.value(at).to_vec())).collect();
    let mut writer = NodeWriter::new(bytes);
    for _ in 0..20 {
        let key = if random.one_in(2) || model.is_empty() {
            key(random)
        } else {
            *model.keys().nth(random.index(model.len())).expect("one of them")
        };
        let len = if level > 0 { 24 } else { random.index(300) };
        let value = random.bytes(len);
        match writer.node().search(key) {
            Ok(at) if random.one_in(2) => {
                writer.remove(at);
                model.remove(&key);
            }
            Ok(at) => {
                if writer.replace(at, &value) {
                    model.insert(key, value);
                }
            }
            Err(at) => {
                if writer.insert(at, key, &value) {
                    model.insert(key, value);
                }
            }
        }
    }
    writer.clear_padding();
    let node = Node::new(bytes);
    assert_eq!(node.count(), model.len(), "seed {seed}");
    for (at, (key, value)) in model.iter().enumerate() {
        assert_eq!((node.key(at), node.value(at)), (Some(*key), &value[..]), "seed {seed}, slot {at}");
    }
    if level == 0 || !model.is_empty() {
        assert_eq!(Node::check(bytes, &believed(bytes)), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_superblock_of_any_bytes_is_refused_or_has_a_layout() {
    let device = SimDevice::new(4 << 20);
    sim::format(&device, 4096).expect("formats");
    let mut whole = [0; SUPERBLOCK];
    device.image().read(0, &mut whole);
    let (mut refused, mut fine) = (0u64, 0u64);
    for seed in 0..rounds(400_000) {
        let mut random = Random::new(seed);
        let mut bytes = whole;
        for _ in 0..1 + random.index(4) {
            let at = random.index(SUPERBLOCK - 8);
            let value = match random.below(4) {
                0 => 0,
                1 => u64::MAX,
                _ => random.bits() >> random.below(64),
            };
            let width = random.pick(&[1, 4, 8]);
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        let slot = random.below(4) as u32;
        std::hint::black_box(Superblock::parse(&bytes, slot).is_ok());
        std::hint::black_box(Superblock::parse(&bytes[..random.index(SUPERBLOCK)], slot).is_ok());
        let Ok(copy) = <Superblock as zerocopy::FromBytes>::read_from_bytes(&bytes) else { continue };
        let sealed = copy.sealed(slot);
        let Ok(Some(copy)) = Superblock::parse(sealed.as_bytes(), slot) else {
            refused += 1;
            continue;
        };
        match copy.layout() {
            Err(_) => refused += 1,
            Ok(layout) => {
                fine += 1;
                let end = layout.data_start + layout.data_blocks;
                assert!(
                    end <= layout.block_count && layout.journal_start >= layout.space.start,
                    "seed {seed}"
                );
                assert!(layout.covers(layout.data_start, layout.data_blocks), "seed {seed}");
                assert!(!layout.covers(random.bits() | 1 << 63, random.bits()), "seed {seed}");
                let last = layout.space.levels - 1;
                assert!(layout.space.block(last, 0, 1) < layout.space.end(), "seed {seed}");
                assert!(slot_offsets(layout.size()).iter().all(|offset| *offset < layout.size()));
            }
        }
    }
    println!("superblocks: {refused} refused, {fine} with a layout");
    assert!(refused > 1000 && fine > 1000, "the damage is too small or too large");
}

/// A name that is nearly right, or anything.
fn name(random: &mut Random) -> Vec<u8> {
    let parts: [&[u8]; 24] = [
        b"user.",
        b"vector",
        b".",
        b"clip",
        b":",
        b"i8",
        b"f32",
        b"bit",
        b"0",
        b"1",
        b"4294967295",
        b"01",
        b".meta",
        b"user.vector.",
        b"user.vexfs.",
        b"dim",
        b"element",
        b"\xff",
        b"-",
        b"_",
        b"/",
        b" ",
        b"trusted.",
        b"user.vector.clip:i8.",
    ];
    let mut name = Vec::new();
    for _ in 0..1 + random.index(6) {
        if random.one_in(12) {
            let len = random.index(300);
            name.extend(random.bytes(len));
        } else {
            name.extend_from_slice(random.pick(&parts));
        }
    }
    name
}

#[test]
fn names_of_any_bytes_are_refused_or_kept() {
    let device = SimDevice::new(8 << 20);
    sim::format(&device, 4096).expect("formats");
    let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
    let root = Caller { uid: 0, gid: 0, in_group: &|_| false };
    let new = |kind| NewInode { kind, permissions: 0o700, umask: 0, uid: 0, gid: 0, device: 0 };
    let file = volume.create(ROOT, b"file", &new(FileKind::Regular), NOW).expect("creates").inode;
    let (mut refused, mut done) = (0u64, 0u64);
    for seed in 0..rounds(12_000) {
        let mut random = Random::new(seed);
        let (name, other) = (name(&mut random), name(&mut random));
        let directory = random.pick(&[ROOT, CONTROL, COLLECTIONS, file]);
        // An attribute's name begins with its namespace, or is refused for that alone.
        let attribute = if random.one_in(4) { name.clone() } else { [b"user.", &name[..]].concat() };
        let result = match random.below(10) {
            0 | 1 => {
                let len = random.pick(&[0, 1, 4, 8, 64, 100]);
                let set = volume.set_attribute(file, &attribute, &vec![1; len], SetMode::Any, &root, NOW);
                if set.is_ok() {
                    let listed = volume.list_attributes(file).expect("can be listed");
                    assert!(volume.attribute(file, &attribute).is_ok(), "seed {seed}: set, but not there");
                    assert!(listed.ends_with(b"\0"), "seed {seed}");
                }
                set
            }
            2 => volume.attribute(file, &attribute).map(drop),
            3 => volume.remove_attribute(file, &attribute, &root, NOW),
            4 => volume.lookup(directory, &name).map(drop),
            5 => volume.create(directory, &name, &new(FileKind::Directory), NOW).map(drop),
            6 => volume.remove_directory(directory, &name, &|_| false, NOW).map(drop),
            7 => volume
                .rename((directory, &name), (directory, &other), RenameFlags::empty(), &|_| false, NOW)
                .map(drop),
            8 => match volume.collection_by_name(b"clip") {
                Ok(found) => {
                    let inode = vexfs_core::format::collection_directory(found.id);
                    volume.set_attribute(inode, &attribute, &other, SetMode::Any, &root, NOW)
                }
                Err(error) => Err(error),
            },
            _ => volume.unlink(directory, &name, &|_| false, NOW).map(drop),
        };
        volume.events();
        match result {
            Ok(()) => done += 1,
            Err(_) => refused += 1,
        }
        if seed % 3000 == 2999 {
            volume.commit(NOW).expect("commits");
            while volume.tidy(NOW).expect("tidies") {}
        }
    }
    volume.commit(NOW).expect("commits");
    println!("names: {done} calls done, {refused} refused");
    assert!(done > 200 && refused > 200, "too few names are right, or wrong");
    check_clean(&device).expect("the volume stays whole");
}
