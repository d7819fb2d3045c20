"""Ordinary extended attributes, by attr's tools and by the system calls."""

import errno
import os

import pytest
from volume import fails_with, run


def test_set_get_list_remove(volume):
    path = volume.path / "file"
    path.touch()
    values = {f"user.a{i}": os.urandom(i * 97 % 5000) for i in range(60)}
    values |= {"trusted.t": b"trusted", "security.s": b"\0binary\xff"}
    for name, value in values.items():
        os.setxattr(path, name, value)
    for _ in range(2):
        assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == values
        volume.again()
    for name in list(values)[::2]:
        os.removexattr(path, name)
        del values[name]
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == values


def test_setfattr_and_getfattr(volume4):
    path = volume4.path / "file"
    path.touch()
    run("setfattr", "-n", "user.comment", "-v", "hello", path)
    run("setfattr", "-n", "user.binary", "-v", "0x00ff10", path)
    assert run("getfattr", "--only-values", "--absolute-names", "-n", "user.comment", path).stdout == "hello"
    assert "user.binary=0x00ff10" in run("getfattr", "--absolute-names", "-n", "user.binary", "-e", "hex", path).stdout
    run("setfattr", "-x", "user.comment", path)
    assert os.listxattr(path) == ["user.binary"]


def test_create_and_replace(volume4):
    path = volume4.path / "file"
    path.touch()
    fails_with(errno.ENODATA, os.setxattr, path, "user.x", b"1", os.XATTR_REPLACE)
    os.setxattr(path, "user.x", b"1", os.XATTR_CREATE)
    fails_with(errno.EEXIST, os.setxattr, path, "user.x", b"2", os.XATTR_CREATE)
    os.setxattr(path, "user.x", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.x") == b"2"
    fails_with(errno.ENODATA, os.getxattr, path, "user.y")
    fails_with(errno.ENODATA, os.removexattr, path, "user.y")


def test_limits(volume):
    path = volume.path / "file"
    path.touch()
    largest = os.urandom(65536)
    os.setxattr(path, "user.largest", largest)
    assert os.getxattr(path, "user.largest") == largest
    fails_with(errno.E2BIG, os.setxattr, path, "user.larger", b"x" * 65537)
    name = "user." + "n" * 250
    os.setxattr(path, name, b"")
    assert os.getxattr(path, name) == b""
    fails_with(errno.ERANGE, os.setxattr, path, name + "n", b"")
    volume.again()
    assert os.getxattr(path, "user.largest") == largest


def test_a_list_longer_than_tools_can_read_is_refused(volume4):
    path = volume4.path / "file"
    path.touch()
    with pytest.raises(OSError) as raised:
        for i in range(400):
            os.setxattr(path, f"user.{i:04}" + "n" * 240, b"")
    assert raised.value.errno == errno.ENOSPC
    assert len(os.listxattr(path)) == 65536 // 250


def test_namespaces_that_are_not_kept(volume4):
    path = volume4.path / "file"
    path.touch()
    fails_with(errno.EOPNOTSUPP, os.setxattr, path, "system.other", b"x")


def test_directories_have_attributes_too(volume4):
    directory = volume4.path / "directory"
    directory.mkdir()
    os.setxattr(directory, "user.x", b"on a directory")
    volume4.again()
    assert os.getxattr(directory, "user.x") == b"on a directory"


def test_a_hard_link_is_the_same_file_and_rename_keeps(volume4):
    path = volume4.path / "file"
    path.touch()
    os.setxattr(path, "user.x", b"1")
    os.link(path, volume4.path / "link")
    os.setxattr(volume4.path / "link", "user.x", b"2")
    os.rename(path, volume4.path / "moved")
    assert os.getxattr(volume4.path / "moved", "user.x") == b"2"
