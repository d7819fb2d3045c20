//! Between /dev/fuse and fuser on a `fuseblk` mount: requests that fuser cannot answer are answered here.
//!
//! fuser answers SYNCFS with ENOSYS, after which the kernel never asks again, and DESTROY before anything is durable. So
//! the descriptor stays here, and fuser has one end of a pair of sockets that keep messages apart; what is not for
//! the relay is passed on, both ways. It costs every request two more copies and two more threads' turns: hence the small
//! requests (a message must fit into memory that the kernel always finds), and hence it is only there when asked for.
//!
//! Notifications do not come this way (`notifier`): they must be done when their caller goes on, and may wait for a reply.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use vexfs_core::{Error, Result};

use crate::convert;
use crate::service::{Service, THREADS};

/// Bytes of one read or write at most on a relayed mount.
pub const REQUEST_BYTES: u32 = 64 << 10;
/// Any request or reply with its headers: the largest attribute's is longer than a write.
const MESSAGE_MAX: usize = 256 << 10;
/// Threads each way. A SYNCFS keeps one of them while it leads a flush.
const EACH_WAY: usize = 3;
/// Opcodes of linux/fuse.h.
const DESTROY: u32 = 38;
const SYNCFS: u32 = 50;
/// Bytes of `struct fuse_in_header`, in which the opcode and the request's number come behind the length.
const REQUEST_HEADER: usize = 40;
/// Between two attempts to pass a message on when the system has no memory for it.
const PAUSE: Duration = Duration::from_millis(1);

struct Relay {
    fuse: File,
    fuser: UnixDatagram,
    service: Arc<Service>,
    ended: AtomicBool,
}

/// Starts the relay; gives the descriptor that fuser takes for /dev/fuse.
///
/// # Errors
/// The system's, for want of descriptors or threads.
pub fn start(fuse: impl AsFd, service: &Arc<Service>) -> io::Result<OwnedFd> {
    let (ours, fusers) = UnixDatagram::pair()?;
    let fuse = File::from(fuse.as_fd().try_clone_to_owned()?);
    let service = Arc::clone(service);
    let relay = Arc::new(Relay { fuse, fuser: ours, service, ended: AtomicBool::new(false) });
    for _ in 0..EACH_WAY {
        let (down, up) = (Arc::clone(&relay), Arc::clone(&relay));
        thread::Builder::new().name("relay-requests".into()).spawn(move || down.requests())?;
        thread::Builder::new().name("relay-replies".into()).spawn(move || up.replies())?;
    }
    Ok(fusers.into())
}

impl Relay {
    // From the kernel to fuser, until the mount ends.
    fn requests(self: &Arc<Self>) {
        let mut buffer = vec![0; MESSAGE_MAX];
        loop {
            let len = match (&self.fuse).read(&mut buffer) {
                Ok(len) => len,
                Err(error) if is_passing(&error) => continue,
                // ENODEV: it is unmounted.
                Err(_) => return self.end(0),
            };
            let Some((opcode, number)) = parse(&buffer[..len]) else { continue };
            match opcode {
                SYNCFS => {
                    let relay = Arc::clone(self);
                    self.service.sync_then(move |synced| relay.reply(number, synced));
                }
                DESTROY => {
                    // umount(2) waits for this answer.
                    let durable = self.service.commit();
                    self.reply(number, durable);
                    return self.end(number);
                }
                _ => self.pass(&buffer[..len]),
            }
        }
    }

    // From fuser to the kernel.
    fn replies(&self) {
        let mut buffer = vec![0; MESSAGE_MAX];
        while let Ok(len) = self.fuser.recv(&mut buffer) {
            // A request that was interrupted, or whose mount ended, takes no reply any more.
            if let Err(error) = (&self.fuse).write(&buffer[..len]) {
                log::debug!("the kernel takes no reply: {error}");
            }
        }
    }

    fn pass(&self, message: &[u8]) {
        while let Err(error) = self.fuser.send(message) {
            if error.raw_os_error() != Some(Errno::ENOBUFS as i32) && !is_passing(&error) {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    // Answers a request without a body.
    fn reply(&self, number: u64, result: Result<()>) {
        let code = result.map_or_else(|error: Error| -i32::from(convert::errno(error)), |()| 0);
        let mut message = [0; 16];
        message[..4].copy_from_slice(&16_u32.to_ne_bytes());
        message[4..8].copy_from_slice(&code.to_ne_bytes());
        message[8..].copy_from_slice(&number.to_ne_bytes());
        if let Err(error) = (&self.fuse).write(&message) {
            log::debug!("the kernel takes no reply: {error}");
        }
    }

    // Ends fuser's threads: each stops at a DESTROY, whose answer the kernel does not wait for any more.
    fn end(&self, number: u64) {
        if self.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut message = [0; REQUEST_HEADER];
        message[..4].copy_from_slice(&(REQUEST_HEADER as u32).to_ne_bytes());
        message[4..8].copy_from_slice(&DESTROY.to_ne_bytes());
        message[8..16].copy_from_slice(&number.to_ne_bytes());
        for _ in 0..THREADS {
            self.pass(&message);
        }
    }
}

// The opcode and the number of a request.
fn parse(message: &[u8]) -> Option<(u32, u64)> {
    let opcode = message.get(4..8)?.try_into().map(u32::from_ne_bytes).ok()?;
    let number = message.get(8..16)?.try_into().map(u64::from_ne_bytes).ok()?;
    Some((opcode, number))
}

// ENOENT: a request was interrupted before it was read.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::NotFound | ErrorKind::WouldBlock)
}
