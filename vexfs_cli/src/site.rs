//! Which mount a command works on, and which collection an argument names.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use vexfs_host::mounts::{self, Mount};
use vexfs_search::{Element, Schema};

use crate::arguments::Common;
use crate::failure::Failure;

/// A mounted volume.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The root of the mount.
    pub(crate) root: PathBuf,
    /// Device number of the files on it.
    pub(crate) device: u64,
}

impl Site {
    /// The volume that a command without a file argument works on.
    pub(crate) fn choose(common: &Common) -> Result<Self, Failure> {
        if let Some(path) = &common.mount {
            return Self::of(path);
        }
        let here = std::env::current_dir().ok().and_then(|path| Self::find(&path).ok().flatten());
        if let Some(site) = here {
            return Ok(site);
        }
        let all = mounts::all().map_err(|error| Failure::io(Path::new("/proc/self/mountinfo"), &error))?;
        let mut mounted: Vec<Mount> = all.into_iter().filter(Mount::is_vexfs).collect();
        match (mounted.pop(), mounted.is_empty()) {
            (Some(mount), true) => Self::of(&mount.point),
            (Some(_), false) => Err(Failure::new(
                "several VexFS volumes are mounted; go into one, or name it with --mount DIR",
            )),
            (None, _) => Err(Failure::new("no VexFS volume is mounted; mount -t vexfs IMAGE DIR mounts one")),
        }
    }

    /// The volume that holds `path`.
    pub(crate) fn of(path: &Path) -> Result<Self, Failure> {
        let found = Self::find(path).map_err(|error| Failure::io(path, &error))?;
        found.ok_or_else(|| Failure::new(format!("{}: is not on a VexFS volume", path.display())))
    }

    fn find(path: &Path) -> io::Result<Option<Self>> {
        let path = path.canonicalize()?;
        let device = fs::metadata(&path)?.dev();
        let Some(mount) = mounts::of_path(&path, device)? else { return Ok(None) };
        let has_control = mount.point.join(".vexfs/collections").is_dir();
        Ok(has_control.then_some(Self { root: mount.point, device }))
    }

    /// The control directory.
    pub(crate) fn control(&self) -> PathBuf {
        self.root.join(".vexfs")
    }

    /// The directory of the collections.
    pub(crate) fn collections(&self) -> PathBuf {
        self.root.join(".vexfs/collections")
    }
}

/// A collection that an argument names; it may not exist yet.
#[derive(Debug)]
pub(crate) struct Place {
    /// The volume.
    pub(crate) site: Site,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Its name, and which vector.
    pub(crate) name: VectorName,
}

impl Place {
    /// The collection that `text` names: by its path, or by its name on the volume of `file` or of the command.
    pub(crate) fn new(text: &str, file: Option<&Path>, common: &Common) -> Result<Self, Failure> {
        let (parent, name) = match text.trim_end_matches('/').rsplit_once('/') {
            Some((parent, name)) => (Some(Path::new(parent)), name),
            None => (None, text),
        };
        let name = VectorName::parse(name)?;
        let (site, directory) = match (parent, file) {
            (Some(parent), _) => (Site::of(parent)?, parent.join(&name.collection)),
            (None, Some(file)) => {
                let site = Site::of(file)?;
                let directory = site.collections().join(&name.collection);
                (site, directory)
            }
            (None, None) => {
                let site = Site::choose(common)?;
                let directory = site.collections().join(&name.collection);
                (site, directory)
            }
        };
        Ok(Self { site, directory, name })
    }

    /// The schema, or `None` of a collection that does not exist.
    pub(crate) fn schema(&self) -> Result<Option<Schema>, Failure> {
        match Schema::read(&self.directory) {
            Ok(schema) => Ok(Some(schema)),
            Err(vexfs_search::Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The schema of a collection that must exist.
    pub(crate) fn existing(&self) -> Result<Schema, Failure> {
        let name = &self.name.collection;
        self.schema()?.ok_or_else(|| {
            let known = known(&self.site);
            Failure::new(format!("no collection `{name}` on {}{known}", self.site.root.display()))
        })
    }
}

// The names of the collections there are, for the end of a message.
fn known(site: &Site) -> String {
    let names = fs::read_dir(site.collections()).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    if names.is_empty() {
        "; vexfs create makes one".into()
    } else {
        format!("; there are: {}", names.join(", "))
    }
}

/// A vector's name: `<collection>[:<element>][.<n>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VectorName {
    /// Name of the collection.
    pub(crate) collection: String,
    /// The element type, if it is said.
    pub(crate) element: Option<Element>,
    /// Which vector of the file.
    pub(crate) n: u32,
}

impl VectorName {
    /// The bytes that may stand in a collection's name, as a person needs to know them.
    const RULE: &str = "a collection's name has 1 to 64 characters of A-Z a-z 0-9 _ -";

    /// Parses what follows `user.vector.` in an attribute's name.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let (head, n) = match text.split_once('.') {
            None => (text, 0),
            Some((head, digits)) => {
                let canonical = |n: &u32| n.to_string() == digits;
                let n = digits.parse().ok().filter(canonical);
                let wrong = || Failure::new(format!("`{text}`: behind the dot stands a number below 2^32"));
                (head, n.ok_or_else(wrong)?)
            }
        };
        let (collection, element) = match head.split_once(':') {
            None => (head, None),
            Some((collection, element)) => {
                let known = Element::from_name(element);
                let wrong =
                    || Failure::new(format!("`{element}` is no element type: f32, f16, i8, i16 or bit"));
                (collection, Some(known.ok_or_else(wrong)?))
            }
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if collection.is_empty() || collection.len() > 64 || !collection.bytes().all(fine) {
            return Err(Failure::new(format!("`{collection}`: {}{}", Self::RULE, suggestion(collection))));
        }
        Ok(Self { collection: collection.to_owned(), element, n })
    }

    /// The attribute's name.
    pub(crate) fn attribute(&self) -> String {
        let element = self.element.map(|element| format!(":{}", element.name())).unwrap_or_default();
        let n = if self.n == 0 { String::new() } else { format!(".{}", self.n) };
        format!("user.vector.{}{element}{n}", self.collection)
    }
}

// A name near to the one that was meant.
fn suggestion(name: &str) -> String {
    let near: String =
        name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    let near = near.trim_matches('-');
    match near.get(..near.len().min(64)) {
        Some(near) if !near.is_empty() => format!("; `{near}` would do"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_back() {
        for text in ["minilm", "clip:i8", "clip:i8.3", "a_B-9.4294967295"] {
            assert_eq!(VectorName::parse(text).unwrap().attribute(), format!("user.vector.{text}"));
        }
        assert_eq!(VectorName::parse("a.0").unwrap().attribute(), "user.vector.a");
        for text in ["", ".1", "a.", "a.01", "a.-1", "a.4294967296", "a:f64", "a b", "ä", &"x".repeat(65)] {
            assert!(VectorName::parse(text).is_err(), "{text}");
        }
        let words = VectorName::parse("all MiniLM").unwrap_err().to_string();
        assert!(words.ends_with("`all-MiniLM` would do"), "{words}");
    }

    #[test]
    fn what_is_not_on_a_volume_says_so() {
        let words = Site::of(Path::new("/proc/self")).unwrap_err().to_string();
        assert!(words.ends_with("is not on a VexFS volume"), "{words}");
    }
}
