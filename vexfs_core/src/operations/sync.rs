//! Making changes durable without a commit: one record of the journal for all since the last.
//!
//! The record is gathered here, under the host's lock; it is written without it, and ended here again.

use alloc::vec::Vec;

use zerocopy::little_endian::{U32, U64};

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{LOG_RECORD_MAX, LogHeader};
use crate::journal::{self, Record, Told};
use crate::numbers::Time;
use crate::tree;
use crate::volume::Volume;

/// What a host has to do so that everything before is durable.
#[derive(Debug)]
pub enum Sync {
    /// Nothing: no metadata changed since the last record or commit.
    Nothing,
    /// [`Record::write`], then [`Volume::sync_end`], or [`Volume::sync_failed`].
    Record(Record),
    /// A commit: too much changed for a record, or the journal is full.
    Commit,
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Gathers what changed since the last record or commit.
    ///
    /// # Errors
    /// `Busy` while a commit or another record is on its way; `ReadOnly` after a write failed.
    pub fn sync_begin(&mut self, now: Time) -> Result<Sync> {
        if self.sealing || self.journal.writing {
            return Err(if self.read_only { Error::ReadOnly } else { Error::Busy });
        }
        if self.journal.is_empty() {
            return Ok(Sync::Nothing);
        }
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        if !self.has_journal() || self.journal.overflowed() {
            return Ok(Sync::Commit);
        }
        let mut told = self.journal.told;
        let Some(puts) = self.gather(&mut told)? else { return Ok(Sync::Commit) };
        // A replay finds the blocks free that dirty nodes have now, and must find room for its own.
        if self.space.ready() + (self.dirty.len() as u64) < self.replay_worst(told) {
            return Ok(Sync::Commit);
        }
        let counters = self.counters;
        let header = LogHeader {
            magic: U32::ZERO,
            checksum: U32::ZERO,
            length: U32::ZERO,
            entries: U32::ZERO,
            uuid: self.superblock.uuid,
            base: self.superblock.generation,
            sequence: U64::ZERO,
            next_inode: U64::new(counters.next_inode),
            next_vector: U64::new(counters.next_vector),
            inode_count: U64::new(counters.inode_count),
            next_collection: U32::new(counters.next_collection),
            written: now.into(),
            reserved: [0; 8],
        };
        match self.journal.record(&self.layout, header, puts)? {
            Some(record) => {
                self.journal.told = told;
                Ok(Sync::Record(record))
            }
            None => Ok(Sync::Commit),
        }
    }

    // What the tree holds now at every key that changed, counted as well; `None` if that is too much for a record.
    fn gather(&mut self, told: &mut Told) -> Result<Option<Vec<u8>>> {
        let mut journal = core::mem::take(&mut self.journal);
        let mut puts = Vec::new();
        let mut result = Ok(());
        for key in journal.keys() {
            let found = tree::find(self, *key, |value| journal::put(&mut puts, *key, value));
            result = match found {
                Ok(None) => {
                    told.removes += 1;
                    journal::removal(&mut puts, *key)
                }
                other => {
                    told.puts += 1;
                    other.map(|_| ())
                }
            };
            if result.is_err() || puts.len() > LOG_RECORD_MAX {
                break;
            }
        }
        self.journal = journal;
        result.map(|()| (puts.len() <= LOG_RECORD_MAX).then_some(puts))
    }

    /// After [`Record::write`] succeeded.
    pub fn sync_end(&mut self) {
        self.journal.writing = false;
    }

    /// After [`Record::write`] failed: what is on the device is not known, so the volume turns read-only; unless there was no memory
    /// for it, for then nothing was written, and a commit is next.
    pub fn sync_failed(&mut self, error: Error) {
        match error {
            Error::NoMemory => self.journal.lost(),
            _ => self.read_only = true,
        }
    }

    /// Makes everything durable, in one call; for hosts that do nothing at the same time.
    pub fn sync(&mut self, now: Time) -> Result<()> {
        match self.sync_begin(now)? {
            Sync::Nothing => Ok(()),
            Sync::Commit => self.commit(now),
            Sync::Record(record) => match record.write(&self.host) {
                Ok(()) => {
                    self.sync_end();
                    Ok(())
                }
                Err(error) => {
                    self.sync_failed(error);
                    Err(error)
                }
            },
        }
    }

    /// True if the volume's durable superblock says that its journal is to be replayed, and all that a record can need.
    fn has_journal(&self) -> bool {
        self.superblock.incompatible.get() & self.needs.bits() == self.needs.bits()
            && self.superblock.read_only_compatible.get() & self.needs_to_write.bits()
                == self.needs_to_write.bits()
    }
}
