//! Questions of nearness to a damaged volume, over the exercise's disk: the core's search, the FUSE host's, and its `near`
//! directory.

use vexfs_core::control::near::{self, Source};
use vexfs_core::device::Data;
use vexfs_core::error::Result;
use vexfs_core::format::collection_part;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Caller, ReadPlan};
use vexfs_core::volume::Volume;
#[cfg(feature = "nearness")]
use vexfs_fuse::near::{Indexed, Indexes};
#[cfg(feature = "nearness")]
use vexfs_fuse::near_directory::{links_of, names_in};

use super::exercise::Exercise;
use super::meter::Meter;

/// Files of a directory whose neighbours are looked for.
#[cfg(feature = "nearness")]
const FILES_MAX: usize = 4;

/// A volume and the disk below it.
struct Looked<'a> {
    volume: &'a Volume<Meter>,
    disk: Meter,
    #[cfg(feature = "nearness")]
    indexes: Indexes,
}

impl<'a> Looked<'a> {
    fn new(volume: &'a Volume<Meter>, disk: Meter) -> Self {
        Self {
            volume,
            disk,
            #[cfg(feature = "nearness")]
            indexes: Indexes::new(1 << 20),
        }
    }
}

#[cfg(feature = "nearness")]
impl Indexed for Looked<'_> {
    fn indexes(&self) -> &Indexes {
        &self.indexes
    }
}

impl Source for Looked<'_> {
    type Host = Meter;

    fn look<R>(&self, look: impl FnOnce(&Volume<Meter>) -> Result<R>) -> Result<R> {
        look(self.volume)
    }

    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Meter>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R> {
        let (found, plan) = plan(self.volume, buffer)?;
        for (range, place) in plan.into_iter().flat_map(|plan| plan.pieces) {
            self.disk.read_at(place, &mut buffer[range])?;
        }
        Ok(found)
    }
}

/// Asks the `query` file at `inode`, as root and as somebody who reaches little.
pub(super) fn ask(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino) {
    let Some((id, _)) = collection_part(inode) else { return };
    let dimensions = volume.collection(id).map_or(3, |collection| collection.dimensions as usize);
    let vector = vec!["1"; dimensions].join(",");
    let questions = [
        format!("{{\"vector\":[{vector}],\"k\":10}}"),
        format!("{{\"vector\":[{vector}],\"k\":3,\"metric\":\"l2\",\"within\":\"d0\"}}"),
        format!("{{\"vector\":[{vector}],\"where\":\"confidence > 0.1 or file.size > 3 and file.fresh\"}}"),
        format!("{{\"vector\":[{vector}],\"index\":true,\"explain\":true}}"),
        "{\"like\":\"f0\",\"n\":1}".into(),
        "no question".into(),
    ];
    let source = Looked::new(volume, exercise.meter.clone());
    for question in &questions {
        for uid in [0, 1000] {
            let caller = Caller { uid, gid: uid, in_group: &|_| false };
            exercise.probe("near", || near::answer(&source, inode, question.as_bytes(), &caller));
            #[cfg(feature = "nearness")]
            exercise.probe("near, in floats", || {
                vexfs_fuse::near::answer(&source, inode, question.as_bytes(), &caller)
            });
        }
    }
}

/// Lists what `.vexfs/near` shows of a directory, and of some files in it.
#[cfg(feature = "nearness")]
pub(super) fn list(exercise: &mut Exercise, volume: &Volume<Meter>, inode: Ino) {
    let source = Looked::new(volume, exercise.meter.clone());
    let Ok(names) = exercise.call("near names", || names_in(&source, inode)) else { return };
    for (name, uid) in names.iter().take(FILES_MAX).flat_map(|name| [(name, 0), (name, 1000)]) {
        let caller = Caller { uid, gid: uid, in_group: &|_| false };
        exercise.probe("near links", || links_of(&source, inode, name, &caller));
    }
}
