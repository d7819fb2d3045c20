"""Vectors come along with `cp -a`, `rsync -aX` and `tar --xattrs`, to other filesystems and back."""

import os
import subprocess

import numpy as np
import pytest
from volume import DTYPES, attribute, random_vectors, run

DIMENSIONS = 128
SIZE = "400M"


@pytest.fixture(params=["vexfs", "ext4", "xfs", "tmpfs"])
def elsewhere(request, make_volume, tmp_path):
    """A directory on another filesystem."""
    if request.param == "vexfs":
        yield make_volume(size=SIZE).path
        return
    path = tmp_path / "elsewhere"
    path.mkdir()
    if request.param == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path)
    else:
        image = tmp_path / "elsewhere.img"
        run("truncate", "-s", SIZE, image)
        # On a small image ext4 would take blocks of 1 KiB, and they limit the attributes of a file.
        run(f"mkfs.{request.param}", "-q", *(["-b", "4096"] if request.param == "ext4" else []), image)
        run("mount", "-o", "loop", image, path)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def copy(method, source, target):
    """Copies the tree `source` to `target`, which does not exist."""
    if method == "cp":
        run("cp", "-a", source, target)
    elif method == "rsync":
        run("rsync", "-aX", f"{source}/", f"{target}/")
    else:
        target.mkdir()
        flags = "--xattrs --xattrs-include='*'"
        run("bash", "-c", f"set -o pipefail; tar {flags} -C '{source}' -cf - . | tar {flags} -C '{target}' -xpf -")


def attributes(tree):
    """Path within the tree -> (content, all attributes)."""
    found = {}
    for path in sorted(tree.rglob("*")):
        values = {name: os.getxattr(path, name) for name in os.listxattr(path)}
        found[str(path.relative_to(tree))] = (path.read_bytes() if path.is_file() else None, values)
    return found


@pytest.mark.parametrize("method", ["cp", "rsync", "tar"])
def test_every_element_type_comes_along(make_volume, elsewhere, method):
    source = make_volume(size=SIZE)
    generator = np.random.default_rng(3)
    tree = source.path / "tree"
    tree.mkdir()
    for element in DTYPES:
        for i, vector in enumerate(random_vectors(generator, 12, DIMENSIONS, element)):
            path = tree / f"{element}-{i // 2}"
            path.write_bytes(os.urandom(i * 1000))
            os.setxattr(path, attribute(f"copied-{element}", element, n=i % 2), vector.tobytes())
            os.setxattr(path, "user.other", b"an ordinary one")
    expected = attributes(tree)
    assert sum(len(values) for _, values in expected.values()) == 90, "60 vectors and 30 other attributes"
    copy(method, tree, elsewhere / "copy")
    assert attributes(elsewhere / "copy") == expected
    run("rm", "-r", tree)
    copy(method, elsewhere / "copy", source.path / "back")
    assert attributes(source.path / "back") == expected
    source.again()
    assert attributes(source.path / "back") == expected
    for element in DTYPES:
        assert int(source.collection(f"copied-{element}").valid.sum()) == 12


def test_a_second_rsync_has_nothing_to_do(make_volume):
    source, target = make_volume(size=SIZE), make_volume(size=SIZE)
    for i in range(20):
        path = source.path / f"f{i}"
        path.write_bytes(os.urandom(1000))
        os.setxattr(path, "user.vector.c", np.full(16, i, "<f4").tobytes())
    run("rsync", "-aHAX", f"{source.path}/", f"{target.path}/")
    assert run("rsync", "-aHAXi", f"{source.path}/", f"{target.path}/").stdout == ""


def test_a_copy_of_the_whole_mount_leaves_the_control_directory(make_volume, tmp_path):
    source = make_volume(size=SIZE)
    (source.path / "f").write_bytes(b"x")
    os.setxattr(source.path / "f", "user.vector.c", np.ones(16, "<f4").tobytes())
    run("cp", "-a", f"{source.path}/.", tmp_path / "copy")
    assert os.listdir(tmp_path / "copy") == ["f"]
