//! From inode numbers to paths: a walk over the mount, as the caller, which so finds only what the caller can reach.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::site::Site;

/// Paths of files by inode number, relative to the mount.
#[derive(Debug, Default)]
pub(crate) struct Paths(HashMap<u64, PathBuf>);

impl Paths {
    /// Looks for all of `wanted`; stops once every one is found.
    pub(crate) fn find(site: &Site, wanted: impl IntoIterator<Item = u64>) -> Self {
        let mut open: HashSet<u64> = wanted.into_iter().collect();
        let mut found = HashMap::new();
        if !open.is_empty() {
            walk(site, PathBuf::new(), |inode, path| {
                if open.remove(&inode) {
                    found.insert(inode, path.to_owned());
                }
                !open.is_empty()
            });
        }
        Self(found)
    }

    /// All that the caller can reach below a directory, which is relative to the mount; the first path of each.
    pub(crate) fn below(site: &Site, directory: &Path) -> Self {
        let mut found = HashMap::new();
        walk(site, directory.to_owned(), |inode, path| {
            found.entry(inode).or_insert_with(|| path.to_owned());
            true
        });
        Self(found)
    }

    /// True if the caller can reach the file.
    pub(crate) fn has(&self, inode: u64) -> bool {
        self.0.contains_key(&inode)
    }

    /// The path of a file.
    pub(crate) fn of(&self, inode: u64) -> Option<&Path> {
        self.0.get(&inode).map(PathBuf::as_path)
    }
}

// Shows each entry below `start` until `go_on` is false.
fn walk(site: &Site, start: PathBuf, mut go_on: impl FnMut(u64, &Path) -> bool) {
    let mut directories = vec![start];
    while let Some(directory) = directories.pop() {
        // What cannot be opened cannot be reached, and so is not shown.
        let Ok(entries) = fs::read_dir(site.root.join(&directory)) else { continue };
        for entry in entries.flatten() {
            let path = directory.join(entry.file_name());
            if path == Path::new(".vexfs") {
                continue;
            }
            if !go_on(entry.ino(), &path) {
                return;
            }
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && is_below(site, &path) {
                directories.push(path);
            }
        }
    }
}

// Not another filesystem mounted there.
fn is_below(site: &Site, path: &Path) -> bool {
    fs::symlink_metadata(site.root.join(path)).is_ok_and(|file| file.dev() == site.device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_inode() {
        let root = std::env::temp_dir().join(format!("vexfs_cli-paths-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/c"), b"").unwrap();
        let inode = fs::metadata(root.join("a/b/c")).unwrap().ino();
        let site = Site { device: fs::metadata(&root).unwrap().dev(), root: root.clone() };
        let paths = Paths::find(&site, [inode, u64::MAX]);
        assert!(Paths::below(&site, Path::new("a/b")).has(inode));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(paths.of(inode), Some(Path::new("a/b/c")));
        assert_eq!(paths.of(u64::MAX), None);
    }
}
