//! The command line: every command, its arguments, and the examples that teach it.

mod metadata;
mod search;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub(crate) use metadata::{Column, ColumnCommand, Meta, Query};
pub(crate) use search::{Index, IndexKind, Recall, Search};
pub(crate) use watch::{Format, Watch};

use crate::formats::Format as FileFormat;

/// Collections and vectors of a mounted VexFS volume.
///
/// A vector is an attribute of its file; a collection holds the vectors of one model, and is one matrix that any
/// program maps. A COLLECTION is named by its name, if you are inside the mount or say --mount, or by its path in
/// the control directory (/mnt/.vexfs/collections/NAME).
#[derive(Parser)]
#[command(name = "vexfs", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) common: Common,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples, on a volume mounted at /mnt:
  cd /mnt
  vexfs create minilm --dim 384 --model all-MiniLM-L6-v2
  vexfs set notes/a.txt minilm '[0.1, 0.2, ...]'       a file's vector: JSON, an .npy file, or - for stdin
  vexfs get notes/a.txt minilm -o a.npy
  vexfs import minilm vectors.npy --paths list.txt     row i is the vector of the file in line i
  vexfs ls
  vexfs search minilm --like notes/a.txt -k 5          which files are nearest to this one?
  cd / && vexfs umount /mnt                            returns once everything is on disk

The same without this program: setfattr and getfattr -n user.vector.minilm, and in Python
  numpy.load('/mnt/.vexfs/collections/minilm/vectors.npy', mmap_mode='r')";

/// What every command takes.
#[derive(Args)]
pub(crate) struct Common {
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The mount to work on [default: the one that holds the file or the working directory, or the only one]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) mount: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Create a collection
    Create(Create),
    /// List the collections
    Ls,
    /// Show a collection, or a file's vectors
    Info(Info),
    /// Set a file's vector
    Set(Set),
    /// Print or save a file's vector
    Get(Get),
    /// Set the vectors of many files from an .npy matrix
    Import(Import),
    /// Save a collection's live rows: npy, npz, Arrow, Parquet, JSON lines, fvecs, SQLite or faiss
    Export(Export),
    /// List the files whose content changed since their vectors were made
    Stale(Stale),
    /// Keep vectors current by a command that makes them: paths in, vectors out
    Watch(Watch),
    /// Measure what each codec would make of a collection, and recommend one
    Analyze(Analyze),
    /// Show the versions of a file's vectors: the present ones, and what they superseded
    Log(Log),
    /// Close the gaps that removed vectors left in a collection, and give their space back
    Compact(Compact),
    /// Exchange the names of two collections, so that a new model's vectors become the current ones
    Switch(Switch),
    /// Store a collection in another codec
    Recode(Recode),
    /// Show the state of the volume
    Stats,
    /// Find the files whose vectors are nearest to a file's, a vector or a text
    Search(Search),
    /// Find the vectors whose metadata and files meet a condition
    Query(Query),
    /// Show, set or remove the metadata of a file's vector
    Meta(Meta),
    /// Show members of the metadata as arrays that can be mapped, and searched fast
    Column(Column),
    /// Build an index beside a collection, so that searches read a small part of it; or bring it up to date
    Index(Index),
    /// Compare what searches with the index find with the exact answers
    Recall(Recall),
    /// Unmount, and wait until everything is on disk and the image is free
    Umount(Umount),
}

/// Settings of a collection; they are fixed with its first vector.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs create minilm --dim 384 --model all-MiniLM-L6-v2
  vexfs create clip8 --dim 512 --element i8 --metric ip
  vexfs create small --dim 384 --codec sq8             a quarter of the bytes; reads as f32 again
  vexfs create more --like small --codec pq --codebook .vexfs/collections/small/codebook.npy
  vexfs create simhash --dim 64 --element bit --metric hamming
  vexfs create minilm-next --like minilm --model all-MiniLM-L12-v2     to be filled, and switched to: vexfs switch
  chmod 755 .vexfs/collections/minilm                  let others map and search it")]
pub(crate) struct Create {
    /// Its name: 1 to 64 characters of A-Z a-z 0-9 _ -
    #[arg(value_name = "NAME")]
    pub(crate) collection: String,

    /// Dimensions; of bits a multiple of 8 [default: those of the first vector]
    #[arg(long, value_name = "D")]
    pub(crate) dim: Option<u32>,

    /// Settings, columns, owner and mode are those of this collection, but for what is given here; another --model has dimensions of its own
    #[arg(long, value_name = "COLLECTION")]
    pub(crate) like: Option<String>,

    /// Element type: f32, f16, i8, i16 or bit [default: f32]
    #[arg(long, value_parser = ["f32", "f16", "i8", "i16", "bit"])]
    pub(crate) element: Option<String>,

    /// How rows are stored: none, f16, sq8, sq4, binary or pq; all but none keep fewer bits [default: none]
    #[arg(long, value_parser = ["none", "f16", "sq8", "sq4", "binary", "pq"])]
    pub(crate) codec: Option<String>,

    /// The codebook of a collection of like vectors, for pq: its codebook.npy
    #[arg(long, value_name = "FILE.npy")]
    pub(crate) codebook: Option<PathBuf>,

    /// How near is measured: cosine, l2, ip (inner product) or hamming [default: cosine, hamming for bits]
    #[arg(long, value_parser = ["cosine", "l2", "ip", "hamming"])]
    pub(crate) metric: Option<String>,

    /// The model that makes the vectors, for the record
    #[arg(long)]
    pub(crate) model: Option<String>,

    /// Superseded vectors to keep behind each, up to 64 (`vexfs log`); can be changed later: setfattr -n user.vexfs.history
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(..=64))]
    pub(crate) history: Option<u16>,
}

#[derive(Args)]
pub(crate) struct Info {
    /// A collection, or a file on the mount (a file wins where both have the name)
    #[arg(value_name = "COLLECTION|FILE")]
    pub(crate) what: PathBuf,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs set a.txt tiny '[1, 0, 0.5]'
  vexfs set a.txt minilm a.npy                         the file's vector number 0
  vexfs set book.pdf minilm.17 chunk17.npy             its vector number 17
  embed < a.txt | vexfs set a.txt minilm -             npy, JSON or raw little-endian elements on stdin
A collection that does not exist is created by its first vector (minilm:i8 asks for 8-bit integers).")]
pub(crate) struct Set {
    /// The file
    pub(crate) file: PathBuf,

    /// The collection, with .N for the file's vector number N
    #[arg(value_name = "COLLECTION[.N]")]
    pub(crate) collection: String,

    /// The content version that it was made from, as `getfattr -n user.vexfs.version` told before the file was read: if the
    /// file has changed since, the vector is stale at once
    #[arg(long = "version", value_name = "V")]
    pub(crate) version: Option<u64>,

    /// An .npy file, - for stdin, or a JSON array of numbers
    #[arg(value_name = "VECTOR.npy|-|JSON", allow_hyphen_values = true)]
    pub(crate) vector: String,
}

#[derive(Args)]
pub(crate) struct Get {
    /// The file
    pub(crate) file: PathBuf,

    /// The collection, with .N for the file's vector number N
    #[arg(value_name = "COLLECTION[.N]")]
    pub(crate) collection: String,

    /// The vector that it superseded so many times ago, from 1 on (vexfs log)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) back: Option<u16>,

    /// Save as an .npy file instead of printing a JSON array
    #[arg(short, long, value_name = "FILE.npy")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
LIST has one path a line, relative to --base (or to LIST's directory), row 0's first. A path that occurs again
gets the file's next vector: 0, 1, 2 ...; a tab and a number behind a path say which.
Without --paths the file of vectors tells them itself, in a column `path` (npz, Arrow, Parquet, JSON lines, SQLite),
and numbers in a column `n`. Batches are whole or not at all; an import that was interrupted goes on with --skip-existing.

Examples:
  vexfs import minilm vectors.npy --paths list.txt
  vexfs import minilm vectors.npy --paths list.txt --base /mnt/docs --skip-existing
  vexfs import minilm embeddings.parquet --column embedding --path-column file --base /mnt/docs
  vexfs import sift base.fvecs --paths list.txt        also .bvecs, .ivecs, .npz, .arrow, .jsonl, .db (vec0), .faiss
  find /mnt/docs -type f | sort > list.txt; embed list.txt > v.npy; vexfs import minilm v.npy --paths list.txt")]
pub(crate) struct Import {
    /// The collection; created with the matrix's dimensions if there is none
    pub(crate) collection: String,

    /// The vectors; the name's extension tells the format
    #[arg(value_name = "VECTORS")]
    pub(crate) vectors: PathBuf,

    /// The format, where the name does not tell it
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) format: Option<FileFormat>,

    /// The file of paths; - for stdin [default: the paths in VECTORS]
    #[arg(long, value_name = "LIST")]
    pub(crate) paths: Option<PathBuf>,

    /// The column (array, member) of the vectors [default: the only one that can be, or `vector`, `embedding`]
    #[arg(long, value_name = "NAME")]
    pub(crate) column: Option<String>,

    /// The column of the paths
    #[arg(long, value_name = "NAME", default_value = "path")]
    pub(crate) path_column: String,

    /// The column that says which vector of its file each is
    #[arg(long, value_name = "NAME", default_value = "n")]
    pub(crate) number_column: String,

    /// The table of a database [default: the only vec0 table]
    #[arg(long, value_name = "NAME")]
    pub(crate) table: Option<String>,

    /// Directory that the paths are relative to
    #[arg(long, value_name = "DIR")]
    pub(crate) base: Option<PathBuf>,

    /// Leave vectors alone that are there already
    #[arg(long)]
    pub(crate) skip_existing: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs export minilm vectors.npy --paths list.txt     and elsewhere: vexfs import minilm vectors.npy --paths list.txt
  vexfs export minilm minilm.parquet                   with the columns vector, path and n; also .npz .arrow .jsonl .db
  vexfs export minilm minilm.faiss --paths list.txt    an IndexFlat; also .fvecs .bvecs .ivecs")]
pub(crate) struct Export {
    /// The collection
    pub(crate) collection: String,

    /// The file to write: live rows alone, without padding; the name's extension tells the format
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,

    /// The format, where the name does not tell it
    #[arg(long, value_enum, hide_possible_values = true)]
    pub(crate) format: Option<FileFormat>,

    /// Write the path of each row's file, relative to the mount
    #[arg(long, value_name = "OUT.txt")]
    pub(crate) paths: Option<PathBuf>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs analyze minilm
  vexfs analyze minilm --chart minilm.svg --json | jq 'select(.recommended)'
  vexfs create small --dim 384 --codec sq8             then: vexfs export minilm v.npy --paths l.txt; vexfs import ...

A sample of the collection's own vectors is coded and read again. RECALL is the share of the K nearest rows of a query,
found in f32, that a search over the coded rows finds; RERANKED the same if it finds 4 K rows and the original vectors
choose among them, which they can only if they are kept elsewhere. L2 ERROR is the mean of |x - y| / |x|, COSINE ERROR
of 1 - cos(x, y). ON DISK are the bytes of a row of vectors.npy, padded to 64. Speeds are of one thread, in bytes of f32.

Recommended is the codec with the fewest bytes on disk whose RECALL, without reranking, is at least --recall; of equal
ones the one that keeps more. The collection must hold f32 vectors stored by no codec: what a codec stored has lost what
errors are measured against, and integers and bits have no codec.")]
pub(crate) struct Analyze {
    /// The collection
    pub(crate) collection: String,

    /// Vectors to code and to search, at most
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = positive)]
    pub(crate) sample: usize,

    /// Vectors to search with, others than those; at most a fifth of the collection
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = positive)]
    pub(crate) queries: usize,

    /// Neighbours to find
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = positive)]
    pub(crate) k: usize,

    /// The recall that is good enough, from 0 to 1
    #[arg(long, value_name = "R", default_value_t = 0.95, value_parser = share)]
    pub(crate) recall: f64,

    /// Another seed is another sample
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,

    /// Draw bytes a vector against recall
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) chart: Option<PathBuf>,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "a number from 0 to 1 is needed".into())
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs stale                                          all of this mount
  vexfs stale -0 docs | xargs -0 -r embed.py           make their vectors anew
One file: getfattr -n user.vexfs.fresh FILE is 1 or 0. Root finds all at once in .vexfs/stale.")]
pub(crate) struct Stale {
    /// Files and directories to look at, with all below [default: the mount]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// End each name with a NUL instead of a newline, for xargs -0
    #[arg(short = '0', long)]
    pub(crate) null: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs log notes/a.txt
  vexfs log book.pdf minilm.17 --json
  getfattr -n user.vector.minilm@-1 --only-values a.txt > before.f32      the vector before this one

A collection keeps superseded vectors once it was told how many: vexfs create --history 8, or
setfattr -n user.vexfs.history -v 8 /mnt/.vexfs/collections/minilm. CONTENT is the content version of the file that the
vector was made from; `gone` if that content was replaced by a file saved over it.")]
pub(crate) struct Log {
    /// The file
    pub(crate) file: PathBuf,

    /// The collection, with .N for the file's vector number N alone [default: all]
    #[arg(value_name = "COLLECTION[.N]")]
    pub(crate) collection: Option<String>,
}

#[derive(Args)]
#[command(after_help = "\
Rows are used again by themselves, and 64 KiB without a live row are given back; this is for the gaps between. Rows get
new numbers: readers of a mapping go on with what they have, and open it again when `generation` in schema.json changed.
It goes on in the daemon if this program is ended.")]
pub(crate) struct Compact {
    /// The collection
    pub(crate) collection: String,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs create minilm-next --like minilm --model all-MiniLM-L12-v2
  vexfs watch minilm-next --dir docs -- ./embed.py       fills it; searches go on with the old vectors
  vexfs switch minilm minilm-next --status               98 of 100 files ... have a vector
  vexfs switch minilm minilm-next                        from here on `minilm` is the new one")]
pub(crate) struct Switch {
    /// The collection that is in use; its name stays in use
    pub(crate) current: String,

    /// The one that takes its place
    pub(crate) next: String,

    /// Only tell how many of the files have a vector in the new collection
    #[arg(long)]
    pub(crate) status: bool,

    /// Switch even if some files have no vector in the new collection
    #[arg(long, conflicts_with = "status")]
    pub(crate) force: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs analyze small                                  what each codec would make of it
  vexfs recode small --codec sq8                       a quarter of the bytes; reads as f32 again
  vexfs recode small --codec pq -m 96                  96 codes of 8 bits, by a codebook that is trained on its vectors
  vexfs recode small --stop                            gives it up: the collection keeps the codec that it has

A second matrix is made while the collection goes on with the one that it has, and then takes its place at once; until then
the volume needs room for both. Vectors are what the old codec kept of them: a codec that keeps more brings nothing back.
Who has vectors.npy open keeps it as it was, and opens it again when `generation` in schema.json changed. It goes on in the daemon
if this program is ended, and after every mount.")]
pub(crate) struct Recode {
    /// The collection
    pub(crate) collection: String,

    /// How rows are to be stored: none, f16, sq8, sq4, binary or pq
    #[arg(long, required_unless_present = "stop", conflicts_with = "stop")]
    pub(crate) codec: Option<String>,

    /// What --codec pq is to be
    #[command(flatten)]
    pub(crate) quantizing: Quantizing,

    /// Give up a recode that is under way
    #[arg(long)]
    pub(crate) stop: bool,
}

/// How product quantisation is trained.
#[derive(Args)]
pub(crate) struct Quantizing {
    /// pq: parts of a vector, each with a code of its own; they divide the dimension [default: of four dimensions each]
    #[arg(short = 'm', long, alias = "m", value_name = "M", value_parser = positive)]
    pub(crate) subvectors: Option<usize>,

    /// pq: bits of a code, 4 or 8
    #[arg(long, value_name = "B", default_value_t = 8)]
    pub(crate) bits: usize,

    /// pq: vectors to train on, at most [default: 256 for each of the 2^B entries]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) sample: Option<usize>,

    /// pq: rounds of k-means, at most
    #[arg(long, value_name = "N", default_value_t = 25)]
    pub(crate) iterations: usize,

    /// pq: another seed is another codebook
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,

    /// pq: take this codebook, of vectors like these, and train none
    #[arg(long, value_name = "FILE.npy", conflicts_with_all = ["subvectors", "bits", "sample", "iterations", "seed"])]
    pub(crate) codebook: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct Umount {
    /// Where the volume is mounted
    pub(crate) dir: PathBuf,

    /// Seconds to wait for the last commit
    #[arg(long, default_value_t = 60)]
    pub(crate) wait: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_vector_may_begin_with_a_minus() {
        let parsed = Arguments::try_parse_from(["vexfs", "set", "a", "c", "-"]).unwrap();
        assert!(matches!(parsed.command, Command::Set(Set { vector, .. }) if vector == "-"));
        assert!(Arguments::try_parse_from(["vexfs", "search", "c"]).is_err());
        assert!(Arguments::try_parse_from(["vexfs", "search", "c", "--like", "a", "--vector", "b"]).is_err());
        assert!(
            Arguments::try_parse_from(["vexfs", "search", "c", "--duplicates", "--min-score", "-1"]).is_ok()
        );
        assert!(
            Arguments::try_parse_from(["vexfs", "search", "c", "--text", "-t", "-k", "1", "--all"]).is_err()
        );
    }
}
