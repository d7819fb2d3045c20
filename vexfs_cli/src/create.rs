//! `vexfs create`: a collection is a directory, its settings are attributes of it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use serde_json::{Value, json};
use vexfs_search::codec::Coder;
use vexfs_search::codec::pq::Codebook;
use vexfs_search::{Element, Schema};

use crate::arguments::{Common, Create};
use crate::codebook;
use crate::failure::Failure;
use crate::output;
use crate::recode;
use crate::site::Place;
use crate::table;
use crate::xattr;

pub(crate) fn run(arguments: &Create, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    if place.name.n != 0 || place.name.element.is_some() {
        return Err(Failure::new("give the collection's name alone; the element type goes with --element"));
    }
    let like = arguments.like.as_ref().map(|like| Like::read(like, &place, common)).transpose()?;
    let mut settings = settings(arguments, like.as_ref());
    let codebook = codebook(arguments, &settings, like.as_ref())?;
    if let Some(codebook) = &codebook {
        // Rows of pq come by a recode, of no rows as yet; its codebook says the dimension.
        settings.retain(|(name, _)| !matches!(*name, "codec" | "dim"));
        settings.insert(1, ("dim", codebook.shape().dimensions().to_string()));
    }
    make(&place, &settings)?;
    if let Some(codebook) = codebook {
        let quantized = codebook::request(&place, &codebook).and_then(|()| recode::wait(&place, Coder::PQ));
        quantized.inspect_err(|_| drop(fs::remove_dir(&place.directory)))?;
    }
    if let Some(like) = like {
        // What is half like it would be taken for whole.
        like.complete(&place).inspect_err(|_| drop(fs::remove_dir(&place.directory)))?;
    }
    if common.json {
        let schema = place.existing()?;
        output::line(&schema.all)?;
    } else {
        println!("{}: collection made", place.directory.display());
    }
    Ok(())
}

// The codebook of a collection that is to be stored by one, which fits its other settings.
fn codebook(
    arguments: &Create,
    settings: &[(&str, String)],
    like: Option<&Like>,
) -> Result<Option<Codebook>, Failure> {
    let setting = |name: &str| settings.iter().find(|setting| setting.0 == name).map(|setting| &setting.1);
    if setting("codec").is_none_or(|codec| codec != Coder::PQ) {
        return match arguments.codebook {
            Some(_) => Err(Failure::new("--codebook goes with --codec pq")),
            None => Ok(None),
        };
    }
    let like = like.filter(|like| like.setting("codec").is_some_and(|codec| codec == Coder::PQ));
    let path = match (&arguments.codebook, like) {
        (Some(path), _) => path.clone(),
        (None, Some(like)) => like.place.directory.join("codebook.npy"),
        (None, None) => {
            return Err(Failure::new(
                "pq needs a codebook, which is trained on vectors: make the collection without --codec, set vectors, and then \
                 `vexfs recode NAME --codec pq`; or give the codebook.npy of a collection of like vectors as --codebook",
            ));
        }
    };
    let codebook = Codebook::open(&path)?;
    let dimensions = codebook.shape().dimensions().to_string();
    if let Some(dim) = setting("dim").filter(|dim| **dim != dimensions) {
        return Err(Failure::new(format!(
            "{}: is for vectors of {dimensions} dimensions, not {dim}",
            path.display()
        )));
    }
    let half = setting("element").is_some_and(|element| element == Element::F16.name());
    let fitting = if half { codebook.halved() } else { Ok(codebook) };
    fitting.map(Some).map_err(|why| Failure::new(format!("{}: {why}", path.display())))
}

// In the order in which they are to be set: a bit collection's dimension comes after its element type.
fn settings(arguments: &Create, like: Option<&Like>) -> Vec<(&'static str, String)> {
    let of = |name: &str| like?.setting(name);
    let element = arguments.element.clone().or_else(|| of("element"));
    let element = element.unwrap_or_else(|| Element::F32.name().to_owned());
    let is_bits = element == Element::Bit.name();
    // Other elements fit other codecs and metrics, and another model's vectors may be of any length.
    let same_element = of("element").as_ref() == Some(&element);
    let same_model = same_element && (arguments.model.is_none() || arguments.model == of("model"));
    let fitting = |name: &str| of(name).filter(|_| same_element);
    let dimensions = arguments.dim.map(|dimensions| dimensions.to_string());
    let metric = arguments.metric.clone().or_else(|| fitting("metric"));
    let history = arguments.history.map(|count| count.to_string());
    let all = [
        ("dim", dimensions.or_else(|| of("dimension").filter(|dim| same_model && dim != "0"))),
        ("codec", arguments.codec.clone().or_else(|| fitting("codec"))),
        ("metric", Some(metric.unwrap_or_else(|| (if is_bits { "hamming" } else { "cosine" }).to_owned()))),
        ("model", arguments.model.clone().or_else(|| of("model"))),
        ("history", history.or_else(|| of("history"))),
        ("inherit", of("inherit").filter(|inherit| inherit == "false").map(|_| "0".to_owned())),
    ];
    let all = all.into_iter().filter_map(|(name, value)| Some((name, value?)));
    std::iter::once(("element", element)).chain(all).collect()
}

/// A collection whose settings another one takes over.
struct Like {
    place: Place,
    schema: Schema,
}

impl Like {
    fn read(name: &str, beside: &Place, common: &Common) -> Result<Self, Failure> {
        let mut place = Place::new(name, None, common)?;
        if !name.contains('/') {
            place = Place { directory: beside.directory.with_file_name(&place.name.collection), ..place };
        }
        let schema = place.existing()?;
        Ok(Self { place, schema })
    }

    fn setting(&self, name: &str) -> Option<String> {
        match self.schema.all.get(name)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    // Columns, mode, and, as far as the caller may, owner and group.
    fn complete(&self, place: &Place) -> Result<(), Failure> {
        let directory = &place.directory;
        for (name, kind, width) in table::columns(&self.schema) {
            let width = if kind == "string" { format!(" {width}") } else { String::new() };
            let control = directory.join("control");
            fs::write(&control, format!("column add {name} {kind}{width}"))
                .map_err(|error| Failure::io(&control, &error))?;
        }
        let failed = |error: io::Error| Failure::io(directory, &error);
        let old = fs::metadata(&self.place.directory)
            .map_err(|error| Failure::io(&self.place.directory, &error))?;
        // Only root gives away; who cannot is the owner himself.
        match chown(directory, Some(old.uid()), Some(old.gid())) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(failed(error)),
            _ => {}
        }
        fs::set_permissions(directory, old.permissions()).map_err(failed)
    }
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
            "this codec cannot store these elements: f16 takes f32; sq8, sq4, binary and pq take f32 and f16"
                .to_owned()
        }
        ("model", Some(libc::EINVAL)) => "longer than 255 bytes".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(format!("{}: {name} {}: {why}", directory.display(), json!(value)))
}
