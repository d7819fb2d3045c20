"""`-o fuseblk` on a block device: syncfs(2), sync(2) and umount(2) wait until all is on disk. And what a plain mount promises."""

import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from volume import BIN, run, wait_for

libc = ctypes.CDLL(None, use_errno=True)
DIMENSIONS = 64


def syncfs(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert libc.syncfs(descriptor) == 0, os.strerror(ctypes.get_errno())
    finally:
        os.close(descriptor)


class Device:
    """A volume on a loop device, mounted as fuseblk; no timer commits within a test."""

    def __init__(self, directory):
        self.image, self.path = directory / "device.img", directory / "mnt"
        self.path.mkdir()
        with open(self.image, "wb") as file:
            file.truncate(64 << 20)
        self.device = run("losetup", "-f", "--show", self.image).stdout.strip()
        run(BIN / "mkfs.vexfs", "-q", self.device)
        self.pid = None

    def mount(self, *options):
        run(BIN / "mount.vexfs", self.device, self.path, "-o", ",".join(("fuseblk", "commit=3600", *options)))
        self.pid = self.daemon()
        return self

    def daemon(self):
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                try:
                    words = (process / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"--serve" in words and self.device.encode() in words:
                    return int(process.name)
        return None

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{self.pid}/exe").exists(), "the daemon's end")
        run("umount", "-l", self.path)
        wait_for(lambda: not self.is_mounted(), "the mount's end")

    def is_mounted(self):
        return any(line.split()[4] == str(self.path) for line in Path("/proc/self/mountinfo").read_text().splitlines())

    def copy(self, directory):
        """What the disk holds at this moment, as an image of its own."""
        return shutil.copy(self.image, directory / "copy.img")

    def close(self):
        if self.is_mounted():
            subprocess.run(["umount", "-l", str(self.path)], check=False)
        if self.pid and Path(f"/proc/{self.pid}/exe").exists():
            os.kill(self.pid, signal.SIGKILL)
        subprocess.run(["losetup", "-d", self.device], check=False)


@pytest.fixture
def device(tmp_path):
    device = Device(tmp_path)
    yield device
    device.close()


def fill(path, seed=1):
    """Files, directories and vectors; gives what a look at them must find."""
    vectors = np.random.default_rng(seed).standard_normal((50, DIMENSIONS)).astype("<f4")
    (path / "d").mkdir()
    for i, vector in enumerate(vectors):
        file = path / "d" / f"f{i}"
        file.write_bytes(bytes([i]) * 5000 * (1 + i % 3))
        os.setxattr(file, "user.vector.things", vector.tobytes())
    os.rename(path / "d" / "f0", path / "renamed")
    return look(path)


def look(path):
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file.relative_to(path)): (file.read_bytes(), os.getxattr(file, "user.vector.things")) for file in files}


def look_at_image(image, directory):
    """What a mount of the image shows; it must pass fsck first."""
    point = directory / "looked"
    point.mkdir()
    run(BIN / "fsck.vexfs", "-n", "-f", image)
    run(BIN / "mount.vexfs", image, point)
    try:
        return look(point)
    finally:
        run(BIN / "umount.vexfs", point)
        point.rmdir()


@pytest.mark.parametrize("call", [syncfs, lambda _: os.sync()], ids=["syncfs", "sync"])
def test_what_was_synced_outlives_the_daemon(device, tmp_path, call):
    device.mount()
    wanted = fill(device.path)
    call(device.path)
    copy = device.copy(tmp_path)
    (device.path / "later").write_bytes(b"not synced")
    device.kill()
    assert look_at_image(copy, tmp_path) == wanted
    device.mount()
    assert {name: value for name, value in look_files(device.path).items() if name != "later"} == {name: value[0] for name, value in wanted.items()}


def look_files(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_umount_returns_when_all_is_on_disk(device, tmp_path):
    device.mount()
    wanted = fill(device.path)
    assert libc.umount2(os.fsencode(device.path), 0) == 0, os.strerror(ctypes.get_errno())
    # Whatever the daemon still does: the disk has all of it at this moment.
    copy = device.copy(tmp_path)
    assert look_at_image(copy, tmp_path) == wanted
    wait_for(lambda: not Path(f"/proc/{device.pid}/exe").exists(), "the daemon's end")
    run(BIN / "fsck.vexfs", "-n", "-f", device.device)


def test_a_failed_sync_is_told(device):
    device.mount()
    (device.path / "f").write_bytes(b"x")
    descriptor = os.open(device.path, os.O_RDONLY)
    # XFS_IOC_GOINGDOWN: nothing becomes durable any more.
    fcntl.ioctl(descriptor, 0x8004587D, bytearray(4))
    assert libc.syncfs(descriptor) == -1 and ctypes.get_errno() in (errno.EIO, errno.EROFS)
    os.close(descriptor)


def test_it_serves_as_any_mount_does(device):
    """Large files, attributes of every size, a matrix mapped while it grows, many at once; and other tools are kept out."""
    device.mount("allow_other")
    line = next(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if line.split()[4] == str(device.path))
    assert " fuseblk.vexfs " in line
    data = np.random.default_rng(5).bytes(9_000_001)
    (device.path / "large").write_bytes(data)
    assert (device.path / "large").read_bytes() == data
    for size in (1, 4096, 65_536):
        os.setxattr(device.path / "large", "user.value", data[:size])
        assert os.getxattr(device.path / "large", "user.value") == data[:size]
    for i in range(500):
        file = device.path / f"f{i:03}"
        file.write_bytes(b"content")
        os.setxattr(file, "user.vector.things", np.full(DIMENSIONS, i, "<f4").tobytes())
        if i == 20:
            # The file is longer than its header says: the row that comes is mapped, too.
            mapped = np.memmap(device.path / ".vexfs/collections/things/vectors.npy", "<f4", "r", 4096)
            rows = mapped[: len(mapped) // DIMENSIONS * DIMENSIONS].reshape(-1, DIMENSIONS)
            assert not (rows == 777).any()
            os.setxattr(device.path / "f003", "user.vector.things", np.full(DIMENSIONS, 777, "<f4").tobytes())
            assert (rows == 777).all(axis=1).sum() == 1, "who has it mapped sees the change at once"
            del rows
            del mapped
    assert sorted(name for name in os.listdir(device.path) if name[0] == "f") == [f"f{i:03}" for i in range(500)]
    workers = [subprocess.Popen(["sh", "-c", f"for i in 1 2 3 4 5 6 7 8; do cp large part{n}; cmp large part{n} || exit 1; done"], cwd=device.path) for n in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4
    for program in ("mkfs.vexfs", "fsck.vexfs"):
        told = run(BIN / program, device.device, ok=(1, 2, 4, 8, 16)).stdout
        assert "mounted" in told or "in use" in told, told
    with pytest.raises(OSError):
        os.close(os.open(device.device, os.O_RDWR | os.O_EXCL))
    assert libc.umount2(os.fsencode(device.path), 0) == 0
    wait_for(lambda: not Path(f"/proc/{device.pid}/exe").exists(), "the daemon's end")
    run(BIN / "fsck.vexfs", "-n", "-f", device.device)


def test_an_image_file_is_refused_with_what_to_do(make_volume):
    volume = make_volume(mounted=False)
    told = run(BIN / "mount.vexfs", volume.image, volume.path, "-o", "fuseblk", ok=(1, 32)).stdout
    assert "no block device" in told and "loop,fuseblk" in told


def test_a_plain_mount_hears_nothing_of_syncfs(make_volume, tmp_path):
    """As the manual says: what bounds it is the commit, and `vexfs umount` waits."""
    volume = make_volume(size="64M", options=["commit=3600"])
    (volume.path / "fsynced").write_bytes(b"1")
    descriptor = os.open(volume.path / "fsynced", os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    (volume.path / "synced").write_bytes(b"2")
    syncfs(volume.path)
    volume.kill()
    volume.mount()
    assert os.listdir(volume.path) == ["fsynced"]
