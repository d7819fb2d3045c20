//! What mkfs.vexfs, fsck.vexfs and dump.vexfs share: sizes, UUIDs, signatures of other filesystems, and how
//! an image is claimed and a core error is put into words.
//!
//! The programs themselves are in `bin`; what they do to an image is the core's `make`, `check` and tree.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod claim;
pub mod dump;
pub mod message;
pub mod signature;
pub mod size;
pub mod time;
pub mod uuid;
