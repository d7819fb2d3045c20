//! How fast conditions choose rows: `bench_filter DIRECTORY`, where DIRECTORY holds a collection's files, mounted or copied.
//!
//! Reads conditions from stdin, a line each; prints the seconds of parsing and evaluating it once, and the rows chosen.

use std::io::BufRead;
use std::path::Path;
use std::time::Instant;

use vexfs_search::filter::{FileField, FileFields, Scalar, Table};
use vexfs_search::{Collection, Result};

struct NoFiles;

impl FileFields for NoFiles {
    fn file(&self, _: FileField, wanted: &[u8]) -> Result<Vec<Option<Scalar>>> {
        Ok(vec![None; wanted.len()])
    }

    fn attribute(&self, _: &str, wanted: &[u8]) -> Result<Vec<Option<Scalar>>> {
        Ok(vec![None; wanted.len()])
    }
}

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, directory] = arguments.as_slice() else { return Err("bench_filter DIRECTORY".into()) };
    let directory = Path::new(directory);
    let live: Vec<u8> = Collection::inodes(directory)?.iter().map(|inode| u8::from(*inode != 0)).collect();
    let table = Table::open(directory, live.len(), &NoFiles)?;
    for condition in std::io::stdin().lock().lines() {
        let condition = condition?;
        let start = Instant::now();
        let chosen = table.filter(&condition)?.rows(&table, &live)?;
        println!("{:e} {}", start.elapsed().as_secs_f64(), chosen.len());
    }
    Ok(())
}
