"""Product quantisation: trained, set, read, searched, recoded, exported; what it refuses."""

import errno
import json
import os
import subprocess

import numpy as np
import pytest
from volume import BIN, DTYPES, attribute, fails_with, run

DIMENSIONS, COUNT = 96, 600
VEXFS = BIN / "vexfs"


def clusters(count, seed=7, element="f32"):
    """Vectors that have something for a codebook to find: near to one of forty centres."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(1).standard_normal((40, DIMENSIONS))
    vectors = centres[generator.integers(40, size=count)] + 0.3 * generator.standard_normal((count, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(DTYPES[element])


def fill(volume, vectors, name="things", element="f32"):
    for i, vector in enumerate(vectors):
        (volume.path / f"f{i}").write_bytes(b"content")
        os.setxattr(volume.path / f"f{i}", attribute(name, element), vector.tobytes())
    return volume.path / ".vexfs/collections" / name


def schema(directory):
    return json.loads((directory / "schema.json").read_text())


def decoded(directory):
    """All vectors, by the lines of the control directory's README."""
    m, d = np.load(directory / "vectors.npy", mmap_mode="r"), schema(directory)["dimension"]
    c = np.load(directory / "codebook.npy", mmap_mode="r")
    parts, entries, _ = c.shape
    codes = m if entries == 256 else np.stack([m & 15, m >> 4], axis=-1).reshape(len(m), -1)
    return c[np.arange(parts), codes[:, :parts]].reshape(len(m), d)


def read(volume, count, name="things", element="f32"):
    vectors = [os.getxattr(volume.path / f"f{i}", attribute(name, element)) for i in range(count)]
    return np.array([np.frombuffer(vector, DTYPES[element]) for vector in vectors])


def refused(*arguments):
    done = subprocess.run([VEXFS, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr


@pytest.mark.parametrize(("bits", "parts", "element"), [(8, 24, "f32"), (4, 48, "f32"), (4, 3, "f16"), (8, 96, "f16")])
def test_a_codebook_is_trained_and_numpy_decodes_by_it(volume4, bits, parts, element):
    vectors = clusters(COUNT, element=element)
    things = fill(volume4, vectors, element=element)
    told = json.loads(run(VEXFS, "recode", things, "--codec", "pq", "-m", parts, "--bits", bits, "--json").stdout)
    assert (told["codec"], told["codebook"]) == ("pq", {"subvectors": parts, "bits": bits})
    assert told["row_bytes"] == (parts * bits + 7) // 8 and told["vectors"] == COUNT
    # Set by the filesystem itself, before and after it forgot its copy of the codebook.
    late = clusters(1, seed=8, element=element)[0]
    for _ in range(2):
        os.setxattr(volume4.path / "f5", attribute("things", element), late.tobytes())
        found, codebook = read(volume4, COUNT, element=element), np.load(things / "codebook.npy")
        assert codebook.shape == (parts, 2**bits, DIMENSIONS // parts) and np.isfinite(codebook).all()
        assert np.array_equal(decoded(things).astype(DTYPES[element])[np.load(things / "valid.npy")], by_row(things, found))
        # Each part has the nearest entry, as far as whole numbers tell: a unit is 2^-12 of the largest or less here.
        wanted = vectors.astype("f4").reshape(COUNT, parts, -1)
        wanted[5] = late.astype("f4").reshape(parts, -1)
        chosen = found.astype("f4").reshape(COUNT, parts, -1)
        for at in range(0, COUNT, 60):
            least = np.linalg.norm(wanted[at][:, None, :] - codebook, axis=2).min(axis=1)
            assert (np.linalg.norm(wanted[at] - chosen[at], axis=1) <= least + 0.01).all()
        volume4.again()
    run(VEXFS, "recode", things, "--codec", "none")
    assert np.array_equal(read(volume4, COUNT, element=element), found)
    assert not (things / "codebook.npy").exists() and not (things / "index").exists()


def by_row(things, found):
    """Vectors in the order of the rows, from those in the order of the files."""
    headers = np.load(things / "headers.npy")[np.load(things / "valid.npy")]
    places = {os.stat(things.parents[2] / f"f{i}").st_ino: i for i in range(len(found))}
    return found[[places[inode] for inode in headers["file_inode"]]]


def test_searches_score_what_attributes_give(volume4):
    things = fill(volume4, clusters(COUNT))
    run(VEXFS, "recode", things, "--codec", "pq", "-m", 24)
    found, query = read(volume4, COUNT).astype("f8"), clusters(1, seed=9)[0]
    score = found @ query / np.linalg.norm(found, axis=1) / np.linalg.norm(query)
    best = np.argsort(-score, kind="stable")[:5]
    vector = volume4.path / "query.f32"
    vector.write_bytes(query.tobytes())
    lines = run(VEXFS, "search", things, "--vector", vector, "-k", 5, "--exact", "--json").stdout.splitlines()
    told = [json.loads(line) for line in lines]
    assert np.allclose([hit["score"] for hit in told], score[best], atol=1e-5)
    explained = run(VEXFS, "search", things, "--vector", vector, "-k", 5, "--explain")
    assert "nothing ranks them again" in explained.stdout
    # The daemon gives the same, off the disk.
    with open(things / "query", "r+b", buffering=0) as asked:
        asked.write(json.dumps({"vector": query.tolist(), "k": 5, "exact": True}).encode())
        answer = [json.loads(line) for line in asked.read(1 << 16).splitlines()]
    assert [hit["score"] for hit in answer] == [hit["score"] for hit in told]
    assert [hit["path"] for hit in answer] == [hit["path"] for hit in told]
    links = sorted(os.listdir(volume4.path / ".vexfs/near/f3"))
    assert len(links) == 20


def test_a_collection_is_made_with_the_codebook_of_another(volume4):
    vectors = clusters(COUNT)
    things = fill(volume4, vectors)
    assert "needs a codebook, which is trained on vectors" in refused("create", things.with_name("new"), "--codec", "pq")
    run(VEXFS, "recode", things, "--codec", "pq", "-m", 24)
    codebook = things / "codebook.npy"
    wrong = refused("create", things.with_name("new"), "--codec", "pq", "--codebook", codebook, "--dim", 95)
    assert "is for vectors of 96 dimensions, not 95" in wrong and not things.with_name("new").exists()
    run(VEXFS, "create", things.with_name("new"), "--codec", "pq", "--codebook", codebook)
    run(VEXFS, "create", things.with_name("like"), "--like", things)
    for name in ("new", "like"):
        assert schema(things.with_name(name))["codebook"] == {"subvectors": 24, "bits": 8}
        assert np.array_equal(np.load(things.with_name(name) / "codebook.npy"), np.load(codebook))
        fill(volume4, vectors[:50], name)
        # Row 0 of both is of the same vector.
        assert np.array_equal(read(volume4, 50, name), read(volume4, 50))
    fails_with(errno.EPERM, os.setxattr, things.with_name("new"), "user.vexfs.codec", b"sq8")


def test_what_cannot_be_trained_is_told(volume4):
    things = fill(volume4, clusters(30))
    assert "30 vectors are too few to train 256 entries on" in refused("recode", things, "--codec", "pq")
    assert "these can be: 1, 2, 3, 4, 6, 8" in refused("recode", things, "--codec", "pq", "-m", 95)
    assert "4 or 8 bits, not 5" in refused("recode", things, "--codec", "pq", "--bits", 5)
    run(VEXFS, "create", things.with_name("empty"))
    assert "no vectors and no dimension yet" in refused("recode", things.with_name("empty"), "--codec", "pq")
    run(VEXFS, "create", things.with_name("bytes"), "--element", "i8", "--dim", 96)
    assert "pq takes f32 and f16" in refused("recode", things.with_name("bytes"), "--codec", "pq", "--bits", 4)
    fails_with(errno.EOPNOTSUPP, os.setxattr, things.with_name("empty"), "user.vexfs.codec", b"pq")
    assert schema(things)["codec"] == "none" and not (things / "index").exists()


def test_copies_backups_and_checks_know_it(volume4, tmp_path):
    things = fill(volume4, clusters(COUNT))
    run(VEXFS, "recode", things, "--codec", "pq", "-m", 24)
    found = read(volume4, COUNT)
    run(VEXFS, "export", things, tmp_path / "out.npy", "--paths", tmp_path / "out.txt")
    paths = (tmp_path / "out.txt").read_text().splitlines()
    places = [int(os.path.basename(path)[1:]) for path in paths]
    assert np.array_equal(np.load(tmp_path / "out.npy"), found[places])
    run("cp", "-a", volume4.path / "f7", volume4.path / "copy")
    assert os.getxattr(volume4.path / "copy", "user.vector.things") == found[7].tobytes()
    volume4.unmount()
    done = subprocess.run([BIN / "fsck.vexfs", "-f", "-n", volume4.image], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done


def test_training_is_repeatable_and_analyzed(volume4):
    things = fill(volume4, clusters(COUNT))
    run(VEXFS, "create", things.with_name("twin"))
    fill(volume4, clusters(COUNT), "twin")
    lines = run(VEXFS, "analyze", things, "--json", "--queries", 20).stdout.splitlines()
    told = [line for line in map(json.loads, lines) if line["codec"] == "pq"]
    assert [(line["subvectors"], line["bits"]) for line in told] == [(48, 8), (24, 8), (12, 8), (24, 4)]
    assert all(0 < line["recall"] <= 1 and line["row_bytes"] == line["subvectors"] * line["bits"] // 8 for line in told)
    for name in ("things", "twin"):
        run(VEXFS, "recode", things.with_name(name), "--codec", "pq", "--seed", 5)
    books = [np.load(things.with_name(name) / "codebook.npy") for name in ("things", "twin")]
    assert books[0].shape == (24, 256, 4) and np.array_equal(*books)
    run(VEXFS, "recode", things, "--codec", "pq", "--seed", 6, "-m", 12)
    assert np.load(things / "codebook.npy").shape == (12, 256, 8)
