//! Judges crash states of a recorded disk by what a workload was about to do, and what had returned, at that moment.
//!
//! A worker does one act after the other in a directory of its own. What it did to names, attributes and vectors must
//! be found as it was after some act between the last one that made it durable and the last one begun: all of that act
//! and of those before it, nothing of those after. Bytes of files may each be of any version since the last that was
//! made durable, and are all of that one if there is no newer one (promises P1 to P4).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use vexfs_core::device::Direct;
use vexfs_core::error::Error;
use vexfs_core::format::ROOT;
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_guest::model::{Attributes, Directory};
use vexfs_guest::told::{Act, How, Line, directory};

use crate::check::check_crashed;
use crate::crash::Oracle;
use crate::image::Image;
use crate::sim::{DISCARDED, Event, SimDevice, Trace};
use crate::states::Origin;

/// Knows what every worker told.
pub struct Witness {
    workers: BTreeMap<u32, Story>,
    moments: Vec<usize>,
}

/// What one worker did.
struct Story {
    number: u32,
    /// Events of the trace before each act was told.
    told: Vec<usize>,
    acts: Vec<Act>,
    /// The directory before the first act, and after each.
    after: Vec<Directory>,
    /// By [`vexfs_guest::model::File::number`].
    files: Vec<FileStory>,
}

/// The content of a file through its life.
#[derive(Default)]
struct FileStory {
    /// Each with the number of the act that made it.
    versions: Vec<(usize, Arc<Vec<u8>>)>,
    /// Acts that made these bytes of it durable.
    synced: Vec<(usize, Range<u64>)>,
}

/// A file as it was found.
struct Found {
    bytes: Vec<u8>,
    attributes: Attributes,
}

impl Witness {
    /// Takes the lines of a record, with the events of the trace before each.
    ///
    /// # Errors
    /// Lines that are missing, or that no workload tells.
    pub fn new(lines: &[(usize, Line)]) -> Result<Self, String> {
        let mut workers: BTreeMap<u32, Story> = BTreeMap::new();
        for (events, line) in lines {
            let story = workers.entry(line.worker).or_insert_with(|| Story {
                number: line.worker,
                told: Vec::new(),
                acts: Vec::new(),
                after: vec![Directory::new(line.worker)],
                files: Vec::new(),
            });
            if line.number != story.acts.len() as u64 {
                return Err(format!("line {} is missing before: {line}", story.acts.len()));
            }
            story.told.push(*events);
            story.act(&line.act).map_err(|why| format!("{line}: {why}"))?;
        }
        let unfinished = workers.values().find(|story| story.acts.last() != Some(&Act::End));
        if let Some(story) = unfinished {
            return Err(format!("worker {} did not come to its end", story.number));
        }
        Ok(Self { workers, moments: lines.iter().map(|(events, _)| *events).collect() })
    }

    /// Acts told.
    pub fn acts(&self) -> usize {
        self.moments.len()
    }
}

impl Story {
    fn act(&mut self, act: &Act) -> Result<(), String> {
        let at = self.acts.len();
        self.acts.push(act.clone());
        let before = self.after.last().ok_or("a story without a beginning")?;
        let mut now = before.clone();
        now.apply(act)?;
        for file in now.files.values() {
            if file.number == self.files.len() {
                self.files.push(FileStory::default());
            }
            let versions = &mut self.files[file.number].versions;
            if versions.last().is_none_or(|(_, bytes)| !Arc::ptr_eq(bytes, &file.bytes)) {
                versions.push((at, Arc::clone(&file.bytes)));
            }
        }
        let number = |name: &str| now.files.get(name).map(|file| file.number).ok_or("no such file");
        match act {
            Act::Sync(name) | Act::SyncData(name) => self.files[number(name)?].synced.push((at, WHOLE)),
            // O_SYNC promises what this call wrote, not what was dirty beside it.
            Act::Write { file, how: How::Synced, offset, len, .. } => {
                self.files[number(file)?].synced.push((at, *offset..offset + len));
            }
            Act::SyncAll => self.files.iter_mut().for_each(|file| file.synced.push((at, WHOLE))),
            _ => {}
        }
        self.after.push(now);
        Ok(())
    }

    /// Acts that were begun before event `events` of the trace.
    fn begun(&self, events: usize) -> usize {
        self.told.partition_point(|told| *told <= events)
    }

    /// Acts whose changes of names, attributes and vectors are durable when `begun` acts were begun: all but the last
    /// of those returned.
    fn durable(&self, begun: usize) -> usize {
        let makes_durable = |act: &Act| {
            let syncs = matches!(act, Act::Sync(_) | Act::SyncData(_) | Act::SyncDirectory | Act::SyncAll);
            syncs || matches!(act, Act::Write { how: How::Synced, .. })
        };
        let returned = &self.acts[..begun.saturating_sub(1)];
        returned.iter().rposition(makes_durable).map_or(0, |last| last + 1)
    }

    fn judge(&self, found: &BTreeMap<String, Found>, events: usize) -> Result<(), String> {
        let begun = self.begun(events);
        let durable = self.durable(begun);
        let mut why = String::new();
        for acts in (durable..=begun).rev() {
            match self.fits(found, acts, begun) {
                Ok(()) => return Ok(()),
                // The last reason told is that of what was durable at least.
                Err(difference) => why = difference,
            }
        }
        let worker = self.number;
        Err(format!("worker {worker}, {durable} acts durable, {begun} begun, as after {durable}: {why}"))
    }

    fn fits(&self, found: &BTreeMap<String, Found>, acts: usize, begun: usize) -> Result<(), String> {
        let wanted = &self.after[acts].files;
        if !wanted.keys().eq(found.keys()) {
            return Err(format!("names {:?}, expected {:?}", found.keys(), wanted.keys()));
        }
        for (name, wanted) in wanted {
            let found = &found[name];
            if *wanted.attributes != found.attributes {
                let differs = |name: &&String| wanted.attributes.get(*name) != found.attributes.get(*name);
                let all: BTreeSet<&String> =
                    wanted.attributes.keys().chain(found.attributes.keys()).collect();
                let differing: Vec<&String> = all.into_iter().filter(differs).collect();
                return Err(format!("{name}: attributes {differing:?} differ"));
            }
            self.files[wanted.number].fits(&found.bytes, begun).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    }
}

impl FileStory {
    /// The bytes are of versions from the last durable one on, if `begun` acts were begun.
    fn fits(&self, bytes: &[u8], begun: usize) -> Result<(), String> {
        let end = self.versions.partition_point(|(act, _)| *act < begun);
        // The version that such an act made durable.
        let version =
            |act: usize| self.versions.partition_point(|(made, _)| *made <= act).saturating_sub(1).min(end);
        let returned = self.synced.iter().rev().filter(|(act, _)| act + 1 < begun);
        let (mut parts, mut whole) = (Vec::new(), 0);
        for (act, range) in returned {
            if *range == WHOLE {
                whole = version(*act);
                break;
            }
            parts.push((version(*act), range.clone()));
        }
        let candidates = &self.versions[whole..end];
        let sizes = || candidates.iter().map(|(_, version)| version.len());
        let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
        if bytes.len() < least || bytes.len() > most {
            return Err(format!("{} bytes, expected {least} to {most}", bytes.len()));
        }
        for (at, byte) in bytes.iter().enumerate() {
            let there = |(_, version): &(usize, Arc<Vec<u8>>)| version.get(at).unwrap_or(&0) == byte;
            let part = parts.iter().find(|(_, range)| range.contains(&(at as u64)));
            let durable = part.map_or(whole, |(version, _)| *version);
            if !self.versions[durable..end].iter().rev().any(there) {
                return Err(format!("byte {at} is of none of {} versions", end - durable));
            }
        }
        Ok(())
    }
}

/// All of a file.
const WHOLE: Range<u64> = 0..u64::MAX;

type Mounted = Volume<Direct<SimDevice>>;

/// What a directory of the root holds; nothing if it is not there.
fn look(volume: &Mounted, directory: &str) -> Result<BTreeMap<String, Found>, String> {
    let mut found = BTreeMap::new();
    let inode = match volume.lookup(ROOT, directory.as_bytes()) {
        Err(Error::NotFound) => return Ok(found),
        other => other.map_err(|error| format!("{directory}: {error}"))?.inode,
    };
    let mut entries: Vec<(String, Ino)> = Vec::new();
    let listed = volume.read_directory(inode, 0, &mut |entry| {
        entries.push((String::from_utf8_lossy(entry.name).into_owned(), entry.inode));
        true
    });
    listed.map_err(|error| format!("{directory}: {error}"))?;
    for (name, inode) in entries {
        let file = look_at(volume, inode).map_err(|error| format!("{directory}/{name}: {error}"))?;
        found.insert(name, file);
    }
    Ok(found)
}

fn look_at(volume: &Mounted, inode: Ino) -> vexfs_core::Result<Found> {
    let mut bytes = vec![0; volume.attributes(inode)?.size as usize];
    let len = volume.read(inode, 0, &mut bytes)?;
    bytes.truncate(len);
    let mut attributes = Attributes::new();
    for name in volume.list_attributes(inode)?.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        attributes.insert(String::from_utf8_lossy(name).into_owned(), volume.attribute(inode, name)?);
    }
    Ok(Found { bytes, attributes })
}

/// Judges a disk that lost its flushes for a while: what it is held to is what the workload was told.
pub struct Forgetful<'w> {
    witness: &'w Witness,
    /// Events of the whole trace before each event of the part, and at its end.
    before: Vec<usize>,
}

impl<'w> Forgetful<'w> {
    /// A part of the trace without its flushes, and who judges it.
    pub fn new(witness: &'w Witness, trace: &Trace, part: Range<usize>) -> (Trace, Self) {
        let mut base = trace.base.clone();
        for event in &trace.events[..part.start] {
            match event {
                Event::Write { offset, bytes } => base.write(*offset, bytes),
                Event::Discard { offset, len } => base.fill(*offset, *len, DISCARDED),
                Event::Flush | Event::LostFlush => {}
            }
        }
        let is_write = |index: &usize| !matches!(trace.events[*index], Event::Flush | Event::LostFlush);
        let mut before: Vec<usize> = part.clone().filter(is_write).collect();
        let events = before.iter().map(|index| trace.events[*index].clone()).collect();
        before.push(part.end);
        (Trace { base, events }, Self { witness, before })
    }

    fn whole(&self, events: usize) -> usize {
        self.before.get(events).or(self.before.last()).copied().unwrap_or(0)
    }
}

impl Oracle for Forgetful<'_> {
    fn window(&self, events: usize) -> u64 {
        self.witness.window(self.whole(events))
    }

    fn judge(&self, image: &Image, origin: &Origin, sample: u64) -> Result<(), String> {
        let origin = Origin { events: self.whole(origin.events), cut: origin.cut.clone() };
        self.witness.judge(image, &origin, sample)
    }
}

impl Oracle for Witness {
    fn window(&self, events: usize) -> u64 {
        self.moments.partition_point(|told| *told <= events) as u64
    }

    fn judge(&self, image: &Image, origin: &Origin, sample: u64) -> Result<(), String> {
        let device = SimDevice::from_image(image.clone());
        check_crashed(&device).map_err(|why| format!("check: {why}"))?;
        let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default())
            .map_err(|error| format!("mount: {error}"))?;
        for story in self.workers.values() {
            story.judge(&look(&volume, &directory(story.number))?, origin.events)?;
        }
        if sample.is_multiple_of(8) {
            let now = Time { seconds: 1_900_000_000, nanoseconds: 0 };
            volume.commit(now).map_err(|error| format!("commit after the crash: {error}"))?;
            check_crashed(&device).map_err(|why| format!("check after the crash and a commit: {why}"))?;
        }
        Ok(())
    }
}
