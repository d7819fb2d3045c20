//! `stale`, and a collection's `paths.jsonl` and `metadata.jsonl`: rows with the paths of their files or what is said of
//! them, a JSON object a line.

use alloc::vec::Vec;
use core::fmt::Write;

use super::render::json_string;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, Key, Kind, RowRecord, collection_directory, collection_part, parse_exact};
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino};
use crate::operations::{load_inode, metadata_of_row};
use crate::tree;
use crate::volume::Volume;

impl<H: BlockDevice + Data> Volume<H> {
    /// Every vector whose file changed since it was made.
    pub(super) fn stale(&self, text: &mut Text) -> Result<()> {
        let mut collections = Vec::new();
        let mut failed = Ok(());
        self.read_directory(COLLECTIONS, 0, &mut |entry| {
            let Some((id, 0)) = collection_part(entry.inode) else { return true };
            failed = memory::copy(entry.name).and_then(|name| memory::push(&mut collections, (id, name)));
            failed.is_ok()
        })?;
        failed?;
        for (id, name) in collections {
            self.each_row(id, &mut |row, record| {
                let file = Ino(record.header.file_inode.get());
                let version = load_inode(self, file)?.version;
                if version == record.version {
                    return Ok(());
                }
                path_member(text, self.path(file)?.as_deref())?;
                let rest = |text: &mut Text| {
                    text.write_str(",\"collection\":")?;
                    json_string(text, &name)?;
                    writeln!(text, ",\"n\":{},\"row\":{row},\"version\":{version}}}", record.n)
                };
                rest(text).map_err(|_| Error::NoMemory)
            })?;
        }
        Ok(())
    }

    /// The file of every live row.
    pub(super) fn paths(&self, text: &mut Text, id: CollectionId) -> Result<()> {
        self.each_row(id, &mut |row, record| {
            let file = Ino(record.header.file_inode.get());
            path_member(text, self.path(file)?.as_deref())?;
            writeln!(text, ",\"row\":{row},\"n\":{},\"inode\":{file}}}", record.n)
                .map_err(|_| Error::NoMemory)
        })
    }

    /// The metadata of every live row that has some.
    pub(super) fn metadata(&self, text: &mut Text, id: CollectionId) -> Result<()> {
        self.each_row(id, &mut |row, record| {
            let Some(mut about) = metadata_of_row(self, id, row)? else { return Ok(()) };
            // Line ends stand between values alone: in a string they are escaped.
            for byte in about.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
                *byte = b' ';
            }
            write!(
                text,
                "{{\"row\":{row},\"inode\":{},\"n\":{},\"metadata\":",
                record.header.file_inode, record.n
            )
            .map_err(|_| Error::NoMemory)?;
            text.raw(about.trim_ascii())?;
            text.raw(b"}\n")
        })
    }

    fn each_row(&self, id: CollectionId, each: &mut dyn FnMut(u64, &RowRecord) -> Result<()>) -> Result<()> {
        let directory = collection_directory(id);
        let (from, to) = (Key::new(directory, Kind::Row, 0), Key::last(directory, Kind::Row));
        tree::scan(self, from, to, &mut |key, value| {
            each(key.offset, parse_exact(value, "row of collection", directory.0)?)?;
            Ok(true)
        })
    }
}

/// Opens an object with the path as its first member; a path that is no UTF-8 also as the hexadecimal digits of its bytes.
pub(super) fn path_member(text: &mut Text, path: Option<&[u8]>) -> Result<()> {
    let write = |text: &mut Text| {
        text.write_str("{\"path\":")?;
        let Some(path) = path else { return text.write_str("null") };
        json_string(text, path)?;
        if core::str::from_utf8(path).is_err() {
            text.write_str(",\"path_hex\":\"")?;
            for byte in path {
                write!(text, "{byte:02x}")?;
            }
            text.write_str("\"")?;
        }
        Ok(())
    };
    write(text).map_err(|_| Error::NoMemory)
}
