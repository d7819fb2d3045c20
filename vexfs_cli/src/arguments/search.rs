//! Arguments of searches and their indexes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vexfs_search::stored::Kind;

use super::{positive, share};

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs search minilm --like notes/a.txt               the ten nearest files, without that one
  vexfs search minilm --vector query.npy -k 3 --json
  vexfs search minilm --text 'bread' --embedder 'python3 embed.py'
  vexfs search minilm --like a.txt --within docs --min-score 0.6 --all
  vexfs search tiny --vector '[1, 0, 0.5]' --metric l2 --max-distance 2 --all
  vexfs search minilm --duplicates --min-score 0.97    pairs of files that say nearly the same

A score is higher for nearer: the cosine, the inner product, the negative squared distance (l2), the negative number
of bits that differ (hamming). Scores are exact. Every live row is looked at, unless the collection has an index (vexfs
index) and is so large that it pays: then the index that is fastest at the least effort that found --min-recall of the
exact answers, by the times that were measured on the machine when it was built. What was set since is compared whole, so a vector is found as soon as it is set; an index that is damaged is
told and not used. --explain tells which, and why. Files that you cannot reach are left out, and the next
nearest stand in for them. An embedder is a shell command that reads a text and prints its vector: npy, JSON or the
collection's raw elements; it finds the collection's model in VEXFS_MODEL.")]
#[command(group = clap::ArgGroup::new("query").required(true).args(["like", "vector", "text", "duplicates"]))]
pub(crate) struct Search {
    /// The collection
    pub(crate) collection: String,

    /// Search with this file's vector
    #[arg(long, value_name = "FILE")]
    pub(crate) like: Option<PathBuf>,

    /// Search with this vector: an .npy file, - for stdin, or a JSON array of numbers
    #[arg(long, value_name = "VECTOR", allow_hyphen_values = true)]
    pub(crate) vector: Option<String>,

    /// Search with this text's vector, which the embedder makes
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) text: Option<String>,

    /// List pairs of files that are near to each other [default: with a cosine of 0.95 or more]
    #[arg(long)]
    pub(crate) duplicates: bool,

    /// The command that makes a vector of a text
    #[arg(long, value_name = "COMMAND", env = "VEXFS_EMBEDDER")]
    pub(crate) embedder: Option<String>,

    /// How many to find [default: 10; all duplicates]
    #[arg(short, value_name = "K", conflicts_with = "all")]
    pub(crate) k: Option<usize>,

    /// Find all, not only the nearest K
    #[arg(long)]
    pub(crate) all: bool,

    /// Only files below this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) within: Option<PathBuf>,

    /// Only vectors that meet this condition; `vexfs query --help` describes the language
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,

    /// Only with at least this score
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub(crate) min_score: Option<f32>,

    /// Only within this distance: squared for l2, bits for hamming
    #[arg(long, value_name = "DISTANCE", conflicts_with = "min_score")]
    pub(crate) max_distance: Option<f32>,

    /// How near is measured [default: the collection's metric]
    #[arg(long)]
    pub(crate) metric: Option<Metric>,

    /// Look at every live row, whether there is an index or not
    #[arg(long, conflicts_with = "index")]
    pub(crate) exact: bool,

    /// Use the index, or that of this kind, however small the collection is
    #[arg(
        long,
        value_name = "KIND",
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "any",
        conflicts_with_all = ["duplicates", "all"]
    )]
    pub(crate) index: Option<IndexChoice>,

    /// The share of the exact answer that a search with the index is to find, from 0 to 1
    #[arg(long, value_name = "R", default_value_t = MIN_RECALL, value_parser = share)]
    pub(crate) min_recall: f64,

    /// Tell on stderr how the answer was found
    #[arg(long)]
    pub(crate) explain: bool,
}

/// The metrics, as the command line names them.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Metric {
    Cosine,
    L2,
    Ip,
    Hamming,
}

impl From<Metric> for vexfs_search::Metric {
    fn from(metric: Metric) -> Self {
        match metric {
            Metric::Cosine => Self::Cosine,
            Metric::L2 => Self::L2,
            Metric::Ip => Self::InnerProduct,
            Metric::Hamming => Self::Hamming,
        }
    }
}

/// The recall that searches and `vexfs recall` ask for unless they are told another.
const MIN_RECALL: f64 = 0.95;

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs index minilm                                   build one, if the collection is large enough for it
  vexfs index minilm --kind clustered
  vexfs index minilm --update                          put in what changed since
  vexfs index minilm --remove

Kinds: scan keeps a bit a dimension of every row, which every search reads through, and four bits for the best of them: built
in a second or two for 100,000 rows, and nearly exact. clustered keeps rows that are near to each other together, and searches read
a part of them: for large collections. graph links rows that are near to each other, and searches follow the links: the fastest of
all once it is open, but it takes longest to build, and memory for all of it; for programs that search often. Of several, searches
take the one that was fastest, its opening counted, for the recall that they ask for.

An index is one file, index/KIND in the collection's directory: whoever may write the collection may build it, whoever
may read the collection uses it, and it goes with the collection. It is never needed: without it, or when it is damaged,
searches look at every row. Building clustered takes as much memory as the vectors as 32-bit floats. Bits are
searched exactly.")]
pub(crate) struct Index {
    /// The collection
    pub(crate) collection: String,

    /// scan, clustered, graph: build it in any case; auto: what searches of a collection of this size use
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) kind: IndexKind,

    /// Put in what changed: clustered keeps its leaves and graph its links, unless much did; of all kinds there are, or this one
    #[arg(long)]
    pub(crate) update: bool,

    /// Remove all indexes
    #[arg(long, conflicts_with_all = ["update", "kind"])]
    pub(crate) remove: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  vexfs recall minilm
  vexfs recall minilm --queries 1000 --min-recall 0.99

Vectors of the collection, chosen by --seed, are searched with, exactly and with the index. Recall is the mean share of the K
nearest others that each index finds; with a probability of 95 % that of all queries lies between LOW and HIGH. Marked is
the effort that searches with this --min-recall make. Fails if that is not reached.")]
pub(crate) struct Recall {
    /// The collection
    pub(crate) collection: String,

    /// Vectors to search with
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = positive)]
    pub(crate) queries: usize,

    /// Neighbours to find
    #[arg(short, value_name = "K", default_value_t = 10, value_parser = positive)]
    pub(crate) k: usize,

    /// The recall that is to be reached, from 0 to 1
    #[arg(long, value_name = "R", default_value_t = MIN_RECALL, value_parser = share)]
    pub(crate) min_recall: f64,

    /// Another seed is another sample
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// The kinds of index, as the command line names them.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IndexKind {
    Auto,
    Scan,
    Clustered,
    Graph,
}

/// Which index a search is to use.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IndexChoice {
    Any,
    Scan,
    Clustered,
    Graph,
}

impl IndexChoice {
    /// The kind that is to be used; none if any may be.
    pub(crate) fn kind(self) -> Option<Kind> {
        match self {
            Self::Any => None,
            Self::Scan => Some(Kind::Scan),
            Self::Clustered => Some(Kind::Clustered),
            Self::Graph => Some(Kind::Graph),
        }
    }
}
