//! One random operation on a volume that may be damaged anywhere.

use vexfs_core::format::{COLLECTIONS, Codec, Element, FileKind, Kind, Metric, ROOT};
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Allocate, Caller, Changes, NewCollection, NewInode, RenameFlags, SetMode};
use vexfs_core::volume::Volume;

use super::exercise::{Exercise, NOW};
use super::meter::Meter;
use super::subject::Subject;
use crate::random::Random;

/// Does one; the volume may refuse it.
pub(super) fn one(
    exercise: &mut Exercise,
    volume: &mut Volume<Meter>,
    subject: &Subject,
    random: &mut Random,
) {
    let (inode, directory) = (inode(subject, random), directory(subject, random));
    let name = name(volume, directory, random);
    match random.below(20) {
        0 | 1 => {
            let kinds = [FileKind::Regular, FileKind::Regular, FileKind::Directory, FileKind::Fifo];
            let new = NewInode {
                kind: random.pick(&kinds),
                permissions: 0o755,
                umask: 0,
                uid: 0,
                gid: 0,
                device: 0,
            };
            let name = if random.one_in(3) { name } else { b"new".to_vec() };
            exercise.probe("create", || volume.create(directory, &name, &new, NOW));
        }
        2..=4 => {
            let offset = place(random);
            let len = if random.one_in(4) { 70_000 } else { random.index(9000) };
            let bytes = random.bytes(len);
            exercise.probe("write", || volume.write(inode, offset, &bytes, NOW));
        }
        5 => {
            let changes = Changes { size: Some(place(random)), kill_privileges: true, ..Changes::default() };
            exercise.probe("truncate", || volume.set_attributes(inode, &changes, NOW));
        }
        6 => {
            let changes = Changes { permissions: Some(0o640), uid: Some(3), ..Changes::default() };
            exercise.probe("chmod", || volume.set_attributes(inode, &changes, NOW));
        }
        7 | 8 => {
            let other = self::directory(subject, random);
            let to = self::name(volume, other, random);
            let flags = RenameFlags::from_bits_truncate(random.below(3) as u32);
            let open = random.one_in(2);
            exercise
                .probe("rename", || volume.rename((directory, &name), (other, &to), flags, &|_| open, NOW));
        }
        9 | 10 => {
            let open = random.one_in(3);
            let removed = exercise.call("unlink", || volume.unlink(directory, &name, &|_| open, NOW));
            if let (Ok(removed), true) = (removed, random.one_in(2)) {
                exercise.probe("release", || volume.release(removed.inode, NOW));
            }
        }
        11 => exercise.probe("rmdir", || volume.remove_directory(directory, &name, &|_| false, NOW)),
        12 => exercise.probe("link", || volume.link(inode, directory, b"another name", NOW)),
        13 | 14 => vector(exercise, volume, inode, random),
        15 | 16 => attribute(exercise, volume, inode, random),
        17 => allocate(exercise, volume, inode, random),
        18 => collection(exercise, volume, random),
        _ => match random.below(4) {
            0 => exercise.probe("release", || volume.release(inode, NOW)),
            1 => exercise.probe("touch", || volume.touch(inode, NOW)),
            2 => exercise.probe("tidy", || volume.tidy(NOW)),
            _ => exercise.probe("commit", || volume.commit(NOW)),
        },
    }
    volume.events();
}

fn inode(subject: &Subject, random: &mut Random) -> Ino {
    loop {
        let (key, _) = &subject.records[random.index(subject.records.len())];
        if key.kind != Kind::Orphan as u8 {
            return Ino(key.inode);
        }
    }
}

fn directory(subject: &Subject, random: &mut Random) -> Ino {
    match random.below(4) {
        0 => ROOT,
        1 => COLLECTIONS,
        _ => loop {
            let (key, _) = &subject.records[random.index(subject.records.len())];
            if key.kind == Kind::Dirent as u8 {
                return Ino(key.inode);
            }
        },
    }
}

// A name that the directory has, most of the time.
fn name(volume: &Volume<Meter>, directory: Ino, random: &mut Random) -> Vec<u8> {
    let mut names = Vec::new();
    let cookie = random.bits() >> 1;
    for from in [cookie, 0] {
        // What cannot be listed has no names.
        let _ = volume.read_directory(directory, from, &mut |entry| {
            names.push(entry.name.to_vec());
            names.len() < 4
        });
    }
    if names.is_empty() || random.one_in(8) {
        return b"a new name".to_vec();
    }
    names.swap_remove(random.index(names.len()))
}

fn place(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => 0,
        1 => random.below(1 << 30),
        2 => random.bits() >> random.below(64),
        3 => i64::MAX as u64 - random.below(10_000),
        _ => random.below(200_000),
    }
}

fn root() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

fn vector(exercise: &mut Exercise, volume: &mut Volume<Meter>, inode: Ino, random: &mut Random) {
    let names: [(&[u8], usize); 8] = [
        (b"user.vector.minilm", 384),
        (b"user.vector.clip:i8", 100),
        (b"user.vector.clip:i8.1", 64),
        (b"user.vector.fresh", 256),
        (b"user.vector.words:i16", 6),
        (b"user.vector.kept", 1200),
        (b"user.vector.many-kept:i8.7", 64),
        (b"user.vector.minilm@-1", 384),
    ];
    let (name, len) = random.pick(&names);
    let len = if random.one_in(2) { len } else { len * 4 };
    if random.one_in(3) {
        exercise.probe("remove vector", || volume.remove_attribute(inode, name, &root(), NOW));
    } else {
        let value = vec![random.below(3) as u8; len];
        let set = || volume.set_attribute(inode, name, &value, SetMode::Any, &root(), NOW);
        exercise.probe("set vector", set);
    }
}

fn attribute(exercise: &mut Exercise, volume: &mut Volume<Meter>, inode: Ino, random: &mut Random) {
    // One that the file has, if it has any.
    let names = volume.list_attributes(inode).unwrap_or_default();
    let names: Vec<&[u8]> = names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    let name = if names.is_empty() || random.one_in(3) { b"user.new" } else { random.pick(&names) };
    if random.one_in(2) {
        exercise.probe("remove attribute", || volume.remove_attribute(inode, name, &root(), NOW));
        return;
    }
    let len = if random.one_in(3) { 20_000 } else { 30 };
    let value = random.bytes(len);
    let set = || volume.set_attribute(inode, name, &value, SetMode::Any, &root(), NOW);
    exercise.probe("set attribute", set);
}

fn allocate(exercise: &mut Exercise, volume: &mut Volume<Meter>, inode: Ino, random: &mut Random) {
    let what = match random.below(3) {
        0 => Allocate::Reserve { keep_size: random.one_in(2) },
        1 => Allocate::PunchHole,
        _ => Allocate::ZeroRange { keep_size: random.one_in(2) },
    };
    let (offset, len) = (place(random), place(random).max(1));
    exercise.probe("allocate", || volume.allocate(inode, what, offset, len, NOW));
}

fn collection(exercise: &mut Exercise, volume: &mut Volume<Meter>, random: &mut Random) {
    let new = NewCollection {
        dimensions: random.below(2000) as u32 * 8,
        element: random.pick(&Element::ALL),
        codec: random.pick(&Codec::ALL),
        metric: Metric::L2,
        model: b"m",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    exercise.probe("create collection", || volume.create_collection(b"made", &new, NOW));
    let inode = Ino(vexfs_core::format::COLLECTION_INODES + 64 * random.below(8));
    let set = || volume.set_attribute(inode, b"user.vexfs.dim", b"12", SetMode::Any, &root(), NOW);
    exercise.probe("set dimension", set);
    let count = random.pick(&[&b"0"[..], b"1", b"5", b"64"]);
    let set = || volume.set_attribute(inode, b"user.vexfs.history", count, SetMode::Any, &root(), NOW);
    exercise.probe("set history", set);
}
