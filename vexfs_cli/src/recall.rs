//! `vexfs recall`: what searches with the index find of the exact answers, measured.

use serde_json::json;
use vexfs_search::stored::{Delta, Effort, Sample};
use vexfs_search::{Collection, StoredIndex};

use crate::arguments::{Common, Recall};
use crate::failure::Failure;
use crate::output;
use crate::search::plan::suffices;
use crate::site::Place;

pub(crate) fn run(arguments: &Recall, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    place.existing()?;
    let name = &place.name.collection;
    let index = StoredIndex::open(&place.directory)?;
    let index = index.ok_or_else(|| {
        Failure::new(format!("{name}: has no index, searches are exact; `vexfs index {name}` builds one"))
    })?;
    let collection = Collection::open(&place.directory)?;
    let delta = match index.generation() == collection.schema().generation {
        true => Delta::default(),
        false => index.delta(&collection)?,
    };
    let sample = Sample::take(&collection, arguments.queries, arguments.k, arguments.seed)?;
    if sample.is_empty() {
        return Err(Failure::new(format!("{name}: is empty, there is nothing to search with")));
    }
    let chosen = suffices(index.efforts(), arguments.min_recall);
    let mut measured = Vec::new();
    for effort in index.efforts() {
        measured.push((sample.measure(&index, &collection, &delta, *effort)?, chosen == Some(effort)));
    }
    show(arguments, common, &measured)?;
    match measured.iter().find(|(_, chosen)| *chosen) {
        Some((effort, _)) if effort.recall >= arguments.min_recall => Ok(()),
        Some((effort, _)) => Err(Failure::new(format!(
            "{name}: searches for a recall of {} find {:.4}; `vexfs index {name}` builds and measures the index anew",
            arguments.min_recall, effort.recall
        ))),
        None => {
            eprintln!("vexfs: {name}: no effort reaches {}: such searches are exact", arguments.min_recall);
            Ok(())
        }
    }
}

fn show(arguments: &Recall, common: &Common, measured: &[(Effort, bool)]) -> Result<(), Failure> {
    if common.json {
        return measured.iter().try_for_each(|(effort, chosen)| {
            Ok(output::line(&json!({
                "recall": effort.recall, "low": effort.low, "high": high(effort), "n": effort.queries,
                "k": arguments.k, "probes": effort.probes, "rerank": effort.rerank, "chosen": chosen,
            }))?)
        });
    }
    let recall = format!("RECALL@{}", arguments.k);
    let row = |(effort, chosen): &(Effort, bool)| {
        vec![
            effort.probes.to_string(),
            effort.rerank.to_string(),
            format!("{:.4}", effort.recall),
            format!("{:.4}", effort.low),
            format!("{:.4}", high(effort)),
            effort.queries.to_string(),
            if *chosen { "*" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = measured.iter().map(row).collect();
    output::table(&["LEAVES", "RERANKED", &recall, "LOW", "HIGH", "QUERIES", "USED"], &rows)?;
    Ok(())
}

fn high(effort: &Effort) -> f64 {
    (2.0 * effort.recall - effort.low).min(1.0)
}
