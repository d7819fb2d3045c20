//! `vexfs search`: the exact nearest neighbours, by the paths of their files.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use vexfs_search::{Collection, Hit, Query};

use crate::arguments::{Common, Search};
use crate::failure::Failure;
use crate::output;
use crate::paths::Paths;
use crate::site::{Place, VectorName};
use crate::value;
use crate::vector::Given;
use crate::xattr;

pub(crate) fn run(arguments: &Search, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, arguments.like.as_deref(), common)?;
    place.existing()?;
    let collection = Collection::open(&place.directory)?;
    let schema = collection.schema();
    let metric = arguments.metric.map_or(schema.metric, Into::into);
    let (query, own) = match (&arguments.like, &arguments.vector) {
        (Some(file), _) => {
            let own = fs::metadata(file).map_err(|error| Failure::io(file, &error))?.ino();
            (Query::from_bytes(&collection, &vector_of(file, &place)?, metric)?, Some(own))
        }
        (None, Some(vector)) => {
            let values = Given::read(vector)?.values(schema).map_err(Failure::new)?;
            (Query::new(&collection, &values, metric)?, None)
        }
        (None, None) => return Err(Failure::new("give --like FILE or --vector VECTOR")),
    };
    let found = reachable(&place, &collection, &query, arguments.k, own)?;
    if common.json {
        for (hit, path) in &found {
            let path = path.to_string_lossy();
            output::line(
                &json!({"path": path, "score": hit.score, "row": hit.row, "metric": metric.name()}),
            )?;
        }
        return Ok(());
    }
    let row =
        |(hit, path): &(Hit, PathBuf)| vec![format!("{:.4}", hit.score), path.to_string_lossy().into_owned()];
    let score = if metric.is_distance() { "DISTANCE" } else { "SCORE" };
    output::table(&[score, "FILE"], &found.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

fn vector_of(file: &Path, place: &Place) -> Result<Vec<u8>, Failure> {
    let attribute = VectorName { element: None, ..place.name.clone() }.attribute();
    let value = xattr::get(file, &attribute);
    let value = value.map_err(|error| value::explain(file, &attribute, &place.site, &error))?;
    let name = &place.name.collection;
    value.ok_or_else(|| Failure::new(format!("{}: has no vector in collection `{name}`", file.display())))
}

// The k nearest rows whose files the caller can reach, without those of the file `own`. Asks for more and more
// until there are k, or no more rows.
fn reachable(
    place: &Place,
    collection: &Collection,
    query: &Query,
    k: usize,
    own: Option<u64>,
) -> Result<Vec<(Hit, PathBuf)>, Failure> {
    let headers = collection.headers()?;
    let mut wanted = k.saturating_add(8);
    loop {
        let hits = collection.nearest(query, wanted);
        let mut inodes = HashMap::new();
        for hit in &hits {
            // A row that was freed since the scan has no file any more.
            let inode = headers.file_inode(hit.row)?;
            if inode != 0 && Some(inode) != own {
                inodes.insert(hit.row, inode);
            }
        }
        let paths = Paths::find(&place.site, inodes.values().copied());
        let path = |hit: &Hit| Some((*hit, paths.of(*inodes.get(&hit.row)?)?.to_owned()));
        let found: Vec<(Hit, PathBuf)> = hits.iter().filter_map(path).take(k).collect();
        if found.len() == k || hits.len() < wanted {
            return Ok(found);
        }
        wanted = wanted.saturating_mul(4);
    }
}
