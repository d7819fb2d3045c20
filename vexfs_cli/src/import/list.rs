//! The list of paths that goes with vectors that do not tell theirs.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A file, and which vector of it.
pub(super) struct Target {
    /// The file.
    pub(super) path: PathBuf,
    /// Which vector of the file.
    pub(super) n: u32,
    /// What named it: a line of the list, or a row of the vectors.
    pub(super) line: usize,
}

/// Reads a list, from stdin if it is `-`; relative paths are relative to `base`, or to the list's directory.
pub(super) fn read(list: &Path, base: Option<&Path>) -> Result<Vec<Target>, Failure> {
    let is_stdin = list == Path::new("-");
    let mut text = String::new();
    let read = if is_stdin {
        io::stdin().read_to_string(&mut text).map(drop)
    } else {
        fs::read_to_string(list).map(|read| text = read)
    };
    read.map_err(|error| Failure::io(list, &error))?;
    let beside = if is_stdin { None } else { list.parent() };
    let base = base.or(beside).unwrap_or(Path::new(""));
    Ok(targets(&text, base))
}

// Empty lines have no row. A path that occurs again gets the file's next vector.
fn targets(text: &str, base: &Path) -> Vec<Target> {
    let mut numbers = Numbers::default();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            let told = line.rsplit_once('\t').and_then(|(path, n)| Some((path, n.parse::<u32>().ok()?)));
            let (path, n) = match told {
                Some((path, n)) => (path, numbers.next(path, Some(n))),
                None => (line, numbers.next(line, None)),
            };
            Target { path: base.join(path), n, line: index + 1 }
        })
        .collect()
}

/// Which vector of its file comes next, by path.
#[derive(Default)]
pub(super) struct Numbers(HashMap<String, u32>);

impl Numbers {
    /// The number of a path's next vector: the one that is told, or the one after the last.
    pub(super) fn next(&mut self, path: &str, told: Option<u32>) -> u32 {
        match self.0.get_mut(path) {
            Some(next) => {
                let n = told.unwrap_or(*next);
                *next = n.saturating_add(1);
                n
            }
            None => {
                let n = told.unwrap_or(0);
                self.0.insert(path.to_owned(), n.saturating_add(1));
                n
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_files_and_vectors() {
        let targets = targets("a\n\nb c\na\na\t7\na\n/abs\n", Path::new("/mnt"));
        let got: Vec<(&str, u32, usize)> =
            targets.iter().map(|target| (target.path.to_str().unwrap(), target.n, target.line)).collect();
        let expected = [
            ("/mnt/a", 0, 1),
            ("/mnt/b c", 0, 3),
            ("/mnt/a", 1, 4),
            ("/mnt/a", 7, 5),
            ("/mnt/a", 8, 6),
            ("/abs", 0, 7),
        ];
        assert_eq!(got, expected);
    }
}
