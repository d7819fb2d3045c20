//! Workers that change their directories, each telling on a raw disk what it is about to do ([`vexfs_guest::told`]).
//!
//! The disk is recorded with the volume's own writes and flushes. Lines go past all caches and are never flushed, so
//! that they add no flush to what the volume does by itself.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread;

use vexfs_guest::told::{Act, LINES_MAX, Line, SECTOR};

use crate::manifest::{Failure, Outcome};
use crate::worker::Worker;

/// Lets `workers` do `acts` acts each below `root`, told on the disk `told`.
pub(crate) fn run(root: &Path, told: &Path, workers: u32, acts: u64, seed: u64) -> Outcome {
    if acts >= LINES_MAX {
        return Err(format!("a worker can tell {} acts", LINES_MAX - 1).into());
    }
    let workers =
        (0..workers).map(|number| Worker::new(root, number, seed)).collect::<Result<Vec<_>, _>>()?;
    let count = workers.len();
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let work = |worker| work(worker, told, acts).map_err(|error| error.to_string());
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(move || work(worker))).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|result| result.unwrap_or_else(|_| Err("a worker panicked".into()))).collect()
    });
    results.into_iter().collect::<Result<(), String>>()?;
    println!("exercise told workload: {count} workers, {acts} acts each, seed {seed}");
    Ok(())
}

fn work(mut worker: Worker, told: &Path, acts: u64) -> Outcome {
    let teller = Teller::open(told, worker.number)?;
    for number in 0..acts {
        let act = worker.choose();
        teller.tell(number, &act)?;
        worker.act(&act).map_err(|error| format!("act {number} of {error}"))?;
    }
    teller.tell(acts, &Act::End)
}

/// Where a worker's lines go.
struct Teller {
    disk: File,
    worker: u32,
}

#[repr(C, align(4096))]
struct Sector([u8; SECTOR]);

impl Teller {
    fn open(path: &Path, worker: u32) -> Result<Self, Failure> {
        let disk = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(Self { disk, worker })
    }

    fn tell(&self, number: u64, act: &Act) -> Outcome {
        let line = Line { worker: self.worker, number, act: act.clone() }.to_string();
        let mut sector = Sector([b' '; SECTOR]);
        sector.0.get_mut(..line.len()).ok_or("a line longer than a sector")?.copy_from_slice(line.as_bytes());
        let place = u64::from(self.worker) * LINES_MAX + number;
        Ok(self.disk.write_all_at(&sector.0, place * SECTOR as u64)?)
    }
}
