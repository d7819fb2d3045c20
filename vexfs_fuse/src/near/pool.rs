//! Threads that answer questions of nearness, so that those that serve the mount need not wait for a scan.
//!
//! INVARIANT: as many questions are at work as there are threads, whatever the number of clients; the others wait their turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::service::Service;

/// Threads at most: they share the disk and the memory's bandwidth.
const THREADS_MAX: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end when it is dropped.
pub struct Pool(Mutex<Sender<Job>>);

impl Pool {
    /// Starts the threads.
    pub fn start(service: &Arc<Service>) -> Self {
        let (sender, queue) = channel();
        let queue = Arc::new(Mutex::new(queue));
        let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        for _ in 0..count {
            let (queue, service) = (Arc::clone(&queue), Arc::clone(service));
            let started = thread::Builder::new().name("near".into()).spawn(move || serve(&queue, &service));
            if let Err(error) = started {
                log::warn!("threads: {error}; questions are answered by fewer");
            }
        }
        Self(Mutex::new(sender))
    }

    /// Has a thread do `work`; the caller does it himself if there is none.
    pub fn run(&self, work: impl FnOnce() + Send + 'static) {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner).send(Box::new(work));
        if let Err(refused) = sent {
            (refused.0)();
        }
    }
}

fn serve(queue: &Mutex<Receiver<Job>>, service: &Service) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            service.panicked();
        }
    }
}
