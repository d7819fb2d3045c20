//! Index files that the daemon took into memory, shared by all who ask.
//!
//! INVARIANT: an index is that of its file as it is now: its stamp is looked at for every question. All together take no more
//! than the mount allows, but for those still in use by a question when they are dropped. One that is damaged is not
//! read again until its file is another.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vexfs_core::Result;
use vexfs_core::format::collection_directory;
use vexfs_core::numbers::CollectionId;
use vexfs_core::operations::Collection;
use vexfs_search::choice::{Extent, Known as Facts, Way, Wish, choose};
use vexfs_search::stored::{DIRECTORY, Effort, Kind, StoredIndex, Summary, identity_of};

use super::held::Held;
use super::index_file::{IndexFile, Stamp, find};
use super::recall::Recall;
use super::source::Source;

/// How long an index is kept that nobody asks.
const UNUSED_MAX: Duration = Duration::from_secs(600);
/// How long one that was used is not dropped for another: else two that have no room together would be read in turns.
const IN_USE: Duration = Duration::from_secs(5);
/// Rows that the time of a scan is kept for.
const SCANNED_ROWS: u64 = 1000;
/// Attempts at a moment in which nobody replaces the file.
const ATTEMPTS: u32 = 3;

/// The indexes of a mount.
pub struct Indexes {
    bytes_max: u64,
    slots: Mutex<HashMap<(CollectionId, Kind), Arc<Slot>>>,
    /// Memory is wanted elsewhere: none is read.
    short: AtomicBool,
    recall: Recall,
    /// What reading a thousand rows took at best, in nanoseconds.
    scans: Mutex<HashMap<CollectionId, u64>>,
    started: Instant,
}

/// How a question is answered, and why.
pub(super) enum Chosen {
    Exactly(String),
    By(Arc<Held>, Effort, String),
}

/// An index file, looked at.
enum There<T> {
    Here(T),
    /// Why it is not used.
    Unusable(String),
    /// There is no such file.
    Missing,
}

/// The place of one index.
#[derive(Default)]
struct Slot {
    /// What it takes, or is about to take.
    bytes: AtomicU64,
    /// When it was used last, in milliseconds since the start.
    used: AtomicU64,
    known: Mutex<Known>,
}

/// What is known of an index file.
#[derive(Default)]
struct Known {
    stamp: Option<Stamp>,
    summary: Option<Arc<Summary>>,
    held: Option<Arc<Held>>,
    /// Why it is not used.
    trouble: Option<String>,
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Indexes {
    /// None yet, and never more than so many bytes; with 0 every question is answered exactly.
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            slots: Mutex::default(),
            short: AtomicBool::new(false),
            recall: Recall::default(),
            scans: Mutex::default(),
            started: Instant::now(),
        }
    }

    /// Chooses how a question to a collection is answered. What is wrong with an index is told, and never fails.
    ///
    /// # Errors
    /// A volume that cannot be read.
    pub(super) fn choose(
        &self,
        source: &impl Source,
        collection: &Collection,
        extent: Extent,
        wish: &Wish,
    ) -> Result<Chosen> {
        let exactly = |why: &str| Ok(Chosen::Exactly(why.to_owned()));
        if wish.way == Way::Exact {
            return exactly("it was asked for");
        }
        if self.bytes_max == 0 {
            return exactly("this mount uses no index (index_cache=0)");
        }
        let (mut there, mut figures, mut troubles) = (Vec::new(), Vec::new(), Vec::new());
        for kind in Kind::ALL.into_iter().filter(|kind| wish.way.allows(*kind)) {
            match self.look(source, collection.id, kind)? {
                There::Here((summary, stamp)) => {
                    figures.extend(self.recall.figures(collection.id, kind, stamp));
                    there.push(summary);
                }
                There::Unusable(trouble) => troubles.push(trouble),
                There::Missing => {}
            }
        }
        loop {
            let all: Vec<&Summary> = there.iter().map(|summary| &**summary).collect();
            let exact_ns = self.scan_ns(collection.id, extent.live);
            let (chosen, why) = choose(&all, extent, wish, Facts { open: true, exact_ns, figures: &figures });
            let Some(chosen) = chosen else {
                let trouble = troubles.into_iter().next().filter(|_| there.is_empty());
                let cannot = |trouble| format!("the index cannot be used: {trouble}");
                return Ok(Chosen::Exactly(trouble.map_or(why, cannot)));
            };
            match self.hold(source, collection.id, there[chosen.number].kind)? {
                There::Here(held) => return Ok(Chosen::By(held, chosen.effort, why)),
                There::Unusable(trouble) => troubles.push(trouble),
                There::Missing => {}
            }
            there.remove(chosen.number);
        }
    }

    /// Notes what reading all `live` rows of a collection took: the rows are read off the image, which takes longer than
    /// the searches of mapped rows that an index was timed beside.
    pub(super) fn scanned(&self, id: CollectionId, live: u64, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let share = ns.saturating_mul(SCANNED_ROWS) / live.max(1);
        let mut scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        let known = scans.entry(id).or_insert(share);
        *known = share.min(*known);
    }

    // What reading so many rows takes, if that is known.
    fn scan_ns(&self, id: CollectionId, live: u64) -> Option<u64> {
        let scans = self.scans.lock().unwrap_or_else(PoisonError::into_inner);
        scans.get(&id).map(|share| share.saturating_mul(live) / SCANNED_ROWS)
    }

    /// Uses an index no more, until its file is another.
    pub(super) fn distrust(&self, id: CollectionId, held: &Arc<Held>, trouble: String) {
        let slot = self.slot(id, held.index.kind());
        let mut known = slot.known();
        if known.held.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, held)) {
            log::warn!("{trouble}; questions are answered exactly");
            (known.summary, known.held, known.trouble) = (None, None, Some(trouble));
            slot.bytes.store(0, Ordering::Release);
        }
    }

    /// What they found of real questions.
    pub fn recall(&self) -> &Recall {
        &self.recall
    }

    /// An index that is in memory and still that of its file.
    pub(super) fn in_memory(
        &self,
        source: &impl Source,
        id: CollectionId,
        kind: Kind,
        stamp: Stamp,
    ) -> Result<Option<Arc<Held>>> {
        let now = source.look(|volume| find(volume, id, kind))?;
        let slot = self.slots().get(&(id, kind)).map(Arc::clone);
        let held = slot.and_then(|slot| slot.known().held.clone());
        Ok(held.filter(|held| now == Some(stamp) && held.stamp == stamp))
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> u64 {
        self.slots().values().map(|slot| slot.bytes.load(Ordering::Acquire)).sum()
    }

    /// Drops what nobody asked for some time; all of it where memory is wanted elsewhere.
    pub fn tend(&self, memory_is_short: bool) {
        self.short.store(memory_is_short, Ordering::Release);
        let now = self.now();
        let unused = |slot: &Slot| now.saturating_sub(slot.used.load(Ordering::Acquire));
        let keeps = |slot: &Arc<Slot>| !memory_is_short && unused(slot) < UNUSED_MAX.as_millis() as u64;
        // They are freed after the lock is let go of.
        let mut dropped = Vec::new();
        self.slots().retain(|_, slot| {
            let keeps = keeps(slot);
            dropped.extend((!keeps).then(|| Arc::clone(slot)));
            keeps
        });
    }

    // What an index says of itself, or why it is not used; none if there is no such file.
    fn look(
        &self,
        source: &impl Source,
        id: CollectionId,
        kind: Kind,
    ) -> Result<There<(Arc<Summary>, Stamp)>> {
        let Some(stamp) = source.look(|volume| find(volume, id, kind))? else {
            self.slots().remove(&(id, kind));
            return Ok(There::Missing);
        };
        let slot = self.slot(id, kind);
        let mut known = slot.known();
        if known.stamp != Some(stamp) {
            *known = Known { stamp: Some(stamp), ..Known::default() };
            slot.bytes.store(0, Ordering::Release);
            if stamp.size > self.bytes_max {
                known.trouble = Some(self.too_large(kind, stamp.size));
            }
        }
        if known.trouble.is_none() && known.summary.is_none() {
            let path = path_of(source, id, kind)?;
            let uuid = source.look(|volume| Ok(volume.superblock().uuid))?;
            let owner = (kind, identity_of(uuid, collection_directory(id).0));
            match Summary::read(path, &IndexFile { source, stamp }, owner) {
                Ok(summary) => known.summary = Some(Arc::new(summary)),
                Err(error) => {
                    log::warn!("{error}; questions are answered without it");
                    known.trouble = Some(error.to_string());
                }
            }
        }
        Ok(match (&known.trouble, &known.summary) {
            (None, Some(summary)) => There::Here((Arc::clone(summary), stamp)),
            (Some(trouble), _) => There::Unusable(trouble.clone()),
            (None, None) => There::Missing,
        })
    }

    // An index in memory, or why it is not used; none if its file is gone by now. Who comes while it is read waits for it.
    fn hold(&self, source: &impl Source, id: CollectionId, kind: Kind) -> Result<There<Arc<Held>>> {
        for _ in 0..ATTEMPTS {
            match self.look(source, id, kind)? {
                There::Here(_) => {}
                There::Unusable(trouble) => return Ok(There::Unusable(trouble)),
                There::Missing => return Ok(There::Missing),
            }
            let slot = self.slot(id, kind);
            slot.used.store(self.now(), Ordering::Release);
            let mut known = slot.known();
            let Some(stamp) = known.stamp.filter(|_| known.trouble.is_none()) else { continue };
            if let Some(held) = &known.held {
                return Ok(There::Here(Arc::clone(held)));
            }
            if self.short.load(Ordering::Acquire) {
                return Ok(There::Unusable("memory is short, and the index is not in it".into()));
            }
            if !self.make_room(&slot, stamp.size) {
                return Ok(There::Unusable(format!(
                    "other indexes are in use, and there is no room for the {} index beside them; mount with a larger index_cache",
                    kind.name()
                )));
            }
            let taken = StoredIndex::take(path_of(source, id, kind)?, &IndexFile { source, stamp });
            if source.look(|volume| find(volume, id, kind))? != Some(stamp) {
                // Replaced while it was read.
                continue;
            }
            match taken {
                Ok(index) => {
                    slot.bytes.store(index.memory_bytes() as u64, Ordering::Release);
                    let held = Arc::new(Held::new(index, stamp));
                    known.held = Some(Arc::clone(&held));
                    return Ok(There::Here(held));
                }
                Err(error) => {
                    log::warn!("{error}; questions are answered without it");
                    (known.summary, known.trouble) = (None, Some(error.to_string()));
                    slot.bytes.store(0, Ordering::Release);
                }
            }
        }
        Ok(There::Unusable("its file is replaced faster than it can be read".into()))
    }

    // Drops those that were used longest ago until there is room for so many bytes, and takes them; false if the others are
    // in use.
    fn make_room(&self, own: &Arc<Slot>, bytes: u64) -> bool {
        let now = self.now();
        // They are freed after the lock is let go of.
        let mut dropped = Vec::new();
        let mut slots = self.slots();
        own.bytes.store(0, Ordering::Release);
        loop {
            let taken: u64 = slots.values().map(|slot| slot.bytes.load(Ordering::Acquire)).sum();
            if taken.saturating_add(bytes) <= self.bytes_max {
                break;
            }
            let rests = |slot: &Slot| {
                let unused = now.saturating_sub(slot.used.load(Ordering::Acquire));
                slot.bytes.load(Ordering::Acquire) > 0 && unused >= IN_USE.as_millis() as u64
            };
            let resting = slots.iter().filter(|(_, slot)| rests(slot));
            let oldest = resting.min_by_key(|(_, slot)| slot.used.load(Ordering::Acquire));
            let Some(key) = oldest.map(|(key, _)| *key) else { return false };
            dropped.extend(slots.remove(&key));
        }
        own.bytes.store(bytes, Ordering::Release);
        true
    }

    fn too_large(&self, kind: Kind, size: u64) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        format!(
            "the {} index takes {} MiB, and this mount keeps {} MiB of indexes at most; mount with a larger index_cache",
            kind.name(),
            mib(size),
            mib(self.bytes_max)
        )
    }

    fn slot(&self, id: CollectionId, kind: Kind) -> Arc<Slot> {
        let mut slots = self.slots();
        let new = || Arc::new(Slot { used: AtomicU64::new(self.now()), ..Slot::default() });
        Arc::clone(slots.entry((id, kind)).or_insert_with(new))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<(CollectionId, Kind), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

// As messages name it.
fn path_of(source: &impl Source, id: CollectionId, kind: Kind) -> Result<PathBuf> {
    let name = source.look(|volume| volume.collection_name(id))?;
    Ok([&*String::from_utf8_lossy(&name), DIRECTORY, kind.name()].iter().collect())
}
