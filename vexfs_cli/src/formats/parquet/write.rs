//! Writing: the columns `vector`, a list, `path` and `n`, in groups of rows.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, FloatType, Int32Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;
use vexfs_search::{Element, Schema};

use crate::failure::Failure;
use crate::formats::{Out, Sink, entries, wrong};

/// Bytes of vectors in a group of rows, about.
const GROUP_BYTES: usize = 32 << 20;

/// A file that is written.
pub(in crate::formats) struct ParquetFile {
    path: PathBuf,
    writer: SerializedFileWriter<File>,
    element: Element,
    entries: usize,
    vectors: Vec<u8>,
    paths: Vec<ByteArray>,
    numbers: Vec<i32>,
}

/// Makes a file. Vectors are not compressed, which would gain next to nothing; paths are.
pub(in crate::formats) fn create(path: &Path, schema: &Schema) -> Result<ParquetFile, Failure> {
    let item = match schema.element {
        Element::F32 => "float element",
        Element::F16 => "fixed_len_byte_array(2) element (FLOAT16)",
        Element::I8 => "int32 element (INTEGER(8,true))",
        Element::I16 => "int32 element (INTEGER(16,true))",
        Element::Bit => "int32 element (INTEGER(8,false))",
    };
    let message = format!(
        "message schema {{ required group vector (LIST) {{ repeated group list {{ required {item}; }} }} \
         required binary path (STRING); required int32 n (INTEGER(32,false)); }}"
    );
    let bad = |error: ParquetError| wrong(path, error);
    let message = Arc::new(parse_message_type(&message).map_err(bad)?);
    let about = [
        ("vexfs.dimension", schema.dimensions.to_string()),
        ("vexfs.element", schema.element.name().to_owned()),
        ("vexfs.metric", schema.metric.name().to_owned()),
        ("vexfs.model", schema.model.clone()),
    ];
    let about = about.map(|(key, value)| KeyValue::new(key.to_owned(), value)).to_vec();
    let is_small = matches!(schema.element, Element::I8 | Element::Bit);
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(is_small)
        .set_column_compression(ColumnPath::from("path"), Compression::ZSTD(ZstdLevel::default()))
        .set_key_value_metadata(Some(about))
        .build();
    let file = File::create(path).map_err(|error| Failure::io(path, &error))?;
    let writer = SerializedFileWriter::new(file, message, Arc::new(properties)).map_err(bad)?;
    Ok(ParquetFile {
        path: path.to_owned(),
        writer,
        element: schema.element,
        entries: entries(schema),
        vectors: Vec::new(),
        paths: Vec::new(),
        numbers: Vec::new(),
    })
}

impl ParquetFile {
    // What was gathered, as a group of rows.
    fn group(&mut self) -> Result<(), ParquetError> {
        let rows = self.paths.len();
        if rows == 0 {
            return Ok(());
        }
        let (element, entries) = (self.element, self.entries);
        let vectors = std::mem::take(&mut self.vectors);
        let mut group = self.writer.next_row_group()?;
        column(&mut group, |column| {
            // All entries are there; a row begins where nothing is repeated.
            let there = vec![1; rows * entries];
            let repeated: Vec<i16> =
                (0..rows * entries).map(|entry| i16::from(entry % entries != 0)).collect();
            let levels = Levels { there: &there, repeated: &repeated };
            let four = |bytes: &[u8]| bytes.try_into().map_or(0.0, f32::from_le_bytes);
            let two = |bytes: &[u8]| bytes.try_into().map_or(0, i16::from_le_bytes);
            match element {
                Element::F32 => {
                    levels.write::<FloatType>(column, vectors.chunks_exact(4).map(four).collect())
                }
                Element::F16 => {
                    let value = |bytes: &[u8]| FixedLenByteArray::from(bytes.to_vec());
                    levels
                        .write::<FixedLenByteArrayType>(column, vectors.chunks_exact(2).map(value).collect())
                }
                Element::I16 => {
                    let value = |bytes| i32::from(two(bytes));
                    levels.write::<Int32Type>(column, vectors.chunks_exact(2).map(value).collect())
                }
                Element::I8 => levels
                    .write::<Int32Type>(column, vectors.iter().map(|byte| i32::from(*byte as i8)).collect()),
                Element::Bit => {
                    levels.write::<Int32Type>(column, vectors.iter().map(|byte| i32::from(*byte)).collect())
                }
            }
        })?;
        let (paths, numbers) = (&self.paths, &self.numbers);
        column(&mut group, |column| column.typed::<ByteArrayType>().write_batch(paths, None, None))?;
        column(&mut group, |column| column.typed::<Int32Type>().write_batch(numbers, None, None))?;
        group.close()?;
        self.paths.clear();
        self.numbers.clear();
        Ok(())
    }
}

// The next column of a group, as it is written.
fn column(
    group: &mut SerializedRowGroupWriter<'_, File>,
    write: impl FnOnce(&mut SerializedColumnWriter<'_>) -> Result<usize, ParquetError>,
) -> Result<(), ParquetError> {
    let column = group.next_column()?;
    let mut column =
        column.ok_or_else(|| ParquetError::General("a column more than the schema has".into()))?;
    write(&mut column)?;
    column.close()
}

// Levels of lists.
struct Levels<'a> {
    there: &'a [i16],
    repeated: &'a [i16],
}

impl Levels<'_> {
    fn write<T: DataType>(
        &self,
        column: &mut SerializedColumnWriter<'_>,
        values: Vec<T::T>,
    ) -> Result<usize, ParquetError> {
        column.typed::<T>().write_batch(&values, Some(self.there), Some(self.repeated))
    }
}

impl Sink for ParquetFile {
    fn push(&mut self, row: &Out<'_>) -> Result<(), Failure> {
        self.vectors.extend_from_slice(row.vector);
        self.paths.push(ByteArray::from(row.path));
        self.numbers.push(row.n as i32);
        let written = if self.vectors.len() < GROUP_BYTES { Ok(()) } else { self.group() };
        written.map_err(|error| wrong(&self.path, error))
    }

    fn finish(mut self: Box<Self>) -> Result<(), Failure> {
        self.group().map_err(|error| wrong(&self.path, error))?;
        let Self { path, writer, .. } = *self;
        writer.close().map(drop).map_err(|error| wrong(&path, error))
    }
}
