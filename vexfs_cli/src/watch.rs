//! `vexfs watch`: keeps the vectors of files current by a command that makes them.
//!
//! What there is to do is told by the files alone (`user.vexfs.fresh.<collection>`), so nothing is lost with this
//! process or the daemon. A lease keeps others from the same work. Each vector is set as one of the content version that
//! was read before the command was given the path: whatever changed since, it never looks fresher than it is.

mod answer;
mod backoff;
mod child;
mod claim;
mod queue;
mod store;

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::arguments::{Common, Watch};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

use backoff::Backoff;
use claim::{Claimer, Item};
use queue::Queue;
use store::{Outcome, Tally};

pub(crate) fn run(arguments: &Watch, common: &Common) -> Result<(), Failure> {
    let file = arguments.directories.first().map(|directory| directory.as_path());
    let place = Place::new(&arguments.collection, file, common)?;
    place.existing()?;
    if place.name.n != 0 || place.name.element.is_some() {
        return Err(Failure::new("a collection's name alone is needed"));
    }
    let queue = Queue::new(&place, arguments)?;
    if arguments.list {
        return list(&queue, common);
    }
    let watcher = Watcher {
        arguments,
        common,
        place: &place,
        queue: &queue,
        claimer: Claimer::new(&place, arguments)?,
        backoff: Backoff::new(arguments),
    };
    watcher.run()
}

fn list(queue: &Queue<'_>, common: &Common) -> Result<(), Failure> {
    let mut written = Ok(());
    queue.scan(&mut |found| {
        let state = if found.missing { "missing" } else { "stale" };
        written = match common.json {
            true => output::line(&json!({"path": found.path.to_string_lossy(), "state": state})),
            false => output::text(&format!("{state:7}  {}\n", found.path.display())),
        };
        written.is_ok()
    })?;
    Ok(written?)
}

struct Watcher<'a> {
    arguments: &'a Watch,
    common: &'a Common,
    place: &'a Place,
    queue: &'a Queue<'a>,
    claimer: Claimer<'a>,
    backoff: Backoff,
}

impl Watcher<'_> {
    fn run(mut self) -> Result<(), Failure> {
        let mut quiet = None;
        loop {
            let mark = queue::mark(&self.place.site);
            if mark.is_none() || mark != quiet {
                let left = self.round()?;
                quiet = mark.filter(|_| left == Left::default());
                if self.arguments.once && !left.done && left.others == 0 && left.later == 0 {
                    return match left.given_up {
                        0 => Ok(()),
                        count => Err(Failure::new(format!(
                            "{count} files are left that the command failed for {} times; what it said is above",
                            self.arguments.retries
                        ))),
                    };
                }
                if left.done {
                    continue;
                }
            } else if self.arguments.once {
                return Ok(());
            }
            thread::sleep(Duration::from_secs_f64(self.arguments.interval.max(0.01)));
        }
    }

    // Looks through all files once, and does what it finds.
    fn round(&mut self) -> Result<Left, Failure> {
        let mut found = Vec::new();
        let settling = self.queue.scan(&mut |file| {
            found.push(file);
            true
        })?;
        let mut left = Left { later: settling, ..Left::default() };
        let mut batch: Vec<Item> = Vec::new();
        for file in found {
            match self.backoff.state(file.inode, file.version) {
                backoff::State::Now => {}
                backoff::State::Later => {
                    left.later += 1;
                    continue;
                }
                backoff::State::GivenUp => {
                    left.given_up += 1;
                    continue;
                }
                backoff::State::Never => continue,
            }
            match self.claimer.claim(file)? {
                claim::Claim::Ours(item) => batch.push(item),
                claim::Claim::Others => left.others += 1,
                claim::Claim::Gone => {}
                claim::Claim::Refused(inode, version, why) => {
                    self.backoff.failed(inode, version);
                    eprintln!("vexfs: {why}");
                    left.later += 1;
                }
            }
            if batch.len() == self.arguments.batch {
                left.done = true;
                self.all_of(std::mem::take(&mut batch))?;
            }
        }
        if !batch.is_empty() {
            left.done = true;
            self.all_of(batch)?;
        }
        Ok(left)
    }

    // Does a batch, in ever smaller parts where the command fails; then gives the leases back.
    fn all_of(&mut self, batch: Vec<Item>) -> Result<(), Failure> {
        let done = self.part(&batch);
        self.claimer.release(&batch);
        done
    }

    fn part(&mut self, items: &[Item]) -> Result<(), Failure> {
        thread::sleep(self.backoff.pause());
        let started = Instant::now();
        let why = match self.attempt(items)? {
            Ok(tally) => {
                self.backoff.succeeded();
                for item in items {
                    match tally.left_without.contains(&item.inode) {
                        true => self.backoff.never(item.inode, item.version),
                        false => self.backoff.forget(item.inode),
                    }
                }
                return self.report(items.len(), &tally, started.elapsed());
            }
            Err(why) => why,
        };
        let broken = self.backoff.command_failed(items.len());
        let Some((left, right)) =
            items.split_at_checked(items.len() / 2).filter(|_| items.len() > 1 && !broken)
        else {
            for item in items {
                self.backoff.failed(item.inode, item.version);
            }
            let what = match items {
                [item] => item.path.display().to_string(),
                _ => format!("{} files", items.len()),
            };
            eprintln!("vexfs: {what}: {why}");
            return match self.backoff.is_hopeless() {
                true => Err(Failure::new(format!("the command never succeeded: {why}"))),
                false => Ok(()),
            };
        };
        eprintln!("vexfs: {} files: {why}; they are tried in halves", items.len());
        self.part(left)?;
        self.part(right)
    }

    // Runs the command once, and sets what it gives; the inner error is a failure of the command.
    fn attempt(&mut self, items: &[Item]) -> Result<Result<Tally, String>, Failure> {
        let schema = self.place.existing()?;
        let mut input = Vec::new();
        for item in items {
            input.extend_from_slice(&item.line(self.arguments.null));
        }
        let environment = [
            ("VEXFS_COLLECTION", self.place.name.collection.clone()),
            ("VEXFS_DIMENSION", schema.dimensions.to_string()),
            ("VEXFS_ELEMENT", schema.element.name().to_owned()),
        ];
        let timeout = Duration::from_secs_f64(self.arguments.timeout);
        let claimer = &self.claimer;
        let every = Duration::from_secs(u64::from(self.arguments.lease)) / 3;
        let output = child::run(&self.arguments.command, &environment, input, timeout, every, &mut || {
            claimer.prolong(items);
        })?;
        let output = match output {
            Ok(output) => output,
            Err(why) => return Ok(Err(why)),
        };
        let answers = answer::parse(&output, self.arguments.format, items.len(), &schema);
        let answers = match answers {
            Ok(answers) => answers,
            Err(why) => return Ok(Err(why)),
        };
        let mut encoded = Vec::new();
        for (item, vectors) in items.iter().zip(&answers) {
            match store::encode(self.place, &schema, vectors) {
                Ok(vectors) => encoded.push(vectors),
                Err(why) if self.backoff.has_succeeded() => {
                    return Ok(Err(format!("the command's vector for {}: {why}", item.path.display())));
                }
                // No file is to blame, and no waiting helps.
                Err(why) => {
                    return Err(Failure::new(format!(
                        "the command's vector for {}: {why}",
                        item.path.display()
                    )));
                }
            }
        }
        let mut tally = Tally::default();
        for (item, vectors) in items.iter().zip(&encoded) {
            match store::store(self.place, item, vectors)? {
                Outcome::Set => {
                    tally.set += 1;
                    tally.vectors += vectors.len();
                }
                Outcome::LeftWithout => {
                    tally.left_without.insert(item.inode);
                }
                Outcome::Gone => tally.gone += 1,
                Outcome::Overtaken => tally.overtaken += 1,
            }
        }
        Ok(Ok(tally))
    }

    fn report(&self, files: usize, tally: &Tally, elapsed: Duration) -> Result<(), Failure> {
        let (name, seconds) = (&self.place.name.collection, elapsed.as_secs_f64());
        if self.common.json {
            output::line(&json!({
                "collection": name, "files": files, "set": tally.set, "vectors": tally.vectors,
                "left_without": tally.left_without.len(), "gone": tally.gone, "overtaken": tally.overtaken,
                "seconds": seconds,
            }))?;
            return Ok(());
        }
        let mut text = format!("{name}: {} vectors of {} files", tally.vectors, tally.set);
        let others = [
            (tally.left_without.len(), "left without"),
            (tally.gone, "gone meanwhile"),
            (tally.overtaken, "set by others meanwhile"),
        ];
        for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {what}");
        }
        output::text(&format!("{text} ({seconds:.1} s)\n"))?;
        Ok(())
    }
}

// What a round left to do.
#[derive(Default, PartialEq, Eq)]
struct Left {
    // Something was done.
    done: bool,
    // Files that others work on.
    others: usize,
    // Files whose time has not come.
    later: usize,
    // Files that failed too often.
    given_up: usize,
}

/// The path of an open file that holds whatever becomes of its name.
fn handle(file: &std::fs::File) -> std::path::PathBuf {
    use std::os::fd::AsRawFd;
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}
