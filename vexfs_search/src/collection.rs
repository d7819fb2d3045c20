//! A collection's files in the control directory, mapped.
//!
//! INVARIANT: `rows` rows lie within each mapping. The number is the header's at the time of opening; rows that
//! come later are seen by opening again. The files never get shorter under a mapping (the filesystem's promise).

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use zerocopy::IntoBytes;

use crate::changes::{Ask, Generation, Since};
use crate::choice::Extent;
use crate::codec::Coder;
use crate::codec::pq::Codebook;
use crate::column::{Column, computed};
use crate::decoded::{Block, Decoded};
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::metric::{Element, Metric};
use crate::warmth::{Ahead, Warmth};

/// How often files are opened while each time another matrix takes the place of the one before.
const OPENS_MAX: u32 = 10;

/// What `schema.json` says.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Dimensions; 0 = not fixed yet.
    pub dimensions: usize,
    /// Element type.
    pub element: Element,
    /// Metric.
    pub metric: Metric,
    /// Name of the model; may be empty.
    pub model: String,
    /// Highest row in use + 1.
    pub rows: u64,
    /// Rows in use.
    pub live: u64,
    /// Raised by every change of a row; 0 where it is not told. Of a [`Collection`] what its columns were known to show when it was opened.
    pub generation: u64,
    /// All of it.
    pub all: Value,
}

impl Schema {
    /// Reads the schema of the collection in `directory`.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join("schema.json");
        let text = computed(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let wrong = |why: String| Error::Format { path: path.clone(), why };
        let all: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let missing = |name: &str| wrong(format!("no proper `{name}` in it"));
        let number = |name: &str| all.get(name).and_then(Value::as_u64).ok_or_else(|| missing(name));
        let word = |name: &str| all.get(name).and_then(Value::as_str).ok_or_else(|| missing(name));
        Ok(Self {
            dimensions: usize::try_from(number("dimension")?).map_err(|_| missing("dimension"))?,
            element: Element::from_name(word("element")?).ok_or_else(|| missing("element"))?,
            metric: Metric::from_name(word("metric")?).ok_or_else(|| missing("metric"))?,
            model: word("model").unwrap_or("").to_owned(),
            rows: number("rows")?,
            live: number("live")?,
            generation: number("generation").unwrap_or(0),
            all,
        })
    }

    /// Opens files of the collection in `directory` for what `schema.json` says; again, if it got another matrix meanwhile, as by a
    /// recode: rows and scales of two matrices do not belong together.
    pub(crate) fn opened<T>(directory: &Path, mut open: impl FnMut(Self) -> Result<T>) -> Result<T> {
        let mut tried = 0;
        loop {
            let schema = Self::read(directory)?;
            let before = schema.matrix();
            let opened = open(schema);
            tried += 1;
            if tried == OPENS_MAX || Self::read(directory)?.matrix() == before {
                return opened;
            }
        }
    }

    // What tells one matrix of a collection from another.
    fn matrix(&self) -> (Option<u64>, Option<String>) {
        let codec = self.all.get("codec").and_then(Value::as_str).map(str::to_owned);
        (self.all.get("matrix").and_then(Value::as_u64), codec)
    }

    /// True if rows are stored by a codec.
    pub fn is_coded(&self) -> bool {
        self.all.get("codec").and_then(Value::as_str).is_some_and(|codec| codec != "none")
    }

    /// Bytes of a vector as it is set and read.
    pub fn vector_len(&self) -> usize {
        self.element.bytes(self.dimensions)
    }

    /// How large the collection is.
    pub fn extent(&self) -> Extent {
        Extent { live: self.live, vector_len: self.vector_len() }
    }
}

/// A collection to search.
#[derive(Debug)]
pub struct Collection {
    directory: PathBuf,
    schema: Schema,
    generation: Option<Arc<Generation>>,
    /// Up to which generation the files are known to be those that were opened, and how many changes since the opening.
    known: u64,
    followed: usize,
    source: Source,
    /// Rows that are looked at; it grows as far as the mappings have room.
    rows: AtomicUsize,
    /// Rows came that they have no room for.
    outgrown: AtomicBool,
    stride: usize,
}

/// Where the rows are.
#[derive(Debug)]
enum Source {
    /// In the files, whose rows are the vectors.
    Mapped { vectors: Column, valid: Column, warmth: Warmth },
    /// In the files, in rows of a codec, which are decoded as they are needed.
    Coded(Box<Decoded>),
    /// In memory, as of some moment: the rows of a codec, decoded.
    Memory(Block),
}

/// Rows as they are scored: one behind the other, with a flag each that says which are live.
pub(crate) struct Window<'a> {
    pub(crate) first: usize,
    pub(crate) matrix: &'a [u8],
    pub(crate) valid: &'a [u8],
}

/// Changes that are followed before the files are opened again, which renews what `schema.json` says; more of large collections.
const FOLLOWED_MIN: usize = 4096;
/// Rows of a codec that are decoded at once.
const CODED_ROWS: usize = 256;

impl Collection {
    /// Opens and maps the collection in `directory`; rows of a codec are decoded some at a time, by each search anew.
    pub fn open(directory: &Path) -> Result<Self> {
        // Read before all else: what is told later is looked at again.
        let generation = Generation::open(directory).map(Arc::new);
        let told = generation.as_ref().and_then(|generation| generation.told());
        let mut opened = Schema::opened(directory, |schema| Self::open_as(directory, schema))?;
        opened.schema.generation = told.unwrap_or(opened.schema.generation);
        opened.known = opened.schema.generation;
        Ok(Self { generation, ..opened })
    }

    /// The collection's generation now: another than [`schema`](Self::schema) has if a row changed since the opening, or
    /// another collection has taken the name.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn generation(&self) -> Result<u64> {
        // Of a collection that was removed it cannot be read: what is there now under its name?
        match self.generation.as_ref().and_then(|generation| generation.told()) {
            Some(number) => Ok(number),
            None => Ok(Schema::read(&self.directory)?.generation),
        }
    }

    /// What changed since that generation; rows that came behind the last one are looked at from now on, if the mappings have room.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn since(&self, known: u64, ask: Ask) -> Result<Since> {
        let since = match &self.generation {
            Some(generation) => generation.since(known, ask),
            None if self.generation()? == known => Since::Nothing,
            None => Since::Much,
        };
        if let Since::Rows(_, rows) = &since {
            let wanted = rows.last().map_or(0, |last| *last as usize + 1);
            self.rows.fetch_max(wanted.min(self.room()), Ordering::Relaxed);
            self.outgrown.fetch_or(wanted > self.rows(), Ordering::Relaxed);
        }
        Ok(since)
    }

    /// True if the files are still those that were opened, with as many rows as they have now; else they are to be opened again.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn follow(&mut self) -> Result<bool> {
        let (told, rows) = match self.since(self.known, Ask::Cache)? {
            Since::Nothing => return Ok(!self.is_outgrown()),
            Since::Rows(told, rows) => (told, rows),
            Since::Much => return Ok(false),
        };
        self.followed += rows.len();
        if self.is_outgrown() || self.followed > FOLLOWED_MIN.max(self.rows() / 8) {
            return Ok(false);
        }
        self.known = told;
        Ok(true)
    }

    /// True if rows came that the mappings have no room for.
    pub(crate) fn is_outgrown(&self) -> bool {
        self.outgrown.load(Ordering::Relaxed)
    }

    // Rows that the mappings have room for.
    fn room(&self) -> usize {
        match &self.source {
            Source::Mapped { vectors, valid, .. } => {
                let of = |column: &Column, bytes: usize| {
                    column.bytes().len().saturating_sub(column.header.data).checked_div(bytes)
                };
                of(vectors, self.stride).unwrap_or(0).min(of(valid, 1).unwrap_or(0))
            }
            Source::Coded(_) | Source::Memory(_) => self.rows(),
        }
    }

    fn open_as(directory: &Path, schema: Schema) -> Result<Self> {
        if schema.is_coded() {
            return Self::coded(directory);
        }
        // The matrix may grow between the opens: valid first, so that no row is without its flag in the end.
        let vectors = Column::open(directory.join("vectors.npy"))?;
        let valid = Column::open(directory.join("valid.npy"))?;
        let wrong = |column: &Column, why: String| Error::Format { path: column.path.clone(), why };
        let element = schema.element;
        if vectors.header.descr != element.descr() {
            let why = format!("holds {}, schema.json says {}", vectors.header.descr, element.name());
            return Err(wrong(&vectors, why));
        }
        if valid.header.descr != "|b1" || valid.header.shape.len() != 1 {
            return Err(wrong(&valid, "is no array of bool".into()));
        }
        let (matrix_rows, entries) = match vectors.header.shape.as_slice() {
            [rows, entries] => (*rows, *entries),
            shape => return Err(wrong(&vectors, format!("has {} dimensions, not 2", shape.len()))),
        };
        let rows = matrix_rows.min(valid.header.shape[0]);
        let stride = usize::try_from(entries).ok().and_then(|entries| entries.checked_mul(element.width()));
        let fits = |column: &Column, bytes: usize| {
            let rows = usize::try_from(rows).ok()?;
            let end = rows.checked_mul(bytes)?.checked_add(column.header.data)?;
            (rows == 0 || end <= column.bytes().len()).then_some(rows)
        };
        let too_short = |column: &Column| wrong(column, format!("is too short for {rows} rows"));
        let stride = stride.ok_or_else(|| too_short(&vectors))?;
        if stride < schema.vector_len() && rows > 0 {
            return Err(wrong(&vectors, format!("has {stride} bytes a row, less than a vector's")));
        }
        if vectors.header.fortran_order && rows > 1 {
            return Err(wrong(&vectors, "is in Fortran order".into()));
        }
        if vectors.header.data % element.width() != 0 || stride % element.width() != 0 {
            return Err(wrong(&vectors, "has its data at an odd place".into()));
        }
        fits(&valid, 1).ok_or_else(|| too_short(&valid))?;
        let rows = fits(&vectors, stride).ok_or_else(|| too_short(&vectors))?;
        let source = Source::Mapped { vectors, valid, warmth: Warmth::unknown() };
        Ok(Self::of(directory, schema, source, (rows, stride)))
    }

    // Its rows, and the bytes from one to the next.
    fn of(directory: &Path, schema: Schema, source: Source, (rows, stride): (usize, usize)) -> Self {
        Self {
            directory: directory.to_owned(),
            schema,
            generation: None,
            known: 0,
            followed: 0,
            source,
            rows: rows.into(),
            outgrown: false.into(),
            stride,
        }
    }

    fn coded(directory: &Path) -> Result<Self> {
        let decoded = Decoded::open(directory)?;
        decoded.check_scales()?;
        let (schema, rows) = (decoded.schema().clone(), decoded.rows());
        let stride = schema.vector_len().next_multiple_of(size_of::<f32>());
        let source = Source::Coded(Box::new(decoded));
        Ok(Self::of(directory, schema, source, (rows, stride)))
    }

    /// The collection with all rows of its codec decoded into memory; none if they lie there as they are.
    pub(crate) fn in_memory(&self) -> Option<Self> {
        let Source::Coded(decoded) = &self.source else { return None };
        let mut block = Block::default();
        decoded.block(0..self.rows(), self.stride, &mut block);
        let source = Source::Memory(block);
        let (directory, schema) = (self.directory.clone(), self.schema.clone());
        let (generation, rows) = (self.generation.clone(), self.rows().into());
        Some(Self { directory, schema, generation, source, rows, outgrown: false.into(), ..*self })
    }

    /// Parts of the rows that [`window`](Self::window) shows at once.
    pub(crate) fn windows(&self, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let step = if self.is_coded() { CODED_ROWS } else { rows.len().max(1) };
        rows.clone().step_by(step).map(move |start| start..(start + step).min(rows.end))
    }

    /// The rows, which are below `rows()`; `block` is where those of a codec are decoded.
    pub(crate) fn window<'a>(&'a self, rows: Range<usize>, block: &'a mut Block) -> Window<'a> {
        let first = rows.start;
        if let Source::Coded(decoded) = &self.source {
            decoded.block(rows, self.stride, block);
            return Window { first, matrix: block.vectors.as_bytes(), valid: &block.valid };
        }
        let matrix = self.matrix().get(first * self.stride..rows.end * self.stride).unwrap_or_default();
        Window { first, matrix, valid: self.valid().get(rows).unwrap_or_default() }
    }

    /// Begins to read rows that lie apart.
    pub(crate) fn ahead(&self) -> Ahead<'_> {
        match &self.source {
            Source::Mapped { vectors, warmth, .. } => warmth.ahead(&vectors.file),
            Source::Coded(_) | Source::Memory(_) => Ahead::default(),
        }
    }

    /// Where in its file the vector of a row is, and its length.
    pub(crate) fn place(&self, row: u64) -> Option<(u64, usize)> {
        let Source::Mapped { vectors, .. } = &self.source else { return None };
        let start = row.checked_mul(self.stride as u64)?.checked_add(vectors.header.data as u64)?;
        Some((start, self.schema.vector_len()))
    }

    /// So many rows that lay apart were read in this time.
    pub(crate) fn learn(&self, time: Duration, rows: usize) {
        if let Source::Mapped { warmth, .. } = &self.source {
            warmth.learn(time, rows, (rows * self.schema.vector_len()) as u64);
        }
    }

    /// True if rows of a codec are decoded for each search; false if they are searched where they are mapped.
    pub fn is_coded(&self) -> bool {
        matches!(self.source, Source::Coded(_))
    }

    /// The rows of a codebook, and that.
    pub(crate) fn quantized(&self) -> Option<(&Decoded, &Codebook)> {
        let Source::Coded(decoded) = &self.source else { return None };
        match decoded.coder() {
            Coder::Quantized(codebook) => Some((decoded, codebook)),
            Coder::Plain(_) => None,
        }
    }

    /// What `schema.json` said.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Rows, free ones counted.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Bytes from one row to the next.
    pub(crate) fn row_bytes(&self) -> usize {
        self.stride
    }

    /// The bytes of all rows, one behind the other; none if they are to be decoded.
    pub(crate) fn matrix(&self) -> &[u8] {
        match &self.source {
            Source::Mapped { vectors, .. } => {
                let start = vectors.header.data;
                vectors.bytes().get(start..start + self.rows() * self.stride).unwrap_or_default()
            }
            Source::Coded(_) => &[],
            Source::Memory(block) => block.vectors.as_bytes(),
        }
    }

    /// A byte a row, 0 if it is free.
    pub(crate) fn valid(&self) -> &[u8] {
        match &self.source {
            Source::Mapped { valid, .. } => {
                let start = valid.header.data;
                valid.bytes().get(start..start + self.rows()).unwrap_or_default()
            }
            Source::Coded(_) => &[],
            Source::Memory(block) => &block.valid,
        }
    }

    /// True if the row holds a vector now.
    pub fn is_live(&self, row: usize) -> bool {
        match &self.source {
            Source::Coded(decoded) => decoded.is_live(row),
            _ => self.valid().get(row).is_some_and(|flag| *flag != 0),
        }
    }

    /// The bytes of the row's vector where they lie, without padding; none if they are to be decoded.
    pub(crate) fn stored(&self, row: usize) -> Option<&[u8]> {
        let start = row.checked_mul(self.stride)?;
        self.matrix().get(start..start + self.stride)?.get(..self.schema.vector_len())
    }

    /// The bytes of the row's vector, as its attribute reads.
    pub fn vector(&self, row: usize) -> Option<Cow<'_, [u8]>> {
        match &self.source {
            Source::Coded(decoded) => decoded.vector(row).ok().flatten().map(Cow::Owned),
            _ => self.stored(row).map(Cow::Borrowed),
        }
    }

    /// The inode of the file that each row belongs to; 0 of a free row. Reads `headers.npy` as it is now.
    pub fn file_inodes(&self) -> Result<Vec<u64>> {
        let mut inodes = Self::inodes(&self.directory)?;
        inodes.resize(self.rows(), 0);
        Ok(inodes)
    }

    /// The same of the collection in `directory`, all the rows there are now.
    pub fn inodes(directory: &Path) -> Result<Vec<u64>> {
        let headers = Headers::open(directory)?;
        let mut inodes = vec![0; usize::try_from(headers.rows()).unwrap_or(0)];
        headers.each(Headers::FILE_INODE, |row, inode| {
            if let Some(place) = inodes.get_mut(row as usize) {
                *place = inode;
            }
        })?;
        Ok(inodes)
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The headers of the rows, as many as there are now.
    pub fn headers(&self) -> Result<Headers> {
        Headers::open(&self.directory)
    }
}
