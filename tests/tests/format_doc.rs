//! `docs/FORMAT.md` says what the code does: every byte table against the struct of its name, and the constants.

use std::collections::BTreeMap;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::Path;

use vexfs_core::control;
use vexfs_core::format::{
    AclEntry, AclHeader, BlankRecord, CODEBOOK_PIECE, CODEBOOKS, COLLECTION_INODES, COLLECTION_MODEL_MAX,
    COLLECTION_PARTS, COLLECTIONS, CONTROL, CodebookRecord, CollectionRecord, ColumnRecord, DirentRecord,
    EXTENT_BLOCKS_MAX, Element, ExtentRecord, FIRST_INODE, FileKind, FreeRowsRecord, INLINE_MAX, InodeFlags,
    InodeRecord, Kind, LEVEL_MAX, Layout, LinkRecord, LogEntry, LogHeader, MATRICES, MATRIX_DATA,
    MATRIX_NUMBERS, MatrixRecord, Metric, NODE_MAGIC, NodeHeader, ORPHANS, OrphanRecord, PastRecord,
    PointerRecord, QuantizerRecord, ROOT, RedoRecord, RowRecord, SLOT_SPACING, SUPERBLOCK_MAGIC, Slot,
    SpaceEntry, SpaceLayout, Superblock, TimeRecord, VECTOR_MAGIC, VERSION, VectorHeader, VectorRecord,
    XATTR_VALUE_MAX, XattrRecord, slot_offsets, value_max,
};

/// Offset, size and name of each field, and the size of the whole.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    fields: Vec<(usize, usize, String)>,
    size: usize,
}

fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// The tables that the code makes; a field that is left out here does not compile.
macro_rules! tables {
    ($($name:ident { $($field:ident),* $(,)? })*) => {{
        let mut tables = BTreeMap::new();
        $(
            let _ = |whole: $name| { let $name { $($field: _),* } = whole; };
            let fields = vec![$((
                offset_of!($name, $field),
                size_of_field(|whole: &$name| &whole.$field),
                stringify!($field).to_string(),
            )),*];
            tables.insert(stringify!($name).to_string(), Table { fields, size: size_of::<$name>() });
        )*
        tables
    }};
}

fn tables_of_the_code() -> BTreeMap<String, Table> {
    tables! {
        Superblock {
            magic, checksum, version, generation, uuid, label, compatible, read_only_compatible, incompatible,
            block_size, slot, block_count, space_start, journal_start, journal_blocks, data_start, data_blocks,
            root, root_level, reserved, space, free_blocks, tree_blocks, inode_count, next_inode, next_vector,
            next_collection, reserved2, hash_seed, created, written, reserved3,
        }
        TimeRecord { seconds, nanoseconds }
        PointerRecord { block, generation, checksum, reserved }
        NodeHeader { magic, level, reserved, count, generation, block, heap, reserved2 }
        Slot { inode, offset, kind, reserved, value, value_len, reserved2 }
        InodeRecord {
            mode, uid, gid, links, size, blocks, version, bound_version, stale_generation, parent, accessed,
            modified, changed, created, flags, device, attributes, reserved,
        }
        DirentRecord { inode, kind, name_len, reserved }
        LinkRecord { parent, cookie }
        XattrRecord { value_len, value_number, name_len, reserved }
        AclHeader { version }
        AclEntry { tag, permissions, id }
        OrphanRecord { kind, reserved }
        ExtentRecord { start, count, flags, birth }
        VectorRecord { row, vector_id, version }
        VectorHeader {
            magic, version, vector_id, file_inode, data_type, compression, dimensions, original_size,
            compressed_size, created_timestamp, modified_timestamp, checksum, flags,
        }
        RowRecord { header, n, scale, version }
        CollectionRecord {
            dimensions, stride, element, codec, metric, model_len, rows, live, changes, frontier, modified,
            flags, history,
        }
        MatrixRecord { number, last, target, codec, reserved, next }
        QuantizerRecord { subvectors, sub_dimensions, bits, reserved }
        CodebookRecord { own, target }
        RedoRecord { generation }
        PastRecord { row, metadata_len, reserved }
        ColumnRecord { kind, width, name_len, reserved }
        BlankRecord { generation }
        FreeRowsRecord { count }
        SpaceEntry { generation, checksum, slot }
        LogHeader {
            magic, checksum, length, entries, uuid, base, sequence, next_inode, next_vector, inode_count,
            next_collection, written, reserved,
        }
        LogEntry { kind, key_kind, reserved, len, first, second }
    }
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/FORMAT.md");
    fs::read_to_string(path).expect("docs/FORMAT.md")
}

/// Cells of a row of a table; `\|` is a bar inside a cell.
fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\0");
    line.trim_matches('|').split('|').map(|cell| cell.trim().replace('\0', "|")).collect()
}

/// The tables of the document, by heading, with the type of each field.
fn tables_of_the_document(text: &str) -> BTreeMap<String, (Table, Vec<String>)> {
    let mut tables = BTreeMap::new();
    for section in text.split("\n### ").skip(1) {
        let name = section.lines().next().expect("a heading").trim().to_string();
        let section = section.split("\n## ").next().expect("a section");
        let mut lines =
            section.lines().skip_while(|line| !line.starts_with("| offset | size | field | type |"));
        if lines.next().is_none() {
            continue;
        }
        let rows: Vec<_> = lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect();
        let number = |cell: &str| cell.parse::<usize>().unwrap_or_else(|_| panic!("{name}: {cell}"));
        let fields = rows.iter().map(|row| (number(&row[0]), number(&row[1]), row[2].clone())).collect();
        let size = section
            .lines()
            .find_map(|line| line.strip_prefix("Size: "))
            .and_then(|line| line.split(' ').next());
        let size = number(size.unwrap_or_else(|| panic!("{name}: no line `Size: N bytes.`")));
        let types = rows.iter().map(|row| row[3].clone()).collect();
        assert!(
            tables.insert(name.clone(), (Table { fields, size }, types)).is_none(),
            "{name} occurs twice"
        );
    }
    tables
}

#[test]
fn every_table_is_the_struct() {
    let text = document();
    let (code, mut document) = (tables_of_the_code(), tables_of_the_document(&text));
    for (name, table) in &code {
        let (found, types) = document.remove(name).unwrap_or_else(|| panic!("{name} has no table"));
        assert_eq!(&found, table, "{name}");
        for ((_, size, field), kind) in found.fields.iter().zip(&types) {
            let told = match kind.as_str() {
                "u8" => 1,
                "u16" => 2,
                "u32" => 4,
                "u64" | "i64" => 8,
                other => match other.strip_prefix("u8[").and_then(|rest| rest.strip_suffix(']')) {
                    Some(count) => count.parse().expect("a count"),
                    None => code.get(other).unwrap_or_else(|| panic!("{name}.{field}: type {other}")).size,
                },
            };
            assert_eq!(told, *size, "{name}.{field}");
        }
    }
    assert!(document.is_empty(), "tables without a struct: {document:?}");
}

#[test]
fn the_kinds_of_records_are_the_codes() {
    let text = document();
    let section = text.split("\n## Keys\n").nth(1).expect("a section on keys");
    let rows = section.lines().skip_while(|line| !line.starts_with("| kind |")).skip(2);
    let mut told = BTreeMap::new();
    for row in rows.take_while(|line| line.starts_with('|')).map(cells) {
        told.insert(row[0].parse::<u8>().expect("a number"), row[1].clone());
    }
    let known: BTreeMap<u8, String> =
        (0..=u8::MAX).filter_map(|number| Some((number, format!("{:?}", Kind::from_u8(number)?)))).collect();
    assert_eq!(told, known);
}

#[test]
fn constants_are_the_codes() {
    let text = document();
    let says = |wanted: String| assert!(text.contains(&wanted), "docs/FORMAT.md does not say: {wanted}");
    assert_eq!(
        (VERSION, SUPERBLOCK_MAGIC, slot_offsets(1 << 20)),
        (1, *b"VEXFS-FS", [0, 16384, 0xf8000, 0xfc000])
    );
    says(format!("| 12 | 4 | version | u32 | {VERSION} |"));
    says(format!("`size - {}` and `size - {}`", 2 * SLOT_SPACING, SLOT_SPACING));
    let bytes = NODE_MAGIC.to_le_bytes().map(|byte| format!("{byte:02X}")).join(" ");
    says(format!("`VNOD`: bytes {bytes} |"));
    let bytes = VECTOR_MAGIC.to_le_bytes().map(|byte| format!("{byte:02X}")).join(" ");
    says(format!("| {VECTOR_MAGIC:#010x}: bytes {bytes} |"));
    says(format!("{}, {} or {}.", value_max(4096), value_max(8192), value_max(16384)));
    says(format!("At most {LEVEL_MAX} levels."));
    says(format!("(1 to {INLINE_MAX})"));
    says(format!("value, at most {XATTR_VALUE_MAX} |"));
    says(format!("blocks, 1 to 2^{} |", EXTENT_BLOCKS_MAX.ilog2()));
    says(format!("model's name, at most {COLLECTION_MODEL_MAX} |"));
    says(format!("**Row r is at byte {MATRIX_DATA} + r * stride"));
    says(format!("arrays of `block_size / {}` entries", 4096 / SpaceLayout::fanout(4096)));
    says(format!("| {} | the root directory |", ROOT.0));
    says(format!("| {} | `/.vexfs`, the control directory", CONTROL.0));
    says(format!("| {} | `/.vexfs/collections`", COLLECTIONS.0));
    let files =
        [(control::README, "README"), (control::STATUS, "status.json"), (control::METRICS, "metrics")];
    says(files.map(|(inode, name)| format!("{} `{name}`", inode.0)).join(", "));
    says(format!("| {} | the orphan list", ORPHANS.0));
    says(format!("| {} to 2^{} - 1 | files and directories |", FIRST_INODE.0, COLLECTION_INODES.ilog2()));
    says(format!("| 2^{} + {COLLECTION_PARTS} c + p | part p", COLLECTION_INODES.ilog2()));
    says(format!(
        "| 2^{} + 2^{} c + 2 g | matrix g",
        MATRICES.ilog2(),
        (2 * u64::from(MATRIX_NUMBERS)).ilog2()
    ));
    says(format!("| 2^{} + 2^{} c + g | shows the codebook", CODEBOOKS.ilog2(), MATRIX_NUMBERS.ilog2()));
    says(format!("1 to {CODEBOOK_PIECE} bytes of its [codebook]"));
    says(format!("{} INLINE, {} TRUNCATING", InodeFlags::INLINE.bits(), InodeFlags::TRUNCATING.bits()));
    says(Element::ALL.map(|element| format!("{} {}", element as u16, element.name())).join(", "));
    let metrics = Metric::ALL.map(|metric| format!("{} {}", metric as u16, metric.name())).join(", ");
    says(metrics.replace(" ip", " inner product"));
    let kinds = [
        (FileKind::Fifo, "fifo"),
        (FileKind::CharDevice, "character device"),
        (FileKind::Directory, "directory"),
        (FileKind::BlockDevice, "block device"),
        (FileKind::Regular, "regular file"),
        (FileKind::Symlink, "symbolic link"),
    ];
    says(kinds.map(|(kind, name)| format!("{} {name}", kind as u8)).join(", "));
}

#[test]
fn places_are_the_codes() {
    // The formulas of "Sizes and places" and "Free space", by hand.
    for (block_size, block_count, journal) in
        [(4096u32, 256u64, 16u64), (8192, 1 << 20, 100), (16384, 1 << 30, 2048)]
    {
        let size = u64::from(block_size);
        let (front, back) = (65536 / size, 32768 / size);
        let mut counts = vec![(block_count - back - front).div_ceil(8 * size).max(1)];
        while counts.len() < 2 || counts.last().is_some_and(|count| *count > 1) {
            counts.push(counts.last().expect("a level").div_ceil(size / 16));
        }
        let journal_start = front + 2 * counts.iter().sum::<u64>();
        let layout = Layout::new(block_size, block_count, journal).expect("a layout");
        assert_eq!((layout.space.start, layout.journal_start), (front, journal_start));
        assert_eq!(layout.data_start, journal_start + journal);
        assert_eq!(layout.data_blocks, block_count - back - layout.data_start);
        assert_eq!(layout.space.levels, counts.len());
        assert_eq!(layout.space.block(1, 0, 1), front + 2 * counts[0] + 1);
    }
}
