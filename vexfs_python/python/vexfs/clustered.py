"""The clustered index over vectors of one's own."""

import os

import numpy as np

from vexfs import _vexfs
from vexfs.arrays import faiss_distances, matrix


class ClusteredIndex:
    """A tree of clusters over vectors in memory or in a mapped file, one bit a dimension, the best ranked again whole.

    `vectors` is a matrix (n x dimension; it is copied) or the path of a `.npy` file of float32, such as a collection's
    `vectors.npy`, which is mapped and not copied. `metric` is l2, ip or cosine. `dimension` is for a file whose rows
    are longer than their vectors, as a collection's are if they would not end at a multiple of 64 bytes.
    """

    def __init__(self, vectors, *, metric="cosine", dimension=None, branching_factor=16, max_leaf_size=512, max_iterations=10):
        build = (branching_factor, max_leaf_size, metric, max_iterations)
        if isinstance(vectors, (str, os.PathLike)):
            self._index = _vexfs.Clustered.of_file(vectors, dimension or width(vectors), *build)
        else:
            self._index = _vexfs.Clustered.of_array(matrix(vectors, np.shape(vectors)[-1], "vectors"), *build)

    @classmethod
    def load(cls, path, vectors, *, dimension=None):
        """An index that was saved, over the `.npy` file of its vectors. `dimension` is as it was when it was built."""
        index = cls.__new__(cls)
        index._index = _vexfs.Clustered.load(path, vectors, dimension or width(vectors))
        return index

    def save(self, path):
        """Writes the index, without the vectors, to a file."""
        self._index.save(path)

    def search(self, x, k, *, probes=16, rerank_factor=10):
        """Distances (float32) and rows (int64) of the `k` nearest of each query, as faiss gives them.

        `probes` leaves are looked at; the best `k` x `rerank_factor` by their bits are compared whole.
        """
        rows, scores = self._index.search(matrix(x, self.dimension), k, probes, rerank_factor)
        return faiss_distances(scores, self.metric), rows

    def insert(self, vector):
        """Adds a vector; gives its row."""
        return self._index.insert(matrix(vector, self.dimension, "vector")[0])

    def remove(self, row):
        """Takes a row out; false if it was not there."""
        return self._index.remove(row)

    def use_mmap_storage(self, path):
        """Lets go of the vectors in memory for those of a `.npy` file. Done twice, it raises `ValueError`."""
        self._index.use_mmap_storage(path)

    def __len__(self):
        return len(self._index)

    @property
    def metric(self):
        """What nearness is: l2, ip or cosine."""
        return self._index.metric()

    @property
    def dimension(self):
        """Dimensions of a vector."""
        return self._index.dimensions()

    @property
    def leaves(self):
        """How many leaves there are to probe."""
        return self._index.leaves()

    @property
    def memory_usage_bytes(self):
        """Bytes of memory that belong to no file."""
        return self._index.memory_usage_bytes()

    @property
    def is_using_mmap(self):
        """Whether the vectors are mapped."""
        return self._index.is_using_mmap()


def width(path):
    """The columns of a `.npy` file."""
    shape = np.load(path, mmap_mode="r").shape
    if len(shape) != 2:
        raise ValueError(f"{path}: holds an array of shape {shape}, no matrix of vectors")
    return shape[1]
