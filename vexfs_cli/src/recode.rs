//! `vexfs recode`: asks for another codec through the collection's `control` file, and waits until it has it.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use vexfs_search::Schema;
use vexfs_search::codec::Coder;

use crate::arguments::{Common, Recode};
use crate::codebook;
use crate::failure::Failure;
use crate::output;
use crate::site::Place;

const POLL: Duration = Duration::from_millis(100);
const CODECS: [&str; 6] = ["none", "f16", "sq8", "sq4", "binary", Coder::PQ];

pub(crate) fn run(arguments: &Recode, common: &Common) -> Result<(), Failure> {
    let place = Place::new(&arguments.collection, None, common)?;
    let before = place.existing()?;
    let shown = place.directory.display();
    let Some(codec) = &arguments.codec else {
        if recode_of(&before).is_none() {
            return Err(Failure::new(format!("{shown}: is not being recoded; there is nothing to stop")));
        }
        request(&place, "recode stop\n")?;
        return tell(&place, &before, &place.existing()?, common, "recoding was given up; stored as");
    };
    if !CODECS.contains(&codec.as_str()) {
        let known = CODECS.join(", ");
        return Err(Failure::new(format!("`{codec}` is no codec that can be stored with; they are {known}")));
    }
    let is_pq = codec == Coder::PQ;
    if is_pq && recode_of(&before).is_none() {
        // The same codec by another codebook is other rows.
        let codebook = codebook::wanted(&place, &before, &arguments.quantizing, common.json)?;
        codebook::request(&place, &codebook)?;
        let after = wait(&place, codec)?;
        return tell(&place, &before, &after, common, "stored as");
    }
    if codec_of(&before) == codec && recode_of(&before).is_none() {
        return tell(&place, &before, &before, common, "nothing to do: stored as");
    }
    if let Some((other, _)) = recode_of(&before).filter(|(other, _)| other != codec) {
        return Err(Failure::new(format!(
            "{shown}: is being recoded to {other}; wait for its end, or give it up with `vexfs recode {} --stop`",
            arguments.collection
        )));
    }
    request(&place, &format!("recode {codec}\n"))?;
    let after = wait(&place, codec)?;
    tell(&place, &before, &after, common, "stored as")
}

// Shows how far it is until the collection has the codec.
pub(crate) fn wait(place: &Place, codec: &str) -> Result<Schema, Failure> {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {elapsed}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    loop {
        let schema = place.existing()?;
        let Some((_, passed)) = recode_of(&schema) else {
            bar.finish_and_clear();
            if codec_of(&schema) == codec {
                return Ok(schema);
            }
            return Err(Failure::new(format!(
                "{}: recoding was given up meanwhile; the collection is stored as {}",
                place.directory.display(),
                codec_of(&schema)
            )));
        };
        bar.set_length(schema.rows);
        bar.set_position(passed.min(schema.rows));
        if let Some(why) = stopped(&schema) {
            bar.abandon();
            return Err(Failure::new(format!(
                "{}: recoding stopped after {passed} of {} rows: {why}\nThe collection keeps its codec meanwhile. Mend that and run \
                 this again, or give it up with `vexfs recode {} --stop`, which frees what the new matrix took",
                place.directory.display(),
                schema.rows,
                place.name.collection
            )));
        }
        thread::sleep(POLL);
    }
}

pub(crate) fn request(place: &Place, text: &str) -> Result<(), Failure> {
    let control = place.directory.join("control");
    let shown = place.directory.display();
    let because = |why: &str| Failure::new(format!("{shown}: {why}"));
    fs::write(&control, text).map_err(|error| match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => because("recoding needs write permission on the collection"),
        (_, Some(libc::EBUSY)) => because(
            "the collection is being compacted or recoded: wait for its end, which its `control` file shows",
        ),
        (_, Some(libc::EINVAL)) => because(
            "this codec cannot store these elements: f16 takes f32; sq8, sq4, binary and pq take f32 and f16",
        ),
        (io::ErrorKind::StorageFull, _) => {
            because("the volume is full; a recode needs room for a second matrix")
        }
        _ => Failure::io(&control, &error),
    })
}

fn tell(place: &Place, before: &Schema, after: &Schema, common: &Common, how: &str) -> Result<(), Failure> {
    let bytes = |schema: &Schema| schema.all.get("row_bytes").and_then(Value::as_u64).unwrap_or(0);
    if common.json {
        output::line(&json!({
            "collection": place.name.collection,
            "before": codec_of(before),
            "codec": codec_of(after),
            "codebook": after.all.get("codebook"),
            "vectors": after.live,
            "row_bytes": bytes(after),
        }))?;
        return Ok(());
    }
    println!(
        "{}: {how} {}{}, {} vectors of {} bytes each (as they are read: {})",
        place.directory.display(),
        codec_of(after),
        shape_of(after),
        after.live,
        bytes(after),
        after.vector_len()
    );
    Ok(())
}

fn codec_of(schema: &Schema) -> &str {
    schema.all.get("codec").and_then(Value::as_str).unwrap_or("none")
}

// The shape of a collection's codebook, for people.
fn shape_of(schema: &Schema) -> String {
    let number = |name: &str| schema.all.get("codebook")?.get(name)?.as_u64();
    match (number("subvectors"), number("bits")) {
        (Some(subvectors), Some(bits)) => format!(" ({subvectors} codes of {bits} bits)"),
        _ => String::new(),
    }
}

// The codec that a collection is on its way to, and how many rows were passed.
fn recode_of(schema: &Schema) -> Option<(&str, u64)> {
    let recode = schema.all.get("recode")?;
    Some((recode.get("codec")?.as_str()?, recode.get("passed")?.as_u64()?))
}

fn stopped(schema: &Schema) -> Option<&str> {
    schema.all.get("recode")?.get("stopped")?.as_str()
}
