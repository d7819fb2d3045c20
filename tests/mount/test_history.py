"""History: superseded vectors that are kept behind a vector, how they are read, and when they go."""

import errno
import json
import os
import subprocess
import zlib

import numpy as np
import pytest
from volume import BIN, fails_with, run

NAME = "user.vector.c"
HISTORY = "user.vexfs.history"


def vector(n, dim=300):
    return np.arange(n, n + dim, dtype="<f4").tobytes()


def make(volume, *options):
    run(BIN / "vexfs", "create", "c", *options, "--mount", volume.path)
    return volume.path / ".vexfs/collections/c"


def past(path, name=NAME):
    """All superseded vectors that read back, the newest first."""
    found = []
    for back in range(1, 65):
        try:
            found.append(os.getxattr(path, f"{name}@-{back}"))
        except OSError as error:
            assert error.errno == errno.ENODATA
            break
    return found


def log(path, *more):
    lines = run(BIN / "vexfs", "log", path, *more, "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def kept(volume4):
    make(volume4, "--history", 3)
    path = volume4.path / "a.txt"
    path.write_bytes(b"one")
    return volume4, path


def test_what_was_superseded_reads_back(kept):
    volume, path = kept
    for n in range(6):
        os.setxattr(path, NAME, vector(n))
        os.setxattr(path, NAME + ".7", vector(100 + n))
        expected = [vector(old) for old in range(n - 1, max(-1, n - 4), -1)]
        assert past(path) == expected
        assert past(path, NAME + ".7") == [vector(100 + old) for old in range(n - 1, max(-1, n - 4), -1)]
    assert os.getxattr(path, NAME) == vector(5)
    assert sorted(os.listxattr(path)) == [NAME, NAME + ".7"], "they are not listed"
    volume.again()
    assert past(path) == [vector(4), vector(3), vector(2)]
    volume.kill()
    volume.mount()
    assert past(path, NAME + ".7") == [vector(104), vector(103), vector(102)]


def test_they_cannot_be_changed_and_names_have_rules(kept):
    _, path = kept
    os.setxattr(path, NAME, vector(1))
    fails_with(errno.ENODATA, os.getxattr, path, NAME + "@-1")
    os.setxattr(path, NAME, vector(2))
    for name in ("@-1", "@-2", "@-1.meta"):
        fails_with(errno.EPERM, os.setxattr, path, NAME + name, vector(3))
        fails_with(errno.EPERM, os.removexattr, path, NAME + name)
    for name in ("@-0", "@-65", "@-01", "@--1", "@-"):
        fails_with(errno.EINVAL, os.getxattr, path, NAME + name)
    assert past(path) == [vector(1)]


def test_metadata_is_of_its_version(kept):
    _, path = kept
    os.setxattr(path, NAME, vector(1))
    os.setxattr(path, NAME + ".meta", b'{"model": "first"}')
    os.setxattr(path, NAME, vector(2))
    os.setxattr(path, NAME + ".meta", b'{"model": "second"}')
    os.setxattr(path, NAME, vector(3))
    os.removexattr(path, NAME + ".meta")
    os.setxattr(path, NAME, vector(4))
    fails_with(errno.ENODATA, os.getxattr, path, NAME + "@-1.meta")
    assert os.getxattr(path, NAME + "@-2.meta") == b'{"model": "second"}'
    assert os.getxattr(path, NAME + "@-3.meta") == b'{"model": "first"}'
    assert [line["model"] for line in log(path)] == ["", "", "second", "first"]


def test_the_same_again_is_no_version(kept):
    _, path = kept
    os.setxattr(path, NAME, vector(1))
    os.setxattr(path, NAME, vector(1))
    assert past(path) == []
    path.write_bytes(b"another content")
    os.setxattr(path, NAME, vector(1))
    assert past(path) == [vector(1)], "of another content it is one"


def test_a_history_is_made_longer_and_shorter(kept):
    volume, path = kept
    directory = volume.path / ".vexfs/collections/c"
    assert os.getxattr(directory, HISTORY) == b"3"
    assert json.loads((directory / "schema.json").read_text())["history"] == 3
    for n in range(4):
        os.setxattr(path, NAME, vector(n))
    os.setxattr(directory, HISTORY, b"1")
    assert past(path) == [vector(2)], "at once"
    os.setxattr(path, NAME, vector(4))
    os.setxattr(directory, HISTORY, b"64")
    for n in range(5, 80):
        os.setxattr(path, NAME, vector(n))
    assert past(path) == [vector(n) for n in range(78, 14, -1)]
    os.setxattr(directory, HISTORY, b"0")
    assert past(path) == []
    for value in (b"65", b"-1", b"many", b""):
        fails_with(errno.EINVAL, os.setxattr, directory, HISTORY, value)
    for n in range(40):
        os.setxattr(path, NAME, vector(n))
    volume.again()
    os.setxattr(directory, HISTORY, b"64")
    assert past(path) == [], "two went each time"


@pytest.mark.parametrize("codec", ["f16", "sq8", "sq4", "binary"])
def test_coded_vectors_read_back_as_they_did(volume4, codec):
    make(volume4, "--codec", codec, "--dim", 300, "--history", 2)
    path = volume4.path / "a"
    path.write_bytes(b"a")
    seen = []
    for n in range(4):
        os.setxattr(path, NAME, np.random.default_rng(n).normal(size=300).astype("<f4").tobytes())
        seen.append(os.getxattr(path, NAME))
    assert past(path) == [seen[2], seen[1]]


def test_a_history_ends_with_its_vector_and_its_file(kept):
    volume, path = kept
    before = volume.settle(2)
    for n in range(4):
        os.setxattr(path, NAME, vector(n, 16384))
    os.removexattr(path, NAME)
    fails_with(errno.ENODATA, os.getxattr, path, NAME + "@-1")
    os.setxattr(path, NAME, vector(9, 16384))
    assert past(path) == []
    os.mkdir(volume.path / "directory")
    for file in (path, volume.path / "directory"):
        for n in range(4):
            os.setxattr(file, NAME, vector(n, 16384))
    assert len(past(volume.path / "directory")) == 3
    path.unlink()
    os.rmdir(volume.path / "directory")
    os.rmdir(volume.path / ".vexfs/collections/c")
    volume.settle(2)
    volume.again()
    assert volume.settle(2) >= before - (64 << 10)


def test_an_open_file_without_a_name_has_none(kept):
    volume, path = kept
    os.setxattr(path, NAME, vector(1))
    os.setxattr(path, NAME, vector(2))
    with open(path, "rb") as file:
        path.unlink()
        assert os.getxattr(file.fileno(), NAME) == vector(2)
        fails_with(errno.ENODATA, os.getxattr, file.fileno(), NAME + "@-1")
        os.setxattr(file.fileno(), NAME, vector(3))
        os.setxattr(file.fileno(), NAME, vector(4))
        assert os.getxattr(file.fileno(), NAME) == vector(4)
        fails_with(errno.ENODATA, os.getxattr, file.fileno(), NAME + "@-1")
    volume.again()
    assert json.loads((volume.path / ".vexfs/collections/c/schema.json").read_text())["live"] == 0


def test_what_is_saved_over_a_file_has_its_history(kept):
    volume, path = kept
    os.setxattr(path, NAME, vector(1))
    os.setxattr(path, NAME, vector(2))
    new = path.with_name("new")
    new.write_bytes(b"new content")
    os.rename(new, path)
    assert past(path) == [vector(1)]
    os.setxattr(path, NAME, vector(3))
    assert past(path) == [vector(2), vector(1)]
    assert [(line["version"] is None, line["fresh"]) for line in log(path)] == [(False, True), (True, False), (True, False)]
    volume.again()
    assert past(path) == [vector(2), vector(1)]


def test_batches_keep_what_they_replace(kept):
    volume, path = kept
    (volume.path / "list").write_text("a.txt\n")
    for n in range(3):
        matrix = volume.image.parent / f"{n}.npy"
        np.save(matrix, np.frombuffer(vector(n), "<f4").reshape(1, -1))
        run(BIN / "vexfs", "import", "c", matrix, "--paths", volume.path / "list", "--mount", volume.path)
    assert past(path) == [vector(1), vector(0)]


def test_compaction_leaves_it_alone(kept):
    volume, path = kept
    others = [volume.path / f"f{n}" for n in range(30)]
    for other in others:
        other.write_bytes(b"x")
        os.setxattr(other, NAME, vector(0))
    for n in range(4):
        os.setxattr(path, NAME, vector(n))
    for other in others:
        other.unlink()
    volume.settle(2)
    run(BIN / "vexfs", "compact", "c", "--mount", volume.path)
    assert os.getxattr(path, NAME) == vector(3) and past(path) == [vector(2), vector(1), vector(0)]
    volume.again()


def test_a_full_volume_leaves_all_as_it_was(make_volume):
    volume = make_volume(size="24M")
    make(volume, "--history", 64)
    path = volume.path / "a"
    path.write_bytes(b"a")
    last, refused = None, 0
    numbers = os.statvfs(volume.path)
    with open(volume.path / "ballast", "wb") as ballast:
        ballast.write(bytes(numbers.f_bavail * numbers.f_frsize - (3 << 20)))
        ballast.flush()
        os.fsync(ballast.fileno())
    for n in range(200):
        before = past(path)
        try:
            os.setxattr(path, NAME, vector(n, 8192))
            last = vector(n, 8192)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert past(path) == before and os.getxattr(path, NAME) == last
            refused += 1
            if refused == 3:
                break
    assert refused == 3
    os.removexattr(path, NAME)
    os.setxattr(path, NAME, last)
    assert past(path) == []
    volume.again()


def test_log_tells_when_and_of_what(kept):
    volume, path = kept
    directory = volume.path / ".vexfs/collections/c"
    os.setxattr(path, NAME, vector(1))
    path.write_bytes(b"changed")
    os.setxattr(path, NAME, vector(2))
    os.setxattr(path, NAME + ".4", vector(3))
    lines = log(path, "c.0")
    assert [line["back"] for line in lines] == [0, 1]
    assert [line["crc32"] for line in lines] == [f"{zlib.crc32(vector(n)):08x}" for n in (2, 1)]
    assert [line["fresh"] for line in lines] == [True, False]
    assert str(lines[0]["version"]).encode() == os.getxattr(path, "user.vexfs.version")
    assert lines[0]["set"] > lines[1]["set"] > "2020" and lines[0]["bytes"] == 1200
    stamps = np.load(directory / "headers.npy")
    assert {int(np.datetime64(line["set"][:-1], "ns").astype("i8")) for line in log(path) if line["back"] == 0} <= {
        int(stamp) for stamp in stamps["modified_timestamp"]}
    shown = [json.loads(run(BIN / "vexfs", "get", path, "c", *back).stdout)[0] for back in ([], ["--back", 1])]
    assert shown == [2, 1]
    assert "vexfs log" in run(BIN / "vexfs", "get", path, "c", "--back", 2, ok=(1,)).stdout
    table = run(BIN / "vexfs", "log", path).stdout.splitlines()
    assert len(table) == 4 and "c@-1" in table[2] and "stale" in table[2]
    raw = os.getxattr(path, "user.vexfs.log.c").splitlines()
    assert [json.loads(line)["back"] for line in raw] == [0, 1]
    done = subprocess.run([BIN / "vexfs", "log", directory / "schema.json"], capture_output=True, check=False)
    assert done.returncode == 1
    fails_with(errno.ENODATA, os.getxattr, path, "user.vexfs.log.none")
