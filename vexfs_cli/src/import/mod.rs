//! `vexfs import`: the vectors of a file become vectors of files on a volume.
//!
//! Which file a vector belongs to is told by a list of paths, in the vectors' order, or by the file of vectors itself.

mod list;
mod stream;

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use vexfs_search::{Element, Schema};

use self::list::{Numbers, Target};
use self::stream::{Done, Refused, Stream};
use crate::arguments::{Common, Import};
use crate::create;
use crate::failure::Failure;
use crate::formats::{self, Columns, Format, Shape, Source};
use crate::output;
use crate::site::Place;
use crate::value;
use crate::vector;

pub(crate) fn run(arguments: &Import, common: &Common) -> Result<(), Failure> {
    let format = arguments.format.map_or_else(|| Format::of(&arguments.vectors), Ok)?;
    let columns = Columns {
        vector: arguments.column.as_deref(),
        path: &arguments.path_column,
        number: &arguments.number_column,
        table: arguments.table.as_deref(),
    };
    let mut source = formats::open(format, &arguments.vectors, &columns)?;
    let mut paths = Paths::new(arguments, source.shape())?;
    let Some(first) = paths.next(&mut *source)? else {
        return Err(Failure::new("nothing to import: no rows"));
    };
    let place = Place::new(&arguments.collection, Some(&first.0.path), common)
        .map_err(|failure| Failure::new(format!("{}: {failure}", paths.place(Some(first.0.line)))))?;
    let schema = fitting_collection(&place, source.shape(), common)?;
    let started = Instant::now();
    let importer = Importer { place: &place, schema: &schema, descr: source.shape().descr.clone() };
    let done = importer.run(arguments, &mut *source, &mut paths, first)?;
    let seconds = started.elapsed().as_secs_f64();
    let Done { set, kept } = done;
    if common.json {
        let name = &place.name.collection;
        output::line(&json!({"collection": name, "set": set, "skipped": kept, "seconds": seconds}))?;
    } else {
        let rate = set as f64 / seconds.max(1e-9);
        let kept = if kept > 0 { format!(", {kept} were there already") } else { String::new() };
        println!("{}: {set} vectors set{kept} ({seconds:.1} s, {rate:.0} a second)", place.name.collection);
    }
    Ok(())
}

// The collection's schema; makes the collection if there is none.
fn fitting_collection(place: &Place, shape: &Shape, common: &Common) -> Result<Schema, Failure> {
    let name = &place.name.collection;
    if place.schema()?.is_none() {
        let element = place.name.element.unwrap_or_else(|| vector::element_of(&shape.descr));
        let dimensions = vector::dimensions(&shape.descr, shape.columns, element);
        let metric = if element == Element::Bit { "hamming" } else { "cosine" };
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
    let dimensions = vector::dimensions(&shape.descr, shape.columns, schema.element);
    if schema.dimensions != 0 && dimensions != schema.dimensions as u64 {
        let (holds, element) = (schema.dimensions, schema.element.name());
        return Err(Failure::new(format!(
            "collection {name} holds {holds} x {element}, the matrix has {} columns of {}",
            shape.columns, shape.descr
        )));
    }
    Ok(schema)
}

// Where the paths come from.
struct Paths<'a> {
    arguments: &'a Import,
    listed: Option<std::vec::IntoIter<Target>>,
    numbers: Numbers,
    rows: usize,
}

impl<'a> Paths<'a> {
    fn new(arguments: &'a Import, shape: &Shape) -> Result<Self, Failure> {
        let listed = match &arguments.paths {
            Some(list) => Some(list::read(list, arguments.base.as_deref())?),
            None if shape.has_paths => None,
            None => {
                return Err(Failure::new(format!(
                    "{} tells no paths: give them in its vectors' order, one a line, with --paths LIST \
                     (or say which column they are in with --path-column)",
                    arguments.vectors.display()
                )));
            }
        };
        let lines = listed.as_ref().map_or(0, Vec::len);
        if listed.is_some() && shape.rows.is_some_and(|rows| rows != lines as u64) {
            let rows = shape.rows.unwrap_or(0);
            let (vectors, paths) = (arguments.vectors.display(), Self::list(arguments).display());
            return Err(Failure::new(format!("{vectors} has {rows} rows, but {paths} has {lines} paths")));
        }
        let listed = listed.map(Vec::into_iter);
        Ok(Self { arguments, listed, numbers: Numbers::default(), rows: 0 })
    }

    fn list(arguments: &Import) -> &Path {
        arguments.paths.as_deref().unwrap_or(Path::new(""))
    }

    // The next vector, and whose it is.
    fn next(&mut self, source: &mut dyn Source) -> Result<Option<(Target, Vec<u8>)>, Failure> {
        let Some(row) = source.next()? else {
            let left = self.listed.as_ref().map_or(0, |listed| listed.len());
            return match left {
                0 => Ok(None),
                left => Err(Failure::new(format!("the list has {left} paths more than there are vectors"))),
            };
        };
        self.rows += 1;
        let target = match &mut self.listed {
            Some(listed) => listed.next().ok_or_else(|| Failure::new("there are more vectors than paths"))?,
            None => {
                let path = row.path.as_deref().ok_or_else(|| {
                    Failure::new(format!(
                        "{} row {}: has no path",
                        self.arguments.vectors.display(),
                        self.rows
                    ))
                })?;
                let n = self.numbers.next(path, row.n);
                let base = self.arguments.base.as_deref().unwrap_or(Path::new(""));
                Target { path: base.join(path), n, line: self.rows }
            }
        };
        Ok(Some((target, row.vector.into_owned())))
    }

    // Where a path stands, for a message.
    fn place(&self, line: Option<usize>) -> String {
        match (&self.arguments.paths, line) {
            (Some(list), Some(line)) => format!("{} line {line}", list.display()),
            (Some(list), None) => list.display().to_string(),
            (None, Some(row)) => format!("{} row {row}", self.arguments.vectors.display()),
            (None, None) => self.arguments.vectors.display().to_string(),
        }
    }
}

struct Importer<'a> {
    place: &'a Place,
    schema: &'a Schema,
    descr: String,
}

impl Importer<'_> {
    // Sets every vector; gives how many were set and how many left alone.
    fn run(
        &self,
        arguments: &Import,
        source: &mut dyn Source,
        paths: &mut Paths<'_>,
        first: (Target, Vec<u8>),
    ) -> Result<Done, Failure> {
        let bar = progress_bar(source.shape().rows);
        let mut done = Done::default();
        let result = self.all(arguments, source, paths, first, &mut |more| {
            done.set += more.set;
            done.kept += more.kept;
            bar.inc(more.set + more.kept);
        });
        match result {
            Ok(()) => bar.finish_and_clear(),
            Err(Refused { line, failure }) => {
                bar.abandon();
                let rest = if done.set + done.kept > 0 {
                    "; what came before its batch is set: after mending it, --skip-existing goes on from here"
                } else {
                    ""
                };
                return Err(Failure::new(format!("{}: {failure}{rest}", paths.place(line))));
            }
        }
        Ok(done)
    }

    fn all(
        &self,
        arguments: &Import,
        source: &mut dyn Source,
        paths: &mut Paths<'_>,
        first: (Target, Vec<u8>),
        report: &mut dyn FnMut(Done),
    ) -> Result<(), Refused> {
        let mut stream = Stream::open(self.place, arguments.skip_existing)?;
        let mut next = Some(first);
        while let Some((target, bytes)) = next {
            let bytes = vector::encode(&self.descr, &bytes, self.schema.element).map_err(Failure::new);
            let checked = bytes.and_then(|bytes| {
                let name = &self.place.name;
                value::check(&name.collection, Some(self.schema), name.element, &bytes).map(|()| bytes)
            });
            let bytes = match checked {
                Ok(bytes) => bytes,
                // What came before is set, so that an import can go on from the line that is told.
                Err(failure) => {
                    stream.finish(report)?;
                    return Err(Refused { line: Some(target.line), failure });
                }
            };
            stream.push(&target, &bytes, report)?;
            next = paths.next(source)?;
        }
        stream.finish(report)
    }
}

fn progress_bar(rows: Option<u64>) -> ProgressBar {
    let (bar, template) = match rows {
        Some(rows) => (ProgressBar::new(rows), "{bar:30} {pos}/{len} vectors, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} vectors, {per_sec}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
