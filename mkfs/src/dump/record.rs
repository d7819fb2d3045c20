//! A tree record as a JSON value.

use serde_json::{Value, json};
use vexfs_core::error::Result;
use vexfs_core::format::{
    BlankRecord, CodebookRecord, CollectionFlags, CollectionRecord, ColumnRecord, ColumnType, DirentRecord,
    Element, ExtentFlags, ExtentRecord, FileKind, FreeRowsRecord, InodeRecord, Key, Kind, LinkRecord,
    MatrixRecord, Metric, OrphanRecord, PastRecord, QuantizerRecord, RedoRecord, RowRecord, VectorHeader,
    VectorRecord, XattrRecord, parse, parse_exact,
};
use vexfs_core::numbers::Time;

use crate::time;

/// The record's key and value; what does not parse is shown with the reason and in hexadecimal digits.
pub(super) fn record(key: Key, value: &[u8]) -> Value {
    let Some(kind) = Kind::from_u8(key.kind) else {
        return json!({"inode": key.inode, "kind": key.kind, "offset": key.offset, "bytes": hex(value)});
    };
    let (name, shown) = (format!("{kind:?}"), contents(key, kind, value));
    match shown {
        Ok(shown) => json!({"inode": key.inode, "kind": name, "offset": key.offset, "value": shown}),
        Err(error) => json!({
            "inode": key.inode, "kind": name, "offset": key.offset, "error": error.to_string(), "bytes": hex(value),
        }),
    }
}

fn contents(key: Key, kind: Kind, value: &[u8]) -> Result<Value> {
    let inode = key.inode;
    Ok(match kind {
        Kind::Inode => describe_inode(parse_exact::<InodeRecord>(value, "inode", inode)?),
        Kind::Collection => {
            let (record, model) = parse::<CollectionRecord>(value, "collection", inode)?;
            describe_collection(record, model)
        }
        Kind::Inline => json!({"len": value.len(), "bytes": bytes(value)}),
        Kind::Link => {
            let record = parse_exact::<LinkRecord>(value, "link", inode)?;
            json!({"parent": record.parent.get(), "cookie": record.cookie.get()})
        }
        Kind::Xattr => {
            let (record, rest) = parse::<XattrRecord>(value, "attribute", inode)?;
            let (name, inline) = rest.split_at(rest.len().min(usize::from(record.name_len.get())));
            json!({
                "name": String::from_utf8_lossy(name), "len": record.value_len.get(),
                "value_number": record.value_number.get(), "bytes": bytes(inline),
            })
        }
        Kind::XattrValue => {
            json!({"value_number": key.offset >> 16, "chunk": key.offset & 0xffff, "len": value.len()})
        }
        Kind::Vector => {
            let record = parse_exact::<VectorRecord>(value, "vector", inode)?;
            json!({
                "collection": key.offset >> 32, "n": key.offset & 0xffff_ffff, "row": record.row.get(),
                "vector_id": record.vector_id.get(), "version": record.version.get(),
            })
        }
        Kind::VectorMeta => {
            json!({"row": key.offset >> 8, "piece": key.offset & 0xff, "text": String::from_utf8_lossy(value)})
        }
        Kind::PastVectors => {
            let ids = value.chunks_exact(8).filter_map(|id| id.try_into().ok());
            let ids: Vec<u64> = ids.map(u64::from_le_bytes).collect();
            json!({"collection": key.offset >> 32, "n": key.offset & 0xffff_ffff, "vector_ids": ids})
        }
        Kind::PastPiece => {
            let mut shown =
                json!({"vector_id": key.offset >> 8, "piece": key.offset & 0xff, "len": value.len()});
            if key.offset & 0xff == 0 {
                let (record, _) = parse::<PastRecord>(value, "superseded vector", inode)?;
                shown["n"] = json!(record.row.n.get());
                shown["version"] = json!(record.row.version.get());
                shown["metadata_len"] = json!(record.metadata_len.get());
                shown["header"] = describe_header(&record.row.header);
            }
            shown
        }
        Kind::Dirent => {
            let (record, name) = parse::<DirentRecord>(value, "directory entry", inode)?;
            let kind = FileKind::from_u8(record.kind).map(|kind| format!("{kind:?}"));
            json!({"inode": record.inode.get(), "kind": kind, "name": String::from_utf8_lossy(name)})
        }
        Kind::Extent => describe_extent(parse_exact::<ExtentRecord>(value, "extent", inode)?),
        Kind::Row => {
            let record = parse_exact::<RowRecord>(value, "row", inode)?;
            json!({"n": record.n.get(), "version": record.version.get(), "header": describe_header(&record.header)})
        }
        Kind::Blank => {
            json!({"generation": parse_exact::<BlankRecord>(value, "blank row", inode)?.generation.get()})
        }
        Kind::FreeRows => {
            json!({"count": parse_exact::<FreeRowsRecord>(value, "free rows", inode)?.count.get()})
        }
        Kind::Orphan => {
            let record = parse_exact::<OrphanRecord>(value, "orphan", inode)?;
            json!({"why": record.kind().map(|kind| format!("{kind:?}"))})
        }
        Kind::Redo => {
            json!({"generation": parse_exact::<RedoRecord>(value, "row to be coded again", inode)?.generation.get()})
        }
        Kind::Codebook => json!({"piece": key.offset, "len": value.len()}),
        Kind::Column => {
            let (record, name) = parse::<ColumnRecord>(value, "column", inode)?;
            let kind = ColumnType::from_u16(record.kind.get()).map(ColumnType::name);
            json!({"name": String::from_utf8_lossy(name), "type": kind, "width": record.width.get()})
        }
    })
}

fn describe_inode(record: &InodeRecord) -> Value {
    let kind = FileKind::from_mode(record.mode.get()).map(|kind| format!("{kind:?}"));
    json!({
        "type": kind,
        "mode": format!("{:o}", record.mode.get()),
        "uid": record.uid.get(),
        "gid": record.gid.get(),
        "links": record.links.get(),
        "size": record.size.get(),
        "blocks": record.blocks.get(),
        "version": record.version.get(),
        "bound_version": record.bound_version.get(),
        "stale_generation": record.stale_generation.get(),
        "parent": record.parent.get(),
        "accessed": time::display(Time::from(record.accessed)),
        "modified": time::display(Time::from(record.modified)),
        "changed": time::display(Time::from(record.changed)),
        "created": time::display(Time::from(record.created)),
        "flags": record.flags.get(),
        "device": record.device.get(),
        "attributes": record.attributes.get(),
    })
}

pub(super) fn describe_collection(record: &CollectionRecord, rest: &[u8]) -> Value {
    let (matrices, rest) = matrices(record, rest);
    let (codebooks, model) = codebooks(record, rest);
    json!({
        "dimensions": record.dimensions.get(),
        "stride": record.stride.get(),
        "element": Element::from_u16(record.element.get()).map(Element::name),
        "codec": record.codec.get(),
        "metric": Metric::from_u16(record.metric.get()).map(Metric::name),
        "model": String::from_utf8_lossy(model),
        "rows": record.rows.get(),
        "live": record.live.get(),
        "changes": record.changes.get(),
        "frontier": record.frontier.get(),
        "history": record.history.get(),
        "modified": time::display(Time::from(record.modified)),
        "flags": record.flags.get(),
        "matrices": matrices.map(|matrices| json!({
            "number": matrices.number.get(),
            "last": matrices.last.get(),
            "target": matrices.target.get(),
            "codec": matrices.codec.get(),
            "next": matrices.next.get(),
        })),
        "codebooks": codebooks.map(|codebooks| json!({
            "own": describe_quantizer(codebooks.own),
            "target": describe_quantizer(codebooks.target),
        })),
    })
}

// What follows that: the shapes of its codebooks, if it has some, and its model.
fn codebooks<'v>(record: &CollectionRecord, rest: &'v [u8]) -> (Option<CodebookRecord>, &'v [u8]) {
    let flags = CollectionFlags::from_bits_retain(record.flags.get());
    match parse::<CodebookRecord>(rest, "collection", 0) {
        Ok((codebooks, model)) if flags.contains(CollectionFlags::QUANTIZED) => (Some(*codebooks), model),
        _ => (None, rest),
    }
}

fn describe_quantizer(record: QuantizerRecord) -> Value {
    json!({
        "subvectors": record.subvectors.get(),
        "sub_dimensions": record.sub_dimensions.get(),
        "bits": record.bits.get(),
    })
}

/// What follows a collection's record: which matrices it has, if it was recoded, and the rest of it.
pub(super) fn matrices<'v>(record: &CollectionRecord, rest: &'v [u8]) -> (Option<MatrixRecord>, &'v [u8]) {
    let flags = CollectionFlags::from_bits_retain(record.flags.get());
    match parse::<MatrixRecord>(rest, "collection", 0) {
        Ok((matrices, model)) if flags.contains(CollectionFlags::RECODED) => (Some(*matrices), model),
        _ => (None, rest),
    }
}

fn describe_extent(record: &ExtentRecord) -> Value {
    json!({
        "start": record.start.get(),
        "count": record.count.get(),
        "unwritten": record.flags.get() & ExtentFlags::UNWRITTEN.bits() != 0,
        "birth": record.birth.get(),
    })
}

fn describe_header(header: &VectorHeader) -> Value {
    json!({
        "known": header.known(),
        "vector_id": header.vector_id.get(),
        "file_inode": header.file_inode.get(),
        "data_type": Element::from_u16(header.data_type.get()).map(Element::name),
        "compression": header.compression.get(),
        "dimensions": header.dimensions.get(),
        "original_size": header.original_size.get(),
        "compressed_size": header.compressed_size.get(),
        "created": header.created_timestamp.get(),
        "modified": header.modified_timestamp.get(),
        "checksum": format!("{:08x}", header.checksum.get()),
        "flags": header.flags.get(),
    })
}

// Text as it is, other bytes as hexadecimal digits; long ones cut.
fn bytes(value: &[u8]) -> String {
    const SHOWN: usize = 64;
    let head = value.get(..SHOWN).unwrap_or(value);
    let dots = if value.len() > SHOWN { "..." } else { "" };
    match std::str::from_utf8(head) {
        Ok(text) if !text.chars().any(char::is_control) => format!("{text}{dots}"),
        _ => format!("0x{}{dots}", hex(head)),
    }
}

fn hex(value: &[u8]) -> String {
    value.iter().map(|byte| format!("{byte:02x}")).collect()
}
