//! An open `append`: what is written gathers into batches, each of which is one transaction of the core.
//!
//! A batch ends where its writer closes the file, calls fsync, or reads, which gives the answer; and where it is
//! `BATCH_BYTES` or `BATCH_RECORDS` long. Its records go by the permissions of whoever opened the file. A batch that is
//! refused is refused as a whole, and so is everything after it, until the file is closed.
//!
//! Each has a thread of its own: a batch waits for the kernel to hear of its rows before they count, and the threads
//! that serve reads must not wait for that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use vexfs_core::control::append::{RECORD_HEADER, whole_records};
use vexfs_core::control::json_string;
use vexfs_core::memory::Text;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Batch, Caller, Refused};
use vexfs_core::{Error, Result};

use crate::attributes::{Asker, Who};
use crate::clock::now;
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
            let stream = Stream::default();
            let serve = move || serve(&service, &writer, stream, &receiver);
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
fn serve(service: &Service, writer: &Writer, mut stream: Stream, jobs: &Receiver<Job>) {
    let work = || {
        for job in jobs {
            match job {
                Job::Write(bytes, answer) => answer(stream.write(service, writer, &bytes)),
                Job::Finish(answer) => answer(stream.end(service, writer)),
                Job::Read(size, answer) => answer(stream.read(service, writer, size)),
            }
        }
    };
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        service.panicked();
    }
}

/// Who opened the file, and which.
struct Writer {
    inode: Ino,
    pid: u32,
    asker: Asker,
}

#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// So many of them are whole records, and so many these are.
    whole: (usize, u64),
    done: Batch,
    failed: Option<Failed>,
    /// Something was written that no answer told of.
    unread: bool,
    /// What a reader is still to get.
    answer: Vec<u8>,
}

struct Failed {
    error: Error,
    record: Option<usize>,
    words: String,
}

impl Stream {
    fn write(&mut self, service: &Service, writer: &Writer, bytes: &[u8]) -> Result<()> {
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
                Err(_) => return self.end(service, writer),
            }
            let (len, count) = self.whole;
            if len == 0 || (count < BATCH_RECORDS && self.bytes.len() < BATCH_BYTES) {
                return Ok(());
            }
            self.commit(service, writer, len)?;
        }
    }

    fn read(&mut self, service: &Service, writer: &Writer, size: usize) -> Vec<u8> {
        if self.unread {
            // The error is in the answer.
            let _ = self.end(service, writer);
            let text = match &self.failed {
                Some(Failed { words, record, .. }) => {
                    let record = record.map_or(String::new(), |record| format!(",\"record\":{record}"));
                    format!("{{\"error\":{}{record}}}\n", quoted(words))
                }
                None => format!("{{\"set\":{},\"kept\":{}}}\n", self.done.set, self.done.kept),
            };
            self.done = Batch::default();
            self.answer.extend_from_slice(text.as_bytes());
            self.unread = false;
        }
        let end = size.min(self.answer.len());
        let rest = self.answer.split_off(end);
        std::mem::replace(&mut self.answer, rest)
    }

    fn end(&mut self, service: &Service, writer: &Writer) -> Result<()> {
        if let Some(failed) = &self.failed {
            return Err(failed.error);
        }
        let len = self.bytes.len();
        if len == 0 { Ok(()) } else { self.commit(service, writer, len) }
    }

    // Sets what the first `len` bytes hold, in one transaction.
    fn commit(&mut self, service: &Service, writer: &Writer, len: usize) -> Result<()> {
        let set = writer.asker.as_caller(|caller| set(service, writer.inode, caller, &self.bytes[..len]));
        match set {
            Ok(batch) => {
                self.bytes.drain(..len);
                self.whole = (0, 0);
                self.done.set += batch.set;
                self.done.kept += batch.kept;
                Ok(())
            }
            Err(Refused { index, error }) => {
                let which = index.map_or(String::new(), |index| which(&self.bytes, index));
                let words = format!("{which}{error}");
                service.refused();
                log::warn!("refused: pid {}, append to inode {}: {words}", writer.pid, writer.inode);
                (self.bytes, self.whole) = (Vec::new(), (0, 0));
                self.failed = Some(Failed { error, record: index, words });
                Err(error)
            }
        }
    }
}

// Sets the vectors of a batch: their bytes are in their rows, and the kernel knows it, before anything says that the
// rows are in use.
fn set(
    service: &Service,
    inode: Ino,
    caller: &Caller<'_>,
    stream: &[u8],
) -> std::result::Result<Batch, Refused> {
    let mut refused = Refused::from(Error::NotFound);
    let mut note = |why: Refused| {
        refused = why;
        why.error
    };
    let (staged, events) = service.change(|volume| {
        let (id, vectors) = volume.appended(inode, stream, caller).map_err(&mut note)?;
        let staged = volume.stage_vectors(id, &vectors, caller, now()).map_err(&mut note)?;
        Ok((staged, vectors))
    });
    service.tell(&events);
    let Ok((staged, vectors)) = staged else { return Err(refused) };
    let (set, events) =
        service.change(|volume| volume.set_staged(&staged, &vectors, caller, now()).map_err(&mut note));
    service.tell(&events);
    set.map_err(|_| {
        let (unstaged, events) = service.change(|volume| volume.unstage_vectors(&staged));
        service.tell(&events);
        if let Err(error) = unstaged {
            log::warn!("free rows keep the bytes of vectors that were not set: {error}");
        }
        refused
    })
}

// Names a record of a batch, with its path if it has one.
fn which(stream: &[u8], index: usize) -> String {
    let mut rest = stream;
    let int = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    };
    for _ in 0..index {
        let len = RECORD_HEADER + int(rest, 16) + int(rest, 20);
        rest = rest.get(len..).unwrap_or(&[]);
    }
    match rest.get(RECORD_HEADER..RECORD_HEADER + int(rest, 16)) {
        Some(path) if !path.is_empty() => format!("record {index}, {}: ", String::from_utf8_lossy(path)),
        _ => format!("record {index}: "),
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
