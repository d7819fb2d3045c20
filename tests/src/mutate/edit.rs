//! One change of an image's metadata, and its text form.
//!
//! Records are named by their keys, nodes by the way to them from the root, so that a line of text stays right as
//! long as the base image holds the same things, wherever its blocks lie. Each variant shows its text.

use std::fmt;
use std::str::FromStr;

use vexfs_core::format::Key;

/// A change; checksums are not its business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// `put INODE/KIND/OFFSET HEX`: a record, new or in place of the one there.
    Put(Key, Vec<u8>),
    /// `drop INODE/KIND/OFFSET`: a record less.
    Drop(Key),
    /// `patch INODE/KIND/OFFSET AT HEX`: other bytes in a record's value.
    Patch(Key, usize, Vec<u8>),
    /// `node INDEX.INDEX... AT HEX`: other bytes in a node; `root` is the root, `root.1.2` a node two levels below.
    Node(Vec<u16>, usize, Vec<u8>),
    /// `space LEVEL.INDEX AT HEX`: other bytes in a block of the free-space map.
    Space(usize, usize, usize, Vec<u8>),
    /// `log NUMBER AT HEX`: other bytes in a record of the journal.
    Log(usize, usize, Vec<u8>),
    /// `super AT HEX`: other bytes in the superblock.
    Superblock(usize, Vec<u8>),
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |key: &Key| format!("{}/{}/{}", key.inode, key.kind, key.offset);
        match self {
            Self::Put(at, bytes) => write!(f, "put {} {}", key(at), hex(bytes)),
            Self::Drop(at) => write!(f, "drop {}", key(at)),
            Self::Patch(at, from, bytes) => write!(f, "patch {} {from} {}", key(at), hex(bytes)),
            Self::Node(way, from, bytes) => {
                let way: String = way.iter().map(|index| format!(".{index}")).collect();
                write!(f, "node root{way} {from} {}", hex(bytes))
            }
            Self::Space(level, index, from, bytes) => {
                write!(f, "space {level}.{index} {from} {}", hex(bytes))
            }
            Self::Log(number, from, bytes) => write!(f, "log {number} {from} {}", hex(bytes)),
            Self::Superblock(from, bytes) => write!(f, "super {from} {}", hex(bytes)),
        }
    }
}

impl FromStr for Edit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let wrong = || format!("not an edit: {text}");
        let at = |word: &str| word.parse::<usize>().map_err(|_| wrong());
        Ok(match words[..] {
            ["put", key, bytes] => Self::Put(parse_key(key)?, unhex(bytes)?),
            ["drop", key] => Self::Drop(parse_key(key)?),
            ["patch", key, from, bytes] => Self::Patch(parse_key(key)?, at(from)?, unhex(bytes)?),
            ["node", way, from, bytes] => {
                let way = way.split('.').skip(1).map(|word| word.parse().map_err(|_| wrong()));
                Self::Node(way.collect::<Result<_, _>>()?, at(from)?, unhex(bytes)?)
            }
            ["space", place, from, bytes] => {
                let (level, index) = place.split_once('.').ok_or_else(wrong)?;
                Self::Space(at(level)?, at(index)?, at(from)?, unhex(bytes)?)
            }
            ["log", number, from, bytes] => Self::Log(at(number)?, at(from)?, unhex(bytes)?),
            ["super", from, bytes] => Self::Superblock(at(from)?, unhex(bytes)?),
            _ => return Err(wrong()),
        })
    }
}

/// The text of several edits, in one line.
pub fn line(edits: &[Edit]) -> String {
    edits.iter().map(Edit::to_string).collect::<Vec<_>>().join("; ")
}

/// The edits of a line that [`line()`] wrote.
pub fn parse_line(text: &str) -> Result<Vec<Edit>, String> {
    text.split(';').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
}

fn parse_key(text: &str) -> Result<Key, String> {
    let wrong = || format!("not a key: {text}");
    let parts: Vec<&str> = text.split('/').collect();
    let [inode, kind, offset] = parts[..] else { return Err(wrong()) };
    Ok(Key {
        inode: inode.parse().map_err(|_| wrong())?,
        kind: kind.parse().map_err(|_| wrong())?,
        offset: offset.parse().map_err(|_| wrong())?,
    })
}

// A dash stands for no bytes at all.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    if text == "-" {
        return Ok(Vec::new());
    }
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2);
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())
    };
    pairs.map(|pair| byte(pair).ok_or_else(|| format!("not hexadecimal: {text}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_edit_are_the_same() {
        let key = Key { inode: u64::MAX, kind: 10, offset: 7 };
        let edits = vec![
            Edit::Put(key, vec![]),
            Edit::Put(key, vec![0, 255]),
            Edit::Drop(key),
            Edit::Patch(key, 8, vec![1]),
            Edit::Node(vec![], 0, vec![9]),
            Edit::Node(vec![1, 200], 4, vec![9, 8]),
            Edit::Space(1, 0, 16, vec![3]),
            Edit::Log(3, 8, vec![7]),
            Edit::Superblock(40, vec![1, 2, 3, 4]),
        ];
        assert_eq!(parse_line(&line(&edits)), Ok(edits));
        for wrong in ["", "put", "drop 1/2", "patch 1/2/3 x 00", "put 1/2/3 0", "space 1 0 00"] {
            assert!(wrong.parse::<Edit>().is_err(), "{wrong}");
        }
    }
}
