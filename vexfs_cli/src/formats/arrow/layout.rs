//! Fields of an Arrow schema, and where a record batch has their buffers.
//!
//! Numbers of fields and kinds are those of Arrow's `Schema.fbs` and `Message.fbs`. All kinds are known as far as it
//! takes to step over them.

use std::collections::HashMap;

use super::flat::Table;

/// Fields that a schema may have; more is damage.
const FIELDS_MAX: usize = 10_000;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers, by numpy's name of them.
    Number(&'static str),
    /// Lists of as many entries each.
    FixedList(usize),
    /// Lists, or text: offsets of this width, and what they point into.
    List { width: usize },
    /// As lists, of bytes.
    Text { width: usize },
    /// Text in views of 16 bytes.
    TextView,
    /// Anything else, of as many buffers.
    Other { buffers: usize, is_view: bool },
}

impl Kind {
    // By the number and the table of a field's type.
    fn of(number: u8, table: Option<Table<'_>>) -> Result<Self, String> {
        let int = |field| table.map_or(0, |table| table.int(field));
        let short = |field| table.map_or(0, |table| table.short(field));
        let other = |buffers| Self::Other { buffers, is_view: false };
        Ok(match number {
            1 | 22 => other(0),
            2 => match (int(0), table.is_some_and(|table| table.byte(1) != 0)) {
                (8, true) => Self::Number("|i1"),
                (8, false) => Self::Number("|u1"),
                (16, true) => Self::Number("<i2"),
                (16, false) => Self::Number("<u2"),
                (32, true) => Self::Number("<i4"),
                (32, false) => Self::Number("<u4"),
                (64, true) => Self::Number("<i8"),
                _ => Self::Number("<u8"),
            },
            3 => Self::Number(match short(0) {
                0 => "<f2",
                1 => "<f4",
                _ => "<f8",
            }),
            5 => Self::Text { width: 4 },
            20 => Self::Text { width: 8 },
            24 => Self::TextView,
            12 => Self::List { width: 4 },
            21 => Self::List { width: 8 },
            16 => Self::FixedList(usize::try_from(int(0)).map_err(|_| "a list of negative length")?),
            6..=11 | 15 | 18 | 17 => other(2),
            4 | 19 | 25 | 26 => other(3),
            13 => other(1),
            // A dense union has offsets behind its kinds.
            14 => other(if short(0) == 0 { 1 } else { 2 }),
            23 => Self::Other { buffers: 2, is_view: true },
            unknown => return Err(format!("a column of a type that is not known here ({unknown})")),
        })
    }

    fn buffers(self) -> usize {
        match self {
            Self::FixedList(_) => 1,
            Self::Number(_) | Self::List { .. } | Self::TextView => 2,
            Self::Text { .. } => 3,
            Self::Other { buffers, .. } => buffers,
        }
    }

    fn is_view(self) -> bool {
        matches!(self, Self::TextView | Self::Other { is_view: true, .. })
    }
}

/// A column of a schema.
pub(super) struct Field {
    /// Its name.
    pub(super) name: String,
    /// What it holds.
    pub(super) kind: Kind,
    /// Its values are numbers of entries of a dictionary.
    pub(super) in_dictionary: bool,
    /// What it consists of.
    pub(super) children: Vec<Field>,
}

impl Field {
    /// numpy's type of the entries, if it holds lists of numbers.
    pub(super) fn entry(&self) -> Option<&'static str> {
        match (self.kind, &self.children[..]) {
            (Kind::FixedList(_) | Kind::List { .. }, [item]) if !item.in_dictionary => match item.kind {
                Kind::Number("<u8" | "<u4" | "<u2") => None,
                Kind::Number(descr) => Some(descr),
                _ => None,
            },
            _ => None,
        }
    }

    fn parse(table: Table<'_>, left: &mut usize) -> Result<Self, String> {
        *left = left.checked_sub(1).ok_or("its schema has too many fields")?;
        let kind = Kind::of(table.byte(2), table.table(3))?;
        let in_dictionary = table.table(4).is_some();
        let children: Vec<Table<'_>> = if in_dictionary { Vec::new() } else { table.tables(5).collect() };
        let children =
            children.into_iter().map(|child| Self::parse(child, left)).collect::<Result<_, _>>()?;
        // Of a dictionary the numbers are here.
        let kind = if in_dictionary { Kind::Other { buffers: 2, is_view: false } } else { kind };
        Ok(Self { name: table.text(0).unwrap_or("").to_owned(), kind, in_dictionary, children })
    }
}

/// A schema.
pub(super) struct Schema {
    /// Its columns.
    pub(super) fields: Vec<Field>,
    /// What is said of them.
    pub(super) metadata: HashMap<String, String>,
}

impl Schema {
    /// That of a table `Schema`.
    pub(super) fn parse(table: Table<'_>) -> Result<Self, String> {
        if table.short(0) != 0 {
            return Err("its numbers are big-endian".into());
        }
        let mut left = FIELDS_MAX;
        let fields = table.tables(1).map(|field| Field::parse(field, &mut left)).collect::<Result<_, _>>()?;
        let text = |table: Table<'_>, number| table.text(number).unwrap_or("").to_owned();
        let metadata = table.tables(2).map(|pair| (text(pair, 0), text(pair, 1))).collect();
        Ok(Self { fields, metadata })
    }
}

/// Where a batch has a column: offsets and lengths in its body.
pub(super) struct Array {
    /// Entries.
    pub(super) len: usize,
    /// So many of them are null.
    pub(super) nulls: i64,
    /// Buffers: which entries there are, then what the kind needs.
    pub(super) buffers: Vec<[usize; 2]>,
    /// Those of what it consists of.
    pub(super) children: Vec<Array>,
}

/// Where a batch, a table `RecordBatch`, has the columns of a schema.
pub(super) fn arrays(batch: Table<'_>, schema: &Schema) -> Result<Vec<Array>, String> {
    let size = |number: i64| usize::try_from(number).ok();
    let mut nodes = batch.structs::<2>(1).map(|node| Some((size(node[0])?, node[1])));
    let mut buffers = batch.structs::<2>(2).map(|buffer| Some([size(buffer[0])?, size(buffer[1])?]));
    let mut views = batch.structs::<1>(4).map(|[count]| size(count));
    let mut take = Take {
        node: &mut || nodes.next().flatten(),
        buffer: &mut || buffers.next().flatten(),
        view: &mut || views.next().flatten(),
    };
    let arrays = schema.fields.iter().map(|field| take.array(field)).collect::<Option<_>>();
    arrays.ok_or_else(|| "a batch has other columns than the schema".into())
}

struct Take<'a> {
    node: &'a mut dyn FnMut() -> Option<(usize, i64)>,
    buffer: &'a mut dyn FnMut() -> Option<[usize; 2]>,
    view: &'a mut dyn FnMut() -> Option<usize>,
}

impl Take<'_> {
    fn array(&mut self, field: &Field) -> Option<Array> {
        let (len, nulls) = (self.node)()?;
        let more = if field.kind.is_view() { (self.view)()? } else { 0 };
        let mut buffers = Vec::new();
        for _ in 0..field.kind.buffers().checked_add(more)? {
            buffers.push((self.buffer)()?);
        }
        let children = field.children.iter().map(|child| self.array(child)).collect::<Option<_>>()?;
        Some(Array { len, nulls, buffers, children })
    }
}
