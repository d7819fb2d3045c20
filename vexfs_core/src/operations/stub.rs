use super::types::*;
use crate::device::{BlockDevice, Data};
use crate::error::Result;
use crate::format::Element;
use crate::format::Metric;
use crate::format::{Layout, Superblock};
use crate::numbers::*;
use alloc::vec::Vec;
use core::marker::PhantomData;

/// Options of a mount.
#[derive(Clone, Copy, Debug)]
pub struct MountOptions {
    /// Change nothing.
    pub read_only: bool,
    /// Who may create a collection by setting a first vector.
    pub implicit: Implicit,
    /// List `.vexfs` in the root directory.
    pub list_control: bool,
}

pub struct Volume<H> { h: PhantomData<H>, host: H }
/// A commit on its way to the device; owns all it writes, needs no lock.
pub struct Sealed(());
impl Sealed {
    /// Writes new blocks, flushes, writes the superblock to two slots, flushes.
    pub fn write(&self, _device: &impl BlockDevice) -> Result<()> { todo!() }
}

// --- vexfs_core::volume ---
impl<H: BlockDevice + Data> Volume<H> {
    pub fn mount(_host: H, _options: MountOptions) -> Result<Self> { todo!() }
    pub fn host(&self) -> &H { &self.host }
    pub fn layout(&self) -> &Layout { todo!() }
    /// The last durable superblock.
    pub fn superblock(&self) -> &Superblock { todo!() }
    pub fn statistics(&self) -> Statistics { todo!() }
    pub fn is_dirty(&self) -> bool { todo!() }
    /// Turns the volume read-only (after a failed write), until it is mounted anew.
    pub fn set_read_only(&mut self) { todo!() }
    pub fn is_read_only(&self) -> bool { todo!() }
    pub fn set_options(&mut self, _options: MountOptions) { todo!() }
    /// Memory only: freezes all changes so far into a commit. None if nothing changed. Err(Busy) while another is not published.
    pub fn seal(&mut self, _now: Time) -> Result<Option<Sealed>> { todo!() }
    /// After `Sealed::write` succeeded: the generation is durable, blocks it freed may be used again.
    pub fn publish(&mut self, _sealed: Sealed) -> Result<()> { todo!() }
    /// After `Sealed::write` failed: the volume turns read-only.
    pub fn abandon(&mut self, _sealed: Sealed) { todo!() }
    /// seal + write + publish in one, for hosts without concurrency (tests, fsck, mkfs).
    pub fn commit(&mut self, _now: Time) -> Result<()> { todo!() }
    /// Takes what changed under the host's caches since the last call. Call after every mutating call, invalidate AFTER releasing the lock.
    pub fn events(&mut self) -> Vec<Event> { todo!() }

    // --- files and directories (all of them know the control directory too) ---
    pub fn attributes(&self, _inode: Ino) -> Result<Attributes> { todo!() }
    pub fn lookup(&self, _directory: Ino, _name: &[u8]) -> Result<Attributes> { todo!() }
    /// Regular files, directories, fifos, sockets, device nodes. In `.vexfs/collections` a directory is a new collection.
    pub fn create(&mut self, _directory: Ino, _name: &[u8], _new: &NewInode, _now: Time) -> Result<Attributes> { todo!() }
    /// A file without a name (O_TMPFILE): an orphan until `link`ed; `release` it at the last close otherwise.
    pub fn create_unnamed(&mut self, _directory: Ino, _new: &NewInode, _now: Time) -> Result<Attributes> { todo!() }
    pub fn symlink(&mut self, _directory: Ino, _name: &[u8], _target: &[u8], _uid: u32, _gid: u32, _now: Time) -> Result<Attributes> { todo!() }
    pub fn read_link(&self, _inode: Ino) -> Result<Vec<u8>> { todo!() }
    pub fn link(&mut self, _inode: Ino, _directory: Ino, _name: &[u8], _now: Time) -> Result<Attributes> { todo!() }
    /// `is_open` tells whether somebody has the inode open: then vectors of its last link stay readable as plain attributes until `release`.
    pub fn unlink(&mut self, _directory: Ino, _name: &[u8], _is_open: &dyn Fn(Ino) -> bool, _now: Time) -> Result<Removed> { todo!() }
    pub fn remove_directory(&mut self, _directory: Ino, _name: &[u8], _now: Time) -> Result<Removed> { todo!() }
    pub fn rename(&mut self, _from: (Ino, &[u8]), _to: (Ino, &[u8]), _flags: RenameFlags, _is_open: &dyn Fn(Ino) -> bool, _now: Time) -> Result<Option<Removed>> { todo!() }
    /// Entries after `cookie` (0 = from the start), without "." and ".."; `each` returns false to stop (that entry does not count as given).
    pub fn read_directory(&self, _directory: Ino, _cookie: u64, _each: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<()> { todo!() }
    /// The directory that holds this directory.
    pub fn parent(&self, _directory: Ino) -> Result<Ino> { todo!() }
    /// chmod, chown, utimens, truncate. A shrink of a large file takes several transactions inside.
    pub fn set_attributes(&mut self, _inode: Ino, _changes: &Changes, _now: Time) -> Result<Attributes> { todo!() }
    /// Marks an access as relatime does; cheap when nothing is to be done.
    pub fn touch(&mut self, _inode: Ino, _now: Time) -> Result<()> { todo!() }
    /// True if `touch` would change anything (so that a host need not take the write lock).
    pub fn wants_touch(&self, _attributes: &Attributes, _now: Time) -> bool { todo!() }
    /// The last close of an inode without names: frees it, in bounded transactions. Harmless for others.
    pub fn release(&mut self, _inode: Ino, _now: Time) -> Result<()> { todo!() }
    /// One bounded step of the work that waits (blank freed rows after their commit; on the first call after mount: orphans). True = call again.
    pub fn tidy(&mut self, _now: Time) -> Result<bool> { todo!() }
    /// A path of the inode, from the root, without leading slash (one of them, if it has several); None if it has no name.
    pub fn path(&self, _inode: Ino) -> Result<Option<Vec<u8>>> { todo!() }

    // --- bytes (regular files, and vectors.npy, headers.npy, valid.npy) ---
    pub fn read_begin(&self, _inode: Ino, _offset: u64, _buffer: &mut [u8]) -> Result<ReadPlan> { todo!() }
    /// read_begin and the reads through `Data`, in one.
    pub fn read(&self, _inode: Ino, _offset: u64, _buffer: &mut [u8]) -> Result<usize> { todo!() }
    pub fn write_begin(&mut self, _inode: Ino, _offset: u64, _len: usize, _now: Time) -> Result<WritePlan> { todo!() }
    pub fn write_end(&mut self, _plan: WritePlan, _bytes: &[u8], _kill_privileges: bool, _now: Time) -> Result<Attributes> { todo!() }
    pub fn write_cancel(&mut self, _plan: WritePlan) { todo!() }
    /// write_begin, the writes through `Data`, write_end, in one (and a commit in between where commit_first asks for it).
    pub fn write(&mut self, _inode: Ino, _offset: u64, _bytes: &[u8], _now: Time) -> Result<Attributes> { todo!() }
    pub fn allocate(&mut self, _inode: Ino, _what: Allocate, _offset: u64, _len: u64, _now: Time) -> Result<Attributes> { todo!() }
    pub fn seek(&self, _inode: Ino, _offset: u64, _what: Seek) -> Result<u64> { todo!() }
    /// Content of a computed control file (README, status.json, metrics, log, schema.json), to be taken at open.
    pub fn render(&self, _inode: Ino, _report: &dyn Report) -> Result<Vec<u8>> { todo!() }

    // --- attributes and vectors ---
    /// The value of an attribute, vectors included (their CRC-32 is checked).
    pub fn attribute(&self, _inode: Ino, _name: &[u8]) -> Result<Vec<u8>> { todo!() }
    pub fn set_attribute(&mut self, _inode: Ino, _name: &[u8], _value: &[u8], _mode: SetMode, _caller: &Caller<'_>, _now: Time) -> Result<()> { todo!() }
    pub fn remove_attribute(&mut self, _inode: Ino, _name: &[u8], _caller: &Caller<'_>, _now: Time) -> Result<()> { todo!() }
    /// All names, each with a NUL behind it, as listxattr(2) gives them.
    pub fn list_attributes(&self, _inode: Ino) -> Result<Vec<u8>> { todo!() }
    pub fn create_collection(&mut self, _name: &[u8], _new: &NewCollection<'_>, _now: Time) -> Result<CollectionId> { todo!() }
    pub fn collection_by_name(&self, _name: &[u8]) -> Result<Collection> { todo!() }
    pub fn collection(&self, _id: CollectionId) -> Result<Collection> { todo!() }
    pub fn collection_name(&self, _id: CollectionId) -> Result<Vec<u8>> { todo!() }
    /// All vectors of a file, in order of (collection, n).
    pub fn vectors_of(&self, _inode: Ino, _each: &mut dyn FnMut(FileVector)) -> Result<()> { todo!() }
    /// Live rows from `first` on: (row, record); return false to stop.
    pub fn rows_of(&self, _id: CollectionId, _first: u64, _each: &mut dyn FnMut(u64, &crate::format::RowRecord) -> bool) -> Result<()> { todo!() }
}

/// vexfs_core::make
pub struct MakeOptions<'a> { pub block_size: u32, /** bytes of the volume, rounded down to 16 KiB */ pub size: u64, pub uuid: [u8; 16], pub label: &'a [u8], pub hash_seed: [u8; 16], pub uid: u32, pub gid: u32, pub now: Time, pub journal_blocks: Option<u64> }
pub fn make(_device: &impl BlockDevice, _options: &MakeOptions<'_>) -> Result<Superblock> { todo!() }

/// vexfs_core::check
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions { /** Write repairs. */ pub repair: bool, /** Read every vector row and check its CRC-32. */ pub vectors: bool }
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding { /* each variant: what, where; Display in words; fn is_error(&self) -> bool; fn is_repairable(&self) -> bool */ }
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckReport { pub inodes: u64, pub directories: u64, pub files: u64, pub collections: u64, pub vectors: u64, pub blocks_used: u64, pub orphans: u64, pub errors: u64, pub repaired: u64, pub unrepaired: u64 }
/// Walks everything; calls `found` for each finding (and `progress(done, total)` in records). Repairs what it can if asked: a second check then finds nothing.
pub fn check<H: BlockDevice + Data>(_host: H, _options: CheckOptions, _found: &mut dyn FnMut(&Finding), _progress: &mut dyn FnMut(u64, u64)) -> Result<CheckReport> { let _ = (Element::F32, Metric::L2); todo!() }
