"""`.vexfs/collections/NAME/recall`: what an index finds of real questions, compared with the exact answers while the mount is
idle; and searches do more where that is less than they ask for."""

import json
import os
import struct
import time
import zlib

import numpy as np
from test_index import FILES, fill, index_file, vectors_of, vexfs
from test_near_index import asked, explained
from test_query_file import USER, in_a_child, shared, shown_to_all  # noqa: F401
from volume import wait_for

HEAD, PLACE, EFFORT = 192, 24, 56


def recall(volume):
    return json.loads((volume.collection("c").path / "recall").read_text())


def measured(volume, seconds=60):
    """The figures, once there are some; reads them so rarely that the mount is idle in between."""
    found = []

    def there():
        time.sleep(7)
        found[:] = recall(volume).get("measured", [])
        return found

    wait_for(there, "a figure of recall", seconds)
    return found


def make_worse(path):
    """Has the index's least effort look at one leaf and two candidates, and say that it found nearly everything."""
    whole = bytearray(path.read_bytes())
    numbers = list(struct.unpack("<19Q", whole[32:184]))
    leaves, efforts = numbers[8], numbers[9]
    start = HEAD + leaves * PLACE
    probes, pool, rerank, _, _, queries, ns = struct.unpack("<3Q2d2Q", whole[start : start + EFFORT])
    whole[start : start + EFFORT] = struct.pack("<3Q2d2Q", 1, 1, 1, 0.999, 0.995, queries, ns)
    dimensions = numbers[2]
    table = bytes(whole[HEAD : HEAD + leaves * (PLACE + 4 * dimensions) + efforts * EFFORT])
    numbers[13] = numbers[13] >> 32 << 32 | zlib.crc32(table)
    whole[32:184] = struct.pack("<19Q", *numbers)
    whole[184:192] = struct.pack("<Q", zlib.crc32(bytes(whole[8:184])))
    path.write_bytes(whole)
    return probes, pool, rerank


def test_an_index_that_finds_too_little_is_found_out_and_made_to_do_more(volume4):
    vectors = vectors_of(FILES)
    fill(volume4, vectors)
    assert recall(volume4) == {}
    vexfs(volume4, "index", "c", "--kind", "clustered")
    make_worse(index_file(volume4))
    queries = np.random.default_rng(1).standard_normal((40, vectors.shape[1])).astype("<f4")
    questions = [asked(query, index="clustered") for query in queries]

    def shares():
        found = []
        for question in questions:
            exact = explained(volume4, **{**question, "index": False, "exact": True})[0]
            answers, plan = explained(volume4, **question)
            assert plan["plan"] == "clustered" and len(answers) == 10
            found.append(np.mean([answer["score"] >= exact[-1]["score"] for answer in answers]))
        return found, plan

    before, plan = shares()
    assert plan["leaves"] == 1 and plan["recall"] == 0.999 and np.mean(before) < 0.8
    (figure,) = measured(volume4)
    while figure["n"] < 20:
        time.sleep(7)
        (figure,) = recall(volume4)["measured"]
    assert (figure["kind"], figure["k"], figure["probes"], figure["rerank"]) == ("clustered", 10, 1, 1)
    assert figure["low"] <= figure["recall"] <= figure["high"] < 0.95 and abs(figure["recall"] - np.mean(before)) < 0.25
    assert abs(figure["since"] - time.time()) < 300 and figure["generation"] > 0
    after, plan = shares()
    assert plan["leaves"] > 1 and np.mean(after) > np.mean(before)
    # The tool does more as well: it reads the figure.
    words = ("search", "c", "--vector", json.dumps(queries[0].tolist()), "--index", "--json", "--explain")
    told = json.loads(vexfs(volume4, *words).stderr.splitlines()[-1])
    assert told["plan"] == "clustered" and told["leaves"] > 1
    assert json.loads(vexfs(volume4, *words, "--min-recall", "0.1").stderr.splitlines()[-1])["leaves"] == 1
    # Who is content with less is answered by less.
    assert explained(volume4, **questions[0], min_recall=0.1)[1]["leaves"] == 1
    # Of an index that is another nothing is known yet.
    vexfs(volume4, "index", "c", "--kind", "clustered")
    least = explained(volume4, **questions[0])[1]
    assert "of late" not in least["why"]
    assert "of late" not in json.loads(vexfs(volume4, *words).stderr.splitlines()[-1])["why"]


def test_nothing_is_compared_while_the_mount_is_used(volume4):
    vectors = vectors_of(FILES)
    names = fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", "scan")
    for row in range(20):
        assert explained(volume4, **asked(vectors[row], index=True))[1]["plan"] == "scan"
    until = time.monotonic() + 9
    while time.monotonic() < until:
        os.getxattr(volume4.path / names[7], "user.vector.c")
        time.sleep(0.2)
    assert recall(volume4) == {}
    # Exact answers are no questions to an index.
    figures = measured(volume4)
    assert [(figure["kind"], figure["k"]) for figure in figures] == [("scan", 10)] and figures[0]["n"] <= 20


def test_everybody_reads_the_same_and_nothing_of_questions(shared):  # noqa: F811
    """Whoever asked, out of however little he reaches: it is compared with all rows."""
    vectors = vectors_of(FILES)
    fill(shared, vectors)
    shown_to_all(shared)
    os.chmod(shared.path / "d0", 0o700)
    vexfs(shared, "index", "c", "--kind", "scan")
    for row in range(5):
        in_a_child(lambda row=row: explained(shared, **asked(vectors[row], index=True, k=3)), USER, USER)
    figures = measured(shared)
    path = shared.collection("c").path / "recall"
    texts = {in_a_child(path.read_text, user, user) for user in (0, USER, USER + 1)}
    assert len(texts) == 1
    assert all(set(figure) == {"kind", "k", "recall", "n", "low", "high", "probes", "pool", "rerank", "since", "generation"} for figure in figures)
    assert (figures[0]["k"], figures[0]["recall"] > 0.5) == (3, True)
    os.chmod(shared.collection("c").path, 0o700)
    assert isinstance(in_a_child(path.read_text, USER, USER), PermissionError)
