//! Directories in a circle, each found once, without a walk to the root from every directory.
//!
//! Directories are looked at in the order of their numbers. A way up that comes to a lower number ends: that one was
//! looked at, with its own way up. So a circle shows at its lowest member alone.

use super::State;
use crate::device::{BlockDevice, Data};
use crate::error::Result;
use crate::format::{InodeRecord, Key, Kind, ROOT};
use crate::memory::Map;
use crate::numbers::Ino;
use crate::tree;
use crate::volume::Volume;

/// Directories of higher numbers that are remembered: enough for the usual, and bounded.
const KNOWN_MAX: usize = 1 << 15;

/// Higher directories whose way up was followed already.
#[derive(Default)]
pub(super) struct Known(Map<()>);

/// What a way up comes to.
pub(super) enum Way {
    /// The root, or a directory that was looked at before.
    Fine,
    /// A directory that is not there.
    Missing,
    /// A circle, whose lowest member this is.
    Circle(Ino),
}

/// Follows the way up from `inode`; none if a part of it cannot be read, which is reported.
pub(super) fn way_up<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    inode: Ino,
) -> Result<Option<Way>> {
    // Brent's way to see a circle: a mark that is moved up to here after 1, 2, 4, 8 ... steps.
    let (mut at, mut mark) = (inode, inode);
    let (mut steps, mut next) = (0usize, 1);
    let way = loop {
        if at == ROOT || at < inode || state.known.0.contains(at.0) {
            break Way::Fine;
        }
        let Some(up) = above(volume, state, at)? else { return Ok(None) };
        let Some(up) = up else { break Way::Missing };
        at = up;
        steps += 1;
        if at == mark {
            let Some(member) = lowest(volume, state, at)? else { return Ok(None) };
            break Way::Circle(member);
        }
        if steps == next {
            (mark, next) = (at, 2 * next);
        }
    };
    // The whole way is looked at with this one, a circle in it reported once.
    let mut at = inode;
    for _ in 0..steps.min(KNOWN_MAX) {
        let Some(Some(up)) = above(volume, state, at)? else { break };
        at = up;
        if state.known.0.len() >= KNOWN_MAX {
            state.known = Known::default();
        }
        state.known.0.insert(at.0, ())?;
    }
    Ok(Some(way))
}

// The lowest member of the circle that `member` is in.
fn lowest<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    member: Ino,
) -> Result<Option<Ino>> {
    let (mut at, mut lowest) = (member, member);
    loop {
        let Some(Some(up)) = above(volume, state, at)? else { return Ok(None) };
        at = up;
        lowest = lowest.min(at);
        if at == member {
            return Ok(Some(lowest));
        }
    }
}

// The directory above, as the record says; the inner none if there is no record.
fn above<H: BlockDevice + Data>(
    volume: &Volume<H>,
    state: &mut State<'_>,
    inode: Ino,
) -> Result<Option<Option<Ino>>> {
    let record = tree::record::<_, InodeRecord>(volume, Key::new(inode, Kind::Inode, 0), "inode");
    Ok(state.absorb(record)?.map(|found| found.map(|record| Ino(record.parent.get()))))
}
