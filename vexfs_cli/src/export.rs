//! `vexfs export`: the live rows of a collection as a file of vectors, and the paths of their files.

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;
use vexfs_search::Decoded;

use crate::arguments::{Common, Export};
use crate::failure::Failure;
use crate::formats::{self, Format, Out};
use crate::output;
use crate::paths::Paths;
use crate::site::{Place, Site, VectorName};
use crate::xattr;

pub(crate) fn run(arguments: &Export, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let collection = Decoded::open(&place.directory)?;
    let format = arguments.format.map_or_else(|| Format::of(&arguments.output), Ok)?;
    let wanted = arguments.paths.is_some() || format.has_paths();
    let names = if wanted { Some(Names::new(&place, &collection)?) } else { None };
    let mut sink = formats::create(format, &arguments.output, collection.schema())?;
    let mut lines = String::new();
    let mut rows = 0_u64;
    let mut unnamed = 0_u64;
    for row in 0..collection.rows() {
        let Some(vector) = collection.vector(row)? else { continue };
        let name = names.as_ref().map(|names| names.of(row, &vector));
        let (path, n) = match &name {
            Some(None) => {
                unnamed += 1;
                continue;
            }
            Some(Some((path, n))) => (*path, *n),
            None => ("", 0),
        };
        if arguments.paths.is_some() {
            lines.push_str(&if n == 0 { format!("{path}\n") } else { format!("{path}\t{n}\n") });
        }
        sink.push(&Out { vector: &vector, path, n })?;
        rows += 1;
    }
    sink.finish()?;
    if let Some(path) = &arguments.paths {
        std::fs::write(path, lines).map_err(|error| Failure::io(path, &error))?;
    }
    if unnamed > 0 {
        eprintln!("vexfs: {unnamed} vectors left out: no path that you can reach leads to their files");
    }
    if common.json {
        output::line(&json!({"collection": place.name.collection, "rows": rows, "left_out": unnamed}))?;
    } else {
        println!("{}: {rows} vectors", arguments.output.display());
    }
    Ok(())
}

// What the path list says of each row.
struct Names {
    site: Site,
    name: VectorName,
    inodes: Vec<u64>,
    /// Rows that a file has, for files with several.
    several: HashMap<u64, u32>,
    paths: Paths,
}

impl Names {
    fn new(place: &Place, collection: &Decoded) -> Result<Self, Failure> {
        let inodes: Vec<u64> = (0..collection.rows()).map(|row| collection.file_inode(row)).collect();
        let mut several: HashMap<u64, u32> = HashMap::new();
        inodes.iter().filter(|inode| **inode != 0).for_each(|inode| *several.entry(*inode).or_default() += 1);
        let site = Site { root: place.site.root.clone(), device: place.site.device };
        let paths = Paths::find(&site, several.keys().copied());
        several.retain(|_, count| *count > 1);
        Ok(Self { site, name: place.name.clone(), inodes, several, paths })
    }

    // The path of a row's file, and which of its vectors it is.
    fn of(&self, row: usize, vector: &[u8]) -> Option<(&str, u32)> {
        let inode = *self.inodes.get(row)?;
        let path = self.paths.of(inode)?;
        let text = path.to_str().filter(|text| !text.contains('\n'))?;
        let n = if self.several.contains_key(&inode) { self.number(path, vector)? } else { self.only(path) };
        Some((text, n))
    }

    // Which of the file's vectors has these bytes: the headers do not tell the number.
    fn number(&self, path: &Path, vector: &[u8]) -> Option<u32> {
        let file = self.site.root.join(path);
        let same = |n: &u32| {
            let name = VectorName { n: *n, ..self.name.clone() };
            xattr::get(&file, &name.attribute()).is_ok_and(|value| value.as_deref() == Some(vector))
        };
        self.numbers(&file).into_iter().find(same)
    }

    fn only(&self, path: &Path) -> u32 {
        self.numbers(&self.site.root.join(path)).first().copied().unwrap_or(0)
    }

    fn numbers(&self, file: &Path) -> Vec<u32> {
        let names = xattr::list(file).unwrap_or_default();
        let parsed =
            names.iter().filter_map(|name| VectorName::parse(name.strip_prefix("user.vector.")?).ok());
        let mut numbers: Vec<u32> =
            parsed.filter(|name| name.collection == self.name.collection).map(|name| name.n).collect();
        numbers.sort_unstable();
        numbers
    }
}
