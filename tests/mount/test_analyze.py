"""`vexfs analyze` against numpy: the same sample, quantised by numpy from docs/FORMAT.md, searched by numpy."""

import json
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sample import load
from volume import BIN, attribute, random_vectors, run

VEXFS = BIN / "vexfs"
CODECS = ["none", "f16", "sq8", "sq4", "binary"]
K, QUERIES, SEED = 10, 150, 5


def fill(volume, name, vectors, element="f32", settings=()):
    """A collection with a file a vector."""
    directory = volume.path / ".vexfs" / "collections" / name
    directory.mkdir()
    for key, value in [("element", element), *settings]:
        os.setxattr(directory, f"user.vexfs.{key}", value.encode())
    for i, vector in enumerate(vectors):
        path = volume.path / f"{name}{i}"
        path.touch()
        os.setxattr(path, attribute(name, element), vector.tobytes())
    return volume.collection(name)


def analyze(volume, *arguments, ok=(0,)):
    return run(VEXFS, "analyze", *arguments, "--mount", volume.path, ok=ok).stdout


def lines(volume, *arguments):
    found = [json.loads(line) for line in analyze(volume, *arguments, "--json").splitlines()]
    names = [line["codec"] for line in found]
    assert names[:len(CODECS)] == CODECS and set(names[len(CODECS):]) == {"pq"}
    return found


def splitmix64(seed, count):
    """The first outputs from a seed."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def draw(things, seed, queries, rows):
    """The rows that are queries, and those that are searched."""
    live = np.flatnonzero(things.valid)
    live = live[np.argsort(splitmix64(seed, len(things.valid))[live])]
    return np.sort(live[:queries]), np.sort(live[queries : queries + rows])


def up16(values):
    """f32 of 16 significant bits that are no less."""
    bits = values.astype("<f8").view("<u8")
    below = np.uint64((1 << 37) - 1)
    return ((bits + below) & ~below).view("<f8").astype("<f4")


def quantised(codec, x):
    """What the vectors read as when the codec has stored them."""
    if codec == "none":
        return x
    if codec == "f16":
        return x.astype("<f2").astype("<f4")
    largest = np.abs(x).max(axis=1, keepdims=True).astype("<f8")
    if codec == "sq8":
        s = up16(largest / 127)
        return np.rint(x * (np.float32(1) / s)) * s
    if codec == "sq4":
        s = up16(largest / 7.5)
        return (np.minimum(np.floor(x * (np.float32(1) / s)) + 8, 15) - np.float32(7.5)) * s
    mean = np.abs(x.astype("<f8")).mean(axis=1, keepdims=True).astype("<f4")
    return np.where(x > 0, mean, -mean).astype("<f4")


def scores(rows, queries, metric):
    rows, queries = rows.astype("<f8"), queries.astype("<f8")
    product = queries @ rows.T
    if metric == "cosine":
        return product / np.linalg.norm(rows, axis=1)
    return product if metric == "ip" else 2 * product - (rows**2).sum(axis=1)


def best(score, k):
    return np.argsort(-score, axis=1, kind="stable")[:, :k]


def recall(exact, found):
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(exact, found)])


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_figures_are_those_of_numpy(volume4, metric):
    vectors = load()[0][:1500]
    if metric != "cosine":
        vectors = vectors * np.linspace(0.5, 2, len(vectors), dtype="<f4")[:, None]
    things = fill(volume4, "things", vectors, settings=[("metric", metric)])
    for i in range(0, len(vectors), 7):
        os.unlink(volume4.path / f"things{i}")
    found = lines(volume4, "things", "--queries", QUERIES, "--seed", SEED, "--sample", 1000)
    live = int(things.valid.sum())
    count = min(QUERIES, live // 5)
    query_rows, rows = draw(things, SEED, count, 1000)
    dimensions = vectors.shape[1]
    x, queries = things.vectors[rows][:, :dimensions], things.vectors[query_rows][:, :dimensions]
    exact = best(scores(x, queries, metric), K)
    stored = {"none": 4 * dimensions, "f16": 2 * dimensions, "sq8": dimensions, "sq4": -(-dimensions // 2), "binary": -(-dimensions // 8)}
    for line in found[len(CODECS):]:
        if len(rows) < 2 ** line["bits"]:
            assert "fewer vectors than a codebook entries" in line["refused"] and line["recall"] is None
            continue
        # What a codebook makes of vectors is judged in test_quantized.py.
        assert line["row_bytes"] == line["subvectors"] * line["bits"] // 8 and line["refused"] is None
        assert 0 < line["recall"] <= line["recall_reranked"] <= 1 and 0 < line["error_l2"] < 1
    for line in found[:len(CODECS)]:
        y = quantised(line["codec"], x)
        assert (line["live"], line["sample"], line["queries"], line["k"]) == (live, len(rows), count, K)
        assert line["dimension"] == dimensions and line["metric"] == metric and line["refused"] is None
        assert line["row_bytes"] == stored[line["codec"]]
        assert line["stride_bytes"] == -(-line["row_bytes"] // 64) * 64
        a, b = x.astype("<f8"), y.astype("<f8")
        norms = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        assert np.isclose(line["error_l2"], np.mean(np.linalg.norm(a - b, axis=1) / norms[0]), rtol=1e-4, atol=1e-9)
        assert np.isclose(line["error_cosine"], np.mean(1 - (a * b).sum(axis=1) / norms[0] / norms[1]), rtol=1e-4, atol=1e-9)
        score = scores(y, queries, metric)
        candidates = best(score, 4 * K)
        again = np.take_along_axis(scores(x, queries, metric), candidates, axis=1)
        reranked = np.take_along_axis(candidates, best(again, K), axis=1)
        # Two rows that are equally near but for f32's last bits may change places.
        assert abs(line["recall"] - recall(exact, candidates[:, :K])) <= 3 / exact.size
        assert abs(line["recall_reranked"] - recall(exact, reranked)) <= 3 / exact.size
        assert line["encode_bytes_per_second"] > 0 and line["decode_bytes_per_second"] > 0
    assert found[0]["error_l2"] == 0 and found[0]["recall"] == found[0]["recall_reranked"] == 1
    good = [line for line in found if line["refused"] is None and line["recall"] >= 0.95]
    fewest = min(line["stride_bytes"] for line in good)
    chosen = next(line for line in good if line["stride_bytes"] == fewest)
    assert [line for line in found if line["recommended"]] == [chosen]
    label = f"pq {chosen['subvectors']}x{chosen['bits']}" if chosen["codec"] == "pq" else chosen["codec"]
    assert f"{label}, the fewest bytes" in chosen["reason"]

    # What is measured is what the volume would store: the codec's own collection reads as numpy says.
    some = [int(row) for row in rows[:50]]
    for codec in CODECS[1:]:
        coded = fill(volume4, codec, things.vectors[some][:, :dimensions], settings=[("codec", codec)])
        read = np.array([np.frombuffer(os.getxattr(volume4.path / f"{codec}{i}", f"user.vector.{codec}"), "<f4") for i in range(50)])
        assert np.allclose(read, quantised(codec, x[:50]), rtol=2**-15, atol=0), codec
        assert coded.vectors.strides[0] == found[CODECS.index(codec)]["stride_bytes"]


def test_a_seed_is_a_sample(volume4):
    fill(volume4, "things", load()[0][:200])
    figures = lambda *options: [{key: value for key, value in line.items() if "per_second" not in key} for line in lines(volume4, "things", *options)]
    assert figures("--sample", 50) == figures("--sample", 50)
    assert figures("--sample", 50) != figures("--sample", 50, "--seed", 1)
    assert {line["sample"] for line in figures("--sample", 50, "-k", 3)} == {50}


def test_table_and_chart(volume4, tmp_path):
    vectors = load()[0][:300]
    fill(volume4, "things", vectors)
    out = analyze(volume4, "things", "--chart", tmp_path / "chart.svg")
    assert all(f"\n{codec} " in out for codec in CODECS) and "RECALL@10" in out and "\nrecommended: " in out
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "recall@10" in words and any(word.startswith("bytes a vector") for word in words)
    assert all(any(word.split()[0] == codec for word in words if word) for codec in CODECS)
    # Of product quantisation codes of 4 bits alone: 240 vectors are too few for 256 entries.
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == 2 * (len(CODECS) + 1) + 2
    assert f"\npq {vectors.shape[1] // 4}x4 " in out and "fewer vectors than a codebook entries" in out
    assert "recommended: nothing" not in analyze(volume4, "things", "--recall", 1)
    missing = analyze(volume4, "things", "--chart", tmp_path / "no" / "chart.svg", ok=(1,))
    assert "chart.svg: No such file" in missing


def test_a_value_that_f16_cannot_hold(volume4):
    vectors = load()[0][:100].copy()
    vectors *= 1e6
    fill(volume4, "things", vectors)
    found = {line["codec"]: line for line in lines(volume4, "things")}
    assert "65504" in found["f16"]["refused"] and found["f16"]["recall"] is None and found["sq8"]["recall"] > 0.9
    assert "65504" in analyze(volume4, "things")


def test_what_cannot_be_analyzed_says_why(volume4):
    generator = np.random.default_rng(3)
    refused = lambda *arguments: analyze(volume4, *arguments, ok=(1, 2))
    (volume4.path / ".vexfs" / "collections" / "empty").mkdir()
    assert "holds 0 vectors" in refused("empty")
    fill(volume4, "few", load()[0][:10])
    assert "holds 10 vectors; to find 10 neighbours takes at least 11" in refused("few")
    assert [line["refused"] is None for line in lines(volume4, "few", "-k", 9)] == [True] * 5 + [False] * 4
    for element in ("i8", "i16", "bit", "f16"):
        fill(volume4, f"of-{element}", random_vectors(generator, 20, 64, element), element)
        assert f"of-{element}: holds {element}" in refused(f"of-{element}")
    fill(volume4, "coded", load()[0][:20], settings=[("codec", "sq8")])
    assert "stored as sq8 already" in refused("coded")
    assert "no collection `absent`" in refused("absent")
    for options in (["--recall", "1.1"], ["--sample", "0"], ["-k", "0"]):
        assert "needed" in refused("few", *options)
    fill(volume4, "zeros", np.zeros((30, 8), "<f4"))
    found = lines(volume4, "zeros")
    measured = [line for line in found if line["refused"] is None]
    assert len(measured) >= len(CODECS) and all(line["error_l2"] == 0 and line["recall"] == 1 for line in measured)
