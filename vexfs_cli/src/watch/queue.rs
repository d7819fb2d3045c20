//! What there is to do: files that are stale in a collection, and below the chosen directories those without a vector.
//!
//! It walks as the caller, who so finds only what he can reach. Empty files wait until they have content.

use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use glob::{MatchOptions, Pattern};
use serde_json::Value;

use crate::arguments::Watch;
use crate::failure::Failure;
use crate::site::{Place, Site};
use crate::xattr;

/// A file whose vectors are to be made.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) inode: u64,
    /// Its content version, as of when it was looked at.
    pub(super) version: u64,
    /// It has no vector in the collection.
    pub(super) missing: bool,
}

/// Where to look, and for what.
pub(super) struct Queue<'a> {
    place: &'a Place,
    roots: Vec<PathBuf>,
    patterns: Vec<Pattern>,
    /// Files without a vector count, too.
    missing: bool,
    hidden: bool,
    settle: Duration,
    fresh: String,
}

impl<'a> Queue<'a> {
    /// Checks directories and patterns.
    pub(super) fn new(place: &'a Place, arguments: &Watch) -> Result<Self, Failure> {
        let mut roots = Vec::new();
        for directory in &arguments.directories {
            let found = directory.canonicalize().map_err(|error| Failure::io(directory, &error))?;
            if Site::of(&found)?.device != place.site.device {
                let root = place.site.root.display();
                return Err(Failure::new(format!("{}: is not on {root}", directory.display())));
            }
            roots.push(found);
        }
        if roots.is_empty() {
            roots.push(place.site.root.clone());
        }
        let parse = |text: &String| {
            Pattern::new(text).map_err(|error| Failure::new(format!("--glob `{text}`: {error}")))
        };
        Ok(Self {
            place,
            roots,
            patterns: arguments.patterns.iter().map(parse).collect::<Result<_, _>>()?,
            missing: !arguments.directories.is_empty(),
            hidden: arguments.hidden,
            settle: Duration::from_secs_f64(arguments.settle),
            fresh: format!("user.vexfs.fresh.{}", place.name.collection),
        })
    }

    /// Shows each file that there is something to do for, until `each` gives false; gives how many changed too lately.
    pub(super) fn scan(&self, each: &mut dyn FnMut(Found) -> bool) -> Result<usize, Failure> {
        let mut settling = 0;
        for root in &self.roots {
            let mut directories = vec![root.clone()];
            while let Some(directory) = directories.pop() {
                let entries = match fs::read_dir(&directory) {
                    Ok(entries) => entries,
                    Err(error) if directory == *root => return Err(Failure::io(root, &error)),
                    // What cannot be opened, or is gone, has nothing to do.
                    Err(_) => continue,
                };
                let mut entries: Vec<DirEntry> = entries.flatten().collect();
                entries.sort_by_key(DirEntry::file_name);
                for entry in entries.iter().filter(|entry| self.is_shown(entry)) {
                    let path = entry.path();
                    match entry.file_type() {
                        Ok(kind) if kind.is_dir() && self.is_here(&path) => directories.push(path),
                        Ok(kind) if kind.is_file() && self.is_wanted(root, &path) => match self.look(path) {
                            Look::Found(found) => {
                                if !each(found) {
                                    return Ok(settling);
                                }
                            }
                            Look::TooNew => settling += 1,
                            Look::Nothing => {}
                        },
                        _ => {}
                    }
                }
            }
        }
        Ok(settling)
    }

    fn is_shown(&self, entry: &DirEntry) -> bool {
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        name != ".vexfs" && (!hidden || self.hidden || !self.missing)
    }

    // Not another filesystem mounted there.
    fn is_here(&self, path: &Path) -> bool {
        fs::symlink_metadata(path).is_ok_and(|found| found.dev() == self.place.site.device)
    }

    fn is_wanted(&self, root: &Path, path: &Path) -> bool {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        let fits = |pattern: &Pattern| match pattern.as_str().contains('/') {
            true => pattern.matches_path_with(path.strip_prefix(root).unwrap_or(path), options),
            false => path.file_name().is_some_and(|name| pattern.matches_path_with(Path::new(name), options)),
        };
        self.patterns.is_empty() || self.patterns.iter().any(fits)
    }

    fn look(&self, path: PathBuf) -> Look {
        let missing = match xattr::get(&path, &self.fresh) {
            Ok(Some(value)) if value == b"0" => false,
            Ok(None) if self.missing => true,
            _ => return Look::Nothing,
        };
        // It may be gone, or not ours to read.
        let Ok(metadata) = fs::symlink_metadata(&path) else { return Look::Nothing };
        if metadata.len() == 0 {
            return Look::Nothing;
        }
        if !self.is_settled(&metadata) {
            return Look::TooNew;
        }
        let Some(version) = version(&path) else { return Look::Nothing };
        Look::Found(Found { path, inode: metadata.ino(), version, missing })
    }

    // A time to come is no reason to wait for it.
    fn is_settled(&self, metadata: &Metadata) -> bool {
        let age = metadata.modified().ok().map(|modified| SystemTime::now().duration_since(modified));
        !matches!(age, Some(Ok(age)) if age < self.settle)
    }
}

enum Look {
    Nothing,
    TooNew,
    Found(Found),
}

/// The content version of a file.
pub(super) fn version(path: &Path) -> Option<u64> {
    let value = xattr::get(path, "user.vexfs.version").ok()??;
    std::str::from_utf8(&value).ok()?.parse().ok()
}

/// A number that stays as long as nothing on the volume changes; none while something waits for a commit.
pub(super) fn mark(site: &Site) -> Option<u64> {
    let text = fs::read(site.control().join("status.json")).ok()?;
    let status: Value = serde_json::from_slice(&text).ok()?;
    let number = |name: &str| status.get(name).and_then(Value::as_u64);
    number("durable_generation").filter(|_| number("dirty_bytes") == Some(0))
}
