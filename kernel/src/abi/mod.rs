//! What the C side calls: `vexfs.h` in Rust. Each function enters a scope without filesystem allocations, calls the
//! volume, and turns errors into a negative errno.
//!
//! References and [`Bytes`] stand for pointers that are valid for the call, and a `Mount` lives from `vexfs_mount` to
//! `vexfs_unmount`; the C side answers for both. No function may be called under a spin lock.

mod exchange;
mod structures;

pub use exchange::*;
pub use structures::*;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use vexfs_core::format::FileKind;
use vexfs_core::memory;
use vexfs_core::numbers::Ino;
use vexfs_core::operations::{Allocate, Attributes, Caller, Changes, NewInode, RenameFlags, Seek, SetMode};
use vexfs_core::{Error, Implicit, MountOptions, Result, Volume};

use crate::host::{Host, Level, NoFilesystem, in_group, now};
use crate::mount::Mount;
use crate::transfer::Times;

/// `struct vexfs_entry`: what goes before a name in the buffer of `vexfs_read_directory`.
const ENTRY: usize = 24;

// Runs `call` where memory is never waited for in a filesystem, and gives 0 or more, or a negative errno.
fn enter(call: impl FnOnce() -> Result<isize>) -> isize {
    let _scope = NoFilesystem::enter();
    call().unwrap_or_else(|error| -(error.errno() as isize))
}

fn status(call: impl FnOnce() -> Result<()>) -> c_int {
    enter(|| call().map(|()| 0)) as c_int
}

fn shown(out: &mut CAttributes, call: impl FnOnce() -> Result<Attributes>) -> c_int {
    status(|| {
        *out = call()?.into();
        Ok(())
    })
}

/// Mounts; the volume goes to `out`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_mount(
    host: NonNull<c_void>,
    size: u64,
    options: &COptions,
    out: &mut *const c_void,
) -> c_int {
    status(|| {
        let host = Host::new(host);
        let implicit = match options.implicit {
            0 => Implicit::Off,
            1 => Implicit::Owner(options.owner),
            _ => Implicit::Any,
        };
        let read_only = options.read_only != 0;
        let list_control = options.list_control != 0;
        let chosen = MountOptions { read_only, implicit, list_control, daemon: false };
        let mount = Mount::new(host, size, chosen, options.discard != 0);
        let mount = mount.inspect_err(|error| {
            let mut text = memory::Text::new();
            let _ = core::fmt::Write::write_fmt(&mut text, format_args!("cannot mount: {error}"));
            host.log(Level::Error, text.as_bytes());
        })?;
        mount.greet();
        *out = Arc::into_raw(memory::shared(mount)?).cast();
        Ok(())
    })
}

/// Ends the background work and commits; reads may still follow.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_stop(mount: &Mount) -> c_int {
    status(|| mount.stop())
}

/// The last call.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_unmount(mount: NonNull<c_void>) {
    let _scope = NoFilesystem::enter();
    // SAFETY: it is what `vexfs_mount` gave, and given back once.
    drop(unsafe { Arc::from_raw(mount.as_ptr().cast::<Mount>().cast_const()) });
}

/// Numbers of the volume.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_statistics(mount: &Mount, out: &mut CStatistics) {
    let volume = mount.volume();
    let numbers = volume.statistics();
    *out = CStatistics {
        blocks: numbers.blocks,
        free: numbers.free + numbers.pending,
        available: numbers.available + numbers.pending,
        inodes: numbers.inodes,
        block_size: numbers.block_size,
        read_only: u32::from(volume.is_read_only()),
        uuid: volume.superblock().uuid,
    };
}

/// The work that is done by time.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_tick(mount: &Mount) {
    let _scope = NoFilesystem::enter();
    mount.tick();
}

/// Makes everything durable, by a record of the journal if that will do.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_sync(mount: &Mount) -> c_int {
    status(|| mount.sync())
}

/// Makes everything durable by a commit.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_commit(mount: &Mount) -> c_int {
    status(|| mount.commit())
}

/// Nothing becomes durable any more.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_shut_down(mount: &Mount) {
    let _scope = NoFilesystem::enter();
    mount.shut_down();
}

/// What `stat` shows.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_attributes(mount: &Mount, inode: u64, out: &mut CAttributes) -> c_int {
    shown(out, || mount.volume().attributes(Ino(inode)))
}

/// The entry `name` of a directory.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_lookup(
    mount: &Mount,
    directory: u64,
    name: Bytes<'_>,
    out: &mut CAttributes,
) -> c_int {
    shown(out, || mount.volume().lookup(Ino(directory), name.get()))
}

/// Puts entries after `cookie` into the buffer; gives the bytes used, 0 at the end.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_read_directory(
    mount: &Mount,
    directory: u64,
    cookie: u64,
    buffer: Buffer<'_>,
) -> isize {
    enter(|| {
        let buffer = buffer.get();
        let mut used = 0;
        mount.volume().read_directory(Ino(directory), cookie, &mut |entry| {
            let len = (ENTRY + entry.name.len()).next_multiple_of(8);
            let Some(to) = buffer.get_mut(used..used + len) else { return false };
            to[..8].copy_from_slice(&entry.inode.0.to_ne_bytes());
            to[8..16].copy_from_slice(&entry.cookie.to_ne_bytes());
            to[16..20].copy_from_slice(&(entry.kind as u32).to_ne_bytes());
            to[20..24].copy_from_slice(&(entry.name.len() as u32).to_ne_bytes());
            to[ENTRY..ENTRY + entry.name.len()].copy_from_slice(entry.name);
            used += len;
            true
        })?;
        Ok(used as isize)
    })
}

/// The directory that holds `directory`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_parent(mount: &Mount, directory: u64, out: &mut CAttributes) -> c_int {
    shown(out, || {
        let volume = mount.volume();
        let parent = volume.parent(Ino(directory))?;
        volume.attributes(parent)
    })
}

/// The target of a symbolic link.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_read_link(mount: &Mount, inode: u64, buffer: Buffer<'_>) -> isize {
    enter(|| buffer.fill(&mount.volume().read_link(Ino(inode))?))
}

/// Reads from a file or a column; gives how many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_read(mount: &Mount, inode: u64, offset: u64, buffer: Buffer<'_>) -> isize {
    enter(|| mount.read(Ino(inode), offset, buffer.get()).map(|len| len as isize))
}

/// The content of a computed file, as of now, in memory that the C side frees with `kvfree`.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_render(mount: &Mount, inode: u64, out: &mut *mut u8) -> isize {
    enter(|| {
        let mut text: Vec<u8> = mount.volume().render(Ino(inode), mount)?;
        let len = text.len();
        *out = text.as_mut_ptr();
        core::mem::forget(text);
        Ok(len as isize)
    })
}

/// Takes a request that was written to a file of the control directory.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_request(mount: &Mount, inode: u64, text: Bytes<'_>) -> c_int {
    status(|| {
        let taken = mount.change(|volume| volume.request(Ino(inode), text.get(), now()));
        taken.inspect_err(|error| {
            mount.say(Level::Warning, format_args!("refused: a request to inode {inode}: {error}"));
        })
    })
}

/// The value of an attribute, or its length if there is no buffer.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_attribute(mount: &Mount, inode: u64, name: Bytes<'_>, buffer: Buffer<'_>) -> isize {
    enter(|| {
        let value = mount.volume().attribute(Ino(inode), name.get())?;
        buffer.fill(&value)
    })
}

/// The names of all attributes, or the length of the list if there is no buffer.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_list_attributes(mount: &Mount, inode: u64, buffer: Buffer<'_>) -> isize {
    enter(|| {
        let names = mount.volume().list_attributes(Ino(inode))?;
        buffer.fill(&names)
    })
}

/// Sets an attribute; `flags` as setxattr(2).
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_set_attribute(
    mount: &Mount,
    inode: u64,
    name: Bytes<'_>,
    value: Bytes<'_>,
    flags: c_int,
    caller: &CCaller,
) -> c_int {
    status(|| {
        let mode = match flags {
            0 => SetMode::Any,
            1 => SetMode::Create,
            2 => SetMode::Replace,
            _ => return Err(Error::Invalid("XATTR_CREATE and XATTR_REPLACE contradict each other")),
        };
        let (name, value) = (name.get(), value.get());
        let who = Caller { uid: caller.uid, gid: caller.gid, in_group: &in_group };
        let vector = name.starts_with(b"user.vector.");
        // The bytes of a vector are in its row, and the page cache knows it, before anything says that the row is in
        // use. What cannot be staged cannot be set either, and that says why.
        let stage = |volume: &mut Volume<_>| volume.stage_vector(Ino(inode), name, value, &who, now());
        let staged = vector && matches!(mount.change(stage), Ok(true));
        let set = mount.change(|volume| {
            volume.set_attribute(Ino(inode), name, value, mode, &who, now())?;
            volume.await_content(Ino(inode), name)
        });
        if staged && set.is_err() {
            // At worst a free row keeps the bytes of a vector that was not set.
            let _ = mount.change(|volume| volume.unstage_vector(Ino(inode), name));
        }
        set.inspect_err(|error| mount.refused(caller.process, inode, name, *error))
    })
}

/// Removes an attribute.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_remove_attribute(
    mount: &Mount,
    inode: u64,
    name: Bytes<'_>,
    caller: &CCaller,
) -> c_int {
    status(|| {
        let name = name.get();
        let who = Caller { uid: caller.uid, gid: caller.gid, in_group: &in_group };
        let removed = mount.change(|volume| volume.remove_attribute(Ino(inode), name, &who, now()));
        removed.inspect_err(|error| mount.refused(caller.process, inode, name, *error))
    })
}

/// Makes a file, directory or node.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_create(
    mount: &Mount,
    directory: u64,
    name: Bytes<'_>,
    new: &CNew,
    out: &mut CAttributes,
) -> c_int {
    shown(out, || {
        let kind = FileKind::from_mode(new.mode).ok_or(Error::Invalid("no such kind of file"))?;
        let CNew { umask, uid, gid, device, .. } = *new;
        let new = NewInode { kind, permissions: new.mode & 0o7777, umask, uid, gid, device };
        mount.change(|volume| volume.create(Ino(directory), name.get(), &new, now()))
    })
}

/// Makes a file without a name.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_create_unnamed(
    mount: &Mount,
    directory: u64,
    new: &CNew,
    out: &mut CAttributes,
) -> c_int {
    shown(out, || {
        let kind = FileKind::from_mode(new.mode).ok_or(Error::Invalid("no such kind of file"))?;
        let CNew { umask, uid, gid, device, .. } = *new;
        let new = NewInode { kind, permissions: new.mode & 0o7777, umask, uid, gid, device };
        mount.change(|volume| volume.create_unnamed(Ino(directory), &new, now()))
    })
}

/// Makes a symbolic link.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_symlink(
    mount: &Mount,
    directory: u64,
    name: Bytes<'_>,
    target: Bytes<'_>,
    caller: &CCaller,
    out: &mut CAttributes,
) -> c_int {
    let CCaller { uid, gid, .. } = *caller;
    shown(out, || {
        mount.change(|volume| volume.symlink(Ino(directory), name.get(), target.get(), uid, gid, now()))
    })
}

/// Another name for a file.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_link(
    mount: &Mount,
    inode: u64,
    directory: u64,
    name: Bytes<'_>,
    out: &mut CAttributes,
) -> c_int {
    shown(out, || mount.change(|volume| volume.link(Ino(inode), Ino(directory), name.get(), now())))
}

/// Removes a name of a file, whose inode the C side holds: `vexfs_release` frees it.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_unlink(mount: &Mount, directory: u64, name: Bytes<'_>) -> c_int {
    status(|| mount.change(|volume| volume.unlink(Ino(directory), name.get(), &|_| true, now())).map(|_| ()))
}

/// Removes an empty directory. Index files that go with a collection may be in use without anybody telling: they are
/// freed after the next mount.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_remove_directory(mount: &Mount, directory: u64, name: Bytes<'_>) -> c_int {
    let in_use = |_| true;
    status(|| {
        mount.change(|volume| volume.remove_directory(Ino(directory), name.get(), &in_use, now())).map(|_| ())
    })
}

/// Moves a name; `flags` as renameat2(2).
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_rename(
    mount: &Mount,
    from_directory: u64,
    from: Bytes<'_>,
    to_directory: u64,
    to: Bytes<'_>,
    flags: u32,
) -> c_int {
    status(|| {
        let flags = RenameFlags::from_bits(flags).ok_or(Error::Invalid("no such flag of rename"))?;
        let (from, to) = ((Ino(from_directory), from.get()), (Ino(to_directory), to.get()));
        mount.change(|volume| volume.rename(from, to, flags, &|_| true, now())).map(|_| ())
    })
}

/// Frees an inode that has no name, after its last use.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_release(mount: &Mount, inode: u64) {
    let result = enter(|| {
        let freed = mount.change(|volume| volume.release(Ino(inode), now()));
        if let Err(error) = freed {
            mount.say(
                Level::Warning,
                format_args!("inode {inode} has no name and is freed at the next mount: {error}"),
            );
        }
        Ok(0)
    });
    debug_assert!(result == 0);
}

/// True if `vexfs_bind_content` has something to do.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_awaits_content(mount: &Mount, inode: u64) -> bool {
    let _scope = NoFilesystem::enter();
    mount.volume().awaits_content(Ino(inode))
}

/// A new file has its content: the vectors that were set before are of that.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_bind_content(mount: &Mount, inode: u64) {
    let _scope = NoFilesystem::enter();
    if let Err(error) = mount.change(|volume| volume.bind_content(Ino(inode), now())) {
        mount.say(Level::Warning, format_args!("inode {inode}: its vectors count as stale: {error}"));
    }
}

/// Changes attributes.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_set_attributes(
    mount: &Mount,
    inode: u64,
    changes: &CChanges,
    out: &mut CAttributes,
) -> c_int {
    let has = |bit: u32| changes.which & bit != 0;
    let wanted = Changes {
        permissions: has(1).then_some(changes.mode & 0o7777),
        uid: has(2).then_some(changes.uid),
        gid: has(4).then_some(changes.gid),
        size: has(8).then_some(changes.size),
        accessed: has(16).then_some(changes.accessed.into()),
        modified: has(32).then_some(changes.modified.into()),
        kill_privileges: has(64),
    };
    shown(out, || mount.change(|volume| volume.set_attributes(Ino(inode), &wanted, now())))
}

/// Keeps the times that the inode in memory has.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_set_times(mount: &Mount, inode: u64, times: &CTimes) -> c_int {
    let Times { accessed, modified, changed } = (*times).into();
    status(|| mount.change(|volume| volume.set_times(Ino(inode), accessed, modified, changed, now())))
}

/// Writes back `count` parts that follow each other from byte `offset` on.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_write_back(
    mount: &Mount,
    inode: u64,
    offset: u64,
    parts: &Bytes<'_>,
    count: usize,
    times: &CTimes,
) -> c_int {
    status(|| {
        // SAFETY: the C side gives as many parts in a row.
        let parts = unsafe { core::slice::from_raw_parts(parts, count) };
        let mut bytes: Vec<&[u8]> = Vec::new();
        for part in parts {
            memory::push(&mut bytes, part.get())?;
        }
        mount.write_back(Ino(inode), offset, &bytes, (*times).into())
    })
}

/// Reserves, frees or zeroes a range; `mode` as fallocate(2).
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_allocate(mount: &Mount, inode: u64, mode: c_int, offset: u64, len: u64) -> c_int {
    status(|| {
        let keep_size = mode & 1 != 0;
        let what = match mode & !1 {
            0 => Allocate::Reserve { keep_size },
            2 if keep_size => Allocate::PunchHole,
            16 => Allocate::ZeroRange { keep_size },
            _ => return Err(Error::Unsupported("that kind of fallocate is not there")),
        };
        mount.change(|volume| volume.allocate(Ino(inode), what, offset, len, now())).map(|_| ())
    })
}

/// What lies at a byte of a file.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_extent_at(mount: &Mount, inode: u64, offset: u64, out: &mut CExtent) -> c_int {
    status(|| {
        *out = mount.volume().extent_at(Ino(inode), offset)?.into();
        Ok(())
    })
}

/// The next data (or, if `hole`, hole) from `offset` on.
#[unsafe(no_mangle)]
pub extern "C" fn vexfs_seek(mount: &Mount, inode: u64, offset: u64, hole: bool) -> isize {
    let what = if hole { Seek::Hole } else { Seek::Data };
    enter(|| mount.volume().seek(Ino(inode), offset, what).map(|found| found as isize))
}
