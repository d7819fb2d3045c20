"""`vexfs search` on a mount: the answers of an exact reference, and only what the caller can reach."""

import json
import os
import shutil
import stat
import subprocess

import numpy as np
import pytest
from volume import BIN, DTYPES, attribute, random_vectors, run, who

DIMENSIONS = 64
FILES = 300


def fill(volume, element="f32", files=FILES, collection="c", metric=None, chunks=1):
    """Files in four directories with random vectors; gives name -> vectors."""
    generator = np.random.default_rng(7)
    more = ["--metric", metric] if metric else []
    run(BIN / "vexfs", "create", collection, "--element", element, "--dim", DIMENSIONS, *more, "--mount", volume.path)
    vectors = random_vectors(generator, files * chunks, DIMENSIONS, element)
    named = {}
    for index in range(files):
        name = f"d{index % 4}/f{index:04}"
        path = volume.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"text")
        for chunk in range(chunks):
            os.setxattr(path, attribute(collection, element, chunk), vectors[index * chunks + chunk].tobytes())
        named[name] = vectors[index * chunks : (index + 1) * chunks]
    return named


def search(volume, *words, collection="c", user=None, ok=(0,)):
    """The JSON lines of a search, as (path, score) and as they are."""
    command = [BIN / "vexfs", "search", collection, "--mount", volume.path, "--json", *words]
    done = run(*command, ok=ok, **who(user))
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else done.stdout


def scores_of(vectors, query, metric, element):
    """What numpy says in double precision, higher for nearer."""
    if element == "bit":
        vectors, query = (np.unpackbits(array, axis=-1, bitorder="little") for array in (vectors, query))
    vectors, query = vectors.astype("f8"), query.astype("f8")
    if metric == "ip":
        return vectors @ query
    if metric in ("l2", "hamming"):
        return -((vectors - query) ** 2).sum(-1)
    return (vectors @ query) / np.linalg.norm(vectors, axis=-1) / np.linalg.norm(query)


def expected(named, query, metric, element, k, without=()):
    scored = [(score, name) for name, vectors in named.items() if name not in without for score in scores_of(vectors, query, metric, element)]
    return sorted(scored, key=lambda entry: (-entry[0], entry[1]))[:k]


def same(found, wanted):
    """The scores agree in order, and each file has its score."""
    assert len(found) == len(wanted)
    got, want = (np.array([score for score, _ in entries]) for entries in ([(e["score"], e["path"]) for e in found], wanted))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    near = {}
    for score, name in wanted:
        near.setdefault(round(score, 3), set()).add(name)
    assert {entry["path"] for entry in found} == {name for _, name in wanted} or len(near) < len(wanted)


METRICS = [(element, metric) for element in DTYPES for metric in ("cosine", "l2", "ip")] + [("bit", "hamming")]


@pytest.mark.parametrize(("element", "metric"), METRICS)
def test_answers_equal_numpy(volume4, element, metric):
    named = fill(volume4, element)
    like = next(iter(named))
    for k in (1, 10, FILES - 1, 5 * FILES):
        found = search(volume4, "--like", volume4.path / like, "-k", k, "--metric", metric)
        same(found, expected(named, named[like][0], metric, element, k, without=(like,)))
    valid = volume4.collection("c").load("valid")
    inodes = volume4.collection("c").headers["file_inode"]
    for entry in found:
        assert valid[entry["row"]] and inodes[entry["row"]] == (volume4.path / entry["path"]).stat().st_ino
        sign = -1 if metric in ("l2", "hamming") else 1
        assert entry["distance"] == pytest.approx(sign * entry["score"])


def test_every_way_to_ask(volume4, tmp_path):
    named = fill(volume4)
    names = list(named)
    query = named[names[3]][0]
    wanted = expected(named, query, "cosine", "f32", 10)
    np.save(tmp_path / "q.npy", query)
    same(search(volume4, "--vector", tmp_path / "q.npy"), wanted)
    same(search(volume4, "--vector", json.dumps(query.tolist())), wanted)
    embedder = tmp_path / "embed.sh"
    embedder.write_text(f'read -r text; [ "$text" = "{names[3]}" ] && [ "$VEXFS_COLLECTION" = c ] && cat {tmp_path / "q.npy"}')
    same(search(volume4, "--text", names[3], "--embedder", f"sh {embedder}"), wanted)
    # Inside of the mount, the collection by its path, without JSON: the first line is the best.
    lines = run(BIN / "vexfs", "search", ".vexfs/collections/c", "--like", names[3], "-k", 2, cwd=volume4.path).stdout.splitlines()
    assert lines[0].split() == ["SCORE", "FILE"] and lines[1].split()[1] == expected(named, query, "cosine", "f32", 2)[1][1]


def test_filters_never_starve_k(volume4):
    named = fill(volume4)
    like = next(iter(named))
    deep = volume4.path / "d1" / "deep"
    deep.mkdir()
    (volume4.path / "d2" / "f0002").rename(deep / "f0002")
    named["d1/deep/f0002"] = named.pop("d2/f0002")
    for directory in ("d1", "d1/deep", "d3", "."):
        inside = {name: vectors for name, vectors in named.items() if directory == "." or name.startswith(directory + "/")}
        wanted = expected(inside, named[like][0], "cosine", "f32", 40, without=(like,))
        same(search(volume4, "--like", volume4.path / like, "--within", volume4.path / directory, "-k", 40), wanted)
    (volume4.path / "empty").mkdir()
    assert search(volume4, "--like", volume4.path / like, "--within", volume4.path / "empty") == []


def test_ranges(volume4):
    named = fill(volume4, metric="l2")
    like = next(iter(named))
    everything = expected(named, named[like][0], "l2", "f32", FILES, without=(like,))
    limit = -(everything[24][0] + everything[25][0]) / 2
    same(search(volume4, "--like", volume4.path / like, "--max-distance", limit, "--all"), everything[:25])
    same(search(volume4, "--like", volume4.path / like, "--min-score", -limit, "--all"), everything[:25])
    same(search(volume4, "--like", volume4.path / like, "--min-score", -limit, "-k", 5), everything[:5])
    assert search(volume4, "--like", volume4.path / like, "--min-score", 1, "--all") == []


def test_only_what_the_caller_can_reach(make_volume, tmp_path):
    volume = make_volume(options=("allow_other",))
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    named = fill(volume, chunks=2)
    os.chmod(volume.path, 0o755)
    os.chmod(volume.path / ".vexfs/collections/c", 0o755)
    for directory in ("d0", "d1", "d2"):
        os.chmod(volume.path / directory, 0o700)
    os.chmod(volume.path / "d3", 0o755)
    query = next(iter(named.values()))[0]
    mine = {name: vectors for name, vectors in named.items() if name.startswith("d3/")}
    for k in (1, 10, 149, 150, 1000):
        found = search(volume, "--vector", json.dumps(query.tolist()), "-k", k, user=1234)
        same(found, expected(mine, query, "cosine", "f32", k))
        assert all(entry["path"].startswith("d3/") for entry in found)
    os.chmod(volume.path / ".vexfs/collections/c", 0o700)
    words = search(volume, "--vector", json.dumps(query.tolist()), user=1234, ok=(1,))
    assert "Permission denied" in words and "f0" not in words


def test_duplicates(volume4):
    named = fill(volume4)
    names = list(named)
    shutil.copy(volume4.path / names[5], volume4.path / "copy")
    os.setxattr(volume4.path / "copy", "user.vector.c", named[names[5]][0].tobytes())
    near = (named[names[9]][0] + 0.01 * named[names[10]][0]).astype("<f4")
    os.setxattr(volume4.path / names[20], "user.vector.c", near.tobytes())
    pairs = [(entry["path"], entry["other"]) for entry in search(volume4, "--duplicates")]
    assert {frozenset(pair) for pair in pairs} == {frozenset((names[5], "copy")), frozenset((names[9], names[20]))}
    assert set(pairs[0]) == {names[5], "copy"}
    assert len(search(volume4, "--duplicates", "-k", 1)) == 1
    assert search(volume4, "--duplicates", "--within", volume4.path / "d3") == []
    assert "--min-score" in search(volume4, "--duplicates", "--metric", "l2", ok=(1,))


def test_a_vector_is_found_as_soon_as_it_is_set(volume4):
    named = fill(volume4, files=40)
    like = next(iter(named))
    new = volume4.path / "new"
    new.write_bytes(b"")
    os.setxattr(new, "user.vector.c", named[like][0].tobytes())
    assert search(volume4, "--like", volume4.path / like, "-k", 1)[0]["path"] == "new"
    new.unlink()
    assert search(volume4, "--like", volume4.path / like, "-k", 1)[0]["path"] != "new"


def test_bad_input_is_told_in_words(volume4, tmp_path):
    named = fill(volume4, files=20)
    like = volume4.path / next(iter(named))
    words = lambda *arguments, **options: search(volume4, *arguments, ok=(1, 2), **options)
    assert "3 dimensions, the collection 64" in words("--vector", "[1,2,3]")
    assert "-k 0 finds nothing" in words("--like", like, "-k", "0")
    nan = np.full(DIMENSIONS, np.nan, "<f4")
    np.save(tmp_path / "nan.npy", nan)
    assert "element 0 of the query is NaN" in words("--vector", tmp_path / "nan.npy")
    assert "hamming is for bits" in words("--like", like, "--metric", "hamming")
    assert "no collection `other`" in words("--like", like, collection="other")
    (volume4.path / "bare").write_bytes(b"")
    assert "has no vector in collection `c`" in words("--like", volume4.path / "bare")
    assert "No such file" in words("--like", volume4.path / "absent")
    assert "--embedder" in words("--text", "x")
    assert "exit status: 3" in words("--text", "x", "--embedder", "exit 3")
    assert "printed no vector" in words("--text", "x", "--embedder", "true")
    assert "2 dimensions" in words("--text", "x", "--embedder", "echo [1,2]")
    assert "is not on" in words("--like", like, "--within", tmp_path)
    assert "no distance" in words("--like", like, "--max-distance", "1")
    assert "NaN" in words("--like", like, "--min-score", "nan")
    assert "required" in words()


def test_an_empty_collection_has_no_neighbours(volume4):
    run(BIN / "vexfs", "create", "c", "--mount", volume4.path)
    done = run(BIN / "vexfs", "search", "c", "--mount", volume4.path, "--vector", "[1,2]")
    assert done.stdout == "vexfs: collection `c` is empty\n"


def test_explain_tells_the_plan(volume4):
    named = fill(volume4, files=40)
    like = volume4.path / next(iter(named))
    command = [BIN / "vexfs", "search", "c", "--like", like, "--explain", "--json", "--within", volume4.path / "d1"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
    plan = json.loads(done.stderr)
    assert (plan["plan"], plan["live"], plan["filtered_rows"], plan["candidates"]) == ("exact", 40, 10, 10)
    assert plan["bytes_read"] == 10 * DIMENSIONS * 4 and len(done.stdout.splitlines()) == 10


def test_while_vectors_change(volume4):
    """Every answer is a file with a score that it had at some moment."""
    named = fill(volume4, files=60)
    query = next(iter(named.values()))[0]
    changed = list(named)[30:]
    script = "import os,sys,time\nend=time.monotonic()+4\npaths=sys.argv[2:]\nvalues=[bytes.fromhex(v) for v in sys.argv[1].split(',')]\nn=0\nwhile time.monotonic()<end:\n  n+=1\n  p=paths[n%len(paths)]\n  os.removexattr(p,'user.vector.c')\n  os.setxattr(p,'user.vector.c',values[n%2])\n"
    values = ",".join(vector.tobytes().hex() for vector in (query, -query))
    writer = subprocess.Popen(["python3", "-c", script, values, *[str(volume4.path / name) for name in changed]])
    try:
        answers = 0
        while writer.poll() is None:
            found = search(volume4, "--vector", json.dumps(query.tolist()), "--all", ok=(0, 1))
            if isinstance(found, str):
                assert "changes faster than it is searched" in found
                continue
            answers += 1
            for entry in found:
                score = scores_of(named[entry["path"]], query, "cosine", "f32")[0]
                possible = [score, 1, -1] if entry["path"] in changed else [score]
                assert min(abs(entry["score"] - value) for value in possible) < 1e-5, entry
    finally:
        writer.kill()
        assert writer.wait() == 0
    assert answers > 3
