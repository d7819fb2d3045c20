//! When to try again: what failed waits twice as long each time, up to a bound.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::arguments::Watch;

const FILE_SECONDS_MAX: u64 = 300;
const COMMAND_SECONDS_MAX: u64 = 60;

/// What became of files and of the command until now.
pub(super) struct Backoff {
    files: HashMap<u64, Tried>,
    /// Failures of the command since it last succeeded.
    in_a_row: usize,
    succeeded: bool,
    retries: usize,
    /// Failures in a row that one bad file in a batch can cause.
    depth: usize,
    once: bool,
}

struct Tried {
    version: u64,
    failures: usize,
    // None: not before the content changes.
    again: Option<Instant>,
}

/// Whether a file's time has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum State {
    Now,
    Later,
    /// It failed too often.
    GivenUp,
    /// The command has no vector for it.
    Never,
}

impl Backoff {
    /// Nothing was tried yet.
    pub(super) fn new(arguments: &Watch) -> Self {
        Self::with(arguments.retries, arguments.batch, arguments.once)
    }

    fn with(retries: usize, batch: usize, once: bool) -> Self {
        let depth = batch.next_power_of_two().ilog2() as usize + 1;
        Self { files: HashMap::new(), in_a_row: 0, succeeded: false, retries, depth, once }
    }

    /// What to do with a file of this content version.
    pub(super) fn state(&self, inode: u64, version: u64) -> State {
        match self.files.get(&inode).filter(|tried| tried.version == version) {
            None => State::Now,
            Some(Tried { again: None, .. }) => State::Never,
            Some(tried) if self.once && tried.failures > self.retries => State::GivenUp,
            Some(Tried { again: Some(again), .. }) if *again > Instant::now() => State::Later,
            Some(_) => State::Now,
        }
    }

    /// A file failed.
    pub(super) fn failed(&mut self, inode: u64, version: u64) {
        let before = self.files.get(&inode).filter(|tried| tried.version == version);
        let failures = before.map_or(0, |tried| tried.failures) + 1;
        let again = Some(Instant::now() + delay(failures, FILE_SECONDS_MAX));
        self.files.insert(inode, Tried { version, failures, again });
    }

    /// The command has no vector for this content of a file.
    pub(super) fn never(&mut self, inode: u64, version: u64) {
        self.files.insert(inode, Tried { version, failures: 0, again: None });
    }

    /// A file is done.
    pub(super) fn forget(&mut self, inode: u64) {
        self.files.remove(&inode);
    }

    /// The command succeeded.
    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
        self.succeeded = true;
    }

    /// True if it ever did.
    pub(super) fn has_succeeded(&self) -> bool {
        self.succeeded
    }

    /// The command failed for so many files; true if that cannot be the fault of one of them.
    pub(super) fn command_failed(&mut self, files: usize) -> bool {
        // Of a single file nobody knows, once others went well.
        if files > 1 || !self.succeeded {
            self.in_a_row += 1;
        }
        self.in_a_row > self.depth
    }

    /// True if the command failed so often without ever succeeding that it is given up.
    pub(super) fn is_hopeless(&self) -> bool {
        !self.succeeded && self.in_a_row >= self.depth + self.retries
    }

    /// How long to wait before the command is run again.
    pub(super) fn pause(&self) -> Duration {
        match self.in_a_row.checked_sub(self.depth) {
            None | Some(0) => Duration::ZERO,
            Some(more) => delay(more, COMMAND_SECONDS_MAX),
        }
    }
}

// 1, 2, 4 ... seconds after the first, second, third ... failure.
fn delay(failures: usize, seconds_max: u64) -> Duration {
    let exponent = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    Duration::from_secs(2_u64.checked_pow(exponent).unwrap_or(u64::MAX).min(seconds_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_bounded() {
        let seconds: Vec<u64> = (1..=10).map(|failures| delay(failures, 300).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(delay(usize::MAX, 60).as_secs(), 60);
    }

    #[test]
    fn a_file_waits_until_its_time_or_its_content_comes() {
        let mut backoff = Backoff::with(2, 1, true);
        backoff.failed(7, 3);
        assert_eq!(backoff.state(7, 3), State::Later);
        assert_eq!((backoff.state(7, 4), backoff.state(8, 3)), (State::Now, State::Now));
        backoff.failed(7, 3);
        backoff.failed(7, 3);
        assert_eq!(backoff.state(7, 3), State::GivenUp);
        backoff.once = false;
        assert_eq!(backoff.state(7, 3), State::Later, "a watch never gives a file up");
        backoff.never(7, 3);
        assert_eq!((backoff.state(7, 3), backoff.state(7, 4)), (State::Never, State::Now));
    }

    #[test]
    fn one_bad_file_is_no_broken_command() {
        let mut backoff = Backoff::with(5, 32, false);
        // 32, 16, 8, 4, 2, 1.
        for files in [32, 16, 8, 4, 2, 1] {
            assert!(!backoff.command_failed(files));
        }
        assert!(backoff.pause().is_zero() && !backoff.is_hopeless());
        assert!(backoff.command_failed(1), "and the next one, too");
        assert_eq!(backoff.pause().as_secs(), 1);
        for _ in 0..4 {
            backoff.command_failed(32);
        }
        assert!(backoff.is_hopeless());
        backoff.succeeded();
        assert!(backoff.pause().is_zero() && !backoff.is_hopeless());
        for _ in 0..100 {
            backoff.command_failed(1);
        }
        assert!(backoff.pause().is_zero(), "one file that fails keeps no other waiting");
    }
}
