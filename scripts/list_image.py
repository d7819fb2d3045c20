"""What a VexFS image holds as JSON, in the form of the listings in tests/golden/: a part of read_image.py."""

import hashlib
import itertools
import json

from read_image import ELEMENTS, ORPHAN, ORPHAN_RECORD, TYPES, Record, need, printable
from row_codecs import CODECS

METRICS = ["cosine", "l2", "ip", "hamming"]
COLUMN, COLUMN_RECORD = 15, Record("kind:H width:H name_len:H reserved:H")
COLUMN_TYPES = [None, "bool", "int", "float", "string", "timestamp"]


def columns(image, collection):
    """[name, type, bytes of an entry] of the columns."""
    found = []
    for number, value in image.records(collection.inode, COLUMN):
        column, name = COLUMN_RECORD.parse(value, f"column {number}", tail=True)
        fine = number < 16 and len(name) == column.name_len and 0 < column.kind < 6
        need(fine, f"column {number} of collection {printable(collection.name)}", "is of no known type")
        found.append([printable(name), COLUMN_TYPES[column.kind], column.width])
    return found


def listing(image):
    s, vectors, collections = image.super, {}, []
    digest = lambda data: hashlib.sha256(data).hexdigest()
    shown = lambda data: {"size": len(data), **({"hex": data.hex()} if len(data) <= 64 else {"sha256": digest(data)})}
    for collection in sorted(image.collections()):
        record, inode = collection.record, image.inode(collection.inode)
        collections.append({
            "name": printable(collection.name), "element": ELEMENTS[record.element][0],
            **({"codec": CODECS[record.codec]} if record.codec else {}), "dimensions": record.dimensions,
            "metric": METRICS[record.metric], "model": printable(collection.model), "rows": record.rows,
            "live": record.live, "mode": f"{inode.mode & 0o7777:04o}", "uid": inode.uid, "gid": inode.gid,
            **({"history": record.history} if record.history else {}),
            **({"columns": shapes} if (shapes := columns(image, collection)) else {})})
        texts = image.metadata(collection)
        for row, header, name, data in image.rows(collection):
            entry = {"name": printable(name), "row": row, "sha256": digest(data)}
            entry |= {"metadata": shown(texts[row])} if row in texts else {}
            past = itertools.islice(image.past(collection, header.file_inode, header.n), record.history)
            past = [{"sha256": digest(old), **({"metadata": shown(text)} if text else {})} for _, text, old in past]
            entry |= {"past": past} if past else {}
            vectors.setdefault(header.file_inode, []).append((collection.name, header.n, header, entry))
    files = []
    for path, number, inode in image.walk():
        kind = TYPES[inode.mode >> 12]
        file = {"path": printable(path), "type": kind, "inode": number, "mode": f"{inode.mode & 0o7777:04o}",
                "uid": inode.uid, "gid": inode.gid, "links": inode.links, "size": inode.size,
                "modified": f"{inode.modified}.{inode.modified_ns:09}"}
        if kind in ("char", "block"):
            file["device"] = inode.device
        elif kind == "symlink":
            file["target"] = printable(image.inline(number, inode))
        elif kind == "file":
            file["sha256"] = image.sha256(number, inode)
        for name, data in sorted((name, data) for _, name, data in image.xattrs(number)):
            file.setdefault("xattrs", {})[printable(name)] = shown(data)
        for _, _, header, entry in sorted(vectors.get(number, ()), key=lambda vector: vector[:2]):
            file.setdefault("vectors", []).append({**entry, "stale": header.content_version != inode.version})
        files.append(file)
    orphans = [{"inode": number, "kind": ORPHAN_RECORD.parse(value, f"orphan {number}").kind}
               for number, value in image.records(32, ORPHAN)]
    label = printable(s.label.rstrip(b"\0"))
    volume = {"block_size": s.block_size, "uuid": s.uuid.hex(), "label": label, "inodes": s.inode_count}
    return {"volume": [volume], "collections": collections, "files": files, "orphans": orphans}


def to_json(parts):
    """One line an entry, so that listings can be compared by diff."""
    line = lambda entry: json.dumps(entry, separators=(",", ":"))
    return "{" + ",\n".join(f'"{name}":[\n' + ",\n".join(map(line, part)) + "]" for name, part in parts.items()) + "}"
