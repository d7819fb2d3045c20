"""A disk that really fails: a sparse image on a full tmpfs, whose writes the system refuses, and a loop device over
one, whose writes it takes and whose flushes then fail. P6: no fsync says success from then on."""

import errno
import fcntl
import json
import os
import re
import subprocess

import numpy as np
import pytest
from volume import BIN, Volume, fails_with, random_vectors, run

SPACE = 24 << 20
XFS_IOC_GOINGDOWN = 0x8004587D


class SmallDisk:
    """A tmpfs with less space than the image on it claims to have."""

    def __init__(self, path, looped):
        self.path = path
        path.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", path)
        self.looped = looped
        self.device = None

    def volume(self):
        volume = Volume(self.path, size="200M")
        if self.looped:
            self.device = run("losetup", "--find", "--show", volume.image).stdout.strip()
            volume.file, volume.image = volume.image, self.device
        return volume

    def grow(self):
        """The cause is mended."""
        run("mount", "-o", "remount,size=300M", self.path)

    def close(self):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], check=False)
        subprocess.run(["umount", str(self.path)], check=False)


@pytest.fixture(params=["write", "flush"])
def failing(request, tmp_path, watchdog):
    """A mounted volume whose disk fails soon."""
    disk = SmallDisk(tmp_path / "small", request.param == "flush")
    volume = None
    try:
        volume = disk.volume()
        yield disk, volume.mount(f"log={tmp_path / 'log'}")
    finally:
        if volume and volume.is_mounted():
            subprocess.run([str(BIN / "umount.vexfs"), str(volume.path)], check=False)
        disk.close()


def write_until_it_fails(descriptor):
    """Writes and syncs more than the disk has; gives the error."""
    try:
        for _ in range(4 * SPACE >> 20):
            os.write(descriptor, os.urandom(1 << 20))
            os.fsync(descriptor)
    except OSError as error:
        return error.errno
    pytest.fail("the disk took more than it has")


def test_after_a_failed_write_or_flush_no_fsync_says_success(failing, tmp_path):
    disk, volume = failing
    durable = os.urandom(100_000)
    descriptors = []
    for name in ("durable", "lost"):
        descriptors.append(os.open(volume.path / name, os.O_CREAT | os.O_RDWR))
    os.write(descriptors[0], durable)
    os.fsync(descriptors[0])
    assert write_until_it_fails(descriptors[1]) == errno.EIO
    # Whoever has a file open hears of it, also one that wrote nothing since; and again, and at a new open.
    descriptors.append(os.open(volume.path / "durable", os.O_RDONLY))
    descriptors.append(os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY))
    for descriptor in descriptors * 2:
        fails_with(errno.EIO, os.fsync, descriptor)
    # The volume is read-only and can be read.
    fails_with(errno.EROFS, (volume.path / "new").mkdir)
    fails_with(errno.EROFS, os.write, descriptors[0], b"x")
    fails_with(errno.EROFS, os.setxattr, volume.path / "durable", "user.x", b"x")
    assert sorted(os.listdir(volume.path)) == ["durable", "lost"]
    assert os.pread(descriptors[0], 2 * len(durable), 0) == durable
    says_so(volume, (tmp_path / "log").read_text())
    for descriptor in descriptors:
        os.close(descriptor)
    said = run(BIN / "umount.vexfs", volume.path).stdout
    assert "what was not durable before a failure is lost: the device failed" in said
    disk.grow()
    volume.fsck()
    volume.mount()
    assert (volume.path / "durable").read_bytes() == durable
    (volume.path / "new").mkdir()
    assert json.loads((volume.path / ".vexfs" / "status.json").read_text())["failure"] is None
    volume.again()


def says_so(volume, log):
    """Every place that tells how a volume is."""
    control = volume.path / ".vexfs"
    status = json.loads((control / "status.json").read_text())
    assert status["read_only"] is True and "the device failed a" in status["failure"]
    metrics = (control / "metrics").read_text()
    assert re.search(r"^vexfs_read_only 1$", metrics, re.M) and re.search(r"^vexfs_failed 1$", metrics, re.M)
    for text in (volume.log(), log):
        assert text.count("the volume is read-only now") == 1, text
        assert "No space left on device" in text or "Input/output error" in text, text
    # FUSE has no way to say it here; the mount's own flags are the mounter's.
    assert not os.statvfs(volume.path).f_flag & os.ST_RDONLY


def test_what_was_durable_before_a_failure_stays(failing):
    """Synced files, a vector among them, survive; nothing else is half there."""
    disk, volume = failing
    vector = random_vectors(np.random.default_rng(4), 1, 384, "f32").tobytes()
    for number in range(20):
        path = volume.path / f"file{number}"
        path.write_bytes(bytes([number]) * 5000)
        os.setxattr(path, "user.vector.v", vector)
    os.sync()
    descriptor = os.open(volume.path / "big", os.O_CREAT | os.O_RDWR)
    os.fsync(descriptor)
    assert write_until_it_fails(descriptor) == errno.EIO
    size = os.fstat(descriptor).st_size
    os.close(descriptor)
    volume.unmount()
    disk.grow()
    volume.fsck()
    volume.mount()
    assert os.stat(volume.path / "big").st_size <= size
    for number in range(20):
        path = volume.path / f"file{number}"
        assert path.read_bytes() == bytes([number]) * 5000
        assert os.getxattr(path, "user.vector.v") == vector


def test_a_shutdown_drops_what_is_not_durable(make_volume):
    """What crash tests ask for with XFS_IOC_GOINGDOWN, on ext4 as well."""
    volume = make_volume(options=["commit=3600"])
    with open(volume.path / "durable", "wb") as file:
        file.write(b"x" * 10_000)
        file.flush()
        os.fsync(file.fileno())
        (volume.path / "lost").write_bytes(b"y" * 10_000)
        file.write(b"lost too")
        file.flush()
        fcntl.ioctl(file.fileno(), XFS_IOC_GOINGDOWN)
        fails_with(errno.EIO, os.fsync, file.fileno())
        fails_with(errno.EROFS, os.write, file.fileno(), b"x")
    assert (volume.path / "lost").read_bytes() == b"y" * 10_000
    assert "GOINGDOWN" in json.loads((volume.path / ".vexfs" / "status.json").read_text())["failure"]
    volume.again()
    assert os.listdir(volume.path) == ["durable"]
    assert (volume.path / "durable").read_bytes() == b"x" * 10_000
