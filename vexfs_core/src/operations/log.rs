//! The versions of a file's vector, one a line of JSON, the present one first: `user.vexfs.log.<collection>[.<n>]`.
//!
//! It tells what there is, and reads no vector: bytes are told by their CRC-32.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::collection::Loaded;
use super::vector::{row_of, row_record};
use super::vector_name::{At, VectorName};
use super::{inode, metadata, past};
use crate::control::json_string;
use crate::error::{Error, Result};
use crate::format::{Codec, RowRecord, VERSION_GONE};
use crate::json::{self, Value};
use crate::memory::{self, Text};
use crate::numbers::Ino;
use crate::volume::Nodes;

const PREFIX: &[u8] = b"user.vexfs.log.";

/// The vector whose log an attribute asks for; `None` for other attributes.
pub(super) fn vector_of(attribute: &[u8]) -> Option<&[u8]> {
    attribute.strip_prefix(PREFIX)
}

/// The log of a file's vector, told by what stands behind `user.vector.` in its name.
pub(super) fn read<N: Nodes>(nodes: &N, inode: Ino, vector: &[u8]) -> Result<Vec<u8>> {
    let name = VectorName::parse_rest(vector)?;
    if name.meta || name.at != At::Present {
        return Err(Error::NoAttribute);
    }
    let (loaded, row) = row_of(nodes, inode, &name)?;
    let file = inode::load(nodes, inode)?;
    let content = file.version.get();
    let mut text = Text::new();
    let about = metadata::of_row(nodes, loaded.id, row)?;
    line(&mut text, &loaded, 0, &row_record(nodes, &loaded, row)?, about.as_deref(), content)?;
    if file.links.get() == 0 {
        return Ok(text.into_bytes());
    }
    let ids = past::list(nodes, inode, loaded.id, name.n)?;
    for (index, vector_id) in ids.into_iter().take(loaded.history()).enumerate() {
        let (row, about) = past::described(nodes, loaded.id, vector_id)?;
        line(&mut text, &loaded, index + 1, &row, about.as_deref(), content)?;
    }
    Ok(text.into_bytes())
}

fn line(
    text: &mut Text,
    loaded: &Loaded,
    back: usize,
    row: &RowRecord,
    about: Option<&[u8]>,
    content: u64,
) -> Result<()> {
    let mut model = memory::copy(&loaded.model)?;
    if let Some(Value::String(own)) = about.map(|about| json::member(about, b"model")).transpose()?.flatten()
    {
        model = json::unescape(own)?;
    }
    write(text, back, row, &model, content).map_err(|_| Error::NoMemory)
}

fn write(text: &mut Text, back: usize, row: &RowRecord, model: &[u8], content: u64) -> fmt::Result {
    let header = &row.header;
    write!(text, "{{\"back\":{back},\"vector_id\":{},\"set\":\"", header.vector_id.get())?;
    json::write_time(text, header.modified_timestamp.get())?;
    let version = row.version.get();
    match version {
        VERSION_GONE => text.write_str("\",\"version\":null")?,
        version => write!(text, "\",\"version\":{version}")?,
    }
    let codec = Codec::name_of(header.compression.get()).unwrap_or("");
    write!(
        text,
        ",\"fresh\":{},\"crc32\":\"{:08x}\",\"bytes\":{},\"codec\":\"{codec}\",\"model\":",
        version == content,
        header.checksum.get(),
        header.compressed_size.get(),
    )?;
    json_string(text, model)?;
    text.write_str("}\n")
}
