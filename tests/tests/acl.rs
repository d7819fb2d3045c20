//! Access lists in the core, at every block size: what they make of the mode and of new files, and what becomes of
//! lists that make no sense. How they act on callers is compared with Linux's own in `tests/mount/test_acl.py`.

use vexfs_core::device::Direct;
use vexfs_core::error::Error;
use vexfs_core::format::{ACL_ACCESS, ACL_DEFAULT, ACL_MAX, FileKind, ROOT, acl_tag};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Caller, Changes, NewInode, SetMode};
use vexfs_core::{MountOptions, Result, Volume};
use vexfs_tests::check::check_clean;
use vexfs_tests::sim::{SimDevice, format};

const NOW: Time = Time { seconds: 1_700_000_000, nanoseconds: 0 };
const BLOCK_SIZES: [u32; 3] = [4096, 8192, 16384];
const NOBODY: u32 = u32::MAX;

type Disk = Volume<Direct<SimDevice>>;

fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// Owner, owning group and others, with a mask and `users` users if there are any.
fn list(owner: u16, group: u16, other: u16, mask: u16, users: u32) -> Vec<u8> {
    let mut entries = vec![(acl_tag::OWNER, owner, NOBODY)];
    entries.extend((0..users).map(|user| (acl_tag::USER, 6, 1000 + user)));
    entries.push((acl_tag::OWNING_GROUP, group, NOBODY));
    if users > 0 {
        entries.push((acl_tag::MASK, mask, NOBODY));
    }
    entries.push((acl_tag::OTHER, other, NOBODY));
    value(&entries)
}

fn new(kind: FileKind, permissions: u32) -> NewInode {
    NewInode { kind, permissions, umask: 0o022, uid: 1, gid: 2, device: 0 }
}

fn set(volume: &mut Disk, inode: Ino, name: &[u8], value: &[u8]) -> Result<()> {
    let caller = Caller { uid: 1, gid: 1, in_group: &|_| false };
    volume.set_attribute(inode, name, value, SetMode::Any, &caller, NOW)
}

fn mode(volume: &Disk, inode: Ino) -> u32 {
    volume.attributes(inode).expect("attributes").permissions
}

/// Runs `test` on a fresh volume of each block size, which must be clean afterwards.
fn on_volumes(test: impl Fn(&mut Disk)) {
    for block_size in BLOCK_SIZES {
        let device = SimDevice::new(16 << 20);
        format(&device, block_size).expect("format");
        let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mount");
        test(&mut volume);
        volume.commit(NOW).expect("commit");
        check_clean(&device).expect("clean");
    }
}

#[test]
fn list_and_mode_are_one() {
    on_volumes(|volume| {
        let file = volume.create(ROOT, b"file", &new(FileKind::Regular, 0o2666), NOW).expect("create").inode;
        assert_eq!(mode(volume, file), 0o2644, "the umask");
        // The caller is not in the file's group: setgid goes.
        set(volume, file, ACL_ACCESS, &list(7, 5, 4, 6, 2)).expect("set");
        assert_eq!(mode(volume, file), 0o764, "the mask is the group's bits");
        let changes = Changes { permissions: Some(0o611), ..Changes::default() };
        volume.set_attributes(file, &changes, NOW).expect("chmod");
        assert_eq!(volume.attribute(file, ACL_ACCESS), Ok(list(6, 5, 1, 1, 2)));
        set(volume, file, ACL_ACCESS, &list(6, 2, 0, 0, 0)).expect("set");
        assert_eq!(mode(volume, file), 0o620);
        assert_eq!(volume.attribute(file, ACL_ACCESS), Err(Error::NoAttribute), "the mode says it all");
        let caller = Caller { uid: 1, gid: 1, in_group: &|_| false };
        assert_eq!(volume.remove_attribute(file, ACL_ACCESS, &caller, NOW), Ok(()));
        assert_eq!(volume.list_attributes(file), Ok(Vec::new()));
    });
}

#[test]
fn new_files_get_the_default_list() {
    on_volumes(|volume| {
        let top = volume.create(ROOT, b"top", &new(FileKind::Directory, 0o777), NOW).expect("mkdir").inode;
        // As long as a list can be: it takes several records.
        let users = (ACL_MAX / 8 - 5) as u32;
        let default = list(7, 7, 5, 7, users);
        set(volume, top, ACL_DEFAULT, &default).expect("set");
        assert_eq!(mode(volume, top), 0o755, "a default list changes nothing but what comes");
        let file = volume.create(top, b"file", &new(FileKind::Regular, 0o662), NOW).expect("create").inode;
        assert_eq!(mode(volume, file), 0o660, "no umask, and no more than was asked for");
        assert_eq!(volume.attribute(file, ACL_ACCESS), Ok(list(6, 7, 0, 6, users)));
        assert_eq!(volume.attribute(file, ACL_DEFAULT), Err(Error::NoAttribute));
        let below = volume.create(top, b"below", &new(FileKind::Directory, 0o777), NOW).expect("mkdir").inode;
        assert_eq!(volume.attribute(below, ACL_DEFAULT), Ok(default.clone()));
        assert_eq!(volume.attribute(below, ACL_ACCESS), Ok(default));
        let unnamed =
            volume.create_unnamed(below, &new(FileKind::Regular, 0o600), NOW).expect("O_TMPFILE").inode;
        assert_eq!(volume.attribute(unnamed, ACL_ACCESS), Ok(list(6, 7, 0, 0, users)));
        volume.link(unnamed, below, b"named", NOW).expect("link");
        let link = volume.symlink(below, b"link", b"x", 1, 2, NOW).expect("symlink").inode;
        assert_eq!((mode(volume, link), volume.list_attributes(link)), (0o777, Ok(Vec::new())));
    });
}

#[test]
fn what_is_no_list_is_refused() {
    use acl_tag::{GROUP, MASK, OTHER, OWNER, OWNING_GROUP, USER};
    on_volumes(|volume| {
        let file = volume.create(ROOT, b"file", &new(FileKind::Regular, 0o644), NOW).expect("create").inode;
        let link = volume.symlink(ROOT, b"link", b"x", 1, 2, NOW).expect("symlink").inode;
        let three = [(OWNER, 7, NOBODY), (OWNING_GROUP, 5, NOBODY), (OTHER, 4, NOBODY)];
        let with = |entry| value(&[three[0], three[1], entry, three[2]]);
        let mut long = value(&three);
        long.pop();
        let mut version = value(&three);
        version[0] = 1;
        for bad in [
            Vec::new(),
            long,
            version,
            value(&three[..2]),
            value(&[three[2], three[1], three[0]]),
            value(&[three[0], three[0], three[1], three[2]]),
            value(&[(OWNER, 8, NOBODY), three[1], three[2]]),
            with((GROUP, 7, 5)),
            with((64, 7, 5)),
            value(&[three[0], (USER, 7, NOBODY), three[1], (MASK, 7, NOBODY), three[2]]),
        ] {
            let result = set(volume, file, ACL_ACCESS, &bad);
            assert!(matches!(result, Err(Error::Invalid(_))), "{bad:?}: {result:?}");
        }
        assert_eq!(set(volume, file, ACL_ACCESS, &list(7, 5, 4, 5, 600)), Err(Error::ValueTooBig));
        let good = value(&three);
        assert!(matches!(set(volume, file, ACL_DEFAULT, &good), Err(Error::AccessDenied(_))));
        assert!(matches!(set(volume, link, ACL_ACCESS, &good), Err(Error::Unsupported(_))));
        for name in ["system.posix_acl", "system.x", "nothing", "vexfs.a"] {
            assert!(
                matches!(set(volume, file, name.as_bytes(), &good), Err(Error::Unsupported(_))),
                "{name}"
            );
        }
        assert_eq!((mode(volume, file), volume.list_attributes(file)), (0o644, Ok(Vec::new())));
    });
}
