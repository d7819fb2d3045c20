//! What the kernel is told when something changed under its caches, before the caller gets its answer.
//!
//! No lock may be held meanwhile: a notification can wait for a page that a read holds.

use std::mem;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};

use vexfs_core::control::{Pseudo, arrow, is_generation, pseudo};
use vexfs_core::format::collection_part;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::Attributes;
use vexfs_core::{Event, Volume};

use super::generations::Held;
use super::{Service, THREADS};
use crate::disk::Disk;
use crate::notifier::Notifier;

/// Of all threads, so many may wait for a notification at once; the others keep serving the reads it may wait for.
const NOTIFYING_MAX: usize = THREADS - 3;

/// What changed under the kernel's caches and is still to be told to it; dropped once it is.
#[derive(Default)]
pub struct Untold {
    list: Vec<Event>,
    held: Held,
    tickets: Vec<Sender<()>>,
}

impl Untold {
    /// Adds `others` to these.
    pub fn append(&mut self, mut others: Self) {
        self.list.append(&mut others.list);
        self.held.append(others.held);
        self.tickets.append(&mut others.tickets);
    }
}

/// A channel whose senders are the tickets of all that is untold: it ends when the last of them is dropped.
pub(super) struct Telling {
    ticket: Sender<()>,
    all_told: Receiver<()>,
}

impl Default for Telling {
    fn default() -> Self {
        let (ticket, all_told) = channel();
        Self { ticket, all_told }
    }
}

/// Notifications that another thread sends, and the reply that then goes to the caller.
pub struct Later {
    events: Untold,
    answer: Box<dyn FnOnce() + Send>,
}

impl Service {
    /// Takes what a change brought, while the volume is still held.
    pub(super) fn untold(&self, volume: &mut Volume<Disk>) -> Untold {
        let (list, held) = (volume.events(), self.generations.hold(volume.raised()));
        let telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let tickets = if list.is_empty() { Vec::new() } else { vec![telling.ticket.clone()] };
        Untold { list, held, tickets }
    }

    /// Returns once everything is told that was changed before the call.
    pub(super) fn wait_until_told(&self) {
        let mut telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let Telling { ticket, all_told } = mem::take(&mut *telling);
        drop((telling, ticket));
        // Nothing is ever sent: it fails when there are no more tickets.
        let _ = all_told.recv();
    }

    /// Tells the kernel what changed, then lets `answer` reply to the caller.
    ///
    /// A notification can wait for a page that a read holds, and the read for a thread: so only some threads wait,
    /// the others hand the rest over and go on serving.
    pub fn finish(&self, events: Untold, answer: impl FnOnce() + Send + 'static) {
        if events.list.is_empty() {
            return answer();
        }
        let free = self.notifying.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < NOTIFYING_MAX).then_some(count + 1)
        });
        if free.is_ok() {
            self.tell(events);
            self.notifying.fetch_sub(1, Ordering::AcqRel);
            return answer();
        }
        let later = self.later.lock().unwrap_or_else(PoisonError::into_inner);
        let handed = match later.as_ref() {
            Some(sender) => {
                sender.send(Later { events, answer: Box::new(answer) }).map_err(|refused| refused.0)
            }
            None => Err(Later { events, answer: Box::new(answer) }),
        };
        drop(later);
        if let Err(refused) = handed {
            self.tell(refused.events);
            (refused.answer)();
        }
    }

    /// Tells the kernel what changed under its caches. No lock may be held.
    pub fn tell(&self, events: Untold) {
        let Untold { list, held, tickets } = events;
        let Some(notifier) = self.notifier.get() else { return };
        // A collection's matrix comes before its other columns: who finds a row valid shall find its bytes.
        let (generations, list): (Vec<Event>, Vec<Event>) =
            joined(&list).into_iter().partition(|event| is_generation(event.inode));
        let mirrored = self.mirrored(&list);
        // That something is under way is told first.
        self.tell_each(notifier, generations.iter());
        self.tell_each(notifier, list.iter().chain(&mirrored));
        // Now they may be shown.
        drop(held);
        self.tell_each(notifier, generations.iter());
        drop(tickets);
    }

    fn tell_each<'a>(&self, notifier: &Notifier, events: impl Iterator<Item = &'a Event>) {
        for event in events {
            self.tell_size(notifier, event.inode);
            // A negative offset stands for the attributes alone.
            let offset = if event.len == 0 { -1 } else { event.offset as i64 };
            if let Err(error) = notifier.invalidate(event.inode, offset, event.len as i64) {
                log::debug!("notification for inode {}: {error}", event.inode);
            }
        }
    }

    // What changed in each `vectors.arrow` that the kernel knows, heads last.
    fn mirrored(&self, list: &[Event]) -> Vec<Event> {
        let mut mirrored = Vec::new();
        let arrows = self.arrows.lock().unwrap_or_else(PoisonError::into_inner);
        if !arrows.is_empty() {
            for event in list {
                let id = collection_part(event.inode).map(|(id, _)| id.0);
                let known = id.and_then(|id| arrows.get(&id)).into_iter().flatten();
                known.for_each(|inode| arrow::mirror(event, *inode, &mut |event| mirrored.push(event)));
            }
        }
        drop(arrows);
        mirrored.sort_unstable_by_key(|event| (event.inode.0, event.offset == 0, event.offset, event.len));
        mirrored.dedup();
        mirrored
    }

    /// Notes the size of a column that the kernel is told with attributes, and which files show a collection.
    pub fn told(&self, attributes: &Attributes) {
        if let Some(id) = arrow::collection_of(attributes.inode) {
            let mut arrows = self.arrows.lock().unwrap_or_else(PoisonError::into_inner);
            let known = arrows.entry(id.0).or_default();
            if !known.contains(&attributes.inode) {
                known.push(attributes.inode);
            }
            return;
        }
        if pseudo(attributes.inode) == Some(Pseudo::Column) {
            let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = sizes.entry(attributes.inode.0).or_insert(attributes.size);
            *known = attributes.size.max(*known);
        }
    }

    // A column that grew: an invalidation makes the kernel drop the answers to its own questions for the size, so it
    // could read with the old one. Storing the last byte sets the size at once; the page is read anew afterwards.
    fn tell_size(&self, notifier: &Notifier, inode: Ino) {
        if pseudo(inode) != Some(Pseudo::Column) || arrow::collection_of(inode).is_some() {
            return;
        }
        let Ok(attributes) = self.volume().attributes(inode) else {
            // A column that was dropped; another one may get its number.
            self.sizes.lock().unwrap_or_else(PoisonError::into_inner).remove(&inode.0);
            return;
        };
        let size = attributes.size;
        let known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&inode.0).copied();
        // A column that the kernel never heard of is in none of its caches.
        if known.is_none_or(|known| size <= known) {
            return;
        }
        self.told(&attributes);
        let stored = notifier.store(inode, size - 1, &[0]);
        let done = stored.and_then(|()| notifier.invalidate(inode, size as i64 - 1, 1));
        if let Err(error) = done {
            log::debug!("size of inode {inode}: {error}");
        }
    }

    /// Sets the way to the kernel, and gives the queue that a thread must serve with [`Service::serve_later`].
    pub fn connect(&self, notifier: Notifier) -> Receiver<Later> {
        let (sender, receiver) = channel();
        let _ = self.notifier.set(notifier);
        *self.later.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    /// Sends the notifications that were handed over, until the service stops.
    pub fn serve_later(&self, queue: &Receiver<Later>) {
        while let Ok(later) = queue.recv() {
            self.tell(later.events);
            (later.answer)();
        }
    }
}

// Events in order, and those that touch as one; one of attributes alone stays so.
fn joined(events: &[Event]) -> Vec<Event> {
    let mut list = events.to_vec();
    list.sort_unstable_by_key(|event| (event.inode.0, event.offset, event.len));
    list.dedup_by(|next, event| {
        let touch = next.inode == event.inode && next.len > 0 && event.len > 0;
        let (end, next_end) = (event.offset.saturating_add(event.len), next.offset.saturating_add(next.len));
        let joins = next == event || (touch && next.offset <= end);
        if joins {
            event.len = end.max(next_end) - event.offset;
        }
        joins
    });
    list
}
