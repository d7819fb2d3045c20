//! Opening a volume for a check: the last commit, and the journal on it as far as that can be replayed.

use super::{CheckOptions, look, repair};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::journal::LogReader;
use crate::volume::{MountOptions, Volume};

/// What is wrong with a volume before anything of the tree is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
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
    let (mut volume, map) = Volume::open_damaged(host, mount)?;
    let mut trouble = Trouble { map, journal: None };
    if map.is_some() && !renew_map(&mut volume, options)? {
        // Nobody knows which blocks are free. That only matters if there is something to replay.
        let uuid = volume.superblock.uuid;
        let mut records = LogReader::new(&volume.layout, uuid, volume.superblock.generation.get());
        if !matches!(records.next(host), Ok(None)) {
            trouble.journal = Some(Error::corrupt("journal", 0, "needs the free-space map"));
        }
        return Ok((volume, trouble));
    }
    match volume.recover() {
        Ok(()) => {}
        Err(error @ (Error::Corrupt(_) | Error::NoSpace { .. })) => {
            // What is half replayed is of no use; the last commit is whole.
            (volume, _) = Volume::open_damaged(host, mount)?;
            if map.is_some() {
                renew_map(&mut volume, options)?;
            }
            trouble.journal = Some(error);
        }
        Err(error) => return Err(error),
    }
    Ok((volume, trouble))
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
