//! The messages of an Arrow file or stream, and the buffers in their bodies, which lie in the file or are compressed.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

use super::flat::{Table, u32_at};

pub(super) const MAGIC: &[u8] = b"ARROW1";
/// Kinds of messages.
pub(super) const SCHEMA: u8 = 1;
pub(super) const BATCH: u8 = 3;

/// Where messages begin: as the footer says, or one behind the other.
pub(super) enum Messages {
    Listed(std::vec::IntoIter<usize>),
    Stream(usize),
}

impl Messages {
    /// Those of a file's bytes, and the table of the schema.
    pub(super) fn new(bytes: &[u8]) -> Result<(Self, Table<'_>), String> {
        if !bytes.starts_with(MAGIC) {
            let mut stream = Self::Stream(0);
            let first = stream.next(bytes)?.filter(|message| message.kind == SCHEMA);
            let schema = first.and_then(|message| message.header).ok_or("it has no schema")?;
            return Ok((stream, schema));
        }
        let footer = footer(bytes).ok_or("it is cut off: it has no footer")?;
        let schema = footer.table(1).ok_or("it has no schema")?;
        let starts = footer.structs::<3>(3).map(|[offset, ..]| usize::try_from(offset));
        let starts = starts.collect::<Result<Vec<_>, _>>().map_err(|_| "its footer is damaged")?;
        Ok((Self::Listed(starts.into_iter()), schema))
    }

    /// The next message.
    pub(super) fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Message<'a>>, String> {
        let at = match self {
            Self::Listed(starts) => match starts.next() {
                Some(at) => at,
                None => return Ok(None),
            },
            Self::Stream(at) if *at == bytes.len() => return Ok(None),
            Self::Stream(at) => *at,
        };
        let message = Message::at(bytes, at).ok_or("it is cut off, or damaged: a message has no end")?;
        if let (Self::Stream(at), Some(message)) = (self, &message) {
            *at = message.body.end;
        }
        Ok(message)
    }
}

// The footer's table.
fn footer(bytes: &[u8]) -> Option<Table<'_>> {
    let end = bytes.strip_suffix(MAGIC)?.len().checked_sub(4)?;
    let start = end.checked_sub(u32_at(bytes, end)? as usize)?;
    Table::root(bytes.get(start..end)?)
}

/// A message.
pub(super) struct Message<'a> {
    /// What it is.
    pub(super) kind: u8,
    /// Its description.
    pub(super) header: Option<Table<'a>>,
    /// Where its buffers are.
    pub(super) body: Range<usize>,
}

impl<'a> Message<'a> {
    // The message that begins at a place, `Some(None)` at the end of a stream.
    fn at(bytes: &'a [u8], at: usize) -> Option<Option<Self>> {
        // Before version 0.15 there was no mark before the length.
        let start = if u32_at(bytes, at)? == u32::MAX { at.checked_add(4)? } else { at };
        let len = u32_at(bytes, start)? as usize;
        if len == 0 {
            return Some(None);
        }
        let start = start + 4;
        let end = start.checked_add(len)?;
        let table = Table::root(bytes.get(start..end)?)?;
        let body = end..end.checked_add(usize::try_from(table.long(3)).ok()?)?;
        bytes.get(body.clone())?;
        Some(Some(Self { kind: table.byte(1), header: table.table(2), body }))
    }
}

/// How a batch's buffers are compressed.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    None,
    Lz4,
    Zstd,
}

impl Compression {
    /// That of a table `RecordBatch`.
    pub(super) fn of(batch: Table<'_>) -> Result<Self, String> {
        match batch.table(3).map(|table| table.byte(0)) {
            None => Ok(Self::None),
            Some(0) => Ok(Self::Lz4),
            Some(1) => Ok(Self::Zstd),
            Some(_) => Err("it is compressed in a way that is not known here".into()),
        }
    }

    /// A buffer of a body.
    pub(super) fn buffer(self, body: &[u8], place: [usize; 2]) -> Result<Cow<'_, [u8]>, String> {
        let [start, len] = place;
        let bytes = start.checked_add(len).and_then(|end| body.get(start..end));
        let bytes = bytes.ok_or("a buffer lies outside of its batch")?;
        if bytes.is_empty() || matches!(self, Self::None) {
            return Ok(Cow::Borrowed(bytes));
        }
        let (len, packed) = bytes.split_first_chunk().ok_or("a compressed buffer is cut off")?;
        let len = i64::from_le_bytes(*len);
        if len == -1 {
            return Ok(Cow::Borrowed(packed));
        }
        let len = usize::try_from(len).map_err(|_| "a buffer of negative length")?;
        let unpacked = match self {
            Self::Zstd => {
                let decoder = zstd::stream::read::Decoder::new(packed).map_err(|error| error.to_string())?;
                exactly(decoder, len)
            }
            _ => exactly(lz4_flex::frame::FrameDecoder::new(packed), len),
        };
        unpacked.map(Cow::Owned)
    }
}

/// What a decoder gives, which has to be `len` bytes.
pub(super) fn exactly(decoder: impl Read, len: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = decoder.take(len as u64).read_to_end(&mut bytes);
    read.map_err(|error| format!("what is compressed cannot be read: {error}"))?;
    if bytes.len() == len { Ok(bytes) } else { Err("what is compressed is cut off".into()) }
}
