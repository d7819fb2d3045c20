"""POSIX access lists: the same calls on a volume and on tmpfs, whose lists are the kernel's own, must end alike."""

import errno
import os
import random
import stat
import struct
import subprocess

import pytest
from volume import run

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
OWNER, USER, OWNING_GROUP, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32
NOBODY = 0xFFFFFFFF
# uid, gid, supplementary groups
CALLERS = [(0, 0, []), (1001, 1001, []), (1002, 1002, [1001]), (1003, 1003, [1005, 1006]), (1004, 1005, [])]
STEPS, SEEDS = 400, 3


def value(*entries):
    """A list as an attribute's value, of (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def minimal(owner, group, other):
    return [(OWNER, owner, NOBODY), (OWNING_GROUP, group, NOBODY), (OTHER, other, NOBODY)]


def some_list(dice):
    """A list: mostly one that makes sense, of every shape."""
    entries = [(tag, dice.randrange(8), NOBODY) for tag in (OWNER, OWNING_GROUP, OTHER)]
    users = [(USER, dice.randrange(8), uid) for uid in dice.sample(range(1001, 1005), dice.randrange(3))]
    groups = [(GROUP, dice.randrange(8), gid) for gid in dice.sample(range(1001, 1007), dice.randrange(3))]
    if users or groups or dice.random() < 0.2:
        entries.append((MASK, dice.randrange(8), NOBODY))
    entries = sorted(entries + users + groups, key=lambda entry: entry[0])
    if dice.random() < 0.1:
        dice.shuffle(entries)
    if dice.random() < 0.05:
        entries.pop(dice.randrange(len(entries)))
    return value(*entries)


def as_caller(root, caller, umask, call):
    """Does `call` below `root` in a process of its own; gives its errno, 0 if it went well."""
    uid, gid, groups = caller
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        os.chdir(root)
        os.umask(umask)
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
        call()
        os._exit(0)
    except OSError as error:
        os._exit(error.errno)
    except BaseException:
        os._exit(255)


def attribute(path, name):
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        assert error.errno in (errno.ENODATA, errno.EOPNOTSUPP), error
        return error.errno


def listing(root):
    """What getfacl tells, in an order of its own: directories have none."""
    return sorted(run("getfacl", "-R", "-p", "-n", ".", cwd=root).stdout.split("\n\n"))


def state(root):
    """Everything about permissions below `root`."""
    found = {}
    for directory, directories, files in os.walk(root):
        for path in [directory] + [os.path.join(directory, name) for name in directories + files]:
            of = os.lstat(path)
            lists = None if stat.S_ISLNK(of.st_mode) else (attribute(path, ACCESS), attribute(path, DEFAULT))
            found[os.path.relpath(path, root)] = (oct(of.st_mode), of.st_uid, of.st_gid, lists)
    return found


def some_call(dice, paths, number):
    """One call, told in words and as a function that does it in the current directory."""
    path = dice.choice(paths)
    bits, mode = dice.choice([0o666, 0o777, 0o640, 0o7777, dice.randrange(0o10000)]), dice.randrange(0o10000)
    entries, name = some_list(dice), dice.choice([ACCESS, ACCESS, DEFAULT])
    # Not -1 twice: that drops setuid elsewhere, and reaches no FUSE daemon as what it is.
    uid, gid = dice.choice([(-1, 1001), (-1, 1005), (1001, -1), (1002, -1), (1004, 1006)])
    flags = dice.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
    new = f"{path}/{number}"
    calls = [
        (4, f"{name} of {path}: {entries.hex()}", lambda: os.setxattr(path, name, entries)),
        (1, f"no {name} of {path}", lambda: os.removexattr(path, name)),
        (2, f"chmod {mode:o} {path}", lambda: os.chmod(path, mode)),
        (1, f"chown {uid}:{gid} {path}", lambda: os.chown(path, uid, gid)),
        (3, f"open {new} {bits:o}", lambda: os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, bits))),
        (3, f"mkdir {new} {bits:o}", lambda: os.mkdir(new, bits)),
        (1, f"mkfifo {new} {bits:o}", lambda: os.mkfifo(new, bits)),
        (1, f"symlink {new}", lambda: os.symlink("target", new)),
        (4, f"open {path} {flags}", lambda: os.close(os.open(path, flags | os.O_NONBLOCK))),
        (1, f"ls {path}", lambda: os.listdir(path)),
    ]
    return dice.choices([call[1:] for call in calls], [call[0] for call in calls])[0]


@pytest.fixture
def tmpfs(tmp_path):
    directory = tmp_path / "tmpfs"
    directory.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", directory)
    yield directory
    run("umount", directory)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_lists_act_as_those_of_the_kernel(volume4, tmpfs, seed):
    volume4.unmount()
    volume4.mount("allow_other", "suid")
    dice = random.Random(seed)
    roots = (str(volume4.path), str(tmpfs))
    for root in roots:
        os.chmod(root, 0o777)
    log, seen = [], set()
    for number in range(STEPS):
        paths = sorted(path for path, (mode, *_) in state(roots[0]).items() if not stat.S_ISLNK(int(mode, 8)))
        words, call = some_call(dice, paths, number)
        caller, umask = dice.choices(CALLERS, [6, 1, 1, 1, 1])[0], dice.choice([0, 0o022, 0o027, 0o077])
        ends = [as_caller(root, caller, umask, call) for root in roots]
        log.append(f"{caller} umask {umask:03o}: {words}: {[os.strerror(end) for end in ends]}")
        assert 255 not in ends, log[-1]
        states = [state(root) for root in roots]
        seen |= {found[3] for found in states[0].values()}
        different = {path for path in states[0] | states[1] if states[0].get(path) != states[1].get(path)}
        shown = [(path, states[0].get(path), states[1].get(path)) for path in different]
        assert ends[0] == ends[1] and not different, "\n".join(log[-10:] + [str(each) for each in shown])
    before = state(roots[0])
    assert len(seen) > 20, "too few lists to tell anything"
    volume4.again("allow_other", "suid")
    assert state(roots[0]) == before


def test_tools_carry_lists(make_volume, tmp_path):
    """setfacl, getfacl, and copies by cp, rsync and tar."""
    volume, other = make_volume(), make_volume()
    source = volume.path / "source"
    source.mkdir()
    run("setfacl", "-m", "u:1001:rwx,g:1005:r-x,d:u:1002:rwx,d:g::r-x,d:o::---", source)
    (source / "file").write_text("inherits")
    (source / "below").mkdir()
    (source / "plain").write_text("x")
    run("setfacl", "-b", source / "plain")
    listed = listing(source)
    assert "user:1002:rwx\t#effective:rw-" in "".join(listed) and "default:user:1002:rwx" in "".join(listed), listed
    assert not os.listxattr(source / "plain")
    for number, copy in enumerate((["cp", "-a"], ["rsync", "-aA"])):
        for target in (volume.path, other.path):
            run(*copy, f"{source}/", target / f"copy{number}")
            assert listing(target / f"copy{number}") == listed
    archive = tmp_path / "archive.tar"
    run("tar", "--acls", "-cf", archive, "-C", source, ".")
    (other.path / "untarred").mkdir()
    run("tar", "--acls", "-xpf", archive, "-C", other.path / "untarred")
    assert listing(other.path / "untarred") == listed
    run("chmod", "g-w", source)
    assert "mask::r-x" in run("getfacl", "-p", "-n", source).stdout


def test_what_cannot_have_a_list(volume4):
    """A list for a link, a default list for a file, a list too long, and one in the control directory."""
    path = volume4.path / "file"
    path.write_text("x")
    os.symlink("file", volume4.path / "link")
    whole = value(*minimal(6, 4, 4))
    for number, call in (
        (errno.EACCES, lambda: os.setxattr(path, DEFAULT, whole)),
        (errno.EOPNOTSUPP, lambda: os.setxattr(volume4.path / "link", ACCESS, whole, follow_symlinks=False)),
        (errno.EINVAL, lambda: os.setxattr(path, ACCESS, value((OWNER, 6, NOBODY)))),
        (errno.EPERM, lambda: os.setxattr(volume4.path / ".vexfs/collections", DEFAULT, whole)),
    ):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == number, raised.value
    users = [(USER, 4, 2000 + number) for number in range(600)]
    long = value((OWNER, 6, NOBODY), *users, (OWNING_GROUP, 4, NOBODY), (MASK, 4, NOBODY), (OTHER, 4, NOBODY))
    done = subprocess.run(["setfattr", "-n", ACCESS, "-v", "0x" + long.hex(), path], capture_output=True, check=False)
    assert done.returncode and os.stat(path).st_mode & 0o777 == 0o644
    assert not os.listxattr(path)
