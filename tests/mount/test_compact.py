"""Compaction: gaps are closed, space comes back, and who reads meanwhile sees whole rows or tombstones."""

import errno
import json
import os
import subprocess

import numpy as np
from volume import BIN, fails_with, random_vectors, run

DIMENSIONS = 384


def fill(volume, count, name="things"):
    vectors = random_vectors(np.random.default_rng(11), count, DIMENSIONS, "f32")
    for i, vector in enumerate(vectors):
        path = volume.path / f"f{i}"
        path.write_bytes(b"content")
        os.setxattr(path, f"user.vector.{name}", vector.tobytes())
    return vectors


def compact(volume, *options):
    return run(BIN / "vexfs", "compact", volume.path / ".vexfs/collections/things", *options)


def check(volume, vectors, kept):
    things = volume.collection("things")
    assert things.valid.all() and len(things.valid) == len(kept)
    rows = sorted(things.row_of(volume.path / f"f{i}") for i in kept)
    assert rows == list(range(len(kept)))
    matrix = things.vectors
    for i in kept:
        assert os.getxattr(volume.path / f"f{i}", "user.vector.things") == vectors[i].tobytes()
        assert matrix[things.row_of(volume.path / f"f{i}")].tobytes() == vectors[i].tobytes()


def test_the_space_comes_back(volume4):
    before = volume4.settle(still_seconds=2)
    vectors = fill(volume4, 10_000)
    full = volume4.settle(still_seconds=2)
    kept = [i for i in range(10_000) if i % 10 == 7]
    for i in range(10_000):
        if i % 10 != 7:
            os.removexattr(volume4.path / f"f{i}", "user.vector.things")
    things = volume4.collection("things")
    generation = json.loads((things.path / "schema.json").read_text())["generation"]
    size = os.stat(things.path / "vectors.npy").st_size
    matrix = os.stat(things.path / "vectors.npy").st_blocks * 512
    told = json.loads(compact(volume4, "--json").stdout)
    assert told["live"] == 1000 and told["closed"] > 8000
    check(volume4, vectors, kept)
    assert json.loads((things.path / "schema.json").read_text())["generation"] > generation
    assert os.stat(things.path / "vectors.npy").st_size >= size, "a matrix never gets shorter"
    payload = 1000 * DIMENSIONS * 4
    left = os.stat(things.path / "vectors.npy").st_blocks * 512
    assert payload <= left <= payload + 128 * 1024 < matrix / 5, "the rest was given back, but for a chunk"
    volume4.again()
    check(volume4, vectors, kept)
    assert full < volume4.settle(still_seconds=2) <= before
    assert "without a gap, 0 gaps closed" in compact(volume4).stdout


READER = """
import sys, numpy as np
directory, total = sys.argv[1], int(sys.argv[2])
matrix, headers, valid = (np.load(f"{directory}/{name}.npy", mmap_mode="r") for name in ("vectors", "headers", "valid"))
seen = 0
print("ready", flush=True)
while True:
    for row in range(0, total, 7):
        if not valid[row]:
            continue
        number, copy = int(headers["vector_id"][row]), np.array(matrix[row])
        if valid[row] and int(headers["vector_id"][row]) == number:
            assert copy[0] == copy[-1] and (copy == copy[0]).all(), (row, copy)
            seen += 1
    if sys.stdin in __import__("select").select([sys.stdin], [], [], 0)[0]:
        break
assert seen > 100
"""


def test_readers_see_whole_rows(volume4, tmp_path):
    for i in range(2000):
        path = volume4.path / f"f{i}"
        path.write_bytes(b"content")
        os.setxattr(path, "user.vector.things", np.full(DIMENSIONS, i + 1, "<f4").tobytes())
    things = volume4.collection("things")
    reader = subprocess.Popen([os.sys.executable, "-B", "-c", READER, things.path, "2000"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert reader.stdout.readline() == "ready\n"
    for i in range(0, 2000):
        if i % 3:
            os.unlink(volume4.path / f"f{i}")
    compact(volume4)
    out, _ = reader.communicate("stop\n", timeout=60)
    assert reader.returncode == 0, out
    for i in range(0, 2000, 3):
        found = np.frombuffer(os.getxattr(volume4.path / f"f{i}", "user.vector.things"), "<f4")
        assert (found == i + 1).all()


def test_a_killed_daemon_loses_nothing(volume4):
    vectors = fill(volume4, 3000)
    for i in range(3000):
        if i % 2:
            os.removexattr(volume4.path / f"f{i}", "user.vector.things")
    volume4.settle(still_seconds=2)
    (volume4.path / ".vexfs/collections/things/control").write_text("compact\n")
    volume4.kill()
    volume4.fsck()
    volume4.mount()
    compact(volume4)
    check(volume4, vectors, range(0, 3000, 2))


def test_requests(volume4):
    fill(volume4, 10)
    control = volume4.path / ".vexfs/collections/things/control"
    assert json.loads(control.read_text()) == {"compacting": False, "live": 10, "rows": 10, "frontier": 10}
    run("sh", "-c", f"echo compact > {control}")
    with open(control, "wb", buffering=0) as file:
        fails_with(errno.EINVAL, file.write, b"defragment\n")
    assert "takes `compact`" in volume4.log()
    os.chmod(control.parent, 0o755)
    assert os.stat(control).st_mode & 0o777 == 0o644
    fails_with(errno.EPERM, os.chmod, control, 0o666)
    code = f"import os; os.setuid(1234); open({str(control)!r}).read(); open({str(control)!r}, 'w')"
    os.chmod(volume4.path.parent, 0o755)
    assert subprocess.run([os.sys.executable, "-c", code], capture_output=True, check=False).returncode == 1
