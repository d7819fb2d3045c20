//! A collection's index files on the image: where they are, what they were when they were looked at, and their bytes.
//!
//! INVARIANT: they are read off the image as any file is, never through the mount, which would have the daemon wait for itself.

use std::io;

use vexfs_core::control::INDEX;
use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::{FileKind, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::{Error, Result, Volume};
use vexfs_search::stored::{Kind, ReadAt};

use super::source::Source;

/// Bytes that are read at one look at the volume.
const PIECE_BYTES: usize = 1 << 20;

/// An index file as it is at a moment: a file that was replaced or written to since is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) inode: Ino,
    pub(super) size: u64,
    pub(super) modified: Time,
    pub(super) version: u64,
}

/// The index file of this kind of a collection as it is now; none if it has none.
pub(super) fn find<H: BlockDevice + Data>(
    volume: &Volume<H>,
    id: CollectionId,
    kind: Kind,
) -> Result<Option<Stamp>> {
    let file = volume
        .lookup(collection_directory(id), INDEX)
        .and_then(|directory| volume.lookup(directory.inode, kind.name().as_bytes()));
    match file {
        Ok(file) if file.kind == FileKind::Regular => {
            let (inode, size, modified, version) = (file.inode, file.size, file.modified, file.version);
            Ok(Some(Stamp { inode, size, modified, version }))
        }
        Ok(_) | Err(Error::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes of an index file.
pub(super) struct IndexFile<'a, S> {
    pub(super) source: &'a S,
    pub(super) stamp: Stamp,
}

impl<S: Source> ReadAt for IndexFile<'_, S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.stamp.size)
    }

    fn read_into(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut at = at;
        for piece in bytes.chunks_mut(PIECE_BYTES) {
            let len = piece.len();
            let read = self.source.fetch(piece, |volume, buffer| {
                let plan = volume.read_begin(self.stamp.inode, at, buffer)?;
                Ok((plan.len, Some(plan)))
            });
            if read.map_err(io::Error::other)? < len {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += len as u64;
        }
        Ok(())
    }
}
