//! Arguments of `vexfs watch`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::positive;

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs watch minilm --dir docs --glob '*.md' -- ./embed.py
  vexfs watch minilm -0 -- ./embed.py                  paths end with a NUL: for names with line ends
  vexfs watch minilm --dir docs --once -- ./embed.py   until nothing is left to do
  vexfs watch minilm --dir docs --list                 only what there is to do

COMMAND is run for up to --batch files at a time. It reads their paths from stdin, one a line, and writes their vectors to
stdout in the same order: an .npy matrix with a row a file, or JSON, one array of numbers a file. An array of arrays gives a
file the vectors 0, 1, 2 ...; null leaves it without, until it changes. What it gives takes the place of all vectors that the
file has in the collection. In its environment are VEXFS_COLLECTION, VEXFS_DIMENSION (0 if not fixed yet) and VEXFS_ELEMENT.

  import sys, json
  for path in sys.stdin: print(json.dumps(model.encode(open(path.rstrip('\\n')).read()).tolist()))

Without --dir it takes the files of the whole mount that have vectors in the collection and changed since; with --dir all
below it that have none yet, too. A vector counts as made from what the file held when its turn came, so a file that changes
meanwhile is stale at once, and comes again. If COMMAND fails, its files are tried in halves, then one by one, each after 1, 2,
4 ... up to 300 seconds.

Any number of these may run beside each other, and be killed: each leases the files that it works on (getfattr -n
user.vexfs.lease.COLLECTION FILE; root sees all in .vexfs/pending), prolongs that while COMMAND runs, and takes
over those of a process that is gone. Every file gets its vectors at least once.")]
pub(crate) struct Watch {
    /// The collection; it must exist
    pub(crate) collection: String,

    /// Take files without a vector, too: all below this directory; may be given again
    #[arg(long = "dir", value_name = "DIR")]
    pub(crate) directories: Vec<PathBuf>,

    /// Only files of these names, or, with a slash, of these paths relative to DIR (** is any depth); may be given again
    #[arg(long = "glob", value_name = "PATTERN")]
    pub(crate) patterns: Vec<String>,

    /// Below DIR, take names that begin with a dot, too
    #[arg(long)]
    pub(crate) hidden: bool,

    /// Files a run of COMMAND, at most
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = batch)]
    pub(crate) batch: usize,

    /// Stop once nothing is left to do; fails if files are left that COMMAND failed for
    #[arg(long)]
    pub(crate) once: bool,

    /// Print what there is to do, and stop
    #[arg(long, conflicts_with = "command")]
    pub(crate) list: bool,

    /// Seconds between two looks for changed files
    #[arg(long, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub(crate) interval: f64,

    /// Leave a file alone until it has not changed for so many seconds
    #[arg(long, value_name = "S", default_value_t = 0.5, value_parser = seconds)]
    pub(crate) settle: f64,

    /// Seconds until others may take over the files of a process that no longer prolongs its lease
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..=86400))]
    pub(crate) lease: u32,

    /// Seconds that a run of COMMAND may take
    #[arg(long, value_name = "S", default_value_t = 600.0, value_parser = seconds)]
    pub(crate) timeout: f64,

    /// Failures in a row after which a command that never succeeded is given up, and with --once a file
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = positive)]
    pub(crate) retries: usize,

    /// What COMMAND writes
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub(crate) format: Format,

    /// End each path with a NUL instead of a newline
    #[arg(short = '0', long)]
    pub(crate) null: bool,

    /// The command, and its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "list")]
    pub(crate) command: Vec<OsString>,
}

/// A form in which vectors are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// npy or json, by the first byte
    Auto,
    /// An .npy matrix
    Npy,
    /// JSON arrays
    Json,
    /// The collection's elements, little-endian, nothing between
    Raw,
}

// Each file is held open.
fn batch(text: &str) -> Result<usize, String> {
    positive(text).and_then(|number| match number {
        ..=512 => Ok(number),
        _ => Err("at most 512".into()),
    })
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=1e6).contains(seconds));
    seconds.ok_or_else(|| "a number of seconds, not negative, is needed".into())
}
