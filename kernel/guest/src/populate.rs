//! A tree with one of everything, the same each time but for the clock: files of all sizes, holes, links, nodes, names,
//! attributes, access lists, times, and collections of each element with chunks and free rows.

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use vexfs_guest::bytes::{floats, noise};

use crate::call;
use crate::manifest::Failure;

/// Files with vectors.
const DOCUMENTS: usize = 120;
const ACL_HEADER: [u8; 4] = [2, 0, 0, 0];

/// Makes the tree below `root`, which is empty.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    files(&root.join("files"))?;
    names(&root.join("names"))?;
    kinds(&root.join("kinds"))?;
    attributes(&root.join("attributes"))?;
    vectors(&root.join("documents"))?;
    times(&root.join("times"))?;
    Ok(())
}

fn files(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    for size in [0, 1, 100, 767, 768, 769, 4095, 4096, 4097, 8192, 65_535, 1 << 20, (5 << 20) + 3] {
        fs::write(at.join(format!("size-{size}")), noise(size as u64, size))?;
    }
    let mut sparse = File::create(at.join("sparse"))?;
    for (offset, len) in [(0u64, 10usize), (1 << 20, 5000), ((1 << 20) + 65_536, 4096), (6 << 20, 77)] {
        sparse.seek(SeekFrom::Start(offset))?;
        sparse.write_all(&noise(offset, len))?;
    }
    sparse.set_len(8 << 20)?;
    let mut reserved = File::create(at.join("reserved"))?;
    reserved.write_all(&noise(9, 10_000))?;
    call::allocate(&reserved, 0, 8192, 200_000)?;
    call::allocate(&reserved, libc::FALLOC_FL_KEEP_SIZE | libc::FALLOC_FL_PUNCH_HOLE, 4096, 3000)?;
    let grown = File::create(at.join("grown"))?;
    (&grown).write_all(&noise(10, 3000))?;
    grown.set_len(100)?;
    grown.set_len(9000)?;
    let mut pieces = File::create(at.join("pieces"))?;
    for index in 0..300u64 {
        pieces.write_all(&noise(index, 100 + index as usize))?;
    }
    Ok(())
}

fn names(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    for index in 0..400 {
        fs::write(at.join(format!("{index}-{}", "n".repeat(index % 200))), format!("{index}"))?;
    }
    fs::write(at.join("x".repeat(255)), "long")?;
    fs::write(at.join("ünïcode with spaces\nand a newline"), "odd")?;
    let mut deep = at.to_path_buf();
    for depth in 0..30 {
        deep.push(format!("deep-{depth}"));
    }
    fs::create_dir_all(&deep)?;
    fs::write(deep.join("bottom"), "here")?;
    for index in 0..400 {
        if index % 3 == 0 {
            fs::remove_file(at.join(format!("{index}-{}", "n".repeat(index % 200))))?;
        }
    }
    Ok(())
}

fn kinds(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    symlink("short", at.join("link"))?;
    symlink("l/".repeat(2000), at.join("long-link"))?;
    fs::write(at.join("one"), "of two names")?;
    fs::hard_link(at.join("one"), at.join("two"))?;
    call::make_node(&at.join("fifo"), libc::S_IFIFO | 0o640, 0)?;
    call::make_node(&at.join("socket"), libc::S_IFSOCK | 0o600, 0)?;
    call::make_node(&at.join("null"), libc::S_IFCHR | 0o666, libc::makedev(1, 3))?;
    call::make_node(&at.join("disk"), libc::S_IFBLK | 0o660, libc::makedev(259, 70_000))?;
    fs::write(at.join("setuid"), "s")?;
    chown(at.join("setuid"), Some(1000), Some(2000))?;
    fs::set_permissions(at.join("setuid"), Permissions::from_mode(0o6755))?;
    fs::create_dir(at.join("sticky"))?;
    fs::set_permissions(at.join("sticky"), Permissions::from_mode(0o3777))?;
    Ok(())
}

fn attributes(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    let file = at.join("file");
    fs::write(&file, "attributes")?;
    for (index, len) in [0, 1, 100, 3000, 20_000, 65_536].into_iter().enumerate() {
        call::set_attribute(&file, format!("user.value-{index}").as_bytes(), &noise(index as u64, len))?;
    }
    for name in ["trusted.deep", "security.label", "user.replaced", "user.removed"] {
        call::set_attribute(&file, name.as_bytes(), b"first")?;
    }
    call::set_attribute(&file, b"user.replaced", &noise(7, 500))?;
    call::remove_attribute(&file, b"user.removed")?;
    // owner rw, user 1000 r, group r, mask r, other none
    let entries: [[u8; 8]; 5] = [
        [1, 0, 6, 0, 255, 255, 255, 255],
        [2, 0, 4, 0, 232, 3, 0, 0],
        [4, 0, 4, 0, 255, 255, 255, 255],
        [16, 0, 4, 0, 255, 255, 255, 255],
        [32, 0, 0, 0, 255, 255, 255, 255],
    ];
    let list: Vec<u8> = ACL_HEADER.into_iter().chain(entries.into_iter().flatten()).collect();
    call::set_attribute(&file, b"system.posix_acl_access", &list)?;
    let inheriting = at.join("inheriting");
    fs::create_dir(&inheriting)?;
    call::set_attribute(&inheriting, b"system.posix_acl_default", &list)?;
    fs::write(inheriting.join("child"), "inherits")?;
    fs::create_dir(inheriting.join("below"))?;
    Ok(())
}

fn vectors(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    for index in 0..DOCUMENTS {
        let file = at.join(format!("document-{index}"));
        let seed = index as u64;
        fs::write(&file, noise(seed, 500 * (index % 9)))?;
        call::set_attribute(&file, b"user.vector.text", &floats(seed, 384))?;
        if index % 2 == 0 {
            call::set_attribute(&file, b"user.vector.image:i8", &noise(seed, 512))?;
            call::set_attribute(&file, b"user.vector.bits:bit", &noise(seed, 96))?;
        }
        if index % 5 == 0 {
            for n in 1..4u64 {
                let name = format!("user.vector.text.{n}");
                call::set_attribute(&file, name.as_bytes(), &floats(seed * 100 + n, 384))?;
            }
            call::set_attribute(&file, b"user.vector.tiny", &floats(seed, 4))?;
        }
    }
    for index in (0..DOCUMENTS).step_by(7) {
        fs::remove_file(at.join(format!("document-{index}")))?;
    }
    for index in (1..DOCUMENTS).step_by(7) {
        let file = at.join(format!("document-{index}"));
        call::set_attribute(&file, b"user.vector.text", &floats(index as u64 + 1000, 384))?;
    }
    call::remove_attribute(&at.join("document-2"), b"user.vector.image")?;
    Ok(())
}

fn times(at: &Path) -> Result<(), Failure> {
    fs::create_dir(at)?;
    for (name, seconds, nanoseconds) in [("old", -86_400, 1), ("zero", 0, 0), ("far", 1 << 33, 999_999_999)] {
        let path = at.join(name);
        fs::write(&path, noise(3, 10_000))?;
        call::set_times(&path, seconds, nanoseconds)?;
        // What is set after a write must stay, however late the bytes reach the disk.
        let seen = fs::metadata(&path)?;
        if (seen.mtime(), seen.mtime_nsec()) != (seconds, nanoseconds) {
            return Err(format!("{}: the time set is not the time shown", path.display()).into());
        }
    }
    Ok(())
}
