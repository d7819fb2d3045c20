"""A collection of a mounted VexFS volume."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vexfs import _vexfs
from vexfs.arrays import faiss_distances, matrix, sklearn_distances

# Rows asked for beside those that are wanted, since some may belong to files out of reach; and how much more then.
SPARE, MORE = 10, 4
ATTEMPTS = 8


class Match(NamedTuple):
    """A file that was found."""

    path: str
    """From the root of the volume."""
    score: float
    """Higher is nearer."""
    row: int
    n: int
    """Which of the file's vectors it is."""


class Explanation(NamedTuple):
    """How searches are done."""

    plan: str
    """exact, scan, clustered or graph."""
    why: str
    recall: float
    """The share of the exact answers that was measured when the index was built; 1 for exact."""


class Collection:
    """A collection, by its directory (`/mnt/.vexfs/collections/NAME`); or a copy of its files, anywhere.

    `metric` (l2, ip, cosine, hamming) stands in for the collection's own in all searches. Searches use an index where
    there is one and it is faster; `min_recall` is what it must have found when it was measured, `exact=True` does
    without, `index` (any, scan, clustered, graph) insists on one. Any number of threads may search.

    Its files stay open and mapped, and the volume in use, until `close`: it is a context manager, too.
    """

    def __init__(self, path, *, metric=None):
        self.path = Path(path)
        self._searcher = _vexfs.Searcher(self.path)
        self._metric = metric

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Lets go of the collection's files. Arrays that were taken of it keep theirs."""
        self._searcher.close()

    def __repr__(self):
        schema = self.schema
        return f"<vexfs.Collection {str(self.path)!r}: {schema['live']} x {schema['dimension']} {schema['element']}>"

    def __len__(self):
        """How many vectors there are."""
        return self.schema["live"]

    @property
    def schema(self):
        """What `schema.json` says now: dimension, element, metric, model, rows, live, generation ..."""
        return json.loads((self.path / "schema.json").read_text())

    @property
    def metric(self):
        """What nearness is."""
        return self._metric or self.schema["metric"]

    @property
    def vectors(self):
        """The matrix as it is stored, mapped: rows x dimension, of bits and codecs their bytes. Rows without a vector are
        NaN or zero: see `valid`. A mapping does not grow: take this again after vectors were added."""
        schema = self.schema
        matrix = np.load(self.path / "vectors.npy", mmap_mode="r")
        # What fills a row up to a multiple of 64 bytes is left out.
        if schema["codec"] == "pq":
            entries, packed = schema["codebook"]["subvectors"], 8 // schema["codebook"]["bits"]
        else:
            entries = schema["dimension"]
            packed = 8 if schema["element"] == "bit" or schema["codec"] == "binary" else 2 if schema["codec"] == "sq4" else 1
        return matrix[:, : -(-entries // packed)]

    @property
    def valid(self):
        """Which rows hold a vector, as it is now."""
        return np.load(self.path / "valid.npy")

    def search(self, x, k, *, min_recall=0.95, exact=False, index=None, rows=None, threads=0):
        """Distances (float32) and rows (int64) of the `k` nearest vectors of each query, each queries x k.

        As `faiss.Index.search`: squared distances for L2, bits that differ for Hamming, else the inner product or cosine;
        row -1 and an infinite distance where there are fewer than `k`. `rows` (numbers, or a mask) restricts the search.
        """
        found, scores, metric = self._search(x, k, min_recall, exact, index, rows, threads)
        return faiss_distances(scores, metric), found

    def range_search(self, x, radius, *, rows=None, threads=0):
        """All vectors within a radius: (limits, distances, rows), those of query i at limits[i]:limits[i + 1].

        As `faiss.Index.range_search`: the radius is a distance as `search` gives it, but nearest first.
        """
        least = lambda metric: -radius if metric in ("l2", "hamming") else radius
        limits, found, scores, metric = self._range(x, least, rows, threads)
        return limits, faiss_distances(scores, metric), found

    def kneighbors(self, X, n_neighbors=5, return_distance=True, **how):
        """Distances and rows of the nearest, as `sklearn.neighbors.NearestNeighbors.kneighbors`: Euclidean for L2, 1 -
        cosine for cosine. There must be `n_neighbors` vectors. `how` is as for `search`.
        """
        keywords = {"min_recall": 0.95, "exact": False, "index": None, "rows": None, "threads": 0} | how
        found, scores, metric = self._search(X, n_neighbors, **keywords)
        if (found < 0).any():
            raise ValueError(f"n_neighbors = {n_neighbors}, but the collection has only {(found >= 0).sum(1).min()} vectors to choose from")
        return (sklearn_distances(scores, metric), found) if return_distance else found

    def radius_neighbors(self, X, radius, return_distance=True, *, rows=None, threads=0):
        """As `sklearn.neighbors.NearestNeighbors.radius_neighbors`: for each query an array of distances and one of
        rows, nearest first, in arrays of objects.
        """
        least = lambda metric: {"l2": -radius * abs(radius), "cosine": 1 - radius}.get(metric, -radius)
        limits, found, scores, metric = self._range(X, least, rows, threads)
        parts = lambda values: np.array([*np.split(values, limits[1:-1]), None], object)[:-1]
        return (parts(sklearn_distances(scores, metric)), parts(found)) if return_distance else parts(found)

    def nearest(self, x, k=10, *, min_recall=0.95, exact=False, index=None, rows=None, threads=0):
        """The files of the `k` nearest vectors of one query that you can reach, nearest first: a list of `Match`."""
        if np.ndim(x) > 1 and len(x) != 1:
            raise ValueError(f"{len(x)} queries: nearest takes one")
        wanted, changes = k + SPARE, 0
        while changes < ATTEMPTS:
            before = self._searcher.generation()
            found, scores = (part[0] for part in self._search(x, wanted, min_recall, exact, index, rows, threads)[:2])
            there = found >= 0
            owners = self.owners(found[there])
            # A row may have passed to another file meanwhile.
            if self._searcher.generation() != before:
                changes += 1
                continue
            matches = [Match(owner["path"], float(score), owner["row"], owner["n"]) for owner, score in zip(owners, scores, strict=False) if owner]
            if len(matches) >= k or not there.all():
                return matches[:k]
            # Too many are out of reach: more, at last all of them.
            wanted *= MORE
        raise BlockingIOError(f"{self.path}: the collection changes faster than it is searched; try again")

    def owners(self, rows):
        """The files of rows: for each a dict with `path` (from the root of the volume), `row`, `n` and `inode`, or None
        where there is no vector, or a file that you cannot reach. Asked of the collection's `query` file.
        """
        rows = [int(row) for row in rows]
        descriptor = os.open(self.path / "query", os.O_RDWR)
        try:
            os.write(descriptor, json.dumps({"rows": rows}).encode())
            answer = b"".join(iter(lambda: os.read(descriptor, 1 << 16), b""))
        finally:
            os.close(descriptor)
        told = {}
        for line in answer.splitlines():
            owner = json.loads(line)
            if "error" in owner:
                raise ValueError(f"{self.path / 'query'}: {owner['error']}")
            told[owner["row"]] = owner
        return [told.get(row) for row in rows]

    def explain(self, k=10, *, min_recall=0.95, exact=False, index=None):
        """How such searches are done now, and why."""
        return Explanation(*self._searcher.explain(k, self.metric, min_recall, way(exact, index)))

    def _search(self, x, k, min_recall, exact, index, rows, threads):
        dimension, element, metric = self._searcher.form()
        metric = self._metric or metric
        found, scores = self._searcher.search(queries(x, dimension, element), k, metric, min_recall, way(exact, index), chosen(rows), threads)
        return found, scores, metric

    def _range(self, x, least, rows, threads):
        dimension, element, metric = self._searcher.form()
        metric = self._metric or metric
        return *self._searcher.range(queries(x, dimension, element), least(metric), metric, chosen(rows), threads), metric


def queries(x, dimension, element):
    """Queries as the searches take them: f32; of bits packed in bytes (uint8, the lowest bit first) each bit is one."""
    if element == "bit" and np.asarray(x).dtype == np.uint8 and np.shape(x)[-1] * 8 == dimension:
        x = np.unpackbits(np.asarray(x), axis=-1, bitorder="little")
    return matrix(x, dimension)


def way(exact, index):
    """The name of a way to search."""
    if exact and index:
        raise ValueError("exact=True reads every row: it uses no index")
    return "exact" if exact else index or "fastest"


def chosen(rows):
    """Numbers of rows, from numbers or a mask."""
    if rows is None:
        return None
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "biu" and rows.size:
        raise ValueError("rows are a list of numbers, or a mask with an entry a row")
    return np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
