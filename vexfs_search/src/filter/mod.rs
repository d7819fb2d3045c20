//! Conditions on rows: what `vexfs query` and `vexfs search --where` take.
//!
//! The language is an SQL condition: `confidence >= 0.8 and (source = 'web' or page.title like 'Intro%')`. A name is a
//! member of the metadata (`page.title` one within another; `meta."name with spaces"` any), or one of
//!
//! | name | type |
//! | --- | --- |
//! | `file.path`, `file.name` | text; the path relative to the mount |
//! | `file.size`, `file.uid`, `file.gid` | numbers |
//! | `file.mtime` | time |
//! | `file.fresh` | true or false: no vector of the file is older than its content |
//! | `xattr."user.project"` | text: an attribute of the file |
//! | `row.created`, `row.modified` | times: when the file got a vector there, and when it was last set |
//!
//! There are `= <> < <= > >=`, `between`, `in`, `like`, `ilike`, `is null`, `is true`, `and`, `or`, `not`. As in SQL a
//! comparison with what is not there is unknown, and rows are chosen for which the condition is true.

mod evaluate;
mod like;
mod parse;
mod table;

pub use evaluate::{Source, Values};
pub use table::{FileFields, Table, member_of};

use std::fmt;

use like::Pattern;

/// The type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// True or false.
    Bool,
    /// 64-bit integer.
    Int,
    /// 64-bit float.
    Float,
    /// UTF-8.
    Text,
    /// Nanoseconds since 1970.
    Time,
    /// Each row its own: a member of the metadata that is no column.
    Any,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A member of the metadata, by its path.
    Member(String),
    /// Of the file.
    File(FileField),
    /// An attribute of the file.
    Attribute(String),
    /// When the file got a vector there.
    Created,
    /// When the vector was set.
    Modified,
}

/// What is asked of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileField {
    /// Path relative to the mount.
    Path,
    /// Last part of the path.
    Name,
    /// Bytes.
    Size,
    /// Owner.
    Uid,
    /// Group.
    Gid,
    /// Last change of the content.
    Mtime,
    /// No vector is older than the content.
    Fresh,
}

/// A value that a condition names, or a row has.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text.
    Text(String),
    /// Nanoseconds since 1970.
    Time(i64),
    /// An array or object: it is there, and that is all a condition can ask.
    Other,
}

/// A condition.
#[derive(Clone, Debug)]
pub struct Filter {
    expression: Expression,
    /// Those it names, each once.
    fields: Vec<(Field, Kind)>,
}

#[derive(Clone, Debug)]
enum Expression {
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Not(Box<Expression>),
    Constant(Option<bool>),
    /// Unknown counts as false.
    Known(Box<Expression>),
    Compare {
        field: usize,
        operator: Operator,
        value: Scalar,
    },
    In {
        field: usize,
        values: Vec<Scalar>,
    },
    Like {
        field: usize,
        pattern: Pattern,
    },
    IsNull {
        field: usize,
    },
    IsTrue {
        field: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a text is no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    /// Character that it is about, from 0.
    at: usize,
    why: String,
}

impl Filter {
    /// Parses a condition; `kind` tells the type of a column by its name.
    ///
    /// # Errors
    /// The text is no condition, compares what cannot be compared, or asks for something unknown; the error shows where.
    pub fn parse(text: &str, kind: &(dyn Fn(&str) -> Option<Kind> + Sync)) -> Result<Self, ParseError> {
        parse::parse(text, kind)
    }

    /// The fields that it names.
    pub fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().map(|(field, _)| field)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line: String = self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        write!(f, "{}\n  {line}\n  {:at$}^", self.why, "", at = self.at)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests;
