//! The best rows whose files the caller finds, and what is told of each.
//!
//! INVARIANT: rows out of reach take no places. What is told is looked up once more at that moment: a row that has another
//! vector by then is scored again.

use serde_json::{Value, json};
use vexfs_core::operations::{Caller, Holder, Owner, Reach};
use vexfs_core::{Result, Volume};
use vexfs_search::{Hit, Metric};

use super::scan::{Candidate, Scan};
use super::source::Source;

/// Rows whose files are looked for at one look at the volume.
const ROWS_A_LOOK: usize = 64;
/// Rows beyond k in the first attempt, for those that turn out to be out of reach; then so many times as many.
const SPARE: usize = 8;
const MORE: usize = 8;
/// Attempts at a moment in which no row that is found changes hands; the last one leaves out those that do.
const ATTEMPTS_MAX: u32 = 8;

/// A file that was found.
pub(super) struct Found {
    hit: Hit,
    owner: Owner,
}

/// The nearest `k` with at least the least score.
pub(super) fn nearest<S: Source>(
    scan: &mut Scan<'_, S>,
    caller: &Caller<'_>,
    mut reach: Reach,
    k: usize,
    least: f32,
) -> Result<Vec<Found>> {
    for attempt in 1..=ATTEMPTS_MAX {
        scan.refresh()?;
        let mut told =
            Told { found: Vec::new(), k, caller, reach: &mut reach, strict: attempt < ATTEMPTS_MAX };
        if told.gather(scan, least)? {
            return Ok(told.found);
        }
    }
    Ok(Vec::new())
}

struct Told<'a> {
    found: Vec<Found>,
    k: usize,
    caller: &'a Caller<'a>,
    reach: &'a mut Reach,
    /// A row with another vector ends the attempt.
    strict: bool,
}

impl Told<'_> {
    // False if a row was given to another vector meanwhile.
    fn gather<S: Source>(&mut self, scan: &Scan<'_, S>, least: f32) -> Result<bool> {
        let mut after = None;
        let mut count = self.k + SPARE;
        loop {
            let best = scan.best(after, count, least);
            for some in best.chunks(ROWS_A_LOOK) {
                if !scan.source.look(|volume| self.look_up(volume, scan, some))? {
                    return Ok(false);
                }
                if self.found.len() == self.k {
                    return Ok(true);
                }
            }
            if best.len() < count {
                return Ok(true);
            }
            after = best.last().copied();
            count = count.saturating_mul(MORE);
        }
    }

    fn look_up<S: Source>(
        &mut self,
        volume: &Volume<S::Host>,
        scan: &Scan<'_, S>,
        candidates: &[Candidate],
    ) -> Result<bool> {
        for Candidate { hit, vector_id } in candidates {
            if self.found.len() == self.k {
                break;
            }
            match volume.holder(scan.id, hit.row, *vector_id, self.caller, self.reach)? {
                Holder::Found(owner) => self.found.push(Found { hit: *hit, owner }),
                Holder::Gone if self.strict => return Ok(false),
                Holder::Gone | Holder::Hidden => {}
            }
        }
        Ok(true)
    }
}

impl Found {
    /// What is told of it.
    pub(super) fn as_json(&self, metric: Metric) -> Value {
        let Self { hit, owner } = self;
        let mut object = json!({
            "path": String::from_utf8_lossy(&owner.path), "score": hit.score, "distance": metric.distance(hit.score),
            "row": hit.row, "n": owner.n, "inode": owner.inode.0,
        });
        if std::str::from_utf8(&owner.path).is_err() {
            object["path_hex"] =
                owner.path.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into();
        }
        let metadata = owner.metadata.as_deref().and_then(|text| serde_json::from_slice::<Value>(text).ok());
        let number = |name: &str| metadata.as_ref()?.get(name)?.as_u64();
        if let (Some(start), Some(length)) = (number("start"), number("length")) {
            object["start"] = start.into();
            object["length"] = length.into();
        }
        object
    }
}
