// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The symbols by which the crate `alloc` finds its memory, as rustc 1.85 names them: the kernel's `kvmalloc`.
//!
//! Alone in its object: the crates that allocate are compiled before it, and linked with it.
#![no_std]
#![allow(missing_docs)]

// SAFETY: declared as in vexfs.h, which host.c is compiled against.
unsafe extern "C" {
    fn vexfs_kvmalloc(size: usize) -> *mut u8;
    fn vexfs_kvrealloc(memory: *mut u8, size: usize) -> *mut u8;
    fn vexfs_kvfree(memory: *mut u8);
}

/// kvmalloc warns of more than this.
const SIZE_MAX: usize = i32::MAX as usize - 4096;

// kmalloc aligns to the largest power of two that divides the size.
const fn padded(size: usize, align: usize) -> usize {
    if align <= 8 { size } else { size.saturating_add(align - 1) & !(align - 1) }
}

#[unsafe(no_mangle)]
pub extern "C" fn __rust_alloc(size: usize, align: usize) -> *mut u8 {
    let size = padded(size, align);
    if size > SIZE_MAX {
        return core::ptr::null_mut();
    }
    // SAFETY: any size up to the largest.
    unsafe { vexfs_kvmalloc(size) }
}

#[unsafe(no_mangle)]
pub extern "C" fn __rust_dealloc(memory: *mut u8, _size: usize, _align: usize) {
    // SAFETY: the caller owns what one of these functions gave.
    unsafe { vexfs_kvfree(memory) }
}

#[unsafe(no_mangle)]
pub extern "C" fn __rust_realloc(memory: *mut u8, _old: usize, align: usize, new: usize) -> *mut u8 {
    let size = padded(new, align);
    if size > SIZE_MAX {
        return core::ptr::null_mut();
    }
    // SAFETY: as above; on failure the old memory stays.
    unsafe { vexfs_kvrealloc(memory, size) }
}

#[unsafe(no_mangle)]
pub extern "C" fn __rust_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    let memory = __rust_alloc(size, align);
    if !memory.is_null() {
        // SAFETY: as many bytes were given.
        unsafe { core::ptr::write_bytes(memory, 0, size) };
    }
    memory
}

#[unsafe(no_mangle)]
static __rust_no_alloc_shim_is_unstable: u8 = 0;
