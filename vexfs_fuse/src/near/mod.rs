//! Nearness asked on a `query` file: `{"vector": [...]}`, `{"like": "PATH"}`, or the bytes of a vector.
//!
//! INVARIANT: an answer is the nearest of what the opener finds by directories that he may list and pass, as many as he
//! asked for if there are so many: exactly, or by an index that was measured to find the share that he asked for. Every row
//! that is told was, when it was told, the vector that was scored. The image is read, never a mount; nothing is locked
//! while rows are scored.
//!
//! ```text
//! question   what is asked, parsed
//! search     one search, by an index or of all rows
//! indexes    index files in memory, which of them answers
//! index_file their bytes, off the image
//! tending    drops them where memory is short, and has questions compared
//! recall     some of the questions that they answered, and what they found
//! comparing  such a question beside the exact answer, in idle time
//! held       one of them, and what changed since it was built
//! by_index   the nearest rows by an index
//! picked     the scores of a few rows
//! scan       every live row with its score, read some hundred KiB at a time
//! condition  which rows may be told
//! told       the best of them whose files the caller finds
//! source     the volume and its disk, with the host's locks
//! pool       threads that answer, so that those that serve the mount need not wait
//! ```

mod by_index;
mod comparing;
mod condition;
mod held;
mod index_file;
mod indexes;
mod picked;
mod pool;
mod question;
mod recall;
mod refusal;
mod scan;
mod search;
mod source;
mod tending;
mod told;

pub use indexes::Indexes;
pub use pool::Pool;
pub use source::{Indexed, Source};
pub use tending::tend;

use serde_json::json;
use vexfs_core::control::asks_nearness;
use vexfs_core::format::{FileKind, ROOT, collection_part};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Caller, Collection, Resolver};
use vexfs_core::{Error, Result};
use vexfs_search::choice::{Way, Wish};
use vexfs_search::{Metric, Query};

use condition::Condition;
use question::{NearTo, Question};
use refusal::Refusal;
use search::Search;
use told::Wanted;

/// True if a question to the `query` file at `inode` is for [`answer`]; the core answers all others.
pub fn asks(source: &impl Source, inode: Ino, question: &[u8]) -> bool {
    let brace = question.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
    if !brace || asks_nearness(question) {
        return true;
    }
    // Rare bytes of a vector look like the beginning of an object.
    let collection = collection_part(inode).map(|(id, _)| source.look(|volume| volume.collection(id)));
    let len = collection.and_then(Result::ok).map_or(0, |collection| collection.vector_len());
    question.len() == len as usize && question::object(question).is_err()
}

/// Answers a question of nearness to the `query` file at `inode`: a JSON object a line, nearest first, of equally near ones the
/// lower row first. What cannot be answered is answered with an object whose `error` says why.
///
/// # Errors
/// `NoMemory` where there is none for an answer.
pub fn answer(source: &impl Indexed, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Result<Vec<u8>> {
    match lines(source, inode, question, caller) {
        Ok(lines) => Ok(lines),
        Err(Refusal::Failed(Error::NoMemory)) => Err(Error::NoMemory),
        Err(refusal) => Ok(format!("{}\n", json!({"error": refusal.to_string()})).into_bytes()),
    }
}

fn lines(
    source: &impl Indexed,
    inode: Ino,
    question: &[u8],
    caller: &Caller<'_>,
) -> std::result::Result<Vec<u8>, Refusal> {
    let (id, _) = collection_part(inode).ok_or(Error::NotFound)?;
    let collection = source.look(|volume| volume.collection(id))?;
    let question = Question::parse(question, &collection)?;
    if collection.dimensions == 0 {
        return Ok(Vec::new());
    }
    let (query, own) = query(source, id, &collection, &question, caller)?;
    let below = match &question.within {
        Some(path) => directory(source, path, caller)?,
        None => ROOT,
    };
    let condition =
        question.condition.as_deref().map(|text| Condition::parse(source, id, text)).transpose()?;
    let condition = condition.as_ref();
    let wanted = Wanted { k: question.k, least: question.min_score, files: false, condition };
    let search = Search { source, collection: &collection, query: &query, caller, below, own, wanted };
    let answer = search.answer(&question.wish())?;
    let explained = question.explain.then(|| answer.explained());
    let lines = answer.found.iter().map(|found| found.as_json(question.metric)).chain(explained);
    Ok(lines.flat_map(|line| format!("{line}\n").into_bytes()).collect())
}

/// A file that is near to another.
#[derive(Clone, Debug)]
pub struct Nearest {
    /// From the root of the volume on; empty for the root.
    pub path: Vec<u8>,
    /// Higher for nearer, by the collection's metric.
    pub score: f32,
    /// The row that has it, and the vector in it.
    pub row: u64,
    /// Never reused.
    pub vector_id: u64,
}

/// The files nearest to the vector in a row of a collection, each once, at most `k`, without the file that has it.
///
/// # Errors
/// `NotFound` if the row holds no vector any more.
pub fn nearest_files(
    source: &impl Indexed,
    (id, row): (CollectionId, u64),
    own: Ino,
    caller: &Caller<'_>,
    k: usize,
) -> Result<Vec<Nearest>> {
    let (collection, vector) = source.look(|volume| Ok((volume.collection(id)?, volume.vector(id, row)?)))?;
    let (element, metric) = (question::element(&collection), question::default_metric(&collection));
    let values = vexfs_search::decode(element, &vector);
    let query = Query::of(element, collection.dimensions as usize, &values, metric)
        .map_err(|_| Error::Invalid("the vector is none that can be searched with"))?;
    if metric == Metric::Cosine && query.is_zero() {
        return Ok(Vec::new());
    }
    let wanted = Wanted { k, least: f32::NEG_INFINITY, files: true, condition: None };
    let (collection, query, own) = (&collection, &query, Some(own));
    let search = Search { source, collection, query, caller, below: ROOT, own, wanted };
    let wish = Wish { metric, k, min_recall: question::MIN_RECALL, way: Way::Fastest };
    let found = search.answer(&wish)?.found;
    let nearest = |found: told::Found| Nearest {
        path: found.owner.path,
        score: found.hit.score,
        row: found.hit.row,
        vector_id: found.vector_id,
    };
    Ok(found.into_iter().map(nearest).collect())
}

// The query, and the file that it comes from, which is no answer.
fn query(
    source: &impl Source,
    id: CollectionId,
    collection: &Collection,
    question: &Question,
    caller: &Caller<'_>,
) -> std::result::Result<(Query, Option<Ino>), Refusal> {
    let element = question::element(collection);
    let dimensions = collection.dimensions as usize;
    let (values, own) = match &question.near_to {
        NearTo::Values(values) => (values.clone(), None),
        NearTo::Bytes(bytes) => (vexfs_search::decode(element, bytes), None),
        NearTo::File { path, n } => {
            let (file, bytes) = vector_of(source, id, (path, *n), caller)?;
            (vexfs_search::decode(element, &bytes), Some(file))
        }
    };
    let query = Query::of(element, dimensions, &values, question.metric)?;
    if question.metric == Metric::Cosine && query.is_zero() {
        return Err(Refusal::new("the query is zero and has no direction: no cosine is near to it"));
    }
    Ok((query, own))
}

// A file, and its vector.
fn vector_of(
    source: &impl Source,
    id: CollectionId,
    (path, n): (&str, u32),
    caller: &Caller<'_>,
) -> std::result::Result<(Ino, Vec<u8>), Refusal> {
    let found = source.look(|volume| {
        let plain = path.trim_matches('/').as_bytes();
        let file = volume.resolve(&mut Resolver::default(), plain, caller)?;
        if !volume.may_read(file, caller)? {
            return Err(Error::AccessDenied("no read permission on the file"));
        }
        let collection = volume.collection_name(id)?;
        let name = [b"user.vector.", &collection[..], format!(".{n}").as_bytes()].concat();
        Ok((file, volume.attribute(file, &name)))
    });
    let said = |why: String| Refusal::Said(format!("like: {path}: {why}"));
    match found {
        Ok((file, Ok(bytes))) => Ok((file, bytes)),
        Ok((_, Err(Error::NoAttribute))) => Err(said(format!("has no vector {n} in this collection"))),
        Ok((_, Err(error))) | Err(error) => Err(said(error.to_string())),
    }
}

fn directory(source: &impl Source, path: &str, caller: &Caller<'_>) -> std::result::Result<Ino, Refusal> {
    let plain = path.trim_matches('/').as_bytes();
    if plain.is_empty() {
        return Ok(ROOT);
    }
    let found = source.look(|volume| {
        let found = volume.resolve(&mut Resolver::default(), plain, caller)?;
        match volume.attributes(found)?.kind {
            FileKind::Directory => Ok(found),
            _ => Err(Error::NotDirectory),
        }
    });
    found.map_err(|error| Refusal::Said(format!("within: {path}: {error}")))
}
