//! SQLite: `vec0` tables of the extension sqlite-vec, and ordinary tables with vectors as blobs of floats.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Once;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, ffi};
use vexfs_search::{Element, Metric, Schema};

use super::{Columns, Out, Row, Shape, Sink, Source, choose, wrong};
use crate::failure::Failure;
use crate::vector;

/// Vectors that are read at once.
const PAGE: usize = 4096;

// Every connection from now on knows vec0.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let entry = sqlite_vec::sqlite3_vec_init as *const ();
        // SAFETY: `sqlite3_vec_init` is an entry point of an extension: it has this signature in C, though the crate
        // that links it in declares it without arguments.
        unsafe {
            let entry = std::mem::transmute::<
                *const (),
                unsafe extern "C" fn(*mut _, *mut *mut _, *const _) -> _,
            >(entry);
            ffi::sqlite3_auto_extension(Some(entry));
        }
    });
}

/// A table that is read, a page of rows at a time.
pub(super) struct Table {
    path: PathBuf,
    connection: Connection,
    select: String,
    shape: Shape,
    has_number: bool,
    page: Vec<Stored>,
    next: usize,
    last: Option<i64>,
}

struct Stored {
    vector: Vec<u8>,
    path: Option<String>,
    n: Option<i64>,
}

/// Opens a database.
pub(super) fn open(path: &Path, columns: &Columns<'_>) -> Result<Table, Failure> {
    register();
    let bad = |error: rusqlite::Error| wrong(path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(bad)?;
    let virtuals = names(
        &connection,
        "select name from sqlite_master where type = 'table' and lower(sql) like 'create virtual table%using vec0%'",
    )
    .map_err(bad)?;
    let all = names(&connection, "select name from sqlite_master where type = 'table'").map_err(bad)?;
    let candidates = if columns.table.is_some() { &all } else { &virtuals };
    let candidates = candidates.iter().map(String::as_str).collect();
    let table = choose("vec0 table", columns.table, candidates);
    let table = table.map_err(|why| wrong(path, why.replace("--column", "--table")))?;
    let parts = names(&connection, &format!("select name from pragma_table_info({})", text(table)));
    let parts = parts.map_err(bad)?;
    let found = first_blob(&connection, table, &parts, columns).map_err(|error| wrong(path, error))?;
    let (column, kind, len) = found;
    let (descr, width) = match kind.as_str() {
        "int8" => ("|i1", 1),
        "bit" => ("|u1", 1),
        _ => ("<f4", 4),
    };
    let has = |name: &str| parts.iter().any(|part| part == name);
    let (has_paths, has_number) = (has(columns.path), has(columns.number));
    let optional = |there: bool, name: &str| if there { quoted(name) } else { "null".into() };
    let rows: i64 = connection
        .query_row(&format!("select count(*) from {}", quoted(table)), [], |row| row.get(0))
        .map_err(bad)?;
    // Row by row in their order, so that a page begins where the last one ended.
    let select = format!(
        "select rowid, {}, {}, {} from {} where rowid > ?1 order by rowid limit {PAGE}",
        quoted(&column),
        optional(has_paths, columns.path),
        optional(has_number, columns.number),
        quoted(table)
    );
    let shape = Shape {
        descr: descr.into(),
        columns: (len / width) as u64,
        rows: u64::try_from(rows).ok(),
        has_paths,
    };
    Ok(Table {
        path: path.to_owned(),
        connection,
        select,
        shape,
        has_number,
        page: Vec::new(),
        next: 0,
        last: Some(i64::MIN),
    })
}

// The column of vectors, their type as sqlite-vec calls it, and their bytes.
fn first_blob(
    connection: &Connection,
    table: &str,
    parts: &[String],
    columns: &Columns<'_>,
) -> Result<(String, String, usize), String> {
    let mut found = Vec::new();
    for part in parts.iter().filter(|part| *part != columns.path && *part != columns.number) {
        let column = quoted(part);
        let query = format!("select {column} from {} limit 1", quoted(table));
        let len = connection.query_row(&query, [], |row| match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Ok(Some(bytes.len())),
            _ => Ok(None),
        });
        let Ok(Some(len)) = len else { continue };
        let query = format!("select vec_type({column}) from {} limit 1", quoted(table));
        let kind: String =
            connection.query_row(&query, [], |row| row.get(0)).unwrap_or_else(|_| "float32".into());
        found.push((part.clone(), kind, len));
    }
    let names = found.iter().map(|found| found.0.as_str()).collect();
    let name = choose("column", columns.vector, names)?.to_owned();
    found.into_iter().find(|found| found.0 == name).ok_or_else(|| "no row".into())
}

impl Table {
    fn read_page(&mut self) -> rusqlite::Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        let mut statement = self.connection.prepare(&self.select)?;
        let mut rows = statement.query([last])?;
        self.page.clear();
        self.next = 0;
        let mut at = None;
        while let Some(row) = rows.next()? {
            at = Some(row.get(0)?);
            let n = if self.has_number { row.get(3)? } else { None };
            self.page.push(Stored { vector: row.get(1)?, path: row.get(2)?, n });
        }
        self.last = at;
        Ok(())
    }
}

impl Source for Table {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        if self.next == self.page.len() {
            self.read_page().map_err(|error| wrong(&self.path, error))?;
        }
        let Some(stored) = self.page.get(self.next) else { return Ok(None) };
        self.next += 1;
        let n = stored.n.map(u32::try_from).transpose();
        let n = n.map_err(|_| wrong(&self.path, "a vector's number is from 0 to 2^32 - 1"))?;
        Ok(Some(Row {
            vector: Cow::Borrowed(&stored.vector),
            path: stored.path.as_deref().map(Cow::Borrowed),
            n,
        }))
    }
}

fn names(connection: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(query)?.query_map([], |row| row.get(0))?.collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A database that is written: the vec0 table `vectors`, in one transaction.
pub(super) struct TableFile {
    path: PathBuf,
    connection: Connection,
    element: Element,
}

/// Makes a database; one that is there is left alone.
pub(super) fn create(path: &Path, schema: &Schema) -> Result<TableFile, Failure> {
    register();
    if path.exists() {
        return Err(wrong(path, "is there already; remove it, or name another file"));
    }
    let bad = |error: rusqlite::Error| wrong(path, error);
    let connection = Connection::open(path).map_err(bad)?;
    let kind = match schema.element {
        Element::I8 => "int8",
        Element::Bit => "bit",
        _ => "float",
    };
    let metric = match (schema.metric, schema.element) {
        (_, Element::Bit) => "",
        (Metric::L2, _) => " distance_metric=l2",
        _ => " distance_metric=cosine",
    };
    let dimensions = schema.dimensions;
    connection
        .execute_batch(&format!(
            "create virtual table vectors using vec0(vector {kind}[{dimensions}]{metric}, +path text, +n integer); begin"
        ))
        .map_err(bad)?;
    Ok(TableFile { path: path.to_owned(), connection, element: schema.element })
}

impl Sink for TableFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        let bytes = match self.element {
            Element::F16 | Element::I16 => {
                let numbers =
                    vector::values(row.vector, self.element).map_err(|why| wrong(&self.path, why))?;
                Cow::Owned(numbers.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect())
            }
            _ => Cow::Borrowed(row.vector),
        };
        let value = match self.element {
            Element::I8 => "vec_int8(?1)",
            Element::Bit => "vec_bit(?1)",
            _ => "?1",
        };
        let insert = format!("insert into vectors(vector, path, n) values ({value}, ?2, ?3)");
        let statement = self.connection.prepare(&insert);
        let done = statement.and_then(|mut statement| statement.execute((&bytes[..], row.path, row.n)));
        done.map(drop).map_err(|error| wrong(&self.path, error))
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        self.connection.execute_batch("commit").map_err(|error| wrong(&self.path, error))
    }
}
