"""Conditions in questions of nearness: what `vexfs search --where` finds, never fewer than there are, as who asks."""

import json
import os

import numpy as np
import pytest
from test_near import near
from test_query_file import USER, in_a_child, shared, shown_to_all  # noqa: F401
from test_search import FILES, expected, fill, same, search
from volume import BIN, run

WORDS = ("red", "green", "blue", "a long word of many letters", "caf\u00e9")


def about(index):
    """The metadata of a file; some have none of it."""
    if index % 11 == 0:
        return None
    metadata = {"confidence": (index % 100) / 100, "word": WORDS[index % 5], "page": index, "good": index % 3 == 0, "inner": {"title": f"T{index % 7}"}}
    if index % 4:
        metadata["made"] = f"2026-0{1 + index % 9}-01T00:00:00Z"
    return metadata


def furnish(volume, columns=True):
    """Files with vectors, metadata, columns, attributes and sizes; gives name -> vectors and name -> metadata."""
    named = fill(volume)
    if columns:
        for field, kind in (("confidence", "float"), ("page", "int"), ("good", "bool"), ("made", "timestamp"), ("word", "string")):
            run(BIN / "vexfs", "column", "add", "c", field, kind, "--mount", volume.path)
    metadata = {}
    for index, name in enumerate(named):
        metadata[name] = about(index)
        if metadata[name] is not None:
            os.setxattr(volume.path / name, "user.vector.c.meta", json.dumps(metadata[name]).encode())
        with open(volume.path / name, "ab") as file:
            file.write(b"x" * index)
        if index % 3 == 0:
            os.setxattr(volume.path / name, "user.project", f"p{index % 2}".encode())
    return named, metadata


def has(metadata, test):
    return metadata is not None and test(metadata)


CONDITIONS = {
    "confidence >= 0.5": lambda name, index, m: has(m, lambda m: m["confidence"] >= 0.5),
    "confidence = 0.01": lambda name, index, m: has(m, lambda m: m["confidence"] == 0.01),
    "page in (3, 77, 299)": lambda name, index, m: has(m, lambda m: m["page"] in (3, 77, 299)),
    "page between 10 and 19 and not good": lambda name, index, m: has(m, lambda m: 10 <= m["page"] <= 19 and not m["good"]),
    "word = 'caf\u00e9' or word like 'gr%'": lambda name, index, m: has(m, lambda m: m["word"] in ("caf\u00e9", "green")),
    "inner.title = 'T3'": lambda name, index, m: has(m, lambda m: m["inner"]["title"] == "T3"),
    "made > '2026-06-15'": lambda name, index, m: has(m, lambda m: m.get("made", "") > "2026-06-15"),
    "made is null": lambda name, index, m: m is None or "made" not in m,
    "good is true": lambda name, index, m: has(m, lambda m: m["good"]),
    "file.path like 'd2/%'": lambda name, index, m: name.startswith("d2/"),
    "file.name = 'f0017'": lambda name, index, m: name.endswith("/f0017"),
    "file.size > 200": lambda name, index, m: 4 + index > 200,
    "file.uid = 0 and file.fresh": lambda name, index, m: index == 0,
    "xattr.\"user.project\" = 'p1'": lambda name, index, m: index % 3 == 0 and index % 2 == 1,
    "row.created > '2020-01-01'": lambda name, index, m: True,
    "true": lambda name, index, m: True,
    "false": lambda name, index, m: False,
    "nothing = 1": lambda name, index, m: False,
}


@pytest.mark.parametrize("columns", [True, False])
def test_what_is_near_and_meets_the_condition(volume4, columns):
    """With or without columns, whose entries are typed: the same but for times, which a condition must call so."""
    named, metadata = furnish(volume4, columns)
    query = next(iter(named.values()))[0]
    for condition, test in CONDITIONS.items():
        if "made >" in condition and not columns:
            continue
        met = {name: vectors for index, (name, vectors) in enumerate(named.items()) if test(name, index, metadata[name])}
        for k in (1, 10, 1000):
            found = near(volume4, vector=query.tolist(), k=k, where=condition)
            same(found, expected(met, query, "cosine", "f32", k))
        told = search(volume4, "--vector", json.dumps(query.astype("f8").tolist()), "-k", 1000, "--exact", "--where", condition)
        assert [(entry["path"], entry["row"], entry["score"]) for entry in found] == [(entry["path"], entry["row"], entry["score"]) for entry in told], condition


def test_filters_never_starve_k(volume4):
    """From none to all, far from the query and near to it: as many as were asked for, or as there are."""
    named = fill(volume4, files=20, chunks=200)
    rows = [(name, n) for name, vectors in named.items() for n in range(len(vectors))]
    order = np.random.default_rng(3).permutation(len(rows))
    for place, at in enumerate(order):
        name, n = rows[at]
        os.setxattr(volume4.path / name, f"user.vector.c.{n}.meta" if n else "user.vector.c.meta", b'{"place": %d}' % place)
    query = named["d0/f0000"][0]
    vectors = np.concatenate(list(named.values()))
    scores = (vectors @ query) / np.linalg.norm(vectors, axis=1)
    for count in (1, 4, 40, 400, 4000):
        for condition, chosen in ((f"place < {count}", order[:count]), (f"place >= {4000 - count}", order[4000 - count :])):
            for k in (1, 10, 100):
                found = near(volume4, vector=query.tolist(), k=k, where=condition)
                best = sorted(scores[chosen], reverse=True)[:k]
                np.testing.assert_allclose([entry["score"] for entry in found], best, atol=1e-5)
    # The worst of all, alone.
    worst = int(np.argmin(scores))
    place = int(np.flatnonzero(order == worst)[0])
    (only,) = near(volume4, vector=query.tolist(), k=10, where=f"place = {place}")
    assert (only["path"], only["n"]) == rows[worst]
    near_and_met = near(volume4, vector=query.tolist(), k=100, where="place < 2000", within="d1", min_score=0)
    assert near_and_met and all(entry["path"].startswith("d1/") and entry["score"] >= 0 for entry in near_and_met)


def test_a_condition_asks_as_who_opened_the_file(shared):  # noqa: F811
    named, _ = furnish(shared)
    for directory, mode in (("d0", 0o755), ("d1", 0o700), ("d2", 0o755), ("d3", 0o711)):
        os.chmod(shared.path / directory, mode)
    shown_to_all(shared)
    os.chmod(shared.path / "d0/f0000", 0o600)
    query = next(iter(named.values()))[0]
    all_of = [name for name in named if name[:2] in ("d0", "d2")]

    def asked(condition):
        return {entry["path"] for entry in in_a_child(lambda: near(shared, vector=query.tolist(), k=FILES, where=condition), USER, USER)}

    assert asked("true") == set(all_of)
    assert asked("file.path like 'd%'") == set(all_of)
    # What is true of files that he cannot reach tells him nothing.
    assert asked("file.path like 'd1/%'") == asked("file.size = 5") == asked("xattr.\"user.project\" = 'p0' and file.path like 'd3/%'") == set()
    # An attribute of a file that he cannot read is not there; its size is.
    assert "d0/f0000" not in asked("xattr.\"user.project\" is not null") and "d0/f0000" in asked("xattr.\"user.project\" is null")
    assert asked("file.size = 4") == {"d0/f0000"} and asked("file.fresh and file.size = 4") == set()
    readable = {name for index, name in enumerate(named) if index % 3 == 0 and name in all_of and index}
    assert asked("xattr.\"user.project\" is not null") == readable
    with open("/proc/self/mounts") as mounts:
        assert str(shared.path) in mounts.read()


def test_a_question_on_a_read_only_mount(volume4):
    """The kernel opens nothing for writing there: what there is instead answers."""
    named = fill(volume4)
    like = next(iter(named))
    volume4.unmount()
    volume4.mount("ro")
    with pytest.raises(OSError, match="Read-only file system"):
        near(volume4, like=like)
    same(search(volume4, "--like", volume4.path / like, "-k", 20), expected(named, named[like][0], "cosine", "f32", 20, without=(like,)))
    same(search(volume4, "--like", volume4.path / like, "--where", "file.path like 'd2/%'"), expected({n: v for n, v in named.items() if n.startswith("d2/")}, named[like][0], "cosine", "f32", 10, without=(like,)))
    assert len(os.listdir(volume4.path / ".vexfs/near" / like)) == 20
