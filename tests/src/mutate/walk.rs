//! Looks at everything that a volume shows: by name from the root, and every inode number of the base image, as a
//! host may still hold them.

use std::collections::BTreeSet;

use vexfs_core::format::{COLLECTIONS, CONTROL, FileKind, Kind, MATRIX_DATA, ORPHANS, ROOT, collection_part};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Report, Seek};
use vexfs_core::volume::Volume;

use super::exercise::Exercise;
use super::meter::Meter;
use super::nearness;
use super::subject::Subject;

/// Entries of a directory that are looked at.
const ENTRIES_MAX: usize = 2000;
/// Pieces of a sparse file that are looked for.
const PIECES_MAX: usize = 40;

/// A host that has nothing to add.
pub(crate) struct Nothing;

impl Report for Nothing {
    fn metrics(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
    fn log(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
    fn status(&self, _: &mut dyn std::fmt::Write) -> std::fmt::Result {
        Ok(())
    }
}

/// All of it, of every inode; of one in `share` inodes, contents and attributes too.
pub(super) fn everything(exercise: &mut Exercise, volume: &Volume<Meter>, subject: &Subject, share: u64) {
    let mut waiting = vec![ROOT, CONTROL];
    let mut seen: BTreeSet<u64> = BTreeSet::new();
    let inodes = subject.records.iter().filter(|(key, _)| key.kind == Kind::Inode as u8);
    waiting.extend(inodes.map(|(key, _)| Ino(key.inode)));
    waiting.extend([0, 31, 63, 1 << 48, u64::MAX].map(Ino));
    waiting.push(ORPHANS);
    while let Some(inode) = waiting.pop() {
        if !seen.insert(inode.0) {
            continue;
        }
        let whole = inode.0 % share == 0 || inode.0 < 64 || inode.0 >= 1 << 48;
        one(exercise, volume, inode, whole, &mut waiting);
    }
}

fn one(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino, whole: bool, waiting: &mut Vec<Ino>) {
    let found = exercise.call("attributes", || volume.attributes(inode));
    exercise.probe("path", || volume.path(inode));
    exercise.probe("vectors_of", || volume.vectors_of(inode, &mut |_| {}));
    if !whole {
        if found.is_ok_and(|found| found.kind == FileKind::Directory) {
            directory(exercise, volume, inode, waiting);
        }
        return;
    }
    attributes(exercise, volume, inode);
    if let Some((id, 0)) = collection_part(inode) {
        collection(exercise, volume, id, waiting);
    }
    match vexfs_core::control::pseudo(inode) {
        Some(vexfs_core::control::Pseudo::Computed | vexfs_core::control::Pseudo::Request) => {
            exercise.probe("render", || volume.render(inode, &Nothing));
        }
        Some(vexfs_core::control::Pseudo::Query) => {
            let asked = br#"{"rows": [0, 1, 2, 5, 63, 64, 1000]}"#;
            let nobody = vexfs_core::operations::Caller { uid: 1000, gid: 1000, in_group: &|_| false };
            exercise.probe("query", || {
                vexfs_core::control::answer(asked, |rows, text| volume.owners(inode, rows, &nobody, text))
            });
            if exercise.asks {
                nearness::ask(exercise, volume, inode);
            }
        }
        Some(vexfs_core::control::Pseudo::Column) => {
            content(exercise, volume, inode, found.map_or(0, |found| found.size));
        }
        // Shown by a daemon alone, which takes it as a stream.
        Some(vexfs_core::control::Pseudo::Append) => {}
        Some(vexfs_core::control::Pseudo::Directory) => directory(exercise, volume, inode, waiting),
        None => match found.map(|found| (found.kind, found.size)) {
            Ok((FileKind::Directory, _)) => directory(exercise, volume, inode, waiting),
            Ok((FileKind::Symlink, _)) => exercise.probe("read_link", || volume.read_link(inode)),
            Ok((_, size)) => content(exercise, volume, inode, size),
            // Whatever it is, no call may mind.
            Err(_) => {
                exercise.probe("read_link", || volume.read_link(inode));
                content(exercise, volume, inode, 1 << 20);
            }
        },
    }
}

fn collection(exercise: &mut Exercise, volume: &Volume<Meter>, id: CollectionId, waiting: &mut Vec<Ino>) {
    exercise.probe("collection", || volume.collection(id));
    let directory = vexfs_core::format::collection_directory(id);
    waiting.extend((1..6).map(|part| Ino(directory.0 + part)));
    if let Ok(name) = exercise.call("collection_name", || volume.collection_name(id)) {
        exercise.probe("collection_by_name", || volume.collection_by_name(&name));
    }
    let mut rows = 0;
    let mut count = |_, _: &vexfs_core::format::RowRecord| {
        rows += 1;
        rows < 100_000
    };
    exercise.probe("rows_of", || volume.rows_of(id, 0, &mut count));
}

fn directory(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino, waiting: &mut Vec<Ino>) {
    exercise.probe("parent", || volume.parent(inode));
    #[cfg(feature = "nearness")]
    if exercise.asks {
        nearness::list(exercise, volume, inode);
    }
    let mut entries: Vec<(Vec<u8>, Ino)> = Vec::new();
    exercise.probe("read_directory", || {
        volume.read_directory(inode, 0, &mut |entry| {
            entries.push((entry.name.to_vec(), entry.inode));
            entries.len() < ENTRIES_MAX
        })
    });
    // From the middle on, and behind the end.
    for cookie in [1 << 40, 1 << 62, u64::MAX] {
        exercise.probe("read_directory", || volume.read_directory(inode, cookie, &mut |_| true));
    }
    for (name, target) in entries.into_iter().take(if inode == COLLECTIONS { 200 } else { 60 }) {
        exercise.probe("lookup", || volume.lookup(inode, &name));
        waiting.push(target);
    }
}

fn attributes(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino) {
    let Ok(names) = exercise.call("list_attributes", || volume.list_attributes(inode)) else { return };
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).take(200) {
        exercise.probe("attribute", || volume.attribute(inode, name));
        past(exercise, volume, inode, name);
    }
    exercise.probe("attribute", || volume.attribute(inode, b"user.vexfs.version"));
}

// What a vector superseded, and the log of it all.
fn past(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino, name: &[u8]) {
    let Some(vector) = name.strip_prefix(b"user.vector.") else { return };
    for behind in [&b"@-1"[..], b"@-1.meta", b"@-2", b"@-64"] {
        let name = [name, behind].concat();
        exercise.probe("superseded", || volume.attribute(inode, &name));
    }
    let log = [b"user.vexfs.log.", vector].concat();
    exercise.probe("log", || volume.attribute(inode, &log));
}

// The beginning, the end, the pieces that hold data, and places behind the end.
fn content(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino, size: u64) {
    let mut buffer = vec![0; 20_000];
    let places = [0, 3000, MATRIX_DATA, size / 2, size.saturating_sub(5000), size, u64::MAX - 10];
    for offset in places {
        read(exercise, volume, inode, offset, &mut buffer);
    }
    let mut at = 0;
    for _ in 0..PIECES_MAX {
        let Ok(data) = exercise.call("seek", || volume.seek(inode, at, Seek::Data)) else { return };
        read(exercise, volume, inode, data, &mut buffer);
        let Ok(hole) = exercise.call("seek", || volume.seek(inode, data, Seek::Hole)) else { return };
        at = hole;
    }
}

fn read(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino, offset: u64, buffer: &mut [u8]) {
    exercise.probe("read", || volume.read(inode, offset, buffer))
}
