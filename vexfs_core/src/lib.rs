//! The VexFS core: a filesystem in which a file's embeddings belong to the file.
//!
//! It is a function of an image and of calls: no clock, randomness, threads, locks or globals; the host
//! brings them. So one core serves the FUSE daemon, the kernel module, fsck and the crash simulator.
//!
//! The layers import only downwards (a test holds them to it):
//!
//! ```text
//! operations  control  make  check  recover    what a host calls
//! tree                                         the one copy-on-write B+tree
//! transaction  volume  commit  journal  patches  space    the only writer of metadata; free space
//! device  buddy                                the host's disk; the block allocator
//! format                                       the records on disk, docs/FORMAT.md in code
//! error checksum memory numbers bugs
//! ```
//!
//! [`operations::guide`] shows how a program uses it as a library.
//!
//! Beside them `codec`, how a vector is stored in its row, and `json`, which reads metadata, see the two lowest alone.

#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_arithmetic)
)]

extern crate alloc;

pub mod buddy;
mod bugs;
pub mod check;
pub mod checksum;
pub mod codec;
pub mod commit;
pub mod control;
pub mod device;
pub mod error;
pub mod format;
pub mod journal;
mod json;
pub mod make;
pub mod memory;
pub mod numbers;
pub mod operations;
mod patches;
mod recover;
pub mod space;
#[cfg(test)]
mod testing;
pub mod transaction;
pub mod tree;
pub mod volume;

#[cfg(vexfs_bugs)]
pub use bugs::{feed, starve};
pub use commit::Sealed;
pub use error::{Error, Result};
pub use volume::{Event, Implicit, MountOptions, Raised, Recovered, Statistics, Volume};
