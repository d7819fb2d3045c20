"""Finds real documents of this machine, manual pages and READMEs, and copies them as plain text."""

import gzip
import re
from collections import Counter
from pathlib import Path

MANUALS = "/usr/share/man"
DOCUMENTATION = "/usr/share/doc"
DOCUMENTS_MIN = 1000
DOCUMENTS_MAX = 2500
FAMILY_MAX = 40
SIZE_MAX = 1 << 20


def candidates():
    """Manual pages in English, then READMEs and the like; in the order of their paths."""
    yield from sorted(Path(MANUALS).glob("man[1-8]/*"))
    for pattern in ("*/README*", "*/NEWS*", "*/FAQ*", "*/*.txt*", "*/*.md"):
        yield from sorted(Path(DOCUMENTATION).glob(pattern))


def name_of(path):
    """Where a document goes: man1/ls.1, README/rsync.md ..."""
    name = path.name.removesuffix(".gz")
    return Path(path.parent.name, name) if path.is_relative_to(MANUALS) else Path("doc", path.parent.name, name)


def collect(count=DOCUMENTS_MAX):
    """At most `count` different documents, as (name, content); no more than a few dozen of one program's family."""
    families, seen, documents = Counter(), set(), {}
    for path in candidates():
        if path.is_symlink() or not path.is_file():
            continue
        family = path.parent.name + "/" + re.split(r"[^A-Za-z0-9]", path.name.lstrip("_."))[0].lower()
        if families[family] >= FAMILY_MAX:
            continue
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if not 400 <= len(content) <= SIZE_MAX or b"\0" in content or content in seen or name_of(path) in documents:
            continue
        seen.add(content)
        families[family] += 1
        documents[name_of(path)] = content
    documents = list(documents.items())
    stride = max(1, -(-len(documents) // count))
    if len(documents) < DOCUMENTS_MIN:
        raise SystemExit(
            f"only {len(documents)} documents in {MANUALS} and {DOCUMENTATION}, {DOCUMENTS_MIN} are needed: "
            "install some packages with manual pages (manpages, manpages-dev, git-man)"
        )
    return documents[::stride] if len(documents) // stride >= DOCUMENTS_MIN else documents
