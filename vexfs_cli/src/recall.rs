//! `vexfs recall`: what searches with the index find of the exact answers, measured.

use serde_json::json;
use vexfs_search::plan::suffices;
use vexfs_search::stored::{Delta, Effort, Kind, Sample};
use vexfs_search::{Collection, StoredIndex};

use crate::arguments::{Common, Recall};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

pub(crate) fn run(arguments: &Recall, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let name = &place.name.collection;
    let mut indexes = Vec::new();
    for kind in Kind::ALL {
        indexes.extend(StoredIndex::open(&place.directory, kind)?);
    }
    if indexes.is_empty() {
        let words = format!("{name}: has no index, searches are exact; `vexfs index {name}` builds one");
        return Err(Failure::new(words));
    }
    let collection = Collection::open(&place.directory)?;
    let sample = Sample::take(&collection, arguments.queries, arguments.k, arguments.seed)?;
    if sample.is_empty() {
        return Err(Failure::new(format!("{name}: is empty, there is nothing to search with")));
    }
    let mut measured = Vec::new();
    for index in &indexes {
        let delta = match index.generation() == collection.schema().generation {
            true => Delta::default(),
            false => index.delta(&collection)?,
        };
        let chosen = suffices(index.efforts(), arguments.min_recall);
        for effort in index.efforts() {
            let chosen = chosen == Some(effort);
            let effort = sample.measure(index, &collection, &delta, *effort)?;
            measured.push(Measured { kind: index.kind(), effort, chosen });
        }
    }
    show(arguments, common, &measured)?;
    for Measured { kind, effort, .. } in measured.iter().filter(|measured| measured.chosen) {
        if effort.recall < arguments.min_recall {
            return Err(Failure::new(format!(
                "{name}: searches for a recall of {} with the {} index find {:.4}; `vexfs index {name}` builds and \
                 measures it anew",
                arguments.min_recall,
                kind.name(),
                effort.recall
            )));
        }
    }
    if !measured.iter().any(|measured| measured.chosen) {
        eprintln!("vexfs: {name}: no effort reaches {}: such searches are exact", arguments.min_recall);
    }
    Ok(())
}

/// What an effort of an index finds now.
struct Measured {
    kind: Kind,
    effort: Effort,
    /// True if searches make it.
    chosen: bool,
}

fn show(arguments: &Recall, common: &Common, measured: &[Measured]) -> Result<(), Failure> {
    if common.json {
        return measured.iter().try_for_each(|Measured { kind, effort, chosen }| {
            Ok(output::line(&json!({
                "kind": kind.name(), "recall": effort.recall, "low": effort.low, "high": high(effort),
                "n": effort.queries, "k": arguments.k, "probes": effort.probes, "pool": effort.pool,
                "rerank": effort.rerank, "ms": effort.ns as f64 / 1e6, "chosen": chosen,
            }))?)
        });
    }
    let recall = format!("RECALL@{}", arguments.k);
    let row = |Measured { kind, effort, chosen }: &Measured| {
        vec![
            kind.name().to_owned(),
            effort.probes.to_string(),
            effort.pool.to_string(),
            effort.rerank.to_string(),
            format!("{:.4}", effort.recall),
            format!("{:.4}", effort.low),
            format!("{:.4}", high(effort)),
            effort.queries.to_string(),
            format!("{:.3}", effort.ns as f64 / 1e6),
            if *chosen { "*" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = measured.iter().map(row).collect();
    let titles = ["INDEX", "LEAVES", "POOL", "RERANKED", &recall, "LOW", "HIGH", "QUERIES", "MS", "USED"];
    output::table(&titles, &rows)?;
    Ok(())
}

fn high(effort: &Effort) -> f64 {
    (2.0 * effort.recall - effort.low).min(1.0)
}
