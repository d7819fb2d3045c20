//! The Rust side of `vexfs.ko`: a mounted volume as the kernel's threads share it.
//!
//! Linux 7.2 has no Rust interface for filesystems, so the side that faces the VFS is C (`super.c`, `namei.c` ...): it
//! knows inodes, dentries and folios, and keeps no state of the volume. This side knows the volume, and of the kernel
//! what `vexfs.h` names: a disk, locks, a clock, a log. `unsafe` stands in `abi` and `host` alone.
//!
//! ```text
//! abi       what the C side calls
//! mount     the volume under its lock: changes, commits, fsync
//! transfer  bytes of files, between the page cache and the disk
//! report    the log and the counters that the control directory shows
//! disk      the core's host: the block device behind a cache of metadata
//! host      what the C side offers: device, locks, clock, log
//! ```

#![no_std]

extern crate alloc;

pub mod abi;
mod cache;
mod disk;
mod host;
mod mount;
mod report;
mod transfer;
