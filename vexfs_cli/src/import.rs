//! `vexfs import`: the rows of an npy matrix become the vectors of the files in a list.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use memmap2::Mmap;
use serde_json::json;
use vexfs_search::Schema;
use vexfs_search::npy::Header;

use crate::arguments::{Common, Import};
use crate::create;
use crate::failure::Failure;
use crate::output;
use crate::site::{Place, VectorName};
use crate::value;
use crate::vector;
use crate::xattr;

pub(crate) fn run(arguments: &Import, common: &Common) -> Result<(), Failure> {
    let matrix = Matrix::open(&arguments.vectors)?;
    let list = List::read(arguments)?;
    if list.targets.len() as u64 != matrix.rows {
        let (rows, lines) = (matrix.rows, list.targets.len());
        let (vectors, paths) = (arguments.vectors.display(), arguments.paths.display());
        return Err(Failure::new(format!("{vectors} has {rows} rows, but {paths} has {lines} paths")));
    }
    let Some(first) = list.targets.first() else { return Err(Failure::new("nothing to import: no rows")) };
    let place = Place::new(&arguments.collection, Some(&first.path), common)
        .map_err(|failure| Failure::new(format!("{} line 1: {failure}", arguments.paths.display())))?;
    let schema = fitting_collection(&place, &matrix, common)?;
    let started = Instant::now();
    let (set, skipped) =
        Importer { arguments, matrix: &matrix, place: &place, schema: &schema }.run(&list)?;
    let seconds = started.elapsed().as_secs_f64();
    if common.json {
        let name = &place.name.collection;
        output::line(&json!({"collection": name, "set": set, "skipped": skipped, "seconds": seconds}))?;
    } else {
        let rate = set as f64 / seconds.max(1e-9);
        let kept = if skipped > 0 { format!(", {skipped} were there already") } else { String::new() };
        println!("{}: {set} vectors set{kept} ({seconds:.1} s, {rate:.0} a second)", place.name.collection);
    }
    Ok(())
}

// The collection's schema; makes the collection if there is none.
fn fitting_collection(place: &Place, matrix: &Matrix, common: &Common) -> Result<Schema, Failure> {
    let name = &place.name.collection;
    if place.schema()?.is_none() {
        let element = place.name.element.unwrap_or_else(|| vector::element_of(&matrix.descr));
        let dimensions = vector::dimensions(&matrix.descr, matrix.columns, element);
        let metric = if element == vexfs_search::Element::Bit { "hamming" } else { "cosine" };
        let settings = [
            ("element", element.name().to_owned()),
            ("dim", dimensions.to_string()),
            ("metric", metric.to_owned()),
        ];
        create::make(place, &settings)?;
        if !common.json {
            println!("{name}: collection made: {dimensions} x {}, {metric}", element.name());
        }
    }
    let schema = place.existing()?;
    let dimensions = vector::dimensions(&matrix.descr, matrix.columns, schema.element);
    if schema.dimensions != 0 && dimensions != schema.dimensions as u64 {
        let (holds, element) = (schema.dimensions, schema.element.name());
        return Err(Failure::new(format!(
            "collection {name} holds {holds} x {element}, the matrix has {} columns of {}",
            matrix.columns, matrix.descr
        )));
    }
    Ok(schema)
}

struct Importer<'a> {
    arguments: &'a Import,
    matrix: &'a Matrix,
    place: &'a Place,
    schema: &'a Schema,
}

impl Importer<'_> {
    // Sets every vector; gives how many were set and how many left alone.
    fn run(&self, list: &List) -> Result<(u64, u64), Failure> {
        let bar = progress_bar(self.matrix.rows);
        let (mut set, mut skipped) = (0, 0);
        for (row, target) in list.targets.iter().enumerate() {
            let done = self.one(row, target).map_err(|failure| {
                bar.abandon();
                let rest = if set + skipped > 0 {
                    "; after mending it, --skip-existing goes on from here"
                } else {
                    ""
                };
                Failure::new(format!(
                    "{} line {}: {failure}{rest}",
                    self.arguments.paths.display(),
                    target.line
                ))
            })?;
            if done {
                set += 1
            } else {
                skipped += 1
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok((set, skipped))
    }

    fn one(&self, row: usize, target: &Target) -> Result<bool, Failure> {
        let name = VectorName { n: target.n, ..self.place.name.clone() };
        let attribute = name.attribute();
        let failed = |error: io::Error| value::explain(&target.path, &attribute, &self.place.site, &error);
        if self.arguments.skip_existing && xattr::exists(&target.path, &attribute).map_err(failed)? {
            return Ok(false);
        }
        let bytes = vector::encode(&self.matrix.descr, self.matrix.row(row)?, self.schema.element);
        let bytes = bytes.map_err(Failure::new)?;
        value::check(&name.collection, Some(self.schema), name.element, &bytes)?;
        xattr::set(&target.path, &attribute, &bytes).map_err(failed)?;
        Ok(true)
    }
}

// A file, which vector of it, and the line that named it.
struct Target {
    path: PathBuf,
    n: u32,
    line: usize,
}

struct List {
    targets: Vec<Target>,
}

impl List {
    fn read(arguments: &Import) -> Result<Self, Failure> {
        let is_stdin = arguments.paths == Path::new("-");
        let mut text = String::new();
        let read = if is_stdin {
            io::stdin().read_to_string(&mut text).map(drop)
        } else {
            fs::read_to_string(&arguments.paths).map(|read| text = read)
        };
        read.map_err(|error| Failure::io(&arguments.paths, &error))?;
        let beside = if is_stdin { None } else { arguments.paths.parent() };
        let base = arguments.base.as_deref().or(beside).unwrap_or(Path::new(""));
        Ok(Self { targets: targets(&text, base) })
    }
}

// Empty lines have no row. A path that occurs again gets the file's next vector.
fn targets(text: &str, base: &Path) -> Vec<Target> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(index, line)| {
            let told = line.rsplit_once('\t').and_then(|(path, n)| Some((path, n.parse::<u32>().ok()?)));
            let (path, n) = told.unwrap_or_else(|| (line, seen.get(line).copied().unwrap_or(0)));
            seen.insert(path, n.saturating_add(1));
            Target { path: base.join(path), n, line: index + 1 }
        })
        .collect()
}

// A mapped npy matrix.
struct Matrix {
    map: Mmap,
    descr: String,
    data: usize,
    rows: u64,
    columns: u64,
    row_len: usize,
}

impl Matrix {
    fn open(path: &Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| Failure::io(path, &error))?;
        // SAFETY: the map is only read, as bytes. If another program shortens the file meanwhile, this program is
        // ended by SIGBUS: an import of a matrix that is being rewritten has no meaning anyway.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Failure::io(path, &error))?;
        let wrong = |why: String| Failure::new(format!("{}: {why}", path.display()));
        let header = Header::parse(&map).map_err(wrong)?;
        let [rows, columns] = header.shape[..] else {
            return Err(wrong(format!(
                "has {} dimensions; a matrix of one row a vector is needed",
                header.shape.len()
            )));
        };
        header.matrix().map_err(wrong)?;
        let width = vector::width(&header.descr).map_err(wrong)?;
        let row_len = usize::try_from(columns).ok().and_then(|columns| columns.checked_mul(width));
        let row_len = row_len.ok_or_else(|| wrong("too many columns".into()))?;
        let len = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(row_len));
        let end = len.and_then(|len| len.checked_add(header.data));
        if end.is_none_or(|end| end > map.len()) {
            return Err(wrong(format!("is too short for {rows} rows of {row_len} bytes; was it cut off?")));
        }
        Ok(Self { map, descr: header.descr, data: header.data, rows, columns, row_len })
    }

    fn row(&self, row: usize) -> Result<&[u8], Failure> {
        let start = self.data + row * self.row_len;
        self.map.get(start..start + self.row_len).ok_or_else(|| Failure::new("the matrix became shorter"))
    }
}

fn progress_bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    let template = "{bar:30} {pos}/{len} vectors, {per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
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
