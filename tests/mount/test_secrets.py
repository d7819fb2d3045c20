"""P9 on a mount: no way to read a pseudo-file gives a user what its mode does not (read, direct I/O, shared and private
mappings), whoever read it before, and nobody gets other bytes than another."""

import json
import os
import subprocess

import numpy as np

USERS = {"owner": (4001, 4001, 50), "member": (4002, 4002, 50), "other": (4003, 4003, 60), "nobody": (65534, 65534, 65534)}
# What they tell changes with time, for everyone alike.
CHANGING = ("status.json", "metrics")

READER = """
import hashlib, json, mmap, os, sys
uid, gid, group = map(int, sys.argv[2:])
os.setgroups([group]); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)

def content(path, way):
    file = os.open(path, os.O_RDONLY | (os.O_DIRECT if way == "direct" else 0))
    try:
        if way == "shared" or way == "private":
            size = os.fstat(file).st_size
            if size == 0:
                return mmap.mmap(file, 4096, getattr(mmap, "MAP_" + way.upper()), mmap.PROT_READ)[:]
            return mmap.mmap(file, size, getattr(mmap, "MAP_" + way.upper()), mmap.PROT_READ)[:]
        if way == "direct":
            buffer, whole = mmap.mmap(-1, 1 << 20), b""
            while count := os.preadv(file, [buffer], len(whole)):
                whole += buffer[:count]
            return whole
        return b"".join(iter(lambda: os.read(file, 1 << 16), b""))
    finally:
        os.close(file)

found = {}
for path in json.loads(sys.argv[1]):
    for way in ("read", "direct", "shared", "private"):
        try:
            found[f"{path} {way}"] = hashlib.sha256(content(path, way)).hexdigest()
        except (OSError, ValueError) as error:
            found[f"{path} {way}"] = getattr(error, "errno", None) or str(error)
    try:
        found[f"{path} names"] = sorted(os.listxattr(path))
    except OSError as error:
        found[f"{path} names"] = error.errno
print(json.dumps(found))
"""


def reads(paths, user):
    command = [os.sys.executable, "-B", "-c", READER, json.dumps(paths), *map(str, USERS[user])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def may(path, top, user):
    """What the modes of a file and of every directory above it give a user."""
    uid, gid, group = USERS[user]

    def has(status, what):
        shift = 6 if status.st_uid == uid else 3 if status.st_gid in (gid, group) else 0
        return status.st_mode >> shift & what == what

    above = [parent for parent in path.parents if top in (parent, *parent.parents)]
    return has(os.stat(path), 4) and all(has(os.stat(parent), 1) for parent in above)


def test_no_way_of_reading_gives_more_than_the_mode(make_volume):
    volume = make_volume(options=["allow_other"])
    for parent in (volume.path.parent, *volume.path.parent.parents):
        os.chmod(parent, os.stat(parent).st_mode | 0o011)
    os.chmod(volume.path, 0o755)
    collections = volume.path / ".vexfs/collections"
    modes = {"private": 0o700, "team": 0o750, "public": 0o755, "reached": 0o711, "listed": 0o744, "shut": 0o000}
    for number, (name, mode) in enumerate(modes.items()):
        for i in range(20):
            path = volume.path / f"{name}{i}"
            path.touch()
            os.setxattr(path, f"user.vector.{name}", np.full(64, 100 * number + i, "<f4").tobytes())
        os.chown(collections / name, 4001, 50)
        os.chmod(collections / name, mode)
    control = volume.path / ".vexfs"
    # What is in `near` depends on who asks: test_near_directory.py.
    files = [path for path in sorted([*control.glob("*"), *(control / "collections").rglob("*")]) if path.is_file()]
    # Those that take requests are not there to be read.
    paths = [str(path) for path in files if path.name not in ("control", "query", "append", "pending")]
    assert len(paths) > 6 * len(modes)
    granted = refused = 0
    for order in (list(USERS), list(USERS)[::-1]):
        seen = {}
        for user in order:
            for key, found in reads(paths, user).items():
                path, way = key.rsplit(" ", 1)
                if way == "names":
                    continue
                allowed = may(volume.path / path, volume.path, user)
                if not allowed:
                    assert found == 13, f"{user}: {key} gives {found}, the mode does not"
                    refused += 1
                elif way in ("read", "direct"):
                    assert isinstance(found, str) and len(found) == 64, f"{user}: {key}: {found}"
                if isinstance(found, str) and len(found) == 64 and not path.endswith(CHANGING):
                    granted += 1
                    # Whoever gets anything gets the same, in whatever way; a mapping is whole pages.
                    ways = "map" if way in ("shared", "private") else "read"
                    assert seen.setdefault((path, ways), found) == found, f"{user}: {key} differs from others'"
    print(f"{len(paths)} files, {granted} times read, {refused} times refused")
    assert refused > 200 and granted > 200
