//! What is on a volume, as text: the canonical JSON of `scripts/read_image.py IMAGE json`, byte for byte.
//!
//! One line an entry, fields in a fixed order. Names are bytes; all but printable ASCII, `%`, `"` and `\` are written
//! as %XX. So two listings can be compared as strings, and by diff.

use std::collections::BTreeMap;
use std::fmt;

use vexfs_core::device::{BlockDevice, Data};
use vexfs_core::format::{
    COLLECTIONS, FileKind, HISTORY_MAX, Key, Kind, ORPHANS, ROOT, collection_directory,
};
use vexfs_core::numbers::{CollectionId, Ino, Time};
use vexfs_core::operations::Attributes;
use vexfs_core::{Error, Result, Volume, tree};

use super::sha256;

/// Everything on a volume.
#[derive(Debug, Default)]
pub struct Listing {
    /// Of the volume as a whole.
    pub volume: VolumeEntry,
    /// By name.
    pub collections: BTreeMap<Vec<u8>, CollectionEntry>,
    /// By path, the root as `/`.
    pub files: BTreeMap<Vec<u8>, FileEntry>,
    /// Inode and `OrphanKind`.
    pub orphans: BTreeMap<u64, u32>,
}

/// Numbers of the volume.
#[derive(Debug, Default)]
pub struct VolumeEntry {
    /// Bytes of a block.
    pub block_size: u32,
    /// UUID.
    pub uuid: [u8; 16],
    /// Label.
    pub label: Vec<u8>,
    /// Inodes in use.
    pub inodes: u64,
}

/// A collection.
#[derive(Debug)]
pub struct CollectionEntry {
    /// Name of the element type.
    pub element: &'static str,
    /// Name of the codec.
    pub codec: &'static str,
    /// Dimensions.
    pub dimensions: u32,
    /// Name of the metric.
    pub metric: &'static str,
    /// Model.
    pub model: Vec<u8>,
    /// Highest row in use + 1.
    pub rows: u64,
    /// Rows in use.
    pub live: u64,
    /// Permission bits of the directory.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Name, type and bytes of an entry of its columns, in the order of their numbers.
    pub columns: Vec<(String, &'static str, u16)>,
    /// Superseded vectors that are kept behind each.
    pub history: u32,
}

/// Something with a name.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Inode number.
    pub inode: u64,
    /// Type.
    pub kind: FileKind,
    /// Permission bits.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Links.
    pub links: u32,
    /// Size; of a directory, its entries.
    pub size: u64,
    /// Last change of the content.
    pub modified: Time,
    /// Of a device node.
    pub device: u32,
    /// Bytes of a file, target of a symbolic link.
    pub content: Vec<u8>,
    /// Attributes other than vectors.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// By collection and n.
    pub vectors: BTreeMap<(Vec<u8>, u32), VectorEntry>,
}

/// A vector of a file.
#[derive(Clone, Debug)]
pub struct VectorEntry {
    /// Name of the attribute.
    pub name: Vec<u8>,
    /// Row in the collection.
    pub row: u64,
    /// Bytes.
    pub bytes: Vec<u8>,
    /// The content is newer.
    pub stale: bool,
    /// Its metadata.
    pub metadata: Option<Vec<u8>>,
    /// What it superseded, the newest first.
    pub past: Vec<PastEntry>,
}

/// A superseded vector.
#[derive(Clone, Debug)]
pub struct PastEntry {
    /// Bytes.
    pub bytes: Vec<u8>,
    /// Its metadata.
    pub metadata: Option<Vec<u8>>,
}

impl Listing {
    /// All that the core shows of a mounted volume.
    pub fn read<H: BlockDevice + Data>(volume: &Volume<H>) -> Result<Self> {
        let superblock = volume.superblock();
        let label = superblock.label.iter().copied().take_while(|byte| *byte != 0).collect();
        let mut listing = Self {
            volume: VolumeEntry {
                block_size: superblock.block_size.get(),
                uuid: superblock.uuid,
                label,
                inodes: volume.statistics().inodes,
            },
            ..Self::default()
        };
        for (name, inode) in entries(volume, COLLECTIONS)? {
            let entry = collection(volume, &name, inode)?;
            listing.collections.insert(name, entry);
        }
        let mut waiting = vec![(Vec::new(), ROOT)];
        while let Some((path, inode)) = waiting.pop() {
            let entry = file(volume, inode)?;
            if entry.kind == FileKind::Directory {
                for (name, child) in entries(volume, inode)? {
                    waiting.push(([&path[..], b"/", &name].concat(), child));
                }
            }
            listing.files.insert(if path.is_empty() { b"/".to_vec() } else { path }, entry);
        }
        let (from, to) = (Key::new(ORPHANS, Kind::Orphan, 0), Key::last(ORPHANS, Kind::Orphan));
        tree::scan(volume, from, to, &mut |key, value| {
            let kind = value.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
            listing.orphans.insert(key.offset, kind);
            Ok(true)
        })?;
        Ok(listing)
    }
}

fn entries<H: BlockDevice + Data>(volume: &Volume<H>, directory: Ino) -> Result<Vec<(Vec<u8>, Ino)>> {
    let mut entries = Vec::new();
    volume.read_directory(directory, 0, &mut |entry| {
        entries.push((entry.name.to_vec(), entry.inode));
        true
    })?;
    Ok(entries)
}

fn collection<H: BlockDevice + Data>(volume: &Volume<H>, name: &[u8], inode: Ino) -> Result<CollectionEntry> {
    let found = volume.collection_by_name(name)?;
    if collection_directory(found.id) != inode {
        return Err(Error::Invalid("a collection's name leads to another inode than its entry"));
    }
    let attributes = volume.attributes(inode)?;
    let columns = volume
        .columns(found.id)?
        .into_iter()
        .map(|column| (String::from_utf8_lossy(&column.name).into_owned(), column.kind.name(), column.width));
    Ok(CollectionEntry {
        columns: columns.collect(),
        history: found.history,
        element: found.element.name(),
        codec: found.codec.name(),
        dimensions: found.dimensions,
        metric: found.metric.name(),
        model: found.model,
        rows: found.rows,
        live: found.live,
        permissions: attributes.permissions,
        uid: attributes.uid,
        gid: attributes.gid,
    })
}

fn file<H: BlockDevice + Data>(volume: &Volume<H>, inode: Ino) -> Result<FileEntry> {
    let attributes = volume.attributes(inode)?;
    let mut entry = FileEntry::new(&attributes);
    match attributes.kind {
        FileKind::Regular => {
            let mut bytes = vec![0xee; attributes.size as usize + 1];
            let len = volume.read(inode, 0, &mut bytes)?;
            bytes.truncate(len);
            entry.content = bytes;
        }
        FileKind::Symlink => entry.content = volume.read_link(inode)?,
        _ => {}
    }
    let mut vectors = Vec::new();
    volume.vectors_of(inode, &mut |vector| vectors.push(vector))?;
    let names = volume.list_attributes(inode)?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !name.starts_with(b"user.vector.") {
            entry.attributes.insert(name.to_vec(), volume.attribute(inode, name)?);
        }
    }
    for vector in vectors {
        let name = vector_name(volume, vector.collection, vector.n)?;
        let bytes = volume.attribute(inode, &name)?;
        let stale = vector.version != attributes.version;
        let place = (volume.collection_name(vector.collection)?, vector.n);
        let read = |behind: &[u8]| match volume.attribute(inode, &[&name[..], behind].concat()) {
            Err(Error::NoAttribute) => Ok(None),
            other => other.map(Some),
        };
        let metadata = read(b".meta")?;
        let mut past = Vec::new();
        for back in 1..=HISTORY_MAX {
            let Some(bytes) = read(format!("@-{back}").as_bytes())? else { break };
            past.push(PastEntry { bytes, metadata: read(format!("@-{back}.meta").as_bytes())? });
        }
        entry.vectors.insert(place, VectorEntry { name, row: vector.row, bytes, stale, metadata, past });
    }
    Ok(entry)
}

/// The name under which a vector is listed.
pub fn vector_name<H: BlockDevice + Data>(volume: &Volume<H>, id: CollectionId, n: u32) -> Result<Vec<u8>> {
    let mut name = [b"user.vector.", &volume.collection_name(id)?[..]].concat();
    let element = volume.collection(id)?.element.name();
    if element != "f32" {
        name.extend_from_slice(format!(":{element}").as_bytes());
    }
    if n != 0 {
        name.extend_from_slice(format!(".{n}").as_bytes());
    }
    Ok(name)
}

impl FileEntry {
    /// With all that `stat` shows, and neither content nor attributes.
    pub fn new(attributes: &Attributes) -> Self {
        Self {
            inode: attributes.inode.0,
            kind: attributes.kind,
            permissions: attributes.permissions,
            uid: attributes.uid,
            gid: attributes.gid,
            links: attributes.links,
            size: attributes.size,
            modified: attributes.modified,
            device: attributes.device,
            content: Vec::new(),
            attributes: BTreeMap::new(),
            vectors: BTreeMap::new(),
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VolumeEntry { block_size, uuid, label, inodes } = &self.volume;
        let (uuid, label) = (hex(uuid), printable(label));
        writeln!(f, "{{\"volume\":[")?;
        write!(f, r#"{{"block_size":{block_size},"uuid":"{uuid}","label":"{label}","inodes":{inodes}}}"#)?;
        section(f, "collections", self.collections.iter().map(|(name, entry)| entry.json(name)))?;
        section(f, "files", self.files.iter().map(|(path, entry)| entry.json(path)))?;
        let orphan = |(inode, kind)| format!(r#"{{"inode":{inode},"kind":{kind}}}"#);
        section(f, "orphans", self.orphans.iter().map(orphan))?;
        writeln!(f, "]}}")
    }
}

fn section(f: &mut fmt::Formatter<'_>, name: &str, lines: impl Iterator<Item = String>) -> fmt::Result {
    write!(f, "],\n\"{name}\":[\n{}", lines.collect::<Vec<_>>().join(",\n"))
}

impl CollectionEntry {
    fn json(&self, name: &[u8]) -> String {
        let Self { element, dimensions, metric, rows, live, permissions, uid, gid, .. } = self;
        let (name, model) = (printable(name), printable(&self.model));
        let codec = match self.codec {
            "none" => String::new(),
            codec => format!(r#""codec":"{codec}","#),
        };
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(name, kind, width)| format!(r#"["{name}","{kind}",{width}]"#))
            .collect();
        let columns = match columns.is_empty() {
            true => String::new(),
            false => format!(r#","columns":[{}]"#, columns.join(",")),
        };
        format!(r#"{{"name":"{name}","element":"{element}",{codec}"dimensions":{dimensions},"#)
            + &format!(r#""metric":"{metric}","model":"{model}","#)
            + &format!(r#""rows":{rows},"live":{live},"mode":"{permissions:04o}","uid":{uid},"gid":{gid}"#)
            + &match self.history {
                0 => String::new(),
                history => format!(r#","history":{history}"#),
            }
            + &format!("{columns}}}")
    }
}

impl FileEntry {
    fn json(&self, path: &[u8]) -> String {
        let Self { inode, kind, permissions, uid, gid, links, size, modified, device, content, .. } = self;
        let kind_name = match kind {
            FileKind::Fifo => "fifo",
            FileKind::CharDevice => "char",
            FileKind::Directory => "directory",
            FileKind::BlockDevice => "block",
            FileKind::Regular => "file",
            FileKind::Symlink => "symlink",
            FileKind::Socket => "socket",
        };
        let path = printable(path);
        let mut json = format!(
            r#"{{"path":"{path}","type":"{kind_name}","inode":{inode},"mode":"{permissions:04o}","uid":{uid},"gid":{gid},"#
        );
        let Time { seconds, nanoseconds } = modified;
        json += &format!(r#""links":{links},"size":{size},"modified":"{seconds}.{nanoseconds:09}""#);
        match kind {
            FileKind::CharDevice | FileKind::BlockDevice => json += &format!(r#","device":{device}"#),
            FileKind::Regular => json += &format!(r#","sha256":"{}""#, sha256(content)),
            FileKind::Symlink => json += &format!(r#","target":"{}""#, printable(content)),
            _ => {}
        }
        let attributes: Vec<_> = self.attributes.iter().map(attribute_json).collect();
        if !attributes.is_empty() {
            json += &format!(r#","xattrs":{{{}}}"#, attributes.join(","));
        }
        let vectors: Vec<_> = self.vectors.values().map(VectorEntry::json).collect();
        if !vectors.is_empty() {
            json += &format!(r#","vectors":[{}]"#, vectors.join(","));
        }
        json + "}"
    }
}

fn attribute_json((name, value): (&Vec<u8>, &Vec<u8>)) -> String {
    format!(r#""{}":{}"#, printable(name), value_json(value))
}

fn value_json(value: &[u8]) -> String {
    let size = value.len();
    if size <= 64 {
        return format!(r#"{{"size":{size},"hex":"{}"}}"#, hex(value));
    }
    format!(r#"{{"size":{size},"sha256":"{}"}}"#, sha256(value))
}

impl VectorEntry {
    fn json(&self) -> String {
        let Self { name, row, bytes, stale, metadata, past } = self;
        let (name, sum, metadata) = (printable(name), sha256(bytes), metadata_json(metadata.as_deref()));
        let past: Vec<String> = past.iter().map(PastEntry::json).collect();
        let past = match past.is_empty() {
            true => String::new(),
            false => format!(r#","past":[{}]"#, past.join(",")),
        };
        format!(r#"{{"name":"{name}","row":{row},"sha256":"{sum}"{metadata}{past},"stale":{stale}}}"#)
    }
}

impl PastEntry {
    fn json(&self) -> String {
        format!(r#"{{"sha256":"{}"{}}}"#, sha256(&self.bytes), metadata_json(self.metadata.as_deref()))
    }
}

fn metadata_json(text: Option<&[u8]>) -> String {
    text.map(|text| format!(r#","metadata":{}"#, value_json(text))).unwrap_or_default()
}

fn printable(name: &[u8]) -> String {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'%' | b'"' | b'\\');
    name.iter()
        .map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
