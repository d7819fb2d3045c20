"""Conditions on 1,000,000 rows against DuckDB and numpy, one thread each, in turn in one run: medians of paired ratios.

The columns are files as a collection shows them (FIELD.npy), mapped; DuckDB has them as a table in memory, and counts
the rows that meet the same condition; numpy compares the mapped arrays. All were read before. Above 1 means that VexFS is faster.
"""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import duckdb
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release/examples/bench_filter"
ROWS, TURNS, SEED = 1_000_000, 21, 7
CONDITIONS = {
    "confidence >= 0.9": lambda c: c["confidence"] >= 0.9,
    "page = 17": lambda c: c["page"] == 17,
    "page between 10 and 20": lambda c: (c["page"] >= 10) & (c["page"] <= 20),
    "source = 'source 3'": lambda c: c["source"] == b"source 3",
    "source like '%ce 3'": None,
    "confidence >= 0.5 and page < 50 and source in ('source 1', 'source 2')": None,
}


def collection(directory):
    """Files of a collection as the control directory shows them; gives the columns."""
    generator = np.random.default_rng(SEED)
    columns = {
        "confidence": generator.random(ROWS),
        "page": generator.integers(0, 100, ROWS),
        "source": np.char.add(b"source ", generator.integers(0, 10, ROWS).astype("S2")).astype("S32"),
    }
    columns["confidence"][::50] = np.nan
    headers = np.zeros(ROWS, "<u8, <u8, <u8, <u8, <u8, <u8, <u8, <u8")
    headers["f2"] = np.arange(1, ROWS + 1)
    types = [("confidence", "float", 8), ("page", "int", 8), ("source", "string", 32)]
    schema = {
        "name": "bench", "dimension": 8, "element": "f32", "codec": "none", "metric": "cosine", "model": "", "rows": ROWS, "live": ROWS, "generation": 1,
        "columns": [dict(zip(("name", "type", "width"), column)) for column in types],
    }
    (directory / "schema.json").write_text(json.dumps(schema))
    for name, column in [("headers", headers), *columns.items()]:
        np.save(directory / f"{name}.npy", column)
    return {name: np.load(directory / f"{name}.npy", mmap_mode="r") for name in columns}


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def main():
    with tempfile.TemporaryDirectory(prefix="vexfs-bench-") as name:
        columns = collection(Path(name))
        base = duckdb.connect()
        base.execute("set threads = 1")
        base.execute("create table t (confidence double, page bigint, source varchar)")
        frame = {"confidence": columns["confidence"], "page": columns["page"], "source": columns["source"].astype(str)}
        arrays = {key: np.array(value) for key, value in frame.items()}  # noqa: F841, DuckDB finds it by its name
        base.execute("insert into t select case when isnan(confidence) then null else confidence end, page, source from arrays")
        program = subprocess.Popen([PROGRAM, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ours(condition):
            program.stdin.write(condition + "\n")
            program.stdin.flush()
            seconds, count = program.stdout.readline().split()
            return float(seconds), int(count)

        print(f"{ROWS} rows; milliseconds are of the fastest turn, ratios medians of {TURNS} turns; duckdb {duckdb.__version__}, one thread")
        print(f"{'condition':72}{'rows':>8}{'ms':>8}{'x duckdb':>10}{'x numpy':>9}")
        for condition, with_numpy in CONDITIONS.items():
            turns = []
            for _ in range(TURNS):
                mine, count = ours(condition)
                peer, [(there,)] = timed(lambda: base.execute(f"select count(*) from t where {condition}").fetchall())
                assert count == there, (condition, count, there)
                plain = timed(lambda: np.count_nonzero(with_numpy(columns)))[0] if with_numpy else None
                turns.append((mine, peer / mine, plain / mine if plain else None))
            ratio = lambda place: statistics.median(turn[place] for turn in turns)
            beside = f"{ratio(2):9.2f}" if turns[0][2] else f"{'-':>9}"
            print(f"{condition:72}{count:8}{min(turns)[0] * 1e3:8.2f}{ratio(1):10.2f}{beside}")
        program.stdin.close()
        program.wait()


if __name__ == "__main__":
    main()
