"""A collection's `query` file: a question is written, the answer is read on the same descriptor, as who opened it."""

import json
import multiprocessing
import os
import socket
import subprocess

import numpy as np
import pytest
from volume import BIN, who

NAME = "user.vector.c"
USER, GROUP = 1234, 4321


@pytest.fixture
def shared(make_volume, tmp_path):
    """A volume that other users reach."""
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(parent.stat().st_mode | 0o001)
    return make_volume(options=("allow_other",))


def in_a_child(call, user, group, groups=()):
    """What `call` gives, in a process of this user."""
    ours, theirs = multiprocessing.Pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(groups)
            os.setresgid(group, group, group)
            os.setresuid(user, user, user)
            theirs.send(call())
        except Exception as error:
            theirs.send(error)
        finally:
            os._exit(0)
    given = ours.recv()
    os.waitpid(child, 0)
    return given


def vector(seed):
    return np.random.default_rng(seed).standard_normal(16).astype("<f4").tobytes()


def put(volume, path, seed, n=0):
    file = volume.path / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    os.setxattr(file, NAME if n == 0 else f"{NAME}.{n}", vector(seed))
    return file


def question(rows):
    return json.dumps({"rows": list(rows)}).encode()


def lines(answer):
    return [json.loads(line) for line in answer.decode().splitlines()]


def query_file(volume):
    return volume.path / ".vexfs/collections/c/query"


def ask(volume, asked):
    fd = os.open(query_file(volume), os.O_RDWR)
    try:
        assert os.write(fd, asked) == len(asked)
        answer = b""
        while piece := os.read(fd, 1 << 16):
            answer += piece
        return lines(answer)
    finally:
        os.close(fd)


def ask_as(volume, rows, user=USER, group=USER, groups=()):
    told = in_a_child(lambda: ask(volume, question(rows)), user, group, list(groups))
    return [line["path"] for line in told] if isinstance(told, list) else told


def shown_to_all(volume):
    os.chmod(volume.path, 0o755)
    os.chmod(query_file(volume).parent, 0o755)


def test_rows_are_told_with_their_files(volume):
    for index in range(6):
        put(volume, f"d/f{index}", index)
    put(volume, "d/f1", 100, n=3)
    os.unlink(volume.path / "d/f4")
    told = ask(volume, question([6, 0, 4, 1, 99, 1]))
    inode = (volume.path / "d/f1").stat().st_ino
    assert [(line["path"], line["row"], line["n"]) for line in told] == [("d/f1", 6, 3), ("d/f0", 0, 0), ("d/f1", 1, 0), ("d/f1", 1, 0)]
    assert told[0]["inode"] == told[2]["inode"] == inode
    os.rename(volume.path / "d/f0", volume.path / "moved")
    assert [line["path"] for line in ask(volume, question([0]))] == ["moved"]
    os.link(volume.path / "moved", volume.path / "d/again")
    os.unlink(volume.path / "moved")
    assert [line["path"] for line in ask(volume, question([0]))] == ["d/again"]


def test_a_name_of_any_bytes(volume4):
    raw = b'a\xff"\n'
    path = os.fsencode(volume4.path) + b"/" + raw
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.setxattr(path, NAME, vector(1))
    (line,) = ask(volume4, question([0]))
    assert bytes.fromhex(line["path_hex"]) == raw and line["path"] == 'a\ufffd"\n'


def test_a_descriptor_serves_one_question_after_the_other(volume4):
    for index in range(3):
        put(volume4, f"f{index}", index)
    with open(query_file(volume4), "r+b", buffering=0) as file:
        assert file.read() == b""
        file.write(question([2]))
        assert lines(file.read())[0]["path"] == "f2"
        file.write(question([1]))
        assert lines(file.read())[0]["path"] == "f1"
        file.seek(0)
        file.write(question([0, 1, 2]))
        file.seek(0)
        whole = file.read()
        assert [line["path"] for line in lines(whole)] == ["f0", "f1", "f2"]
        assert os.pread(file.fileno(), 10, 5) == whole[5:15]
    script = f'exec 3<>"{query_file(volume4)}"; echo \'{{"rows": [1]}}\' >&3; cat <&3'
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert lines(done.stdout)[0]["path"] == "f1"


@pytest.mark.parametrize(
    "asked, reason",
    [
        (b"rows", "JSON object"),
        (b'{"rows": [1, ]}', ""),
        (b'{"rows": [-1]}', "a row is a number"),
        (b'{"rows": [1.5]}', "a row is a number"),
        (b'{"rows": ["1"]}', "a row is a number"),
        (b'{"rows": {"a": 1}}', '{"rows": [ROW, ...]}'),
        (b'{"columns": [1]}', '{"rows": [ROW, ...]}'),
        (b'{"rows": [1]} more', "follows"),
        (b"\xff\xfe", "raw vector, which has 64 bytes here (16 x f32): 2 bytes"),
        (b'{"\xff": 1}', "UTF-8"),
    ],
)
def test_what_is_no_question_is_answered_with_a_reason(volume4, asked, reason):
    put(volume4, "f", 1)
    (line,) = ask(volume4, asked)
    assert list(line) == ["error"] and reason in line["error"]


def test_a_question_may_be_long_but_not_endless(volume4):
    for index in range(3):
        put(volume4, f"f{index}", index)
    rows = [row % 3 for row in range(500_000)]
    asked = question(rows)
    assert len(asked) > 1 << 20
    with open(query_file(volume4), "r+b", buffering=0) as file:
        written = 0
        while written < len(asked):
            written += file.write(asked[written:])
        answer = b"".join(iter(lambda: file.read(1 << 20), b""))
        assert [line["row"] for line in lines(answer)] == rows
        with pytest.raises(OSError, match="File too large"):
            for _ in range(5):
                file.write(b" " * (1 << 20))
        file.write(question([1]))
        assert lines(file.read())[0]["path"] == "f1"


def test_nobody_is_told_of_what_a_walk_would_not_find(shared):
    put(shared, "open/f", 0)
    put(shared, "closed/f", 1)
    put(shared, "passable/f", 2)
    put(shared, "open/deep/closed/f", 3)
    put(shared, "group/f", 4)
    put(shared, "listed/f", 5)
    shown_to_all(shared)
    root = shared.path
    os.chmod(root / "closed", 0o700)
    os.chmod(root / "passable", 0o711)
    os.chmod(root / "open/deep/closed", 0o744)
    os.chown(root / "group", 0, GROUP)
    os.chmod(root / "group", 0o750)
    os.chmod(root / "listed", 0o700)
    subprocess.run(["setfacl", "-m", f"u:{USER}:rx", root / "listed"], check=True)
    rows = range(6)
    assert [line["row"] for line in ask(shared, question(rows))] == list(rows)
    assert ask_as(shared, rows) == ["open/f", "listed/f"]
    assert ask_as(shared, rows, groups=[GROUP]) == ["open/f", "group/f", "listed/f"]
    assert ask_as(shared, rows, group=GROUP) == ["open/f", "group/f", "listed/f"]
    subprocess.run(["setfacl", "-m", "m::-", root / "listed"], check=True)
    assert ask_as(shared, rows) == ["open/f"]
    os.link(root / "closed/f", root / "open/second")
    assert ask_as(shared, rows) == ["open/f", "open/second"]
    for user in (USER, 5678):
        walk = subprocess.run(["find", ".", "-type", "f", "-size", "-1000"], cwd=root, **who(user), capture_output=True, text=True, check=False)
        found = {line.removeprefix("./") for line in walk.stdout.splitlines()}
        assert set(ask_as(shared, rows, user=user, group=user)) == found


def test_who_may_read_the_collection_may_ask(shared):
    put(shared, "f", 1)
    os.chmod(query_file(shared).parent, 0o750)
    assert query_file(shared).stat().st_mode & 0o777 == 0o660
    assert isinstance(ask_as(shared, [0]), PermissionError)
    shown_to_all(shared)
    assert query_file(shared).stat().st_mode & 0o777 == 0o666
    assert ask_as(shared, [0]) == ["f"]


def test_the_opener_counts_and_not_who_reads(shared):
    put(shared, "closed/f", 0)
    put(shared, "open/f", 1)
    shown_to_all(shared)
    os.chmod(shared.path / "closed", 0o700)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        open_it = lambda: socket.send_fds(theirs, [b"x"], [os.open(query_file(shared), os.O_RDWR)])
        assert in_a_child(open_it, USER, USER) == 1
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    try:
        os.write(fd, question([0, 1]))
        assert [line["path"] for line in lines(os.read(fd, 1 << 16))] == ["open/f"]
    finally:
        os.close(fd)


def one_client(path, me, rounds, done):
    rng = np.random.default_rng(me)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(rounds):
            rows = rng.integers(0, 64, size=rng.integers(1, 40)).tolist()
            file.write(question(rows))
            answer = b""
            while piece := file.read(257):
                answer += piece
            if [(line["row"], line["path"]) for line in lines(answer)] != [(row, f"f{row}") for row in rows]:
                done.put(f"client {me} was told {answer!r} of {rows}")
                return
    done.put(None)


def test_64_clients_never_mix(volume4):
    for index in range(64):
        put(volume4, f"f{index}", index)
    done = multiprocessing.Queue()
    clients = [multiprocessing.Process(target=one_client, args=(query_file(volume4), me, 20, done)) for me in range(64)]
    for client in clients:
        client.start()
    told = [done.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    assert told == [None] * 64


def test_search_names_files_without_a_walk(shared):
    for index in range(40):
        put(shared, f"closed/f{index}", index)
    put(shared, "open/near", 1)
    put(shared, "open/far", 1000)
    shown_to_all(shared)
    os.chmod(shared.path / "closed", 0o700)

    def search(*words, **kwargs):
        command = [BIN / "vexfs", "search", query_file(shared).parent, "--json", "--explain", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, **kwargs)
        return [json.loads(line)["path"] for line in done.stdout.splitlines()], json.loads(done.stderr)

    query = json.dumps(np.frombuffer(vector(1), "<f4").tolist())
    paths, plan = search("--vector", query, "-k", "3")
    assert set(paths[:2]) == {"closed/f1", "open/near"} and plan["walks"] == 0
    # Forty files that are out of reach, two that are not: k is filled all the same.
    paths, plan = search("--vector", query, "-k", "2", **who(USER))
    assert paths == ["open/near", "open/far"] and plan["walks"] == 0
