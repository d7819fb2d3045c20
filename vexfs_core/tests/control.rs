//! The control directory from a host's side: what its files show, the requests that they take, leases, and questions.

mod common;

use core::fmt::Write;

use vexfs_core::Error;
use vexfs_core::MountOptions;
use vexfs_core::Volume;
use vexfs_core::control::{
    self, LOG, METADATA, METRICS, NEAR, PATHS, PENDING, Pseudo, QUERY, README, RECALL, REQUESTS, SCHEMA,
    STALE, STATUS, answer, pseudo,
};
use vexfs_core::device::Direct;
use vexfs_core::format::{COLLECTIONS, CONTROL, Codec, FileKind, ROOT, collection_directory};
use vexfs_core::memory::Text;
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::operations::{Caller, Changes, NewInode, Report, SetMode};

use common::*;

/// What a host adds.
struct Host;

impl Report for Host {
    fn metrics(&self, text: &mut dyn Write) -> core::fmt::Result {
        text.write_str("host_metric 1\n")
    }
    fn log(&self, text: &mut dyn Write) -> core::fmt::Result {
        text.write_str("a line of the host's log\n")
    }
    fn status(&self, text: &mut dyn Write) -> core::fmt::Result {
        text.write_str(",\"host\":true")
    }
}

fn user(uid: u32) -> Caller<'static> {
    Caller { uid, gid: uid, in_group: &|_| false }
}

/// A collection `c` of bytes with three files, `a`, `b` and `d/c`, and its number.
fn filled(volume: &mut Mounted<'_>) -> (CollectionId, [Ino; 3]) {
    let directory = volume.create(ROOT, b"d", &new(FileKind::Directory), NOW).unwrap().inode;
    let changes = Changes { permissions: Some(0o755), ..Changes::default() };
    volume.set_attributes(directory, &changes, NOW).unwrap();
    let deep = volume.create(directory, b"c", &new(FileKind::Regular), NOW).unwrap().inode;
    let files = [file(volume, "a"), file(volume, "b"), deep];
    for (inode, seed) in files.iter().zip(1..) {
        volume.write(*inode, 0, b"content", NOW).unwrap();
        set(volume, *inode, "user.vector.c:i8", &vector(seed)).unwrap();
    }
    (volume.collection_by_name(b"c").unwrap().id, files)
}

fn part(id: CollectionId, part: u64) -> Ino {
    Ino(collection_directory(id).0 + part)
}

fn shown(volume: &Mounted<'_>, inode: Ino) -> String {
    String::from_utf8(volume.render(inode, &Host).unwrap()).unwrap()
}

#[test]
fn the_fixed_files_tell_the_state_of_the_volume() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume);
    volume.commit(NOW).unwrap();
    let status = shown(&volume, STATUS);
    assert!(
        status.starts_with("{\"uuid\":\"07070707-0707-0707-0707-070707070707\",\"label\":\"volume\""),
        "{status}"
    );
    let numbers = volume.statistics();
    assert!(status.contains(&format!("\"free_blocks\":{},", numbers.free)), "{status}");
    assert!(status.contains(&format!("\"inodes\":{},", numbers.inodes)), "{status}");
    assert!(status.ends_with(",\"host\":true}\n"), "{status}");
    let metrics = shown(&volume, METRICS);
    assert!(metrics.contains(&format!("\nvexfs_tree_blocks {}\n", numbers.tree_blocks)), "{metrics}");
    assert!(metrics.contains("\nvexfs_read_only 0\n") && metrics.ends_with("host_metric 1\n"));
    assert_eq!(shown(&volume, LOG), "a line of the host's log\n");
    assert_eq!(shown(&volume, part(id, RECALL)), "{}\n");
    assert!(shown(&volume, README).contains("user.vector.NAME"));
    // What is described there exists, and the other way round.
    let mut listed = Vec::new();
    volume
        .read_directory(collection_directory(id), 0, &mut |entry| {
            listed.push(String::from_utf8(entry.name.to_vec()).unwrap());
            true
        })
        .unwrap();
    let readme = shown(&volume, README);
    for name in &listed {
        assert!(readme.contains(&format!("    {name} ")), "README does not tell of {name}");
    }
    for inode in [ROOT, CONTROL, COLLECTIONS, collection_directory(id), part(id, QUERY)] {
        assert_eq!(volume.render(inode, &Host), Err(Error::NotFound));
    }
    let mut read_only =
        Volume::mount(Direct(&ram), MountOptions { read_only: true, ..MountOptions::default() }).unwrap();
    read_only.set_read_only();
    assert!(shown(&read_only, METRICS).contains("\nvexfs_read_only 1\n"));
}

#[test]
fn a_collection_tells_its_form_paths_and_metadata() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume);
    set(&mut volume, collection_directory(id), "user.vexfs.history", b"2").unwrap();
    set(&mut volume, files[1], "user.vector.c:i8.meta", b"{\"source\":\"page 3\",\"confidence\":0.5}")
        .unwrap();
    volume.request(part(id, REQUESTS), b"column add confidence float\n", NOW).unwrap();
    volume.request(part(id, REQUESTS), b" column  add source string 12 ", NOW).unwrap();
    settle(&mut volume);
    let schema = shown(&volume, part(id, SCHEMA));
    for member in [
        "{\"name\":\"c\",\"dimension\":64,\"element\":\"i8\",\"codec\":\"none\"",
        "\"history\":2,\"rows\":3,\"live\":3,",
        "\"stride_bytes\":64,\"data_offset\":4096,\"vector_bytes\":64,",
        "\"columns\":[{\"name\":\"confidence\",\"type\":\"float\",\"width\":8},{\"name\":\"source\",\"type\":\"string\",\"width\":12}]",
    ] {
        assert!(schema.contains(member), "{member} is not in {schema}");
    }
    let mut paths: Vec<String> = shown(&volume, part(id, PATHS)).lines().map(String::from).collect();
    paths.sort();
    let row = |at: usize| {
        let mut row = None;
        volume.vectors_of(files[at], &mut |vector| row = Some(vector.row)).unwrap();
        row.unwrap()
    };
    let line = |path: &str, at: usize| {
        format!("{{\"path\":\"{path}\",\"row\":{},\"n\":0,\"inode\":{}}}", row(at), files[at])
    };
    assert_eq!(paths, [line("a", 0), line("b", 1), line("d/c", 2)]);
    let metadata = shown(&volume, part(id, METADATA));
    assert_eq!(metadata.lines().count(), 1);
    assert!(metadata.contains("\"source\":\"page 3\"") && metadata.contains(&format!("\"row\":{}", row(1))));
    volume.request(part(id, REQUESTS), b"column drop source", NOW).unwrap();
    assert!(!shown(&volume, part(id, SCHEMA)).contains("source"));
}

#[test]
fn requests_do_what_they_say() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume);
    let control = part(id, REQUESTS);
    assert_eq!(pseudo(control), Some(Pseudo::Request));
    volume.remove_attribute(files[0], b"user.vector.c:i8", &root(), NOW).unwrap();
    volume.request(control, b"compact\n", NOW).unwrap();
    assert!(shown(&volume, control).starts_with("{\"compacting\":true,\"live\":2,\"rows\":3,"));
    settle(&mut volume);
    let now = shown(&volume, control);
    assert!(now.starts_with("{\"compacting\":false,\"live\":2,\"rows\":2,"), "{now}");
    assert!(!now.contains("recode"));
    // Floats can be recoded.
    let other = file(&mut volume, "floats");
    set(&mut volume, other, "user.vector.f", &[0; 256]).unwrap();
    let floats = volume.collection_by_name(b"f").unwrap().id;
    volume.commit(NOW).unwrap();
    volume.request(part(floats, REQUESTS), b"recode f16", NOW).unwrap();
    assert!(shown(&volume, part(floats, REQUESTS)).contains("\"recode\":{\"codec\":\"f16\",\"passed\":0"));
    assert!(shown(&volume, part(floats, SCHEMA)).contains("\"recode\":{\"codec\":\"f16\""));
    volume.request(part(floats, REQUESTS), b"recode stop", NOW).unwrap();
    assert_eq!(volume.collection(floats).unwrap().recode, None);
    volume.request(part(floats, REQUESTS), b"recode sq8", NOW).unwrap();
    work(&mut volume);
    while volume.collection(floats).unwrap().recode.is_some() {
        volume.recode_step(floats, NOW).unwrap();
        volume.commit(NOW).unwrap();
    }
    assert_eq!(volume.collection(floats).unwrap().codec, Codec::Sq8);
}

#[test]
fn what_is_no_request_is_refused_and_says_why() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, _) = filled(&mut volume);
    let before = shown(&volume, part(id, SCHEMA));
    let mut refused = |inode, text: &[u8]| volume.request(inode, text, NOW).unwrap_err();
    for text in [
        &b""[..],
        b"\n",
        b"compacted",
        b"compact now",
        b"recode",
        b"recode f16 sq8",
        b"recode f17",
        b"column",
        b"column add x",
        b"column add x complex",
        b"column add x string wide",
        b"column add x string 0",
        b"column add x string 257",
        b"column add x string 12 more",
        b"column drop",
    ] {
        let error = refused(part(id, REQUESTS), text);
        assert!(matches!(error, Error::Invalid(_)), "{}: {error:?}", text.escape_ascii());
    }
    for codec in ["sparse", "pq", "lossless"] {
        let error = refused(part(id, REQUESTS), format!("recode {codec}").as_bytes());
        assert!(matches!(error, Error::Unsupported(_)));
    }
    assert!(refused(part(id, REQUESTS), b"column drop x").errno() > 0);
    for other in [ROOT, README, part(id, QUERY), collection_directory(id)] {
        assert!(matches!(refused(other, b"compact"), Error::NotPermitted(_)));
    }
    assert!(refused(part(CollectionId(99), REQUESTS), b"compact").errno() > 0);
    assert_eq!(shown(&volume, part(id, SCHEMA)), before);
}

#[test]
fn a_lease_is_one_holders_until_it_is_over() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (_, [inode, other, _]) = filled(&mut volume);
    let name = b"user.vexfs.lease.c";
    let at = |seconds| Time { seconds: NOW.seconds + seconds, nanoseconds: 0 };
    let mut take = |inode, value: &str, mode, seconds| {
        volume.set_attribute(inode, name, value.as_bytes(), mode, &root(), at(seconds))
    };
    assert_eq!(take(inode, "me 60", SetMode::Replace, 0), Err(Error::NoAttribute));
    assert_eq!(take(inode, "me 60", SetMode::Create, 0), Ok(()));
    assert_eq!(take(inode, "you 60", SetMode::Any, 59), Err(Error::Busy));
    assert_eq!(take(other, "you 60", SetMode::Any, 59), Ok(()));
    assert_eq!(take(inode, "me 60", SetMode::Create, 59), Err(Error::Exists));
    assert_eq!(take(inode, "me 10", SetMode::Replace, 59), Ok(()));
    assert_eq!(take(inode, "you 60", SetMode::Any, 69), Ok(()));
    assert_eq!(take(inode, "you 0", SetMode::Any, 70), Ok(()));
    assert_eq!(volume.attribute(inode, name), Err(Error::NoAttribute));
    assert_eq!(volume.attribute(other, name), Ok(format!("you {}", NOW.seconds + 119).into_bytes()));
    // Whoever may write to the file ends it; then there is none.
    assert_eq!(volume.remove_attribute(other, name, &root(), NOW), Ok(()));
    assert_eq!(volume.remove_attribute(other, name, &root(), NOW), Err(Error::NoAttribute));
    // It is in no list, and no commit keeps it.
    volume.set_attribute(inode, name, b"me 60", SetMode::Any, &root(), NOW).unwrap();
    assert_eq!(volume.list_attributes(inode).unwrap(), b"user.vector.c:i8\0");
    volume.commit(NOW).unwrap();
    assert_eq!(mount(&ram).attribute(inode, name), Err(Error::NoAttribute));
}

#[test]
fn leases_are_refused_where_there_is_nothing_to_lease() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, [inode, ..]) = filled(&mut volume);
    let fifo = volume.create(ROOT, b"fifo", &new(FileKind::Fifo), NOW).unwrap().inode;
    let mut take = |inode, name: &[u8], value: &[u8], caller: &Caller<'_>| {
        volume.set_attribute(inode, name, value, SetMode::Any, caller, NOW).unwrap_err()
    };
    assert!(matches!(take(inode, b"user.vexfs.lease.none", b"me 60", &root()), Error::Invalid(_)));
    assert!(matches!(take(inode, b"user.vexfs.lease.", b"me 60", &root()), Error::Invalid(_)));
    assert!(matches!(take(inode, b"user.vexfs.lease.c", b"me", &root()), Error::Invalid(_)));
    assert!(matches!(take(fifo, b"user.vexfs.lease.c", b"me 60", &root()), Error::NotPermitted(_)));
    assert!(take(part(id, SCHEMA), b"user.vexfs.lease.c", b"me 60", &root()).errno() > 0);
    assert_eq!(take(Ino(999), b"user.vexfs.lease.c", b"me 60", &root()), Error::NotFound);
    let changes = Changes { permissions: Some(0o700), ..Changes::default() };
    volume.set_attributes(collection_directory(id), &changes, NOW).unwrap();
    let denied = volume.set_attribute(inode, b"user.vexfs.lease.c", b"me 60", SetMode::Any, &user(1), NOW);
    assert!(matches!(denied, Err(Error::AccessDenied(_))), "{denied:?}");
    volume.set_read_only();
    let late = volume.set_attribute(inode, b"user.vexfs.lease.c", b"me 60", SetMode::Any, &root(), NOW);
    assert_eq!(late, Err(Error::ReadOnly));
}

#[test]
fn no_more_leases_than_there_is_room_for() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    filled(&mut volume);
    let mut taken = 0;
    let last = loop {
        let inode = file(&mut volume, &format!("file {taken}"));
        match set(&mut volume, inode, "user.vexfs.lease.c", b"me 60") {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((taken, last), (4096, Error::Busy));
    // One whose time is over makes room.
    let later = Time { seconds: NOW.seconds + 60, nanoseconds: 0 };
    let inode = file(&mut volume, "later");
    volume.set_attribute(inode, b"user.vexfs.lease.c", b"you 60", SetMode::Any, &root(), later).unwrap();
}

#[test]
fn stale_and_pending_name_what_is_to_be_done_anew() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (_, [inode, ..]) = filled(&mut volume);
    work(&mut volume);
    assert_eq!(shown(&volume, STALE), "");
    volume.write(inode, 0, b"other content", NOW).unwrap();
    work(&mut volume);
    let stale = shown(&volume, STALE);
    assert!(stale.contains("\"path\":\"a\"") && stale.lines().count() == 1, "{stale}");
    assert!(shown(&volume, PENDING).contains("\"path\":\"a\""));
    set(&mut volume, inode, "user.vexfs.lease.c", b"worker 60").unwrap();
    let pending = shown(&volume, PENDING);
    assert!(pending.contains("worker"), "{pending}");
    set(&mut volume, inode, "user.vector.c:i8", &vector(9)).unwrap();
    // Fresh again; the lease is told of until it is given back.
    assert_eq!(shown(&volume, STALE), "");
    assert!(shown(&volume, PENDING).contains("\"stale\":[],\"holder\":\"worker\""));
    set(&mut volume, inode, "user.vexfs.lease.c", b"worker 0").unwrap();
    assert_eq!(shown(&volume, PENDING), "");
}

#[test]
fn owners_are_told_to_who_can_find_them() {
    let ram = device(4096);
    let mut volume = mount(&ram);
    let (id, files) = filled(&mut volume);
    let directory = volume.lookup(ROOT, b"d").unwrap().inode;
    let changes = Changes { permissions: Some(0o700), uid: Some(5), ..Changes::default() };
    volume.set_attributes(directory, &changes, NOW).unwrap();
    let query = part(id, QUERY);
    let ask = |question: &str, caller: &Caller<'_>| {
        let told = answer(question.as_bytes(), |rows, text| volume.owners(query, rows, caller, text));
        String::from_utf8(told.unwrap()).unwrap()
    };
    let all = ask("{\"rows\": [0, 1, 2, 3, 4000000]}", &root());
    assert_eq!(all.lines().count(), 3);
    assert!(all.contains(&format!("{{\"path\":\"d/c\",\"row\":2,\"n\":0,\"inode\":{}}}", files[2])), "{all}");
    assert_eq!(ask("{\"rows\": [2]}", &user(5)).lines().count(), 1);
    assert_eq!(ask("{\"rows\": [2]}", &user(6)), "");
    assert_eq!(ask("{\"rows\": [0, 2]}", &user(6)).lines().count(), 1);
    assert_eq!(ask("{\"rows\": []}", &root()), "");
    for question in
        ["", "[]", "{}", "{\"rows\": 1}", "{\"rows\": [-1]}", "{\"rows\": [\"a\"]}", "{\"vector\": [1]}", "{"]
    {
        let refusal = ask(question, &root());
        assert!(refusal.starts_with("{\"error\":\"") && refusal.ends_with("\"}\n"), "{question}: {refusal}");
    }
    let mut text = Text::new();
    assert!(matches!(volume.owners(README, &[0], &root(), &mut text), Err(Error::NotPermitted(_))));
}

#[test]
fn the_control_directory_is_only_what_vexfs_puts_there() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let (id, [inode, ..]) = filled(&mut volume);
    let entries = |volume: &Mounted<'_>, directory| {
        let mut names = Vec::new();
        volume
            .read_directory(directory, 0, &mut |entry| {
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                true
            })
            .map(|()| names)
    };
    assert_eq!(
        entries(&volume, CONTROL).unwrap(),
        ["README", "status.json", "metrics", "log", "stale", "pending", "collections", "near"]
    );
    assert_eq!(volume.lookup(CONTROL, b"near").unwrap().inode, NEAR);
    let listed = entries(&volume, collection_directory(id)).unwrap();
    assert!(listed.contains(&"append".into()) && listed.contains(&"vectors.arrow".into()));
    for name in &listed {
        let found = volume.lookup(collection_directory(id), name.as_bytes()).unwrap();
        assert_eq!(volume.attributes(found.inode).unwrap().inode, found.inode, "{name}");
        assert!(control::is_control(found.inode));
        let write = volume.write(found.inode, 0, b"x", NOW);
        assert!(write.is_err(), "{name}: {write:?}");
    }
    // Not in a volume that no daemon serves.
    let plain = mount(&ram);
    assert!(plain.lookup(CONTROL, b"near").is_err());
    for directory in [CONTROL, NEAR] {
        assert!(volume.create(directory, b"mine", &new(FileKind::Regular), NOW).is_err());
    }
    assert!(volume.create(COLLECTIONS, b"file", &new(FileKind::Regular), NOW).is_err());
    assert!(volume.unlink(CONTROL, b"README", &|_| false, NOW).is_err());
    assert!(volume.link(inode, CONTROL, b"link", NOW).is_err());
    assert!(set(&mut volume, README, "user.note", b"x").is_err());
    let smaller = Changes { size: Some(0), ..Changes::default() };
    assert!(volume.set_attributes(collection_directory(id), &smaller, NOW).is_err());
    assert!(volume.set_attributes(CONTROL, &Changes { uid: Some(5), ..Changes::default() }, NOW).is_err());
    // The owner of a collection's directory is its files' owner, which hosts are told.
    volume.events();
    volume
        .set_attributes(collection_directory(id), &Changes { uid: Some(5), ..Changes::default() }, NOW)
        .unwrap();
    let told: Vec<Ino> = volume.events().iter().map(|event| event.inode).collect();
    assert!(told.contains(&part(id, SCHEMA)), "{told:?}");
    assert_eq!(volume.attributes(part(id, SCHEMA)).unwrap().uid, 5);
    settle(&mut volume);
}

#[test]
fn listing_goes_on_where_it_was_left() {
    let ram = device(4096);
    let mut volume = mount_as_daemon(&ram);
    let (id, _) = filled(&mut volume);
    let index = NewInode { kind: FileKind::Directory, ..new(FileKind::Directory) };
    volume.create(collection_directory(id), b"index", &index, NOW).unwrap();
    for directory in [CONTROL, COLLECTIONS, collection_directory(id)] {
        let mut all = Vec::new();
        volume
            .read_directory(directory, 0, &mut |entry| {
                all.push((entry.name.to_vec(), entry.cookie));
                true
            })
            .unwrap();
        for (at, (_, cookie)) in all.iter().enumerate() {
            let mut rest = Vec::new();
            volume
                .read_directory(directory, *cookie, &mut |entry| {
                    rest.push((entry.name.to_vec(), entry.cookie));
                    true
                })
                .unwrap();
            assert_eq!(rest, all[at + 1..], "{directory} from {cookie} on");
            let mut first = 0;
            volume
                .read_directory(directory, *cookie, &mut |_| {
                    first += 1;
                    false
                })
                .unwrap();
            assert_eq!(first, usize::from(at + 1 < all.len()));
        }
    }
    assert!(volume.read_directory(README, 0, &mut |_| true).is_err());
    assert_eq!(volume.read_directory(part(id, SCHEMA), 0, &mut |_| true), Err(Error::NotDirectory));
}
