#!/usr/bin/env python3
"""Search measured against its peers in one run: recall, speed, memory, build and open time.

Vectors and queries are those of scripts/bench-data. Every engine answers the same queries one at a time on one thread
(k = 10, inner product of unit vectors) and is swept over its effort; recall is counted against numpy's exact answer,
and speed is a multiple of numpy's exact scan (one matrix-vector product and a partial sort a query) in the same run.
What is counted is the time that an engine's process has a core, so that others on the machine take none of it; engines
take turns in several rounds, and the best round of each counts. Build times are CPU time, too. Each engine builds and answers in a process of its own, whose anonymous memory is what is told.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from bench_chart import chart
from bench_peers import K, PEERS

QUERIES = 300
ROUNDS = 3
SECONDS = 1.0


def anonymous_bytes():
    """Memory of this process that belongs to no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no RssAnon in /proc/self/status")


def serve(engine, directory, work, pipe):
    """One peer: builds, then measures a setting whenever it is asked to."""
    vectors, queries = np.load(directory / "vectors.npy"), np.load(directory / "queries.npy")[:QUERIES]
    work.mkdir()
    before = anonymous_bytes()
    start = time.process_time()
    built = engine(vectors, work)
    seconds = time.process_time() - start
    pipe.send({"build_s": seconds, "memory": max(anonymous_bytes() - before, 0), "bytes": built.bytes()})
    while (setting := pipe.recv()) != "end":
        answers = [built.search(query, setting) for query in queries]
        count, start = 0, time.process_time()
        while (elapsed := time.process_time() - start) < SECONDS or count < 20:
            built.search(queries[count % len(queries)], setting)
            count += 1
        pipe.send({"qps": count / elapsed, "answers": np.array(answers)})


class Peer:
    """A peer in a process of its own."""

    def __init__(self, engine, directory, work):
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=serve, args=(engine, directory, work, other), daemon=True)
        self.process.start()
        self.facts = self.pipe.recv()

    def points(self):
        """(label, measurement) of every setting, once."""
        for setting in self.engine.settings:
            self.pipe.send(setting)
            yield self.engine.label.format(setting), self.pipe.recv()

    def end(self):
        self.pipe.send("end")
        self.process.join()


class Ours:
    """`bench_search` of vexfs_search: prints its facts, then a point a line for every round that it is asked for."""

    def __init__(self, program, directory, method):
        self.program = subprocess.Popen([str(program), str(directory), method, str(K), str(SECONDS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = json.loads(self.program.stdout.readline())

    def points(self):
        self.program.stdin.write("round\n")
        self.program.stdin.flush()
        while (line := json.loads(self.program.stdout.readline())) != "end":
            line["answers"] = np.array(line["answers"])
            yield line["setting"], line

    def end(self):
        self.program.stdin.close()
        self.program.wait()


def recall(answers, truth):
    found = [len(set(map(int, answer)) & set(map(int, wanted))) for answer, wanted in zip(answers, truth, strict=True)]
    return sum(found) / truth.size


def collection(directory, vectors):
    """The files of a collection, as a mount shows them, for our programs to map."""
    np.save(directory / "vectors.npy", vectors)
    np.save(directory / "valid.npy", np.ones(len(vectors), bool))
    rows = len(vectors)
    headers = np.zeros((rows, 8), "<u8")
    headers[:, 1] = np.arange(1, rows + 1)
    np.save(directory / "headers.npy", headers.view("V64")[:, 0])
    schema = {"dimension": vectors.shape[1], "element": "f32", "metric": "ip", "model": "all-MiniLM-L6-v2", "rows": rows, "live": rows}
    (directory / "schema.json").write_text(json.dumps(schema))


def measure(directory, program, methods, rounds, chosen):
    """All points: {(engine, setting): {...}}, numpy's speed, and each engine's facts."""
    vectors, queries = np.load(directory / "vectors.npy"), np.load(directory / "queries.npy")[:QUERIES]
    truth = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :K]
    work = Path(tempfile.mkdtemp(prefix="vexfs-bench-"))
    points, facts, engines = {}, {}, []
    try:
        collection(work, vectors)
        np.save(work / "queries.npy", queries)
        del vectors
        for method in methods:
            engine = Ours(program, work, method)
            engines.append((engine.facts["name"], engine))
        for peer in (peer for peer in PEERS if chosen is None or any(peer.name.startswith(name) for name in ["numpy", *chosen])):
            print(f"bench_search: building {peer.name}", file=sys.stderr, flush=True)
            engines.append((peer.name, Peer(peer, directory, work / peer.__name__)))
        for name, engine in engines:
            facts[name] = engine.facts
        for number in range(rounds):
            print(f"bench_search: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            for name, engine in engines:
                for setting, point in engine.points():
                    known = points.setdefault((name, setting), {"qps": 0.0, "recall": recall(point["answers"], truth)})
                    known["qps"] = max(known["qps"], point["qps"])
        for _, engine in engines:
            engine.end()
    finally:
        shutil.rmtree(work)
    return points, facts


def table(points, facts, rows, dimensions):
    """The table in Markdown."""
    base = points[("numpy, exact", "")]["qps"]
    lines = [
        "| engine | effort | recall@10 | queries/s | x numpy | bytes a vector | anonymous memory, % of the vectors | build s | open ms |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, setting), point in points.items():
        fact = facts[name]
        opened = f"{fact['open_ms']:.1f}" if "open_ms" in fact else ""
        memory = 100 * fact["memory"] / (rows * dimensions * 4)
        lines.append(
            f"| {name} | {setting} | {point['recall']:.4f} | {point['qps']:.0f} | {point['qps'] / base:.1f} "
            f"| {fact['bytes'] / rows:.0f} | {memory:.1f} | {fact['build_s']:.1f} | {opened} |"
        )
    return "\n".join(lines)


def best(points, floors=(0.90, 0.95, 0.99, 1.00)):
    """The fastest setting of each engine that reaches a recall."""
    base = points[("numpy, exact", "")]["qps"]
    lines = ["| engine | " + " | ".join(f"x numpy at recall >= {floor:.2f}" for floor in floors) + " |", "| --- |" + " ---: |" * len(floors)]
    for name in dict.fromkeys(name for name, _ in points):
        cells = []
        for floor in floors:
            reached = [point["qps"] / base for (engine, _), point in points.items() if engine == name and point["recall"] >= floor]
            cells.append(f"{max(reached):.1f}" if reached else "not reached")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory with vectors.npy and queries.npy")
    parser.add_argument("--program", type=Path, required=True, help="vexfs_search's bench_search")
    parser.add_argument("--methods", nargs="*", default=["exact"])
    parser.add_argument("--peers", nargs="*", help="beside numpy, those whose names begin so [default: all]")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--chart", type=Path, help="write the curves of recall and speed to this file, as SVG")
    arguments = parser.parse_args()
    shape = np.load(arguments.data / "vectors.npy", mmap_mode="r").shape
    points, facts = measure(arguments.data, arguments.program, arguments.methods, arguments.rounds, arguments.peers)
    title = f"{shape[0]} x {shape[1]} f32, k = {K}, single queries on one thread, best of {arguments.rounds} rounds"
    print(title, "", best(points), "\n", table(points, facts, *shape), sep="\n")
    if arguments.chart:
        base = points[("numpy, exact", "")]["qps"]
        engines = {name: [] for name in facts}
        for (name, _), point in points.items():
            engines[name].append((point["recall"], point["qps"] / base))
        arguments.chart.write_text(chart(title, engines))


if __name__ == "__main__":
    main()
