//! Open files: what is known of each descriptor, reads and writes through them, and the last close.
//!
//! An open is counted before the inode is looked at, and a close after the descriptor is gone: so an inode that lost
//! its last name is freed by the unlink or by the last close, whichever comes later, and never under a descriptor.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use fuser::{FileHandle, FopenFlags};
use vexfs_core::control::{Exchange, Pseudo, answer, is_control, pseudo};
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Attributes, Caller, NewInode};
use vexfs_core::{Error, Result};

use crate::append::Append;
use crate::attributes::{Asker, Who};
use crate::clock::now;
use crate::near::{self, Pool};
use crate::service::{Service, Untold};

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// All open files of a mount.
pub struct OpenFiles {
    service: Arc<Service>,
    access_times: bool,
    by_handle: Mutex<HashMap<u64, Arc<OpenFile>>>,
    next_handle: AtomicU64,
    near: Arc<Pool>,
}

/// What is known of one open file.
struct OpenFile {
    inode: Ino,
    /// A computed file's content.
    content: Option<Content>,
    /// The stream of an `append`.
    append: Option<Arc<Append>>,
    /// The access was marked, or need not be.
    touched: AtomicBool,
}

/// What is not read from the volume each time.
enum Content {
    /// As it was at the open.
    Rendered(Vec<u8>),
    /// Questions of who opened the file, and their answers.
    Exchange(Asker, Mutex<Exchange>),
}

impl OpenFiles {
    /// None yet; `near` has the threads for what takes long, `access_times` marks reads as relatime does.
    pub fn new(service: Arc<Service>, near: Arc<Pool>, access_times: bool) -> Self {
        let (by_handle, next_handle) = (Mutex::new(HashMap::new()), AtomicU64::new(1));
        Self { service, access_times, by_handle, next_handle, near }
    }

    fn by_handle(&self) -> MutexGuard<'_, HashMap<u64, Arc<OpenFile>>> {
        self.by_handle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file for `who`: counts it, renders it if it is computed.
    pub fn open(&self, who: Who, inode: Ino, writing: bool) -> Result<(FileHandle, FopenFlags)> {
        let kind = pseudo(inode);
        let takes = matches!(kind, None | Some(Pseudo::Request | Pseudo::Query | Pseudo::Append));
        if writing && !takes {
            return Err(Error::AccessDenied("files of the control directory cannot be written"));
        }
        // Counted first, so that an unlink from now on keeps the inode.
        if !self.service.opens().add(inode) {
            return Err(Error::NotFound);
        }
        let opened = match kind {
            Some(Pseudo::Computed | Pseudo::Request) => {
                self.service.volume().render(inode, &*self.service).map(|text| Some(Content::Rendered(text)))
            }
            Some(Pseudo::Query) => self
                .service
                .volume()
                .attributes(inode)
                .map(|_| Some(Content::Exchange(Asker::of(who), Mutex::new(Exchange::new())))),
            _ => self.service.volume().attributes(inode).map(|_| None),
        };
        let content = opened.inspect_err(|_| self.service.tell(self.closed(inode)))?;
        let append = (kind == Some(Pseudo::Append)).then(|| Arc::new(Append::new(who, inode)));
        let flags = match content {
            _ if append.is_some() => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_STREAM,
            // Nothing is held back between write and close.
            Some(_) => FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH,
            None => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
        };
        let touched = AtomicBool::new(!self.access_times);
        let number = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.by_handle().insert(number, Arc::new(OpenFile { inode, content, append, touched }));
        Ok((FileHandle(number), flags))
    }

    /// Makes a file, and opens it for `who`.
    pub fn create(
        &self,
        who: Who,
        parent: Ino,
        name: &[u8],
        new: &NewInode,
    ) -> (Result<(Attributes, FileHandle, FopenFlags)>, Untold) {
        let (made, events) = self.service.change(|volume| volume.create(parent, name, new, now()));
        let opened = made.and_then(|attributes| {
            let (handle, flags) = self.open(who, attributes.inode, false)?;
            Ok((attributes, handle, flags))
        });
        (opened, events)
    }

    /// Reads at most `size` bytes and gives them to `then`; another thread does what has to wait for a scan.
    pub fn read(
        self: &Arc<Self>,
        handle: FileHandle,
        inode: Ino,
        offset: u64,
        size: u32,
        then: impl FnOnce(Result<&[u8]>) + Send + 'static,
    ) {
        if self.takes_long(handle, inode) {
            let files = Arc::clone(self);
            return self.near.run(move || files.read_now(handle, inode, offset, size, then));
        }
        self.read_now(handle, inode, offset, size, then);
    }

    fn read_now<R>(
        &self,
        handle: FileHandle,
        inode: Ino,
        offset: u64,
        size: u32,
        then: impl FnOnce(Result<&[u8]>) -> R,
    ) -> R {
        let size = size as usize;
        let file = self.by_handle().get(&handle.0).cloned();
        if let Some(file) = file {
            match &file.content {
                Some(Content::Rendered(text)) => {
                    let rest = usize::try_from(offset).ok().and_then(|start| text.get(start..));
                    return then(Ok(first(rest.unwrap_or_default(), size)));
                }
                Some(Content::Exchange(asker, exchange)) => {
                    // Let go of before the reply, after which the next question may come at once.
                    let piece = {
                        let mut exchange = exchange.lock().unwrap_or_else(PoisonError::into_inner);
                        let answer =
                            |question: &[u8]| asker.as_caller(|caller| self.answer(inode, question, caller));
                        exchange.read(offset, answer).map(|rest| first(rest, size).to_vec())
                    };
                    return then(piece.as_deref().map_err(|error| *error));
                }
                None => {}
            }
            if !file.touched.swap(true, Ordering::Relaxed) {
                self.touch(inode);
            }
        }
        BUFFER.with_borrow_mut(|buffer| {
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.service.read(inode, offset, &mut buffer[..size]) {
                Ok(len) => then(Ok(&buffer[..len])),
                Err(error) => then(Err(error)),
            }
        })
    }

    fn answer(&self, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Result<Vec<u8>> {
        if near::asks(&*self.service, inode, question) {
            return near::answer(&*self.service, inode, question, caller);
        }
        answer(question, |rows, text| self.service.volume().owners(inode, rows, caller, text))
    }

    // True if a read has to wait for a scan, or for another read that does.
    fn takes_long(&self, handle: FileHandle, inode: Ino) -> bool {
        let file = self.by_handle().get(&handle.0).cloned();
        match file.as_ref().and_then(|file| file.content.as_ref()) {
            Some(Content::Exchange(_, exchange)) => match exchange.try_lock() {
                Ok(exchange) => {
                    exchange.waiting().is_some_and(|question| near::asks(&*self.service, inode, question))
                }
                Err(_) => true,
            },
            _ => false,
        }
    }

    /// Takes a question that is written to a file.
    ///
    /// # Errors
    /// `Busy` while the one before is being answered.
    pub fn ask(&self, handle: FileHandle, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = self.by_handle().get(&handle.0).cloned();
        match file.as_ref().and_then(|file| file.content.as_ref()) {
            Some(Content::Exchange(_, exchange)) => match exchange.try_lock() {
                Ok(mut exchange) => exchange.write(offset, bytes),
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().write(offset, bytes),
                Err(TryLockError::WouldBlock) => Err(Error::Busy),
            },
            _ => Err(Error::NotPermitted("not open for questions")),
        }
    }

    /// An open `append`; none for other files.
    pub fn appending(&self, handle: FileHandle) -> Option<Arc<Append>> {
        self.by_handle().get(&handle.0)?.append.clone()
    }

    /// Ends the batch of an `append`; of other files nothing is held back between write and close.
    pub fn end_batch(&self, handle: FileHandle, answer: impl FnOnce(Result<()>) + Send + 'static) {
        match self.appending(handle) {
            Some(append) => append.finish(&self.service, answer),
            None => answer(Ok(())),
        }
    }

    /// The volume and what belongs to it.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Marks that a directory is read, if accesses are marked.
    pub fn touch_directory(&self, inode: Ino) {
        if self.access_times {
            self.touch(inode);
        }
    }

    fn touch(&self, inode: Ino) {
        let wanted = {
            let volume = self.service.volume();
            volume.attributes(inode).is_ok_and(|attributes| volume.wants_touch(&attributes, now()))
        };
        if wanted {
            // A full or failing disk must not keep anybody from reading.
            let _ = self.service.change(|volume| volume.touch(inode, now()));
        }
    }

    /// Closes a file; the last close of an inode without names frees it.
    pub fn close(&self, handle: FileHandle) -> Untold {
        let removed = self.by_handle().remove(&handle.0);
        removed.map_or_else(Untold::default, |file| self.closed(file.inode))
    }

    fn closed(&self, inode: Ino) -> Untold {
        self.service.opens().remove(inode);
        if !self.service.opens().contains(inode) && self.service.volume().awaits_content(inode) {
            let (bound, events) = self.service.change(|volume| volume.bind_content(inode, now()));
            self.service.tell(events);
            if let Err(error) = bound {
                log::warn!("inode {inode}: its vectors count as stale: {error}");
            }
        }
        if pseudo(inode) == Some(Pseudo::Column) {
            self.service.column_closed();
        }
        let gone = !is_control(inode) && {
            let volume = self.service.volume();
            !volume.is_read_only() && volume.attributes(inode).is_ok_and(|found| found.links == 0)
        };
        if gone { self.service.bury(inode) } else { Untold::default() }
    }
}

fn first(bytes: &[u8], size: usize) -> &[u8] {
    &bytes[..size.min(bytes.len())]
}
