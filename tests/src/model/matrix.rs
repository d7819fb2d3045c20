//! Compares collections: settings, rows, and the bytes of `vectors.npy`, `headers.npy` and `valid.npy`.

use std::collections::BTreeMap;

use vexfs_core::checksum::crc32;
use vexfs_core::codec;
use vexfs_core::control;
use vexfs_core::device::{BlockDevice, Direct};
use vexfs_core::format::{COLLECTIONS, MATRIX_DATA, RowRecord, VectorHeader, collection_directory};
use vexfs_core::numbers::{CollectionId, Ino};
use vexfs_core::operations::Collection;
use vexfs_core::volume::Volume;
use zerocopy::IntoBytes;

use crate::mutate::Nothing;

use super::{CollectionState, Model, VectorState};

/// What the files say of each row: by collection and row, the file's inode, n, version and the vector.
pub(super) type Rows = BTreeMap<u32, BTreeMap<u64, (u64, u32, u64, VectorState)>>;

/// Compares all collections; `rows` is what the walk over the files found.
pub(super) fn compare_collections<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    model: &Model,
    rows: &Rows,
) -> Result<(), String> {
    let mut names = Vec::new();
    volume
        .read_directory(COLLECTIONS, 0, &mut |entry| {
            names.push(String::from_utf8_lossy(entry.name).into_owned());
            true
        })
        .map_err(|error| format!("listing collections: {error}"))?;
    names.sort();
    if !names.iter().eq(model.collections.keys()) {
        return Err(format!("collections are {names:?}, expected {:?}", model.collections.keys()));
    }
    let none = BTreeMap::new();
    for (name, state) in &model.collections {
        let rows = rows.get(&state.id).unwrap_or(&none);
        one(volume, name, state, rows).map_err(|why| format!("collection {name}: {why}"))?;
    }
    Ok(())
}

fn one<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    name: &str,
    state: &CollectionState,
    expected: &BTreeMap<u64, (u64, u32, u64, VectorState)>,
) -> Result<(), String> {
    let real = volume.collection_by_name(name.as_bytes()).map_err(|error| error.to_string())?;
    let target = real.recode.map(|recode| recode.codec);
    let told = (real.id.0, real.element, real.codec, target, real.dimensions, real.history as usize);
    if told != (state.id, state.element, state.codec, state.target, state.dimensions, state.history) {
        return Err(format!("is {real:?}, expected {state:?}"));
    }
    let mut found: BTreeMap<u64, RowRecord> = BTreeMap::new();
    volume
        .rows_of(CollectionId(state.id), 0, &mut |row, record| {
            found.insert(row, *record);
            true
        })
        .map_err(|error| format!("rows: {error}"))?;
    if !found.keys().eq(expected.keys()) {
        return Err(format!("rows in use are {:?}, the files name {:?}", found.keys(), expected.keys()));
    }
    let above = found.keys().last().map_or(0, |row| row + 1);
    if real.live != found.len() as u64 || real.rows < above {
        return Err(format!(
            "tells {} live of {} rows, {} and {above} are",
            real.live,
            real.rows,
            found.len()
        ));
    }
    for (row, record) in &found {
        header(&real, record, &expected[row]).map_err(|why| format!("row {row}: {why}"))?;
    }
    if real.dimensions > 0 {
        columns(volume, &real, &found, expected)?;
    }
    Ok(())
}

fn header(
    real: &Collection,
    record: &RowRecord,
    (inode, n, version, state): &(u64, u32, u64, VectorState),
) -> Result<(), String> {
    let header = &record.header;
    let (row, scale) = state.row(real.element);
    let right = header.known()
        && header.vector_id.get() == state.vector_id
        && header.file_inode.get() == *inode
        && record.n.get() == *n
        && record.version.get() == *version
        && header.data_type.get() == real.element as u16
        && header.dimensions.get() == real.dimensions
        && header.compression.get() == real.codec.number()
        && header.original_size.get() == real.vector_len()
        && header.compressed_size.get() == row.len() as u32
        && record.scale.get() == scale
        && header.checksum.get() == crc32(&row);
    if right { Ok(()) } else { Err(format!("{record:?}, expected inode {inode}, n {n}, {state:?}")) }
}

fn columns<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    real: &Collection,
    found: &BTreeMap<u64, RowRecord>,
    expected: &BTreeMap<u64, (u64, u32, u64, VectorState)>,
) -> Result<(), String> {
    let matrix = column(volume, real.matrix, "vectors.npy")?;
    let width = codec::width(real.codec, real.element);
    let shape = format!("({}, {})", real.rows, real.stride / width);
    let data = npy_data(&matrix, &shape, codec::dtype(real.codec, real.element))?;
    for (row, (.., state)) in expected {
        let start = *row as usize * real.stride as usize;
        let bytes = data
            .get(start..start + real.stride as usize)
            .ok_or(format!("vectors.npy ends before row {row}"))?;
        let (vector, _) = state.row(real.element);
        if bytes[..vector.len()] != vector[..] || bytes[vector.len()..].iter().any(|byte| *byte != 0) {
            return Err(format!("vectors.npy row {row} differs"));
        }
    }
    metadata(volume, real, expected)?;
    let directory = collection_directory(real.id);
    let shape = format!("({},)", real.rows);
    let inode = |name: &str| {
        volume
            .lookup(directory, name.as_bytes())
            .map(|real| real.inode)
            .map_err(|error| format!("{name}: {error}"))
    };
    let valid = column(volume, inode("valid.npy")?, "valid.npy")?;
    let data = npy_data(&valid, &shape, "|b1")?;
    let headers = column(volume, inode("headers.npy")?, "headers.npy")?;
    let records = npy_data(&headers, &shape, "")?;
    let scales = match codec::has_scale(real.codec) {
        true => Some(column(volume, inode("scale.npy")?, "scale.npy")?),
        false => None,
    };
    let scales = scales.as_deref().map(|file| npy_data(file, &shape, "<f4")).transpose()?;
    for row in 0..real.rows {
        let live = found.get(&row);
        if data.get(row as usize) != Some(&u8::from(live.is_some())) {
            return Err(format!("valid.npy is wrong at row {row}"));
        }
        let start = row as usize * size_of::<VectorHeader>();
        let bytes = records.get(start..start + size_of::<VectorHeader>());
        if live.is_some_and(|record| bytes != Some(record.header.as_bytes())) {
            return Err(format!("headers.npy is wrong at row {row}"));
        }
        let at = row as usize * 4;
        let expected = live.map_or([0; 4], |record| record.scale.get().to_le_bytes());
        if scales.is_some_and(|scales| scales.get(at..at + 4) != Some(&expected)) {
            return Err(format!("scale.npy is wrong at row {row}"));
        }
    }
    Ok(())
}

/// `metadata.jsonl` has a line for each row with metadata, in their order.
fn metadata<D: BlockDevice>(
    volume: &Volume<Direct<D>>,
    real: &Collection,
    expected: &BTreeMap<u64, (u64, u32, u64, VectorState)>,
) -> Result<(), String> {
    let inode = Ino(collection_directory(real.id).0 + control::METADATA);
    let shown = volume.render(inode, &Nothing).map_err(|error| format!("metadata.jsonl: {error}"))?;
    let mut lines = Vec::new();
    for (row, (inode, n, _, state)) in expected {
        let Some(fill) = state.metadata else { continue };
        lines.extend(format!("{{\"row\":{row},\"inode\":{inode},\"n\":{n},\"metadata\":").bytes());
        lines.extend(fill.metadata().trim_ascii());
        lines.extend(b"}\n");
    }
    if shown == lines { Ok(()) } else { Err("metadata.jsonl differs".into()) }
}

fn column<D: BlockDevice>(volume: &Volume<Direct<D>>, inode: Ino, name: &str) -> Result<Vec<u8>, String> {
    let size = volume.attributes(inode).map_err(|error| format!("{name}: {error}"))?.size;
    // A collection here is small; a size beyond all bounds is itself a mistake.
    if size > 1 << 26 {
        return Err(format!("{name}: size {size}"));
    }
    let mut bytes = vec![0; size as usize];
    let got = volume.read(inode, 0, &mut bytes).map_err(|error| format!("{name}: {error}"))?;
    if got == bytes.len() { Ok(bytes) } else { Err(format!("{name}: read {got} of {size} bytes")) }
}

/// The data of an npy file, if its header is right and ends where our data begins.
fn npy_data<'a>(file: &'a [u8], shape: &str, dtype: &str) -> Result<&'a [u8], String> {
    let (head, data) =
        file.split_at_checked(MATRIX_DATA as usize).ok_or(format!("npy of {} bytes", file.len()))?;
    let len = usize::from(u16::from_le_bytes([head[8], head[9]]));
    let text = head.get(10..10 + len).unwrap_or_default();
    if &head[..8] != b"\x93NUMPY\x01\x00" || 10 + len != head.len() || text.last() != Some(&b'\n') {
        return Err("not an npy file with 4096 bytes of header".into());
    }
    let text = String::from_utf8_lossy(text);
    for part in [&format!("'shape': {shape}"), "'fortran_order': False", dtype] {
        if !text.contains(part) {
            return Err(format!("npy header lacks \"{part}\": {}", text.trim_end()));
        }
    }
    Ok(data)
}
