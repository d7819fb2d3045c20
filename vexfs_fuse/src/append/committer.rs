//! The thread that sets batches while the next one gathers.
//!
//! INVARIANT: batches are set one at a time, in the order in which they were written, each whole or not at all; the kernel has
//! heard of a batch's rows before they count.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, Scope};

use vexfs_core::Error;
use vexfs_core::control::append::RECORD_HEADER;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Batch, Caller, Refused};

use super::Writer;
use crate::clock::now;
use crate::service::Service;

/// What became of a batch.
pub(super) enum Outcome {
    Set(Batch),
    Refused {
        error: Error,
        /// Which of the batch's records was the reason, and the path in it.
        record: Option<(usize, String)>,
    },
}

/// The way to the thread. It ends when this is dropped.
pub(super) struct Committer {
    batches: Sender<Vec<u8>>,
    outcomes: Receiver<Outcome>,
    under_way: bool,
}

impl Committer {
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        service: &'scope Service,
        writer: &'scope Writer,
    ) -> io::Result<Self> {
        let (batches, begun) = channel::<Vec<u8>>();
        let (ended, outcomes) = channel();
        let work = move || {
            for batch in begun {
                if ended.send(commit(service, writer, &batch)).is_err() {
                    return;
                }
            }
        };
        Builder::new().name("append-set".into()).spawn_scoped(scope, work)?;
        Ok(Self { batches, outcomes, under_way: false })
    }

    /// Begins to set a batch. None is under way: [`Committer::outcome`] was called after the last one.
    pub(super) fn begin(&mut self, batch: Vec<u8>) {
        // If the thread is gone, waiting for it tells.
        let _ = self.batches.send(batch);
        self.under_way = true;
    }

    /// Waits for the batch that is under way; `None` if there is none.
    ///
    /// # Panics
    /// If the thread panicked; whoever waits for an answer gets EIO then.
    pub(super) fn outcome(&mut self) -> Option<Outcome> {
        let under_way = std::mem::take(&mut self.under_way);
        under_way.then(|| match self.outcomes.recv() {
            Ok(outcome) => outcome,
            Err(_) => panic!("the thread that sets batches is gone"),
        })
    }
}

// Sets what a batch holds, in one transaction.
fn commit(service: &Service, writer: &Writer, batch: &[u8]) -> Outcome {
    match writer.asker.as_caller(|caller| set(service, writer.inode, caller, batch)) {
        Ok(done) => Outcome::Set(done),
        Err(Refused { index, error }) => {
            Outcome::Refused { error, record: index.map(|index| (index, path_of(batch, index))) }
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
    service.tell(events);
    let Ok((staged, vectors)) = staged else { return Err(refused) };
    let (set, events) =
        service.change(|volume| volume.set_staged(&staged, &vectors, caller, now()).map_err(&mut note));
    service.tell(events);
    set.map_err(|_| {
        let (unstaged, events) = service.change(|volume| volume.unstage_vectors(&staged));
        service.tell(events);
        if let Err(error) = unstaged {
            log::warn!("free rows keep the bytes of vectors that were not set: {error}");
        }
        refused
    })
}

// The path in a record of a batch; empty where it has none.
fn path_of(batch: &[u8], index: usize) -> String {
    let mut rest = batch;
    let int = |bytes: &[u8], at: usize| {
        bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_le_bytes) as usize
    };
    for _ in 0..index {
        let len = RECORD_HEADER + int(rest, 16) + int(rest, 20);
        rest = rest.get(len..).unwrap_or(&[]);
    }
    let path = rest.get(RECORD_HEADER..RECORD_HEADER + int(rest, 16)).unwrap_or(&[]);
    String::from_utf8_lossy(path).into_owned()
}
