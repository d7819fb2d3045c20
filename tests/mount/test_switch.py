"""From one model to another: a collection like another one, filled beside it, and switched to in one step."""

import json
import os
import stat
import subprocess

import numpy as np
from volume import BIN, run


def vexfs(volume, *words, user=None):
    command = [BIN / "vexfs", *words, "--mount", volume.path]
    if user:
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def vectors(count, dimensions):
    return np.random.default_rng(dimensions).standard_normal((count, dimensions)).astype("<f4")


def fill(volume, count=10):
    run(BIN / "vexfs", "create", "m", "--dim", "4", "--model", "one", "--codec", "sq8", "--history", "2", "--metric", "ip", "--mount", volume.path)
    run(BIN / "vexfs", "column", "add", "m", "source", "string", "--width", "12", "--mount", volume.path)
    run(BIN / "vexfs", "column", "add", "m", "confidence", "float", "--mount", volume.path)
    old = vectors(count, 4)
    for number in range(count):
        path = volume.path / f"f{number}"
        path.write_bytes(b"content")
        os.setxattr(path, "user.vector.m", old[number].tobytes())
    return old


def schema(volume, name):
    return json.loads((volume.path / ".vexfs/collections" / name / "schema.json").read_text())


def test_settings_are_taken_over(volume4):
    fill(volume4)
    collections = volume4.path / ".vexfs/collections"
    os.setxattr(collections / "m", "user.vexfs.inherit", b"0")
    os.chmod(collections / "m", 0o751)
    os.chown(collections / "m", 1000, 2000)
    assert not vexfs(volume4, "create", "same", "--like", "m").returncode
    assert not vexfs(volume4, "create", "other", "--like", "m", "--model", "two", "--codec", "none").returncode
    assert not vexfs(volume4, "create", "bits", "--like", "m", "--element", "bit").returncode
    said = {name: schema(volume4, name) for name in ("m", "same", "other", "bits")}
    taken = ("element", "metric", "history", "inherit", "columns")
    for name in ("same", "other"):
        assert {key: said[name][key] for key in taken} == {key: said["m"][key] for key in taken}
        status = os.stat(collections / name)
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o751, 1000, 2000)
    assert (said["same"]["dimension"], said["same"]["model"], said["same"]["codec"]) == (4, "one", "sq8")
    # Another model's vectors have a length of their own.
    assert (said["other"]["dimension"], said["other"]["model"], said["other"]["codec"]) == (0, "two", "none")
    assert (said["bits"]["metric"], said["bits"]["codec"], said["bits"]["history"]) == ("hamming", "none", 2)
    refused = vexfs(volume4, "create", "x", "--like", "missing")
    assert refused.returncode == 1 and "no collection `missing`" in refused.stderr
    assert not (collections / "x").exists()


def test_a_new_model_takes_the_name_when_all_is_there(volume4):
    old = fill(volume4)
    assert not vexfs(volume4, "create", "next", "--like", "m", "--model", "two", "--codec", "none").returncode
    new = vectors(10, 8)
    for number in range(9):
        os.setxattr(volume4.path / f"f{number}", "user.vector.next", new[number].tobytes())
    status = vexfs(volume4, "switch", "m", "next", "--status")
    assert status.stdout == "9 of 10 files of m have a vector in next; not yet: f9\n"
    told = json.loads(vexfs(volume4, "switch", "m", "next", "--status", "--json").stdout)
    assert told == {"current": "m", "next": "next", "files": 10, "done": 9, "missing": 1, "some": ["f9"]}
    refused = vexfs(volume4, "switch", "m", "next")
    assert refused.returncode == 1 and "not yet: f9" in refused.stderr and "--force" in refused.stderr
    assert schema(volume4, "m")["model"] == "one"

    os.setxattr(volume4.path / "f9", "user.vector.next", new[9].tobytes())
    mapped = np.load(volume4.path / ".vexfs/collections/m/vectors.npy", mmap_mode="r")
    before = mapped.tobytes()
    done = vexfs(volume4, "switch", "m", "next")
    assert done.returncode == 0 and "goes back" in done.stdout, done
    for again in (False, True):
        if again:
            assert mapped.tobytes() == before
            del mapped
            volume4.again()
        assert (schema(volume4, "m")["model"], schema(volume4, "next")["model"]) == ("two", "one")
        for number in range(10):
            path = volume4.path / f"f{number}"
            assert os.getxattr(path, "user.vector.m") == new[number].tobytes()
            assert np.abs(np.frombuffer(os.getxattr(path, "user.vector.next"), "<f4") - old[number]).max() < 0.05
        answers = vexfs(volume4, "search", "m", "--like", volume4.path / "f3", "-k", "3", "--json").stdout.splitlines()
        assert len(answers) == 3
    assert vexfs(volume4, "switch", "m", "next").returncode == 0
    assert schema(volume4, "m")["model"] == "one"


def test_what_cannot_be_switched_is_told(volume4, make_volume, tmp_path):
    fill(volume4, 3)
    run(BIN / "vexfs", "create", "next", "--like", "m", "--mount", volume4.path)
    for words, why in (
        (("m", "m"), "the same collection twice"),
        (("m", "missing"), "no collection `missing`"),
        (("m", "next"), "0 of 3 files of m have a vector in next; not yet: f0, f1, f2"),
        (("m.1x", "next"), "behind the dot"),
    ):
        refused = vexfs(volume4, "switch", *words)
        assert refused.returncode == 1 and why in refused.stderr, refused.stderr
    assert vexfs(volume4, "switch", "m", "next", "--force").returncode == 0
    assert (schema(volume4, "m")["live"], schema(volume4, "next")["live"]) == (0, 3)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    shared = make_volume(options=("allow_other",))
    os.chmod(shared.path, 0o755)
    fill(shared, 1)
    run(BIN / "vexfs", "create", "next", "--like", "m", "--mount", shared.path)
    for name in ("m", "next"):
        os.chmod(shared.path / ".vexfs/collections" / name, 0o755)
    refused = vexfs(shared, "switch", "m", "next", "--force", user=1000)
    assert refused.returncode == 1 and "names of collections" in refused.stderr, refused.stderr
    assert schema(shared, "m")["live"] == 1
