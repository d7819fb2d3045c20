//! `append`: vectors as a stream of records, for a collection that is filled in bulk.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | `VEXA` |
//! | 4 | 4 | which vector of the file |
//! | 8 | 8 | inode, or 0: by path |
//! | 16 | 4 | bytes of the path |
//! | 20 | 4 | bytes of the vector |
//! | 24 | 4 | 0 (bytes of metadata, which no version takes yet) |
//! | 28 | 4 | flags: 1 keeps a vector that the file has already |
//! | 32 | | the path, from the root of the volume on; the raw elements of the vector |
//!
//! All numbers are little-endian; records follow one another without padding. What a host takes as one batch is one
//! transaction. A file is reached and written as its caller may; by inode, which skips the directories above, only
//! root names one.

use alloc::vec::Vec;

use super::{APPEND, Pseudo, pseudo};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::collection_part;
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::operations::{Caller, NewVector, Refused, Resolver};
use crate::volume::Volume;

/// Bytes of a record before its path.
pub const RECORD_HEADER: usize = 32;
const MAGIC: &[u8; 4] = b"VEXA";
const PATH_MAX: usize = 4096;
const VALUE_MAX: usize = 65536;
/// Keep a vector that the file has already.
const KEEP: u32 = 1;

struct Record<'a> {
    inode: u64,
    path: &'a [u8],
    n: u32,
    value: &'a [u8],
    keep: bool,
    len: usize,
}

/// Bytes of the whole records at the head of `stream`, at most `limit`, and how many they are.
///
/// # Errors
/// `Invalid` for what is no record, as soon as that can be seen, with the number of the records before it.
pub fn whole_records(stream: &[u8], limit: u64) -> core::result::Result<(usize, u64), Refused> {
    let (mut len, mut count) = (0, 0);
    while count < limit {
        let refused = |error| Refused { index: Some(count as usize), error };
        match parse(stream.get(len..).unwrap_or(&[])).map_err(refused)? {
            Some(record) => len += record.len,
            None => break,
        }
        count += 1;
    }
    Ok((len, count))
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Parses the records in `stream`, and finds their files, for the collection whose `append` `inode` is:
    /// [`Volume::stage_vectors`] and [`Volume::set_staged`] take them, all or none.
    ///
    /// # Errors
    /// Those of paths; `Invalid` where the stream ends within a record.
    pub fn appended<'s>(
        &self,
        inode: Ino,
        stream: &'s [u8],
        caller: &Caller<'_>,
    ) -> core::result::Result<(CollectionId, Vec<NewVector<'s>>), Refused> {
        let id = match (pseudo(inode), collection_part(inode)) {
            (Some(Pseudo::Append), Some((id, APPEND))) => id,
            _ => return Err(Error::NotPermitted("not a file that takes vectors").into()),
        };
        let mut vectors = Vec::new();
        let mut resolver = Resolver::default();
        let mut at = 0;
        while at < stream.len() {
            let index = vectors.len();
            let refused = |error| Refused { index: Some(index), error };
            let record = parse(&stream[at..]).map_err(refused)?;
            let record = record.ok_or(Error::Invalid("the stream ends within a record")).map_err(refused)?;
            let file = self.file_of(&record, &mut resolver, caller).map_err(refused)?;
            let vector = NewVector { inode: file, n: record.n, value: record.value, keep: record.keep };
            memory::push(&mut vectors, vector)?;
            at += record.len;
        }
        Ok((id, vectors))
    }

    fn file_of(&self, record: &Record<'_>, resolver: &mut Resolver, caller: &Caller<'_>) -> Result<Ino> {
        match (record.inode, record.path) {
            (0, []) => Err(Error::Invalid("the record has neither a path nor an inode")),
            (0, path) => self.resolve(resolver, path, caller),
            (inode, []) if caller.uid == 0 => Ok(Ino(inode)),
            (_, []) => Err(Error::NotPermitted("only root names files by inode: give a path")),
            _ => Err(Error::Invalid("the record has both a path and an inode")),
        }
    }
}

// The record at the head of `bytes`; `None` if it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<Record<'_>>> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(Error::Invalid("not a record: it does not begin with VEXA"));
    }
    let Some((head, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else { return Ok(None) };
    let int = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (path_len, value_len, flags) = (int(16) as usize, int(20) as usize, int(28));
    if int(24) != 0 || flags & !KEEP != 0 {
        return Err(Error::Unsupported("metadata or flags that are not known here"));
    }
    if path_len > PATH_MAX || value_len > VALUE_MAX {
        return Err(Error::Invalid("a path of more than 4096 bytes or a vector of more than 65536"));
    }
    if rest.len() < path_len + value_len {
        return Ok(None);
    }
    let (path, rest) = rest.split_at(path_len);
    Ok(Some(Record {
        inode: u64::from(int(8)) | u64::from(int(12)) << 32,
        path,
        n: int(4),
        value: &rest[..value_len],
        keep: flags & KEEP != 0,
        len: RECORD_HEADER + path_len + value_len,
    }))
}
