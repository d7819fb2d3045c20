//! `vexfs export`: the live rows of a collection as an npy matrix, and the paths of their files.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::json;
use vexfs_search::npy::Header;
use vexfs_search::{Decoded, Element, Schema};

use crate::arguments::{Common, Export};
use crate::failure::Failure;
use crate::output;
use crate::paths::Paths;
use crate::site::{Place, Site, VectorName};
use crate::xattr;

pub(crate) fn run(arguments: &Export, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let collection = Decoded::open(&place.directory)?;
    let named = match &arguments.paths {
        Some(path) => Some((Names::new(&place, &collection)?, path)),
        None => None,
    };
    let mut matrix = MatrixFile::create(&arguments.output, collection.schema())?;
    let mut lines = String::new();
    let mut unnamed = 0_u64;
    for row in 0..collection.rows() {
        let Some(vector) = collection.vector(row)? else { continue };
        match named.as_ref().map(|(names, _)| names.line(row, &vector)) {
            Some(None) => {
                unnamed += 1;
                continue;
            }
            Some(Some(line)) => lines.push_str(&line),
            None => {}
        }
        matrix.push(&vector)?;
    }
    let rows = matrix.finish()?;
    if let Some((_, path)) = named {
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

// The matrix being written; its header is written last, when the rows are counted.
struct MatrixFile<'a> {
    path: &'a Path,
    out: BufWriter<File>,
    element: Element,
    columns: u64,
    header_len: usize,
    rows: u64,
}

impl<'a> MatrixFile<'a> {
    fn create(path: &'a Path, schema: &Schema) -> Result<Self, Failure> {
        let failed = |error| Failure::io(path, &error);
        let mut out = BufWriter::new(File::create(path).map_err(failed)?);
        let columns = (schema.vector_len() / schema.element.width()) as u64;
        let header = Header::render(schema.element.descr(), &[0, columns]);
        out.write_all(&header).map_err(failed)?;
        Ok(Self { path, out, element: schema.element, columns, header_len: header.len(), rows: 0 })
    }

    fn push(&mut self, vector: &[u8]) -> Result<(), Failure> {
        self.rows += 1;
        self.out.write_all(vector).map_err(|error| Failure::io(self.path, &error))
    }

    fn finish(mut self) -> Result<u64, Failure> {
        let header = Header::render(self.element.descr(), &[self.rows, self.columns]);
        if header.len() != self.header_len {
            return Err(Failure::new("the npy header does not fit its place"));
        }
        let mut write = || {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.flush()
        };
        write().map_err(|error| Failure::io(self.path, &error))?;
        Ok(self.rows)
    }
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

    // The line of a row: the path, and behind a tab the vector's number if it is not 0.
    fn line(&self, row: usize, vector: &[u8]) -> Option<String> {
        let inode = *self.inodes.get(row)?;
        let path = self.paths.of(inode)?;
        let text = path.to_str().filter(|text| !text.contains('\n'))?;
        let n = if self.several.contains_key(&inode) { self.number(path, vector)? } else { self.only(path) };
        Some(if n == 0 { format!("{text}\n") } else { format!("{text}\t{n}\n") })
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
