"""`make bench-million`: a million vectors of 768 dimensions on a mount: memory, and latency cold, warm and hot.

The vectors are pairs of the benchmarks' real ones (`scripts/bench-data`): the embeddings of two passages side by side, each
passage in some twenty pairs, which are drawn with a seed. The queries are pairs of the other passages. Everything is done as a
user would: `vexfs import`, `vexfs index`, `vexfs search`, and the Python package for many questions of one process.

- cold: the caches of both the mount and the image are dropped; a process of its own opens the collection and answers
  once, its start counted.
- warm: the same again, with what that read still in the page cache.
- hot: the median of many questions in one process, on one thread.
- anonymous memory: what the process holds that is no file (RssAnon): of a search what it grew by, of a build its peak.

The yardstick is numpy's exact scan of the same mapped matrix (`matrix @ query`, then the best ten) in the same run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

import vexfs
from bench_index import BIN, run

K = 10
FILES_OF = 500  # vectors a file: names of files are not what is measured
RECALLS = (0.9, 0.95, 0.99)


def anonymous(pid="self"):
    """Bytes that a process holds which no file backs."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0


def peak_of(*words):
    """What a command prints, its seconds, and the most anonymous memory it held."""
    began, peak = time.perf_counter(), 0
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = []
        readers = [threading.Thread(target=lambda pipe=pipe: said.append(pipe.read())) for pipe in (process.stdout, process.stderr)]
        for reader in readers:
            reader.start()
        while process.poll() is None:
            try:
                peak = max(peak, anonymous(process.pid))
            except OSError:
                break
            time.sleep(0.02)
        for reader in readers:
            reader.join()
    if process.returncode:
        sys.exit(f"{words}: {said}")
    return "".join(said), time.perf_counter() - began, peak


def pairs(halves, count, generator):
    """`count` vectors of two halves each, of unit length, by blocks."""
    left = np.arange(count) % len(halves)
    right = generator.integers(len(halves), size=count)
    for start in range(0, count, 65536):
        part = slice(start, start + 65536)
        yield np.concatenate([halves[left[part]], halves[right[part]]], axis=1) * np.float32(0.5**0.5)


def write_vectors(path, halves, count):
    shape = (count, 2 * halves.shape[1])
    matrix = np.lib.format.open_memmap(path, "w+", "<f4", shape)
    at = 0
    for block in pairs(halves, count, np.random.default_rng(1)):
        matrix[at : at + len(block)] = block
        at += len(block)
    matrix.flush()


def drop_caches():
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def numpy_scan(matrix, query):
    scores = matrix @ query
    best = np.argpartition(-scores, K)[:K]
    return best[np.argsort(-scores[best])]


class Bench:
    """A mounted collection of so many vectors, and what was measured of it."""

    def __init__(self, directory, count, halves, questions):
        self.directory, self.count = directory, count
        self.image, self.mount = directory / "image", directory / "mount"
        self.mount.mkdir()
        self.queries = np.concatenate(list(pairs(questions, len(questions), np.random.default_rng(2))))
        self.bytes = count * 2 * halves.shape[1] * 4
        write_vectors(directory / "v.npy", halves, count)
        (directory / "list").write_text("".join(f"f{row // FILES_OF}\n" for row in range(count)))
        run(BIN / "mkfs.vexfs", "-q", self.image, f"{(3 * self.bytes >> 20) + 512}M")

    def attach(self):
        run(BIN / "mount.vexfs", self.image, self.mount)

    def detach(self):
        run(BIN / "umount.vexfs", self.mount)

    @property
    def collection(self):
        return self.mount / ".vexfs" / "collections" / "c"

    def fill(self):
        for number in range(0, self.count, FILES_OF):
            (self.mount / f"f{number // FILES_OF}").touch()
        words = ("import", "c", self.directory / "v.npy", "--paths", self.directory / "list", "--base", self.mount)
        _, seconds, peak = peak_of(BIN / "vexfs", *words, "--mount", self.mount)
        os.unlink(self.directory / "v.npy")
        print(f"imported {self.count} x {self.queries.shape[1]} f32, {self.bytes >> 20} MiB, in {seconds:.0f} s; anonymous memory {peak >> 20} MiB", flush=True)

    def exact(self):
        """The right answers, and seconds of numpy's scan of the mapping, from the disk and from memory."""
        query = self.queries[0]
        self.detach()
        drop_caches()
        self.attach()
        began = time.perf_counter()
        numpy_scan(np.load(self.collection / "vectors.npy", mmap_mode="r"), query)
        cold = time.perf_counter() - began
        matrix = np.load(self.collection / "vectors.npy", mmap_mode="r")
        answers, times = [], []
        for query in self.queries:
            began = time.perf_counter()
            answers.append(numpy_scan(matrix, query))
            times.append(time.perf_counter() - began)
        return answers, cold, float(np.median(times))

    def once(self, kind):
        """Milliseconds of a whole `vexfs search`."""
        np.save(self.directory / "q.npy", self.queries[0])
        how = "--exact" if kind == "exact" else f"--index={kind}"
        began = time.perf_counter()
        run(BIN / "vexfs", "search", "c", "--mount", self.mount, "--vector", self.directory / "q.npy", "--json", how)
        return (time.perf_counter() - began) * 1e3

    def cold_and_warm(self, kind):
        self.detach()
        drop_caches()
        self.attach()
        return self.once(kind), min(self.once(kind) for _ in range(5))

    def hot(self, kind, least):
        """Median milliseconds of a question, the recall, and the anonymous bytes that searching took; in a process of its own."""
        np.save(self.directory / "queries.npy", self.queries)
        words = (sys.executable, "-B", __file__, "--hot", kind, "--least", least, "--of", self.directory, "--collection", self.collection)
        return json.loads(run(*words).stdout)


def hot(directory, path, kind, least):
    queries = np.load(directory / "queries.npy")
    how = {"exact": True} if kind == "exact" else {"index": kind, "min_recall": least}
    times, found = [], []
    before = anonymous()
    with vexfs.Collection(path) as collection:
        plan = collection.explain(K, **how)
        for turn in range(2):
            for query in queries:
                began = time.perf_counter()
                rows = collection.search(query[None], K, threads=1, **how)[1][0]
                times.append(time.perf_counter() - began)
                if not turn:
                    found.append(rows.tolist())
        after = anonymous()
    print(json.dumps({"plan": plan.plan, "ms": float(np.median(times[len(queries) :])) * 1e3, "found": found, "anonymous": after - before}))


def measure(bench, kinds):
    bench.attach()
    try:
        bench.fill()
        answers, cold, seconds = bench.exact()
        print(f"numpy's scan of the mapping: {cold:.1f} s cold, {seconds * 1e3:.0f} ms hot\n", flush=True)
        for kind in kinds:
            said, _, peak = peak_of(BIN / "vexfs", "index", "c", "--kind", kind, "--json", "--mount", bench.mount)
            built = json.loads(said.splitlines()[-1])
            print(f"built {kind}: {built['seconds']:.0f} s, {built['bytes'] / bench.count:.0f} bytes a vector, "
                  f"anonymous memory {peak >> 20} MiB, {100 * peak / bench.bytes:.0f} % of the vectors", flush=True)
        titles = ("search", "for recall", "recall@10", "cold ms", "warm ms", "hot ms", "hot, x numpy", "anonymous MiB", "% of the vectors")
        print(f"\n| {' | '.join(titles)} |\n| --- |{' ---: |' * (len(titles) - 1)}")
        for kind in ("exact", *kinds):
            first, again = bench.cold_and_warm(kind)
            for least in RECALLS if kind != "exact" else (1,):
                told = bench.hot(kind, least)
                recall = np.mean([len(set(a.tolist()) & set(b)) / K for a, b in zip(answers, told["found"], strict=True)])
                cells = (kind, least, f"{recall:.4f}", f"{first:.0f}", f"{again:.1f}", f"{told['ms']:.2f}", f"{seconds * 1e3 / told['ms']:.1f}",
                         f"{told['anonymous'] / 2**20:.0f}", f"{100 * told['anonymous'] / bench.bytes:.1f}")
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    finally:
        bench.detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--kinds", default="scan,clustered,graph")
    parser.add_argument("--hot", help=argparse.SUPPRESS)
    parser.add_argument("--least", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--of", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--collection", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hot:
        hot(arguments.of, arguments.collection, arguments.hot, arguments.least)
        return
    halves = np.load(arguments.data / "vectors.npy", mmap_mode="r")
    questions = np.load(arguments.data / "queries.npy")[: arguments.queries]
    with tempfile.TemporaryDirectory() as directory:
        measure(Bench(Path(directory), arguments.count, halves, questions), arguments.kinds.split(","))


if __name__ == "__main__":
    main()
