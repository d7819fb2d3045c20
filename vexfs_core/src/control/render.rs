//! The computed files of the control directory: `README`, `status.json`, `metrics`, `log`, `schema.json`.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::{LOG, METADATA, METRICS, PATHS, PENDING, README, RECALL, REQUESTS, SCHEMA, STALE, STATUS};
use crate::codec;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Codec, MATRIX_DATA, collection_part, matrix_number};
use crate::memory::Text;
use crate::numbers::{CollectionId, Ino};
use crate::operations::Report;
use crate::volume::Volume;

const README_TEXT: &str = "\
This is the control directory of a VexFS volume. It is not listed in the root, so a copy of the volume
takes files and vectors and nothing else.

  status.json           the state of the volume
  metrics               counters, in Prometheus text format
  log                   what was refused lately, and why
  stale                 vectors whose file changed since they were made, with its path (root)
  pending               the files that this makes work of, a collection each, and who is at it until when (root)
  near/PATH/            links to the 20 files nearest to the file at PATH, nearest first, as far as you can find them; of a file
                        with vectors in several collections a directory for each, near/PATH/NAME/ (FUSE; with -o ctldir it
                        is there, but not listed)
  collections/<name>/   one directory a collection; mkdir creates, rmdir removes an empty one, mv renames
    schema.json         dimension, element, metric, model, rows, live
    vectors.npy         the matrix, one row a slot; data from byte 4096 on, rows padded to 64 bytes
    headers.npy         one 64-byte header a row: vector id, inode, times, CRC-32
    valid.npy           True where a row is in use
    generation.npy      512 numbers that tell a mapping what changed: [0] rises with each change, once the other columns show it, up to [1];
                        change g was of row x[2 + g % 510] & 0xffffffff if the upper half of that is g & 0xffffffff, else unknown
    vectors.arrow         the same in one Arrow IPC file: vector, vector_id, inode, n; free rows are null (FUSE)
    append              takes vectors as a stream of records, in batches (FUSE)
    metadata.jsonl      row, inode, number and metadata of every vector that has some, a JSON object a line
    <field>.npy         a member of the metadata, after `echo column add FIELD TYPE > control`; types are bool, int, float,
                        timestamp, and string BYTES; where a row has none: -1, -2^63, NaN, NaT, b\"\\xff\"
    paths.jsonl         row, path, inode and number of every vector, a JSON object a line (root)
    query               write a question, then read on the same descriptor; it tells only files that you can find:
                        {\"rows\": [ROW, ...]} asks whose rows they are; what is near (FUSE) is asked by
                        {\"vector\": [...], \"k\": 10}, {\"like\": \"PATH\", \"n\": 0} or the bytes of a vector, with
                        \"min_score\", \"within\": \"DIRECTORY\", \"where\": \"confidence > 0.5\" (as `vexfs query` has it)
                        and \"metric\" if you like. An index answers where it is faster and found \"min_recall\": 0.95 of
                        the exact answers when it was measured (FUSE); \"exact\": true reads every row, \"index\": true or
                        \"graph\" wants an index, \"explain\": true adds a last line {\"explain\": {\"plan\", \"why\", ...}}
    recall              what the indexes that answered real questions found of the exact answers, measured in idle time:
                        {\"measured\": [{\"kind\", \"k\", \"recall\", \"n\", \"low\", \"high\", ...}]}, or {} (FUSE)
    control             `echo compact > control` closes the gaps between live rows, `echo recode CODEC > control` stores them in
                        another codec (`recode stop` gives that up; `recode pq PARTS BITS FILE` takes raw floats of that
                        codebook from index/FILE); reading shows how far it is
    scale.npy           with codecs sq8, sq4 and binary: one float a row
    codebook.npy        with codec pq: floats of shape (parts of a vector, 256 or 16, dimensions of a part)
    index/              mkdir makes it: up to 64 files beside the matrix, such as what `vexfs index` builds; they
                        have the collection's owner and permissions, and go with it

A vector is an attribute of its file:

  setfattr -n user.vector.NAME -v 0s$(base64 -w0 vector.f32) FILE
  python3 -c 'import os,numpy; os.setxattr(\"FILE\", \"user.vector.NAME\", numpy.zeros(384,\"<f4\").tobytes())'

with a JSON object about it, if you like: source, model, confidence, start, length, or anything

  setfattr -n user.vector.NAME.meta -v '{\"source\":\"page 3\",\"confidence\":0.9}' FILE

What is set again goes, unless the collection keeps some of the vectors before each; `vexfs log FILE` tells when they were set

  setfattr -n user.vexfs.history -v 5 collections/NAME
  getfattr -n user.vector.NAME@-1 FILE

Many at once go into collections/NAME/append, one record behind the other. Close, fsync, or a read, which gives the
answer, ends a batch; it is set as a whole or not at all. PATH is from the root of the volume on

  struct.pack(\"<4sIQIIII\", b\"VEXA\", n, 0, len(PATH), len(VECTOR), 0, keep_old) + PATH + VECTOR

and every collection is a matrix that numpy maps:

  m = numpy.load(\"collections/NAME/vectors.npy\", mmap_mode=\"r\")
  valid = numpy.load(\"collections/NAME/valid.npy\", mmap_mode=\"r\")

A collection with a codec (user.vexfs.codec of its directory, while it is empty; `vexfs recode` later) stores its vectors in
fewer bits. After a recode vectors.npy, scale.npy and codebook.npy are other files: who has the old ones open keeps them as they were, and
the new generation, in schema.json and generation.npy, says to open them again. With d dimensions and s = numpy.load(\"scale.npy\", mmap_mode=\"r\")[:, None], all its vectors are

  f16     m[:, :d].astype(\"f4\")
  sq8     m[:, :d] * s
  sq4     (numpy.stack([m & 15, m >> 4], axis=-1).reshape(len(m), -1)[:, :d] - 7.5) * s
  binary  (2.0 * numpy.unpackbits(m, axis=1, bitorder=\"little\")[:, :d] - 1) * s
  pq      c = numpy.load(\"codebook.npy\", mmap_mode=\"r\"); parts, entries, _ = c.shape
          codes = m if entries == 256 else numpy.stack([m & 15, m >> 4], axis=-1).reshape(len(m), -1)
          c[numpy.arange(parts), codes[:, :parts]].reshape(len(m), d)
";

impl<H: BlockDevice + Data> Volume<H> {
    /// The content of a computed file of the control directory, as of now.
    pub fn render(&self, inode: Ino, report: &dyn Report) -> Result<Vec<u8>> {
        let mut text = Text::new();
        let written = match inode {
            README => text.write_str(README_TEXT),
            STATUS => self.status(&mut text, report),
            METRICS => self.metrics(&mut text, report),
            LOG => report.log(&mut text),
            STALE => {
                self.stale(&mut text)?;
                Ok(())
            }
            PENDING => {
                self.pending(&mut text)?;
                Ok(())
            }
            _ => match collection_part(inode) {
                Some((id, SCHEMA)) => {
                    self.schema(&mut text, id)?;
                    Ok(())
                }
                Some((id, PATHS)) => {
                    self.paths(&mut text, id)?;
                    Ok(())
                }
                Some((id, RECALL)) => {
                    self.collection(id)?;
                    report.recall(id, &mut text)
                }
                Some((id, METADATA)) => {
                    self.metadata(&mut text, id)?;
                    Ok(())
                }
                Some((id, REQUESTS)) => {
                    self.requests(&mut text, id)?;
                    Ok(())
                }
                _ => return Err(Error::NotFound),
            },
        };
        written.map_err(|_| Error::NoMemory)?;
        Ok(text.into_bytes())
    }

    fn status(&self, text: &mut Text, report: &dyn Report) -> fmt::Result {
        let numbers = self.statistics();
        text.write_str("{\"uuid\":\"")?;
        for (index, byte) in self.superblock.uuid.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.write_str("-")?;
            }
            write!(text, "{byte:02x}")?;
        }
        text.write_str("\",\"label\":")?;
        let label = &self.superblock.label;
        let len = label.iter().position(|byte| *byte == 0).unwrap_or(label.len());
        json_string(text, &label[..len])?;
        write!(
            text,
            ",\"version\":{},\"read_only\":{},\"block_size\":{},\"blocks\":{},\"free_blocks\":{},\
             \"pending_blocks\":{},\"tree_blocks\":{},\"inodes\":{},\"durable_generation\":{},\"dirty_bytes\":{}",
            self.superblock.version.get(),
            self.read_only,
            numbers.block_size,
            numbers.blocks,
            numbers.free,
            numbers.pending,
            numbers.tree_blocks,
            numbers.inodes,
            self.superblock.generation.get(),
            numbers.dirty_bytes,
        )?;
        report.status(text)?;
        text.write_str("}\n")
    }

    fn metrics(&self, text: &mut Text, report: &dyn Report) -> fmt::Result {
        let numbers = self.statistics();
        let gauges: [(&str, &str, u64); 9] = [
            ("block_size_bytes", "bytes of a block", u64::from(numbers.block_size)),
            ("blocks", "blocks for data and tree", numbers.blocks),
            ("free_blocks", "blocks free", numbers.free),
            ("pending_blocks", "blocks that come free with the next commit", numbers.pending),
            ("tree_blocks", "blocks of tree nodes", numbers.tree_blocks),
            ("inodes", "inodes in use", numbers.inodes),
            ("dirty_bytes", "metadata that waits for a commit", numbers.dirty_bytes),
            ("durable_generation", "the last durable commit", self.superblock.generation.get()),
            ("read_only", "1 if nothing can be changed", u64::from(self.read_only)),
        ];
        for (name, help, value) in gauges {
            write!(text, "# HELP vexfs_{name} {help}\n# TYPE vexfs_{name} gauge\nvexfs_{name} {value}\n")?;
        }
        report.metrics(text)
    }

    fn schema(&self, text: &mut Text, id: CollectionId) -> Result<()> {
        let collection = self.collection(id)?;
        let name = self.collection_name(id)?;
        let columns = self.columns(id)?;
        let mut write = || -> fmt::Result {
            text.write_str("{\"name\":")?;
            json_string(text, &name)?;
            write!(
                text,
                ",\"dimension\":{},\"element\":\"{}\",\"codec\":\"{}\",\"metric\":\"{}\",\"model\":",
                collection.dimensions,
                collection.element.name(),
                collection.codec.name(),
                collection.metric.name(),
            )?;
            json_string(text, &collection.model)?;
            write!(
                text,
                ",\"matrix\":{},\"inherit\":{},\"history\":{},\"rows\":{},\"live\":{},\"generation\":{},\"dtype\":\"{}\",\"row_bytes\":{},\
                 \"stride_bytes\":{},\"data_offset\":{},\"vector_bytes\":{},\"columns\":[",
                matrix_number(collection.matrix),
                collection.inherit,
                collection.history,
                collection.rows,
                collection.live,
                collection.changes,
                codec::dtype(collection.codec, collection.element),
                collection.stored_len,
                collection.stride,
                MATRIX_DATA,
                collection.vector_len(),
            )?;
            for (index, column) in columns.iter().enumerate() {
                text.write_str(if index == 0 { "{\"name\":" } else { ",{\"name\":" })?;
                json_string(text, &column.name)?;
                write!(text, ",\"type\":\"{}\",\"width\":{}}}", column.kind.name(), column.width)?;
            }
            text.write_str("]")?;
            if let Codec::Pq(quantizer) = collection.codec {
                let (subvectors, bits) = (quantizer.subvectors, quantizer.bits);
                write!(text, ",\"codebook\":{{\"subvectors\":{subvectors},\"bits\":{bits}}}")?;
            }
            super::request::recode(text, collection.recode, self.recode_stopped(id))?;
            text.write_str("}\n")
        };
        write().map_err(|_| Error::NoMemory)
    }
}

/// Writes a JSON string, quotes and all; bytes that are no UTF-8 become U+FFFD.
pub fn json_string(text: &mut Text, bytes: &[u8]) -> fmt::Result {
    text.write_str("\"")?;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => write!(text, "\\{character}")?,
                control if u32::from(control) < 0x20 => write!(text, "\\u{:04x}", u32::from(control))?,
                other => write!(text, "{other}")?,
            }
        }
        if !chunk.invalid().is_empty() {
            text.write_str("\u{fffd}")?;
        }
    }
    text.write_str("\"")
}
