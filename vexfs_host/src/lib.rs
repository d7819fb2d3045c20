//! What every userspace host of VexFS needs: an image file or block device as the core's
//! [`BlockDevice`](vexfs_core::device::BlockDevice), its lock, and the mounts of this machine.
//!
//! Whoever writes an image, or trusts it not to change, holds a [`LockedImage`]; a plain [`Image`] is for
//! looking. Nothing here knows the format beyond what the core tells.

#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod device;
mod error;
pub mod image;
mod lock;
pub mod mounts;

pub use error::ImageError;
pub use image::{Access, Image, LockedImage};
pub use lock::Holder;
