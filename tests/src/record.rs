//! The record of a disk that QEMU's `blklogwrites` filter keeps, in the format of Linux's dm-log-writes: every write,
//! flush and discard in the order in which the disk was told of them.
//!
//! The disk holds a volume at its beginning, and behind that the lines of a workload ([`vexfs_guest::told`]). Writes of
//! the volume become a [`Trace`]; each line is a moment of it.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use vexfs_guest::told::Line;

use crate::image::Image;
use crate::sim::{Event, Trace};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// Bytes of the head and of what comes before each entry.
const SECTOR: usize = 512;

/// The `index`-th number of a sector: of the head magic, version, count of entries and (of 32 bits) bytes of a sector; of an
/// entry its sector, count of sectors, flags, length of a mark.
fn number(sector: &[u8; SECTOR], index: usize) -> u64 {
    let bytes = sector.chunks_exact(8).nth(index).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

/// What was recorded.
pub struct Record {
    /// What happened to the volume.
    pub trace: Trace,
    /// Events of the trace before each line, and the line, in order.
    pub lines: Vec<(usize, Line)>,
}

impl Record {
    /// Reads the record at `path` of a disk that began with the volume `base`.
    ///
    /// # Errors
    /// A file that is no such record, or one that ends early.
    pub fn read(base: Image, path: &Path) -> Result<Self, String> {
        let say = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(say)?);
        let mut sector = [0; SECTOR];
        file.read_exact(&mut sector).map_err(say)?;
        let bytes_of_a_sector = number(&sector, 3) & u64::from(u32::MAX);
        if (number(&sector, 0), number(&sector, 1), bytes_of_a_sector) != (MAGIC, VERSION, SECTOR as u64) {
            return Err(format!(
                "{}: not a record of blklogwrites with sectors of 512 bytes",
                path.display()
            ));
        }
        let entries = number(&sector, 2);
        let mut record = Self { trace: Trace { base, events: Vec::new() }, lines: Vec::new() };
        for entry in 0..entries {
            file.read_exact(&mut sector).map_err(say)?;
            let (at, len) = (number(&sector, 0) * SECTOR as u64, number(&sector, 1) as usize * SECTOR);
            let flags = number(&sector, 2);
            let mut bytes = None;
            if flags & DISCARD == 0 && len > 0 {
                let mut written = vec![0; len];
                file.read_exact(&mut written).map_err(say)?;
                bytes = Some(written);
            }
            record.note(flags, at, len, bytes).map_err(|why| format!("entry {entry}: {why}"))?;
        }
        Ok(record)
    }

    fn note(&mut self, flags: u64, at: u64, len: usize, bytes: Option<Vec<u8>>) -> Result<(), String> {
        let events = &mut self.trace.events;
        if flags & FLUSH != 0 {
            events.push(Event::Flush);
        }
        let size = self.trace.base.size();
        match bytes {
            Some(bytes) if at >= size => {
                let text = String::from_utf8_lossy(&bytes);
                self.lines.push((events.len(), text.trim_end().parse()?));
            }
            Some(bytes) if self.trace.base.covers(at, len) => {
                events.push(Event::Write { offset: at, bytes: bytes.into() });
            }
            None if len == 0 || at >= size => {}
            None if self.trace.base.covers(at, len) => events.push(Event::Discard { offset: at, len }),
            _ => return Err(format!("{len} bytes at {at} lie across the end of the volume")),
        }
        Ok(())
    }
}
