//! JSON lines: an object a line, with a vector as an array of numbers, a path and perhaps a number.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vexfs_search::{Element, Schema};

use super::{Columns, Out, Row, Shape, Sink, Source, choose, wrong};
use crate::failure::Failure;
use crate::vector;

/// A file that is read.
pub(super) struct Lines {
    path: PathBuf,
    lines: std::io::Lines<BufReader<File>>,
    number: u64,
    vector: String,
    path_member: String,
    number_member: String,
    first: Option<Map<String, Value>>,
    shape: Shape,
}

/// Opens a file.
pub(super) fn open(path: &Path, columns: &Columns<'_>) -> Result<Lines, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let mut source = Lines {
        path: path.to_owned(),
        lines: BufReader::with_capacity(1 << 20, file).lines(),
        number: 0,
        vector: String::new(),
        path_member: columns.path.to_owned(),
        number_member: columns.number.to_owned(),
        first: None,
        shape: Shape { descr: "<f8".into(), columns: 0, rows: None, has_paths: false },
    };
    let first = source.object()?.ok_or_else(|| wrong(path, "has no line"))?;
    let arrays = first.iter().filter(|(_, value)| value.as_array().is_some_and(|array| numeric(array)));
    let arrays = arrays.map(|(name, _)| name.as_str()).collect();
    source.vector = choose("member", columns.vector, arrays).map_err(|why| wrong(path, why))?.to_owned();
    source.shape.columns = first[&source.vector].as_array().map_or(0, Vec::len) as u64;
    source.shape.has_paths = first.contains_key(columns.path);
    source.first = Some(first);
    Ok(source)
}

fn numeric(array: &[Value]) -> bool {
    !array.is_empty() && array.iter().all(Value::is_number)
}

impl Lines {
    fn wrong(&self, why: impl std::fmt::Display) -> Failure {
        Failure::new(format!("{} line {}: {why}", self.path.display(), self.number))
    }

    // The object of the next line that is not empty.
    fn object(&mut self) -> Result<Option<Map<String, Value>>, Failure> {
        for line in self.lines.by_ref() {
            self.number += 1;
            let line = line.map_err(|error| Failure::io(&self.path, &error))?;
            if line.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str(&line);
            return parsed.map(Some).map_err(|error| self.wrong(format!("not a JSON object: {error}")));
        }
        Ok(None)
    }
}

impl Source for Lines {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let object = match self.first.take() {
            Some(first) => Some(first),
            None => self.object()?,
        };
        let Some(object) = object else { return Ok(None) };
        let array = object.get(&self.vector).and_then(Value::as_array).filter(|array| numeric(array));
        let array = array.ok_or_else(|| self.wrong(format!("has no array of numbers `{}`", self.vector)))?;
        let bytes: Vec<u8> =
            array.iter().flat_map(|value| value.as_f64().unwrap_or(f64::NAN).to_le_bytes()).collect();
        let path = match object.get(&self.path_member) {
            Some(Value::String(path)) => Some(Cow::Owned(path.clone())),
            None | Some(Value::Null) if !self.shape.has_paths => None,
            _ => return Err(self.wrong(format!("has no string `{}`", self.path_member))),
        };
        let n = match object.get(&self.number_member) {
            None | Some(Value::Null) => None,
            Some(value) => match value.as_u64().and_then(|n| u32::try_from(n).ok()) {
                Some(n) => Some(n),
                None => return Err(self.wrong(format!("`{}` is no number below 2^32", self.number_member))),
            },
        };
        Ok(Some(Row { vector: bytes.into(), path, n }))
    }
}

/// A file that is written.
pub(super) struct LinesFile {
    path: PathBuf,
    out: BufWriter<File>,
    element: Element,
}

/// Makes a file.
pub(super) fn create(path: &Path, schema: &Schema) -> Result<LinesFile, Failure> {
    let out =
        BufWriter::with_capacity(1 << 20, File::create(path).map_err(|error| Failure::io(path, &error))?);
    Ok(LinesFile { path: path.to_owned(), out, element: schema.element })
}

impl Sink for LinesFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        let vector = vector::to_json(row.vector, self.element).map_err(|why| wrong(&self.path, why))?;
        let line = format!("{{\"path\":{},\"n\":{},\"vector\":{vector}}}\n", Value::from(row.path), row.n);
        self.out.write_all(line.as_bytes()).map_err(|error| Failure::io(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::io(&self.path, &error))
    }
}
