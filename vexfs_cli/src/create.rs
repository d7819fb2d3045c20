//! `vexfs create`: a collection is a directory, its settings are attributes of it.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;
use vexfs_search::Element;

use crate::arguments::{Common, Create};
use crate::failure::Failure;
use crate::output;
use crate::site::Place;
use crate::xattr;

pub(crate) fn run(arguments: &Create, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    if place.name.n != 0 || place.name.element.is_some() {
        return Err(Failure::new("give the collection's name alone; the element type goes with --element"));
    }
    let mut settings = vec![("element", arguments.element.clone())];
    settings.extend(arguments.dim.map(|dimensions| ("dim", dimensions.to_string())));
    settings.extend(arguments.codec.as_ref().map(|codec| ("codec", codec.clone())));
    let is_bits = arguments.element == Element::Bit.name();
    let metric = arguments.metric.as_deref().unwrap_or(if is_bits { "hamming" } else { "cosine" });
    settings.push(("metric", metric.to_owned()));
    settings.extend(arguments.model.as_ref().map(|model| ("model", model.clone())));
    settings.extend(arguments.history.map(|count| ("history", count.to_string())));
    make(&place, &settings)?;
    if common.json {
        let schema = place.existing()?;
        output::line(&schema.all)?;
    } else {
        println!("{}: collection made", place.directory.display());
    }
    Ok(())
}

/// Makes the collection with these settings, or nothing.
pub(crate) fn make(place: &Place, settings: &[(&str, String)]) -> Result<(), Failure> {
    let directory = &place.directory;
    fs::create_dir(directory).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{}: the collection exists already", directory.display()))
        }
        _ => Failure::io(directory, &error),
    })?;
    // A bit collection's dimension must come after its element type: they are set in order.
    for (name, value) in settings {
        if let Err(error) = xattr::set(directory, &format!("user.vexfs.{name}"), value.as_bytes()) {
            // Only the error that is reported matters; an empty collection that stays does no harm.
            let _ = fs::remove_dir(directory);
            return Err(refused(directory, name, value, &error));
        }
    }
    Ok(())
}

fn refused(directory: &Path, name: &str, value: &str, error: &io::Error) -> Failure {
    let why = match (name, error.raw_os_error()) {
        ("dim", Some(libc::EINVAL)) => {
            "out of range: a vector has at most 65536 bytes, and bits come in eights".to_owned()
        }
        ("codec", Some(libc::EINVAL)) => {
            "this codec cannot store these elements: f16 takes f32; sq8, sq4 and binary take f32 and f16"
                .to_owned()
        }
        ("model", Some(libc::EINVAL)) => "longer than 255 bytes".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(format!("{}: {name} {}: {why}", directory.display(), json!(value)))
}
