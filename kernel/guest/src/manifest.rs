//! All that can be seen of a tree, a line a path: attributes, content (read and mapped), extended attributes.
//!
//! The control directory is told too, but for what each host says of itself (`status.json`, `metrics`, `log`), and for
//! `near` and `vectors.arrow`, which one host alone shows.

use std::fmt::Write;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::call::{self, Mapping};

/// What went wrong, in words.
pub(crate) type Failure = Box<dyn std::error::Error>;
/// What a step gives.
pub(crate) type Outcome = Result<(), Failure>;

/// Fails unless they are equal.
pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(what: &str, got: T, wanted: T) -> Outcome {
    if got == wanted { Ok(()) } else { Err(format!("{what}: {got:?}, not {wanted:?}").into()) }
}

const OF_THE_HOST: [&str; 4] = ["status.json", "metrics", "log", "near"];
/// What the FUSE host alone shows of a collection.
const UNDER_FUSE: [&str; 2] = ["append", "vectors.arrow"];

/// Prints the manifest of the tree at `root`.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let mut text = String::new();
    describe(root, root, &mut text)?;
    // Not listed, so it is asked for by name.
    if !fs::read_dir(root)?.any(|entry| entry.is_ok_and(|entry| entry.file_name() == ".vexfs")) {
        describe(root, &root.join(".vexfs"), &mut text)?;
    }
    print!("{text}");
    Ok(())
}

fn describe(root: &Path, path: &Path, text: &mut String) -> Result<(), Failure> {
    let name = path.strip_prefix(root)?.as_os_str().as_bytes().escape_ascii();
    let at = |what: &str| format!("{}: {what}", path.display());
    let seen = fs::symlink_metadata(path).map_err(|error| at(&error.to_string()))?;
    write!(
        text,
        "/{name} ino {} mode {:o} links {} uid {} gid {} rdev {:x} size {} mtime {}.{:09} ctime {}.{:09}",
        seen.ino(),
        seen.mode(),
        seen.nlink(),
        seen.uid(),
        seen.gid(),
        if seen.file_type().is_char_device() || seen.file_type().is_block_device() { seen.rdev() } else { 0 },
        seen.size(),
        seen.mtime(),
        seen.mtime_nsec(),
        seen.ctime(),
        seen.ctime_nsec(),
    )?;
    if seen.is_file() {
        let content = content(path, seen.size()).map_err(|error| at(&error.to_string()))?;
        write!(text, " content {content}")?;
        let version = call::attribute(path, b"user.vexfs.version").unwrap_or_default();
        write!(text, " version {}", version.escape_ascii())?;
    } else if seen.is_symlink() {
        write!(text, " to {}", fs::read_link(path)?.as_os_str().as_bytes().escape_ascii())?;
    }
    for name in call::attributes(path).map_err(|error| at(&error.to_string()))? {
        let value = call::attribute(path, &name).map_err(|error| at(&error.to_string()))?;
        write!(text, " {}={}:{:016x}", name.escape_ascii(), value.len(), hash(&value))?;
    }
    text.push('\n');
    if seen.is_dir() {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.push(entry?.file_name());
        }
        names.sort();
        let control = path == root.join(".vexfs");
        let collection = path.parent().is_some_and(|parent| parent == root.join(".vexfs/collections"));
        for name in names {
            let of_the_host = control && OF_THE_HOST.iter().any(|of_host| name == *of_host);
            let differs =
                of_the_host || (collection && UNDER_FUSE.iter().any(|under_fuse| name == *under_fuse));
            if !differs {
                describe(root, &path.join(&name), text)?;
            }
        }
    }
    Ok(())
}

// Length and hash of what is read; a mapping must show the same, page by page from the end.
fn content(path: &Path, size: u64) -> Result<String, Failure> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    // A computed file has no size, and cannot be mapped.
    if size > 0 {
        if bytes.len() as u64 != size {
            return Err(format!("{} bytes read of {size}", bytes.len()).into());
        }
        let mapping = Mapping::new(&file, bytes.len(), false)?;
        let pages = mapping.bytes().chunks(4096).zip(bytes.chunks(4096));
        for (index, (mapped, read)) in pages.enumerate().collect::<Vec<_>>().into_iter().rev() {
            if mapped != read {
                return Err(format!("page {index} is mapped with other bytes than are read").into());
            }
        }
    }
    Ok(format!("{}:{:016x}", bytes.len(), hash(&bytes)))
}

/// FNV-1a over words of eight bytes, the rest byte by byte.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, value: u64| (hash ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
        let word = word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let hash = step(hash, word);
        hash ^ hash >> 29
    });
    rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)))
}
