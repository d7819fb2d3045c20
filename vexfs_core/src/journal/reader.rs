//! Records as they are found in the journal.

use alloc::vec::Vec;

use zerocopy::FromBytes;

use super::sum;
use crate::bugs::planted;
use crate::device::BlockDevice;
use crate::error::{Error, Result};
use crate::format::{
    Key, Kind, LOG_ALIGN, LOG_HEADER, LOG_MAGIC, LOG_RECORD_MAX, Layout, LogEntry, LogHeader, LogKind,
    value_max,
};
use crate::memory;
use crate::numbers::Run;

/// One change that a record tells, its numbers checked against the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// The tree holds `value` at `key`.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: &'a [u8],
    },
    /// The tree holds nothing at this key.
    Remove(Key),
    /// Blocks taken for data.
    Take(Run),
    /// Blocks of data freed.
    Free(Run),
    /// Bytes that belong at this byte offset of the device.
    Bytes {
        /// Byte offset.
        device: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// A whole record, as it was found.
#[derive(Debug)]
pub struct FoundRecord {
    /// Its header.
    pub header: LogHeader,
    /// Byte offset in the journal.
    pub position: u64,
    pub(super) body: Vec<u8>,
}

impl FoundRecord {
    /// Calls `each` with every entry, in order.
    ///
    /// # Errors
    /// `Corrupt` for an entry that cannot be, and what `each` gives.
    pub fn each(&self, layout: &Layout, each: &mut dyn FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
        let bad = |why| Error::corrupt("journal record", self.header.sequence.get(), why);
        let mut count = 0;
        for (head, value) in Entries::new(&self.body) {
            count += 1;
            let (first, second) = (head.first.get(), head.second.get());
            let key = Key { inode: first, kind: head.key_kind, offset: second };
            let run = Run::new(first, second);
            let entry = match LogKind::from_u8(head.kind).ok_or(bad("an entry of unknown kind"))? {
                LogKind::Put => Entry::Put { key, value },
                LogKind::Remove => Entry::Remove(key),
                LogKind::Take => Entry::Take(run),
                LogKind::Free => Entry::Free(run),
                LogKind::Bytes => Entry::Bytes { device: first, bytes: value },
            };
            match entry {
                Entry::Put { key, .. } | Entry::Remove(key) if Kind::from_u8(key.kind).is_none() => {
                    return Err(bad("a key of unknown kind"));
                }
                Entry::Put { value, .. } if value.len() > value_max(layout.block_size) => {
                    return Err(bad("a value larger than a quarter of a node"));
                }
                Entry::Take(run) | Entry::Free(run)
                    if run.count == 0 || !layout.covers(run.start.0, run.count) =>
                {
                    return Err(bad("blocks outside the volume"));
                }
                Entry::Bytes { device, bytes } if !covers_bytes(layout, device, bytes.len() as u64) => {
                    return Err(bad("bytes outside the volume"));
                }
                entry => each(entry)?,
            }
        }
        if count != self.header.entries.get() {
            return Err(bad("fewer entries than it tells"));
        }
        Ok(())
    }

    /// Byte offset in the journal of the next record.
    pub fn end(&self) -> u64 {
        self.position + u64::from(self.header.length.get()).next_multiple_of(LOG_ALIGN)
    }
}

fn covers_bytes(layout: &Layout, device: u64, len: u64) -> bool {
    let block_size = u64::from(layout.block_size);
    device.checked_add(len).is_some_and(|end| {
        let first = device / block_size;
        len > 0 && layout.covers(first, end.div_ceil(block_size) - first)
    })
}

/// The entries in a record's body, as far as they are whole.
pub(super) struct Entries<'a>(&'a [u8]);

impl<'a> Entries<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (LogEntry, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = LogEntry::read_from_prefix(self.0).ok()?;
        let (value, rest) = rest.split_at_checked(head.len.get() as usize)?;
        self.0 = rest;
        Some((head, value))
    }
}

/// Reads the records of a journal that build on one generation, first to last.
#[derive(Clone, Copy, Debug)]
pub struct LogReader {
    layout: Layout,
    uuid: [u8; 16],
    base: u64,
    pub(super) position: u64,
    sequence: u64,
}

impl LogReader {
    /// The records of the volume `uuid` on generation `base`.
    pub fn new(layout: &Layout, uuid: [u8; 16], base: u64) -> Self {
        Self { layout: *layout, uuid, base, position: 0, sequence: 0 }
    }

    /// The next record; `None` at the end of the log.
    ///
    /// # Errors
    /// `Corrupt`, if this record is damaged but one behind it is whole: then it was not torn by a crash.
    pub fn next(&mut self, device: &impl BlockDevice) -> Result<Option<FoundRecord>> {
        if let Some(found) = self.at(device, self.position, |sequence| sequence == self.sequence)? {
            (self.position, self.sequence) = (found.end(), self.sequence + 1);
            return Ok(Some(found));
        }
        let expected = self.sequence;
        let (start, mut at) = (self.position, self.position);
        while at <= start + LOG_RECORD_MAX as u64 {
            at += LOG_ALIGN;
            if self.at(device, at, |sequence| sequence > expected)?.is_some() {
                return Err(Error::corrupt(
                    "journal record",
                    expected,
                    "its checksum or header is wrong, but a later record is whole",
                ));
            }
        }
        Ok(None)
    }

    // The whole record at a position, if there is one of this log with a fitting number.
    fn at(
        &self,
        device: &impl BlockDevice,
        position: u64,
        fits: impl Fn(u64) -> bool,
    ) -> Result<Option<FoundRecord>> {
        let block_size = u64::from(self.layout.block_size);
        let size = self.layout.journal_blocks * block_size;
        if position + LOG_ALIGN > size {
            return Ok(None);
        }
        let start = self.layout.journal_start * block_size + position;
        let mut head = [0; LOG_HEADER];
        device.read(start, &mut head)?;
        let Ok(header) = LogHeader::read_from_bytes(&head) else { return Ok(None) };
        let length = header.length.get() as usize;
        let ours = header.magic.get() == LOG_MAGIC
            && header.uuid == self.uuid
            && (header.base.get() == self.base || planted("log_of_any_base"))
            && fits(header.sequence.get());
        if !ours || !(LOG_HEADER..=LOG_RECORD_MAX).contains(&length) || position + length as u64 > size {
            return Ok(None);
        }
        let mut body = memory::zeroed(length - LOG_HEADER)?;
        device.read(start + LOG_HEADER as u64, &mut body)?;
        if sum(&header, &body) != header.checksum.get() && !planted("log_checksum_ignored") {
            return Ok(None);
        }
        Ok(Some(FoundRecord { header, position, body }))
    }
}
