//! Arguments of what is about metadata.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs query minilm \"confidence >= 0.8 and source = 'web'\"
  vexfs query minilm \"page.title like 'Intro%' or file.path like 'docs/%'\" --order-by confidence --desc --limit 10
  vexfs query minilm \"file.mtime >= '2026-11-01' and not file.fresh\" --paths -0 | xargs -0 embed
  vexfs query minilm --count
  vexfs search minilm --like a.txt --where \"confidence >= 0.8\"

A condition is that of SQL: = <> < <= > >=, between, in, like, ilike, is null, and, or, not; texts in 'single quotes'. A name
is a member of the metadata (page.title one within another, meta.\"any name\" any), or
  file.path file.name      texts; the path is relative to the mount
  file.size file.uid file.gid
  file.mtime               a time: '2026-11-21', '2026-11-21T14:30:00Z', or seconds since 1970
  file.fresh               true if no vector of the file is older than its content
  xattr.\"user.project\"     an attribute of the file
  row.created row.modified times of the vector
A comparison with what is not there is unknown, and finds nothing. Files that you cannot reach are left out.
`vexfs column add` makes a member an array, which is searched without reading all metadata.")]
pub(crate) struct Query {
    /// The collection
    pub(crate) collection: String,

    /// The condition [default: all]
    #[arg(value_name = "CONDITION")]
    pub(crate) condition: Option<String>,

    /// Sort by a field; vectors without it come last
    #[arg(long, value_name = "FIELD")]
    pub(crate) order_by: Option<String>,

    /// The largest first
    #[arg(long = "desc", requires = "order_by")]
    pub(crate) descending: bool,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,

    /// Print only how many there are
    #[arg(long)]
    pub(crate) count: bool,

    /// Print only paths, one a line
    #[arg(long)]
    pub(crate) paths: bool,

    /// End each path with a NUL instead of a newline, for xargs -0
    #[arg(short = '0', long, requires = "paths")]
    pub(crate) null: bool,

    /// Tell on stderr how the answer was found
    #[arg(long)]
    pub(crate) explain: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs meta book.pdf minilm.17 '{\"start\": 12000, \"length\": 800, \"confidence\": 0.93}'
  vexfs meta book.pdf minilm.17
  getfattr -n user.vector.minilm.17.meta --only-values book.pdf       the same

Known members are source and model (strings), confidence (a number), start and length (whole numbers); any others are
yours. Metadata goes where its vector goes, and stays when that is set anew.")]
pub(crate) struct Meta {
    /// The file
    pub(crate) file: PathBuf,

    /// The collection, with .N for the file's vector number N
    #[arg(value_name = "COLLECTION[.N]")]
    pub(crate) collection: String,

    /// A JSON object of up to 4096 bytes, or - for stdin [default: show what there is]
    #[arg(value_name = "JSON|-", conflicts_with = "remove")]
    pub(crate) metadata: Option<String>,

    /// Remove it
    #[arg(long)]
    pub(crate) remove: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs column add minilm confidence float
  vexfs column add minilm page.title string --width 80
  python3 -c 'import numpy; print(numpy.load(\"/mnt/.vexfs/collections/minilm/confidence.npy\", mmap_mode=\"r\"))'

All metadata there is must fit the type, and what is set later does or is refused. Where a vector has no such member there
stands -1 (bool), -2^63 (int), NaN (float), NaT (timestamp), b'\\xff' (string).")]
pub(crate) struct Column {
    #[command(subcommand)]
    pub(crate) command: ColumnCommand,
}

#[derive(Subcommand)]
pub(crate) enum ColumnCommand {
    /// Show a member as an array
    Add {
        /// The collection
        collection: String,
        /// The member; one within another behind a dot
        field: String,
        /// The type of its values
        #[arg(value_name = "TYPE")]
        kind: ColumnType,
        /// Bytes that a string may have, 1 to 256 [default: 64]
        #[arg(long)]
        width: Option<u16>,
    },
    /// Show it no longer; the metadata stays
    Drop {
        /// The collection
        collection: String,
        /// The member
        field: String,
    },
    /// List the columns
    Ls {
        /// The collection
        collection: String,
    },
}

/// The types of columns.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ColumnType {
    Bool,
    Int,
    Float,
    String,
    Timestamp,
}

impl ColumnType {
    /// As the control file takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Timestamp => "timestamp",
        }
    }
}
