//! What each codec would make of a collection: its bytes, its error, the recall of a search over it, and its speed.
//!
//! Everything is measured on a sample of the collection's own vectors: some of them are the queries, others the rows
//! that are searched. The sample depends on the seed and the live rows alone, and so does every figure but the speeds.
//!
//! ```text
//! sample    which rows are queries, which are searched
//! nearest   the exact nearest rows of each query, and recall
//! figures   one codec on a sample
//! ```

mod figures;
mod nearest;
mod sample;

pub use figures::{Candidate, Figures, measure, recommend};
pub use sample::{Options, Sample, to_train_on};

#[cfg(test)]
mod tests;
