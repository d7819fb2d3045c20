//! A collection as a table: columns mapped, other members read from `metadata.jsonl`, files asked through the caller.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Field, FileField, Filter, Kind, ParseError, Scalar, Source, Values};
use crate::collection::Schema;
use crate::column::Column;
use crate::error::{Error, Result};

/// What only the caller can tell of files.
pub trait FileFields {
    /// The field of the file that each row belongs to, where the row is wanted (not 0); `None` of a file that the caller cannot
    /// reach.
    fn file(&self, field: FileField, wanted: &[u8]) -> Result<Vec<Option<Scalar>>>;

    /// An attribute of the file that each row belongs to, in the same way.
    fn attribute(&self, name: &str, wanted: &[u8]) -> Result<Vec<Option<Scalar>>>;
}

/// A collection's rows and what is known of them, as of the opening.
pub struct Table<'a> {
    directory: PathBuf,
    rows: usize,
    columns: HashMap<String, (Kind, Column)>,
    headers: OnceCell<Times>,
    metadata: OnceCell<Vec<Option<Value>>>,
    files: &'a dyn FileFields,
}

struct Times {
    created: Vec<i64>,
    modified: Vec<i64>,
}

impl<'a> Table<'a> {
    /// Opens the collection in `directory`, of which the first `rows` rows are looked at.
    pub fn open(directory: &Path, rows: usize, files: &'a dyn FileFields) -> Result<Self> {
        let schema = Schema::read(directory)?;
        let mut columns = HashMap::new();
        for (name, kind) in declared(&schema) {
            let column = Column::open(directory.join(format!("{name}.npy")))?;
            columns.insert(name, (kind, column));
        }
        Ok(Self {
            directory: directory.to_owned(),
            rows,
            columns,
            headers: OnceCell::new(),
            metadata: OnceCell::new(),
            files,
        })
    }

    /// Parses a condition on this table.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn filter(&self, text: &str) -> std::result::Result<Filter, ParseError> {
        let columns = &self.columns;
        Filter::parse(text, &|name| columns.get(name).map(|(kind, _)| *kind))
    }

    /// The metadata of each row, where it has some.
    pub fn metadata(&self) -> Result<&[Option<Value>]> {
        if let Some(metadata) = self.metadata.get() {
            return Ok(metadata);
        }
        let path = self.directory.join("metadata.jsonl");
        let text = fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let mut metadata = vec![None; self.rows];
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let wrong = |why: String| Error::Format { path: path.clone(), why };
            let mut line: Value = serde_json::from_slice(line).map_err(|error| wrong(error.to_string()))?;
            let row = line
                .get("row")
                .and_then(Value::as_u64)
                .ok_or_else(|| wrong("a line without a row".into()))?;
            if let Some(place) = usize::try_from(row).ok().and_then(|row| metadata.get_mut(row)) {
                *place = line.get_mut("metadata").map(Value::take);
            }
        }
        Ok(self.metadata.get_or_init(|| metadata))
    }

    fn times(&self) -> Result<&Times> {
        if let Some(times) = self.headers.get() {
            return Ok(times);
        }
        let headers = Column::open(self.directory.join("headers.npy"))?;
        let data = headers.data();
        let field = |row: usize, at: usize| {
            let bytes = data.get(row * 64 + at..row * 64 + at + 8)?;
            let time = u64::from_le_bytes(bytes.try_into().ok()?);
            i64::try_from(time).ok().filter(|time| *time != 0)
        };
        let all = |at| (0..self.rows).map(|row| field(row, at).unwrap_or(i64::MIN)).collect();
        Ok(self.headers.get_or_init(|| Times { created: all(40), modified: all(48) }))
    }

    // The first `rows` entries of a column, as its type; rows that came after it was opened have none.
    fn column<'c>(&self, name: &str, kind: Kind, column: &'c Column) -> Result<Values<'c>> {
        let width = match kind {
            Kind::Bool => 1,
            Kind::Text => column.text_width().ok_or_else(|| column.wrong("is no array of texts"))?,
            _ => 8,
        };
        let wanted = self.rows * width;
        let data = column.data().get(..wanted).ok_or_else(|| column.wrong("is too short; try again"))?;
        let misplaced = || column.wrong("has its data at an odd place");
        Ok(match kind {
            Kind::Bool => Values::Bool(zerocopy::FromBytes::ref_from_bytes(data).map_err(|_| misplaced())?),
            Kind::Int => Values::Int(zerocopy::FromBytes::ref_from_bytes(data).map_err(|_| misplaced())?),
            Kind::Float => Values::Float(zerocopy::FromBytes::ref_from_bytes(data).map_err(|_| misplaced())?),
            Kind::Time => Values::Time(zerocopy::FromBytes::ref_from_bytes(data).map_err(|_| misplaced())?),
            Kind::Text => Values::Text(data, width),
            Kind::Any => return Err(column.wrong(&format!("`{name}` has no type"))),
        })
    }
}

impl Source for Table<'_> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn values(&self, field: &Field, wanted: &[u8]) -> Result<Values<'_>> {
        Ok(match field {
            Field::Member(path) => match self.columns.get(path) {
                Some((kind, column)) => self.column(path, *kind, column)?,
                None => {
                    let member =
                        |value: &Option<Value>| value.as_ref().and_then(|value| member_of(value, path));
                    Values::Any(self.metadata()?.iter().map(member).collect())
                }
            },
            Field::Created => Values::Time(&self.times()?.created),
            Field::Modified => Values::Time(&self.times()?.modified),
            Field::File(field) => Values::Any(self.files.file(*field, wanted)?),
            Field::Attribute(name) => Values::Any(self.files.attribute(name, wanted)?),
        })
    }
}

/// Names and types of the columns that a schema declares.
fn declared(schema: &Schema) -> Vec<(String, Kind)> {
    let columns = schema.all.get("columns").and_then(Value::as_array);
    let column = |column: &Value| {
        let kind = match column.get("type")?.as_str()? {
            "bool" => Kind::Bool,
            "int" => Kind::Int,
            "float" => Kind::Float,
            "string" => Kind::Text,
            "timestamp" => Kind::Time,
            _ => return None,
        };
        Some((column.get("name")?.as_str()?.to_owned(), kind))
    };
    columns.into_iter().flatten().filter_map(column).collect()
}

/// The member at a path of names with dots between; a name that itself has dots comes first.
pub(super) fn member<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(found) = value.get(path) {
        return Some(found);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let inner = value.get(&path[..dot]).filter(|inner| inner.is_object())?;
        Some(member(inner, &path[dot + 1..]))
    })?
}

/// The member of a vector's metadata at a path of names with dots between; none if it is not there, or null.
pub fn member_of(metadata: &Value, path: &str) -> Option<Scalar> {
    scalar(member(metadata, path)?)
}

fn scalar(value: &Value) -> Option<Scalar> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Scalar::Int(whole),
            None => Scalar::Float(number.as_f64()?),
        },
        Value::String(text) => Scalar::Text(text.clone()),
        Value::Array(_) | Value::Object(_) => Scalar::Other,
    })
}
