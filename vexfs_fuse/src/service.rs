//! The volume as the daemon's threads share it: its lock, its commits, its notifications.
//!
//! Order of locks: an inode's stripe, then `moving`, then the volume. No lock is held across a flush or a
//! notification. `moving` is held shared from a plan to the end of its reads or writes, and exclusively while a
//! commit is published: so no freed block is given out while somebody still moves bytes to or from it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{
    Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{INodeNo, Notifier};
use vexfs_core::control::{Pseudo, pseudo};
use vexfs_core::device::Data;
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Attributes, Report, WritePlan};
use vexfs_core::{Error, Event, Result, Volume};

use crate::disk::Disk;
use crate::messages::Ring;

/// Threads that serve requests.
pub const THREADS: usize = 6;
/// Of these, so many may wait for a notification at once; the others keep serving the reads it may wait for.
const NOTIFYING_MAX: usize = THREADS - 3;
const STRIPES: usize = 256;
/// Dirty metadata that wakes the committing thread.
const DIRTY_MANY: u64 = 8 << 20;
/// Dirty metadata that makes a caller wait for a commit.
const DIRTY_TOO_MANY: u64 = 32 << 20;

/// Notifications that another thread sends, and the reply that then goes to the caller.
pub struct Later {
    events: Vec<Event>,
    answer: Box<dyn FnOnce() + Send>,
}

/// The shared state of a mount.
pub struct Service {
    disk: Disk,
    volume: RwLock<Volume<Disk>>,
    moving: RwLock<()>,
    stripes: Vec<RwLock<()>>,
    /// Held while a commit is under way; true once one failed.
    committing: Mutex<bool>,
    notifier: OnceLock<Notifier>,
    notifying: AtomicUsize,
    later: Mutex<Option<Sender<Later>>>,
    /// Sizes of columns that the kernel was told.
    sizes: Mutex<HashMap<u64, u64>>,
    /// How often each inode is open.
    opens: Mutex<HashMap<u64, u64>>,
    wake: Mutex<Wake>,
    woken: Condvar,
    ring: Ring,
    started: Instant,
    commits: AtomicU64,
    refusals: AtomicU64,
    panics: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Default)]
struct Wake {
    commit: bool,
    tidy: bool,
    stop: bool,
}

impl Service {
    /// Shares `volume`, whose host is `disk`.
    pub fn new(disk: Disk, volume: Volume<Disk>, ring: Ring) -> Self {
        Self {
            disk,
            volume: RwLock::new(volume),
            moving: RwLock::new(()),
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            committing: Mutex::new(false),
            notifier: OnceLock::new(),
            notifying: AtomicUsize::new(0),
            later: Mutex::new(None),
            sizes: Mutex::new(HashMap::new()),
            opens: Mutex::new(HashMap::new()),
            wake: Mutex::new(Wake { tidy: true, ..Wake::default() }),
            woken: Condvar::new(),
            ring,
            started: Instant::now(),
            commits: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// The volume, to read.
    pub fn volume(&self) -> RwLockReadGuard<'_, Volume<Disk>> {
        self.volume.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn volume_mut(&self) -> RwLockWriteGuard<'_, Volume<Disk>> {
        self.volume.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Keeps others from writing to or truncating `inode` at the same time.
    pub fn alone(&self, inode: Ino) -> RwLockWriteGuard<'_, ()> {
        self.stripes[inode.0 as usize % STRIPES].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps freed blocks from being given out, until the guard is dropped.
    pub fn moving(&self) -> RwLockReadGuard<'_, ()> {
        self.moving.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the volume; commits and tries once more where only that brings space.
    ///
    /// What changed under the kernel's caches comes with the result and is still to be told, by
    /// [`Service::finish`] or [`Service::notify`].
    pub fn change<R>(
        &self,
        mut change: impl FnMut(&mut Volume<Disk>) -> Result<R>,
    ) -> (Result<R>, Vec<Event>) {
        let mut events = Vec::new();
        let mut tried = 0;
        loop {
            let (result, dirty) = {
                let mut volume = self.volume_mut();
                let result = change(&mut volume);
                events.extend(volume.events());
                (result, volume.statistics().dirty_bytes)
            };
            match result {
                Err(Error::NoSpace { pending }) if pending > 0 && tried < 2 => {
                    tried += 1;
                    if let Err(error) = self.commit() {
                        return (Err(error), events);
                    }
                }
                result => {
                    if dirty >= DIRTY_TOO_MANY {
                        // Its failure makes the volume read-only, which the next change meets.
                        let _ = self.commit();
                    } else if dirty >= DIRTY_MANY {
                        self.wake(|wake| wake.commit = true);
                    }
                    return (result, events);
                }
            }
        }
    }

    /// Tells the kernel what changed, then lets `answer` reply to the caller.
    ///
    /// A notification can wait for a page that a read holds, and the read for a thread: so only some threads wait,
    /// the others hand the rest over and go on serving.
    pub fn finish(&self, events: Vec<Event>, answer: impl FnOnce() + Send + 'static) {
        if events.is_empty() {
            return answer();
        }
        let free = self.notifying.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
            (count < NOTIFYING_MAX).then_some(count + 1)
        });
        if free.is_ok() {
            self.notify(&events);
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
            self.notify(&refused.events);
            (refused.answer)();
        }
    }

    /// Tells the kernel what changed under its caches. No lock may be held.
    pub fn notify(&self, events: &[Event]) {
        let Some(notifier) = self.notifier.get() else { return };
        let mut done: Vec<&Event> = Vec::new();
        for event in events {
            if done.contains(&event) {
                continue;
            }
            done.push(event);
            self.tell_size(notifier, event.inode);
            // A negative offset stands for the attributes alone.
            let offset = if event.len == 0 { -1 } else { event.offset as i64 };
            if let Err(error) = notifier.inval_inode(INodeNo(event.inode.0), offset, event.len as i64) {
                log::debug!("notification for inode {}: {error}", event.inode);
            }
        }
    }

    /// Notes the size of a column that the kernel is told with attributes.
    pub fn told(&self, attributes: &Attributes) {
        if pseudo(attributes.inode) == Some(Pseudo::Column) {
            let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
            let known = sizes.entry(attributes.inode.0).or_insert(attributes.size);
            *known = attributes.size.max(*known);
        }
    }

    // A column that grew: an invalidation makes the kernel drop the answers to its own questions for the size, so it
    // could read with the old one. Storing the last byte sets the size at once; the page is read anew afterwards.
    fn tell_size(&self, notifier: &Notifier, inode: Ino) {
        if pseudo(inode) != Some(Pseudo::Column) {
            return;
        }
        let Ok(attributes) = self.volume().attributes(inode) else { return };
        let size = attributes.size;
        let known = self.sizes.lock().unwrap_or_else(PoisonError::into_inner).get(&inode.0).copied();
        // A column that the kernel never heard of is in none of its caches.
        if known.is_none_or(|known| size <= known) {
            return;
        }
        self.told(&attributes);
        let stored = notifier.store(INodeNo(inode.0), size - 1, &[0]);
        let done = stored.and_then(|()| notifier.inval_inode(INodeNo(inode.0), size as i64 - 1, 1));
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
            self.notify(&later.events);
            (later.answer)();
        }
    }

    /// Makes everything durable that was changed before the call.
    pub fn commit(&self) -> Result<()> {
        let mut failed = self.committing();
        if *failed {
            return Err(Error::Device { operation: "write", offset: 0 });
        }
        let sealed = self.volume_mut().seal(now())?;
        let Some(sealed) = sealed else { return Ok(()) };
        let written = sealed.write(&self.disk);
        let moving = self.moving.write().unwrap_or_else(PoisonError::into_inner);
        let mut volume = self.volume_mut();
        let result = match written {
            Ok(()) => volume.publish(sealed),
            Err(error) => {
                volume.abandon(sealed);
                Err(error)
            }
        };
        drop(volume);
        drop(moving);
        if let Err(error) = result {
            *failed = true;
            log::error!("a commit failed, the volume is read-only now: {error}");
            return Err(error);
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.wake(|wake| wake.tidy = true);
        Ok(())
    }

    fn committing(&self) -> MutexGuard<'_, bool> {
        self.committing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits every `interval` and when woken, and does the work that waits after each; until the service stops.
    pub fn commit_by_time(&self, interval: Duration) {
        let mut due = Instant::now() + interval;
        loop {
            let mut wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner);
            while !(wake.commit || wake.tidy || wake.stop) && Instant::now() < due {
                let left = due.saturating_duration_since(Instant::now());
                wake = self.woken.wait_timeout(wake, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            let (commit, stop) = (wake.commit || Instant::now() >= due, wake.stop);
            (wake.commit, wake.tidy) = (false, false);
            drop(wake);
            if stop {
                return;
            }
            if commit {
                // Its failure is logged and kept.
                let _ = self.commit();
                due = Instant::now() + interval;
                self.wake(|wake| wake.tidy = false);
            }
            self.tidy();
        }
    }

    // The work that waits, in small steps so that callers get their turn.
    fn tidy(&self) {
        while !self.stopped.load(Ordering::Acquire) {
            let (more, events) = self.change(|volume| volume.tidy(now()));
            self.notify(&events);
            match more {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return log::warn!("work in the background stopped: {error}"),
            }
        }
    }

    fn wake(&self, change: impl FnOnce(&mut Wake)) {
        change(&mut self.wake.lock().unwrap_or_else(PoisonError::into_inner));
        self.woken.notify_all();
    }

    /// Ends the background work and makes all durable; the last call.
    pub fn stop(&self) -> Result<()> {
        self.stopped.store(true, Ordering::Release);
        self.wake(|wake| wake.stop = true);
        *self.later.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.commit()
    }

    /// Notes an open of `inode`.
    pub fn opened(&self, inode: Ino) {
        *self.opens.lock().unwrap_or_else(PoisonError::into_inner).entry(inode.0).or_default() += 1;
    }

    /// Notes a close of `inode`; true if it was the last.
    pub fn closed(&self, inode: Ino) -> bool {
        let mut opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner);
        match opens.get_mut(&inode.0) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => {
                opens.remove(&inode.0);
                true
            }
        }
    }

    /// True if somebody has `inode` open.
    pub fn is_open(&self, inode: Ino) -> bool {
        self.opens.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&inode.0)
    }

    /// Writes `bytes` to a file: the plan under the lock, the bytes without it.
    pub fn write(&self, inode: Ino, offset: u64, bytes: &[u8], kill_privileges: bool) -> Result<()> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let _alone = self.alone(inode);
        let (plan, _) = self.change(|volume| volume.write_begin(inode, offset, bytes.len(), now()));
        let plan = plan?;
        if let Err(error) = self.move_bytes(&plan, bytes) {
            self.volume_mut().write_cancel(plan);
            return Err(error);
        }
        let mut plan = Some(plan);
        let (result, _) = self.change(|volume| match plan.take() {
            Some(plan) => volume.write_end(plan, bytes, kill_privileges, now()).map(|_| ()),
            // The blocks were given back with the first try: the caller hears that there is no space.
            None => Err(Error::NoSpace { pending: 0 }),
        });
        result
    }

    fn move_bytes(&self, plan: &WritePlan, bytes: &[u8]) -> Result<()> {
        if plan.commit_first {
            self.commit()?;
        }
        let _moving = self.moving();
        plan.perform(&self.disk, bytes)
    }

    /// Reads from a file or a column into `buffer`; gives how many bytes.
    pub fn read(&self, inode: Ino, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let _moving = self.moving();
        let plan = self.volume().read_begin(inode, offset, buffer)?;
        for (range, place) in plan.pieces {
            self.disk.read_at(place, &mut buffer[range])?;
        }
        if plan.len < buffer.len() {
            log::debug!("short read of inode {inode} at {offset}: {} of {}", plan.len, buffer.len());
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.read_bytes.fetch_add(plan.len as u64, Ordering::Relaxed);
        Ok(plan.len)
    }

    /// Counts a refusal.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a panic.
    pub fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("a request failed by a mistake of this program; the mount goes on. Please report it");
    }
}

impl Report for Service {
    fn metrics(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let cache = self.disk.cache_statistics();
        let opens = self.opens.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let rows = [
            ("cache_hits_total", "counter", "metadata blocks found in the cache", cache.hits),
            ("cache_misses_total", "counter", "metadata blocks read from the device", cache.misses),
            ("cache_bytes", "gauge", "memory of the metadata cache", cache.bytes),
            ("cache_bytes_max", "gauge", "memory it may take", cache.bytes_max),
            ("commits_total", "counter", "commits", count(&self.commits)),
            ("fuse_reads_total", "counter", "reads that the kernel asked for", count(&self.reads)),
            ("fuse_read_bytes_total", "counter", "bytes of them", count(&self.read_bytes)),
            ("fuse_writes_total", "counter", "writes", count(&self.writes)),
            ("fuse_written_bytes_total", "counter", "bytes of them", count(&self.written_bytes)),
            ("refusals_total", "counter", "refused vectors", count(&self.refusals)),
            ("panics_total", "counter", "requests that met a mistake of this program", count(&self.panics)),
            ("open_inodes", "gauge", "inodes that are open", opens),
        ];
        for (name, kind, help, value) in rows {
            write!(text, "# HELP vexfs_{name} {help}\n# TYPE vexfs_{name} {kind}\nvexfs_{name} {value}\n")?;
        }
        let ratio = cache.hit_ratio();
        writeln!(text, "# HELP vexfs_cache_hit_ratio hits per look-up")?;
        writeln!(text, "# TYPE vexfs_cache_hit_ratio gauge\nvexfs_cache_hit_ratio {ratio:.6}")
    }

    fn log(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        text.write_str(&self.ring.text())
    }

    fn status(&self, text: &mut dyn std::fmt::Write) -> std::fmt::Result {
        let seconds = self.started.elapsed().as_secs();
        write!(text, ",\"host\":\"fuse\",\"pid\":{},\"uptime_seconds\":{seconds}", std::process::id())
    }
}

/// The time now.
pub fn now() -> Time {
    from_system(SystemTime::now())
}

/// A time of the system as the core's.
pub fn from_system(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Time { seconds: after.as_secs() as i64, nanoseconds: after.subsec_nanos() },
        Err(before) => {
            let before = before.duration();
            let (seconds, nanoseconds) = (before.as_secs() as i64, before.subsec_nanos());
            match nanoseconds {
                0 => Time { seconds: -seconds, nanoseconds: 0 },
                _ => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
            }
        }
    }
}

/// A time of the core as the system's.
pub fn to_system(time: Time) -> SystemTime {
    let nanoseconds = Duration::from_nanos(u64::from(time.nanoseconds));
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = match time.seconds < 0 {
        true => UNIX_EPOCH.checked_sub(seconds),
        false => UNIX_EPOCH.checked_add(seconds),
    };
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(UNIX_EPOCH)
}
