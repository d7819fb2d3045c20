//! Where the fields of the records on disk are: byte offset and width, taken from the core's own structs.

use std::mem::{offset_of, size_of};

use vexfs_core::format::{
    BlankRecord, CollectionRecord, ColumnRecord, DirentRecord, ExtentRecord, FreeRowsRecord, InodeRecord,
    Kind, LinkRecord, LogEntry, LogHeader, NodeHeader, OrphanRecord, PastRecord, PointerRecord, RedoRecord,
    RowRecord, Slot, SpaceEntry, Superblock, VectorHeader, VectorRecord, XattrRecord,
};

/// A field: byte offset and width, 1 to 8.
pub(super) type Field = (usize, usize);

macro_rules! fields {
    ($record:ty: $($field:ident),+) => {
        cut(&[$(offset_of!($record, $field)),+], size_of::<$record>())
    };
}

/// The fields of the records of a kind; none if its values are bytes without a form.
pub(super) fn of_kind(kind: u8) -> Vec<Field> {
    match Kind::from_u8(kind) {
        Some(Kind::Inode) => {
            fields!(InodeRecord: mode, uid, gid, links, size, blocks, version, bound_version,
            stale_generation, parent, accessed, modified, changed, created, flags, device, attributes, reserved)
        }
        Some(Kind::Collection) => {
            fields!(CollectionRecord: dimensions, stride, element, codec, metric, model_len,
            rows, live, changes, frontier, modified, flags, history)
        }
        Some(Kind::Redo) => fields!(RedoRecord: generation),
        Some(Kind::Codebook) => Vec::new(),
        Some(Kind::Link) => fields!(LinkRecord: parent, cookie),
        Some(Kind::Xattr) => fields!(XattrRecord: value_len, value_number, name_len, reserved),
        Some(Kind::Vector) => fields!(VectorRecord: row, vector_id, version),
        Some(Kind::Dirent) => fields!(DirentRecord: inode, kind, name_len, reserved),
        Some(Kind::Extent) => fields!(ExtentRecord: start, count, flags, birth),
        Some(Kind::Row) => of_row(),
        Some(Kind::PastPiece) => {
            let mut all = of_row();
            let rest = fields!(PastRecord: row, metadata_len, reserved);
            all.extend(rest.into_iter().filter(|field| field.0 >= size_of::<RowRecord>()));
            all
        }
        // The newest id.
        Some(Kind::PastVectors) => vec![(0, 8)],
        Some(Kind::Blank) => fields!(BlankRecord: generation),
        Some(Kind::FreeRows) => fields!(FreeRowsRecord: count),
        Some(Kind::Orphan) => fields!(OrphanRecord: kind, reserved),
        Some(Kind::Column) => fields!(ColumnRecord: kind, width, name_len, reserved),
        Some(Kind::Inline | Kind::XattrValue | Kind::VectorMeta) | None => Vec::new(),
    }
}

fn of_row() -> Vec<Field> {
    let mut all = fields!(VectorHeader: magic, version, vector_id, file_inode, data_type, compression,
        dimensions, original_size, compressed_size, created_timestamp, modified_timestamp, checksum, flags);
    let rest = fields!(RowRecord: header, n, scale, version);
    all.extend(rest.into_iter().filter(|field| field.0 >= size_of::<VectorHeader>()));
    all
}

/// The fields of a node's header.
pub(super) fn of_header() -> Vec<Field> {
    fields!(NodeHeader: magic, level, reserved, count, generation, block, heap, reserved2)
}

/// The fields of a slot.
pub(super) fn of_slot() -> Vec<Field> {
    fields!(Slot: inode, offset, kind, reserved, value, value_len, reserved2)
}

/// The fields of a pointer to a node.
pub(super) fn of_pointer() -> Vec<Field> {
    fields!(PointerRecord: block, generation, checksum, reserved)
}

/// The fields of the head of a record of the journal.
pub(super) fn of_log_header() -> Vec<Field> {
    let mut all = fields!(LogHeader: magic, checksum, length, entries, uuid, base, sequence, next_inode,
        next_vector, inode_count, next_collection, written, reserved);
    all.retain(|field| field.0 != offset_of!(LogHeader, checksum));
    all
}

/// The fields of an entry of a record of the journal.
pub(super) fn of_log_entry() -> Vec<Field> {
    fields!(LogEntry: kind, key_kind, reserved, len, first, second)
}

/// The fields of an entry of the free-space map.
pub(super) fn of_space_entry() -> Vec<Field> {
    fields!(SpaceEntry: generation, checksum, slot)
}

/// The fields of the superblock.
pub(super) fn of_superblock() -> Vec<Field> {
    let mut all = fields!(Superblock: magic, checksum, version, generation, uuid, label, compatible,
        read_only_compatible, incompatible, block_size, slot, block_count, space_start, journal_start,
        journal_blocks, data_start, data_blocks, root, root_level, reserved, space, free_blocks, tree_blocks,
        inode_count, next_inode, next_vector, next_collection, reserved2, hash_seed, created, written);
    all.retain(|field| field.0 != offset_of!(Superblock, checksum));
    all
}

// From where one field begins to the next, in pieces of at most 8 bytes.
fn cut(offsets: &[usize], size: usize) -> Vec<Field> {
    let mut all = Vec::new();
    for (index, &offset) in offsets.iter().enumerate() {
        let end = offsets.get(index + 1).copied().unwrap_or(size);
        let mut at = offset;
        while at < end {
            let width = (end - at).min(8);
            all.push((at, width));
            at += width;
        }
    }
    all
}
