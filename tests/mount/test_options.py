"""Mount options, and what the kernel is told of a mount."""

import errno
import os
import stat
import subprocess

import numpy as np
import pytest
from volume import BIN, fails_with, run


def options_of(path):
    """The mount's type and options as findmnt shows them."""
    kind, source, options = run("findmnt", "-n", "-o", "FSTYPE,SOURCE,OPTIONS", path).stdout.split()
    return kind, source, set(options.split(","))


def test_what_the_kernel_shows(volume4):
    kind, source, options = options_of(volume4.path)
    assert kind in ("vexfs", "fuse.vexfs") and source == str(volume4.image)
    assert {"rw", "nosuid", "nodev"} <= options and "allow_other" not in options


def test_device_nodes_and_setuid_only_when_asked_for(make_volume):
    volume = make_volume()
    os.mknod(volume.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    fails_with(errno.EACCES, open, volume.path / "null", "rb")
    volume.again("dev", "suid")
    assert not {"nosuid", "nodev"} & options_of(volume.path)[2]
    with open(volume.path / "null", "rb") as file:
        assert file.read() == b""


def test_access_times(make_volume):
    volume = make_volume()
    path = volume.path / "file"
    path.write_bytes(b"x")
    old = 1_000_000_000
    os.utime(path, ns=(old, old))
    path.read_bytes()
    assert os.stat(path).st_atime_ns > old, "relatime: the first read after a change counts"
    os.utime(path, ns=(old, old))
    volume.again("noatime")
    path.read_bytes()
    volume.again()
    assert os.stat(path).st_atime_ns == old


def test_remount_read_only_and_back(volume4):
    (volume4.path / "file").write_text("x")
    run("mount", "-i", "-o", "remount,ro", volume4.path)
    fails_with(errno.EROFS, (volume4.path / "other").touch)
    run("mount", "-i", "-o", "remount,rw", volume4.path)
    (volume4.path / "other").touch()


def test_refusals_go_to_the_log_file(make_volume, tmp_path):
    log = tmp_path / "vexfs.log"
    volume = make_volume(options=[f"log={log}"])
    (volume.path / "file").touch()
    os.setxattr(volume.path / "file", "user.vector.c", np.ones(16, "<f4").tobytes())
    fails_with(errno.EINVAL, os.setxattr, volume.path / "file", "user.vector.c", b"\0" * 32)
    assert "collection c holds 16 x f32 = 64 bytes, got 32" in log.read_text()


def test_wrong_options_are_refused_in_words(make_volume):
    volume = make_volume(mounted=False)
    for option in ("nonsense", "cache=much", "commit=-1", "implicit=perhaps"):
        done = subprocess.run(
            [str(BIN / "mount.vexfs"), str(volume.image), str(volume.path), "-o", option],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )
        assert done.returncode != 0 and option.split("=")[0] in done.stderr, (option, done)
        assert not os.path.ismount(volume.path)


def test_cache_and_commit_are_accepted(make_volume):
    volume = make_volume(options=["cache=8M", "commit=1"])
    for i in range(3000):
        (volume.path / f"f{i}").write_bytes(b"x" * i)
    volume.again("cache=8M", "commit=1")
    assert sum(os.stat(volume.path / f"f{i}").st_size for i in range(3000)) == sum(range(3000))


def test_new_files_belong_to_the_caller_and_setgid_directories_hand_down(make_volume):
    volume = make_volume(options=["allow_other"])
    os.chmod(volume.path, 0o777)
    for parent in volume.path.parents[:-2]:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    os.mkdir(volume.path / "shared")
    os.chown(volume.path / "shared", 0, 777)
    os.chmod(volume.path / "shared", 0o2777)
    script = "umask 027; echo x > own; echo x > shared/own; mkdir shared/sub"
    subprocess.run(["sh", "-c", script], cwd=volume.path, check=True, user=1000, group=1001, extra_groups=[])
    own = os.stat(volume.path / "own")
    assert (own.st_uid, own.st_gid, stat.S_IMODE(own.st_mode)) == (1000, 1001, 0o640)
    assert os.stat(volume.path / "shared/own").st_gid == 777
    sub = os.stat(volume.path / "shared/sub")
    assert sub.st_gid == 777 and sub.st_mode & stat.S_ISGID


@pytest.mark.parametrize("length", [512, 4096, 100_000])
def test_direct_io_of_any_alignment(volume4, length):
    path = volume4.path / "direct"
    content = os.urandom(length)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    os.pwrite(descriptor, content, 0)
    os.pwrite(descriptor, content, 1003)
    expected = content[:1003].ljust(1003, b"\0") + content if length > 1003 else content.ljust(1003, b"\0") + content
    assert os.pread(descriptor, len(expected) + 10, 0) == expected
    os.close(descriptor)
    assert path.read_bytes() == expected
