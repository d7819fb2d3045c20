"""Times as they were set: to the nanosecond, before 1970 and far from it, also after a remount."""

import ctypes
import os
import time

import pytest

SECOND = 1_000_000_000
# Nanoseconds since 1970. The kernel drops the nanoseconds of the first and the last second of all.
TIMES = [
    0,
    1,
    -1,
    -SECOND + 1,
    -SECOND,
    -SECOND - 1,
    -1_500_000_000,
    -(1 << 31) * SECOND - 7,
    (1 << 31) * SECOND + 123_456_789,
    (1 << 34) * SECOND + 999_999_999,
    ((1 << 63) - 2) * SECOND + 999_999_999,
    ((1 << 63) - 1) * SECOND,
    (1 - (1 << 63)) * SECOND + 1,
    -(1 << 63) * SECOND,
]

UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
AT_FDCWD, AT_SYMLINK_NOFOLLOW = -100, 0x100


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_long)]


def utimensat(path, accessed, modified, flags=0):
    """utimensat(2): a number of nanoseconds since 1970 each, or UTIME_NOW or UTIME_OMIT as a string."""
    special = {"now": UTIME_NOW, "omit": UTIME_OMIT}
    times = (Timespec * 2)(
        *(Timespec(0, special[given]) if given in special else Timespec(*divmod(given, SECOND)) for given in (accessed, modified))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


def times(path):
    found = os.lstat(path)
    return found.st_atime_ns, found.st_mtime_ns


def test_times_are_kept_to_the_nanosecond(volume4):
    expected = {}
    for number, modified in enumerate(TIMES):
        path = volume4.path / f"file{number}"
        path.touch()
        accessed = TIMES[-1 - number]
        os.utime(path, ns=(accessed, modified))
        expected[path] = (accessed, modified)
    assert {path: times(path) for path in expected} == expected
    volume4.again("noatime")
    assert {path: times(path) for path in expected} == expected


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_one_time_now_the_other_as_it_was(volume4, kind):
    path = volume4.path / kind
    {"file": path.touch, "directory": path.mkdir, "symlink": lambda: path.symlink_to("nowhere")}[kind]()
    utimensat(path, -5, 7, AT_SYMLINK_NOFOLLOW)
    assert times(path) == (-5, 7)
    before = time.time_ns()
    utimensat(path, "omit", "now", AT_SYMLINK_NOFOLLOW)
    after = time.time_ns()
    accessed, modified = times(path)
    # The kernel's clock of file times ticks a few milliseconds at a time.
    assert accessed == -5 and before - SECOND // 10 <= modified <= after
    utimensat(path, 11, "omit", AT_SYMLINK_NOFOLLOW)
    assert times(path) == (11, modified)
    changed = os.lstat(path).st_ctime_ns
    utimensat(path, "omit", "omit", AT_SYMLINK_NOFOLLOW)
    assert times(path) == (11, modified) and os.lstat(path).st_ctime_ns == changed
    utimensat(path, "now", "now", AT_SYMLINK_NOFOLLOW)
    assert min(times(path)) >= before - SECOND // 10


def test_setting_a_time_is_a_change_and_a_chmod_leaves_times_alone(volume4):
    path = volume4.path / "file"
    path.touch()
    os.utime(path, ns=(3, -4))
    changed = os.stat(path).st_ctime_ns
    time.sleep(0.02)
    os.utime(path, ns=(3, -4))
    assert os.stat(path).st_ctime_ns > changed
    os.chmod(path, 0o600)
    assert times(path) == (3, -4)
