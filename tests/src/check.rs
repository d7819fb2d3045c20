//! The core's own check, told as a verdict.

use vexfs_core::check::{CheckOptions, check};
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::numbers::Time;

/// Checks everything and changes nothing; gives the number of orphans, which are no error.
pub fn check_clean(device: &impl BlockDevice) -> Result<u64, String> {
    let mut findings = Vec::new();
    let options = CheckOptions { repair: false, vectors: true, now: Time::default() };
    let report = check(
        Direct(device),
        options,
        &mut |finding| {
            if finding.is_error() {
                findings.push(finding.to_string());
            }
        },
        &mut |_, _| {},
    )
    .map_err(|error| error.to_string())?;
    if findings.is_empty() && report.errors == 0 {
        return Ok(report.orphans);
    }
    findings.truncate(4);
    Err(format!("{} errors: {}", report.errors, findings.join("; ")))
}
