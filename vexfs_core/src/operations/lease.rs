//! Leases: who is making a file's vectors of a collection anew, so that several share the work.
//!
//! A lease says only that somebody is at it. What there is to do is told by the vectors themselves, which are stale or
//! missing until they are set. So leases are in memory alone, and whichever is lost, by a crash or because its time was
//! over, costs work done twice and nothing else; nothing here may ever be needed for a vector to be right.
//!
//! A lease is the attribute `user.vexfs.lease.<collection>` of the file: it takes the right to write to the file, which
//! the host checks, and to the collection.

use alloc::vec::Vec;
use core::fmt::Write;

use super::collection;
use super::inode;
use super::types::{Caller, SetMode};
use super::vector_name::check_collection_name;
use super::xattr::check_mode;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::FileKind;
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino, Time};
use crate::volume::{Lease, Volume};

const PREFIX: &[u8] = b"user.vexfs.lease.";
/// Leases that are kept in mind at most.
const LEASES_MAX: usize = 4096;
const HOLDER_MAX: usize = 64;
/// Seconds that a lease lasts at most.
const SECONDS_MAX: i64 = 24 * 3600;

impl Lease {
    // A clock that was set back does not make a lease last longer.
    fn is_over(&self, now: i64) -> bool {
        now < self.from || now >= self.until
    }
}

/// The collection that a lease's attribute names; `None` for other attributes.
pub(super) fn collection_of(attribute: &[u8]) -> Option<&[u8]> {
    attribute.strip_prefix(PREFIX)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Takes, prolongs or (with 0 seconds) gives back a lease: `value` is `HOLDER SECONDS`.
    ///
    /// # Errors
    /// `Busy` while another holder has it; as `mode` asks, `Exists` if this holder has it already, `NoAttribute` if not.
    pub(super) fn set_lease(
        &mut self,
        inode: Ino,
        collection: &[u8],
        value: &[u8],
        mode: SetMode,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        let (holder, seconds) = parse(value)?;
        let id = self.leased_collection(inode, collection, caller)?;
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let now = now.seconds;
        self.leases.retain(|lease| !lease.is_over(now));
        let found = self.leases.iter().position(|lease| lease.inode == inode && lease.id == id);
        let held = match found {
            Some(index) if self.leases[index].holder != holder => return Err(Error::Busy),
            found => found,
        };
        check_mode(held.is_some(), mode)?;
        if let Some(index) = held {
            self.leases.swap_remove(index);
        }
        if seconds == 0 {
            return Ok(());
        }
        if self.leases.len() >= LEASES_MAX {
            return Err(Error::Busy);
        }
        let holder = memory::copy(holder)?;
        memory::push(
            &mut self.leases,
            Lease { inode, id, holder, from: now, until: now.saturating_add(seconds) },
        )
    }

    /// Ends a lease, whoever holds it.
    pub(super) fn remove_lease(&mut self, inode: Ino, collection: &[u8], caller: &Caller<'_>) -> Result<()> {
        let id = self.leased_collection(inode, collection, caller)?;
        let found = self.leases.iter().position(|lease| lease.inode == inode && lease.id == id);
        self.leases.swap_remove(found.ok_or(Error::NoAttribute)?);
        Ok(())
    }

    /// `HOLDER UNTIL`, in seconds since 1970; what is over may still be told.
    pub(super) fn lease(&self, inode: Ino, collection: &[u8]) -> Result<Vec<u8>> {
        check_collection_name(collection)?;
        let id = collection::find(self, collection)?.ok_or(Error::NoAttribute)?;
        let found = self.leases.iter().find(|lease| lease.inode == inode && lease.id == id);
        let lease = found.ok_or(Error::NoAttribute)?;
        let mut text = Text::new();
        text.raw(&lease.holder)?;
        write!(text, " {}", lease.until).map_err(|_| Error::NoMemory)?;
        Ok(text.into_bytes())
    }

    fn leased_collection(&self, inode: Ino, collection: &[u8], caller: &Caller<'_>) -> Result<CollectionId> {
        control::check_writable(inode)?;
        check_collection_name(collection)?;
        let id = collection::find(self, collection)?
            .ok_or(Error::Invalid("there is no collection of that name to lease a file for"))?;
        collection::check_access(self, id, caller)?;
        match inode::load(self, inode)?.kind(inode)? {
            FileKind::Regular | FileKind::Directory => Ok(id),
            _ => Err(Error::NotPermitted("only files and directories have vectors")),
        }
    }
}

fn parse(value: &[u8]) -> Result<(&[u8], i64)> {
    let bad = Error::Invalid(
        "a lease is `HOLDER SECONDS`: 1 to 64 printable characters without a space, and 0 to 86400",
    );
    let space = value.iter().position(|byte| *byte == b' ').ok_or(bad)?;
    let (holder, seconds) = (&value[..space], &value[space + 1..]);
    let seconds = core::str::from_utf8(seconds).ok().and_then(|text| text.parse::<u32>().ok());
    let seconds = seconds.map(i64::from).filter(|seconds| *seconds <= SECONDS_MAX).ok_or(bad)?;
    let fine = !holder.is_empty() && holder.len() <= HOLDER_MAX && holder.iter().all(u8::is_ascii_graphic);
    if fine { Ok((holder, seconds)) } else { Err(bad) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_names_its_holder_and_seconds() {
        assert_eq!(parse(b"me:7 60"), Ok((&b"me:7"[..], 60)));
        assert_eq!(parse(b"me 0"), Ok((&b"me"[..], 0)));
        assert_eq!(parse(b"me 86400").map(|(_, seconds)| seconds), Ok(86400));
        for bad in ["", "me", "me ", " 60", "me 86401", "me -1", "me 60 ", "m\x07 1", &"x".repeat(65)] {
            assert!(matches!(parse(bad.as_bytes()), Err(Error::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_ends_leases() {
        let lease = Lease { inode: Ino(40), id: CollectionId(1), holder: Vec::new(), from: 100, until: 160 };
        assert!(!lease.is_over(100) && !lease.is_over(159));
        assert!(lease.is_over(160) && lease.is_over(99));
    }
}
