"""`make bench-index`: from which size on a search with the index is faster than one of all rows, on a mount.

Collections of growing size, of the real vectors beside the repository or of clusters around random centres, are searched by
`vexfs search --exact` and `--index=KIND`, each query in a process of its own, as on a command line. Prints the ratio of their times
for the rows, the opening of the index counted and the naming of files left out, of each the fastest query, so that other
work on the machine is not counted; and the recall of the index.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / "target" / "bin"
QUERIES = 20


def clusters(count, dimensions, generator):
    """Unit vectors around one centre for each hundred of them."""
    centres = generator.standard_normal((max(count // 100, 1), dimensions))
    vectors = centres[generator.integers(len(centres), size=count)] + 0.7 * generator.standard_normal((count, dimensions))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{words}: {done.stderr}")
    return done


KINDS = ("scan", "clustered", "graph")


@contextlib.contextmanager
def mounted(directory, vectors):
    """The mount of a new volume with a collection `c` of these vectors; they are chunks of few files: names of files are not
    what is measured."""
    image, mount = directory / "image", directory / "mount"
    mount.mkdir(exist_ok=True)
    count, dimensions = vectors.shape
    run(BIN / "mkfs.vexfs", "-f", "-q", image, f"{max(256, count * dimensions * 8 >> 20)}M")
    run(BIN / "mount.vexfs", image, mount)
    try:
        np.save(directory / "v.npy", vectors)
        (directory / "list").write_text("".join(f"f{row // 500}\n" for row in range(count)))
        for number in range(0, count, 500):
            (mount / f"f{number // 500}").touch()
        run(BIN / "vexfs", "import", "c", directory / "v.npy", "--paths", directory / "list", "--base", mount, "--mount", mount)
        yield mount
    finally:
        run(BIN / "umount.vexfs", mount)
        os.unlink(image)


def search(mount, query, how):
    words = ("search", "c", "--mount", mount, "--vector", query, "--json", "--explain", how)
    done = run(BIN / "vexfs", *words)
    return {json.loads(line)["row"] for line in done.stdout.splitlines()}, json.loads(done.stderr.splitlines()[-1])


def measure(directory, count, dimensions):
    vectors = clusters(count + QUERIES, dimensions, np.random.default_rng(count))
    with mounted(directory, vectors[:count]) as mount:
        built = {kind: json.loads(run(BIN / "vexfs", "index", "c", "--kind", kind, "--json", "--mount", mount).stdout) for kind in KINDS}
        times, found = {how: [] for how in ("--exact", *(f"--index={kind}" for kind in KINDS))}, dict.fromkeys(KINDS, 0)
        for number, vector in enumerate(vectors[count:]):
            query = directory / "q.npy"
            np.save(query, vector)
            answers = {}
            for how in times if number % 2 else reversed(list(times)):
                answers[how], plan = search(mount, query, how)
                times[how].append(plan["search_ms"])
            for kind in KINDS:
                found[kind] += len(answers["--exact"] & answers[f"--index={kind}"])
    best = {how: min(values) for how, values in times.items()}
    cells = [f"{count}", f"{count * dimensions * 4 / 2**20:.1f}"]
    cells += [f"{best['--exact'] / best[f'--index={kind}']:.2f}" for kind in KINDS]
    cells += [f"{found[kind] / (10 * QUERIES):.3f}" for kind in KINDS]
    cells += [f"{built[kind]['seconds']:.1f}" for kind in KINDS]
    print(f"| {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--sizes", default="500,1000,2000,4000,8000,16000,32000,64000")
    arguments = parser.parse_args()
    print(f"{arguments.dimensions} x f32, k = 10, {QUERIES} queries, a process each")
    titles = ["vectors", "MiB", *(f"{what} {kind}" for what in ("exact /", "recall@10,", "build s,") for kind in KINDS)]
    print(f"| {' | '.join(titles)} |\n|{' ---: |' * len(titles)}")
    with tempfile.TemporaryDirectory() as directory:
        for count in arguments.sizes.split(","):
            measure(Path(directory), int(count), arguments.dimensions)


if __name__ == "__main__":
    main()
