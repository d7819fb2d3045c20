"""`vexfs import` and `vexfs export` against the programs whose formats they speak."""

import json
import os

import apsw
import duckdb
import faiss
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet
import pytest
import sqlite_vec
from volume import BIN, attribute, random_vectors, run

DIMENSIONS = 24
COUNT = 300
EXTENSIONS = ["npy", "npz", "arrow", "parquet", "jsonl", "fvecs", "db", "faiss"]


def vexfs(volume, *arguments, ok=(0,)):
    return run(BIN / "vexfs", "--mount", volume.path, *arguments, ok=ok).stdout


def made(volume, element="f32", dimensions=DIMENSIONS):
    """A collection of files with one to three vectors; gives them by path and number."""
    vectors = random_vectors(np.random.default_rng(1), COUNT, dimensions, element)
    (volume.path / "deep").mkdir()
    expected = {}
    for i, vector in enumerate(vectors):
        path, n = f"deep/grün {i // 3}" if i % 2 else f"f{i // 3}", i % 3
        (volume.path / path).write_bytes(b"content")
        os.setxattr(volume.path / path, attribute("things", element, n), vector.tobytes())
        expected[path, n] = vector
    return expected


def read(volume, collection, element, expected):
    """What files have in a collection."""
    dtype = next(iter(expected.values())).dtype
    found = {}
    for path, n in expected:
        found[path, n] = np.frombuffer(os.getxattr(volume.path / path, attribute(collection, element, n)), dtype)
    return found


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, vector in expected.items():
        assert np.array_equal(found[key], vector), key


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_what_is_exported_is_imported_again(volume4, extension, tmp_path):
    expected = made(volume4)
    file, paths = tmp_path / f"out.{extension}", tmp_path / "paths.txt"
    vexfs(volume4, "export", "things", file, "--paths", paths)
    named = extension in ("npz", "arrow", "parquet", "jsonl", "db")
    listed = [] if named else ["--paths", paths]
    vexfs(volume4, "import", "again", file, "--base", volume4.path, *listed)
    same(read(volume4, "again", "f32", expected), expected)
    kept = json.loads(vexfs(volume4, "--json", "import", "again", file, "--base", volume4.path, "--skip-existing", *listed))
    assert (kept["set"], kept["skipped"]) == (0, COUNT)
    volume4.again()
    same(read(volume4, "again", "f32", expected), expected)


@pytest.mark.parametrize("element", ["f16", "i8", "i16", "bit"])
@pytest.mark.parametrize("extension", ["npz", "arrow", "parquet"])
def test_elements_keep_their_type(volume4, element, extension, tmp_path):
    expected = made(volume4, element)
    file = tmp_path / f"out.{extension}"
    vexfs(volume4, "export", "things", file)
    vexfs(volume4, "import", "again", file, "--base", volume4.path)
    same(read(volume4, "again", element, expected), expected)


def test_pyarrow_and_polars_read_and_write(volume4, tmp_path):
    expected = made(volume4)
    vexfs(volume4, "export", "things", tmp_path / "out.arrow")
    table = pa.ipc.open_file(tmp_path / "out.arrow").read_all()
    table.validate(full=True)
    assert table.schema.field("vector").type == pa.list_(pa.float32(), DIMENSIONS)
    assert table.schema.metadata[b"vexfs.dimension"] == str(DIMENSIONS).encode()
    same({(row["path"], row["n"]): np.array(row["vector"], "<f4") for row in table.to_pylist()}, expected)
    frame = polars.read_ipc(tmp_path / "out.arrow")
    assert frame.shape == (COUNT, 3)
    # Lists of doubles under other names, compressed, as other programs write them.
    frame = frame.select(polars.col("vector").cast(polars.List(polars.Float64)).alias("embedding"), polars.col("path").alias("file"), "n")
    frame.write_ipc(tmp_path / "lz4.arrow", compression="lz4")
    frame.write_ipc(tmp_path / "zstd.arrow", compression="zstd")
    frame.write_ipc_stream(tmp_path / "stream.arrows")
    for name in ("lz4.arrow", "zstd.arrow", "stream.arrows"):
        collection = name.replace(".", "-")
        vexfs(volume4, "import", collection, tmp_path / name, "--path-column", "file", "--base", volume4.path)
        same(read(volume4, collection, "f32", expected), expected)


def test_arrow_beside_columns_of_any_kind(volume4, tmp_path):
    """Many batches, nulls, and columns that are stepped over; the numbers in 64 bits."""
    for i in range(30):
        (volume4.path / f"f{i}").touch()
    vectors = np.random.default_rng(4).random((30, 8), "f4")
    rows = {
        "flag": pa.array([i % 2 == 0 for i in range(30)]),
        "words": pa.array([["a", "b"] * (i % 3) for i in range(30)]),
        "record": pa.array([{"x": i, "y": f"{i}"} for i in range(30)]),
        "class": pa.array(["red", "green"] * 15).dictionary_encode(),
        "when": pa.array(range(30), pa.timestamp("us")),
        "blob": pa.array([b"x" * i for i in range(30)]),
        "view": pa.array([f"some text that is long, {i}" for i in range(30)], pa.string_view()),
        "embedding": pa.array([None if i == 5 else list(vector) for i, vector in enumerate(vectors)], pa.large_list(pa.float32())),
        "path": pa.array([f"f{i}" for i in range(30)], pa.large_string()),
        "n": pa.array([3] * 30, pa.int64()),
    }
    table = pa.table(rows)
    for name, compression in (("plain.arrow", None), ("zstd.feather", "zstd")):
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(tmp_path / name, table.schema, options=options) as writer:
            for batch in table.to_batches(max_chunksize=7):
                writer.write_batch(batch)
        collection = name.split(".")[0]
        done = json.loads(vexfs(volume4, "--json", "import", collection, tmp_path / name, "--base", volume4.path))
        assert done["set"] == 29
        for i in range(30):
            if i != 5:
                assert os.getxattr(volume4.path / f"f{i}", f"user.vector.{collection}.3") == vectors[i].tobytes()
    words = vexfs(volume4, "import", "no", tmp_path / "plain.arrow", "--path-column", "class", "--base", volume4.path, ok=(1,))
    assert "`class` refers to a dictionary" in words


@pytest.mark.parametrize("extension", ["arrow", "parquet"])
def test_damaged_files_are_refused(volume4, extension, tmp_path):
    """Bytes of a file changed at random: an error or other vectors, but never a panic."""
    (volume4.path / "a").touch()
    table = pa.table({"path": ["a"] * 5, "vector": pa.array([[float(i)] * 4 for i in range(5)], pa.list_(pa.float32()))})
    whole = tmp_path / "whole"
    if extension == "parquet":
        pyarrow.parquet.write_table(table, whole)
    else:
        with pa.ipc.new_file(whole, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
            writer.write_table(table)
    whole = whole.read_bytes()
    file = tmp_path / f"damaged.{extension}"
    generator = np.random.default_rng(5)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for at in generator.integers(0, len(whole), 3):
            damaged[at] = generator.integers(0, 256)
        file.write_bytes(damaged[: generator.integers(len(whole) // 2, len(whole) + 1)] if generator.random() < 0.3 else damaged)
        words = vexfs(volume4, "import", "damaged", file, "--base", volume4.path, ok=(0, 1))
        assert "panicked" not in words, words
        refused += file.name in words
    assert refused > 50


def test_parquet_of_pyarrow_polars_and_duckdb(volume4, tmp_path):
    expected = made(volume4)
    vexfs(volume4, "export", "things", tmp_path / "out.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.field("vector").type.value_type == pa.float32()
    assert table.schema.metadata[b"vexfs.metric"] == b"cosine"
    same({(row["path"], row["n"]): np.array(row["vector"], "<f4") for row in table.to_pylist()}, expected)
    frame = polars.read_parquet(tmp_path / "out.parquet")
    assert frame.shape == (COUNT, 3)
    # Under other names and types, compressed, as other programs write them.
    doubles = frame.select(polars.col("vector").cast(polars.List(polars.Float64)).alias("embedding"), polars.col("path").alias("file"), "n")
    doubles.write_parquet(tmp_path / "zstd.parquet", compression="zstd")
    frame.select("vector", polars.col("path").alias("file"), "n").write_parquet(tmp_path / "gzip.parquet", compression="gzip")
    duckdb.sql(f"copy (select vector, path as file, n::bigint as n from '{tmp_path}/out.parquet') to '{tmp_path}/duckdb.parquet'")
    fixed = table.set_column(0, "vector", table["vector"].cast(pa.list_(pa.float32(), DIMENSIONS))).rename_columns(["vector", "file", "n"])
    for version, name in (("1.0", "snappy"), ("2.0", "lz4")):
        pyarrow.parquet.write_table(fixed, tmp_path / f"{name}.parquet", compression=name, data_page_version=version, row_group_size=77)
    for name in ("zstd", "gzip", "duckdb", "snappy", "lz4"):
        vexfs(volume4, "import", name, tmp_path / f"{name}.parquet", "--path-column", "file", "--base", volume4.path)
        same(read(volume4, name, "f32", expected), expected)


def test_parquet_with_nulls_and_columns_of_any_kind(volume4, tmp_path):
    for i in range(30):
        (volume4.path / f"f{i}").touch()
    vectors = np.random.default_rng(4).random((30, 8), "f4")
    rows = {
        "words": pa.array([["a", "b"] * (i % 3) for i in range(30)]),
        "record": pa.array([{"x": i, "y": f"{i}"} for i in range(30)]),
        "embedding": pa.array([None if i == 5 else list(vector) for i, vector in enumerate(vectors)]),
        "path": pa.array([f"f{i}" for i in range(30)]).dictionary_encode(),
        "n": pa.array([None] * 30, pa.uint32()),
    }
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "in.parquet")
    done = json.loads(vexfs(volume4, "--json", "import", "things", tmp_path / "in.parquet", "--column", "embedding", "--base", volume4.path))
    assert done["set"] == 29
    for i in range(30):
        if i != 5:
            assert os.getxattr(volume4.path / f"f{i}", "user.vector.things") == vectors[i].tobytes()
    rows["embedding"] = pa.array([[1.0, None]] * 30)
    pyarrow.parquet.write_table(pa.table(rows), tmp_path / "in.parquet")
    words = vexfs(volume4, "import", "no", tmp_path / "in.parquet", "--column", "embedding", "--base", volume4.path, ok=(1,))
    assert "elements that are null" in words


def test_vectors_arrow_is_imported_elsewhere(volume4, make_volume, tmp_path):
    vectors = random_vectors(np.random.default_rng(2), 50, 20, "f32")
    for i, vector in enumerate(vectors):
        (volume4.path / f"f{i}").touch()
        os.setxattr(volume4.path / f"f{i}", "user.vector.things", vector.tobytes())
    os.unlink(volume4.path / "f7")
    other = make_volume()
    names = [f"f{i}" for i in range(50) if i != 7]
    for name in names:
        (other.path / name).touch()
    (tmp_path / "paths").write_text("\n".join(names))
    vexfs(other, "import", "things", volume4.collection("things").path / "vectors.arrow", "--paths", tmp_path / "paths", "--base", other.path)
    for name in names:
        assert os.getxattr(other.path / name, "user.vector.things") == vectors[int(name[1:])].tobytes()


def test_faiss_reads_and_writes(volume4, tmp_path):
    expected = made(volume4)
    vexfs(volume4, "export", "things", tmp_path / "out.faiss", "--paths", tmp_path / "paths")
    index = faiss.read_index(str(tmp_path / "out.faiss"))
    assert (type(index).__name__, index.ntotal, index.d, index.metric_type) == ("IndexFlatIP", COUNT, DIMENSIONS, faiss.METRIC_INNER_PRODUCT)
    lines = [line.split("\t") for line in (tmp_path / "paths").read_text().splitlines()]
    found = {(line[0], int(line[1]) if len(line) > 1 else 0): vector for line, vector in zip(lines, index.reconstruct_n(0, COUNT))}
    same(found, expected)
    for kind in (faiss.IndexFlatL2, faiss.IndexFlatIP):
        made_by_faiss = kind(DIMENSIONS)
        made_by_faiss.add(np.array(list(expected.values())))
        file = tmp_path / f"{kind.__name__}.index"
        faiss.write_index(made_by_faiss, str(file))
        (tmp_path / "list").write_text("".join(f"{path}\t{n}\n" for path, n in expected))
        vexfs(volume4, "import", kind.__name__, file, "--paths", tmp_path / "list", "--base", volume4.path)
        same(read(volume4, kind.__name__, "f32", expected), expected)
    faiss.write_index(faiss.index_factory(DIMENSIONS, "HNSW8"), str(tmp_path / "hnsw.faiss"))
    assert "only flat indexes" in vexfs(volume4, "import", "no", tmp_path / "hnsw.faiss", "--paths", tmp_path / "list", ok=(1,))


def test_faiss_reads_bits(volume4, tmp_path):
    expected = made(volume4, "bit", 64)
    vexfs(volume4, "export", "things", tmp_path / "out.faiss", "--paths", tmp_path / "paths")
    index = faiss.read_index_binary(str(tmp_path / "out.faiss"))
    assert (index.ntotal, index.d) == (COUNT, 64)
    vexfs(volume4, "import", "again", tmp_path / "out.faiss", "--paths", tmp_path / "paths", "--base", volume4.path)
    same(read(volume4, "again", "bit", expected), expected)
    mine = tmp_path / "faiss.index"
    faiss.write_index_binary(index, str(mine))
    assert mine.read_bytes() == (tmp_path / "out.faiss").read_bytes()


@pytest.mark.parametrize("element", ["f32", "i8", "bit"])
def test_sqlite_vec_reads_and_writes(volume4, element, tmp_path):
    expected = made(volume4, element)
    vexfs(volume4, "export", "things", tmp_path / "out.db")
    # Python's own sqlite3 may be built without extensions.
    connection = apsw.Connection(str(tmp_path / "out.db"))
    connection.enable_load_extension(True)
    sqlite_vec.load(connection)
    dtype = next(iter(expected.values())).dtype
    found = {(path, n): np.frombuffer(vector, dtype) for path, n, vector in connection.execute("select path, n, vector from vectors")}
    same(found, expected)
    kind = {"f32": f"float[{DIMENSIONS}]", "i8": f"int8[{DIMENSIONS}]", "bit": f"bit[{DIMENSIONS}]"}[element]
    convert = {"f32": "?", "i8": "vec_int8(?)", "bit": "vec_bit(?)"}[element]
    theirs = apsw.Connection(str(tmp_path / "theirs.db"))
    theirs.enable_load_extension(True)
    sqlite_vec.load(theirs)
    theirs.execute(f"create virtual table notes using vec0(embedding {kind}, +file text, +part integer)")
    for (path, n), vector in expected.items():
        theirs.execute(f"insert into notes(embedding, file, part) values ({convert}, ?, ?)", (vector.tobytes(), path, n))
    theirs.close()
    arguments = ("--path-column", "file", "--number-column", "part", "--base", volume4.path)
    vexfs(volume4, "import", "again", tmp_path / "theirs.db", *arguments)
    same(read(volume4, "again", element, expected), expected)


@pytest.mark.parametrize(("extension", "dtype"), [("fvecs", "<f4"), ("bvecs", "u1"), ("ivecs", "<i4")])
def test_vecs(volume4, extension, dtype, tmp_path):
    vectors = np.random.default_rng(3).integers(0, 256, (40, 16)).astype(dtype)
    with open(tmp_path / f"base.{extension}", "wb") as out:
        for vector in vectors:
            out.write(np.int32(16).tobytes() + vector.tobytes())
    for i in range(40):
        (volume4.path / f"f{i}").touch()
    (tmp_path / "paths").write_text("".join(f"f{i}\n" for i in range(40)))
    vexfs(volume4, "import", "things", tmp_path / f"base.{extension}", "--paths", tmp_path / "paths", "--base", volume4.path)
    assert np.array_equal(volume4.collection("things").vectors[:, :16], vectors)
    vexfs(volume4, "export", "things", tmp_path / f"out.{extension}")
    assert (tmp_path / f"out.{extension}").read_bytes() == (tmp_path / f"base.{extension}").read_bytes()


def test_refusals_say_where_and_what_to_do(volume4, tmp_path):
    (volume4.path / "a").touch()
    paths = tmp_path / "paths"
    paths.write_text("a\nmissing\n")
    matrix = tmp_path / "m.npy"
    np.save(matrix, np.ones((2, 8), "<f4"))
    words = vexfs(volume4, "import", "things", matrix, "--paths", paths, "--base", volume4.path, ok=(1,))
    assert "paths line 2" in words and "missing" in words
    assert "user.vector.things" not in os.listxattr(volume4.path / "a"), "a batch is whole or not at all"
    assert "--paths LIST" in vexfs(volume4, "import", "things", matrix, ok=(1,))
    bad = np.ones((2, 8), "<f4")
    bad[1, 3] = np.nan
    np.save(matrix, bad)
    paths.write_text("a\na\n")
    words = vexfs(volume4, "import", "things", matrix, "--paths", paths, "--base", volume4.path, ok=(1,))
    assert "paths line 2" in words and "NaN" in words and "--skip-existing" in words
    for name, content in (("cut.npy", matrix.read_bytes()[:-5]), ("cut.arrow", b"ARROW1\0\0"), ("cut.parquet", b"PAR1"), ("no.faiss", b"IxF2"), ("no.fvecs", b"\1\0\0\0"), ("no.db", b"x" * 5000), ("no.jsonl", b"{"), ("no.npz", b"PK")):
        (tmp_path / name).write_bytes(content)
        words = vexfs(volume4, "import", "things", tmp_path / name, "--paths", paths, ok=(1,))
        assert name in words and "panicked" not in words, words
    assert "--format" in vexfs(volume4, "import", "things", tmp_path / "paths", "--paths", paths, ok=(1,))


def test_links_in_a_list_are_followed(volume4, tmp_path):
    (volume4.path / "real").touch()
    os.symlink("real", volume4.path / "link")
    np.save(tmp_path / "m.npy", np.ones((1, 8), "<f4"))
    (tmp_path / "paths").write_text("link\n")
    vexfs(volume4, "import", "things", tmp_path / "m.npy", "--paths", tmp_path / "paths", "--base", volume4.path)
    assert os.getxattr(volume4.path / "real", "user.vector.things") == np.ones(8, "<f4").tobytes()


def test_jsonl_by_hand(volume4, tmp_path):
    (volume4.path / "a").touch()
    (tmp_path / "in.jsonl").write_text('{"text": "x", "path": "a", "embedding": [1, 0.5, -2e-3, 0]}\n\n{"path": "a", "embedding": [0, 0, 0, 1]}\n')
    vexfs(volume4, "import", "things", tmp_path / "in.jsonl", "--base", volume4.path)
    assert np.frombuffer(os.getxattr(volume4.path / "a", "user.vector.things"), "<f4").tolist() == [1, 0.5, np.float32(-2e-3), 0]
    assert np.frombuffer(os.getxattr(volume4.path / "a", "user.vector.things.1"), "<f4").tolist() == [0, 0, 0, 1]
