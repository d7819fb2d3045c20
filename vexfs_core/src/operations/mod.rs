//! What a host calls: files, directories, attributes, vectors.
//!
//! Each operation is one transaction, or several where it says so. It checks what it is given and what it reads;
//! permission bits are the host's to check, but for what this says itself (who may put a vector into a collection).

mod access;
mod acl;
mod allocate;
mod append;
pub(crate) mod codebook;
mod collection;
mod columns;
mod compact;
mod directory;
mod erase;
mod extents;
mod file;
pub mod guide;
mod index;
mod inherit;
mod inode;
mod lease;
mod log;
mod lookup;
pub(crate) mod matrices;
mod metadata;
mod names;
mod orphan;
mod owner;
pub(crate) mod past;
mod path;
mod recode;
pub(crate) mod records;
mod rename;
mod rows;
mod settings;
mod stage;
mod sync;
mod trim;
mod truncate;
mod types;
mod unlinked;
mod vector;
mod vector_name;
mod write;
mod xattr;

pub use access::Resolver;
pub use append::{Batch, NewVector, Refused, StagedBatch};
pub use columns::Column;
pub use owner::{Holder, Owner, Reach};
pub use sync::Sync;
pub use trim::Held;
pub use types::*;

pub(crate) use collection::{Loaded as LoadedCollection, load as load_collection};
pub(crate) use columns::{column, columns};
pub(crate) use extents::each as each_extent;
pub(crate) use index::is_of_index;
pub(crate) use inode::{attributes_of, load as load_inode};
pub(crate) use matrices::{of_matrix, rows_at, shown};
pub(crate) use metadata::{each as each_metadata, of_row as metadata_of_row};
