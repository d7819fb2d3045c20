//! An open `append`: what is written gathers into batches, each of which is one transaction of the core.
//!
//! A batch ends where its writer closes the file, calls fsync, or reads, which gives the answer; and where it is
//! `BATCH_BYTES` or `BATCH_RECORDS` long. Its records go by the permissions of whoever opened the file. A batch that is
//! refused is refused as a whole, and so is everything after it, until the file is closed.
//!
//! Each has two threads of its own: a batch waits for the kernel to hear of its rows before they count, and the threads
//! that serve reads must not wait for that; and the next batch gathers while one is set.

mod committer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use vexfs_core::control::append::whole_records;
use vexfs_core::control::json_string;
use vexfs_core::memory::Text;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::Batch;
use vexfs_core::{Error, Result};

use self::committer::{Committer, Outcome};
use crate::attributes::{Asker, Who};
use crate::service::Service;

/// Bytes that are gathered at most before they are a batch.
const BATCH_BYTES: usize = 8 << 20;
/// Records that a batch has at most: what a transaction sets aside grows with them.
const BATCH_RECORDS: u64 = 8192;

type Answer<T> = Box<dyn FnOnce(T) + Send>;

enum Job {
    Write(Vec<u8>, Answer<Result<()>>),
    Finish(Answer<Result<()>>),
    Read(usize, Answer<Vec<u8>>),
}

/// One open `append`.
pub struct Append {
    writer: Arc<Writer>,
    /// The way to its thread, once there is something to do.
    jobs: OnceLock<Sender<Job>>,
}

impl Append {
    /// Opens `inode` for `who`.
    pub fn new(who: Who, inode: Ino) -> Self {
        Self {
            writer: Arc::new(Writer { inode, pid: who.pid(), asker: Asker::of(who) }),
            jobs: OnceLock::new(),
        }
    }

    /// Takes bytes of the stream; a batch that is long enough is committed, and, if it is to be `durable`, any.
    pub fn write(
        &self,
        service: &Arc<Service>,
        bytes: &[u8],
        durable: bool,
        answer: impl FnOnce(Result<()>) + Send + 'static,
    ) {
        if !durable {
            return self.ask(service, Job::Write(bytes.to_vec(), Box::new(answer)));
        }
        let shared = Arc::clone(service);
        // The end of the batch tells what became of it.
        self.ask(service, Job::Write(bytes.to_vec(), Box::new(drop)));
        self.finish(service, move |done| match done {
            Ok(()) => shared.sync_then(answer),
            Err(error) => answer(Err(error)),
        });
    }

    /// Ends the batch.
    pub fn finish(&self, service: &Arc<Service>, answer: impl FnOnce(Result<()>) + Send + 'static) {
        match self.jobs.get() {
            Some(_) => self.ask(service, Job::Finish(Box::new(answer))),
            None => answer(Ok(())),
        }
    }

    /// Ends the batch and gives the answer, a line of JSON; nothing where that was read already.
    pub fn read(&self, service: &Arc<Service>, size: usize, answer: impl FnOnce(Vec<u8>) + Send + 'static) {
        match self.jobs.get() {
            Some(_) => self.ask(service, Job::Read(size, Box::new(answer))),
            None => answer(Vec::new()),
        }
    }

    // A job that is lost drops its answer, which is EIO.
    fn ask(&self, service: &Arc<Service>, job: Job) {
        let jobs = self.jobs.get_or_init(|| {
            let (sender, receiver) = channel();
            let (writer, service) = (Arc::clone(&self.writer), Arc::clone(service));
            let serve = move || serve(&service, &writer, &receiver);
            if let Err(error) = thread::Builder::new().name("append".into()).spawn(serve) {
                log::error!("no thread for an open append: {error}");
            }
            sender
        });
        if jobs.send(job).is_err() {
            log::error!("the thread of an open append is gone");
        }
    }
}

// Does what is asked until the file is closed.
fn serve(service: &Service, writer: &Writer, jobs: &Receiver<Job>) {
    let work = || {
        thread::scope(|scope| {
            let committer = Committer::start(scope, service, writer)?;
            let mut stream = Stream::new(service, writer, committer);
            for job in jobs {
                match job {
                    Job::Write(bytes, answer) => answer(stream.write(&bytes)),
                    Job::Finish(answer) => answer(stream.end()),
                    Job::Read(size, answer) => answer(stream.read(size)),
                }
            }
            // Closing ends the batch before it gets here; a batch under way is waited for with its thread.
            std::io::Result::Ok(())
        })
    };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log::error!("no thread for an open append: {error}"),
        Err(_) => service.panicked(),
    }
}

/// Who opened the file, and which.
struct Writer {
    inode: Ino,
    pid: u32,
    asker: Asker,
}

struct Stream<'s> {
    service: &'s Service,
    writer: &'s Writer,
    committer: Committer,
    bytes: Vec<u8>,
    /// So many of them are whole records, and so many these are.
    whole: (usize, u64),
    /// Since the last answer.
    done: Batch,
    failed: Option<Failed>,
    /// Something was written that no answer told of.
    unread: bool,
    /// What a reader is still to get.
    answer: Vec<u8>,
}

struct Failed {
    error: Error,
    /// Counted from the last answer on.
    record: Option<u64>,
    words: String,
}

impl<'s> Stream<'s> {
    fn new(service: &'s Service, writer: &'s Writer, committer: Committer) -> Self {
        Self {
            service,
            writer,
            committer,
            bytes: Vec::new(),
            whole: (0, 0),
            done: Batch::default(),
            failed: None,
            unread: false,
            answer: Vec::new(),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.error);
        }
        self.unread = true;
        self.bytes.extend_from_slice(bytes);
        loop {
            let (len, count) = self.whole;
            match whole_records(&self.bytes[len..], BATCH_RECORDS - count) {
                Ok((more, found)) => self.whole = (len + more, count + found),
                // Its words come from the core, which finds the same.
                Err(_) => return self.end(),
            }
            let (len, count) = self.whole;
            if len == 0 || (count < BATCH_RECORDS && self.bytes.len() < BATCH_BYTES) {
                return Ok(());
            }
            self.commit(len)?;
        }
    }

    fn read(&mut self, size: usize) -> Vec<u8> {
        if self.unread {
            // The error is in the answer.
            let _ = self.end();
            let Batch { set, kept } = self.done;
            let text = match &self.failed {
                Some(Failed { words, record, .. }) => {
                    let record = record.map_or(String::new(), |record| format!(",\"record\":{record}"));
                    format!("{{\"error\":{}{record},\"set\":{set},\"kept\":{kept}}}\n", quoted(words))
                }
                None => format!("{{\"set\":{set},\"kept\":{kept}}}\n"),
            };
            self.done = Batch::default();
            self.answer.extend_from_slice(text.as_bytes());
            self.unread = false;
        }
        let end = size.min(self.answer.len());
        let rest = self.answer.split_off(end);
        std::mem::replace(&mut self.answer, rest)
    }

    // Ends the batch, and waits until it is set.
    fn end(&mut self) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.error);
        }
        let len = self.bytes.len();
        if len > 0 {
            self.commit(len)?;
        }
        self.settle()
    }

    // Has the first `len` bytes set in one transaction, after the batch before them.
    fn commit(&mut self, len: usize) -> Result<()> {
        self.settle()?;
        let rest = self.bytes.split_off(len);
        let batch = std::mem::replace(&mut self.bytes, rest);
        self.whole = (0, 0);
        self.committer.begin(batch);
        Ok(())
    }

    // Waits for the batch that is being set, if one is.
    fn settle(&mut self) -> Result<()> {
        match self.committer.outcome() {
            None => Ok(()),
            Some(Outcome::Set(batch)) => {
                self.done.set += batch.set;
                self.done.kept += batch.kept;
                self.service.disk().start_writeback();
                Ok(())
            }
            Some(Outcome::Refused { error, record }) => {
                let before = self.done.set + self.done.kept;
                let record = record.map(|(index, path)| (before + index as u64, path));
                let which = match &record {
                    Some((record, path)) if !path.is_empty() => format!("record {record}, {path}: "),
                    Some((record, _)) => format!("record {record}: "),
                    None => String::new(),
                };
                let words = format!("{which}{error}");
                self.service.refused();
                let Writer { inode, pid, .. } = self.writer;
                log::warn!("refused: pid {pid}, append to inode {inode}: {words}");
                (self.bytes, self.whole) = (Vec::new(), (0, 0));
                self.failed = Some(Failed { error, record: record.map(|(record, _)| record), words });
                Err(error)
            }
        }
    }
}

// A string of JSON; an empty one where there is no memory for it.
fn quoted(words: &str) -> String {
    let mut text = Text::new();
    match json_string(&mut text, words.as_bytes()) {
        Ok(()) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        Err(_) => "\"\"".into(),
    }
}
