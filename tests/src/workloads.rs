//! The named workloads whose crash states are judged, and random ones after the manner of ACE.
//!
//! Each is a short story with at least three commits, told in paths; [`Story`] runs it on a recorded volume
//! and fails as soon as volume and model disagree.

mod ace;
mod attributes;
mod files;
mod history;
mod random;
mod recode;
mod vectors;

use std::sync::Arc;

use vexfs_core::format::{Element, FileKind, ROOT};
use vexfs_core::operations::{Allocate, RenameFlags, SetMode};

use crate::history::Recorder;
use crate::model::{Fill, Name, Op, Outcome, VectorFill, VectorName};

/// A workload.
pub struct Workload {
    /// Its name, in the output and in `VEXFS_WORKLOADS`.
    pub name: String,
    /// Bytes of the volume.
    pub size: u64,
    /// Bytes of a block.
    pub block_size: u32,
    /// Two commits of three are records of the journal instead.
    syncs: bool,
    /// One of many small ones: fewer states of each epoch will do.
    pub systematic: bool,
    tell: Arc<dyn Fn(&mut Story) -> Told + Send + Sync>,
}

/// Whether a story could be told to its end.
pub struct Told(Result<(), String>);

impl Workload {
    fn new(name: &str, tell: fn(&mut Story) -> Result<(), String>) -> Self {
        let tell = Arc::new(move |story: &mut Story| Told(tell(story)));
        Self { name: name.into(), size: 2 << 20, block_size: 4096, syncs: false, systematic: false, tell }
    }

    fn with(self, size: u64, block_size: u32) -> Self {
        Self { size, block_size, ..self }
    }

    /// The same story, told with a journal.
    fn synced(&self) -> Self {
        let (name, tell) = (format!("{}+sync", self.name), Arc::clone(&self.tell));
        Self { name, size: self.size, block_size: self.block_size, syncs: true, systematic: false, tell }
    }

    /// Runs it and gives what was recorded.
    pub fn record(&self) -> Result<Recorder, String> {
        let recorder = Recorder::new(self.size, self.block_size).map_err(|error| error.to_string())?;
        let mut story = Story { recorder, seed: 0, commits: 0, syncs: self.syncs, lenient: self.systematic };
        (self.tell)(&mut story).0?;
        story.recorder.pair.compare()?;
        if story.commits < 3 {
            return Err(format!("only {} commits; a workload has at least three", story.commits));
        }
        Ok(story.recorder)
    }
}

/// All that have a name, and their like with a journal; so many random ones, and so many systematic ones of three
/// operations besides all of one and two.
pub fn all(random: u64, triples: u64) -> Vec<Workload> {
    let mut all = files::workloads();
    all.extend(attributes::workloads());
    all.extend(vectors::workloads());
    all.extend(recode::workloads());
    all.extend(history::workloads());
    all.extend((0..random).map(random::workload));
    let synced: Vec<Workload> = all.iter().map(Workload::synced).collect();
    all.extend(synced);
    all.extend(ace::workloads(triples));
    all
}

/// Those of these names, and their like with a journal.
pub fn named(names: &[&str]) -> Vec<Workload> {
    let mut all = all(0, 0);
    all.retain(|workload| names.contains(&workload.name.trim_end_matches("+sync")));
    all
}

/// The random ones of these seeds: longer ones, their like with a journal, and systematic ones of three operations.
pub fn of_seeds(seeds: std::ops::Range<u64>) -> Vec<Workload> {
    let long = |seed: u64| [random::workload(seed), random::workload(seed).synced()];
    seeds.flat_map(|seed| long(seed).into_iter().chain([ace::triple(seed), ace::triple(!seed)])).collect()
}

/// Tells a workload in paths.
pub struct Story {
    recorder: Recorder,
    seed: u64,
    commits: u32,
    syncs: bool,
    /// What is refused, as model and volume agree, is no failure of the story.
    lenient: bool,
}

type Step = Result<(), String>;

impl Story {
    /// Forgets what was recorded so far: there is no crash in it.
    fn begin(&mut self) {
        self.recorder.begin();
    }

    fn op(&mut self, op: Op) -> Step {
        match self.attempt(op.clone())? {
            Outcome::Done => Ok(()),
            Outcome::Refused(_) if self.lenient => Ok(()),
            outcome => Err(format!("{op:?}: {outcome:?}")),
        }
    }

    fn attempt(&mut self, op: Op) -> Result<Outcome, String> {
        self.commits += u32::from(matches!(op, Op::Commit | Op::Sync | Op::Remount));
        self.recorder.op(&op)
    }

    fn fill(&mut self, len: usize) -> Fill {
        self.seed += 1;
        Fill { seed: self.seed, len }
    }

    fn inode(&self, path: &str) -> Result<u64, String> {
        self.recorder.pair.model.find(path).ok_or_else(|| format!("no {path} in the model"))
    }

    /// The directory and name that a path stands for.
    fn place(&self, path: &str) -> Result<(u64, Name), String> {
        match path.rsplit_once('/') {
            Some((directory, name)) => Ok((self.inode(directory)?, name.into())),
            None => Ok((ROOT.0, path.into())),
        }
    }

    fn make(&mut self, path: &str, kind: FileKind) -> Step {
        let (directory, name) = self.place(path)?;
        self.op(Op::Create { directory, name, kind, permissions: 0o644, owner: 1000 })
    }

    fn create(&mut self, path: &str) -> Step {
        self.make(path, FileKind::Regular)
    }

    fn mkdir(&mut self, path: &str) -> Step {
        self.make(path, FileKind::Directory)
    }

    fn symlink(&mut self, path: &str, target: &str) -> Step {
        let (directory, name) = self.place(path)?;
        self.op(Op::Symlink { directory, name, target: target.into() })
    }

    fn link(&mut self, from: &str, to: &str) -> Step {
        let (directory, name) = self.place(to)?;
        self.op(Op::Link { inode: self.inode(from)?, directory, name })
    }

    fn unlink(&mut self, path: &str) -> Step {
        let (directory, name) = self.place(path)?;
        self.op(Op::Unlink { directory, name })
    }

    fn rmdir(&mut self, path: &str) -> Step {
        let (directory, name) = self.place(path)?;
        self.op(Op::RemoveDirectory { directory, name })
    }

    fn rename(&mut self, from: &str, to: &str) -> Step {
        let (from, to) = (self.place(from)?, self.place(to)?);
        self.op(Op::Rename { from, to, flags: RenameFlags::empty() })
    }

    fn exchange(&mut self, from: &str, to: &str) -> Step {
        let (from, to) = (self.place(from)?, self.place(to)?);
        self.op(Op::Rename { from, to, flags: RenameFlags::EXCHANGE })
    }

    fn open(&mut self, path: &str) -> Result<u64, String> {
        let inode = self.inode(path)?;
        self.op(Op::Open { inode })?;
        Ok(inode)
    }

    fn close(&mut self, inode: u64) -> Step {
        self.op(Op::Close { inode })
    }

    fn write(&mut self, path: &str, offset: u64, len: usize) -> Step {
        let (inode, fill) = (self.inode(path)?, self.fill(len));
        self.op(Op::Write { inode, offset, fill })
    }

    fn append(&mut self, path: &str, len: usize) -> Step {
        let end = self.recorder.pair.model.node(self.inode(path)?).bytes.size();
        self.write(path, end, len)
    }

    /// A new file of `len` bytes.
    fn file(&mut self, path: &str, len: usize) -> Step {
        self.create(path)?;
        self.write(path, 0, len)
    }

    fn truncate(&mut self, path: &str, size: u64) -> Step {
        self.op(Op::Truncate { inode: self.inode(path)?, size })
    }

    fn allocate(&mut self, path: &str, what: Allocate, offset: u64, len: u64) -> Step {
        self.op(Op::Allocate { inode: self.inode(path)?, what, offset, len })
    }

    fn set(&mut self, path: &str, name: &str, len: usize) -> Step {
        let (inode, fill) = (self.inode(path)?, self.fill(len));
        self.op(Op::SetAttribute { inode, name: name.into(), fill, mode: SetMode::Any })
    }

    fn unset(&mut self, path: &str, name: &str) -> Step {
        self.op(Op::RemoveAttribute { inode: self.inode(path)?, name: name.into() })
    }

    fn vector(&mut self, path: &str, collection: &str, n: u32, dimensions: u32) -> Step {
        self.typed_vector(path, collection, Element::F32, n, dimensions)
    }

    fn typed_vector(
        &mut self,
        path: &str,
        collection: &str,
        element: Element,
        n: u32,
        dimensions: u32,
    ) -> Step {
        let inode = self.inode(path)?;
        self.seed += 1;
        let vector = VectorName { n, element, ..VectorName::new(collection) };
        let fill = VectorFill { seed: self.seed, dimensions, poison: false };
        self.op(Op::SetVector { inode, vector, fill, mode: SetMode::Any })
    }

    /// A batch: vectors of these files and numbers.
    fn vectors(&mut self, collection: &str, files: &[(&str, u32)], dimensions: u32, keep: bool) -> Step {
        let mut vectors = Vec::new();
        for (path, n) in files {
            self.seed += 1;
            let fill = VectorFill { seed: self.seed, dimensions, poison: false };
            vectors.push((self.inode(path)?, *n, fill));
        }
        self.op(Op::SetVectors { collection: collection.into(), vectors, keep })
    }

    fn remove_vector(&mut self, path: &str, collection: &str, n: u32) -> Step {
        let inode = self.inode(path)?;
        let element =
            self.recorder.pair.model.collections.get(collection).map_or(Element::F32, |known| known.element);
        self.op(Op::RemoveVector { inode, vector: VectorName { n, element, ..VectorName::new(collection) } })
    }

    fn metadata(&mut self, path: &str, collection: &str, n: u32, len: usize) -> Step {
        let (inode, fill) = (self.inode(path)?, self.fill(len));
        let vector = VectorName { n, ..VectorName::new(collection) };
        self.op(Op::SetMetadata { inode, vector, fill, mode: SetMode::Any })
    }

    fn remove_metadata(&mut self, path: &str, collection: &str, n: u32) -> Step {
        let vector = VectorName { n, ..VectorName::new(collection) };
        self.op(Op::RemoveMetadata { inode: self.inode(path)?, vector })
    }

    fn tidy(&mut self) -> Step {
        self.op(Op::Tidy)
    }

    fn commit(&mut self) -> Step {
        let syncs = self.syncs && self.commits % 3 != 2;
        self.op(if syncs { Op::Sync } else { Op::Commit })
    }

    /// A commit with something done between `seal` and `write`, and between `write` and `publish`.
    fn commit_around(
        &mut self,
        before: impl FnOnce(&mut Self) -> Step,
        after: impl FnOnce(&mut Self) -> Step,
    ) -> Step {
        let Some(sealed) = self.recorder.seal().map_err(|error| format!("seal: {error}"))? else {
            return self.commit();
        };
        self.commits += 1;
        before(self)?;
        self.recorder.write(&sealed).map_err(|error| format!("write of a commit: {error}"))?;
        after(self)?;
        self.recorder.publish(sealed).map_err(|error| format!("publish: {error}"))
    }

    fn remount(&mut self) -> Step {
        self.op(Op::Remount)
    }
}
