//! What a host calls.

mod stub;
mod types;

pub use stub::*;
pub use types::*;
