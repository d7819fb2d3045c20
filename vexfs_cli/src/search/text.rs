//! A text's vector, by the command that the user names.

use std::io::Write;
use std::process::{Command, Stdio};

use vexfs_search::Collection;

use crate::failure::Failure;
use crate::site::Place;
use crate::vector::Given;

/// Runs the embedder with the text on its stdin, and reads the vector that it prints.
pub(super) fn embed(
    text: &str,
    embedder: Option<&str>,
    place: &Place,
    collection: &Collection,
) -> Result<Given, Failure> {
    let command = embedder.filter(|command| !command.trim().is_empty()).ok_or_else(|| {
        Failure::new("--text needs an embedder: --embedder COMMAND, or VEXFS_EMBEDDER in the environment")
    })?;
    let failed = |why: String| Failure::new(format!("embedder `{command}`: {why}"));
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("VEXFS_COLLECTION", &place.name.collection)
        .env("VEXFS_MODEL", &collection.schema().model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    // An embedder that reads nothing closes its end; what it prints tells whether that was right.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(output.status.to_string()));
    }
    match written {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            return Err(failed(error.to_string()));
        }
        _ => {}
    }
    if output.stdout.trim_ascii().is_empty() {
        return Err(failed("printed no vector".into()));
    }
    Given::parse(&output.stdout).map_err(failed)
}
