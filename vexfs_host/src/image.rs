//! An image: a regular file or a block device that a volume lies on, or will.
//!
//! INVARIANT: a [`LockedImage`] holds the image's `flock` (shared if it only reads), and a block device is
//! claimed with `O_EXCL` besides, for as long as it lives; none exists of a device that the kernel mounts. Where the
//! kernel is about to mount the device for the holder, that mount is the claim ([`LockedImage::open_for_mount`]).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Deref;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, OFlag};

use crate::error::ImageError;
use crate::lock;
use crate::mounts;

/// What an image is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading; several may at once.
    Read,
    /// Reading and writing, alone.
    Write,
}

/// An open image, not locked.
#[derive(Debug)]
pub struct Image {
    pub(crate) file: Flockable,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) is_device: bool,
    /// Set once the system refused a discard as unknown; it is not asked again.
    pub(crate) no_discard: AtomicBool,
}

/// The open file, with or without its lock.
#[derive(Debug)]
pub(crate) enum Flockable {
    Open(File),
    Locked(Flock<File>),
}

impl Deref for Flockable {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Self::Open(file) => file,
            Self::Locked(file) => file,
        }
    }
}

impl Image {
    /// Opens an image without locking it: what is read may change meanwhile.
    pub fn open(path: &Path, access: Access) -> Result<Self, ImageError> {
        Self::open_with(path, access, OFlag::empty())
    }

    fn open_with(path: &Path, access: Access, flags: OFlag) -> Result<Self, ImageError> {
        // Non-blocking, so that a fifo given by mistake is refused and not waited for.
        let flags = (flags | OFlag::O_NONBLOCK).bits();
        let opened =
            OpenOptions::new().read(true).write(access == Access::Write).custom_flags(flags).open(path);
        let mut file = opened.map_err(|source| ImageError::io("open", path, source))?;
        let metadata = file.metadata().map_err(|source| ImageError::io("stat", path, source))?;
        let is_device = metadata.file_type().is_block_device();
        if !is_device && !metadata.is_file() {
            return Err(ImageError::WrongKind { path: path.into(), kind: kind_name(&metadata) });
        }
        let end =
            file.seek(SeekFrom::End(0)).map_err(|source| ImageError::io("find the size", path, source))?;
        let path = path.to_owned();
        let file = Flockable::Open(file);
        Ok(Self { file, path, size: end, is_device, no_discard: AtomicBool::new(false) })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True for a block device, false for a regular file.
    pub fn is_block_device(&self) -> bool {
        self.is_device
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.size
    }

    /// True if there is not one byte.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes a regular file this long; what is added is a hole.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        self.file.set_len(size)?;
        self.size = size;
        Ok(())
    }
}

/// An image that nobody else writes, as long as everybody keeps to the lock.
#[derive(Debug)]
pub struct LockedImage {
    image: Image,
    /// The lock of the file below a loop device.
    _below: Option<Flock<File>>,
}

impl LockedImage {
    /// Opens and locks an image; refuses one that is mounted, or locked by another for longer than `wait`.
    pub fn open(path: &Path, access: Access, wait: Duration) -> Result<Self, ImageError> {
        Self::open_claiming(path, access, wait, true)
    }

    /// The same for who has the kernel mount the device afterwards, which then claims it: it could not, were it
    /// claimed already.
    pub fn open_for_mount(path: &Path, access: Access, wait: Duration) -> Result<Self, ImageError> {
        Self::open_claiming(path, access, wait, false)
    }

    fn open_claiming(path: &Path, access: Access, wait: Duration, claims: bool) -> Result<Self, ImageError> {
        let metadata = fs::metadata(path).map_err(|source| ImageError::io("open", path, source))?;
        let is_device = metadata.file_type().is_block_device();
        // udev locks a block device for a moment after each close of a writer.
        let wait = if is_device { wait.max(Duration::from_secs(2)) } else { wait };
        let end = Instant::now() + wait;
        let below = lock_below(path, &metadata, access, end)?;
        let image = loop {
            refuse_mounted(path, &metadata)?;
            let claim = if is_device && claims { OFlag::O_EXCL } else { OFlag::empty() };
            match Image::open_with(path, access, claim) {
                Err(ImageError::Io { source, .. }) if is_busy(&source) => {}
                other => break other?,
            }
            if Instant::now() >= end {
                return Err(in_use(path, &metadata));
            }
            std::thread::sleep(lock::PAUSE);
        };
        Self::lock(image, below, access, end)
    }

    fn lock(
        image: Image,
        below: Option<Flock<File>>,
        access: Access,
        end: Instant,
    ) -> Result<Self, ImageError> {
        let Image { file, path, size, is_device, no_discard } = image;
        let file = match file {
            Flockable::Locked(_) => file,
            Flockable::Open(file) => match lock::lock(file, access == Access::Write, end) {
                Ok(locked) => Flockable::Locked(locked),
                Err((file, Errno::EWOULDBLOCK)) => {
                    let metadata = file.metadata().map_err(|source| ImageError::io("stat", &path, source))?;
                    return Err(in_use(&path, &metadata));
                }
                Err((_, errno)) => return Err(ImageError::io("lock", path, errno)),
            },
        };
        Ok(Self { image: Image { file, path, size, is_device, no_discard }, _below: below })
    }

    /// Makes a regular file this long; what is added is a hole.
    pub fn resize(&mut self, size: u64) -> io::Result<()> {
        self.image.resize(size)
    }
}

impl Deref for LockedImage {
    type Target = Image;

    fn deref(&self) -> &Image {
        &self.image
    }
}

// Locks the file that a loop device lies on, so that device and file exclude each other.
fn lock_below(
    path: &Path,
    metadata: &fs::Metadata,
    access: Access,
    end: Instant,
) -> Result<Option<Flock<File>>, ImageError> {
    if !metadata.file_type().is_block_device() {
        return Ok(None);
    }
    let Some(below) = lock::backing_file(metadata.rdev()) else { return Ok(None) };
    let Ok(file) = File::open(&below) else { return Ok(None) };
    match lock::lock(file, access == Access::Write, end) {
        Ok(locked) => Ok(Some(locked)),
        Err((file, Errno::EWOULDBLOCK)) => {
            let metadata = file.metadata().map_err(|source| ImageError::io("stat", &below, source))?;
            Err(in_use(&below, &metadata))
        }
        Err((_, errno)) => Err(ImageError::io("lock", path, errno)),
    }
}

/// Refuses an image whose block device, or a loop device over it, the kernel has mounted.
fn refuse_mounted(path: &Path, metadata: &fs::Metadata) -> Result<(), ImageError> {
    let mut devices = Vec::new();
    if metadata.file_type().is_block_device() {
        devices.push(metadata.rdev());
    } else {
        devices
            .extend(lock::loop_devices(metadata.dev(), metadata.ino()).into_iter().map(|(number, _)| number));
    }
    if devices.is_empty() {
        return Ok(());
    }
    let mounts = mounts::all().map_err(|source| ImageError::io("look for mounts of", path, source))?;
    match mounts.into_iter().find(|mount| devices.contains(&mount.device)) {
        Some(mount) => Err(ImageError::Mounted { path: path.into(), point: mount.point }),
        None => Ok(()),
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EBUSY as i32)
}

fn in_use(path: &Path, metadata: &fs::Metadata) -> ImageError {
    ImageError::InUse { path: path.into(), holders: lock::holders(metadata.dev(), metadata.ino()) }
}

fn kind_name(metadata: &fs::Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_dir() => "directory",
        () if kind.is_char_device() => "character device",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () => "special file",
    }
}
