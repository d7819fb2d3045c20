//! Where a search finds the volume and the bytes of its rows: the host's locks, as the core's search too wants them.

use vexfs_core::device::Data;
use vexfs_core::operations::ReadPlan;
use vexfs_core::{Result, Volume};

use super::indexes::Indexes;
use crate::disk::Disk;
use crate::service::Service;

pub use vexfs_core::control::near::Source;

/// A source whose collections' indexes are kept in memory.
pub trait Indexed: Source {
    /// Those that are kept.
    fn indexes(&self) -> &Indexes;
}

impl Indexed for Service {
    fn indexes(&self) -> &Indexes {
        self.indexes_kept()
    }
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
