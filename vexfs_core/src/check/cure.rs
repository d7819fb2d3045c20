//! What a salvage does about what cannot be kept: one cure for each contradiction.
//!
//! Cures only take records away, correct them, or give a name to what lost its own; blocks are never freed here,
//! since two things may claim them. What nothing claims any more the next look finds, and the map is corrected.

use alloc::vec::Vec;

use zerocopy::IntoBytes;

use super::{attach, free_rows};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{InodeRecord, Key, Kind};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::Budget;
use crate::tree;
use crate::volume::Volume;

/// Records that one transaction removes at most.
const STEP: u64 = 64;

/// What putting one record, or another node in place of one, needs: as little as will do, since a volume may be full, or look
/// so.
const PUT: Budget = Budget { puts: 1, touches: 0, removes: 0, blocks: 0, frees: true };
/// What removing one record needs.
const REMOVE: Budget = Budget { puts: 0, touches: 0, removes: 1, blocks: 0, frees: true };

/// Turns of cures, one after another: see [`Cure::turn`].
const TURNS: u32 = 3;

/// A cure.
#[derive(Debug)]
pub(super) enum Cure {
    /// The node at this level and lower bound cannot be read: an empty one takes its place.
    Node(Key, u32),
    /// The padding of the node at this level and lower bound is not zero.
    Padding(Key, u32),
    /// A record that contradicts others goes.
    Drop(Key),
    /// All records from the one key to the other go.
    DropRange(Key, Key),
    /// A record is put right.
    Put(Key, Vec<u8>),
    /// An inode without a name gets one.
    Attach(Ino),
    /// The runs of free rows of a collection are made anew.
    FreeRows(CollectionId),
}

impl Cure {
    /// All records of an inode go.
    pub(super) const fn drop_inode(inode: Ino) -> Self {
        let to = Key { inode: inode.0.saturating_add(1), ..Key::MIN };
        Self::DropRange(Key { inode: inode.0, ..Key::MIN }, to)
    }

    /// All records of a kind at an inode go.
    pub(super) const fn drop_kind(inode: Ino, kind: Kind) -> Self {
        Self::DropRange(Key::new(inode, kind, 0), Key::new(inode, kind, 0).next_kind())
    }

    /// An inode's record is put right.
    pub(super) fn put_inode(inode: Ino, record: &InodeRecord) -> Result<Self> {
        Ok(Self::Put(Key::new(inode, Kind::Inode, 0), memory::copy(record.as_bytes())?))
    }

    // Nodes first: what seems to be missing may lie in one. Then records; names and rows when those are right.
    const fn turn(&self) -> u32 {
        match self {
            Self::Node(..) | Self::Padding(..) => 0,
            Self::Drop(..) | Self::DropRange(..) | Self::Put(..) => 1,
            Self::Attach(..) | Self::FreeRows(..) => 2,
        }
    }
}

impl Key {
    const fn next_kind(self) -> Self {
        Self { kind: self.kind.saturating_add(1), offset: 0, ..self }
    }
}

/// Applies the cures of the first turn that has any which change something; gives how many did.
pub(super) fn apply<H: BlockDevice + Data>(volume: &mut Volume<H>, cures: &[Cure], now: Time) -> Result<u64> {
    let mut done = 0;
    for turn in 0..TURNS {
        for cure in cures.iter().filter(|cure| cure.turn() == turn) {
            let mut cured = one(volume, cure, now);
            if matches!(cured, Err(Error::NoSpace { .. })) {
                volume.commit(now)?;
                cured = one(volume, cure, now);
            }
            match cured {
                Ok(changed) => done += u64::from(changed),
                // Damage on the way to it has a cure of its own, in this turn or a later one.
                Err(Error::Corrupt(_) | Error::NotFound | Error::NoSpace { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if done > 0 {
            break;
        }
    }
    volume.commit(now)?;
    Ok(done)
}

// True if that changed anything.
fn one<H: BlockDevice + Data>(volume: &mut Volume<H>, cure: &Cure, now: Time) -> Result<bool> {
    match cure {
        Cure::Node(low, level) => volume.transact(PUT, now, |tx| tree::give_up(tx, *low, *level))?,
        Cure::Padding(low, level) => volume.transact(PUT, now, |tx| tree::clear_padding(tx, *low, *level))?,
        Cure::Drop(key) => return volume.transact(REMOVE, now, |tx| tree::remove(tx, *key)),
        Cure::Put(key, value) => {
            if tree::find(volume, *key, |old| Ok(old == value.as_slice()))? == Some(true) {
                return Ok(false);
            }
            volume.transact(PUT, now, |tx| tree::put(tx, *key, value))?;
        }
        Cure::DropRange(from, to) => return drop_range(volume, *from, *to, now),
        Cure::Attach(inode) => attach::attach(volume, *inode, now)?,
        Cure::FreeRows(id) => free_rows::renew(volume, *id, now)?,
    }
    Ok(true)
}

fn drop_range<H: BlockDevice + Data>(volume: &mut Volume<H>, from: Key, to: Key, now: Time) -> Result<bool> {
    let mut any = false;
    loop {
        let mut step =
            |budget, limit| volume.transact(budget, now, |tx| tree::remove_range(tx, from, to, limit));
        let removed = match step(Budget::freeing(STEP), STEP) {
            Err(Error::NoSpace { .. }) => step(REMOVE, 1)?,
            other => other?,
        };
        if removed == 0 {
            return Ok(any);
        }
        any = true;
    }
}
