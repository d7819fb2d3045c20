"""Batch codecs on one thread against memcpy and faiss, in turn in one run: ratios of speed, medians of pairs.

Of each turn the fastest of five passes counts, so that other work on the machine is not measured. Speed is bytes of
f32 a second, stored or read; above 1 means that VexFS is faster. All buffers were used before. `faiss` is its
ScalarQuantizer with the same bits (for binary: fvecs2bitvecs, which makes no scale, and its inverse). Also prints
recall@10 of both on the embeddings of `tests/data/sample.py`: each query in f32 against the vectors as they read.
Product quantisation is trained, coded and read on these, by faiss's ProductQuantizer and by VexFS.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "data"))
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "bench-codecs"

DIMENSIONS, SEED, K, PASSES = 384, 7, 10, 5
SIZES = {"in L2": 512, "in L3": 4096, "in memory": 65536}
PEERS = {"f16": ["QT_fp16"], "sq8": ["QT_8bit", "QT_8bit_uniform"], "sq4": ["QT_4bit", "QT_4bit_uniform"], "binary": ["bits"]}
SHAPES, ITERATIONS = [(192, 8), (96, 8), (48, 8), (96, 4)], 25


class Ours:
    """The project's half, a process that does one pass at a time."""

    def __init__(self, vectors):
        self.process = subprocess.Popen([PROGRAM, vectors], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.instructions = self.process.stdout.readline().strip()

    def __call__(self, what):
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


class Faiss:
    """A codec of faiss with its buffers."""

    def __init__(self, name, vectors):
        self.count, self.dimensions = vectors.shape
        self.quantizer = None
        self.bytes = self.dimensions // 8
        if name != "bits":
            self.quantizer = faiss.ScalarQuantizer(self.dimensions, getattr(faiss.ScalarQuantizer, name))
            self.quantizer.train(vectors)
            self.bytes = self.quantizer.code_size
        self.vectors, self.read = vectors, vectors.copy()
        self.codes = np.ones((self.count, self.bytes), np.uint8)

    def encode(self):
        x, codes = faiss.swig_ptr(self.vectors), faiss.swig_ptr(self.codes)
        if self.quantizer:
            return fastest(self.quantizer.compute_codes_c, x, codes, self.count)
        return fastest(faiss.fvecs2bitvecs, x, codes, self.dimensions, self.count)

    def decode(self):
        x, codes = faiss.swig_ptr(self.read), faiss.swig_ptr(self.codes)
        if self.quantizer:
            return fastest(self.quantizer.decode_c, codes, x, self.count)
        return fastest(faiss.bitvecs2fvecs, codes, x, self.dimensions, self.count)


def fastest(call, *arguments):
    """Seconds of the fastest of some passes, as many as the other half makes."""
    found = []
    for _ in range(PASSES):
        start = time.perf_counter()
        call(*arguments)
        found.append(time.perf_counter() - start)
    return min(found)


def ratios(ours, peers, codec, direction, rounds):
    """Of memcpy and of each peer: the median of its time over ours, in rounds that take turns."""
    found = {name: [] for name in ["memcpy", *peers]}
    for index in range(rounds + 1):
        own, copy = ours(f"{codec} {direction}"), ours("copy")
        times = {"memcpy": copy, **{name: getattr(peer, direction)() for name, peer in peers.items()}}
        for name, seconds in times.items():
            if index > 0:  # the first round warms up
                found[name].append(seconds / own)
    return {name: statistics.median(values) for name, values in found.items()}


def speeds(rounds):
    generator = np.random.default_rng(SEED)
    print("| data | codec | direction | against memcpy | against faiss |\n| --- | --- | --- | --- | --- |")
    for size, count in SIZES.items():
        vectors = generator.standard_normal((count, DIMENSIONS), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with tempfile.TemporaryDirectory() as directory:
            np.save(Path(directory) / "vectors.npy", vectors)
            ours = Ours(Path(directory) / "vectors.npy")
        for codec, names in PEERS.items():
            peers = {name: Faiss(name, vectors) for name in names}
            for direction in ("encode", "decode"):
                found = ratios(ours, peers, codec, direction, rounds)
                against = ", ".join(f"{found[name]:.2f} ({name})" for name in names)
                print(f"| {size} | {codec} | {direction} | {found['memcpy']:.2f} | {against} |", flush=True)
        ours.close()
    return ours.instructions


def up16(values):
    """f32 of 16 significant bits that are no less: a row's scale in docs/FORMAT.md."""
    below = np.uint64((1 << 37) - 1)
    return ((values.astype("<f8").view("<u8") + below) & ~below).view("<f8").astype("<f4")


def read_again(codec, x):
    """What vectors read as, by docs/FORMAT.md."""
    largest = np.abs(x).max(axis=1, keepdims=True).astype("<f8")
    if codec == "sq8":
        s = up16(largest / 127)
        return np.rint(x * (np.float32(1) / s)) * s
    s = up16(largest / 7.5)
    return (np.minimum(np.floor(x * (np.float32(1) / s)) + 8, 15) - np.float32(7.5)) * s


def recalls():
    from sample import load

    vectors, queries, nearest, source = load()
    print(f"\nRecall@{K} on {source}:")
    for codec in ("sq8", "sq4"):
        found = {codec: recall(queries, nearest, read_again(codec, vectors))}
        for name in PEERS[codec]:
            peer = Faiss(name, vectors)
            peer.encode(), peer.decode()
            found[name] = recall(queries, nearest, peer.read)
        print("  " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))


def quantized(rounds):
    """Product quantisation: training, coding and reading against faiss's ProductQuantizer, and the recall of both."""
    from sample import load

    vectors, queries, nearest, source = load()
    count, dimensions = vectors.shape
    print(f"\nProduct quantisation of {source}, {count} vectors of {dimensions}, {ITERATIONS} iterations on all of them:\n")
    print("| codes | train | encode | decode | recall@10 | of faiss |\n| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as directory:
        path, book = Path(directory) / "vectors.npy", Path(directory) / "codebook.f32"
        np.save(path, vectors)
        ours = Ours(path)
        for parts, bits in SHAPES:
            if dimensions % parts or count < 2**bits:
                continue
            peer = faiss.ProductQuantizer(dimensions, parts, bits)
            peer.cp.niter, peer.cp.min_points_per_centroid, peer.cp.max_points_per_centroid = ITERATIONS, 1, count
            found = {"train": [], "encode": [], "decode": []}
            for _ in range(rounds):
                own = ours(f"pq train {parts} {bits} {ITERATIONS}")
                start = time.perf_counter()
                peer.train(vectors)
                found["train"].append((time.perf_counter() - start) / own)
                codes = peer.compute_codes(vectors)
                found["encode"].append(fastest(peer.compute_codes, vectors) / ours("pq encode"))
                found["decode"].append(fastest(peer.decode, codes) / ours("pq decode"))
            ours(f"pq save {book}")
            entries = np.fromfile(book, "<f4").reshape(parts, 2**bits, -1)
            ratio = {name: statistics.median(values) for name, values in found.items()}
            recalls = [recall(queries, nearest, rows) for rows in (by_entries(vectors, entries), peer.decode(codes))]
            print(f"| {parts} x {bits} | {ratio['train']:.2f} | {ratio['encode']:.2f} | {ratio['decode']:.2f} | "
                  f"{recalls[0]:.4f} | {recalls[1]:.4f} |", flush=True)
        ours.close()


def by_entries(vectors, entries):
    """What vectors read as: of each part the nearest entry."""
    parts, _, length = entries.shape
    read = np.empty_like(vectors)
    for part in range(parts):
        x = vectors[:, part * length:(part + 1) * length]
        distance = (entries[part] ** 2).sum(axis=1) - 2 * (x @ entries[part].T)
        read[:, part * length:(part + 1) * length] = entries[part][distance.argmin(axis=1)]
    return read


def recall(queries, nearest, rows):
    score = (queries @ rows.T) / np.linalg.norm(rows, axis=1)
    found = np.argsort(-score, axis=1, kind="stable")[:, :K]
    return np.mean([len(set(a) & set(b)) / K for a, b in zip(nearest[:, :K].tolist(), found.tolist())])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each kind [7]")
    faiss.omp_set_num_threads(1)
    instructions = speeds(parser.parse_args().rounds)
    print(f"\nWith {instructions}; faiss {faiss.__version__}, {faiss.get_compile_options().strip()}; {DIMENSIONS} dimensions.")
    recalls()
    quantized(3)


if __name__ == "__main__":
    main()
