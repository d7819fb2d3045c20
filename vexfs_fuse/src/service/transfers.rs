//! Reads and writes of files: planned under the volume's lock, their bytes moved without it.

use std::sync::atomic::Ordering;

use vexfs_core::control::{Pseudo, is_generation, pseudo};
use vexfs_core::device::Data;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::WritePlan;
use vexfs_core::{Error, Result};

use super::Service;
use crate::clock::now;

impl Service {
    /// Writes `bytes` to a file: the plan under the lock, the bytes without it.
    pub fn write(&self, inode: Ino, offset: u64, bytes: &[u8], kill_privileges: bool) -> Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if pseudo(inode) == Some(Pseudo::Request) {
            return self.request(inode, bytes);
        }
        let _alone = self.alone(inode);
        let (plan, _) = self.change(|volume| volume.write_begin(inode, offset, bytes.len(), now()));
        let plan = plan?;
        if let Err(error) = self.move_bytes(&plan, bytes) {
            self.volume_mut().write_cancel(plan);
            return Err(error);
        }
        let mut plan = Some(plan);
        let (result, _) = self.change(|volume| match plan.take() {
            Some(plan) => volume.write_end(plan, bytes, kill_privileges, now()).map(|_| ()),
            // The blocks were given back with the first try: the caller hears that there is no space.
            None => Err(Error::NoSpace { pending: 0 }),
        });
        result
    }

    // What was written to a file that takes requests; the work is done in the background.
    fn request(&self, inode: Ino, bytes: &[u8]) -> Result<()> {
        let (taken, events) = self.change(|volume| volume.request(inode, bytes, now()));
        self.tell(events);
        if let Err(error) = taken {
            self.refused();
            log::warn!("refused: a request to inode {inode}: {error}");
            return Err(error);
        }
        self.wake(|wake| wake.tidy = true);
        Ok(())
    }

    fn move_bytes(&self, plan: &WritePlan, bytes: &[u8]) -> Result<()> {
        if plan.commit_first {
            self.sync()?;
        }
        let _moving = self.moving();
        plan.perform(&self.disk, bytes)
    }

    /// Reads from a file or a column into `buffer`; gives how many bytes.
    pub fn read(&self, inode: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let _moving = self.moving();
        let plan = {
            let volume = self.volume();
            let plan = volume.read_begin(inode, offset, buffer)?;
            if is_generation(inode) {
                self.generations.show(inode, offset, &mut buffer[..plan.len]);
            }
            plan
        };
        for (range, place) in plan.pieces {
            self.disk.read_at(place, &mut buffer[range])?;
        }
        if plan.len < buffer.len() {
            log::debug!("short read of inode {inode} at {offset}: {} of {}", plan.len, buffer.len());
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(plan.len as u64, Ordering::Relaxed);
        Ok(plan.len)
    }
}
