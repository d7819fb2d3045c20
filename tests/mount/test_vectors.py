"""Vectors as attributes, and what the control directory shows of them."""

import base64
import errno
import json
import os

import numpy as np
import pytest
from volume import DTYPES, attribute, fails_with, random_vectors, run, wait_for

ELEMENTS = list(DTYPES)
DIMENSIONS = 104


@pytest.fixture
def generator():
    return np.random.default_rng(20_240_601)


def check_columns(things, element, vectors):
    """The columns show these vectors, in this order; nothing stays mapped."""
    schema = json.loads((things.path / "schema.json").read_text())
    assert schema["element"] == element and schema["rows"] == len(vectors) and schema["live"] == len(vectors)
    matrix, headers, valid = things.vectors, things.headers, things.valid
    assert matrix.dtype == DTYPES[element] and matrix.offset == 4096
    assert matrix.shape[0] == len(vectors) and matrix.strides[0] % 64 == 0
    assert headers.dtype.itemsize == 64 and headers.shape == (len(vectors),)
    assert valid.dtype == np.bool_ and valid.all()
    assert (headers["magic"] == 0x56454354).all() and (headers["dimensions"] == DIMENSIONS).all()
    width = vectors.shape[1]
    assert matrix[:, :width].tobytes() == vectors.tobytes(), "rows are the vectors, in the order of setting"
    assert not np.asarray(matrix[:, width:]).tobytes().strip(b"\0"), "padding is zero"


@pytest.mark.parametrize("element", ELEMENTS)
def test_every_element_type(volume, generator, element):
    vectors = random_vectors(generator, 300, DIMENSIONS, element)
    name = attribute("things", element)
    for i, vector in enumerate(vectors):
        (volume.path / f"f{i}").write_bytes(b"content")
        os.setxattr(volume.path / f"f{i}", name, vector.tobytes())
    for _ in range(2):
        check_columns(volume.collection("things"), element, vectors)
        for i, vector in enumerate(vectors):
            assert os.listxattr(volume.path / f"f{i}") == [name]
            assert os.getxattr(volume.path / f"f{i}", name) == vector.tobytes()
        assert os.getxattr(volume.path / "f7", attribute("things")) == vectors[7].tobytes(), "the name without the element"
        volume.again()


def test_many_vectors_of_one_file(volume, generator):
    path = volume.path / "document"
    path.write_bytes(b"chunks")
    vectors = random_vectors(generator, 500, 64, "f32")
    for n, vector in enumerate(vectors):
        os.setxattr(path, attribute("chunks", n=n), vector.tobytes())
    assert os.getxattr(path, "user.vector.chunks.0") == vectors[0].tobytes(), ".0 is a synonym of none"
    names = set(os.listxattr(path))
    assert names == {attribute("chunks", n=n) for n in range(500)}
    volume.again()
    for n, vector in enumerate(vectors):
        assert os.getxattr(path, attribute("chunks", n=n)) == vector.tobytes()
    assert len(volume.collection("chunks").rows()[os.stat(path).st_ino]) == 500
    for n in range(0, 500, 2):
        os.removexattr(path, attribute("chunks", n=n))
    assert int(volume.collection("chunks").valid.sum()) == 250
    os.unlink(path)
    assert int(volume.collection("chunks").valid.sum()) == 0


def test_setfattr_and_getfattr(volume4):
    path = volume4.path / "document"
    path.touch()
    vector = np.array([0.6, -0.8, 0, 1e-3], "<f4").tobytes()
    run("setfattr", "-n", "user.vector.tiny", "-v", "0s" + base64.b64encode(vector).decode(), path)
    out = run("getfattr", "--absolute-names", "-d", "-m", "^user.vector", "-e", "base64", path).stdout
    assert "user.vector.tiny=0s" + base64.b64encode(vector).decode() in out
    assert os.getxattr(path, "user.vector.tiny") == vector


def test_create_and_replace(volume4):
    path = volume4.path / "document"
    path.touch()
    one, two = np.eye(2, 16, dtype="<f4")
    fails_with(errno.ENODATA, os.setxattr, path, "user.vector.c", one.tobytes(), os.XATTR_REPLACE)
    os.setxattr(path, "user.vector.c", one.tobytes(), os.XATTR_CREATE)
    fails_with(errno.EEXIST, os.setxattr, path, "user.vector.c", two.tobytes(), os.XATTR_CREATE)
    os.setxattr(path, "user.vector.c", two.tobytes(), os.XATTR_REPLACE)
    assert os.getxattr(path, "user.vector.c") == two.tobytes()
    fails_with(errno.ENODATA, os.getxattr, path, "user.vector.c.1")
    fails_with(errno.ENODATA, os.getxattr, path, "user.vector.other")
    fails_with(errno.ENODATA, os.removexattr, path, "user.vector.other")


def test_refusals_and_their_words(volume4, generator):
    path = volume4.path / "document"
    path.touch()
    os.setxattr(path, "user.vector.minilm", random_vectors(generator, 1, 384, "f32")[0].tobytes())
    nan = np.zeros(384, "<f4")
    nan[100] = np.nan
    infinite = np.zeros(384, "<f4")
    infinite[383] = -np.inf
    for name, value, number in (
        ("user.vector.minilm", b"\0" * 1024, errno.EINVAL),
        ("user.vector.minilm", nan.tobytes(), errno.EINVAL),
        ("user.vector.minilm", infinite.tobytes(), errno.EINVAL),
        ("user.vector.minilm:i8", b"\0" * 384, errno.EINVAL),
        ("user.vector.all the words", b"\0" * 64, errno.EINVAL),
        ("user.vector.c", b"\0" * 63, errno.EINVAL),
        ("user.vector.c", b"", errno.EINVAL),
        ("user.vector.minilm.01", b"\0" * 1536, errno.EINVAL),
        ("user.vector.c:f99", b"\0" * 64, errno.EINVAL),
    ):
        fails_with(number, os.setxattr, path, name, value)
    log = volume4.log()
    assert "collection minilm holds 384 x f32 = 1536 bytes, got 1024" in log
    assert "minilm" in log and str(os.stat(path).st_ino) in log and str(os.getpid()) in log
    assert os.stat(volume4.path / ".vexfs" / "log").st_mode & 0o777 == 0o600
    assert os.listxattr(path) == ["user.vector.minilm"]


def test_the_control_directory_is_not_listed(volume4):
    (volume4.path / "file").touch()
    assert os.listdir(volume4.path) == ["file"]
    assert {"README", "status.json", "metrics", "log", "collections"} <= set(os.listdir(volume4.path / ".vexfs"))
    assert len((volume4.path / ".vexfs" / "README").read_text()) > 100
    assert isinstance(json.loads((volume4.path / ".vexfs" / "status.json").read_text()), dict)
    assert "cache_hit_ratio" in (volume4.path / ".vexfs" / "metrics").read_text()
    volume4.again("ctldir")
    assert sorted(os.listdir(volume4.path)) == [".vexfs", "file"]


def test_collections_are_directories(volume4, generator):
    collections = volume4.path / ".vexfs" / "collections"
    os.mkdir(collections / "made")
    fails_with(errno.EEXIST, os.mkdir, collections / "made")
    fails_with(errno.EINVAL, os.mkdir, collections / "not a name")
    path = volume4.path / "document"
    path.touch()
    vector = random_vectors(generator, 1, 32, "f32")[0].tobytes()
    os.setxattr(path, "user.vector.made", vector)
    fails_with(errno.ENOTEMPTY, os.rmdir, collections / "made")
    inode = os.stat(collections / "made" / "vectors.npy").st_ino
    os.rename(collections / "made", collections / "renamed")
    assert os.listxattr(path) == ["user.vector.renamed"]
    assert os.stat(collections / "renamed" / "vectors.npy").st_ino == inode
    volume4.again()
    assert os.getxattr(path, "user.vector.renamed") == vector
    os.unlink(path)
    os.rmdir(collections / "renamed")
    assert os.listdir(collections) == []


def test_pseudo_files_refuse_writing(volume4, generator):
    path = volume4.path / "document"
    path.touch()
    os.setxattr(path, "user.vector.c", random_vectors(generator, 1, 32, "f32")[0].tobytes())
    directory = volume4.collection("c").path
    for name in ("vectors.npy", "headers.npy", "valid.npy", "schema.json"):
        with pytest.raises(OSError):
            os.close(os.open(directory / name, os.O_RDWR))
        with pytest.raises(OSError):
            os.unlink(directory / name)
    with pytest.raises(OSError):
        os.mkdir(directory / "new")


def test_hard_links_moves_and_the_last_unlink(volume4, generator):
    path = volume4.path / "document"
    path.touch()
    vector = random_vectors(generator, 1, 32, "f32")[0].tobytes()
    os.setxattr(path, "user.vector.c", vector)
    os.link(path, volume4.path / "link")
    os.rename(path, volume4.path / "moved")
    os.unlink(volume4.path / "moved")
    assert os.getxattr(volume4.path / "link", "user.vector.c") == vector
    assert int(volume4.collection("c").valid.sum()) == 1
    os.unlink(volume4.path / "link")
    assert int(volume4.collection("c").valid.sum()) == 0


def test_an_open_unlinked_file_leaves_the_matrix_at_once(volume4, generator):
    path = volume4.path / "document"
    path.touch()
    vector = random_vectors(generator, 1, 32, "f32")[0].tobytes()
    os.setxattr(path, "user.vector.c", vector)
    with open(path, "rb") as file:
        os.unlink(path)
        assert int(volume4.collection("c").valid.sum()) == 0
        assert os.getxattr(file.fileno(), "user.vector.c") == vector


def test_implicit_collections_can_be_turned_off(make_volume, generator):
    volume = make_volume(options=["implicit=off"])
    path = volume.path / "document"
    path.touch()
    vector = random_vectors(generator, 1, 32, "f32")[0].tobytes()
    with pytest.raises(OSError):
        os.setxattr(path, "user.vector.c", vector)
    os.mkdir(volume.path / ".vexfs" / "collections" / "c")
    os.setxattr(path, "user.vector.c", vector)


def test_a_freed_row_is_used_again(volume4, generator):
    vectors = random_vectors(generator, 64, 32, "f32")
    for i in range(64):
        (volume4.path / f"f{i}").touch()
        os.setxattr(volume4.path / f"f{i}", "user.vector.c", vectors[i].tobytes())
    for _ in range(5):
        for i in range(64):
            os.removexattr(volume4.path / f"f{i}", "user.vector.c")
        control = volume4.path / ".vexfs/collections/c/control"
        wait_for(lambda: json.loads(control.read_text())["frontier"] == 0, "the freed rows to be blanked after a commit")
        for i in range(64):
            os.setxattr(volume4.path / f"f{i}", "user.vector.c", vectors[63 - i].tobytes())
    assert volume4.collection("c").vectors.shape[0] <= 128, "freed rows are not used again"
    matrix = volume4.collection("c").vectors
    for i in range(64):
        row = volume4.collection("c").row_of(volume4.path / f"f{i}")
        assert matrix[row, :32].tobytes() == vectors[63 - i].tobytes()


def test_a_vector_of_an_open_file_without_a_name_goes_with_it(volume):
    vector = np.arange(16, dtype="<f4")
    (volume.path / "named").touch()
    os.setxattr(volume.path / "named", "user.vector.c", vector.tobytes())
    fd = os.open(volume.path / "f", os.O_CREAT | os.O_RDWR)
    os.unlink(volume.path / "f")
    os.setxattr(fd, "user.vector.c", (2 * vector).tobytes())
    assert os.getxattr(fd, "user.vector.c") == (2 * vector).tobytes() and os.listxattr(fd) == ["user.vector.c"]
    os.close(fd)
    schema = json.loads((volume.path / ".vexfs/collections/c/schema.json").read_text())
    assert (schema["live"], schema["rows"]) == (1, 1)
