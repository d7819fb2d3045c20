//! Files of vectors: what `vexfs import` reads and `vexfs export` writes.
//!
//! A source gives its vectors one after the other, a sink takes them so; neither holds all of them but where the
//! format leaves no choice (npz). Types of entries are numpy's names of them, as everywhere in this program.

mod arrow;
mod faiss;
mod jsonl;
mod npy;
mod npz;
mod parquet;
mod sqlite;
mod vecs;

use std::borrow::Cow;
use std::path::Path;

use vexfs_search::Schema;

use crate::failure::Failure;

/// A format of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// numpy's .npy, a matrix of one row a vector
    Npy,
    /// numpy's .npz, of which one array is the matrix
    Npz,
    /// Arrow IPC, file or stream
    Arrow,
    /// Parquet
    Parquet,
    /// JSON lines: an object a line
    Jsonl,
    /// .fvecs of floats, as TEXMEX's sets are
    Fvecs,
    /// .bvecs of bytes
    Bvecs,
    /// .ivecs of 32-bit integers
    Ivecs,
    /// SQLite with a vec0 table of sqlite-vec, or blobs in a column
    Sqlite,
    /// faiss's IndexFlat and IndexBinaryFlat
    Faiss,
}

impl Format {
    /// The format that a file's name tells.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let extension = path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase());
        Ok(match extension.as_deref() {
            Some("npy") => Self::Npy,
            Some("npz") => Self::Npz,
            Some("arrow" | "arrows" | "feather" | "ipc") => Self::Arrow,
            Some("parquet" | "pq") => Self::Parquet,
            Some("jsonl" | "ndjson") => Self::Jsonl,
            Some("fvecs") => Self::Fvecs,
            Some("bvecs") => Self::Bvecs,
            Some("ivecs") => Self::Ivecs,
            Some("db" | "sqlite" | "sqlite3") => Self::Sqlite,
            Some("faiss" | "index") => Self::Faiss,
            _ => {
                return Err(Failure::new(format!(
                    "{}: its name does not tell its format; say --format npy, npz, arrow, parquet, jsonl, \
                     fvecs, bvecs, ivecs, sqlite or faiss",
                    path.display()
                )));
            }
        })
    }

    /// True if its files have a place for paths.
    pub(crate) fn has_paths(self) -> bool {
        matches!(self, Self::Npz | Self::Arrow | Self::Parquet | Self::Jsonl | Self::Sqlite)
    }
}

/// Which parts of a file are what.
pub(crate) struct Columns<'a> {
    /// The column, array or member of the vectors; by default the only one that can be.
    pub(crate) vector: Option<&'a str>,
    /// That of the paths.
    pub(crate) path: &'a str,
    /// That of the numbers of a file's vectors.
    pub(crate) number: &'a str,
    /// The table, of a database.
    pub(crate) table: Option<&'a str>,
}

/// What a source gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// numpy's type of an entry.
    pub(crate) descr: String,
    /// Entries of a vector.
    pub(crate) columns: u64,
    /// Vectors, where that is known beforehand.
    pub(crate) rows: Option<u64>,
    /// It tells the path of each vector's file.
    pub(crate) has_paths: bool,
}

/// A vector that a source gives.
pub(crate) struct Row<'a> {
    /// Its entries.
    pub(crate) vector: Cow<'a, [u8]>,
    /// The file's path, where the source tells it.
    pub(crate) path: Option<Cow<'a, str>>,
    /// Which vector of the file, where the source tells it.
    pub(crate) n: Option<u32>,
}

/// A file of vectors that is read.
pub(crate) trait Source {
    /// What it gives.
    fn shape(&self) -> &Shape;
    /// The next vector.
    fn next(&mut self) -> Result<Option<Row<'_>>, Failure>;
}

/// Opens a file to read.
pub(crate) fn open(format: Format, path: &Path, columns: &Columns<'_>) -> Result<Box<dyn Source>, Failure> {
    let opened: Result<Box<dyn Source>, Failure> = match format {
        Format::Npy => npy::open(path).map(|source| Box::new(source) as _),
        Format::Npz => npz::open(path, columns).map(|source| Box::new(source) as _),
        Format::Arrow => arrow::open(path, columns).map(|source| Box::new(source) as _),
        Format::Parquet => parquet::open(path, columns).map(|source| Box::new(source) as _),
        Format::Jsonl => jsonl::open(path, columns).map(|source| Box::new(source) as _),
        Format::Fvecs => vecs::open(path, vecs::Entry::Float).map(|source| Box::new(source) as _),
        Format::Bvecs => vecs::open(path, vecs::Entry::Byte).map(|source| Box::new(source) as _),
        Format::Ivecs => vecs::open(path, vecs::Entry::Int).map(|source| Box::new(source) as _),
        Format::Sqlite => sqlite::open(path, columns).map(|source| Box::new(source) as _),
        Format::Faiss => faiss::open(path).map(|source| Box::new(source) as _),
    };
    opened
}

/// A vector that a sink takes.
pub(crate) struct Out<'a> {
    /// The raw elements.
    pub(crate) vector: &'a [u8],
    /// The file's path, relative to the mount; empty where nobody asked for it.
    pub(crate) path: &'a str,
    /// Which vector of the file.
    pub(crate) n: u32,
}

/// A file of vectors that is written.
pub(crate) trait Sink {
    /// Takes a vector.
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure>;
    /// Writes what is left.
    fn finish(self: Box<Self>) -> Result<(), Failure>;
}

/// Makes a file of a collection's vectors.
pub(crate) fn create(format: Format, path: &Path, schema: &Schema) -> Result<Box<dyn Sink>, Failure> {
    if schema.dimensions == 0 {
        return Err(Failure::new("the collection has no dimension yet: no vector was ever set"));
    }
    let made: Result<Box<dyn Sink>, Failure> = match format {
        Format::Npy => npy::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Npz => npz::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Arrow => arrow::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Parquet => parquet::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Jsonl => jsonl::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Fvecs => vecs::create(path, schema, vecs::Entry::Float).map(|sink| Box::new(sink) as _),
        Format::Bvecs => vecs::create(path, schema, vecs::Entry::Byte).map(|sink| Box::new(sink) as _),
        Format::Ivecs => vecs::create(path, schema, vecs::Entry::Int).map(|sink| Box::new(sink) as _),
        Format::Sqlite => sqlite::create(path, schema).map(|sink| Box::new(sink) as _),
        Format::Faiss => faiss::create(path, schema).map(|sink| Box::new(sink) as _),
    };
    made
}

/// Entries of a vector as its attribute holds it: bytes, for bits.
fn entries(schema: &Schema) -> usize {
    schema.vector_len() / schema.element.width()
}

/// A failure of a file, in words.
fn wrong(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {why}", path.display()))
}

/// What stands at the column that was asked for, or at the only one.
fn choose<'a>(what: &str, asked: Option<&str>, all: Vec<&'a str>) -> Result<&'a str, String> {
    let listed = all.join(", ");
    match (asked, &all[..]) {
        (Some(asked), _) => match all.iter().find(|name| **name == asked) {
            Some(name) => Ok(name),
            None => Err(format!("has no {what} `{asked}`; there are: {listed}")),
        },
        (None, [one]) => Ok(one),
        (None, []) => Err(format!("has no {what} that could hold vectors")),
        (None, _) => match all.iter().find(|name| matches!(**name, "vector" | "vectors" | "embedding")) {
            Some(name) => Ok(name),
            None => Err(format!("has several that could hold vectors; say --column, of: {listed}")),
        },
    }
}
