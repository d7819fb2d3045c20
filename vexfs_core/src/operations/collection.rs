//! Collections: their records, their rows, the growth of their matrix.

use alloc::vec::Vec;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::rows::{self, ROWS_MAX};
use super::types::{Attributes, Caller, Collection, NewCollection, NewInode, Removed};
use super::vector_name::{VectorName, check_collection_name};
use super::{acl, directory, index, inode, orphan, recode};
use crate::codec;
use crate::control;
use crate::device::{BlockDevice, Data};
use crate::error::{Error, Result};
use crate::format::{
    COLLECTION_MODEL_MAX, COLLECTIONS, CodebookRecord, Codec, CollectionFlags, CollectionRecord, Element,
    FileKind, HISTORY_MAX, Incompatible, InodeRecord, Key, Kind, MATRIX_DATA, MatrixRecord, Metric,
    OrphanKind, collection_directory, collection_matrix, collection_part, parse, parse_exact,
};
use crate::memory;
use crate::numbers::{CollectionId, Ino, Time};
use crate::transaction::{Budget, Transaction};
use crate::tree;
use crate::volume::{Event, Implicit, Nodes, Volume};

/// Bytes of a vector at most: what an attribute can hold.
pub(crate) const VECTOR_MAX: usize = 65536;
/// How many numbers a collection can have: its inodes must stay below 2^63.
const IDS_MAX: u32 = u32::MAX;

/// Why a codec is refused.
pub(super) const WRONG_CODEC: Error = Error::Invalid(
    "the codec cannot store these elements: f16 takes f32; sq8, sq4, binary and pq f32 and f16",
);
/// Why a dimension or element type is refused, or a collection, while its codec is `pq`.
const NEEDS_CODEBOOK: Error = Error::Invalid(
    "pq stores vectors of its codebook's dimensions alone, and needs one: recode the collection with a codebook",
);

/// A collection's record and model name, to be changed and stored again.
pub(crate) struct Loaded {
    /// Its number.
    pub(crate) id: CollectionId,
    /// The record.
    pub(crate) record: CollectionRecord,
    pub(crate) model: Vec<u8>,
    /// Which matrix it has, and which one is being made; all zero if it was never recoded.
    pub(crate) matrices: MatrixRecord,
    /// The shapes of their codebooks; all zero if they have none.
    pub(crate) codebooks: CodebookRecord,
}

/// The number of the collection with this name.
pub(crate) fn find<N: Nodes>(nodes: &N, name: &[u8]) -> Result<Option<CollectionId>> {
    match directory::entry(nodes, COLLECTIONS, name)? {
        Some(found) => match collection_part(found.inode) {
            Some((id, 0)) => Ok(Some(id)),
            _ => Err(Error::corrupt("directory", COLLECTIONS.0, "an entry that is no collection")),
        },
        None => Ok(None),
    }
}

/// The collection with this number.
pub(crate) fn load<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Loaded> {
    load_at(nodes, id, collection_directory(id))
}

/// A collection as the record at `inode` has it: its directory, or a matrix that was replaced.
pub(super) fn load_at<N: Nodes>(nodes: &N, id: CollectionId, inode: Ino) -> Result<Loaded> {
    let directory = collection_directory(id);
    let bad = |why| Error::corrupt("collection", directory.0, why);
    let found = tree::find(nodes, Key::new(inode, Kind::Collection, 0), |value| {
        let (record, mut model): (&CollectionRecord, _) = parse(value, "collection", directory.0)?;
        let mut matrices = MatrixRecord::default();
        let mut codebooks = CodebookRecord::default();
        let flags = CollectionFlags::from_bits_retain(record.flags.get());
        if flags.contains(CollectionFlags::RECODED) {
            let (found, rest): (&MatrixRecord, _) = parse(model, "collection", directory.0)?;
            (matrices, model) = (*found, rest);
        }
        if flags.contains(CollectionFlags::QUANTIZED) {
            let (found, rest): (&CodebookRecord, _) = parse(model, "collection", directory.0)?;
            (codebooks, model) = (*found, rest);
        }
        if model.len() != usize::from(record.model_len.get()) {
            return Err(bad("model name of a wrong length"));
        }
        Ok(Loaded { id, record: *record, model: memory::copy(model)?, matrices, codebooks })
    })?;
    let loaded = found.ok_or(Error::NotFound)?;
    loaded.check_matrices()?;
    let element = loaded.element()?;
    let codec = loaded.codec()?;
    let dimensions = loaded.record.dimensions.get();
    let bytes = element.bytes(dimensions).ok_or(bad("impossible dimension"))?;
    let stored =
        codec::stored_len(codec, element, dimensions).ok_or(bad("a codec that its element cannot have"))?;
    if bytes as usize > VECTOR_MAX || loaded.record.stride.get() != stored.next_multiple_of(64) {
        return Err(bad("impossible row length"));
    }
    Metric::from_u16(loaded.record.metric.get()).ok_or(bad("unknown metric"))?;
    let (rows, live, frontier) =
        (loaded.record.rows.get(), loaded.record.live.get(), loaded.record.frontier.get());
    if live > rows || rows > frontier || frontier > ROWS_MAX {
        return Err(bad("impossible row counts"));
    }
    Ok(loaded)
}

/// The name of a collection.
pub(crate) fn name<N: Nodes>(nodes: &N, id: CollectionId) -> Result<Vec<u8>> {
    let inode = collection_directory(id);
    let bad = Error::corrupt("collection", inode.0, "has no name");
    let (from, to) = (Key::new(inode, Kind::Link, 0), Key::last(inode, Kind::Link));
    let (_, value) = tree::first(nodes, from, to)?.ok_or(bad)?;
    let link: &crate::format::LinkRecord = parse_exact(&value, "collection", inode.0)?;
    tree::find(nodes, Key::new(COLLECTIONS, Kind::Dirent, link.cookie.get()), |value| {
        memory::copy(directory::decode(COLLECTIONS, value)?.1)
    })?
    .ok_or(bad)
}

impl Loaded {
    /// The element type.
    pub(crate) fn element(&self) -> Result<Element> {
        Element::from_u16(self.record.element.get()).ok_or(Error::corrupt(
            "collection",
            collection_directory(self.id).0,
            "unknown element type",
        ))
    }

    /// The flags.
    pub(crate) fn flags(&self) -> CollectionFlags {
        CollectionFlags::from_bits_retain(self.record.flags.get())
    }

    /// Superseded vectors that are kept behind each.
    pub(crate) fn history(&self) -> usize {
        usize::from(self.record.history.get().min(HISTORY_MAX))
    }

    /// How rows are stored.
    pub(crate) fn codec(&self) -> Result<Codec> {
        Codec::recorded(self.record.codec.get(), self.codebooks.own.into()).ok_or(Error::corrupt(
            "collection",
            collection_directory(self.id).0,
            "unknown codec",
        ))
    }

    /// Bytes of a row that are stored; 0 until the dimension is fixed.
    pub(crate) fn stored_len(&self) -> usize {
        match (self.codec(), self.element()) {
            (Ok(codec), Ok(element)) => {
                codec::stored_len(codec, element, self.record.dimensions.get()).unwrap_or(0) as usize
            }
            _ => 0,
        }
    }

    /// Sets dimension, element type and codec; the stride follows.
    pub(crate) fn shape(&mut self, codec: Codec, element: Element, dimensions: u32) -> Result<()> {
        let bytes = element.bytes(dimensions).filter(|bytes| *bytes as usize <= VECTOR_MAX);
        bytes.ok_or(Error::Invalid(
            "dimension out of range: a vector has at most 65536 bytes, bits come in eights",
        ))?;
        let refused = if matches!(codec, Codec::Pq(_)) { NEEDS_CODEBOOK } else { WRONG_CODEC };
        let stored = codec::stored_len(codec, element, dimensions).ok_or(refused)?;
        self.codebooks.own = codec.quantizer().into();
        self.record.dimensions = U32::new(dimensions);
        self.record.element = U16::new(element as u16);
        self.record.codec = U16::new(codec.number());
        self.record.stride = U32::new(stored.next_multiple_of(64));
        Ok(())
    }

    /// Bytes of a vector as it is set and read; 0 until the dimension is fixed.
    pub(crate) fn vector_len(&self) -> usize {
        match self.element() {
            Ok(element) => element.bytes(self.record.dimensions.get()).unwrap_or(0) as usize,
            Err(_) => 0,
        }
    }

    /// Rows that the columns have room for; it never shrinks while the collection lives.
    pub(crate) fn capacity<N: Nodes>(&self, nodes: &N) -> Result<u64> {
        let size = self.matrix_record(nodes)?.size.get();
        let stride = u64::from(self.record.stride.get());
        Ok(size.saturating_sub(MATRIX_DATA).checked_div(stride).unwrap_or(0))
    }

    /// Fails if the name asks for another element type.
    pub(crate) fn check_element(&self, asked: Option<Element>) -> Result<()> {
        let holds = self.element()?;
        match asked {
            Some(asked) if asked != holds => {
                Err(Error::WrongElement { holds: holds.name(), asked: asked.name() })
            }
            _ => Ok(()),
        }
    }

    /// Fails unless `value` can be a vector here; fixes the dimension with the first one.
    pub(crate) fn accept(&mut self, asked: Option<Element>, value: &[u8]) -> Result<()> {
        self.check_element(asked)?;
        let element = self.element()?;
        if self.record.dimensions.get() == 0 {
            self.shape(self.codec()?, element, dimensions(element, value.len())?)?;
        }
        let expected = self.vector_len();
        if value.len() != expected {
            return Err(Error::WrongLength {
                dimensions: self.record.dimensions.get(),
                element: element.name(),
                expected: expected as u64,
                got: value.len() as u64,
            });
        }
        match first_not_finite(element, value) {
            Some(index) => Err(Error::NotFinite { index }),
            None => Ok(()),
        }
    }

    /// Stores the record.
    pub(crate) fn store<H: BlockDevice + Data>(&self, tx: &mut Transaction<'_, H>) -> Result<()> {
        if self.codec()? != Codec::None {
            tx.volume.needs |= Incompatible::CODECS;
        }
        if self.history() > 0 {
            tx.volume.needs |= Incompatible::HISTORY;
        }
        self.store_at(tx, collection_directory(self.id))
    }

    /// Stores the record at this inode.
    pub(super) fn store_at<H: BlockDevice + Data>(
        &self,
        tx: &mut Transaction<'_, H>,
        inode: Ino,
    ) -> Result<()> {
        let quantized = self.codebooks != CodebookRecord::default();
        let mut flags = self.flags();
        flags.set(CollectionFlags::QUANTIZED, quantized);
        let record = CollectionRecord { flags: U16::new(flags.bits()), ..self.record };
        let mut bytes = memory::copy(record.as_bytes())?;
        if flags.contains(CollectionFlags::RECODED) {
            tx.volume.needs |= Incompatible::RECODE;
            memory::extend(&mut bytes, self.matrices.as_bytes())?;
        }
        if quantized {
            tx.volume.needs |= Incompatible::QUANTIZERS;
            memory::extend(&mut bytes, self.codebooks.as_bytes())?;
        }
        memory::extend(&mut bytes, &self.model)?;
        tree::put(tx, Key::new(inode, Kind::Collection, 0), &bytes)
    }

    /// What it shows to the outside.
    pub(crate) fn show(&self) -> Result<Collection> {
        let record = &self.record;
        Ok(Collection {
            id: self.id,
            dimensions: record.dimensions.get(),
            element: self.element()?,
            codec: self.codec()?,
            stored_len: self.stored_len() as u32,
            stride: record.stride.get(),
            metric: Metric::from_u16(record.metric.get()).unwrap_or(Metric::Cosine),
            model: memory::copy(&self.model)?,
            inherit: !self.flags().contains(CollectionFlags::NO_INHERIT),
            history: self.history() as u32,
            rows: record.rows.get(),
            live: record.live.get(),
            changes: record.changes.get(),
            matrix: self.matrix(),
            recode: self.recoding()?,
        })
    }
}

fn dimensions(element: Element, bytes: usize) -> Result<u32> {
    if bytes == 0 || bytes > VECTOR_MAX {
        return Err(Error::Invalid("a vector has 1 to 65536 bytes"));
    }
    element
        .dimensions(bytes as u32)
        .ok_or(Error::Invalid("the vector's length is no multiple of its element's size"))
}

// The index of the first NaN or infinity, told by its exponent bits.
fn first_not_finite(element: Element, value: &[u8]) -> Option<u32> {
    let found = match element {
        Element::F32 => {
            value.chunks_exact(4).position(|bytes| bytes[3] & 0x7f == 0x7f && bytes[2] & 0x80 != 0)
        }
        Element::F16 => value.chunks_exact(2).position(|bytes| bytes[1] & 0x7c == 0x7c),
        _ => None,
    };
    found.map(|index| index as u32)
}

impl<H: BlockDevice + Data> Volume<H> {
    /// Creates an empty collection.
    pub fn create_collection(
        &mut self,
        name: &[u8],
        new: &NewCollection<'_>,
        now: Time,
    ) -> Result<CollectionId> {
        self.transact(Budget::records(16), now, |tx| create(tx, name, new))
    }

    /// The collection with this name.
    pub fn collection_by_name(&self, name: &[u8]) -> Result<Collection> {
        let id = find(self, name)?.ok_or(Error::NotFound)?;
        load(self, id)?.show()
    }

    /// The collection with this number.
    pub fn collection(&self, id: CollectionId) -> Result<Collection> {
        load(self, id)?.show()
    }

    /// The name of a collection.
    pub fn collection_name(&self, id: CollectionId) -> Result<Vec<u8>> {
        name(self, id)
    }

    /// `mkdir` in the control directory.
    pub(crate) fn create_in_control(
        &mut self,
        parent: Ino,
        name: &[u8],
        new: &NewInode,
        now: Time,
    ) -> Result<Attributes> {
        if let (Some((id, 0)), FileKind::Directory, control::INDEX) =
            (collection_part(parent), new.kind, name)
        {
            return self.create_index(id, now);
        }
        if parent != COLLECTIONS || new.kind != FileKind::Directory {
            return Err(Error::NotPermitted(
                "the control directory holds only collections and their `index` directories, made with mkdir",
            ));
        }
        let settings = NewCollection {
            dimensions: 0,
            element: Element::F32,
            codec: Codec::None,
            metric: Metric::Cosine,
            model: b"",
            uid: new.uid,
            gid: new.gid,
            permissions: new.permissions & !new.umask,
        };
        let id = self.create_collection(name, &settings, now)?;
        self.attributes(collection_directory(id))
    }

    /// `rmdir` in the control directory.
    pub(crate) fn remove_collection(
        &mut self,
        parent: Ino,
        name: &[u8],
        is_open: &dyn Fn(Ino) -> bool,
        now: Time,
    ) -> Result<Removed> {
        if parent != COLLECTIONS {
            return Err(Error::NotPermitted("only collections can be removed from the control directory"));
        }
        let found = directory::entry(self, COLLECTIONS, name)?.ok_or(Error::NotFound)?;
        let id = find(self, name)?.ok_or(Error::NotFound)?;
        let loaded = load(self, id)?;
        if loaded.record.live.get() != 0 {
            return Err(Error::NotEmpty);
        }
        let last = Attributes { links: 0, ..self.attributes(found.inode)? };
        self.load_waiting()?;
        let files = index::records(self, found.inode)?;
        let budget = Budget { touches: files, ..Budget::freeing(16 + 3 * files) };
        let matrices = loaded.own_matrices();
        memory::reserve(&mut self.waiting, files as usize + matrices.len() + 1)?;
        let closed = self.transact(budget, now, |tx| {
            let closed = index::remove(tx, id, is_open)?;
            let mut parent = inode::load(tx, COLLECTIONS)?;
            directory::remove_entry(tx, COLLECTIONS, &found)?;
            directory::count_entry(&mut parent, -1, -1, tx.now);
            inode::store(tx, COLLECTIONS, &parent)?;
            tree::remove(tx, Key::new(found.inode, Kind::Collection, 0))?;
            orphan::add(tx, found.inode, OrphanKind::Collection)?;
            rows::tell_generation(tx, id)?;
            for matrix in matrices.into_iter().flatten() {
                recode::give_up_matrix(tx, matrix)?;
            }
            Ok(closed)
        })?;
        self.forget_staged(id);
        self.forget_recode(id);
        for inode in closed.into_iter().chain(matrices.into_iter().flatten()) {
            memory::push(&mut self.waiting, inode)?;
        }
        memory::push(&mut self.waiting, found.inode)?;
        Ok(Removed { inode: found.inode, links: 0, last })
    }
}

/// The first vector of a collection that does not exist makes it.
pub(crate) fn create_implicit<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    wanted: &VectorName<'_>,
    len: usize,
    caller: &Caller<'_>,
) -> Result<CollectionId> {
    let allowed = match tx.volume.options.implicit {
        Implicit::Off => false,
        Implicit::Owner(uid) => caller.uid == uid || caller.uid == 0,
        Implicit::Any => true,
    };
    if !allowed {
        return Err(Error::AccessDenied(
            "there is no such collection, and you may not make one by setting a vector",
        ));
    }
    let element = wanted.element.unwrap_or(Element::F32);
    let new = NewCollection {
        dimensions: dimensions(element, len)?,
        element,
        codec: Codec::None,
        metric: if element == Element::Bit { Metric::Hamming } else { Metric::Cosine },
        model: b"",
        uid: caller.uid,
        gid: caller.gid,
        permissions: 0o700,
    };
    create(tx, wanted.collection, &new)
}

/// Fails unless the caller may put vectors into the collection.
pub(crate) fn check_access<N: Nodes>(nodes: &N, id: CollectionId, caller: &Caller<'_>) -> Result<()> {
    if acl::permits(nodes, collection_directory(id), caller, 2)? {
        return Ok(());
    }
    Err(Error::AccessDenied("no write permission on the collection"))
}

fn create<H: BlockDevice + Data>(
    tx: &mut Transaction<'_, H>,
    name: &[u8],
    new: &NewCollection<'_>,
) -> Result<CollectionId> {
    check_collection_name(name)?;
    if new.model.len() > COLLECTION_MODEL_MAX {
        return Err(Error::Invalid("the model's name is longer than 255 bytes"));
    }
    let mut parent = directory::check_new(tx, COLLECTIONS, name)?;
    if tx.counters.next_collection == IDS_MAX {
        return Err(Error::NoSpace { pending: 0 });
    }
    let id = CollectionId(tx.counters.next_collection);
    tx.counters.next_collection += 1;
    let inode = collection_directory(id);
    directory::add_entry(tx, COLLECTIONS, name, inode, FileKind::Directory)?;
    directory::count_entry(&mut parent, 1, 1, tx.now);
    inode::store(tx, COLLECTIONS, &parent)?;
    let NewCollection { uid, gid, permissions, .. } = *new;
    let directory_inode = NewInode { kind: FileKind::Directory, permissions, umask: 0, uid, gid, device: 0 };
    inode::store(tx, inode, &InodeRecord::new(&directory_inode, COLLECTIONS, tx.now))?;
    let matrix = NewInode { kind: FileKind::Regular, permissions: 0, ..directory_inode };
    inode::store(tx, collection_matrix(id), &InodeRecord::new(&matrix, inode, tx.now))?;
    let record = CollectionRecord {
        dimensions: U32::ZERO,
        stride: U32::ZERO,
        element: U16::ZERO,
        codec: U16::ZERO,
        metric: U16::new(new.metric as u16),
        model_len: U16::new(new.model.len() as u16),
        rows: U64::ZERO,
        live: U64::ZERO,
        changes: U64::ZERO,
        frontier: U64::ZERO,
        modified: tx.now.into(),
        flags: U16::ZERO,
        history: U16::ZERO,
    };
    let matrices = MatrixRecord::default();
    if matches!(new.codec, Codec::Pq(_)) {
        return Err(NEEDS_CODEBOOK);
    }
    let codebooks = CodebookRecord::default();
    let mut loaded = Loaded { id, record, model: memory::copy(new.model)?, matrices, codebooks };
    loaded.shape(new.codec, new.element, new.dimensions)?;
    loaded.store(tx)?;
    tx.event(Event { inode: COLLECTIONS, offset: 0, len: 0 })?;
    Ok(id)
}
