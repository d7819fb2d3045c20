"""Nearness asked on a `query` file: the answers of an exact reference, and only what the opener can reach."""

import functools
import json
import multiprocessing
import os
import random
import time

import numpy as np
import pytest
from sample import load
from test_codecs import PAIRS, create
from test_query_file import USER, ask, in_a_child, lines, query_file, question, shared, shown_to_all  # noqa: F401
from test_search import FILES, METRICS, expected, fill, same, scores_of, search
from volume import BIN, DTYPES, attribute, run


def near(volume, asked=None, **members):
    """The lines of the answer to `members`, or to the raw bytes of a vector."""
    return ask(volume, asked if asked is not None else json.dumps(members).encode())


def refused(volume, asked=None, **members):
    (line,) = near(volume, asked, **members)
    assert list(line) == ["error"]
    return line["error"]


def numbers(vector, element):
    return (np.unpackbits(vector, bitorder="little") if element == "bit" else vector.astype("f8")).tolist()


@pytest.mark.parametrize(("element", "metric"), METRICS)
def test_answers_equal_numpy(volume4, element, metric):
    named = fill(volume4, element)
    like = next(iter(named))
    vector = named[like][0]
    for k in (1, 10, FILES - 1, 5 * FILES):
        found = near(volume4, like=like, k=k, metric=metric, exact=True)
        same(found, expected(named, vector, metric, element, k, without=(like,)))
    for found in (near(volume4, vector=numbers(vector, element), metric=metric), near(volume4, like="/" + like, n=0, k=9, metric=metric)):
        wanted = expected(named, vector, metric, element, 10)
        same(found, wanted if len(found) == 10 else [entry for entry in wanted if entry[1] != like][:9])
    set_metric = json.loads((volume4.collection("c").path / "schema.json").read_text())["metric"]
    same(near(volume4, vector.tobytes()), expected(named, vector, set_metric, element, 10))
    things = volume4.collection("c")
    sign = -1 if metric in ("l2", "hamming") else 1
    for entry in found:
        assert things.valid[entry["row"]] and entry["n"] == 0
        assert entry["inode"] == things.headers["file_inode"][entry["row"]] == (volume4.path / entry["path"]).stat().st_ino
        assert entry["distance"] == pytest.approx(sign * entry["score"])


@pytest.mark.parametrize(("codec", "element"), [("none", "f32"), *PAIRS])
def test_it_finds_what_search_finds_whatever_the_codec(volume4, codec, element):
    vectors, queries, _, _ = load()
    vectors = vectors[:1200] if codec == "none" else vectors[:400]
    if codec != "none":
        create(volume4, "c", codec, element)
    name = attribute("c", element)
    for i, vector in enumerate(vectors):
        (volume4.path / f"f{i}").touch()
        os.setxattr(volume4.path / f"f{i}", name, vector.astype(DTYPES[element]).tobytes())
    for i in range(0, len(vectors), 7):
        os.unlink(volume4.path / f"f{i}")
    live = [i for i in range(len(vectors)) if i % 7]
    attributes = {f"f{i}": np.frombuffer(os.getxattr(volume4.path / f"f{i}", name), DTYPES[element])[None] for i in live}
    for query in queries[:5]:
        query = query.astype(DTYPES[element])
        found = near(volume4, vector=query.astype("f8").tolist(), k=20)
        same(found, expected(attributes, query, "cosine", element, 20))
        told = search(volume4, "--vector", json.dumps(query.astype("f8").tolist()), "-k", 20, "--exact")
        assert [(entry["path"], entry["row"], entry["score"], entry["distance"]) for entry in found] == [
            (entry["path"], entry["row"], entry["score"], entry["distance"]) for entry in told
        ]
    assert [entry["path"] for entry in near(volume4, query.tobytes())] == [entry["path"] for entry in found[:10]]


def test_equally_near_rows_come_in_their_order(volume4):
    for index in range(50):
        (volume4.path / f"f{index}").touch()
        os.setxattr(volume4.path / f"f{index}", "user.vector.c", np.array([1 + index % 2, 0], "<f4").tobytes())
    found = near(volume4, vector=[1, 0], k=30, metric="l2")
    assert [entry["row"] for entry in found] == [*range(0, 50, 2), *range(1, 10, 2)]
    assert [entry["row"] for entry in near(volume4, vector=[1, 0], k=50)] == list(range(50))


def test_limits_and_directories(volume4):
    named = fill(volume4)
    like = next(iter(named))
    everything = expected(named, named[like][0], "l2", "f32", FILES, without=(like,))
    least = (everything[24][0] + everything[25][0]) / 2
    same(near(volume4, like=like, metric="l2", min_score=least, k=FILES), everything[:25])
    same(near(volume4, like=like, metric="l2", min_score=least, k=5), everything[:5])
    assert near(volume4, like=like, metric="l2", min_score=1) == []
    (volume4.path / "d1/deep").mkdir()
    (volume4.path / "d2/f0002").rename(volume4.path / "d1/deep/f0002")
    named["d1/deep/f0002"] = named.pop("d2/f0002")
    for directory in ("d1", "/d1/deep/", "d3", "/"):
        inside = {name: vectors for name, vectors in named.items() if (name + "/").startswith(directory.strip("/"))}
        same(near(volume4, like=like, within=directory, k=40), expected(inside, named[like][0], "cosine", "f32", 40, without=(like,)))
    os.link(volume4.path / "d3/f0003", volume4.path / "d1/deep/second")
    paths = [entry["path"] for entry in near(volume4, vector=named[like][0].tolist(), within="d1/deep", k=40)]
    assert sorted(paths) == ["d1/deep/f0002", "d1/deep/second"]
    (volume4.path / "empty").mkdir()
    assert near(volume4, like=like, within="empty") == []


def test_parts_of_files(volume4):
    named = fill(volume4, files=20, chunks=3)
    like = list(named)[5]
    os.setxattr(volume4.path / like, "user.vector.c.2.meta", b'{"start": 70, "length": 30}')
    found = near(volume4, vector=named[like][2].tolist(), k=1)
    assert [(entry["path"], entry["n"], entry["start"], entry["length"]) for entry in found] == [(like, 2, 70, 30)]
    # Of a file that is asked about no part is an answer.
    same(near(volume4, like=like, n=2, k=100), expected(named, named[like][2], "cosine", "f32", 57, without=(like,)))
    assert "has no vector 3" in refused(volume4, like=like, n=3)


BAD = [
    ({"vector": [1.0] * 63}, ("63", "64")),
    ({"vector": []}, ("0", "64")),
    ({"vector": [0.0] * 64}, ("zero",)),
    ({"vector": [1e300] + [1.0] * 63}, ("element 0", "infinite")),
    ({"vector": [1.0] * 64, "k": 0}, ("1 or more",)),
    ({"vector": [1.0] * 64, "k": -1}, ("whole number",)),
    ({"vector": [1.0] * 64, "k": 1 << 40}, ("100000",)),
    ({"vector": [1.0] * 63 + ["1"]}, ("element 63",)),
    ({"vector": [1.0] * 64, "limit": 3}, ("unknown member `limit`",)),
    ({"vector": [1.0] * 64, "metric": "hamming"}, ("bits", "f32")),
    ({"vector": [1.0] * 64, "metric": "near"}, ("cosine, l2, ip",)),
    ({"vector": [1.0] * 64, "where": "a = "}, ("where:", "a =")),
    ({"vector": [1.0] * 64, "where": "file.size like 'a'"}, ("where:",)),
    ({"vector": [1.0] * 64, "where": 1}, ("where:", "as text")),
    ({"vector": [1.0] * 64, "rows": [1]}, ("unknown member `rows`",)),
    ({"vector": [1.0] * 64, "within": "nowhere"}, ("within: nowhere", "o such file")),
    ({"vector": [1.0] * 64, "within": "d0/f0000"}, ("within: d0/f0000", "irectory")),
    ({"like": "d0/none"}, ("like: d0/none", "o such file")),
    ({"like": "plain"}, ("has no vector 0",)),
    ({"like": "../x"}, ("not the path of a file",)),
    ({"like": ".vexfs/README"}, ("not the path of a file",)),
    ({"like": "link"}, ("link",)),
    ({"like": "d0/f0000", "vector": [1.0] * 64}, ("one of them",)),
]


def test_what_makes_no_sense_is_answered_with_a_reason(volume4):
    fill(volume4, files=8)
    (volume4.path / "plain").touch()
    os.symlink("d0/f0000", volume4.path / "link")
    for members, reasons in BAD:
        told = refused(volume4, **members)
        assert all(reason in told for reason in reasons), (members, told)
    nan = np.full(64, np.nan, "<f4")
    assert "element 0 of the query is NaN" in refused(volume4, nan.tobytes())
    assert "zero" in refused(volume4, np.zeros(64, "<f4").tobytes())
    told = refused(volume4, nan.tobytes()[:-4])
    assert "256 bytes here (64 x f32): 252 bytes" in told
    assert "JSON" in refused(volume4, b'{"vector": [NaN]}')
    # With another metric zero is a vector like any other.
    assert len(near(volume4, vector=[0.0] * 64, metric="l2")) == 8


def test_an_empty_collection_has_an_empty_answer(volume4):
    fill(volume4, files=0)
    assert near(volume4, vector=[1.0] * 64) == [] and near(volume4, np.ones(64, "<f4").tobytes()) == []
    assert "63" in refused(volume4, vector=[1.0] * 63)
    (volume4.path / ".vexfs/collections/new").mkdir()
    new = volume4.path / ".vexfs/collections/new/query"
    with open(new, "r+b", buffering=0) as file:
        file.write(b'{"vector": [1, 2, 3]}')
        assert file.read() == b""
        file.write(b'{"vector": [1, 2, 3], "k": 0}')
        assert "1 or more" in lines(file.read())[0]["error"]


def test_nobody_is_told_of_what_he_cannot_reach(shared):  # noqa: F811
    """Most and the nearest files are closed: k is filled from the others all the same."""
    named = fill(shared, files=FILES)
    for directory, mode in (("d0", 0o755), ("d1", 0o700), ("d2", 0o711), ("d3", 0o700)):
        os.chmod(shared.path / directory, mode)
    shown_to_all(shared)
    run("setfacl", "-m", f"u:{USER}:rx", shared.path / "d3")
    open_to = {USER: ("d0", "d3"), USER + 1: ("d0",)}
    query = named["d1/f0001"][0]
    for user, directories in open_to.items():
        inside = {name: vectors for name, vectors in named.items() if name.split("/")[0] in directories}
        for k in (1, 10, 2 * FILES):
            found = in_a_child(lambda: near(shared, vector=query.tolist(), k=k), user, user)
            same(found, expected(inside, query, "cosine", "f32", k))
        for asked, why in (({"like": "d1/f0001"}, "search permission"), ({"vector": query.tolist(), "within": "d1/sub"}, "search permission")):
            told = in_a_child(lambda: refused(shared, **asked), user, user)
            assert why in told
        assert in_a_child(lambda: near(shared, vector=query.tolist(), within="d2"), user, user) == []
    os.chmod(shared.path / "d0/f0000", 0o600)
    assert "read permission" in in_a_child(lambda: refused(shared, like="d0/f0000"), USER, USER)


def one_client(path, me, vectors, done):
    rng = np.random.default_rng(me)
    wrong = None
    with open(path, "r+b", buffering=0) as file:
        for _ in range(10):
            target = int(rng.integers(len(vectors)))
            raw = rng.integers(2) == 0
            file.write(vectors[target].tobytes() if raw else json.dumps({"vector": vectors[target].tolist(), "k": 3}).encode())
            answer = b""
            while piece := file.read(257):
                answer += piece
            told = lines(answer)
            if told[0].get("path") != f"d{target % 4}/f{target:04}" or told[0]["score"] < 0.999 or len(told) != (10 if raw else 3):
                wrong = f"client {me} was told {answer!r} of {target}"
                break
    done.put(wrong)


def test_64_clients_never_mix(volume4):
    named = fill(volume4, files=200)
    vectors = [named[f"d{i % 4}/f{i:04}"][0] for i in range(200)]
    done = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=one_client, args=(query_file(volume4), me, vectors, done)) for me in range(64)]
    for client in clients:
        client.start()
    told = [done.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    assert told == [None] * 64


DIMENSIONS, STILL, BUSY, VERSIONS = 32, 400, 2000, 100


@functools.cache
def versions(file):
    """The vectors that a file has one after the other, and then again."""
    return np.random.default_rng(file).standard_normal((VERSIONS, DIMENSIONS)).astype("<f4")


def disturb(root, me, stop):
    """Sets, removes and makes files anew, each time with the file's next vector."""
    dice, numbers = random.Random(me), {}
    while not stop.is_set():
        file = STILL + dice.randrange(BUSY // 2) * 2 + me
        path = f"{root}/busy{file}"
        if dice.randrange(4) == 0 and os.path.exists(path):
            os.unlink(path)
            continue
        numbers[file] = numbers.get(file, 0) + 1
        with open(path, "ab"):
            pass
        os.setxattr(path, "user.vector.c", versions(file)[numbers[file] % VERSIONS].tobytes())
        if dice.randrange(300) == 0:
            with open(f"{root}/.vexfs/collections/c/control", "w") as control:
                control.write("compact\n")


def test_beside_writers_every_line_is_true_of_some_moment(volume4):
    for file in range(STILL + BUSY):
        path = volume4.path / (f"still{file}" if file < STILL else f"busy{file}")
        path.touch()
        os.setxattr(path, "user.vector.c", versions(file)[0].tobytes())
    for file in range(0, 200):
        os.unlink(volume4.path / f"busy{STILL + file}")
    stop = multiprocessing.Event()
    writers = [multiprocessing.Process(target=disturb, args=(str(volume4.path), me, stop)) for me in range(2)]
    for writer in writers:
        writer.start()
    asked = told = 0
    try:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            query = np.random.default_rng(asked).standard_normal(DIMENSIONS)
            found = near(volume4, vector=query.tolist(), k=60 if asked % 3 else 5000)
            asked += 1
            for entry in found:
                name = entry["path"]
                file = int(name.removeprefix("still").removeprefix("busy"))
                had = versions(file)[: 1 if file < STILL else VERSIONS]
                scores = scores_of(had, query, "cosine", "f32")
                assert np.abs(scores - entry["score"]).min() < 1e-4, entry
                told += 1
            if len(found) > 60:
                still = {entry["path"] for entry in found if entry["path"].startswith("still")}
                assert len(still) == STILL, f"{STILL - len(still)} vectors that were never touched are missing"
            scores = [entry["score"] for entry in found]
            assert scores == sorted(scores, reverse=True) and len(found) >= 60
            assert len({entry["row"] for entry in found}) == len(found)
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert all(writer.exitcode == 0 for writer in writers)
    print(f"{asked} questions, {told} lines")
    run(BIN / "vexfs", "compact", "c", "--mount", volume4.path)
    query = versions(3)[0]
    live = {path.name: np.frombuffer(os.getxattr(path, "user.vector.c"), "<f4")[None] for path in volume4.path.iterdir()}
    same(near(volume4, vector=query.tolist(), k=100), expected(live, query, "cosine", "f32", 100))


def test_rows_are_still_told(volume4):
    fill(volume4, files=4)
    assert [line["row"] for line in ask(volume4, question([3, 1]))] == [3, 1]
