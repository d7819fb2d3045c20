"""Recoding: another codec while everybody goes on; who has the old matrix open keeps it; crashes, full volumes, refusals."""

import errno
import json
import os
import subprocess
import threading
import time

import numpy as np
from volume import BIN, fails_with, random_vectors, run

DIMENSIONS = 384
# What a codec may keep wrong, of values of unit vectors: half a step of the largest, generously.
CLOSE = {"none": 0, "f16": 1e-4, "sq8": 2e-3, "sq4": 4e-2}


def fill(volume, count, name="things"):
    vectors = random_vectors(np.random.default_rng(7), count, DIMENSIONS, "f32")
    for i, vector in enumerate(vectors):
        path = volume.path / f"f{i}"
        path.write_bytes(b"content")
        os.setxattr(path, f"user.vector.{name}", vector.tobytes())
    return vectors


def directory(volume, name="things"):
    return volume.path / ".vexfs/collections" / name


def schema(volume, name="things"):
    return json.loads((directory(volume, name) / "schema.json").read_text())


def recode(volume, *options, name="things"):
    return run(BIN / "vexfs", "recode", directory(volume, name), *options)


def refused(volume, *options, name="things"):
    command = [BIN / "vexfs", "recode", directory(volume, name), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout, done
    return done.stderr


def read(volume, i, name="things"):
    return np.frombuffer(os.getxattr(volume.path / f"f{i}", f"user.vector.{name}"), "<f4")


def decoded(volume, codec, name="things"):
    """All rows, as the README of the control directory decodes them."""
    at = directory(volume, name)
    m, d = np.load(at / "vectors.npy", mmap_mode="r"), DIMENSIONS
    if codec in ("none", "f16"):
        return m[:, :d].astype("f4")
    s = np.load(at / "scale.npy", mmap_mode="r")[:, None]
    if codec == "sq8":
        return m[:, :d] * s
    return (np.stack([m & 15, m >> 4], axis=-1).reshape(len(m), -1)[:, :d] - 7.5) * s


def wait_until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.05)


def test_every_codec_reads_back(volume):
    vectors = fill(volume, 300)
    before = schema(volume)
    assert before["matrix"] == 0 and "recode" not in before
    for codec in ("sq8", "none", "f16", "sq4"):
        told = json.loads(recode(volume, "--codec", codec, "--json").stdout)
        now = schema(volume)
        assert (told["codec"], now["codec"], now["live"]) == (codec, codec, 300)
        assert now["matrix"] > before["matrix"] and now["generation"] > before["generation"]
        before, worst = now, max(CLOSE["sq8"], CLOSE[codec])
        rows = decoded(volume, codec)
        for i in range(0, 300, 17):
            assert np.abs(read(volume, i) - vectors[i]).max() <= worst
            row = volume.collection("things").row_of(volume.path / f"f{i}")
            assert np.array_equal(rows[row].astype("f4"), read(volume, i))
        headers = np.load(directory(volume) / "headers.npy", mmap_mode="r")
        assert set(headers["compressed_size"]) == {now["row_bytes"]}
    del rows, headers
    volume.again()
    assert schema(volume)["codec"] == "sq4"
    assert np.abs(read(volume, 5) - vectors[5]).max() <= CLOSE["sq4"]


READER = """
import sys, numpy as np
at, count = sys.argv[1], int(sys.argv[2])
m, s = (np.load(f"{at}/{name}.npy", mmap_mode="r") for name in ("vectors", "scale"))
first, scales = np.array(m), np.array(s)
print("ready", flush=True)
sys.stdin.readline()
# The caches were dropped, as far as a mapping lets them.
assert np.array_equal(m, first) and np.array_equal(s, scales), "the old matrix changed under its reader"
print("whole", flush=True)
sys.stdin.readline()
"""


def test_who_has_the_old_matrix_mapped_keeps_it(volume4):
    fill(volume4, 3000)
    recode(volume4, "--codec", "sq8")
    # What was replaced so far is freed soon, as nobody has it open.
    volume4.settle(still_seconds=2)
    at = directory(volume4)
    old = os.stat(at / "vectors.npy")
    held = os.open(at / "vectors.npy", os.O_RDONLY)
    before = os.pread(held, old.st_size, 0)
    reader = subprocess.Popen([os.sys.executable, "-B", "-c", READER, at, "3000"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert reader.stdout.readline() == "ready\n"
    sizes = {name: os.stat(at / name).st_size for name in ("headers.npy", "valid.npy")}
    recode(volume4, "--codec", "sq4")
    for i in range(0, 3000, 3):
        os.setxattr(volume4.path / f"f{i}", "user.vector.things", np.full(DIMENSIONS, 0.5, "<f4").tobytes())
    new = os.stat(at / "vectors.npy")
    assert new.st_ino != old.st_ino
    assert all(os.stat(at / name).st_size >= size for name, size in sizes.items()), "a mapped file got shorter"
    run("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches")
    assert os.fstat(held).st_size == old.st_size and os.pread(held, old.st_size, 0) == before
    reader.stdin.write("\n")
    reader.stdin.flush()
    assert reader.stdout.readline() == "whole\n", reader.communicate()[0]
    free = volume4.settle(still_seconds=2)
    os.close(held)
    assert volume4.settle(still_seconds=2) <= free + 65536, "somebody still has it mapped"
    reader.communicate("\n", timeout=60)
    assert reader.returncode == 0
    wait_until(lambda: volume4.settle(still_seconds=1) >= free + 3000 * DIMENSIONS)


def test_vectors_come_and_go_meanwhile(volume4):
    vectors = fill(volume4, 6000)
    now, stop = {i: vectors[i] for i in range(6000)}, threading.Event()

    def change():
        random = np.random.default_rng(3)
        while not stop.is_set():
            i = int(random.integers(6000))
            path = volume4.path / f"f{i}"
            if i % 4 == 0:
                vector = random.standard_normal(DIMENSIONS).astype("<f4")
                vector /= np.linalg.norm(vector)
                os.setxattr(path, "user.vector.things", vector.tobytes())
                now[i] = vector
            elif i % 4 == 1 and i in now:
                os.removexattr(path, "user.vector.things")
                del now[i]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        recode(volume4, "--codec", "sq8")
    finally:
        time.sleep(0.2)
        stop.set()
        thread.join()
    assert schema(volume4)["live"] == len(now)
    volume4.again()
    for i in range(6000):
        if i in now:
            assert np.abs(read(volume4, i) - now[i]).max() <= CLOSE["sq8"], i
        else:
            fails_with(errno.ENODATA, os.getxattr, volume4.path / f"f{i}", "user.vector.things")


def test_a_killed_daemon_goes_on(volume4):
    vectors = fill(volume4, 4000)
    volume4.settle(still_seconds=2)
    (directory(volume4) / "control").write_text("recode sq8\n")
    volume4.kill()
    volume4.fsck()
    volume4.mount()
    recode(volume4, "--codec", "sq8")
    for i in range(0, 4000, 31):
        assert np.abs(read(volume4, i) - vectors[i]).max() <= CLOSE["sq8"]


def test_a_search_finds_the_same_files(volume4):
    vectors = fill(volume4, 500)

    def nearest(i):
        command = [BIN / "vexfs", "search", directory(volume4), "--like", volume4.path / f"f{i}", "-k", "3", "--json"]
        return [json.loads(line)["path"] for line in run(*command).stdout.splitlines()]

    before = [nearest(i) for i in range(0, 500, 50)]
    run("sh", "-c", f"exec 3<>{directory(volume4)}/query; echo '{{\"rows\": [0]}}' >&3; cat <&3")
    recode(volume4, "--codec", "sq8")
    same = [old[0] == nearest(i)[0] for old, i in zip(before, range(0, 500, 50), strict=True)]
    assert sum(same) >= 8, "random vectors have many that are nearly as near, but not so many"
    question = json.dumps({"vector": vectors[7].tolist(), "k": 1})
    with open(directory(volume4) / "query", "r+b", buffering=0) as query:
        query.write(question.encode())
        assert json.loads(query.read(4096))["path"].endswith("f7")


def test_requests_and_refusals(volume4):
    vectors = fill(volume4, 50)
    os.setxattr(volume4.path / "f0", "user.vector.whole:i8", bytes(64))
    assert "nothing to do" in recode(volume4, "--codec", "none").stdout
    assert "nothing to stop" in refused(volume4, "--stop")
    assert "is no codec" in refused(volume4, "--codec", "zip")
    assert "cannot store these elements" in refused(volume4, "--codec", "sq8", name="whole")
    control = directory(volume4) / "control"
    with open(control, "wb", buffering=0) as file:
        fails_with(errno.EOPNOTSUPP, file.write, b"recode pq\n")
        fails_with(errno.EINVAL, file.write, b"recode stop\n")
    assert "nothing to stop" in volume4.log()
    # A value that a half cannot have stops it; the collection is as it was.
    os.setxattr(volume4.path / "f9", "user.vector.things", np.full(DIMENSIONS, 1e6, "<f4").tobytes())
    words = refused(volume4, "--codec", "f16")
    assert "recoding stopped" in words and "--stop" in words
    assert "recoding of the collection things stopped" in volume4.log()
    assert json.loads(control.read_text())["recode"]["stopped"]
    assert np.array_equal(read(volume4, 3), vectors[3])
    assert "being recoded to f16" in refused(volume4, "--codec", "sq8")
    with open(control, "wb", buffering=0) as file:
        fails_with(errno.EBUSY, file.write, b"compact\n")
    os.setxattr(volume4.path / "f9", "user.vector.things", vectors[9].tobytes())
    recode(volume4, "--codec", "f16")
    assert schema(volume4)["codec"] == "f16" and "recode" not in json.loads(control.read_text())


def test_a_full_volume_is_left_as_it_was(make_volume):
    volume = make_volume("4K", "64M")
    vectors = fill(volume, 4000)
    recode(volume, "--codec", "sq4")
    before = volume.settle(still_seconds=2)
    stat = os.statvfs(volume.path)
    with open(volume.path / "filler", "wb") as filler:
        filler.write(bytes(stat.f_bavail * stat.f_frsize - (2 << 20)))
    volume.settle(still_seconds=2)
    words = refused(volume, "--codec", "none")
    assert "no space left" in words and "--stop" in words
    assert schema(volume)["codec"] == "sq4" and schema(volume)["recode"]["codec"] == "none"
    assert np.abs(read(volume, 11) - vectors[11]).max() <= CLOSE["sq4"]
    recode(volume, "--stop")
    os.unlink(volume.path / "filler")
    wait_until(lambda: volume.settle(still_seconds=1) >= before - (64 << 10))
    volume.again()
    recode(volume, "--codec", "none")
    assert np.abs(read(volume, 11) - vectors[11]).max() <= CLOSE["sq4"]
