//! Notifications: what the daemon tells the kernel's side of FUSE of its caches, without being asked.
//!
//! They are written to /dev/fuse itself, also where a relay carries requests and replies: when the call returns, the
//! kernel has done it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};

use vexfs_core::numbers::Ino;

/// `FUSE_NOTIFY_INVAL_INODE` and `FUSE_NOTIFY_STORE` of linux/fuse.h.
const INVALIDATE_INODE: i32 = 2;
const STORE: i32 = 4;
/// Bytes of `struct fuse_out_header`.
const HEADER: usize = 16;

/// The way to the kernel.
#[derive(Debug)]
pub struct Notifier(File);

impl Notifier {
    /// By the descriptor of a mount's /dev/fuse, which is duplicated.
    pub fn new(fuse: impl AsFd) -> io::Result<Self> {
        let own: OwnedFd = fuse.as_fd().try_clone_to_owned()?;
        Ok(Self(own.into()))
    }

    /// Drops `len` cached bytes from `offset` on (0: to the end; a negative offset: none), and the attributes.
    ///
    /// # Errors
    /// `ENOENT` if the kernel does not know the inode.
    pub fn invalidate(&self, inode: Ino, offset: i64, len: i64) -> io::Result<()> {
        let mut body = [0; 24];
        body[..8].copy_from_slice(&inode.0.to_ne_bytes());
        body[8..16].copy_from_slice(&offset.to_ne_bytes());
        body[16..].copy_from_slice(&len.to_ne_bytes());
        self.send(INVALIDATE_INODE, &body)
    }

    /// Puts bytes into the kernel's cache, and makes the inode at least as long.
    ///
    /// # Errors
    /// `ENOENT` if the kernel does not know the inode.
    pub fn store(&self, inode: Ino, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut body = Vec::with_capacity(24 + bytes.len());
        body.extend_from_slice(&inode.0.to_ne_bytes());
        body.extend_from_slice(&offset.to_ne_bytes());
        body.extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
        body.extend_from_slice(&[0; 4]);
        body.extend_from_slice(bytes);
        self.send(STORE, &body)
    }

    // A message without a request: its number is 0, and the code stands where errors do.
    fn send(&self, code: i32, body: &[u8]) -> io::Result<()> {
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&code.to_ne_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(body);
        // One message is one write, whole or not at all.
        (&self.0).write(&message).map(drop)
    }
}
