//! The service on an image of its own, without a mount.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use vexfs_core::format::{FileKind, ROOT};
use vexfs_core::make::{MakeOptions, make};
use vexfs_core::operations::{NewInode, Report};
use vexfs_core::{MountOptions, Volume};
use vexfs_host::{Access, LockedImage};

use super::*;

/// An image of its own, removed at the end.
struct Image(PathBuf);

impl Image {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vexfs_fuse-{}-{name}", std::process::id()));
        std::fs::File::create(&path).expect("a file").set_len(16 << 20).expect("its size");
        let options = MakeOptions {
            block_size: 4096,
            size: 16 << 20,
            uuid: [7; 16],
            label: b"",
            hash_seed: [7; 16],
            uid: 0,
            gid: 0,
            now: now(),
            journal_blocks: None,
        };
        make(&Self::open(&path), &options).expect("a volume");
        Self(path)
    }

    fn open(path: &std::path::Path) -> Disk {
        let image = LockedImage::open(path, Access::Write, Duration::ZERO).expect("an image");
        Disk::new(image, 1 << 20)
    }

    fn mount(&self) -> Service {
        let disk = Self::open(&self.0);
        let volume = Volume::mount(disk.clone(), MountOptions::default()).expect("a mount");
        Service::new(disk, volume, Ring::default(), false, Indexes::new(0))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn create(volume: &mut Volume<Disk>, name: &[u8]) -> Result<Ino> {
    let new = NewInode { kind: FileKind::Regular, permissions: 0o644, umask: 0, uid: 0, gid: 0, device: 0 };
    volume.create(ROOT, name, &new, now()).map(|made| made.inode)
}

fn text(render: impl FnOnce(&mut String) -> std::fmt::Result) -> String {
    let mut text = String::new();
    render(&mut text).expect("text");
    text
}

// A panic in the middle of a change left the volume's lock poisoned, and the lock was used on: the next commit
// would have made half a change durable. Now the volume is read-only from that moment on.
#[test]
fn a_panic_in_a_change_ends_all_writing_but_no_reading() {
    let image = Image::new("panic");
    let service = image.mount();
    service.change(|volume| create(volume, b"durable")).0.expect("a file");
    service.commit().expect("a commit");
    let half = catch_unwind(AssertUnwindSafe(|| {
        service.change(|volume| {
            create(volume, b"half")?;
            panic!("a mistake, made on purpose");
            #[expect(unreachable_code, reason = "says what the closure gives")]
            Ok(())
        })
    }));
    assert!(half.is_err(), "the closure panics");
    assert!(service.volume().is_read_only());
    assert!(service.volume().lookup(ROOT, b"durable").is_ok(), "reads go on");
    assert_eq!(service.change(|volume| create(volume, b"later")).0, Err(Error::ReadOnly));
    assert!(service.commit().is_err() && service.commit().is_err(), "no commit says success any more");
    let (metrics, status) = (text(|to| service.metrics(to)), text(|to| service.status(to)));
    assert!(metrics.contains("\nvexfs_failed 1\n"), "{metrics}");
    assert!(status.contains("\"failure\":\"a mistake of this program"), "{status}");
    drop(service);
    let service = image.mount();
    let volume = service.volume();
    assert!(volume.lookup(ROOT, b"durable").is_ok());
    assert_eq!(volume.lookup(ROOT, b"half").err(), Some(Error::NotFound), "half a change became durable");
}

#[test]
fn without_a_failure_all_is_well() {
    let service = Image::new("well").mount();
    service.change(|volume| create(volume, b"file")).0.expect("a file");
    service.commit().expect("a commit");
    assert!(!service.volume().is_read_only() && service.failure().is_none());
    assert!(text(|to| service.metrics(to)).contains("\nvexfs_failed 0\n"));
    assert!(text(|to| service.status(to)).contains("\"failure\":null"));
}

#[test]
fn whoever_was_answered_finds_his_change_after_a_crash() {
    const THREADS: u64 = 8;
    const EACH: u64 = 40;
    let image = Image::new("sync");
    let service = image.mount();
    let (sender, answers) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (service, sender) = (&service, sender.clone());
            scope.spawn(move || {
                for number in 0..EACH {
                    let name = format!("{thread}.{number}");
                    service.change(|volume| create(volume, name.as_bytes())).0.expect("a file");
                    let sender = sender.clone();
                    service.sync_then(move |result| sender.send((name, result)).expect("a listener"));
                }
            });
        }
    });
    // Nothing is committed any more: what the next mount finds was durable.
    drop(service);
    drop(sender);
    let service = image.mount();
    let mut answered = 0;
    for (name, result) in answers {
        assert_eq!(result, Ok(()));
        assert!(service.volume().lookup(ROOT, name.as_bytes()).is_ok(), "{name} is lost");
        answered += 1;
    }
    assert_eq!(answered, THREADS * EACH, "somebody was never answered");
}

#[test]
fn an_inode_is_buried_by_the_last_who_had_it_open() {
    let service = Image::new("bury").mount();
    let inode = service.change(|volume| create(volume, b"file")).0.expect("a file");
    assert!(service.opens().add(inode));
    let is_open = |inode| service.opens().contains(inode);
    service.change(|volume| volume.unlink(ROOT, b"file", &is_open, now())).0.expect("no name");
    service.bury(inode);
    assert!(service.volume().attributes(inode).is_ok(), "an open file was freed");
    service.opens().remove(inode);
    service.bury(inode);
    assert_eq!(service.volume().attributes(inode).err(), Some(Error::NotFound));
}
