//! What goes onto a golden image: one of everything that the format can hold.

use vexfs_core::Result;
use vexfs_core::format::{COLLECTIONS, Codec, ColumnType, Element, FileKind, Metric};
use vexfs_core::numbers::Time;
use vexfs_core::operations::{Allocate, Changes, NewCollection, NewInode, RenameFlags};

use super::listing::CollectionEntry;
use super::maker::{Maker, NOW};
use super::{Features, codebooks};

/// Puts everything there, on newer images what the format then grew.
pub(super) fn fill(maker: &mut Maker<'_>, features: Features) -> Result<()> {
    contents(maker)?;
    kinds(maker)?;
    names(maker)?;
    attributes(maker)?;
    vectors(maker)?;
    freed_rows(maker)?;
    if features.codecs {
        codecs(maker)?;
    }
    if features.metadata {
        metadata(maker)?;
    }
    if features.history {
        history(maker)?;
    }
    if features.recode {
        recode(maker)?;
    }
    if features.codebook {
        codebooks::put(maker)?;
    }
    orphans(maker)
}

// Files in all the ways that bytes are stored.
fn contents(maker: &mut Maker<'_>) -> Result<()> {
    maker.create(b"/contents", FileKind::Directory, 0o755)?;
    maker.file(b"/contents/empty", b"")?;
    for len in [1, 100, 768, 769, 4096, 16384, 16385, 300_001] {
        maker.file(format!("/contents/{len}").as_bytes(), &text(len))?;
    }
    maker.file(b"/contents/inline-then-block", &text(500))?;
    maker.write(b"/contents/inline-then-block", 490, &text(900))?;
    maker.file(b"/contents/sparse", &text(10))?;
    maker.write(b"/contents/sparse", 1_048_577, &text(5000))?;
    maker.truncate(b"/contents/sparse", 3_145_733)?;
    maker.create(b"/contents/hole", FileKind::Regular, 0o644)?;
    maker.truncate(b"/contents/hole", 1_000_000)?;
    maker.create(b"/contents/unwritten", FileKind::Regular, 0o600)?;
    maker.allocate(b"/contents/unwritten", Allocate::Reserve { keep_size: false }, 0, 131_072)?;
    maker.write(b"/contents/unwritten", 40_000, &text(20_000))?;
    maker.file(b"/contents/reserved-behind", &text(3000))?;
    maker.allocate(b"/contents/reserved-behind", Allocate::Reserve { keep_size: true }, 0, 131_072)?;
    maker.file(b"/contents/punched", &text(200_000))?;
    maker.allocate(b"/contents/punched", Allocate::PunchHole, 30_000, 100_000)?;
    maker.file(b"/contents/zeroed", &text(100_000))?;
    maker.allocate(b"/contents/zeroed", Allocate::ZeroRange { keep_size: false }, 70_000, 50_000)?;
    maker.file(b"/contents/shrunk-and-grown", &text(100_000))?;
    maker.truncate(b"/contents/shrunk-and-grown", 5001)?;
    maker.truncate(b"/contents/shrunk-and-grown", 20_000)?;
    // Pieces in the opposite order, so that extents do not lie as the file does.
    maker.create(b"/contents/backwards", FileKind::Regular, 0o644)?;
    for piece in (0..6).rev() {
        maker.write(b"/contents/backwards", piece * 16384, &text(16384 - piece))?;
    }
    maker.durable()
}

// All types, permission bits, owners and times; names of one inode.
fn kinds(maker: &mut Maker<'_>) -> Result<()> {
    maker.create(b"/kinds", FileKind::Directory, 0o1777)?;
    let node = |kind, device| NewInode { kind, permissions: 0o660, umask: 0, uid: 0, gid: 6, device };
    // Major 1, minor 3; major 8, minor 70,000.
    maker.create_as(b"/kinds/char", &node(FileKind::CharDevice, 0x103))?;
    maker.create_as(b"/kinds/block", &node(FileKind::BlockDevice, 0x70 | 8 << 8 | (70_000 & !0xff) << 12))?;
    maker.create_as(b"/kinds/fifo", &node(FileKind::Fifo, 0))?;
    maker.create_as(b"/kinds/socket", &node(FileKind::Socket, 0))?;
    maker.symlink(b"/kinds/short", b"../contents/100")?;
    maker.symlink(
        b"/kinds/long",
        &text(4095).iter().map(|byte| byte.max(&b'!')).copied().collect::<Vec<u8>>(),
    )?;
    maker.symlink(b"/kinds/768", &[b'x'; 768])?;
    maker.create_as(
        b"/kinds/setuid",
        &NewInode { kind: FileKind::Regular, permissions: 0o4755, umask: 0, uid: 0, gid: 0, device: 0 },
    )?;
    maker.create(b"/kinds/setgid", FileKind::Directory, 0o2775)?;
    maker.file(b"/kinds/unreadable", b"secret\n")?;
    let changes = Changes {
        permissions: Some(0),
        uid: Some(u32::MAX - 1),
        gid: Some(70_000),
        accessed: Some(Time { seconds: -1, nanoseconds: 999_999_999 }),
        modified: Some(Time { seconds: -2_000_000_000, nanoseconds: 1 }),
        ..Changes::default()
    };
    maker.change(b"/kinds/unreadable", &changes)?;
    maker.file(b"/kinds/far-future", b"")?;
    let modified = Some(Time { seconds: 1 << 40, nanoseconds: 0 });
    maker.change(b"/kinds/far-future", &Changes { modified, ..Changes::default() })?;
    maker.file(b"/kinds/one", b"three names\n")?;
    maker.link(b"/kinds/one", b"/kinds/two")?;
    maker.link(b"/kinds/one", b"/kinds/setgid/three")
}

// Names of all sorts, and directories that fill more than a node.
fn names(maker: &mut Maker<'_>) -> Result<()> {
    maker.create(b"/names", FileKind::Directory, 0o755)?;
    let longest = [b"/names/", &[b'n'; 255][..]].concat();
    maker.file(&longest, b"255 bytes\n")?;
    for name in [&b" "[..], b"%", b"\"\\", b"new\nline", b"\xff\xfe", b"...", "schön".as_bytes()] {
        maker.file(&[b"/names/", name].concat(), name)?;
    }
    let mut path = b"/names/deep".to_vec();
    for level in 0..12 {
        maker.create(&path, FileKind::Directory, 0o700)?;
        path.extend_from_slice(format!("/{level}").as_bytes());
    }
    maker.create(b"/many", FileKind::Directory, 0o755)?;
    for number in 0..200 {
        maker.file(format!("/many/file-{number:03}").as_bytes(), format!("{number}\n").as_bytes())?;
    }
    for number in (0..200).step_by(7) {
        maker.unlink(format!("/many/file-{number:03}").as_bytes())?;
    }
    Ok(())
}

fn attributes(maker: &mut Maker<'_>) -> Result<()> {
    maker.file(b"/attributes", b"a file with attributes\n")?;
    maker.attribute(b"/attributes", b"user.small", b"value")?;
    maker.attribute(b"/attributes", b"user.empty", b"")?;
    maker.attribute(b"/attributes", b"user.bytes", &[0, 255, 10, 34])?;
    maker.attribute(b"/attributes", b"trusted.note", b"for root alone")?;
    maker.attribute(b"/attributes", b"security.label", b"anything")?;
    // In one record at some block sizes, in a record of its own at others; then in many.
    for len in [900, 1500, 3000, 5000, 65536] {
        maker.attribute(b"/attributes", format!("user.{len}").as_bytes(), &text(len))?;
    }
    let longest = [b"user.", &[b'a'; 250][..]].concat();
    maker.attribute(b"/attributes", &longest, b"a long name")?;
    // So many records that with the smallest blocks the tree has three levels.
    maker.attribute(b"/names", b"user.long", &[b'L'; 65536])?;
    maker.attribute(b"/kinds", b"user.directory", b"yes")?;
    maker.attribute(b"/kinds/short", b"trusted.link", b"yes")
}

// Metadata in one piece and in several, of vectors that were set again; all types of columns.
fn metadata(maker: &mut Maker<'_>) -> Result<()> {
    let new = NewCollection {
        dimensions: 16,
        element: Element::I8,
        codec: Codec::None,
        metric: Metric::Cosine,
        model: b"",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    maker.volume.create_collection(b"described", &new, NOW)?;
    maker.expect_collection("described", collection("i8", 16, "cosine", &new));
    maker.file(b"/described", b"a file whose vectors have metadata\n")?;
    for n in 0..6_u8 {
        let name = match n {
            0 => "user.vector.described:i8".to_owned(),
            n => format!("user.vector.described:i8.{n}"),
        };
        maker.vector(b"/described", &name, &[n; 16])?;
        let about = format!(r#"{{"start": {n}, "length": 10, "page": {{"title": "page\u0020{n}"}},"#);
        let rest = match n {
            0 => r#" "confidence": 0.25, "checked": true, "at": "2026-11-21T14:30:00.5Z"}"#.to_owned(),
            1 => format!(r#" "text": "{}"}}"#, "long ".repeat(700)),
            2 => r#" "confidence": -1e-3, "checked": false, "at": 1700000000}"#.to_owned(),
            _ => r#" "confidence": null}"#.to_owned(),
        };
        if n != 4 {
            maker.metadata(b"/described", &name, &format!("{about}{rest}"))?;
        }
        if n % 2 == 1 {
            maker.vector(b"/described", &name, &[n + 100; 16])?;
            maker.durable()?;
        }
    }
    maker.metadata(b"/described", "user.vector.described:i8.5", "\n{ \"replaced\" : [1, {}] }\n")?;
    maker.column("described", "start", ColumnType::Int, 0)?;
    maker.column("described", "confidence", ColumnType::Float, 0)?;
    maker.column("described", "page.title", ColumnType::String, 12)?;
    maker.column("described", "checked", ColumnType::Bool, 0)?;
    maker.column("described", "at", ColumnType::Timestamp, 0)
}

// Superseded vectors in one piece and in several, with and without metadata, behind rows and of a file that waits to be
// freed.
fn history(maker: &mut Maker<'_>) -> Result<()> {
    let kept = NewCollection {
        dimensions: 300,
        element: Element::F32,
        codec: Codec::None,
        metric: Metric::Cosine,
        model: b"",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    let small = NewCollection { dimensions: 64, element: Element::I8, ..kept };
    for (name, new, count) in [("kept", kept, 2), ("many-kept", small, 64)] {
        maker.volume.create_collection(name.as_bytes(), &new, NOW)?;
        maker.expect_collection(name, collection(new.element.name(), new.dimensions, "cosine", &new));
        maker.history(name, count)?;
    }
    maker.file(b"/superseded", b"a file whose vectors were set again\n")?;
    maker.file(b"/superseded-open", b"another, without a name\n")?;
    for round in 0..5 {
        let long = "long ".repeat(200 * round as usize);
        for path in [&b"/superseded"[..], b"/superseded-open"] {
            maker.vector(path, "user.vector.kept", &floats(round, 300))?;
            maker.vector(path, "user.vector.many-kept:i8.7", &bytes(round, 64))?;
        }
        maker.metadata(b"/superseded", "user.vector.kept", &format!(r#"{{"text": "{long}"}}"#))?;
        maker.durable()?;
    }
    maker.vector(b"/superseded", "user.vector.kept.1", &floats(9, 300))?;
    maker.write(b"/superseded", 0, b"A")?;
    maker.vector(b"/superseded", "user.vector.kept.1", &floats(10, 300))?;
    maker.unlink_open(b"/superseded-open")
}

// Collections of all elements, made by hand and by the first vector; several vectors a file; stale ones.
fn vectors(maker: &mut Maker<'_>) -> Result<()> {
    let by_hand = NewCollection {
        dimensions: 100,
        element: Element::F32,
        codec: Codec::None,
        metric: Metric::L2,
        model: b"a model, 100 dimensions",
        uid: 1000,
        gid: 100,
        permissions: 0o750,
    };
    maker.volume.create_collection(b"by-hand", &by_hand, NOW)?;
    maker.expect_collection("by-hand", collection("f32", 100, "l2", &by_hand));
    let unused = NewCollection { dimensions: 0, element: Element::I16, model: b"", ..by_hand };
    maker.volume.create_collection(b"unused_1", &unused, NOW)?;
    let renamed = (COLLECTIONS, &b"unused_2"[..]);
    maker.volume.rename((COLLECTIONS, b"unused_1"), renamed, RenameFlags::empty(), &|_| false, NOW)?;
    maker.expect_collection("unused_2", collection("i16", 0, "l2", &unused));
    let implicit = NewCollection { model: b"", uid: 0, gid: 0, permissions: 0o700, ..by_hand };
    for (name, element, dimensions, metric) in [
        ("minilm", "f32", 384, "cosine"),
        ("half", "f16", 33, "cosine"),
        ("clip", "i8", 64, "cosine"),
        ("words", "i16", 3, "cosine"),
        ("bits", "bit", 1024, "hamming"),
    ] {
        maker.expect_collection(name, collection(element, dimensions, metric, &implicit));
    }
    maker.create(b"/vectors", FileKind::Directory, 0o755)?;
    for number in 0..60 {
        let path = format!("/vectors/{number:02}");
        let path = path.as_bytes();
        maker.file(path, format!("document {number}\n").as_bytes())?;
        maker.vector(path, "user.vector.minilm", &floats(number, 384))?;
        if number % 3 == 0 {
            maker.vector(path, "user.vector.by-hand", &floats(number + 1, 100))?;
            maker.vector(path, "user.vector.half:f16.7", &bytes(number, 66))?;
        }
        if number % 5 == 0 {
            for n in [1, 2, 4_294_967_295] {
                maker.vector(path, &format!("user.vector.clip:i8.{n}"), &bytes(n, 64))?;
            }
        }
        if number % 20 == 0 {
            maker.vector(path, "user.vector.words:i16", &bytes(number, 6))?;
            maker.vector(path, "user.vector.bits:bit", &bytes(number, 128))?;
            maker.attribute(path, b"user.beside", b"a vector")?;
        }
    }
    maker.vector(b"/vectors", "user.vector.minilm", &floats(99, 384))?;
    maker.write(b"/vectors/05", 9, b"changed\n")?;
    maker.vector(b"/kinds/setuid", "user.vector.words:i16.1", &bytes(1, 6))
}

// Rows that were freed: some blanked and free again, in runs and at the end, some that still wait for it.
fn freed_rows(maker: &mut Maker<'_>) -> Result<()> {
    for number in [10, 11, 12, 30, 58, 59] {
        maker.unlink(format!("/vectors/{number:02}").as_bytes())?;
    }
    maker.remove_vector(b"/vectors/20", "user.vector.clip:i8.2")?;
    maker.settle()?;
    // The lowest free row is taken, and the row before is free later.
    maker.vector(b"/vectors/03", "user.vector.minilm", &floats(103, 384))?;
    maker.volume.commit(NOW)?;
    maker.remove_vector(b"/vectors/40", "user.vector.minilm")?;
    maker.unlink(b"/vectors/41")
}

// Collections of all codecs, with vectors that each can store without loss.
fn codecs(maker: &mut Maker<'_>) -> Result<()> {
    maker.file(b"/coded", b"a file with vectors of all codecs\n")?;
    for codec in Codec::ALL.into_iter().filter(|codec| *codec != Codec::None) {
        let new = NewCollection {
            dimensions: 77,
            element: Element::F32,
            codec,
            metric: Metric::InnerProduct,
            model: b"",
            uid: 0,
            gid: 0,
            permissions: 0o755,
        };
        let name = format!("as-{}", codec.name());
        maker.volume.create_collection(name.as_bytes(), &new, NOW)?;
        maker.expect_collection(&name, collection("f32", 77, "ip", &new));
        for n in 0..3 {
            let values = (0..77_u16).map(|d| {
                let place = f32::from((d * (n + 3)) % 16);
                match codec {
                    // The largest is 127 steps of 1/4, 7.5 steps of 1/2; signs are of one size.
                    Codec::Sq8 => {
                        if d == 5 {
                            -31.75
                        } else {
                            (place - 8.0) / 4.0
                        }
                    }
                    Codec::Sq4 => {
                        if d == 5 {
                            3.75
                        } else {
                            (place - 7.5) / 2.0
                        }
                    }
                    Codec::Binary => {
                        if place < 8.0 {
                            -0.625
                        } else {
                            0.625
                        }
                    }
                    _ => place / 64.0 - 3.0,
                }
            });
            let value: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            let suffix = if n == 0 { String::new() } else { format!(".{n}") };
            maker.vector(b"/coded", &format!("user.vector.{name}{suffix}"), &value)?;
        }
        maker.vector(b"/many", &format!("user.vector.{name}"), &[0; 77 * 4])?;
    }
    Ok(())
}

// Collections that were recoded without loss, to smaller rows and to larger ones, one that is on its way with rows to be coded
// again, and what is left of the matrices that they had.
fn recode(maker: &mut Maker<'_>) -> Result<()> {
    let new = NewCollection {
        dimensions: 48,
        element: Element::F32,
        codec: Codec::None,
        metric: Metric::L2,
        model: b"a model of halves",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    for (name, before) in [("smaller", Codec::None), ("larger", Codec::F16), ("under-way", Codec::None)] {
        let new = NewCollection { codec: before, ..new };
        maker.volume.create_collection(name.as_bytes(), &new, NOW)?;
        maker.expect_collection(name, collection("f32", 48, "l2", &new));
    }
    // Multiples of a quarter below 64: a half holds them.
    let halves = |seed: u16| -> Vec<u8> {
        (0..48_u16).flat_map(|d| (f32::from((d * seed) % 255) / 4.0).to_le_bytes()).collect()
    };
    for number in 0..70_u16 {
        let path = format!("/recoded-{number:02}");
        maker.file(path.as_bytes(), format!("file {number}\n").as_bytes())?;
        for name in ["smaller", "larger", "under-way"] {
            maker.vector(path.as_bytes(), &format!("user.vector.{name}"), &halves(number + 3))?;
        }
    }
    maker.settle()?;
    maker.recode("larger", Codec::None)?;
    maker.volume.commit(NOW)?;
    for matrix in maker.volume.retired().to_vec() {
        while !maker.volume.free_retired(matrix, NOW)? {}
    }
    // Its first matrix waits to be freed.
    maker.recode("smaller", Codec::F16)?;
    maker.note_retired();
    let id = maker.volume.collection_by_name(b"under-way")?.id;
    maker.volume.recode(id, Codec::F16, NOW)?;
    maker.volume.recode_step(id, NOW)?;
    maker.volume.recode_step(id, NOW)?;
    maker.vector(b"/recoded-02", "user.vector.under-way", &halves(100))?;
    maker.unlink(b"/recoded-03")?;
    maker.volume.commit(NOW)
}

// What a crash leaves on the orphan list.
fn orphans(maker: &mut Maker<'_>) -> Result<()> {
    maker.file(b"/open", &text(50_000))?;
    maker.vector(b"/open", "user.vector.gone:i8", &bytes(1, 64))?;
    maker.vector(b"/open", "user.vector.clip:i8", &bytes(2, 64))?;
    maker.unlink_open(b"/open")?;
    maker.remove_collection(b"gone")
}

pub(super) fn collection(
    element: &'static str,
    dimensions: u32,
    metric: &'static str,
    new: &NewCollection<'_>,
) -> CollectionEntry {
    let NewCollection { uid, gid, permissions, .. } = *new;
    let model = new.model.to_vec();
    let codec = new.codec.name();
    CollectionEntry {
        element,
        codec,
        dimensions,
        metric,
        model,
        rows: 0,
        live: 0,
        permissions,
        uid,
        gid,
        history: 0,
        columns: Vec::new(),
    }
}

// Bytes of which each 512 tell their place, and that compress well.
fn text(len: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(len + 512);
    while text.len() < len {
        text.extend_from_slice(format!("{:-<511}\n", text.len()).as_bytes());
    }
    text.truncate(len);
    text
}

// A vector of small whole numbers, as f32.
fn floats(seed: u32, dimensions: u32) -> Vec<u8> {
    (0..dimensions).flat_map(|d| (((seed * 7 + d) % 16) as f32 - 8.0).to_le_bytes()).collect()
}

// Bytes of which no two make an infinite f16.
fn bytes(seed: u32, len: u32) -> Vec<u8> {
    (0..len).map(|at| (seed.wrapping_mul(31).wrapping_add(at * 3) % 100) as u8).collect()
}
