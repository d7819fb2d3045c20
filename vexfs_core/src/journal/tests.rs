//! Records at every limit, and what is none.

use alloc::vec;

use super::*;
use crate::device::Direct;
use crate::format::{Kind, value_max};
use crate::numbers::Time;
use crate::testing::Ram;
use zerocopy::FromBytes;

const UUID: [u8; 16] = [7; 16];
const BASE: u64 = 5;
const KEY: Key = Key { inode: 64, kind: Kind::Xattr as u8, offset: 3 };

fn layout() -> Layout {
    Layout::new(4096, 512, 80).unwrap()
}

fn start() -> usize {
    layout().journal_start as usize * 4096
}

fn size() -> u64 {
    layout().journal_blocks * 4096
}

fn header() -> LogHeader {
    LogHeader {
        magic: U32::ZERO,
        checksum: U32::ZERO,
        length: U32::ZERO,
        entries: U32::ZERO,
        uuid: UUID,
        base: U64::new(BASE),
        sequence: U64::ZERO,
        next_inode: U64::new(70),
        next_vector: U64::new(80),
        inode_count: U64::new(4),
        next_collection: U32::new(2),
        written: Time::default().into(),
        reserved: [0; 8],
    }
}

fn ram() -> Direct<Ram> {
    Direct(Ram::new(layout().size() as usize))
}

/// Puts whose record, without anything else, has this many bytes.
fn puts(length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    put(&mut body, KEY, &vec![9; length - LOG_HEADER - LOG_ENTRY]).unwrap();
    body
}

fn record(journal: &mut Journal, puts: Vec<u8>) -> Option<Record> {
    let record = journal.record(&layout(), header(), puts).unwrap();
    journal.writing = false;
    record
}

/// Changes a record's header and body.
type Change = dyn Fn(&mut LogHeader, &mut [u8]);

/// A log of so many records of 1,024 bytes on a device.
fn logged(count: usize) -> Direct<Ram> {
    let (ram, mut journal) = (ram(), Journal::default());
    for _ in 0..count {
        record(&mut journal, puts(1024)).unwrap().write(&ram).unwrap();
    }
    ram
}

fn reader() -> LogReader {
    LogReader::new(&layout(), UUID, BASE)
}

fn next(reader: &mut LogReader, ram: &Direct<Ram>) -> Option<FoundRecord> {
    reader.next(ram).unwrap()
}

/// Changes the record at a byte offset in the journal, and seals it again.
fn changed(ram: &Direct<Ram>, position: usize, change: impl Fn(&mut LogHeader, &mut [u8])) {
    let mut bytes = ram.0.0.borrow_mut();
    let bytes = &mut bytes[start() + position..];
    let (head, body) = bytes.split_at_mut(LOG_HEADER);
    let mut header = LogHeader::read_from_bytes(head).unwrap();
    let body = &mut body[..header.length.get() as usize - LOG_HEADER];
    change(&mut header, body);
    header.checksum = U32::new(sum(&header, body));
    head.copy_from_slice(header.as_bytes());
}

fn place(inode: u64, offset: u64, device: u64) -> Place {
    Place { inode: Ino(inode), offset, device }
}

/// Changes of one key with this many places of new bytes, each of `len` bytes.
fn places(count: usize, len: u64) -> Changes {
    let mut changes = Changes::default();
    changes.key(KEY).unwrap();
    let first = layout().data_start * 4096;
    for at in 0..count as u64 {
        changes.fresh(place(64, at * 10_000, first + at * 4096), len).unwrap();
    }
    changes
}

fn absorb(journal: &mut Journal, changes: Changes, taken: &[Run], freed: &[Run]) {
    journal.reserve(&changes, taken.len() + freed.len()).unwrap();
    journal.absorb(changes, taken, freed);
}

fn keys(count: usize) -> Changes {
    let mut changes = Changes::default();
    for at in 0..count as u64 {
        changes.key(Key { offset: at, ..KEY }).unwrap();
    }
    changes
}

#[test]
fn bytes_that_go_on_are_one_place() {
    let first = place(64, 100, 8000);
    for (second, follows) in [
        (place(64, 150, 8050), true),
        (place(65, 150, 8050), false),
        (place(64, 151, 8050), false),
        (place(64, 150, 8051), false),
        (place(64, 50, 8050), false),
        (place(64, 150, 7950), false),
    ] {
        let mut changes = Changes::default();
        changes.fresh(first, 50).unwrap();
        changes.fresh(second, 7).unwrap();
        assert_eq!(changes.fresh, if follows { vec![(first, 57)] } else { vec![(first, 50), (second, 7)] });
    }
    let mut changes = keys(3);
    changes.key(Key { offset: 2, ..KEY }).unwrap();
    assert_eq!(changes.keys.len(), 3);
}

#[test]
fn what_was_logged_is_read() {
    let (ram, mut journal) = (ram(), Journal::default());
    assert!(journal.is_empty());
    let data = layout().data_start;
    let (taken, freed) = ([Run::new(data, 2), Run::new(data + 9, 1)], [Run::new(data + 3, 4)]);
    let bytes = (data + 1) * 4096 + 30;
    ram.0.write(bytes, b"the bytes").unwrap();
    let mut changes = keys(1);
    changes.fresh(place(64, 30, bytes), 9).unwrap();
    absorb(&mut journal, changes, &taken, &freed);
    assert!(!journal.is_empty() && !journal.overflowed());
    assert_eq!(journal.keys(), [Key { offset: 0, ..KEY }]);
    // However often it changed it is told once.
    absorb(&mut journal, keys(2), &[], &[]);
    assert_eq!(journal.keys(), [Key { offset: 0, ..KEY }, Key { offset: 1, ..KEY }]);
    let mut body = Vec::new();
    put(&mut body, KEY, b"value").unwrap();
    removal(&mut body, Key { offset: 4, ..KEY }).unwrap();
    let first = journal.record(&layout(), header(), body).unwrap().unwrap();
    assert!(journal.writing && journal.is_empty() && !first.flush_first);
    journal.writing = false;
    first.write(&ram).unwrap();
    absorb(&mut journal, keys(1), &[], &[Run::new(data, 1)]);
    let second = record(&mut journal, Vec::new()).unwrap();
    second.write(&ram).unwrap();
    assert_eq!((journal.position, journal.sequence), (first.bytes() + second.bytes(), 2));

    let mut reader = reader();
    let found = next(&mut reader, &ram).unwrap();
    assert_eq!((found.position, found.end(), found.header.entries.get()), (0, first.bytes(), 6));
    let mut seen = Vec::new();
    for (head, value) in Entries::new(&found.body) {
        seen.push((head.kind, head.key_kind, head.first.get(), head.second.get(), value.to_vec()));
    }
    let (xattr, none) = (Kind::Xattr as u8, Vec::new);
    let expected = vec![
        (1, xattr, 64, 3, b"value".to_vec()),
        (2, xattr, 64, 4, none()),
        (3, 0, data, 2, none()),
        (3, 0, data + 9, 1, none()),
        (4, 0, data + 3, 4, none()),
        (5, 0, bytes, 0, b"the bytes".to_vec()),
    ];
    assert_eq!(seen, expected);
    let mut told = 0;
    found
        .each(&layout(), &mut |entry| {
            told += match entry {
                Entry::Put { key: KEY, value: b"value" } => 1,
                Entry::Remove(Key { inode: 64, offset: 4, .. }) => 10,
                Entry::Take(run) if taken.contains(&run) => 100,
                Entry::Free(run) if run == freed[0] => 1000,
                Entry::Bytes { device, bytes: b"the bytes" } if device == bytes_at(data) => 10_000,
                _ => panic!("{entry:?}"),
            };
            Ok(())
        })
        .unwrap();
    assert_eq!(told, 11_211);
    let found = next(&mut reader, &ram).unwrap();
    assert_eq!(
        (found.position, found.end(), found.header.sequence.get()),
        (first.bytes(), journal.position, 1)
    );
    assert!(next(&mut reader, &ram).is_none());

    journal.restart();
    assert_eq!((journal.position, journal.sequence), (0, 0));
}

fn bytes_at(data: u64) -> u64 {
    (data + 1) * 4096 + 30
}

#[test]
fn as_many_changes_as_are_remembered_and_one_more() {
    let data = layout().data_start;
    let runs = vec![Run::new(data, 1); KEYS_MAX];
    for (count, taken, freed, over) in [
        (KEYS_MAX, 0, 0, false),
        (KEYS_MAX + 1, 0, 0, true),
        (1, KEYS_MAX, 0, false),
        (1, 0, KEYS_MAX, false),
        (1, 1, KEYS_MAX, true),
        (1, KEYS_MAX, 1, true),
    ] {
        let mut journal = Journal::default();
        absorb(&mut journal, keys(count), &runs[..taken], &runs[..freed]);
        assert_eq!(journal.overflowed(), over, "{count} {taken} {freed}");
        assert!(!journal.is_empty());
        // What is not remembered whole is not kept in part.
        assert_eq!(journal.keys().len(), if over { 0 } else { count });
        absorb(&mut journal, keys(1), &runs[..1], &[]);
        assert!(!journal.is_empty());
        assert_eq!(journal.overflowed(), over || count == KEYS_MAX || taken + freed == KEYS_MAX);
        journal.forget();
        assert!(journal.is_empty() && !journal.overflowed());
    }
    // One by one as well as at once.
    let mut journal = Journal::default();
    for step in 0..=KEYS_MAX {
        assert!(!journal.overflowed());
        let (taken, freed) = if step % 2 == 0 { (&runs[..1], &runs[..0]) } else { (&runs[..0], &runs[..1]) };
        absorb(&mut journal, Changes::default(), taken, freed);
    }
    assert!(journal.overflowed());
}

#[test]
fn what_is_carried_and_what_is_flushed_before() {
    let flushed = |prepare: &dyn Fn(&mut Journal)| {
        let mut journal = Journal::default();
        prepare(&mut journal);
        let made = record(&mut journal, puts(512)).unwrap();
        assert_eq!(made.fresh.is_empty(), made.flush_first || made.bytes() == 512);
        assert!(!record(&mut journal, puts(512)).unwrap().flush_first, "it does not outlast a record");
        prepare(&mut journal);
        journal.forget();
        assert!(!record(&mut journal, puts(512)).unwrap().flush_first, "nor a commit");
        made.flush_first
    };
    assert!(!flushed(&|journal| absorb(journal, places(PLACES_MAX, 1), &[], &[])));
    assert!(flushed(&|journal| absorb(journal, places(PLACES_MAX + 1, 1), &[], &[])));
    assert!(!flushed(&|journal| absorb(journal, places(16, CARRY_MAX / 16), &[], &[])));
    assert!(flushed(&|journal| absorb(journal, places(16, CARRY_MAX / 16 + 1), &[], &[])));
    assert!(!flushed(&|journal| (0..PLACES_MAX).for_each(|_| absorb(journal, places(1, 1), &[], &[]))));
    assert!(flushed(&|journal| (0..=PLACES_MAX).for_each(|_| absorb(journal, places(1, 1), &[], &[]))));

    // A vector of bytes that were overwritten in place since the last record or commit.
    assert!(!flushed(&|journal| journal.bound(Ino(64))));
    assert!(!flushed(&|journal| journal.overwrote(Ino(64))));
    let both = |journal: &mut Journal, [first, second]: [u64; 2]| {
        journal.overwrote(Ino(first));
        journal.bound(Ino(second));
    };
    assert!(flushed(&|journal| both(journal, [64, 64])));
    assert!(!flushed(&|journal| both(journal, [64, 65])));
    for ended in [|journal: &mut Journal| drop(record(journal, puts(512))), Journal::forget] {
        assert!(!flushed(&|journal| {
            journal.overwrote(Ino(64));
            ended(journal);
            journal.bound(Ino(64));
        }));
    }
    // What was not carried leaves no room in the record.
    let mut journal = Journal::default();
    absorb(&mut journal, places(16, CARRY_MAX), &[], &[]);
    assert_eq!(record(&mut journal, puts(512)).unwrap().bytes(), 512);
    absorb(&mut journal, places(1, 488), &[], &[]);
    assert_eq!(record(&mut journal, puts(512)).unwrap().bytes(), 1024);
}

#[test]
fn a_record_of_the_greatest_length_and_one_at_the_very_end() {
    let (ram, mut journal) = (ram(), Journal::default());
    assert!(record(&mut journal, puts(LOG_RECORD_MAX + 1)).is_none());
    let greatest = record(&mut journal, puts(LOG_RECORD_MAX)).unwrap();
    greatest.write(&ram).unwrap();
    let rest = size() as usize - LOG_RECORD_MAX;
    assert!(record(&mut journal, puts(rest + 1)).is_none(), "longer than the journal");
    assert_eq!(
        (journal.position, journal.sequence),
        (LOG_RECORD_MAX as u64, 1),
        "what was not made takes nothing"
    );
    record(&mut journal, puts(rest - 512)).unwrap().write(&ram).unwrap();
    record(&mut journal, puts(512)).unwrap().write(&ram).unwrap();
    assert_eq!(journal.position, size());
    assert!(record(&mut journal, Vec::new()).is_none());

    let mut reading = reader();
    let found: Vec<u64> = core::iter::from_fn(|| next(&mut reading, &ram)).map(|found| found.end()).collect();
    assert_eq!(found, [LOG_RECORD_MAX as u64, size() - 512, size()]);
    // A record of the greatest length is damaged, and the next one is whole.
    ram.0.0.borrow_mut()[start() + 200] ^= 1;
    assert!(reader().next(&ram).is_err());
}

#[test]
fn what_is_not_of_this_log_is_no_record() {
    let whole = |ram: &Direct<Ram>| next(&mut reader(), ram).is_some();
    assert!(whole(&logged(1)));
    let changes: [&Change; 7] = [
        &|header, _| header.magic = U32::new(LOG_MAGIC + 1),
        &|header, _| header.uuid[15] ^= 1,
        &|header, _| header.base = U64::new(BASE - 1),
        &|header, _| header.base = U64::new(BASE + 1),
        &|header, _| header.sequence = U64::new(1),
        &|header, _| header.length = U32::new(LOG_HEADER as u32 - 1),
        &|header, _| header.length = U32::new(LOG_RECORD_MAX as u32 + 1),
    ];
    for change in changes {
        let ram = logged(1);
        changed(&ram, 0, change);
        assert!(!whole(&ram));
        // Damage is told only by a whole record of this log behind it.
        for later in changes {
            let ram = logged(3);
            changed(&ram, 0, change);
            assert!(reader().next(&ram).is_err(), "later records are whole");
            changed(&ram, 1024, |header, _| header.base = U64::new(BASE - 1));
            changed(&ram, 2048, later);
            // A number that is too large is one of a later record.
            let number = LogHeader::read_from_prefix(&ram.0.0.borrow()[start() + 2048..]).unwrap().0.sequence;
            assert_eq!(reader().next(&ram).is_err(), number.get() == 1);
        }
    }
    for at in 0..1024 {
        let ram = logged(1);
        ram.0.0.borrow_mut()[start() + at] ^= 0x10;
        assert!(!whole(&ram), "byte {at}");
    }
    // Nor is one of its number that lies elsewhere a later one.
    let twice = logged(2);
    changed(&twice, 0, |header, _| header.uuid[0] ^= 1);
    changed(&twice, 1024, |header, _| header.sequence = U64::ZERO);
    assert!(!whole(&twice));
    // The longest record that could be would end behind the journal.
    let ram = ram();
    let mut journal = Journal { position: size() - 1024, ..Journal::default() };
    record(&mut journal, puts(1024)).unwrap().write(&ram).unwrap();
    changed(&ram, size() as usize - 1024, |header, _| header.length = U32::new(1025));
    let mut last = reader();
    last.position = size() - 1024;
    assert!(last.next(&ram).unwrap().is_none());
}

#[test]
fn an_entry_that_cannot_be_is_damage() {
    let data = layout().data_start;
    let end = data + layout().data_blocks;
    let longest = value_max(4096);
    let told = |kind: LogKind, key_kind: u8, first: u64, second: u64, len: usize| {
        let (ram, mut body) = (ram(), Vec::new());
        entry(&mut body, kind, key_kind, first, second, &vec![1; len]).unwrap();
        record(&mut Journal::default(), body).unwrap().write(&ram).unwrap();
        next(&mut reader(), &ram).unwrap().each(&layout(), &mut |_| Ok(()))
    };
    use LogKind::{Bytes, Free, Put, Remove, Take};
    let (known, last) = (KEY.kind, layout().data_blocks);
    for (kind, key_kind, first, second, len) in [
        (Put, known, 1, 2, longest),
        (Put, known, 1, 2, 0),
        (Remove, known, 1, 2, 0),
        (Take, 0, data, 1, 0),
        (Take, 0, data, last, 0),
        (Free, 0, end - 1, 1, 0),
        (Bytes, 0, data * 4096, 0, 1),
        (Bytes, 0, end * 4096 - 5000, 0, 5000),
        (Bytes, 0, data * 4096 + 4095, 0, 2),
    ] {
        assert_eq!(told(kind, key_kind, first, second, len), Ok(()), "{kind:?} {first} {second} {len}");
    }
    for (kind, key_kind, first, second, len, why) in [
        (Put, 0, 1, 2, 8, "a key of unknown kind"),
        (Remove, 255, 1, 2, 0, "a key of unknown kind"),
        (Put, known, 1, 2, longest + 1, "a value larger than a quarter of a node"),
        (Take, 0, data, 0, 0, "blocks outside the volume"),
        (Free, 0, data, 0, 0, "blocks outside the volume"),
        (Take, 0, data - 1, 1, 0, "blocks outside the volume"),
        (Free, 0, end, 1, 0, "blocks outside the volume"),
        (Take, 0, data + 1, last, 0, "blocks outside the volume"),
        (Bytes, 0, data * 4096, 0, 0, "bytes outside the volume"),
        (Bytes, 0, data * 4096 - 1, 0, 2, "bytes outside the volume"),
        (Bytes, 0, end * 4096 - 5000, 0, 5001, "bytes outside the volume"),
        (Bytes, 0, u64::MAX - 2, 0, 4, "bytes outside the volume"),
    ] {
        assert_eq!(told(kind, key_kind, first, second, len), Err(Error::corrupt("journal record", 0, why)));
    }
    let changes: [(&Change, &str); 4] = [
        (&|header, _| header.entries = U32::new(2), "fewer entries than it tells"),
        (&|header, _| header.entries = U32::ZERO, "fewer entries than it tells"),
        (&|_, body| body[0] = 6, "an entry of unknown kind"),
        (&|_, body| body[4..8].fill(0xff), "fewer entries than it tells"),
    ];
    for (change, why) in changes {
        let ram = logged(1);
        changed(&ram, 0, change);
        let found = next(&mut reader(), &ram).unwrap();
        assert_eq!(found.each(&layout(), &mut |_| Ok(())), Err(Error::corrupt("journal record", 0, why)));
    }
}

#[test]
fn what_older_records_left_is_told_part_by_part() {
    let mut journal = Journal::default();
    assert_eq!(journal.remains(100), None);
    record(&mut journal, puts(1024)).unwrap();
    assert_eq!(journal.remains(100), None, "the present records are no remains");
    journal.restart();
    record(&mut journal, puts(512)).unwrap();
    assert_eq!(journal.remains(100), Some(924..1024));
    assert_eq!(journal.remains(512), Some(512..1024));
    assert_eq!(journal.remains(4096), Some(512..1024));
    journal.purged(&(924..1024), false);
    assert_eq!(journal.remains(500), Some(512..924));
    assert!(!record(&mut journal, puts(128)).unwrap().flush_first);
    journal.restart();
    assert_eq!(journal.remains(4096), Some(0..1024));
    journal.purged(&(24..1024), true);
    assert!(record(&mut journal, puts(128)).unwrap().flush_first, "it is gone before anything says so");
    journal.restart();
    journal.purged(&(0..512), true);
    journal.purged(&(0..512), false);
    assert!(record(&mut journal, puts(128)).unwrap().flush_first);
    let opened = Journal::opened(size());
    assert_eq!(opened.remains(4096), None);
}
