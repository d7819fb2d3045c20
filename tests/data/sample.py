"""Vectors to test with: the real embeddings beside the repository, or a small sample made here from a seed.

`load()` gives (vectors, queries, nearest, where from): f32 unit vectors one a row, queries likewise, and of each query
the exact nearest rows by cosine, best first.
"""

from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COUNT, DIMENSIONS, QUERIES, NEAREST, SEED = 256, 32, 20, 100, 7


def load():
    if (SHARED / "vectors.npy").exists():
        names = ("vectors.npy", "queries.npy", "groundtruth.npy")
        return (*(np.load(SHARED / name) for name in names), "../shared/data")
    generator = np.random.default_rng(SEED)
    vectors, queries = unit(generator, COUNT), unit(generator, QUERIES)
    return vectors, queries, exact(vectors, queries, NEAREST), f"a sample of {COUNT} x {DIMENSIONS} from seed {SEED}"


def unit(generator, count):
    """Random unit vectors."""
    vectors = generator.standard_normal((count, DIMENSIONS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("<f4")


def exact(vectors, queries, count):
    """The rows with the largest inner products, best first; the lower row where two are equal."""
    return np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :count].astype(np.int32)


def hamming(rows, queries, count):
    """The rows of packed bits with the fewest differing bits, best first; the lower row where two are equal."""
    distances = np.bitwise_count(queries[:, None, :] ^ rows[None, :, :]).sum(axis=2, dtype=np.int64)
    return np.argsort(distances, axis=1, kind="stable")[:, :count].astype(np.int32)
