//! `vexfs ls`, `vexfs info` and `vexfs stats`: what is there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use vexfs_search::Schema;

use crate::arguments::{Common, Info};
use crate::failure::Failure;
use crate::output;
use crate::site::{Place, Site, VectorName};
use crate::xattr;

/// Lists the collections.
pub(crate) fn collections(common: &Common) -> Result<(), Failure> {
    let all = schemas(&Site::choose(common)?)?;
    if common.json {
        for Listed { name, schema } in all {
            let value =
                schema.map_or_else(|error| json!({"name": name, "error": error}), |schema| schema.all);
            output::line(&value)?;
        }
        return Ok(());
    }
    let row = |Listed { name, schema }| match schema {
        Ok(schema) => vec![
            name,
            schema.dimensions.to_string(),
            schema.element.name().to_owned(),
            schema.all.get("codec").and_then(Value::as_str).unwrap_or("none").to_owned(),
            schema.metric.name().to_owned(),
            schema.live.to_string(),
            schema.rows.to_string(),
            output::bytes(schema.live.saturating_mul(row_bytes(&schema))),
            schema.model,
        ],
        Err(error) => vec![name, error],
    };
    let rows: Vec<Vec<String>> = all.into_iter().map(row).collect();
    output::table(&["NAME", "DIM", "ELEMENT", "CODEC", "METRIC", "VECTORS", "ROWS", "SIZE", "MODEL"], &rows)?;
    Ok(())
}

// Bytes of a row that are stored.
fn row_bytes(schema: &Schema) -> u64 {
    schema.all.get("row_bytes").and_then(Value::as_u64).unwrap_or(schema.vector_len() as u64)
}

/// Shows a collection or a file.
pub(crate) fn info(arguments: &Info, common: &Common) -> Result<(), Failure> {
    let what = &arguments.what;
    let in_control =
        what.canonicalize().is_ok_and(|path| path.components().any(|part| part.as_os_str() == ".vexfs"));
    if !in_control && what.exists() && Site::of(what).is_ok() {
        return file(what, common);
    }
    let text = what
        .to_str()
        .ok_or_else(|| Failure::new(format!("{}: no such file or collection", what.display())))?;
    let schema = Place::new(text, None, common)?.existing()?;
    if common.json {
        output::line(&schema.all)?
    } else {
        output::members(&schema.all)?
    }
    Ok(())
}

/// Shows the state of the volume.
pub(crate) fn stats(common: &Common) -> Result<(), Failure> {
    let site = Site::choose(common)?;
    let path = site.control().join("status.json");
    let text = fs::read(&path).map_err(|error| Failure::io(&path, &error))?;
    let mut status: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    let all = schemas(&site)?;
    let readable = || all.iter().filter_map(|listed| listed.schema.as_ref().ok());
    status["collections"] = json!(all.len());
    status["vectors"] = json!(readable().map(|schema| schema.live).sum::<u64>());
    if common.json {
        output::line(&status)?;
        return Ok(());
    }
    let size = |name: &str| {
        let blocks = status.get(name)?.as_u64()?;
        Some(output::bytes(blocks.saturating_mul(status.get("block_size")?.as_u64()?)))
    };
    let sizes = [("blocks", "size"), ("free_blocks", "free")];
    let sizes: Vec<(&str, String)> = sizes.iter().filter_map(|(from, to)| Some((*to, size(from)?))).collect();
    for (name, size) in sizes {
        status[name] = json!(size);
    }
    output::members(&status)?;
    Ok(())
}

// A collection by its name, with its schema or why that cannot be read.
struct Listed {
    name: String,
    schema: Result<Schema, String>,
}

// Every collection, by name.
fn schemas(site: &Site) -> Result<Vec<Listed>, Failure> {
    let directory = site.collections();
    let entries = fs::read_dir(&directory).map_err(|error| Failure::io(&directory, &error))?;
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Failure::io(&directory, &error))?;
        let schema = Schema::read(&entry.path()).map_err(|error| match error {
            vexfs_search::Error::Io { source, .. } => format!("({source})"),
            other => other.to_string(),
        });
        all.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), schema });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

fn file(path: &Path, common: &Common) -> Result<(), Failure> {
    let failed = |error| Failure::io(path, &error);
    let metadata = fs::metadata(path).map_err(failed)?;
    let version = xattr::get(path, "user.vexfs.version").map_err(failed)?.unwrap_or_default();
    let version = String::from_utf8_lossy(&version).into_owned();
    let mut vectors: Vec<Known> = Vec::new();
    for name in xattr::list(path).map_err(failed)? {
        let Some(rest) = name.strip_prefix("user.vector.").filter(|name| !name.ends_with(".meta")) else {
            continue;
        };
        let parsed = VectorName::parse(rest)?;
        // It may be gone since it was listed.
        let Some(value) = xattr::get(path, &name).map_err(failed)? else { continue };
        let metadata = xattr::get(path, &format!("{name}.meta")).map_err(failed)?;
        vectors.push((parsed, value.len(), metadata.and_then(|text| serde_json::from_slice(&text).ok())));
    }
    if common.json {
        let vectors: Vec<Value> = vectors.iter().map(vector_json).collect();
        output::line(&json!({
            "path": path.to_string_lossy(), "inode": metadata.ino(), "size": metadata.len(),
            "version": version.parse::<u64>().ok(), "vectors": vectors,
        }))?;
        return Ok(());
    }
    println!(
        "{}: inode {}, {} bytes, content version {version}",
        path.display(),
        metadata.ino(),
        metadata.len()
    );
    if vectors.is_empty() {
        println!("no vectors");
        return Ok(());
    }
    let row = |(name, len, metadata): &Known| {
        let element = name.element.map_or("f32", vexfs_search::Element::name);
        let metadata = metadata.as_ref().map_or_else(String::new, Value::to_string);
        vec![name.collection.clone(), name.n.to_string(), element.to_owned(), len.to_string(), metadata]
    };
    let head = ["COLLECTION", "N", "ELEMENT", "BYTES", "METADATA"];
    output::table(&head, &vectors.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

// A vector of a file: its name, its bytes and its metadata.
type Known = (VectorName, usize, Option<Value>);

fn vector_json((name, len, metadata): &Known) -> Value {
    let element = name.element.map_or("f32", vexfs_search::Element::name);
    let mut object = json!({"collection": name.collection, "n": name.n, "element": element, "bytes": len});
    if let Some(metadata) = metadata {
        object["metadata"] = metadata.clone();
    }
    object
}
