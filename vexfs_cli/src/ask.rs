//! A collection's `query` file: the files of rows, as the filesystem knows them and as far as the caller finds them.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::failure::Failure;
use crate::site::Place;

/// Rows in one question.
const ROWS: usize = 100_000;

/// The file that a row belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// From the root of the mount.
    pub(crate) path: PathBuf,
    /// Its number.
    pub(crate) inode: u64,
    /// Which of its vectors the row is.
    pub(crate) n: u32,
}

/// The files of those of `rows` whose file the caller can find, a moment ago; none where the host answers no questions.
pub(crate) fn owners(place: &Place, rows: &[u64]) -> Result<Option<HashMap<u64, Owner>>, Failure> {
    let path = place.directory.join("query");
    let mut file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(_) => return Ok(None),
    };
    let mut owners = HashMap::with_capacity(rows.len());
    for rows in rows.chunks(ROWS) {
        let answer = ask(&mut file, rows).map_err(|error| Failure::io(&path, &error))?;
        for line in answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let wrong = |why: &str| Failure::new(format!("{}: {why}", path.display()));
            let line: Value = serde_json::from_slice(line).map_err(|error| wrong(&error.to_string()))?;
            if let Some(error) = line.get("error").and_then(Value::as_str) {
                return Err(wrong(error));
            }
            let (row, owner) =
                parse(&line).ok_or_else(|| wrong("an answer without path, row, n or inode"))?;
            owners.insert(row, owner);
        }
    }
    Ok(Some(owners))
}

fn ask(file: &mut File, rows: &[u64]) -> io::Result<Vec<u8>> {
    file.write_all(serde_json::json!({ "rows": rows }).to_string().as_bytes())?;
    let mut answer = Vec::new();
    file.read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(line: &Value) -> Option<(u64, Owner)> {
    let number = |name: &str| line.get(name)?.as_u64();
    let path = match line.get("path_hex").and_then(Value::as_str) {
        Some(digits) => bytes(digits)?,
        None => line.get("path")?.as_str()?.as_bytes().to_vec(),
    };
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    Some((number("row")?, Owner { path, inode: number("inode")?, n: u32::try_from(number("n")?).ok()? }))
}

// Bytes that are written as hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_line_is_a_row_and_its_file() {
        let line = serde_json::json!({"path": "a/b", "row": 3, "n": 1, "inode": 77});
        let owner = Owner { path: "a/b".into(), inode: 77, n: 1 };
        assert_eq!(parse(&line), Some((3, owner)));
        let line = serde_json::json!({"path": "a\u{fffd}", "path_hex": "61ff", "row": 0, "n": 0, "inode": 5});
        let path: &Path = &parse(&line).unwrap().1.path;
        assert_eq!(path.as_os_str().as_encoded_bytes(), b"a\xff");
        assert_eq!(parse(&serde_json::json!({"path": "a", "row": 1, "inode": 1})), None);
        assert_eq!(bytes("6"), None);
    }
}
