"""Durable import against the disk and against LMDB, in turns, in one run.

What is measured: `vexfs import` of a matrix that is in the page cache, until it is on disk; the same bytes written to a
plain file beside the image, and fsync; and LMDB, which gets the same vectors in transactions of as many as a batch of
the import has, unsynced, and is synced at the end. Of each the fastest of some turns counts.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb
import numpy as np

BIN = Path(__file__).resolve().parents[1] / "target" / "bin"
BATCH_BYTES = 4 << 20


def run(*command):
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def plain(directory, vectors):
    """Seconds that the disk takes for the bytes alone."""
    path = directory / "plain"
    began = time.perf_counter()
    with open(path, "wb", buffering=0) as out:
        view = memoryview(vectors).cast("B")
        for at in range(0, len(view), BATCH_BYTES):
            out.write(view[at : at + BATCH_BYTES])
        os.fsync(out.fileno())
    seconds = time.perf_counter() - began
    path.unlink()
    return seconds


def with_lmdb(directory, vectors, files):
    """Seconds that LMDB takes: a key of inode and number, a value of raw elements."""
    path = directory / "lmdb"
    each = len(vectors) // files
    rows = BATCH_BYTES // vectors[0].nbytes
    items = [((i // each).to_bytes(8, "big") + (i % each).to_bytes(4, "big"), vector.tobytes()) for i, vector in enumerate(vectors)]
    environment = lmdb.open(str(path), map_size=4 * vectors.nbytes + (64 << 20), sync=False, metasync=False)
    began = time.perf_counter()
    for at in range(0, len(items), rows):
        with environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(items[at : at + rows], append=True)
    environment.sync(True)
    seconds = time.perf_counter() - began
    environment.close()
    shutil.rmtree(path)
    return seconds


def with_vexfs(directory, matrix, vectors, files):
    """Seconds that an import takes, from the program's start to its end."""
    image, mount, paths = directory / "image", directory / "mount", directory / "paths"
    mount.mkdir(exist_ok=True)
    size = 2 * vectors.nbytes + (256 << 20)
    run(BIN / "mkfs.vexfs", "-q", "-f", image, size)
    # As the plain file's, the image's blocks are written for the first time.
    run(BIN / "mount.vexfs", image, mount)
    try:
        each = len(vectors) // files
        for i in range(files):
            (mount / f"{i:06}").write_bytes(b"content")
        paths.write_text("".join(f"{mount}/{i // each:06}\t{i % each}\n" for i in range(len(vectors))))
        descriptor = os.open(mount, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        began = time.perf_counter()
        run(BIN / "vexfs", "import", "things", matrix, "--paths", paths)
        seconds = time.perf_counter() - began
        things = mount / ".vexfs/collections/things"
        if not np.array_equal(np.load(things / "vectors.npy", mmap_mode="r")[:, : vectors.shape[1]], vectors):
            sys.exit("the matrix is not what was imported")
    finally:
        run(BIN / "umount.vexfs", mount)
        image.unlink(missing_ok=True)
    return seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--vectors", type=int, default=200_000)
    arguments.add_argument("--dimensions", type=int, default=384)
    arguments.add_argument("--files", type=int, default=2000)
    arguments.add_argument("--turns", type=int, default=3)
    arguments.add_argument("--directory", help="where the disk is that counts")
    given = arguments.parse_args()
    generator = np.random.default_rng(1)
    vectors = generator.standard_normal((given.vectors, given.dimensions), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-", dir=given.directory) as directory:
        directory = Path(directory)
        matrix = directory / "vectors.npy"
        np.save(matrix, vectors)
        os.sync()
        seconds = {"disk": [], "LMDB": [], "vexfs import": []}
        for _ in range(given.turns):
            seconds["disk"].append(plain(directory, vectors))
            seconds["vexfs import"].append(with_vexfs(directory, matrix, vectors, given.files))
            seconds["LMDB"].append(with_lmdb(directory, vectors, given.files))
    best = {name: min(turns) for name, turns in seconds.items()}
    print(f"{given.vectors} vectors of {given.dimensions} x f32, {given.files} files, the fastest of {given.turns} turns")
    for name, value in best.items():
        rate = given.vectors / value
        print(f"  {name:13} {value:7.2f} s {vectors.nbytes / value / 1e6:8.0f} MB/s {rate:10.0f} vectors/s")
    print(f"import against the disk: {best['disk'] / best['vexfs import']:.2f} (goal 0.6)")
    print(f"import against LMDB:     {best['LMDB'] / best['vexfs import']:.2f} (goal 2)")


if __name__ == "__main__":
    main()
