//! rename(2) and renameat2(2): one transaction, the target replaced or exchanged.

use zerocopy::little_endian::U64;

use super::directory::{self, Found};
use super::rows::raise_generation;
use super::types::{Removed, RenameFlags};
use super::{index, inherit, inode};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, FileKind, ROOT, collection_part};
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::volume::{Event, Nodes, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Renames; gives what lost its name to the new one.
    ///
    /// # Errors
    /// `Exists` with `NOREPLACE`; `NotFound`; `NotEmpty`, `IsDirectory`, `NotDirectory` as rename(2);
    /// `Invalid` for a directory that would come into itself.
    pub fn rename(
        &mut self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
        is_open: &dyn Fn(Ino) -> bool,
        now: Time,
    ) -> Result<Option<Removed>> {
        for (parent, name) in [from, to] {
            if parent != COLLECTIONS {
                control::check_writable(parent)?;
            }
            if parent == ROOT && name == control::NAME {
                return Err(Error::NotPermitted("the control directory stays where it is"));
            }
        }
        if (from.0 == COLLECTIONS) != (to.0 == COLLECTIONS) {
            return Err(Error::CrossDevice);
        }
        index::check_rename(self, from.0, to.0)?;
        directory::check_name(to.0, to.1)?;
        if to.0 == COLLECTIONS {
            super::vector_name::check_collection_name(to.1)?;
        }
        let source = directory::entry(self, from.0, from.1)?.ok_or(Error::NotFound)?;
        let target = directory::entry(self, to.0, to.1)?;
        self.load_waiting()?;
        let records = match &target {
            Some(target) if !flags.contains(RenameFlags::EXCHANGE) => {
                self.linked(target.inode, true)?.records() + super::orphan::STEP
            }
            _ => 0,
        };
        let budget = Budget { frees: records > 0, ..Budget::records(32 + records) };
        let exchanges = flags.contains(RenameFlags::EXCHANGE);
        let moves = from.0 != COLLECTIONS
            && !exchanges
            && target.as_ref().is_none_or(|found| found.inode != source.inode);
        let target_inode = target.as_ref().map(|found| found.inode);
        let old = if moves { self.renames(source.inode, from)? } else { None };
        let removed = self.transact(budget, now, |tx| match target {
            None if flags.contains(RenameFlags::EXCHANGE) => Err(Error::NotFound),
            None => {
                move_entry(tx, from, to, &source)?;
                Ok(None)
            }
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => Err(Error::Exists),
            // Two names of one file: rename(2) does nothing.
            Some(target) if target.inode == source.inode => Ok(None),
            Some(target) if flags.contains(RenameFlags::EXCHANGE) => {
                exchange(tx, from, to, &source, &target)?;
                Ok(None)
            }
            Some(_) if to.0 == COLLECTIONS => Err(Error::Exists),
            Some(target) => replace(tx, from, to, &source, &target, is_open).map(Some),
        })?;
        for inode in target_inode.into_iter().chain([source.inode]) {
            if let Some((id, 0)) = collection_part(inode) {
                self.forget_staged(id);
            }
        }
        if moves {
            self.note_rename(source.inode, old, to);
        }
        Ok(removed)
    }
}

fn replace<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    source: &Found,
    target: &Found,
    is_open: &dyn Fn(Ino) -> bool,
) -> Result<Removed> {
    let directories = (source.kind == FileKind::Directory, target.kind == FileKind::Directory);
    match directories {
        (false, true) => return Err(Error::IsDirectory),
        (true, false) => return Err(Error::NotDirectory),
        _ => {}
    }
    if !directories.1 {
        inherit::inherit(tx, target.inode, source.inode)?;
    }
    // A target above the source is not empty, whatever it holds; dropping it would cut the source off.
    check_not_below(tx, source, to.0)?;
    directory::remove_entry(tx, to.0, target)?;
    let mut parent = inode::load(tx, to.0)?;
    directory::count_entry(&mut parent, -1, if directories.1 { -1 } else { 0 }, tx.now);
    inode::store(tx, to.0, &parent)?;
    let removed = if directories.1 {
        directory::drop_directory(tx, target.inode, super::orphan::STEP)?
    } else {
        directory::drop_link(tx, target.inode, is_open, super::orphan::STEP)?
    };
    move_entry(tx, from, to, source)?;
    Ok(removed)
}

// Takes the entry away and puts it under its new name.
fn move_entry<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    source: &Found,
) -> Result<()> {
    check_not_below(tx, source, to.0)?;
    let subdirectory = i32::from(source.kind == FileKind::Directory);
    directory::remove_entry(tx, from.0, source)?;
    let mut parent = inode::load(tx, from.0)?;
    parent.expect_directory(from.0)?;
    directory::count_entry(&mut parent, -1, -subdirectory, tx.now);
    inode::store(tx, from.0, &parent)?;
    directory::add_entry(tx, to.0, to.1, source.inode, source.kind)?;
    let mut parent = inode::load(tx, to.0)?;
    parent.expect_directory(to.0)?;
    directory::count_entry(&mut parent, 1, subdirectory, tx.now);
    inode::store(tx, to.0, &parent)?;
    moved(tx, source, to.0)?;
    if to.0 == COLLECTIONS {
        tx.event(Event { inode: COLLECTIONS, offset: 0, len: 0 })?;
    }
    Ok(())
}

fn exchange<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    from: (Ino, &[u8]),
    to: (Ino, &[u8]),
    source: &Found,
    target: &Found,
) -> Result<()> {
    check_not_below(tx, source, to.0)?;
    check_not_below(tx, target, from.0)?;
    let directories = |found: &Found| i32::from(found.kind == FileKind::Directory);
    let change = directories(target) - directories(source);
    directory::remove_entry(tx, from.0, source)?;
    directory::remove_entry(tx, to.0, target)?;
    directory::add_entry(tx, from.0, from.1, target.inode, target.kind)?;
    directory::add_entry(tx, to.0, to.1, source.inode, source.kind)?;
    for (parent, change) in [(from.0, change), (to.0, -change)] {
        let mut record = inode::load(tx, parent)?;
        record.expect_directory(parent)?;
        directory::count_entry(&mut record, 0, change, tx.now);
        inode::store(tx, parent, &record)?;
    }
    moved(tx, source, to.0)?;
    moved(tx, target, from.0)
}

// What a move changes in the moved inode itself.
fn moved<H: BlockDevice + Data>(tx: &mut Transaction<'_, H>, found: &Found, parent: Ino) -> Result<()> {
    let mut record = inode::load(tx, found.inode)?;
    record.changed = tx.now.into();
    if found.kind == FileKind::Directory {
        record.parent = U64::new(parent.0);
    }
    inode::store(tx, found.inode, &record)?;
    match collection_part(found.inode) {
        Some((id, 0)) => raise_generation(tx, id),
        _ => Ok(()),
    }
}

// Fails if `directory` is `found` or lies below it.
fn check_not_below<N: Nodes>(nodes: &N, found: &Found, directory: Ino) -> Result<()> {
    if found.kind != FileKind::Directory || directory == COLLECTIONS {
        return Ok(());
    }
    // Brent's way to see a circle: a mark that is moved up to here after 1, 2, 4, 8 ... steps.
    let (mut at, mut mark) = (directory, directory);
    let (mut steps, mut next) = (0u64, 1);
    loop {
        if at == found.inode {
            return Err(Error::Invalid("a directory cannot be moved into itself"));
        }
        if at == ROOT {
            return Ok(());
        }
        at = Ino(inode::load(nodes, at)?.parent.get());
        if at == mark {
            return Err(Error::corrupt("inode", directory.0, "directories form a circle"));
        }
        steps += 1;
        if steps == next {
            (mark, next) = (at, 2 * next);
        }
    }
}
