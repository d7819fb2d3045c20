"""`vectors.arrow` as pyarrow, polars and duckdb read it: the matrix itself, without a copy, free rows null."""

import json
import mmap
import os

import duckdb
import faiss
import numpy as np
import polars
import pyarrow as pa
import pytest
from volume import DTYPES, attribute, random_vectors

KINDS = {"f32": pa.float32(), "f16": pa.float16(), "i8": pa.int8(), "i16": pa.int16(), "bit": pa.uint8()}


def fill(volume, name, count, dimensions, element="f32", seed=5):
    """Files f0 ... with a vector each; gives the vectors."""
    vectors = random_vectors(np.random.default_rng(seed), count, dimensions, element)
    for i, vector in enumerate(vectors):
        path = volume.path / f"f{i}"
        path.touch()
        os.setxattr(path, attribute(name, element), vector.tobytes())
    return vectors


def open_arrow(collection):
    """The one batch of a collection's file, mapped."""
    reader = pa.ipc.open_file(pa.memory_map(str(collection.path / "vectors.arrow")))
    assert reader.num_record_batches == 1
    batch = reader.get_batch(0)
    batch.validate(full=True)
    return batch


def matrix(batch):
    """The entries of the column of vectors as a numpy matrix, free rows with it."""
    column = batch.column("vector")
    return column.values.to_numpy(zero_copy_only=True).reshape(len(column), column.type.list_size)


def check_against_columns(things, element):
    """The file says what the columns say; its mapping ends with this."""
    batch = open_arrow(things)
    column = batch.column("vector")
    assert column.type == pa.list_(KINDS[element], things.vectors.shape[1])
    assert column.is_valid().to_pylist() == things.valid.tolist() == [row not in (5, 50) for row in range(101)]
    assert column.null_count == batch.column("inode").null_count == 2
    live = np.flatnonzero(things.valid)
    assert np.array_equal(matrix(batch)[live], things.vectors[live])
    headers = things.headers[live]
    for name, expected in (("vector_id", headers["vector_id"]), ("inode", headers["file_inode"])):
        assert np.array_equal(batch.column(name).drop_null().to_numpy(), expected)
    assert [n for n in batch.column("n").to_pylist() if n] == [3]
    metadata = {key.decode(): value.decode() for key, value in batch.schema.metadata.items()}
    schema = json.loads((things.path / "schema.json").read_text())
    for key in ("dimension", "element", "codec", "metric", "model"):
        assert metadata[f"vexfs.{key}"] == str(schema[key])


@pytest.mark.parametrize("element", KINDS)
def test_a_collection_is_an_arrow_file(volume, element):
    vectors = fill(volume, "things", 100, 72, element)
    os.setxattr(volume.path / "f0", attribute("things", element, 3), vectors[7].tobytes())
    os.unlink(volume.path / "f5")
    os.unlink(volume.path / "f50")
    things = volume.collection("things")
    for _ in range(2):
        check_against_columns(things, element)
        volume.again()


def test_buffers_are_the_mapping_aligned_to_64_bytes(volume):
    vectors = fill(volume, "things", 300, 384)
    things = volume.collection("things")
    mapped = pa.memory_map(str(things.path / "vectors.arrow"))
    base, size = mapped.read_buffer(mapped.size()).address, mapped.size()
    mapped.seek(0)
    batch = pa.ipc.open_file(mapped).get_batch(0)
    before = pa.total_allocated_bytes()
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None and buffer.size:
                assert base <= buffer.address and buffer.address + buffer.size <= base + size, "a copy"
                assert buffer.address % 64 == 0
    assert batch.column("vector").buffers()[-1].address == base + 4096
    assert np.array_equal(matrix(batch), vectors)
    assert pa.total_allocated_bytes() == before


def test_a_mapping_keeps_its_rows_while_the_collection_grows_and_shrinks(volume4):
    vectors = fill(volume4, "things", 20, 384)
    things = volume4.collection("things")
    path = things.path / "vectors.arrow"
    batch = open_arrow(things)
    with open(path, "rb") as opened:
        size, inode = os.fstat(opened.fileno()).st_size, os.fstat(opened.fileno()).st_ino
        foot = os.pread(opened.fileno(), 4096, size - 4096)
        more = fill(volume4, "things", 600, 384, seed=6)
        assert os.stat(path).st_ino != inode, "it outgrew its file"
        assert np.array_equal(matrix(open_arrow(things))[things.valid], things.vectors[things.valid])
        assert os.fstat(opened.fileno()).st_size == size
        assert os.pread(opened.fileno(), 4096, size - 4096) == foot
        # The files' new vectors went to other rows; those of the mapping are free, and then somebody else's.
        now = things.vectors
        assert np.array_equal(matrix(batch), now[:20], equal_nan=True)
        for i in range(600):
            os.unlink(volume4.path / f"f{i}")
        assert os.fstat(opened.fileno()).st_size == size
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as whole:
            assert whole[: 6] == whole[size - 6 :] == b"ARROW1"
    assert open_arrow(things).num_rows == 0
    assert not np.array_equal(more[0], vectors[0])


def test_what_changes_shows_at_once_in_an_open_mapping(volume4):
    fill(volume4, "things", 40, 16)
    things = volume4.collection("things")
    with open(things.path / "vectors.arrow", "rb") as opened:
        with mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            for i in range(0, 40, 3):
                batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
                assert batch.column("vector").null_count == i // 3
                os.unlink(volume4.path / f"f{i}")
                batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
                assert batch.column("vector").is_valid().to_pylist()[:40] == (things.valid.tolist() + [False] * 40)[:40][: batch.num_rows]
                del batch
            vector = np.arange(16, dtype="<f4")
            (volume4.path / "new").touch()
            os.setxattr(volume4.path / "new", "user.vector.things", vector.tobytes())
            batch = pa.ipc.open_file(pa.py_buffer(mapped)).get_batch(0)
            inode = os.stat(volume4.path / "new").st_ino
            row = batch.column("inode").to_pylist().index(inode)
            assert np.array_equal(matrix(batch)[row], vector)
            del batch


@pytest.mark.parametrize("codec", ["f16", "sq8", "sq4", "binary"])
def test_codecs(volume4, codec):
    directory = volume4.path / ".vexfs/collections/things"
    directory.mkdir()
    assert not (directory / "vectors.arrow").exists(), "a collection without dimension has no Arrow type"
    os.setxattr(directory, "user.vexfs.codec", codec.encode())
    vectors = fill(volume4, "things", 50, 100)
    things = volume4.collection("things")
    batch = open_arrow(things)
    stored = things.vectors
    if codec in ("f16", "sq8"):
        assert batch.column("vector").type.value_type == {"f16": pa.float16(), "sq8": pa.int8()}[codec]
        assert np.array_equal(matrix(batch), stored)
    else:
        assert batch.column("vector").type == pa.binary(stored.shape[1])
        assert batch.column("vector").to_pylist() == [row.tobytes() for row in stored]
    if codec != "f16":
        assert np.array_equal(batch.column("scale").to_numpy(), things.load("scale"))
    if codec == "sq8":
        decoded = matrix(batch)[:, :100] * batch.column("scale").to_numpy()[:, None]
        assert np.abs(decoded - vectors).max() < np.abs(vectors).max() / 100


def test_polars_and_duckdb(volume4):
    vectors = fill(volume4, "things", 200, 128)
    os.unlink(volume4.path / "f9")
    things = volume4.collection("things")
    frame = polars.read_ipc(things.path / "vectors.arrow")
    assert frame.shape == (200, 4) and frame["vector"].null_count() == 1
    live = frame.drop_nulls()
    assert np.array_equal(live["vector"].to_numpy(), np.delete(vectors, 9, axis=0))
    query = vectors[42]
    batch = open_arrow(things)
    table = pa.Table.from_batches([batch])
    connection = duckdb.connect()
    connection.register("things", table)
    best = connection.execute(
        "select inode, array_inner_product(vector, ?::float[128]) as score from things where vector is not null order by score desc limit 1",
        [query.tolist()],
    ).fetchone()
    assert best[0] == os.stat(volume4.path / "f42").st_ino
    assert connection.execute("select count(*) from things where vector is null").fetchone() == (1,)


def test_faiss_searches_the_mapped_matrix(volume4):
    vectors = fill(volume4, "things", 200, 128)
    m = volume4.collection("things").vectors
    _, found = faiss.knn(vectors[:10], np.asarray(m), 1, metric=faiss.METRIC_INNER_PRODUCT)
    assert found[:, 0].tolist() == list(range(10))


def test_an_empty_collection_and_refusals(volume4):
    fill(volume4, "things", 1, 16)
    os.unlink(volume4.path / "f0")
    things = volume4.collection("things")
    batch = open_arrow(things)
    assert batch.num_rows == 0 and batch.schema.names == ["vector", "vector_id", "inode", "n"]
    assert "vectors.arrow" in os.listdir(things.path)
    with pytest.raises(PermissionError):
        open(things.path / "vectors.arrow", "r+b")
    assert oct(os.stat(things.path / "vectors.arrow").st_mode & 0o777) == oct(os.stat(things.path / "vectors.npy").st_mode & 0o777)
    assert DTYPES["f32"] == things.vectors.dtype
