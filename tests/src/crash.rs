//! Judges every crash state of a workload, each once, and counts how many distinct images there were.
//!
//! What a right state is, an [`Oracle`] knows; this module only walks, counts, and turns panics into failures.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::image::Image;
use crate::sim::Trace;
use crate::states::{Limits, Origin, each_crash_state};

/// Failures of one workload that are worth telling.
const FAILURES_MAX: usize = 2;

/// Knows what may be found after a crash.
pub trait Oracle {
    /// A number that is equal for two moments of the trace if the same images are right at both.
    fn window(&self, events: usize) -> u64;

    /// Mounts the image and judges it; `sample` is a number to choose rarer and dearer checks by.
    fn judge(&self, image: &Image, origin: &Origin, sample: u64) -> Result<(), String>;
}

/// What came out, of all workloads together.
#[derive(Default)]
pub struct Tally {
    images: Mutex<HashSet<u128>>,
    /// Images that earlier runs judged, which do not count again.
    earlier: HashSet<u128>,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// A tally that does not count the images whose hashes are in this file, which need not be there yet.
    pub fn after(path: &Path) -> io::Result<Self> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            other => other?,
        };
        let (hashes, rest) = bytes.as_chunks();
        if !rest.is_empty() {
            let why = format!("{} is cut off: remove it, and begin anew", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let earlier = hashes.iter().map(|hash| u128::from_le_bytes(*hash)).collect();
        Ok(Self { earlier, ..Self::default() })
    }

    /// Adds the images judged to the file, 16 bytes each.
    pub fn remember(&self, path: &Path) -> io::Result<()> {
        let hashes: Vec<u8> = lock(&self.images).iter().flat_map(|hash| hash.to_le_bytes()).collect();
        OpenOptions::new().create(true).append(true).open(path)?.write_all(&hashes)
    }

    /// Distinct images judged, without those of earlier runs.
    pub fn distinct(&self) -> usize {
        lock(&self.images).len()
    }

    /// What went wrong.
    pub fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// Notes something that went wrong.
    pub fn fail(&self, why: String) {
        lock(&self.failures).push(why);
    }

    /// Judges all crash states of `trace`; gives how many were judged.
    pub fn explore(
        &self,
        name: &str,
        trace: &Trace,
        oracle: &impl Oracle,
        limits: &Limits,
        seed: u64,
    ) -> usize {
        let mut seen = HashSet::new();
        let mut failures = 0;
        each_crash_state(trace, limits, seed, |image, origin| {
            if !seen.insert((image.hash(), oracle.window(origin.events))) {
                return true;
            }
            if !self.earlier.contains(&image.hash()) {
                lock(&self.images).insert(image.hash());
            }
            // A panic of the core on a crashed image is a failure like any other.
            let verdict = catch_unwind(AssertUnwindSafe(|| oracle.judge(image, origin, image.hash() as u64)));
            let why = match verdict {
                Ok(Ok(())) => return true,
                Ok(Err(why)) => why,
                Err(panic) => format!("panic: {}", panic_text(&*panic)),
            };
            self.fail(format!(
                "{name} (seed {seed}), crash at event {}, {}: {why}",
                origin.events, origin.cut
            ));
            failures += 1;
            failures < FAILURES_MAX
        });
        seen.len()
    }
}

/// The text a panic carries.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words").to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
