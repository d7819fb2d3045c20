"""`.vexfs/near/PATH/`: links to what is nearest, by an exact reference, and for each user what he can reach alone."""

import itertools
import json
import os
import re
import stat
import subprocess
import threading
import time

import numpy as np
import pytest
from test_near import near
from test_query_file import USER, in_a_child, shared, shown_to_all  # noqa: F401
from test_search import FILES, expected, fill
from volume import fails_with, run

LINKS = 20
OTHER = USER + 1


def directory(volume, path, *more):
    return os.path.join(os.fsencode(volume.path), b".vexfs/near", os.fsencode(path), *map(os.fsencode, more))


def links(volume, path, *more):
    """Name -> target, in the order of `ls`."""
    at = directory(volume, path, *more)
    return {name: os.readlink(os.path.join(at, name)) for name in sorted(os.listdir(at))}


def shown(volume, path, *more):
    """(rank, score, path from the root) of each link, and that each leads to the file that its name says."""
    found = []
    for name, target in links(volume, path, *more).items():
        rank, score, last = re.fullmatch(rb"(\d\d) (-?[\d.]+) (.+)", name, re.DOTALL).groups()
        real = os.path.realpath(os.path.join(directory(volume, path, *more), name))
        assert not target.startswith(b"/") and os.path.basename(real) == last
        found.append((int(rank), float(score), os.path.relpath(real, os.fsencode(os.path.realpath(volume.path))).decode(errors="surrogateescape")))
    return found


def check(found, wanted):
    assert [rank for rank, _, _ in found] == list(range(1, len(wanted) + 1))
    np.testing.assert_allclose([score for _, score, _ in found], [score for score, _ in wanted], atol=1e-3)
    assert {path for _, _, path in found} == {path for _, path in wanted}


def test_links_are_the_nearest_files(volume):
    named = fill(volume)
    for like in list(named)[:3]:
        check(shown(volume, like), expected(named, named[like][0], "cosine", "f32", LINKS, without=(like,)))
    told = near(volume, like=like, k=LINKS)
    assert [path for _, _, path in shown(volume, like)] == [entry["path"] for entry in told]
    # By the tools that a person has.
    at = directory(volume, like)
    listed = run("ls", at.decode()).stdout.splitlines()
    assert [line.split(" ", 2)[2] for line in listed] == [entry["path"].split("/")[1] for entry in told]
    assert len(run("find", "-L", at.decode(), "-type", "f").stdout.splitlines()) == LINKS
    assert run("cat", f"{at.decode()}/{listed[0]}").stdout == "text"
    assert run("ls", "-l", at.decode()).stdout.count(" -> ../") == LINKS
    assert os.path.samefile(f"{at.decode()}/{listed[0]}", volume.path / told[0]["path"])


def test_directories_are_the_volumes(volume4):
    named = fill(volume4, files=8)
    (volume4.path / "d0/plain").touch()
    (volume4.path / "empty/deep").mkdir(parents=True)
    os.symlink("d0", volume4.path / "link")
    root = directory(volume4, "")
    assert sorted(os.listdir(root)) == [b"d0", b"d1", b"d2", b"d3", b"empty"]
    assert sorted(os.listdir(directory(volume4, "d0"))) == [b"f0000", b"f0004"]
    assert os.listdir(directory(volume4, "empty")) == [b"deep"]
    assert b"near" in os.listdir(os.path.dirname(root.rstrip(b"/")))
    entries = [entry for at, names, _ in os.walk(directory(volume4, "d0")) for entry in names]
    assert sorted(entries) == [b"f0000", b"f0004"]
    for path, number in (("d0/plain", 61), ("d0/none", 2), ("none/x", 2), ("link", 61), (".vexfs", 2), ("d0/f0000/x", 2), ("d0/f0000/99 0.5 x", 2)):
        fails_with(number, os.stat, directory(volume4, path))
    # Inode numbers tell the same by every way.
    for at, names, files in os.walk(root):
        for entry in os.scandir(at):
            assert entry.inode() == entry.stat(follow_symlinks=False).st_ino
    assert len({os.lstat(os.path.join(at, name)).st_ino for at, names, files in os.walk(root) for name in names}) == 5 + 1 + 8
    # A vector comes, a vector goes.
    os.setxattr(volume4.path / "d0/plain", "user.vector.c", named["d0/f0000"][0].tobytes())
    assert shown(volume4, "d0/plain")[0][1:] == (1.0, "d0/f0000")
    os.removexattr(volume4.path / "d0/plain", "user.vector.c")
    fails_with(61, os.listdir, directory(volume4, "d0/plain"))


def test_many_files_and_long_listings(volume4):
    generator = np.random.default_rng(3)
    (volume4.path / "many").mkdir()
    for index in range(3000):
        (volume4.path / f"many/file with a name of some length {index}").touch()
        if index % 2:
            os.setxattr(volume4.path / f"many/file with a name of some length {index}", "user.vector.c", generator.standard_normal(8).astype("<f4").tobytes())
    listed = os.listdir(directory(volume4, "many"))
    assert len(listed) == len(set(listed)) == 1500
    assert run("ls", "-f", directory(volume4, "many").decode()).stdout.count("file with") == 1500
    # Files without vectors alone: nothing is shown, and the listing ends.
    for index in range(1, 3000, 2):
        os.removexattr(volume4.path / f"many/file with a name of some length {index}", "user.vector.c")
    assert os.listdir(directory(volume4, "many")) == []


def test_names_of_any_bytes(volume4):
    generator = np.random.default_rng(5)
    names = [b"a b", b"\xff\xfe\n", b"x" * 255, "\u00e4".encode() * 127, b"-n", b" ", b"dir with space/inner \xc3"]
    os.mkdir(volume4.path / "dir with space")
    for name in names:
        path = os.path.join(os.fsencode(volume4.path), name)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.setxattr(path, "user.vector.c", generator.standard_normal(8).astype("<f4").tobytes())
    for name in names:
        found = links(volume4, name)
        assert len(found) == len(names) - 1
        reached = {os.path.realpath(os.path.join(directory(volume4, name), link)) for link in found}
        root = os.fsencode(os.path.realpath(volume4.path))
        assert reached == {os.path.join(root, other) for other in names if other != name}
        for link in found:
            assert len(link) <= 255 and os.stat(os.path.join(directory(volume4, name), link)).st_size == 0


def test_files_with_chunks_are_named_once(volume4):
    named = fill(volume4, files=30, chunks=4)
    like = next(iter(named))
    best = {name: max(score for score, _ in expected({name: vectors}, named[like][0], "cosine", "f32", 4)) for name, vectors in named.items() if name != like}
    wanted = sorted(((score, name) for name, score in best.items()), reverse=True)[:LINKS]
    check(shown(volume4, like), wanted)


def test_several_collections_are_a_directory_each(volume4):
    named = fill(volume4, files=12)
    others = fill(volume4, files=6, collection="other", metric="l2")
    assert sorted(os.listdir(directory(volume4, "d0/f0000"))) == [b"c", b"other"]
    # Of one alone it can be named as well, so that a script need not look.
    assert os.listdir(directory(volume4, "d2/f0010")) == os.listdir(directory(volume4, "d2/f0010", "c"))
    check(shown(volume4, "d2/f0010", "c"), expected(named, named["d2/f0010"][0], "cosine", "f32", LINKS, without=("d2/f0010",)))
    check(shown(volume4, "d0/f0000", "c"), expected(named, named["d0/f0000"][0], "cosine", "f32", LINKS, without=("d0/f0000",)))
    check(shown(volume4, "d0/f0000", "other"), expected(others, others["d0/f0000"][0], "l2", "f32", LINKS, without=("d0/f0000",)))
    for name in ("none", "vexfs", "01 0.500 x"):
        fails_with(2, os.listdir, directory(volume4, "d0/f0000", name))
    fails_with(2, os.listdir, directory(volume4, "d2/f0010", "other"))


def test_nothing_can_be_changed_there(volume4):
    fill(volume4, files=8)
    at, root = directory(volume4, "d0/f0000"), directory(volume4, "")
    first = os.path.join(at, sorted(os.listdir(at))[0])
    before = links(volume4, "d0/f0000")
    new = os.fsencode(volume4.path) + b"/new"
    for call, arguments in (
        (os.unlink, (first,)),
        (os.mkdir, (os.path.join(at, b"x"),)),
        (os.mkdir, (os.path.join(root, b"x"),)),
        (os.rmdir, (at,)),
        (os.rmdir, (root,)),
        (os.rename, (first, new)),
        (os.rename, (at, new)),
        (os.rename, (os.fsencode(volume4.path) + b"/d1/f0001", os.path.join(root, b"x"))),
        (os.symlink, (b"x", os.path.join(at, b"x"))),
        (os.link, (os.fsencode(volume4.path) + b"/d1/f0001", os.path.join(root, b"x"))),
        (os.mkfifo, (os.path.join(root, b"x"),)),
        (os.chmod, (at, 0o777)),
        (os.chmod, (root, 0o777)),
        (os.utime, (at,)),
        (os.setxattr, (at, b"user.vector.c", b"0000")),
        (os.setxattr, (root, b"user.a", b"0000")),
        (os.open, (os.path.join(root, b"x"), os.O_CREAT | os.O_WRONLY)),
    ):
        with pytest.raises(OSError) as raised:
            call(*arguments)
        assert raised.value.errno in (1, 13, 18, 95), (call, raised.value)
    run("rm", "-rf", at.decode(), ok=(1,))
    assert links(volume4, "d0/f0000") == before and len(os.listdir(volume4.path / "d0")) == 2
    assert os.listxattr(at) == [] and os.listxattr(root) == []


def test_what_changes_while_it_is_listed(volume4):
    named = fill(volume4, files=40)
    like = "d0/f0000"
    order = [path for _, _, path in shown(volume4, like)]
    with os.scandir(directory(volume4, like)) as entries:
        first = next(entries).name
        os.rename(volume4.path / order[0], volume4.path / "moved")
        os.unlink(volume4.path / order[1])
        rest = [entry.name for entry in entries]
    assert len({first, *rest}) == LINKS
    # Each name is looked up anew: the old ones are gone, though the listing is of some moments ago.
    fails_with(2, os.readlink, os.path.join(directory(volume4, like), sorted([first, *rest])[0]))
    fails_with(2, os.readlink, os.path.join(directory(volume4, like), sorted([first, *rest])[1]))
    named["moved"] = named.pop(order[0])
    del named[order[1]]
    check(shown(volume4, like), expected(named, named[like][0], "cosine", "f32", LINKS, without=(like,)))
    # A directory that moves deeper takes its links along.
    (volume4.path / "deep/er").mkdir(parents=True)
    (volume4.path / "d0").rename(volume4.path / "deep/er/d0")
    assert len(shown(volume4, "deep/er/d0/f0000")) == LINKS
    # The file is written, replaced as editors do it, and removed, with a listing open.
    at = directory(volume4, "deep/er/d0/f0000")
    (volume4.path / "deep/er/d0/f0000").write_bytes(b"new content")
    assert len(os.listdir(at)) == LINKS
    descriptor = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    try:
        (volume4.path / "deep/er/d0/new").write_bytes(b"saved")
        (volume4.path / "deep/er/d0/new").rename(volume4.path / "deep/er/d0/f0000")
        assert len(os.listdir(at)) == len(os.listdir(descriptor)) == LINKS
        (volume4.path / "deep/er/d0/f0000").unlink()
        fails_with(116, os.listdir, descriptor)
        fails_with(2, os.listdir, at)
    finally:
        os.close(descriptor)


def test_a_set_vector_is_found_at_once(volume4):
    named = fill(volume4, files=30)
    like = "d0/f0000"
    links(volume4, like)
    (volume4.path / "new").touch()
    os.setxattr(volume4.path / "new", "user.vector.c", named[like][0].tobytes())
    assert shown(volume4, like)[0][1:] == (1.0, "new")
    # Its name is looked up without a listing before it.
    os.setxattr(volume4.path / "d1/f0001", "user.vector.c", named[like][0].tobytes())
    os.unlink(volume4.path / "new")
    time.sleep(1.1)
    assert os.readlink(os.path.join(directory(volume4, like), b"01 1.000 f0001")) == b"../../../../d1/f0001"


def scans(volume):
    """Bytes that the daemon read of its image so far."""
    return int(re.search(r"rchar: (\d+)", open(f"/proc/{volume.daemon()}/io").read())[1])


def test_looking_at_links_searches_nothing(make_volume):
    volume = make_volume(size="1G")
    rows = np.random.default_rng(1).standard_normal((20_000, 256)).astype("<f4")
    paths = [f"f{index}" for index in range(len(rows))]
    for path, row in zip(paths[:200], rows[:200]):
        (volume.path / path).touch()
        os.setxattr(volume.path / path, "user.vector.c", row.tobytes())
    with open(volume.path / "big", "w"):
        pass
    for n, row in enumerate(rows[200:3000]):
        os.setxattr(volume.path / "big", f"user.vector.c.{n}", row.tobytes())
    matrix = 3000 * 1024
    before = scans(volume)
    os.listdir(directory(volume, ""))
    os.listdir(volume.path / ".vexfs")
    run("ls", "-l", directory(volume, "").decode())
    os.stat(directory(volume, "f3"))
    assert scans(volume) - before < matrix // 4
    run("ls", "-l", directory(volume, "f3").decode())
    assert matrix <= scans(volume) - before < 1.5 * matrix
    for _ in range(3):
        assert len(links(volume, "f3")) == LINKS
    assert scans(volume) - before < 5 * matrix
    before = scans(volume)
    for name in (".git", ".hidden", "desktop.ini", "Thumbs.db", "f3", "c.txt"):
        fails_with(2, os.stat, directory(volume, "f3", name))
    assert scans(volume) - before < matrix // 4


def test_walks_over_the_volume_do_not_come_there(make_volume, tmp_path):
    for options in ((), ("ctldir",)):
        volume = make_volume(options=options)
        fill(volume, files=40)
        # From the root on nothing leads there; who names it finds it.
        found = run("find", volume.path).stdout
        assert ("/.vexfs" in found) == bool(options) and "/near" not in found
        assert len(shown(volume, "d0/f0000")) == LINKS
        before = scans(volume)
        for command in (("du", "-s", volume.path), ("rsync", "-a", f"{volume.path}/", tmp_path / f"copy{len(options)}"), ("grep", "-r", "nothing", volume.path)):
            started = time.monotonic()
            subprocess.run([str(word) for word in command], capture_output=True, timeout=60)
            assert time.monotonic() - started < 30
        assert scans(volume) - before < 20 << 20
        # And who walks below it comes to an end.
        assert run("find", "-L", directory(volume, "").decode(), "-type", "f").stdout.count("\n") == 40 * LINKS
        volume.unmount()


def test_read_only(volume4):
    named = fill(volume4, files=30)
    volume4.unmount()
    volume4.mount("ro")
    check(shown(volume4, "d1/f0001"), expected(named, named["d1/f0001"][0], "cosine", "f32", LINKS, without=("d1/f0001",)))
    fails_with(30, os.mkdir, directory(volume4, "x"))


def test_the_zero_vector_has_no_neighbours(volume4):
    fill(volume4, files=4)
    (volume4.path / "zero").touch()
    os.setxattr(volume4.path / "zero", "user.vector.c", np.zeros(64, "<f4").tobytes())
    assert os.listdir(directory(volume4, "zero")) == []
    (volume4.path / "only").touch()
    os.setxattr(volume4.path / "only", "user.vector.alone", np.ones(4, "<f4").tobytes())
    assert os.listdir(directory(volume4, "only")) == []


def reached(volume, path):
    """What this process is shown, or the errno that it is told; by a listing and by every name of it."""
    try:
        return [entry[2] for entry in shown(volume, path)]
    except OSError as error:
        return error.errno


def test_each_user_is_shown_what_he_can_reach_in_every_order(shared):  # noqa: F811
    """Names, links and listings of one user are never another's, whoever came first."""
    named = fill(shared, files=FILES)
    open_to = {USER: ("d0", "d1"), OTHER: ("d0", "d2"), 0: ("d0", "d1", "d2", "d3")}
    for name in ("d1", "d2", "d3"):
        os.chmod(shared.path / name, 0o700)
    os.chmod(shared.path / "d0", 0o755)
    shown_to_all(shared)
    run("setfacl", "-m", f"u:{USER}:rx", shared.path / "d1")
    run("setfacl", "-m", f"u:{OTHER}:rx", shared.path / "d2")
    like = "d0/f0000"
    wanted = {
        user: [path for _, path in expected({n: v for n, v in named.items() if n.split("/")[0] in inside}, named[like][0], "cosine", "f32", LINKS, without=(like,))]
        for user, inside in open_to.items()
    }
    assert len({tuple(paths) for paths in wanted.values()}) == 3
    for order in itertools.permutations((USER, OTHER, 0, USER)):
        for user in order:
            assert in_a_child(lambda: reached(shared, like), user, user) == wanted[user], (order, user)
    # The names that one user was shown are no names to another, also while they are in the kernel's memory.
    theirs = in_a_child(lambda: links(shared, like), 0, 0)
    for user in (USER, OTHER):
        own = in_a_child(lambda: links(shared, like), user, user)

        def told_of_others():
            told = []
            for name in theirs.keys() - own.keys():
                for call in (os.lstat, os.readlink, os.stat):
                    try:
                        told.append((name, call(os.path.join(directory(shared, like), name))))
                    except OSError as error:
                        assert error.errno == 2, error
            return told

        assert theirs.keys() - own.keys() and in_a_child(told_of_others, user, user) == []


def test_the_same_name_leads_each_user_to_his_own_file(shared):  # noqa: F811
    """Two files of one name and one score: the link that both users see by the same name is not the same link."""
    like = np.ones(8, "<f4").tobytes()
    for user in (USER, OTHER):
        (shared.path / str(user)).mkdir()
        (shared.path / str(user) / "same.txt").write_text(str(user))
        os.setxattr(shared.path / str(user) / "same.txt", "user.vector.c", like)
        os.chown(shared.path / str(user), user, user)
        os.chmod(shared.path / str(user), 0o700)
    (shared.path / "like").touch()
    os.setxattr(shared.path / "like", "user.vector.c", like)
    shown_to_all(shared)
    name = os.path.join(directory(shared, "like"), b"01 1.000 same.txt")

    def one(user):
        for _ in range(50):
            assert os.readlink(name) == f"../../../{user}/same.txt".encode()
            assert open(name).read() == str(user)
            assert os.lstat(name).st_size == len(f"../../../{user}/same.txt")
        return "fine"

    for user in (USER, OTHER, USER, OTHER):
        assert in_a_child(lambda: one(user), user, user) == "fine"
    told = {}

    def ask(user):
        told[user] = subprocess.run(["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sh", "-c", 'for i in $(seq 200); do readlink "$0"; done', name], capture_output=True, check=False)

    threads = [threading.Thread(target=ask, args=(user,)) for user in (USER, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for user in (USER, OTHER):
        assert set(told[user].stdout.split()) == {f"../../../{user}/same.txt".encode()}, told[user]


def test_permissions_are_those_of_files_and_collections(shared):  # noqa: F811
    named = fill(shared, files=12)
    for index in range(4):
        os.chmod(shared.path / f"d{index}", 0o755)
    shown_to_all(shared)
    os.chmod(shared.path / "d1", 0o711)
    os.chmod(shared.path / "d2", 0o744)
    os.chmod(shared.path / "d0/f0000", 0o600)

    def as_user(path):
        return in_a_child(lambda: reached(shared, path), USER, USER)

    assert as_user("d0/f0000") == 13, "who may not read a file is not told what is near to it"
    assert as_user("d2/f0002") == 13, "nor who may not pass its directory"
    assert in_a_child(lambda: sorted(os.listdir(directory(shared, "d2"))), USER, USER) == [b"f0002", b"f0006", b"f0010"]
    with pytest.raises(OSError, match="Permission denied"):
        raise in_a_child(lambda: os.listdir(directory(shared, "d1")), USER, USER)
    # Passed without being listed: its files have neighbours, and are nobody's that are found by listing.
    paths = as_user("d1/f0001")
    assert paths and all(path.split("/")[0] in ("d0", "d3") for path in paths)
    run("setfacl", "-m", f"u:{USER}:r", shared.path / "d0/f0000")
    assert len(as_user("d0/f0000")) == len([path for path in named if path[:2] in ("d0", "d3")]) - 1
    run("setfacl", "-b", shared.path / "d0/f0000")
    assert as_user("d0/f0000") == 13
    assert as_user("d0/f0004") != 13
    for at, mode in ((".vexfs/collections/c", 0o711), (".vexfs/collections/c", 0o744), (".vexfs/collections", 0o700)):
        before = stat.S_IMODE(os.stat(shared.path / at).st_mode)
        os.chmod(shared.path / at, mode)
        assert as_user("d0/f0004") == 13
        # Nor by a name that was told before.
        name = next(iter(links(shared, "d0/f0004")))
        with pytest.raises(OSError, match="Permission denied"):
            raise in_a_child(lambda: os.readlink(os.path.join(directory(shared, "d0/f0004"), name)), USER, USER)
        os.chmod(shared.path / at, before)
    assert as_user("d0/f0004") != 13
    # The root's own permissions are those of `near`.
    os.chmod(shared.path, 0o711)
    with pytest.raises(OSError, match="Permission denied"):
        raise in_a_child(lambda: os.listdir(directory(shared, "")), USER, USER)


def test_the_opener_counts_and_not_who_reads(shared):  # noqa: F811
    fill(shared, files=40)
    for index in range(1, 4):
        os.chmod(shared.path / f"d{index}", 0o700)
    os.chmod(shared.path / "d0", 0o755)
    shown_to_all(shared)
    ours = sorted(os.listdir(directory(shared, "d0/f0000")))
    descriptor = os.open(directory(shared, "d0/f0000"), os.O_RDONLY | os.O_DIRECTORY)
    try:
        # He who got it from root is shown what root is, but can look up none of root's names.
        inherited = in_a_child(lambda: sorted(os.fsencode(name) for name in os.listdir(descriptor)), USER, USER)
        assert inherited == ours
        own = in_a_child(lambda: sorted(os.listdir(directory(shared, "d0/f0000"))), USER, USER)
        assert own != ours and len(own) == 9
    finally:
        os.close(descriptor)


def test_groups_count(shared):  # noqa: F811
    fill(shared, files=40)
    shown_to_all(shared)
    os.chmod(shared.path / "d0", 0o755)
    for index in range(1, 4):
        os.chown(shared.path / f"d{index}", 0, 7000 + index)
        os.chmod(shared.path / f"d{index}", 0o750)
    for groups in ([], [7001], [7001, 7003], [], [7002]):
        found = in_a_child(lambda: reached(shared, "d0/f0000"), USER, USER, groups)
        assert {path.split("/")[0] for path in found} == {"d0", *(f"d{group - 7000}" for group in groups)}


def test_memory_is_the_kernels_to_bound(volume4):
    """What the kernel forgets is forgotten: inodes of links do not pile up."""
    fill(volume4, files=120)
    status = json.loads((volume4.path / ".vexfs/status.json").read_text())
    for _ in range(3):
        assert run("find", "-L", directory(volume4, "").decode(), "-type", "f").stdout.count("\n") == 120 * LINKS
        with open("/proc/sys/vm/drop_caches", "w") as drop:
            drop.write("2\n")
    assert json.loads((volume4.path / ".vexfs/status.json").read_text())["inodes"] == status["inodes"]
    assert volume4.peak_memory() < 200 << 20
