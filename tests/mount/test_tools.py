"""The programs' manners: who may touch an image, what they say when not, and how the daemon ends."""

import errno
import os
import shutil
import signal
import struct
import subprocess
import textwrap
import time
import zlib

import pytest
from volume import BIN, ROOT, Volume, fails_with, run, wait_for


def refused(*command):
    """Runs a command that must fail; gives what it said."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0, f"{command} went well: {said}"
    assert said.strip(), f"{command} failed without a word"
    assert "panicked" not in said, said
    return said


def test_a_mounted_image_is_locked(volume4, tmp_path):
    (volume4.path / "file").write_text("safe")
    other = tmp_path / "other"
    other.mkdir()
    holder = str(volume4.daemon())
    for command in (
        (BIN / "mount.vexfs", volume4.image, other),
        (BIN / "mkfs.vexfs", volume4.image),
        (BIN / "mkfs.vexfs", "-f", volume4.image),
        (BIN / "fsck.vexfs", "-f", "-y", volume4.image),
    ):
        said = refused(*command)
        assert holder in said and ("mounted" in said or "in use" in said), f"names no holder: {said}"
    assert not os.path.ismount(other)
    assert (volume4.path / "file").read_text() == "safe"


def test_fsck_of_a_mounted_image_has_the_exit_code_of_an_operational_error(volume4):
    assert subprocess.run([str(BIN / "fsck.vexfs"), "-f", "-y", str(volume4.image)], capture_output=True, check=False).returncode == 8


def test_not_a_vexfs_image(tmp_path):
    mount_point = tmp_path / "mnt"
    mount_point.mkdir()
    zeros = tmp_path / "zeros.img"
    run("truncate", "-s", "64M", zeros)
    ext4 = tmp_path / "ext4.img"
    run("truncate", "-s", "64M", ext4)
    run("mkfs.ext4", "-q", ext4)
    for image in (zeros, ext4):
        for program in ("mount.vexfs", "fsck.vexfs", "dump.vexfs"):
            arguments = [image, mount_point] if program == "mount.vexfs" else [image]
            assert "not a VexFS" in refused(BIN / program, *arguments)
    assert "No such file" in refused(BIN / "mount.vexfs", tmp_path / "nothing", mount_point)


def test_mkfs_spares_other_filesystems(tmp_path):
    image = tmp_path / "ext4.img"
    run("truncate", "-s", "64M", image)
    run("mkfs.ext4", "-q", image)
    before = image.read_bytes()
    assert "ext4" in refused(BIN / "mkfs.vexfs", image)
    assert image.read_bytes() == before
    run(BIN / "mkfs.vexfs", "-q", "-f", image)
    run(BIN / "fsck.vexfs", "-n", "-f", image)


def test_the_same_uuid_and_time_give_the_same_bytes(tmp_path):
    images = [tmp_path / "a.img", tmp_path / "b.img"]
    for image in images:
        run(BIN / "mkfs.vexfs", "-q", "-U", "11111111-2222-3333-4444-555555555555", "--time", "1700000000", image, "64M")
    assert images[0].read_bytes() == images[1].read_bytes()


def test_damage_is_found_and_said(make_volume, tmp_path):
    volume = make_volume(size="64M")
    for i in range(500):
        (volume.path / f"f{i}").write_bytes(os.urandom(100))
    volume.unmount()
    damaged = tmp_path / "damaged.img"
    shutil.copy(volume.image, damaged)
    content = volume.image.read_bytes()
    at = content.index(b"f499")
    with open(damaged, "r+b") as image:
        image.seek(at)
        image.write(b"XXXX")
    done = subprocess.run([str(BIN / "fsck.vexfs"), "-n", "-f", str(damaged)], capture_output=True, text=True, check=False)
    assert done.returncode & 4, f"exit code {done.returncode}: {done.stdout}{done.stderr}"
    assert "panicked" not in done.stderr
    assert "block" in done.stdout + done.stderr
    damaged.unlink()


def test_help_and_versions():
    for program in ("mkfs.vexfs", "fsck.vexfs", "dump.vexfs", "mount.vexfs", "vexfs"):
        said = run(BIN / program, "--help").stdout
        assert program in said and len(said.splitlines()) > 5


def test_sigterm_unmounts_cleanly(make_volume):
    volume = make_volume()
    (volume.path / "file").write_text("kept")
    pid = volume.daemon()
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: volume.daemon() is None, "the daemon's end")
    assert not volume.is_mounted()
    volume.fsck()
    volume.mount()
    assert (volume.path / "file").read_text() == "kept"


def test_unmount_waits_until_the_image_is_free(make_volume):
    volume = make_volume()
    for round_number in range(10):
        (volume.path / f"file{round_number}").write_bytes(os.urandom(3 << 20))
        run("umount", volume.path) if round_number % 2 else volume.unmount()
        wait_for(lambda: volume.daemon() is None, "the daemon's end")
        volume.fsck()
        volume.mount()
    assert len(os.listdir(volume.path)) == 10


def test_a_read_only_mount_changes_nothing(make_volume):
    volume = make_volume()
    (volume.path / "file").write_text("kept")
    volume.unmount()
    before = volume.image.read_bytes()
    volume.mount("ro")
    assert (volume.path / "file").read_text() == "kept"
    with pytest.raises(OSError):
        (volume.path / "other").touch()
    with pytest.raises(OSError):
        os.setxattr(volume.path / "file", "user.x", b"1")
    volume.unmount()
    assert volume.image.read_bytes() == before


def with_feature(image, offset, bit):
    """Sets a feature bit in all copies of the superblock, as a later version would (docs/FORMAT.md)."""
    size = image.stat().st_size
    with image.open("r+b") as file:
        for slot in (0, 16384, size - 32768, size - 16384):
            file.seek(slot)
            copy = bytearray(file.read(512))
            copy[offset + bit // 8] |= 1 << bit % 8
            copy[8:12] = bytes(4)
            copy[8:12] = struct.pack("<I", zlib.crc32(copy))
            file.seek(slot)
            file.write(copy)


def test_what_a_later_version_must_know_to_write_is_only_read(tmp_path, watchdog):
    volume = Volume(tmp_path).mount()
    (volume.path / "file").write_text("kept")
    volume.unmount()
    with_feature(volume.image, 80, 50)
    before = volume.image.read_bytes()
    volume.mount()
    try:
        assert (volume.path / "file").read_text() == "kept"
        fails_with(errno.EROFS, (volume.path / "other").touch)
        assert os.statvfs(volume.path).f_flag & os.ST_RDONLY
    finally:
        volume.unmount()
    volume.fsck()
    for repair in ("-p", "-y"):
        said = run(BIN / "fsck.vexfs", repair, "-f", volume.image, ok=(8,)).stdout
        assert "read but not write (bits 0x4000000000000)" in said
    assert volume.image.read_bytes() == before


def test_what_a_later_version_must_know_to_read_is_refused(tmp_path, watchdog):
    volume = Volume(tmp_path)
    with_feature(volume.image, 88, 50)
    before = volume.image.read_bytes()
    for program in (["mount.vexfs", volume.image, volume.path], ["fsck.vexfs", "-y", volume.image]):
        assert "does not know (bits 0x4000000000000); use a newer one" in refused(BIN / program[0], *program[1:])
    assert volume.image.read_bytes() == before


@pytest.mark.parametrize("round_number", range(5))
def test_fsynced_data_survives_a_killed_daemon(make_volume, round_number):
    """kill -9, mount without fsck: what fsync promised is there, and the rest is old or new."""
    volume = make_volume(["4K", "8K", "16K"][round_number % 3], options=["commit=1"])
    directory = volume.path / "d"
    directory.mkdir()
    promised = {}
    deadline = time.monotonic() + 0.5 + 0.4 * round_number
    i = 0
    while time.monotonic() < deadline:
        path = directory / f"f{i}"
        content = os.urandom(i * 1237 % 50_000)
        value = os.urandom(64)
        with open(path, "wb") as file:
            file.write(content)
            os.setxattr(path, "user.vector.c:i8", value)
            if i % 5 == 0:
                os.fsync(file.fileno())
        if i % 5 == 0:
            parent = os.open(directory, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
            promised[path] = (content, value)
        i += 1
    volume.kill()
    volume.mount()
    assert len(promised) > 3
    for path, (content, value) in promised.items():
        assert path.read_bytes() == content, f"{path} lost fsynced bytes"
        assert os.getxattr(path, "user.vector.c") == value, f"{path} lost its vector"
    rows = volume.collection("c").rows()
    for path in directory.iterdir():
        if os.listxattr(path):
            assert len(rows[os.stat(path).st_ino]) == 1


def test_mount_and_umount_and_fsck_find_the_helpers(make_volume, tmp_path):
    """`make install`, then mount -t vexfs, an fstab line, umount, mkfs -t, fsck -t and -o loop,fuseblk as an administrator types
    them.

    mount(8) looks into /sbin only, so this happens in a mount namespace of its own, over a copy of /usr/sbin.
    """
    volume = make_volume(mounted=False)
    staging = tmp_path / "staging"
    run("make", "-C", ROOT, "install", f"DESTDIR={staging}")
    installed = {str(path.relative_to(staging)) for path in staging.rglob("*") if path.is_file()}
    assert {"usr/sbin/mount.vexfs", "usr/sbin/mkfs.vexfs", "usr/sbin/fsck.vexfs", "usr/bin/vexfs"} <= installed
    local = tmp_path / "local"
    run("make", "-C", ROOT, "install", f"DESTDIR={local}", "PREFIX=/usr/local")
    assert os.readlink(local / "sbin/mount.vexfs") == "/usr/local/sbin/mount.vexfs"
    assert (local / "usr/local/sbin/mount.vexfs").is_file()
    sbin = os.path.realpath("/sbin")
    other = tmp_path / "other.img"
    script = textwrap.dedent(f"""
        set -eux
        mkdir {tmp_path}/sbin
        cp -a {sbin}/. {tmp_path}/sbin
        cp -a {staging}/usr/sbin/. {tmp_path}/sbin
        mount --bind {tmp_path}/sbin {sbin}
        mount -t vexfs {volume.image} {volume.path}
        trap 'umount -l {volume.path} 2>/dev/null || true' EXIT
        echo content > {volume.path}/file
        findmnt {volume.path}
        mount -o remount,ro {volume.path}
        touch {volume.path}/other && exit 1
        mount -o remount,rw {volume.path}
        touch {volume.path}/other
        umount {volume.path}
        fsck -t vexfs {volume.image}
        cp /etc/fstab {tmp_path}/fstab
        echo '{volume.image} {volume.path} vexfs ro,noatime 0 0' >> {tmp_path}/fstab
        mount --bind {tmp_path}/fstab /etc/fstab
        mount {volume.path}
        grep content {volume.path}/file
        touch {volume.path}/another && exit 1
        umount {volume.path}
        mkfs -t vexfs {other} 64M
        mount -t vexfs -o loop,fuseblk,commit=3600 {other} {volume.path}
        findmnt -no SOURCE,FSTYPE {volume.path} | grep '^/dev/loop[0-9]* fuseblk'
        echo looped > {volume.path}/file
        umount {volume.path}
        # Its loop device goes when the daemon does.
        timeout 60 sh -c 'while losetup -j {other} | grep -q .; do sleep 0.1; done'
        fsck -t vexfs {other}
        mount -t vexfs -o ro {other} {volume.path}
        grep looped {volume.path}/file
        umount {volume.path}
        # A daemon that has just served may not have ended yet.
        umount -l {sbin}
    """)
    run("unshare", "--mount", "--propagation", "private", "bash", "-c", script)
    run("make", "-C", ROOT, "uninstall", f"DESTDIR={staging}")
    assert not [path for path in staging.rglob("*") if path.is_symlink() or not path.is_dir()]


def test_images_of_all_sizes(tmp_path):
    for i, (size, block) in enumerate((("16M", "4K"), ("100M", "16K"), ("3T", "8K"))):
        volume = Volume(tmp_path, block, size, f"v{i}")
        try:
            volume.mount()
            (volume.path / "file").write_bytes(b"x" * 100_000)
            volume.again()
            assert (volume.path / "file").read_bytes() == b"x" * 100_000
            volume.unmount()
            assert volume.image.stat().st_blocks * 512 < 1 << 30
        finally:
            volume.close()
            volume.image.unlink()


def test_the_session_in_the_readme_works_when_pasted():
    text = (ROOT / "README.md").read_text()
    session = text.split("```sh\n")[1].split("```")[0]
    session = session.replace("make build ", "true ", 1)
    script = "set -eu\ntrap 'mountpoint -q notes && umount.vexfs notes; rm -f notes.img' EXIT\n" + session
    said = run("bash", "-c", script, cwd=ROOT).stdout
    assert "memmap" in said and "[[1. 0. 0. 0.]" in said and '"live":2' in said.replace(" ", "")
