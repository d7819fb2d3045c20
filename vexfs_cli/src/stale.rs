//! `vexfs stale`: the files below a directory whose content changed since their vectors were made.
//!
//! It asks each file that its caller can reach; what he cannot is left out, as by find(1).

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::arguments::{Common, Stale};
use crate::failure::Failure;
use crate::output;
use crate::site::Site;
use crate::xattr;

const FRESH: &str = "user.vexfs.fresh";

pub(crate) fn run(arguments: &Stale, common: &Common) -> Result<(), Failure> {
    let mut waiting: Vec<PathBuf> = match arguments.paths.is_empty() {
        true => vec![Site::choose(common)?.root],
        false => arguments.paths.iter().rev().cloned().collect(),
    };
    for path in &waiting {
        fs::symlink_metadata(path).map_err(|error| Failure::io(path, &error))?;
        Site::of(path)?;
    }
    while let Some(path) = waiting.pop() {
        // What vanished meanwhile is no longer stale.
        let Ok(kind) = fs::symlink_metadata(&path).map(|found| found.file_type()) else { continue };
        if (kind.is_file() || kind.is_dir()) && is_stale(&path) {
            show(&path, arguments, common)?;
        }
        if kind.is_dir() {
            push_entries(&path, &mut waiting);
        }
    }
    Ok(())
}

fn is_stale(path: &Path) -> bool {
    matches!(xattr::get(path, FRESH), Ok(Some(value)) if value == b"0")
}

// In order of name, so that two runs can be compared.
fn push_entries(directory: &Path, waiting: &mut Vec<PathBuf>) {
    match fs::read_dir(directory) {
        Ok(entries) => {
            let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            entries.retain(|path| path.file_name().is_some_and(|name| name != ".vexfs"));
            entries.sort_unstable_by(|a, b| b.cmp(a));
            waiting.append(&mut entries);
        }
        Err(error) => eprintln!("vexfs: {}: {error}", directory.display()),
    }
}

fn show(path: &Path, arguments: &Stale, common: &Common) -> io::Result<()> {
    if common.json {
        return output::line(&json!({"path": path.to_string_lossy()}));
    }
    let end: &[u8] = if arguments.null { b"\0" } else { b"\n" };
    io::stdout().write_all(&[path.as_os_str().as_bytes(), end].concat())
}
