"""Nearest neighbours over the mapped files of a VexFS collection.

    >>> import vexfs
    >>> notes = vexfs.Collection("/mnt/.vexfs/collections/minilm")
    >>> notes.vectors.shape                    # the matrix itself, mapped: nothing is read until it is used
    (100000, 384)
    >>> distances, rows = notes.search(queries, k=10)          # as faiss's Index.search
    >>> distances, rows = notes.kneighbors(queries, 10)        # as sklearn's NearestNeighbors
    >>> notes.nearest(queries[0], k=3)                         # files instead of rows
    [Match(path='notes/trip.md', score=0.83, row=17, n=0), ...]

Nothing is exported or loaded: rows are compared where the filesystem keeps them, by AVX-512 or AVX2 where the CPU has
them. A search is of the collection as it is then; rows set a moment ago are found.
"""

from vexfs._vexfs import instructions
from vexfs.clustered import ClusteredIndex
from vexfs.collection import Collection, Explanation, Match

__all__ = ["ClusteredIndex", "Collection", "Explanation", "Match", "instructions"]
