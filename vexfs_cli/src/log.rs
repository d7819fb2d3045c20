//! `vexfs log`: the versions of a file's vectors, the present one and those that it superseded.

use std::path::Path;

use serde_json::Value;

use crate::arguments::{Common, Log};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;
use crate::xattr;

pub(crate) fn run(arguments: &Log, common: &Common) -> Result<(), Failure> {
    let file = &arguments.file;
    if let Some(collection) = &arguments.collection {
        Place::new(collection, Some(file), common)?;
    }
    let wanted = arguments.collection.as_deref().and_then(|name| name.rsplit('/').next());
    let names = xattr::list(file).map_err(|error| Failure::io(file, &error))?;
    let vectors = names.iter().filter(|name| !name.ends_with(".meta"));
    let vectors = vectors.filter_map(|name| name.strip_prefix("user.vector."));
    let mut rows = Vec::new();
    for vector in vectors.filter(|vector| wanted.is_none_or(|wanted| is_named(vector, wanted))) {
        for entry in entries(file, vector)? {
            if common.json {
                let mut line = serde_json::json!({"vector": vector});
                for (name, value) in entry.as_object().into_iter().flatten() {
                    line[name] = value.clone();
                }
                output::line(&line)?;
            } else {
                rows.push(row(vector, &entry));
            }
        }
    }
    if !common.json && rows.is_empty() {
        let which = arguments.collection.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
        return Err(Failure::new(format!("{}: has no vector{which}", file.display())));
    }
    if !common.json {
        let head = ["VECTOR", "SET", "CONTENT", "FRESH", "CRC-32", "BYTES", "MODEL"];
        output::table(&head, &rows)?;
    }
    Ok(())
}

// As listed (`clip:i8.3`) and as asked for: of all vectors in a collection, or of one; the element may be left out.
fn is_named(listed: &str, wanted: &str) -> bool {
    let (name, n) = listed.split_once('.').unwrap_or((listed, "0"));
    let collection = name.split(':').next().unwrap_or(name);
    match wanted.split_once('.') {
        Some((other, number)) => (other == name || other == collection) && number == n,
        None => wanted == name || wanted == collection,
    }
}

// The lines of a vector's log; none if it is gone since it was listed.
fn entries(file: &Path, vector: &str) -> Result<Vec<Value>, Failure> {
    let failed = |error| Failure::io(file, &error);
    let text = xattr::get(file, &format!("user.vexfs.log.{vector}")).map_err(failed)?.unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            serde_json::from_slice(line)
                .map_err(|error| Failure::new(format!("{}: log of {vector}: {error}", file.display())))
        })
        .collect()
}

fn row(vector: &str, entry: &Value) -> Vec<String> {
    let back = entry["back"].as_u64().unwrap_or(0);
    let name = if back == 0 { vector.to_owned() } else { format!("{vector}@-{back}") };
    let text = |member: &str| match &entry[member] {
        Value::String(text) => text.clone(),
        Value::Null => "gone".into(),
        other => other.to_string(),
    };
    let fresh = if entry["fresh"] == true { "fresh" } else { "stale" };
    let set = text("set");
    // To the second; all digits are in the JSON.
    let set = set.split_once('.').map_or(set.as_str(), |(seconds, _)| seconds).replace('T', " ");
    vec![name, set, text("version"), fresh.into(), text("crc32"), text("bytes"), text("model")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_asked_for_with_and_without_its_element_and_number() {
        for (listed, wanted, named) in [
            ("minilm", "minilm", true),
            ("minilm.3", "minilm", true),
            ("minilm.3", "minilm.3", true),
            ("minilm", "minilm.0", true),
            ("minilm", "minilm.3", false),
            ("clip:i8.3", "clip.3", true),
            ("clip:i8.3", "clip:i8", true),
            ("clip:i8", "clip2", false),
        ] {
            assert_eq!(is_named(listed, wanted), named, "{listed} {wanted}");
        }
    }

    #[test]
    fn a_row_tells_how_far_back() {
        let entry = serde_json::json!({
            "back": 2, "set": "2026-11-21T14:30:00.000000005Z", "version": null, "fresh": false, "crc32": "0a",
            "bytes": 12, "model": "m",
        });
        let row = row("c.1", &entry);
        assert_eq!(row[..4], ["c.1@-2", "2026-11-21 14:30:00", "gone", "stale"]);
    }
}
