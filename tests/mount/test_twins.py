"""Random calls on a volume and on tmpfs: results, errors and all that can be seen afterwards must be the same."""

import ctypes
import errno
import hashlib
import os
import random
import stat

import pytest
from volume import run

SEEDS, STEPS, CHECK_EVERY = 4, 2000, 10
NAMES = ["a", "b", "c", "d", "e\xff", ".hidden", "x" * 255, "x" * 256, "a ", "new\nline"]
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
KEEP_SIZE, PUNCH_HOLE = 1, 2
LIBC = ctypes.CDLL(None, use_errno=True)
FLAGS = [os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW, os.O_NOATIME, os.O_DSYNC]


def call(function, *arguments):
    """A function of the C library; raises OSError."""
    if function(*arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def renameat2(root, source, target, flags):
    call(LIBC.renameat2, root, source.encode(), root, target.encode(), flags)


def fallocate(descriptor, mode, offset, length):
    call(LIBC.fallocate, descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length))


class Tree:
    """One of the twins: calls below a directory, and files that stay open."""

    def __init__(self, root):
        self.root = os.open(root, os.O_RDONLY)
        self.open = {}

    def close(self):
        for descriptor in [self.root, *self.open.values()]:
            os.close(descriptor)

    def path(self, path):
        return f"/proc/self/fd/{self.root}/{path}"

    def do(self, operation, *arguments):
        """What the operation gives, or the name of its error."""
        try:
            return getattr(self, operation)(*arguments)
        except OSError as error:
            return errno.errorcode[error.errno]

    def create(self, path, slot, flags, mode):
        descriptor = os.open(path, flags | os.O_NONBLOCK, mode, dir_fd=self.root)
        if slot in self.open:
            os.close(self.open[slot])
        self.open[slot] = descriptor

    def shut(self, slot):
        os.close(self.open.pop(slot))

    def mkdir(self, path, mode):
        os.mkdir(path, mode, dir_fd=self.root)

    def mknod(self, path, kind, mode):
        os.mknod(path, kind | mode, os.makedev(11, 300), dir_fd=self.root)

    def symlink(self, target, path):
        os.symlink(target, path, dir_fd=self.root)

    def link(self, source, target, follow):
        os.link(source, target, src_dir_fd=self.root, dst_dir_fd=self.root, follow_symlinks=follow)

    def unlink(self, path):
        os.unlink(path, dir_fd=self.root)

    def rmdir(self, path):
        os.rmdir(path, dir_fd=self.root)

    def rename(self, source, target, flags):
        renameat2(self.root, source, target, flags)

    def chmod(self, path, mode):
        os.chmod(path, mode, dir_fd=self.root)

    def chown(self, path, uid, gid):
        os.chown(path, uid, gid, dir_fd=self.root, follow_symlinks=False)

    def utime(self, path, times):
        os.utime(path, ns=times, dir_fd=self.root, follow_symlinks=False)

    def truncate(self, path, size):
        os.truncate(self.path(path), size)

    def readlink(self, path):
        return os.readlink(path, dir_fd=self.root)

    def access(self, path, mode):
        return os.access(path, mode, dir_fd=self.root)

    def setxattr(self, path, name, value, flags):
        os.setxattr(self.path(path), name, value, flags, follow_symlinks=False)

    def getxattr(self, path, name):
        return os.getxattr(self.path(path), name, follow_symlinks=False)

    def removexattr(self, path, name):
        os.removexattr(self.path(path), name, follow_symlinks=False)

    def write(self, slot, offset, data):
        return os.pwrite(self.open[slot], data, offset)

    def append(self, slot, data):
        before = os.fstat(self.open[slot]).st_size
        written = os.write(self.open[slot], data)
        return before, written, os.lseek(self.open[slot], 0, os.SEEK_CUR), os.fstat(self.open[slot]).st_size

    def read(self, slot, offset, size):
        return os.pread(self.open[slot], size, offset)

    def resize(self, slot, size):
        os.ftruncate(self.open[slot], size)

    def allocate(self, slot, mode, offset, length):
        fallocate(self.open[slot], mode, offset, length)

    def seek(self, slot, offset, whence):
        # A directory's end is nothing that programs could use, and each filesystem has its own.
        if stat.S_ISREG(os.fstat(self.open[slot]).st_mode):
            return os.lseek(self.open[slot], offset, whence)
        return None

    def copy(self, source, target, count, offset_in, offset_out):
        return os.copy_file_range(self.open[source], self.open[target], count, offset_in, offset_out)

    def names(self, slot):
        return sorted(os.listdir(self.open[slot]))

    def fstat(self, slot):
        return self.shown(os.fstat(self.open[slot]))

    @staticmethod
    def shown(of):
        size = None if stat.S_ISDIR(of.st_mode) else of.st_size
        return oct(of.st_mode), of.st_nlink, of.st_uid, of.st_gid, size, of.st_rdev

    def state(self):
        """All that can be seen of the tree: attributes, bytes, targets, times that were set."""
        found = {}
        for directory, directories, files, descriptor in os.fwalk(".", dir_fd=self.root):
            for name in directories + files + [""]:
                path = os.path.join(directory, name)
                of = os.stat(name or ".", dir_fd=descriptor, follow_symlinks=False)
                content = None
                if stat.S_ISLNK(of.st_mode):
                    content = os.readlink(name, dir_fd=descriptor)
                elif stat.S_ISREG(of.st_mode):
                    with open(os.open(name, os.O_RDONLY, dir_fd=descriptor), "rb") as file:
                        content = hashlib.sha256(file.read()).hexdigest()
                if not stat.S_ISLNK(of.st_mode):
                    listed = os.listxattr(self.path(path))
                    content = content, sorted((each, os.getxattr(self.path(path), each)) for each in listed)
                # The kernel marks what goes through a fifo of its own filesystems only.
                told = of.st_mtime < 1_000_000_000 and not stat.S_ISFIFO(of.st_mode)
                old = of.st_mtime_ns if told else None
                found[path] = (self.shown(of), old, content)
        return found


def some_operation(dice, paths, slots):
    """A random operation and its arguments."""

    def path():
        if dice.random() < 0.3:
            return dice.choice(paths)
        return os.path.join(dice.choice(paths), dice.choice(NAMES) + ("/" if dice.random() < 0.02 else ""))

    def slot():
        return dice.choice(sorted(slots)) if slots and dice.random() < 0.95 else 99

    size = dice.choice([0, 1, 100, 768, 769, 4095, 4096, 5000, 70_000, dice.randrange(300_000)])
    offset = dice.choice([0, 1, 511, 768, 4096, 8192, dice.randrange(300_000)])
    flags = dice.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR, os.O_RDWR])
    flags |= dice.choice([0, os.O_CREAT]) | sum(flag for flag in FLAGS if dice.random() < 0.1 and not flags & flag)
    mode, data = dice.randrange(0o10000), dice.randbytes(size)
    kinds = [stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFDIR, 0]
    long = "user." + 251 * "n"
    name = dice.choice(["user.a", "user.b", "trusted.c", "security.d", "user.", "nothing", "system.e", long])
    value = dice.randbytes(dice.choice([0, 1, 100, 2000]))
    punch = PUNCH_HOLE | KEEP_SIZE
    # Targets stay below the root: what lies outside is the same for both.
    operations = [
        (10, "create", path(), dice.randrange(8), flags, mode),
        (2, "shut", slot()),
        (6, "mkdir", path(), mode),
        (3, "mknod", path(), dice.choice(kinds), mode),
        (4, "symlink", dice.choice([path(), "a", "b/../a", "y" * 4095, "y" * 4096, ""]), path()),
        (5, "link", path(), path(), dice.random() < 0.3),
        (6, "unlink", path()),
        (4, "rmdir", path()),
        (10, "rename", path(), path(), dice.choice([0, 0, 0, NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE, 8])),
        (3, "chmod", path(), mode),
        (3, "chown", path(), *dice.choice([(5, 6), (-1, 7), (8, -1)])),
        (3, "utime", path(), (dice.randrange(10**18), dice.randrange(10**18))),
        (3, "truncate", path(), dice.choice([size, -1])),
        (1, "readlink", path()),
        (2, "access", path(), dice.choice([os.F_OK, os.R_OK, os.X_OK])),
        (4, "setxattr", path(), name, value, dice.choice([0, 0, os.XATTR_CREATE, os.XATTR_REPLACE])),
        (2, "getxattr", path(), name),
        (2, "removexattr", path(), name),
        (10, "write", slot(), offset, data),
        (4, "append", slot(), data),
        (8, "read", slot(), offset, size),
        (4, "resize", slot(), dice.choice([size, -1])),
        (5, "allocate", slot(), dice.choice([0, KEEP_SIZE, punch, PUNCH_HOLE]), offset, size),
        (4, "seek", slot(), offset, os.SEEK_END),
        (4, "copy", slot(), slot(), size, offset, dice.randrange(300_000)),
        (2, "names", slot()),
        (5, "fstat", slot()),
    ]
    return dice.choices([each[1:] for each in operations], [each[0] for each in operations])[0]


def brief(thing):
    return str(thing).replace("x" * 255, "X")[:150]


def walk(state):
    return [path for path, (shown, *_) in state.items() if stat.S_ISDIR(int(shown[0], 8)) and len(path) < 1500]


@pytest.fixture
def twins(volume4, tmp_path):
    volume4.unmount()
    volume4.mount("dev", "suid")
    directory = tmp_path / "tmpfs"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=256M", "tmpfs", directory)
    trees = [Tree(volume4.path), Tree(directory)]
    os.chmod(volume4.path, 0o777)
    os.chmod(directory, 0o777)
    yield trees
    for tree in trees:
        tree.close()
    run("umount", directory)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_calls_end_as_on_tmpfs(twins, seed):
    dice = random.Random(seed)
    paths, slots, log, good = ["."], set(), [], 0
    for step in range(STEPS):
        operation = some_operation(dice, paths, slots)
        if operation[0] not in ("create", "mkdir") and isinstance(operation[1], int) and operation[1] not in slots:
            continue
        if operation[0] == "copy" and operation[2] not in slots:
            continue
        results = [tree.do(*operation) for tree in twins]
        log.append(f"{step}: {brief(operation)}: {brief(results[0])}, {brief(results[1])}")
        good += not isinstance(results[0], str)
        assert results[0] == results[1], "\n".join(log[-15:])
        slots = set(twins[0].open)
        if step % CHECK_EVERY == 0 or step == STEPS - 1:
            states = [tree.state() for tree in twins]
            different = {path for path in states[0] | states[1] if states[0].get(path) != states[1].get(path)}
            shown = [f"{brief(path)}: {states[0].get(path)}, {states[1].get(path)}" for path in different]
            assert not different, "\n".join(log[-CHECK_EVERY:] + shown)
            paths = walk(states[0])
            paths += [path for path in states[0] if len(path) < 1500][:20]
    assert good > STEPS / 5, f"only {good} calls did anything"
