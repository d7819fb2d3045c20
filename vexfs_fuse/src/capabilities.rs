//! What the daemon asks of the kernel's side of FUSE when they meet.
//!
//! Writeback caching is not among it: with it the kernel ignores the daemon's sizes, and sends writes after the
//! attributes that were set after them.

use fuser::{InitFlags, KernelConfig};

/// Bytes of one read or write at most, where no relay needs them smaller.
pub const REQUEST_BYTES: u32 = 1 << 20;

/// Requests that the kernel may have under way by itself, as reads ahead.
const BACKGROUND_MAX: u16 = 64;

const WANTED: [InitFlags; 10] = [
    // The umask comes with the request: a default access list takes its place.
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    // The daemon says what of a column changed; a new size alone drops no cached page.
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    // The daemon drops setuid and setgid bits, so that the kernel need not ask before each write.
    InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    InitFlags::FUSE_ASYNC_DIO,
    InitFlags::FUSE_MAX_PAGES,
];

/// Asks for all of it, with reads and writes of so many bytes; an older kernel lacks some, and works without.
pub fn ask(config: &mut KernelConfig, request_bytes: u32) {
    for flag in WANTED {
        let _ = config.add_capabilities(flag);
    }
    let _ = config.set_max_write(request_bytes);
    let _ = config.set_max_readahead(request_bytes);
    let _ = config.set_max_background(BACKGROUND_MAX);
}
