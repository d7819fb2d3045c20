//! What dump.vexfs shows: every structure of an image as JSON values, printed for people or for programs.
//!
//! Reads alone, and without mounting: of a damaged image it shows what can be reached, and says what cannot.

mod files;
mod journal;
mod reader;
mod record;
mod report;
mod space;
mod superblock;
mod tree;

pub use files::{collection, file, inode};
pub use journal::journal;
pub use reader::Reader;
pub use report::Report;
pub use space::space;
pub use superblock::superblock;
pub use tree::{statistics, tree};
