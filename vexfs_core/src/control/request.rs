//! `control`: work on a collection that a line of text asks for, and what is being done.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::render::json_string;
use super::{INDEX, Pseudo, REQUESTS, pseudo};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Codec, ColumnType, FileKind, Quantizer, collection_directory, collection_part};
use crate::memory::{self, Text};
use crate::numbers::{CollectionId, Ino, Time};
use crate::operations::{Recoding, load_collection};
use crate::volume::Volume;

/// Bytes of a string column that does not say how wide it is.
const STRING_WIDTH: u16 = 64;

impl<H: BlockDevice + Data> Volume<H> {
    /// Takes a request that was written to a [`Pseudo::Request`] file; the work is done by [`Volume::tidy`].
    ///
    /// # Errors
    /// `Invalid` for what is no request; those of the request.
    pub fn request(&mut self, inode: Ino, text: &[u8], now: Time) -> Result<()> {
        let (Some(Pseudo::Request), Some((id, REQUESTS))) = (pseudo(inode), collection_part(inode)) else {
            return Err(Error::NotPermitted("not a file that takes requests"));
        };
        let mut words = [&b""[..]; 6];
        let mut count = 0;
        for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).take(words.len()) {
            words[count] = word;
            count += 1;
        }
        match &words[..count] {
            [b"compact"] => self.compact(id),
            [b"recode", b"stop"] => self.stop_recode(id, now),
            [b"recode", b"pq"] => self.resume_quantizing(id, now),
            [b"recode", b"pq", subvectors, bits, file] => {
                self.recode_by_file(id, (*subvectors, *bits), file, now)
            }
            [b"recode", codec] => self.recode(id, codec_named(codec)?, now),
            [b"column", b"add", name, kind] => self.request_column(id, name, kind, None, now),
            [b"column", b"add", name, kind, width] => self.request_column(id, name, kind, Some(width), now),
            [b"column", b"drop", name] => self.drop_column(id, name, now),
            _ => Err(Error::Invalid(
                "no such request: a collection's control file takes `compact`, `recode CODEC`, `recode pq SUBVECTORS BITS FILE`, `recode stop`, `column add NAME TYPE` and `column drop NAME`",
            )),
        }
    }

    // `recode pq` alone: goes on with one that had stopped.
    fn resume_quantizing(&mut self, id: CollectionId, now: Time) -> Result<()> {
        match load_collection(self, id)?.recoding()? {
            Some(Recoding { codec: codec @ Codec::Pq(_), .. }) => self.recode(id, codec, now),
            _ => codec_named(b"pq").map(drop),
        }
    }

    // By a codebook that lies in the collection's index directory: raw f32, little-endian, of as many entries as the numbers say.
    fn recode_by_file(
        &mut self,
        id: CollectionId,
        (subvectors, bits): (&[u8], &[u8]),
        name: &[u8],
        now: Time,
    ) -> Result<()> {
        let number = |text| core::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let dimensions = load_collection(self, id)?.record.dimensions.get();
        let quantizer = number(subvectors)
            .and_then(|subvectors| Quantizer::cutting(dimensions, subvectors, number(bits)?))
            .ok_or(Error::Invalid(
                "pq cuts a vector into SUBVECTORS parts of equal length, which divide its dimension; BITS is 4 or 8",
            ))?;
        let entries = self.index_file(id, name, quantizer.codebook_len())?;
        self.recode_with(id, quantizer, &entries, now)
    }

    // The bytes of a file in a collection's index directory, if they are so many.
    fn index_file(&self, id: CollectionId, name: &[u8], len: usize) -> Result<Vec<u8>> {
        const MISSING: Error = Error::Invalid("there is no such file in the collection's `index` directory");
        let directory = self.lookup(collection_directory(id), INDEX).map_err(|_| MISSING)?.inode;
        let file = self.lookup(directory, name).map_err(|_| MISSING)?;
        if file.kind != FileKind::Regular || file.size != len as u64 {
            return Err(Error::Invalid(
                "the file with the codebook is not as long as SUBVECTORS and BITS say",
            ));
        }
        let mut bytes = memory::zeroed(len)?;
        let plan = self.read_begin(file.inode, 0, &mut bytes)?;
        for (range, place) in plan.pieces {
            self.patches.read(&self.host, place, &mut bytes[range])?;
        }
        Ok(bytes)
    }

    fn request_column(
        &mut self,
        id: CollectionId,
        name: &[u8],
        kind: &[u8],
        width: Option<&[u8]>,
        now: Time,
    ) -> Result<()> {
        let kind = ColumnType::from_name(kind)
            .ok_or(Error::Invalid("a column's type is bool, int, float, string or timestamp"))?;
        let number = |text| core::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let width = match width {
            Some(width) => number(width).ok_or(Error::Invalid("a string column is 1 to 256 bytes wide"))?,
            None => STRING_WIDTH,
        };
        self.add_column(id, name, kind, width, now)
    }

    /// What a collection's `control` shows: a JSON object.
    pub(super) fn requests(&self, text: &mut Text, id: CollectionId) -> Result<()> {
        let loaded = load_collection(self, id)?;
        let record = &loaded.record;
        write!(
            text,
            "{{\"compacting\":{},\"live\":{},\"rows\":{},\"frontier\":{}",
            self.is_compacting(id),
            record.live.get(),
            record.rows.get(),
            record.frontier.get(),
        )
        .map_err(|_| Error::NoMemory)?;
        recode(text, loaded.recoding()?, self.recode_stopped(id)).map_err(|_| Error::NoMemory)?;
        text.raw(b"}\n")
    }
}

// The codec of this name.
pub(crate) fn codec_named(name: &[u8]) -> Result<Codec> {
    if name == b"pq" {
        return Err(Error::Unsupported(
            "pq needs a codebook, which is trained on vectors: set some, then `vexfs recode COLLECTION --codec pq`; or give one by `vexfs create --codec pq --codebook FILE`",
        ));
    }
    if matches!(name, b"sparse" | b"lossless") {
        return Err(Error::Unsupported("this codec has a name, but this version cannot store with it"));
    }
    Codec::from_name(name).ok_or(Error::Invalid("a codec is none, f16, sq8, sq4 or binary"))
}

/// The member of an object that tells how far a recode is, with a comma before it; nothing where none is under way.
pub(super) fn recode(text: &mut Text, recoding: Option<Recoding>, stopped: Option<Error>) -> fmt::Result {
    let Some(recoding) = recoding else { return Ok(()) };
    write!(text, ",\"recode\":{{\"codec\":\"{}\",\"passed\":{}", recoding.codec.name(), recoding.next)?;
    if let Some(error) = stopped {
        let mut words = Text::new();
        write!(words, "{error}")?;
        text.write_str(",\"stopped\":")?;
        json_string(text, words.as_bytes())?;
    }
    text.write_str("}")
}
