//! Which part of a file a vector is of, as its metadata tells.

use serde_json::Value;

/// A part of a file, in whatever unit its vector's metadata counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Chunk {
    /// From metadata, if that has both members.
    pub(crate) fn of(metadata: &Value) -> Option<Self> {
        let number = |name: &str| metadata.get(name)?.as_u64();
        Some(Self { start: number("start")?, length: number("length")? })
    }
}

/// `path`, or `path:start+length` of a part.
pub(crate) fn place(path: &str, chunk: Option<Chunk>) -> String {
    match chunk {
        Some(Chunk { start, length }) => format!("{path}:{start}+{length}"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_part_is_told_behind_its_path() {
        let chunk = Chunk::of(&json!({"source": "book", "start": 1200, "length": 300}));
        assert_eq!(place("a/b.txt", chunk), "a/b.txt:1200+300");
        assert_eq!(place("a/b.txt", Chunk::of(&json!({"start": 1}))), "a/b.txt");
        assert_eq!(Chunk::of(&json!([1])), None);
    }
}
