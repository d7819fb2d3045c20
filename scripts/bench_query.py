"""`make bench-query`: what a question to a collection's `query` file takes with each kind of index and without one, on a mount.

Vectors of clusters around random centres, chunks of few files. Each question is asked in every way, one way after the other on
one open descriptor, in turns; times are from the write to the end of the answer. Prints the median, its ratio to the exact answer's
in the same run, recall@10 of all answers, what the index takes in the daemon's memory, and the first question, which reads it
off the image. `changed`: the same after one vector in a thousand was set anew.
"""

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from bench_index import BIN, KINDS, clusters, mounted, run

QUERIES = 100


class Asker:
    """An open `query` file."""

    def __init__(self, path):
        self.file = open(path, "r+b", buffering=0)  # noqa: SIM115, closed by __exit__

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def ask(self, **members):
        """The rows of the answer, how it was found, and how long that took in seconds."""
        question = json.dumps({**members, "explain": True}).encode()
        start = time.perf_counter()
        self.file.write(question)
        answer = b""
        while piece := self.file.read(1 << 16):
            answer += piece
        took = time.perf_counter() - start
        *rows, last = (json.loads(line) for line in answer.splitlines())
        if "explain" not in last:
            raise SystemExit(f"the question was refused: {last}")
        return {row["row"] for row in rows}, last["explain"], took


def memory(mount):
    text = (mount / ".vexfs/metrics").read_text()
    return int(re.search(r"^vexfs_index_cache_bytes (\d+)$", text, re.M)[1])


def rounds(asker, queries, ways):
    """Asks each question in every way; gives times and recall of each."""
    times, found = {way: [] for way in ways}, dict.fromkeys(ways, 0)
    for number, query in enumerate(queries):
        answers = {}
        for way in ways if number % 2 else reversed(ways):
            how = {"exact": True} if way == "exact" else {"index": way}
            answers[way], plan, took = asker.ask(vector=query, **how)
            if plan["plan"] != way:
                raise SystemExit(f"{way} was asked for: {plan}")
            times[way].append(took)
        for way in ways:
            found[way] += len(answers[way] & answers["exact"])
    return times, {way: count / (10 * len(queries)) for way, count in found.items()}


def show(title, times, recall, first, taken):
    for way, all_times in times.items():
        median = statistics.median(all_times)
        ratio = statistics.median(exact / own for exact, own in zip(times["exact"], all_times, strict=True))
        cells = [title, way, f"{median * 1e3:.2f}", f"{ratio:.1f}", f"{recall[way]:.3f}", first.get(way, ""), taken.get(way, "")]
        print(f"| {' | '.join(cells)} |", flush=True)


def measure(directory, count, dimensions):
    vectors = clusters(count + QUERIES, dimensions, np.random.default_rng(count))
    with mounted(directory, vectors[:count]) as mount:
        for kind in KINDS:
            run(BIN / "vexfs", "index", "c", "--kind", kind, "--mount", mount)
        with Asker(mount / ".vexfs/collections/c/query") as asker:
            ask(mount, asker, vectors, count)


def ask(mount, asker, vectors, count):
    queries = [vector.tolist() for vector in vectors[count:]]
    first, taken = {}, {}
    for kind in KINDS:
        before = memory(mount)
        _, _, took = asker.ask(vector=queries[0], index=kind)
        first[kind], taken[kind] = f"{took * 1e3:.1f}", f"{(memory(mount) - before) / 2**20:.1f}"
    ways = ("exact", *KINDS)
    show(f"{count}", *rounds(asker, queries, ways), first, taken)
    for row in range(0, count, 1000):
        os.setxattr(mount / f"f{row // 500}", f"user.vector.c.{row % 500}", vectors[row].tobytes())
    show(f"{count}, changed", *rounds(asker, queries, ways), {}, {})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--sizes", default="10000,100000")
    arguments = parser.parse_args()
    print(f"{arguments.dimensions} x f32, k = 10, {QUERIES} questions, min_recall 0.95")
    titles = ("vectors", "way", "median ms", "exact / this", "recall@10", "first ms", "memory MiB")
    print(f"| {' | '.join(titles)} |\n| --- | --- |{' ---: |' * 5}")
    with tempfile.TemporaryDirectory() as directory:
        for count in arguments.sizes.split(","):
            measure(Path(directory), int(count), arguments.dimensions)


if __name__ == "__main__":
    main()
