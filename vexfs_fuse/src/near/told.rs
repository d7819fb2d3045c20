//! The best rows whose files the caller finds, and what is told of each.
//!
//! INVARIANT: rows out of reach take no places, nor those of which the condition is not true, nor, where files are asked for, further rows of a file. What is told is looked up once more at that moment: a row that has another
//! vector by then is scored again.

use std::collections::HashSet;

use serde_json::{Value, json};
use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::{Caller, Holder, Owner, Reach};
use vexfs_core::{Result, Volume};
use vexfs_search::{Hit, Metric};

use super::condition::{Condition, Verdict};
use super::scan::{Candidate, Scan};
use super::source::Source;

/// Rows whose files are looked for at one look at the volume.
const ROWS_A_LOOK: usize = 64;
/// Rows beyond k in the first attempt, for those that turn out to be out of reach; then so many times as many.
const SPARE: usize = 8;
const MORE: usize = 8;
/// Attempts at a moment in which no row that is found changes hands; the last one leaves out those that do.
const ATTEMPTS_MAX: u32 = 8;

/// What is asked of the best rows.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// How many.
    pub(super) k: usize,
    /// The least score that counts.
    pub(super) least: f32,
    /// Only the best row of each file.
    pub(super) files: bool,
    /// What must be true of them.
    pub(super) condition: Option<&'a Condition>,
}

/// A file that was found.
pub(super) struct Found {
    pub(super) hit: Hit,
    pub(super) owner: Owner,
    pub(super) vector_id: u64,
}

/// The nearest of all rows that are wanted.
pub(super) fn nearest<S: Source>(
    scan: &mut Scan<'_, S>,
    caller: &Caller<'_>,
    mut reach: Reach,
    wanted: Wanted<'_>,
) -> Result<Vec<Found>> {
    for attempt in 1..=ATTEMPTS_MAX {
        scan.refresh()?;
        let strict = attempt < ATTEMPTS_MAX;
        let mut told = Told::new(scan.id, wanted, (caller, &mut reach), strict);
        if told.gather(scan)? {
            return Ok(told.found);
        }
    }
    Ok(Vec::new())
}

/// What is to be told.
pub(super) struct Told<'a> {
    pub(super) found: Vec<Found>,
    /// Those of which no other row counts.
    files: HashSet<Ino>,
    id: CollectionId,
    wanted: Wanted<'a>,
    caller: &'a Caller<'a>,
    reach: &'a mut Reach,
    /// A row with another vector ends the attempt.
    strict: bool,
}

/// What some candidates came to.
pub(super) enum Taken {
    /// There are as many as are wanted.
    Full,
    /// There are fewer yet.
    Fewer,
    /// A row was given to another vector meanwhile.
    Changed,
}

impl<'a> Told<'a> {
    /// Nothing yet.
    pub(super) fn new(
        id: CollectionId,
        wanted: Wanted<'a>,
        (caller, reach): (&'a Caller<'a>, &'a mut Reach),
        strict: bool,
    ) -> Self {
        Self { found: Vec::new(), files: HashSet::new(), id, wanted, caller, reach, strict }
    }

    // False if a row was given to another vector meanwhile.
    fn gather<S: Source>(&mut self, scan: &Scan<'_, S>) -> Result<bool> {
        let Wanted { k, least, .. } = self.wanted;
        let mut after = None;
        let mut count = k + SPARE;
        loop {
            let best = scan.best(after, count, least);
            match self.take(scan.source, &best)? {
                Taken::Full => return Ok(true),
                Taken::Changed => return Ok(false),
                Taken::Fewer if best.len() < count => return Ok(true),
                Taken::Fewer => {}
            }
            after = best.last().copied();
            count = count.saturating_mul(MORE);
        }
    }

    /// Takes those of the candidates, which come best first, that the caller finds and the condition is true of.
    pub(super) fn take<S: Source>(&mut self, source: &S, candidates: &[Candidate]) -> Result<Taken> {
        for some in candidates.chunks(ROWS_A_LOOK) {
            if !source.look(|volume| self.look_up(volume, some))? {
                return Ok(Taken::Changed);
            }
            if self.found.len() == self.wanted.k {
                return Ok(Taken::Full);
            }
        }
        Ok(Taken::Fewer)
    }

    fn look_up<H: BlockDevice + Data>(
        &mut self,
        volume: &Volume<H>,
        candidates: &[Candidate],
    ) -> Result<bool> {
        let verdicts = match self.wanted.condition {
            Some(condition) => condition.judge((volume, self.id), candidates, self.caller, self.reach)?,
            None => vec![Verdict::Chosen; candidates.len()],
        };
        for (Candidate { hit, vector_id }, verdict) in candidates.iter().zip(verdicts) {
            match verdict {
                Verdict::Chosen => {}
                Verdict::Gone if self.strict => return Ok(false),
                Verdict::Gone | Verdict::LeftOut => continue,
            }
            if self.found.len() == self.wanted.k {
                break;
            }
            match volume.holder(self.id, hit.row, *vector_id, self.caller, self.reach)? {
                Holder::Found(owner) if self.wanted.files && !self.files.insert(owner.inode) => {}
                Holder::Found(owner) => {
                    self.found.push(Found { hit: *hit, owner, vector_id: *vector_id });
                }
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
        let Self { hit, owner, .. } = self;
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
