"""`append`: vectors in bulk, a batch whole or not at all, by the rights of whoever writes."""

import errno
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from volume import attribute, fails_with, random_vectors, run

KEEP = 1


def record(vector, path=b"", n=0, inode=0, flags=0):
    """One record of the stream."""
    value = vector.tobytes()
    return struct.pack("<4sIQIIII", b"VEXA", n, inode, len(path), len(value), 0, flags) + path + value


def collection(volume, name="things", dimensions=16, element="f32"):
    """An empty collection."""
    directory = volume.path / ".vexfs/collections" / name
    directory.mkdir()
    os.setxattr(directory, "user.vexfs.element", element.encode())
    os.setxattr(directory, "user.vexfs.dim", str(dimensions).encode())
    return volume.collection(name)


def files(volume, count, directory=""):
    """Files with content; gives their paths from the root on."""
    names = [f"{directory}f{i}" for i in range(count)]
    for name in names:
        (volume.path / name).write_bytes(b"content")
    return [name.encode() for name in names]


def vectors_of(volume, paths, name="user.vector.things"):
    return np.array([np.frombuffer(os.getxattr(volume.path / path.decode(), name), "<f4") for path in paths])


@pytest.mark.parametrize("element", ["f32", "f16", "i8", "i16", "bit"])
def test_a_batch_is_what_attributes_are(volume, element):
    things = collection(volume, element=element, dimensions=72)
    vectors = random_vectors(np.random.default_rng(3), 500, 72, element)
    (volume.path / "deep/er").mkdir(parents=True)
    paths = files(volume, 250, "deep/er/")
    stream = b"".join(record(vector, paths[i // 2], i % 2) for i, vector in enumerate(vectors))
    with open(things.path / "append", "wb") as append:
        append.write(stream)
    for _ in range(2):
        assert json.loads((things.path / "schema.json").read_text())["live"] == 500
        for i, vector in enumerate(vectors):
            path = volume.path / paths[i // 2].decode()
            assert os.getxattr(path, attribute("things", element, i % 2)) == vector.tobytes()
            assert os.getxattr(path, "user.vexfs.fresh") == b"1"
        assert np.array_equal(things.vectors[:500, : vectors.shape[1]], vectors)
        assert things.valid[:500].all() and not things.vectors[:, vectors.shape[1] :].any()
        volume.again()


def test_replacing_takes_free_rows_and_keeping_keeps(volume4):
    things = collection(volume4)
    paths = files(volume4, 100)
    first, second = random_vectors(np.random.default_rng(4), 200, 16, "f32").reshape(2, 100, 16)
    with open(things.path / "append", "wb") as append:
        append.write(b"".join(map(record, first, paths)))
    created = things.headers["created_timestamp"][:100].copy()
    for i in range(0, 50, 3):
        os.unlink(volume4.path / paths[i].decode())
    paths = [path for i, path in enumerate(paths) if i >= 50 or i % 3]
    with open(things.path / "append", "r+b", buffering=0) as append:
        append.write(b"".join(record(vector, path, flags=KEEP) for vector, path in zip(second, paths)))
        assert json.loads(append.read()) == {"set": 0, "kept": len(paths)}
        assert append.read() == b""
        append.write(b"".join(map(record, second, paths)))
        os.fsync(append.fileno())
        assert json.loads(append.read()) == {"set": len(paths), "kept": 0}
    assert np.array_equal(vectors_of(volume4, paths), second[: len(paths)])
    assert json.loads((things.path / "schema.json").read_text())["live"] == len(paths)
    assert set(things.headers["created_timestamp"][things.valid]) <= set(created)
    volume4.again()
    assert np.array_equal(vectors_of(volume4, paths), second[: len(paths)])


def test_a_batch_is_whole_or_not_at_all(volume4):
    things = collection(volume4)
    paths = files(volume4, 10)
    vectors = random_vectors(np.random.default_rng(5), 10, 16, "f32")
    good = b"".join(map(record, vectors, paths))
    nan = vectors[0].copy()
    nan[3] = np.nan
    for bad, number, words in (
        (record(vectors[0], b"missing"), errno.ENOENT, "record 10, missing: "),
        (record(nan, paths[0]), errno.EINVAL, "record 10, f0: "),
        (record(vectors[0][:8], paths[0]), errno.EINVAL, "got 32"),
        (record(vectors[0], b".vexfs/README"), errno.EINVAL, "from the root"),
        (record(vectors[0], b"../etc/passwd"), errno.EINVAL, "from the root"),
        (record(vectors[0]), errno.EINVAL, "neither"),
        (record(vectors[0], paths[0], inode=5), errno.EINVAL, "both"),
        (record(vectors[0], paths[0])[:-1], errno.EINVAL, "ends within a record"),
        (b"garbage" * 10, errno.EINVAL, "does not begin with VEXA"),
        (record(vectors[0], paths[0], flags=2), errno.EOPNOTSUPP, "not known"),
    ):
        descriptor = os.open(things.path / "append", os.O_RDWR)
        if words in ("does not begin with VEXA", "not known"):
            # What is no record is refused as soon as it is seen.
            fails_with(number, os.write, descriptor, good + bad)
        else:
            os.write(descriptor, good + bad)
        fails_with(number, os.fsync, descriptor)
        assert words in json.loads(os.read(descriptor, 4096))["error"]
        fails_with(number, os.write, descriptor, good)
        fails_with(number, os.close, descriptor)
        assert words in volume4.log()
        assert json.loads((things.path / "schema.json").read_text())["live"] == 0
        assert not [name for name in os.listxattr(volume4.path / "f0") if "vector" in name]
    with open(things.path / "append", "wb") as append:
        append.write(good)
    assert np.array_equal(vectors_of(volume4, paths), vectors)


def test_long_streams_are_several_batches(volume4):
    things = collection(volume4, dimensions=1024)
    paths = files(volume4, 100)
    vectors = random_vectors(np.random.default_rng(6), 6000, 1024, "f32")
    with open(things.path / "append", "wb", buffering=0) as append:
        stream = b"".join(record(vector, paths[i % 100], i // 100) for i, vector in enumerate(vectors))
        assert append.write(stream) == len(stream)
        assert json.loads((things.path / "schema.json").read_text())["live"] > 3000
    assert np.array_equal(things.vectors[:6000], vectors)
    volume4.again()
    assert np.array_equal(things.vectors[:6000], vectors)
    assert things.valid.sum() == 6000


def test_an_answer_counts_from_the_last_one(volume4):
    """However many batches a stream was: what is set, and which record was refused, is counted from the last answer on."""
    things = collection(volume4, dimensions=1024)
    paths = files(volume4, 100)
    vectors = random_vectors(np.random.default_rng(7), 5000, 1024, "f32")
    records = [record(vector, paths[i % 100], i // 100) for i, vector in enumerate(vectors)]
    descriptor = os.open(things.path / "append", os.O_RDWR)
    os.write(descriptor, b"".join(records[:10]))
    assert json.loads(os.read(descriptor, 4096)) == {"set": 10, "kept": 0}
    written = b"".join(records[10:]) + record(vectors[0], b"missing")
    assert os.write(descriptor, written) == len(written)
    answer = json.loads(os.read(descriptor, 4096))
    assert answer["record"] == 4990 and answer["error"].startswith("record 4990, missing: ")
    # The batches before it are set, its own is not.
    assert 4000 < answer["set"] < 4990 and answer["kept"] == 0
    assert things.valid.sum() == 10 + answer["set"]
    fails_with(errno.ENOENT, os.close, descriptor)


WRITER = """
import os, sys
sys.path[:0] = sys.argv[3:]
from test_append import record
import numpy as np
os.chdir(sys.argv[1])  # the way there is root's alone
os.setgroups([2000]); os.setgid(1000); os.setuid(1000)
append = os.open("append", os.O_RDWR)
os.write(append, record(np.ones(16, "<f4"), sys.argv[2].encode()) if not sys.argv[2].isdigit() else record(np.ones(16, "<f4"), inode=int(sys.argv[2])))
print(os.read(append, 4096).decode(), end="")
"""


def test_rights_are_those_of_the_writer(make_volume):
    volume = make_volume(options=["allow_other"])
    things = collection(volume)
    paths = files(volume, 1)
    (volume.path / "secret").mkdir(mode=0o700)
    files(volume, 1, "secret/")
    os.chmod(volume.path / "secret/f0", 0o666)
    volume.path.chmod(0o755)
    parents = [path for path in sys.path if path.endswith("mount")]

    def write(what):
        done = run(sys.executable, "-B", "-c", WRITER, things.path, what, *parents, ok=(0, 1))
        return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else done.stdout

    path = volume.path / paths[0].decode()
    assert "PermissionError" in write("f0"), "the collection is not theirs"
    os.chown(things.path, -1, 2000)
    things.path.chmod(0o770)
    assert "no write permission on the file" in write("f0")["error"]
    os.chmod(path, 0o622)
    assert write("f0") == {"set": 1, "kept": 0}
    os.removexattr(path, "user.vector.things")
    os.chown(path, 0, 2000)
    os.chmod(path, 0o604)
    assert "error" in write("f0")
    os.chmod(path, 0o624)
    assert write("f0") == {"set": 1, "kept": 0}
    run("setfacl", "-m", "u:1000:r", path)
    assert "no write permission on the file" in write("f0")["error"]
    run("setfacl", "-m", "u:1000:rw", path)
    assert write("f0") == {"set": 1, "kept": 0}
    run("setfacl", "-m", "m::r", path)
    assert "no write permission on the file" in write("f0")["error"]
    assert "no search permission" in write("secret/f0")["error"]
    assert "only root" in write(str(os.stat(volume.path / "secret/f0").st_ino))["error"]
    os.symlink("f0", volume.path / "link")
    assert "symbolic link" in write("link")["error"]


def test_fsync_makes_a_batch_durable(volume4):
    things = collection(volume4)
    paths = files(volume4, 300)
    vectors = random_vectors(np.random.default_rng(8), 300, 16, "f32")
    append = os.open(things.path / "append", os.O_WRONLY)
    os.write(append, b"".join(map(record, vectors[:200], paths)))
    os.fsync(append)
    os.write(append, b"".join(map(record, vectors[200:], paths[200:])))
    volume4.kill()
    volume4.mount()
    assert np.array_equal(vectors_of(volume4, paths[:200]), vectors[:200])
    assert json.loads((things.path / "schema.json").read_text())["live"] == 200
    assert "user.vector.things" not in os.listxattr(volume4.path / "f200")


def test_readers_see_a_batch_at_once(volume4):
    things = collection(volume4, dimensions=384)
    paths = files(volume4, 400)
    vectors = random_vectors(np.random.default_rng(9), 400, 384, "f32")
    with open(things.path / "append", "wb", buffering=0) as append:
        append.write(b"".join(map(record, vectors[:100], paths)))
        os.fsync(append.fileno())
        seen = things.vectors
        assert np.array_equal(seen, vectors[:100])
        append.write(b"".join(map(record, vectors[100:], paths[100:])))
        os.fsync(append.fileno())
        assert np.array_equal(things.vectors, vectors) and np.array_equal(seen, vectors[:100])
        again = random_vectors(np.random.default_rng(10), 400, 384, "f32")
        append.write(b"".join(map(record, again, paths)))
        os.fsync(append.fileno())
        assert np.array_equal(things.vectors[things.valid], again)
    assert subprocess.run(["cat", things.path / "append"], stdout=subprocess.PIPE, check=True).stdout == b""
