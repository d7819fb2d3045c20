//! `control`: work on a collection that a line of text asks for, and what is being done.

use core::fmt::Write;

use super::{Pseudo, REQUESTS, pseudo};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::collection_part;
use crate::memory::Text;
use crate::numbers::{CollectionId, Ino};
use crate::operations::load_collection;
use crate::volume::Volume;

impl<H: BlockDevice + Data> Volume<H> {
    /// Takes a request that was written to a [`Pseudo::Request`] file; the work is done by [`Volume::tidy`].
    ///
    /// # Errors
    /// `Invalid` for what is no request; those of the request.
    pub fn request(&mut self, inode: Ino, text: &[u8]) -> Result<()> {
        match (pseudo(inode), collection_part(inode)) {
            (Some(Pseudo::Request), Some((id, REQUESTS))) => match text.trim_ascii() {
                b"compact" => self.compact(id),
                _ => Err(Error::Invalid("no such request: a collection's control file takes `compact`")),
            },
            _ => Err(Error::NotPermitted("not a file that takes requests")),
        }
    }

    /// What a collection's `control` shows: a JSON object.
    pub(super) fn requests(&self, text: &mut Text, id: CollectionId) -> Result<()> {
        let record = load_collection(self, id)?.record;
        writeln!(
            text,
            "{{\"compacting\":{},\"live\":{},\"rows\":{},\"frontier\":{}}}",
            self.is_compacting(id),
            record.live.get(),
            record.rows.get(),
            record.frontier.get(),
        )
        .map_err(|_| Error::NoMemory)
    }
}
