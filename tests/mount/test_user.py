"""A user who is not root mounts through fusermount3, for himself alone: all works, and what cannot says why.

Each test runs in a mount namespace of its own, where /dev/fuse is as the test wants it.
"""

import ctypes
import errno
import multiprocessing
import os
import shutil
import signal
import stat
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest
from volume import BIN, Collection, fails_with, run, wait_for

NOBODY = 65534
CLONE_NEWNS = 0x20000
PROGRAMS = ("mkfs.vexfs", "mount.vexfs", "umount.vexfs", "fsck.vexfs")
SECONDS_MAX = 120


class Home:
    """A directory of the user's, with the programs where he may run them."""

    def __init__(self, path):
        self.path = path
        self.image, self.mounted = path / "home" / "volume.img", path / "home" / "volume"
        for program in PROGRAMS:
            shutil.copy(BIN / program, path)
        self.mounted.mkdir(parents=True)
        for directory in (self.image.parent, self.mounted):
            os.chown(directory, NOBODY, NOBODY)
        path.chmod(0o755)

    def run(self, program, *arguments, **options):
        return run(self.path / program, *arguments, timeout=SECONDS_MAX, **options)

    def mount(self, *options, ok=(0,)):
        more = ["-o", ",".join(options)] if options else []
        return self.run("mount.vexfs", self.image, self.mounted, *more, ok=ok)

    def options(self):
        """Type and options of the mount, as the kernel has them."""
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            lines = [line.split() for line in mounts if line.split()[4] == str(self.mounted)]
        return lines and (lines[-1][-3], set(lines[-1][5].split(",")) | set(lines[-1][-1].split(",")))

    def daemon(self):
        """The process that serves, found by its command line."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"--serve" in words and bytes(self.image) in words:
                return int(process.name)
        return None


def as_user(home, mode, body, outcome):
    """Runs `body` as nobody, with /dev/fuse of `mode` and without a configuration of fusermount3."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "unshare")
        run("mount", "--make-rprivate", "/")
        private = home.path / "private"
        private.mkdir()
        run("mount", "-t", "tmpfs", "-o", "dev,mode=755", "tmpfs", private)
        os.mknod(private / "fuse", stat.S_IFCHR | 0o600, os.stat("/dev/fuse").st_rdev)
        os.chmod(private / "fuse", mode)
        (private / "fuse.conf").touch()
        run("mount", "--bind", private / "fuse", "/dev/fuse")
        if os.path.exists("/etc/fuse.conf"):
            run("mount", "--bind", private / "fuse.conf", "/etc/fuse.conf")
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.chdir("/")
        body(home)
        outcome.put(None)
    except BaseException:
        outcome.put(traceback.format_exc())
    finally:
        if home.options():
            home.run("umount.vexfs", "-l", home.mounted)


@pytest.fixture
def user():
    """Runs a function as a user who is not root; its failure is the test's."""
    path = Path(tempfile.mkdtemp(prefix="vexfs-user-"))
    context = multiprocessing.get_context("fork")

    def act(body, mode=0o666):
        outcome = context.Queue()
        process = context.Process(target=as_user, args=(home, mode, body, outcome))
        process.start()
        failure = outcome.get(timeout=SECONDS_MAX)
        process.join(timeout=SECONDS_MAX)
        assert failure is None, failure

    try:
        home = Home(path)
        yield act
    finally:
        shutil.rmtree(path)


def everything(home):
    """Files, vectors, the control directory, unmounting, mounting again."""
    home.run("mkfs.vexfs", "-q", home.image, "64M")
    home.mount()
    kind, options = home.options()
    assert kind == "fuse.vexfs" and f"user_id={NOBODY}" in options
    assert {"nosuid", "nodev", "default_permissions"} <= options and "allow_other" not in options
    vectors = np.eye(4, 64, dtype="<f4")
    for number, vector in enumerate(vectors):
        path = home.mounted / f"file{number}"
        path.write_bytes(b"x" * 10_000 * number)
        os.setxattr(path, "user.vector.mine", vector.tobytes())
    found = os.stat(home.mounted / "file0")
    assert (found.st_uid, found.st_gid) == (NOBODY, NOBODY)
    collection = Collection(home.mounted / ".vexfs" / "collections" / "mine")
    assert (collection.load("vectors", mode=None)[:, :64] == vectors).all()
    # What the mount tells, it tells its mounter.
    fails_with(errno.EINVAL, os.setxattr, home.mounted / "file0", "user.vector.mine", b"short")
    log = home.mounted / ".vexfs" / "log"
    assert "refused" in log.read_text() and stat.S_IMODE(os.stat(log).st_mode) == 0o600
    assert os.stat(log).st_uid == os.stat(home.mounted / ".vexfs").st_uid == NOBODY
    home.run("umount.vexfs", home.mounted)
    assert not home.options()
    home.run("fsck.vexfs", "-n", "-f", home.image)
    home.mount("ro", "noatime")
    assert (home.mounted / "file3").read_bytes() == b"x" * 30_000
    assert os.getxattr(home.mounted / "file2", "user.vector.mine") == vectors[2].tobytes()
    fails_with(errno.EROFS, (home.mounted / "new").touch)
    home.run("umount.vexfs", home.mounted)


def a_signal_unmounts(home):
    home.run("mkfs.vexfs", "-q", home.image, "64M")
    home.mount()
    (home.mounted / "file").write_text("kept")
    os.kill(home.daemon(), signal.SIGTERM)
    wait_for(lambda: not home.options(), "the end of the mount")
    home.run("fsck.vexfs", "-n", "-f", home.image)
    home.mount()
    assert (home.mounted / "file").read_text() == "kept"
    home.run("umount.vexfs", home.mounted)


def what_is_not_allowed(home):
    home.run("mkfs.vexfs", "-q", home.image, "64M")
    assert "user_allow_other" in home.mount("allow_other", ok=(32,)).stdout
    assert not home.options()
    home.mount("dev", "suid")
    assert {"nosuid", "nodev"} <= home.options()[1]
    home.run("umount.vexfs", home.mounted)


def without_the_device(home):
    home.run("mkfs.vexfs", "-q", home.image, "64M")
    said = home.mount(ok=(32,)).stdout
    assert "/dev/fuse" in said and "0666" in said, said


def test_a_user_mounts_for_himself(user):
    user(everything)


def test_a_signal_unmounts_a_users_mount(user):
    user(a_signal_unmounts)


def test_what_a_user_may_not_ask_for(user):
    user(what_is_not_allowed)


def test_a_device_that_only_root_may_open(user):
    user(without_the_device, mode=0o600)
