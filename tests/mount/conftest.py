"""Fixtures of the mount tests: volumes that are unmounted and checked at the end of every test."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from volume import BIN, Volume

SECONDS_MAX, SECONDS_MAX_SLOW = 240, 1500
PROGRAMS = ("mkfs.vexfs", "mount.vexfs", "umount.vexfs", "fsck.vexfs", "dump.vexfs", "vexfs")


def pytest_configure(config):
    config.addinivalue_line("markers", "scale: 200,000 files and 100,000 vectors")
    config.addinivalue_line("markers", "linux: unpacks Linux's source")


def pytest_sessionstart(session):
    """Nothing is skipped for want of a tool: without one, nothing runs."""
    missing = [name for name in PROGRAMS if not (BIN / name).exists()]
    tools = ("setfattr", "getfattr", "rsync", "tar", "setfacl", "setcap", "mkfs.ext4", "mkfs.xfs", "unshare", "xz", "fusermount3", "losetup", "vim", "git")
    missing += [tool for tool in tools if not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    if not os.path.exists("/dev/fuse"):
        missing.append("/dev/fuse")
    if os.geteuid() != 0:
        missing.append("root (mounting needs it)")
    if missing:
        pytest.exit(f"missing: {', '.join(missing)}; `make test` installs and builds what can be", returncode=1)
    os.environ["PATH"] += ":/usr/sbin:/sbin"


@pytest.fixture(autouse=True)
def watchdog(request, tmp_path):
    """A daemon that does not answer fails its test instead of holding up the run."""
    slow = any(request.node.get_closest_marker(name) for name in ("scale", "linux"))
    seconds = SECONDS_MAX_SLOW if slow else SECONDS_MAX
    process = subprocess.Popen([sys.executable, Path(__file__).with_name("watchdog.py"), str(seconds), str(tmp_path)])
    yield
    process.kill()
    process.wait()


@pytest.fixture
def make_volume(tmp_path, watchdog):
    """Makes mounted volumes; afterwards each is unmounted and must pass fsck."""
    volumes = []

    def make(block="4K", size="1G", options=(), mounted=True):
        volume = Volume(tmp_path, block, size, f"volume{len(volumes)}")
        volumes.append(volume)
        return volume.mount(*options) if mounted else volume

    try:
        yield make
        for volume in volumes:
            if volume.is_mounted():
                volume.unmount()
            volume.fsck()
    finally:
        for volume in volumes:
            volume.close()
            volume.image.unlink(missing_ok=True)


@pytest.fixture(params=["4K", "8K", "16K"])
def volume(request, make_volume):
    """A mounted volume, with each block size."""
    return make_volume(request.param)


@pytest.fixture
def volume4(make_volume):
    """A mounted volume with 4 KiB blocks, where the block size does not matter."""
    return make_volume("4K")
