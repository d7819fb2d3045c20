//! Open `query` files: a question and its answer for each descriptor.

use alloc::sync::Arc;
use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use vexfs_core::control::{Exchange, near};
use vexfs_core::memory;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::Caller;

use super::{Buffer, Bytes, CCaller, enter, status};
use crate::host::{Class, Lock, NoFilesystem, in_group};
use crate::mount::Mount;
use crate::transfer::Rows;

/// `struct vexfs_exchange`.
#[derive(Debug)]
pub struct Descriptor(Lock<Exchange>);

/// What a descriptor needs; null if there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_exchange_new() -> *const c_void {
    let _scope = NoFilesystem::enter();
    let exchange = Lock::new(Class::Exchange, Exchange::new());
    let shared = exchange.and_then(|exchange| memory::shared(Descriptor(exchange)));
    shared.map_or(ptr::null(), |shared| Arc::into_raw(shared).cast())
}

/// The last call of a descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_exchange_free(exchange: NonNull<c_void>) {
    let _scope = NoFilesystem::enter();
    // SAFETY: it is what `vexfs_exchange_new` gave, and given back once.
    drop(unsafe { Arc::from_raw(exchange.as_ptr().cast::<Descriptor>().cast_const()) });
}

/// What is written to a descriptor.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_exchange_write(exchange: &Descriptor, offset: u64, question: Bytes<'_>) -> c_int {
    status(|| exchange.0.write().write(offset, question.get()))
}

/// What is read from a descriptor, for who opened it; gives how many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_exchange_read(
    mount: &Mount,
    inode: u64,
    exchange: &Descriptor,
    offset: u64,
    buffer: Buffer<'_>,
    caller: &CCaller,
) -> isize {
    enter(|| {
        let who = Caller { uid: caller.uid, gid: caller.gid, in_group: &in_group };
        let mut exchange = exchange.0.write();
        let rest =
            exchange.read(offset, |question| near::answer(&Rows(mount), Ino(inode), question, &who))?;
        let buffer = buffer.get();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len as isize)
    })
}
