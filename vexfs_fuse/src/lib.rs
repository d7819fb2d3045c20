//! The FUSE host of VexFS: `mount.vexfs`.
//!
//! It translates the kernel's calls into the core's, and brings what the core has not: the lock, the cache, the
//! clock, the timer of the commits, and the bytes of files, which it moves without holding the lock.

pub mod append;
pub mod attributes;
pub mod cache;
pub mod capabilities;
pub mod clock;
pub mod controls;
pub mod convert;
pub mod daemon;
pub mod directories;
pub mod disk;
pub mod filesystem;
pub mod gone;
pub mod inodes;
pub mod messages;
pub mod mounting;
pub mod names;
pub mod near;
pub mod near_directory;
pub mod notifier;
pub mod open_files;
pub mod opens;
pub mod options;
pub mod relay;
pub mod replies;
pub mod service;
