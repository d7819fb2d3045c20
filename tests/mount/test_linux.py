"""Linux's source tree: unpacked on a mount, compared, removed."""

import glob
import hashlib
import os
import tarfile
import time

import pytest
from volume import run


def archive():
    """Debian's linux-source, newest first."""
    found = sorted(glob.glob("/usr/src/linux-source-*.tar.xz"))
    if not found:
        pytest.fail("no /usr/src/linux-source-*.tar.xz: apt-get install linux-source (scripts/setup.sh test does)")
    return found[-1]


def unpacked(path, directory):
    """Writes out the decompressed archive once, so that its members can be compared in any order."""
    plain = directory / "linux.tar"
    run("bash", "-c", f"xz -dc -T0 '{path}' > '{plain}'")
    return plain


@pytest.mark.linux
def test_linux_source(make_volume, tmp_path):
    volume = make_volume(size="8G")
    free_before = volume.settle()
    plain = unpacked(archive(), tmp_path)
    started = time.monotonic()
    run("tar", "-C", volume.path, "-xf", plain)
    print(f"\n  unpacked in {time.monotonic() - started:.0f} s")
    volume.again()
    started = time.monotonic()
    files = 0
    with tarfile.open(plain) as tar:
        for member in tar:
            path = volume.path / member.name
            if member.issym():
                assert os.readlink(path) == member.linkname
            elif member.isfile():
                digest = hashlib.sha256(tar.extractfile(member).read()).digest()
                assert hashlib.sha256(path.read_bytes()).digest() == digest, f"{member.name} differs"
                files += 1
            elif member.isdir():
                assert path.is_dir()
    print(f"  {files} files compared in {time.monotonic() - started:.0f} s")
    assert files > 50_000
    plain.unlink()
    started = time.monotonic()
    run("rm", "-rf", *volume.path.iterdir())
    print(f"  removed in {time.monotonic() - started:.0f} s")
    assert volume.settle() == free_before, "rm -rf did not give all blocks back"
    volume.again()
    numbers = os.statvfs(volume.path)
    assert numbers.f_bfree * numbers.f_frsize == free_before
