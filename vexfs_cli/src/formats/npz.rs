//! numpy's `.npz`: a zip archive of arrays. One is the matrix; `path` and `n` have an entry a row, if they are there.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use vexfs_search::Schema;
use vexfs_search::npy::Header;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::npy::Matrix;
use super::{Columns, Out, Row, Shape, Sink, Source, choose, entries, wrong};
use crate::failure::Failure;

/// An archive that is read, its arrays in memory.
pub(super) struct Archive {
    matrix: Matrix<Vec<u8>>,
    shape: Shape,
    paths: Option<Vec<String>>,
    numbers: Option<Vec<u32>>,
}

/// Opens a file.
pub(super) fn open(path: &Path, columns: &Columns<'_>) -> Result<Archive, Failure> {
    let bad = |why: String| wrong(path, why);
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| bad(format!("not an npz: {error}")))?;
    let names: Vec<String> = archive.file_names().flatten().map(|name| name.into_owned()).collect();
    let arrays = names.iter().filter_map(|name| name.strip_suffix(".npy"));
    let arrays: Vec<&str> = arrays.filter(|name| *name != columns.path && *name != columns.number).collect();
    let name = choose("array", columns.vector, arrays).map_err(bad)?;
    let mut read = |name: &str| -> Result<Option<Vec<u8>>, Failure> {
        let Ok(mut member) = archive.by_name(&format!("{name}.npy")) else { return Ok(None) };
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).map_err(|error| wrong(path, format!("{name}: {error}")))?;
        Ok(Some(bytes))
    };
    let bytes = read(name)?.ok_or_else(|| wrong(path, format!("has no array `{name}`")))?;
    let matrix = Matrix::new(bytes).map_err(|why| wrong(path, format!("{name}: {why}")))?;
    let rows = matrix.shape().rows.unwrap_or(0);
    let paths = read(columns.path)?.map(|bytes| strings(&bytes, rows)).transpose();
    let paths = paths.map_err(|why| wrong(path, format!("{}: {why}", columns.path)))?;
    let numbers = read(columns.number)?.map(|bytes| integers(&bytes, rows)).transpose();
    let numbers = numbers.map_err(|why| wrong(path, format!("{}: {why}", columns.number)))?;
    let shape = Shape { has_paths: paths.is_some(), ..matrix.shape().clone() };
    Ok(Archive { matrix, shape, paths, numbers })
}

impl Source for Archive {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        let (paths, numbers) = (&self.paths, &self.numbers);
        Ok(self.matrix.next_row().map(|(row, bytes)| Row {
            vector: Cow::Borrowed(bytes),
            path: paths.as_ref().and_then(|paths| paths.get(row)).map(|path| Cow::Borrowed(path.as_str())),
            n: numbers.as_ref().and_then(|numbers| numbers.get(row)).copied(),
        }))
    }
}

fn column(bytes: &[u8], rows: u64) -> Result<Header, String> {
    let header = Header::parse(bytes)?;
    if header.shape != [rows] {
        return Err(format!(
            "has the shape {:?}, one entry for each of {rows} vectors is needed",
            header.shape
        ));
    }
    Ok(header)
}

// An array of strings: of UCS-4 (`<U`) or of bytes (`|S`), padded with zeros.
fn strings(bytes: &[u8], rows: u64) -> Result<Vec<String>, String> {
    let header = column(bytes, rows)?;
    let data = bytes.get(header.data..).unwrap_or(&[]);
    let (wide, digits) = match header.descr.split_at_checked(2) {
        Some(("<U", digits)) => (true, digits),
        Some(("|S", digits)) => (false, digits),
        _ => return Err(format!("is of type {}; strings are needed", header.descr)),
    };
    let len: usize = digits.parse().map_err(|_| format!("is of a strange type: {}", header.descr))?;
    let width = len * if wide { 4 } else { 1 };
    let text = |entry: &[u8]| -> Option<String> {
        if wide {
            let codes =
                entry.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            codes.take_while(|code| *code != 0).map(char::from_u32).collect()
        } else {
            let end = entry.iter().position(|byte| *byte == 0).unwrap_or(entry.len());
            String::from_utf8(entry[..end].to_vec()).ok()
        }
    };
    if width == 0 || data.len() / width < rows as usize {
        return Err("is cut off".into());
    }
    data.chunks_exact(width).map(|entry| text(entry).ok_or("holds what is no text".to_owned())).collect()
}

// An array of integers of any width.
fn integers(bytes: &[u8], rows: u64) -> Result<Vec<u32>, String> {
    let header = column(bytes, rows)?;
    let width = match header.descr.as_str() {
        "|u1" | "|i1" => 1,
        "<u2" | "<i2" => 2,
        "<u4" | "<i4" => 4,
        "<u8" | "<i8" => 8,
        other => return Err(format!("is of type {other}; integers are needed")),
    };
    let signed = header.descr.contains('i');
    let data = bytes.get(header.data..).unwrap_or(&[]);
    if ((data.len() / width) as u64) < rows {
        return Err("is cut off".into());
    }
    let number = |entry: &[u8]| {
        let negative = signed && entry.last().is_some_and(|byte| *byte >= 128);
        let value = entry.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        u32::try_from(value)
            .ok()
            .filter(|_| !negative)
            .ok_or("holds other numbers than 0 to 2^32 - 1".to_owned())
    };
    data.chunks_exact(width).take(rows as usize).map(number).collect()
}

/// An archive that is written: the vectors as they come, then paths and numbers.
pub(super) struct ArchiveFile {
    path: PathBuf,
    descr: &'static str,
    columns: u64,
    vectors: Vec<u8>,
    paths: Vec<String>,
    numbers: Vec<u32>,
}

/// Makes a file.
pub(super) fn create(path: &Path, schema: &Schema) -> Result<ArchiveFile, Failure> {
    Ok(ArchiveFile {
        path: path.to_owned(),
        descr: schema.element.descr(),
        columns: entries(schema) as u64,
        vectors: Vec::new(),
        paths: Vec::new(),
        numbers: Vec::new(),
    })
}

impl Sink for ArchiveFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        self.vectors.extend_from_slice(row.vector);
        self.paths.push(row.path.to_owned());
        self.numbers.push(row.n);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), Failure> {
        let rows = self.paths.len() as u64;
        let width = self.paths.iter().map(|path| path.chars().count()).max().unwrap_or(0).max(1);
        let mut texts = Vec::with_capacity(self.paths.len() * width * 4);
        for path in &self.paths {
            let codes = path.chars().map(u32::from).chain(std::iter::repeat(0)).take(width);
            texts.extend(codes.flat_map(u32::to_le_bytes));
        }
        let numbers: Vec<u8> = self.numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let arrays = [
            ("vector", Header::render(self.descr, &[rows, self.columns]), &self.vectors),
            ("path", Header::render(&format!("<U{width}"), &[rows]), &texts),
            ("n", Header::render("<u4", &[rows]), &numbers),
        ];
        let failed = |error: &dyn std::fmt::Display| wrong(&self.path, error);
        let file = File::create(&self.path).map_err(|error| Failure::io(&self.path, &error))?;
        let mut zip = ZipWriter::new(BufWriter::new(file));
        let options =
            SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
        for (name, header, data) in arrays {
            zip.start_file(format!("{name}.npy"), options).map_err(|error| failed(&error))?;
            zip.write_all(&header).and_then(|()| zip.write_all(data)).map_err(|error| failed(&error))?;
        }
        let mut out = zip.finish().map_err(|error| failed(&error))?;
        out.flush().map_err(|error| failed(&error))
    }
}
