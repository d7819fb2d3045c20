//! What each host answers when it is asked what is near, in every collection of whole numbers or bits of a tree.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use vexfs_guest::bytes::noise;

use crate::call;
use crate::manifest::{Failure, Outcome, hash};

const USER: u32 = 1000;

/// Prints a line a question, with the number and the hash of the answer's lines, and its first lines.
pub(crate) fn run(root: &Path) -> Outcome {
    let mut directories: Vec<_> = fs::read_dir(root.join(".vexfs/collections"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    directories.sort();
    for directory in directories {
        let schema = fs::read_to_string(directory.join("schema.json"))?;
        let element = member(&schema, "element").trim_matches('"').to_owned();
        let dimensions = member(&schema, "dimensions").parse().unwrap_or(0);
        // One who is not root reaches less.
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
        for question in questions(&element, dimensions, &directory)? {
            for uid in [0, USER] {
                tell(&directory, uid, &question)?;
            }
        }
    }
    Ok(())
}

// A member of a flat object, as it is written.
fn member<'a>(object: &'a str, name: &str) -> &'a str {
    let rest = object.split_once(&format!("\"{name}\":")).map_or("", |(_, rest)| rest.trim_start());
    rest.split([',', '}', '\n']).next().unwrap_or_default().trim()
}

fn questions(element: &str, dimensions: usize, directory: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let metrics: &[&str] = match element {
        "i8" | "i16" => &["cosine", "l2", "ip"],
        "bit" => &["cosine", "l2", "ip", "hamming"],
        _ => return Ok(Vec::new()),
    };
    let len = match element {
        "i8" => dimensions,
        "i16" => 2 * dimensions,
        _ => dimensions / 8,
    };
    let mut asked = vec![noise(1, len), noise(2, len)];
    let some = ask(directory, 0, &noise(3, len))?;
    for (index, metric) in metrics.iter().enumerate() {
        let numbers: Vec<String> = match element {
            "bit" => (0..dimensions).map(|at| (at % (index + 2) / 2).to_string()).collect(),
            _ => noise(index as u64, dimensions).iter().map(|byte| (*byte as i8).to_string()).collect(),
        };
        let vector = numbers.join(",");
        asked.push(format!("{{\"vector\":[{vector}],\"k\":1000,\"metric\":\"{metric}\"}}").into());
        asked.push(format!("{{\"vector\":[{vector}],\"k\":0,\"metric\":\"{metric}\"}}").into());
        for path in String::from_utf8_lossy(&some).lines().map(|line| member(line, "path")).take(3) {
            asked.push(format!("{{\"like\":{path},\"k\":20,\"metric\":\"{metric}\"}}").into());
        }
    }
    Ok(asked)
}

fn ask(directory: &Path, uid: u32, question: &[u8]) -> Result<Vec<u8>, Failure> {
    // The user need not find what lies above the mount.
    std::env::set_current_dir(directory)?;
    let open = || OpenOptions::new().read(true).write(true).open("query");
    let mut file = if uid == 0 { open() } else { call::as_user(uid, open) }?;
    file.write_all(question)?;
    let mut answer = Vec::new();
    file.read_to_end(&mut answer)?;
    Ok(answer)
}

fn tell(directory: &Path, uid: u32, question: &[u8]) -> Outcome {
    let answer = String::from_utf8(ask(directory, uid, question)?)?;
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let begin = question[..question.len().min(40)].escape_ascii();
    let (lines, hash) = (answer.lines().count(), hash(answer.as_bytes()));
    println!("{name}, {uid}: {begin}... {lines} lines {hash:016x}");
    answer.lines().take(2).for_each(|line| println!("  {line}"));
    Ok(())
}
