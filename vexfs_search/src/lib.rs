//! Nearest neighbours over the mapped files of a VexFS collection.
//!
//! It knows the control directory's files (`schema.json`, `vectors.npy`, `valid.npy`, `headers.npy`, `scale.npy`) and
//! nothing of the volume beneath, so it works on both hosts, and on a copy of the files anywhere.
//!
//! ```text
//! collection   a collection's files, mapped
//! query        a vector to search with, fitted to a collection
//! scan batch   the exact answer: every live row, the best k; for one query, for many, for all pairs
//! adc          rows of product quantisation ruled out by tables
//! nearest      the best k so far; rows a search is restricted to
//! codec        rows of a codec, in batches, with SIMD
//! portion      rows that a host read from its own disk, scored
//! decoded      a collection's vectors, whatever codec stores them
//! analysis     what each codec would make of a collection
//! kernel cpu   sums over one row and one query, a file an instruction set; which of them this CPU has
//! clustered    the approximate answer: clusters, one bit a dimension, the best ranked again
//! stored       indexes in files beside the matrix, which may have changed since: a scan of codes, clusters, a graph
//! choice       whether an index answers, and which
//! plan         searches of a collection's files in the way that was chosen
//! searcher     a collection and its plans, kept open while it changes
//! tally        what real searches found of the exact answers
//! store        whole vectors of an index, in memory or mapped
//! filter       conditions on metadata and files
//! metric       element types and metrics
//! npy half     numpy's file format; 16-bit floats
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod adc;
pub mod analysis;
mod batch;
mod changes;
pub mod choice;
mod clustered;
pub mod codec;
pub mod collection;
mod column;
mod cpu;
mod decoded;
pub mod error;
pub mod filter;
mod graph;
pub mod half;
mod headers;
mod kernel;
mod metric;
mod nearest;
pub mod npy;
pub mod plan;
pub mod portion;
mod query;
mod scan;
mod searcher;
mod store;
pub mod stored;
mod tally;
mod warmth;

pub use batch::Pair;
pub use clustered::ClusteredIndex;
pub use collection::{Collection, Schema};
pub use cpu::name as instructions;
pub use decoded::Decoded;
pub use error::{Error, Result};
pub use headers::Headers;
pub use metric::{Element, Metric};
pub use nearest::{Hit, RowSet};
pub use plan::{Plan, Way, Wish};
pub use query::{Query, decode};
pub use scan::Options;
pub use searcher::Searcher;
pub use store::{MmapVectorStore, VectorStorage};
pub use stored::StoredIndex;
pub use tally::{Figure, Tally};
