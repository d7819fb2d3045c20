//! Parquet: a column of lists of numbers, one of paths, perhaps one of numbers.
//!
//! Columns are read and written as the file has them, without Arrow between, whose libraries take minutes to be compiled.

mod columns;
mod write;

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnDescriptor;

use self::columns::{Lists, Numbers, Texts, entry};
use super::{Columns, Row, Shape, Source, choose, wrong};
use crate::failure::Failure;

pub(super) use self::write::create;

/// Rows that are read at once.
const BATCH_ROWS: usize = 4096;

/// A file that is read.
pub(super) struct Rows {
    path: PathBuf,
    file: SerializedFileReader<File>,
    parts: Parts,
    shape: Shape,
    next_group: usize,
    group: Option<Group>,
}

// Which columns are what.
struct Parts {
    vector: usize,
    path: Option<usize>,
    number: Option<usize>,
}

/// Opens a file.
pub(super) fn open(path: &Path, columns: &Columns<'_>) -> Result<Rows, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let bad = |error: ParquetError| wrong(path, format!("cannot be read as Parquet: {error}"));
    let file = SerializedFileReader::new(file).map_err(bad)?;
    let about = file.metadata().file_metadata();
    let leaves = about.schema_descr().columns();
    let top = |leaf: &ColumnDescriptor| leaf.path().parts().first().cloned().unwrap_or_default();
    let names: Vec<String> =
        leaves.iter().filter(|leaf| entry(leaf).is_some()).map(|leaf| top(leaf)).collect();
    let vector = choose("column", columns.vector, names.iter().map(String::as_str).collect());
    let vector = vector.map_err(|why| wrong(path, why))?;
    let lists = |leaf: &ColumnDescriptor| top(leaf) == vector && entry(leaf).is_some();
    let found = leaves
        .iter()
        .enumerate()
        .find_map(|(index, leaf)| Some((index, entry(leaf)?)).filter(|_| lists(leaf)));
    let (vector, descr) = found.ok_or_else(|| wrong(path, "the column is gone"))?;
    let plain = |name: &str| leaves.iter().position(|leaf| leaf.path().parts() == [name]);
    let parts = Parts { vector, path: plain(columns.path), number: plain(columns.number) };
    let has_paths = parts.path.is_some();
    // Some of them may have no vector: with a list of paths, the rows are counted as they come.
    let rows = u64::try_from(about.num_rows()).ok().filter(|_| has_paths);
    let shape = Shape { descr: descr.into(), columns: 0, rows, has_paths };
    let mut source = Rows { path: path.to_owned(), file, parts, shape, next_group: 0, group: None };
    if source.advance().map_err(|why| wrong(path, why))? {
        let first = source.group.as_ref().and_then(Group::vector).map_or(0, <[u8]>::len);
        source.shape.columns = (first / crate::vector::width(descr).unwrap_or(1)) as u64;
        // It is the first that is given.
        source.group.iter_mut().for_each(|group| group.next -= 1);
    }
    Ok(source)
}

// A group of rows, and the batch of them that is at hand.
struct Group {
    vectors: Lists,
    paths: Option<Texts>,
    numbers: Option<Numbers>,
    /// The row behind the one at hand.
    next: usize,
}

impl Group {
    fn vector(&self) -> Option<&[u8]> {
        self.vectors.row(self.next.checked_sub(1)?)
    }

    // Reads the next batch; false at the end.
    fn read(&mut self) -> Result<bool, String> {
        self.next = 0;
        let rows = self.vectors.read(BATCH_ROWS)?;
        for read in [
            self.paths.as_mut().map(|paths| paths.read(rows)).transpose()?,
            self.numbers.as_mut().map(|numbers| numbers.read(rows)).transpose()?,
        ] {
            if read.is_some_and(|read| read != rows) {
                return Err("its columns are of different lengths".into());
            }
        }
        Ok(rows > 0)
    }
}

impl Rows {
    // Goes to the next row that has a vector; false at the end.
    fn advance(&mut self) -> Result<bool, String> {
        loop {
            if let Some(group) = &mut self.group {
                while group.next < group.vectors.len() {
                    group.next += 1;
                    if group.vector().is_some() {
                        return Ok(true);
                    }
                }
                if group.read()? {
                    continue;
                }
            }
            if self.next_group >= self.file.num_row_groups() {
                return Ok(false);
            }
            self.group = Some(self.open_group(self.next_group)?);
            self.next_group += 1;
        }
    }

    fn open_group(&self, index: usize) -> Result<Group, String> {
        let words = |error: ParquetError| error.to_string();
        let group = self.file.get_row_group(index).map_err(words)?;
        let leaves = self.file.metadata().file_metadata().schema_descr().columns();
        let open = |column: usize| group.get_column_reader(column).map_err(words);
        let Parts { vector, path, number } = self.parts;
        let paths = path.map(|path| Texts::new(open(path)?, &leaves[path])).transpose()?;
        let numbers = number.map(|number| Numbers::new(open(number)?, &leaves[number])).transpose()?;
        Ok(Group { vectors: Lists::new(open(vector)?, &leaves[vector]), paths, numbers, next: 0 })
    }
}

impl Source for Rows {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let there = self.advance().map_err(|why| wrong(&self.path, why))?;
        let Some(group) = self.group.as_ref().filter(|_| there) else { return Ok(None) };
        let row = group.next - 1;
        let bad = |why: String| wrong(&self.path, why);
        let path = group.paths.as_ref().map(|paths| paths.row(row)).transpose().map_err(bad)?;
        let n = group.numbers.as_ref().map(|numbers| numbers.row(row)).transpose().map_err(bad)?.flatten();
        let vector = group.vector().unwrap_or(&[]);
        Ok(Some(Row { vector: Cow::Borrowed(vector), path: path.map(Cow::Borrowed), n }))
    }
}
