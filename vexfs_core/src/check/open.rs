//! Opening a volume for a check: the last commit, and the journal on it as far as that can be replayed.

use super::{CheckOptions, look, repair};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Expected, Superblock};
use crate::journal::LogReader;
use crate::tree;
use crate::volume::{MountOptions, Nodes, Volume, find_superblock, older_superblocks};

/// What is wrong with a volume before anything of the tree is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// The newest generation, and the older one that is opened since the root of that cannot be read.
    pub(super) root: Option<(u64, u64)>,
    /// The free-space map cannot be used.
    pub(super) map: Option<Error>,
    /// The journal cannot be replayed.
    pub(super) journal: Option<Error>,
}

/// Opens the volume and replays the journal, in memory until something is committed.
pub(super) fn open<H: BlockDevice + Data>(
    host: &H,
    mount: MountOptions,
    options: CheckOptions,
) -> Result<(Volume<&H>, Trouble)> {
    let (mut volume, mut trouble) = open_readable(host, mount, options)?;
    let map = trouble.map;
    if map.is_some() && !renew_map(&mut volume, options)? {
        // Nobody knows which blocks are free. That only matters if there is something to replay.
        let uuid = volume.superblock.uuid;
        let mut records = LogReader::new(&volume.layout, uuid, volume.superblock.generation.get());
        if !matches!(records.next(host), Ok(None)) {
            trouble.journal = Some(Error::corrupt("journal", 0, "needs the free-space map"));
        }
        return Ok((volume, trouble));
    }
    if trouble.root.is_some() {
        // The journal tells what came after the generation that is lost.
        return Ok((volume, trouble));
    }
    match volume.recover() {
        Ok(()) => {}
        Err(error @ (Error::Corrupt(_) | Error::NoSpace { .. })) => {
            // What is half replayed is of no use; the last commit is whole.
            volume = Volume::open_damaged(host, mount)?;
            if map.is_some() {
                renew_map(&mut volume, options)?;
            }
            trouble.journal = Some(error);
        }
        Err(error) => return Err(error),
    }
    Ok((volume, trouble))
}

// The newest generation; for a salvage an older one, if that has a root that can be read and the newest has not.
fn open_readable<H: BlockDevice + Data>(
    host: &H,
    mount: MountOptions,
    options: CheckOptions,
) -> Result<(Volume<&H>, Trouble)> {
    let opened = Volume::open_damaged(host, mount);
    let unreadable = match &opened {
        Ok(volume) => matches!(root_of(volume), Err(Error::Corrupt(_))),
        Err(error) => matches!(error, Error::Corrupt(_)),
    };
    if unreadable && options.salvage {
        let (newest, damaged) = find_superblock(host)?;
        for older in older_superblocks(host, &newest)? {
            // Numbers that the lost generation gave away are not given again, its own included.
            let superblock = Superblock {
                generation: newest.generation,
                next_inode: newest.next_inode.get().max(older.next_inode.get()).into(),
                next_vector: newest.next_vector.get().max(older.next_vector.get()).into(),
                next_collection: newest.next_collection.get().max(older.next_collection.get()).into(),
                ..older
            };
            let Ok(volume) = Volume::open_generation(host, mount, &superblock, damaged) else { continue };
            if root_of(&volume).is_ok() {
                let root = Some((newest.generation.get(), older.generation.get()));
                let map = volume.damage;
                return Ok((volume, Trouble { root, map, journal: None }));
            }
        }
    }
    opened.map(|volume| {
        let map = volume.damage;
        (volume, Trouble { root: None, map, journal: None })
    })
}

fn root_of<H: BlockDevice + Data>(volume: &Volume<H>) -> Result<()> {
    tree::placed(volume, &Expected::root(volume.root())).map(drop)
}

// Makes the map anew in memory, from what the tree refers to; false if not all of the tree can be read.
fn renew_map<H: BlockDevice + Data>(volume: &mut Volume<H>, options: CheckOptions) -> Result<bool> {
    let options = CheckOptions { vectors: false, salvage: false, ..options };
    let seen = look(volume, Trouble::default(), false, options, &mut |_| {}, &mut |_, _| {})?;
    if seen.whole {
        repair::map(volume, &seen.repairs);
    }
    Ok(seen.whole)
}
