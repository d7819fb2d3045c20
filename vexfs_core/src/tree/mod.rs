//! The one B+tree: all metadata, keyed `(inode, kind, offset)`, copy-on-write.
//!
//! Reading works on anything that holds [`Nodes`](crate::volume::Nodes); changing works in a [`Transaction`](crate::transaction::Transaction) alone. Nodes have no
//! sibling links: a scan goes down again at each leaf's upper bound. Every node that is read is checked against
//! what its parent says of it, so that levels fall and bounds narrow, and no walk is longer than the tree is high.

mod change;
mod mend;
mod read;

pub use change::{put, remove, remove_range};
pub(crate) use mend::{clear_padding, give_up};
pub use read::{find, first, last, record, scan};
pub(crate) use read::{has_node, placed};

#[cfg(test)]
mod tests;
