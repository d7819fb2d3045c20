"""fstrim(8): what is free goes back to the device, or out of the image file; what is there stays."""

import errno
import fcntl
import os
import random
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from volume import BIN, fails_with, run

MIB = 1 << 20
FITRIM = 0xC0185879
ALL = (1 << 64) - 1


def used(volume):
    """Bytes that the image takes where it lies."""
    return os.stat(volume.image).st_blocks * 512


def trim(path, start=0, length=ALL, least=0):
    """FITRIM on a directory or file; gives the bytes that it says were trimmed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        argument = bytearray(struct.pack("=QQQ", start, length, least))
        fcntl.ioctl(descriptor, FITRIM, argument)
        return struct.unpack("=QQQ", argument)[1]
    finally:
        os.close(descriptor)


def fill(path, mib, seed):
    data = random.Random(seed).randbytes(mib * MIB)
    path.write_bytes(data)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    return data


def test_fstrim_gives_the_space_of_removed_files_back(make_volume):
    volume = make_volume(size="256M")
    before = used(volume)
    kept = fill(volume.path / "kept", 8, 1)
    fill(volume.path / "gone", 64, 2)
    assert used(volume) >= before + 72 * MIB
    os.unlink(volume.path / "gone")
    volume.settle(still_seconds=1)
    told = run("fstrim", "-v", volume.path).stdout
    assert "trimmed" in told and used(volume) < before + 10 * MIB
    assert (volume.path / "kept").read_bytes() == kept
    volume.again()
    assert (volume.path / "kept").read_bytes() == kept
    # What is written afterwards goes where the holes are.
    again = fill(volume.path / "again", 64, 3)
    volume.again()
    assert (volume.path / "again").read_bytes() == again


def test_a_range_and_a_least_length_are_kept_to(make_volume):
    volume = make_volume(size="64M")
    whole = trim(volume.path)
    assert 32 * MIB < whole < 64 * MIB
    assert trim(volume.path) == whole, "it tells what it trimmed, whether there was a hole or not"
    assert 0 < trim(volume.path, 32 * MIB, 4 * MIB) <= 4 * MIB
    assert trim(volume.path, least=128 * MIB) == 0
    assert trim(volume.path / ".vexfs", 0, 1 << 40) == whole
    fails_with(errno.EINVAL, trim, volume.path, 64 * MIB)
    fails_with(errno.EINVAL, trim, volume.path, 0, 100)


def test_only_root_and_the_mounter_may(make_volume):
    volume = make_volume(options=["allow_other"])
    descriptor = os.open(volume.path, os.O_RDONLY)
    # The kernel tells the daemon who calls, not who opened.
    command = ["python3", "-c", f"import fcntl; fcntl.ioctl({descriptor}, {FITRIM}, bytearray(24))"]
    done = subprocess.run(command, user="nobody", group="nogroup", extra_groups=[], pass_fds=[descriptor], capture_output=True, text=True, check=False)
    os.close(descriptor)
    assert "Operation not permitted" in done.stderr, done.stderr
    volume.again("ro")
    fails_with(errno.EROFS, trim, volume.path)


def test_a_trim_beside_writers_takes_nothing_of_theirs(make_volume):
    """Files come, change and go, and the daemon is killed in the end: what was fsynced is there."""
    volume = make_volume(size="96M")
    durable, done, trimmed = {}, threading.Event(), []

    def trims():
        while not done.is_set():
            trimmed.append(trim(volume.path))

    trimming = threading.Thread(target=trims)
    trimming.start()
    choose = random.Random(5)
    try:
        for number in range(400):
            path = volume.path / f"f{choose.randrange(40)}"
            if choose.randrange(4) == 0 and path in durable:
                os.unlink(path)
                del durable[path]
                continue
            data = choose.randbytes(choose.randrange(1, 400_000))
            durable.pop(path, None)
            with open(path, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            durable[path] = data
    finally:
        done.set()
        trimming.join()
    descriptor = os.open(volume.path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    trim(volume.path)
    volume.kill()
    volume.mount()
    assert {path: path.read_bytes() for path in volume.path.iterdir()} == durable
    assert len(trimmed) > 5 and sum(trimmed) > 96 * MIB


@pytest.fixture
def loop_device(tmp_path):
    """A block device over a sparse file."""
    image = tmp_path / "device.img"
    with open(image, "wb") as file:
        file.truncate(64 * MIB)
    device = run("losetup", "-f", "--show", image).stdout.strip()
    yield Path(device), image
    run("losetup", "-d", device)


def test_a_block_device_discards(loop_device, tmp_path):
    device, image = loop_device
    point = tmp_path / "mnt"
    point.mkdir()
    run(BIN / "mkfs.vexfs", "-q", device)
    run(BIN / "mount.vexfs", device, point)
    try:
        kept = fill(point / "kept", 4, 8)
        fill(point / "gone", 24, 9)
        assert os.stat(image).st_blocks * 512 > 28 * MIB
        os.unlink(point / "gone")
        trim(point)
        trim(point)
        assert os.stat(image).st_blocks * 512 < 8 * MIB
        assert (point / "kept").read_bytes() == kept
    finally:
        run(BIN / "umount.vexfs", point)
    run(BIN / "fsck.vexfs", "-n", "-f", device)
