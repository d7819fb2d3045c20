//! The bytes of files, between the page cache and the disk: planned under the volume's lock, moved without it.

use vexfs_core::control::{is_generation, near};
use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{ReadPlan, Source, WritePlan};
use vexfs_core::{Error, Result, Volume};

use crate::disk::Disk;
use crate::host::{abandoned, now};
use crate::mount::Mount;

/// Times of a file as its inode in memory has them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
}

impl Mount {
    /// Reads from a file or a column into `buffer`; gives how many bytes, less than its length at the end.
    pub(crate) fn read(&self, inode: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let _moving = self.moving.read();
        let plan = {
            let volume = self.volume();
            let plan = volume.read_begin(inode, offset, buffer)?;
            if is_generation(inode) {
                self.told.read().show(inode, offset, &mut buffer[..plan.len]);
            }
            plan
        };
        for (range, place) in plan.pieces {
            self.disk().read_at(place, &mut buffer[range])?;
        }
        Ok(plan.len)
    }

    /// Writes back what the page cache holds, in `parts` that follow each other from byte `offset` on.
    ///
    /// The times are those of the calls that changed the bytes, which was before now. Only one at a time for a file.
    pub(crate) fn write_back(&self, inode: Ino, offset: u64, parts: &[&[u8]], times: Times) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        let plan = self.change(|volume| volume.write_begin(inode, offset, len, now()))?;
        if let Err(error) = self.move_bytes(&plan, parts) {
            let mut plan = Some(plan);
            let _ = self.change(|volume| {
                if let Some(plan) = plan.take() {
                    volume.write_cancel(plan);
                }
                Ok(())
            });
            return Err(error);
        }
        // A file small enough to lie in the tree is in one part.
        let first = parts.first().copied().unwrap_or_default();
        let mut plan = Some(plan);
        self.change(|volume| {
            // The blocks were given back with the first try: the caller hears that there is no space.
            let plan = plan.take().ok_or(Error::NoSpace { pending: 0 })?;
            volume.write_end(plan, first, false, now())?;
            volume.set_times(inode, times.accessed, times.modified, times.changed, now())
        })
    }

    fn move_bytes(&self, plan: &WritePlan, parts: &[&[u8]]) -> Result<()> {
        if plan.commit_first {
            self.sync()?;
        }
        let _moving = self.moving.read();
        for (place, source) in &plan.pieces {
            match *source {
                Source::Bytes { from, len } => self.write_parts(place.device, parts, from, len)?,
                Source::Head { from, len } => {
                    let bytes = plan.head.get(from..from + len);
                    self.disk().write_at(*place, bytes.ok_or(Error::Invalid("a head of fewer bytes"))?)?;
                }
                Source::Zeros { len } => self.disk().write_zeros_at(*place, len)?,
            }
        }
        Ok(())
    }

    // Writes bytes `from..from + len` of the parts taken together to the device.
    fn write_parts(&self, device: u64, parts: &[&[u8]], from: usize, len: usize) -> Result<()> {
        let (mut skip, mut left, mut at) = (from, len, device);
        for part in parts {
            if left == 0 {
                break;
            }
            if skip >= part.len() {
                skip -= part.len();
                continue;
            }
            let step = (part.len() - skip).min(left);
            self.disk().write(at, &part[skip..skip + step])?;
            (skip, left, at) = (0, left - step, at + step as u64);
        }
        Ok(())
    }
}

/// Rows that are searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a>(pub(crate) &'a Mount);

impl near::Source for Rows<'_> {
    type Host = Disk;

    fn look<R>(&self, look: impl FnOnce(&Volume<Disk>) -> Result<R>) -> Result<R> {
        look(&self.0.volume())
    }

    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Disk>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R> {
        let _moving = self.0.moving.read();
        let (found, plan) = plan(&self.0.volume(), buffer)?;
        for (range, place) in plan.into_iter().flat_map(|plan| plan.pieces) {
            self.0.disk().read_at(place, &mut buffer[range])?;
        }
        Ok(found)
    }

    fn abandoned(&self) -> bool {
        abandoned()
    }
}
