//! `stale`, `pending`, and a collection's `paths.jsonl` and `metadata.jsonl`: rows with the paths of their files or what is said of
//! them, a JSON object a line.

use alloc::vec::Vec;
use core::fmt::Write;

use super::render::json_string;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTIONS, RowRecord, collection_directory, collection_part, parse_exact};
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino};
use crate::operations::{load_collection, load_inode, metadata_of_row};
use crate::tree;
use crate::volume::Volume;

impl<H: BlockDevice + Data> Volume<H> {
    /// Every vector whose file changed since it was made.
    pub(super) fn stale(&self, text: &mut Text) -> Result<()> {
        for (id, name) in self.all_collections()? {
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

    /// Every file with stale vectors in a collection, and every one that is leased, with who holds it until when.
    ///
    /// Without a clock it cannot tell which leases are over; whoever asks for one can.
    pub(super) fn pending(&self, text: &mut Text) -> Result<()> {
        for (id, name) in self.all_collections()? {
            let mut files: Vec<(Ino, Option<u32>)> = Vec::new();
            self.each_row(id, &mut |_, record| {
                let file = Ino(record.header.file_inode.get());
                if load_inode(self, file)?.version == record.version {
                    return Ok(());
                }
                memory::push(&mut files, (file, Some(record.n.get())))
            })?;
            for lease in self.leases.iter().filter(|lease| lease.id == id) {
                memory::push(&mut files, (lease.inode, None))?;
            }
            files.sort_unstable();
            for vectors in files.chunk_by(|a, b| a.0 == b.0) {
                self.pending_file(text, (id, &name), vectors)?;
            }
        }
        Ok(())
    }

    // A line of `pending`: a file, and the numbers of its stale vectors.
    fn pending_file(
        &self,
        text: &mut Text,
        (id, collection): (CollectionId, &[u8]),
        vectors: &[(Ino, Option<u32>)],
    ) -> Result<()> {
        let Some((file, _)) = vectors.first().copied() else { return Ok(()) };
        let version = match load_inode(self, file) {
            Ok(record) => record.version,
            // The lease of a file that is gone.
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        path_member(text, self.path(file)?.as_deref())?;
        let lease = self.leases.iter().find(|lease| lease.inode == file && lease.id == id);
        let mut write = || {
            text.write_str(",\"collection\":")?;
            json_string(text, collection)?;
            write!(text, ",\"inode\":{file},\"version\":{version},\"stale\":[")?;
            for (index, n) in vectors.iter().filter_map(|(_, n)| *n).enumerate() {
                write!(text, "{}{n}", if index == 0 { "" } else { "," })?;
            }
            text.write_str("]")?;
            if let Some(lease) = lease {
                text.write_str(",\"holder\":")?;
                json_string(text, &lease.holder)?;
                write!(text, ",\"until\":{}", lease.until)?;
            }
            text.write_str("}\n")
        };
        write().map_err(|_| Error::NoMemory)
    }

    // Number and name of every collection.
    fn all_collections(&self) -> Result<Vec<(CollectionId, Vec<u8>)>> {
        let mut collections = Vec::new();
        let mut failed = Ok(());
        self.read_directory(COLLECTIONS, 0, &mut |entry| {
            let Some((id, 0)) = collection_part(entry.inode) else { return true };
            failed = memory::copy(entry.name).and_then(|name| memory::push(&mut collections, (id, name)));
            failed.is_ok()
        })?;
        failed?;
        Ok(collections)
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
        let (from, to) = load_collection(self, id)?.row_keys(0);
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
