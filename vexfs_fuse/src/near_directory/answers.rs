//! What was found near to a file some seconds ago, so that the look-ups that follow a listing search nothing.
//!
//! INVARIANT: an answer serves only callers of the same rights as whom it was made for, for the same vector, for some seconds;
//! and few are kept. Whether a link of it still holds is the asker's to see at each use.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vexfs_core::numbers::Ino;

use super::links::{Link, Subject};
use crate::attributes::Asker;

/// Answers that are kept.
const ANSWERS_MAX: usize = 64;
/// How long one tells what is there, and how long it tells what is not.
const AGE_MAX: Duration = Duration::from_secs(10);
const AGE_MAX_MISSING: Duration = Duration::from_secs(1);

/// The answers, the newest last.
#[derive(Default)]
pub(super) struct Answers(Mutex<VecDeque<Answer>>);

/// The links to what is near to a file.
#[derive(Clone)]
pub(super) struct Answer {
    asker: Arc<Asker>,
    /// Its file and vector.
    of: (Ino, u64),
    links: Arc<[Link]>,
    made: Instant,
}

impl Answers {
    /// Keeps an answer in place of an older one.
    pub(super) fn keep(&self, asker: &Arc<Asker>, subject: &Subject, links: &Arc<[Link]>) {
        let of = subject.key();
        let mut answers = self.answers();
        answers.retain(|answer| !answer.is_for(asker, of) && answer.made.elapsed() < AGE_MAX);
        if answers.len() >= ANSWERS_MAX {
            answers.pop_front();
        }
        let (asker, links) = (Arc::clone(asker), Arc::clone(links));
        answers.push_back(Answer { asker, of, links, made: Instant::now() });
    }

    /// What was answered to such a caller lately.
    pub(super) fn find(&self, asker: &Asker, subject: &Subject) -> Option<Answer> {
        let answers = self.answers();
        let of = subject.key();
        let fits = |answer: &&Answer| answer.is_for(asker, of) && answer.made.elapsed() < AGE_MAX;
        answers.iter().find(fits).cloned()
    }

    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    /// The link of this name.
    pub(super) fn link(&self, name: &[u8]) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// True if it is so new that what it has not is not there.
    pub(super) fn tells_missing(&self) -> bool {
        self.made.elapsed() < AGE_MAX_MISSING
    }

    fn is_for(&self, asker: &Asker, of: (Ino, u64)) -> bool {
        self.of == of && self.asker.has_rights_of(asker)
    }
}
