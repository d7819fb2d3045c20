//! `vexfs index`: builds the indexes of a collection, brings them up to date, removes them.
//!
//! INVARIANT: the file in its place is always a whole one: a new one is written beside it, made durable, and then takes its
//! name. Whoever is interrupted leaves the old one, and a partial file that the next build takes over.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vexfs_search::plan::pays;
use vexfs_search::stored::{self, Built, Kind, Stage};
use vexfs_search::{Collection, Element, Metric, Schema, StoredIndex};

use crate::arguments::{Common, Index, IndexKind};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

/// An index of which more than this share changed is built anew.
const CHANGED_MAX: f64 = 0.3;

pub(crate) fn run(arguments: &Index, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    let schema = place.existing()?;
    let home = Home::of(&place);
    if arguments.remove {
        return home.remove(common, &place);
    }
    if schema.element == Element::Bit || schema.metric == Metric::Hamming {
        return Err(Failure::new(format!("{}: bits are searched exactly, no index is faster", name(&place))));
    }
    if schema.live == 0 {
        return Err(Failure::new(format!("{}: is empty, there is nothing to index", name(&place))));
    }
    let kinds = kinds(arguments, &schema, &home);
    if kinds.is_empty() {
        let words = "is so small that searches look at every row; --kind scan, clustered or graph builds an index all the same";
        return told(common, &place, words);
    }
    kinds.into_iter().try_for_each(|kind| build(arguments, common, &place, &home, kind))
}

// Which kinds are to be built.
fn kinds(arguments: &Index, schema: &Schema, home: &Home) -> Vec<Kind> {
    let there: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| home.file(*kind).exists()).collect();
    match arguments.kind {
        IndexKind::Scan => vec![Kind::Scan],
        IndexKind::Clustered => vec![Kind::Clustered],
        IndexKind::Graph => vec![Kind::Graph],
        IndexKind::Auto if arguments.update && !there.is_empty() => there,
        IndexKind::Auto if !pays(schema) => Vec::new(),
        IndexKind::Auto if bytes(schema) < CLUSTERED_BYTES_MIN => vec![Kind::Scan],
        // A graph takes longest to build, and pays for who searches often: whoever wants one asks for it.
        IndexKind::Auto => vec![Kind::Scan, Kind::Clustered],
    }
}

fn build(arguments: &Index, common: &Common, place: &Place, home: &Home, kind: Kind) -> Result<(), Failure> {
    let partial = home.lock(place, kind)?;
    let start = Instant::now();
    let bar = Bar::new();
    let (built, how) = match arguments.update.then(|| old(place, kind)).flatten() {
        Some(Old::Right) => {
            return told(common, place, &format!("the {} index is up to date", kind.name()));
        }
        Some(Old::Changed(index)) => {
            (stored::update(&index, &place.directory, &mut bar.progress())?, "updated")
        }
        None => (stored::build(&place.directory, kind, &mut bar.progress())?, "built"),
    };
    bar.0.finish_and_clear();
    partial.replace(&built.bytes, &home.file(kind))?;
    report(common, place, &built, how, start)
}

fn bytes(schema: &Schema) -> u64 {
    schema.live.saturating_mul(schema.vector_len() as u64)
}

/// From so many bytes of vectors on a clustered index can be faster than a scan: below it is not worth its building.
const CLUSTERED_BYTES_MIN: u64 = 64 << 20;

fn name(place: &Place) -> &str {
    &place.name.collection
}

fn told(common: &Common, place: &Place, words: &str) -> Result<(), Failure> {
    if common.json {
        output::line(&json!({"collection": name(place), "built": false, "why": words}))?;
    } else {
        println!("{}: {words}", name(place));
    }
    Ok(())
}

fn report(common: &Common, place: &Place, built: &Built, how: &str, start: Instant) -> Result<(), Failure> {
    let (bytes, seconds) = (built.bytes.len() as u64, start.elapsed().as_secs_f64());
    if common.json {
        let efforts = built.efforts.iter().map(|effort| {
            json!({
                "probes": effort.probes, "pool": effort.pool, "rerank": effort.rerank, "recall": effort.recall,
                "low": effort.low, "ms": effort.ns as f64 / 1e6,
            })
        });
        output::line(&json!({
            "collection": name(place), "built": true, "how": how, "kind": built.kind.name(), "rows": built.rows,
            "leaves": built.leaves, "bytes": bytes, "seconds": seconds,
            "exact_ms": built.exact_ns as f64 / 1e6, "efforts": efforts.collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    let leaves = match built.kind {
        Kind::Scan | Kind::Graph => String::new(),
        Kind::Clustered => format!(" in {} leaves", built.leaves),
    };
    println!(
        "{}: {} index {how} of {} vectors{leaves}, {}, {seconds:.1} s",
        name(place),
        built.kind.name(),
        built.rows,
        output::bytes(bytes)
    );
    Ok(())
}

// An index that can be brought up to date.
enum Old {
    Right,
    Changed(Box<StoredIndex>),
}

// None if there is none, or one that is damaged, or of which too much changed.
fn old(place: &Place, kind: Kind) -> Option<Old> {
    let note = |error: &dyn std::fmt::Display| eprintln!("vexfs: {error}");
    let index = StoredIndex::open(&place.directory, kind).inspect_err(|error| note(error)).ok()??;
    let collection = Collection::open(&place.directory).inspect_err(|error| note(error)).ok()?;
    let schema = collection.schema();
    if index.metric() != schema.metric {
        return None;
    }
    let delta = index.delta(&collection).inspect_err(|error| note(error)).ok()?;
    if delta.is_empty() && index.generation() == schema.generation {
        return Some(Old::Right);
    }
    let changed = delta.changed().max(delta.gone()) as f64;
    (changed <= CHANGED_MAX * schema.live as f64).then(|| Old::Changed(Box::new(index)))
}

/// Where a collection's index is kept.
struct Home {
    directory: PathBuf,
}

impl Home {
    fn of(place: &Place) -> Self {
        Self { directory: place.directory.join(stored::DIRECTORY) }
    }

    fn file(&self, kind: Kind) -> PathBuf {
        self.directory.join(kind.name())
    }

    fn remove(&self, common: &Common, place: &Place) -> Result<(), Failure> {
        let mut removed = false;
        for path in Kind::ALL.map(|kind| self.file(kind)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(&path, &error)),
                Err(_) => {}
                Ok(()) => removed = true,
            }
        }
        told(common, place, if removed { "the index is removed" } else { "there is no index" })
    }

    // The file that a new index is written to, for nobody else until it is closed.
    fn lock(&self, place: &Place, kind: Kind) -> Result<Partial, Failure> {
        match fs::create_dir(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(refused(&self.directory, &error));
            }
            _ => {}
        }
        let path = self.directory.join(format!("{}.partial", kind.name()));
        loop {
            let file = OpenOptions::new().create(true).write(true).truncate(false).open(&path);
            let file = file.map_err(|error| refused(&path, &error))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Failure::new(format!("{}: is being indexed already", name(place))));
                }
                Err(TryLockError::Error(error)) => return Err(refused(&path, &error)),
            }
            // Another one may have been done, and renamed the file, between opening and locking it.
            let own = file.metadata().map_err(|error| refused(&path, &error))?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == own) {
                return Ok(Partial { file, path });
            }
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(format!(
            "{}: {error}: an index needs write permission on the collection",
            path.display()
        )),
        _ => Failure::io(path, error),
    }
}

/// The file that is written before it takes the index's place.
struct Partial {
    file: File,
    path: PathBuf,
}

impl Partial {
    fn replace(mut self, bytes: &[u8], to: &Path) -> Result<(), Failure> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.write_all(bytes))
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.path, to));
        written.map_err(|error| refused(&self.path, &error))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a failure; in a success the name is gone already.
        let own = self.file.metadata().map(|file| file.ino());
        let there = fs::metadata(&self.path).map(|file| file.ino());
        if own.is_ok_and(|own| there.is_ok_and(|there| own == there)) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{msg:18} {bar:40} {pos}/{len}, {elapsed}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn progress(&self) -> impl FnMut(Stage, u64, u64) + '_ {
        let mut at = None;
        move |stage, done, all| {
            if at != Some(stage) {
                at = Some(stage);
                self.0.set_message(match stage {
                    Stage::Reading => "reading vectors",
                    Stage::Clustering => "making leaves",
                    Stage::Linking => "linking",
                    Stage::Measuring => "measuring recall",
                });
                self.0.set_length(all);
            }
            if done % 256 == 0 || done == all {
                self.0.set_position(done);
            }
        }
    }
}
