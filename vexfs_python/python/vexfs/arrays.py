"""Queries as the searches take them, and scores as faiss and sklearn give them."""

import numpy as np


def matrix(values, dimension, what="queries"):
    """`values` as float32, n x dimension, contiguous; not copied if it is that already. One vector becomes a row.

    Raises `ValueError` for another shape, or for values that are not numbers or not finite.
    """
    found = np.asarray(values)
    if found.ndim == 1:
        found = found[None]
    if found.ndim != 2 or found.shape[1] != dimension:
        raise ValueError(f"{what} are of shape {np.shape(values)}: (n, {dimension}) is wanted, or ({dimension},) for one")
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{what} are {found.dtype}, not numbers")
    found = np.ascontiguousarray(found, np.float32)
    if not np.isfinite(found).all():
        raise ValueError(f"{what} hold NaN or infinite values: nothing is near to those")
    return found


def faiss_distances(scores, metric):
    """Scores (higher is nearer) as faiss's distances: squared for L2, bits that differ for Hamming, else the score.

    What is behind the last answer (NaN) is the worst there is: infinite, or -infinite where more is nearer.
    """
    if metric in ("l2", "hamming"):
        return np.where(np.isnan(scores), np.float32(np.inf), -scores)
    return np.where(np.isnan(scores), np.float32(-np.inf), scores)


def sklearn_distances(scores, metric):
    """Scores as sklearn's distances, lower is nearer: Euclidean for L2, 1 - cosine, and what sklearn does not have: bits
    that differ for Hamming (a number, not a share), the negative inner product.
    """
    if metric == "l2":
        return np.sqrt(np.maximum(-scores, 0))
    if metric == "cosine":
        return np.maximum(1 - scores, 0)
    return -scores
