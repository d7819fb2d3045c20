//! Repairs: what is lost with the free-space map, the journal or a node, and that nothing else is.

use std::collections::BTreeMap;

use vexfs_core::check::{CheckOptions, CheckReport, Finding, check};
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{Codec, ExtentRecord, FileKind, InodeRecord, Key, Kind, ROOT, collection_part};
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::operations::NewInode;
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_tests::check::check_clean;
use vexfs_tests::image::Image;
use vexfs_tests::mutate::bases;
use vexfs_tests::mutate::edit::Edit;
use vexfs_tests::mutate::subject::Subject;
use vexfs_tests::sim::SimDevice;
use zerocopy::FromBytes;

const NOW: Time = Time { seconds: 1_900_000_000, nanoseconds: 0 };
const NEW: NewInode =
    NewInode { kind: FileKind::Regular, permissions: 0o600, umask: 0, uid: 0, gid: 0, device: 0 };
const REPAIR: CheckOptions = CheckOptions { repair: true, salvage: false, vectors: true, now: NOW };
const SALVAGE: CheckOptions = CheckOptions { repair: true, salvage: true, vectors: true, now: NOW };

fn subject(name: &str) -> Subject {
    Subject::new(bases::image(name).expect("a base image")).expect("a whole base image")
}

fn run(image: &Image, options: CheckOptions) -> (SimDevice, CheckReport, Vec<String>) {
    let device = SimDevice::from_image(image.clone());
    let mut findings = Vec::new();
    let mut found = |finding: &Finding| findings.push(finding.to_string());
    let report = check(Direct(device.clone()), options, &mut found, &mut |_, _| {}).expect("a check");
    (device, report, findings)
}

/// Type and bytes of every inode of the base image that can be read.
fn contents(device: &SimDevice, subject: &Subject) -> BTreeMap<u64, (FileKind, Vec<u8>)> {
    let volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
    let inodes = subject.records.iter().filter(|(key, _)| key.kind == Kind::Inode as u8);
    let read = |inode: u64| {
        let found = volume.attributes(Ino(inode)).ok()?;
        let mut bytes = vec![0; found.size.min(1 << 20) as usize];
        match found.kind {
            FileKind::Regular => drop(volume.read(Ino(inode), 0, &mut bytes).ok()?),
            FileKind::Symlink => bytes = volume.read_link(Ino(inode)).ok()?,
            _ => bytes.clear(),
        }
        Some((inode, (found.kind, bytes)))
    };
    // The bytes of a matrix show which rows are free, and a repair may free some.
    inodes.filter_map(|(key, _)| read(key.inode)).filter(|(inode, _)| *inode < 1 << 48).collect()
}

#[test]
fn a_wrong_free_space_map_is_made_right_and_nothing_is_lost() {
    for name in ["golden-4k", "random-8k", "large-4k"] {
        let subject = subject(name);
        let before = contents(&SimDevice::from_image(subject.image().clone()), &subject);
        let layout = subject.layout;
        let block = u64::from(layout.block_size);
        let root = subject.nodes[0].pointer.block - layout.data_start;
        let byte = (root / 8) as usize;
        let last = (layout.data_blocks.min(block * 8) / 8 - 1) as usize;
        let mut cases: Vec<(&str, Image)> = vec![
            ("leaked", subject.with(&[Edit::Space(0, 0, last - 40, vec![0xff; 40])])),
            ("marked free", subject.with(&[Edit::Space(0, 0, byte, vec![0])])),
            ("all marked free", subject.with(&[Edit::Space(0, 0, 0, vec![0; last + 1])])),
        ];
        // Without new checksums: a bitmap block and an index block that cannot be used, in both places.
        for level in 0..2 {
            let mut image = subject.image().clone();
            for slot in 0..2 {
                image.write(layout.space.block(level, 0, slot) * block + 3, &[0x5a]);
            }
            cases.push(("unusable", image));
        }
        for (what, image) in cases {
            let (device, report, findings) = run(&image, REPAIR);
            assert!(report.errors > 0, "{name}, {what}: nothing found");
            assert_eq!(report.repaired, report.errors, "{name}, {what}: {findings:?}");
            check_clean(&device).unwrap_or_else(|why| panic!("{name}, {what}: {why}"));
            let after = contents(&device, &subject);
            assert!(before.iter().all(|found| !waits(&subject, *found.0) || after.contains_key(found.0)));
            for (inode, found) in &after {
                assert_eq!(Some(found), before.get(inode), "{name}, {what}: inode {inode}");
            }
        }
    }
}

// True if an inode is not on the orphan list: a repair frees those that are.
fn waits(subject: &Subject, inode: u64) -> bool {
    subject.value(Key::new(vexfs_core::format::ORPHANS, Kind::Orphan, inode)).is_none()
}

#[test]
fn a_lost_map_does_not_lose_the_journal() {
    let subject = subject("journal-4k");
    assert!(!subject.log.is_empty());
    let layout = subject.layout;
    let mut image = subject.image().clone();
    for slot in 0..2 {
        image.write(layout.space.block(0, 0, slot) * u64::from(layout.block_size), &[0x5a; 9]);
    }
    for options in [REPAIR, SALVAGE] {
        let (device, report, findings) = run(&image, options);
        assert_eq!(report.repaired, report.errors, "{findings:?}");
        check_clean(&device).expect("clean");
        let volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
        let synced = volume.lookup(ROOT, b"synced 4").expect("what was synced last is there");
        assert_eq!(synced.size, 2800);
    }
}

#[test]
fn a_salvage_keeps_all_that_a_damaged_node_did_not_hold() {
    let (mut kept, mut lost, mut attached) = (0, 0, 0);
    for name in ["golden-4k", "random-4k", "golden-16k"] {
        let subject = subject(name);
        let before = contents(&SimDevice::from_image(subject.image().clone()), &subject);
        let leaves: Vec<usize> =
            (0..subject.nodes.len()).filter(|at| subject.nodes[*at].level == 0).collect();
        for (number, index) in leaves.iter().enumerate() {
            let node = &subject.nodes[*index];
            let high = leaves.get(number + 1).map_or(Key::MAX, |next| subject.nodes[*next].low);
            let mut image = subject.image().clone();
            let offset = node.pointer.block * u64::from(subject.layout.block_size);
            image.write(offset + 100, &[node.bytes[100] ^ 4]);
            let (device, report, findings) = run(&image, SALVAGE);
            assert!(report.errors > 0, "{name}, node {number}");
            assert_eq!(report.repaired, report.errors, "{name}, node {number}: {findings:?}");
            check_clean(&device).unwrap_or_else(|why| panic!("{name}, node {number}: {why}"));
            let after = contents(&device, &subject);
            for (inode, found) in before.iter().filter(|found| waits(&subject, *found.0)) {
                let inside = *inode >= node.low.inode && *inode <= high.inode;
                if inside {
                    lost += usize::from(after.get(inode) != Some(found));
                } else {
                    assert_eq!(after.get(inode), Some(found), "{name}, node {number}: inode {inode}");
                    kept += 1;
                }
            }
            let volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
            if let Ok(found) = volume.lookup(ROOT, b"lost+found") {
                let mut count = |_: vexfs_core::operations::Entry<'_>| {
                    attached += 1;
                    true
                };
                volume.read_directory(found.inode, 0, &mut count).expect("can be listed");
            }
        }
    }
    println!("inodes: {kept} kept, {lost} in damaged nodes, {attached} in lost+found");
    assert!(kept > 1000 && lost > 10 && attached > 10);
}

/// Codec of a collection, and each of its vectors.
fn vectors_of(volume: &Volume<Direct<SimDevice>>, id: CollectionId) -> (Codec, Vec<(u64, Vec<u8>)>) {
    let mut rows = Vec::new();
    let mut note = |row, _: &_| {
        rows.push(row);
        true
    };
    volume.rows_of(id, 0, &mut note).expect("rows can be listed");
    let vectors = rows.into_iter().map(|row| (row, volume.vector(id, row).expect("a whole vector")));
    (volume.collection(id).expect("the collection is there").codec, vectors.collect())
}

#[test]
fn a_broken_recode_is_given_up_and_the_collection_keeps_its_vectors() {
    let subject = subject("recode-4k");
    let mounted = |device: SimDevice| Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
    let whole = mounted(SimDevice::from_image(subject.image().clone()));
    let mut broken = 0;
    for (key, value) in subject.records.iter().filter(|(key, _)| key.kind == Kind::Row as u8) {
        let Some((id, _)) = collection_part(Ino(key.inode)) else { continue };
        let Ok(collection) = whole.collection(id) else { continue };
        // Rows of the matrix that is being made have their records at it.
        if collection.recode.is_none() || rows_at_directory(*key) || collection.matrix == Ino(key.inode) {
            continue;
        }
        let header_of_another = Edit::Patch(*key, 8, vec![value[8] ^ 1]);
        for edit in [Edit::Drop(*key), header_of_another] {
            let image = subject.with(std::slice::from_ref(&edit));
            let (unchanged, report, findings) = run(&image, REPAIR);
            assert!(report.errors > 0, "{edit}: not found");
            assert!(
                findings.iter().any(|finding| finding.contains("matrix that is being made")),
                "{findings:?}"
            );
            drop(unchanged);
            let (device, ..) = run(&image, SALVAGE);
            check_clean(&device).unwrap_or_else(|why| panic!("{edit}: {why}"));
            let after = mounted(device);
            assert_eq!(vectors_of(&after, id), vectors_of(&whole, id), "{edit}");
            assert!(after.collection(id).expect("the collection is there").recode.is_none(), "{edit}");
            broken += 1;
        }
    }
    assert!(broken > 10, "{broken}");
}

// The codebook of the matrix that a collection has is all that its vectors can be read by; that of one which is being made is not.
#[test]
fn a_codebook_that_is_not_whole_costs_its_collection_or_its_recode_alone() {
    let subject = subject("codebook-4k");
    let mounted = |device: SimDevice| Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
    let whole = mounted(SimDevice::from_image(subject.image().clone()));
    let names: [&[u8]; 2] = [b"parts", b"halves"];
    let ids = names.map(|name| whole.collection_by_name(name).expect("the collection is there").id);
    let (mut own, mut target) = (0, 0);
    for (key, _) in subject.records.iter().filter(|(key, _)| key.kind == Kind::Codebook as u8).step_by(5) {
        let (id, _) = collection_part(Ino(key.inode)).expect("at a matrix");
        let collection = whole.collection(id).expect("the collection is there");
        let is_own = collection.matrix == Ino(key.inode);
        // A piece is missing, or holds what is no number.
        for edit in [Edit::Drop(*key), Edit::Patch(*key, 0, [0xff; 4].to_vec())] {
            let image = subject.with(std::slice::from_ref(&edit));
            let (unchanged, report, findings) = run(&image, REPAIR);
            assert!(report.errors > 0, "{edit}: not found");
            assert!(findings.iter().any(|finding| finding.contains("codebook")), "{edit}: {findings:?}");
            drop(unchanged);
            let (device, ..) = run(&image, SALVAGE);
            check_clean(&device).unwrap_or_else(|why| panic!("{edit}: {why}"));
            let after = mounted(device);
            for other in ids.into_iter().filter(|other| !is_own || *other != id) {
                assert_eq!(vectors_of(&after, other), vectors_of(&whole, other), "{edit}");
            }
            if is_own {
                own += 1;
                assert!(after.collection(id).is_err(), "{edit}: vectors that nothing can read");
            } else {
                target += 1;
                assert!(after.collection(id).expect("the collection is there").recode.is_none(), "{edit}");
            }
        }
    }
    assert!(own > 8 && target > 8, "{own} {target}");
}

// True for the record of a row of a collection's first matrix.
fn rows_at_directory(key: Key) -> bool {
    collection_part(Ino(key.inode)).is_some_and(|(_, part)| part == 0)
}

// What both have was freed with all that the later one has behind it, and given to nodes: a repair that says that it loses
// nothing wrote over files.
#[test]
fn a_repair_leaves_a_volume_alone_where_two_files_have_one_block() {
    let subject = subject("random-4k");
    let before = contents(&SimDevice::from_image(subject.image().clone()), &subject);
    let of_files = |(key, _): &&(Key, Vec<u8>)| key.kind == Kind::Extent as u8 && key.inode < 1 << 48;
    let extents: Vec<(Key, ExtentRecord)> = (subject.records.iter().filter(of_files))
        .map(|(key, value)| (*key, ExtentRecord::read_from_bytes(value).expect("an extent")))
        .filter(|(_, extent)| extent.count.get() > 1)
        .collect();
    let mut pairs = 0;
    for pair in extents.windows(2).filter(|pair| pair[0].0.inode != pair[1].0.inode) {
        let ((first, extent), second) = (pair[0], pair[1].0);
        // The first of its blocks is the second of the other's.
        let start = extent.start.get() + 1;
        let image = subject.with(&[Edit::Patch(second, 0, start.to_le_bytes().to_vec())]);
        let (device, report, findings) = run(&image, REPAIR);
        assert!(findings.iter().any(|finding| finding.contains("referred to twice")), "{findings:?}");
        assert_eq!((report.repaired, device.image().hash()), (0, image.hash()), "{findings:?}");
        let (device, ..) = run(&image, SALVAGE);
        check_clean(&device).unwrap_or_else(|why| panic!("{second:?}: {why}"));
        let mut after = contents(&device, &subject);
        after.insert(second.inode, before[&second.inode].clone());
        assert!(after == before, "{first:?} {second:?}");
        pairs += 1;
    }
    assert!(pairs > 1, "{pairs}");
}

// The mark alone was believed: of a root that had it, a salvage took all directories out and marked all files.
#[test]
fn a_wrong_mark_of_an_index_costs_no_name() {
    let subject = subject("golden-4k");
    let flags = std::mem::offset_of!(InodeRecord, flags);
    let image = subject.with(&[Edit::Patch(Key::new(ROOT, Kind::Inode, 0), flags, vec![4])]);
    let (device, report, findings) = run(&image, SALVAGE);
    assert_eq!((report.errors, report.repaired), (1, 1), "{findings:?}");
    check_clean(&device).expect("clean");
    assert!(
        contents(&device, &subject) == contents(&SimDevice::from_image(subject.image().clone()), &subject)
    );
    let volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
    assert!(volume.lookup(ROOT, b"lost+found").is_err(), "something lost its name");
}

// A root that could not be read cost everything, though the generation before was whole in its own two slots. Now a
// salvage takes that up, as long as the newest itself cannot be read.
#[test]
fn a_lost_root_costs_what_changed_last_and_no_more() {
    for block_size in [4096, 16384] {
        let device = SimDevice::new(16 << 20);
        vexfs_tests::sim::format(&device, block_size).expect("formats");
        let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
        for index in 0..200 {
            let inode =
                volume.create(ROOT, format!("f{index}").as_bytes(), &NEW, NOW).expect("creates").inode;
            volume.write(inode, 0, &vec![index as u8; 300 * (index % 20)], NOW).expect("writes");
        }
        volume.commit(NOW).expect("commits");
        let last = volume.create(ROOT, b"last", &NEW, NOW).expect("creates").inode;
        volume.commit(NOW).expect("commits");
        // The journal builds on what is lost.
        volume.create(ROOT, b"synced", &NEW, NOW).expect("creates");
        volume.sync(NOW).expect("syncs");
        let newest = volume.superblock().generation.get();
        let root = volume.superblock().root.block.get();
        drop(volume);
        device.write(root * u64::from(block_size) + 50, &[0xff; 9]).expect("writes");

        let before = device.image();
        let (_, report, findings) = run(&before, CheckOptions { repair: false, salvage: false, ..SALVAGE });
        assert!(report.errors > 0, "{findings:?}");
        let (device, report, findings) = run(&before, SALVAGE);
        assert!(findings[0].contains("cannot be read: generation"), "{findings:?}");
        assert_eq!((report.errors, report.repaired), (1, 1), "{findings:?}");
        check_clean(&device).expect("clean");
        let mut volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
        assert!(volume.superblock().generation.get() > newest, "a number of a generation was used again");
        for index in 0..200 {
            let found = volume.lookup(ROOT, format!("f{index}").as_bytes()).expect("is there");
            let mut bytes = vec![0; found.size as usize];
            volume.read(found.inode, 0, &mut bytes).expect("reads");
            assert_eq!(bytes, vec![index as u8; 300 * (index % 20)]);
        }
        assert!(volume.lookup(ROOT, b"last").is_err() && volume.lookup(ROOT, b"synced").is_err());
        let next = volume.create(ROOT, b"next", &NEW, NOW).expect("creates").inode;
        assert!(next > last, "the number of a file that is lost was given again");
    }
}

// A record of the journal with a right checksum could carry bytes over the nodes of the durable tree, which a mount
// then wrote. Now it is refused before anything is written; bytes of a file that look like a node are not.
#[test]
fn a_journal_cannot_write_over_nodes() {
    let subject = subject("journal-4k");
    let last = subject.log.len() - 1;
    let bytes = &subject.log[last].1;
    let entry = entry_of_bytes(bytes).expect("the last record carries bytes");
    let layout = subject.layout;
    let outside = [0, 4096, layout.space.start * 4096, layout.journal_start * 4096].into_iter().chain([
        (layout.data_start + layout.data_blocks) * 4096 - 1,
        u64::MAX - 5,
        1 << 62,
    ]);
    let nodes =
        subject.nodes.iter().flat_map(|node| [node.pointer.block * 4096, node.pointer.block * 4096 + 4000]);
    let mut refused = 0;
    for place in outside.chain(nodes) {
        let image = subject.with(&[Edit::Log(last, entry + 8, place.to_le_bytes().to_vec())]);
        let device = SimDevice::from_image(image.clone());
        let mounted = Volume::mount(Direct(device.clone()), MountOptions::default());
        assert!(mounted.is_err(), "bytes at {place} are taken");
        assert_eq!(device.image().hash(), image.hash(), "bytes at {place}: the mount wrote");
        refused += 1;
        let (device, report, findings) = run(&image, SALVAGE);
        assert_eq!(report.unrepaired(), 0, "bytes at {place}: {findings:?}");
        check_clean(&device).expect("clean");
        assert!(contents(&device, &subject).len() > 20, "bytes at {place}: the last commit is lost");
    }
    println!("journals that would write over something else: {refused} refused");
    assert!(refused > 20);
}

/// Where in a record the first entry is that carries bytes.
fn entry_of_bytes(record: &[u8]) -> Option<usize> {
    use vexfs_core::format::{LOG_ENTRY, LOG_HEADER, LogEntry, LogKind};
    use zerocopy::FromBytes;

    let mut at = LOG_HEADER;
    while let Ok((entry, _)) = LogEntry::read_from_prefix(record.get(at..)?) {
        if entry.kind == LogKind::Bytes as u8 {
            return Some(at);
        }
        at += LOG_ENTRY + entry.len.get() as usize;
    }
    None
}

// What a user writes may look like a node at its very place; a crash after its fsync must not end in a refusal.
#[test]
fn bytes_that_look_like_a_node_are_replayed() {
    use vexfs_core::format::NODE_MAGIC;

    let write = |bytes: &[u8]| {
        let device = SimDevice::new(4 << 20);
        vexfs_tests::sim::format(&device, 4096).expect("formats");
        let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
        let inode = volume.create(ROOT, b"mimic", &NEW, NOW).expect("creates").inode;
        volume.write(inode, 0, bytes, NOW).expect("writes");
        volume.sync(NOW).expect("syncs");
        (device, inode)
    };
    let mut bytes = vec![1; 4096];
    let (device, _) = write(&bytes);
    let log = Subject::new(device.image()).expect("a whole image").log;
    let at = entry_of_bytes(&log[0].1).expect("the record carries the bytes");
    let place = u64::from_le_bytes(log[0].1[at + 8..at + 16].try_into().expect("eight bytes"));
    bytes[..4].copy_from_slice(&NODE_MAGIC.to_le_bytes());
    bytes[16..24].copy_from_slice(&(place / 4096).to_le_bytes());
    let (device, inode) = write(&bytes);
    let volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
    assert_eq!(volume.recovered().records, 1);
    let mut found = vec![0; 4096];
    volume.read(inode, 0, &mut found).expect("reads");
    assert_eq!(found, bytes);
}

#[test]
fn a_tree_in_a_circle_is_refused_though_its_checksums_are_right() {
    // A node that points to itself, and whose CRC-32 says so: four bytes of its padding make it come out.
    let subject = subject("golden-4k");
    let index = subject.nodes.iter().position(|node| node.level == 1).expect("a node above the leaves");
    let mut bytes = subject.nodes[index].bytes.clone();
    let pointer = subject.nodes[index].pointer;
    let slot = vexfs_core::format::NODE_HEADER + std::mem::offset_of!(vexfs_core::format::Slot, value);
    let at = usize::from(u16::from_le_bytes([bytes[slot], bytes[slot + 1]]));
    let wanted = 0x1234_5678u32;
    bytes[at..at + 8].copy_from_slice(&pointer.block.to_le_bytes());
    bytes[at + 8..at + 16].copy_from_slice(&pointer.generation.to_le_bytes());
    bytes[at + 16..at + 20].copy_from_slice(&wanted.to_le_bytes());
    let gap = vexfs_core::format::NODE_HEADER + vexfs_core::format::Node::new(&bytes).count() * 24;
    forge(&mut bytes, gap, wanted);
    let edits = [Edit::Node(subject.nodes[index].way.clone(), 0, bytes)];
    let image = subject.with(&edits);
    let (device, report, findings) = run(&image, SALVAGE);
    assert!(findings.iter().any(|text| text.contains("of the wrong level")), "{findings:?}");
    assert_eq!(report.repaired, report.errors);
    check_clean(&device).expect("clean");
    assert!(device.size() > 0);
}

/// Sets four bytes at `at` so that the CRC-32 of all is `wanted`: it is linear in every bit.
fn forge(bytes: &mut [u8], at: usize, wanted: u32) {
    let sum = |bytes: &[u8]| vexfs_core::checksum::crc32(bytes);
    bytes[at..at + 4].fill(0);
    let base = sum(bytes);
    // Column by column, what each bit changes; then Gauss's elimination over GF(2).
    let mut rows: Vec<(u32, u32)> = (0..32)
        .map(|bit| {
            bytes[at + bit / 8] ^= 1 << (bit % 8);
            let effect = sum(bytes) ^ base;
            bytes[at + bit / 8] ^= 1 << (bit % 8);
            (effect, 1u32 << bit)
        })
        .collect();
    let mut left = wanted ^ base;
    let mut bits = 0;
    for column in 0..32 {
        let Some(pivot) = rows.iter().position(|row| row.0 >> column & 1 == 1) else { continue };
        let pivot = rows.swap_remove(pivot);
        for row in rows.iter_mut().filter(|row| row.0 >> column & 1 == 1) {
            *row = (row.0 ^ pivot.0, row.1 ^ pivot.1);
        }
        if left >> column & 1 == 1 {
            (left, bits) = (left ^ pivot.0, bits ^ pivot.1);
        }
    }
    bytes[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    assert_eq!(sum(bytes), wanted);
}

/// Two records, of which the first is damaged: what `-p` must leave alone, and `-y` gives up.
#[test]
fn a_damaged_journal_is_given_up_by_a_salvage_alone() {
    let (now, device) = (NOW, SimDevice::new(4 << 20));
    vexfs_tests::sim::format(&device, 4096).expect("formats");
    let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
    for name in [&b"first"[..], b"second"] {
        volume.create(ROOT, name, &NEW, now).expect("creates");
        volume.sync(now).expect("syncs");
    }
    let journal = volume.layout().journal_start * 4096;
    drop(volume);
    let mut byte = [0];
    device.read(journal + 120, &mut byte).expect("reads");
    device.write(journal + 120, &[byte[0] ^ 1]).expect("writes");

    let refused = Volume::mount(Direct(device.clone()), MountOptions::default()).err().expect("refused");
    assert!(refused.to_string().contains("journal record 0"), "{refused}");
    let before = device.image().hash();
    let fix = |repair, salvage| {
        let options = CheckOptions { repair, salvage, now, ..CheckOptions::default() };
        check(Direct(device.clone()), options, &mut |_| {}, &mut |_, _| {}).expect("a check")
    };
    assert!(fix(true, false).unrepaired() > 0, "-p says that it is mended");
    assert_eq!(device.image().hash(), before, "-p wrote to a volume whose journal it cannot replay");
    assert_eq!(fix(false, true).unrepaired(), 0);
    let volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts again");
    assert!(volume.lookup(ROOT, b"second").is_err(), "it was only in the journal");
}
