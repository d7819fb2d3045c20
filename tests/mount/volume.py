"""A VexFS image and its mount, as the tests use them: the programs from target/bin, and nothing of their inside."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "target" / "bin"
WAIT_SECONDS_MAX = 30

DTYPES = {"f32": np.dtype("<f4"), "f16": np.dtype("<f2"), "i8": np.dtype("i1"), "i16": np.dtype("<i2"), "bit": np.dtype("u1")}


def run(*command, ok=(0,), **options):
    """Runs a command; fails the test with all that it printed if its exit code is none of `ok`."""
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, **options}
    done = subprocess.run([str(word) for word in command], check=False, **options)
    assert done.returncode in ok, f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}"
    return done


def who(user, groups=()):
    """The options of `run` that make a command this user's; none for root's."""
    return {} if user is None else {"user": user, "group": user, "extra_groups": list(groups)}


def fails_with(number, call, *arguments, **options):
    """The call must raise OSError with this errno."""
    with pytest.raises(OSError) as raised:
        call(*arguments, **options)
    assert raised.value.errno == number, os.strerror(raised.value.errno)


def wait_for(truth, what, seconds=WAIT_SECONDS_MAX):
    """Waits until `truth()` holds."""
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain for: {what}"
        time.sleep(0.02)


class Volume:
    """One image, mounted or not."""

    def __init__(self, directory, block="4K", size="1G", name="volume"):
        self.image = Path(directory) / f"{name}.img"
        self.path = Path(directory) / name
        self.path.mkdir()
        self.block = block
        run(BIN / "mkfs.vexfs", "-q", "-b", block, self.image, size)

    def mount(self, *options):
        """Mounts through mount.vexfs, which returns once the mount serves."""
        more = ["-o", ",".join(options)] if options else []
        run(BIN / "mount.vexfs", self.image, self.path, *more)
        assert os.path.ismount(self.path), "mount.vexfs returned 0, but nothing is mounted"
        return self

    def unmount(self):
        """Unmounts; when this returns all is on disk and the image is free."""
        run(BIN / "umount.vexfs", self.path)
        assert not os.path.ismount(self.path)

    def fsck(self, *options, ok=(0,)):
        """Checks without changing anything."""
        return run(BIN / "fsck.vexfs", "-n", "-f", *options, self.image, ok=ok)

    def again(self, *options):
        """Unmounts, checks, mounts again."""
        self.unmount()
        self.fsck()
        return self.mount(*options)

    def sync(self):
        """Makes all durable that was changed before, by an fsync(2) of the root."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def daemon(self):
        """The process that serves the mount: the one of the programs here that has the image open."""
        image = self.image.stat()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                if "vexfs" not in os.readlink(process / "exe"):
                    continue
                opened = [os.stat(entry) for entry in (process / "fd").iterdir()]
            except OSError:
                continue
            if any((entry.st_dev, entry.st_ino) == (image.st_dev, image.st_ino) for entry in opened):
                return int(process.name)
        return None

    def kill(self, number=signal.SIGKILL):
        """Ends the daemon by a signal and clears the mount point; waits until the image is free."""
        pid = self.daemon()
        assert pid, "no daemon has the image open"
        os.kill(pid, number)
        wait_for(lambda: not Path(f"/proc/{pid}/exe").exists(), "the daemon's end")
        if self.is_mounted():
            run("umount", "-l", self.path)

    def is_mounted(self):
        """True also for the mount of a daemon that died."""
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            return any(line.split()[4] == str(self.path) for line in mounts)

    def peak_memory(self):
        """VmHWM of the daemon, bytes."""
        status = Path(f"/proc/{self.daemon()}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024

    def settle(self, still_seconds=6):
        """Free bytes once the work that deletes leave behind is done: waits until the number stands still."""
        descriptor = os.open(self.path, os.O_RDONLY)
        deadline = time.monotonic() + 4 * WAIT_SECONDS_MAX
        before, since = None, time.monotonic()
        try:
            while True:
                os.fsync(descriptor)
                numbers = os.statvfs(self.path)
                free = numbers.f_bfree * numbers.f_frsize
                if free != before:
                    before, since = free, time.monotonic()
                elif time.monotonic() - since >= still_seconds:
                    return free
                assert time.monotonic() < deadline, f"free space does not stand still: {free} bytes now"
                time.sleep(0.2)
        finally:
            os.close(descriptor)

    def collection(self, name):
        """A collection in the control directory."""
        return Collection(self.path / ".vexfs" / "collections" / name)

    def log(self):
        """The refusals, newest last."""
        return (self.path / ".vexfs" / "log").read_text()

    def close(self):
        """For fixtures: leaves nothing mounted, whatever the test did."""
        if self.is_mounted():
            subprocess.run([str(BIN / "umount.vexfs"), str(self.path)], stdin=subprocess.DEVNULL, check=False)
        if self.is_mounted():
            subprocess.run(["umount", "-l", str(self.path)], check=False)
            if pid := self.daemon():
                os.kill(pid, signal.SIGKILL)


class Collection:
    """A collection's directory, its columns mapped anew at every use."""

    def __init__(self, path):
        self.path = path

    def load(self, column, mode="r"):
        return np.load(self.path / f"{column}.npy", mmap_mode=mode)

    @property
    def vectors(self):
        return self.load("vectors")

    @property
    def headers(self):
        return self.load("headers")

    @property
    def valid(self):
        return self.load("valid")

    def rows(self):
        """Inode -> rows that are live."""
        rows = {}
        inodes = self.headers["file_inode"]
        for row in np.flatnonzero(self.valid):
            rows.setdefault(int(inodes[row]), []).append(int(row))
        return rows

    def row_of(self, path):
        """The one live row of a file."""
        rows = self.rows().get(os.stat(path).st_ino, [])
        assert len(rows) == 1, f"{path} has rows {rows}"
        return rows[0]


def attribute(collection, element="f32", n=None):
    """An attribute's name as listxattr gives it."""
    name = f"user.vector.{collection}"
    name += "" if element == "f32" else f":{element}"
    return name if n in (None, 0) else f"{name}.{n}"


def random_vectors(generator, count, dimensions, element):
    """Vectors of an element type, one a row, as the raw elements that an attribute holds."""
    if element == "bit":
        return generator.integers(0, 256, (count, dimensions // 8), dtype=np.uint8)
    dtype = DTYPES[element]
    if dtype.kind == "i":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max + 1, (count, dimensions)).astype(dtype)
    vectors = generator.standard_normal((count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)
