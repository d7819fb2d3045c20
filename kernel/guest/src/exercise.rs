//! Changes to a tree, each checked at once: what the page cache, the mappings and the volume show must agree.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use vexfs_guest::bytes::{floats, noise};

use crate::call::{self, Mapping};
use crate::manifest::{Failure, Outcome, expect};
use crate::quantized::quantized;

/// Exercises the tree below `root`.
pub(crate) fn run(root: &Path) -> Outcome {
    step(root, "matrix", matrix)?;
    step(root, "staleness", staleness)?;
    step(root, "mapping", mapping)?;
    step(root, "truncation", truncation)?;
    step(root, "unlinked", unlinked)?;
    step(root, "renames", renames)?;
    step(root, "holes", holes)?;
    step(root, "direct", direct)?;
    step(root, "codecs", codecs)?;
    step(root, "compaction", compaction)?;
    step(root, "recoding", recoding)?;
    step(root, "quantized", quantized)?;
    step(root, "questions", questions)?;
    step(root, "inheritance", inheritance)?;
    step(root, "binding", binding)?;
    step(root, "errors", errors)
}

// Runs one step in a directory of its own.
fn step(root: &Path, name: &str, exercise: fn(&Path) -> Outcome) -> Outcome {
    let at = root.join(format!("exercise-{name}"));
    fs::create_dir(&at)?;
    exercise(&at).map_err(|error| format!("exercise {name}: {error}"))?;
    println!("exercise {name}: ok");
    Ok(())
}

/// `FIEMAP_EXTENT_LAST`; `FIEMAP_EXTENT_DATA_INLINE` with `FIEMAP_EXTENT_NOT_ALIGNED`.
const LAST: u32 = 1;
const INLINE: u32 = 0x300;

fn root_of(at: &Path) -> &Path {
    at.parent().unwrap_or(at)
}

// A mapped matrix shows what setxattr set, at once, and the same mapping shows the next change.
fn matrix(at: &Path) -> Outcome {
    let columns = root_of(at).join(".vexfs/collections/mapped");
    let file = at.join("file");
    fs::write(&file, "content")?;
    call::set_attribute(&file, b"user.vector.mapped", &floats(1, 64))?;
    let open = |name: &str| -> Result<(File, usize), Failure> {
        let file = File::open(columns.join(name))?;
        let len = file.metadata()?.len() as usize;
        Ok((file, len))
    };
    let ((vectors, vectors_len), (valid, valid_len)) = (open("vectors.npy")?, open("valid.npy")?);
    let vectors = Mapping::new(&vectors, vectors_len, false)?;
    let valid = Mapping::new(&valid, valid_len, false)?;
    expect("the first row", &vectors.bytes()[4096..4352] == floats(1, 64).as_slice(), true)?;
    expect("the first row's mark", valid.bytes()[4096], 1)?;
    call::set_attribute(&file, b"user.vector.mapped", &floats(2, 64))?;
    // Another row is taken, and the old one freed.
    expect("the second row", &vectors.bytes()[4352..4608] == floats(2, 64).as_slice(), true)?;
    expect("the marks", (valid.bytes()[4096], valid.bytes()[4097]), (0, 1))?;
    for index in 0..40u64 {
        let other = at.join(format!("other-{index}"));
        fs::write(&other, "x")?;
        call::set_attribute(&other, b"user.vector.mapped", &floats(index + 10, 64))?;
        expect(
            "an attribute read back",
            call::attribute(&other, b"user.vector.mapped")?,
            floats(index + 10, 64),
        )?;
    }
    let header = String::from_utf8_lossy(&vectors.bytes()[..200]).into_owned();
    // The row that was freed is taken again only after a commit.
    expect("the header's rows", header.contains("(42, 64)") || header.contains("(41, 64)"), true)?;
    fs::remove_file(&file)?;
    expect("the mark after unlink", valid.bytes()[4097], 0)
}

// A vector is of the content that was written before it, wherever that is.
fn staleness(at: &Path) -> Outcome {
    let file = at.join("file");
    fs::write(&file, noise(1, 20_000))?;
    let before = call::attribute(&file, b"user.vexfs.version")?;
    call::set_attribute(&file, b"user.vector.stale", &floats(5, 8))?;
    expect("the version with a vector", call::attribute(&file, b"user.vexfs.version")?, before.clone())?;
    OpenOptions::new().append(true).open(&file)?.write_all(b"more")?;
    let after = call::attribute(&file, b"user.vexfs.version")?;
    if after == before {
        return Err("a write did not raise the version".into());
    }
    Ok(())
}

// What is written through a mapping is read, and what is written is mapped.
fn mapping(at: &Path) -> Outcome {
    let path = at.join("file");
    fs::write(&path, noise(1, 50_000))?;
    let file = OpenOptions::new().read(true).write(true).open(&path)?;
    let mut mapping = Mapping::new(&file, 50_000, true)?;
    mapping.bytes_mut()[12_345..12_355].copy_from_slice(b"by mapping");
    let mut read = [0; 10];
    file.read_exact_at(&mut read, 12_345)?;
    expect("read after a mapped write", &read, b"by mapping")?;
    file.write_all_at(b"by a write", 40_000)?;
    expect("mapped after a write", &mapping.bytes()[40_000..40_010] == b"by a write", true)?;
    mapping.bytes_mut()[49_999] = 7;
    drop(mapping);
    file.sync_all()?;
    // A hole that is filled by a mapping alone.
    let sparse =
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(at.join("sparse"))?;
    sparse.set_len(1 << 20)?;
    let mut mapping = Mapping::new(&sparse, 1 << 20, true)?;
    mapping.bytes_mut()[500_000] = 1;
    drop(mapping);
    sparse.sync_all()?;
    drop_caches()?;
    expect("after the cache is dropped", fs::read(at.join("sparse"))?[500_000], 1)?;
    expect("the last byte", fs::read(&path)?[49_999], 7)
}

// What lies behind the end is zero when the file grows again, written back or not.
fn truncation(at: &Path) -> Outcome {
    for (index, (size, cut, grown)) in
        [(10_000, 5000, 9000), (700, 100, 600), (700, 100, 5000), (1 << 20, 4097, 70_000)]
            .into_iter()
            .enumerate()
    {
        for synced in [false, true] {
            let path = at.join(format!("{index}-{synced}"));
            let mut file = File::create(&path)?;
            file.write_all(&noise(3, size))?;
            if synced {
                file.sync_all()?;
            }
            file.set_len(cut as u64)?;
            file.set_len(grown as u64)?;
            let mut wanted = noise(3, size);
            wanted.truncate(cut);
            wanted.resize(grown, 0);
            expect("grown again", fs::read(&path)? == wanted, true)?;
            file.seek(SeekFrom::Start(grown as u64 + 3000))?;
            file.write_all(b"end")?;
            wanted.resize(grown + 3000, 0);
            wanted.extend(b"end");
            expect("written behind the end", fs::read(&path)? == wanted, true)?;
            drop_caches()?;
            expect("from the disk", fs::read(&path)? == wanted, true)?;
        }
    }
    Ok(())
}

fn unlinked(at: &Path) -> Outcome {
    let path = at.join("file");
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    file.write_all(&noise(1, 30_000))?;
    fs::remove_file(&path)?;
    file.sync_all()?;
    drop_caches()?;
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut bytes)?;
    expect("an open file without a name", bytes == noise(1, 30_000), true)?;
    let unnamed = OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(at)?;
    unnamed.write_all_at(b"no name", 0)?;
    expect("names left", fs::read_dir(at)?.count(), 0)
}

fn renames(at: &Path) -> Outcome {
    let (a, b) = (at.join("a"), at.join("b"));
    fs::write(&a, "a")?;
    fs::write(&b, "b")?;
    call::rename(&a, &b, libc::RENAME_EXCHANGE)?;
    expect("exchanged", (fs::read(&a)?, fs::read(&b)?), (b"b".to_vec(), b"a".to_vec()))?;
    let refused = call::rename(&a, &b, libc::RENAME_NOREPLACE).err().and_then(|error| error.raw_os_error());
    expect("noreplace", refused, Some(libc::EEXIST))?;
    fs::rename(&a, &b)?;
    expect("replaced", fs::read(&b)?, b"b".to_vec())?;
    let (one, two) = (at.join("one"), at.join("two"));
    fs::create_dir(&one)?;
    fs::create_dir(&two)?;
    fs::write(one.join("inside"), "x")?;
    fs::rename(&one, two.join("one"))?;
    expect("a moved directory", fs::read(two.join("one/inside"))?, b"x".to_vec())?;
    let below = fs::rename(&two, two.join("one/two")).err().and_then(|error| error.raw_os_error());
    expect("into itself", below, Some(libc::EINVAL))
}

fn holes(at: &Path) -> Outcome {
    let path = at.join("file");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    file.write_all_at(&noise(1, 4096), 0)?;
    file.write_all_at(&noise(2, 4096), 1 << 20)?;
    let end = file.metadata()?.len();
    expect("data", call::seek(&file, 4096, libc::SEEK_DATA)?, 1 << 20)?;
    expect("hole", call::seek(&file, 0, libc::SEEK_HOLE)?, 4096)?;
    expect("hole at the end", call::seek(&file, 1 << 20, libc::SEEK_HOLE)?, end)?;
    // FUSE has no FIEMAP.
    if let Ok(extents) = call::extents(&file) {
        let places: Vec<(u64, u64, u32)> = extents.iter().map(|e| (e.offset, e.len, e.flags)).collect();
        expect("extents", places, vec![(0, 4096, 0), (1 << 20, 4096, LAST)])?;
        expect("their places", extents.iter().all(|extent| extent.device > 0), true)?;
        let small = at.join("small");
        fs::write(&small, "in the tree")?;
        let small = call::extents(&File::open(&small)?)?;
        let kinds: Vec<(u64, u32)> = small.iter().map(|extent| (extent.offset, extent.flags)).collect();
        expect("an inline file", kinds, vec![(0, LAST | INLINE)])?;
    }
    let keep = libc::FALLOC_FL_KEEP_SIZE;
    call::allocate(&file, keep | libc::FALLOC_FL_PUNCH_HOLE, 100, 3000)?;
    let mut wanted = noise(1, 4096);
    wanted[100..3100].fill(0);
    expect("a punched hole", fs::read(&path)?[..4096] == wanted, true)?;
    call::allocate(&file, libc::FALLOC_FL_ZERO_RANGE, (1 << 20) + 10, 8000)?;
    expect("the size after zero range", file.metadata()?.len(), (1 << 20) + 8010)?;
    call::allocate(&file, 0, 2 << 20, 4096)?;
    call::allocate(&file, keep, 4 << 20, 4096)?;
    expect("the size after fallocate", file.metadata()?.len(), (2 << 20) + 4096)?;
    drop_caches()?;
    let bytes = fs::read(&path)?;
    expect("zeros from the disk", bytes[(1 << 20) + 10..].iter().all(|byte| *byte == 0), true)?;
    expect("what was left", bytes[1 << 20..(1 << 20) + 10] == noise(2, 10), true)
}

fn direct(at: &Path) -> Outcome {
    let path = at.join("file");
    let options = || {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).custom_flags(libc::O_DIRECT);
        options
    };
    let file = options().open(&path)?;
    // Any alignment is served.
    file.write_all_at(&noise(1, 10_001), 3)?;
    let mut bytes = vec![0; 10_001];
    file.read_exact_at(&mut bytes, 3)?;
    expect("read directly", bytes == noise(1, 10_001), true)
}

// Codecs compute with integers: what is read back is near what was set, and the matrix has the codec's entries.
fn codecs(at: &Path) -> Outcome {
    for (codec, entries) in [("f16", "<f2"), ("sq8", "|i1"), ("sq4", "|u1"), ("binary", "|u1")] {
        let directory = root_of(at).join(".vexfs/collections").join(format!("coded-{codec}"));
        fs::create_dir(&directory)?;
        call::set_attribute(&directory, b"user.vexfs.codec", codec.as_bytes())?;
        let (file, name) = (at.join(codec), format!("user.vector.coded-{codec}"));
        fs::write(&file, "coded")?;
        call::set_attribute(&file, name.as_bytes(), &floats(3, 128))?;
        let back = call::attribute(&file, name.as_bytes())?;
        let values = |bytes: &[u8]| -> Vec<f32> {
            bytes
                .chunks_exact(4)
                .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
                .collect()
        };
        let (set, got) = (values(&floats(3, 128)), values(&back));
        let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let cosine = dot(&set, &got) / (dot(&set, &set) * dot(&got, &got)).sqrt();
        expect(&format!("{codec}: cosine {cosine} above 0.75"), cosine > 0.75, true)?;
        let header = fs::read(directory.join("vectors.npy"))?[..200].escape_ascii().to_string();
        expect(&format!("{codec}: {header}"), header.contains(entries), true)?;
    }
    Ok(())
}

// The files of rows are told on the descriptor that asked, to root and to a user.
fn questions(at: &Path) -> Outcome {
    for (index, directory) in ["open", "closed"].iter().enumerate() {
        fs::create_dir(at.join(directory))?;
        fs::write(at.join(directory).join("f"), "x")?;
        call::set_attribute(&at.join(directory).join("f"), b"user.vector.asked", &floats(index as u64, 32))?;
    }
    let directory = root_of(at).join(".vexfs/collections/asked");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(at.join("closed"), fs::Permissions::from_mode(0o700))?;
    let ask = |file: &mut fs::File, question: &str| -> Result<String, Failure> {
        file.write_all(question.as_bytes())?;
        let mut answer = String::new();
        file.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let open = || OpenOptions::new().read(true).write(true).open(directory.join("query"));
    let mut file = open()?;
    let answer = ask(&mut file, "{\"rows\":[1,7,0]}")?;
    let rows: Vec<bool> =
        answer.lines().map(|line| line.contains("/closed/f\",\"row\":1,\"n\":0,")).collect();
    expect(&format!("both: {answer}"), rows, vec![true, false])?;
    let refused = ask(&mut file, "{\"rows\":[-1]}")?;
    expect(&format!("no row: {refused}"), refused.starts_with("{\"error\":\"a row is"), true)?;
    let mut users = call::as_user(1000, open)?;
    let answer = ask(&mut users, "{\"rows\":[0,1]}")?;
    expect(&format!("a user's: {answer}"), answer.lines().count(), 1)?;
    expect(&format!("a user's: {answer}"), answer.contains("/open/f\""), true)
}

// Compaction closes the gaps in the background, and each file keeps its vector.
fn compaction(at: &Path) -> Outcome {
    let directory = root_of(at).join(".vexfs/collections/compacted");
    let name = |index: u64| at.join(format!("file-{index}"));
    for index in 0..40 {
        fs::write(name(index), "x")?;
        call::set_attribute(&name(index), b"user.vector.compacted", &floats(index, 32))?;
    }
    (0..40).filter(|index| index % 4 != 0).try_for_each(|index| fs::remove_file(name(index)))?;
    call::sync();
    fs::write(directory.join("control"), "compact\n")?;
    let refused =
        fs::write(directory.join("control"), "nonsense").err().and_then(|error| error.raw_os_error());
    expect("a request that is none", refused, Some(libc::EINVAL))?;
    for _ in 0..300 {
        if fs::read_to_string(directory.join("schema.json"))?.contains("\"rows\":10,") {
            for index in (0..40).step_by(4) {
                let vector = call::attribute(&name(index), b"user.vector.compacted")?;
                expect("a vector that was moved", vector == floats(index, 32), true)?;
            }
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Err(format!("not compacted: {}", fs::read_to_string(directory.join("control"))?).into())
}

// Recoding makes another matrix in the background, which takes the name of the old one; who has that open keeps it.
fn recoding(at: &Path) -> Outcome {
    let directory = root_of(at).join(".vexfs/collections/recoded");
    let name = |index: u64| at.join(format!("file-{index}"));
    for index in 0..40 {
        fs::write(name(index), "x")?;
        call::set_attribute(&name(index), b"user.vector.recoded", &floats(index, 32))?;
    }
    let whole = |file: &mut File| -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let mut old = File::open(directory.join("vectors.npy"))?;
    let before = whole(&mut old)?;
    let header = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..128]).into_owned();
    expect("the matrix", header(&before).contains("<f4"), true)?;
    fs::write(directory.join("control"), "recode f16\n")?;
    // On its way it names the codec, too: the matrix's number says that it has arrived.
    let mut said = String::new();
    for _ in 0..300 {
        said = fs::read_to_string(directory.join("schema.json"))?;
        if said.contains("\"matrix\":1,") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let arrived = said.contains("\"matrix\":1,") && said.contains("\"codec\":\"f16\"");
    expect(&format!("the codec: {said}"), arrived, true)?;
    call::set_attribute(&name(3), b"user.vector.recoded", &floats(99, 32))?;
    let after = whole(&mut old)?;
    expect("the old matrix's header, still open", header(&after), header(&before))?;
    expect("the old matrix, still open", after == before, true)?;
    let new = whole(&mut File::open(directory.join("vectors.npy"))?)?;
    expect("the new matrix", header(&new).contains("<f2"), true)?;
    let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    for index in 0..40 {
        let (wanted, got) = (
            floats(if index == 3 { 99 } else { index }, 32),
            call::attribute(&name(index), b"user.vector.recoded")?,
        );
        expect("a vector's length", got.len(), wanted.len())?;
        // Half precision has 11 bits.
        let near = |(a, b): (&[u8], &[u8])| (value(a) - value(b)).abs() <= value(a).abs() / 1024.0 + 1e-6;
        expect("a vector", wanted.chunks_exact(4).zip(got.chunks_exact(4)).all(near), true)?;
    }
    Ok(())
}

// What is saved over a file gets its vectors.
fn inheritance(at: &Path) -> Outcome {
    let (file, saved) = (at.join("file"), at.join("file.new"));
    fs::write(&file, "first")?;
    call::set_attribute(&file, b"user.vector.inherited", &floats(1, 16))?;
    fs::write(&saved, "second")?;
    fs::rename(&saved, &file)?;
    expect("the vector", call::attribute(&file, b"user.vector.inherited")? == floats(1, 16), true)?;
    let stale = fs::read_to_string(root_of(at).join(".vexfs/stale"))?;
    expect("it is stale", stale.contains("exercise-inheritance/file\""), true)
}

// As tar(1) does: attributes before data. The vector is of the content that the file is first closed with.
fn binding(at: &Path) -> Outcome {
    let fresh = |path: &Path| call::attribute(path, b"user.vexfs.fresh");
    for (name, content) in [("small", 10), ("large", 300_000)] {
        let path = at.join(name);
        let mut file = File::create(&path)?;
        call::set_attribute(&path, b"user.vector.bound", &floats(1, 16))?;
        file.write_all(&noise(1, content))?;
        drop(file);
        expect(&format!("{name}: fresh after its first close"), fresh(&path)?, b"1".to_vec())?;
        OpenOptions::new().append(true).open(&path)?.write_all(b"more")?;
        expect(&format!("{name}: fresh after a write"), fresh(&path)?, b"0".to_vec())?;
    }
    Ok(())
}

fn errors(at: &Path) -> Outcome {
    let errno = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    let file = at.join("file");
    fs::write(&file, "x")?;
    call::set_attribute(&file, b"user.vector.errors", &floats(1, 16))?;
    let set = |name: &[u8], value: &[u8], flags| errno(call::set_attribute_as(&file, name, value, flags));
    expect("another length", set(b"user.vector.errors", &floats(1, 17), 0), Some(libc::EINVAL))?;
    expect("not a number", set(b"user.vector.errors.1", &[0xff; 64], 0), Some(libc::EINVAL))?;
    expect("another element", set(b"user.vector.errors:i8", &[0; 64], 0), Some(libc::EINVAL))?;
    expect("no such name", set(b"user.vector.n\xc3\xb6", &[0; 64], 0), Some(libc::EINVAL))?;
    expect(
        "created twice",
        set(b"user.vector.errors", &floats(1, 16), libc::XATTR_CREATE),
        Some(libc::EEXIST),
    )?;
    let replaced = set(b"user.vector.errors.9", &floats(1, 16), libc::XATTR_REPLACE);
    expect("replaced nothing", replaced, Some(libc::ENODATA))?;
    expect("system", set(b"system.other", b"x", 0), Some(libc::EOPNOTSUPP))?;
    let absent = call::attribute(&file, b"user.vector.errors.7").err().and_then(|error| error.raw_os_error());
    expect("absent", absent, Some(libc::ENODATA))?;
    let control = root_of(at).join(".vexfs");
    expect(
        "written columns",
        errno(OpenOptions::new().write(true).open(control.join("collections/errors/vectors.npy")).map(drop)),
        Some(libc::EACCES),
    )?;
    expect("made in control", errno(fs::write(control.join("new"), "x")), Some(libc::EPERM))?;
    let log = fs::read_to_string(control.join("log"))?;
    expect(
        "the log tells why",
        log.contains("user.vector.errors") && log.contains("the collection holds"),
        true,
    )?;
    fs::create_dir(control.join("collections/made"))?;
    expect("a made collection", control.join("collections/made/schema.json").exists(), true)?;
    fs::remove_dir(control.join("collections/made"))?;
    expect("a removed collection", control.join("collections/made").exists(), false)
}

fn drop_caches() -> Outcome {
    call::sync();
    // Only the guest's root may; on a build machine the caches stay.
    let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    Ok(())
}
