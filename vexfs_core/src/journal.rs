//! The intent log between commits: what changed since its last record, and how records are written and read.
//!
//! A record tells what the tree holds now at the keys that changed, and which blocks of data were taken and freed;
//! never operations, so that a replay needs no clock and no permissions. It is durable before the next one is
//! written, so only the last record can have been torn, and bytes that were written before it are on the device
//! once another follows. A record counts only on the generation that it names: a commit empties the log.

mod reader;

use alloc::vec::Vec;
use core::ops::Range;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use crate::bugs::planted;
use crate::checksum::crc32_parts;
use crate::device::{BlockDevice, Data, Place};
use crate::error::{Error, Result};
use crate::format::{
    Key, LOG_ALIGN, LOG_ENTRY, LOG_HEADER, LOG_MAGIC, LOG_RECORD_MAX, Layout, LogEntry, LogHeader, LogKind,
};
use crate::memory::{self, Map};
use crate::numbers::{Ino, Run};

use reader::Entries;
pub use reader::{Entry, FoundRecord, LogReader};

/// Changed keys that are remembered; more are committed.
const KEYS_MAX: usize = 16 << 10;
/// Bytes of new data that a record carries along; more are flushed before it.
const CARRY_MAX: u64 = 64 << 10;
/// Places of such bytes.
const PLACES_MAX: usize = 256;

/// What the log does not hold yet, and where its next record goes.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Byte offset in the journal.
    pub(crate) position: u64,
    /// Number of the next record.
    pub(crate) sequence: u64,
    /// A record is on its way to the device.
    pub(crate) writing: bool,
    /// Up to this byte offset there may be records of older generations.
    remains: u64,
    /// Records of the tree that the log tells of.
    pub(crate) told: Told,
    /// Inodes that are durably stale since the last commit.
    pub(crate) settled: Map<()>,
    changes: Changes,
    /// More changed than is remembered.
    overflow: bool,
    /// More new bytes than a record carries, or bytes that it must not be durable before.
    flush_first: bool,
    /// Files of which bytes were overwritten in place since the last record or commit.
    overwritten: Map<()>,
}

/// How many records of the tree were put and removed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) puts: u64,
    pub(crate) removes: u64,
}

/// What transactions changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Keys of which the record was put or removed; the same one perhaps several times.
    keys: Vec<Key>,
    /// Blocks of data taken (true) or freed, in order.
    runs: Vec<(Run, bool)>,
    /// Bytes on the device that must be durable before the records that refer to them.
    fresh: Vec<(Place, u64)>,
}

impl Changes {
    pub(crate) fn key(&mut self, key: Key) -> Result<()> {
        if self.keys.last() == Some(&key) {
            return Ok(());
        }
        memory::push(&mut self.keys, key)
    }

    pub(crate) fn fresh(&mut self, place: Place, len: u64) -> Result<()> {
        if let Some((last, count)) = self.fresh.last_mut() {
            let follows = last.inode == place.inode
                && last.device + *count == place.device
                && last.offset + *count == place.offset;
            if follows {
                *count += len;
                return Ok(());
            }
        }
        memory::push(&mut self.fresh, (place, len))
    }
}

impl Journal {
    /// The log of a volume that is opened: all of its journal, of so many bytes, may be records that count.
    pub(crate) fn opened(size: u64) -> Self {
        Self { position: size, remains: size, ..Self::default() }
    }

    /// The last part of what older records left behind the present ones, of at most `len` bytes; none if nothing is left.
    pub(crate) fn remains(&self, len: u64) -> Option<Range<u64>> {
        (self.position < self.remains)
            .then(|| self.remains.saturating_sub(len).max(self.position)..self.remains)
    }

    /// That part was overwritten; `changed` if there was something. What says that it is gone must not be durable before.
    pub(crate) fn purged(&mut self, part: &Range<u64>, changed: bool) {
        self.remains = part.start;
        self.flush_first |= changed;
    }

    /// Makes room so that [`Self::absorb`] of these cannot fail.
    pub(crate) fn reserve(&mut self, changes: &Changes, runs: usize) -> Result<()> {
        memory::reserve(&mut self.changes.keys, changes.keys.len())?;
        memory::reserve(&mut self.changes.runs, runs)?;
        memory::reserve(&mut self.changes.fresh, changes.fresh.len())
    }

    /// Bytes of this file were overwritten in place.
    pub(crate) fn overwrote(&mut self, inode: Ino) {
        if self.overwritten.insert(inode.0, ()).is_err() {
            self.flush_first = true;
        }
    }

    /// A vector was made from the bytes of this file: what says so is not durable before they are.
    pub(crate) fn bound(&mut self, inode: Ino) {
        if self.overwritten.contains(inode.0) && !planted("bound_before_bytes") {
            self.flush_first = true;
        }
    }

    /// Takes over what a transaction changed.
    pub(crate) fn absorb(&mut self, changes: Changes, taken: &[Run], freed: &[Run]) {
        if self.overflow {
            return;
        }
        let runs = self.changes.runs.len() + taken.len() + freed.len();
        if self.changes.keys.len() + changes.keys.len() > KEYS_MAX || runs > KEYS_MAX {
            self.changes = Changes::default();
            self.overflow = true;
            return;
        }
        for key in changes.keys {
            memory::append(&mut self.changes.keys, key);
        }
        let runs = taken.iter().map(|run| (*run, true)).chain(freed.iter().map(|run| (*run, false)));
        for run in runs {
            memory::append(&mut self.changes.runs, run);
        }
        if self.changes.fresh.len() + changes.fresh.len() > PLACES_MAX {
            self.flush_first = true;
        }
        if !self.flush_first {
            for place in changes.fresh {
                memory::append(&mut self.changes.fresh, place);
            }
        }
    }

    /// True if nothing changed since the last record or commit.
    pub(crate) fn is_empty(&self) -> bool {
        !self.overflow && self.changes.keys.is_empty() && self.changes.runs.is_empty()
    }

    /// True if so much changed that only a commit will do.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflow
    }

    /// The changed keys, each once, in order.
    pub(crate) fn keys(&mut self) -> &[Key] {
        self.changes.keys.sort_unstable();
        self.changes.keys.dedup();
        &self.changes.keys
    }

    /// The last record was never written: only a commit makes durable what it told.
    pub(crate) fn lost(&mut self) {
        self.writing = false;
        self.overflow = true;
        self.sequence = self.sequence.saturating_sub(1);
    }

    /// Everything so far is part of a commit.
    pub(crate) fn forget(&mut self) {
        self.changes = Changes::default();
        self.overflow = false;
        self.flush_first = false;
        self.overwritten = Map::new();
    }

    /// A new generation is durable: the log begins anew on it.
    pub(crate) fn restart(&mut self) {
        self.position = 0;
        self.sequence = 0;
        self.told = Told::default();
        self.settled = Map::new();
    }

    /// A record of all changes, whose `puts` ([`put`] and [`removal`]) the caller made from [`Self::keys`].
    ///
    /// `None` if it does not fit into a record or into what is left of the journal.
    pub(crate) fn record(
        &mut self,
        layout: &Layout,
        mut header: LogHeader,
        puts: Vec<u8>,
    ) -> Result<Option<Record>> {
        let fresh: u64 = self.changes.fresh.iter().map(|(_, len)| len).sum();
        let carry = !self.flush_first && fresh <= CARRY_MAX;
        let mut body = puts;
        for (run, taken) in &self.changes.runs {
            let kind = if *taken { LogKind::Take } else { LogKind::Free };
            entry(&mut body, kind, 0, run.start.0, run.count, &[])?;
        }
        let carried = if carry { self.changes.fresh.len() * LOG_ENTRY + fresh as usize } else { 0 };
        let length = LOG_HEADER + body.len() + carried;
        let end = self.position + (length as u64).next_multiple_of(LOG_ALIGN);
        let block_size = u64::from(layout.block_size);
        if length > LOG_RECORD_MAX || end > layout.journal_blocks * block_size {
            return Ok(None);
        }
        let mut changes = core::mem::take(&mut self.changes);
        if !carry {
            changes.fresh.clear();
        }
        header.magic = U32::new(LOG_MAGIC);
        header.length = U32::new(length as u32);
        header.sequence = U64::new(self.sequence);
        let offset = layout.journal_start * block_size + self.position;
        self.position = end;
        self.remains = self.remains.max(end);
        self.sequence += 1;
        self.flush_first = false;
        self.overwritten = Map::new();
        self.writing = true;
        Ok(Some(Record { header, body, fresh: changes.fresh, flush_first: !carry, offset }))
    }
}

/// Appends the entry that says what the tree holds at `key`.
pub(crate) fn put(body: &mut Vec<u8>, key: Key, value: &[u8]) -> Result<()> {
    entry(body, LogKind::Put, key.kind, key.inode, key.offset, value)
}

/// Appends the entry that says that the tree holds nothing at `key`.
pub(crate) fn removal(body: &mut Vec<u8>, key: Key) -> Result<()> {
    entry(body, LogKind::Remove, key.kind, key.inode, key.offset, &[])
}

fn entry(
    body: &mut Vec<u8>,
    kind: LogKind,
    key_kind: u8,
    first: u64,
    second: u64,
    value: &[u8],
) -> Result<()> {
    let head = LogEntry {
        kind: kind as u8,
        key_kind,
        reserved: U16::ZERO,
        len: U32::new(value.len() as u32),
        first: U64::new(first),
        second: U64::new(second),
    };
    memory::extend(body, head.as_bytes())?;
    memory::extend(body, value)
}

/// A record on its way to the device; it owns all that it writes and needs no lock.
#[derive(Debug)]
pub struct Record {
    header: LogHeader,
    body: Vec<u8>,
    fresh: Vec<(Place, u64)>,
    flush_first: bool,
    offset: u64,
}

impl Record {
    /// Writes the record and flushes; before it flushes what it refers to, unless it carries that along.
    ///
    /// # Errors
    /// `NoMemory`, before anything was written; the device's.
    pub fn write(&self, host: &(impl BlockDevice + Data)) -> Result<()> {
        let bytes = self.assembled(host)?;
        self.put(host, &bytes).map_err(|error| match error {
            Error::NoMemory => Error::Device { operation: "write", offset: self.offset },
            error => error,
        })
    }

    fn put(&self, host: &impl BlockDevice, bytes: &[u8]) -> Result<()> {
        if self.flush_first && !planted("log_before_data") {
            host.flush()?;
        }
        host.write(self.offset, bytes)?;
        if !planted("no_flush_after_log") {
            host.flush()?;
        }
        Ok(())
    }

    // The record as it goes to the device.
    fn assembled(&self, host: &impl Data) -> Result<Vec<u8>> {
        let mut body = memory::copy(&self.body)?;
        for (place, len) in &self.fresh {
            let mut bytes = memory::zeroed(*len as usize)?;
            host.read_at(*place, &mut bytes)?;
            if !planted("log_without_bytes") {
                entry(&mut body, LogKind::Bytes, 0, place.device, 0, &bytes)?;
            }
        }
        let mut header = self.header;
        header.length = U32::new((LOG_HEADER + body.len()) as u32);
        header.entries = U32::new(Entries::new(&body).count() as u32);
        header.checksum = U32::new(sum(&header, &body));
        let mut bytes = memory::copy(header.as_bytes())?;
        memory::extend(&mut bytes, &body)?;
        let padding = bytes.len().next_multiple_of(LOG_ALIGN as usize) - bytes.len();
        memory::extend(&mut bytes, &memory::zeroed(padding)?)?;
        Ok(bytes)
    }

    /// Bytes that it takes in the journal, what it carries along included.
    pub fn bytes(&self) -> u64 {
        u64::from(self.header.length.get()).next_multiple_of(LOG_ALIGN)
    }
}

fn sum(header: &LogHeader, body: &[u8]) -> u32 {
    let bytes = header.as_bytes();
    crc32_parts(&[&bytes[..4], &[0; 4], &bytes[8..], body])
}

#[cfg(test)]
mod tests;
