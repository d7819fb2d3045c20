//! What an operation is for the real volume: each call of the core by itself, so that it can run out of memory.

use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::error::{Error, Result};
use vexfs_core::format::{COLLECTIONS, Codec, Element, FileKind, Metric, collection_directory};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Caller, Changes, NewCollection, NewInode, NewVector, Removed, SetMode};
use vexfs_core::volume::Volume;

use super::{Learned, Op, Pair, VectorFill, quantize};
use crate::starved;

impl<D: BlockDevice + Clone> Pair<D> {
    pub(super) fn perform(&mut self, op: &Op, now: Time) -> Result<Learned> {
        let volume = &mut self.volume;
        let open = &self.open;
        let is_open = |inode: Ino| open.contains(&inode.0);
        let group = |_| false;
        let caller = Caller { uid: 0, gid: 0, in_group: &group };
        let mut learned = Learned::default();
        match op {
            Op::Create { directory, name, kind, permissions, owner } => {
                let new = NewInode {
                    kind: *kind,
                    permissions: *permissions,
                    umask: 0,
                    uid: *owner,
                    gid: *owner,
                    device: 0,
                };
                learned.inode = starved::call(|| volume.create(Ino(*directory), &name.0, &new, now))?.inode.0;
            }
            Op::CreateUnnamed { directory } => {
                let new = NewInode {
                    kind: FileKind::Regular,
                    permissions: 0o600,
                    umask: 0,
                    uid: 0,
                    gid: 0,
                    device: 0,
                };
                learned.inode = starved::call(|| volume.create_unnamed(Ino(*directory), &new, now))?.inode.0;
            }
            Op::Symlink { directory, name, target } => {
                learned.inode =
                    starved::call(|| volume.symlink(Ino(*directory), &name.0, &target.0, 0, 0, now))?.inode.0;
            }
            Op::Link { inode, directory, name } => {
                starved::call(|| volume.link(Ino(*inode), Ino(*directory), &name.0, now))?;
            }
            Op::Unlink { directory, name } => {
                let removed = starved::call(|| volume.unlink(Ino(*directory), &name.0, &is_open, now))?;
                release(volume, Some(removed), &is_open, now)?;
            }
            Op::RemoveDirectory { directory, name } => {
                let removed =
                    starved::call(|| volume.remove_directory(Ino(*directory), &name.0, &|_| false, now))?;
                release(volume, Some(removed), &is_open, now)?;
            }
            Op::Rename { from, to, flags } => {
                let (from, to) = ((Ino(from.0), &*from.1.0), (Ino(to.0), &*to.1.0));
                let removed = starved::call(|| volume.rename(from, to, *flags, &is_open, now))?;
                release(volume, removed, &is_open, now)?;
            }
            Op::Open { .. } => {}
            Op::Close { inode } => {
                starved::call(|| volume.bind_content(Ino(*inode), now))?;
                starved::call(|| volume.release(Ino(*inode), now))?;
            }
            Op::Write { inode, offset, fill } => {
                starved::call(|| volume.write(Ino(*inode), *offset, &fill.bytes(), now))?;
            }
            Op::Truncate { inode, size } => {
                let changes = Changes { size: Some(*size), ..Changes::default() };
                starved::call(|| volume.set_attributes(Ino(*inode), &changes, now))?;
            }
            Op::Allocate { inode, what, offset, len } => {
                starved::call(|| volume.allocate(Ino(*inode), *what, *offset, *len, now))?;
            }
            Op::Permissions { inode, permissions } => {
                let changes = Changes { permissions: Some(*permissions), ..Changes::default() };
                starved::call(|| volume.set_attributes(Ino(*inode), &changes, now))?;
            }
            Op::Owner { inode, uid, gid } => {
                let changes = Changes { uid: Some(*uid), gid: Some(*gid), ..Changes::default() };
                starved::call(|| volume.set_attributes(Ino(*inode), &changes, now))?;
            }
            Op::Modified { inode, seconds } => {
                let modified = Some(Time { seconds: *seconds, nanoseconds: 5 });
                starved::call(|| {
                    volume.set_attributes(Ino(*inode), &Changes { modified, ..Changes::default() }, now)
                })?;
            }
            Op::SetAttribute { inode, name, fill, mode } => {
                starved::call(|| {
                    volume.set_attribute(Ino(*inode), &name.0, &fill.bytes(), *mode, &caller, now)
                })?;
            }
            Op::RemoveAttribute { inode, name } => {
                starved::call(|| volume.remove_attribute(Ino(*inode), &name.0, &caller, now))?;
            }
            Op::SetVector { inode, vector, fill, mode } => {
                let bytes = fill.bytes(vector.element);
                starved::call(|| {
                    volume.set_attribute(Ino(*inode), &vector.attribute(), &bytes, *mode, &caller, now)
                })?;
                starved::call(|| volume.await_content(Ino(*inode), &vector.attribute()))?;
                let id = starved::call(|| volume.collection_by_name(vector.collection.as_bytes()))?.id;
                starved::call(|| {
                    volume.vectors_of(Ino(*inode), &mut |found| {
                        if found.collection == id && found.n == vector.n {
                            learned.collection = id.0;
                            (learned.row, learned.vector_id) = (found.row, found.vector_id);
                            learned.version = found.version;
                        }
                    })
                })?;
            }
            Op::SetVectors { collection, vectors, keep } => {
                learned.batch = set_vectors(volume, collection, vectors, *keep, now)?;
            }
            Op::RemoveVector { inode, vector } => {
                starved::call(|| volume.remove_attribute(Ino(*inode), &vector.attribute(), &caller, now))?;
            }
            Op::SetMetadata { inode, vector, fill, mode } => {
                let text = fill.metadata();
                starved::call(|| {
                    volume.set_attribute(Ino(*inode), &vector.metadata(), &text, *mode, &caller, now)
                })?;
            }
            Op::RemoveMetadata { inode, vector } => {
                starved::call(|| volume.remove_attribute(Ino(*inode), &vector.metadata(), &caller, now))?;
            }
            Op::CreateCollection { name, element, codec, dimensions } => {
                learned.collection = create_collection(volume, name, (*element, *codec), *dimensions, now)?;
            }
            Op::History { name, count } => {
                let inode =
                    collection_directory(starved::call(|| volume.collection_by_name(name.as_bytes()))?.id);
                let (name, value) = (b"user.vexfs.history", count.to_string());
                starved::call(|| {
                    volume.set_attribute(inode, name, value.as_bytes(), SetMode::Any, &caller, now)
                })?;
            }
            Op::RemoveCollection { name } => {
                starved::call(|| volume.remove_directory(COLLECTIONS, name.as_bytes(), &|_| false, now))?;
            }
            Op::RenameCollection { from, to } => {
                let (from, to) = ((COLLECTIONS, from.as_bytes()), (COLLECTIONS, to.as_bytes()));
                starved::call(|| {
                    volume.rename(from, to, vexfs_core::operations::RenameFlags::empty(), &is_open, now)
                })?;
            }
            Op::Compact { name } => {
                let id = starved::call(|| volume.collection_by_name(name.as_bytes()))?.id;
                // A copy, and the move of what was copied.
                starved::call(|| volume.compact_step(id, now))?;
                starved::call(|| volume.compact_step(id, now))?;
            }
            Op::Recode { name, codec } => {
                let id = starved::call(|| volume.collection_by_name(name.as_bytes()))?.id;
                match codec {
                    Some(Codec::Pq(quantizer)) => {
                        starved::call(|| {
                            volume.recode_with(id, *quantizer, &quantize::entries(*quantizer), now)
                        })?;
                    }
                    Some(codec) => starved::call(|| volume.recode(id, *codec, now))?,
                    None => starved::call(|| volume.stop_recode(id, now))?,
                }
            }
            Op::RecodeStep { name } => {
                let id = starved::call(|| volume.collection_by_name(name.as_bytes()))?.id;
                starved::call(|| volume.recode_step(id, now))?;
            }
            Op::Tidy => {
                // Every step is bounded, so this many cannot be needed on a volume of a few MiB.
                for _ in 0..100_000 {
                    if !starved::call(|| volume.tidy(now))? {
                        // Nobody has an old matrix open here.
                        for matrix in volume.retired().to_vec() {
                            while !starved::call(|| volume.free_retired(matrix, now))? {}
                        }
                        return Ok(learned);
                    }
                }
                return Err(Error::Invalid("tidy does not come to an end"));
            }
            Op::Commit => starved::call(|| volume.commit(now))?,
            Op::Sync => starved::call(|| volume.sync(now))?,
            Op::Recover => {
                starved::call(|| volume.sync(now))?;
                self.volume = starved::call(|| Volume::mount(Direct(self.device.clone()), Self::OPTIONS))?;
            }
            Op::Remount => {
                starved::call(|| volume.commit(now))?;
                self.volume = starved::call(|| Volume::mount(Direct(self.device.clone()), Self::OPTIONS))?;
            }
        }
        Ok(learned)
    }
}

/// What a host does after a name went away: frees the file, unless it has other names or is open.
fn release<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    removed: Option<Removed>,
    is_open: &dyn Fn(Ino) -> bool,
    now: Time,
) -> Result<()> {
    match removed {
        Some(Removed { inode, links: 0, .. }) if !is_open(inode) => {
            starved::call(|| volume.release(inode, now))
        }
        _ => Ok(()),
    }
}

fn create_collection<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    name: &str,
    (element, codec): (Element, Codec),
    dimensions: u32,
    now: Time,
) -> Result<u32> {
    let new = NewCollection {
        dimensions,
        element,
        codec,
        metric: if element == Element::Bit { Metric::Hamming } else { Metric::Cosine },
        model: b"",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    Ok(starved::call(|| volume.create_collection(name.as_bytes(), &new, now))?.0)
}

/// Sets a batch, and gives row, id and version of each of its vectors as they are then.
fn set_vectors<D: BlockDevice>(
    volume: &mut Volume<Direct<D>>,
    name: &str,
    vectors: &[(u64, u32, VectorFill)],
    keep: bool,
    now: Time,
) -> Result<Vec<(u64, u64, u64)>> {
    let known = volume.collection_by_name(name.as_bytes())?;
    let values: Vec<Vec<u8>> = vectors.iter().map(|(.., fill)| fill.bytes(known.element)).collect();
    let new = vectors.iter().zip(&values);
    let new = new.map(|((inode, n, _), value)| NewVector { inode: Ino(*inode), n: *n, value, keep });
    let new: Vec<_> = new.collect();
    let caller = Caller { uid: 0, gid: 0, in_group: &|_| false };
    starved::call(|| volume.set_vectors(known.id, &new, &caller, now).map_err(|refused| refused.error))?;
    let mut learned = vec![(0, 0, 0); vectors.len()];
    for ((inode, n, _), learned) in vectors.iter().zip(&mut learned) {
        volume.vectors_of(Ino(*inode), &mut |found| {
            if found.collection == known.id && found.n == *n {
                *learned = (found.row, found.vector_id, found.version);
            }
        })?;
    }
    Ok(learned)
}
