//! The reliability harness: golden images of the format.

pub mod golden;
