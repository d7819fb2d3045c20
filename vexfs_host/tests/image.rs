//! Images as files: locks that exclude, messages that say who, bytes that come back.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use vexfs_core::device::BlockDevice;
use vexfs_core::error::Error;
use vexfs_host::{Access, Image, ImageError, LockedImage};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vexfs_host-{}-{name}", std::process::id()));
        fs::write(&path, [7_u8; 65536]).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_writer_excludes_all_and_is_named() {
    let image = Scratch::new("writer");
    let held = LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap();
    for access in [Access::Read, Access::Write] {
        let refused = LockedImage::open(&image.0, access, Duration::from_millis(30)).unwrap_err();
        assert!(refused.is_in_use());
        let text = refused.to_string();
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }
    drop(held);
    LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap();
}

#[test]
fn readers_share() {
    let image = Scratch::new("readers");
    let _one = LockedImage::open(&image.0, Access::Read, Duration::ZERO).unwrap();
    let _two = LockedImage::open(&image.0, Access::Read, Duration::ZERO).unwrap();
    assert!(LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap_err().is_in_use());
}

#[test]
fn a_waiting_writer_gets_the_lock_once_it_is_free() {
    let image = Scratch::new("waiting");
    let held = LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap();
    let path = image.0.clone();
    let waiter =
        std::thread::spawn(move || LockedImage::open(&path, Access::Write, Duration::from_secs(20)).is_ok());
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waiter.is_finished());
    drop(held);
    assert!(waiter.join().unwrap());
}

#[test]
fn bytes_come_back_and_discarded_ones_are_zero_or_kept() {
    let image = Scratch::new("bytes");
    let mut device = LockedImage::open(&image.0, Access::Write, Duration::ZERO).unwrap();
    device.resize(1 << 20).unwrap();
    assert_eq!(device.size(), 1 << 20);
    device.write(100_000, b"vexfs").unwrap();
    device.discard(0, 65536).unwrap();
    device.flush().unwrap();
    let mut bytes = [0; 5];
    device.read(100_000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"vexfs");
    device.read(4096, &mut bytes).unwrap();
    assert!(bytes == [0; 5] || bytes == [7; 5]);
}

#[test]
fn reading_past_the_end_is_an_error() {
    let image = Scratch::new("end");
    let device = Image::open(&image.0, Access::Read).unwrap();
    let failed = device.read(65530, &mut [0; 16]).unwrap_err();
    assert_eq!(failed, Error::Device { operation: "read", offset: 65530 });
}

#[test]
fn what_is_no_image_is_refused_in_words() {
    let refused = Image::open(&std::env::temp_dir(), Access::Read).unwrap_err();
    assert!(matches!(refused, ImageError::WrongKind { kind: "directory", .. }), "{refused}");
    let missing = Image::open(&std::env::temp_dir().join("vexfs-is-not-here"), Access::Read).unwrap_err();
    assert!(missing.to_string().contains("No such file"), "{missing}");
}
