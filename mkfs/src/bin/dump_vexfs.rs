//! dump.vexfs: shows the structures of a VexFS image.

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use mkfs::dump::{self, Reader, Report};
use mkfs::message;
use vexfs_host::{Access, Image, ImageError, LockedImage};

/// Show the structures of a VexFS image, as the last commit left them; `journal` shows what was synced since.
#[derive(Parser)]
#[command(name = "dump.vexfs", version, after_help = EXAMPLES)]
struct Arguments {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,

    /// Image or block device; it is only read
    image: PathBuf,

    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// The four superblock slots, and the newest copy in full (the default)
    Superblock,
    /// Every node of the tree, level by level
    Tree {
        /// Every record, too
        #[arg(long)]
        records: bool,
    },
    /// Free space: the map, and free runs by size
    Space {
        /// Every free run, too
        #[arg(long)]
        runs: bool,
    },
    /// The journal, record by record; exit code 1 if one is damaged
    Journal,
    /// Every record of an inode
    Inode {
        /// Its number, as `ls -i` shows it
        number: u64,
    },
    /// Every record of a file
    File {
        /// Its path from the root of the volume
        path: OsString,
    },
    /// A collection: settings, rows, and where its matrix lies
    Collection {
        /// Its name
        name: OsString,
        /// Every row, too
        #[arg(long)]
        rows: bool,
    },
    /// How many nodes and records of which kind
    Stats,
}

const EXAMPLES: &str = "\
Examples:
  dump.vexfs notes.img                          is the volume whole, how large, which generation?
  dump.vexfs notes.img file /docs/a.txt         inode, names, extents, attributes, vectors of a file
  dump.vexfs notes.img collection minilm --rows
  dump.vexfs --json notes.img tree --records | grep Orphan

Exit status: 0 all that was asked for is whole, 1 something is damaged or missing, 2 wrong arguments.
What is shown of a mounted image may change while it is read.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    message::start_log("dump.vexfs");
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // `dump.vexfs ... | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dump.vexfs: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<bool> {
    let image = open(arguments)?;
    let mut report = Report::new(BufWriter::new(io::stdout().lock()), arguments.json);
    let shown = show(arguments, &image, &mut report);
    report.finish()?;
    shown
}

fn show<W: Write>(arguments: &Arguments, image: &Image, report: &mut Report<W>) -> io::Result<bool> {
    let what = arguments.what.as_ref().unwrap_or(&What::Superblock);
    let reader =
        || Reader::open(image).map_err(|error| io::Error::other(message::describe(&arguments.image, error)));
    match what {
        What::Superblock => {
            let whole = dump::superblock(&image, report)?;
            reader().map(|_| whole)
        }
        What::Tree { records } => dump::tree(&reader()?, *records, report),
        What::Space { runs } => dump::space(&reader()?, *runs, report),
        What::Journal => dump::journal(&reader()?, report),
        What::Inode { number } => dump::inode(&reader()?, *number, report),
        What::File { path } => dump::file(&reader()?, path.as_bytes(), report),
        What::Collection { name, rows } => dump::collection(&reader()?, name.as_bytes(), *rows, report),
        What::Stats => dump::statistics(&reader()?, report),
    }
}

// Opens without a lock, but says so if somebody writes the image.
fn open(arguments: &Arguments) -> io::Result<Image> {
    let path = &arguments.image;
    if let Err(error @ (ImageError::InUse { .. } | ImageError::Mounted { .. })) =
        LockedImage::open(path, Access::Read, std::time::Duration::ZERO)
    {
        eprintln!("dump.vexfs: warning: {error}; what is shown may change meanwhile");
    }
    Image::open(path, Access::Read).map_err(io::Error::other)
}
