//! Golden images: small volumes with one of everything, and listings of what is on them.
//!
//! `tests/golden/v1-4k.img.gz` and its siblings are read by every later version, with the core and with
//! `scripts/read_image.py`. The listing beside each was written by the [`maker`], which knows what it put there; it
//! is never what some reader made of the image.
//!
//! `cargo run -p vexfs_tests --bin make-golden` writes those that are missing. An image that is there stays as it is:
//! a format that grows gets images of its own beside it.

mod codebooks;
pub mod listing;
pub mod maker;
mod plan;
mod sha256;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use vexfs_core::device::BlockDevice;
use vexfs_core::{Error, Result};

pub use sha256::sha256;

/// Names and block sizes of the images.
pub const IMAGES: [(&str, u32); 11] = [
    ("v1-4k", 4096),
    ("v1-8k", 8192),
    ("v1-16k", 16384),
    ("v1-journal-4k", 4096),
    ("v1-journal-8k", 8192),
    ("v1-journal-16k", 16384),
    ("v1-codecs-4k", 4096),
    ("v1-metadata-4k", 4096),
    ("v1-history-4k", 4096),
    ("v1-recode-4k", 4096),
    ("v1-codebook-4k", 4096),
];

/// What an image has; the oldest have none of these.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// It was left with a journal to replay.
    pub journal: bool,
    /// Collections of all codecs.
    pub codecs: bool,
    /// Vectors with metadata, and columns.
    pub metadata: bool,
    /// Vectors with superseded ones behind them.
    pub history: bool,
    /// Collections that were recoded, and one that is on its way.
    pub recode: bool,
    /// Collections that are stored by codebooks, and one that is on its way.
    pub codebook: bool,
}

impl Features {
    /// Those of the image of this name.
    pub fn of(name: &str) -> Self {
        Self {
            journal: name.contains("journal"),
            codecs: name.contains("codecs"),
            metadata: name.contains("metadata"),
            history: name.contains("history"),
            recode: name.contains("recode"),
            codebook: name.contains("codebook"),
        }
    }
}

/// Where they lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The bytes of an image, unpacked by gzip(1).
pub fn unpack(name: &str) -> io::Result<Vec<u8>> {
    let path = directory().join(format!("{name}.img.gz"));
    let output = Command::new("gzip").arg("-dc").arg(&path).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(io::Error::other(format!("gzip -dc {}: {}", path.display(), String::from_utf8_lossy(&output.stderr))))
}

/// A disk in memory.
pub struct Ram(RefCell<Vec<u8>>);

impl Ram {
    /// A disk of these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(RefCell::new(bytes))
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

impl BlockDevice for Ram {
    fn size(&self) -> u64 {
        self.0.borrow().len() as u64
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let bytes = self.0.borrow();
        let range = bytes.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(range.ok_or(Error::Invalid("a read behind the end of the disk"))?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut disk = self.0.borrow_mut();
        let range = disk.get_mut(offset as usize..offset as usize + bytes.len());
        range.ok_or(Error::Invalid("a write behind the end of the disk"))?.copy_from_slice(bytes);
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}
