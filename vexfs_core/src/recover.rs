//! Mounting: the newest generation, and on it what the journal tells.
//!
//! A replay repeats the records as transactions. The blocks that they took are held back first, so that nodes go
//! elsewhere; nothing that the durable generation or the journal refers to is written over, and a crash during the
//! replay finds the same journal again. It ends with a commit, which empties the journal; a read-only volume keeps
//! the result in memory.

use zerocopy::FromBytes;

use crate::bugs::planted;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTION_INODES, FIRST_INODE, Incompatible, NODE_HEADER, NODE_MAGIC, NodeHeader};
use crate::journal::{Entry, FoundRecord, LogReader};
use crate::tree;
use crate::volume::{MountOptions, Recovered, Volume};

impl<H: BlockDevice + Data> Volume<H> {
    /// Mounts the volume on `host`: takes the newest generation of which a whole superblock is found, and replays the
    /// journal onto it.
    ///
    /// # Errors
    /// `NotVexfs`, `SuperblocksDamaged`, `Version`, `Incompatible`, `Truncated`, or damage of the free-space map or of
    /// the journal.
    #[inline(never)]
    pub fn mount(host: H, options: MountOptions) -> Result<Self> {
        let mut mounted = Self::open_damaged(host, options);
        if let Err(error) = mounted.as_mut().map_or(Ok(()), Self::bring_up) {
            mounted = Err(error);
        }
        mounted
    }

    // Out of `mount`'s frame, and the volume stays where it is.
    #[inline(never)]
    fn bring_up(&mut self) -> Result<()> {
        if let Some(error) = self.damage {
            return Err(error);
        }
        self.recover()?;
        // The journal's own time: a mount has none. Without records nothing changed.
        self.commit(self.recovered.written)
    }

    /// Replays the journal; the commit that makes it final is the caller's.
    // Not part of its caller's frame, which holds a volume, and so below: a kernel's stack is small.
    #[inline(never)]
    pub(crate) fn recover(&mut self) -> Result<()> {
        let base = self.superblock.generation.get();
        self.recovered = Recovered { base, ..Recovered::default() };
        // The first commit begins the journal of a volume that has none.
        if self.superblock.incompatible.get() & Incompatible::JOURNAL.bits() == 0 {
            return Ok(());
        }
        let Some((records, last)) = self.hold()? else {
            self.journal.restart();
            return Ok(());
        };
        // What was replayed stays until a commit has made it final.
        self.journal.position = last.end();
        if !planted("replay_without_bytes") {
            self.restore_bytes(&last)?;
        }
        // Read anew, so that only one is in memory at a time.
        let mut reader = LogReader::new(&self.layout, self.superblock.uuid, base);
        while let Some(record) = reader.next(&self.host)? {
            self.replay(&record)?;
        }
        self.recovered = Recovered { records, base, written: last.header.written.into() };
        self.changed = !self.read_only;
        Ok(())
    }

    // Holds back all blocks that the records took; gives how many records there are, and the last.
    #[inline(never)]
    fn hold(&mut self) -> Result<Option<(u64, FoundRecord)>> {
        let (layout, uuid) = (self.layout, self.superblock.uuid);
        let base = self.superblock.generation.get();
        let mut reader = LogReader::new(&layout, uuid, base);
        let mut last: Option<FoundRecord> = None;
        let mut count = 0;
        let space = &mut self.space;
        while let Some(found) = reader.next(&self.host)? {
            let sequence = found.header.sequence.get();
            found.each(&layout, &mut |entry| match entry {
                Entry::Take(run) if !space.hold(run) => {
                    Err(Error::corrupt("journal record", sequence, "takes blocks that are in use"))
                }
                _ => Ok(()),
            })?;
            count += 1;
            last = Some(found);
        }
        Ok(last.map(|last| (count, last)))
    }

    #[inline(never)]
    fn replay(&mut self, record: &FoundRecord) -> Result<()> {
        let header = record.header;
        let layout = self.layout;
        // First all that was taken: what the record frees may be in part of the last commit and in part of its own.
        let mut tx = self.start(header.written.into());
        record.each(&layout, &mut |entry| match entry {
            Entry::Take(run) => tx.adopt_run(run),
            _ => Ok(()),
        })?;
        tx.commit()?;
        let mut tx = self.start(header.written.into());
        record.each(&layout, &mut |entry| match entry {
            Entry::Put { key, value } => tree::put(&mut tx, key, value),
            Entry::Remove(key) => tree::remove(&mut tx, key).map(|_| ()),
            Entry::Free(run) => tx.free(run),
            Entry::Take(_) | Entry::Bytes { .. } => Ok(()),
        })?;
        let bad = |why| Error::corrupt("journal record", header.sequence.get(), why);
        if !(FIRST_INODE.0..COLLECTION_INODES).contains(&header.next_inode.get()) {
            return Err(bad("next inode number out of range"));
        }
        tx.counters.next_inode = header.next_inode.get();
        tx.counters.next_vector = header.next_vector.get();
        tx.counters.inode_count = header.inode_count.get();
        tx.counters.next_collection = header.next_collection.get();
        tx.commit()
    }

    // Puts the bytes that a record carries where they belong; beside the device if that is not to be written.
    #[inline(never)]
    fn restore_bytes(&mut self, record: &FoundRecord) -> Result<()> {
        let layout = self.layout;
        if !planted("replay_over_nodes") {
            self.check_bytes(record)?;
        }
        let (host, read_only, patches) = (&self.host, self.read_only, &mut self.patches);
        record.each(&layout, &mut |entry| match entry {
            Entry::Bytes { device, bytes } if read_only => patches.push(device, bytes),
            Entry::Bytes { device, bytes } => host.write(device, bytes),
            _ => Ok(()),
        })
    }

    // Bytes belong to files and matrices; never where the tree has a node. A block that looks like a node may be the
    // bytes of a file, or have been one before it was taken, so then the tree is asked.
    fn check_bytes(&self, record: &FoundRecord) -> Result<()> {
        let (layout, block_size) = (self.layout, u64::from(self.layout.block_size));
        record.each(&layout, &mut |entry| {
            let Entry::Bytes { device, bytes } = entry else { return Ok(()) };
            for block in device / block_size..(device + bytes.len() as u64).div_ceil(block_size) {
                let mut head = [0; NODE_HEADER];
                self.host.read(block * block_size, &mut head)?;
                let like = NodeHeader::ref_from_bytes(&head)
                    .is_ok_and(|head| head.magic.get() == NODE_MAGIC && head.block.get() == block);
                if like && tree::has_node(self, block)? {
                    let sequence = record.header.sequence.get();
                    return Err(Error::corrupt("journal record", sequence, "bytes over a tree node"));
                }
            }
            Ok(())
        })
    }
}
