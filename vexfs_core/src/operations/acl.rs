//! POSIX access lists: what `system.posix_acl_access` and `system.posix_acl_default` mean to a file.
//!
//! A list is kept as an attribute, and only where it says more than the mode. Mode and access list say some of it
//! twice, so whatever changes one changes the other in the same transaction. Who passes is the host's to check, but
//! for what the host cannot know: who may change a collection, and which paths a caller can find.

use alloc::vec::Vec;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

use super::types::{Caller, NewInode};
use super::{inode, xattr};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    ACL_ACCESS, ACL_DEFAULT, ACL_MAX, ACL_VERSION, AclEntry, AclHeader, FileKind, InodeRecord, acl_tag,
    value_max,
};
use crate::memory;
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::volume::{Nodes, Volume};

const SETGID: u32 = 0o2000;
const BITS: u32 = 0o777;
const GROUP: u32 = 3;
const OWNER: u32 = 6;

/// Which of a file's two lists an attribute is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    /// Of the file itself.
    Access,
    /// What new files in a directory get.
    Default,
}

impl List {
    /// The list of this name.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        match name {
            ACL_ACCESS => Some(Self::Access),
            ACL_DEFAULT => Some(Self::Default),
            _ => None,
        }
    }

    fn name(self) -> &'static [u8] {
        match self {
            Self::Access => ACL_ACCESS,
            Self::Default => ACL_DEFAULT,
        }
    }
}

/// A list that makes sense.
///
/// INVARIANT: entries in order of their tags; owner, owning group and others once each; a mask at most once, and
/// once if there is an entry for a user or group by number.
pub(crate) struct Acl(Vec<AclEntry>);

impl Acl {
    /// The list in an attribute's value; `None` if it has no entries.
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>> {
        let bad = Error::Invalid("not an access list, or one that contradicts itself");
        if value.len() > ACL_MAX {
            return Err(Error::ValueTooBig);
        }
        let (header, rest) = AclHeader::ref_from_prefix(value).map_err(|_| bad)?;
        let entries = <[AclEntry]>::ref_from_bytes(rest).map_err(|_| bad)?;
        if header.version.get() != ACL_VERSION {
            return Err(bad);
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let count = |tag: u16| entries.iter().filter(|entry| entry.tag.get() == tag).count();
        let by_number = count(acl_tag::USER) + count(acl_tag::GROUP);
        let single = [acl_tag::OWNER, acl_tag::OWNING_GROUP, acl_tag::OTHER];
        let masks = count(acl_tag::MASK);
        let sensible = single.iter().all(|tag| count(*tag) == 1)
            && (masks == 1 || (masks == 0 && by_number == 0))
            && by_number + masks + single.len() == entries.len()
            && entries.is_sorted_by_key(|entry| entry.tag.get())
            && entries.iter().all(|entry| entry.permissions.get() <= 7 && fits(entry));
        if sensible { Ok(Some(Self(memory::copy(entries)?))) } else { Err(bad) }
    }

    /// The list as an attribute's value.
    fn value(&self) -> Result<Vec<u8>> {
        let mut value = memory::copy(AclHeader { version: U32::new(ACL_VERSION) }.as_bytes())?;
        memory::extend(&mut value, self.0.as_bytes())?;
        Ok(value)
    }

    /// The permission bits of the mode that goes with the list.
    pub(crate) fn mode(&self) -> u32 {
        self.bits(acl_tag::OWNER) << OWNER | self.bits(self.group_tag()) << GROUP | self.bits(acl_tag::OTHER)
    }

    /// True if the mode says it all.
    fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// Makes the list say what `mode` says: what chmod(2) does to an access list.
    fn set_mode(&mut self, mode: u32) {
        let group = self.group_tag();
        for (tag, shift) in [(acl_tag::OWNER, OWNER), (group, GROUP), (acl_tag::OTHER, 0)] {
            self.set_bits(tag, mode >> shift & 7);
        }
    }

    /// What the list allows somebody who is not the owner: bits of read (4), write (2) and search (1), of which an entry
    /// for groups must have all that are `wanted` by itself.
    fn allowed(&self, group: u32, caller: &Caller<'_>, wanted: u32) -> u32 {
        let mask = if self.group_tag() == acl_tag::MASK { self.bits(acl_tag::MASK) } else { 7 };
        let named = |entry: &&AclEntry| entry.tag.get() == acl_tag::USER && entry.id.get() == caller.uid;
        if let Some(entry) = self.0.iter().find(named) {
            return u32::from(entry.permissions.get()) & mask;
        }
        let mut in_one = false;
        for entry in &self.0 {
            let of = match entry.tag.get() {
                acl_tag::OWNING_GROUP => group,
                acl_tag::GROUP => entry.id.get(),
                _ => continue,
            };
            if is_in(caller, of) {
                in_one = true;
                let bits = u32::from(entry.permissions.get()) & mask;
                if bits & wanted == wanted {
                    return bits;
                }
            }
        }
        if in_one { 0 } else { self.bits(acl_tag::OTHER) }
    }

    /// Which entry the group's bits of a mode stand for.
    fn group_tag(&self) -> u16 {
        let masked = self.0.iter().any(|entry| entry.tag.get() == acl_tag::MASK);
        if masked { acl_tag::MASK } else { acl_tag::OWNING_GROUP }
    }

    fn bits(&self, tag: u16) -> u32 {
        let found = self.0.iter().find(|entry| entry.tag.get() == tag);
        found.map_or(0, |entry| u32::from(entry.permissions.get()))
    }

    fn set_bits(&mut self, tag: u16, bits: u32) {
        for entry in self.0.iter_mut().filter(|entry| entry.tag.get() == tag) {
            entry.permissions.set(bits as u16);
        }
    }
}

/// What a new file gets from the directory that it is made in.
pub(crate) struct Inherited {
    /// The file with the permissions that it is to have, and no umask any more.
    pub(crate) new: NewInode,
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
}

impl Inherited {
    /// Of `new` in `directory`: its default access list, or the umask.
    pub(crate) fn of<N: Nodes>(nodes: &N, directory: Ino, new: &NewInode) -> Result<Self> {
        let masked = NewInode { permissions: new.permissions & !new.umask, umask: 0, ..*new };
        let plain = Self { new: masked, access: None, default: None };
        if new.kind == FileKind::Symlink || inode::load(nodes, directory)?.attributes.get() == 0 {
            return Ok(plain);
        }
        let Some(value) = xattr::stored(nodes, directory, ACL_DEFAULT)? else { return Ok(plain) };
        let Some(mut list) = decode(directory, &value)? else { return Ok(plain) };
        // The caller asked for `permissions`: neither more than it nor more than the list allows.
        let permissions = new.permissions & (list.mode() | !BITS);
        list.set_mode(permissions);
        let access = if list.is_mode() { None } else { Some(list.value()?) };
        let default = (new.kind == FileKind::Directory).then_some(value);
        Ok(Self { new: NewInode { permissions, umask: 0, ..*new }, access, default })
    }

    /// Records that [`Inherited::put`] puts at most.
    pub(crate) fn records(&self, block_size: u32) -> u64 {
        let lists = [&self.access, &self.default].into_iter().flatten();
        lists.map(|value| value.len().div_ceil(value_max(block_size)) as u64 + 1).sum()
    }

    /// Gives the lists to the new inode, whose record is the caller's to store.
    pub(crate) fn put<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        inode: Ino,
        record: &mut InodeRecord,
    ) -> Result<()> {
        for (name, value) in [(ACL_ACCESS, &self.access), (ACL_DEFAULT, &self.default)] {
            if let Some(value) = value {
                xattr::put(tx, inode, name, value)?;
                record.add_attribute()?;
            }
        }
        Ok(())
    }
}

/// True if `caller` has all `wanted` permissions on `inode`: read (4), write (2), execution or search (1). As the
/// kernel decides it (acl(5), `posix_acl_permission`): root may do all with a directory; a list whose mask is empty
/// says nothing.
pub(crate) fn permits<N: Nodes>(nodes: &N, inode: Ino, caller: &Caller<'_>, wanted: u32) -> Result<bool> {
    let record = inode::load(nodes, inode)?;
    let (mode, group) = (record.mode.get(), record.gid.get());
    let allowed = if caller.uid == 0 {
        7
    } else if caller.uid == record.uid.get() {
        mode >> OWNER
    } else if let Some(list) = listed(nodes, inode, &record)?.filter(|_| mode >> GROUP & 7 != 0) {
        list.allowed(group, caller, wanted)
    } else if is_in(caller, group) {
        mode >> GROUP
    } else {
        mode
    };
    Ok(allowed & wanted == wanted)
}

// The access list of an inode, if it has one.
fn listed<N: Nodes>(nodes: &N, inode: Ino, record: &InodeRecord) -> Result<Option<Acl>> {
    if record.attributes.get() == 0 {
        return Ok(None);
    }
    let Some(value) = xattr::stored(nodes, inode, ACL_ACCESS)? else { return Ok(None) };
    decode(inode, &value)
}

fn is_in(caller: &Caller<'_>, group: u32) -> bool {
    caller.gid == group || (caller.in_group)(group)
}

/// Makes the access list of `inode`, if it has one, follow the mode in `record`.
pub(crate) fn follow_mode<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
) -> Result<()> {
    let Some(mut list) = listed(tx, inode, record)? else { return Ok(()) };
    list.set_mode(record.mode.get());
    xattr::replace(tx, inode, record, ACL_ACCESS, Some(&list.value()?)).map(|_| ())
}

/// Records that [`follow_mode`] changes at most.
pub(crate) fn follow_records(block_size: u32) -> u64 {
    2 * (ACL_MAX.div_ceil(value_max(block_size)) as u64 + 1)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Sets one of a file's lists; `None`, and what a mode says as well, takes it away.
    pub(crate) fn set_list(
        &mut self,
        inode: Ino,
        list: List,
        value: Option<&[u8]>,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        let acl = value.map(Acl::parse).transpose()?.flatten();
        let budget = Budget::records(follow_records(self.layout.block_size) + 4);
        self.transact(Budget { frees: acl.is_none(), ..budget }, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            match record.kind(inode)? {
                FileKind::Symlink => return Err(Error::Unsupported("a symbolic link has no access list")),
                FileKind::Directory => {}
                _ if list == List::Default && acl.is_some() => {
                    return Err(Error::AccessDenied("only a directory has a default access list"));
                }
                _ => {}
            }
            let mut kept = acl.as_ref();
            if let (List::Access, Some(acl)) = (list, &acl) {
                let mut mode = record.mode.get() & !BITS | acl.mode();
                if !may_keep_setgid(&record, caller) {
                    mode &= !SETGID;
                }
                record.mode.set(mode);
                kept = kept.filter(|acl| !acl.is_mode());
            }
            let value = kept.map(Acl::value).transpose()?;
            xattr::replace(tx, inode, &mut record, list.name(), value.as_deref())?;
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)
        })
    }
}

// Who sets the mode of a file whose group is not theirs loses setgid, as with chmod(2).
fn may_keep_setgid(record: &InodeRecord, caller: &Caller<'_>) -> bool {
    let group = record.gid.get();
    caller.uid == 0 || is_in(caller, group)
}

/// A list that the volume holds for `inode`.
pub(crate) fn decode(inode: Ino, value: &[u8]) -> Result<Option<Acl>> {
    let damaged = Error::corrupt("attribute of inode", inode.0, "an access list that makes no sense");
    Acl::parse(value).map_err(|error| if error == Error::NoMemory { error } else { damaged })
}

fn fits(entry: &AclEntry) -> bool {
    !matches!(entry.tag.get(), acl_tag::USER | acl_tag::GROUP) || entry.id.get() != u32::MAX
}
