//! Codebooks for product quantisation: trained on a collection's own vectors or taken from a file, and handed to the
//! filesystem through the collection's index directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use vexfs_search::codec::pq::{Codebook, Shape, Training, train};
use vexfs_search::{Collection, Element, Schema, analysis};

use crate::arguments::Quantizing;
use crate::failure::Failure;
use crate::recode;
use crate::site::Place;

/// Dimensions that share a code unless it is said how many codes there are to be.
const SUB_DIMENSIONS: usize = 4;
/// Vectors to train on for each entry; more make training slower and hardly better.
const SAMPLE_PER_ENTRY: usize = 256;

// The name of the file in the index directory that the filesystem takes the codebook from: one of each program, so that none takes
// another's.
fn file_name() -> String {
    format!("codebook.{}", std::process::id())
}

// What is wrong with a collection, or with what is asked of it.
fn failed(place: &Place, why: String) -> Failure {
    Failure::new(format!("{}: {why}", place.directory.display()))
}

/// The codebook that is asked for.
pub(crate) fn wanted(
    place: &Place,
    schema: &Schema,
    quantizing: &Quantizing,
    quiet: bool,
) -> Result<Codebook, Failure> {
    let failed = |why| failed(place, why);
    if schema.dimensions == 0 {
        return Err(failed(
            "has no vectors and no dimension yet: set vectors first, or make it with `vexfs create --dim D`"
                .into(),
        ));
    }
    let codebook = match &quantizing.codebook {
        Some(path) => of_file(path, schema.dimensions)?,
        None => trained(place, schema, quantizing, quiet)?,
    };
    if schema.element == Element::F16 { codebook.halved().map_err(failed) } else { Ok(codebook) }
}

fn of_file(path: &Path, dimensions: usize) -> Result<Codebook, Failure> {
    let codebook = Codebook::open(path)?;
    let Shape { subvectors, sub_dimensions, .. } = codebook.shape();
    if codebook.shape().dimensions() != dimensions {
        return Err(Failure::new(format!(
            "{}: is for vectors of {subvectors} x {sub_dimensions} dimensions; the collection's have {dimensions}",
            path.display()
        )));
    }
    Ok(codebook)
}

fn trained(
    place: &Place,
    schema: &Schema,
    quantizing: &Quantizing,
    quiet: bool,
) -> Result<Codebook, Failure> {
    let failed = |why| failed(place, why);
    let subvectors = quantizing.subvectors.unwrap_or_else(|| default_subvectors(schema.dimensions));
    let shape = Shape::cutting(schema.dimensions, subvectors, quantizing.bits).map_err(failed)?;
    let collection = Collection::open(&place.directory)?;
    let most = quantizing.sample.unwrap_or(shape.entries() * SAMPLE_PER_ENTRY);
    let vectors = analysis::to_train_on(&collection, most, quantizing.seed)?;
    let count = vectors.len() / schema.dimensions;
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(subvectors as u64) };
    let style =
        ProgressStyle::with_template("{bar:40} training on {msg} vectors, {pos}/{len} parts, {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(count.to_string());
    let training = Training { iterations: quantizing.iterations, seed: quantizing.seed, threads: 0 };
    let codebook = train(&vectors, shape, &training, &|| bar.inc(1));
    bar.finish_and_clear();
    codebook.map_err(failed)
}

// The largest number of parts with at least so many dimensions each.
fn default_subvectors(dimensions: usize) -> usize {
    let parts = (1..=(dimensions / SUB_DIMENSIONS).max(1)).rev();
    parts.into_iter().find(|parts| dimensions.is_multiple_of(*parts)).unwrap_or(1)
}

/// Asks for a recode by this codebook. When it comes back the recode has begun.
pub(crate) fn request(place: &Place, codebook: &Codebook) -> Result<(), Failure> {
    let handed = Handed::over(place, &codebook.to_bytes())?;
    let Shape { subvectors, bits, .. } = codebook.shape();
    let asked = recode::request(place, &format!("recode pq {subvectors} {bits} {}\n", file_name()));
    drop(handed);
    asked
}

/// A codebook's file in the index directory, there as long as this is.
struct Handed {
    file: PathBuf,
    /// The directory, if it was made for the file.
    made: Option<PathBuf>,
}

impl Handed {
    fn over(place: &Place, bytes: &[u8]) -> Result<Self, Failure> {
        let directory = place.directory.join("index");
        let made = match fs::create_dir(&directory) {
            Ok(()) => Some(directory.clone()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Failure::new(format!(
                    "{}: recoding needs write permission on the collection",
                    place.directory.display()
                )));
            }
            Err(error) => return Err(Failure::io(&directory, &error)),
        };
        let handed = Self { file: directory.join(file_name()), made };
        // On its way to the disk before the filesystem is told of it: the kernel's own cache is not read.
        let written = File::create(&handed.file).and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        });
        written.map_err(|error| Failure::io(&handed.file, &error))?;
        Ok(handed)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        // What stays is a file that nothing reads; it goes with the collection.
        let _ = fs::remove_file(&self.file);
        let _ = self.made.as_ref().map(fs::remove_dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_four_dimensions_where_they_can() {
        let parts = [384, 768, 100, 6, 7, 2, 1].map(default_subvectors);
        assert_eq!(parts, [96, 192, 25, 1, 1, 1, 1]);
    }
}
