"""Real embeddings on a mount: the mapping is the source byte for byte, and answers questions exactly."""

import os

import numpy as np
import pytest
import sample
from volume import BIN, attribute, run

TOP = 10


@pytest.fixture(scope="module")
def data():
    vectors, queries, nearest, where_from = sample.load()
    print(f"\nvectors: {where_from}")
    return vectors, queries, nearest


def store(volume, collection, element, rows):
    """One file a row, its vector as its attribute."""
    directory = volume.path / collection
    directory.mkdir()
    for i, row in enumerate(rows):
        path = directory / f"{i:05}"
        path.write_bytes(b"passage %d" % i)
        os.setxattr(path, attribute(collection, element), row.tobytes())


def check_mapping(volume, collection, element, rows, answer):
    """The mapping's rows and every attribute must equal the source; gives `answer(rows mapped, without padding)`."""
    columns = volume.collection(collection)
    matrix = columns.vectors
    assert isinstance(matrix, np.memmap) and columns.valid.all() and matrix.shape[0] == len(rows)
    matrix = matrix[:, : rows.shape[1]]
    assert matrix.tobytes() == rows.tobytes(), "the mapping differs from the source"
    directory = volume.path / collection
    for i, row in enumerate(rows):
        assert os.getxattr(directory / f"{i:05}", attribute(collection, element)) == row.tobytes(), f"row {i}"
    assert columns.headers["file_inode"].tolist() == [os.stat(directory / f"{i:05}").st_ino for i in range(len(rows))]
    return answer(matrix)


def test_real_embeddings(volume, data):
    vectors, queries, nearest = data
    width = 100 if vectors.shape[1] > 100 else vectors.shape[1] - 5
    hundred, hundred_queries = (np.ascontiguousarray(m[:, :width]) for m in (vectors, queries))
    bits, bit_queries = (np.packbits(m > 0, axis=1, bitorder="little") for m in (vectors, queries))
    hundred_nearest = sample.exact(hundred, hundred_queries, TOP)
    bit_nearest = sample.hamming(bits, bit_queries, TOP)
    store(volume, "real", "f32", vectors)
    store(volume, "hundred", "f32", hundred)
    store(volume, "bits", "bit", bits)
    for _ in range(2):
        found = check_mapping(volume, "real", "f32", vectors, lambda m: sample.exact(m, queries, TOP))
        assert (found == nearest[:, :TOP]).all()
        found = check_mapping(volume, "hundred", "f32", hundred, lambda m: sample.exact(np.array(m), hundred_queries, TOP))
        assert (found == hundred_nearest).all()
        found = check_mapping(volume, "bits", "bit", bits, lambda m: sample.hamming(m, bit_queries, TOP))
        assert (found == bit_nearest).all()
        volume.again()


def test_unpadded_matrix_is_the_source_file(volume4, data):
    """With a dimension that fills its rows, the file behind its header is what np.save wrote."""
    vectors, _, _ = data
    store(volume4, "real", "f32", vectors)
    content = (volume4.collection("real").path / "vectors.npy").read_bytes()
    assert content[4096 : 4096 + vectors.nbytes] == vectors.tobytes()
    assert np.load(volume4.collection("real").path / "vectors.npy").tobytes() == vectors.tobytes()


def test_import_and_export(volume4, data, tmp_path):
    """`vexfs import` of a matrix and a list of paths, `vexfs export` back."""
    vectors, _, _ = data
    directory = volume4.path / "passages"
    directory.mkdir()
    names = [f"passages/{i:05}" for i in range(len(vectors))]
    for name in names:
        (volume4.path / name).touch()
    np.save(tmp_path / "vectors.npy", vectors)
    (tmp_path / "paths.txt").write_text("".join(f"{name}\n" for name in names))
    vexfs = (BIN / "vexfs", "--mount", volume4.path)
    run(*vexfs, "create", "real", "--dim", vectors.shape[1])
    run(*vexfs, "import", "real", tmp_path / "vectors.npy", "--paths", tmp_path / "paths.txt", "--base", volume4.path)
    rows = volume4.collection("real").rows()
    for name, vector in zip(names, vectors, strict=True):
        assert os.getxattr(volume4.path / name, "user.vector.real") == vector.tobytes()
        assert len(rows[os.stat(volume4.path / name).st_ino]) == 1
    run(*vexfs, "export", "real", tmp_path / "out.npy", "--paths", tmp_path / "out.txt")
    assert np.load(tmp_path / "out.npy").tobytes() == vectors.tobytes()
    assert (tmp_path / "out.txt").read_text().split() == names
    assert "real" in run(*vexfs, "ls").stdout
