//! A collection as a table of what the caller can reach: rows, their metadata, their files.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use vexfs_search::filter::{FileField, FileFields, Filter, Scalar, Source, Table};
use vexfs_search::{Collection, RowSet, Schema};

use crate::failure::Failure;
use crate::paths::Paths;
use crate::site::{Place, Site};
use crate::xattr;

/// The files of a collection's rows, as the caller sees them.
pub(crate) struct Files<'a> {
    site: &'a Site,
    /// Of each row; 0 of a free one.
    inodes: Vec<u64>,
    paths: OnceCell<Paths>,
    known: RefCell<HashMap<u64, Option<fs::Metadata>>>,
}

impl<'a> Files<'a> {
    /// The files of the rows there are now.
    pub(crate) fn open(place: &'a Place) -> Result<Self, Failure> {
        let inodes = Collection::inodes(&place.directory)?;
        Ok(Self { site: &place.site, inodes, paths: OnceCell::new(), known: RefCell::default() })
    }

    /// Rows, free ones counted.
    pub(crate) fn rows(&self) -> usize {
        self.inodes.len()
    }

    /// A byte a row, 1 if it is in use.
    pub(crate) fn live(&self) -> Vec<u8> {
        self.inodes.iter().map(|inode| u8::from(*inode != 0)).collect()
    }

    /// The path of a row's file, relative to the mount, if the caller can reach it.
    pub(crate) fn path(&self, row: usize) -> Option<&Path> {
        let paths = self.paths.get_or_init(|| Paths::below(self.site, Path::new("")));
        paths.of(*self.inodes.get(row).filter(|inode| **inode != 0)?)
    }

    fn place(&self, row: usize) -> Option<PathBuf> {
        self.path(row).map(|path| self.site.root.join(path))
    }

    fn metadata<T>(&self, row: usize, of: impl Fn(&fs::Metadata) -> T) -> Option<T> {
        let inode = *self.inodes.get(row)?;
        let mut known = self.known.borrow_mut();
        let found = known.entry(inode).or_insert_with(|| {
            fs::symlink_metadata(self.place(row)?).ok().filter(|found| found.ino() == inode)
        });
        found.as_ref().map(of)
    }

    fn text(&self, row: usize, name: &str) -> Option<String> {
        let value = xattr::get(&self.place(row)?, name).ok()??;
        String::from_utf8(value).ok()
    }

    fn field(&self, row: usize, field: FileField) -> Option<Scalar> {
        let text = |path: &Path| Scalar::Text(path.to_string_lossy().into_owned());
        match field {
            FileField::Path => self.path(row).map(text),
            FileField::Name => self.path(row)?.file_name().map(|name| text(Path::new(name))),
            FileField::Size => self.metadata(row, |file| Scalar::Int(file.size() as i64)),
            FileField::Uid => self.metadata(row, |file| Scalar::Int(file.uid().into())),
            FileField::Gid => self.metadata(row, |file| Scalar::Int(file.gid().into())),
            FileField::Mtime => self.metadata(row, |file| {
                let seconds = file.mtime().saturating_mul(1_000_000_000);
                Scalar::Time(seconds.saturating_add(file.mtime_nsec()))
            }),
            FileField::Fresh => self.text(row, "user.vexfs.fresh").map(|fresh| Scalar::Bool(fresh == "1")),
        }
    }

    fn of_rows(&self, wanted: &[u8], value: impl Fn(usize) -> Option<Scalar>) -> Vec<Option<Scalar>> {
        wanted.iter().enumerate().map(|(row, wanted)| if *wanted == 0 { None } else { value(row) }).collect()
    }
}

impl FileFields for Files<'_> {
    fn file(&self, field: FileField, wanted: &[u8]) -> vexfs_search::Result<Vec<Option<Scalar>>> {
        Ok(self.of_rows(wanted, |row| self.field(row, field)))
    }

    fn attribute(&self, name: &str, wanted: &[u8]) -> vexfs_search::Result<Vec<Option<Scalar>>> {
        Ok(self.of_rows(wanted, |row| self.text(row, name).map(Scalar::Text)))
    }
}

/// The table of a collection.
pub(crate) fn open<'a>(place: &Place, files: &'a Files<'_>) -> Result<Table<'a>, Failure> {
    Ok(Table::open(&place.directory, files.rows(), files)?)
}

/// Parses a condition on a collection.
pub(crate) fn filter(table: &Table<'_>, text: &str) -> Result<Filter, Failure> {
    table.filter(text).map_err(|error| Failure::new(format!("the condition: {error}")))
}

/// The rows for which `text` is true.
pub(crate) fn choose(place: &Place, text: &str) -> Result<RowSet, Failure> {
    let files = Files::open(place)?;
    let table = open(place, &files)?;
    debug_assert_eq!(table.rows(), files.rows());
    Ok(filter(&table, text)?.rows(&table, &files.live())?)
}

/// The columns that a collection declares: name, type, and bytes of an entry.
pub(crate) fn columns(schema: &Schema) -> Vec<(String, String, u64)> {
    let columns = schema.all.get("columns").and_then(serde_json::Value::as_array);
    let column = |column: &serde_json::Value| {
        let text = |name: &str| Some(column.get(name)?.as_str()?.to_owned());
        Some((text("name")?, text("type")?, column.get("width")?.as_u64()?))
    };
    columns.into_iter().flatten().filter_map(column).collect()
}
