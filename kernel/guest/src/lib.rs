//! What the tester in the guest and those who judge its records on the host must both know: the bytes that a seed
//! stands for, the words in which a workload tells what it is about to do,
//! and what that makes of a directory.

pub mod bytes;
pub mod model;
pub mod told;
