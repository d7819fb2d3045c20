//! `query`: questions about a collection that are answered on the descriptor they were written to, as the one who opened it.
//!
//! INVARIANT: an answer names no file but by directories that the caller may list and pass, and tells of no other.

use alloc::vec::Vec;
use core::fmt::Write;

use super::{QUERY, listing};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::collection_part;
use crate::json::{self, Value};
use crate::memory::{self, Text};
use crate::numbers::Ino;
use crate::operations::Caller;
use crate::volume::Volume;

/// Bytes of a question at most.
pub const QUESTION_MAX: usize = 4 << 20;

/// Rows that are told of between two takings of a host's lock.
const PORTION: usize = 256;

/// Answers a question: `{"rows": [ROW, ...]}` asks for the files of these rows. `tell` is called with some of them at a time,
/// so that a host can let go of its volume in between, and calls [`Volume::owners`]. What cannot be answered is answered
/// with an object whose `error` says why.
///
/// # Errors
/// `NoMemory` where there is none for an answer.
pub fn answer(question: &[u8], tell: impl FnMut(&[u64], &mut Text) -> Result<()>) -> Result<Vec<u8>> {
    match told(question, tell) {
        Err(error) if error != Error::NoMemory => refusal(error),
        answer => answer,
    }
}

/// True if a question is a JSON object that asks what is near: to a `vector`, or to a file (`like`).
///
/// [`answer`] refuses it: [`near`](super::near) answers what whole numbers will do for, the FUSE host the others, in floats.
pub fn asks_nearness(question: &[u8]) -> bool {
    json::check_object(question).is_ok()
        && [&b"vector"[..], b"like"].into_iter().any(|name| json::member(question, name) != Ok(None))
}

fn told(question: &[u8], mut tell: impl FnMut(&[u64], &mut Text) -> Result<()>) -> Result<Vec<u8>> {
    json::check_object(question)?;
    if asks_nearness(question) {
        return Err(Error::Unsupported(
            "this host does not answer what is near: mount with FUSE (mount -t vexfs), or use `vexfs search`",
        ));
    }
    let Some(Value::Array(listed)) = json::member(question, b"rows")? else {
        return Err(Error::Invalid(
            "a question is {\"rows\": [ROW, ...]}, {\"vector\": [NUMBER, ...]} or {\"like\": \"PATH\"}",
        ));
    };
    let mut rows = Vec::new();
    json::elements(listed, &mut |row| {
        let row = match row {
            Value::Number(digits) => json::integer(digits).and_then(|row| u64::try_from(row).ok()),
            _ => None,
        };
        memory::push(&mut rows, row.ok_or(Error::Invalid("a row is a number from 0 on"))?)
    })?;
    let mut text = Text::new();
    rows.chunks(PORTION).try_for_each(|rows| tell(rows, &mut text))?;
    Ok(text.into_bytes())
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Tells of the rows of a [`Pseudo::Query`](super::Pseudo::Query) file's collection: a JSON object a line for each that holds
    /// a vector and whose file `caller` can find, in their order: `path` (from the root of the volume), `row`, `n` and `inode`.
    pub fn owners(&self, inode: Ino, rows: &[u64], caller: &Caller<'_>, text: &mut Text) -> Result<()> {
        let Some((id, QUERY)) = collection_part(inode) else {
            return Err(Error::NotPermitted("not a file that takes questions"));
        };
        for row in rows {
            let Some(record) = self.row(id, *row)? else { continue };
            let file = Ino(record.header.file_inode.get());
            // A damaged directory or a row whose file is lost keeps no other row from being told; fsck names it.
            let path = match self.reachable_path(file, caller) {
                Err(Error::NotFound | Error::Corrupt(_)) => None,
                path => path?,
            };
            let Some(path) = path else { continue };
            listing::path_member(text, Some(&path))?;
            writeln!(text, ",\"row\":{row},\"n\":{},\"inode\":{file}}}", record.n)
                .map_err(|_| Error::NoMemory)?;
        }
        Ok(())
    }
}

// The answer to what cannot be answered.
pub(super) fn refusal(error: Error) -> Result<Vec<u8>> {
    let mut reason = Text::new();
    let mut text = Text::new();
    let write = |reason: &mut Text, text: &mut Text| {
        write!(reason, "{error}")?;
        text.write_str("{\"error\":")?;
        super::render::json_string(text, reason.as_bytes())?;
        text.write_str("}\n")
    };
    write(&mut reason, &mut text).map_err(|_| Error::NoMemory)?;
    Ok(text.into_bytes())
}
