//! Where a search finds the volume and the bytes of its rows.
//!
//! INVARIANT: what is planned at a look at the volume is read before a block of it can be given out again, so bytes and
//! records belong together.

use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::operations::ReadPlan;
use vexfs_core::{Result, Volume};

use crate::disk::Disk;
use crate::service::Service;

/// A volume that is looked at for a moment at a time.
pub trait Source {
    /// Its host.
    type Host: BlockDevice + Data;

    /// Looks at the volume, whose rows stay where they are meanwhile.
    fn look<R>(&self, look: impl FnOnce(&Volume<Self::Host>) -> Result<R>) -> Result<R>;

    /// Looks at the volume, and then reads what `plan` begins to read into the buffer, with the volume let go of.
    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Self::Host>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R>;
}

impl Source for Service {
    type Host = Disk;

    fn look<R>(&self, look: impl FnOnce(&Volume<Disk>) -> Result<R>) -> Result<R> {
        let _moving = self.moving();
        look(&self.volume())
    }

    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Disk>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R> {
        let _moving = self.moving();
        let (found, plan) = plan(&self.volume(), buffer)?;
        for (range, place) in plan.into_iter().flat_map(|plan| plan.pieces) {
            self.disk().read_at(place, &mut buffer[range])?;
        }
        Ok(found)
    }
}
