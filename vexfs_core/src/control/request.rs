//! `control`: work on a collection that a line of text asks for, and what is being done.

use core::fmt::{self, Write};

use super::render::json_string;
use super::{Pseudo, REQUESTS, pseudo};
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{Codec, ColumnType, collection_part};
use crate::memory::Text;
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
            [b"recode", codec] => self.recode(id, codec_named(codec)?, now),
            [b"column", b"add", name, kind] => self.request_column(id, name, kind, None, now),
            [b"column", b"add", name, kind, width] => self.request_column(id, name, kind, Some(width), now),
            [b"column", b"drop", name] => self.drop_column(id, name, now),
            _ => Err(Error::Invalid(
                "no such request: a collection's control file takes `compact`, `recode CODEC`, `recode stop`, `column add NAME TYPE` and `column drop NAME`",
            )),
        }
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
    if matches!(name, b"sparse" | b"pq" | b"lossless") {
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
