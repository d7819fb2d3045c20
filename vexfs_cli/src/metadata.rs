//! `vexfs meta` and `vexfs column`: metadata of vectors, and which members of it are arrays.

use std::fs;
use std::io::{self, Read};

use serde_json::{Value, json};

use crate::arguments::{Column, ColumnCommand, Common, Meta};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;
use crate::table;
use crate::xattr;

/// Bytes of metadata at most.
const METADATA_MAX: usize = 4096;

/// Shows, sets or removes the metadata of a file's vector.
pub(crate) fn meta(arguments: &Meta, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, Some(&arguments.file), common)?;
    place.existing()?;
    let vector = place.name.attribute();
    let attribute = format!("{vector}.meta");
    let file = &arguments.file;
    let none = || {
        let (file, vector) = (file.display(), vector.strip_prefix("user.vector.").unwrap_or(&vector));
        Failure::new(format!("{file}: has no vector {vector}; set that first"))
    };
    let failed = |error: &io::Error| match error.raw_os_error() {
        Some(libc::ENODATA) => none(),
        Some(libc::EACCES) => Failure::new(format!(
            "{}: metadata is set by who may write the file and the collection {}",
            file.display(),
            place.directory.display()
        )),
        _ => Failure::io(file, error),
    };
    if arguments.remove {
        return match xattr::remove(file, &attribute) {
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {
                Err(Failure::new(format!("{}: has no such metadata", file.display())))
            }
            other => other.map_err(|error| failed(&error)),
        };
    }
    let Some(text) = &arguments.metadata else {
        let value = xattr::get(file, &attribute).map_err(|error| failed(&error))?;
        let value = value.ok_or_else(|| Failure::new(format!("{}: has no such metadata", file.display())))?;
        println!("{}", String::from_utf8_lossy(&value).trim());
        return Ok(());
    };
    let text = if text == "-" {
        let mut text = String::new();
        io::stdin().read_to_string(&mut text).map_err(|error| Failure::new(format!("stdin: {error}")))?;
        text
    } else {
        text.clone()
    };
    check(&text, &place)?;
    xattr::set(file, &attribute, text.trim().as_bytes()).map_err(|error| failed(&error))
}

// The filesystem refuses the same with EINVAL; here are the words.
fn check(text: &str, place: &Place) -> Result<(), Failure> {
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Failure::new(format!("metadata is a JSON object: {error}")))?;
    if !value.is_object() {
        return Err(Failure::new("metadata is a JSON object: {\"name\": value, ...}"));
    }
    let len = text.trim().len();
    if len > METADATA_MAX {
        return Err(Failure::new(format!("metadata has at most {METADATA_MAX} bytes, this has {len}")));
    }
    let text_or_null = |name: &str| value.get(name).is_none_or(|value| value.is_string() || value.is_null());
    let count = |name: &str| value.get(name).is_none_or(|value| value.is_u64() || value.is_null());
    let number = |name: &str| value.get(name).is_none_or(|value| value.is_number() || value.is_null());
    let known: [(&str, bool, &str); 5] = [
        ("source", text_or_null("source"), "a string"),
        ("model", text_or_null("model"), "a string"),
        ("confidence", number("confidence"), "a number"),
        ("start", count("start"), "a whole number of bytes"),
        ("length", count("length"), "a whole number of bytes"),
    ];
    if let Some((name, _, what)) = known.into_iter().find(|(_, fits, _)| !fits) {
        return Err(Failure::new(format!("`{name}` in metadata is {what}")));
    }
    for (name, kind, width) in table::columns(&place.existing()?) {
        let Some(member) = value.get(&name).filter(|member| !member.is_null()) else { continue };
        let fits = match kind.as_str() {
            "bool" => member.is_boolean(),
            "int" => member.is_i64(),
            "float" => member.is_number(),
            "string" => member.as_str().is_some_and(|text| text.len() as u64 <= width),
            _ => member.is_string() || member.is_i64(),
        };
        if !fits {
            let kind = if kind == "string" { format!("a string of up to {width} bytes") } else { kind };
            return Err(Failure::new(format!(
                "`{name}` is a column of the collection: {kind}; this is {member}"
            )));
        }
    }
    Ok(())
}

/// Adds, drops or lists columns.
pub(crate) fn column(arguments: &Column, common: &Common) -> Result<(), Failure> {
    let (collection, request) = match &arguments.command {
        ColumnCommand::Add { collection, field, kind, width } => {
            let width = width.map(|width| format!(" {width}")).unwrap_or_default();
            (collection, Some((field, format!("column add {field} {}{width}", kind.name()))))
        }
        ColumnCommand::Drop { collection, field } => {
            (collection, Some((field, format!("column drop {field}"))))
        }
        ColumnCommand::Ls { collection } => (collection, None),
    };
    let place = Place::new(collection, None, common)?;
    let schema = place.existing()?;
    if let Some((field, request)) = request {
        let control = place.directory.join("control");
        return fs::write(&control, request).map_err(|error| refused(&place, field, &error));
    }
    let columns = table::columns(&schema);
    if common.json {
        return columns.iter().try_for_each(|(name, kind, width)| {
            Ok(output::line(&json!({"name": name, "type": kind, "width": width}))?)
        });
    }
    let row =
        |(name, kind, width): &(String, String, u64)| vec![name.clone(), kind.clone(), width.to_string()];
    output::table(&["NAME", "TYPE", "BYTES"], &columns.iter().map(row).collect::<Vec<_>>())?;
    Ok(())
}

fn refused(place: &Place, field: &str, error: &io::Error) -> Failure {
    let collection = &place.name.collection;
    match error.raw_os_error() {
        Some(libc::EEXIST) => Failure::new(format!("`{field}` is a column of {collection} already")),
        Some(libc::ENOENT) => Failure::new(format!("{collection} has no column `{field}`")),
        Some(libc::EACCES) => Failure::new(format!(
            "{}: columns are the business of who may write the collection",
            place.directory.display()
        )),
        Some(libc::EINVAL) => Failure::new(format!(
            "`{field}`: refused. A name has letters, digits, _ - and dots within; a collection has up to 16 columns; and all \
             metadata there is must fit the type ({} says which rule was broken)",
            place.site.control().join("log").display()
        )),
        _ => Failure::io(&place.directory.join("control"), error),
    }
}
