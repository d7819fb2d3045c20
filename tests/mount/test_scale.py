"""200,000 files in one directory, 100,000 vectors in one collection: room, memory, and all of it given back."""

import os
import time

import numpy as np
import pytest

FILES = 200_000
VECTORS = 100_000
DIMENSIONS = 128
MEMORY_MAX = 256 << 20


class Lap:
    """Prints how long each part took."""

    def __init__(self):
        self.before = time.monotonic()

    def __call__(self, what, count):
        now = time.monotonic()
        print(f"  {what}: {now - self.before:.1f} s, {count / (now - self.before):,.0f} a second")
        self.before = now


@pytest.mark.scale
def test_many_files_and_vectors(make_volume):
    volume = make_volume(size="4G")
    directory = volume.path / "directory"
    directory.mkdir()
    free_before = volume.settle()
    lap = Lap()
    for i in range(FILES):
        os.close(os.open(directory / f"file-{i:06}", os.O_CREAT | os.O_WRONLY))
    lap("create", FILES)
    names = os.listdir(directory)
    lap("list", FILES)
    assert len(names) == len(set(names)) == FILES
    matrix = np.random.default_rng(1).standard_normal((VECTORS, DIMENSIONS), dtype="f4")
    for i in range(VECTORS):
        os.setxattr(directory / f"file-{i:06}", "user.vector.scale", matrix[i].tobytes())
    lap("setxattr", VECTORS)
    collection = volume.collection("scale")
    assert collection.vectors[:, :DIMENSIONS].tobytes() == matrix.tobytes()
    assert collection.valid.sum() == VECTORS
    lap("read the mapping", VECTORS)
    assert volume.peak_memory() < MEMORY_MAX, f"VmHWM is {volume.peak_memory() >> 20} MiB"
    volume.again()
    lap("unmount, fsck, mount", FILES)
    for i in range(0, VECTORS, 1000):
        assert os.getxattr(directory / f"file-{i:06}", "user.vector.scale") == matrix[i].tobytes()
    for i in range(FILES):
        os.unlink(directory / f"file-{i:06}")
    lap("remove", FILES)
    assert os.listdir(directory) == [] and not volume.collection("scale").valid.any()
    free_after = volume.settle()
    lap("give back", FILES)
    assert volume.peak_memory() < MEMORY_MAX, f"VmHWM is {volume.peak_memory() >> 20} MiB"
    print(f"  VmHWM {volume.peak_memory() >> 20} MiB, free {free_before:,} before, {free_after:,} after")
    assert free_after >= free_before * 0.99
