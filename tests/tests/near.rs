//! Nearness without floats gives what the FUSE host gives with them: the same lines, byte for byte.
#![cfg(feature = "nearness")]

use vexfs_core::control::QUERY;
use vexfs_core::control::near::{self, Source};
use vexfs_core::device::{Data, Direct};
use vexfs_core::error::Result;
use vexfs_core::format::{Codec, Element, FileKind, Metric, ROOT, collection_directory};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Caller, NewCollection, NewInode, ReadPlan, SetMode};
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_fuse::near::{Indexed, Indexes};
use vexfs_tests::random::Random;
use vexfs_tests::sim::{SimDevice, format};

const NOW: Time = Time { seconds: 1_800_000_000, nanoseconds: 0 };
const USER: u32 = 1000;

struct Host {
    volume: Volume<Direct<SimDevice>>,
    disk: Direct<SimDevice>,
    indexes: Indexes,
}

impl Indexed for Host {
    fn indexes(&self) -> &Indexes {
        &self.indexes
    }
}

impl Source for Host {
    type Host = Direct<SimDevice>;

    fn look<R>(&self, look: impl FnOnce(&Volume<Self::Host>) -> Result<R>) -> Result<R> {
        look(&self.volume)
    }

    fn fetch<R>(
        &self,
        buffer: &mut [u8],
        plan: impl FnOnce(&Volume<Self::Host>, &mut [u8]) -> Result<(R, Option<ReadPlan>)>,
    ) -> Result<R> {
        let (found, plan) = plan(&self.volume, buffer)?;
        for (range, place) in plan.into_iter().flat_map(|plan| plan.pieces) {
            self.disk.read_at(place, &mut buffer[range])?;
        }
        Ok(found)
    }
}

fn root() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

/// A collection of this element in a volume of its own: files in directories that a user may list and others, some of the
/// vectors equal, some zero, some gone; the query file's inode.
fn filled(element: Element, dimensions: u32, random: &mut Random) -> (Host, Ino) {
    let device = SimDevice::new(16 << 20);
    format(&device, 4096).expect("formats");
    let mut volume = Volume::mount(Direct(device.clone()), MountOptions::default()).expect("mounts");
    let metric = if element == Element::Bit { Metric::Hamming } else { Metric::Cosine };
    let new = NewCollection {
        dimensions: 0,
        element,
        codec: Codec::None,
        metric,
        model: b"",
        uid: 0,
        gid: 0,
        permissions: 0o755,
    };
    let id = volume.create_collection(b"c", &new, NOW).expect("a collection");
    let new = |kind, permissions| NewInode { kind, permissions, umask: 0, uid: 0, gid: 0, device: 0 };
    let mut directories = vec![(ROOT, String::new())];
    for (name, permissions) in [("open", 0o755), ("closed", 0o700), ("odd\n\"\u{e9}", 0o755)] {
        let made = volume.create(ROOT, name.as_bytes(), &new(FileKind::Directory, permissions), NOW);
        directories.push((made.expect("a directory").inode, name.into()));
    }
    let len = element.bytes(dimensions).expect("bytes") as usize;
    let mut same = vec![0; len];
    for index in 0..600 {
        let name = if index == 77 { b"bytes-\xff".to_vec() } else { format!("f{index}").into_bytes() };
        let directory = directories[random.index(4)].0;
        let file =
            volume.create(directory, &name, &new(FileKind::Regular, 0o644), NOW).expect("a file").inode;
        for n in 0..random.below(3) {
            if !random.one_in(5) {
                let small = random.below(8) as u32;
                same = (0..len).map(|_| (random.bits() as u8 as i8 >> small) as u8).collect();
                if element == Element::F32 {
                    // Finite.
                    same.iter_mut().skip(3).step_by(4).for_each(|byte| *byte = 0x3f);
                }
            }
            if random.one_in(40) {
                same.fill(0);
            }
            let attribute = format!("user.vector.c.{n}");
            volume
                .set_attribute(file, attribute.as_bytes(), &same, SetMode::Any, &root(), NOW)
                .expect("a vector");
            if random.one_in(4) {
                let metadata = format!("{{\"start\":{},\"length\":{}}}", index * 7, random.bits() >> 12);
                let attribute = format!("user.vector.c.{n}.meta");
                volume
                    .set_attribute(
                        file,
                        attribute.as_bytes(),
                        metadata.as_bytes(),
                        SetMode::Any,
                        &root(),
                        NOW,
                    )
                    .expect("metadata");
            }
        }
        if random.one_in(6) {
            volume.unlink(directory, &name, &|_| false, NOW).expect("unlinks");
        }
    }
    let host = Host { volume, disk: Direct(device), indexes: Indexes::new(1 << 20) };
    (host, Ino(collection_directory(id).0 + QUERY))
}

fn questions(element: Element, dimensions: u32, random: &mut Random) -> Vec<Vec<u8>> {
    let len = element.bytes(dimensions).expect("bytes") as usize;
    let values: Vec<String> = (0..dimensions)
        .map(|_| match element {
            Element::Bit => format!("{}.5e-1", random.below(20) as i64 - 10),
            _ => ["-3", "4.0", "1e1", "0", "-128", "127"][random.index(6)].into(),
        })
        .collect();
    let vector = values.join(", ");
    let mut asked: Vec<Vec<u8>> =
        vec![(0..len).map(|_| random.bits() as u8).collect(), vec![0; len], vec![1; len + 1]];
    for metric in ["cosine", "l2", "ip", "hamming", "l3"] {
        for k in [1, 10, 200, 100_000] {
            asked.push(format!("{{\"vector\": [{vector}], \"k\": {k}, \"metric\": \"{metric}\"}}").into());
        }
        let least = ["-50", "0.05", "-0.0", "1e30", "3.5e-2"][random.index(5)];
        asked.push(
            format!(
                "{{\"like\": \"f{}\", \"metric\": \"{metric}\", \"k\": 1000, \"min_score\": {least}}}",
                random.below(600)
            )
            .into(),
        );
        asked.push(
            format!(
                "{{\"like\": \"/open/f{}/\", \"n\": 1, \"metric\": \"{metric}\", \"within\": \"/open\"}}",
                random.below(600)
            )
            .into(),
        );
        asked.push(
            format!("{{\"vector\": [{vector}], \"metric\": \"{metric}\", \"within\": \"closed\"}}").into(),
        );
    }
    asked.extend(
        [
            "{\"rows\": [0, 1, 2, 3]}",
            "{\"like\": \"nowhere\"}",
            "{\"vector\": [1, 2]}",
            "{\"vector\": [1, \"2\"]}",
            "{\"like\": \"f1\", \"k\": 0}",
            "{\"like\": \"f1\", \"k\": 1.5}",
            "{\"like\": \"f1\", \"kk\": 1}",
            "{\"like\": \"f1\", \"k\": 100001}",
            "{\"like\": \"f1\", \"exact\": 1}",
            "{\"like\": \"f1\", \"exact\": true, \"min_recall\": 0.5, \"index\": false, \"explain\": false}",
            "{\"like\": \"f1\", \"min_recall\": -0.0, \"index\": true}",
            "{\"like\": \"f1\", \"min_recall\": 1, \"index\": \"gr\\u0061ph\"}",
            "{\"like\": \"f1\", \"min_recall\": 1.0000000000000002}",
            "{\"like\": \"f1\", \"min_recall\": -1e-300}",
            "{\"like\": \"f1\", \"min_recall\": true}",
            "{\"like\": \"f1\", \"index\": \"tree\"}",
            "{\"like\": \"f1\", \"index\": \"scan\", \"exact\": true}",
            "{\"like\": \"f1\", \"explain\": 1}",
            "{\"like\": \"f1\", \"within\": \"f2\"}",
            "{\"like\": \"f1\", \"vector\": [1]}",
            "{\"vector\": [1], \"n\": 2}",
            "{\"like\": null}",
            "{}",
        ]
        .map(|question| question.as_bytes().to_vec()),
    );
    asked
}

// What the FUSE host's daemon does with a question.
fn by_floats(host: &Host, inode: Ino, question: &[u8], caller: &Caller<'_>) -> Vec<u8> {
    let answer = match vexfs_fuse::near::asks(host, inode, question) {
        true => vexfs_fuse::near::answer(host, inode, question, caller),
        false => {
            vexfs_core::control::answer(question, |rows, text| host.volume.owners(inode, rows, caller, text))
        }
    };
    answer.expect("an answer")
}

#[test]
fn answers_are_those_of_the_fuse_host() {
    let mut random = Random::new(11);
    let (mut lines, mut refused) = (0, 0);
    for element in [Element::I8, Element::I16, Element::Bit] {
        for dimensions in [8, 24, 1024, 1544] {
            let (host, inode) = filled(element, dimensions, &mut random);
            for question in questions(element, dimensions, &mut random) {
                for uid in [0, USER] {
                    let caller = Caller { uid, gid: uid, in_group: &|_| false };
                    let got = near::answer(&host, inode, &question, &caller).expect("an answer");
                    let wanted = by_floats(&host, inode, &question, &caller);
                    let context =
                        || String::from_utf8_lossy(&question[..question.len().min(300)]).into_owned();
                    if wanted.starts_with(b"{\"error\"") {
                        refused += 1;
                        assert!(got.starts_with(b"{\"error\""), "{}: {}", context(), got.escape_ascii());
                    } else {
                        lines += wanted.iter().filter(|byte| **byte == b'\n').count();
                        same(&got, &wanted, &context());
                    }
                }
            }
        }
    }
    println!("{lines} lines, {refused} refusals");
    assert!(lines > 20_000 && refused > 100);
}

// Line for line; characters that JSON writers escape differently are none of ours.
fn same(got: &[u8], wanted: &[u8], context: &str) {
    let plain = |text: &[u8]| String::from_utf8(text.to_vec()).expect("UTF-8").replace("\\u000a", "\\n");
    let (got, wanted) = (plain(got), plain(wanted));
    for (index, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
        assert_eq!(got, wanted, "line {index} of {context}");
    }
    assert_eq!(got.lines().count(), wanted.lines().count(), "{context}");
}

#[test]
fn both_say_how_they_answered() {
    let mut random = Random::new(13);
    let (host, inode) = filled(Element::I8, 8, &mut random);
    let question = b"{\"vector\": [1,0,0,0,0,0,0,0], \"k\": 3, \"explain\": true}";
    for answer in [
        near::answer(&host, inode, question, &root()).expect("an answer"),
        by_floats(&host, inode, question, &root()),
    ] {
        let told = String::from_utf8(answer).expect("UTF-8");
        assert_eq!(told.lines().count(), 4, "{told}");
        let last = told.lines().last().unwrap_or_default();
        assert!(last.starts_with("{\"explain\":{\"plan\":\"exact\",\"why\":"), "{last}");
    }
}

#[test]
fn what_takes_floats_is_refused_in_words() {
    let mut random = Random::new(12);
    let (host, inode) = filled(Element::F32, 8, &mut random);
    let root = root();
    for question in [&b"{\"vector\": [1,0,0,0,0,0,0,0]}"[..], &[0; 32]] {
        let answer = near::answer(&host, inode, question, &root).expect("an answer");
        let told = String::from_utf8(answer).expect("UTF-8");
        assert!(
            told.starts_with("{\"error\":") && told.contains("holds f32") && told.contains("vexfs search"),
            "{told}"
        );
    }
    let (host, inode) = filled(Element::I8, 8, &mut random);
    let answer = near::answer(&host, inode, b"{\"vector\": [1,0.5,0,0,0,0,0,0]}", &root).expect("an answer");
    let told = String::from_utf8(answer).expect("UTF-8");
    assert!(told.contains("element 1 is no whole number from -128 to 127"), "{told}");
}
