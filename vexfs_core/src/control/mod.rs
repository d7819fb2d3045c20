//! `/.vexfs`, the control directory: its inode numbers, attributes, entries and contents, for both hosts.
//!
//! The bytes of a pseudo-file depend on the volume alone, never on who asks: a view per caller would leak through
//! the page cache. `query` and `append` alone answer who opened them, on that descriptor and never cached. Nothing here is stored; the collections' directories and records are.

pub mod append;
pub mod arrow;
mod column;
mod exchange;
mod generation;
mod listing;
pub mod near;
mod query;
mod render;
mod request;

pub(crate) use column::read_column;
pub use exchange::Exchange;
pub(crate) use generation::LEN as GENERATION_LEN;
pub use generation::{Told, is_generation};
pub use query::{QUESTION_MAX, answer, asks_nearness};
pub use render::json_string;
pub(crate) use request::codec_named;

use alloc::vec::Vec;

use crate::codec;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLLECTION_INODES, COLLECTION_PARTS, COLLECTIONS, CONTROL, FileKind, InodeRecord, MATRIX_DATA, ROOT,
    collection_directory, collection_part, matrix_number, numbered_matrix,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino};
use crate::operations::{
    Attributes, Changes, Column, Entry, LoadedCollection, attributes_of, column, columns, load_collection,
    load_inode, shown,
};
use crate::volume::{Event, Nodes, Volume};

/// Name of the control directory in the root.
pub const NAME: &[u8] = b".vexfs";
/// Name of the directory in a collection's where programs keep what they make of it.
pub const INDEX: &[u8] = b"index";
/// `README`.
pub const README: Ino = Ino(4);
/// `status.json`.
pub const STATUS: Ino = Ino(5);
/// `metrics`.
pub const METRICS: Ino = Ino(6);
/// `log`.
pub const LOG: Ino = Ino(7);
/// `stale`.
pub const STALE: Ino = Ino(8);
/// `pending`.
pub const PENDING: Ino = Ino(9);
/// `near`, below which a host with floats shows what is near to each file; it is made of the root.
pub const NEAR: Ino = Ino(10);
/// Part of a collection's inodes: `vectors.npy`.
pub const MATRIX: u64 = 1;
/// `headers.npy`.
pub const HEADERS: u64 = 2;
/// `valid.npy`.
pub const VALID: u64 = 3;
/// `schema.json`.
pub const SCHEMA: u64 = 4;
/// `scale.npy`, of collections whose codec has one.
pub const SCALE: u64 = 5;
/// `vectors.arrow`, whose inode is none of these: [`arrow::collection_of`].
const ARROW: u64 = COLLECTION_PARTS;
/// `paths.jsonl`.
pub const PATHS: u64 = 7;
/// `query`, which answers questions.
pub const QUERY: u64 = 8;
/// `append`, which takes vectors in bulk.
pub const APPEND: u64 = 9;
/// `metadata.jsonl`.
pub const METADATA: u64 = 12;
/// `recall`, what a host measured of its indexes.
pub const RECALL: u64 = 13;
/// `codebook.npy`, of collections that are stored by product quantisation.
pub const CODEBOOK: u64 = 14;
/// `generation.npy`: the number that every change raises which a search could see, and what the last ones were of.
pub const GENERATION: u64 = 15;
/// Part of the first of the columns that are made from metadata.
pub const COLUMNS: u64 = 48;
/// `control`, which takes requests.
pub const REQUESTS: u64 = 6;

const FILES: [(&[u8], Ino, u32); 6] = [
    (b"README", README, 0o444),
    (b"status.json", STATUS, 0o444),
    (b"metrics", METRICS, 0o444),
    (b"log", LOG, 0o600),
    (b"stale", STALE, 0o400),
    (b"pending", PENDING, 0o400),
];
const PARTS: [(&[u8], u64); 14] = [
    (b"schema.json", SCHEMA),
    (b"vectors.npy", MATRIX),
    (b"headers.npy", HEADERS),
    (b"valid.npy", VALID),
    (b"scale.npy", SCALE),
    (b"generation.npy", GENERATION),
    (b"codebook.npy", CODEBOOK),
    (b"control", REQUESTS),
    (b"query", QUERY),
    (b"paths.jsonl", PATHS),
    (b"metadata.jsonl", METADATA),
    (b"append", APPEND),
    (b"vectors.arrow", ARROW),
    (b"recall", RECALL),
];
const NEAR_NAME: &[u8] = b"near";
/// Readdir cookies of fixed entries begin here.
const FIRST_COOKIE: u64 = 3;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;

/// What a pseudo-file is to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pseudo {
    /// A directory.
    Directory,
    /// Computed when it is opened, of size 0, never cached: [`Volume::render`].
    Computed,
    /// As a computed one, and what is written to it is a request: [`Volume::request`].
    Request,
    /// What is written to an open file is a question, what is read from it then the answer: [`answer`].
    Query,
    /// Takes a stream of records: [`Volume::appended`].
    Append,
    /// A column that can be mapped: [`Volume::read_begin`]; the host caches it and heeds [`Volume::events`].
    Column,
}

/// True if `inode` belongs to the control directory.
pub fn is_control(inode: Ino) -> bool {
    (CONTROL.0..32).contains(&inode.0) || inode.0 >= COLLECTION_INODES
}

/// What kind of pseudo-file `inode` is; `None` for an ordinary inode.
pub fn pseudo(inode: Ino) -> Option<Pseudo> {
    match inode {
        CONTROL | COLLECTIONS | NEAR => Some(Pseudo::Directory),
        README | STATUS | METRICS | LOG | STALE | PENDING => Some(Pseudo::Computed),
        _ if arrow::collection_of(inode).is_some() => Some(Pseudo::Column),
        _ => match collection_part(inode)?.1 {
            0 => Some(Pseudo::Directory),
            SCHEMA | PATHS | METADATA | RECALL => Some(Pseudo::Computed),
            REQUESTS => Some(Pseudo::Request),
            QUERY => Some(Pseudo::Query),
            APPEND => Some(Pseudo::Append),
            MATRIX | HEADERS | VALID | SCALE | CODEBOOK | GENERATION | COLUMNS.. => Some(Pseudo::Column),
            _ => None,
        },
    }
}

/// True if entries of `directory` are records in the tree.
pub(crate) fn has_entries(directory: Ino) -> bool {
    directory == COLLECTIONS || has_index(directory) || !is_control(directory)
}

/// True if `directory` is a collection's, which may have an index directory.
pub(crate) fn has_index(directory: Ino) -> bool {
    matches!(collection_part(directory), Some((_, 0)))
}

/// Fails for what belongs to the control directory.
pub(crate) fn check_writable(inode: Ino) -> Result<()> {
    if is_control(inode) {
        return Err(Error::NotPermitted("the control directory holds only what VexFS puts there"));
    }
    Ok(())
}

/// Fails unless the attributes may be changed: of a collection's directory all but the size.
pub(crate) fn check_changeable<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    inode: Ino,
    changes: &Changes,
) -> Result<()> {
    if !is_control(inode) {
        return Ok(());
    }
    let changes_none = matches!(inode, CONTROL | NEAR) || !matches!(pseudo(inode), Some(Pseudo::Directory));
    if changes.size.is_some() || changes_none {
        return check_writable(inode);
    }
    if let Some((id, _)) = collection_part(inode) {
        let loaded = load_collection(volume, id)?;
        for (_, part) in PARTS.iter().filter(|part| part.1 != ARROW) {
            let event = Event { inode: loaded.part(*part), offset: 0, len: 0 };
            crate::memory::push(&mut volume.events, event)?;
        }
    }
    Ok(())
}

impl<H: BlockDevice + Data> Volume<H> {
    /// The matrix whose rows a file shows, itself, by its scales, its codebook or as `vectors.arrow`: one that was replaced is there for those
    /// who have such a file open.
    pub fn matrix_of(&self, inode: Ino) -> Option<Ino> {
        match collection_part(inode) {
            Some((id, MATRIX | SCALE | CODEBOOK)) => Some(numbered_matrix(id, matrix_number(inode))),
            Some(_) => None,
            None => arrow::matrix_of(self, inode),
        }
    }
}

/// The directory that holds a control directory; `None` for ordinary ones.
pub(crate) fn parent(directory: Ino) -> Option<Ino> {
    match directory {
        CONTROL => Some(ROOT),
        COLLECTIONS | NEAR => Some(CONTROL),
        _ => (pseudo(directory) == Some(Pseudo::Directory)).then_some(COLLECTIONS),
    }
}

/// The attributes of what has no inode record of its own; `None` for all else.
pub(crate) fn attributes<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
) -> Result<Option<Attributes>> {
    if !is_control(inode) || inode == COLLECTIONS {
        return Ok(None);
    }
    if inode == CONTROL {
        return fixed(volume, inode, FileKind::Directory, 0o555).map(Some);
    }
    if inode == NEAR {
        return near(volume).map(Some);
    }
    if let Some((_, _, permissions)) = FILES.iter().find(|file| file.1 == inode) {
        return fixed(volume, inode, FileKind::Regular, *permissions).map(Some);
    }
    if let Some(found) = arrow::attributes(volume, inode)? {
        return Ok(Some(found));
    }
    match (collection_part(inode), pseudo(inode)) {
        (Some((id, 0)), _) => {
            load_collection(volume, id)?;
            Ok(None)
        }
        (Some((_, part)), Some(kind)) => part_attributes(volume, inode, part, kind).map(Some),
        _ => Err(Error::NotFound),
    }
}

/// The fixed entry `name` of a control directory; `None` if its entries are records, or it is no such directory.
pub(crate) fn lookup<H: BlockDevice + Data>(
    volume: &Volume<H>,
    directory: Ino,
    name: &[u8],
) -> Result<Option<Attributes>> {
    if directory == ROOT && name == NAME {
        return attributes(volume, CONTROL);
    }
    let inode = if directory == CONTROL {
        let files = FILES.iter().map(|file| (file.0, file.1));
        let directories = [(&b"collections"[..], COLLECTIONS), (NEAR_NAME, NEAR)];
        let shown = |inode| inode != NEAR || volume.options.daemon;
        files
            .chain(directories)
            .find(|entry| entry.0 == name)
            .map(|entry| entry.1)
            .filter(|found| shown(*found))
    } else if let Some((id, 0)) = collection_part(directory) {
        let loaded = load_collection(volume, id)?;
        let part = match PARTS.iter().find(|part| part.0 == name) {
            Some((_, part)) => part_inode(volume, &loaded, *part)?,
            None => None,
        };
        let found = match part {
            Some(found) => Some(found),
            None => column_named(volume, id, name)?,
        };
        match found {
            Some(found) => Some(found),
            None => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    volume.attributes(inode.ok_or(Error::NotFound)?).map(Some)
}

/// Gives the fixed entries of a directory; true if the caller goes on with records of the tree.
pub(crate) fn read_directory<H: BlockDevice + Data>(
    volume: &Volume<H>,
    directory: Ino,
    cookie: u64,
    each: &mut dyn FnMut(Entry<'_>) -> bool,
) -> Result<bool> {
    let mut at = FIRST_COOKIE;
    let mut give = |name: &[u8], inode: Ino, kind: FileKind| {
        let wanted = at > cookie;
        let entry = Entry { inode, kind, name, cookie: at };
        at += 1;
        !wanted || each(entry)
    };
    if directory == ROOT && volume.options.list_control {
        // The lowest place in a directory, which no name's hash can have but one in 2^47.
        return Ok(cookie >= FIRST_COOKIE || give(NAME, CONTROL, FileKind::Directory));
    }
    if directory == CONTROL {
        let more = FILES.iter().all(|(name, inode, _)| give(name, *inode, FileKind::Regular));
        let more = more && give(b"collections", COLLECTIONS, FileKind::Directory);
        // Each directory below it costs a search: no walk from the root on is to come there.
        let listed = volume.options.daemon && !volume.options.list_control;
        let _ = more && listed && give(NEAR_NAME, NEAR, FileKind::Directory);
        return Ok(false);
    }
    if let Some((id, part)) = collection_part(directory) {
        let loaded = load_collection(volume, id)?;
        if part != 0 {
            return Err(Error::NotDirectory);
        }
        let mut more = true;
        for (name, part) in PARTS {
            if let Some(inode) = part_inode(volume, &loaded, part)? {
                more = more && give(name, inode, FileKind::Regular);
            }
        }
        for column in if more { columns(volume, id)? } else { Vec::new() } {
            more = more && give(&file_name(&column)?, column.inode(id), FileKind::Regular);
        }
        return Ok(more);
    }
    Ok(true)
}

// The name of a column's file.
fn file_name(column: &Column) -> Result<Vec<u8>> {
    let mut name = memory::copy(&column.name)?;
    memory::extend(&mut name, b".npy")?;
    Ok(name)
}

fn column_named<N: Nodes>(nodes: &N, id: CollectionId, name: &[u8]) -> Result<Option<Ino>> {
    let Some(name) = name.strip_suffix(b".npy") else { return Ok(None) };
    let found = columns(nodes, id)?.into_iter().find(|column| column.name == name);
    Ok(found.map(|column| column.inode(id)))
}

// The inode of a collection's file; `None` if it has no such file.
fn part_inode<H: BlockDevice + Data>(
    volume: &Volume<H>,
    loaded: &LoadedCollection,
    part: u64,
) -> Result<Option<Ino>> {
    match part {
        ARROW | APPEND if !volume.options.daemon => Ok(None),
        ARROW => arrow::current(volume, loaded),
        // A column of that name was there first.
        GENERATION if column_named(volume, loaded.id, b"generation.npy")?.is_some() => Ok(None),
        part => Ok(has_part(loaded, part).then(|| loaded.part(part))),
    }
}

// True if a collection has this file.
fn has_part(loaded: &LoadedCollection, part: u64) -> bool {
    match part {
        SCALE => loaded.codec().is_ok_and(codec::has_scale),
        CODEBOOK => loaded.quantizer().is_some(),
        _ => true,
    }
}

fn fixed<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    kind: FileKind,
    permissions: u32,
) -> Result<Attributes> {
    let created = volume.superblock.created.into();
    Ok(Attributes {
        inode,
        kind,
        permissions,
        uid: 0,
        gid: 0,
        links: if kind == FileKind::Directory { 3 } else { 1 },
        size: 0,
        sectors: 0,
        accessed: created,
        modified: created,
        changed: created,
        created,
        device: 0,
        version: 0,
    })
}

// `near` shows the root's entries: who may list and pass the root may list and pass it.
fn near<H: BlockDevice + Data>(volume: &Volume<H>) -> Result<Attributes> {
    if !volume.options.daemon {
        return Err(Error::NotFound);
    }
    let root = attributes_of(ROOT, &load_inode(volume, ROOT)?, volume.layout.block_size)?;
    let permissions = root.permissions & (READ | EXECUTE);
    Ok(Attributes { inode: NEAR, permissions, links: 1, size: 0, sectors: 0, ..root })
}

// A collection's file shows its directory's mode, without execution; nobody writes it but for requests and questions.
fn part_attributes<H: BlockDevice + Data>(
    volume: &Volume<H>,
    inode: Ino,
    part: u64,
    kind: Pseudo,
) -> Result<Attributes> {
    let loaded = shown(volume, inode)?;
    let id = loaded.id;
    if !has_part(&loaded, part) {
        return Err(Error::NotFound);
    }
    let directory = load_inode(volume, collection_directory(id))?;
    let matrix: InodeRecord = loaded.matrix_record(volume)?;
    let shown = attributes_of(inode, &directory, volume.layout.block_size)?;
    let capacity = loaded.capacity(volume)?;
    let size = match (kind, part) {
        (Pseudo::Column, MATRIX) => matrix.size.get().max(MATRIX_DATA),
        (Pseudo::Column, HEADERS) => MATRIX_DATA + capacity * 64,
        (Pseudo::Column, SCALE) => MATRIX_DATA + capacity * 4,
        (Pseudo::Column, GENERATION) => MATRIX_DATA + generation::LEN,
        (Pseudo::Column, CODEBOOK) => {
            MATRIX_DATA + loaded.quantizer().map_or(0, |quantizer| quantizer.codebook_len() as u64)
        }
        (Pseudo::Column, COLUMNS..) => {
            MATRIX_DATA + capacity * u64::from(column(volume, id, part - COLUMNS)?.width)
        }
        (Pseudo::Column, _) => MATRIX_DATA + capacity,
        _ => 0,
    };
    let hidden = match kind {
        Pseudo::Request | Pseudo::Append => EXECUTE,
        _ => WRITE | EXECUTE,
    };
    let permissions = shown.permissions & !hidden & 0o777;
    let (permissions, uid, gid) = match part {
        // Paths may be nobody's business but root's.
        PATHS => (0o400, 0, 0),
        // Who may read the collection may ask.
        QUERY => (permissions | (permissions & READ) >> 1, shown.uid, shown.gid),
        _ => (permissions, shown.uid, shown.gid),
    };
    let block_sectors = u64::from(volume.geometry().block_size) / 512;
    Ok(Attributes {
        kind: FileKind::Regular,
        permissions,
        uid,
        gid,
        links: 1,
        size,
        sectors: if part == MATRIX { matrix.blocks.get().saturating_mul(block_sectors) } else { 0 },
        modified: loaded.record.modified.into(),
        changed: loaded.record.modified.into(),
        version: loaded.record.changes.get(),
        ..shown
    })
}
