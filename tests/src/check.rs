//! The core's own check, told as a verdict.

use vexfs_core::check::{CheckOptions, Finding, check};
use vexfs_core::device::{BlockDevice, Direct};

/// Checks everything and changes nothing; gives the number of orphans, which are no error.
pub fn check_clean(device: &impl BlockDevice) -> Result<u64, String> {
    verdict(device, |_| false)
}

/// As [`check_clean`], after a crash: a copy of the superblock may be torn, since its twin or the generation
/// before is whole.
pub fn check_crashed(device: &impl BlockDevice) -> Result<u64, String> {
    verdict(device, |finding| matches!(finding, Finding::Superblock { .. }))
}

fn verdict(device: &impl BlockDevice, harmless: impl Fn(&Finding) -> bool) -> Result<u64, String> {
    let mut findings = Vec::new();
    let options = CheckOptions { vectors: true, ..CheckOptions::default() };
    let report = check(
        Direct(device),
        options,
        &mut |finding| {
            if finding.is_error() && !harmless(finding) {
                findings.push(finding.to_string());
            }
        },
        &mut |_, _| {},
    )
    .map_err(|error| error.to_string())?;
    if findings.is_empty() {
        return Ok(report.orphans);
    }
    let count = findings.len();
    findings.truncate(4);
    Err(format!("{count} errors: {}", findings.join("; ")))
}
