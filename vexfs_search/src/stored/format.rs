//! The bytes of an index file: a head, a table of leaves with their centres, the vectors' numbers by row, records of codes
//! by row if the kind has them, the leaves or the graph.
//!
//! Little-endian. The head has a checksum of itself and of the table, of the numbers, of the graph and, in the table, of each
//! leaf; a record has its own: so a search checks what it reads and no more.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use zerocopy::IntoBytes;

use super::bytes::{self, Bytes, ReadAt};
use super::{Effort, Kind, StoredIndex, graph, records};
use crate::clustered::Leaf;
use crate::clustered::codes::{BLOCK, Codes};
use crate::clustered::tree::Shape;
use crate::error::{Error, Result};
use crate::metric::Metric;

const MAGIC: &[u8; 8] = b"VEXINDX3";
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];
/// Bytes of the head, of a leaf in the table, and of an effort there.
const HEAD: usize = 192;
const PLACE: usize = 24;
const EFFORT: usize = 56;
/// What an index may have at most: a file that says more is damaged.
const LEAVES_MAX: u64 = 1 << 26;
const DIMENSIONS_MAX: u64 = 1 << 16;
const EFFORTS_MAX: u64 = 1 << 10;
const DEGREE_MAX: u64 = 1 << 10;

/// Which collection an index is of: the volume's UUID as text, and the collection's inode, which is never used again.
pub type Identity = [u8; 24];

/// The identity of the collection with this inode on the volume with this UUID.
pub fn identity_of(uuid: [u8; 16], inode: u64) -> Identity {
    let mut identity = [0; 24];
    identity[..16].copy_from_slice(&uuid);
    identity[16..].copy_from_slice(&inode.to_le_bytes());
    identity
}

/// The identity of the collection in `directory`.
pub(super) fn identity(directory: &Path) -> Result<Identity> {
    let io = |source| Error::Io { path: directory.to_owned(), source };
    let inode = fs::metadata(directory).map_err(io)?.ino();
    // Files that were copied from a volume have no status beside them.
    let status = fs::read(directory.join("../../status.json")).unwrap_or_default();
    let status: Value = serde_json::from_slice(&status).unwrap_or_default();
    let digits = status.get("uuid").and_then(Value::as_str).unwrap_or_default();
    let uuid = u128::from_str_radix(&digits.replace('-', ""), 16).unwrap_or_default();
    Ok(identity_of(uuid.to_be_bytes(), inode))
}

/// What an index is of, and how large its parts are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) identity: Identity,
    pub(super) kind: Kind,
    pub(super) generation: u64,
    pub(super) metric: Metric,
    pub(super) dimensions: usize,
    pub(super) shape: Shape,
    /// Rows that a number is kept of.
    pub(super) rows: u64,
    /// Rows in leaves, or of nodes of the graph.
    pub(super) indexed: u64,
    pub(super) leaves: u64,
    pub(super) efforts: u64,
    /// Bytes of a row's record of codes; 0 of a kind without.
    pub(super) record: u64,
    /// Time of an exact search when it was built.
    pub(super) exact_ns: u64,
    /// Time of opening it then.
    pub(super) open_ns: u64,
    pub(super) table_sum: u32,
    pub(super) ids_sum: u32,
    /// Nodes, links of a node, and nodes where walks begin; 0 of a kind without a graph.
    pub(super) nodes: u64,
    pub(super) degree: u64,
    pub(super) entries: u64,
    pub(super) graph_sum: u32,
}

impl Head {
    fn table_len(&self) -> u64 {
        self.leaves * (PLACE as u64 + 4 * self.dimensions as u64) + self.efforts * EFFORT as u64
    }

    /// Where the table ends and the vectors' numbers begin.
    pub(super) fn table_end(&self) -> u64 {
        HEAD as u64 + self.table_len()
    }

    /// Where the records begin, behind the numbers, and where they end.
    pub(super) fn records(&self) -> (u64, u64) {
        let start = self.table_end() + 8 * self.rows;
        (start, start + self.record * self.rows)
    }

    fn render(&self) -> Vec<u8> {
        let metric = METRICS.iter().position(|metric| *metric == self.metric).unwrap_or_default();
        let kind = Kind::ALL.iter().position(|kind| *kind == self.kind).unwrap_or_default();
        let mut bytes = self.identity.to_vec();
        for number in [
            self.generation,
            metric as u64,
            self.dimensions as u64,
            self.shape.branches as u64,
            self.shape.leaf_max as u64,
            self.shape.iterations as u64,
            self.rows,
            self.indexed,
            self.leaves,
            self.efforts,
            self.record,
            self.exact_ns,
            self.open_ns,
            u64::from(self.table_sum) | u64::from(self.ids_sum) << 32,
            kind as u64,
            self.nodes,
            self.degree,
            self.entries,
            u64::from(self.graph_sum),
        ] {
            bytes.extend(number.to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes);
        [MAGIC.as_slice(), &bytes, &u64::from(sum).to_le_bytes()].concat()
    }

    fn parse(bytes: &[u8]) -> std::result::Result<Self, &'static str> {
        let body = bytes.strip_prefix(MAGIC).ok_or("is no index of this version")?;
        let (body, sum) = body.split_last_chunk::<8>().ok_or("is cut off")?;
        if u64::from(crc32fast::hash(body)) != u64::from_le_bytes(*sum) {
            return Err("is damaged: its head's checksum is another");
        }
        let impossible = "has impossible numbers";
        let (identity, rest) = body.split_first_chunk::<24>().ok_or(impossible)?;
        let number = |index: usize| {
            let bytes = rest.get(8 * index..).and_then(|bytes| bytes.first_chunk::<8>());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let size = |index| usize::try_from(number(index)).map_err(|_| impossible);
        let metric = *METRICS.get(size(1)?).ok_or(impossible)?;
        let shape = Shape { branches: size(3)?, leaf_max: size(4)?, iterations: size(5)? };
        let (rows, indexed, leaves, efforts) = (number(6), number(7), number(8), number(9));
        let (record, nodes, degree, entries) = (number(10), number(15), number(16), number(17));
        let kind = *Kind::ALL.get(size(14)?).ok_or(impossible)?;
        let of_kind = match kind {
            Kind::Scan => leaves <= 1 && record == records::len(number(2) as usize) as u64,
            Kind::Clustered => record == 0,
            Kind::Graph => {
                (record == 0 && leaves == 0)
                    && ((1..=DEGREE_MAX).contains(&degree) && entries <= nodes && nodes <= indexed)
            }
        };
        let fine = (1..=DIMENSIONS_MAX).contains(&number(2))
            && (shape.branches >= 2 && shape.leaf_max > 0)
            && rows <= u64::from(u32::MAX)
            && (of_kind && (kind == Kind::Graph || [nodes, degree, entries] == [0; 3]))
            && (indexed <= rows && leaves <= indexed && leaves <= LEAVES_MAX && efforts <= EFFORTS_MAX);
        let head = Self {
            identity: *identity,
            kind,
            generation: number(0),
            metric,
            dimensions: size(2)?,
            shape,
            rows,
            indexed,
            leaves,
            efforts,
            record,
            exact_ns: number(11),
            open_ns: number(12),
            table_sum: number(13) as u32,
            ids_sum: (number(13) >> 32) as u32,
            nodes,
            degree,
            entries,
            graph_sum: number(18) as u32,
        };
        fine.then_some(head).ok_or(impossible)
    }
}

/// Where a leaf is, and its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    at: u64,
    count: u64,
    sum: u32,
}

impl Place {
    /// Where it begins.
    pub(super) fn at(self) -> u64 {
        self.at
    }

    /// Bytes of the leaf.
    pub(super) fn len(self, head: &Head) -> Option<usize> {
        let count = usize::try_from(self.count).ok()?;
        let words = if head.metric == Metric::L2 { 12 } else { 8 };
        let codes = count.div_ceil(BLOCK).checked_mul(BLOCK)?.checked_mul(head.dimensions.div_ceil(8))?;
        count.checked_mul(words)?.checked_add(codes)
    }
}

/// What an index file is made of.
pub(super) struct Parts {
    pub(super) head: Head,
    /// Centres and leaves.
    pub(super) leaves: Vec<(Vec<f32>, Leaf)>,
    /// The vectors' numbers by row.
    pub(super) ids: Vec<u64>,
    /// Records of codes by row; none of a kind without.
    pub(super) records: Vec<u8>,
    /// The graph of that kind.
    pub(super) graph: Option<graph::Stored>,
}

/// The bytes of an index of these parts.
pub(super) fn encode(parts: &Parts, efforts: &[Effort]) -> Vec<u8> {
    let (mut head, leaves, ids) = (parts.head, &parts.leaves, &parts.ids);
    (head.rows, head.leaves, head.efforts) = (ids.len() as u64, leaves.len() as u64, efforts.len() as u64);
    head.indexed = leaves.iter().map(|(_, leaf)| leaf.rows.len() as u64).sum();
    let sections = parts.graph.as_ref().map_or([&[][..]; 7], graph::Stored::parts);
    if let Some(stored) = &parts.graph {
        head.indexed = stored.rows() as u64;
        head.nodes = stored.graph.len() as u64;
        (head.degree, head.entries) = (stored.graph.degree as u64, stored.graph.entries.len() as u64);
        let mut sum = crc32fast::Hasher::new();
        sections.iter().for_each(|section| sum.update(section));
        head.graph_sum = sum.finalize();
    }
    let mut at = head.records().1;
    let (mut table, mut bodies) = (Vec::new(), Vec::new());
    for (_, leaf) in leaves {
        let start = bodies.len();
        bodies.extend(leaf.rows.as_bytes());
        bodies.extend(leaf.codes.factors.as_bytes());
        bodies.extend(leaf.squares.as_bytes());
        bodies.extend(&leaf.codes.blocks);
        let sum = crc32fast::hash(&bodies[start..]);
        for number in [at, leaf.rows.len() as u64, u64::from(sum)] {
            table.extend(number.to_le_bytes());
        }
        at += (bodies.len() - start) as u64;
    }
    efforts.iter().for_each(|effort| table.extend(effort.render()));
    leaves.iter().for_each(|(centre, _)| table.extend(centre.as_bytes()));
    head.table_sum = crc32fast::hash(&table);
    head.ids_sum = crc32fast::hash(ids.as_bytes());
    let head = head.render();
    let before = [&head, &table, ids.as_bytes(), &parts.records, &bodies];
    before.into_iter().chain(sections).collect::<Vec<_>>().concat()
}

/// The head of an index file and the table behind it, whose checksums hold.
pub(super) struct Opening {
    pub(super) head: Head,
    pub(super) places: Vec<Place>,
    pub(super) efforts: Vec<Effort>,
    pub(super) centres: Vec<f32>,
}

/// What is wrong with the file at `path`, and what helps.
pub(super) fn wrong(path: &Path, why: &str) -> Error {
    Error::Format { path: path.to_owned(), why: format!("{why}; `vexfs index` builds it anew") }
}

// An error of reading: what is not there, or contradicts itself, is damage.
fn unread(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => wrong(path, "is cut off"),
        io::ErrorKind::InvalidData => wrong(path, &source.to_string()),
        _ => Error::Io { path: path.to_owned(), source },
    }
}

impl Opening {
    /// Reads the beginning of the index file at `path`.
    pub(super) fn read(path: &Path, source: &dyn ReadAt) -> Result<Self> {
        let wrong = |why: &str| wrong(path, why);
        let io = |error| unread(path, error);
        let len = source.size().map_err(io)?;
        let head = Head::parse(&bytes::read(source, 0, HEAD).map_err(io)?).map_err(wrong)?;
        if head.records().1 > len {
            return Err(wrong("is cut off"));
        }
        let table = bytes::read(source, HEAD as u64, head.table_len() as usize).map_err(io)?;
        if crc32fast::hash(&table) != head.table_sum {
            return Err(wrong("is damaged: its table's checksum is another"));
        }
        let (places, rest) = table.split_at(head.leaves as usize * PLACE);
        let (efforts, centres) = rest.split_at(head.efforts as usize * EFFORT);
        let places: Vec<Place> = places.chunks_exact(PLACE).map(place).collect();
        let inside = |place: &Place| {
            let bytes = place.len(&head)? as u64;
            place.at.checked_add(bytes).filter(|end| *end <= len).map(|_| bytes)
        };
        // All leaves together are no longer than the file, so that no search reads more than that.
        let all = places.iter().map(inside).try_fold(0_u64, |sum, bytes| sum.checked_add(bytes?));
        if all.ok_or_else(|| wrong("is cut off"))? > len {
            return Err(wrong("contradicts itself"));
        }
        let efforts = efforts.chunks_exact(EFFORT).map(Effort::parse).collect();
        Ok(Self { head, places, efforts, centres: floats(centres) })
    }
}

impl StoredIndex {
    /// Reads what every search needs.
    pub(super) fn read(path: PathBuf, bytes: Bytes) -> Result<Self> {
        let mut index = Self::begun(path, &bytes)?;
        index.bytes = bytes;
        Ok(index)
    }

    /// The same of a file whose other bytes are not to be had later: they are taken into memory, but for those that are
    /// there already in another form.
    pub(super) fn taken(path: PathBuf, source: &dyn ReadAt) -> Result<Self> {
        let mut index = Self::begun(path, source)?;
        let io = |error| unread(&index.path, error);
        let start = index.head.table_end();
        let end = match index.head.kind {
            // Its leaves are read as they are probed.
            Kind::Clustered => source.size().map_err(io)?,
            // The vectors' numbers, and the records of a scan.
            Kind::Scan | Kind::Graph => index.head.records().1,
        };
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let bytes = bytes::read(source, start, len).map_err(io)?;
        index.bytes = Bytes::Memory { start, bytes };
        Ok(index)
    }

    // All but where the other bytes are.
    fn begun(path: PathBuf, source: &dyn ReadAt) -> Result<Self> {
        let Opening { head, places, efforts, centres } = Opening::read(&path, source)?;
        let mut index = Self {
            places,
            bytes: Bytes::whole(Vec::new()),
            head,
            centres: Vec::new(),
            squares: Vec::new(),
            efforts,
            path,
            whole: None,
            records: None,
            graph: None,
        };
        index.set_centres(centres);
        // Every search reads all of a scan, and anything of a graph.
        match head.kind {
            Kind::Scan if head.leaves > 0 => index.whole = Some(index.leaf_from(source, 0)?.0),
            Kind::Graph => {
                let graph = graph::Stored::read(source, &head, head.records().1);
                index.graph = Some(graph.map_err(|error| unread(&index.path, error))?);
            }
            Kind::Scan | Kind::Clustered => {}
        }
        Ok(index)
    }

    /// A leaf, and how many bytes it is.
    pub(super) fn leaf(&self, number: usize) -> Result<(Leaf, u64)> {
        self.leaf_from(&self.bytes, number)
    }

    fn leaf_from(&self, source: &dyn ReadAt, number: usize) -> Result<(Leaf, u64)> {
        let cut = || self.wrong("is cut off");
        let place = self.places.get(number).ok_or_else(cut)?;
        let len = place.len(&self.head).ok_or_else(cut)?;
        let bytes = bytes::read(source, place.at, len).map_err(|_| cut())?;
        if crc32fast::hash(&bytes) != place.sum {
            return Err(self.wrong("is damaged: a leaf's checksum is another"));
        }
        let count = place.count as usize;
        let (rows, rest) = bytes.split_at(4 * count);
        let (factors, rest) = rest.split_at(4 * count);
        let (squares, blocks) = rest.split_at(if self.head.metric == Metric::L2 { 4 * count } else { 0 });
        let rows: Vec<u32> = words(rows).collect();
        if rows.iter().any(|row| u64::from(*row) >= self.head.rows) {
            return Err(self.wrong("contradicts itself"));
        }
        let bytes = self.head.dimensions.div_ceil(8);
        let codes = Codes { bytes, blocks: blocks.to_vec(), factors: floats(factors) };
        Ok((Leaf { rows, codes, squares: floats(squares) }, len as u64))
    }

    /// The centre of a leaf.
    pub(super) fn centre(&self, number: usize) -> &[f32] {
        let start = number * self.head.dimensions;
        self.centres.get(start..start + self.head.dimensions).unwrap_or_default()
    }

    /// The numbers of the vectors by row, as they were when it was built; 0 of a row that was free.
    pub(crate) fn ids(&self) -> Result<Vec<u64>> {
        let len = self.head.rows as usize * 8;
        let bytes =
            bytes::read(&self.bytes, self.head.table_end(), len).map_err(|_| self.wrong("is cut off"))?;
        if crc32fast::hash(&bytes) != self.head.ids_sum {
            return Err(self.wrong("is damaged: the checksum of its rows is another"));
        }
        Ok(bytes.chunks_exact(8).map(|bytes| number(bytes, 0)).collect())
    }
}

fn place(bytes: &[u8]) -> Place {
    Place { at: number(bytes, 0), count: number(bytes, 1), sum: number(bytes, 2) as u32 }
}

/// The number of eight bytes at this index; 0 where there are none.
pub(super) fn number(bytes: &[u8], index: usize) -> u64 {
    let bytes = bytes.get(8 * index..).and_then(|bytes| bytes.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    words(bytes).map(f32::from_bits).collect()
}
