//! Comparing a question that an index answered with the exact answer, while nobody wants anything of the mount.
//!
//! INVARIANT: it ends at the next look at the volume once a request came, with nothing measured; and it never has an index read
//! off the image that is not in memory.

use vexfs_core::device::Data;
use vexfs_core::operations::ReadPlan;
use vexfs_core::{Error, Result, Volume};
use vexfs_search::stored::Delta;

use super::by_index::{self, SPARE};
use super::held::Compared;
use super::recall::Asked;
use super::scan::Scan;
use super::source::Source;
use crate::disk::Disk;
use crate::service::Service;

/// The service while it is idle.
struct Idle<'a> {
    service: &'a Service,
    /// Requests until then.
    requests: u64,
}

impl Idle<'_> {
    fn check(&self) -> Result<()> {
        if self.service.requests() == self.requests { Ok(()) } else { Err(Error::Busy) }
    }
}

impl Source for Idle<'_> {
    type Host = Disk;

    fn look<R>(&self, look: impl FnOnce(&Volume<Disk>) -> Result<R>) -> Result<R> {
        self.check()?;
        let _moving = self.service.moving();
        look(&self.service.volume_aside())
    }

    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Disk>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R> {
        self.check()?;
        let _moving = self.service.moving();
        let (found, plan) = plan(&self.service.volume_aside(), buffer)?;
        for (range, place) in plan.into_iter().flat_map(|plan| plan.pieces) {
            self.service.disk().read_at(place, &mut buffer[range])?;
        }
        Ok(found)
    }
}

/// Compares questions that wait, one after the other, until there are none or a request comes.
pub(super) fn compare_waiting(service: &Service) {
    let idle = Idle { service, requests: service.requests() };
    let indexes = service.indexes_kept();
    while idle.check().is_ok() {
        let Some(asked) = indexes.recall().next() else { return };
        match share(&idle, &asked) {
            Ok(Some((generation, share))) => indexes.recall().count(&asked, generation, share),
            // The index or the collection is another by now.
            Ok(None) => {}
            Err(Error::Busy) => indexes.recall().keep(asked),
            Err(error) => log::debug!("a question is not compared: {error}"),
        }
    }
}

// The index's generation, and the share of the exact answer that it finds; none where they cannot be compared any more.
fn share(idle: &Idle<'_>, asked: &Asked) -> Result<Option<(u64, f64)>> {
    let collection = match idle.look(|volume| volume.collection(asked.id)) {
        Ok(collection) => collection,
        Err(Error::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(held) = idle.service.indexes_kept().in_memory(idle, asked.id, asked.kind, asked.stamp)? else {
        return Ok(None);
    };
    let Compared::AsOf(changes, delta) = held.compare(idle, asked.id)? else { return Ok(None) };
    let (count, delta): (usize, &Delta) = (asked.k + SPARE, &delta);
    let found = by_index::best(idle, &collection, &asked.query, (&held, &asked.effort), count, delta)?;
    let Ok((found, _)) = found else { return Ok(None) };
    let mut scan = Scan::new(idle, asked.id, &collection, &asked.query)?;
    scan.refresh()?;
    let exact = scan.best(None, asked.k, f32::NEG_INFINITY);
    if idle.look(|volume| Ok(volume.collection(asked.id)?.changes))? != changes {
        return Ok(None);
    }
    // Of equally near rows any is as good.
    let Some(least) = exact.last().map(|last| last.hit.score) else { return Ok(None) };
    let found = found.iter().take(asked.k).filter(|candidate| candidate.hit.score >= least).count();
    Ok(Some((held.index.generation(), found as f64 / exact.len() as f64)))
}
