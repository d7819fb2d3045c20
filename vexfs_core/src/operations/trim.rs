//! Trimming: free blocks are held back from use while the host gives them back to the device.
//!
//! Only blocks that anybody may be given now are held: no durable state refers to them, nor does what is under way. What
//! a change freed that is not durable yet is not among them.

use alloc::vec::Vec;

use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::memory;
use crate::numbers::Run;
use crate::volume::Volume;

/// Runs that are held at once at most.
const RUNS_MAX: usize = 1024;
/// Blocks that are held at once at most, and of what is free the part that is.
const BLOCKS_MAX: u64 = 1 << 16;
const PART: u64 = 8;
/// Blocks that are held at once however little is free.
const BLOCKS_MIN: u64 = 64;

/// Free blocks that nobody is given until [`Volume::trim_end`].
#[derive(Debug)]
pub struct Held {
    /// Where they are, first to last.
    pub runs: Vec<Run>,
    /// The first block that was not looked at; none if all were.
    pub next: Option<u64>,
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Holds back free runs of at least `least` blocks among the blocks `from..to`: some of them, so that who needs blocks
    /// meanwhile finds others. The host discards them, calls [`Volume::trim_end`], and goes on at `next`.
    ///
    /// # Errors
    /// `ReadOnly`; want of memory.
    pub fn trim_begin(&mut self, from: u64, to: u64, least: u64) -> Result<Held> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let ready = self.space.ready();
        let mut left = (ready / PART).clamp(BLOCKS_MIN, BLOCKS_MAX).min(ready);
        let mut held = Held { runs: Vec::new(), next: None };
        memory::reserve(&mut held.runs, RUNS_MAX)?;
        // What is free and promised to somebody is left alone.
        let mut at = if left == 0 { to } else { from };
        while let Some(run) = self.space.next_free(at).filter(|run| run.start.0 < to) {
            if left == 0 || held.runs.len() == RUNS_MAX {
                held.next = Some(run.start.0);
                break;
            }
            let whole = run.end().min(to) - run.start.0;
            let part = Run::new(run.start.0, whole.min(left));
            at = part.end();
            if whole >= least && self.space.hold(part) {
                left -= part.count;
                memory::append(&mut held.runs, part);
            }
        }
        Ok(held)
    }

    /// Gives back what was held: it may be used again.
    pub fn trim_end(&mut self, held: Held) {
        for run in held.runs {
            self.space.give_back(run);
        }
    }
}
