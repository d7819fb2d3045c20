//! Extended attributes: ordinary ones here; vectors, `user.vexfs.*` and access lists by name elsewhere.

use alloc::vec::Vec;
use core::fmt::Write;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::acl::List;
use super::names::{self, NameHash};
use super::types::{Caller, SetMode};
use super::vector_name::{At, VectorName};
use super::{collection, index, inherit, inode, lease, log, metadata, settings, unlinked, vector};
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    InodeRecord, Key, Kind, XATTR_LIST_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX, XattrRecord, parse, value_max,
};
use crate::memory::{self, Text};
use crate::numbers::{Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Nodes, Volume};

/// Attributes below this number cannot fill a list of names.
pub(super) const FEW: u32 = (XATTR_LIST_MAX / (XATTR_NAME_MAX + 1)) as u32 - 1;
const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
const CAPABILITIES: &[u8] = b"security.capability";

impl<H: BlockDevice + Data> Volume<H> {
    /// The value of an attribute; a vector's is checked against its CRC-32.
    ///
    /// # Errors
    /// `NoAttribute`; `VectorChecksum` if a vector's bytes are damaged.
    pub fn attribute(&self, inode: Ino, name: &[u8]) -> Result<Vec<u8>> {
        check_name(name)?;
        if let Some(wanted) = VectorName::parse(name)? {
            let found = match (wanted.at, wanted.meta) {
                (At::Past(back), _) => return vector::read_past(self, inode, &wanted, back),
                (_, true) => metadata::read(self, inode, &wanted),
                (_, false) => vector::read(self, inode, &wanted),
            };
            return match found {
                Err(Error::NoAttribute) if !control::is_control(inode) => unlinked::kept(self, inode, name),
                other => other,
            };
        }
        if let Some(value) = settings::setting(self, inode, name)? {
            return Ok(value);
        }
        if control::is_control(inode) {
            return Err(Error::NoAttribute);
        }
        let record = inode::load(self, inode)?;
        if name == b"user.vexfs.version" {
            let mut text = Text::new();
            write!(text, "{}", record.version.get()).map_err(|_| Error::NoMemory)?;
            return Ok(text.into_bytes());
        }
        if let Some(collection) = name.strip_prefix(b"user.vexfs.fresh") {
            let only = match collection.strip_prefix(b".") {
                Some(name) => Some(collection::find(self, name)?.ok_or(Error::NoAttribute)?),
                None if collection.is_empty() => None,
                None => return Err(Error::NoAttribute),
            };
            let fresh = inherit::freshness(self, inode, &record, only)?.ok_or(Error::NoAttribute)?;
            return memory::copy(if fresh { b"1" } else { b"0" });
        }
        if let Some(vector) = log::vector_of(name) {
            return log::read(self, inode, vector);
        }
        if let Some(collection) = lease::collection_of(name) {
            return self.lease(inode, collection);
        }
        if record.attributes.get() == 0 {
            return Err(Error::NoAttribute);
        }
        stored(self, inode, name)?.ok_or(Error::NoAttribute)
    }

    /// Sets an attribute, a vector, or an access list.
    ///
    /// # Errors
    /// `Exists` and `NoAttribute` as `mode` asks; `ValueTooBig`; `TooManyAttributes`; for vectors what
    /// `docs/DESIGN.md` 1.2 lists: `WrongLength`, `WrongElement`, `NotFinite`, `AccessDenied`, `Invalid`; for their metadata
    /// `NoAttribute` without the vector, `MetadataTooBig`, `Invalid`; `Outdated` for a vector of older content than the one that
    /// is there; for leases `Busy`.
    pub fn set_attribute(
        &mut self,
        inode: Ino,
        name: &[u8],
        value: &[u8],
        mode: SetMode,
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        check_name(name)?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(Error::ValueTooBig);
        }
        index::check_ordinary(self, inode)?;
        if let Some(wanted) = VectorName::parse(name)? {
            wanted.check_changeable()?;
            return match wanted.meta {
                true => self.set_metadata(inode, &wanted, value, mode, caller, now),
                false => self.set_vector(inode, &wanted, value, mode, caller, now),
            };
        }
        if let Some(collection) = lease::collection_of(name) {
            return self.set_lease(inode, collection, value, mode, caller, now);
        }
        if name.starts_with(b"user.vexfs.") {
            return self.set_setting(inode, name, value, now);
        }
        control::check_writable(inode)?;
        if let Some(list) = List::named(name) {
            return self.set_list(inode, list, Some(value), caller, now);
        }
        let records = value.len().div_ceil(value_max(self.layout.block_size)) as u64 * 2 + 8;
        let budget = Budget { removes: records_of(self, inode, name)?, ..Budget::records(records) };
        self.transact(budget, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            check_mode(find(tx, inode, name)?.is_some(), mode)?;
            replace(tx, inode, &mut record, name, Some(value))?;
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)
        })
    }

    /// Removes an attribute, a vector, or an access list; it is no error if there is no such list.
    pub fn remove_attribute(
        &mut self,
        inode: Ino,
        name: &[u8],
        caller: &Caller<'_>,
        now: Time,
    ) -> Result<()> {
        check_name(name)?;
        if let Some(wanted) = VectorName::parse(name)? {
            wanted.check_changeable()?;
            return match wanted.meta {
                true => self.remove_metadata(inode, &wanted, caller, now),
                false => self.remove_vector(inode, &wanted, caller, now),
            };
        }
        if let Some(collection) = lease::collection_of(name) {
            return self.remove_lease(inode, collection, caller);
        }
        if name.starts_with(b"user.vexfs.") {
            return Err(Error::NotPermitted("user.vexfs attributes cannot be removed"));
        }
        control::check_writable(inode)?;
        if let Some(list) = List::named(name) {
            return self.set_list(inode, list, None, caller, now);
        }
        // As little as will do: this is how a full volume gets room.
        let removes = records_of(self, inode, name)?;
        let budget = Budget { puts: 0, touches: 1, removes, blocks: 0, frees: true };
        self.transact(budget, now, |tx| {
            let mut record = inode::load(tx, inode)?;
            if !replace(tx, inode, &mut record, name, None)? {
                return Err(Error::NoAttribute);
            }
            record.changed = tx.now.into();
            inode::store(tx, inode, &record)
        })
    }

    /// The names of all attributes, each with a NUL behind it, as listxattr(2) gives them.
    pub fn list_attributes(&self, inode: Ino) -> Result<Vec<u8>> {
        if control::is_control(inode) {
            return settings::settings(self, inode);
        }
        let record = inode::load(self, inode)?;
        if record.attributes.get() == 0 {
            return Ok(Vec::new());
        }
        list(self, inode)
    }
}

/// Adds an ordinary attribute.
pub(crate) fn put<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    name: &[u8],
    value: &[u8],
) -> Result<()> {
    let hash = NameHash::new(tx, inode, name);
    let place = names::free_place(tx, inode, Kind::Xattr, hash)?;
    let longest = value_max(tx.geometry().block_size);
    let inline = size_of::<XattrRecord>() + name.len() + value.len() <= longest;
    let number = if inline { 0 } else { next_number(tx, inode)? };
    let record = XattrRecord {
        value_len: U32::new(value.len() as u32),
        value_number: U32::new(number),
        name_len: U16::new(name.len() as u16),
        reserved: U16::ZERO,
    };
    let mut bytes = memory::copy(record.as_bytes())?;
    memory::extend(&mut bytes, name)?;
    if inline {
        memory::extend(&mut bytes, value)?;
    } else {
        for (index, chunk) in value.chunks(longest).enumerate() {
            let offset = u64::from(number) << 16 | index as u64;
            tree::put(tx, Key::new(inode, Kind::XattrValue, offset), chunk)?;
        }
    }
    tree::put(tx, Key::new(inode, Kind::Xattr, place), &bytes)
}

/// Puts an ordinary attribute in place of what it was, or takes it away; true if there was one. The inode's record
/// is the caller's to store.
pub(crate) fn replace<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
    name: &[u8],
    value: Option<&[u8]>,
) -> Result<bool> {
    let old = find(tx, inode, name)?;
    match (&old, value) {
        (None, Some(_)) => {
            check_list(tx, inode, record, name.len())?;
            record.add_attribute()?;
        }
        (Some(_), None) => record.attributes.set(record.attributes.get().saturating_sub(1)),
        _ => {}
    }
    if let Some((place, bytes)) = &old {
        remove(tx, inode, *place, bytes)?;
    }
    if let Some(value) = value {
        put(tx, inode, name, value)?;
    }
    Ok(old.is_some())
}

/// The value of an ordinary attribute, if there is one.
pub(crate) fn stored<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
    match find(nodes, inode, name)? {
        Some((_, bytes)) => value(nodes, inode, &bytes).map(Some),
        None => Ok(None),
    }
}

/// Drops file capabilities, as a write by anyone must.
pub(crate) fn drop_capabilities<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    record: &mut InodeRecord,
) -> Result<()> {
    if record.attributes.get() == 0 {
        return Ok(());
    }
    replace(tx, inode, record, CAPABILITIES, None).map(|_| ())
}

/// Fails if a new name of `len` bytes would make the list of names longer than any tool can read.
pub(crate) fn check_list<N: Nodes>(nodes: &N, inode: Ino, record: &InodeRecord, len: usize) -> Result<()> {
    check_listed(nodes, inode, record, len, &mut None)
}

/// The same of one new name after another: `listed` is how long the list is, once that is known.
pub(crate) fn check_listed<N: Nodes>(
    nodes: &N,
    inode: Ino,
    record: &InodeRecord,
    len: usize,
    listed: &mut Option<usize>,
) -> Result<()> {
    if record.attributes.get() < FEW {
        return Ok(());
    }
    let before = match *listed {
        Some(before) => before,
        None => list(nodes, inode)?.len(),
    };
    if before + len >= XATTR_LIST_MAX {
        return Err(Error::TooManyAttributes);
    }
    *listed = Some(before + len);
    Ok(())
}

/// Fails if a list of names is longer than [`check_list`] lets any become.
pub(crate) fn check_listable(inode: Ino, names: &[u8]) -> Result<()> {
    if names.len() <= XATTR_LIST_MAX {
        return Ok(());
    }
    Err(Error::corrupt("attributes of inode", inode.0, "names of more than 65536 bytes"))
}

/// Fails if `mode` does not allow it.
pub(crate) fn check_mode(exists: bool, mode: SetMode) -> Result<()> {
    match (mode, exists) {
        (SetMode::Create, true) => Err(Error::Exists),
        (SetMode::Replace, false) => Err(Error::NoAttribute),
        _ => Ok(()),
    }
}

// All names: ordinary attributes first, then vectors in order of collection and number.
fn list<N: Nodes>(nodes: &N, inode: Ino) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    let (from, to) = (Key::new(inode, Kind::Xattr, 0), Key::last(inode, Kind::Xattr));
    tree::scan(nodes, from, to, &mut |_, bytes| {
        memory::extend(&mut names, decode(inode, bytes)?.1)?;
        memory::push(&mut names, 0)?;
        check_listable(inode, &names)?;
        Ok(true)
    })?;
    vector::list(nodes, inode, &mut names)?;
    Ok(names)
}

// The attribute's place and record.
fn find<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<Option<(u64, Vec<u8>)>> {
    let hash = NameHash::new(nodes, inode, name);
    names::find(nodes, inode, Kind::Xattr, hash, &mut |bytes| Ok(decode(inode, bytes)?.1 == name))
}

// How many records an attribute has; one if there is none.
fn records_of<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<u64> {
    let Some((_, bytes)) = find(nodes, inode, name)? else { return Ok(1) };
    let record = decode(inode, &bytes)?.0;
    let chunks = (record.value_len.get() as usize)
        .min(XATTR_VALUE_MAX)
        .div_ceil(value_max(nodes.geometry().block_size));
    Ok(1 + if record.value_number.get() == 0 { 0 } else { chunks as u64 })
}

/// The value of an attribute, from its record's bytes.
pub(crate) fn value<N: Nodes>(nodes: &N, inode: Ino, bytes: &[u8]) -> Result<Vec<u8>> {
    let (record, _, inline) = decode(inode, bytes)?;
    let len = record.value_len.get() as usize;
    let number = record.value_number.get();
    if number == 0 {
        return memory::copy(inline);
    }
    let mut value = Vec::new();
    let (from, to) = chunks(inode, number);
    tree::scan(nodes, from, to, &mut |_, chunk| {
        if value.len() + chunk.len() > len {
            return Err(Error::corrupt("attribute of inode", inode.0, "longer than its record says"));
        }
        memory::extend(&mut value, chunk)?;
        Ok(true)
    })?;
    if value.len() != len {
        return Err(Error::corrupt("attribute of inode", inode.0, "shorter than its record says"));
    }
    Ok(value)
}

fn remove<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    inode: Ino,
    place: u64,
    bytes: &[u8],
) -> Result<()> {
    let number = decode(inode, bytes)?.0.value_number.get();
    if number != 0 {
        let (from, to) = chunks(inode, number);
        tree::remove_range(tx, from, to, u64::MAX)?;
    }
    tree::remove(tx, Key::new(inode, Kind::Xattr, place))?;
    Ok(())
}

fn chunks(inode: Ino, number: u32) -> (Key, Key) {
    let at = |number: u64| Key::new(inode, Kind::XattrValue, number << 16);
    (at(u64::from(number)), at(u64::from(number) + 1))
}

fn next_number<N: Nodes>(nodes: &N, inode: Ino) -> Result<u32> {
    let (from, to) = (Key::new(inode, Kind::XattrValue, 0), Key::last(inode, Kind::XattrValue));
    let last = tree::last(nodes, from, to)?.map_or(0, |(key, _)| key.offset >> 16);
    u32::try_from(last + 1).map_err(|_| Error::TooManyAttributes)
}

/// Record, name, and the value if it is inline.
pub(crate) fn decode(inode: Ino, bytes: &[u8]) -> Result<(&XattrRecord, &[u8], &[u8])> {
    let bad = Error::corrupt("attribute of inode", inode.0, "name or value of a wrong length");
    let (record, rest): (&XattrRecord, _) = parse(bytes, "attribute of inode", inode.0)?;
    let name_len = usize::from(record.name_len.get());
    let (name, inline) = rest.split_at_checked(name_len).ok_or(bad)?;
    let len = record.value_len.get() as usize;
    let fits = if record.value_number.get() == 0 { inline.len() == len } else { inline.is_empty() };
    if !fits || len > XATTR_VALUE_MAX || name_len == 0 {
        return Err(bad);
    }
    Ok((record, name, inline))
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) {
        return Err(Error::Invalid("an attribute's name has 1 to 255 bytes, none of them NUL"));
    }
    match NAMESPACES.iter().find_map(|space| name.strip_prefix(*space)) {
        Some(b"") => return Err(Error::Invalid("an attribute's name goes on after its namespace")),
        None if List::named(name).is_none() => {
            let text = "attributes are user.*, trusted.*, security.*, and POSIX access lists";
            return Err(Error::Unsupported(text));
        }
        _ => {}
    }
    Ok(())
}
