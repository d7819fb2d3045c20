"""Questions of a collection's `query` file that an index answers: what the exact answer has but for what was measured to be
missed, never fewer, and the exact answer wherever the index cannot be trusted."""

import contextlib
import json
import multiprocessing
import os
import re
import time

import numpy as np
import pytest
import sample
from test_index import FILES, KINDS, check, fill, index_file, vectors_of, vexfs
from test_near import near
from test_query_file import USER, in_a_child, lines, query_file, shared, shown_to_all  # noqa: F401
from volume import run

LARGE = 10_000


def explained(volume, **members):
    """The answers, and how they were found."""
    *answers, last = near(volume, explain=True, **members)
    assert list(last) == ["explain"]
    return answers, last["explain"]


def asked(vector, **members):
    return {"vector": vector.tolist(), **members}


def rows_of(answers):
    return [answer["row"] for answer in answers]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_what_was_measured(volume4, kind):
    """Of many questions, more than were asked for and with the very scores of the exact answers."""
    vectors, queries, _, source = sample.load()
    names = fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", kind)
    for least in (0.9, 0.99):
        shares = []
        for query in queries[:60]:
            exact, plan = explained(volume4, **asked(query, exact=True))
            assert (plan["plan"], plan["recall"]) == ("exact", 1.0)
            found, plan = explained(volume4, **asked(query, index=kind, min_recall=least))
            assert plan["plan"] == kind and plan["recall"] >= least and f"{kind} " in plan["why"]
            assert 0 < plan["candidates"] < len(vectors)
            scores = {answer["row"]: answer for answer in near(volume4, **asked(query, k=len(vectors)))}
            assert all(scores[answer["row"]] == answer for answer in found) and len(found) == 10
            assert [(-answer["score"], answer["row"]) for answer in found] == sorted((-answer["score"], answer["row"]) for answer in found)
            shares.append(np.mean([answer["score"] >= exact[-1]["score"] for answer in found]))
        recall, error = np.mean(shares), np.std(shares) / len(shares) ** 0.5
        print(f"{source}, {kind}: recall@10 {recall:.4f} for {least}")
        assert recall >= least - 3 * max(error, 0.01)
    # A vector that is stored, one as raw bytes, files in one directory alone; without the file itself.
    assert names[5] not in [answer["path"] for answer in near(volume4, like=names[5], index=kind)]
    found = near(volume4, like=names[5], index=kind, within="d0", k=40)
    assert len(found) == 40 and all(answer["path"].startswith("d0/") for answer in found)
    assert near(volume4, queries[0].astype("<f4").tobytes()) == near(volume4, **asked(queries[0], exact=True))


def test_the_way_is_chosen_and_told(volume4):
    vectors = vectors_of(FILES)
    fill(volume4, vectors)
    why = lambda **members: explained(volume4, **asked(vectors[0], **members))[1]["why"]
    assert why() == why(index=True) == "there is no index"
    assert why(exact=True) == "it was asked for"
    vexfs(volume4, "index", "c", "--kind", "graph")
    assert "so small" in why() and "measured by links" in why(index=True)
    assert explained(volume4, **asked(vectors[0], index="scan"))[1]["plan"] == "exact"
    assert "for cosine" in why(index=True, metric="l2")
    # Without the line nobody is told more than before.
    assert all("path" in answer for answer in near(volume4, **asked(vectors[0], index=True)))
    # What was built of another metric, and what is bits, is searched exactly.
    assert near(volume4, **asked(vectors[0], index=True, metric="ip")) == near(volume4, **asked(vectors[0], metric="ip", exact=True))


def test_a_large_collection_is_asked_by_its_index_unless_it_says(volume4):
    """From 4 MiB of vectors on; the directory of what is near shows as many links as ever."""
    vectors = np.random.default_rng(1).standard_normal((5000, 256)).astype("<f4")
    names = fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", "graph")
    # What an exact answer takes here is known from the first one on.
    explained(volume4, **asked(vectors[7], exact=True))
    answers, plan = explained(volume4, **asked(vectors[7], min_recall=0.5))
    assert plan["plan"] == "graph" and answers[0]["path"] == names[7]
    assert len(os.listdir(volume4.path / ".vexfs/near" / names[7])) == 20
    assert explained(volume4, **asked(vectors[7], k=501, min_recall=0.5))[1]["plan"] == "exact"
    assert explained(volume4, **asked(vectors[7], exact=True))[1]["plan"] == "exact"


@pytest.mark.parametrize("kind", KINDS)
def test_what_changes_is_found_at_once_and_what_goes_never(volume4, kind):
    vectors = vectors_of(FILES)
    names = fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", kind)
    assert explained(volume4, **asked(vectors[0], index=kind))[1]["changed"] == 0
    generator = np.random.default_rng(8)
    live = dict(zip(names, vectors, strict=True))
    for step in range(60):
        name = names[int(generator.integers(FILES))]
        vector = generator.standard_normal(vectors.shape[1]).astype("<f4")
        if step % 5 == 4:
            (volume4.path / name).unlink(missing_ok=True)
            gone = live.pop(name, None)
            if gone is not None:
                assert name not in [answer["path"] for answer in near(volume4, **asked(gone, index=kind))]
            continue
        if step % 5 == 3:
            name = f"new{step}"
        (volume4.path / name).touch()
        os.setxattr(volume4.path / name, "user.vector.c", vector.tobytes())
        live[name] = vector
        answers, plan = explained(volume4, **asked(vector, index=kind, k=5))
        assert (plan["plan"], answers[0]["path"], len(answers)) == (kind, name, 5)
        assert answers[0]["score"] == pytest.approx(1, abs=1e-5) and plan["changed"] > 0
    # Compaction moves rows; what moved is known by its number.
    vexfs(volume4, "compact", "c")
    now, values = list(live), np.array(list(live.values()))
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    for row in range(0, len(now), 100):
        answers, plan = explained(volume4, **asked(values[row], index=kind, k=20))
        assert plan["plan"] == kind
        check(answers, now, values, values[row], 20)
    # Most of it is new: exactly.
    for name in now[:1000]:
        os.setxattr(volume4.path / name, "user.vector.c", live[name].tobytes())
    answers, plan = explained(volume4, **asked(values[0], index=kind))
    assert plan["plan"] == "exact" and "vexfs index --update" in plan["why"]
    vexfs(volume4, "index", "c", "--update", "--kind", kind)
    assert explained(volume4, **asked(values[0], index=kind))[1]["plan"] == kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_index_means_the_exact_answer(volume4, kind):
    vectors = vectors_of(700)
    fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", kind)
    # One vector is set anew, so that the numbers of the rows are needed.
    os.setxattr(volume4.path / "d0/f00000", "user.vector.c", vectors[0].tobytes())
    question = asked(vectors[5], k=20, min_recall=1)
    exact = near(volume4, **question, exact=True)
    path = index_file(volume4, kind=kind)
    whole = path.read_bytes()
    generator = np.random.default_rng(5)
    leaf = len(vectors) * 8 + -(-len(vectors) // 64) * 64 * vectors.shape[1] // 8
    # Of a scan a search reads the records of its candidates alone: those of others may be damaged.
    start = len(whole) - leaf if kind == "scan" else 192
    places = [*range(0, 192, 8), *generator.integers(start, len(whole), 40).tolist()]
    damaged = [whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :] for at in places]
    damaged += [b"", whole[:7], whole[:192], whole[: len(whole) // 2], whole[:-1], bytes(len(whole)), generator.bytes(len(whole))]
    for bad in damaged:
        path.write_bytes(bad)
        for _ in range(2):
            answers, plan = explained(volume4, **question, index=True)
            assert plan["plan"] == "exact" and "cannot be used" in plan["why"] and answers == exact
    path.write_bytes(whole)
    assert explained(volume4, **question, index=True)[1]["plan"] == kind
    # In place, which leaves the file's inode and size.
    with open(path, "r+b") as file:
        file.seek(len(whole) - 100)
        file.write(b"damage")
    assert explained(volume4, **question, index=True)[0] == exact
    path.unlink()
    assert explained(volume4, **question, index=True)[1]["why"] == "there is no index"


@pytest.mark.parametrize("kind", KINDS)
def test_no_condition_starves_k(volume4, kind):
    """From one row in ten thousand to all of them, by metadata and by directory: always min(k, rows that match)."""
    vectors = vectors_of(LARGE)
    names = fill(volume4, vectors)
    for row, name in enumerate(names):
        os.setxattr(volume4.path / name, "user.vector.c.meta", json.dumps({"part": row}).encode())
    vexfs(volume4, "index", "c", "--kind", kind)
    order = np.random.default_rng(4).permutation(LARGE)
    ways, shares = set(), []
    for matching in (0, 1, 3, 10, 100, 1000, 5000, LARGE):
        # A few all over, or the first of them.
        few = matching <= 100
        chosen = order[10 : 10 + matching] if few else np.arange(matching)
        chosen.sort()
        condition = f"part in (-1, {', '.join(map(str, chosen))})".replace(", )", ")") if few else f"part < {matching}"
        for k, row in ((1, order[0]), (10, order[1]), (50, order[2])):
            answers, plan = explained(volume4, **asked(vectors[row], index=kind, where=condition, k=k))
            ways.add(plan["plan"])
            check(answers, [names[row] for row in chosen], vectors[chosen], vectors[row], k, recall=plan["plan"] == "exact")
            if plan["plan"] == kind:
                least = np.sort(vectors[chosen] @ vectors[row])[-k]
                shares += [answer["score"] >= least - 1e-6 for answer in answers]
    # Of all rows together: a single one is found or missed.
    assert ways == {"exact", kind} and np.mean(shares) > 0.8
    inside = np.arange(500, 1000)
    for k in (1, 30, 499, 600):
        answers, _ = explained(volume4, **asked(vectors[order[3]], index=kind, within="d1", k=k))
        check(answers, [names[row] for row in inside], vectors[inside], vectors[order[3]], k, recall=0.7)
    # What is not near enough is left out; as the index may have missed some, that there are no more is found out exactly.
    exact = near(volume4, **asked(vectors[9], k=40, exact=True))
    least = (exact[20]["score"] + exact[21]["score"]) / 2
    answers, plan = explained(volume4, **asked(vectors[9], index=kind, k=40, min_score=least))
    assert (plan["plan"], answers) == ("exact", exact[:21])
    answers, plan = explained(volume4, **asked(vectors[9], index=kind, k=5, min_score=least))
    assert (plan["plan"], len(answers)) == (kind, 5) and min(answer["score"] for answer in answers) >= least


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_tells_nobody_of_what_he_cannot_reach(shared, kind):  # noqa: F811
    """The nearest files are closed to him: k is filled from the others, and of a few there are all."""
    vectors = vectors_of(3000)
    names = fill(shared, vectors)
    shown_to_all(shared)
    for directory in range(6):
        os.chmod(shared.path / f"d{directory}", 0o755 if directory == 1 else 0o700)
    (shared.path / "d0").chmod(0o711)
    run("setfacl", "-m", f"u:{USER}:rx", shared.path / "d3")
    vexfs(shared, "index", "c", "--kind", kind)
    for user, directories in ((USER, (1, 3)), (USER + 1, (1,))):
        inside = np.array([row for row in range(3000) if row // 500 in directories])
        for row in (0, 501, 2999):
            for k in (1, 10, 100, 2000):
                answers, plan = in_a_child(lambda row=row, k=k: explained(shared, **asked(vectors[row], index=kind, k=k)), user, user)
                check(answers, [names[row] for row in inside], vectors[inside], vectors[row], k, recall=0.7)
                assert len(answers) == min(k, len(inside))
                assert plan["plan"] == "exact" or k < len(inside)
        assert in_a_child(lambda: near(shared, **asked(vectors[0], index=kind, within="d0")), user, user) == []
    os.chmod(shared.collection("c").path, 0o700)
    assert isinstance(in_a_child(lambda: near(shared, **asked(vectors[0], index=kind)), USER, USER), PermissionError)


def one_client(path, me, vectors, kinds, until, done):
    """Asks for files by their own vectors, one after the other, on one descriptor."""
    rng, ways, wrong = np.random.default_rng(me), set(), None
    with open(path, "r+b", buffering=0) as file:
        while time.monotonic() < until and not wrong:
            row, k = int(rng.integers(len(vectors))), int(rng.integers(1, 20))
            kind = kinds[int(rng.integers(len(kinds)))]
            file.write(json.dumps(asked(vectors[row], k=k, index=kind, explain=True)).encode())
            answer = b""
            while piece := file.read(300):
                answer += piece
            *told, last = lines(answer)
            ways.add(last.get("explain", last).get("plan"))
            if len(told) != k or told[0]["row"] != row or told[0]["score"] < 0.9999:
                wrong = f"client {me} was told {answer!r} of {row}, k {k}, {kind}"
    done.put((wrong, ways))


def test_64_clients_never_mix_while_indexes_are_replaced(volume4):
    vectors = vectors_of(FILES)
    fill(volume4, vectors)
    for kind in KINDS:
        vexfs(volume4, "index", "c", "--kind", kind)
    done, until = multiprocessing.Queue(), time.monotonic() + 20
    clients = [multiprocessing.Process(target=one_client, args=(query_file(volume4), me, vectors, (*KINDS, True), until, done)) for me in range(64)]
    for client in clients:
        client.start()
    built = 0
    while time.monotonic() < until - 1:
        kind = KINDS[built % 3]
        if built % 4 == 3:
            index_file(volume4, kind=kind).unlink()
        vexfs(volume4, "index", "c", "--kind", kind)
        built += 1
    told = [done.get(timeout=120) for _ in clients]
    for client in clients:
        client.join()
    assert [wrong for wrong, _ in told] == [None] * 64 and built > 3
    assert set().union(*(ways for _, ways in told)) >= set(KINDS)


def test_beside_writers_no_vector_is_missed(volume4):
    """While one writer sets vectors, those that nobody touches are found, and what was set before a question too."""
    vectors = vectors_of(FILES)
    names = fill(volume4, vectors)
    vexfs(volume4, "index", "c", "--kind", "scan")
    stop = multiprocessing.Event()

    def write():
        generator = np.random.default_rng(3)
        while not stop.is_set():
            row = int(generator.integers(FILES // 2, FILES))
            os.setxattr(volume4.path / names[row], "user.vector.c", generator.standard_normal(vectors.shape[1]).astype("<f4").tobytes())
            if generator.integers(100) == 0:
                (volume4.collection("c").path / "control").write_text("compact\n")

    writer = multiprocessing.Process(target=write)
    writer.start()
    try:
        ways = []
        for turn in range(300):
            row = turn % (FILES // 2)
            if turn % 3 == 0:
                own = np.random.default_rng(turn).standard_normal(vectors.shape[1]).astype("<f4")
                (volume4.path / f"own{turn}").touch()
                os.setxattr(volume4.path / f"own{turn}", "user.vector.c", own.tobytes())
                answers, plan = explained(volume4, **asked(own, index=True))
                assert answers[0]["path"] == f"own{turn}" and len(answers) == 10
            answers, plan = explained(volume4, **asked(vectors[row], index=True))
            assert answers[0]["path"] == names[row] and len(answers) == 10
            ways.append(plan["plan"])
    finally:
        stop.set()
        writer.join()
    print({way: ways.count(way) for way in set(ways)})
    assert writer.exitcode == 0


def memory_of_indexes(volume):
    text = (volume.path / ".vexfs/metrics").read_text()
    return int(re.search(r"^vexfs_index_cache_bytes (\d+)$", text, re.M)[1])


def test_memory_for_indexes_is_bounded(make_volume):
    vectors = vectors_of(FILES)
    volume = make_volume(options=("index_cache=100K",))
    fill(volume, vectors, "c")
    fill(volume, vectors, "d")
    for collection in "cd":
        vexfs(volume, "index", collection, "--kind", "scan")
    size = index_file(volume, kind="scan").stat().st_size
    assert 50 << 10 < size < 100 << 10
    assert memory_of_indexes(volume) == 0

    def plan(collection):
        with open(volume.collection(collection).path / "query", "r+b", buffering=0) as file:
            file.write(json.dumps(asked(vectors[0], index=True, explain=True)).encode())
            return lines(file.read(1 << 20))[-1]["explain"]

    assert plan("c")["plan"] == "scan" and size * 0.9 < memory_of_indexes(volume) < size * 1.1
    # The other finds no room while this one is in use; later it takes its place.
    assert "larger index_cache" in plan("d")["why"] and plan("c")["plan"] == "scan"
    time.sleep(5.5)
    assert plan("d")["plan"] == "scan" and memory_of_indexes(volume) < 100 << 10
    for options, why in (("index_cache=50K", "index_cache"), ("index_cache=0", "index_cache=0")):
        volume.unmount()
        volume.mount(options)
        told = plan("c")
        assert told["plan"] == "exact" and why in told["why"] and memory_of_indexes(volume) == 0
    volume.unmount()
    volume.mount("ro")
    with contextlib.suppress(OSError):
        plan("c")
    assert memory_of_indexes(volume) == 0
