"""The command `check` of read_image.py: follows every reference both ways, and recounts everything."""

import json
import struct
import zlib

from read_image import (COLLECTIONS, DIRENT, EXTENT, INODE, MATRICES, ORPHAN, ORPHAN_RECORD, PAST_PIECE, PAST_RECORD,
                        REDO, ROW, ROW_RECORD, XATTR, Record, matrix_of, need, printable, rows_of)

MASK = (1 << 64) - 1
LINK, VECTOR, BLANK, FREE_ROWS = 4, 7, 12, 13
SPACE = Record("generation:Q checksum:I slot:I")
LINK_RECORD, VECTOR_RECORD = Record("parent:Q cookie:Q"), Record("row:Q vector_id:Q version:Q")
FREE_ROWS_RECORD = Record("count:Q")


def siphash(key, data):
    """SipHash-2-4."""
    k0, k1 = struct.unpack("<QQ", key)
    a, b, c, d = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    rotate = lambda x, bits: (x << bits | x >> (64 - bits)) & MASK
    words = [word for word, in struct.iter_unpack("<Q", data + bytes(7 - len(data) % 8) + bytes([len(data) & 255]))]
    for word in [*words, None]:
        d, c = (d, c ^ 255) if word is None else (d ^ word, c)
        for _ in range(4 if word is None else 2):
            a, c = (a + b) & MASK, (c + d) & MASK
            b, d = rotate(b, 13) ^ a, rotate(d, 16) ^ c
            a, c = (rotate(a, 32) + d) & MASK, (c + b) & MASK
            d, b, c = rotate(d, 21) ^ a, rotate(b, 17) ^ c, rotate(c, 32)
        a ^= word or 0
    return a ^ b ^ c ^ d


def free_bits(image):
    """The map of free space: one number for each bit, 1 = in use."""
    s, entries, size = image.super, [SPACE.parse(image.super.space, "superblock")], image.block_size
    for level in reversed(range(len(image.map_counts))):
        below = []
        for index, entry in enumerate(entries):
            place = s.space_start + 2 * (sum(image.map_counts[:level]) + index) + entry.slot
            data = image.read(place * size, size) if entry.generation else bytes(size)
            fine = not entry.generation or entry.slot < 2 and zlib.crc32(data) == entry.checksum
            need(fine, f"free-space block {place}", "has a wrong checksum")
            below += [SPACE.fields(*entry) for entry in SPACE.struct.iter_unpack(data)] if level else [data]
        entries = below[:image.map_counts[level - 1]] if level else below
    return [byte >> bit & 1 for data in entries for byte in data for bit in range(8)]


def check_past(image, get, vectors):
    """What the lists behind vectors (file, collection, n: id) name is there, and nothing else."""
    for collection in image.collections():
        number, seen = (collection.inode - COLLECTIONS) // 64, set()
        for (file, holder, n), vector_id in vectors.items():
            ids = [old.vector_id for old, _, _ in image.past(collection, file, n)] if holder == number else []
            fine = all(newer > older for newer, older in zip([vector_id, *ids], ids))
            need(fine, f"inode {file}", "has superseded vectors out of order")
            seen.update(ids)
        for at, value in get(collection.inode, PAST_PIECE).items():
            if at & 255 == 0 and at >> 8 not in seen:
                old = PAST_RECORD.parse(value, f"superseded vector {at >> 8}", tail=True)[0]
                need(image.inode(old.file_inode).links == 0, f"superseded vector {at >> 8}", "is no file's")


def check_matrices(image, get, inodes, waiting):
    """Each matrix is a collection's, on its way to be one, or waits to be freed; one on its way has what was passed."""
    named = set()
    for collection in image.collections():
        where, told = f"collection {printable(collection.name)}", collection.matrices
        matrix, target = (matrix_of(collection.inode, number) for number in (told.number, told.target))
        need(matrix in inodes and (not told.target or target in inodes), where, "lacks a matrix")
        named |= {matrix, target} if told.target else {matrix}
        own, left = get(rows_of(collection), ROW), collection.inode + 1 in waiting
        need(not told.number or left or not get(collection.inode, ROW), where, "has rows of a matrix that is gone")
        if not told.target:
            continue
        again, passed = get(target, REDO), {row for row in own if row < told.next}
        need(set(get(target, ROW)) <= passed <= set(get(target, ROW)) | set(again), where, "lost a row on its way")
        for row, value in get(target, ROW).items():
            new, old = ROW_RECORD.parse(value, where), ROW_RECORD.parse(own[row], where)
            same = (new.compression, new.vector_id, new.n) == (told.codec, old.vector_id, old.n)
            need(row in again or same, f"row {row} of {where}", "is another one in the matrix that is being made")
    for number in inodes:
        matrix = number >= MATRICES or number > COLLECTIONS and number % 64 == 1
        need(not matrix or number in named or waiting & {number, number - 1}, f"inode {number}", "is a matrix that nobody has")


def check(image):
    """Follows every reference both ways and recounts everything; the first contradiction raises ValueError."""
    need(not image.log_records, "journal", "is to be replayed: mount the volume and unmount it, then check it")
    s, blocks, records = image.super, [], {}
    for key, value in image.scan((0, 0, 0), (1 << 64, 0, 0), blocks.append):
        records.setdefault(key[:2], {})[key[2]] = value
    need(len(blocks) == s.tree_blocks, "superblock", f"counts {s.tree_blocks} tree nodes, there are {len(blocks)}")
    for number, kind in records:
        for _, start, count, _ in image.extents(number) if kind == EXTENT else ():
            blocks += range(start, start + count)
    bits = [block + s.data_start for block, bit in enumerate(free_bits(image)) if bit]
    need(sorted(blocks) == bits, "free-space map", "differs from what nodes and extents take")
    need(s.free_blocks == s.data_blocks - len(bits), "superblock", "counts free blocks wrongly")
    inodes = [number for number, kind in records if kind == INODE]
    counted = sum(number < COLLECTIONS and not 2 <= number < 32 for number in inodes)
    need(s.inode_count == counted, "superblock", f"counts {s.inode_count} inodes, there are {counted}")
    get = lambda number, kind: records.get((number, kind), {})
    names, links = [], []
    orphans = ((number, ORPHAN_RECORD.parse(value, f"orphan {number}")) for number, value in get(32, ORPHAN).items())
    waiting = {number for number, orphan in orphans if orphan.kind != 2}
    for number in inodes:
        inode, where = image.inode(number), f"inode {number}"
        need(inode.blocks == sum(extent[2] for extent in image.extents(number)), where, "counts blocks wrongly")
        if number in waiting:
            continue
        own = [LINK_RECORD.parse(value, where) for value in get(number, LINK).values()]
        for kind, values in ((DIRENT, [(at, value[12:]) for at, value in get(number, DIRENT).items()]),
                             (LINK, get(number, LINK).items()), (XATTR, [a[:2] for a in image.xattrs(number)])):
            fine = all(at >> 16 == siphash(s.hash_seed, struct.pack("<Q", number) + name) >> 17 for at, name in values)
            need(fine, where, f"has a record of kind {kind} in a place that its name does not hash to")
        inside = [(number, at, entry.inode, entry.kind) for at, _, entry in image.entries(number)]
        if inode.mode >> 12 == 4 and number < COLLECTIONS:
            told = (len(inside), 2 + sum(entry[3] == 4 for entry in inside))
            need((inode.size, inode.links) == told, where, "counts entries or subdirectories wrongly")
        elif number < COLLECTIONS:
            need(inode.links == len(own), where, f"counts {inode.links} names, there are {len(own)}")
        names += inside
        links += [(link.parent, link.cookie, number, inode.mode >> 12) for link in own]
        need(inode.attributes == len(get(number, XATTR)) + len(get(number, VECTOR)), where, "counts attributes wrongly")
    need(sorted(names) == sorted(links), "directories", "and the ways back to them differ")
    rows, vectors = [], []
    for collection in image.collections():
        record, states, where = collection.record, [], f"collection {printable(collection.name)}"
        for row, header, _, _ in image.rows(collection):
            place = (header.file_inode, (collection.inode - COLLECTIONS) // 64, header.n)
            rows.append((*place, row, header.vector_id, header.content_version))
            states.append((row, row + 1))
        for row, text in image.metadata(collection).items():
            fine = (row, row + 1) in states and isinstance(json.loads(text), dict)
            need(fine, f"row {row} of {where}", "has metadata, but no vector; or it is no JSON object")
        last = max(states, default=(0, 0))[1]
        need((record.live, record.rows) == (len(states), last), where, "counts rows wrongly")
        states += [(row, row + 1) for row in get(collection.inode, BLANK)]
        for row, value in get(collection.inode, FREE_ROWS).items():
            states.append((row, row + FREE_ROWS_RECORD.parse(value, where).count))
        edges = [0, *(end for _, end in sorted(states))]
        fine = [start for start, _ in sorted(states)] + [record.frontier] == edges
        need(fine, where, "has rows in no state or in two")
    check_matrices(image, get, set(inodes), waiting)
    check_past(image, get, {row[:3]: row[4] for row in rows})
    for (number, kind), values in records.items():
        for at, value in values.items() if kind == VECTOR else ():
            record = VECTOR_RECORD.parse(value, f"vector of inode {number}")
            vectors.append((number, at >> 32, at & 0xFFFFFFFF, *record))
    need(sorted(rows) == sorted(vectors), "rows", "and the vectors of files differ")
    for number, kind in records:
        need((number, INODE) in records or number == 32, f"inode {number}", "has records but no inode record")
    if image.damaged_slots:
        print(f"note: superblock slots {image.damaged_slots} are damaged; the other copies are whole")
    print(f"clean: generation {s.generation}, {len(inodes)} inodes, {len(rows)} vectors, {s.tree_blocks} nodes")


