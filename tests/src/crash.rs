//! Judges every crash state of a workload, each once, and counts how many distinct images there were.
//!
//! What a right state is, an [`Oracle`] knows; this module only walks, counts, and turns panics into failures.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    failures: Mutex<Vec<String>>,
}

impl Tally {
    /// Distinct images judged.
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
            lock(&self.images).insert(image.hash());
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
