//! A repair that gives up what cannot be kept, until nothing contradicts anything: `fsck -y`.
//!
//! It looks, applies the cures whose turn it is, and looks again. Each round takes damaged records away or puts them
//! right, so that rounds come to an end; what is left after [`ROUNDS_MAX`] is reported as not repaired.

use super::{CheckOptions, CheckReport, Finding, Look, Trouble, cure, look, repair};
use crate::device::{BlockDevice, Data};
use crate::error::Result;
use crate::volume::Volume;

/// Looks at most; a damaged volume needs three to eight.
const ROUNDS_MAX: usize = 64;

/// Looks, and mends until nothing is found; gives what the first look saw, and how many errors are gone.
pub(super) fn run<H: BlockDevice + Data>(
    volume: &mut Volume<H>,
    trouble: Trouble,
    options: CheckOptions,
    found: &mut dyn FnMut(&Finding),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<CheckReport> {
    let first = look(volume, trouble, true, options, found, progress)?;
    let report = first.report;
    let mut last = first;
    for _ in 0..ROUNDS_MAX {
        if last.repairs.is_empty() && last.cures.is_empty() {
            break;
        }
        // A round may have met one block in two places, which turns a volume read-only.
        volume.read_only = false;
        round(volume, &last, options)?;
        last = look(volume, Trouble::default(), false, options, &mut |_| {}, progress)?;
    }
    let repaired = report.errors.saturating_sub(last.report.errors);
    Ok(CheckReport { repaired, ..report })
}

fn round<H: BlockDevice + Data>(volume: &mut Volume<H>, seen: &Look, options: CheckOptions) -> Result<()> {
    repair::map(volume, &seen.repairs);
    if cure::apply(volume, &seen.cures, options.now)? > 0 {
        return Ok(());
    }
    repair::apply(volume, &seen.repairs, true, options.now).map(drop)
}
