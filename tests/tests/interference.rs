//! P9: two volumes that differ only in what a user may not read give that user identical answers.
//!
//! Both are made by the same history, but for the secrets: bytes of files, values of attributes and vectors, and names in
//! directories that the user may not read. The test stands for the kernel: it checks permissions as that does before it
//! asks the core, and the core checks what is its own. Everything the user gets is written down, in order: names, sizes,
//! errors, bytes, attributes, columns of collections.
//!
//! What all can see who reach a mount is the same in both: how many blocks are free, and how many numbers were given.

use std::fmt::Write;

use vexfs_core::device::Direct;
use vexfs_core::format::{COLLECTIONS, FileKind, ROOT};
use vexfs_core::numbers::{Ino, Time};
use vexfs_core::operations::{Attributes, Caller, Changes, NewInode, SetMode};
use vexfs_core::volume::{MountOptions, Volume};
use vexfs_tests::effort::Effort;
use vexfs_tests::random::Random;
use vexfs_tests::sim::{SimDevice, format};

type Mounted = Volume<Direct<SimDevice>>;

/// uid, gid and supplementary groups.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
    group: u32,
}

const USERS: [User; 4] = [
    User { uid: 1000, gid: 1000, group: 50 },
    User { uid: 1001, gid: 1001, group: 50 },
    User { uid: 1002, gid: 1000, group: 60 },
    User { uid: 65534, gid: 65534, group: 65534 },
];

const COLLECTIONS_MADE: [&str; 4] = ["public", "team", "own", "secret"];
const LEN: usize = 96;

impl User {
    /// What mode bits give him: r = 4, w = 2, x = 1.
    fn may(self, of: &Attributes, what: u32) -> bool {
        if self.uid == 0 {
            return true;
        }
        let shift = if of.uid == self.uid {
            6
        } else if of.gid == self.gid || of.gid == self.group {
            3
        } else {
            0
        };
        of.permissions >> shift & what == what
    }
}

/// A choice that both volumes make alike, and one that each makes for itself.
struct Choices {
    shared: Random,
    secret: Random,
}

fn now(step: u64) -> Time {
    Time { seconds: 1_800_000_000 + step as i64, nanoseconds: 0 }
}

fn caller() -> Caller<'static> {
    Caller { uid: 0, gid: 0, in_group: &|_| false }
}

struct Maker<'a> {
    volume: Mounted,
    user: User,
    choices: &'a mut Choices,
    /// Files, and whether the user may read them: reach and mode together.
    files: Vec<(Ino, bool)>,
    step: u64,
}

impl Maker<'_> {
    fn owner(&mut self) -> (u32, u32) {
        let user = self.choices.shared.pick(&USERS);
        (user.uid, if self.choices.shared.one_in(2) { user.gid } else { user.group })
    }

    fn permissions(&mut self) -> u32 {
        self.choices.shared.pick(&[0o700, 0o755, 0o750, 0o711, 0o644, 0o640, 0o600, 0o604, 0o070, 0o000])
    }

    /// Bytes that are told, or that only who may read them knows.
    fn bytes(&mut self, len: usize, readable: bool) -> Vec<u8> {
        if readable { self.choices.shared.bytes(len) } else { self.choices.secret.bytes(len) }
    }

    fn make(&mut self, directory: Ino, name: &[u8], kind: FileKind) -> Attributes {
        self.step += 1;
        let (uid, gid) = self.owner();
        let permissions = self.permissions();
        let new = NewInode { kind, permissions, umask: 0, uid, gid, device: 0 };
        self.volume.create(directory, name, &new, now(self.step)).expect("creates")
    }

    /// Directories with files, some of which the user cannot list, reach or read.
    fn tree(&mut self) {
        let mut directories = vec![(ROOT, true, true)];
        for number in 0..5 {
            let (parent, list, reach) = self.choices.shared.pick(&directories);
            let name = self.name(number, list);
            let made = self.make(parent, &name, FileKind::Directory);
            let (r, x) = (self.user.may(&made, 4), self.user.may(&made, 1));
            directories.push((made.inode, reach && list && r, reach && list && x));
        }
        for number in 5..20 {
            let (parent, list, reach) = self.choices.shared.pick(&directories);
            let name = self.name(number, list);
            let made = self.make(parent, &name, FileKind::Regular);
            let readable = reach && list && self.user.may(&made, 4);
            let len = self.choices.shared.index(9000);
            let bytes = self.bytes(len, readable);
            self.volume.write(made.inode, 0, &bytes, now(self.step)).expect("writes");
            let value = self.bytes(20, readable);
            self.volume
                .set_attribute(made.inode, b"user.note", &value, SetMode::Any, &caller(), now(self.step))
                .expect("sets");
            self.files.push((made.inode, readable));
        }
    }

    fn name(&mut self, number: u64, listed: bool) -> Vec<u8> {
        let secret = self.bytes(8, listed);
        let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{number}-{hex}").into_bytes()
    }

    /// Vectors of any file in any collection: a value is known to who may read the file or the collection.
    fn vectors(&mut self) {
        for name in COLLECTIONS_MADE {
            let (uid, gid) = self.owner();
            let permissions = self.choices.shared.pick(&[0o700, 0o750, 0o755, 0o711, 0o000]);
            let new = NewInode { kind: FileKind::Directory, permissions, umask: 0, uid, gid, device: 0 };
            let made =
                self.volume.create(COLLECTIONS, name.as_bytes(), &new, now(self.step)).expect("creates");
            let (key, step) = (b"user.vexfs.element", now(self.step));
            self.volume.set_attribute(made.inode, key, b"i8", SetMode::Any, &caller(), step).expect("sets");
        }
        for _ in 0..30 {
            self.step += 1;
            let (file, readable) = self.choices.shared.pick(&self.files);
            let name = self.choices.shared.pick(&COLLECTIONS_MADE);
            let n = self.choices.shared.below(2);
            let collection = self.volume.lookup(COLLECTIONS, name.as_bytes()).expect("is there");
            let open = self.user.may(&collection, 1);
            let value = self.bytes(LEN, readable || open);
            let attribute = format!("user.vector.{name}:i8.{n}");
            let (attribute, step) = (attribute.as_bytes(), now(self.step));
            if self.choices.shared.one_in(4) {
                // Of some there is none; which, both volumes know alike.
                let _ = self.volume.remove_attribute(file, attribute, &caller(), step);
            } else {
                self.volume
                    .set_attribute(file, attribute, &value, SetMode::Any, &caller(), step)
                    .expect("sets");
            }
        }
        self.volume.commit(now(self.step)).expect("commits");
        while self.volume.tidy(now(self.step)).expect("tidies") {}
    }
}

fn volume(user: User, seed: u64, secret: u64) -> Mounted {
    let device = SimDevice::new(2 << 20);
    format(&device, 4096).expect("formats");
    let volume = Volume::mount(Direct(device), MountOptions::default()).expect("mounts");
    let mut choices = Choices { shared: Random::new(seed), secret: Random::new(secret) };
    let mut maker = Maker { volume, user, choices: &mut choices, files: Vec::new(), step: 0 };
    let open = Changes { permissions: Some(0o755), ..Changes::default() };
    maker.volume.set_attributes(ROOT, &open, now(0)).expect("opens the root");
    maker.tree();
    maker.vectors();
    maker.volume
}

/// Everything that the user gets.
struct Answers<'a> {
    volume: &'a mut Mounted,
    user: User,
    text: String,
}

impl Answers<'_> {
    fn note(&mut self, what: impl std::fmt::Debug) {
        let _ = writeln!(self.text, "{what:?}");
    }

    fn directory(&mut self, directory: Ino) {
        let of = self.volume.attributes(directory).expect("attributes");
        self.note(of);
        if !self.user.may(&of, 4) {
            return self.note("EACCES to list");
        }
        let mut entries = Vec::new();
        let mut each = |entry: vexfs_core::operations::Entry<'_>| {
            entries.push((entry.inode, entry.name.to_vec(), entry.cookie));
            true
        };
        self.volume.read_directory(directory, 0, &mut each).expect("lists");
        for (inode, name, cookie) in entries {
            if name == b"." || name == b".." {
                continue;
            }
            self.note((inode, &name, cookie));
            if !self.user.may(&of, 1) {
                self.note("EACCES to reach");
                continue;
            }
            let found = self.volume.lookup(directory, &name);
            self.note(found.map_err(|error| error.errno()));
            let Ok(found) = found else { continue };
            match found.kind {
                FileKind::Directory => self.directory(found.inode),
                _ => self.file(&found),
            }
        }
    }

    fn file(&mut self, found: &Attributes) {
        // getxattr(2) of user.* asks for the right to read, listxattr(2) for none.
        let names = self.volume.list_attributes(found.inode).map_err(|error| error.errno());
        self.note(&names);
        if !self.user.may(found, 4) {
            return self.note("EACCES to read");
        }
        let mut bytes = vec![0; found.size.max(9000) as usize];
        let read = self.volume.read(found.inode, 0, &mut bytes).map_err(|error| error.errno());
        self.note((read, &bytes));
        for name in names.unwrap_or_default().split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let value = self.volume.attribute(found.inode, name).map_err(|error| error.errno());
            self.note((name, value));
        }
    }

    /// What the core itself decides: who may put vectors where.
    fn sets(&mut self) {
        let user = self.user;
        let in_group = |group| group == user.group;
        let caller = Caller { uid: user.uid, gid: user.gid, in_group: &in_group };
        let new = NewInode {
            kind: FileKind::Regular,
            permissions: 0o600,
            umask: 0,
            uid: user.uid,
            gid: user.gid,
            device: 0,
        };
        let made = self.volume.create(ROOT, b"mine", &new, now(9000)).expect("creates");
        for name in COLLECTIONS_MADE.iter().chain(&["another", "bad name"]) {
            let attribute = format!("user.vector.{name}:i8");
            let set = self
                .volume
                .set_attribute(made.inode, attribute.as_bytes(), &[7; LEN], SetMode::Any, &caller, now(9000))
                .map_err(|error| (error.errno(), error.to_string()));
            self.note(set);
        }
        let after = self.volume.attributes(made.inode).expect("attributes");
        self.note(after);
    }
}

fn answers(user: User, seed: u64, secret: u64) -> String {
    let mut volume = volume(user, seed, secret);
    let mut answers = Answers { volume: &mut volume, user, text: String::new() };
    answers.directory(ROOT);
    answers.directory(COLLECTIONS);
    answers.sets();
    answers.note(answers.volume.statistics());
    answers.text
}

#[test]
fn what_a_user_may_not_read_changes_no_answer() {
    let pairs = Effort::wanted().of(100, 1000, 20_000);
    let mut denied = 0;
    for seed in 0..pairs {
        let user = USERS[seed as usize % USERS.len()];
        let first = answers(user, seed, 2 * seed);
        let second = answers(user, seed, 2 * seed + 1);
        denied += first.matches("EACCES").count();
        if first != second {
            let differs = first.lines().zip(second.lines()).find(|(first, second)| first != second);
            panic!("seed {seed}, {user:?}: {:.1000?}", differs);
        }
    }
    println!("non-interference: {pairs} pairs of volumes, 4 users, {denied} times something was refused");
    assert!(denied as u64 > pairs, "hardly anything was secret");
}

// The test could find a leak: for who may read everything, the same volumes differ.
#[test]
fn the_secrets_do_differ() {
    let root = |secret| {
        let mut volume = volume(USERS[3], 7, secret);
        let all = User { uid: 0, gid: 0, group: 0 };
        let mut answers = Answers { volume: &mut volume, user: all, text: String::new() };
        answers.directory(ROOT);
        answers.directory(COLLECTIONS);
        answers.text
    };
    assert_eq!(root(1), root(1));
    assert_ne!(root(1), root(2));
}
