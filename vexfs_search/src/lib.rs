//! Nearest neighbours over the mapped files of a VexFS collection.
//!
//! It knows the control directory's files (`schema.json`, `vectors.npy`, `valid.npy`, `headers.npy`, `scale.npy`) and
//! nothing of the volume beneath, so it works on both hosts, and on a copy of the files anywhere.
//!
//! ```text
//! collection   a collection's files, mapped
//! codec        rows of a codec, in batches, with SIMD
//! decoded      a collection's vectors, whatever codec stores them
//! analysis     what each codec would make of a collection
//! scan         the exact answer: every live row, the best k
//! kernel       one row against one query, an element type at a time
//! npy half     numpy's file format; 16-bit floats
//! ```

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod analysis;
pub mod codec;
pub mod collection;
mod decoded;
pub mod error;
pub mod half;
mod kernel;
pub mod npy;
mod scan;

pub use collection::{Collection, Schema};
pub use decoded::Decoded;
pub use error::{Error, Result};
pub use kernel::{Element, Metric};
pub use scan::{Hit, Query};
