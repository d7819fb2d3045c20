"""Metadata of vectors on a mount: the attribute, the columns that are made of it, and conditions on both."""

import errno
import json
import os
import random
import sqlite3
import stat

import numpy as np
import pytest
from volume import BIN, run, who

NAME = "user.vector.c"
META = NAME + ".meta"


def vector(n=0):
    return np.full(8, n, "<f4").tobytes()


def described(volume, name, metadata, n=0):
    path = volume.path / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.write_bytes(b"text of " + name.encode())
    attribute = NAME if n == 0 else f"{NAME}.{n}"
    os.setxattr(path, attribute, vector(n))
    if metadata is not None:
        os.setxattr(path, attribute + ".meta", json.dumps(metadata).encode())
    return path


def column(volume, name):
    directory = volume.path / ".vexfs/collections/c"
    rows = json.loads((directory / "schema.json").read_text())["rows"]
    found = np.load(directory / f"{name}.npy", mmap_mode="r")
    assert found.shape == (rows,)
    return found


def query(volume, *words, ok=(0,), user=None):
    command = [BIN / "vexfs", "query", "c", *words, "--mount", volume.path, "--json"]
    done = run(*command, ok=ok, **who(user))
    return [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else done.stdout


def refused(call, *arguments):
    with pytest.raises(OSError) as error:
        call(*arguments)
    return error.value.errno


def test_the_attribute_is_read_back_as_it_was_set_and_listed_behind_its_vector(volume):
    path = described(volume, "a", None)
    text = b' {"source": "page 3",\n "confidence": 0.9, "own": [1, {"x": null}]}\n'
    assert refused(os.getxattr, path, META) == errno.ENODATA
    os.setxattr(path, META, text)
    assert os.getxattr(path, META) == text
    assert os.listxattr(path) == [NAME, META]
    assert refused(os.setxattr, path, META, b"{}", os.XATTR_CREATE) == errno.EEXIST
    os.setxattr(path, NAME, vector(7))
    assert os.getxattr(path, META) == text, "it stays when its vector is set anew"
    volume.again()
    assert os.getxattr(path, META) == text
    os.rename(path, volume.path / "b")
    os.removexattr(volume.path / "b", NAME)
    assert os.listxattr(volume.path / "b") == []
    assert refused(os.setxattr, volume.path / "b", META, b"{}") == errno.ENODATA


def test_what_is_no_metadata_is_refused_and_said(volume):
    path = described(volume, "a", None)
    for bad in [b"", b"[]", b"{", b'{"a":1}}', b'{"a":NaN}', b'{"a":"\xff"}', b'{"confidence":"high"}', b'{"start":-1}', b'{"source":5}', b'{"length":1.5}']:
        assert refused(os.setxattr, path, META, bad) == errno.EINVAL, bad
    assert refused(os.setxattr, path, META, b'{"a":"' + b"x" * 4090 + b'"}') == errno.E2BIG
    os.setxattr(path, META, b'{"a":"' + b"x" * 4088 + b'"}')
    assert "metadata" in (volume.path / ".vexfs/log").read_text()
    done = run(BIN / "vexfs", "meta", path, "c", "{oops", ok=(1,))
    assert "JSON" in done.stdout
    done = run(BIN / "vexfs", "meta", path, "c", '{"confidence": "high"}', ok=(1,))
    assert "confidence" in done.stdout and "number" in done.stdout


def test_copies_and_archives_take_it_along(volume4, tmp_path):
    for index in range(5):
        described(volume4, f"from/f{index}", {"index": index}, 0)
        described(volume4, f"from/f{index}", {"index": index, "chunk": 3}, 3)
    run("cp", "-a", volume4.path / "from", volume4.path / "copied")
    run("tar", "--xattrs", "--xattrs-include=*", "-C", volume4.path, "-cf", tmp_path / "t.tar", "from")
    (volume4.path / "untarred").mkdir()
    run("tar", "--xattrs", "--xattrs-include=*", "-C", volume4.path / "untarred", "-xf", tmp_path / "t.tar")
    for copy in ("copied", "untarred/from"):
        for index in range(5):
            path = volume4.path / copy / f"f{index}"
            assert json.loads(os.getxattr(path, META)) == {"index": index}
            assert json.loads(os.getxattr(path, NAME + ".3.meta")) == {"index": index, "chunk": 3}


def test_an_open_file_without_a_name_keeps_it(volume4):
    path = described(volume4, "a", {"kept": True})
    with open(path, "rb") as file:
        os.unlink(path)
        assert json.loads(os.getxattr(file.fileno(), META)) == {"kept": True}
    assert (volume4.path / ".vexfs/collections/c/metadata.jsonl").read_text() == ""


def test_columns_are_arrays_of_what_the_metadata_says(volume4):
    generator = random.Random(5)
    expected = {}
    for index in range(1500):
        metadata = {} if index % 7 else None
        if metadata is not None:
            for name, value in {
                "i": generator.randrange(-(2**62), 2**62), "f": generator.gauss(0, 1e10), "b": generator.random() < 0.5,
                "s": "ä" * generator.randrange(12), "t": f"20{generator.randrange(10, 99)}-03-04T05:06:07Z", "deep": {"x": index},
            }.items():
                if generator.random() < 0.8:
                    metadata[name] = generator.choice([value, value, None])
        described(volume4, f"d{index % 5}/f{index}", metadata)
        expected[index] = metadata or {}
    volume4.again()
    for name, kind in [("i", "int"), ("f", "float"), ("b", "bool"), ("s", "string"), ("t", "timestamp"), ("deep.x", "int")]:
        run(BIN / "vexfs", "column", "add", "c", name, kind, "--mount", volume4.path)
    valid = column(volume4, "valid")
    columns = {name: column(volume4, name) for name in ("i", "f", "b", "s", "t", "deep.x")}
    assert [str(columns[name].dtype) for name in columns] == ["int64", "float64", "int8", "|S64", "datetime64[ns]", "int64"]
    for row, metadata in expected.items():
        assert valid[row]
        assert columns["i"][row] == (metadata.get("i") if metadata.get("i") is not None else -(2**63))
        assert np.array_equal(columns["f"][row], metadata["f"] if metadata.get("f") is not None else np.nan, equal_nan=True)
        assert columns["b"][row] == (-1 if metadata.get("b") is None else metadata["b"])
        assert columns["s"][row] == (b"\xff" if metadata.get("s") is None else metadata["s"].encode())
        time = metadata.get("t")
        assert np.isnat(columns["t"][row]) if time is None else columns["t"][row] == np.datetime64(time[:-1], "ns")
        deep = metadata.get("deep")
        assert columns["deep.x"][row] == (-(2**63) if deep is None else deep["x"])
    # An open mapping sees what is set later, in rows that it has.
    os.setxattr(volume4.path / "d3/f3", META, b'{"i": 12345, "f": 0.1}')
    assert columns["i"][3] == 12345 and columns["f"][3] == 0.1
    os.removexattr(volume4.path / "d3/f3", META)
    assert columns["i"][3] == -(2**63) and np.isnan(columns["f"][3])
    names = sorted(columns)
    del columns, valid
    volume4.again()
    assert sorted(entry["name"] for entry in json.loads((volume4.path / ".vexfs/collections/c/schema.json").read_text())["columns"]) == names


def test_metadata_that_does_not_fit_a_column_is_refused(volume4):
    path = described(volume4, "a", {"n": 1})
    control = volume4.path / ".vexfs/collections/c/control"
    for bad in ["column", "column add n", "column add n float int", "column add n no", "column add vectors int", "column add ../x int", "column add s string 300", "column drop n"]:
        assert refused(control.write_text, bad) in (errno.EINVAL, errno.ENOENT), bad
    assert refused(control.write_text, "column add n string") == errno.EINVAL, "there is a row that does not fit"
    control.write_text("column add n int")
    assert refused(control.write_text, "column add n float") == errno.EEXIST
    assert refused(os.setxattr, path, META, b'{"n": "two"}') == errno.EINVAL
    assert refused(os.setxattr, path, META, b'{"n": 1.5}') == errno.EINVAL
    os.setxattr(path, META, b'{"n": 2}')
    assert column(volume4, "n")[0] == 2
    control.write_text("column drop n")
    assert not (volume4.path / ".vexfs/collections/c/n.npy").exists()
    control.write_text("column add n float")
    assert column(volume4, "n")[0] == 2.0
    for index in range(15):
        control.write_text(f"column add more{index} int")
    assert refused(control.write_text, "column add onemore int") == errno.EINVAL
    os.setxattr(path, META, b'{"n": 2.5, "more7": 5}')
    assert column(volume4, "more7")[0] == 5


CONDITIONS = [
    "confidence >= 0.5", "confidence < 0.25 or source = 'web'", "source in ('web', 'mail') and not flag", "flag", "source is null", "page between 3 and 5 and confidence is not null",
    "title like 'T_tle 1%'", "title not like '%2'", "title ilike 'TITLE 3'", "not (confidence > 0.9 or source = 'book')", "page <> 2 and (flag or title = 'Title 4')", "page > 2.5", "missing = 1 or page = 1",
]


@pytest.mark.parametrize("with_columns", [False, True])
def test_conditions_choose_what_sqlite_chooses(volume4, with_columns):
    generator = random.Random(11)
    table = sqlite3.connect(":memory:")
    table.execute("create table t (path text, confidence real, source text, flag int, page int, title text, missing int)")
    for index in range(400):
        row = {"confidence": generator.random(), "source": generator.choice(["web", "mail", "book"]), "flag": generator.random() < 0.5, "page": generator.randrange(8), "title": f"Title {generator.randrange(30)}"}
        row = {name: value for name, value in row.items() if generator.random() < 0.8}
        name = f"d{index % 3}/f{index:03}"
        described(volume4, name, row)
        table.execute("insert into t values (?, ?, ?, ?, ?, ?, null)", [name, *(row.get(name) for name in ("confidence", "source", "flag", "page", "title"))])
    if with_columns:
        for name, kind in [("confidence", "float"), ("source", "string"), ("flag", "bool"), ("page", "int"), ("title", "string")]:
            run(BIN / "vexfs", "column", "add", "c", name, kind, "--mount", volume4.path)
    table.execute("pragma case_sensitive_like = on")
    for condition in CONDITIONS:
        sql = condition.replace("title ilike 'TITLE 3'", "lower(title) = 'title 3'")
        wanted = sorted(path for path, in table.execute(f"select path from t where {sql}"))
        assert sorted(entry["path"] for entry in query(volume4, condition)) == wanted, condition
        assert query(volume4, condition, "--count") == [{"count": len(wanted)}]
    ordered = query(volume4, "confidence is not null", "--order-by", "confidence", "--desc", "--limit", "7")
    assert [entry["path"] for entry in ordered] == [path for path, in table.execute("select path from t where confidence is not null order by confidence desc limit 7")]


def test_conditions_on_files_and_what_only_others_reach(make_volume, tmp_path):
    volume = make_volume(options=("allow_other",))
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(parent.stat().st_mode | stat.S_IXOTH)
    for index in range(20):
        path = described(volume, f"{'open' if index % 2 else 'closed'}/f{index}.{'txt' if index % 3 else 'md'}", {"index": index})
        os.truncate(path, index * 100)
        os.utime(path, (0, 1_700_000_000 + index))
        os.setxattr(path, NAME, vector())
    os.setxattr(volume.path / "open/f1.txt", "user.project", b"alpha")
    with open(volume.path / "open/f5.txt", "a") as file:
        file.write("changed")
    names = lambda *words, **more: sorted(entry["path"] for entry in query(volume, *words, **more))
    assert names("file.path like 'open/%' and index < 4") == ["open/f1.txt", "open/f3.md"]
    assert names("file.name = 'f6.md'") == ["closed/f6.md"]
    assert names("file.size >= 1800") == ["closed/f18.md", "open/f19.txt"]
    assert names("file.mtime < '2023-11-14T22:13:22Z'") == ["closed/f0.md", "open/f1.txt"]
    assert names("xattr.\"user.project\" = 'alpha'") == ["open/f1.txt"]
    assert names("not file.fresh") == ["open/f5.txt"]
    assert names("file.uid = 0 and row.modified > '2020-01-01' and index = 2") == ["closed/f2.txt"]
    for path in [volume.path, volume.path / "open", volume.path / ".vexfs/collections/c"]:
        os.chmod(path, 0o755)
    os.chmod(volume.path / "closed", 0o700)
    assert names("index < 6", user=1234) == ["open/f1.txt", "open/f3.md", "open/f5.txt"]
    found = run(BIN / "vexfs", "search", "c", "--vector", json.dumps([1] * 8), "--where", "index in (3, 4)", "--all", "--json", "--mount", volume.path).stdout
    assert sorted(json.loads(line)["path"] for line in found.splitlines()) == ["closed/f4.txt", "open/f3.md"]


def test_a_wrong_condition_is_pointed_at(volume4):
    described(volume4, "a", {"n": 1})
    run(BIN / "vexfs", "column", "add", "c", "n", "int", "--mount", volume4.path)
    words = query(volume4, "n = 1 and n like 'x'", ok=(1,))
    lines = words.splitlines()
    assert "number" in lines[0] and lines[2].index("^") - 2 == 10
    assert "no collection" in run(BIN / "vexfs", "query", "nothing", "--mount", volume4.path, ok=(1,)).stdout


def test_compaction_and_a_crash_leave_it_with_its_vector(volume4):
    for index in range(200):
        described(volume4, f"f{index:03}", {"index": index})
    run(BIN / "vexfs", "column", "add", "c", "index", "int", "--mount", volume4.path)
    for index in range(0, 200, 2):
        os.unlink(volume4.path / f"f{index:03}")
    run(BIN / "vexfs", "compact", "c", "--mount", volume4.path)
    file = os.open(volume4.path / "f001", os.O_RDONLY)
    os.setxattr(volume4.path / "f001", META, b'{"index": 1001}')
    os.fsync(file)
    os.close(file)
    volume4.kill()
    volume4.mount()
    assert os.getxattr(volume4.path / "f001", META) == b'{"index": 1001}'
    found = column(volume4, "index")[np.array(column(volume4, "valid"))]
    assert sorted(found) == sorted([1001, *range(3, 200, 2)])
    paths = [json.loads(line) for line in (volume4.path / ".vexfs/collections/c/paths.jsonl").read_text().splitlines()]
    assert {entry["path"]: int(column(volume4, "index")[entry["row"]]) for entry in paths if entry["path"] != "f001"} == {f"f{index:03}": index for index in range(3, 200, 2)}
