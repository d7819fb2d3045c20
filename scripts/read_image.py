#!/usr/bin/env python3
"""Reads a VexFS image without VexFS: written from docs/FORMAT.md alone, with Python's standard library alone.

    read_image.py IMAGE ls            modes, owners, sizes, paths, attributes, vectors
    read_image.py IMAGE vectors       one line a live row
    read_image.py IMAGE json          everything as canonical JSON, as the listings in tests/golden/
    read_image.py IMAGE extract DIR   files to DIR/files, vectors to DIR/vectors/NAME.npy with NAME.jsonl
    read_image.py IMAGE check         verifies what FORMAT.md promises; exit status 1 if something is wrong

The image is opened read-only; nodes are checked against their parents, vectors against their headers. Bytes of names
other than printable ASCII, and `%`, `"` and `\\`, are shown as %XX, attributes longer than 64 bytes as SHA-256.
"""

import functools
import hashlib
import itertools
import json
import os
import struct
import sys
import zlib
from collections import namedtuple

import row_codecs

SPACING, SUPERBLOCK_SIZE, LEVELS, MATRIX_DATA, COLLECTIONS, MASK = 16384, 512, 12, 4096, 1 << 48, (1 << 64) - 1
INODE, COLLECTION, INLINE, XATTR, XATTR_VALUE, METADATA, DIRENT, EXTENT, ROW, ORPHAN = 1, 2, 3, 5, 6, 8, 9, 10, 11, 14
PAST_VECTORS, PAST_PIECE, REDO, RECODED, MATRICES = 16, 17, 18, 2, 1 << 53
CODEBOOK, QUANTIZED, PIECE = 19, 4, 896
TYPES = {1: "fifo", 2: "char", 4: "directory", 6: "block", 8: "file", 10: "symlink", 12: "socket"}
ELEMENTS = [("f32", "<f4", 4), ("f16", "<f2", 2), ("i8", "|i1", 1), ("i16", "<i2", 2), ("bit", "|u1", 1 / 8)]


def need(condition, where, why):
    if not condition:
        raise ValueError(f"{where} {why}")


class Record:
    """A byte table: fields as `name:code` with the codes of the module struct."""

    def __init__(self, fields):
        names, codes = zip(*(field.split(":") for field in fields.split()))
        self.struct, self.fields = struct.Struct("<" + "".join(codes)), namedtuple("Fields", names)

    def parse(self, value, where, tail=False):
        """The fields; with `tail` also the bytes that follow, else there must be none."""
        size = self.struct.size
        need(len(value) == size or tail and len(value) > size, where, "has a record of a wrong length")
        fields = self.fields(*self.struct.unpack_from(value))
        return (fields, value[size:]) if tail else fields


SUPERBLOCK = Record(
    "magic:8s checksum:I version:I generation:Q uuid:16s label:32s compatible:Q read_only_compatible:Q incompatible:Q "
    "block_size:I slot:I block_count:Q space_start:Q journal_start:Q journal_blocks:Q data_start:Q data_blocks:Q "
    "root:24s root_level:I reserved:I space:16s free_blocks:Q tree_blocks:Q inode_count:Q next_inode:Q next_vector:Q "
    "next_collection:I reserved2:I hash_seed:16s created:12s written:12s reserved3:224s")
POINTER = Record("block:Q generation:Q checksum:I reserved:I")
NODE = Record("magic:4s level:B reserved:B count:H generation:Q block:Q heap:H reserved2:6s")
SLOT = struct.Struct("<QQBBHHH")
INODE_RECORD = Record(
    "mode:I uid:I gid:I links:I size:Q blocks:Q version:Q bound_version:Q stale_generation:Q parent:Q accessed:q "
    "accessed_ns:I modified:q modified_ns:I changed:q changed_ns:I created:q created_ns:I flags:I device:I "
    "attributes:I reserved:I")
DIRENT_RECORD = Record("inode:Q kind:B name_len:B reserved:H")
XATTR_RECORD = Record("value_len:I value_number:I name_len:H reserved:H")
ORPHAN_RECORD = Record("kind:I reserved:I")
EXTENT_RECORD = Record("start:Q count:I flags:I birth:Q")
ROW_FIELDS = (
    "magic:I version:I vector_id:Q file_inode:Q data_type:H compression:H dimensions:I original_size:I "
    "compressed_size:I created:Q modified:Q checksum:I flags:I n:I scale:I content_version:Q")
ROW_RECORD, PAST_RECORD = Record(ROW_FIELDS), Record(ROW_FIELDS + " metadata_len:I reserved:I")
COLLECTION_RECORD = Record("dimensions:I stride:I element:H codec:H metric:H model_len:H rows:Q live:Q changes:Q "
                           "frontier:Q modified:12s flags:H history:H")
MATRIX_RECORD = Record("number:I last:I target:I codec:H reserved:H next:Q")
CODEBOOK_RECORD = Record("parts:H length:H bits:H reserved:H target:8s")
LOG_HEADER = Record(
    "magic:4s checksum:I length:I entries:I uuid:16s base:Q sequence:Q next_inode:Q next_vector:Q inode_count:Q "
    "next_collection:I written:12s reserved:8s")
LOG_ENTRY = struct.Struct("<BBHIQQ")
PUT, TAKE, FREE, BYTES = 1, 3, 4, 5
Collection = namedtuple("Collection", "name inode record model length stored matrices quantizer")


def matrix_of(directory, number):
    """The inode of a collection's matrix of this number."""
    return MATRICES + ((directory - COLLECTIONS) // 64 << 20) + 2 * number if number else directory + 1


def rows_of(collection):
    """The inode at which the records of a collection's rows lie."""
    number = collection.matrices.number
    return matrix_of(collection.inode, number) if number else collection.inode


def printable(name):
    return "".join(chr(byte) if 32 <= byte < 127 and byte not in b'%"\\' else f"%{byte:02X}" for byte in name)


class Image:
    def __init__(self, path):
        self.file = open(path, "rb")
        self.length = self.file.seek(0, os.SEEK_END)
        self.damaged_slots, self.changed, self.patches, self.log_records = [], {}, [], 0
        self.super = s = self.find_superblock()
        need(s.version == 1, "superblock", f"has format version {s.version}; this reader knows version 1")
        need(s.incompatible < 64, "superblock", f"asks for unknown features {s.incompatible:#x}")
        self.block_size = size = s.block_size
        need(size in (4096, 8192, 16384), "superblock", f"has a block size of {size}")
        total, front, back = s.block_count * size, 65536 // size, 32768 // size
        need(1 << 20 <= total < 1 << 63 and total % SPACING == 0, "superblock", "has an impossible size")
        need(total <= self.length, "image", f"has {self.length} bytes, its volume {total}: it was cut off")
        self.map_counts = [max(1, -(-(s.block_count - back - front) // (8 * size)))]
        while len(self.map_counts) < 2 or self.map_counts[-1] > 1:
            self.map_counts.append(-(-self.map_counts[-1] // (size // 16)))
        journal = front + 2 * sum(self.map_counts)
        data = journal + s.journal_blocks
        places = (front, journal, data, s.block_count - back - data)
        fine = places == (s.space_start, s.journal_start, s.data_start, s.data_blocks) and s.data_blocks >= 16
        need(fine and s.root_level < LEVELS, "superblock", "has places that do not fit its size")
        if s.incompatible & 1:
            self.replay(s.journal_start * size, s.journal_blocks * size)

    def read(self, offset, length):
        self.file.seek(offset)
        data = self.file.read(length)
        need(len(data) == length, "image", f"ends before byte {offset + length}")
        for at, patch in self.patches:
            low, high = max(at, offset), min(at + len(patch), offset + length)
            if low < high:
                data = data[:low - offset] + patch[low - at:high - at] + data[high - offset:]
        return data

    def replay(self, start, size):
        """Takes what the journal's records tell: keys of the tree, counters, and the bytes of the last of them."""
        at, patches = 0, []
        while at + 512 <= size:
            head = LOG_HEADER.parse(self.read(start + at, 96), "journal")
            own = (head.magic, head.uuid, head.base, head.sequence)
            wanted = (b"VLOG", self.super.uuid, self.super.generation, self.log_records)
            if own != wanted or not 96 <= head.length <= min(1 << 18, size - at):
                break
            data = self.read(start + at, head.length)
            if zlib.crc32(data[:4] + bytes(4) + data[8:]) != head.checksum:
                break
            place, patches = 96, []
            while place < len(data):
                kind, key_kind, _, length, first, second = LOG_ENTRY.unpack_from(data, place)
                value = data[place + 24:place + 24 + length]
                place += 24 + length
                if kind < TAKE:
                    self.changed[first, key_kind, second] = value if kind == PUT else None
                elif kind == BYTES:
                    patches.append((first, value))
            at += -(-head.length // 512) * 512
            self.log_records += 1
            self.super = self.super._replace(inode_count=head.inode_count)
        self.patches = patches

    def find_superblock(self):
        best, seen = None, False
        for slot in range(4):
            end = best.block_count * best.block_size if best else self.length
            offset = slot * SPACING if slot < 2 else min(end, self.length) // SPACING * SPACING - (4 - slot) * SPACING
            if offset < 0 or offset + SUPERBLOCK_SIZE > self.length:
                continue
            data = self.read(offset, SUPERBLOCK_SIZE)
            found = SUPERBLOCK.parse(data, "superblock")
            ours, checksum = found.magic == b"VEXFS-FS", zlib.crc32(data[:8] + bytes(4) + data[12:])
            seen = seen or ours
            if not ours or found.slot != slot or found.checksum != checksum:
                self.damaged_slots.append(slot)
            elif best is None or found.generation > best.generation:
                best = found
        need(best, "image", "has damaged superblocks only" if seen else "is not a VexFS volume")
        return best

    def covered(self, start, count):
        return self.super.data_start <= start and start + count <= self.super.data_start + self.super.data_blocks

    @functools.lru_cache(4096)
    def node(self, pointer, level, low, high):
        """The slots of a node as (key, value), checked against all that its parent says."""
        block, where = pointer.block, f"node {pointer.block}"
        need(self.covered(block, 1), where, "lies outside the data area")
        need(pointer.generation <= self.super.generation, where, "is newer than the superblock")
        data = self.read(block * self.block_size, self.block_size)
        need(zlib.crc32(data) == pointer.checksum, where, "has a wrong checksum")
        header = NODE.parse(data[:32], where)
        end = 32 + 24 * header.count
        own = (header.magic, header.level, header.generation, header.block)
        need(own == (b"VNOD", level, pointer.generation, block), where, "was written for another place or time")
        fine = end <= header.heap <= len(data) and not any(data[end:header.heap]) and (header.count or not level)
        need(fine, where, "has no child, or values over its slots, or bytes between them")
        slots, spans = [], []
        for inode, offset, kind, _, value, length, _ in SLOT.iter_unpack(data[32:end]):
            need(length <= (self.block_size - 32) // 4 - 24, where, "has a value that is too long")
            slots.append(((inode, kind, offset), data[value:value + length]))
            spans.append((value, value + length))
        ends = [header.heap, *(span[1] for span in sorted(spans))]
        need([span[0] for span in sorted(spans)] + [len(data)] == ends, where, "has values that overlap or leave gaps")
        need(all(one[0] < other[0] for one, other in zip(slots, slots[1:])), where, "has keys out of order")
        fine = not slots or slots[-1][0] < high and (slots[0][0] == low or not level and low < slots[0][0])
        need(fine, where, "has keys outside its bounds")
        return slots

    def scan(self, low, high, visit=lambda block: None):
        """Records with low <= key < high, in order; `visit` is told the block of each node on the way."""
        def below(pointer, level, lower, upper):
            visit(pointer.block)
            slots = self.node(pointer, level, lower, upper)
            ends = [key for key, _ in slots[1:]] + [upper]
            for (key, value), end in zip(slots, ends):
                if not level and low <= key < high:
                    yield key, value
                elif level and key < high and low < end:
                    yield from below(POINTER.parse(value, f"node {pointer.block}"), level - 1, key, end)

        root = POINTER.parse(self.super.root, "superblock")
        records = below(root, self.super.root_level, (0, 0, 0), (1 << 64, 0, 0))
        changed = {key: value for key, value in self.changed.items() if low <= key < high}
        if changed:
            changed = {**dict(records), **changed}
            records = ((key, changed[key]) for key in sorted(changed) if changed[key] is not None)
        return records

    def records(self, inode, kind, first=0, last=MASK):
        return ((key[2], value) for key, value in self.scan((inode, kind, first), (inode, kind, last + 1)))

    def record(self, inode, kind, offset=0):
        found = next((value for _, value in self.records(inode, kind, offset, offset)), None)
        need(found is not None, f"inode {inode}", f"lacks its record of kind {kind} at {offset}")
        return found

    def inode(self, number):
        inode = INODE_RECORD.parse(self.record(number, INODE), f"inode {number}")
        need(inode.mode >> 12 in TYPES, f"inode {number}", "has an unknown type")
        return inode

    def entries(self, directory):
        for cookie, value in self.records(directory, DIRENT):
            where = f"entry {cookie} of directory {directory}"
            entry, name = DIRENT_RECORD.parse(value, where, tail=True)
            fine = len(name) == entry.name_len and b"/" not in name and b"\0" not in name and name not in (b".", b"..")
            need(fine, where, "has an impossible name")
            yield cookie, name, entry

    def walk(self):
        """(path, inode number, inode) of all that has a name, sorted by path."""
        found, seen, todo = [], set(), [(b"", 1)]
        while todo:
            path, number = todo.pop()
            inode = self.inode(number)
            found.append((path or b"/", number, inode))
            if inode.mode >> 12 == 4:
                need(number not in seen, f"directory {number}", "is reached twice")
                seen.add(number)
                todo += [(path + b"/" + name, entry.inode) for _, name, entry in self.entries(number)]
        return sorted(found, key=lambda item: item[0])

    @functools.lru_cache(16)
    def extents(self, number):
        extents, end = [], 0
        for at, value in self.records(number, EXTENT):
            extent = EXTENT_RECORD.parse(value, f"extent of inode {number}")
            fine = at >= end and 0 < extent.count <= 1 << 24 and self.covered(extent.start, extent.count)
            need(fine and extent.flags < 2, f"inode {number}", f"has an impossible extent at its block {at}")
            end = at + extent.count
            extents.append((at, extent.start, extent.count, extent.flags == 1))
        return extents

    def pieces(self, number, begin, end):
        """What is stored of bytes begin to end, as (offset, bytes) in order; what lies between is zeros."""
        size = self.block_size
        for at, start, count, unwritten in self.extents(number):
            for offset in range(max(begin, at * size), 0 if unwritten else min(end, (at + count) * size), 1 << 20):
                length = min(1 << 20, end - offset, (at + count) * size - offset)
                yield offset, self.read((start - at) * size + offset, length)

    def content(self, number, inode):
        return [(0, self.inline(number, inode))] if inode.flags & 1 else self.pieces(number, 0, inode.size)

    def inline(self, number, inode):
        """The inline bytes: a symbolic link's target."""
        parts = dict(self.records(number, INLINE))
        data = b"".join(parts.values())
        need(len(data) == inode.size and [*parts] == [*range(0, len(data), 768)], f"inode {number}", "lacks bytes")
        return data

    def sha256(self, number, inode):
        digest, done = hashlib.sha256(), 0
        for offset, data in itertools.chain(self.content(number, inode), [(inode.size, b"")]):
            for at in range(done, offset, 1 << 20):
                digest.update(bytes(min(1 << 20, offset - at)))
            digest.update(data)
            done = offset + len(data)
        return digest.hexdigest()

    def xattrs(self, number):
        for place, value in self.records(number, XATTR):
            where = f"attribute {place} of inode {number}"
            record, rest = XATTR_RECORD.parse(value, where, tail=True)
            name, data = rest[:record.name_len], rest[record.name_len:]
            if record.value_number:
                first = record.value_number << 16
                parts = list(self.records(number, XATTR_VALUE, first, first | 0xFFFF))
                need(not data and [at - first for at, _ in parts] == [*range(len(parts))], where, "lacks a part")
                data = b"".join(part for _, part in parts)
            need(name and len(name) == record.name_len and len(data) == record.value_len, where, "has a wrong length")
            yield place, name, data

    def collections(self):
        for _, name, entry in self.entries(3):
            where = f"collection {printable(name)}"
            need(entry.inode > COLLECTIONS and entry.inode % 64 == 0, where, "has an impossible inode")
            record, model = COLLECTION_RECORD.parse(self.record(entry.inode, COLLECTION) + b"\0", where, tail=True)
            matrices = MATRIX_RECORD.parse(bytes(24), where)
            if record.flags & RECODED:
                matrices, model = MATRIX_RECORD.parse(model, where, tail=True)
            quantizer = (0, 0, 0)
            if record.flags & QUANTIZED:
                codebook, model = CODEBOOK_RECORD.parse(model, where, tail=True)
                quantizer = (codebook.parts, codebook.length, codebook.bits)
            need(max(matrices.number, matrices.target) <= matrices.last < 1 << 19, where, "has impossible matrices")
            fine = len(model) == record.model_len + 1 and record.element < 5 and record.metric < 4 and record.codec < 6
            if record.codec == 5:
                fine = fine and matrices.number > 0 and quantizer[0] * quantizer[1] == record.dimensions > 0
                fine = fine and quantizer[2] in (4, 8)
            fine = fine and row_codecs.takes(row_codecs.CODECS[record.codec], ELEMENTS[record.element][0])
            length = int(record.dimensions * ELEMENTS[record.element][2]) if fine else 0
            codec = row_codecs.CODECS[record.codec] if fine else "none"
            stored = row_codecs.stored_length(codec, length, record.dimensions, quantizer)
            fine = fine and record.stride == (stored + 63) // 64 * 64 and length <= 65536
            need(fine, where, "has impossible settings")
            need(record.live <= record.rows <= record.frontier, where, "has impossible counts")
            yield Collection(name, entry.inode, record, model[:-1], length, stored, matrices, quantizer)

    def codebook(self, collection):
        """The bytes of the codebook that a collection is stored by, checked; none without one."""
        subvectors, length, bits = collection.quantizer
        pieces = list(self.records(rows_of(collection), CODEBOOK)) if collection.record.codec == 5 else []
        whole = b"".join(piece for _, piece in pieces)
        fine = [at for at, _ in pieces] == [*range(len(pieces))] and all(len(p) == PIECE for _, p in pieces[:-1])
        wanted = (subvectors * length << bits) * 4 if collection.record.codec == 5 else 0
        need(fine and len(whole) == wanted, f"collection {printable(collection.name)}", "lacks a piece of its codebook")
        return whole

    def rows(self, collection):
        """(row, header, attribute's name, bytes) of the live rows, checked."""
        element, first = ELEMENTS[collection.record.element][0], b"user.vector." + collection.name
        first += b"" if element == "f32" else b":" + element.encode()
        codebook = self.codebook(collection)
        for row, value in self.records(rows_of(collection), ROW):
            where = f"row {row} of collection {printable(collection.name)}"
            header = ROW_RECORD.parse(value, where)
            need((header.magic, header.version) == (0x56454354, 1), where, "has no vector header")
            record = collection.record
            told = (header.data_type, header.compression, header.dimensions, header.compressed_size)
            need(told == (record.element, record.codec, record.dimensions, collection.stored), where, "does not fit")
            data, begin = bytearray(record.stride), MATRIX_DATA + row * record.stride
            matrix = matrix_of(collection.inode, collection.matrices.number)
            for at, piece in self.pieces(matrix, begin, begin + record.stride):
                data[at - begin:at - begin + len(piece)] = piece
            stored, codec = bytes(data[:collection.stored]), row_codecs.CODECS[record.codec]
            need(zlib.crc32(stored) == header.checksum, where, "has a wrong checksum")
            need(not any(data[collection.stored:]), where, "has padding that is not zero")
            if codec == "pq":
                value = row_codecs.by_codebook(element, stored, collection.quantizer, codebook)
            else:
                value = row_codecs.decode(codec, element, record.dimensions, stored, header.scale)
            yield row, header, first + (b".%d" % header.n if header.n else b""), value


    def metadata(self, collection):
        """The metadata of rows that have some, by row, checked."""
        texts, length = {}, (self.block_size - 32) // 4 - 24
        for at, piece in self.records(collection.inode, METADATA):
            text = texts.get(at >> 8, b"")
            fine = piece and len(text) == (at & 255) * length and len(text + piece) <= 4096
            need(fine, f"row {at >> 8} of collection {printable(collection.name)}", "lacks a piece of its metadata")
            texts[at >> 8] = text + piece
        return texts

    def past(self, collection, file, n):
        """(record, metadata, bytes) of the vectors that a file's vector superseded, the newest first, checked."""
        place = (collection.inode - COLLECTIONS) // 64 << 32 | n
        listed = b"".join(value for _, value in self.records(file, PAST_VECTORS, place, place))
        for vector_id, in struct.iter_unpack("<Q", listed):
            where = f"superseded vector {vector_id} of collection {printable(collection.name)}"
            parts = list(self.records(collection.inode, PAST_PIECE, vector_id << 8, vector_id << 8 | 255))
            need(parts and [at & 255 for at, _ in parts] == [*range(len(parts))], where, "lacks a part")
            record, rest = PAST_RECORD.parse(b"".join(part for _, part in parts), where, tail=True)
            told = (record.magic, record.version, record.vector_id, record.file_inode, record.n)
            fine = told == (0x56454354, 1, vector_id, file, n)
            need(fine and len(rest) == record.metadata_len + record.compressed_size, where, "is another's, or too short")
            text, stored = rest[:record.metadata_len], rest[record.metadata_len:]
            need(zlib.crc32(stored) == record.checksum, where, "has a wrong checksum")
            codec, element = row_codecs.CODECS[record.compression], ELEMENTS[record.data_type][0]
            yield record, text, row_codecs.decode(codec, element, record.dimensions, stored, record.scale)


def extract(image, target):
    """Puts everything under `target`, which must not exist; what the caller may not make is reported and left out."""
    os.makedirs(os.path.join(target, "vectors"))
    paths, places = {}, {}
    for path, number, inode in image.walk():
        place, kind = os.path.join(os.fsencode(target), b"files" + path.rstrip(b"/")), inode.mode >> 12
        need(not os.path.lexists(place), f"name {printable(path)}", "occurs twice")
        paths.setdefault(number, printable(path))
        try:
            if number in places:
                os.link(places[number], place, follow_symlinks=False)
                continue
            if TYPES[kind] == "directory":
                os.mkdir(place)
            elif TYPES[kind] == "symlink":
                os.symlink(image.inline(number, inode), place)
            elif TYPES[kind] == "file":
                with open(place, "xb") as file:
                    for offset, data in image.content(number, inode):
                        file.seek(offset)
                        file.write(data)
                    file.truncate(inode.size)
            else:
                minor = inode.device & 0xFF | inode.device >> 12 & 0xFFF00
                os.mknod(place, inode.mode, os.makedev(inode.device >> 8 & 0xFFF, minor))
            places[number] = place
            for _, name, data in image.xattrs(number):
                os.setxattr(place, name, data, follow_symlinks=False)
        except OSError as error:
            print(f"{printable(path)}: {error.strerror}", file=sys.stderr)
    for number, place in reversed(places.items()):
        inode = image.inode(number)
        if TYPES[inode.mode >> 12] in ("directory", "file"):
            os.chmod(place, inode.mode & 0o777)
        times = (inode.accessed * 10**9 + inode.accessed_ns, inode.modified * 10**9 + inode.modified_ns)
        os.utime(place, ns=times, follow_symlinks=False)
    for collection in image.collections():
        stem, (_, dtype, width) = f"{target}/vectors/{printable(collection.name)}", ELEMENTS[collection.record.element]
        with open(stem + ".npy", "xb") as matrix, open(stem + ".jsonl", "x", encoding="ascii") as lines:
            shape = (collection.record.live, collection.length // max(1, int(width)))
            header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
            matrix.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
            texts = image.metadata(collection)
            for row, vector, _, data in image.rows(collection):
                matrix.write(data)
                entry = {"row": row, "path": paths.get(vector.file_inode), "n": vector.n}
                print(json.dumps({**entry, **({"metadata": json.loads(texts[row])} if row in texts else {})}), file=lines)


def main(path="", command="", target=""):
    image = Image(path) if command else None
    if command in ("json", "ls"):
        import list_image
    if command == "json":
        print(list_image.to_json(list_image.listing(image)))
    elif command == "ls":
        for file in list_image.listing(image)["files"]:
            names = [*file.get("xattrs", ()), *(vector["name"] for vector in file.get("vectors", ()))]
            print(f'{file["type"]:9} {file["mode"]} {file["uid"]:5} {file["size"]:10} {file["path"]}', *names)
    elif command == "vectors":
        for collection in image.collections():
            for row, header, name, data in image.rows(collection):
                print(printable(name), row, header.file_inode, hashlib.sha256(data).hexdigest())
    elif command == "extract" and target:
        extract(image, target)
    elif command == "check":
        import check_image
        check_image.check(image)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:4])
    except (ValueError, OSError) as error:
        sys.exit(f"read_image.py: {sys.argv[1]}: {error}")
