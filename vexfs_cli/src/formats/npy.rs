//! numpy's `.npy`: a matrix of one row a vector.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use vexfs_search::npy::Header;
use vexfs_search::{Element, Schema};

use super::{Out, Row, Shape, Sink, Source, entries, wrong};
use crate::failure::Failure;
use crate::vector;

/// The bytes of a matrix, and where its rows lie in them.
pub(super) struct Matrix<B> {
    bytes: B,
    shape: Shape,
    data: usize,
    row_len: usize,
    next: usize,
}

/// Opens a file.
pub(super) fn open(path: &Path) -> Result<Matrix<Mmap>, Failure> {
    Matrix::new(map(path)?).map_err(|why| wrong(path, why))
}

/// Maps a file to read.
pub(super) fn map(path: &Path) -> Result<Mmap, Failure> {
    let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
    // SAFETY: the map is only read, as bytes. If another program shortens the file meanwhile, this program is ended
    // by SIGBUS: an import of a file that is being rewritten has no meaning anyway.
    unsafe { Mmap::map(&file) }.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOMEM) => wrong(
            path,
            "cannot be mapped: out of address space or of mappings; raise `ulimit -v` or vm.max_map_count",
        ),
        _ => Failure::io(path, &error),
    })
}

impl<B: AsRef<[u8]>> Matrix<B> {
    /// The matrix that an npy file's bytes hold.
    pub(super) fn new(bytes: B) -> Result<Self, String> {
        let header = Header::parse(bytes.as_ref())?;
        let [rows, columns] = header.shape[..] else {
            return Err(format!(
                "has {} dimensions; a matrix of one row a vector is needed",
                header.shape.len()
            ));
        };
        header.matrix()?;
        let width = vector::width(&header.descr)?;
        let row_len = usize::try_from(columns).ok().and_then(|columns| columns.checked_mul(width));
        let row_len = row_len.ok_or("too many columns")?;
        let len = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_len));
        let end = len.and_then(|len| len.checked_add(header.data));
        if end.is_none_or(|end| end > bytes.as_ref().len()) {
            return Err(format!("is too short for {rows} rows of {row_len} bytes; was it cut off?"));
        }
        let shape = Shape { descr: header.descr, columns, rows: Some(rows), has_paths: false };
        Ok(Self { bytes, shape, data: header.data, row_len, next: 0 })
    }

    /// What it gives.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The next row's number and bytes.
    pub(super) fn next_row(&mut self) -> Option<(usize, &[u8])> {
        if self.shape.rows.is_none_or(|rows| self.next as u64 >= rows) {
            return None;
        }
        let row = self.next;
        self.next += 1;
        let start = self.data + row * self.row_len;
        self.bytes.as_ref().get(start..start + self.row_len).map(|bytes| (row, bytes))
    }
}

impl Source for Matrix<Mmap> {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn next(&mut self) -> Result<Option<Row<'_>>, Failure> {
        Ok(self.next_row().map(|(_, bytes)| Row { vector: Cow::Borrowed(bytes), path: None, n: None }))
    }
}

/// A matrix being written; its header is written last, when the rows are counted.
pub(super) struct MatrixFile {
    path: PathBuf,
    out: BufWriter<File>,
    element: Element,
    columns: u64,
    header_len: usize,
    rows: u64,
}

/// Makes a file.
pub(super) fn create(path: &Path, schema: &Schema) -> Result<MatrixFile, Failure> {
    let failed = |error| Failure::io(path, &error);
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let columns = entries(schema) as u64;
    let header = Header::render(schema.element.descr(), &[0, columns]);
    out.write_all(&header).map_err(failed)?;
    let (element, header_len) = (schema.element, header.len());
    Ok(MatrixFile { path: path.to_owned(), out, element, columns, header_len, rows: 0 })
}

impl Sink for MatrixFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        self.rows += 1;
        self.out.write_all(row.vector).map_err(|error| Failure::io(&self.path, &error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        let header = Header::render(self.element.descr(), &[self.rows, self.columns]);
        if header.len() != self.header_len {
            return Err(Failure::new("the npy header does not fit its place"));
        }
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.flush()
        };
        write().map_err(|error| Failure::io(&self.path, &error))
    }
}
