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
use crate::memory::Text;
use crate::numbers::Ino;
use crate::operations::Caller;
use crate::volume::Volume;

/// Bytes of a question at most.
pub const QUESTION_MAX: usize = 4 << 20;

impl<H: BlockDevice + Data> Volume<H> {
    /// Answers what was written to a [`Pseudo::Query`](super::Pseudo::Query) file: `{"rows": [ROW, ...]}` asks for the files of
    /// these rows. The answer has a JSON object a line for each that holds a vector and whose file `caller` can find, in the
    /// order asked: `path` (from the root of the volume), `row`, `n` and `inode`. What cannot be answered is answered with an
    /// object whose `error` says why.
    ///
    /// # Errors
    /// `NoMemory` where there is none for an answer.
    pub fn query(&self, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Result<Vec<u8>> {
        match self.answer(inode, question, caller) {
            Err(error) if error != Error::NoMemory => refusal(error),
            answer => answer,
        }
    }

    fn answer(&self, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Result<Vec<u8>> {
        let Some((id, QUERY)) = collection_part(inode) else {
            return Err(Error::NotPermitted("not a file that takes questions"));
        };
        json::check_object(question)?;
        let rows = match json::member(question, b"rows")? {
            Some(Value::Array(rows)) => rows,
            _ => return Err(Error::Invalid("a question is {\"rows\": [ROW, ...]}")),
        };
        let mut text = Text::new();
        json::elements(rows, &mut |row| {
            let row = match row {
                Value::Number(digits) => json::integer(digits).and_then(|row| u64::try_from(row).ok()),
                _ => None,
            };
            let row = row.ok_or(Error::Invalid("a row is a number from 0 on"))?;
            let Some(record) = self.row(id, row)? else { return Ok(()) };
            let file = Ino(record.header.file_inode.get());
            // A damaged directory or a row whose file is lost keeps no other row from being told; fsck names it.
            let path = match self.reachable_path(file, caller) {
                Err(Error::NotFound | Error::Corrupt(_)) => None,
                path => path?,
            };
            let Some(path) = path else { return Ok(()) };
            listing::path_member(&mut text, Some(&path))?;
            writeln!(text, ",\"row\":{row},\"n\":{},\"inode\":{file}}}", record.n)
                .map_err(|_| Error::NoMemory)
        })?;
        Ok(text.into_bytes())
    }
}

// The answer to what cannot be answered.
fn refusal(error: Error) -> Result<Vec<u8>> {
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
