//! The reliability harness: simulated disks, a model of the filesystem, and what a power cut leaves behind.
//!
//! - [`random`], [`image`]: numbers from a seed, and images that are cheap to copy and to tell apart;
//! - [`sim`], [`faulty`]: disks that remember, fail, watch the order of writes, or lie;
//! - [`states`]: the crash states of what a [`sim::SimDevice`] remembers; [`verified`]: blocks that lie in many of them;
//! - [`model`]: the filesystem as maps in memory, run beside the real one;
//! - [`crash`]: workloads, their crash states, and the verdict on each;
//! - [`record`], [`witness`]: crash states of a disk that the kernel wrote, recorded by QEMU;
//! - [`effort`]: how much a suite does;
//! - [`golden`]: the golden images of the format;
//! - [`starved`]: calls of the core that run out of memory;
//! - [`mutate`], [`allocations`]: damaged images whose checksums are right, and the memory they may cost.

pub mod allocations;
pub mod check;
pub mod crash;
pub mod effort;
pub mod faulty;
pub mod golden;
pub mod history;
pub mod image;
pub mod model;
pub mod mutate;
pub mod random;
pub mod record;
pub mod sim;
pub mod starved;
pub mod states;
pub mod verified;
pub mod witness;
pub mod workloads;
