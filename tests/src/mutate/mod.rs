//! Damaged images with right checksums: what a hostile or broken writer could leave, and what is done with it (P8).
//!
//! - [`bases`]: images with some of everything, from recipes;
//! - [`edit`]: one change, and its text, which is how the regression corpus keeps it;
//! - [`subject`]: an image taken apart, changed, and sealed again up to the superblock;
//! - [`generate`]: changes from a seed;
//! - [`meter`], [`exercise`]: every call on the damaged volume, its work and memory counted.

pub mod bases;
pub mod edit;
pub mod exercise;
mod fields;
pub mod generate;
pub mod meter;
mod nearness;
mod operations;
mod stories;
pub mod subject;
mod walk;

pub(crate) use walk::Nothing;
