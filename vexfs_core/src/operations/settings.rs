//! `user.vexfs.*` on a collection's directory: its configuration, but for `inherit` and `history` to be changed while it is
//! empty.

use alloc::vec::Vec;
use core::fmt::Write;

use zerocopy::little_endian::U16;

use super::collection::{Loaded, load};
use super::rows::raise_generation;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{COLLECTION_MODEL_MAX, CollectionFlags, Element, HISTORY_MAX, Metric, collection_part};
use crate::memory::{self, Text};
use crate::numbers::{Ino, Time};
use crate::transaction::Budget;
use crate::volume::{Nodes, Volume};

const DIMENSION: &[u8] = b"user.vexfs.dim";
const ELEMENT: &[u8] = b"user.vexfs.element";
const METRIC: &[u8] = b"user.vexfs.metric";
const MODEL: &[u8] = b"user.vexfs.model";
const INHERIT: &[u8] = b"user.vexfs.inherit";
const CODEC: &[u8] = b"user.vexfs.codec";
const HISTORY: &[u8] = b"user.vexfs.history";

impl<H: BlockDevice + Data> Volume<H> {
    /// Changes a setting of an empty collection.
    pub(crate) fn set_setting(&mut self, inode: Ino, name: &[u8], value: &[u8], now: Time) -> Result<()> {
        let Some((id, 0)) = collection_part(inode) else {
            return Err(Error::NotPermitted(
                "user.vexfs attributes are set on a collection's directory alone",
            ));
        };
        self.transact(Budget::records(4), now, |tx| {
            let mut loaded = load(tx, id)?;
            let used = loaded.record.live.get() != 0 || loaded.record.frontier.get() != 0;
            let fixed = used || loaded.recoding()?.is_some();
            if fixed && name != INHERIT && name != HISTORY {
                return Err(Error::NotPermitted("a collection can be configured only while it is empty"));
            }
            change_setting(&mut loaded, name, value)?;
            loaded.store(tx)?;
            // How rows will be is told as a change of one is; searches ask neither what is inherited nor what is kept.
            if name == INHERIT || name == HISTORY { Ok(()) } else { raise_generation(tx, id) }
        })
    }
}

/// The value of a collection's setting, if that is what the name means.
pub(crate) fn setting<N: Nodes>(nodes: &N, inode: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
    let Some((id, 0)) = collection_part(inode) else { return Ok(None) };
    let loaded = load(nodes, id)?;
    let mut text = Text::new();
    match name {
        DIMENSION => write!(text, "{}", loaded.record.dimensions.get()).map_err(|_| Error::NoMemory)?,
        ELEMENT => text.raw(loaded.element()?.name().as_bytes())?,
        METRIC => text.raw(loaded.show()?.metric.name().as_bytes())?,
        MODEL => text.raw(&loaded.model)?,
        INHERIT => text.raw(if loaded.show()?.inherit { b"1" } else { b"0" })?,
        CODEC => text.raw(loaded.codec()?.name().as_bytes())?,
        HISTORY => write!(text, "{}", loaded.history()).map_err(|_| Error::NoMemory)?,
        _ => return Ok(None),
    }
    Ok(Some(text.into_bytes()))
}

/// The names of a collection's settings, each with a NUL behind it.
pub(crate) fn settings<N: Nodes>(nodes: &N, inode: Ino) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    if let Some((id, 0)) = collection_part(inode) {
        load(nodes, id)?;
        for name in [DIMENSION, ELEMENT, METRIC, MODEL, CODEC, INHERIT, HISTORY] {
            memory::extend(&mut names, name)?;
            memory::push(&mut names, 0)?;
        }
    }
    Ok(names)
}

fn change_setting(loaded: &mut Loaded, name: &[u8], value: &[u8]) -> Result<()> {
    let number = || core::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<u32>().ok());
    match name {
        DIMENSION => {
            let dimension = number().ok_or(Error::Invalid("user.vexfs.dim is a decimal number"))?;
            loaded.shape(loaded.codec()?, loaded.element()?, dimension)?;
        }
        ELEMENT => {
            let element = Element::from_name(value)
                .ok_or(Error::Invalid("user.vexfs.element is f32, f16, i8, i16 or bit"))?;
            // Entries that f32 can have may be too large for f16, and a codebook in memory is of the one or the other.
            if loaded.quantizer().is_some() && element != loaded.element()? {
                return Err(Error::NotPermitted(
                    "a collection with a codebook keeps its element type: recode it to another codec first",
                ));
            }
            loaded.shape(loaded.codec()?, element, loaded.record.dimensions.get())?;
        }
        METRIC => {
            let metric = Metric::from_name(value)
                .ok_or(Error::Invalid("user.vexfs.metric is cosine, l2, ip or hamming"))?;
            loaded.record.metric = U16::new(metric as u16);
        }
        MODEL => {
            if value.len() > COLLECTION_MODEL_MAX {
                return Err(Error::Invalid("the model's name is longer than 255 bytes"));
            }
            loaded.model = memory::copy(value)?;
            loaded.record.model_len = U16::new(value.len() as u16);
        }
        INHERIT => {
            let mut flags = loaded.flags();
            match value {
                b"0" | b"1" => flags.set(CollectionFlags::NO_INHERIT, value == b"0"),
                _ => return Err(Error::Invalid("user.vexfs.inherit is 1 or 0")),
            }
            loaded.record.flags = U16::new(flags.bits());
        }
        HISTORY => {
            let count = number().and_then(|count| u16::try_from(count).ok());
            loaded.record.history = U16::new(count.filter(|count| *count <= HISTORY_MAX).ok_or(
                Error::Invalid("user.vexfs.history is how many superseded vectors are kept, 0 to 64"),
            )?);
        }
        CODEC => {
            let codec = control::codec_named(value)?;
            if loaded.quantizer().is_some() {
                return Err(Error::NotPermitted(
                    "a collection with a codebook gets another codec by `vexfs recode`",
                ));
            }
            loaded.shape(codec, loaded.element()?, loaded.record.dimensions.get())?;
        }
        _ => {
            return Err(Error::Invalid(
                "unknown setting: use dim, element, metric, model, codec, inherit or history",
            ));
        }
    }
    Ok(())
}
