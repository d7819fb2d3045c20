"""Imports that are interrupted: nothing is lost, nothing doubled, and the rest follows."""

import json
import os
import pty
import re
import subprocess

import numpy as np
import pytest
from volume import BIN, random_vectors, run, wait_for

FILES, EACH, DIMENSIONS = 400, 100, 96
ALL = FILES * EACH


@pytest.fixture
def task(volume4, tmp_path):
    """Files with content, a matrix, and the list of its rows' files; gives the arguments of an import, and the matrix."""
    vectors = random_vectors(np.random.default_rng(11), ALL, DIMENSIONS, "f32")
    for number in range(FILES):
        (volume4.path / f"f{number}").write_bytes(b"content")
    (tmp_path / "paths").write_text("".join(f"f{row % FILES}\t{row // FILES}\n" for row in range(ALL)))
    np.save(tmp_path / "vectors.npy", vectors)
    (volume4.path / ".vexfs/collections/things").mkdir()
    os.setxattr(volume4.path / ".vexfs/collections/things", "user.vexfs.dim", str(DIMENSIONS).encode())
    command = ["import", "things", tmp_path / "vectors.npy", "--paths", tmp_path / "paths", "--base", volume4.path]
    return [str(word) for word in (BIN / "vexfs", *command)], vectors


def live(volume):
    return json.loads((volume.path / ".vexfs/collections/things/schema.json").read_text())["live"]


def check(volume, vectors):
    """Every vector is there, once."""
    things = volume.collection("things")
    assert live(volume) == ALL == things.valid.sum()
    for row in range(0, ALL, 7):
        file, n = volume.path / f"f{row % FILES}", row // FILES
        name = "user.vector.things" + (f".{n}" if n else "")
        assert os.getxattr(file, name) == vectors[row].tobytes()
    found = np.unique(np.ascontiguousarray(things.vectors[things.valid][:, :DIMENSIONS]), axis=0)
    assert np.array_equal(found, np.unique(vectors, axis=0))
    assert all(os.getxattr(volume.path / f"f{number}", "user.vexfs.fresh") == b"1" for number in range(FILES))


def begun(command, volume):
    """An import that set some vectors, and not all."""
    importer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(lambda: live(volume) > 0 or importer.poll() is not None, "the first batch")
    return importer


def resume(command):
    return json.loads(run(*command, "--skip-existing", "--json").stdout)


def test_the_importer_is_killed(volume4, task):
    command, vectors = task
    importer = begun(command, volume4)
    importer.kill()
    importer.communicate()
    there = live(volume4)
    assert 0 < there < ALL, "it was through before it could be killed"
    rest = resume(command)
    # What was on its way when it was killed may have come in after the count.
    assert rest["set"] + rest["skipped"] == ALL and there <= rest["skipped"] < ALL
    check(volume4, vectors)
    assert resume(command)["set"] == 0
    volume4.again()
    check(volume4, vectors)


def test_the_daemon_is_killed(volume4, task):
    command, vectors = task
    descriptor = os.open(volume4.path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    importer = begun(command, volume4)
    volume4.kill()
    text = importer.communicate()[0]
    assert importer.returncode == 1 and "panicked" not in text, text
    volume4.fsck()
    volume4.mount()
    there = live(volume4)
    assert there < ALL
    rest = resume(command)
    assert (rest["set"], rest["skipped"]) == (ALL - there, there)
    check(volume4, vectors)
    volume4.again()
    check(volume4, vectors)


def test_what_a_finished_import_set_survives_a_kill(volume4, task):
    command, vectors = task
    run(*command)
    volume4.kill()
    volume4.mount()
    check(volume4, vectors)


def test_progress_on_a_terminal(volume4, task):
    command, _ = task
    leader, follower = pty.openpty()
    importer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        shown += part
        if not part:
            break
    os.close(leader)
    assert importer.wait() == 0
    text = shown.decode()
    assert re.search(rf"\d+/{ALL} vectors, [\d.,]+/s, \S+ left", text), text
    assert re.search(rf"{ALL} vectors set \([\d.]+ s, \d+ a second\)", text), text
