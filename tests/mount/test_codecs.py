"""Collections whose rows are not the vectors themselves: what numpy makes of the columns is what attributes give."""

import errno
import json
import os

import numpy as np
import pytest
from volume import BIN, DTYPES, ROOT, attribute, fails_with, random_vectors, run

CODECS = {"f16": "<f2", "sq8": "|i1", "sq4": "|u1", "binary": "|u1"}
PAIRS = [("f16", "f32"), *((codec, element) for codec in ("sq8", "sq4", "binary") for element in ("f32", "f16"))]
DIMENSIONS = 101


def create(volume, name, codec, element="f32"):
    """A collection made as the control directory has it made."""
    directory = volume.path / ".vexfs" / "collections" / name
    directory.mkdir()
    os.setxattr(directory, "user.vexfs.element", element.encode())
    os.setxattr(directory, "user.vexfs.codec", codec.encode())
    return volume.collection(name)


def decode(things, dimensions):
    """The vectors of all rows, by the formulas of the control directory's README."""
    codec = json.loads((things.path / "schema.json").read_text())["codec"]
    m = things.vectors
    if codec == "f16":
        return m[:, :dimensions].astype(np.float32)
    s = things.load("scale")[:, None]
    if codec == "sq8":
        return m[:, :dimensions] * s
    if codec == "sq4":
        return (np.stack([m & 15, m >> 4], axis=-1).reshape(len(m), -1)[:, :dimensions] - np.float32(7.5)) * s
    bits = np.unpackbits(m, axis=1, bitorder="little")[:, :dimensions]
    return (2 * bits.astype(np.float32) - 1) * s


@pytest.mark.parametrize(("codec", "element"), PAIRS)
def test_numpy_decodes_what_attributes_give(volume4, codec, element):
    generator = np.random.default_rng(7)
    vectors = random_vectors(generator, 200, DIMENSIONS, element)
    vectors[3] = 0
    things = create(volume4, "things", codec, element)
    name = attribute("things", element)
    for i, vector in enumerate(vectors):
        (volume4.path / f"f{i}").write_bytes(b"content")
        os.setxattr(volume4.path / f"f{i}", name, vector.tobytes())
    for _ in range(2):
        schema = json.loads((things.path / "schema.json").read_text())
        assert (schema["codec"], schema["element"], schema["dimension"]) == (codec, element, DIMENSIONS)
        assert schema["dtype"] == CODECS[codec] == things.vectors.dtype.str
        assert schema["vector_bytes"] == vectors[0].nbytes and schema["row_bytes"] == things.headers["compressed_size"][0]
        assert (things.headers["original_size"] == vectors[0].nbytes).all()
        assert things.vectors.shape[0] == len(things.valid) == 200 and things.vectors.strides[0] % 64 == 0
        found = np.array([np.frombuffer(os.getxattr(volume4.path / f"f{i}", name), DTYPES[element]) for i in range(200)])
        assert np.array_equal(decode(things, DIMENSIONS).astype(DTYPES[element]), found)
        assert not found[3].any()
        volume4.again()
    largest = np.abs(vectors.astype(np.float64)).max(axis=1, keepdims=True)
    half_step = {"f16": 2**-11, "sq8": 0.5 / 127, "sq4": 0.5 / 7.5, "binary": 1}[codec] * 1.001
    half_step += 2**-11 if element == "f16" else 0  # what is read is rounded to the element type
    assert (np.abs(found.astype(np.float64) - vectors) <= half_step * largest + 1e-7).all()
    stored = {"f16": 2, "sq8": 1, "sq4": 0.5, "binary": 1 / 8}[codec] * DIMENSIONS
    assert things.vectors.strides[0] < stored + 65


@pytest.mark.parametrize("codec", CODECS)
def test_rows_come_and_go(volume4, codec):
    generator = np.random.default_rng(8)
    vectors = random_vectors(generator, 60, 384, "f32")
    things = create(volume4, "things", codec)
    for i, vector in enumerate(vectors[:30]):
        (volume4.path / f"f{i}").write_bytes(b"content")
        os.setxattr(volume4.path / f"f{i}", "user.vector.things", vector.tobytes())
    mapped = {column: things.load(column) for column in ("vectors", "valid", "headers")}
    for i in range(0, 30, 3):
        os.unlink(volume4.path / f"f{i}")
    for i in range(1, 30, 3):
        os.setxattr(volume4.path / f"f{i}", "user.vector.things", vectors[30 + i].tobytes())
    assert things.valid.sum() == 20
    volume4.settle(still_seconds=2)
    for i in range(30):
        if i % 3:
            found = np.frombuffer(os.getxattr(volume4.path / f"f{i}", "user.vector.things"), "<f4")
            row = things.row_of(volume4.path / f"f{i}")
            assert np.array_equal(decode(things, 384)[row], found)
            assert np.corrcoef(found, vectors[30 + i] if i % 3 == 1 else vectors[i])[0, 1] > 0.7
    dead = np.flatnonzero(~mapped["valid"][:30])
    blank = mapped["vectors"][dead]
    assert len(dead) and (np.isnan(blank[:, :384]).all() if codec == "f16" else not blank.any()), "freed rows are blanked"
    del mapped, blank
    volume4.again()
    assert things.valid.sum() == 20


@pytest.mark.parametrize("codec", CODECS)
def test_copies_of_copies_do_not_drift(volume4, codec):
    things = create(volume4, "things", codec)
    (volume4.path / "file0").write_bytes(b"content")
    vector = random_vectors(np.random.default_rng(9), 1, 384, "f32")[0]
    os.setxattr(volume4.path / "file0", "user.vector.things", vector.tobytes())
    for i in range(5):
        run("cp", "-a", volume4.path / f"file{i}", volume4.path / f"file{i + 1}")
    assert len(np.unique(things.headers["checksum"])) == 1 and things.valid.sum() == 6
    if codec != "f16":
        assert len(np.unique(things.load("scale"))) == 1


def test_what_a_codec_cannot_store_is_refused(volume4):
    collections = volume4.path / ".vexfs" / "collections"
    (collections / "ints").mkdir()
    os.setxattr(collections / "ints", "user.vexfs.element", b"i8")
    fails_with(errno.EINVAL, os.setxattr, collections / "ints", "user.vexfs.codec", b"sq8")
    assert "codec cannot store" in volume4.log()
    assert os.getxattr(collections / "ints", "user.vexfs.codec") == b"none"
    fails_with(errno.EINVAL, os.setxattr, collections / "ints", "user.vexfs.codec", b"zip")
    fails_with(errno.EOPNOTSUPP, os.setxattr, collections / "ints", "user.vexfs.codec", b"sparse")
    assert not (collections / "ints" / "scale.npy").exists() and "scale.npy" not in os.listdir(collections / "ints")
    half = create(volume4, "half", "f16")
    assert not (half.path / "scale.npy").exists()
    eight = create(volume4, "eight", "sq8")
    assert "scale.npy" in os.listdir(eight.path)
    (volume4.path / "file").write_bytes(b"content")
    refused = (("half", 65520.0, "f16"), ("eight", 2.0**127, "too large"), ("eight", np.nan, "NaN"))
    for name, value, words in refused:
        vector = np.array([1, value], "<f4").tobytes()
        fails_with(errno.EINVAL, os.setxattr, volume4.path / "file", f"user.vector.{name}", vector)
        assert words in volume4.log().splitlines()[-1]
    assert os.listxattr(volume4.path / "file") == []
    os.setxattr(volume4.path / "file", "user.vector.eight", np.array([1, 2], "<f4").tobytes())
    fails_with(errno.EPERM, os.setxattr, eight.path, "user.vexfs.codec", b"sq4")


def test_the_tool_makes_shows_and_reads_them(volume4):
    vexfs = BIN / "vexfs"
    os.chdir(volume4.path)
    try:
        (volume4.path / "a.txt").write_bytes(b"content")
        run(vexfs, "create", "small", "--dim", "4", "--codec", "sq8")
        run(vexfs, "set", "a.txt", "small", "[1.27, -0.635, 0.01, 0]")
        assert json.loads(run(vexfs, "info", "small", "--json").stdout)["codec"] == "sq8"
        assert "sq8" in run(vexfs, "ls").stdout
        found = json.loads(run(vexfs, "get", "a.txt", "small").stdout)
        assert np.allclose(found, [1.27, -0.635, 0.01, 0], atol=0.006)
        refused = run(vexfs, "create", "bits", "--element", "bit", "--codec", "sq4", ok=(1,)).stdout
        assert "codec" in refused
    finally:
        os.chdir("/")
    volume4.unmount()
    out = run("python3", "-B", ROOT / "scripts" / "read_image.py", volume4.image, "vectors").stdout
    assert out.startswith("user.vector.small 0 ")
    volume4.mount()


@pytest.mark.parametrize(("codec", "element"), [*PAIRS, ("none", "f32"), ("none", "i8")])
def test_export_gives_what_attributes_give(volume4, tmp_path, codec, element):
    generator = np.random.default_rng(10)
    dimensions = 100
    vectors = random_vectors(generator, 90, dimensions, element)
    create(volume4, "things", codec, element)
    vexfs = BIN / "vexfs"
    for i, vector in enumerate(vectors):
        (volume4.path / f"f{i // 2}").write_bytes(b"content")
        os.setxattr(volume4.path / f"f{i // 2}", attribute("things", element, i % 2), vector.tobytes())
    for i in range(0, 45, 4):
        os.unlink(volume4.path / f"f{i}")
    os.removexattr(volume4.path / "f1", attribute("things", element))
    matrix, paths = tmp_path / "out.npy", tmp_path / "out.txt"
    run(vexfs, "export", "things", matrix, "--paths", paths, "--mount", volume4.path)
    exported, lines = np.load(matrix), paths.read_text().splitlines()
    assert exported.dtype == DTYPES[element] and exported.shape == (len(lines), dimensions) == (65, dimensions)
    assert len(set(lines)) == 65 and "f1\t1" in lines and "f2\t1" in lines and "f2" in lines
    for line, row in zip(lines, exported):
        path, _, n = line.partition("\t")
        value = os.getxattr(volume4.path / path, attribute("things", element, int(n or 0)))
        assert value == row.tobytes(), line
    run(vexfs, "get", volume4.path / "f2", "things.1", "-o", tmp_path / "got.npy")
    assert np.load(tmp_path / "got.npy").tobytes() == exported[lines.index("f2\t1")].tobytes()

    # Set again elsewhere it is stored as it was.
    create(volume4, "again", codec, element)
    run(vexfs, "import", "again", matrix, "--paths", paths, "--base", volume4.path, "--mount", volume4.path)
    run(vexfs, "export", "again", tmp_path / "twice.npy", "--mount", volume4.path)
    assert np.array_equal(np.load(tmp_path / "twice.npy"), exported)
    run(vexfs, "set", volume4.path / "f3", "again", tmp_path / "got.npy")
    value = os.getxattr(volume4.path / "f3", attribute("again", element))
    assert value == np.load(tmp_path / "got.npy").tobytes()


@pytest.mark.parametrize("codec", CODECS)
def test_search_finds_what_numpy_finds_in_the_decoded_rows(volume4, codec):
    vectors = random_vectors(np.random.default_rng(12), 300, 96, "f32")
    things = create(volume4, "things", codec)
    for i, vector in enumerate(vectors):
        (volume4.path / f"f{i}").write_bytes(b"content")
        os.setxattr(volume4.path / f"f{i}", "user.vector.things", vector.tobytes())
    for i in range(0, 300, 4):
        os.unlink(volume4.path / f"f{i}")
    query = vectors[8]
    found = run(BIN / "vexfs", "search", things.path, "--vector", query.tolist(), "-k", 5, "--json").stdout
    found = [json.loads(line) for line in found.splitlines()]
    rows = decode(things, 96).astype(np.float64)
    scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
    scores = np.where(things.valid, scores, -np.inf)
    best = np.argsort(-scores, kind="stable")[:5]
    assert np.allclose([hit["score"] for hit in found], scores[best], atol=1e-5)
    assert [hit["row"] for hit in found] == best.tolist()
