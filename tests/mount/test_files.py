"""Files, directories and links by coreutils and by the system calls themselves."""

import ctypes
import errno
import hashlib
import mmap
import os
import stat
import subprocess

import pytest
from volume import fails_with, run

LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4


def rename(source, target, flags):
    """renameat2(2), which Python has no name for."""
    at_cwd = -100
    if LIBC.renameat2(at_cwd, os.fsencode(source), at_cwd, os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_a_tree_survives_coreutils_and_a_remount(volume, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for i in range(200):
        path = source / f"d{i % 7}" / f"e{i % 3}" / f"file {i}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(i * 977 % 70_000))
    (source / "link").symlink_to("d0/e0/file 0")
    os.link(source / "d0/e0/file 0", source / "hard")
    run("cp", "-a", source, volume.path / "tree")
    run("diff", "-r", "--no-dereference", source, volume.path / "tree")
    volume.again()
    run("diff", "-r", "--no-dereference", source, volume.path / "tree")
    assert os.stat(volume.path / "tree/hard").st_nlink == 2
    run("mv", volume.path / "tree", volume.path / "moved")
    run("rm", "-r", volume.path / "moved")
    assert os.listdir(volume.path) == []


def test_modes_owners_and_times(volume4):
    path = volume4.path / "file"
    path.write_bytes(b"x")
    os.chown(path, 1234, 5678)
    os.chmod(path, 0o4751)
    os.utime(path, ns=(1_234_567_890_123_456_789, 4_102_444_800_987_654_321))
    before = os.stat(path)
    assert (before.st_uid, before.st_gid, stat.S_IMODE(before.st_mode)) == (1234, 5678, 0o4751)
    assert (before.st_atime_ns, before.st_mtime_ns) == (1_234_567_890_123_456_789, 4_102_444_800_987_654_321)
    volume4.again()
    after = os.stat(path)
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_ino) == (before.st_mode, before.st_uid, before.st_gid, before.st_ino)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


def test_special_files(volume4):
    os.mkfifo(volume4.path / "fifo")
    os.mknod(volume4.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.symlink("x" * 4000, volume4.path / "long")
    os.symlink("nowhere", volume4.path / "dangling")
    volume4.again()
    assert stat.S_ISFIFO(os.stat(volume4.path / "fifo").st_mode)
    assert os.stat(volume4.path / "null").st_rdev == os.makedev(1, 3)
    assert os.readlink(volume4.path / "long") == "x" * 4000
    fails_with(errno.ENOENT, os.stat, volume4.path / "dangling")


def test_names_of_any_bytes(volume4):
    root = os.fsencode(volume4.path)
    names = [b"n" * 255, b"\xff\xfe\x01", b" ", "ü日本".encode(), b"-rf", b"a\nb"]
    for name in names:
        with open(root + b"/" + name, "wb") as file:
            file.write(name)
    fails_with(errno.ENAMETOOLONG, open, root + b"/" + b"n" * 256, "wb")
    volume4.again()
    assert sorted(os.listdir(root)) == sorted(names)
    for name in names:
        with open(root + b"/" + name, "rb") as file:
            assert file.read() == name


def test_directory_errors_and_link_counts(volume4):
    os.makedirs(volume4.path / "a" / "b")
    assert os.stat(volume4.path / "a").st_nlink == 3
    fails_with(errno.ENOTEMPTY, os.rmdir, volume4.path / "a")
    fails_with(errno.EEXIST, os.mkdir, volume4.path / "a")
    fails_with(errno.EINVAL, os.rename, volume4.path / "a", volume4.path / "a" / "b" / "c")
    fails_with(errno.EISDIR, os.open, volume4.path / "a", os.O_WRONLY)
    (volume4.path / "file").touch()
    fails_with(errno.ENOTDIR, os.mkdir, volume4.path / "file" / "x")
    fails_with(errno.EPERM, os.link, volume4.path / "a", volume4.path / "hard")
    os.rmdir(volume4.path / "a" / "b")
    assert os.stat(volume4.path / "a").st_nlink == 2


def test_rename_and_its_flags(volume4):
    a, b = volume4.path / "a", volume4.path / "b"
    a.write_text("a")
    b.write_text("b")
    fails_with(errno.EEXIST, rename, a, b, RENAME_NOREPLACE)
    rename(a, b, RENAME_EXCHANGE)
    assert (a.read_text(), b.read_text()) == ("b", "a")
    fails_with(errno.EINVAL, rename, a, b, RENAME_WHITEOUT)
    os.mkdir(volume4.path / "d")
    rename(a, volume4.path / "d", RENAME_EXCHANGE)
    assert (volume4.path / "d").read_text() == "b" and a.is_dir()
    os.rename(volume4.path / "d", b)
    assert b.read_text() == "b"
    rename(b, a / "moved", RENAME_NOREPLACE)
    assert (a / "moved").read_text() == "b" and not b.exists()


def test_an_open_file_outlives_its_name(volume4):
    path = volume4.path / "file"
    content = os.urandom(300_000)
    path.write_bytes(content)
    with open(path, "r+b") as file:
        path.unlink()
        assert file.read() == content and os.fstat(file.fileno()).st_nlink == 0
        file.seek(0)
        file.write(b"still writable")
        file.seek(0)
        assert file.read(14) == b"still writable"
    other = volume4.path / "other"
    other.write_bytes(content)
    (volume4.path / "new").write_bytes(b"new")
    with open(other, "rb") as file:
        os.rename(volume4.path / "new", other)
        assert file.read() == content
    assert other.read_bytes() == b"new"


def test_sparse_files_and_seek(volume):
    path = volume.path / "sparse"
    step = 1 << 20
    with open(path, "wb") as file:
        for i in (1, 3):
            file.seek(i * step)
            file.write(b"D" * step)
        file.truncate(6 * step)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        found, at = [], 0
        while True:
            try:
                data = os.lseek(descriptor, at, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                break
            at = os.lseek(descriptor, data, os.SEEK_HOLE)
            found.append((data, at))
        assert found == [(step, 2 * step), (3 * step, 4 * step)]
    finally:
        os.close(descriptor)
    assert os.stat(path).st_blocks * 512 < 3 * step
    huge = volume.path / "huge"
    with open(huge, "wb") as file:
        file.seek(5 << 40)
        file.write(b"end")
    volume.again()
    content = path.read_bytes()
    assert content == b"\0" * step + b"D" * step + b"\0" * step + b"D" * step + b"\0" * 2 * step
    assert os.stat(huge).st_size == (5 << 40) + 3
    with open(huge, "rb") as file:
        file.seek(5 << 40)
        assert file.read() == b"end"


def test_fallocate(volume):
    path = volume.path / "file"
    content = os.urandom(1 << 20)
    path.write_bytes(content)
    run("fallocate", "--keep-size", "--length", "4M", path)
    assert os.stat(path).st_size == 1 << 20 and os.stat(path).st_blocks * 512 >= 4 << 20
    run("fallocate", "--punch-hole", "--offset", "100K", "--length", "200K", path)
    content = content[: 100 << 10] + b"\0" * (200 << 10) + content[300 << 10 :]
    assert path.read_bytes() == content
    run("fallocate", "--zero-range", "--offset", "500001", "--length", "1003", path)
    content = content[:500001] + b"\0" * 1003 + content[501004:]
    assert path.read_bytes() == content
    run("fallocate", "--length", "2M", path)
    content += b"\0" * (1 << 20)
    volume.again()
    assert path.read_bytes() == content
    with open(volume.path / "big", "wb") as file:
        fails_with(errno.ENOSPC, os.posix_fallocate, file.fileno(), 0, 1 << 42)


def test_truncate_leaves_no_old_bytes(volume):
    path = volume.path / "file"
    path.write_bytes(b"secret" * 20_000)
    os.truncate(path, 10_001)
    os.truncate(path, 120_000)
    assert path.read_bytes() == (b"secret" * 20_000)[:10_001] + b"\0" * (120_000 - 10_001)
    volume.again()
    assert path.read_bytes() == (b"secret" * 20_000)[:10_001] + b"\0" * (120_000 - 10_001)


def test_append_and_mapped_writes(volume4):
    path = volume4.path / "file"
    for i in range(50):
        with open(path, "ab") as file:
            file.write(f"line {i}\n".encode())
    assert path.read_text().splitlines() == [f"line {i}" for i in range(50)]
    with open(path, "r+b") as file:
        file.truncate(1 << 16)
        with mmap.mmap(file.fileno(), 0) as mapping:
            mapping[40_000:40_005] = b"mmap!"
            mapping.flush()
    volume4.again()
    assert path.read_bytes()[40_000:40_005] == b"mmap!"


def test_unnamed_files_can_be_linked_later(volume4):
    try:
        descriptor = os.open(volume4.path, os.O_TMPFILE | os.O_RDWR)
    except OSError as error:
        assert error.errno == errno.EOPNOTSUPP
        return
    os.write(descriptor, b"unnamed")
    # Python follows the link only where a directory descriptor makes it call linkat(2).
    directory = os.open("/proc/self/fd", os.O_RDONLY)
    os.link(str(descriptor), volume4.path / "named", src_dir_fd=directory, follow_symlinks=True)
    os.close(directory)
    os.close(descriptor)
    assert (volume4.path / "named").read_bytes() == b"unnamed"


def test_twenty_thousand_names_in_one_directory(volume):
    directory = volume.path / "many"
    directory.mkdir()
    names = {f"name-{i:06}" for i in range(20_000)}
    for name in names:
        os.close(os.open(directory / name, os.O_CREAT | os.O_WRONLY))
    assert set(os.listdir(directory)) == names
    with os.scandir(directory) as entries:
        listed = []
        for i, entry in enumerate(entries):
            listed.append(entry.name)
            if i % 2 == 0:
                os.unlink(entry.path)
    assert len(listed) == len(set(listed)) == 20_000, "an entry was listed twice or not at all while others went"
    volume.again()
    assert len(os.listdir(directory)) == 10_000
    run("rm", "-r", directory)


def test_setuid_and_capabilities_are_dropped_by_writes(volume4):
    os.chmod(volume4.path, 0o777)
    path = volume4.path / "program"
    path.write_bytes(b"x")
    os.chmod(path, 0o6777)
    run("setcap", "cap_net_raw+ep", path)
    assert "cap_net_raw" in run("getcap", path).stdout
    copy = volume4.path / "copy"
    run("cp", "-a", path, copy)
    assert "cap_net_raw" in run("getcap", copy).stdout and stat.S_IMODE(os.stat(copy).st_mode) == 0o6777
    with open(path, "ab") as file:
        file.write(b"y")
    assert run("getcap", path).stdout.strip() == "", "a write must drop file capabilities, root's too"


def test_a_user_without_rights_is_refused(make_volume):
    volume = make_volume(options=["allow_other"])
    os.chmod(volume.path, 0o755)
    for parent in volume.path.parents[:-2]:
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    (volume.path / "private").write_text("secret")
    os.chmod(volume.path / "private", 0o600)
    (volume.path / "public").write_text("public")
    script = "cat public && ! cat private 2>&1 && ! touch new 2>&1 && ! setfattr -n user.x -v 1 public 2>&1"
    user = {"user": 65534, "group": 65534, "extra_groups": []}
    done = subprocess.run(["sh", "-c", script], cwd=volume.path, capture_output=True, text=True, check=False, **user)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("public")


def test_a_large_file_keeps_its_bytes(volume):
    path = volume.path / "large"
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for i in range(96):
            block = os.urandom(1 << 20)
            digest.update(block)
            file.write(block)
    volume.again()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest.hexdigest()


def test_a_full_volume_says_so_and_recovers(make_volume):
    volume = make_volume(size="64M")
    path = volume.path / "fill"
    with pytest.raises(OSError) as raised, open(path, "wb", buffering=0) as file:
        file.writelines(b"x" * (1 << 20) for _ in range(200))
    assert raised.value.errno == errno.ENOSPC
    os.unlink(path)
    volume.settle()
    (volume.path / "after").write_bytes(b"y" * (32 << 20))
    volume.again()
    assert (volume.path / "after").read_bytes() == b"y" * (32 << 20)


def test_fallocate_is_a_write_to_times_and_setuid(make_volume):
    """It came without: mtime stayed, and a user who may write kept a file's setuid bit (compared with tmpfs)."""
    volume = make_volume(options=["allow_other", "suid"])
    path = volume.path / "file"
    path.write_bytes(bytes(10_000))
    for mode in ("--length", "--keep-size --length", "--punch-hole --length", "--zero-range --length"):
        os.chmod(path, 0o6777)
        os.utime(path, (5, 5))
        subprocess.run(["fallocate", *mode.split(), "4096", path.name], cwd=volume.path, check=True, user=1000, group=1000)
        assert os.stat(path).st_mtime > 5 and os.stat(path).st_mode & 0o7777 == 0o777, mode
        os.chmod(path, 0o6777)
        run("fallocate", *mode.split(), "4096", path)
        assert os.stat(path).st_mode & 0o7777 == 0o6777, f"{mode} by root"


def test_what_has_no_name_can_still_be_looked_at(volume4):
    """fstat(2) of what the daemon does not know to be open was ESTALE: its records are freed with its last name."""
    os.mkdir(volume4.path / "directory")
    os.mkfifo(volume4.path / "fifo")
    (volume4.path / "file").write_text("content")
    flags = {"directory": os.O_RDONLY, "fifo": os.O_RDWR, "file": os.O_PATH}
    held = {name: os.open(volume4.path / name, flag) for name, flag in flags.items()}
    before = {name: os.fstat(descriptor) for name, descriptor in held.items()}
    os.mkdir(volume4.path / "work")
    worker = subprocess.Popen(["sh", "-c", "read line && stat -c %h ."], cwd=volume4.path / "work", stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)
    for name in flags:
        (os.rmdir if name == "directory" else os.remove)(volume4.path / name)
    os.rmdir(volume4.path / "work")
    for name, descriptor in held.items():
        now = os.fstat(descriptor)
        assert (now.st_ino, now.st_mode, now.st_nlink) == (before[name].st_ino, before[name].st_mode, 0), name
        os.close(descriptor)
    assert worker.communicate("go\n")[0] == "0\n"
