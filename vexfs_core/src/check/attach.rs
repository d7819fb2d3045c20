//! Names for what lost its own: files and directories in `/lost+found`, collections beside the others.

use core::fmt::Write;

use zerocopy::little_endian::{U32, U64};

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, FileKind, ROOT, collection_part};
use crate::memory::Text;
use crate::numbers::{Ino, Time};
use crate::operations::{NewInode, load_inode, records};
use crate::transaction::{Budget, Transaction};
use crate::volume::Volume;

const LOST_AND_FOUND: &[u8] = b"lost+found";
/// Names that are tried.
const TRIES: u32 = 1000;

/// Gives `inode` a name.
pub(super) fn attach<H: BlockDevice + Data>(volume: &mut Volume<H>, inode: Ino, now: Time) -> Result<()> {
    let collection = collection_part(inode);
    let directory = match collection {
        Some(_) => COLLECTIONS,
        None => lost_and_found(volume, inode, now)?,
    };
    volume.transact(Budget { frees: true, ..Budget::records(8) }, now, |tx| {
        let mut record = load_inode(tx, inode)?;
        let kind = record.kind(inode)?;
        let mut name = Text::new();
        for number in 0..TRIES {
            name = Text::new();
            let written = match (collection, number) {
                (Some((id, _)), 0) => write!(name, "recovered-{id}"),
                (Some((id, _)), _) => write!(name, "recovered-{id}-{number}"),
                (None, 0) => write!(name, "#{inode}"),
                (None, _) => write!(name, "#{inode}-{number}"),
            };
            written.map_err(|_| Error::NoMemory)?;
            if records::entry_cookie(tx, directory, name.as_bytes())?.is_none() {
                break;
            }
        }
        records::add_entry(tx, directory, name.as_bytes(), inode, kind)?;
        if kind == FileKind::Directory {
            record.parent = U64::new(directory.0);
            // Its own and its name's; the next look counts its subdirectories.
            record.links = U32::new(record.links.get().max(2));
        } else {
            record.links = U32::new(1);
        }
        records::store_inode(tx, inode, &record)?;
        count(tx, directory, kind)
    })
}

// The directory for what has no name: made if it is not there, the root if its name is taken by something else or there is
// no room for it.
fn lost_and_found<H: BlockDevice + Data>(volume: &mut Volume<H>, inode: Ino, now: Time) -> Result<Ino> {
    let usable = |found: Ino| if found == inode { ROOT } else { found };
    match volume.lookup(ROOT, LOST_AND_FOUND) {
        Ok(found) if found.kind == FileKind::Directory => Ok(usable(found.inode)),
        Ok(_) | Err(Error::Corrupt(_)) => Ok(ROOT),
        Err(Error::NotFound) => {
            let new = NewInode {
                kind: FileKind::Directory,
                permissions: 0o700,
                umask: 0,
                uid: 0,
                gid: 0,
                device: 0,
            };
            match volume.create(ROOT, LOST_AND_FOUND, &new, now) {
                // Nor will a commit bring any.
                Err(Error::NoSpace { pending: 0 }) => Ok(ROOT),
                other => Ok(other?.inode),
            }
        }
        Err(error) => Err(error),
    }
}

fn count<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, directory: Ino, kind: FileKind) -> Result<()> {
    let mut parent = load_inode(tx, directory)?;
    parent.size = U64::new(parent.size.get().saturating_add(1));
    if kind == FileKind::Directory {
        parent.links = U32::new(parent.links.get().saturating_add(1));
    }
    records::store_inode(tx, directory, &parent)
}
