//! Nearness among whole numbers and bits, asked on a `query` file and reckoned without floats: for a host that has none.
//!
//! INVARIANT: an answer is what the FUSE host gives, which reckons with floats: the same lines, the same scores to the bit. Where
//! that takes floats (collections of floats, a question in fractions) the refusal says so. What is kept while rows are looked
//! at is bounded by the question, not by the collection, and the volume is let go of between portions.
//!
//! ```text
//! question   what is asked, parsed
//! score      how near a row is: the bits of a float, by integers
//! decimal    such bits as the shortest decimal number
//! scan       the best rows whose files the caller finds
//! told       what is told of each
//! ```

mod decimal;
mod question;
mod scan;
mod score;
#[cfg(test)]
mod tests;
mod told;

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::query;
use super::render::json_string;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{FileKind, Metric, ROOT, collection_part};
use crate::json;
use crate::memory::Text;
use crate::numbers::{CollectionId, Ino};
use crate::operations::{Caller, Collection, Reach, ReadPlan, Resolver};
use crate::volume::Volume;
use question::{NearTo, Question};
use scan::Scan;
use score::Query;

/// A volume that is looked at for a moment at a time.
///
/// INVARIANT: what is planned at a look is read before a block of it can be given out again, so bytes and records belong
/// together.
pub trait Source {
    /// Its host.
    type Host: BlockDevice + Data;

    /// Looks at the volume, whose rows stay where they are meanwhile.
    fn look<R>(&self, look: impl FnOnce(&Volume<Self::Host>) -> Result<R>) -> Result<R>;

    /// Looks at the volume, and then reads what `plan` begins to read into the buffer, with the volume let go of.
    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Self::Host>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R>;

    /// True if nobody waits for an answer any more.
    fn abandoned(&self) -> bool {
        false
    }
}

/// Why a question is not answered.
#[derive(Debug)]
enum Refusal {
    /// What is wrong with it, for who asked.
    Said(Text),
    /// The volume could not be read, or there is no memory.
    Failed(Error),
}

impl Refusal {
    fn new(why: fmt::Arguments<'_>) -> Self {
        let mut text = Text::new();
        match text.write_fmt(why) {
            Ok(()) => Self::Said(text),
            Err(fmt::Error) => Self::Failed(Error::NoMemory),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<fmt::Error> for Refusal {
    fn from(_: fmt::Error) -> Self {
        Self::Failed(Error::NoMemory)
    }
}

/// How every question is answered.
const EXPLAINED: &str =
    "{\"explain\":{\"plan\":\"exact\",\"why\":\"this host uses no index\",\"recall\":1.0}}\n";

type Answered<T> = core::result::Result<T, Refusal>;

/// Answers any question to the `query` file at `inode`: of nearness, where whole numbers will do, and of rows. What cannot be
/// answered is answered with an object whose `error` says why.
///
/// # Errors
/// `NoMemory` where there is none for an answer.
pub fn answer(source: &impl Source, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Result<Vec<u8>> {
    if !asks(source, inode, question) {
        return query::answer(question, |rows, text| {
            source.look(|volume| volume.owners(inode, rows, caller, text))
        });
    }
    let mut text = match lines(source, inode, question, caller) {
        Ok(text) => return Ok(text.into_bytes()),
        Err(Refusal::Failed(Error::NoMemory)) => return Err(Error::NoMemory),
        Err(Refusal::Failed(error)) => return query::refusal(error),
        Err(Refusal::Said(why)) => why,
    };
    let why = core::mem::take(&mut text);
    let mut write = || {
        text.write_str("{\"error\":")?;
        json_string(&mut text, why.as_bytes())?;
        text.write_str("}\n")
    };
    write().map_err(|_| Error::NoMemory)?;
    Ok(text.into_bytes())
}

// True for an object that asks what is near, and for what is no object, which is taken for a vector's bytes.
fn asks(source: &impl Source, inode: Ino, question: &[u8]) -> bool {
    let brace = question.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !brace || query::asks_nearness(question) {
        return true;
    }
    // Rare bytes of a vector look like the beginning of an object.
    let collection = collection_part(inode).map(|(id, _)| source.look(|volume| volume.collection(id)));
    let len = collection.and_then(Result::ok).map_or(0, |collection| collection.vector_len());
    question.len() == len as usize && json::check_object(question).is_err()
}

fn lines(source: &impl Source, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Answered<Text> {
    let (id, _) = collection_part(inode).ok_or(Error::NotFound)?;
    let collection = source.look(|volume| volume.collection(id))?;
    let question = Question::parse(question, &collection)?;
    if collection.dimensions == 0 {
        return Ok(Text::new());
    }
    let (query, own) = query(source, id, &collection, &question, caller)?;
    let below = match &question.within {
        Some(path) => directory(source, path, caller)?,
        None => ROOT,
    };
    let mut reach = Reach::new(below, own);
    let mut text = Scan::new(source, id, &collection, &query, &question)?.answer(caller, &mut reach)?;
    if question.explain {
        text.write_str(EXPLAINED)?;
    }
    Ok(text)
}

// The query, and the file that it comes from, which is no answer.
fn query(
    source: &impl Source,
    id: CollectionId,
    collection: &Collection,
    question: &Question,
    caller: &Caller<'_>,
) -> Answered<(Query, Option<Ino>)> {
    let (query, own) = match &question.near_to {
        NearTo::Numbers(numbers) => (Query::of_numbers(collection, numbers, question.metric)?, None),
        NearTo::Bytes(bytes) => (Query::of_bytes(collection, bytes, question.metric)?, None),
        NearTo::File { path, n } => {
            let (file, bytes) = vector_of(source, id, (path, *n), caller)?;
            (Query::of_bytes(collection, &bytes, question.metric)?, Some(file))
        }
    };
    if question.metric == Metric::Cosine && query.is_zero() {
        return Err(Refusal::new(format_args!(
            "the query is zero and has no direction: no cosine is near to it"
        )));
    }
    Ok((query, own))
}

// A file, and its vector.
fn vector_of(
    source: &impl Source,
    id: CollectionId,
    (path, n): (&[u8], u32),
    caller: &Caller<'_>,
) -> Answered<(Ino, Vec<u8>)> {
    let found = source.look(|volume| {
        let file = volume.resolve(&mut Resolver::default(), plain(path), caller)?;
        if !volume.may_read(file, caller)? {
            return Err(Error::AccessDenied("no read permission on the file"));
        }
        let mut name = Text::new();
        name.raw(b"user.vector.")?;
        name.raw(&volume.collection_name(id)?)?;
        write!(name, ".{n}").map_err(|_| Error::NoMemory)?;
        Ok((file, volume.attribute(file, name.as_bytes())))
    });
    let path = Lossy(path);
    match found {
        Ok((file, Ok(bytes))) => Ok((file, bytes)),
        Ok((_, Err(Error::NoMemory))) | Err(Error::NoMemory) => Err(Error::NoMemory.into()),
        Ok((_, Err(Error::NoAttribute))) => {
            Err(Refusal::new(format_args!("like: {path}: has no vector {n} in this collection")))
        }
        Ok((_, Err(error))) | Err(error) => Err(Refusal::new(format_args!("like: {path}: {error}"))),
    }
}

fn directory(source: &impl Source, path: &[u8], caller: &Caller<'_>) -> Answered<Ino> {
    let name = plain(path);
    if name.is_empty() {
        return Ok(ROOT);
    }
    let found = source.look(|volume| {
        let found = volume.resolve(&mut Resolver::default(), name, caller)?;
        match volume.attributes(found)?.kind {
            FileKind::Directory => Ok(found),
            _ => Err(Error::NotDirectory),
        }
    });
    match found {
        Err(Error::NoMemory) => Err(Error::NoMemory.into()),
        found => {
            found.map_err(|error| Refusal::new(format_args!("within: {path}: {error}", path = Lossy(path))))
        }
    }
}

// A path without the slashes around it.
fn plain(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// Bytes as text, whatever they are.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.utf8_chunks().try_for_each(|chunk| {
            f.write_str(chunk.valid())?;
            f.write_str(if chunk.invalid().is_empty() { "" } else { "\u{fffd}" })
        })
    }
}
