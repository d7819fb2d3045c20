//! The condition of a question: which rows may be told, by their metadata and their files.
//!
//! INVARIANT: it is true of a row here where `vexfs query` finds it true: columns have the bytes of their files, members are
//! those of the metadata, and files and their attributes are asked for as the caller. What he cannot reach or read is not there.

use std::cell::{Cell, OnceCell, RefCell};

use serde_json::Value;
use vexfs_core::control::COLUMNS;
use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::{ColumnType, MATRIX_DATA, RowRecord, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Caller, Column, Holder, Owner, Reach};
use vexfs_core::{Error, Result, Volume};
use vexfs_search::filter::{self, Field, FileField, Filter, Kind, Scalar, Values};

use super::refusal::Refusal;
use super::scan::Candidate;
use super::source::Source;

/// A condition on the rows of a collection.
pub(super) struct Condition {
    filter: Filter,
    columns: Vec<Column>,
}

/// What a condition says of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Chosen,
    LeftOut,
    /// It holds another vector.
    Gone,
}

impl Condition {
    /// Parses a condition on a collection.
    pub(super) fn parse(
        source: &impl Source,
        id: CollectionId,
        text: &str,
    ) -> std::result::Result<Self, Refusal> {
        let columns = source.look(|volume| volume.columns(id))?;
        let kind = |name: &str| {
            columns.iter().find(|column| column.name == name.as_bytes()).map(|it| kind_of(it.kind))
        };
        let filter = Filter::parse(text, &kind).map_err(|error| Refusal::Said(format!("where: {error}")))?;
        Ok(Self { filter, columns })
    }

    /// What it says of each of some rows, as of now.
    pub(super) fn judge<H: BlockDevice + Data>(
        &self,
        (volume, id): (&Volume<H>, CollectionId),
        candidates: &[Candidate],
        caller: &Caller<'_>,
        reach: &mut Reach,
    ) -> Result<Vec<Verdict>> {
        let mut records = Vec::with_capacity(candidates.len());
        for Candidate { hit, vector_id } in candidates {
            let record = volume.row(id, hit.row)?;
            records.push(record.filter(|record| record.header.vector_id.get() == *vector_id));
        }
        let wanted: Vec<u8> = records.iter().map(|record| u8::from(record.is_some())).collect();
        let rows = Rows {
            condition: self,
            volume,
            id,
            candidates,
            records: &records,
            caller,
            reach: RefCell::new(reach),
            owners: candidates.iter().map(|_| OnceCell::new()).collect(),
            failed: Cell::new(None),
        };
        let chosen = self.filter.rows(&rows, &wanted);
        if let Some(error) = rows.failed.take() {
            return Err(error);
        }
        let chosen = chosen.map_err(|_| Error::Invalid("a condition that cannot be evaluated"))?;
        let verdict = |(index, wanted): (usize, &u8)| match *wanted {
            0 => Verdict::Gone,
            _ if chosen.contains(index) => Verdict::Chosen,
            _ => Verdict::LeftOut,
        };
        Ok(wanted.iter().enumerate().map(verdict).collect())
    }
}

/// Some rows as a table, asked for while the volume is held.
struct Rows<'a, H> {
    condition: &'a Condition,
    volume: &'a Volume<H>,
    id: CollectionId,
    candidates: &'a [Candidate],
    records: &'a [Option<RowRecord>],
    caller: &'a Caller<'a>,
    reach: RefCell<&'a mut Reach>,
    /// The file of each, once it was asked for, if the caller finds it.
    owners: Vec<OnceCell<Option<Owner>>>,
    failed: Cell<Option<Error>>,
}

impl<H: BlockDevice + Data> filter::Source for Rows<'_, H> {
    fn rows(&self) -> usize {
        self.candidates.len()
    }

    fn values(&self, field: &Field, wanted: &[u8]) -> vexfs_search::Result<Values<'_>> {
        let value = |(index, wanted): (usize, &u8)| {
            if *wanted == 0 {
                return None;
            }
            self.value(field, index).unwrap_or_else(|error| {
                self.failed.set(Some(error));
                None
            })
        };
        Ok(Values::Any(wanted.iter().enumerate().map(value).collect()))
    }
}

impl<H: BlockDevice + Data> Rows<'_, H> {
    fn value(&self, field: &Field, index: usize) -> Result<Option<Scalar>> {
        let Some(record) = self.records[index] else { return Ok(None) };
        let time = |time: u64| i64::try_from(time).ok().filter(|time| *time != 0).map(Scalar::Time);
        match field {
            Field::Member(path) => {
                let column = self.condition.columns.iter().find(|column| column.name == path.as_bytes());
                match column {
                    Some(column) => self.entry(column, self.candidates[index].hit.row),
                    None => self.member(path, self.candidates[index].hit.row),
                }
            }
            Field::Created => Ok(time(record.header.created_timestamp.get())),
            Field::Modified => Ok(time(record.header.modified_timestamp.get())),
            Field::File(field) => self.of_file(*field, index),
            Field::Attribute(name) => self.attribute(name, index),
        }
    }

    // As the column's file shows it.
    fn entry(&self, column: &Column, row: u64) -> Result<Option<Scalar>> {
        let width = usize::from(column.width);
        let mut bytes = vec![0; width];
        let inode = Ino(collection_directory(self.id).0 + COLUMNS + column.number);
        let read = self.volume.read_begin(inode, MATRIX_DATA + row * width as u64, &mut bytes)?;
        // It may be dropped, or the row behind its end, since the question was begun.
        Ok(if read.len == width { scalar(column.kind, &bytes) } else { None })
    }

    fn member(&self, path: &str, row: u64) -> Result<Option<Scalar>> {
        let text = self.volume.metadata_of(self.id, row)?;
        let metadata = text.and_then(|text| serde_json::from_slice::<Value>(&text).ok());
        Ok(metadata.and_then(|metadata| filter::member_of(&metadata, path)))
    }

    fn of_file(&self, field: FileField, index: usize) -> Result<Option<Scalar>> {
        let Some(owner) = self.owner(index)? else { return Ok(None) };
        let text = |bytes: &[u8]| Scalar::Text(String::from_utf8_lossy(bytes).into_owned());
        let file = || self.volume.attributes(owner.inode);
        Ok(Some(match field {
            FileField::Path => text(&owner.path),
            FileField::Name => text(owner.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()),
            FileField::Size => Scalar::Int(file()?.size as i64),
            FileField::Uid => Scalar::Int(file()?.uid.into()),
            FileField::Gid => Scalar::Int(file()?.gid.into()),
            FileField::Mtime => {
                let modified = file()?.modified;
                let seconds = modified.seconds.saturating_mul(1_000_000_000);
                Scalar::Time(seconds.saturating_add(modified.nanoseconds.into()))
            }
            FileField::Fresh => {
                let fresh = self.text(owner, "user.vexfs.fresh")?;
                return Ok(fresh.map(|fresh| Scalar::Bool(fresh == "1")));
            }
        }))
    }

    fn attribute(&self, name: &str, index: usize) -> Result<Option<Scalar>> {
        let Some(owner) = self.owner(index)? else { return Ok(None) };
        Ok(self.text(owner, name)?.map(Scalar::Text))
    }

    // What getxattr(2) gives the caller, where it is text: the kernel would check it so.
    fn text(&self, owner: &Owner, name: &str) -> Result<Option<String>> {
        let may = match name.split('.').next() {
            Some("user") => self.volume.may_read(owner.inode, self.caller)?,
            Some("trusted") => self.caller.uid == 0,
            _ => true,
        };
        if !may {
            return Ok(None);
        }
        match self.volume.attribute(owner.inode, name.as_bytes()) {
            Ok(value) => Ok(String::from_utf8(value).ok()),
            Err(Error::NoMemory) => Err(Error::NoMemory),
            Err(_) => Ok(None),
        }
    }

    fn owner(&self, index: usize) -> Result<Option<&Owner>> {
        if let Some(known) = self.owners[index].get() {
            return Ok(known.as_ref());
        }
        let Candidate { hit, vector_id } = self.candidates[index];
        let mut reach = self.reach.borrow_mut();
        let owner = match self.volume.holder(self.id, hit.row, vector_id, self.caller, &mut reach)? {
            Holder::Found(owner) => Some(owner),
            Holder::Hidden | Holder::Gone => None,
        };
        Ok(self.owners[index].get_or_init(|| owner).as_ref())
    }
}

fn kind_of(column: ColumnType) -> Kind {
    match column {
        ColumnType::Bool => Kind::Bool,
        ColumnType::Int => Kind::Int,
        ColumnType::Float => Kind::Float,
        ColumnType::String => Kind::Text,
        ColumnType::Timestamp => Kind::Time,
    }
}

// An entry of a column; none where it says that there is none.
fn scalar(kind: ColumnType, entry: &[u8]) -> Option<Scalar> {
    let number = || <[u8; 8]>::try_from(entry).ok();
    let whole = || number().map(i64::from_le_bytes).filter(|number| *number != i64::MIN);
    match kind {
        ColumnType::Bool => match *entry.first()? {
            0 => Some(Scalar::Bool(false)),
            1 => Some(Scalar::Bool(true)),
            _ => None,
        },
        ColumnType::Int => whole().map(Scalar::Int),
        ColumnType::Timestamp => whole().map(Scalar::Time),
        ColumnType::Float => {
            number().map(f64::from_le_bytes).filter(|number| !number.is_nan()).map(Scalar::Float)
        }
        ColumnType::String => {
            let end = entry.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            String::from_utf8(entry[..end].to_vec()).ok().map(Scalar::Text)
        }
    }
}
