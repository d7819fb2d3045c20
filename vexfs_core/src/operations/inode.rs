//! Inode records: loading, changing, showing.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::types::{Attributes, Changes, NewInode};
use super::{acl, index};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTION_INODES, FileKind, InodeFlags, InodeRecord, Key, Kind, collection_part};
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o010;
const DAY: i64 = 86_400;

/// The record of `inode`.
pub(crate) fn load<N: Nodes>(nodes: &N, inode: Ino) -> Result<InodeRecord> {
    tree::record(nodes, Key::new(inode, Kind::Inode, 0), "inode")?.ok_or(Error::NotFound)
}

/// Puts the record of `inode`.
pub(crate) fn store<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &InodeRecord,
) -> Result<()> {
    tree::put(tx, Key::new(inode, Kind::Inode, 0), record.as_bytes())
}

/// What a record shows to the outside.
pub(crate) fn attributes_of(inode: Ino, record: &InodeRecord, block_size: u32) -> Result<Attributes> {
    let mode = record.mode.get();
    Ok(Attributes {
        inode,
        kind: record.kind(inode)?,
        permissions: mode & 0o7777,
        uid: record.uid.get(),
        gid: record.gid.get(),
        links: record.links.get(),
        size: record.size.get(),
        sectors: record.blocks.get().saturating_mul(u64::from(block_size) / 512),
        accessed: record.accessed.into(),
        modified: record.modified.into(),
        changed: record.changed.into(),
        created: record.created.into(),
        device: record.device.get(),
        version: record.version.get(),
    })
}

impl InodeRecord {
    /// A new inode's record; `parent` is for directories.
    pub(crate) fn new(new: &NewInode, parent: Ino, now: Time) -> Self {
        let directory = new.kind == FileKind::Directory;
        Self {
            mode: U32::new(new.kind.mode() | (new.permissions & 0o7777)),
            uid: U32::new(new.uid),
            gid: U32::new(new.gid),
            links: U32::new(if directory { 2 } else { 1 }),
            size: U64::ZERO,
            blocks: U64::ZERO,
            version: U64::new(1),
            bound_version: U64::ZERO,
            stale_generation: U64::ZERO,
            parent: U64::new(if directory { parent.0 } else { 0 }),
            accessed: now.into(),
            modified: now.into(),
            changed: now.into(),
            created: now.into(),
            flags: U32::new(0),
            device: U32::new(new.device),
            attributes: U32::ZERO,
            reserved: U32::ZERO,
        }
    }

    /// The type, checked.
    pub(crate) fn kind(&self, inode: Ino) -> Result<FileKind> {
        FileKind::from_mode(self.mode.get()).ok_or(Error::corrupt("inode", inode.0, "of an unknown type"))
    }

    /// Fails unless this is a directory that still has a name.
    pub(crate) fn expect_directory(&self, inode: Ino) -> Result<()> {
        match self.kind(inode)? {
            FileKind::Directory if self.links.get() == 0 => Err(Error::NotFound),
            FileKind::Directory => Ok(()),
            _ => Err(Error::NotDirectory),
        }
    }

    /// The flags.
    pub(crate) fn flags(&self) -> InodeFlags {
        InodeFlags::from_bits_retain(self.flags.get())
    }

    /// Sets or clears a flag.
    pub(crate) fn set_flag(&mut self, flag: InodeFlags, on: bool) {
        let mut flags = self.flags();
        flags.set(flag, on);
        self.flags = U32::new(flags.bits());
    }

    /// The content changed in `generation`: raises the version and moves the times.
    pub(crate) fn content_changed(&mut self, generation: u64, now: Time) {
        if self.version == self.bound_version {
            self.stale_generation = U64::new(generation);
        }
        self.version = U64::new(self.version.get().wrapping_add(1));
        self.modified = now.into();
        self.changed = now.into();
    }

    /// Counts blocks in; a damaged count stays at the highest, and a check mends it.
    pub(crate) fn add_blocks(&mut self, count: u64) {
        self.blocks = U64::new(self.blocks.get().saturating_add(count));
    }

    /// Counts an attribute in.
    pub(crate) fn add_attribute(&mut self) -> Result<()> {
        let count = self.attributes.get().checked_add(1).ok_or(Error::TooManyAttributes)?;
        self.attributes = U32::new(count);
        Ok(())
    }

    /// Drops setuid, and setgid where the group may execute, as a write or chown by a user does.
    pub(crate) fn kill_privileges(&mut self) {
        let mut mode = self.mode.get();
        if FileKind::from_mode(mode) == Some(FileKind::Directory) {
            return;
        }
        mode &= !SETUID;
        if mode & GROUP_EXECUTE != 0 {
            mode &= !SETGID;
        }
        self.mode = U32::new(mode);
    }
}

impl<H: BlockDevice + Data> Transaction<'_, H> {
    /// A number for a new inode.
    pub(crate) fn new_inode(&mut self) -> Result<Ino> {
        let number = self.counters.next_inode;
        if number >= COLLECTION_INODES {
            return Err(Error::NoSpace { pending: 0 });
        }
        self.counters.next_inode += 1;
        self.counters.inode_count = self.counters.inode_count.saturating_add(1);
        Ok(Ino(number))
    }
}

impl<H: BlockDevice + Data> Volume<H> {
    /// What `stat` shows of `inode`.
    pub fn attributes(&self, inode: Ino) -> Result<Attributes> {
        match control::attributes(self, inode)? {
            Some(attributes) => Ok(attributes),
            None => attributes_of(inode, &load(self, inode)?, self.layout.block_size),
        }
    }

    /// chmod, chown, utimens, truncate.
    ///
    /// A shrink frees its extents in several transactions; the new size and all else take effect with the first.
    pub fn set_attributes(&mut self, inode: Ino, changes: &Changes, now: Time) -> Result<Attributes> {
        use control::Pseudo::{Append, Query, Request};
        let takes = matches!(control::pseudo(inode), Some(Request | Query | Append));
        if takes && changes.size == Some(0) {
            // Opened with O_TRUNC, as by a shell.
            return self.attributes(inode);
        }
        control::check_changeable(self, inode, changes)?;
        index::check_changes(self, inode, changes)?;
        if let Some(size) = changes.size {
            self.truncate(inode, size, now)?;
        }
        let rest = Changes { size: None, ..*changes };
        // An access list follows the mode.
        let lists = match changes.permissions {
            Some(_) if load(self, inode)?.attributes.get() != 0 => {
                acl::follow_records(self.layout.block_size)
            }
            _ => 0,
        };
        // An index is the collection's.
        let collection = collection_part(inode).map(|(id, _)| id);
        let lists = lists + index::records(self, inode)?;
        self.transact(Budget { frees: true, ..Budget::records(8 + lists) }, now, |tx| {
            let mut record = load(tx, inode)?;
            let before = record;
            apply(&mut record, &rest, now);
            if changes.permissions.is_some() {
                acl::follow_mode(tx, inode, &mut record)?;
            }
            if changes.kill_privileges {
                super::xattr::drop_capabilities(tx, inode, &mut record)?;
            }
            if record == before {
                return Ok(());
            }
            store(tx, inode, &record)?;
            let moved = (before.mode, before.uid, before.gid) != (record.mode, record.uid, record.gid);
            match collection.filter(|_| moved) {
                Some(id) => index::follow(tx, id, &record),
                None => Ok(()),
            }
        })?;
        self.attributes(inode)
    }

    /// Marks an access.
    pub fn touch(&mut self, inode: Ino, now: Time) -> Result<()> {
        self.transact(Budget::records(1), now, |tx| {
            let mut record = load(tx, inode)?;
            record.accessed = now.into();
            store(tx, inode, &record)
        })
    }

    /// Keeps times that the host held back, of calls that were before now: a host with a page cache writes bytes back
    /// later than they were changed, and a time that was set meanwhile must stay.
    pub fn set_times(
        &mut self,
        inode: Ino,
        accessed: Time,
        modified: Time,
        changed: Time,
        now: Time,
    ) -> Result<()> {
        control::check_writable(inode)?;
        self.transact(Budget::records(1), now, |tx| {
            let mut record = load(tx, inode)?;
            let before = record;
            record.accessed = accessed.into();
            record.modified = modified.into();
            record.changed = changed.into();
            if record == before { Ok(()) } else { store(tx, inode, &record) }
        })
    }

    /// True if relatime would mark an access: the last one is older than the last change, or than a day.
    pub fn wants_touch(&self, attributes: &Attributes, now: Time) -> bool {
        !self.read_only
            && !control::is_control(attributes.inode)
            && (attributes.accessed <= attributes.modified
                || attributes.accessed <= attributes.changed
                || now.seconds.saturating_sub(attributes.accessed.seconds) >= DAY)
    }
}

fn apply(record: &mut InodeRecord, changes: &Changes, now: Time) {
    if let Some(permissions) = changes.permissions {
        record.mode = U32::new((record.mode.get() & !0o7777) | (permissions & 0o7777));
    }
    if let Some(uid) = changes.uid {
        record.uid = U32::new(uid);
    }
    if let Some(gid) = changes.gid {
        record.gid = U32::new(gid);
    }
    if let Some(time) = changes.accessed {
        record.accessed = time.into();
    }
    if let Some(time) = changes.modified {
        record.modified = time.into();
    }
    if changes.kill_privileges {
        record.kill_privileges();
    }
    record.changed = now.into();
}
