//! `vexfs set` and `vexfs get`: one vector of one file.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};
use vexfs_search::npy::Header;
use vexfs_search::{Element, Schema};

use crate::arguments::{Common, Get, Set};
use crate::failure::Failure;
use crate::output;
use crate::site::{Place, Site};
use crate::vector::{self, Given};
use crate::xattr;

/// Sets a vector.
pub(crate) fn set(arguments: &Set, common: &Common) -> Result<(), Failure> {
    let file = &arguments.file;
    let place = Place::new(&arguments.collection, Some(file), common)?;
    let given = Given::read(&arguments.vector)?;
    // A collection that its reader may not open can still be written to, so this is no reason to stop.
    let schema = place.schema().ok().flatten();
    let element = schema.as_ref().map(|schema| schema.element).or(place.name.element).unwrap_or(Element::F32);
    let bytes = given.encode(element).map_err(Failure::new)?;
    check(&place.name.collection, schema.as_ref(), place.name.element, &bytes)?;
    let mut name = place.name.attribute();
    if let Some(version) = arguments.version {
        name += &format!("@{version}");
    }
    xattr::set(file, &name, &bytes).map_err(|error| explain(file, &name, &place.site, &error))
}

/// Prints or saves a vector.
pub(crate) fn get(arguments: &Get, common: &Common) -> Result<(), Failure> {
    let file = &arguments.file;
    let place = Place::new(&arguments.collection, Some(file), common)?;
    let mut name = place.name.attribute();
    if let Some(back) = arguments.back {
        name += &format!("@-{back}");
    }
    let value = xattr::get(file, &name).map_err(|error| explain(file, &name, &place.site, &error))?;
    let missing = || {
        if let Some(back) = arguments.back {
            let file = file.display();
            return Failure::new(format!("{file}: {back} vectors back nothing is kept (vexfs log {file})"));
        }
        let (file, name, n) = (file.display(), &place.name.collection, place.name.n);
        Failure::new(format!(
            "{file}: has no vector {n} in collection `{name}` (vexfs info {file} shows what it has)"
        ))
    };
    let value = value.ok_or_else(missing)?;
    let element = match (place.name.element, place.schema()) {
        (Some(element), _) => element,
        (None, Ok(Some(schema))) => schema.element,
        (None, _) => listed_element(file, &place)?,
    };
    if let Some(path) = &arguments.output {
        let header = Header::render(element.descr(), &[(value.len() / element.width()) as u64]);
        return fs::write(path, [header, value].concat()).map_err(|error| Failure::io(path, &error));
    }
    let text = vector::to_json(&value, element).map_err(Failure::new)?;
    if common.json {
        let vector: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let file = file.to_string_lossy();
        output::line(&json!({
            "path": file, "collection": place.name.collection, "n": place.name.n,
            "element": element.name(), "vector": vector,
        }))?;
    } else {
        println!("{text}");
    }
    Ok(())
}

// The element type by the name that is listed: for a collection whose directory the caller may not open.
fn listed_element(file: &Path, place: &Place) -> Result<Element, Failure> {
    let names = xattr::list(file).map_err(|error| Failure::io(file, &error))?;
    let parsed = names
        .iter()
        .filter_map(|name| crate::site::VectorName::parse(name.strip_prefix("user.vector.")?).ok());
    let found =
        parsed.into_iter().find(|name| name.collection == place.name.collection && name.n == place.name.n);
    Ok(found.and_then(|name| name.element).unwrap_or(Element::F32))
}

/// Says in words why the filesystem would refuse these bytes.
pub(crate) fn check(
    collection: &str,
    schema: Option<&Schema>,
    asked: Option<Element>,
    bytes: &[u8],
) -> Result<(), Failure> {
    if bytes.is_empty() || bytes.len() > 65536 {
        return Err(Failure::new(format!("a vector has 1 to 65536 bytes, got {}", bytes.len())));
    }
    let element = schema.map(|schema| schema.element).or(asked).unwrap_or(Element::F32);
    if let Some(index) = not_finite(bytes, element) {
        return Err(Failure::new(format!("element {index} is NaN or infinite; a vector must be finite")));
    }
    let Some(schema) = schema else { return Ok(()) };
    if let Some(asked) = asked.filter(|asked| *asked != element) {
        let (holds, asked) = (element.name(), asked.name());
        return Err(Failure::new(format!(
            "collection {collection} holds {holds}, the name asks for {asked}"
        )));
    }
    let (dimensions, expected) = (schema.dimensions, schema.vector_len());
    if dimensions != 0 && bytes.len() != expected {
        let (element, got) = (element.name(), bytes.len());
        return Err(Failure::new(format!(
            "collection {collection} holds {dimensions} x {element} = {expected} bytes, got {got}"
        )));
    }
    Ok(())
}

fn not_finite(bytes: &[u8], element: Element) -> Option<usize> {
    match element {
        Element::F32 => {
            bytes.chunks_exact(4).position(|b| !f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite())
        }
        Element::F16 => bytes.chunks_exact(2).position(|b| b[1] & 0x7c == 0x7c),
        _ => None,
    }
}

/// Says in words why the system refused to read or set a vector.
pub(crate) fn explain(file: &Path, name: &str, site: &Site, error: &io::Error) -> Failure {
    let log = site.control().join("log");
    if let Some(line) = logged(&log, name) {
        return Failure::new(format!("{}: {error}: {line}", file.display()));
    }
    let why = match error.raw_os_error() {
        Some(libc::ENOSPC) => "no space left on the volume: remove files, or enlarge it".to_owned(),
        Some(libc::EACCES | libc::EPERM) => {
            "not permitted: setting needs write permission on the file and on the collection's directory"
                .to_owned()
        }
        Some(libc::EINVAL) => format!("refused as invalid; {} says why (root may read it)", log.display()),
        Some(libc::EROFS) => "the volume is read-only".to_owned(),
        Some(libc::EIO | libc::EBADMSG) => {
            "its bytes are damaged or cannot be read; set the vector again from its source".to_owned()
        }
        _ => error.to_string(),
    };
    Failure::new(format!("{}: {name}: {why}", file.display()))
}

// The last refusal of this attribute to this process, if the caller may read the log.
fn logged(log: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    refusal(&text, std::process::id(), name)
}

fn refusal(log: &str, pid: u32, name: &str) -> Option<String> {
    let pid = pid.to_string();
    let has = |line: &&str| {
        let mut words = line.split(|letter: char| letter.is_whitespace() || "=:,()[]".contains(letter));
        words.any(|word| word == pid) && line.contains(name)
    };
    log.lines().rev().find(has).map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(dimensions: usize, element: Element) -> Schema {
        let metric = vexfs_search::Metric::Cosine;
        Schema {
            dimensions,
            element,
            metric,
            model: String::new(),
            rows: 0,
            live: 0,
            generation: 0,
            all: Value::Null,
        }
    }

    #[test]
    fn a_wrong_length_is_told_with_both_lengths() {
        let words =
            check("minilm", Some(&schema(384, Element::F32)), None, &[0; 1024]).unwrap_err().to_string();
        assert_eq!(words, "collection minilm holds 384 x f32 = 1536 bytes, got 1024");
        assert!(check("minilm", Some(&schema(384, Element::F32)), None, &[0; 1536]).is_ok());
        assert!(check("open", Some(&schema(0, Element::F32)), None, &[0; 1024]).is_ok());
        assert!(check("bits", Some(&schema(64, Element::Bit)), None, &[0; 8]).is_ok());
    }

    #[test]
    fn the_log_is_searched_for_this_process() {
        let log = "pid 12 inode 7 user.vector.a: old\npid 12 inode 7 user.vector.a: why\npid 123 user.vector.a: x\n";
        assert_eq!(refusal(log, 12, "user.vector.a").as_deref(), Some("pid 12 inode 7 user.vector.a: why"));
        assert_eq!(refusal(log, 1, "user.vector.a"), None);
        assert_eq!(refusal(log, 12, "user.vector.b"), None);
    }

    #[test]
    fn wrong_elements_and_values_are_told() {
        let schema = schema(2, Element::F32);
        let words = |asked, bytes: &[u8]| check("c", Some(&schema), asked, bytes).unwrap_err().to_string();
        assert_eq!(words(Some(Element::I8), &[0; 8]), "collection c holds f32, the name asks for i8");
        let nan = [1.0_f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
        assert_eq!(words(None, &nan), "element 1 is NaN or infinite; a vector must be finite");
        assert!(words(None, &[]).contains("1 to 65536"));
    }
}
