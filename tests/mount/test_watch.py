"""`vexfs watch`: a command keeps vectors current. Nothing is lost with a worker or the daemon, and nothing looks fresher than it is."""

import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from volume import BIN, fails_with, run, wait_for

KILLS = int(os.environ.get("VEXFS_WATCH_KILLS", "100"))
SEED = int(os.environ.get("VEXFS_SEED", "11"))
DIMENSIONS = 8
NAME = "user.vector.v"
FRESH = "user.vexfs.fresh.v"
LEASE = "user.vexfs.lease.v"

# A model in a few lines: the vector of a text is its SHA-256, as numbers from 0 to 255.
EMBED = f"""
import hashlib, json, os, sys, time
texts = []
for path in sys.stdin.buffer.read().split(b"\\0" if "-0" in sys.argv else b"\\n")[:-1]:
    texts.append(open(path, "rb").read())
    with open(os.environ["RUNS"], "a") as runs:
        runs.write(ascii(os.path.basename(path))[2:-1] + "\\n")
time.sleep(float(os.environ.get("SLOW", "0")))
for data in texts:
    if b"poison" in data:
        sys.exit("cannot embed this")
    print(json.dumps(list(hashlib.sha256(data).digest()[:{DIMENSIONS}])))
"""


def vector_of(data):
    return np.frombuffer(hashlib.sha256(data).digest()[:DIMENSIONS], "u1").astype("<f4").tobytes()


class Watched:
    """A volume with a collection `v`, a directory `docs`, and the command above."""

    def __init__(self, volume, directory):
        self.volume, self.docs = volume, volume.path / "docs"
        self.docs.mkdir()
        self.script, self.runs = directory / "embed.py", directory / "runs"
        self.script.write_text(EMBED)
        self.runs.touch()
        self.errors = directory / "errors"
        run(BIN / "vexfs", "create", "v", "--dim", DIMENSIONS, "--mount", volume.path)

    def command(self, *options, command=None):
        command = command or [sys.executable, "-S", str(self.script)]
        return [str(word) for word in (BIN / "vexfs", "watch", "v", "--mount", self.volume.path, *options, "--", *command)]

    def environment(self, **more):
        return {**os.environ, "RUNS": str(self.runs), **more}

    def once(self, *options, ok=(0,), command=None, **more):
        options = ("--dir", self.docs, "--settle", 0, *options)
        return run(*self.command("--once", *options, command=command), ok=ok, env=self.environment(**more))

    def start(self, *options, **more):
        """A watcher in the background; what it says goes to a file."""
        options = ("--dir", self.docs, "--settle", 0, "--interval", 0.05, *options)
        with open(self.errors, "ab") as errors:
            return subprocess.Popen(self.command(*options), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, env=self.environment(**more))

    def write(self, name, data):
        path = self.docs / name
        path.write_bytes(data)
        return path

    def runs_of(self, name):
        return self.runs.read_text().splitlines().count(name)

    def is_right(self, path):
        """True if it is fresh, and then its vector must be that of its content."""
        try:
            fresh = os.getxattr(path, FRESH) == b"1"
            vector = os.getxattr(path, NAME)
        except OSError as error:
            assert error.errno == errno.ENODATA, error
            return False
        if fresh:
            assert vector == vector_of(path.read_bytes()), f"{path} looks fresh with a vector of other content"
        return fresh


@pytest.fixture
def watched(volume4, tmp_path):
    return Watched(volume4, tmp_path)


@contextlib.contextmanager
def running(watched, *options, **more):
    process = watched.start(*options, **more)
    try:
        yield process
        assert process.poll() is None, watched.errors.read_text()
    finally:
        process.kill()
        process.wait()


def test_new_changed_renamed_and_removed_files(watched):
    (watched.docs / "deep").mkdir()
    names = ["a", "b c", "deep/d"]
    for name in names:
        watched.write(name, name.encode())
    watched.write("empty", b"")
    watched.write(".hidden", b"x")
    with running(watched):
        wait_for(lambda: all(watched.is_right(watched.docs / name) for name in names), "vectors of all files")
        new = watched.write("new", b"one")
        wait_for(lambda: watched.is_right(new), "the vector of a new file")
        new.write_bytes(b"two")
        wait_for(lambda: watched.is_right(new), "the vector of what it holds now")
        new.rename(watched.docs / "other")
        (watched.docs / "a").unlink()
        watched.write("empty", b"no more")
        wait_for(lambda: watched.is_right(watched.docs / "empty"), "a file that was empty")
    assert watched.is_right(watched.docs / "other")
    assert not has(watched.docs / ".hidden", NAME)
    assert watched.runs_of("b c") == 1, "what is fresh is left alone"
    assert (watched.volume.path / ".vexfs/pending").read_text() == "", "no lease is left"


def test_which_files(watched):
    for name in ("a.md", "b.txt", ".c.md"):
        watched.write(name, name.encode())
    (watched.docs / "sub" / "sub").mkdir(parents=True)
    watched.write("sub/d.md", b"d")
    watched.write("sub/sub/e.md", b"e")
    (watched.docs / "link.md").symlink_to("b.txt")
    outside = watched.volume.path / "outside"
    outside.write_bytes(b"outside")

    def listed(*options, settle=0):
        lines = run(BIN / "vexfs", "--json", "--mount", watched.volume.path, "watch", "v", "--list", "--settle", settle, *options).stdout.splitlines()
        return {os.path.relpath(line["path"], watched.docs): line["state"] for line in map(json.loads, lines)}

    assert listed() == {}, "without --dir only what has vectors"
    assert set(listed("--dir", watched.docs)) == {"a.md", "b.txt", "sub/d.md", "sub/sub/e.md"}
    assert set(listed("--dir", watched.docs, "--hidden", "--glob", "*.md")) == {"a.md", ".c.md", "sub/d.md", "sub/sub/e.md"}
    assert set(listed("--dir", watched.docs, "--glob", "*/*.md")) == {"sub/d.md"}
    assert set(listed("--dir", watched.docs, "--glob", "sub/**/*.md", "--glob", "b*")) == {"b.txt", "sub/d.md", "sub/sub/e.md"}
    assert listed("--dir", watched.docs, settle=1000) == {}
    os.setxattr(outside, NAME, bytes(4 * DIMENSIONS))
    outside.write_bytes(b"changed")
    assert listed() == {"../outside": "stale"}
    done = run(*watched.command("--once", "--settle", 0), env=watched.environment())
    assert done.stdout.startswith("v: 1 vectors of 1 files (") and watched.is_right(outside)


def test_a_change_meanwhile_is_never_taken_for_fresh(watched):
    path = watched.write("file", b"one")
    with running(watched, SLOW="0.5"):
        wait_for(lambda: watched.runs_of("file") == 1, "the command to read it")
        assert has(path, LEASE)
        path.write_bytes(b"two")
        wait_for(lambda: has(path, NAME), "the vector of what it read")
        assert not watched.is_right(path) and os.getxattr(path, NAME) == vector_of(b"one")
        wait_for(lambda: watched.is_right(path), "the vector of the last content")
        assert watched.runs_of("file") == 2
        wait_for(lambda: not has(path, LEASE), "the end of the lease")


def has(path, name):
    try:
        os.getxattr(path, name)
    except OSError as error:
        assert error.errno == errno.ENODATA, error
        return False
    return True


def test_the_version_that_a_vector_was_made_from(watched):
    path = watched.write("file", b"one")
    vector, other = np.arange(DIMENSIONS, dtype="<f4").tobytes(), np.ones(DIMENSIONS, "<f4").tobytes()
    version = int(os.getxattr(path, "user.vexfs.version"))
    fails_with(errno.EINVAL, os.setxattr, path, f"{NAME}@{version + 1}", vector)
    fails_with(errno.EINVAL, os.setxattr, path, f"{NAME}@0", vector)
    path.write_bytes(b"two")
    now = int(os.getxattr(path, "user.vexfs.version"))
    os.setxattr(path, f"{NAME}@{version}", vector)
    assert os.getxattr(path, FRESH) == b"0" == os.getxattr(path, "user.vexfs.fresh"), "stale at once"
    assert os.getxattr(path, NAME) == vector == os.getxattr(path, f"{NAME}@{version}")
    fails_with(errno.ENODATA, os.getxattr, path, f"{NAME}@{now}")
    assert os.listxattr(path) == [NAME]
    os.setxattr(path, f"{NAME}.3@{now}", other)
    assert os.getxattr(path, FRESH) == b"0", "one of two"
    os.setxattr(path, f"{NAME}@{now}", other)
    assert os.getxattr(path, FRESH) == b"1"
    fails_with(errno.EEXIST, os.setxattr, path, f"{NAME}@{version}", vector)
    assert os.getxattr(path, NAME) == other
    fails_with(errno.ENODATA, os.removexattr, path, f"{NAME}@{version}")
    run(BIN / "vexfs", "set", "--version", version, path, "w", "[1]")
    assert os.getxattr(path, "user.vexfs.fresh.w") == b"0" and os.getxattr(path, FRESH) == b"1"
    fails_with(errno.ENODATA, os.getxattr, path, "user.vexfs.fresh.none")
    watched.volume.again()
    assert os.getxattr(path, FRESH) == b"1" and os.getxattr(path, "user.vexfs.fresh") == b"0"


def test_what_comes_into_an_empty_file_is_not_what_a_vector_was_made_from(watched):
    path = watched.write("file", b"")
    version = int(os.getxattr(path, "user.vexfs.version"))
    os.setxattr(path, f"{NAME}@{version}", bytes(4 * DIMENSIONS))
    assert os.getxattr(path, FRESH) == b"1"
    path.write_bytes(b"content")
    os.stat(path)
    time.sleep(0.3)
    assert os.getxattr(path, FRESH) == b"0"


def test_leases(watched):
    path = watched.write("file", b"one")
    pending = watched.volume.path / ".vexfs/pending"
    os.setxattr(path, LEASE, b"me 30", os.XATTR_CREATE)
    holder, until = os.getxattr(path, LEASE).split()
    assert holder == b"me" and 25 < int(until) - time.time() < 35 and LEASE not in os.listxattr(path)
    line = json.loads(pending.read_text())
    assert line == {"path": "docs/file", "collection": "v", "inode": os.stat(path).st_ino, "version": int(os.getxattr(path, "user.vexfs.version")), "stale": [], "holder": "me", "until": int(until)}
    fails_with(errno.EBUSY, os.setxattr, path, LEASE, b"you 30")
    fails_with(errno.EBUSY, os.setxattr, path, LEASE, b"you 0")
    fails_with(errno.EEXIST, os.setxattr, path, LEASE, b"me 30", os.XATTR_CREATE)
    os.setxattr(path, LEASE, b"me 0", os.XATTR_REPLACE)
    fails_with(errno.ENODATA, os.setxattr, path, LEASE, b"me 30", os.XATTR_REPLACE)
    os.setxattr(path, LEASE, b"you 30")
    os.removexattr(path, LEASE)
    fails_with(errno.ENODATA, os.getxattr, path, LEASE)
    for bad in (b"", b"me", b"me 100000", b"a b 3"):
        fails_with(errno.EINVAL, os.setxattr, path, LEASE, bad)
    fails_with(errno.EINVAL, os.setxattr, path, "user.vexfs.lease.none", b"me 30")
    fails_with(errno.EPERM, os.setxattr, watched.volume.path / ".vexfs/collections/v", LEASE, b"me 30")
    os.setxattr(path, LEASE, b"me 1")
    wait_for(lambda: set_now(path, b"you 60"), "the end of the lease", seconds=5)
    os.setxattr(path, NAME, bytes(4 * DIMENSIONS))
    path.write_bytes(b"two")
    line = json.loads(pending.read_text())
    assert (line["stale"], line["holder"]) == ([0], "you")
    assert os.stat(pending).st_mode & 0o777 == 0o400
    watched.volume.again()
    line = json.loads(pending.read_text())
    assert line["stale"] == [0] and "holder" not in line, "leases are in memory, what there is to do is on disk"


def set_now(path, lease):
    try:
        os.setxattr(path, LEASE, lease)
    except OSError as error:
        assert error.errno == errno.EBUSY, error
        return False
    return True


def test_a_lease_takes_write_permission(make_volume):
    volume = make_volume(options=("allow_other",))
    os.chmod(volume.path.parent, 0o755)
    path = volume.path / "file"
    path.write_bytes(b"x")
    os.setxattr(path, NAME, bytes(8))
    code = f"import os; os.setuid(4321)\ntry: os.setxattr('file', {LEASE!r}, b'me 30')\nexcept OSError as error: print(error.errno)"

    def try_it():
        return subprocess.run([sys.executable, "-c", code], cwd=volume.path, capture_output=True, text=True, check=False).stdout.strip()

    os.chmod(path, 0o644)
    assert try_it() == str(errno.EACCES), "the file"
    os.chmod(path, 0o666)
    assert try_it() == str(errno.EACCES), "the collection, of mode 0700"
    os.chmod(volume.path / ".vexfs/collections/v", 0o777)
    assert try_it() == ""


def test_watchers_share_the_work(watched):
    for number in range(60):
        watched.write(f"{number}", f"text {number}".encode())
    started = [watched.start("--batch", 3, SLOW="0.05") for _ in range(4)]
    try:
        wait_for(lambda: all(watched.is_right(watched.docs / f"{number}") for number in range(60)), "vectors of all files")
        assert [process.poll() for process in started] == [None] * 4, watched.errors.read_text()
    finally:
        for process in started:
            process.kill()
            process.wait()
    runs = watched.runs.read_text().splitlines()
    assert sorted(runs, key=int) == [str(number) for number in range(60)], "each file once"


def test_the_files_of_a_watcher_that_is_gone(watched):
    path = watched.write("file", b"one")
    process = watched.start(SLOW="20")
    wait_for(lambda: watched.runs_of("file") == 1, "the command to read it")
    os.kill(process.pid, signal.SIGSTOP)
    with running(watched):
        time.sleep(1)
        assert watched.runs_of("file") == 1, "one that only sleeps keeps its files"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_for(lambda: watched.is_right(path), "the other to take over, long before the lease is over", seconds=20)


def test_a_lease_is_prolonged_while_the_command_runs(watched):
    path = watched.write("file", b"one")
    with running(watched, "--lease", 3, SLOW="6"):
        wait_for(lambda: has(path, LEASE), "the lease")
        first = int(os.getxattr(path, LEASE).split()[1])
        wait_for(lambda: has(path, LEASE) and int(os.getxattr(path, LEASE).split()[1]) >= first + 2, "a longer lease", seconds=5)
        fails_with(errno.EBUSY, os.setxattr, path, LEASE, b"you 30")
        wait_for(lambda: watched.is_right(path), "the vector")


def test_what_goes_wrong_is_told(watched):
    path = watched.write("file", b"one")

    def told(*command, options=()):
        done = watched.once("--retries", 1, "--batch", 1, *options, ok=(1,), command=command)
        assert not has(path, NAME) and not has(path, LEASE)
        return done.stdout

    assert "`/nonexistent` cannot be run: No such file" in told("/nonexistent")
    assert f"{path}: the command ended with exit status: 3" in told("sh", "-c", "exit 3")
    assert "the command never succeeded" in told("sh", "-c", "exit 3")
    assert f"the command's vector for {path}: collection v holds 8 x f32 = 32 bytes, got 8" in told("echo", "[1, 2]")
    assert "gave 2 vectors for 1 files" in told("echo", "[1] [2]")
    assert "neither npy nor JSON" in told("echo", "loading the model")
    assert "took longer than 0.2 s (--timeout)" in told("sleep", "60", options=("--timeout", 0.2))
    nan = f"import struct, sys; sys.stdout.buffer.write(struct.pack('<{DIMENSIONS}f', *[float('nan')] * {DIMENSIONS}))"
    assert "element 0 is NaN" in told(sys.executable, "-S", "-c", nan, options=("--format", "raw"))
    assert "no collection `w`" in run(*(word if word != "v" else "w" for word in watched.command()), ok=(1,)).stdout


def test_one_bad_file_holds_up_no_other(watched):
    for number in range(20):
        watched.write(f"{number:02}", b"poison" if number == 7 else f"text {number}".encode())
    done = watched.once("--retries", 1, ok=(1,))
    assert f"{watched.docs}/07: the command ended with exit status: 1" in done.stdout and "1 files are left" in done.stdout
    assert [number for number in range(20) if not watched.is_right(watched.docs / f"{number:02}")] == [7]
    watched.write("07", b"mended")
    watched.once()
    assert watched.is_right(watched.docs / "07")


def test_files_with_several_vectors_and_with_none(watched):
    path = watched.write("file", b"long")
    old = np.ones(DIMENSIONS, "<f4").tobytes()
    for n in (0, 1, 5):
        os.setxattr(path, f"{NAME}.{n}", old)
    path.write_bytes(b"longer")

    def answers(value):
        return watched.once(command=["echo", json.dumps(value)])

    three = [[number] * DIMENSIONS for number in (1, 2, 3)]
    answers(three)
    assert sorted(os.listxattr(path)) == [NAME, f"{NAME}.1", f"{NAME}.2"] and os.getxattr(path, FRESH) == b"1"
    assert [np.frombuffer(os.getxattr(path, name), "<f4")[0] for name in sorted(os.listxattr(path))] == [1, 2, 3]
    path.write_bytes(b"x")
    assert "1 left without" in answers(None).stdout
    assert os.listxattr(path) == []
    other = watched.write("other", b"new")
    path.unlink()
    answers(three)
    assert len(os.listxattr(other)) == 3 and os.getxattr(other, FRESH) == b"1"


def test_npy_and_odd_names(watched):
    odd = watched.docs / os.fsdecode(b"odd\n\xff name")
    odd.write_bytes(b"odd")
    done = watched.once("--retries", 1, ok=(1,))
    assert "use -0" in done.stdout
    watched.once("-0", command=[sys.executable, "-S", watched.script, "-0"])
    assert watched.is_right(odd)
    plain = watched.write("plain", b"plain")
    npy = watched.docs.parent / "v.npy"
    np.save(npy, np.full((1, DIMENSIONS), 7.5))
    watched.once(command=["cat", npy])
    assert os.getxattr(plain, NAME) == np.full(DIMENSIONS, 7.5, "<f4").tobytes()


def test_it_ends_with_the_mount(watched):
    watched.write("file", b"one")
    process = watched.start()
    wait_for(lambda: watched.is_right(watched.docs / "file"), "the vector")
    watched.volume.kill()
    assert process.wait(timeout=20) == 1
    assert "vexfs: " in watched.errors.read_text()
    watched.volume.mount()


def test_nothing_is_lost_with_workers_and_daemons(watched):
    """Workers and the daemon are killed at random while files change: whatever looks fresh has the vector of its content at any
    time, and in the end every file has."""
    choose = random.Random(SEED)
    volume, names = watched.volume, [f"{number}" for number in range(40)]
    for name in names:
        watched.write(name, choose.randbytes(choose.randrange(1, 9000)))
    directory = os.open(watched.docs, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    workers, daemons = [], 0
    try:
        for kill in range(KILLS):
            while len(workers) < 3:
                workers.append(watched.start("--batch", 4, SLOW=str(choose.choice([0, 0.02, 0.2]))))
            for _ in range(choose.randrange(6)):
                change(watched, choose, choose.choice(names))
            time.sleep(choose.random() * 0.2)
            if choose.random() < 0.3:
                daemons += 1
                volume.kill()
                for worker in workers:
                    # What it worked on is gone; it says so, or its command may still run.
                    worker.kill()
                    worker.wait()
                workers.clear()
                volume.mount("commit=1")
            else:
                worker = workers.pop(choose.randrange(len(workers)))
                worker.kill()
                worker.wait()
            for name in names:
                if (watched.docs / name).exists():
                    watched.is_right(watched.docs / name)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    done = watched.once()
    there = [name for name in names if (watched.docs / name).exists() and (watched.docs / name).stat().st_size]
    assert len(there) > 20 and all(watched.is_right(watched.docs / name) for name in there), done.stdout
    assert daemons > KILLS // 10
    print(f"{KILLS} kills, {daemons} of the daemon; {len(watched.runs.read_text().splitlines())} embeddings; all {len(there)} files have the vector of their content")


def change(watched, choose, name):
    path = watched.docs / name
    what = choose.randrange(5)
    if what == 0 and path.exists():
        path.unlink()
    elif what == 1 and path.exists():
        temporary = watched.docs / f".{name}.tmp"
        temporary.write_bytes(choose.randbytes(500))
        os.replace(temporary, path)
    elif what == 2 and path.exists():
        with open(path, "r+b") as file:
            file.write(choose.randbytes(10))
            if choose.random() < 0.5:
                os.fsync(file.fileno())
    else:
        path.write_bytes(choose.randbytes(choose.randrange(1, 9000)))
