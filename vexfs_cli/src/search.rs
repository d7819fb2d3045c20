//! `vexfs search`: the nearest neighbours, by the paths of their files.

mod reach;
mod text;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use vexfs_search::codec::Coder;
use vexfs_search::{Collection, Metric, Options, Plan, Query, Way, Wish};

use crate::arguments::{Common, Search};
use crate::failure::Failure;
use crate::output;
use crate::site::{Place, VectorName};
use crate::table;
use crate::value;
use crate::vector::Given;
use crate::xattr;
use reach::{Found, Reach};

const K: usize = 10;
/// From this cosine on two files are near duplicates.
const DUPLICATE: f32 = 0.95;

pub(crate) fn run(arguments: &Search, common: &Common) -> Result<(), Failure> {
    if arguments.k == Some(0) {
        return Err(Failure::new("-k 0 finds nothing: ask for 1 or more, or for all with --all"));
    }
    let beside = arguments.like.as_deref().or(arguments.within.as_deref());
    let place = Place::new(&arguments.collection, beside, common)?;
    place.existing()?;
    let collection = Collection::open(&place.directory)?;
    if collection.schema().live == 0 {
        eprintln!("vexfs: collection `{}` is empty", place.name.collection);
        return Ok(());
    }
    let metric = arguments.metric.map_or(collection.schema().metric, Into::into);
    let filter = arguments.condition.as_deref().map(|text| table::choose(&place, text)).transpose()?;
    let k = if arguments.all || arguments.duplicates { usize::MAX } else { arguments.k.unwrap_or(K) };
    let way = match arguments.index {
        _ if arguments.exact => Way::Exact,
        Some(choice) => Way::Index(choice.kind()),
        None => Way::Fastest,
    };
    let mut plan = Plan::choose(&collection, Wish { metric, k, min_recall: arguments.min_recall, way })?;
    warn(&mut plan);
    let reach = Reach::new(&place, &collection, plan, arguments.within.as_deref(), filter)?;
    if arguments.duplicates {
        duplicates(arguments, common, metric, reach)
    } else {
        neighbours(arguments, common, metric, k, &place, reach)
    }
}

// Tells what the plan has to say of indexes.
fn warn(plan: &mut Plan) {
    for warning in plan.take_warnings() {
        eprintln!("vexfs: {warning}");
    }
}

fn neighbours(
    arguments: &Search,
    common: &Common,
    metric: Metric,
    k: usize,
    place: &Place,
    mut reach: Reach<'_>,
) -> Result<(), Failure> {
    let (query, own) = query(arguments, place, reach.collection, metric)?;
    let min_score = least(arguments, metric)?.unwrap_or(f32::NEG_INFINITY);
    let found = reach.nearest(&query, Options { min_score, ..Options::nearest(k) }, own)?;
    if arguments.explain {
        explain(&reach, metric, common)?;
    }
    if common.json {
        return found.iter().try_for_each(|found| Ok(output::line(&as_json(found, metric))?));
    }
    let row = |found: &Found| vec![score(found.score), found.place()];
    output::table(&["SCORE", "FILE"], &found.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

fn as_json(found: &Found, metric: Metric) -> Value {
    let path = found.path.to_string_lossy();
    let distance = metric.distance(found.score);
    let mut object = json!({"path": path, "score": found.score, "row": found.row, "distance": distance});
    if let (Some(chunk), Value::Object(members)) = (&found.chunk, &mut object) {
        members.insert("start".into(), chunk.start.into());
        members.insert("length".into(), chunk.length.into());
    }
    object
}

fn duplicates(
    arguments: &Search,
    common: &Common,
    metric: Metric,
    mut reach: Reach<'_>,
) -> Result<(), Failure> {
    let least = match (least(arguments, metric)?, metric) {
        (Some(least), _) => least,
        (None, Metric::Cosine) => DUPLICATE,
        (None, _) => {
            let name = metric.name();
            return Err(Failure::new(format!(
                "say with --min-score or --max-distance what is near by {name}"
            )));
        }
    };
    let pairs = reach.pairs(metric, least)?;
    if arguments.explain {
        explain(&reach, metric, common)?;
    }
    let pairs = &pairs[..pairs.len().min(arguments.k.unwrap_or(usize::MAX))];
    if common.json {
        return pairs.iter().try_for_each(|(one, other)| {
            let mut object = as_json(one, metric);
            object["other"] = json!(other.path.to_string_lossy());
            object["other_row"] = json!(other.row);
            Ok(output::line(&object)?)
        });
    }
    let row = |(one, other): &(Found, Found)| vec![score(one.score), one.place(), other.place()];
    output::table(&["SCORE", "FILE", "OTHER"], &pairs.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

fn score(score: f32) -> String {
    format!("{score:.4}")
}

// The least score that counts, if the caller gave one.
fn least(arguments: &Search, metric: Metric) -> Result<Option<f32>, Failure> {
    let least = match (arguments.min_score, arguments.max_distance) {
        (_, Some(_)) if !metric.is_distance() => {
            let name = metric.name();
            return Err(Failure::new(format!(
                "{name} is no distance: say --min-score instead of --max-distance"
            )));
        }
        (_, Some(distance)) => Some(metric.score(distance)),
        (score, None) => score,
    };
    match least {
        Some(least) if least.is_nan() => Err(Failure::new("the limit is NaN, nothing is near to that")),
        least => Ok(least),
    }
}

// The query, and the file that it comes from, which is no answer.
fn query(
    arguments: &Search,
    place: &Place,
    collection: &Collection,
    metric: Metric,
) -> Result<(Query, Option<u64>), Failure> {
    let given = match (&arguments.like, &arguments.vector, &arguments.text) {
        (Some(file), _, _) => {
            let own = fs::metadata(file).map_err(|error| Failure::io(file, &error))?.ino();
            let query = Query::from_bytes(collection, &vector_of(file, place)?, metric)?;
            return Ok((query, Some(own)));
        }
        (None, Some(vector), _) => Given::read(vector)?,
        (None, None, Some(text)) => text::embed(text, arguments.embedder.as_deref(), place, collection)?,
        (None, None, None) => return Err(Failure::new("give --like FILE, --vector VECTOR or --text TEXT")),
    };
    let values = given.values(collection.schema()).map_err(Failure::new)?;
    Ok((Query::new(collection, &values, metric)?, None))
}

fn vector_of(file: &Path, place: &Place) -> Result<Vec<u8>, Failure> {
    let attribute = VectorName { element: None, ..place.name.clone() }.attribute();
    let value = xattr::get(file, &attribute);
    let value = value.map_err(|error| value::explain(file, &attribute, &place.site, &error))?;
    let name = &place.name.collection;
    value.ok_or_else(|| Failure::new(format!("{}: has no vector in collection `{name}`", file.display())))
}

fn explain(reach: &Reach<'_>, metric: Metric, common: &Common) -> Result<(), Failure> {
    let schema = reach.collection.schema();
    let plan = &reach.plan;
    let (cost, bytes) = (&plan.cost, plan.bytes(schema));
    let milliseconds = plan.begun().elapsed().as_secs_f64() * 1e3;
    if common.json {
        let object = json!({
            "plan": plan.name(), "why": plan.why(), "mapped": !reach.collection.is_coded(), "metric": metric.name(),
            "codec": schema.all.get("codec"),
            "instructions": vexfs_search::instructions(), "rows": schema.rows, "live": schema.live,
            "filtered_rows": reach.filtered(), "scans": cost.scans, "candidates": cost.candidates,
            "leaves": cost.leaves, "nodes": cost.nodes, "changed": cost.changed, "bytes_read": bytes, "walks": reach.walks,
            "search_ms": cost.ms, "ms": milliseconds,
        });
        // As one line, not a write for each of its parts.
        let line = object.to_string();
        eprintln!("{line}");
        return Ok(());
    }
    let filter = match reach.filtered() {
        Some(rows) => format!("{rows} rows that the filter leaves, chosen before the scan"),
        None => "every live row".into(),
    };
    let source = match schema.all.get("codec").and_then(Value::as_str) {
        Some(Coder::PQ) => "ruled out by tables or decoded; codes are all there is, nothing ranks them again",
        _ if reach.collection.is_coded() => "decoded some at a time",
        _ => "mapped",
    };
    eprintln!("plan    {}: {filter}, {source}", plan.name());
    eprintln!("because {}", plan.why());
    eprintln!(
        "work    {} scans, {}, {} rows compared whole, of them {} that changed since the index, {}",
        cost.scans,
        if cost.nodes > 0 {
            format!("{} nodes entered", cost.nodes)
        } else {
            format!("{} leaves", cost.leaves)
        },
        cost.candidates,
        cost.changed,
        output::bytes(bytes)
    );
    eprintln!(
        "with    {} on {} x {}",
        vexfs_search::instructions(),
        schema.dimensions,
        schema.element.name()
    );
    eprintln!("paths   {} walks over the files that you can reach", reach.walks);
    eprintln!("took    {milliseconds:.1} ms, of them {:.1} ms for the rows", cost.ms);
    Ok(())
}
