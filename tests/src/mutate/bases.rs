//! The images that are damaged: recipes that give the same bytes every time.

use vexfs_core::device::Direct;
use vexfs_core::format::{ACL_ACCESS, ACL_VERSION, FileKind, ROOT, acl_tag};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Caller, Changes, NewInode, RenameFlags, SetMode};
use vexfs_core::volume::Volume;

use crate::golden;
use crate::image::Image;
use crate::model::{Generator, Op, Pair};
use crate::sim::SimDevice;

/// Names of the recipes.
pub const BASES: [&str; 16] = [
    "golden-4k",
    "golden-16k",
    "random-4k",
    "random-8k",
    "large-4k",
    "journal-4k",
    "codecs-4k",
    "compacted-4k",
    "metadata-4k",
    "described-4k",
    "history-4k",
    "superseded-4k",
    "recode-4k",
    "recoded-4k",
    "codebook-4k",
    "quantized-4k",
];

/// Bytes that a file of the random ones has at most.
const FILE_SIZE: u64 = 20_000;

/// The image of this name.
pub fn image(name: &str) -> Result<Image, String> {
    match name {
        "golden-4k" => golden_image(4096, ""),
        "golden-16k" => golden_image(16384, ""),
        "random-4k" => random_image(2 << 20, 4096, Generator::first(11, FILE_SIZE)),
        "random-8k" => random_image(4 << 20, 8192, Generator::first(12, FILE_SIZE)),
        // Two bitmap blocks, two index entries.
        "large-4k" => random_image(192 << 20, 4096, Generator::first(13, FILE_SIZE)),
        "journal-4k" => journal_image(3 << 20, 14),
        "codecs-4k" => golden_image(4096, "codecs"),
        "compacted-4k" => random_image(3 << 20, 4096, Generator::second(15, FILE_SIZE)),
        "metadata-4k" => golden_image(4096, "metadata"),
        "described-4k" => random_image(3 << 20, 4096, Generator::third(16, FILE_SIZE)),
        "history-4k" => golden_image(4096, "history"),
        "superseded-4k" => random_image(3 << 20, 4096, Generator::fifth(17, FILE_SIZE)),
        "recode-4k" => golden_image(4096, "recode"),
        "recoded-4k" => random_image(3 << 20, 4096, Generator::sixth(18, FILE_SIZE)),
        "codebook-4k" => golden_image(4096, "codebook"),
        "quantized-4k" => random_image(3 << 20, 4096, Generator::new(19, FILE_SIZE)),
        _ => Err(format!("no base image is called {name}; there are {BASES:?}")),
    }
}

// One of everything that the format can hold.
fn golden_image(block_size: u32, features: &str) -> Result<Image, String> {
    let made = golden::maker::image(block_size, golden::Features::of(features));
    let (bytes, _) = made.map_err(|error| error.to_string())?;
    let mut image = Image::new(bytes.len() as u64);
    image.write(0, &bytes);
    Ok(image)
}

// The same, and records in the journal of what was done after the last commit.
fn journal_image(size: u64, seed: u64) -> Result<Image, String> {
    let device = SimDevice::from_image(random_image(size, 4096, Generator::first(seed, FILE_SIZE))?);
    let options = Pair::<SimDevice>::OPTIONS;
    let mut volume = Volume::mount(Direct(device.clone()), options).map_err(|error| error.to_string())?;
    journal(&mut volume).map_err(|error| error.to_string())?;
    Ok(device.image())
}

fn journal(volume: &mut Volume<Direct<SimDevice>>) -> vexfs_core::Result<()> {
    let now = Time { seconds: 1_700_000_000, nanoseconds: 0 };
    let new = NewInode { kind: FileKind::Regular, permissions: 0o600, umask: 0, uid: 7, gid: 7, device: 0 };
    let root = Caller { uid: 0, gid: 0, in_group: &|_| false };
    for number in 0..5 {
        let name = format!("synced {number}");
        let inode = volume.create(ROOT, name.as_bytes(), &new, now)?.inode;
        volume.write(inode, 0, &vec![b'a'; 700 * number], now)?;
        volume.sync(now)?;
        let vector = vec![number as u8; 64];
        volume.set_attribute(inode, b"user.vector.synced:i8", &vector, SetMode::Any, &root, now)?;
        volume.set_attribute(inode, b"user.large", &[b'x'; 3000], SetMode::Any, &root, now)?;
        volume.set_attribute(inode, ACL_ACCESS, &list(), SetMode::Any, &root, now)?;
        volume.sync(now)?;
        if number == 3 {
            let changes = Changes { size: Some(10), ..Changes::default() };
            volume.set_attributes(inode, &changes, now)?;
            volume.unlink(ROOT, b"synced 2", &|_| false, now)?;
            volume.rename(
                (ROOT, b"synced 1"),
                (ROOT, b"many extents"),
                RenameFlags::empty(),
                &|_| false,
                now,
            )?;
            volume.sync(now)?;
        }
    }
    Ok(())
}

// An access list: owner, a user by number, group, mask, others.
fn list() -> Vec<u8> {
    let entries = [
        (acl_tag::OWNER, 7, u32::MAX),
        (acl_tag::USER, 6, 1000),
        (acl_tag::OWNING_GROUP, 4, u32::MAX),
        (acl_tag::MASK, 6, u32::MAX),
        (acl_tag::OTHER, 0, u32::MAX),
    ];
    let mut bytes = ACL_VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(u16::to_le_bytes(permissions));
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

// What random operations leave, with files that are open, rows that wait, and a truncate that waits.
fn random_image(size: u64, block_size: u32, mut generator: Generator) -> Result<Image, String> {
    let say = |error: vexfs_core::Error| error.to_string();
    let mut pair = Pair::format(SimDevice::new(size), block_size).map_err(say)?;
    for _ in 0..400 {
        let op = generator.next(&pair.model, &pair.open);
        pair.run_patiently(&op)?;
    }
    pair.run(&Op::Commit)?;
    let now = Time { seconds: 1_700_000_000, nanoseconds: 0 };
    let new = NewInode { kind: FileKind::Regular, permissions: 0o644, umask: 0, uid: 7, gid: 7, device: 0 };
    let inode = pair.volume.create(ROOT, b"many extents", &new, now).map_err(say)?.inode;
    for piece in 0..80 {
        pair.volume.write(inode, piece * 2 * u64::from(block_size), b"x", now).map_err(say)?;
    }
    pair.volume.commit(now).map_err(say)?;
    Ok(pair.device.image())
}
