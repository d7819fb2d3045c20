//! What is done with a damaged image: mount, look at everything, 20 operations, commit, check, repair, check, mount.
//!
//! Any call may fail with an honest error. None may panic, ask the disk more often than [`Limits`] allows, hold more
//! memory than 64 MiB and 1 % of the image, or write bytes of files where the superblocks, the map and the journal are.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;

use vexfs_core::check::{CheckOptions, CheckReport, Finding, check};
use vexfs_core::device::BlockDevice;
use vexfs_core::error::{Error, Result};
use vexfs_core::numbers::Time;
use vexfs_core::volume::{MountOptions, Volume};

use super::bases::BASES;
use super::meter::Meter;
use super::subject::Subject;
use super::{operations, walk};
use crate::allocations::peak_of;
use crate::crash::panic_text;
use crate::image::Image;
use crate::random::Random;

/// Operations on each image.
const OPERATIONS: usize = 20;
/// Steps of tidying after which there is no end to be expected.
const TIDY_MAX: usize = 4000;
/// Bytes that a call may hold at its peak, and 1 % of the image more.
const MEMORY_MAX: u64 = 64 << 20;

/// How often one call may ask the disk.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Any call but a check.
    pub call: u64,
    /// A whole check, or repair.
    pub check: u64,
}

/// What became of an image.
#[derive(Clone, Copy, Debug, Default)]
pub struct Verdict {
    /// It could not be mounted.
    pub refused: bool,
    /// The check found errors in it.
    pub found: bool,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that succeeded.
    pub successes: u64,
    /// The most times that a call asked the disk.
    pub calls_max: u64,
    /// The same of a check.
    pub check_calls_max: u64,
    /// The most memory that a call held.
    pub memory_max: u64,
    /// Errors that the repair left.
    pub left: u64,
}

/// Calls on a damaged volume, watched.
pub struct Exercise {
    /// The disk.
    pub meter: Meter,
    /// What came out so far.
    pub verdict: Verdict,
    /// Questions of nearness are asked, too: they cost as much as all else.
    pub asks: bool,
    /// The volume has features that only a later version may write with.
    foreign: bool,
    limits: Limits,
    wrong: Vec<String>,
}

static HOOK: Once = Once::new();
thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PLACE: Cell<String> = const { Cell::new(String::new()) };
}

/// The time of everything here.
pub const NOW: Time = Time { seconds: 1_800_000_000, nanoseconds: 5 };

impl Limits {
    /// What is enough for the base image, many times over.
    pub fn of(subject: &Subject) -> Self {
        let records = subject.records.len() as u64;
        let blocks = subject.layout.block_count;
        Self { call: 20_000 + 40 * records + blocks / 4, check: 100_000 + 400 * records + blocks }
    }
}

// Seeds take the base images in turn; what is done with one image in some goes by these turns, and so comes to each.
fn turn_of(seed: u64) -> u64 {
    seed / BASES.len() as u64
}

/// Does everything with the image; the error tells every rule that was broken.
pub fn run(
    subject: &Subject,
    image: &Image,
    seed: u64,
    limits: Limits,
) -> std::result::Result<Verdict, String> {
    let block_size = u64::from(subject.layout.block_size);
    let start = subject.layout.data_start * block_size;
    let turn = turn_of(seed);
    let data = start..start + subject.layout.data_blocks * block_size;
    // Without a cache every look at a node verifies it, and an image takes ten times as long. A prime: all that goes by turns comes
    // to those without one, too.
    let verified = (!turn.is_multiple_of(61)).then(|| Rc::clone(&subject.verified));
    let meter = Meter::new(image.clone(), data, verified);
    let mut exercise = Exercise {
        meter,
        verdict: Verdict::default(),
        asks: false,
        foreign: false,
        limits,
        wrong: Vec::new(),
    };
    HOOK.call_once(note_places);
    QUIET.set(true);
    let done = catch_unwind(AssertUnwindSafe(|| exercise.all(subject, seed)));
    QUIET.set(false);
    if let Err(panic) = done {
        return Err(format!("panic: {}{}", panic_text(&*panic), PLACE.take()));
    }
    if let Some(offset) = exercise.meter.strayed() {
        exercise.wrong.push(format!("bytes of a file were written at {offset}, outside the data area"));
    }
    match exercise.wrong.is_empty() {
        true => Ok(exercise.verdict),
        false => Err(exercise.wrong.join("; ")),
    }
}

// Panics here are results: their place is noted for the verdict, and nothing is printed.
fn note_places() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if QUIET.get() {
            PLACE.set(panic.location().map(|place| format!(" at {place}")).unwrap_or_default());
        } else {
            before(panic);
        }
    }));
}

impl Exercise {
    fn all(&mut self, subject: &Subject, seed: u64) {
        let mut random = Random::new(seed);
        let options = MountOptions { list_control: random.one_in(2), ..MountOptions::default() };
        let (errors, checked) =
            self.check(CheckOptions { vectors: true, now: NOW, ..CheckOptions::default() });
        let checkable = checked.is_ok();
        self.verdict.found = errors > 0 || !checkable;
        let meter = self.meter.clone();
        match self.call("mount", || Volume::mount(meter, options)) {
            Ok(mut volume) => {
                self.asks = turn_of(seed).is_multiple_of(4);
                walk::everything(self, &volume, subject, 1);
                self.asks = false;
                for _ in 0..OPERATIONS {
                    operations::one(self, &mut volume, subject, &mut random);
                }
                self.settle(&mut volume);
                walk::everything(self, &volume, subject, 5);
            }
            Err(_) => self.verdict.refused = true,
        }
        if turn_of(seed).is_multiple_of(3) {
            self.repair(false);
        }
        self.repair(true);
        let meter = self.meter.clone();
        let mounted = self.call("mount", || Volume::mount(meter, options));
        match mounted {
            Ok(volume) => {
                self.asks = turn_of(seed) % 4 == 2;
                walk::everything(self, &volume, subject, 3);
            }
            // What a later version made is not repaired, and its map, if that is damaged, stays so.
            Err(_) if !checkable || self.foreign => {}
            Err(error) => self.wrong.push(format!("no mount after a repair: {error}")),
        }
    }

    // Commits, and finishes what waits, as a host does at the end.
    fn settle(&mut self, volume: &mut Volume<Meter>) {
        for _ in 0..2 {
            let mut steps = 0;
            while let Ok(true) = self.call("tidy", || volume.tidy(NOW)) {
                steps += 1;
                if steps == TIDY_MAX {
                    self.wrong.push("tidy has no end".into());
                    return;
                }
            }
            self.probe("commit", || volume.commit(NOW));
        }
    }

    // A repair mends in one run what it can mend at all; one that may give things up leaves nothing.
    fn repair(&mut self, salvage: bool) {
        let options = CheckOptions { vectors: true, now: NOW, repair: true, salvage };
        let (_, repaired) = self.check(options);
        let look = CheckOptions { repair: false, salvage: false, ..options };
        let mut left = Vec::new();
        let (errors, again) = self.checked(look, &mut |finding| {
            if finding.is_error() && left.len() < 3 {
                left.push(finding.to_string());
            }
        });
        self.verdict.left = errors;
        match (repaired, again) {
            // Without a superblock that tells where things are, nothing can be done.
            (Err(_), Err(_)) => {}
            // What has features that are unknown here must not be written.
            (Err(Error::IncompatibleToWrite(_)), Ok(_)) => self.foreign = true,
            (Err(error), Ok(_)) => self.wrong.push(format!("a repair fails, a check does not: {error}")),
            (Ok(_), Err(error)) => self.wrong.push(format!("a check after a repair fails: {error}")),
            (Ok(_), Ok(_)) if salvage && errors > 0 => {
                self.wrong.push(format!("a salvage leaves: {}", left.join("; ")));
            }
            (Ok(_), Ok(_)) if salvage => {}
            (Ok(_), Ok(_)) => {
                let (_, second) = self.check(options);
                let mended = second.map_or(0, |report| report.repaired);
                if mended > 0 {
                    let left = left.join("; ");
                    self.wrong.push(format!("a second repair mends {mended} more: {left}"));
                }
            }
        }
    }

    fn check(&mut self, options: CheckOptions) -> (u64, Result<CheckReport>) {
        self.checked(options, &mut |_| {})
    }

    fn checked(
        &mut self,
        options: CheckOptions,
        tell: &mut dyn FnMut(&Finding),
    ) -> (u64, Result<CheckReport>) {
        let mut errors = 0;
        let mut found = |finding: &Finding| {
            errors += u64::from(finding.is_error());
            tell(finding);
        };
        let meter = self.meter.clone();
        let what = if options.repair { "repair" } else { "check" };
        let limit = self.limits.check;
        let result = self.watched(what, limit, || check(meter, options, &mut found, &mut |_, _| {}));
        self.verdict.check_calls_max = self.verdict.check_calls_max.max(self.meter.calls());
        (errors, result)
    }

    /// One call on the volume.
    pub fn call<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let result = self.watched(what, self.limits.call, work);
        self.verdict.calls_max = self.verdict.calls_max.max(self.meter.calls());
        result
    }

    /// A call of which only the manners count, not the answer.
    pub fn probe<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T>) {
        let _ = self.call(what, work);
    }

    fn watched<T>(&mut self, what: &str, limit: u64, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.meter.refuel(limit);
        let (result, memory) = peak_of(work);
        self.verdict.memory_max = self.verdict.memory_max.max(memory);
        if self.meter.calls() > limit {
            self.wrong.push(format!("{what} asks the disk {} times", self.meter.calls()));
        }
        let memory_max = MEMORY_MAX + self.meter.size() / 100;
        if memory > memory_max {
            self.wrong.push(format!("{what} holds {memory} bytes"));
        }
        match &result {
            Ok(_) => self.verdict.successes += 1,
            Err(Error::NoMemory) => self.wrong.push(format!("{what} asks for more memory than there is")),
            Err(_) => self.verdict.errors += 1,
        }
        result
    }
}
