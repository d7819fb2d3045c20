//! `vexfs switch`: from one model's vectors to another's, by exchanging the names of two collections.
//!
//! INVARIANT: who asks for the current name finds the old collection, whole, or the new one, whole: one rename exchanges them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;
use vexfs_search::Collection;

use crate::arguments::{Common, Switch};
use crate::failure::Failure;
use crate::output;
use crate::paths::Paths;
use crate::site::Place;

/// Files without a vector yet that are named.
const NAMED_MAX: usize = 5;

pub(crate) fn run(arguments: &Switch, common: &Common) -> Result<(), Failure> {
    let current = Place::new(&arguments.current, None, common)?;
    let next = Place::new(&arguments.next, None, common)?;
    if current.site.root != next.site.root {
        return Err(Failure::new(format!(
            "{} and {} are on different volumes",
            current.directory.display(),
            next.directory.display()
        )));
    }
    if current.name.collection == next.name.collection {
        return Err(Failure::new(format!("{}: is the same collection twice", current.name.collection)));
    }
    current.existing()?;
    next.existing()?;
    let progress = Progress::of(&current, &next)?;
    if arguments.status {
        return progress.show(&current, &next, common);
    }
    if !progress.missing.is_empty() && !arguments.force {
        return Err(Failure::new(format!(
            "{}\n`vexfs watch {} -- COMMAND` makes them; --force switches all the same",
            progress.words(&current, &next),
            next.name.collection
        )));
    }
    exchange(&current, &next)?;
    let (name, old) = (&current.name.collection, &next.name.collection);
    if common.json {
        output::line(
            &json!({"current": name, "previous": old, "files": progress.files, "done": progress.done()}),
        )?;
    } else {
        println!(
            "{name}: is now what {old} was, which has the old vectors; `vexfs switch {name} {old}` goes back"
        );
    }
    Ok(())
}

fn exchange(current: &Place, next: &Place) -> Result<(), Failure> {
    let (a, b) = (&current.directory, &next.directory);
    renameat2(AT_FDCWD, a, AT_FDCWD, b, RenameFlags::RENAME_EXCHANGE).map_err(|errno| match errno {
        Errno::EACCES | Errno::EPERM => Failure::new(format!(
            "{}: names of collections are the business of who may write {}",
            a.display(),
            current.site.collections().display()
        )),
        _ => Failure::io(a, &errno.into()),
    })
}

/// How far the new collection is.
struct Progress {
    /// Files with a vector in the current collection.
    files: usize,
    /// Those without one in the new one.
    missing: HashSet<u64>,
    /// Paths of some of them, as far as the caller can reach them.
    named: Vec<PathBuf>,
}

impl Progress {
    fn of(current: &Place, next: &Place) -> Result<Self, Failure> {
        let files_of = |place: &Place| -> Result<HashSet<u64>, Failure> {
            let inodes = Collection::inodes(&place.directory)?;
            Ok(inodes.into_iter().filter(|inode| *inode != 0).collect())
        };
        let (mut missing, there) = (files_of(current)?, files_of(next)?);
        let files = missing.len();
        missing.retain(|inode| !there.contains(inode));
        let mut named = Vec::new();
        if !missing.is_empty() {
            let paths = Paths::find(&current.site, missing.iter().copied());
            named.extend(missing.iter().filter_map(|inode| paths.of(*inode)).map(Path::to_owned));
            named.sort();
            named.truncate(NAMED_MAX);
        }
        Ok(Self { files, missing, named })
    }

    fn done(&self) -> usize {
        self.files - self.missing.len()
    }

    fn words(&self, current: &Place, next: &Place) -> String {
        let (done, all) = (self.done(), self.files);
        let (current, next) = (&current.name.collection, &next.name.collection);
        let mut words = format!("{done} of {all} files of {current} have a vector in {next}");
        if !self.named.is_empty() {
            let named: Vec<String> = self.named.iter().map(|path| path.display().to_string()).collect();
            let more = if self.missing.len() > named.len() { ", ..." } else { "" };
            words.push_str(&format!("; not yet: {}{more}", named.join(", ")));
        }
        words
    }

    fn show(&self, current: &Place, next: &Place, common: &Common) -> Result<(), Failure> {
        if common.json {
            let named: Vec<String> =
                self.named.iter().map(|path| path.to_string_lossy().into_owned()).collect();
            output::line(&json!({
                "current": current.name.collection, "next": next.name.collection, "files": self.files,
                "done": self.done(), "missing": self.missing.len(), "some": named,
            }))?;
        } else {
            println!("{}", self.words(current, next));
        }
        Ok(())
    }
}
