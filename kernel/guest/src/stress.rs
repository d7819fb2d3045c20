//! Processes that change a volume beside each other, for some time: what each finds must be what it made.
//!
//! Each has a directory and a collection of its own, looks after an act at the file that it changed, and now and then at
//! all of them; at the end once more, when nothing of the page cache is left. Beside that all of them fight for a few
//! names in one directory, where any outcome is right but a strange error.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use vexfs_guest::bytes::{floats, noise};
use vexfs_guest::model::{Attributes, File};
use vexfs_guest::told::{Act, DIMENSIONS};

use crate::call;
use crate::manifest::Outcome;
use crate::worker::Worker;

/// Names that all fight for.
const SHARED: u64 = 5;

/// Lets `processes` processes act below `root` for some seconds.
pub(crate) fn run(root: &Path, processes: u32, seconds: u64, seed: u64) -> Outcome {
    fs::create_dir(root.join("shared"))?;
    let program = std::env::current_exe()?;
    let one = |number: u32| {
        let numbers = [u64::from(number), seconds, seed].map(|number| number.to_string());
        Command::new(&program).arg("stress-one").arg(root).args(numbers).spawn()
    };
    let children = (0..processes).map(one).collect::<Result<Vec<_>, _>>()?;
    let mut failed = 0;
    for mut child in children {
        failed += u32::from(!child.wait()?.success());
    }
    if failed > 0 {
        return Err(format!("{failed} of {processes} processes failed").into());
    }
    println!("exercise stress: {processes} processes, {seconds} s, seed {seed}");
    Ok(())
}

/// One of the processes.
pub(crate) fn one(root: &Path, number: u32, seconds: u64, seed: u64) -> Outcome {
    let mut worker = Worker::new(root, number, seed)?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut acts = 0u64;
    while Instant::now() < end {
        let act = worker.choose();
        worker.act(&act)?;
        acts += 1;
        if let Some(name) = file_of(&act) {
            look_at(&worker, name)?;
        }
        if worker.dice.one_in(40) {
            look(&worker)?;
        }
        if worker.dice.one_in(4) {
            fight(&mut worker, root)?;
        }
    }
    call::sync();
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    look(&worker)?;
    println!("exercise stress: process {number}: {acts} acts");
    Ok(())
}

fn file_of(act: &Act) -> Option<&str> {
    match act {
        Act::Create(file) | Act::Truncate(file, _) | Act::Punch(file, ..) | Act::Set(file, ..) => Some(file),
        Act::Vector(file, ..) | Act::Forget(file, _) | Act::Write { file, .. } => Some(file),
        Act::Rename(_, to) => Some(to),
        _ => None,
    }
}

// All of the directory.
fn look(worker: &Worker) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(&worker.at)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    if !names.iter().eq(worker.model.files.keys()) {
        return Err(
            format!("worker {}: {names:?}, not {:?}", worker.number, worker.model.files.keys()).into()
        );
    }
    names.iter().try_for_each(|name| look_at(worker, name))
}

fn look_at(worker: &Worker, name: &str) -> Outcome {
    let wanted: &File = &worker.model.files[name];
    let path = worker.at.join(name);
    let wrong = |what: &str| format!("worker {}: {name}: {what}", worker.number);
    let bytes = fs::read(&path).map_err(|error| wrong(&error.to_string()))?;
    if bytes != *wanted.bytes {
        let (found, made) = (bytes.len(), wanted.bytes.len());
        let at = bytes.iter().zip(wanted.bytes.iter()).position(|(found, made)| found != made);
        return Err(wrong(&format!("{found} bytes, not {made}; the first that differs: {at:?}")).into());
    }
    let mut found = Attributes::new();
    for attribute in call::attributes(&path)? {
        let value = call::attribute(&path, &attribute)?;
        found.insert(String::from_utf8_lossy(&attribute).into_owned(), value);
    }
    if found != *wanted.attributes {
        let (found, made) = (found.keys(), wanted.attributes.keys());
        return Err(wrong(&format!("attributes {found:?} or their values, not {made:?}")).into());
    }
    Ok(())
}

// A name may be there or not, or go meanwhile; the bytes of a file are those of a seed, whoever wrote them.
fn fight(worker: &mut Worker, root: &Path) -> Outcome {
    let dice = &mut worker.dice;
    let mut name = || root.join("shared").join(dice.below(SHARED).to_string());
    let (path, other) = (name(), name());
    let seed = dice.below(1000);
    let result = match dice.below(8) {
        0 => fs::remove_file(&path),
        1 => fs::rename(&path, &other),
        2 => fs::hard_link(&path, &other),
        3 => call::set_attribute(&path, b"user.vector.shared", &floats(seed, DIMENSIONS)),
        4 => call::attribute(&path, b"user.vector.shared").map(drop),
        5 => fs::read(&path).map(drop),
        6 => OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|file| file.write_all_at(&noise(seed, 5000), 4096 * (seed % 4))),
        _ => fs::File::create(&path).and_then(|mut file| {
            file.write_all(&noise(seed, 3000))?;
            file.sync_all()
        }),
    };
    let allowed = |error: &std::io::Error| {
        let kind = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists);
        kind || matches!(error.raw_os_error(), Some(libc::ENODATA))
    };
    match result {
        Err(error) if !allowed(&error) => {
            Err(format!("{} and {}: {error}", path.display(), other.display()).into())
        }
        _ => Ok(()),
    }
}
