"""Freshness: which vectors are of the content that is there, and what editors do to them."""

import contextlib
import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from volume import BIN, fails_with, run, wait_for

VECTOR = np.arange(1, 97, dtype="<f4").tobytes()


def is_fresh(path):
    return {b"1": True, b"0": False}[os.getxattr(path, "user.vexfs.fresh")]


def stale(volume):
    lines = (volume.path / ".vexfs" / "stale").read_text().splitlines()
    return {(line["path"], line["collection"], line["n"]) for line in map(json.loads, lines)}


@pytest.fixture
def file(volume4):
    path = volume4.path / "docs" / "file.txt"
    path.parent.mkdir()
    path.write_bytes(b"a content of some length\n" * 400)
    fails_with(errno.ENODATA, os.getxattr, path, "user.vexfs.fresh")
    os.setxattr(path, "user.vector.minilm", VECTOR)
    os.setxattr(path, "user.vector.minilm.7", VECTOR)
    assert is_fresh(path) and not stale(volume4)
    return path


def write_one_byte(path):
    with open(path, "r+b") as file:
        file.seek(5000)
        file.write(b"X")


def write_by_mapping(path):
    import mmap
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[77] = 1
        mapped.flush()


def punch(path):
    run("fallocate", "-p", "-o", 0, "-l", 4096, path)


CHANGES = [write_one_byte, write_by_mapping, punch, lambda path: os.truncate(path, 100), lambda path: os.truncate(path, 20_000)]
NO_CHANGES = [lambda path: os.chmod(path, 0o600), lambda path: os.utime(path, (1, 2)), lambda path: os.rename(path, str(path) + "x") or os.rename(str(path) + "x", path),
              lambda path: os.setxattr(path, "user.note", b"x"), lambda path: path.read_bytes(), lambda path: os.link(path, str(path) + ".link")]


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_content_makes_it_stale(volume4, file, change):
    change(file)
    both = {("docs/file.txt", "minilm", 0), ("docs/file.txt", "minilm", 7)}
    assert not is_fresh(file) and stale(volume4) == both
    os.setxattr(file, "user.vector.minilm", VECTOR)
    assert not is_fresh(file) and stale(volume4) == {("docs/file.txt", "minilm", 7)}, "one of two is of the old content"
    volume4.again()
    assert not is_fresh(file) and stale(volume4) == {("docs/file.txt", "minilm", 7)}
    os.setxattr(file, "user.vector.minilm.7", VECTOR)
    assert is_fresh(file) and not stale(volume4)


@pytest.mark.parametrize("change", NO_CHANGES)
def test_nothing_else_does(volume4, file, change):
    change(file)
    volume4.again()
    assert is_fresh(file) and not stale(volume4)


def test_a_synced_change_is_stale_after_a_crash(volume4, file):
    with open(file, "r+b") as opened:
        os.fsync(opened.fileno())
        opened.write(b"CHANGED")
        opened.flush()
        os.fsync(opened.fileno())
    volume4.kill()
    volume4.mount()
    assert file.read_bytes().startswith(b"CHANGED") and not is_fresh(file)


def save_atomically(path):
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"a new content\n")
    os.replace(temporary, path)


def save_by_sed(path):
    run("sed", "-i", "s/content/CONTENT/", path)


def save_by_rsync(path):
    source = path.parent / "source.txt"
    source.write_bytes(b"a new content from elsewhere\n")
    run("rsync", "-t", source, path)
    source.unlink()


def save_by_vim(path, copy="yes"):
    run("vim", "-u", "NONE", "-es", "-c", f"set backupskip= backupcopy={copy} nobackup writebackup", "-c", "%s/content/CONTENT/", "-c", "wq", path)


def save_by_vim_renaming(path):
    save_by_vim(path, copy="no")


def save_with_a_backup(path):
    """Emacs and KDE: the old file becomes the backup, the new one is made beside; the old backup goes."""
    backup = path.with_name(path.name + "~")
    os.rename(path, backup)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(b"a new content\n")
    os.rename(temporary, path)
    backup.unlink()


@pytest.mark.parametrize("save", [save_atomically, save_by_sed, save_by_rsync, save_by_vim, save_by_vim_renaming, save_with_a_backup])
def test_what_is_saved_over_a_file_inherits_its_vectors(volume4, file, save):
    before = volume4.collection("minilm").rows()
    save(file)
    assert b"CONTENT" in file.read_bytes() or b"a new content" in file.read_bytes()
    assert os.getxattr(file, "user.vector.minilm") == VECTOR == os.getxattr(file, "user.vector.minilm.7")
    assert not is_fresh(file) and len(stale(volume4)) == 2
    rows = volume4.collection("minilm").rows()
    assert list(rows) == [os.stat(file).st_ino] and sorted(rows.popitem()[1]) == sorted(before.popitem()[1]), "the rows stay where they are"
    os.setxattr(file, "user.vector.minilm", VECTOR)
    os.setxattr(file, "user.vector.minilm.7", VECTOR)
    assert is_fresh(file)
    volume4.again()
    assert is_fresh(file) and volume4.collection("minilm").valid.sum() == 2


def test_git_checkout(volume4):
    """Git unlinks and creates anew: the vectors go with the old file, as the words of unlink(2) have it."""
    work = volume4.path / "work"
    git = ("git", "-C", work, "-c", "user.name=a", "-c", "user.email=a@b")
    run("git", "init", "-q", work)
    (work / "file").write_bytes(b"one\n")
    run(*git, "add", "file")
    run(*git, "commit", "-qm", "one")
    (work / "file").write_bytes(b"two\n")
    run(*git, "commit", "-qam", "two")
    os.setxattr(work / "file", "user.vector.minilm", VECTOR)
    run(*git, "checkout", "-q", "HEAD~1")
    assert (work / "file").read_bytes() == b"one\n"
    assert not [name for name in os.listxattr(work / "file") if name.startswith("user.vector")]
    assert not volume4.collection("minilm").valid.any()


def test_attributes_before_data_as_tar_sets_them(volume4, file):
    archive = volume4.path.parent / "archive.tar"
    run("tar", "--xattrs", "-C", volume4.path, "-cf", archive, "docs")
    restored = volume4.path / "restored"
    restored.mkdir()
    run("tar", "--xattrs", "-C", restored, "-xf", archive)
    wait_for(lambda: is_fresh(restored / "docs/file.txt"), "the last close")
    assert os.getxattr(restored / "docs/file.txt", "user.vector.minilm.7") == VECTOR
    volume4.again()
    assert is_fresh(restored / "docs/file.txt")
    write_one_byte(restored / "docs/file.txt")
    assert not is_fresh(restored / "docs/file.txt")


def test_a_vector_of_an_empty_file_is_of_what_comes(volume4):
    path = volume4.path / "file"
    path.touch()
    os.setxattr(path, "user.vector.minilm", VECTOR)
    assert is_fresh(path)
    path.read_bytes()
    path.write_bytes(b"content")
    wait_for(lambda: is_fresh(path), "the last close: the vector counts as made of what comes first")
    path.write_bytes(b"other content")
    assert not is_fresh(path)


def test_a_crash_before_the_close_leaves_it_stale(volume4):
    path = volume4.path / "file"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY)
    os.setxattr(path, "user.vector.minilm", VECTOR)
    os.write(descriptor, b"content")
    os.fsync(descriptor)
    volume4.kill()
    with contextlib.suppress(OSError):
        os.close(descriptor)
    volume4.mount()
    assert path.read_bytes() == b"content" and not is_fresh(path)
    with open(path, "ab") as opened:
        opened.write(b"more")
    assert not is_fresh(path)


def test_own_vectors_come_first(volume4, file):
    new = file.with_name("new")
    new.write_bytes(b"copied with its vector")
    other = np.full(96, 5, "<f4").tobytes()
    os.setxattr(new, "user.vector.minilm", other)
    os.setxattr(file, "user.vector.second", VECTOR)
    os.replace(new, file)
    assert os.getxattr(file, "user.vector.minilm") == other
    fails_with(errno.ENODATA, os.getxattr, file, "user.vector.minilm.7")
    assert os.getxattr(file, "user.vector.second") == VECTOR
    assert stale(volume4) == {("docs/file.txt", "second", 0)}
    assert sorted(os.listxattr(file)) == ["user.vector.minilm", "user.vector.second"]


def test_inheriting_can_be_switched_off(volume4, file):
    directory = volume4.path / ".vexfs" / "collections" / "minilm"
    assert os.getxattr(directory, "user.vexfs.inherit") == b"1"
    os.setxattr(directory, "user.vexfs.inherit", b"0")
    fails_with(errno.EINVAL, os.setxattr, directory, "user.vexfs.inherit", b"no")
    assert json.loads((directory / "schema.json").read_text())["inherit"] is False
    save_atomically(file)
    assert os.listxattr(file) == [] and not stale(volume4)


def test_who_replaces_a_strangers_file_does_not_get_its_vectors(make_volume):
    volume = make_volume(options=("allow_other",))
    shared = volume.path / "shared"
    shared.mkdir(mode=0o777)
    os.chmod(shared, 0o777)
    os.chmod(volume.path.parent, 0o755)
    secret = shared / "secret"
    secret.write_bytes(b"secret")
    os.chmod(secret, 0o600)
    os.setxattr(secret, "user.vector.minilm", VECTOR)
    code = "import os; os.setuid(4321); open('mine', 'w').close(); os.rename('mine', 'secret'); print(os.listxattr('secret'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=shared, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_open_files_and_links(volume4, file):
    descriptor = os.open(file, os.O_RDWR)
    save_atomically(file)
    fails_with(errno.ENODATA, os.getxattr, descriptor, "user.vector.minilm")
    os.write(descriptor, b"into the old one")
    os.close(descriptor)
    os.link(file, file.with_name("link"))
    save_atomically(file)
    assert os.listxattr(file) == [] and len(os.listxattr(file.with_name("link"))) == 2, "the old file still has a name"


def test_paths(volume4, file):
    os.rename(file.parent, volume4.path / "moved")
    odd = os.fsencode(volume4.path) + b"/moved/\xff\"odd"
    with open(odd, "wb"):
        pass
    os.setxattr(odd, "user.vector.minilm", VECTOR)
    paths = volume4.path / ".vexfs/collections/minilm/paths.jsonl"
    lines = [json.loads(line) for line in paths.read_text().splitlines()]
    assert [(line["row"], line["n"]) for line in lines] == [(0, 0), (1, 7), (2, 0)]
    assert lines[0]["path"] == "moved/file.txt" and lines[0]["inode"] == os.stat(volume4.path / "moved/file.txt").st_ino
    assert bytes.fromhex(lines[2]["path_hex"]) == b"moved/\xff\"odd"
    assert os.stat(paths).st_mode & 0o777 == 0o400 == os.stat(volume4.path / ".vexfs/stale").st_mode & 0o777


def test_the_tool_lists_what_the_caller_can_reach(volume4, file):
    write_one_byte(file)
    (volume4.path / "other").write_bytes(b"x")
    os.setxattr(volume4.path / "other", "user.vector.minilm", VECTOR)
    assert run(BIN / "vexfs", "stale", volume4.path).stdout == f"{file}\n"
    told = [json.loads(line) for line in run(BIN / "vexfs", "stale", "--json", volume4.path).stdout.splitlines()]
    assert [line["path"] for line in told] == [str(file)]
    assert run(BIN / "vexfs", "stale", volume4.path / "other").stdout == ""
    assert run(BIN / "vexfs", "stale", "-0", file.parent).stdout == f"{file}\0"
    assert "no such file" in run(BIN / "vexfs", "stale", volume4.path / "nothing", ok=(1,)).stdout.lower()
